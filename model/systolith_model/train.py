"""Train the small language model of the zoo: ``python -m systolith_model.train --out DIR --data FILE``.

Minutes on two cores. A run is seeded, can be interrupted at any time, and goes on from its last saved state;
the batch of a step depends on the seed and the step alone.
"""

from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from time import process_time
from typing import Annotated

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from systolith_model import checkpoint
from systolith_model.card import card
from systolith_model.config import TransformerConfig
from systolith_model.parameters import parameter_count
from systolith_model.quality import quality
from systolith_model.reference.decoder import Decoder
from systolith_model.text import excerpt, read_chapters, split_chapters, train_tokenizer

SAVE_EVERY = 100
STATE = "training.safetensors"
SHAPE = TransformerConfig(
    vocab_size=1000, hidden_size=128, n_layers=4, n_heads=4, n_kv_heads=2, head_dim=32,
    intermediate_size=268, max_positions=256, tied_embeddings=True,
)  # fmt: skip
SOURCE = {
    "text": "The Holy Bible, King James Version (1611), in Debian's package bible-kjv-text 4.38",
    "licence": "the text is in the public domain; the weights are under this repository's licence",
}
OBTAIN = "apt-get install bible-kjv\nbible -f gen1:1-rev22:21 > kjv.txt"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a training run does, apart from its data."""

    steps: int
    """Optimizer steps."""
    batch: int = 8
    """Sequences a step."""
    context: int = 256
    """Tokens a sequence in training."""
    matrix_rate: float = 0.03
    """Peak learning rate of the layers' matrices. Muon trains them: 0.3 nats ahead of AdamW at step 500."""
    other_rate: float = 6e-3
    """Peak learning rate of the embedding and the norms, which AdamW trains."""
    warmup_steps: int = 100
    """Steps of linear warm-up; then a cosine to a fiftieth of the peak."""
    weight_decay: float = 0.01
    """Of the layers' matrices."""
    seed: int = 1

    def part_of_peak(self, step: int) -> float:
        """Learning rates of a step, counted from 0, over their peaks."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return 0.02 + 0.98 * (1 + cos(pi * done)) / 2


def batch_of(tokens: Tensor, schedule: Schedule, step: int) -> Tensor:
    """Sequences (batch, context + 1) of a step; an epoch passes every window once, from a random offset.

    Raises
    ------
    ValueError
        If the text is shorter than one batch.
    """
    windows = (len(tokens) - 1) // schedule.context - 1
    per_epoch = windows // schedule.batch
    if per_epoch < 1:
        least = (schedule.batch + 1) * schedule.context + 1
        raise ValueError(f"data must have at least {least} tokens, not {len(tokens)}")
    epoch, index = divmod(step, per_epoch)
    generator = torch.Generator().manual_seed(schedule.seed * 1_000_003 + epoch)
    offset = int(torch.randint(schedule.context, (1,), generator=generator))
    order = torch.randperm(windows, generator=generator)
    chosen = order[index * schedule.batch : (index + 1) * schedule.batch]
    starts = offset + chosen * schedule.context  # (batch,)
    return tokens[starts[:, None] + torch.arange(schedule.context + 1)]


def initialize(model: Decoder, *, seed: int) -> None:
    """Random weights: unit gain for matrices, less for those that write into the residual stream."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            nn.init.ones_(weight)
            continue
        gain = 0.3 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
        deviation = 0.02 if "embed_tokens" in name else gain / weight.shape[1] ** 0.5
        nn.init.normal_(weight, std=deviation, generator=generator)


