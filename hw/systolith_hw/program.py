"""Program: the one thing that crosses from the compiler to the RTL and to the cycle model."""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from systolith_hw.config import INSTRUCTION_BYTES, CoreConfig, sentence
from systolith_hw.isa import Instruction, decode
from systolith_hw.legality import IllegalProgram, check_instructions

MEMORY_BYTES = 1 << 32
"""Bytes that the memory port can address."""
MAX_INSTRUCTIONS = (1 << 24) - 1
"""The longest program that a core can count."""
_FORMAT = "systolith-program-1"


@dataclass(frozen=True)
class Segment:
    """Bytes that stand in DRAM before the program runs."""

    address: int
    data: bytes

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.address + len(self.data)


@dataclass(frozen=True, kw_only=True)
class Region:
    """A matrix of int8 in DRAM, row-major; rows lie ``stride`` bytes apart."""

    name: str
    address: int
    shape: tuple[int, int]
    stride: int

    @property
    def end(self) -> int:
        """The address after the last byte."""
        rows, row_bytes = self.shape
        return self.address + (rows - 1) * self.stride + row_bytes

    def read(self, memory: np.ndarray) -> np.ndarray:
        """The matrix, copied out of the bytes of the whole memory."""
        rows, row_bytes = self.shape
        view = np.lib.stride_tricks.as_strided(
            memory[self.address:self.end], (rows, row_bytes), (self.stride, 1), writeable=False)
        return view.astype(np.uint8).view(np.int8)


