"""Places in DRAM, one after another."""

from systolith_hw.config import INSTRUCTION_BYTES, CoreConfig
from systolith_hw.program import MEMORY_BYTES, aligned_program_address
from systolith_sim.compiler.places import up


class Dram:
    """Hands out DRAM from address 0 on; everything begins where a burst may (rule Y9)."""

    def __init__(self, core: CoreConfig) -> None:
        self._core = core
        self._burst_bytes = core.sizes.burst_beats * core.port_bytes
        self.end = 0

    def take(self, size: int) -> int:
        """The address of ``size`` new bytes.

        Raises
        ------
        ValueError
            If they do not fit in the address space of the port.
        """
        address = up(self.end, self._burst_bytes)
        self.end = address + size
        if self.end > MEMORY_BYTES:
            raise ValueError(f"the tensors must fit in {MEMORY_BYTES} bytes of DRAM, not need {self.end}")
        return address

    def program(self, count: int) -> int:
        """The address of a program of ``count`` instructions."""
        self.end = aligned_program_address(self._core, self.end)
        return self.take(aligned_program_address(self._core, count * INSTRUCTION_BYTES))
