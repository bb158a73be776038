"""The MLP of one layer, dense or a mixture of experts."""

from systolith_model.architecture import Experts, LayerGroup
from systolith_model.workload.builder import ACTIVATION_FLOPS, Builder

ROUTING_FLOPS = 5  # exponential, sum, division, and the comparisons of the choice, each expert


def mlp(build: Builder, group: LayerGroup, x: str) -> str:
    """The block over ``x`` (B, T, D)."""
    moe = build.architecture.experts
    if group.experts and moe is not None:
        return _experts(build, moe, x)
    arch = build.architecture
    return dense(build, "", x, arch.intermediate_size, bias=arch.bias_mlp)


def dense(build: Builder, name: str, x: str, width: int, *, bias: bool) -> str:
    """A dense MLP of a width; ``name`` stands before those of its operations."""
    arch = build.architecture
    if not arch.gated:
        inner = build.linear(f"{name}up_proj", x, width, bias=bias)
        inner = _activate(build, f"{name}activation", [inner])
    elif build.run.fused:
        inner = build.linear(f"{name}gate_up_proj", x, 2 * width, bias=bias)
        inner = _activate(build, f"{name}gated_activation", [inner])
    else:
        gate = build.linear(f"{name}gate_proj", x, width, bias=bias)
        up = build.linear(f"{name}up_proj", x, width, bias=bias)
        inner = _activate(build, f"{name}gated_activation", [gate, up])
    return build.linear(f"{name}down_proj", inner, arch.hidden_size, bias=bias)


def _activate(build: Builder, name: str, inputs: list[str]) -> str:
    arch = build.architecture
    *lead, width = build.tensors[inputs[0]].shape
    if arch.gated and len(inputs) == 1:
        width //= 2
    out = build.tensor(f"{name}.out", *lead, width)
    flops = ACTIVATION_FLOPS[arch.activation] + arch.gated
    return build.add(name, "elementwise", inputs, out, flops_per_element=flops)


def active_experts(moe: Experts, tokens: int) -> int:
    """Experts of a layer that at least one of ``tokens`` goes to, expected for even routing, rounded."""
    missed = (1 - moe.top_k / moe.n_experts) ** tokens
    return max(moe.top_k, round(moe.n_experts * (1 - missed)))


def _experts(build: Builder, moe: Experts, x: str) -> str:
    arch, run = build.architecture, build.run
    b, t, width = run.batch, build.tokens, arch.hidden_size
    pairs = b * t * moe.top_k
    logits = build.linear("router", x, moe.n_experts, bias=moe.router_bias, plain=True)
    routes = build.tensor("routes", b, t, 2 * moe.top_k, format="fp32")
    build.add("route", "elementwise", [logits], routes, flops=ROUTING_FLOPS * b * t * moe.n_experts)
    x = build.operand(x)
    rows = build.tensor("dispatched", pairs, width, format=build.tensors[x].format)
    build.add("dispatch", "elementwise", [x, routes], rows, flops=0)
    if arch.gated and not run.fused:
        gate = _grouped(build, moe, "experts_gate", rows, moe.intermediate_size)
        up = _grouped(build, moe, "experts_up", rows, moe.intermediate_size)
        inner = _activate(build, "experts_activation", [gate, up])
    else:
        ups = 2 if arch.gated else 1
        up = _grouped(build, moe, "experts_gate_up" if arch.gated else "experts_up", rows, ups * moe.intermediate_size)
        inner = _activate(build, "experts_activation", [up])
    down = _grouped(build, moe, "experts_down", inner, width)
    inputs, flops = [down, routes], 2 * pairs * width
    if moe.shared_size:
        shared = dense(build, "shared_", x, moe.shared_size, bias=False)
        inputs.append(shared)
        flops += b * t * width
        if moe.shared_gate:
            inputs.append(build.linear("shared_gate", x, 1, plain=True))
            flops += b * t * width
    out = build.tensor("experts.out", b, t, width)
    return build.add("combine", "elementwise", inputs, out, flops=flops)


def _grouped(build: Builder, moe: Experts, name: str, x: str, width: int) -> str:
    """Rows (P, K) over the matrices of the experts they go to."""
    x = build.operand(x)
    pairs, k = build.tensors[x].shape
    tokens = pairs // moe.top_k
    active = active_experts(moe, tokens)
    weight = build.tensor(f"{name}.weight", active, k, width, constant=True, storage=build.run.formats.weight)
    inputs = [x, weight]
    if moe.bias:
        inputs.append(build.tensor(f"{name}.bias", active, width, constant=True))
    out = build.tensor(f"{name}.out", pairs, width)
    return build.add(
        name, "matmul", inputs, out, grouped=True, experts=moe.n_experts, imbalance=moe.imbalance, tokens=tokens,
        width=moe.intermediate_size,
    )  # fmt: skip
