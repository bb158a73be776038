"""Notes of a pass: its values and steps so far, and what memory they take."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate

from systolith_model.formats import Format
from systolith_model.workload.traced.steps import Shape, Step, Value


@dataclass
class Storage:
    """Memory behind tensors: the value it holds now, and from which to which step it is needed."""

    value: int
    bytes: int
    held: bool
    """Parameters, buffers and caches, which are counted apart."""
    born: int
    last: int
    keep: object = field(default=None, repr=False)
    """What must not be freed while its identity stands for this memory."""


class Notes:
    """Values and steps so far, and memory by whatever identifies it."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.steps: list[Step] = []
        self.approximated: Counter[str] = Counter()
        """Calls of operations that no rule knows, by name."""
        self.storages: dict[int, Storage] = {}
        self._numbers: dict[Value, int] = {}

    def number(self, value: Value) -> int:
        """The place of a value; equal ones have one."""
        if value not in self._numbers:
            self._numbers[value] = len(self.values)
            self.values.append(value)
        return self._numbers[value]

    def scalar(self, numbers: Format) -> int:
        """A number that an operation gets beside its tensors."""
        return self.number(Value((1,), numbers, label=f"scalar_{numbers}"))

    def view(self, storage: Storage, shape: Shape, numbers: Format, offset: int = 0) -> int:
        """The value in a memory, or a view of it."""
        base = self.values[storage.value]
        if (shape, numbers, offset) == (base.shape, base.format, 0):
            return storage.value
        return self.number(
            Value(shape, numbers, base=storage.value, offset=offset, constant=base.constant, cache=base.cache)
        )

    def hold(self, key: int, value: int, size: int, *, held: bool, keep: object = None) -> Storage:
        """Memory of ``size`` bytes that is first touched now."""
        now = len(self.steps)
        made = self.storages[key] = Storage(value, size, held, now, now, keep)
        return made

    def write(
        self, key: int, shape: Shape, numbers: Format, size: int, *, cache: bool = False, keep: object = None
    ) -> int:
        """A new value in a memory, which takes ``size`` bytes where it is a new one."""
        storage = self.storages.get(key)
        old = None if storage is None else self.values[storage.value]
        held = Value(
            shape, numbers, constant=old is not None and old.constant, cache=cache or (old is not None and old.cache)
        )
        self.values.append(held)
        if storage is None:
            storage = self.hold(key, len(self.values) - 1, size, held=cache, keep=keep)
        storage.value, storage.last = len(self.values) - 1, len(self.steps)
        return storage.value

    @property
    def peak_bytes(self) -> int:
        """Most bytes needed at once, from the first step that touches them to the last; without what is held."""
        changes = [0] * (len(self.steps) + 2)
        for storage in self.storages.values():
            if not storage.held:
                changes[storage.born] += storage.bytes
                changes[storage.last + 1] -= storage.bytes
        return max(accumulate(changes))
