"""Engine: a core's RTL, compiled, with a memory at its port."""

import ctypes
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from systolith_hw.program import MEMORY_BYTES
from systolith_hw.timing import MemoryTiming
from systolith_sim.engine import library
from systolith_sim.engine.build import Build
from systolith_sim.engine.errors import EngineError
from systolith_sim.engine.library import MemoryConfig
from systolith_sim.engine.memory import Stalls

_CONTRACT = MemoryTiming()


class Engine:
    """A running core: a target for ``systolith_hw.host.Host``.

    Parameters
    ----------
    build : Build
        From ``build_core``; with ``wave`` for a waveform.
    memory_bytes : int
        Size of the memory; a multiple of the port. A beat outside answers DECERR.
    timing : MemoryTiming
        The memory's latencies.
    stalls : Stalls, optional
        Random waits on top (``systolith_sim.engine.memory``).
    wave : Path, optional
        Write a waveform (FST) here; it is complete after ``close``.

    Raises
    ------
    ValueError
        If the memory's size is wrong, or a waveform is asked of a build without.
    """

    def __init__(self, build: Build, *, memory_bytes: int, timing: MemoryTiming = _CONTRACT,
                 stalls: Stalls | None = None, wave: Path | None = None) -> None:
        self._instance = None
        if memory_bytes % build.port_bytes or not build.port_bytes <= memory_bytes <= MEMORY_BYTES:
            raise ValueError(f"memory_bytes must be a multiple of {build.port_bytes} in "
                             f"{build.port_bytes}..{MEMORY_BYTES}, not {memory_bytes}")
        if build.wave != (wave is not None):
            raise ValueError(f"wave must be {'a file' if build.wave else 'None'} with this build, not {wave}")
        if wave is not None and not wave.parent.is_dir():
            raise ValueError(f"wave must be in a folder that exists, not {wave}")
        self.memory = np.zeros(memory_bytes, dtype=np.uint8)
        """The memory's bytes, shared with the running core."""
        self.wave = wave
        self._library = library.load(build.library)
        config = MemoryConfig(
            data=self.memory.ctypes.data, bytes=memory_bytes, latency=timing.latency,
            burst_overhead=timing.burst_overhead, write_latency=timing.write_latency,
            seed=stalls.seed if stalls else 0, probability=stalls.threshold if stalls else 0,
            longest=stalls.longest if stalls else 1)
        self._instance = self._library.systolith_open(ctypes.byref(config), str(wave or "").encode())

    @property
    def cycle(self) -> int:
        """Cycles since the end of reset."""
        return self._library.systolith_cycle(self._running())

    def read32(self, address: int) -> int:
        """Read a register of the control port; a few cycles pass."""
        value = ctypes.c_uint32()
        reason = self._library.systolith_read(self._running(), address, ctypes.byref(value))
        self._check(reason, f"a read of register {address:#05x}")
        return value.value

    def write32(self, address: int, value: int) -> None:
        """Write a register of the control port; a few cycles pass."""
        reason = self._library.systolith_write(self._running(), address, value)
        self._check(reason, f"a write of register {address:#05x}")

    def read_memory(self, address: int, length: int) -> bytes:
        """Bytes of the memory."""
        self._inside(address, length)
        return self.memory[address:address + length].tobytes()

    def write_memory(self, address: int, data: bytes) -> None:
        """Put bytes into the memory."""
        self._inside(address, len(data))
        self.memory[address:address + len(data)] = np.frombuffer(data, dtype=np.uint8)

    def advance(self, max_cycles: int) -> bool:
        """Let up to ``max_cycles`` pass; true, and at once, when the interrupt is up.

        Raises
        ------
        EngineError
            If the core breaks a rule of the memory port.
        """
        reason = self._library.systolith_advance(self._running(), max_cycles)
        self._check(reason, "")
        return reason == library.INTERRUPT

    def close(self) -> None:
        """End the simulation and finish the waveform; a second time it does nothing."""
        if self._instance:
            instance, self._instance = self._instance, None
            self._library.systolith_close(instance)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _running(self) -> int:
        if not self._instance:
            raise EngineError("the engine must be open, but close has been called")
        return self._instance

    def _inside(self, address: int, length: int) -> None:
        if address < 0 or address + length > len(self.memory):
            raise ValueError(f"address must leave {length} bytes inside the memory of {len(self.memory)}, "
                             f"not {address}")

    def _check(self, reason: int, access: str) -> None:
        if reason == library.VIOLATION:
            what = self._library.systolith_violation(self._running()).decode()
            raise EngineError(f"the core broke the memory port's contract at cycle {self.cycle}: {what}")
        if reason == library.MUTE:
            raise EngineError(f"the control port must answer {access}, but does not")
        if reason == library.REFUSED:
            raise EngineError(f"the control port answered {access} with an error")
