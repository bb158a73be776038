"""Contracts name tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_contracts_name_tests_that_exist():
    pages = (page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md"))
    named = {name for page in pages for name in re.findall(r"tests/[\w/]+\.py", page)}
    assert len(named) > 8
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
