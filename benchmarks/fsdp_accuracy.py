"""How far training estimates with ZeRO stage 3 are from the FSDP runs that MosaicML published.

    python benchmarks/fsdp_accuracy.py --table scripts/train/benchmarking/README.md [--gpu a100_80gb] [--tokens 2048]

``--table`` is that file of mosaicml/llm-foundry (read at commits 300cc5c and 8c8dd48): models, GPUs, micro-batches,
tokens a second. Sizes of the models are those of its scripts/train/yamls/pretrain. Nothing is fitted to these rows.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from systolith_model.architecture import Architecture
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.models import Model
from systolith_sim.estimate.recipe import find_recipe
from systolith_sim.estimate.request import Request
from systolith_sim.estimate.training import TrainingStep
from systolith_sim.parallel.layout import Layout

SIZES = {
    # width, layers, heads
    "125m": (768, 12, 12), "350m": (1024, 24, 16), "760m": (1536, 24, 12), "1b": (2048, 24, 16), "3b": (2560, 32, 20),
    "7b": (4096, 32, 32), "13b": (5120, 40, 40), "30b": (7168, 48, 56), "70b": (8192, 80, 64),
}  # fmt: skip
DEVICES = {"a100_80gb": "a100-80", "a100_40gb": "a100-40", "h100_80gb": "h100-sxm"}
FIRST = ("model", "tokens", "gpus", "gpu", "mfu", "hfu")
LAST = ("micro", "accumulated", "batch", "sequences_s", "tokens_s", "rate", "batch_tokens", "precision", "mode",
        "sharding", "recomputes", "offload", "parameters")  # fmt: skip
"""Columns; later tables have another between them."""


@dataclass(frozen=True)
class Row:
    """One row of the table; ``rate`` is tokens a second and GPU."""

    model: str
    tokens: int
    gpus: int
    gpu: str
    micro: int
    batch: int
    rate: float
    pure: bool
    recomputes: bool

    def predicted(self) -> float:
        """Tokens a second and GPU."""
        recipe = find_recipe("flash")
        if self.pure:  # gradients are reduced in bf16, else in fp32
            recipe = replace(recipe, gradient_format="bf16")
        layout = Layout(
            dp=self.gpus, zero=3, micro_batch=self.micro, recompute="full" if self.recomputes else "none"
        )
        model = Model(self.model, mpt(self.model, self.tokens))
        request = Request(batch=self.batch, prompt=self.tokens)
        step = TrainingStep(find_device(DEVICES[self.gpu]), model, layout, recipe, request)
        return self.batch * self.tokens / step.whole()[1].seconds / self.gpus


def mpt(name: str, tokens: int) -> Architecture:
    """One of MosaicML's MPT models: 50,368 entries, learned positions, biases."""
    width, layers, heads = SIZES[name]
    return Architecture(
        vocab_size=50368, hidden_size=width, n_layers=layers, n_heads=heads, n_kv_heads=heads, head_dim=width // heads,
        intermediate_size=4 * width, max_positions=tokens, norm="layernorm", activation="gelu", gated=False,
        position="learned", learned_positions=tokens, tied_embeddings=True, bias_qkv=True, bias_out=True, bias_mlp=True,
    )  # fmt: skip


def rows(table: Path) -> Iterator[Row]:
    """Rows in 16-bit formats whose micro-batches fill the batch."""
    for line in table.read_text().splitlines():
        values = [cell.strip() for cell in line.strip().strip("|").split("|")]
        cells = {**dict(zip(FIRST, values, strict=False)), **dict(zip(LAST, values[-len(LAST) :], strict=False))}
        if cells.get("gpu") not in DEVICES or "fp8" in cells["precision"]:
            continue
        row = Row(
            cells["model"], int(cells["tokens"]), int(cells["gpus"]), cells["gpu"], int(cells["micro"]),
            int(cells["batch"]), float(cells["rate"]), cells["mode"] == "PURE", cells["recomputes"] == "True",
        )  # fmt: skip
        if row.batch == row.micro * int(cells["accumulated"]) * row.gpus:
            yield row


def main() -> None:
    """Print each row with its error, and errors by model and recomputation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--gpu", choices=DEVICES, default="a100_80gb")
    parser.add_argument("--tokens", type=int, default=2048, help="longest sequence that is looked at")
    options = parser.parse_args()
    found: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for row in rows(options.table):
        if row.gpu == options.gpu and row.tokens <= options.tokens:
            error = row.rate / row.predicted() - 1
            found[row.model, row.recomputes].append(error)
            again = "recomputed" if row.recomputes else ""
            print(f"{row.model:>5} {row.tokens:6} tokens {row.gpus:4} GPUs x {row.micro:3} {error:+7.1%} {again}")
    for (model, recomputes), errors in found.items():
        low, high = min(errors), max(errors)
        print(f"{model:>5} {'with' if recomputes else 'without'} recomputation: {len(errors)} rows, time "
              f"{low:+.1%} to {high:+.1%}, mean {np.mean(errors):+.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
