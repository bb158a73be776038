// The part of LZ4 that Verilator's FST writer calls, so that waveforms need no system library.
// A greedy compressor to the LZ4 block format: github.com/lz4/lz4, doc/lz4_Block_format.md.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

inline int LZ4_compressBound(int length) { return length + length / 255 + 16; }

namespace systolith_shim {

constexpr int MIN_MATCH = 4, LAST_LITERALS = 5, MATCH_LIMIT = 12, MAX_OFFSET = 65535, HASH_BITS = 13;

inline void put_length(uint8_t*& out, int length) {
    for (; length >= 255; length -= 255) *out++ = 255;
    *out++ = static_cast<uint8_t>(length);
}

// Literals, then a match; a match of 0 ends the block.
inline void put_sequence(uint8_t*& out, const uint8_t* literals, int count, int offset, int match) {
    const int extra = match ? match - MIN_MATCH : 0;
    *out++ = static_cast<uint8_t>((count < 15 ? count : 15) << 4 | (extra < 15 ? extra : 15));
    if (count >= 15) put_length(out, count - 15);
    if (count) std::memcpy(out, literals, static_cast<size_t>(count));
    out += count;
    if (!match) return;
    *out++ = static_cast<uint8_t>(offset);
    *out++ = static_cast<uint8_t>(offset >> 8);
    if (extra >= 15) put_length(out, extra - 15);
}

inline uint32_t word(const uint8_t* at) {
    uint32_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

}  // namespace systolith_shim

// The capacity must be LZ4_compressBound(length), as it is in the only caller.
inline int LZ4_compress_default(const char* from, char* to, int length, int) {
    using namespace systolith_shim;
    const auto* in = reinterpret_cast<const uint8_t*>(from);
    auto* out = reinterpret_cast<uint8_t*>(to);
    std::vector<int> seen(1 << HASH_BITS, -1);
    int anchor = 0;
    for (int at = 0; at + MATCH_LIMIT < length;) {
        int& entry = seen[word(in + at) * 2654435761u >> (32 - HASH_BITS)];
        const int before = entry;
        entry = at;
        if (before < 0 || at - before > MAX_OFFSET || word(in + before) != word(in + at)) {
            ++at;
            continue;
        }
        int match = MIN_MATCH;
        while (at + match < length - LAST_LITERALS && in[before + match] == in[at + match]) ++match;
        put_sequence(out, in + anchor, at - anchor, at - before, match);
        at += match;
        anchor = at;
    }
    put_sequence(out, in + anchor, length - anchor, 0, 0);
    return static_cast<int>(out - reinterpret_cast<uint8_t*>(to));
}