class Trainer:
    """A model, its optimizer and the steps done; ``save`` and ``resume`` keep all three.

    Parameters
    ----------
    model : Decoder
        Initialized from the schedule's seed here.
    schedule : Schedule
        What to do.
    """

    def __init__(self, model: Decoder, schedule: Schedule) -> None:
        self.model, self.schedule, self.step = model, schedule, 0
        initialize(model, seed=schedule.seed)
        matrices, others = [], []
        for name, weight in model.named_parameters():
            (matrices if weight.dim() == 2 and "embed_tokens" not in name else others).append(weight)
        # Muon stands in torch from 2.9 on; only this module needs it.
        muon = torch.optim.Muon(matrices, lr=schedule.matrix_rate, weight_decay=schedule.weight_decay)
        adam = torch.optim.AdamW(others, lr=schedule.other_rate, betas=(0.9, 0.95), weight_decay=0.0)
        self.optimizers = {"muon": (muon, schedule.matrix_rate), "adam": (adam, schedule.other_rate)}

    def advance(self, tokens: Tensor) -> float:
        """One step; returns its loss in nats per token."""
        sequences = batch_of(tokens, self.schedule, self.step)  # (B, T + 1)
        logits = self.model(sequences[:, :-1])  # (B, T, V)
        loss = functional.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten())
        self.model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer, peak in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = peak * self.schedule.part_of_peak(self.step)
            optimizer.step()
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write the state; the old one stays whole until the new one is."""
        tensors = {f"model.{name}": weight.detach() for name, weight in self.model.named_parameters()}
        for kind, (optimizer, _) in self.optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"{kind}.{index}.{name}": value for name, value in state.items()}
        part = path.with_suffix(".part")
        save_file(tensors, part, metadata={"step": str(self.step), "schedule": repr(self.schedule)})
        part.replace(path)

    def resume(self, path: Path) -> None:
        """Take up a saved state.

        Raises
        ------
        ValueError
            If the file is damaged or belongs to another schedule or model.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("schedule") != repr(self.schedule):
                    given = metadata.get("schedule")
                    raise ValueError(f"{path}: must be a state of {self.schedule}, not of {given}")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
        except SafetensorError as error:
            raise ValueError(f"{path}: must be a whole training state, but {error}") from None
        self._restore(path, tensors)
        self.step = int(metadata["step"])

    def _restore(self, path: Path, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                saved = tensors.pop(f"model.{name}", None)
                if saved is None or saved.shape != weight.shape:
                    raise ValueError(f"{path}: must hold {name} of shape {tuple(weight.shape)}")
                weight.copy_(saved)
        for kind, (optimizer, _) in self.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                owner, index, field = name.split(".")
                if owner == kind:
                    state.setdefault(int(index), {})[field] = tensor
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def run(trainer: Trainer, tokens: Tensor, *, state: Path) -> None:
    """All steps that are left, with a progress bar; an interrupt costs at most 100 steps."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("training", total=trainer.schedule.steps, completed=trainer.step)
        while trainer.step < trainer.schedule.steps:
            loss = trainer.advance(tokens)
            progress.update(bar, completed=trainer.step, description=f"loss {loss:.3f}")
            if trainer.step % SAVE_EVERY == 0:
                trainer.save(state)


def write_checkpoint(
    trainer: Trainer, tokenizer: Tokenizer, held_out: str, *, out: Path, facts: dict[str, str]
) -> str:
    """Write checkpoint and card; measure what was stored on the held-out text; the result in words."""
    checkpoint.save(out, trainer.model, tokenizer, dtype=torch.float16)
    stored = checkpoint.load(out)
    tokens = stored.encode(held_out)
    measured = quality(stored.model, tokens, context=stored.config.max_positions)
    bits = measured.bits_per_byte(bytes_per_token=len(held_out.encode()) / len(tokens))
    result = f"{measured.perplexity:.2f} per token, {bits:.3f} bits per byte"
    schedule = trainer.schedule
    facts = facts | {
        "parameters": f"{parameter_count(stored.config):,}, stored as float16",
        "trained on": f"{schedule.steps:,} steps of {schedule.batch} x {schedule.context} tokens",
        "schedule": f"`{schedule}`",
        "processor time": f"{process_time():.0f} s, {torch.get_num_threads()} thread(s)",
        "held-out perplexity": f"{result}; {len(tokens):,} tokens, windows of {stored.config.max_positions}",
    }
    prompt = stored.encode("And the LORD said")
    written = stored.model.generate(prompt, tokens=200, temperature=0.7, seed=schedule.seed)
    sample = stored.decode([*prompt.tolist(), *written])
    command = f"{OBTAIN}\npython -m systolith_model.train --out DIR --data kjv.txt"
    command += f" --steps {schedule.steps} --seed {schedule.seed} --threads {torch.get_num_threads()}"
    (out / "card.md").write_text(
        card(out.name, facts=facts, command=command, sample=sample), encoding="utf-8"
    )
    return result


def main(
    out: Annotated[Path, typer.Option(help="folder of the checkpoint")],
    data: Annotated[Path, typer.Option(help="text, as `bible -f gen1:1-rev22:21` writes it", exists=True)],
    steps: Annotated[int, typer.Option(min=1, help="optimizer steps")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="of weights and batches")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="cores")] = 2,
) -> None:
    """Train the small language model on a text, and write its checkpoint and card."""
    torch.set_num_threads(threads)
    try:
        chapters = read_chapters(data)
        train_text, held_out = split_chapters(chapters)
        tokenizer = train_tokenizer(train_text, vocab_size=SHAPE.vocab_size)
        tokens = torch.tensor(tokenizer.encode(train_text).ids)
        trainer = Trainer(Decoder(SHAPE), Schedule(steps=steps, context=SHAPE.max_positions, seed=seed))
        out.mkdir(parents=True, exist_ok=True)
        if (out / STATE).exists():
            trainer.resume(out / STATE)
        run(trainer, tokens, state=out / STATE)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    facts = SOURCE | {"data": f"{len(chapters):,} chapters, every 20th held out; {len(tokens):,} tokens left"}
    result = write_checkpoint(trainer, tokenizer, held_out, out=out, facts=facts)
    calibration = excerpt(train_text, parts=8, part_bytes=1000)
    (out / "calibration.txt").write_text(calibration, encoding="utf-8")
    (out / "heldout.txt").write_text(excerpt(held_out, parts=8, part_bytes=2000), encoding="utf-8")
    (out / STATE).unlink(missing_ok=True)
    typer.echo(f"held-out perplexity {result}")


if __name__ == "__main__":
    typer.run(main)
