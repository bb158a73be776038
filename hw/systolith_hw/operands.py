"""What the fields of an instruction may hold on a given core: multiples and bounds (docs/contracts/isa.md).

One table for the gateware's decoder, the software's check and the documents. Pure Python, no Amaranth.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from systolith_hw.config import TABLE_BYTES, CoreConfig
from systolith_hw.isa import FIELDS, Memory, Opcode


class Operand(NamedTuple):
    """Legal values of one field: multiples of ``multiple`` from the field's least value up to ``most``."""

    multiple: int
    """A power of two: the field's lowest bits are 0."""
    most: int
    """The largest legal value; at most what the bits hold."""


def local_bytes(core: CoreConfig) -> Mapping[Memory, int]:
    """Bytes of each on-chip memory that a load can fill; local addresses count from its beginning."""
    return MappingProxyType({
        Memory.DATA: core.data_bytes,
        Memory.WEIGHT: core.weight_bytes,
        Memory.PARAMETER: core.parameter_bytes,
        Memory.TABLE: core.table_slots * TABLE_BYTES,
    })


def operand_rules(core: CoreConfig) -> Mapping[Opcode, Mapping[str, Operand]]:
    """The rules of every field that has one beyond its bits; ``most`` bounds the field, not a block's end.

    The bound of a load's ``local_address`` depends on its memory: ``most`` is that of the largest memory, and
    ``local_bytes`` has each.

    >>> operand_rules(CoreConfig(rows=8, cols=8))[Opcode.MATMUL]["data_address"]
    Operand(multiple=8, most=32760)
    """
    sizes, port, memories = core.sizes, core.port_bytes, local_bytes(core)
    acc = core.acc_banks * core.acc_rows
    data_stride = (sizes.data_word_bytes, None)
    rules = {
        Opcode.LOAD: _transfer(port, max(memories.values())),
        Opcode.MATMUL: {
            "data_address": (sizes.read_granule, core.data_bytes - 1),
            "data_stride": data_stride,
            "weight_address": (sizes.weight_granule, core.weight_bytes - 1),
            "weight_stride": (sizes.weight_word_bytes, None),
            "acc_address": (1, acc - 1),
            "acc_stride": (1, acc - 1),
            "m": (1, core.acc_rows),
        },
        Opcode.VECTOR: {
            "acc_address": (1, acc - 1),
            "m": (1, core.acc_rows),
            "n": (1, core.cols),
            "table": (1, core.table_slots - 1),
            "data_address": (sizes.write_granule, core.data_bytes - 1),
            "data_stride": data_stride,
            "parameter_address": (sizes.parameter_word_bytes, core.parameter_bytes - 1),
        },
        Opcode.STORE: {"memory": (1, int(Memory.DATA))} | _transfer(port, core.data_bytes),
    }
    return MappingProxyType({
        opcode: MappingProxyType({name: _operand(opcode, name, *rule) for name, rule in fields.items()})
        for opcode, fields in rules.items()})


def _transfer(port: int, local: int) -> dict[str, tuple[int, int | None]]:
    return {"dram_address": (port, None), "dram_stride": (port, None), "local_address": (port, local - 1),
            "local_stride": (port, None), "row_bytes": (port, local)}


def _operand(opcode: Opcode, name: str, multiple: int, most: int | None) -> Operand:
    bits = FIELDS[opcode][name].most
    limit = bits if most is None else min(bits, most)
    return Operand(multiple, limit // multiple * multiple)
