"""Forward graphs: prefill, decode step, and what both are made of."""

from collections.abc import Callable

from systolith_model.architecture import Architecture, LayerGroup, layer_groups
from systolith_model.formats import Formats
from systolith_model.graph import Graph
from systolith_model.workload.attention import attention, cross_attention
from systolith_model.workload.builder import ACTIVATION_FLOPS, Builder, Run
from systolith_model.workload.mlp import mlp


def prefill_graph(
    architecture: Architecture,
    *,
    prompt: int,
    batch: int = 1,
    formats: Formats | None = None,
    fused: bool = True,
) -> Graph:
    """The pass over a prompt, up to the first logits.

    An encoder-decoder encodes the prompt, and its decoder starts with one token. An encoder's pass over its
    input is the same as `forward_graph`.

    Raises
    ------
    ValueError
        If a size is outside what is allowed.
    """
    if architecture.kind == "encoder_decoder":
        return forward_graph(architecture, tokens=1, source=prompt, batch=batch, formats=formats, fused=fused)
    return forward_graph(architecture, tokens=prompt, batch=batch, formats=formats, fused=fused)


def decode_graph(
    architecture: Architecture,
    *,
    context: int,
    source: int = 0,
    batch: int = 1,
    formats: Formats | None = None,
    fused: bool = True,
) -> Graph:
    """One new token of each sequence behind ``context`` cached ones; a window bounds what is read.

    Raises
    ------
    ValueError
        If a size is outside what is allowed, or the model has no decoder.
    """
    if architecture.kind == "encoder":
        raise ValueError("kind must be decoder or encoder_decoder for a decode step, not 'encoder'")
    return forward_graph(
        architecture, tokens=1, context=context, source=source, batch=batch, formats=formats, fused=fused
    )


def forward_graph(
    architecture: Architecture,
    *,
    tokens: int,
    batch: int = 1,
    context: int = 0,
    source: int = 0,
    formats: Formats | None = None,
    all_logits: bool = False,
    fused: bool = False,
) -> Graph:
    """One forward pass: ``tokens`` new tokens of each of ``batch`` sequences behind ``context`` cached ones.

    Operations of equal layers stand once, with ``count`` the number of layers; groups of layers follow one
    another, whatever their order in the model. Behind a context the tensors named ``keys``, ``values`` or
    ``latent`` are the caches: they have no producer, and the operations with an attribute ``writes_into`` fill
    their last rows. Experts are expected to be reached evenly; the busiest gets ``imbalance`` times the mean.

    Parameters
    ----------
    tokens, batch : int
        At least 1.
    context : int
        At least 0; with ``tokens`` at most the model's positions. Without one, an encoder-decoder encodes.
    source : int
        Tokens of the encoder of an encoder-decoder, at least 1 there; 0 elsewhere.
    formats : Formats, optional
        bf16 unless told otherwise.
    all_logits : bool
        Logits of every new token instead of the last one of each sequence.
    fused : bool
        Kernels cut as inference engines cut them, instead of one for each matrix.

    Raises
    ------
    ValueError
        If a size is outside what is allowed.
    """
    check_sizes(architecture, tokens=tokens, batch=batch, context=context, source=source)
    run = Run(
        batch=batch, tokens=tokens, context=context, source=source, formats=formats or Formats(), fused=fused
    )  # fmt: skip
    build = Builder(architecture, run)
    forward(build, all_logits=all_logits)
    size = f"{architecture.n_layers}x{architecture.hidden_size}"
    return build.graph(f"{architecture.kind}-{size}-b{batch}-t{tokens}-c{context}-{run.formats}")


