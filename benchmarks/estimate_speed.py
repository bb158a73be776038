"""How fast estimates are: 1,000 analytic estimates of an 80-layer model on one core, and the command from cold.

    python benchmarks/estimate_speed.py [--estimates N] [--runs R] [--peer PYTHON]

``--peer`` names an interpreter with GenZ (``python -m venv DIR; DIR/bin/pip install genz-llm==0.0.16``), which then
estimates the same model and group beside ours: a prefill and a decode step each. Every estimate is another batch,
prompt and answer length, so that nothing but identical layers is costed once.
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


PEER = """
import itertools, sys, time
from GenZ import decode_moddeling, prefill_moddeling
how = {"model": "meta-llama/Llama-2-70B", "system_name": "H100_GPU", "bits": "bf16", "tensor_parallel": 4,
       "parallelism_heirarchy": "TP{4}_EP{1}_PP{1}"}
sizes = itertools.product(range(1, 11), range(100, 1100, 100), range(50, 550, 50))
start, busy = time.perf_counter(), time.process_time()
for batch, prompt, generate in itertools.islice(sizes, int(sys.argv[1])):
    prefill_moddeling(batch_size=batch, input_tokens=prompt, **how)
    decode_moddeling(batch_size=batch, input_tokens=prompt, output_tokens=generate, **how)
print(time.perf_counter() - start, time.process_time() - busy)
"""


def peer(python: str, count: int) -> tuple[float, float]:
    """(seconds, seconds of its process) of ``count`` estimates by GenZ, without its start."""
    ended = subprocess.run([python, "-c", PEER, str(count)], check=True, capture_output=True, text=True)
    seconds, busy = ended.stdout.split()[-2:]
    return float(seconds), float(busy)


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--estimates", type=int, default=1000, help="1..1000")
    parser.add_argument("--runs", type=int, default=5, help="cold starts, at least 1")
    parser.add_argument("--peer", help="interpreter with GenZ 0.0.16")
    chosen = parser.parse_args()
    if not 1 <= chosen.estimates <= 1000 or chosen.runs < 1:
        parser.error("--estimates must be in 1..1000 and --runs at least 1")
    seconds, torch = cold(chosen.runs)
    print(f"the command from cold: {seconds:.2f} s, median of {chosen.runs}; torch imported: {torch}")
    spent, busy = estimates(chosen.estimates)
    what = f"{chosen.estimates} estimates of {MODEL} on {WIDTH} x {DEVICE}"
    print(f"{what}: {spent:.1f} s ({busy:.1f} s of the processor), {busy / chosen.estimates * 1e3:.1f} ms each")
    if chosen.peer:
        few = min(chosen.estimates, 50)
        spent, busy = peer(chosen.peer, few)
        print(f"GenZ, {few} of them: {spent:.1f} s ({busy:.1f} s of the processor), {busy / few * 1e3:.1f} ms each")


if __name__ == "__main__":
    main()
