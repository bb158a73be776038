"""`module_graph`: one forward pass, or a training step, of any torch module as a Graph."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from systolith_model.formats import Format, Formats
from systolith_model.graph import Graph
from systolith_model.workload.module.fused import fused_functions
from systolith_model.workload.module.products import PRODUCT_RULES, RESULTS
from systolith_model.workload.module.recorder import FORMATS, Recorder
from systolith_model.workload.module.rules import RULES, fallback
from systolith_model.workload.module.stand_in import DEVICE, StandIns, held_tensors, stand_ins
from systolith_model.workload.traced.collapse import collapsed
from systolith_model.workload.traced.named import graph_of
from systolith_model.workload.traced.result import ModuleGraph, matrices_of
from systolith_model.workload.training import OPTIMIZER_STATES, Optimizer, check_choices, optimizer_step

CASTS: Mapping[Format, torch.dtype] = {
    "fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16,
}  # fmt: skip
"""Formats that a module runs in itself; others are put on its graph."""


def module_graph(
    module: nn.Module,
    *args: Any,
    formats: Formats | None = None,
    train: bool = False,
    optimizer: Optimizer = "adam",
    **kwargs: Any,
) -> ModuleGraph:
    """What ``module(*args, **kwargs)`` computes.

    A copy of the module runs once on tensors without data, so its size does not matter, nor the devices of its
    parameters (meta included), and module and inputs stay as they are. It runs in evaluation mode without
    gradients, or with ``train`` in training mode; then a result that is one number is the loss, in its first
    result or its ``loss``, and where there is none the gradients of the results are taken as given.

    Kernels are those of eager torch on a GPU: attention and RMS norm of ``torch.nn.functional`` in one kernel,
    everything else operation by operation; views are free. Parameters and buffers, also seen through views, are
    constants. Tensors inside objects among the inputs are caches. A convolution is the product of its patches.

    Parameters
    ----------
    formats : Formats, optional
        The module's own unless given. A stream of fp32, tf32, bf16 or fp16 has a copy in it run; constant matrices
        of products, their inputs and caches may be narrower.
    train : bool
        A step of forward, backward and optimizer.
    optimizer : {"adam", "sgd", "momentum"}
        As in `training_graph`; with master weights of fp32 where the parameters are narrower.

    Raises
    ------
    ValueError
        In one sentence: if the module reads values of tensors while it runs, fails, cannot be copied, or computes
        products in a format that a Graph does not have.
    """
    check_choices(optimizer, "none")
    own = _own_format(module, (args, kwargs))
    cast = None if formats is None else CASTS.get(formats.residual)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    parts = stand_ins(getattr(module, "_orig_mod", module), args, kwargs, mode=mode, dtype=cast)
    rec = Recorder(parts.module, {**RULES, **PRODUCT_RULES}, fallback, RESULTS)
    _name_outside(rec, parts)
    _run(rec, parts, mode, train=train)
    made = own if cast is None else FORMATS[cast][0]
    peak, matrices, cache = rec.peak_bytes, matrices_of(rec.values, rec.steps, made), _cache_bytes(rec, parts)
    steps = collapsed(rec.values, rec.steps)
    name = f"{type(parts.module).__name__}{'-train' if train else ''}"
    graph = graph_of(name, rec.values, steps)
    trained = sum(tensor.numel() for tensor in parts.parameters.values() if tensor.requires_grad)
    if train:
        graph = _with_optimizer(graph, trained, optimizer, made)
    found = ModuleGraph(
        graph=graph, own=made, formats=Formats.plain(made), training=train, trained=trained,
        parameters=sum(tensor.numel() for tensor in parts.parameters.values()),
        parameter_bytes=_bytes(parts.parameters), own_bytes=_own_bytes(parts, made),
        buffer_bytes=_bytes(parts.buffers), cache_bytes=cache,
        activation_bytes=peak, state_bytes=_state_bytes(trained, optimizer, made) if train else 0, matrices=matrices,
        tokens=_tokens(parts), approximated=dict(rec.approximated),
    )  # fmt: skip
    return found if formats is None else found.with_formats(formats)


def _own_format(module: nn.Module, inputs: object) -> Format:
    """The floating format that most bytes of the parameters have; of the inputs where there are none."""
    sizes: Counter[Format] = Counter()
    for tensors in (list(module.parameters()), list(held_tensors(inputs))):
        for tensor in tensors:
            if tensor.is_floating_point() and tensor.dtype in FORMATS:
                sizes[FORMATS[tensor.dtype][0]] += tensor.numel() * tensor.element_size()
        if sizes:
            break
    return max(sizes, key=lambda name: sizes[name]) if sizes else "fp32"


def _name_outside(rec: Recorder, parts: StandIns) -> None:
    for name, tensor in (*parts.parameters.items(), *parts.buffers.items()):
        rec.outside(name, tensor, constant=True)
    for name, tensor in parts.caches.items():
        rec.outside(name, tensor, cache=True)
    for name, tensor in parts.inputs.items():
        rec.outside(name, tensor)


def _run(rec: Recorder, parts: StandIns, mode: FakeTensorMode, *, train: bool) -> None:
    """The pass on stand-ins, with every operation noted."""
    parts.module.train(train)
    with ExitStack() as stack:
        stack.enter_context(mode)
        stack.enter_context(torch.enable_grad() if train else torch.no_grad())
        stack.enter_context(_quiet())
        stack.enter_context(rec)
        stack.enter_context(rec.watching())
        stack.enter_context(fused_functions(rec))
        stack.enter_context(torch.device(DEVICE))
        try:
            out = parts.module(*parts.args, **parts.kwargs)
            if train:
                _backward(rec, out)
        except Exception as error:  # whatever a module raises
            raise ValueError(_sentence(error)) from error
    rec.keep_to_the_end(held_tensors(out))
    rec.keep_to_the_end(tensor.grad for tensor in parts.parameters.values() if tensor.grad is not None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log in which stand-ins announce an error before they raise it, and without oneDNN.

    oneDNN's kernels hide what recurrent layers do; its public switch warns where it changes nothing.
    """
    log = logging.getLogger("torch._subclasses.fake_tensor")
    silent, onednn = log.disabled, torch._C._get_mkldnn_enabled()
    log.disabled = True
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        log.disabled = silent
        torch._C._set_mkldnn_enabled(onednn)


