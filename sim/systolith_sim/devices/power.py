"""Power of the machine this runs on, where the operating system lets a program read it (RAPL)."""

import time
from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def package_counters(folder: Path = POWERCAP) -> list[Path]:
    """Energy counters of all processor packages that can be read; empty where there are none."""
    found: list[Path] = []
    for package in sorted(folder.glob("intel-rapl:[0-9]*")):
        counter = package / "energy_uj"
        if package.name.count(":") == 1 and _read(counter) is not None:
            found.append(counter)
    return found


def power_limit_w(folder: Path = POWERCAP) -> float | None:
    """Sum of the packages' long-term limits; None where one does not state it."""
    limits = [_read(counter.parent / "constraint_0_power_limit_uw") for counter in package_counters(folder)]
    return sum(limit or 0 for limit in limits) * 1e-6 if limits and all(limits) else None


def average_power_w(action: Callable[[], object], seconds: float, counters: list[Path]) -> tuple[float, int]:
    """(watts of all packages, calls) while an action runs again and again; a counter that wraps is put right.

    Other work on the machine counts too: RAPL does not tell processes apart.
    """
    before, start, calls = [_read(counter) for counter in counters], time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        action()
        calls += 1
    elapsed = time.perf_counter() - start
    joules = 0.0
    for counter, first in zip(counters, before, strict=True):
        last = _read(counter)
        if first is None or last is None:
            continue
        wrap = _read(counter.parent / "max_energy_range_uj") or 0
        joules += (last - first + (wrap if last < first else 0)) * 1e-6
    return joules / elapsed, calls


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
