"""The graph of a training step: forward, backward, optimizer."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Literal, get_args

from systolith_model.architecture import Architecture
from systolith_model.formats import Format, Formats
from systolith_model.graph import Graph, Kind, Operation, Tensor, flops
from systolith_model.parameters import parameter_count
from systolith_model.workload.builder import Builder, Run
from systolith_model.workload.inference import check_sizes, forward

Attribute = int | float | bool | str
Optimizer = Literal["adam", "sgd", "momentum"]
Recompute = Literal["none", "selective", "full"]

# Operations a parameter. Adam: two moments (3 + 4), bias corrections (2), root, sum, division, step, decay (2).
OPTIMIZER_FLOPS = {"adam": 14, "sgd": 2, "momentum": 4}
OPTIMIZER_STATES = {"adam": 2, "sgd": 0, "momentum": 1}
LOSS_FLOPS = 5  # maximum, difference, exponential, sum, logarithm's share, each logit
GROUPING = ("grouped", "experts", "imbalance", "tokens", "width")
BACKWARD_FACTOR = 2  # of norms and elementwise operations, as for products: one gradient an input and a weight


def training_graph(
    architecture: Architecture,
    *,
    tokens: int,
    batch: int = 1,
    source: int = 0,
    formats: Formats | None = None,
    optimizer: Optimizer = "adam",
    recompute: Recompute = "none",
    flash: bool = True,
    gradient_format: Format = "fp32",
    master_weights: bool = True,
) -> Graph:
    """One step on ``batch`` sequences of ``tokens``: forward, loss, backward, optimizer.

    Each product has two in the backward pass, for the gradient of its input (``.dx``) and of its weight
    (``.dw``), and a sum over its rows for that of its bias (``.db``). With ``recompute`` "selective" attention runs
    once more, with "full" every layer does.

    Parameters
    ----------
    source : int
        Tokens of the encoder of an encoder-decoder.
    optimizer : {"adam", "sgd", "momentum"}
        One state of fp32 a parameter with momentum, two with Adam.
    flash : bool
        Attention's backward pass computes the scores again instead of reading them.
    gradient_format : str
        Of accumulated gradients of weights.
    master_weights : bool
        Whether the optimizer keeps an fp32 copy of the weights.

    Raises
    ------
    ValueError
        If a size or a choice is outside what is allowed.
    """
    check_choices(optimizer, recompute)
    check_sizes(architecture, tokens=tokens, batch=batch, source=source)
    run = Run(batch=batch, tokens=tokens, source=source, formats=formats or Formats(), caching=False)
    build = Builder(architecture, run)
    forward(build, all_logits=True)
    ahead = tuple(build.operations)
    build.enter(None, tokens=tokens)
    logits = _loss(build)
    again = _recomputed(ahead, recompute)
    build.operations += [replace(operation, name=f"recompute.{operation.name}") for operation in again]
    backward = _Backward(build, gradient_format, flash)
    if logits:
        backward.gradient(logits)
    for operation in reversed(ahead):
        build.operations += backward.of(operation)
    tensors, step = optimizer_step(
        parameter_count(architecture), optimizer=optimizer, weight_format=run.formats.weight.format,
        gradient_format=gradient_format, master=master_weights,
    )  # fmt: skip
    build.tensors.update(tensors)
    build.operations.append(step)
    size = f"{architecture.n_layers}x{architecture.hidden_size}"
    return build.graph(f"train-{architecture.kind}-{size}-b{batch}-t{tokens}-{run.formats}-{optimizer}")


def check_choices(optimizer: str, recompute: str) -> None:
    """Refuse an optimizer or a recomputation that is none.

    Raises
    ------
    ValueError
        In one sentence.
    """
    for name, value, allowed in (
        ("optimizer", optimizer, get_args(Optimizer)),
        ("recompute", recompute, get_args(Recompute)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def _recomputed(ahead: tuple[Operation, ...], recompute: Recompute) -> Iterator[Operation]:
    for operation in ahead:
        if "." not in operation.name:  # outside of layers
            continue
        if recompute == "full" or (recompute == "selective" and operation.kind == "attention"):
            yield operation


def _loss(build: Builder) -> str | None:
    """Cross entropy over the logits, where there are any."""
    if not build.architecture.head:
        return None
    logits = build.operations[-1].outputs[0]
    *lead, classes = build.tensors[logits].shape
    labels = build.tensor("labels", *lead, format="int32")
    out = build.tensor("loss", *lead, format="fp32")
    size = build.tensors[logits].elements
    build.add("loss", "elementwise", [logits, labels], out, flops=LOSS_FLOPS * size)
    gradient = build.tensor(f"d.{logits}", *lead, classes)
    build.add("backward.loss", "elementwise", [logits, labels, out], gradient, flops=2 * size)
    return logits


class _Backward:
    """Backward operations, from the last forward operation to the first."""

    def __init__(self, build: Builder, gradient_format: Format, flash: bool) -> None:
        self.build, self.flash = build, flash
        self.gradient_format: Format = gradient_format
        self.tensors = build.tensors
        self.produced = {name for operation in build.operations for name in operation.outputs}

    def gradient(self, name: str) -> str:
        """The gradient of a tensor: like it, but of a weight in the format that gradients accumulate in."""
        tensor, named = self.tensors[name], f"d.{name}"
        if named not in self.tensors:
            format = self.gradient_format if tensor.constant else self.build.run.formats.residual
            self.tensors[named] = Tensor(name=named, shape=tensor.shape, format=format)
        return named

    def of(self, operation: Operation) -> list[Operation]:
        """The backward operations of one forward operation."""
        if operation.kind == "matmul":
            return self._matmul(operation)
        outputs = [self.gradient(name) for name in operation.outputs]
        if operation.kind == "embedding":
            rows = replace(self.tensors[outputs[0]], name=f"{outputs[0]}.rows", format=self.gradient_format)
            self.tensors[rows.name] = rows
            return [_made(operation, "", "elementwise", outputs, [rows.name], {"flops": rows.elements})]
        inputs = [name for name in operation.inputs if self._moving(name)]
        grads = [self.gradient(name) for name in inputs]
        if not grads:
            return []
        if operation.kind == "attention":
            how: dict[str, Attribute] = {**operation.attributes, "backward": True}
            if not self.flash:
                how["scores_kept"] = True
            return [_made(operation, "", "attention", (*operation.inputs, *outputs), grads, how)]
        work = BACKWARD_FACTOR * flops(Graph(name="", tensors=self.tensors, operations=()), operation)
        return [_made(operation, "", operation.kind, (*operation.inputs, *outputs), grads, {"flops": work})]

    def _moving(self, name: str) -> bool:
        """Whether a tensor has a gradient: weights, and what an operation has made in floating point."""
        tensor = self.tensors[name]
        return tensor.format != "int32" and (tensor.constant or name in self.produced)

    def _matmul(self, operation: Operation) -> list[Operation]:
        a, w = operation.inputs[:2]
        kept = {key: value for key, value in operation.attributes.items() if key in GROUPING}
        out = self._plain_gradient(operation)
        tied = operation.attributes.get("transposed") == "w"
        pair = (out, a) if tied else (a, out)
        made = [_made(operation, ".dw", "matmul", pair, [self.gradient(w)], {**kept, "transposed": "a"})]
        if self._moving(a):
            how = kept if tied else {**kept, "transposed": "w"}
            made.insert(0, _made(operation, ".dx", "matmul", (out, w), [self.gradient(a)], how))
        for bias in operation.inputs[2:]:
            if self.tensors[bias].constant:
                work = {"flops": self.tensors[out].elements}
                made.append(_made(operation, ".db", "elementwise", (out,), [self.gradient(bias)], work))
        return made

    def _plain_gradient(self, operation: Operation) -> str:
        """The gradient of a product's output, by rows where the output stands by heads."""
        heads = operation.attributes.get("heads")
        gradient = self.gradient(operation.outputs[0])
        if not heads:
            return gradient
        b, h, t, size = self.tensors[gradient].shape
        name = f"{gradient}.rows"
        self.tensors[name] = replace(self.tensors[gradient], name=name, shape=(b, t, h * size))
        return name


