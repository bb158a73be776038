// The part of zlib that Verilator's FST writer calls, so that waveforms need no system library.
// It stores: the result is a valid zlib stream (RFC 1950) of uncompressed blocks (RFC 1951, 3.2.4).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

using Byte = unsigned char;
using Bytef = Byte;
using uLong = unsigned long;
using uLongf = uLong;
constexpr int Z_OK = 0, Z_BUF_ERROR = -5;

constexpr uLong SHIM_BLOCK_BYTES = 65535;

inline uLong compressBound(uLong length) { return length + 5 * (length / SHIM_BLOCK_BYTES + 1) + 6; }

inline uint32_t shim_adler32(const Bytef* data, uLong length) {
    uint32_t low = 1, high = 0;
    for (uLong n = 0; n < length; ++n) {
        low = (low + data[n]) % 65521;
        high = (high + low) % 65521;
    }
    return high << 16 | low;
}

inline int compress2(Bytef* to, uLongf* to_length, const Bytef* from, uLong length, int) {
    if (*to_length < compressBound(length)) return Z_BUF_ERROR;
    Bytef* out = to;
    *out++ = 0x78;
    *out++ = 0x01;
    for (uLong done = 0, last = 0; !last;) {
        const uLong block = std::min(length - done, SHIM_BLOCK_BYTES);
        last = done + block == length;
        const uLong header[] = {last, block & 255, block >> 8, ~block & 255, ~block >> 8 & 255};
        for (const uLong byte : header) *out++ = static_cast<Bytef>(byte);
        std::memcpy(out, from + done, block);
        out += block;
        done += block;
    }
    const uint32_t sum = shim_adler32(from, length);
    for (int shift = 24; shift >= 0; shift -= 8) *out++ = static_cast<Bytef>(sum >> shift);
    *to_length = static_cast<uLongf>(out - to);
    return Z_OK;
}
