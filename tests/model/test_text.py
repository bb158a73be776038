"""Tokens of any text, and the corpus as the `bible` command writes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systolith_model.text import byte_tokenizer, excerpt, read_chapters, split_chapters, train_tokenizer

DUMP = """Ge1:1 In the beginning
Ge1:2 And the earth: 3:4
Ge2:1 Thus the heavens
1Co13:4 Charity suffereth long
"""


def test_references_go_and_chapters_stay(tmp_path):
    path = tmp_path / "dump.txt"
    path.write_text(DUMP)
    assert read_chapters(path) == [
        "In the beginning\nAnd the earth: 3:4\n",
        "Thus the heavens\n",
        "Charity suffereth long\n",
    ]


def test_empty_lines_cut_a_plain_text(tmp_path):
    path = tmp_path / "plain.txt"
    path.write_text("one\ntwo\n\n\nthree\n")
    assert read_chapters(path) == ["one\ntwo\n", "three\n"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "must have at least 2 chapters, not 0"), (b"\xff", "must be UTF-8 text, but byte 0 is not")],
)
def test_what_is_no_corpus_is_refused(tmp_path, content, message):
    path = tmp_path / "data.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_chapters(path)


def test_every_twentieth_chapter_is_held_out():
    train, held_out = split_chapters([f"<{number}>" for number in range(45)])
    assert held_out == "<1><21><41>"
    assert train == "".join(f"<{number}>" for number in range(45) if number not in (1, 21, 41))


BYTES = byte_tokenizer()


@given(text=st.text())
def test_bytes_are_tokens(text):
    ids = BYTES.encode(text).ids
    assert ids == list(text.encode())
    assert BYTES.decode(ids) == text


TOKENIZER = train_tokenizer(DUMP * 3, vocab_size=280)


@given(text=st.text())
def test_learnt_tokens_keep_any_text(text):
    ids = TOKENIZER.encode(text).ids
    assert TOKENIZER.decode(ids) == text
    assert max(ids, default=0) < 280


def test_learnt_tokens_are_longer_than_bytes():
    assert TOKENIZER.get_vocab_size() == 280
    assert len(TOKENIZER.encode(DUMP).ids) < 0.9 * len(DUMP)


@pytest.mark.parametrize(
    ("parts", "part_bytes", "lines"),
    [(1, 1, [0]), (2, 6, [0, 1, 5, 6]), (5, 99, list(range(10))), (3, 3, [0, 3, 6])],
)
def test_excerpt_takes_whole_lines_from_equal_parts(parts, part_bytes, lines):
    text = "".join(f"{line}€\n" for line in range(10))  # 5 bytes each
    wanted = "".join(f"{line}€\n" for line in lines)
    assert excerpt(text, parts=parts, part_bytes=part_bytes) == wanted


@pytest.mark.parametrize(
    ("size", "message"), [(255, "vocab_size must be >= 256, not 255"), (5000, "must be at most .* not 5000")]
)
def test_impossible_vocabulary_is_refused(size, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(DUMP, vocab_size=size)
