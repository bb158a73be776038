// The memory of docs/contracts/memory.md behind a Verilated core's AXI4 port.
//
// `drive` is called once a cycle, before the rising edge: from the registered outputs of the core and its own state
// it sets all inputs of the port for this cycle, and performs the handshakes that they make. The core's outputs do
// not depend on these inputs within the cycle (AXI4, A3.2.1), so one evaluation a cycle is enough.
//
// With waits of 0 it is the deterministic memory, rules M4 to M7; with others the random one, rule M8.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace systolith {

constexpr uint64_t NEVER = ~uint64_t{0};
constexpr uint8_t OKAY = 0, DECERR = 3;
constexpr uint8_t INCR = 1;
constexpr uint32_t PAGE_BYTES = 4096;

struct MemoryConfig {
    uint8_t* data;
    uint64_t bytes;
    uint64_t latency, burst_overhead, write_latency;
    uint64_t seed;
    uint32_t probability;  // of a wait, in units of 2**-32
    uint32_t longest;      // wait
};

// Waits of one channel: number n is a function of seed, channel and n alone (splitmix64).
class Waits {
public:
    Waits(const MemoryConfig& config, uint64_t channel)
        : probability_{config.probability}, longest_{config.longest}, state_{mix(config.seed * 5 + channel)} {}

    uint64_t next() {
        if (!probability_) return 0;
        state_ += 0x9e3779b97f4a7c15u;
        const uint64_t random = mix(state_);
        if (static_cast<uint32_t>(random) >= probability_) return 0;
        return 1 + ((random >> 32) * longest_ >> 32);
    }

private:
    static uint64_t mix(uint64_t z) {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }

    uint64_t probability_, longest_, state_;
};

// First in, first out; grows when full.
template <class Item> class Ring {
public:
    bool empty() const { return head_ == tail_; }
    Item& front() { return items_[head_ & (items_.size() - 1)]; }
    void pop() { ++head_; }
    void push(const Item& item) {
        if (tail_ - head_ == items_.size()) grow();
        items_[tail_++ & (items_.size() - 1)] = item;
    }

private:
    void grow() {
        std::vector<Item> larger(items_.size() * 2);
        const uint64_t count = tail_ - head_;
        for (uint64_t n = 0; n < count; ++n) larger[n] = items_[(head_ + n) & (items_.size() - 1)];
        items_.swap(larger);
        head_ = 0;
        tail_ = count;
    }

    std::vector<Item> items_ = std::vector<Item>(64);
    uint64_t head_ = 0, tail_ = 0;
};

template <uint32_t BYTES> struct Beat {
    uint8_t data[BYTES];
    uint8_t response, id, last;
    uint64_t earliest;
};