def _backward(rec: Recorder, out: Any) -> None:
    loss = getattr(out, "loss", None)
    results = [tensor for tensor in held_tensors(out) if tensor.requires_grad]
    if not isinstance(loss, Tensor):
        loss = next((tensor for tensor in results if tensor.numel() == 1), None)
    if loss is not None:
        loss.backward()
        return
    if not results:
        raise ValueError("a result must depend on parameters with a gradient")
    given = [torch.empty_like(tensor) for tensor in results]
    torch.autograd.backward(results, given)


def _sentence(error: Exception) -> str:
    """What was wrong with the pass, in one sentence."""
    words = " ".join(str(error).split())
    kind = type(error).__name__
    if kind in ("DataDependentOutputException", "DynamicOutputShapeException", "GuardOnDataDependentSymNode"):
        return f"module must not depend on values of tensors, which {words.rstrip('.')} reads"
    return f"module must run on its inputs: {kind}: {words[:300]}"


def _cache_bytes(rec: Recorder, parts: StandIns) -> int:
    """Bytes of caches: those given, or those made of them where they have grown."""
    given = sum(tensor.untyped_storage().nbytes() for tensor in parts.caches.values())
    grown = sum(
        storage.bytes for storage in rec.storages.values() if rec.values[storage.value].cache and storage.born
    )
    return max(given, grown)


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _own_bytes(parts: StandIns, own: Format) -> int:
    """Bytes of the parameters in a format."""
    return _bytes({
        name: tensor for name, tensor in parts.parameters.items()
        if tensor.is_floating_point() and FORMATS[tensor.dtype][0] == own
    })  # fmt: skip


def _tokens(parts: StandIns) -> int | None:
    integers: Iterator[Tensor] = (
        tensor for tensor in parts.inputs.values() if tensor.dtype in (torch.int64, torch.int32)
    )
    first = next(integers, None)
    return None if first is None else first.numel()


def _with_optimizer(graph: Graph, size: int, optimizer: Optimizer, own: Format) -> Graph:
    if not size:
        return graph
    tensors, step = optimizer_step(
        size, optimizer=optimizer, weight_format=own, gradient_format=own, master=own != "fp32"
    )
    return replace(graph, tensors={**graph.tensors, **tensors}, operations=(*graph.operations, step))


def _state_bytes(trained: int, optimizer: Optimizer, own: Format) -> int:
    """States and master weights in fp32."""
    return trained * 4 * (OPTIMIZER_STATES[optimizer] + (own != "fp32"))
