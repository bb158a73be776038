"""What the command asks: names and numbers as typed, checked and turned into estimates, one a device."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, prod
from typing import TYPE_CHECKING

from systolith_model.formats import Formats
from systolith_sim.devices.device import Device
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.engine import NONE, default_engine, find_engine
from systolith_sim.estimate.generate import Estimate, estimate
from systolith_sim.estimate.models import Model, find_model
from systolith_sim.estimate.module import check_layout, estimate_module, trace
from systolith_sim.estimate.module_file import load_module, names_module
from systolith_sim.estimate.onnx_file import NAMED, check_sizes, load_onnx, names_onnx, onnx_pass
from systolith_sim.estimate.recipe import find_recipe
from systolith_sim.estimate.request import Request
from systolith_sim.estimate.search import OBJECTIVES, Bounds, best_layout
from systolith_sim.estimate.served import estimate_served
from systolith_sim.estimate.site import Site, at_site
from systolith_sim.estimate.training import estimate_training
from systolith_sim.parallel.layout import Layout, recompute_of

if TYPE_CHECKING:
    from systolith_model.workload.traced.result import ModuleGraph


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Options of ``systolith estimate``; see its help.

    Raises
    ------
    ValueError
        If one is out of range, or counts only beside another that was not given.
    """

    model: str
    on: tuple[str, ...]
    devices: int | None = None
    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    ep: int | None = None
    batch: int = 1
    prompt: int = 512
    generate: int = 128
    format: str | None = None
    engine: str | None = None
    train: bool = False
    closed_loop: bool = False
    search: bool = False
    objective: str = "latency"
    max_latency: float | None = None
    max_price: float | None = None
    max_memory_gb: float | None = None
    recompute: str = "none"
    micro_batch: int | None = None
    interleave: int = 1
    zero: int = 0
    grid: float | None = None
    pue: float | None = None
    electricity: float | None = None

    @property
    def site(self) -> Site:
        """Where the machines stand."""
        return Site(pue=self.pue, electricity=self.electricity, grid=self.grid)

    def __post_init__(self) -> None:
        for name in ("devices", "tp", "pp", "dp", "ep", "micro_batch"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name} must be >= 1, not {count}")
        for name in ("max_latency", "max_price", "max_memory_gb"):
            bound = getattr(self, name)
            if bound is not None and not 0 < bound < inf:
                raise ValueError(f"{name} must be above 0 and finite, not {bound:g}")
            if bound is not None and not self.search:
                raise ValueError(f"{name} must not be given without search, not {bound:g}")
        for name in ("recompute", "micro_batch", "interleave", "zero"):
            if not self.train and getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"{name} must not be given without train, not {getattr(self, name)}")
        _ = self.site  # is checked as it is made
        if self.train and self.closed_loop:
            raise ValueError("train must not be given with closed-loop")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {self.objective!r}")


def answer(ask: Ask) -> list[Estimate]:
    """One estimate a device, in the order asked.

    Raises
    ------
    ValueError
        In one sentence: names the option or file, what was given and what is allowed.
    """
    if names_module(ask.model):
        return [at_site(one, ask.site) for one in _module_answers(ask)]
    if names_onnx(ask.model):
        return [at_site(one, ask.site) for one in _onnx_answers(ask)]
    model = find_model(ask.model)
    request = Request(batch=ask.batch, prompt=ask.prompt, generate=ask.generate)
    bounds = Bounds(latency_s=ask.max_latency, price_usd=ask.max_price, memory_gb=ask.max_memory_gb)
    return [_answer(ask, model, request, bounds, find_device(name.strip())) for name in ask.on]


def formats_of(device: Device, text: str | None) -> Formats:
    """The formats asked for; unless told, bf16, or int8 throughout on a device that computes nothing wider.

    Raises
    ------
    ValueError
        If a part is no format.
    """
    if text is not None and device.kind != "fpga":
        return Formats.parse(text)
    if device.kind == "fpga" and text in (None, "int8"):  # its core keeps the residual stream in int8 too
        return Formats.plain("int8")
    return Formats.parse(text or "bf16")


SIZED = ("batch", "prompt", "generate", "closed_loop", "search", "objective", "recompute", "micro_batch", "interleave",
         "zero")  # fmt: skip
"""Options that a module has no use for: its inputs are as they are."""


def _module_answers(ask: Ask) -> list[Estimate]:
    """Estimates of a module's pass."""
    _refuse(ask, SIZED, "a module, which runs on its own inputs")
    layout, devices = _replicas(ask, "a module")
    loaded = load_module(ask.model)
    return _pass_answers(ask, layout, devices, lambda formats: trace(loaded, formats, train=ask.train))


