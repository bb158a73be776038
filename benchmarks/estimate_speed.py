"""How fast estimates are: 1,000 analytic estimates of an 80-layer model on one core, and the command from cold.

    python benchmarks/estimate_speed.py [--estimates N] [--runs R]

Every estimate is another batch, prompt and answer length, so that nothing but identical layers is costed once.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import time

from systolith_sim.devices.library import find_device
from systolith_sim.estimate.engine import find_engine
from systolith_sim.estimate.generate import estimate
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.request import Request
from systolith_sim.parallel.layout import Layout

MODEL, DEVICE, WIDTH = "llama-2-70b", "h100-sxm", 4
COLD = "from systolith_sim.cli import main; main(['estimate', 'llama-2-7b', '--on', 'h100-sxm', '--json'])"


def estimates(count: int) -> tuple[float, float]:
    """(seconds, seconds of this process) of ``count`` different estimates."""
    model, device, engine = find_model(MODEL), find_device(DEVICE), find_engine("vllm")
    sizes = itertools.product(range(1, 11), range(100, 1100, 100), range(50, 550, 50))
    start, busy = time.perf_counter(), time.process_time()
    for batch, prompt, generate in itertools.islice(sizes, count):
        request = Request(batch=batch, prompt=prompt, generate=generate)
        estimate(MODEL, model, device, request, Layout(tp=WIDTH), engine)
    return time.perf_counter() - start, time.process_time() - busy


def cold(runs: int) -> tuple[float, bool]:
    """(median seconds of the command in a new process, whether it imported torch)."""
    watched = f"import sys\ntry:\n    {COLD}\nfinally:\n    print('torch' in sys.modules, file=sys.stderr)"
    seconds, torch = [], False
    for _ in range(runs):
        start = time.perf_counter()
        ended = subprocess.run([sys.executable, "-c", watched], check=True, capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        torch = torch or "True" in ended.stderr
    return statistics.median(seconds), torch


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--estimates", type=int, default=1000, help="1..1000")
    parser.add_argument("--runs", type=int, default=5, help="cold starts, at least 1")
    chosen = parser.parse_args()
    if not 1 <= chosen.estimates <= 1000 or chosen.runs < 1:
        parser.error("--estimates must be in 1..1000 and --runs at least 1")
    seconds, torch = cold(chosen.runs)
    print(f"the command from cold: {seconds:.2f} s, median of {chosen.runs}; torch imported: {torch}")
    spent, busy = estimates(chosen.estimates)
    what = f"{chosen.estimates} estimates of {MODEL} on {WIDTH} x {DEVICE}"
    print(f"{what}: {spent:.1f} s ({busy:.1f} s of the processor)")


if __name__ == "__main__":
    main()