def check_sizes(architecture: Architecture, *, tokens: int, batch: int, context: int = 0, source: int = 0) -> None:
    """Refuse sizes that a model cannot run.

    Raises
    ------
    ValueError
        If one is outside what is allowed.
    """
    both = architecture.kind == "encoder_decoder"
    for name, value, least in (("tokens", tokens, 1), ("batch", batch, 1), ("context", context, 0)):
        if value < least:
            raise ValueError(f"{name} must be >= {least}, not {value}")
    if both != (source > 0) or source < 0:
        allowed = ">= 1" if both else "0"
        raise ValueError(f"source must be {allowed} where kind is {architecture.kind!r}, not {source}")
    bounded = architecture.position in ("rope", "learned")  # the others go as far as one likes
    if bounded and tokens + context > architecture.max_positions:
        raise ValueError(f"tokens + context must be <= {architecture.max_positions}, not {tokens + context}")
    if bounded and source > architecture.max_positions:
        raise ValueError(f"source must be <= {architecture.max_positions}, not {source}")
    if context and architecture.kind == "encoder":
        raise ValueError(f"context must be 0 where kind is 'encoder', not {context}")
    if architecture.patches and tokens != architecture.patches.count + 1:
        raise ValueError(f"tokens must be {architecture.patches.count + 1}, patches and class, not {tokens}")


def forward(build: Builder, *, all_logits: bool) -> None:
    """Everything from the tokens to the logits, into a builder."""
    arch, run = build.architecture, build.run
    encoded: str | None = None
    groups = list(layer_groups(arch))
    encoders = [group for group in groups if group.stack == "encoder"]
    decoders = [group for group in groups if group.stack == "decoder"]
    if encoders and not run.context:
        tokens = run.source or run.tokens
        embedding(build, "encoder", tokens)
        for group in encoders:
            layer(build, group, tokens=tokens)
        encoded = final_norm(build, "encoder_norm" if decoders else "norm", tokens)
    if decoders:
        embedding(build, "decoder", run.tokens)
        for group in decoders:
            layer(build, group, tokens=run.tokens, encoded=encoded)
        rows = run.tokens if all_logits else 1
        encoded = final_norm(build, "norm", rows)
    assert encoded is not None  # there is one stack at least
    head(build, encoded)


def embedding(build: Builder, stack: str, tokens: int) -> None:
    """Rows of the tables, summed; or the projected patches."""
    arch, run = build.architecture, build.run
    build.enter(None, tokens=tokens)
    both = arch.kind == "encoder_decoder"
    name = f"{stack}_" if both else ""
    width = arch.embedding_size or arch.hidden_size
    if arch.patches:
        x = _patches(build)
    else:
        ids = build.tensor(f"{name}tokens", run.batch, tokens, format="int32")
        table = build.tensor("embedding.weight", arch.vocab_size, width, constant=True)
        tables = [table]
        if not arch.embedding_size:
            tables += _tables(build, name)
        out = build.tensor(f"{name}embedding.out", run.batch, tokens, width)
        x = build.add(f"{name}embedding", "embedding", [ids, *tables], out)
        if arch.embedding_size:
            x = build.linear("project_in", x, arch.hidden_size, plain=True)
            x = _add_positions(build, x, _tables(build, name), ids)
    if arch.embedding_norm:
        x = build.norm(f"{name}embedding_norm", x)
    if arch.position == "relative":
        _relative_bias(build, stack, tokens)
    build.residual = x


def _tables(build: Builder, name: str) -> list[str]:
    arch, tables = build.architecture, list[str]()
    if arch.learned_positions:
        rows = arch.learned_positions
        tables.append(build.tensor(f"{name}positions.weight", rows, arch.hidden_size, constant=True))
    if arch.token_types:
        tables.append(build.tensor("token_types.weight", arch.token_types, arch.hidden_size, constant=True))
    return tables


def _add_positions(build: Builder, x: str, tables: list[str], ids: str) -> str:
    shape = build.tensors[x].shape
    positions = build.add("positions", "embedding", [ids, *tables], build.tensor("positions.out", *shape))
    out = build.tensor("add_positions.out", *shape)
    return build.add("add_positions", "elementwise", [x, positions], out, flops_per_element=1)


