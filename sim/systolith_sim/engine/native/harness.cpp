// A Verilated core with a memory at its port, as a C library (see library.py for the calls).
//
// Compiled with -DPORT_BYTES=n, and -DWAVE for a build that writes waveforms.

#include "Vcore.h"
#include "Vcore___024root.h"
#include "memory.hpp"
#include "verilated.h"
#ifdef WAVE
#include "verilated_fst_c.h"
#endif

// What Verilator's eval_step() calls between its queue of messages from threads, of which there are none. Weak: where
// a version has no such function, eval_step() is called.
void Vcore___024root___eval(Vcore___024root*) __attribute__((weak));

namespace systolith {
namespace {

constexpr uint32_t BYTES = PORT_BYTES;
constexpr uint64_t WSTRB_ALL = (uint64_t{1} << BYTES) - 1;
constexpr uint64_t ANSWER_CYCLES = 10000;  // more than any register needs
constexpr uint64_t HALF_CYCLE = 5;         // units of a waveform's time, ns: nominally 100 MHz

// The memory port. The root's members are read without the indirection of the top's references.
class Port {
public:
    explicit Port(Vcore___024root& root) : root_{root} {}
#define OUTPUT(name) auto name() const { return root_.name; }
#define INPUT(name) void set_##name(uint8_t value) { root_.name = value; }
    OUTPUT(arvalid) OUTPUT(araddr) OUTPUT(arlen) OUTPUT(arburst) OUTPUT(arsize) OUTPUT(arid)
    OUTPUT(awvalid) OUTPUT(awaddr) OUTPUT(awlen) OUTPUT(awburst) OUTPUT(awsize) OUTPUT(awid)
    OUTPUT(wvalid) OUTPUT(wlast) OUTPUT(rready) OUTPUT(bready)
    INPUT(arready) INPUT(awready) INPUT(rvalid) INPUT(wready) INPUT(bvalid)
#undef OUTPUT
#undef INPUT

    void set_read(const uint8_t* data, uint8_t response, uint8_t id, uint8_t last) {
        std::memcpy(static_cast<void*>(&root_.rdata), data, BYTES);
        root_.rresp = response;
        root_.rid = id;
        root_.rlast = last;
    }

    void set_response(uint8_t response, uint8_t id) {
        root_.bresp = response;
        root_.bid = id;
    }

    void copy_write(uint8_t* to) const { std::memcpy(to, &root_.wdata, BYTES); }

    bool wfull() const { return root_.wstrb == WSTRB_ALL; }

private:
    Vcore___024root& root_;
};

enum Reason { LIMIT = 0, INTERRUPT = 1, VIOLATION = 2, MUTE = 3, REFUSED = 4 };

// Tell the model that the clock has fallen. Nothing is clocked by the falling edge, so where Verilator's own memory
// of the clock is at hand, setting it saves half of the evaluations.
template <class Root> void fall(Vcore& top, Root& root) {
    root.clk = 0;
    if constexpr (requires { root.__Vtrigprevexpr___TOP__clk__0; }) {
        root.__Vtrigprevexpr___TOP__clk__0 = 0;
    } else {
        top.eval_step();
    }
}

class Instance {
public:
    Instance(const MemoryConfig& config, const char* wave) : port_{root_}, memory_{config} {
#ifdef WAVE
        context_.traceEverOn(true);
        top_.trace(&trace_, 99);
        trace_.open(wave);
#else
        (void)wave;
#endif
        top_.eval_step();
    }

    ~Instance() {
#ifdef WAVE
        trace_.close();
#endif
        top_.final();
    }

    uint64_t cycle() const { return cycle_; }
    const char* violation() const { return memory_.violation(); }

    Reason advance(uint64_t max_cycles) {
        for (const uint64_t end = cycle_ + max_cycles; cycle_ < end;) {
            step();
            if (root_.irq) return INTERRUPT;
            if (memory_.violation()) return VIOLATION;
        }
        return LIMIT;
    }