def _onnx_answers(ask: Ask) -> list[Estimate]:
    """Estimates of an ONNX file's pass; replicas share the batch."""
    unused = ("train", *(name for name in SIZED if name not in NAMED))
    _refuse(ask, unused, "an ONNX file, which is one pass of inference")
    layout, devices = _replicas(ask, "an ONNX file")
    file = load_onnx(ask.model)
    check_sizes(file, {name: getattr(ask, name) for name in NAMED if getattr(ask, name) != getattr(Ask, name)})
    batch = -(-ask.batch // layout.dp)
    return _pass_answers(
        ask, layout, devices, lambda formats: onnx_pass(file, formats, batch=batch, prompt=ask.prompt)
    )


def _refuse(ask: Ask, names: tuple[str, ...], what: str) -> None:
    """Refuse options that a pass has no use for."""
    for name in names:
        if getattr(ask, name) != getattr(type(ask), name):
            raise ValueError(f"{name} must not be given for {what}, not {getattr(ask, name)}")


def _replicas(ask: Ask, what: str) -> tuple[Layout, list[Device]]:
    if ask.engine not in (None, NONE):
        raise ValueError(f"engine must be none for {what}, whose kernels run one by one, not {ask.engine!r}")
    dp = ask.dp or ask.devices or 1
    layout = Layout(tp=ask.tp or 1, pp=ask.pp or 1, dp=dp, ep=ask.ep or 1)
    check_layout(layout, ask.devices or dp, what)
    return layout, [find_device(name.strip()) for name in ask.on]


def _pass_answers(
    ask: Ask, layout: Layout, devices: list[Device], traced_in: "Callable[[Formats | None], ModuleGraph]"
) -> list[Estimate]:
    """One estimate a device; traced once for each format."""
    found = list[Estimate]()
    traced: dict[Formats | None, ModuleGraph] = {}
    for device in devices:
        own = ask.format is None and device.kind != "fpga"
        formats = None if own else formats_of(device, ask.format)
        if formats not in traced:
            traced[formats] = traced_in(formats)
        found.append(estimate_module(ask.model, traced[formats], device, layout))
    return found


def _answer(ask: Ask, model: Model, request: Request, bounds: Bounds, device: Device) -> Estimate:
    request = replace(request, formats=formats_of(device, ask.format))

    def evaluate(layout: Layout) -> Estimate:
        return at_site(alone(layout), ask.site)

    def alone(layout: Layout) -> Estimate:
        if ask.train:
            return estimate_training(ask.model, model, device, request, layout, find_recipe(ask.engine))
        engine = find_engine(ask.engine or default_engine(device))
        say = estimate_served if ask.closed_loop else estimate
        return say(ask.model, model, device, request, layout, engine)

    if ask.search:
        if ask.devices is None:
            raise ValueError("devices must be given for a search")
        return best_layout(evaluate, model, ask.devices, request.batch, bounds, ask.objective, _base(ask))
    return evaluate(layout_of(ask, model))


def _base(ask: Ask) -> Layout:
    """What of a layout is not a degree."""
    interleave = ask.interleave
    return Layout(
        pp=max(2, interleave) if interleave > 1 else 1,
        micro_batch=ask.micro_batch,
        interleave=interleave,
        schedule="interleaved" if interleave > 1 else "1f1b",
        zero=ask.zero,
        recompute=recompute_of(ask.recompute),
        sequence=ask.train,
    )


def layout_of(ask: Ask, model: Model) -> Layout:
    """The layout asked for; devices left over make replicas, without any degree first one tensor parallel group.

    Raises
    ------
    ValueError
        If the degrees do not make the devices, or do not split the model.
    """
    degrees = {"tp": ask.tp, "pp": ask.pp, "dp": ask.dp}
    given = {name: degree for name, degree in degrees.items() if degree is not None}
    devices = prod(given.values()) if ask.devices is None else ask.devices
    if not given:
        given["tp"] = max(size for size in range(1, devices + 1) if devices % size == 0 and model.n_heads % size == 0)
    if ask.dp is None and devices % prod(given.values()) == 0:
        given["dp"] = devices // prod(given.values())
    base = _base(ask)
    layout = Layout(
        tp=given.get("tp", 1), pp=given.get("pp", 1), dp=given.get("dp", 1), ep=ask.ep or 1,
        micro_batch=base.micro_batch, interleave=base.interleave, schedule=base.schedule, zero=base.zero,
        recompute=base.recompute, sequence=base.sequence and given.get("tp", 1) > 1,
    )  # fmt: skip
    if layout.devices != devices:
        raise ValueError(f"tp x pp x dp must be the {devices} devices, not {layout.tp} x {layout.pp} x {layout.dp}")
    layout.check(model)
    return layout