template <class Port, uint32_t BYTES> class Memory {
public:
    explicit Memory(const MemoryConfig& config) : config_{config} {}

    // What the core did against docs/contracts/memory.md, or nullptr.
    const char* violation() const { return violation_; }

    void drive(Port& port, uint64_t now) {
        drive_addresses(port, now);
        drive_read(port, now);
        drive_write(port, now);
        drive_response(port, now);
    }

private:
    struct Burst {
        uint64_t address, earliest;
        uint32_t left;
        uint8_t id;
    };
    struct Response {
        uint64_t earliest;
        uint8_t id, code;
    };

    void drive_addresses(Port& port, uint64_t now) {
        const bool read = port.arvalid(), write = port.awvalid();
        bool ready = false;
        if (read | write) {
            if (offered_at_ == NEVER) {
                offered_at_ = now;
                wait_ = (read ? read_address_waits_ : write_address_waits_).next();
                if (read & write) violate("a read and a write address in the same cycle");
            }
            ready = now >= std::max(offered_at_, busy_until_) + wait_;
            if (ready) accept(port, now, read);
        }
        port.set_arready(ready & read);
        port.set_awready(ready & write);
    }

    void accept(Port& port, uint64_t now, bool read) {
        const uint64_t address = read ? port.araddr() : port.awaddr();
        const uint32_t beats = (read ? port.arlen() : port.awlen()) + 1u;
        if ((read ? port.arburst() : port.awburst()) != INCR) violate("a burst that is not INCR");
        if (1u << (read ? port.arsize() : port.awsize()) != BYTES) violate("a burst of beats narrower than the port");
        if (address % BYTES) violate("an address that is not aligned to the port");
        if (address % PAGE_BYTES + beats * BYTES > PAGE_BYTES) violate("a burst across a 4 KiB boundary");
        offered_at_ = NEVER;
        busy_until_ = now + beats + config_.burst_overhead;
        if (read) {
            accept_read(address, beats, port.arid(), now + config_.latency);
        } else {
            const bool idle = writes_.empty();
            writes_.push({address, now + 1, beats, port.awid()});
            if (idle) next_write();
        }
    }

    bool inside(uint64_t address) const { return address + BYTES <= config_.bytes; }

    // Contents are those of the moment of acceptance.
    void accept_read(uint64_t address, uint32_t beats, uint8_t id, uint64_t earliest) {
        const bool idle = reads_.empty();
        for (uint32_t n = 0; n < beats; ++n, address += BYTES) {
            Beat<BYTES> beat{{}, OKAY, id, n + 1 == beats, earliest};
            if (inside(address)) {
                std::memcpy(beat.data, config_.data + address, BYTES);
            } else {
                beat.response = DECERR;
            }
            reads_.push(beat);
        }
        if (idle) next_read();
    }

    void next_read() {
        read_at_ = reads_.empty() ? NEVER : std::max(after_read_, reads_.front().earliest) + read_waits_.next();
    }

    void drive_read(Port& port, uint64_t now) {
        const bool valid = now >= read_at_;
        port.set_rvalid(valid);
        if (!valid) return;
        const Beat<BYTES>& beat = reads_.front();
        port.set_read(beat.data, beat.response, beat.id, beat.last);
        if (!port.rready()) violate("a read beat not taken in the cycle in which it was offered");
        reads_.pop();
        after_read_ = now + 1;
        next_read();
    }

    void next_write() {
        write_at_ = writes_.empty() ? NEVER : std::max(after_write_, writes_.front().earliest) + write_waits_.next();
    }

    void drive_write(Port& port, uint64_t now) {
        const bool ready = now >= write_at_;
        port.set_wready(ready);
        if (ready && port.wvalid()) take_write(port, now);
    }

    void take_write(Port& port, uint64_t now) {
        Burst& burst = writes_.front();
        if (!port.wfull()) violate("a write beat of less than the port's width");
        if (inside(burst.address)) {
            port.copy_write(config_.data + burst.address);
        } else {
            write_code_ = DECERR;
        }
        burst.address += BYTES;
        --burst.left;
        if (port.wlast() != (burst.left == 0)) violate("wlast not at the last beat of a burst");
        after_write_ = now + 1;
        if (!burst.left) {
            const bool idle = responses_.empty();
            responses_.push({now + config_.write_latency, burst.id, write_code_});
            writes_.pop();
            write_code_ = OKAY;
            if (idle) next_response();
        }
        next_write();
    }

    void next_response() {
        response_at_ = responses_.empty()
            ? NEVER : std::max(after_response_, responses_.front().earliest) + response_waits_.next();
    }

    void drive_response(Port& port, uint64_t now) {
        const bool valid = now >= response_at_;
        port.set_bvalid(valid);
        if (!valid) return;
        port.set_response(responses_.front().code, responses_.front().id);
        if (!port.bready()) violate("a write response not taken in the cycle in which it was offered");
        responses_.pop();
        after_response_ = now + 1;
        next_response();
    }

    void violate(const char* what) {
        if (!violation_) violation_ = what;
    }

    MemoryConfig config_;
    const char* violation_ = nullptr;
    uint64_t busy_until_ = 0, offered_at_ = NEVER, wait_ = 0;
    uint64_t read_at_ = NEVER, write_at_ = NEVER, response_at_ = NEVER;
    uint64_t after_read_ = 0, after_write_ = 0, after_response_ = 0;
    uint8_t write_code_ = OKAY;
    Ring<Beat<BYTES>> reads_;
    Ring<Burst> writes_;
    Ring<Response> responses_;
    Waits read_address_waits_{config_, 0}, read_waits_{config_, 1}, write_address_waits_{config_, 2},
        write_waits_{config_, 3}, response_waits_{config_, 4};
};

}  // namespace systolith
