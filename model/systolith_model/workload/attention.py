"""The attention block of one layer: grouped heads, a latent, a window, or the encoder's output."""

from systolith_model.architecture import LayerGroup
from systolith_model.workload.builder import ROPE_FLOPS, Builder


def attention(build: Builder, group: LayerGroup, x: str) -> str:
    """Self-attention over ``x`` (B, T, D); the output of its last product."""
    arch = build.architecture
    mixed = _heads(build, group, x) if arch.latent is None else _latent(build, x)
    return build.linear("o_proj", mixed, arch.hidden_size, bias=arch.bias_out)


def cross_attention(build: Builder, x: str, encoded: str | None) -> str:
    """Attention of ``x`` to the encoder's output; None where its keys and values are cached."""
    arch, run = build.architecture, build.run
    b, t, s, size = run.batch, build.tokens, run.source, arch.head_dim
    q = build.linear("cross_q_proj", x, arch.n_heads * size, bias=arch.bias_qkv, heads=arch.n_heads)
    names = ("cross_keys", "cross_values")
    if encoded is None:
        caches = [build.tensor(name, b, arch.n_kv_heads, s, size, format=run.formats.kv, cache=True) for name in names]
    else:
        width = arch.n_kv_heads * size
        caches = [
            _keep(build, name, build.linear(f"cross_{short}_proj", encoded, width, bias=arch.bias_qkv), s, s)
            for name, short in zip(names, "kv", strict=True)
        ]
    mixed = build.tensor("cross_mixed", b, t, arch.n_heads * size)
    build.add("cross_attention", "attention", [q, *caches], mixed, causal=False)
    return build.linear("cross_o_proj", mixed, arch.hidden_size, bias=arch.bias_out)


def _heads(build: Builder, group: LayerGroup, x: str) -> str:
    arch, run = build.architecture, build.run
    caching = run.caching and group.stack == "decoder"
    if run.fused and caching:
        q, keys, values = _joined(build, group, x)
    else:
        q, keys, values = _separate(build, group, x, caching=caching)
    mixed = build.tensor("mixed", run.batch, build.tokens, arch.n_heads * arch.head_dim)
    inputs = [q, keys, values]
    if arch.position == "relative":
        inputs.append(f"{group.stack}.relative_bias")
    if arch.sinks:
        inputs.append(build.vector("sinks", arch.n_heads))
    return build.add("attention", "attention", inputs, mixed, **_mask(group))


def _mask(group: LayerGroup) -> dict[str, int | bool]:
    causal = group.stack == "decoder"
    return {"causal": causal, "window": group.window} if group.window else {"causal": causal}


def _cached(build: Builder, group: LayerGroup) -> tuple[int, int]:
    """(keys that attention reads, those of them that are new)."""
    context = build.run.context if group.stack == "decoder" else 0
    if group.window:
        context = min(context, group.window - 1)
    return context + build.tokens, build.tokens


def _keep(build: Builder, name: str, x: str, total: int, new: int, *, flops: int = 0) -> str:
    """Keys or values (B, heads, total, size), of which ``x`` holds the new ones; turned first where flops."""
    arch, run = build.architecture, build.run
    shape = run.batch, arch.n_kv_heads
    out = build.tensor(f"{name}_new", *shape, new, arch.head_dim, format=run.formats.kv, cache=True)
    kept, into = out, {}
    if total > new:
        kept = build.tensor(name, *shape, total, arch.head_dim, format=run.formats.kv, cache=True)
        into = {"writes_into": kept}
    short = "cache" if not flops else "rope"
    kind = "rope" if flops else "elementwise"
    build.add(f"{short}_{_letter(name)}", kind, [x], out, flops=flops, **into)
    return kept


def _letter(name: str) -> str:
    words = name.split("_")
    return "_".join([*words[:-1], words[-1][0]])


def _separate(build: Builder, group: LayerGroup, x: str, *, caching: bool) -> tuple[str, str, str]:
    arch, run = build.architecture, build.run
    h, kv, size = arch.n_heads, arch.n_kv_heads, arch.head_dim
    rope = arch.position == "rope"
    straight = not rope and not arch.qk_norm
    q = build.linear("q_proj", x, h * size, bias=arch.bias_qkv, heads=h if straight else 0)
    laid_out = kv if straight and not caching else 0
    k = build.linear("k_proj", x, kv * size, bias=arch.bias_qkv, heads=laid_out)
    v = build.linear("v_proj", x, kv * size, bias=arch.bias_qkv, heads=0 if caching else kv)
    if arch.qk_norm:
        q, k = _head_norm(build, "q_norm", q, h), _head_norm(build, "k_norm", k, kv)
    if not straight:
        out = build.tensor("queries", run.batch, h, build.tokens, size)
        q = build.add("rope_q" if rope else "lay_q", "rope" if rope else "elementwise", [q], out,
                      flops=_turning(build, h) if rope else 0)  # fmt: skip
    total, new = _cached(build, group)
    turning = _turning(build, kv) if rope else 0
    if caching:
        return q, _keep(build, "keys", k, total, new, flops=turning), _keep(build, "values", v, total, new)
    if not straight:
        out = build.tensor("keys_new", run.batch, kv, build.tokens, size)
        k = build.add("rope_k" if rope else "lay_k", "rope" if rope else "elementwise", [k], out, flops=turning)
    return q, k, v


def _turning(build: Builder, heads: int) -> int:
    arch = build.architecture
    turned = build.run.batch * build.tokens * heads * arch.head_dim
    return round(ROPE_FLOPS * arch.rotary_share * turned)


