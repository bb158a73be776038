"""Power of the machine this runs on, where the operating system lets a program read it (RAPL)."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
MEMORY = "dram"
"""Name of a package's zone that counts its memory, which the package's own counter leaves out."""


def package_counters(folder: Path = POWERCAP) -> list[Path]:
    """Energy counters of all processor packages, and of their memory where it has one.

    Empty where there are none, and where one of them cannot be read: a part is not the machine. Zones of the whole
    platform (psys), which hold the packages again, are left out.
    """
    found = list(_counters(folder))
    return found if all(_read(counter) is not None for counter in found) else []


def _counters(folder: Path) -> Iterator[Path]:
    for zone in sorted(folder.glob("intel-rapl:[0-9]*")):
        whole = zone.name.count(":") == 1
        name = _name(zone)
        if (whole and (not name or name.startswith("package"))) or (not whole and name == MEMORY):
            yield zone / "energy_uj"


def power_limit_w(folder: Path = POWERCAP) -> float | None:
    """Sum of the packages' long-term limits; None where one does not state it."""
    packages = [counter.parent for counter in package_counters(folder) if counter.parent.name.count(":") == 1]
    limits = [_read(package / "constraint_0_power_limit_uw") for package in packages]
    return sum(limit or 0 for limit in limits) * 1e-6 if limits and all(limits) else None


def average_power_w(
    action: Callable[[], object], seconds: float, counters: list[Path]
) -> tuple[float | None, int]:
    """(watts of all counters, calls) while an action runs again and again; a counter that wraps is put right.

    None where a counter can no longer be read, or wraps without saying where. A counter must not wrap twice: at 61 uJ
    a step and 32 bits that takes ten minutes at 400 W. Other work on the machine counts too: RAPL does not tell
    processes apart.
    """
    before, start, calls = [_read(counter) for counter in counters], time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        action()
        calls += 1
    after, elapsed = [_read(counter) for counter in counters], time.perf_counter() - start
    spent = [_joules(*each) for each in zip(counters, before, after, strict=True)]
    known = [joules for joules in spent if joules is not None]
    return (sum(known) / elapsed if len(known) == len(spent) else None), calls


def _joules(counter: Path, first: int | None, last: int | None) -> float | None:
    """What a counter counted between two readings."""
    if first is None or last is None:
        return None
    if last >= first:
        return (last - first) * 1e-6
    wrap = _read(counter.parent / "max_energy_range_uj")
    return None if wrap is None else (last - first + wrap) * 1e-6


def _name(zone: Path) -> str:
    """What a zone calls itself; empty where it does not say."""
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
