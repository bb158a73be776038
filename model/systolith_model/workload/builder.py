"""The builder that collects tensors and operations, one layer of a group at a time."""

from dataclasses import dataclass

from systolith_model.architecture import Architecture, LayerGroup
from systolith_model.formats import Format, Formats, Storage
from systolith_model.graph import Graph, Kind, Operation, Tensor

# Operations an element, each exponential, division and root counted as one.
NORM_FLOPS = {"rmsnorm": 4, "layernorm": 7, "layernorm_nobias": 6}  # mean and deviation of a layernorm: 2 more
ROPE_FLOPS = 3  # two products, one sum
ACTIVATION_FLOPS = {"silu": 4, "gelu": 5, "gelu_tanh": 9, "relu": 1, "tanh": 4}
QUANTIZE_FLOPS = 3  # maximum, division, rounding


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one graph computes: sizes, formats, and how kernels are cut.

    ``caching`` has keys and values written to a cache; ``fused`` joins what inference engines join: q, k and v
    in one product, gate and up in another, residual sums with the norm behind, quantization with the producer.
    """

    batch: int
    tokens: int
    context: int = 0
    source: int = 0
    formats: Formats
    caching: bool = True
    fused: bool = False


class Builder:
    """Tensors and operations so far; ``residual`` is the stream that layers add to."""

    def __init__(self, architecture: Architecture, run: Run) -> None:
        self.architecture, self.run = architecture, run
        self.tensors: dict[str, Tensor] = {}
        self.operations: list[Operation] = []
        self.prefix, self.count, self.tokens = "", 1, run.tokens
        self.residual = ""
        self.pending: list[str] = []
        """Outputs of blocks whose sum with the residual a fused norm will take."""

    def enter(self, group: LayerGroup | None, *, tokens: int) -> None:
        """From now on names and counts are those of a group's layers; None for outside of layers."""
        self.prefix, self.count = (f"{group.name}.", group.count) if group else ("", 1)
        self.tokens = tokens

    def carry(self) -> None:
        """In a fused graph a layer's first norm adds what the layer before put out; the tensor ``carried``."""
        if self.run.fused and self.architecture.norm_placement != "post" and not self.pending:
            self.pending = [self.tensor("carried", *self.tensors[self.residual].shape)]

    def graph(self, name: str) -> Graph:
        """All that was collected."""
        return Graph(name=name, tensors=self.tensors, operations=tuple(self.operations))

    def tensor(
        self,
        name: str,
        *shape: int,
        format: Format | None = None,
        constant: bool = False,
        cache: bool = False,
        storage: Storage | None = None,
    ) -> str:
        """A new tensor of the current layer, in the stream's format unless told otherwise."""
        name = self.prefix + name
        self.tensors[name] = Tensor(
            name=name,
            shape=shape,
            format=storage.format if storage else format or self.run.formats.residual,
            constant=constant,
            cache=cache,
            storage=storage,
        )
        return name

    def add(
        self, name: str, kind: Kind, inputs: list[str], *outputs: str, **attributes: int | float | bool | str
    ) -> str:
        """A new operation of the current layer; gives its first output."""
        self.operations.append(
            Operation(
                name=self.prefix + name, kind=kind, inputs=tuple(inputs), outputs=outputs, attributes=attributes,
                count=self.count,
            )
        )  # fmt: skip
        return outputs[0]

    def vector(self, name: str, size: int) -> str:
        """A constant vector, in the stream's format."""
        return self.tensor(name, size, constant=True)

    def operand(self, x: str) -> str:
        """``x`` as it enters a product: quantized where activations are narrower than the stream."""
        narrow = self.run.formats.activation
        tensor = self.tensors[x]
        if tensor.format in (narrow, "int32") or narrow == self.run.formats.residual:
            return x
        name = x.removeprefix(self.prefix) + ".quantized"
        if self.prefix + name in self.tensors:
            return self.prefix + name
        if self.run.fused and x != self.residual:  # the producer writes the narrow format
            self.tensors[x] = Tensor(name=x, shape=tensor.shape, format=narrow)
            return x
        out = self.tensor(name, *tensor.shape, format=narrow)
        return self.add(f"quantize_{name.split('.')[0]}", "elementwise", [x], out, flops_per_element=QUANTIZE_FLOPS)

    def linear(self, name: str, x: str, width: int, *, bias: bool = False, heads: int = 0, plain: bool = False) -> str:
        """(..., K) by a constant (K, width); ``heads`` has the output stand by heads, ``plain`` the weight."""
        if not plain:
            x = self.operand(x)
        *rows, k = self.tensors[x].shape
        storage = Storage(format=self.run.formats.residual) if plain else self.run.formats.weight
        inputs = [x, self.tensor(f"{name}.weight", k, width, constant=True, storage=storage)]
        if bias:
            inputs.append(self.vector(f"{name}.bias", width))
        if heads:
            out = self.tensor(f"{name}.out", *rows[:-1], heads, rows[-1], width // heads)
            return self.add(name, "matmul", inputs, out, heads=heads)
        return self.add(name, "matmul", inputs, self.tensor(f"{name}.out", *rows, width))

    def norm(self, name: str, x: str, *, rows: int | None = None) -> str:
        """Norm over the last dimension of ``x``, or of the last ``rows`` of each sequence."""
        kind = self.architecture.norm
        *lead, width = self.tensors[x].shape
        if rows is not None:
            lead = [lead[0], rows]
        inputs = [x, self.vector(f"{name}.weight", width)]
        if kind == "layernorm":
            inputs.append(self.vector(f"{name}.bias", width))
        outputs = [self.tensor(f"{name}.out", *lead, width)]
        extra = 0
        if self.pending and x == self.residual:
            extra = len(self.pending)
            inputs, self.pending = [*inputs, *self.pending], []
            if rows is None:
                self.residual = self.tensor(f"{name}.residual", *self.tensors[x].shape)
                outputs.append(self.residual)
        work = (NORM_FLOPS[kind] + extra) * self.tensors[outputs[0]].elements
        self.add(name, "norm", inputs, *outputs, flops=work)
        return outputs[0]

    def add_residual(self, *blocks: str) -> None:
        """The stream plus outputs of blocks; in a fused graph a norm before the next block takes the sum."""
        if self.run.fused and self.architecture.norm_placement != "post":
            self.settle()
            self.pending = list(blocks)
            return
        self._sum(list(blocks))

    def settle(self) -> None:
        """Sums what no norm has taken."""
        if self.pending:
            blocks, self.pending = self.pending, []
            self._sum(blocks)

    def _sum(self, blocks: list[str]) -> None:
        word = blocks[-1].removeprefix(self.prefix).split(".")[0]
        out = self.tensor(f"residual_{word}", *self.tensors[self.residual].shape)
        self.residual = self.add(
            f"add_{word}", "elementwise", [self.residual, *blocks], out, flops_per_element=len(blocks)
        )
