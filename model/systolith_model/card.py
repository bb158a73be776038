"""The card of a trained model: what it is, what it was trained on, how good it is, how to make it again."""

from collections.abc import Mapping


def card(name: str, *, facts: Mapping[str, str], command: str, sample: str) -> str:
    """Markdown: a table of facts, the commands that make the checkpoint again, a sample of its writing."""
    rows = "\n".join(f"| {fact} | {value} |" for fact, value in facts.items())
    quoted = "\n".join(f"> {line}" for line in sample.splitlines())
    return (
        f"# {name}\n\n| | |\n|---|---|\n{rows}\n\n"
        f"Made by\n```sh\n{command}\n```\n\n"
        f"What it writes (temperature 0.7; the first words are given)\n\n{quoted}\n"
    )
