"""Graphs of a decoder: what one forward pass computes, for costs and compiler. No torch here."""

from systolith_model.config import TransformerConfig
from systolith_model.graph import BITS, Format, Graph, Kind, Operation, Tensor

# Operations an element, each exponential, division and root counted as one.
NORM_FLOPS = 4  # square, sum, scale, weight
ROPE_FLOPS = 3  # two products, one sum
SWIGLU_FLOPS = 5  # exponential, sum, division, and the products by x and by the gated half


def decoder_graph(
    config: TransformerConfig,
    *,
    tokens: int,
    batch: int = 1,
    context: int = 0,
    format: Format = "int8",
    weight_format: Format | None = None,
    all_logits: bool = False,
) -> Graph:
    """One forward pass: ``tokens`` new tokens of each of ``batch`` sequences behind ``context`` cached ones.

    Prefill is ``context=0``; a decode step is ``tokens=1``. Operations of a layer stand once, with ``count``
    the number of layers. Behind a context the tensors ``keys`` and ``values`` are the caches: they have no
    producer, and the operations with an attribute ``writes_into`` fill their last rows.

    Parameters
    ----------
    config : TransformerConfig
        The model.
    tokens, batch : int
        At least 1.
    context : int
        At least 0; with ``tokens`` at most the model's positions.
    format : str
        Of activations, caches and norm weights.
    weight_format : str, optional
        Of the matrices; ``format`` unless told otherwise.
    all_logits : bool
        Logits of every new token instead of the last one of each sequence.

    Raises
    ------
    ValueError
        If a size or a format is outside what is allowed.
    """
    for name, value, least in (("tokens", tokens, 1), ("batch", batch, 1), ("context", context, 0)):
        if value < least:
            raise ValueError(f"{name} must be >= {least}, not {value}")
    if tokens + context > config.max_positions:
        raise ValueError(f"tokens + context must be <= {config.max_positions}, not {tokens + context}")
    weights: Format = weight_format or format
    for given in (format, weights):
        if given not in BITS:
            raise ValueError(f"format must be one of {', '.join(BITS)}, not {given!r}")
    build = _Builder(config, batch, tokens, context, format, weights)
    build.embedding()
    build.attention()
    build.mlp()
    build.head(rows=tokens if all_logits else 1)
    name = f"decoder-{config.n_layers}x{config.hidden_size}-b{batch}-t{tokens}-c{context}-{format}"
    return Graph(name=name, tensors=build.tensors, operations=tuple(build.operations))


class _Builder:
    """Collects tensors and operations; ``residual`` is the stream that layers add to."""

    def __init__(
        self,
        config: TransformerConfig,
        batch: int,
        tokens: int,
        context: int,
        format: Format,
        weights: Format,
    ) -> None:
        self.config, self.batch, self.tokens, self.context = config, batch, tokens, context
        self.format: Format = format
        self.weight_format: Format = weights
        self.tensors: dict[str, Tensor] = {}
        self.operations: list[Operation] = []

    def tensor(self, name: str, *shape: int, format: Format | None = None, constant: bool = False) -> str:
        self.tensors[name] = Tensor(name=name, shape=shape, format=format or self.format, constant=constant)
        return name

    def add(
        self, name: str, kind: Kind, inputs: list[str], output: str, **attributes: int | bool | str
    ) -> str:
        count = self.config.n_layers if name.startswith("layer.") else 1
        operation = Operation(
            name=name, kind=kind, inputs=tuple(inputs), outputs=(output,), attributes=attributes, count=count
        )
        self.operations.append(operation)
        return output

    def linear(self, name: str, x: str, width: int) -> str:
        """(..., K) by a constant (K, width)."""
        *rows, k = self.tensors[x].shape
        weight = self.tensor(f"{name}.weight", k, width, format=self.weight_format, constant=True)
        return self.add(name, "matmul", [x, weight], self.tensor(f"{name}.out", *rows, width))

    def norm(self, name: str, x: str, *, rows: int) -> str:
        width = self.config.hidden_size
        weight = self.tensor(f"{name}.weight", width, constant=True)
        out = self.tensor(f"{name}.out", self.batch, rows, width)
        return self.add(name, "norm", [x, weight], out, flops_per_element=NORM_FLOPS)

    def embedding(self) -> None:
        size, width = self.config.vocab_size, self.config.hidden_size
        tokens = self.tensor("tokens", self.batch, self.tokens, format="int32")
        table = self.tensor("embedding.weight", size, width, format=self.weight_format, constant=True)
        self.residual = self.tensor("residual", self.batch, self.tokens, width)
        self.add("embedding", "embedding", [tokens, table], self.residual)

    def attention(self) -> None:
        config, b, t = self.config, self.batch, self.tokens
        h, kv, d = config.n_heads, config.n_kv_heads, config.head_dim
        x = self.norm("layer.input_norm", self.residual, rows=t)
        q = self.linear("layer.q_proj", x, h * d)
        k = self.linear("layer.k_proj", x, kv * d)
        v = self.linear("layer.v_proj", x, kv * d)
        q = self.add(
            "layer.rope_q", "rope", [q], self.tensor("queries", b, h, t, d), flops_per_element=ROPE_FLOPS
        )
        new_keys = self.tensor("keys_new", b, kv, t, d)
        new_values = self.tensor("values_new", b, kv, t, d)
        cached = self.context > 0
        keys = self.tensor("keys", b, kv, self.context + t, d) if cached else new_keys
        values = self.tensor("values", b, kv, self.context + t, d) if cached else new_values
        into = {"writes_into": keys} if cached else {}
        self.add("layer.rope_k", "rope", [k], new_keys, flops_per_element=ROPE_FLOPS, **into)
        into = {"writes_into": values} if cached else {}
        self.add("layer.cache_v", "elementwise", [v], new_values, flops_per_element=0, **into)
        mixed = self.tensor("mixed", b, t, h * d)
        self.add("layer.attention", "attention", [q, keys, values], mixed, causal=True)
        self.residual = self.add_residual("attention", self.linear("layer.o_proj", mixed, config.hidden_size))

    def mlp(self) -> None:
        x = self.norm("layer.post_attention_norm", self.residual, rows=self.tokens)
        gate = self.linear("layer.gate_proj", x, self.config.intermediate_size)
        up = self.linear("layer.up_proj", x, self.config.intermediate_size)
        gated = self.tensor("gated", self.batch, self.tokens, self.config.intermediate_size)
        self.add("layer.swiglu", "elementwise", [gate, up], gated, flops_per_element=SWIGLU_FLOPS)
        self.residual = self.add_residual(
            "mlp", self.linear("layer.down_proj", gated, self.config.hidden_size)
        )

    def add_residual(self, place: str, x: str) -> str:
        out = self.tensor(f"residual_{place}", *self.tensors[x].shape)
        return self.add(f"layer.add_{place}", "elementwise", [self.residual, x], out, flops_per_element=1)

    def head(self, *, rows: int) -> None:
        """Norm and logits of the last ``rows`` tokens of each sequence."""
        x = self.norm("norm", self.residual, rows=rows)
        self.linear("lm_head", x, self.config.vocab_size)