def _patches(build: Builder) -> str:
    arch, run = build.architecture, build.run
    patches = arch.patches
    assert patches is not None  # the caller looked
    pixels = build.tensor("pixels", run.batch, patches.count, patches.elements)
    x = build.linear("patch_proj", pixels, arch.hidden_size, bias=True, plain=True)
    first = build.vector("class_token", arch.hidden_size)
    positions = build.tensor("positions.weight", arch.learned_positions, arch.hidden_size, constant=True)
    out = build.tensor("embedding.out", run.batch, patches.count + 1, arch.hidden_size)
    return build.add("embedding", "elementwise", [x, first, positions], out, flops_per_element=1)


def _relative_bias(build: Builder, stack: str, tokens: int) -> None:
    """The bias of each head, query and key, from a table of buckets that a stack's layers share."""
    arch = build.architecture
    keys = tokens + (build.run.context if stack == "decoder" else 0)
    table = build.tensor(f"{stack}.relative.weight", arch.relative_buckets, arch.n_heads, constant=True)
    buckets = build.tensor(f"{stack}.buckets", tokens, keys, format="int32")
    out = build.tensor(f"{stack}.relative_bias", arch.n_heads, tokens, keys)
    build.add(f"{stack}.relative", "embedding", [buckets, table], out)


def layer(build: Builder, group: LayerGroup, *, tokens: int, encoded: str | None = None) -> None:
    """One layer of a group."""
    arch = build.architecture
    build.enter(group, tokens=tokens)
    build.carry()
    if arch.parallel:
        x = build.norm("input_norm", build.residual)
        other = x if arch.shared_norm else build.norm("mlp_norm", build.residual)
        build.add_residual(attention(build, group, x), mlp(build, group, other))
        return
    _block(build, "input_norm", "attention", lambda x: attention(build, group, x))
    if group.cross:
        _block(build, "cross_norm", "cross", lambda x: cross_attention(build, x, encoded))
    _block(build, "post_attention_norm", "mlp", lambda x: mlp(build, group, x))


def _block(build: Builder, norm: str, word: str, compute: Callable[[str], str]) -> None:
    """A block with its norm and its residual sum."""
    placement = build.architecture.norm_placement
    if placement == "post":
        build.add_residual(compute(build.residual))
        build.residual = build.norm(norm, build.residual)
        return
    out = compute(build.norm(norm, build.residual))
    if placement == "sandwich":
        out = build.norm(f"{word}_output_norm", out)
    build.add_residual(out)


def final_norm(build: Builder, name: str, rows: int) -> str:
    """The last ``rows`` tokens of each sequence as they leave a stack."""
    arch = build.architecture
    tokens = build.tokens
    build.enter(None, tokens=tokens)
    if arch.final_norm:
        return build.norm(name, build.residual, rows=rows)
    build.settle()
    return build.residual if rows == tokens else take(build, build.residual, rows)


def take(build: Builder, x: str, rows: int) -> str:
    """Some rows of each sequence."""
    out = build.tensor("taken", build.run.batch, rows, build.tensors[x].shape[-1])
    return build.add("take", "elementwise", [x], out, flops=0)


def head(build: Builder, x: str) -> None:
    """Logits, and what a pooler computes."""
    arch = build.architecture
    if (arch.pooler or arch.patches) and build.tensors[x].shape[1] > 1:
        x = take(build, x, 1)
    if arch.pooler:
        x = build.linear("pooler", x, arch.hidden_size, bias=True, plain=True)
        out = build.tensor("pooled", *build.tensors[x].shape)
        build.add("pooler_activation", "elementwise", [x], out, flops_per_element=ACTIVATION_FLOPS["tanh"])
    if not arch.head:
        return
    if arch.embedding_size:
        x = build.linear("project_out", x, arch.embedding_size, plain=True)
    if not arch.tied_embeddings:
        build.linear("lm_head", x, arch.vocab_size, bias=arch.bias_head, plain=True)
        return
    inputs = [x, "embedding.weight"]
    if arch.bias_head:
        inputs.append(build.vector("lm_head.bias", arch.vocab_size))
    out = build.tensor("lm_head.out", *build.tensors[x].shape[:-1], arch.vocab_size)
    build.add("lm_head", "matmul", inputs, out, transposed="w")