    Reason write(uint32_t address, uint32_t value) {
        root_.control_awaddr = address;
        root_.control_wdata = value;
        root_.control_awvalid = root_.control_wvalid = root_.control_bready = 1;
        for (uint64_t limit = cycle_ + ANSWER_CYCLES; cycle_ < limit;) {
            settle();
            const bool address_taken = root_.control_awvalid & root_.control_awready;
            const bool data_taken = root_.control_wvalid & root_.control_wready;
            const bool answered = root_.control_bvalid;
            const uint8_t response = root_.control_bresp;
            step();
            if (address_taken) root_.control_awvalid = 0;
            if (data_taken) root_.control_wvalid = 0;
            if (answered) root_.control_bready = 0;
            if (memory_.violation()) return VIOLATION;
            if (answered) return response == OKAY ? LIMIT : REFUSED;
        }
        root_.control_awvalid = root_.control_wvalid = root_.control_bready = 0;
        return MUTE;
    }

    Reason read(uint32_t address, uint32_t& value) {
        root_.control_araddr = address;
        root_.control_arvalid = root_.control_rready = 1;
        for (uint64_t limit = cycle_ + ANSWER_CYCLES; cycle_ < limit;) {
            settle();
            const bool address_taken = root_.control_arvalid & root_.control_arready;
            const bool answered = root_.control_rvalid;
            const uint8_t response = root_.control_rresp;
            value = root_.control_rdata;
            step();
            if (address_taken) root_.control_arvalid = 0;
            if (answered) root_.control_rready = 0;
            if (memory_.violation()) return VIOLATION;
            if (answered) return response == OKAY ? LIMIT : REFUSED;
        }
        root_.control_arvalid = root_.control_rready = 0;
        return MUTE;
    }

private:
    // The control port's ready may depend on its valid within the cycle.
    void settle() { top_.eval_step(); }

#ifdef WAVE
    // One cycle: the clock is high between calls, so that a waveform's edges stand where its values change.
    void step() {
        memory_.drive(port_, cycle_);
        top_.eval_step();
        trace_.dump(cycle_ * 2 * HALF_CYCLE);
        root_.clk = 0;
        top_.eval_step();
        trace_.dump((cycle_ * 2 + 1) * HALF_CYCLE);
        root_.clk = 1;
        top_.eval_step();
        ++cycle_;
    }
#else
    // One cycle: the clock is low between calls.
    void step() {
        memory_.drive(port_, cycle_);
        root_.clk = 1;
        if (Vcore___024root___eval) {
            Vcore___024root___eval(&root_);
        } else {
            top_.eval_step();
        }
        fall(top_, root_);
        ++cycle_;
    }
#endif

    VerilatedContext context_;
    Vcore top_{&context_, "core"};
    Vcore___024root& root_ = *top_.rootp;
    Port port_;
    Memory<Port, BYTES> memory_;
    uint64_t cycle_ = 0;
#ifdef WAVE
    VerilatedFstC trace_;
#endif
};

}  // namespace
}  // namespace systolith

using systolith::Instance;

#pragma GCC visibility push(default)
extern "C" {

Instance* systolith_open(const systolith::MemoryConfig* config, const char* wave) {
    return new Instance{*config, wave};
}
void systolith_close(Instance* instance) { delete instance; }
uint64_t systolith_cycle(const Instance* instance) { return instance->cycle(); }
const char* systolith_violation(const Instance* instance) { return instance->violation(); }
int systolith_advance(Instance* instance, uint64_t max_cycles) { return instance->advance(max_cycles); }
int systolith_write(Instance* instance, uint32_t address, uint32_t value) { return instance->write(address, value); }
int systolith_read(Instance* instance, uint32_t address, uint32_t* value) { return instance->read(address, *value); }
}
#pragma GCC visibility pop