def _made(
    operation: Operation,
    part: str,
    kind: Kind,
    inputs: Iterable[str],
    outputs: Iterable[str],
    attributes: Mapping[str, Attribute],
) -> Operation:
    """A backward operation of a forward one."""
    return replace(
        operation,
        name=f"backward.{operation.name}{part}",
        kind=kind,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        attributes=attributes,
    )


def optimizer_step(
    size: int, *, optimizer: Optimizer, weight_format: Format, gradient_format: Format, master: bool
) -> tuple[dict[str, Tensor], Operation]:
    """One pass over ``size`` parameters, their gradients and states: its tensors by name, and the operation."""
    tensors: dict[str, Tensor] = {}

    def tensor(name: str, format: Format) -> str:
        tensors[name] = Tensor(name=name, shape=(size,), format=format)
        return name

    written = [tensor("weights_next", weight_format)]
    reads = [tensor("gradients", gradient_format)]
    if master:
        reads.append(tensor("master_weights", "fp32"))
    reads += [tensor(f"state_{state}", "fp32") for state in range(OPTIMIZER_STATES[optimizer])]
    # What is read and written counts twice, so the written one has a name of its own.
    written += [tensor(f"{name}_next", "fp32") for name in reads[1:]]
    if not master:
        reads.append(tensor("weights", weight_format))
    operation = Operation(
        name=f"optimizer.{optimizer}", kind="elementwise", inputs=tuple(reads), outputs=tuple(written),
        attributes={"flops": OPTIMIZER_FLOPS[optimizer] * size},
    )  # fmt: skip
    return tensors, operation