def _head_norm(build: Builder, name: str, x: str, heads: int) -> str:
    """Norm of each head of ``x`` (B, T, heads * size)."""
    arch, run = build.architecture, build.run
    weight = build.vector(f"{name}.weight", arch.head_dim)
    out = build.tensor(f"{name}.out", run.batch, build.tokens, heads * arch.head_dim)
    return build.add(name, "norm", [x, weight], out, flops_per_element=4)


def _joined(build: Builder, group: LayerGroup, x: str) -> tuple[str, str, str]:
    """One product for q, k and v, and one kernel that norms, turns and stores them."""
    arch, run = build.architecture, build.run
    h, kv, size = arch.n_heads, arch.n_kv_heads, arch.head_dim
    qkv = build.linear("qkv_proj", x, (h + 2 * kv) * size, bias=arch.bias_qkv)
    inputs, flops = [qkv], _turning(build, h + kv) if arch.position == "rope" else 0
    if arch.qk_norm:
        inputs += [build.vector("q_norm.weight", size), build.vector("k_norm.weight", size)]
        flops += 4 * run.batch * build.tokens * (h + kv) * size
    q = build.tensor("queries", run.batch, h, build.tokens, size)
    total, new = _cached(build, group)
    shape, cached = (run.batch, kv), {"format": run.formats.kv, "cache": True}
    fresh = [build.tensor(f"{name}_new", *shape, new, size, **cached) for name in ("keys", "values")]
    kept, into = fresh, {}
    if total > new:
        kept = [build.tensor(name, *shape, total, size, **cached) for name in ("keys", "values")]
        into = {"writes_into": " ".join(kept)}
    kind = "rope" if arch.position == "rope" else "elementwise"
    build.add("rope_and_cache", kind, inputs, q, *fresh, flops=flops, **into)
    return q, kept[0], kept[1]


def _latent(build: Builder, x: str) -> str:
    """Latent attention: expanded to heads where nothing is cached yet, else absorbed into the queries."""
    arch, run = build.architecture, build.run
    latent = arch.latent
    assert latent is not None  # the caller looked
    b, t, h = run.batch, build.tokens, arch.n_heads
    size = latent.nope_dim + latent.rope_dim
    q = x
    if latent.q_rank:
        q = build.norm("q_a_norm", build.linear("q_a_proj", x, latent.q_rank))
    q = build.linear("q_b_proj", q, h * size)
    down = build.linear("kv_a_proj", x, latent.cached)
    fresh = build.tensor("latent_new", b, 1, t, latent.cached, format=run.formats.kv, cache=run.caching)
    kept, into = fresh, {}
    if run.context:
        kept = build.tensor("latent", b, 1, run.context + t, latent.cached, format=run.formats.kv, cache=True)
        into = {"writes_into": kept}
    flops = b * t * (4 * latent.kv_rank + ROPE_FLOPS * (h + 1) * latent.rope_dim)
    queries = build.tensor("queries", b, h, t, size)
    inputs = [q, down, build.vector("kv_a_norm.weight", latent.kv_rank)]
    if run.context:
        build.add("rope_and_cache", "rope", inputs, queries, fresh, flops=flops, **into)
        return _absorbed(build, queries, kept)
    values = build.tensor("latent_values", b, t, latent.kv_rank)
    build.add("rope_and_cache", "rope", inputs, queries, fresh, values, flops=flops)
    both = build.linear("kv_b_proj", values, h * (latent.nope_dim + latent.v_dim))
    keys = build.tensor("keys_new", b, h, t, size)
    values = build.tensor("values_new", b, h, t, latent.v_dim)
    build.add("lay_kv", "elementwise", [both, fresh], keys, values, flops=0)
    mixed = build.tensor("mixed", b, t, h * latent.v_dim)
    return build.add("attention", "attention", [queries, keys, values], mixed, causal=True)


def _absorbed(build: Builder, queries: str, cache: str) -> str:
    """The up-projections stand on the side of queries and outputs; all heads read the one latent."""
    arch, run = build.architecture, build.run
    latent = arch.latent
    assert latent is not None  # the caller looked
    b, t, h = run.batch, build.tokens, arch.n_heads
    weights = run.formats.weight
    nope = build.tensor("queries_nope", h, b * t, latent.nope_dim, format=run.formats.activation)
    build.add("lay_q", "elementwise", [queries], nope, flops=0)
    up_k = build.tensor("k_up.weight", h, latent.nope_dim, latent.kv_rank, constant=True, storage=weights)
    inside = build.tensor("k_up.out", h, b * t, latent.kv_rank)
    build.add("k_up", "matmul", [nope, up_k], inside)
    wide = build.tensor("queries_latent", b, h, t, latent.cached)
    build.add("lay_latent_q", "elementwise", [inside, queries], wide, flops=0)
    mixed = build.tensor("mixed_latent", h, b * t, latent.kv_rank, format=run.formats.activation)
    build.add("attention", "attention", [wide, cache, cache], mixed, causal=True, value_size=latent.kv_rank)
    up_v = build.tensor("v_up.weight", h, latent.kv_rank, latent.v_dim, constant=True, storage=weights)
    out = build.tensor("v_up.out", h, b * t, latent.v_dim)
    build.add("v_up", "matmul", [mixed, up_v], out)
    mixed = build.tensor("mixed", b, t, h * latent.v_dim)
    return build.add("lay_mixed", "elementwise", [out], mixed, flops=0)
