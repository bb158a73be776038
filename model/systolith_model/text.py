"""Text in, tokens out, and back: byte-pair tokens in a tokenizer.json, and the corpus they are trained on."""

import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

REFERENCE = re.compile(r"^[0-9]?[A-Z][A-Za-z]*[0-9]+:[0-9]+ ")
"""What `bible -f` puts before each verse: book, chapter, verse."""
CHAPTERS_PER_HELD_OUT = 20
"""One chapter in so many is never trained on."""


def train_tokenizer(text: str, *, vocab_size: int) -> Tokenizer:
    """Byte-pair tokens learnt from a text; any text can be encoded, since all bytes are tokens.

    Raises
    ------
    ValueError
        If ``vocab_size`` is below 256, the bytes, or the text has too few pairs to learn so many tokens.
    """
    if vocab_size < 256:
        raise ValueError(f"vocab_size must be >= 256, not {vocab_size}")
    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    learnt = tokenizer.get_vocab_size()
    if learnt != vocab_size:
        raise ValueError(f"vocab_size must be at most {learnt} for this text, not {vocab_size}")
    return tokenizer


def read_chapters(path: Path) -> list[str]:
    """Chapters of a file written by ``bible -f gen1:1-rev22:21``: a verse a line, references taken off.

    A text without references is cut into chapters at its empty lines.

    Raises
    ------
    ValueError
        If the file is not UTF-8 text or has fewer than two chapters.
    OSError
        If it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: must be UTF-8 text, but byte {error.start} is not") from None
    chapters: dict[str, list[str]] = {}
    number = 0
    for line in lines:
        found = REFERENCE.match(line)
        if found:
            chapters.setdefault(found.group().split(":")[0], []).append(line[found.end() :])
        elif line.strip():
            chapters.setdefault(f"part {number}", []).append(line)
        else:
            number += 1
    if len(chapters) < 2:
        raise ValueError(f"{path}: must have at least 2 chapters, not {len(chapters)}")
    return ["\n".join(verses) + "\n" for verses in chapters.values()]


def split_chapters(chapters: Iterable[str]) -> tuple[str, str]:
    """(training text, held-out text): every twentieth chapter is held out, the second one first."""
    train, held_out = [], []
    for number, chapter in enumerate(chapters):
        (held_out if number % CHAPTERS_PER_HELD_OUT == 1 else train).append(chapter)
    return "".join(train), "".join(held_out)


def byte_tokenizer() -> Tokenizer:
    """A token a byte: token b stands for byte b."""
    # ByteLevel writes printable bytes as themselves, the others in order from U+0100 on.
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    letters |= {chr(256 + index): byte for index, byte in enumerate(others)}
    return _byte_level(models.BPE(vocab=letters, merges=[]))


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[reportAttributeAccessIssue]
    return tokenizer


def excerpt(text: str, *, parts: int, part_bytes: int) -> str:
    """Whole lines from ``parts`` places spread over a text, ``part_bytes`` or more from each."""
    lines = text.splitlines(keepends=True)
    chosen = []
    for part in range(parts):
        taken = 0
        for line in lines[len(lines) * part // parts : len(lines) * (part + 1) // parts]:
            if taken >= part_bytes:
                break
            chosen.append(line)
            taken += len(line.encode())
    return "".join(chosen)