@dataclass(frozen=True, kw_only=True)
class Program:
    """Instructions, where they stand in DRAM, and the bytes around them.

    ``check`` says whether a given core can run it.
    """

    instructions: tuple[Instruction, ...]
    program_address: int
    """Address of the first instruction; a multiple of a fetch burst (``fetch_instructions`` * 32 bytes)."""
    image: tuple[Segment, ...] = ()
    """Bytes to put into DRAM, instructions apart."""
    outputs: tuple[Region, ...] = ()
    """Where the results will stand."""
    memory_bytes: int
    """Size of the DRAM that the program needs."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.instructions) <= MAX_INSTRUCTIONS:
            raise ValueError(f"instructions must hold 1..{MAX_INSTRUCTIONS} instructions, "
                             f"not {len(self.instructions)}")
        if not 1 <= self.memory_bytes <= MEMORY_BYTES:
            raise ValueError(f"memory_bytes must be in 1..{MEMORY_BYTES}, not {self.memory_bytes}")
        for region in self.outputs:
            _check_region(region)
        names = [region.name for region in self.outputs]
        if len(set(names)) != len(names):
            raise ValueError(f"outputs must have different names, not {', '.join(names)}")
        program = (self.program_address, self.program_address + len(self.instructions) * INSTRUCTION_BYTES,
                   "program_address")
        places = [program, *((s.address, s.end, f"image[{n}]") for n, s in enumerate(self.image))]
        _check_places(sorted(places), self.memory_bytes)
        _check_inside([(r.address, r.end, f"outputs: {r.name}") for r in self.outputs], self.memory_bytes)

    def encode(self) -> bytes:
        """The bytes of the instructions."""
        return b"".join(instruction.encode() for instruction in self.instructions)

    def segments(self) -> tuple[Segment, ...]:
        """The image with the encoded instructions: all that DRAM must hold before the start."""
        return (*self.image, Segment(self.program_address, self.encode()))

    def output(self, name: str) -> Region:
        """The output of that name.

        Raises
        ------
        KeyError
            If there is none.
        """
        for region in self.outputs:
            if region.name == name:
                return region
        raise KeyError(f"outputs are {', '.join(region.name for region in self.outputs)}, not {name}")

    def disassemble(self) -> str:
        """One line an instruction, its index in front."""
        width = len(str(len(self.instructions) - 1))
        return "".join(f"{n:{width}} {instruction}\n" for n, instruction in enumerate(self.instructions))

    def save(self, path: str | Path) -> None:
        """Write the program to one file; the file appears whole or not at all."""
        header = {"format": _FORMAT, "program_address": self.program_address,
                  "memory_bytes": self.memory_bytes,
                  "segments": [{"address": s.address, "length": len(s.data)} for s in self.image],
                  "outputs": [asdict(region) for region in self.outputs]}
        path = Path(path)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, header=_bytes(json.dumps(header).encode()), instructions=_bytes(self.encode()),
                         data=_bytes(b"".join(s.data for s in self.image)))
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what ``save`` wrote.

        Raises
        ------
        ValueError
            If the file is not a program; the sentence says why.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                header, code, data = (stored[name].tobytes() for name in ("header", "instructions", "data"))
            return cls._assemble(_Header.model_validate_json(header), code, data)
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file") from None
        except ValidationError as error:
            raise ValueError(f"{path}: {sentence(error, fields=())}") from None
        except Exception as error:  # numpy and zipfile raise nearly anything on damaged bytes
            raise ValueError(f"{path}: not a program file: {error}") from None

    @classmethod
    def _assemble(cls, header: "_Header", code: bytes, data: bytes) -> Self:
        if len(code) % INSTRUCTION_BYTES:
            raise ValueError(f"instructions must fill {INSTRUCTION_BYTES} bytes each, not {len(code)} bytes")
        if sum(place.length for place in header.segments) != len(data):
            raise ValueError(f"segments must cover the data's {len(data)} bytes")
        image, at = [], 0
        for place in header.segments:
            image.append(Segment(place.address, data[at:at + place.length]))
            at += place.length
        return cls(
            instructions=tuple(decode(code[n:n + INSTRUCTION_BYTES])
                               for n in range(0, len(code), INSTRUCTION_BYTES)),
            program_address=header.program_address, image=tuple(image), memory_bytes=header.memory_bytes,
            outputs=tuple(Region(name=r.name, address=r.address, shape=r.shape, stride=r.stride)
                          for r in header.outputs))


def aligned_program_address(core: CoreConfig, address: int) -> int:
    """The first legal program address at or after ``address``."""
    step = core.fetch_instructions * INSTRUCTION_BYTES
    return -(-address // step) * step


def check(core: CoreConfig, program: Program) -> None:
    """Check that ``core`` can run ``program``: fields, places, semaphores (docs/contracts/isa.md).

    Raises
    ------
    IllegalProgram
        At the first fault: the instruction's index, the field, what it holds, what is allowed.
    """
    legal = aligned_program_address(core, program.program_address)
    if legal != program.program_address:
        step = core.fetch_instructions * INSTRUCTION_BYTES
        raise IllegalProgram(f"program_address must be a multiple of {step}, not {program.program_address}")
    check_instructions(core, program.instructions, memory_bytes=program.memory_bytes)


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


def _check_region(region: Region) -> None:
    rows, row_bytes = region.shape
    if rows < 1 or row_bytes < 1:
        raise ValueError(f"outputs: {region.name}: shape must be >= 1 in both, not {region.shape}")
    if rows > 1 and region.stride < row_bytes:
        raise ValueError(f"outputs: {region.name}: stride must be >= {row_bytes}, not {region.stride}")


def _check_places(places: Sequence[tuple[int, int, str]], memory_bytes: int) -> None:
    _check_inside(places, memory_bytes)
    before_end, before = 0, ""
    for start, end, name in places:
        if start < before_end:
            raise ValueError(f"{name} at {start} must not overlap {before}, which ends at {before_end}")
        before_end, before = end, name


def _check_inside(places: Sequence[tuple[int, int, str]], memory_bytes: int) -> None:
    for start, end, name in places:
        if start < 0 or end > memory_bytes:
            raise ValueError(f"{name} must lie within memory_bytes = {memory_bytes}, "
                             f"not at {start}..{end - 1}")


class _Place(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    address: Annotated[int, Field(ge=0)]
    length: Annotated[int, Field(ge=0)]


class _Output(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: str
    address: Annotated[int, Field(ge=0)]
    shape: tuple[int, int]
    stride: Annotated[int, Field(ge=0)]


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
    format: Annotated[str, Field(pattern=f"^{_FORMAT}$")]
    program_address: Annotated[int, Field(ge=0)]
    memory_bytes: Annotated[int, Field(ge=1)]
    segments: tuple[_Place, ...]
    outputs: tuple[_Output, ...]
