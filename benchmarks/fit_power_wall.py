"""Floors of the power of small machines, from their power at the wall while llama.cpp decodes.

    python benchmarks/fit_power_wall.py --data DIR            print floors and errors
    python benchmarks/fit_power_wall.py --data DIR --write    and put them into the machines' files

Rows: geerlingguy/ai-benchmarks@bdf94413 (MIT), 4-bit weights, one sequence. The highest reading of a run is given, so
what comes out is a floor near the top; bytes and operations keep the figures of the file, which these rows do not
tell apart. A card in a Raspberry Pi is read through a supply and its host, which are taken off.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accuracy_tables.unfitted import BOARD_FORMAT, BOARD_MODELS, BOARDS, SYSTEMS
from fit_engines import mape
from fit_files import restate
from fitting import arguments
from systolith_model.formats import Formats
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.engine import find_engine
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.replica import Replica
from systolith_sim.parallel.layout import Layout

FORMATS = Formats.parse(BOARD_FORMAT)
PROMPT, DONE = 32, 128
"""Tokens before a step in the middle of a run; at these lengths the cache is a small part of the bytes."""
AROUND = {"rtx-4090": (12.0, 0.9)}
"""Watts of the host beside the device (the limit of a Raspberry Pi 5), share of the wall's power behind the supply
(declared, a good one at half load)."""
SOURCE = (
    "highest power at the wall while llama.cpp decodes, geerlingguy/ai-benchmarks@bdf94413, less bytes and "
    "operations, by benchmarks/fit_power_wall.py"
)


@dataclass(frozen=True)
class Row:
    """One run: watts of the machine, and of the bytes and operations in it."""

    device: str
    model: str
    watts: float
    moved_w: float


def rows(data: Path) -> list[Row]:
    """Runs on machines that have a file."""
    found = []
    with (data / BOARDS).open() as file:
        for row in csv.DictReader(file):
            name, model = SYSTEMS.get(row["system"]), BOARD_MODELS.get(row["model"])
            if name is not None and model is not None and row["peak_wall_power_w"]:
                host_w, share = AROUND.get(name, (0.0, 1.0))
                watts = share * float(row["peak_wall_power_w"]) - host_w
                found.append(Row(name, model, watts, moved_w(name, model, float(row["eval_tokens_per_s"]))))
    return found


def moved_w(name: str, model: str, tokens_per_s: float) -> float:
    """Watts of bytes and operations at a measured rate."""
    device = find_device(name)
    replica = Replica(device, find_model(model), Layout(), find_engine("none"), FORMATS)
    work, per_byte = replica.work(batch=1, prompt=PROMPT, done=DONE), device.main_memory.energy_j_per_byte
    assert per_byte is not None  # the files of SYSTEMS state it
    operations_j = sum(
        kernel.count * (kernel.time.flops + kernel.time.padding_flops) * device.op_energy_j[kernel.time.format].value
        for kernel in work.kernels
    )
    return tokens_per_s * (work.bytes * per_byte.value + operations_j)


def main() -> None:
    """Fit, score, print, and with ``--write`` update the files."""
    chosen = arguments(__doc__, write="update the machines' files")
    every = rows(chosen.data)
    for name in sorted({row.device for row in every}):
        own = [row for row in every if row.device == name]
        floors = np.array([row.watts - row.moved_w for row in own])
        ratios = []
        for row in own:
            others = [one.watts - one.moved_w for one in own if one.model != row.model]
            ratios.append((np.median(others) + row.moved_w) / row.watts)
        floor, limit = float(np.median(floors)), find_device(name).power
        print(f"{name:15} floor {floor:.3g} W ({floors.min():.3g} .. {floors.max():.3g}), {len(own)} rows; another "
              f"model's wall power {mape(np.array(ratios)):.1%}")  # fmt: skip
        if chosen.write:
            low = limit.idle_w.value if limit.idle_w is not None else 0.0
            figure = Datum(
                value=float(f"{floor:.3g}"), low=low, high=float(f"{floors.max():.4g}"), source="wallpower",
                confidence="derived", note="from the highest reading of each run; low end without work",
            )  # fmt: skip
            restate(find_device(name), {"wallpower": SOURCE}, power=limit.model_copy(update={"active_w": figure}))


if __name__ == "__main__":
    main()
