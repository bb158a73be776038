// The bare array, Verilated alone: random inputs in every cycle, two evaluations a cycle, nothing else.
// Prints cycles per second. Compiled with -DA_BITS, -DW_BITS and -DGROUPS.

#include "Varray.h"
#include "verilated.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

uint64_t state = 1;

uint64_t random_bits() {  // xorshift64
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

template <uint32_t BITS, class Port> void randomize(Port& port) {
    constexpr uint32_t WORDS = (BITS + 63) / 64;
    uint64_t words[WORDS];
    for (uint64_t& word : words) word = random_bits();
    if (BITS % 64) words[WORDS - 1] &= (uint64_t{1} << BITS % 64) - 1;
    std::memcpy(static_cast<void*>(&port), words, sizeof port < sizeof words ? sizeof port : sizeof words);
}

}  // namespace

int main(int, char** arguments) {
    const uint64_t cycles = std::strtoull(arguments[1], nullptr, 10);
    VerilatedContext context;
    Varray array{&context};
    const auto begin = std::chrono::steady_clock::now();
    for (uint64_t cycle = 0; cycle < cycles; ++cycle) {
        randomize<A_BITS>(array.a);
        randomize<W_BITS>(array.w);
        array.w_valid = 1;
        array.w_group = cycle % GROUPS;
        array.swap = cycle % GROUPS == 0;
        array.clk = 0;
        array.eval();
        array.clk = 1;
        array.eval();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    std::printf("%.0f\n", static_cast<double>(cycles) / seconds.count());
}
