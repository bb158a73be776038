"""Training: batches that cover the text, a falling loss, a run that resumes bit for bit, the command."""

import pytest
import torch
from typer.testing import CliRunner

from systolith_model import checkpoint, train
from systolith_model.config import TransformerConfig
from systolith_model.reference.decoder import Decoder
from systolith_model.train import Schedule, Trainer, batch_of

TINY = TransformerConfig(
    vocab_size=300, hidden_size=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, intermediate_size=20,
    max_positions=32, tied_embeddings=True,
)  # fmt: skip
SCHEDULE = Schedule(steps=6, batch=4, context=16, warmup_steps=2, seed=3)
TOKENS = torch.arange(3000) % 7


def weights(trainer):
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])


def test_an_epoch_passes_every_window_once():
    tokens = torch.arange(1000)
    schedule = Schedule(steps=1, batch=5, context=9, seed=1)
    windows = (len(tokens) - 1) // 9 - 1
    starts = []
    for step in range(windows // 5):
        sequences = batch_of(tokens, schedule, step)
        assert torch.equal(sequences - sequences[:, :1], torch.arange(10).expand(5, 10))
        starts += sequences[:, 0].tolist()
    assert len(set(starts)) == len(starts) == windows // 5 * 5
    assert len({start % 9 for start in starts}) == 1
    assert not torch.equal(batch_of(tokens, schedule, 0), batch_of(tokens, schedule, windows // 5))


def test_rate_rises_then_falls():
    rates = [Schedule(steps=100, warmup_steps=10).part_of_peak(step) for step in range(100)]
    assert rates[:10] == [(step + 1) / 10 for step in range(10)]
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[10] == 1
    assert 0.02 <= rates[-1] < 0.021


def test_loss_falls_on_a_text_that_repeats():
    trainer = Trainer(Decoder(TINY), Schedule(steps=30, batch=4, context=16, warmup_steps=5))
    losses = [trainer.advance(TOKENS) for _ in range(30)]
    assert losses[0] > 5
    assert losses[-1] < losses[0] - 1.5


def test_resumed_run_equals_the_uninterrupted_one(tmp_path):
    whole, first, second = (Trainer(Decoder(TINY), SCHEDULE) for _ in range(3))
    for _ in range(6):
        whole.advance(TOKENS)
    for _ in range(3):
        first.advance(TOKENS)
    first.save(tmp_path / "state.safetensors")
    second.resume(tmp_path / "state.safetensors")
    assert second.step == 3
    for _ in range(3):
        second.advance(TOKENS)
    assert torch.equal(weights(whole), weights(second))


def test_state_of_another_schedule_or_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    trainer = Trainer(Decoder(TINY), SCHEDULE)
    trainer.advance(TOKENS)
    trainer.save(path)
    other = Trainer(Decoder(TINY), Schedule(steps=7))
    with pytest.raises(ValueError, match=r"must be a state of Schedule\(steps=7, .*not of Schedule\(steps=6"):
        other.resume(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="must be a whole training state"):
        trainer.resume(path)


def test_text_shorter_than_a_batch_is_refused():
    with pytest.raises(ValueError, match="data must have at least 81 tokens, not 80"):
        batch_of(torch.zeros(80, dtype=torch.int64), SCHEDULE, 0)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    w = ["light", "darkness", "earth", "waters", "heaven", "firmament", "created", "divided"]
    lines = [
        f"Ge{chapter}:{verse} And the {w[verse % 8]} of the {w[chapter % 8]} was {w[chapter % 7]} {chapter}."
        for chapter in range(1, 41)
        for verse in range(1, 12)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_command_trains_and_writes_checkpoint_and_card(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(train, "SHAPE", TINY)
    app = train.typer.Typer()
    app.command()(train.main)
    arguments = ["--out", str(tmp_path / "tiny"), "--data", str(corpus), "--steps", "4", "--threads", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "held-out perplexity" in result.output
    files = {path.name for path in (tmp_path / "tiny").iterdir()}
    assert files == {
        "config.json", "model.safetensors", "tokenizer.json", "card.md", "calibration.txt", "heldout.txt"
    }  # fmt: skip
    assert checkpoint.load(tmp_path / "tiny").config == TINY
    held_out = (tmp_path / "tiny" / "heldout.txt").read_text().splitlines()
    assert held_out
    assert not set(held_out) & set((tmp_path / "tiny" / "calibration.txt").read_text().splitlines())
    card = (tmp_path / "tiny" / "card.md").read_text()
    for fact in (
        "held-out perplexity",
        "public domain",
        "--steps 4 --seed 1 --threads 1",
        "bits per byte",
        "4 steps of 8 x 32",
    ):
        assert fact in card


@pytest.mark.usefixtures("one_thread")
def test_command_refuses_a_bad_text_in_one_sentence(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    app = train.typer.Typer()
    app.command()(train.main)
    result = CliRunner().invoke(app, ["--out", str(tmp_path / "o"), "--data", str(tmp_path / "bad.txt")])
    assert result.exit_code == 2
    assert "must be UTF-8 text" in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "o").exists()
