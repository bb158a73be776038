// A Verilated core with a memory at its port, as a C library (see library.py for the calls).
//
// Compiled with -DPORT_BYTES=n, and -DWAVE for a build that writes waveforms. An instance starts in reset and
// leaves it before the first call returns. Cycle n is the n-th cycle after that.

#include "Vcore.h"
#include "Vcore___024root.h"
#include "memory.hpp"
#include "verilated.h"
#ifdef WAVE
#include "verilated_fst_c.h"
#endif

namespace systolith {
namespace {

constexpr uint32_t BYTES = PORT_BYTES;
constexpr uint64_t WSTRB_ALL = (uint64_t{1} << BYTES) - 1;
constexpr uint64_t ANSWER_CYCLES = 10000;  // more than any register needs
constexpr uint64_t HALF_CYCLE = 5;         // units of a waveform's time, ns: nominally 100 MHz

// Verilator's names; the root's members are read without the indirection of the top's references.
class Port {
public:
    explicit Port(Vcore___024root& root) : root_{root} {}
#define OUTPUT(name) auto name() const { return root_.m_axi___05F##name; }
#define INPUT(name) void set_##name(uint8_t value) { root_.m_axi___05F##name = value; }
    OUTPUT(arvalid) OUTPUT(araddr) OUTPUT(arlen) OUTPUT(arburst) OUTPUT(arsize) OUTPUT(arid)
    OUTPUT(awvalid) OUTPUT(awaddr) OUTPUT(awlen) OUTPUT(awburst) OUTPUT(awsize) OUTPUT(awid)
    OUTPUT(wvalid) OUTPUT(wlast) OUTPUT(rready) OUTPUT(bready)
    INPUT(arready) INPUT(awready) INPUT(rvalid) INPUT(wready) INPUT(bvalid)
#undef OUTPUT
#undef INPUT

    void set_read(const uint8_t* data, uint8_t response, uint8_t id, uint8_t last) {
        std::memcpy(static_cast<void*>(&root_.m_axi___05Frdata), data, BYTES);
        root_.m_axi___05Frresp = response;
        root_.m_axi___05Frid = id;
        root_.m_axi___05Frlast = last;
    }

    void set_response(uint8_t response, uint8_t id) {
        root_.m_axi___05Fbresp = response;
        root_.m_axi___05Fbid = id;
    }

    void copy_write(uint8_t* to) const { std::memcpy(to, &root_.m_axi___05Fwdata, BYTES); }

    bool wfull() const { return root_.m_axi___05Fwstrb == WSTRB_ALL; }

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
        root_.rst = 1;
        step();
        step();
        root_.rst = 0;
        cycle_ = 0;
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
            if (root_.__SYM__interrupt) return INTERRUPT;  // Verilator's name for a word that C++ compilers know
            if (memory_.violation()) return VIOLATION;
        }
        return LIMIT;
    }

    Reason write(uint32_t address, uint32_t value) {
        root_.s_axil___05Fawaddr = address;
        root_.s_axil___05Fwdata = value;
        root_.s_axil___05Fwstrb = 15;
        root_.s_axil___05Fawvalid = root_.s_axil___05Fwvalid = root_.s_axil___05Fbready = 1;
        for (uint64_t limit = cycle_ + ANSWER_CYCLES; cycle_ < limit;) {
            settle();
            const bool address_taken = root_.s_axil___05Fawvalid & root_.s_axil___05Fawready;
            const bool data_taken = root_.s_axil___05Fwvalid & root_.s_axil___05Fwready;
            const bool answered = root_.s_axil___05Fbvalid;
            const uint8_t response = root_.s_axil___05Fbresp;
            step();
            if (address_taken) root_.s_axil___05Fawvalid = 0;
            if (data_taken) root_.s_axil___05Fwvalid = 0;
            if (answered) root_.s_axil___05Fbready = 0;
            if (memory_.violation()) return VIOLATION;
            if (answered) return response == OKAY ? LIMIT : REFUSED;
        }
        root_.s_axil___05Fawvalid = root_.s_axil___05Fwvalid = root_.s_axil___05Fbready = 0;
        return MUTE;
    }

    Reason read(uint32_t address, uint32_t& value) {
        root_.s_axil___05Faraddr = address;
        root_.s_axil___05Farvalid = root_.s_axil___05Frready = 1;
        for (uint64_t limit = cycle_ + ANSWER_CYCLES; cycle_ < limit;) {
            settle();
            const bool address_taken = root_.s_axil___05Farvalid & root_.s_axil___05Farready;
            const bool answered = root_.s_axil___05Frvalid;
            const uint8_t response = root_.s_axil___05Frresp;
            value = root_.s_axil___05Frdata;
            step();
            if (address_taken) root_.s_axil___05Farvalid = 0;
            if (answered) root_.s_axil___05Frready = 0;
            if (memory_.violation()) return VIOLATION;
            if (answered) return response == OKAY ? LIMIT : REFUSED;
        }
        root_.s_axil___05Farvalid = root_.s_axil___05Frready = 0;
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
        trace_.dump(time_);
        root_.clk = 0;
        top_.eval_step();
        trace_.dump(time_ + HALF_CYCLE);
        root_.clk = 1;
        top_.eval_step();
        time_ += 2 * HALF_CYCLE;
        ++cycle_;
    }
#else
    // One cycle: the clock is low between calls.
    void step() {
        memory_.drive(port_, cycle_);
        root_.clk = 1;
        top_.eval_step();
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
    uint64_t time_ = 0;
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
