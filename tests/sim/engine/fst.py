"""As much of a reader of FST files as the tests need (gtkwave.sourceforge.net, FST format)."""

import re
import struct
from collections.abc import Iterator

HEADER, HIERARCHY_LZ4 = 0, 6


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from(">BQ", data, at)
        yield kind, data[at + 9:at + 1 + length]
        at += 1 + length


def times(data: bytes) -> tuple[int, int]:
    """First and last time of the file."""
    header = next(content for kind, content in blocks(data) if kind == HEADER)
    return struct.unpack_from(">QQ", header)


def names(data: bytes) -> list[str]:
    """Every word of the hierarchy: names of scopes and variables."""
    content = next(content for kind, content in blocks(data) if kind == HIERARCHY_LZ4)
    (length,) = struct.unpack_from(">Q", content)
    text = lz4_block(content[8:])
    assert len(text) == length
    return [word.decode() for word in re.findall(rb"[A-Za-z_]\w*", text)]


def lz4_block(data: bytes) -> bytes:
    """Decompress (github.com/lz4/lz4, doc/lz4_Block_format.md)."""
    out, at = bytearray(), 0

    def length(nibble: int) -> int:
        nonlocal at
        total = nibble
        while nibble == 15:
            total += data[at]
            nibble = 15 if data[at] == 255 else 0
            at += 1
        return total

    while True:
        token, at = data[at], at + 1
        count = length(token >> 4)
        out += data[at:at + count]
        at += count
        if at == len(data):
            return bytes(out)
        offset, at = data[at] | data[at + 1] << 8, at + 2
        for _ in range(length(token & 15) + 4):
            out.append(out[-offset])
