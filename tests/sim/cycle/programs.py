"""Random programs whose order is executable and whose banks never meet, for any core.

Loads fill and matmuls read the lower half of the data scratchpad, vectors fill and stores read the upper
half; matmuls add into the lower half of the accumulator and vectors drain the upper half. So the data means
nothing, but every time is defined.
"""

from random import Random

from systolith_hw.config import CoreConfig
from systolith_hw.isa import QUEUES, SEMAPHORES_PER_QUEUE, Instruction, Load, Matmul, Memory, Store, Vector
from systolith_hw.timing import MemoryTiming

MOST_WAITING = 200
"""Posts of a semaphore that nobody has taken yet; it counts to 255."""


def random_core(random: Random) -> CoreConfig:
    """A small core of any shape, with every field that times depend on."""
    rows, cols = random.randint(1, 9), random.randint(1, 9)
    port, fetch = 1 << random.randint(0, 5), 1 << random.randint(0, 4)
    return CoreConfig(
        rows=rows, cols=cols, weight_rows_per_cycle=random.randint(1, rows), port_bytes=port,
        data_bytes=1 << 16, weight_bytes=1 << 16, acc_rows=64, requant_lanes=random.randint(1, cols),
        multiplier_latency=random.randint(3, 8), memory_latency=random.randint(2, 4),
        queue_depth=1 << random.randint(1, 4), fetch_instructions=min(fetch, 8 * port),
        dma_depth=1 << random.randint(1, 3),
    )


def random_memory(random: Random) -> MemoryTiming:
    """A deterministic memory between very fast and slow."""
    return MemoryTiming(latency=random.choice([1, 2, 7, 64, 300]), burst_overhead=random.randint(0, 5),
                        write_latency=random.choice([1, 16, 90]))


def random_program(random: Random, core: CoreConfig, *, length: int) -> list[Instruction]:
    """``length`` instructions; each waits only for what earlier ones have raised and no other queue takes."""
    takers = {(queue, index): random.choice(QUEUES)
              for queue in QUEUES for index in range(SEMAPHORES_PER_QUEUE)}
    raised = dict.fromkeys(takers, 0)
    makers = {"load": _load, "matmul": _matmul, "vector": _vector, "store": _store}
    mix = random.choice([QUEUES, QUEUES, ("load", "store"), ("load", "load", "matmul"), ("store", "vector")])
    eagerness = random.choice([0.0, 0.3, 0.8])
    program = []
    for _ in range(length):
        queue = random.choice(mix)
        wait = 0
        for place, (semaphore, taker) in enumerate(takers.items()):
            full = raised[semaphore] > MOST_WAITING // 2
            if taker == queue and raised[semaphore] and (full or random.random() < eagerness):
                raised[semaphore] -= 1
                wait |= 1 << place
        post = random.choice([0, random.randint(0, 15), 15])
        instruction = makers[queue](random, core, wait, post)
        posts = instruction.n_tiles if isinstance(instruction, Matmul) else 1
        if any(post >> index & 1 and raised[queue, index] + posts > MOST_WAITING for index in range(4)):
            instruction, posts = makers[queue](random, core, wait, 0), 0
        for index in range(SEMAPHORES_PER_QUEUE):
            raised[queue, index] += posts * (instruction.post >> index & 1)
        program.append(instruction)
    return program


def _dma_shape(random: Random, core: CoreConfig) -> dict[str, int]:
    """A few beats, rows that bursts cut, or several transfers; every row within 256 local bytes."""
    port, most = core.port_bytes, min(256 // core.port_bytes, 60)
    rows = random.choice([1, 1, 2, 3, 12])
    return {
        "dram_address": random.randrange(1 << 12) * port, "dram_stride": random.randrange(600) * port,
        "local_stride": 256, "rows": rows, "row_bytes": random.randint(1, most) * port,
    }


def _load(random: Random, core: CoreConfig, wait: int, post: int) -> Instruction:
    memory = random.choice([Memory.DATA, Memory.WEIGHT])
    return Load(wait=wait, post=post, memory=memory, local_address=0, **_dma_shape(random, core))


def _store(random: Random, core: CoreConfig, wait: int, post: int) -> Instruction:
    return Store(wait=wait, post=post, local_address=core.data_bytes // 2, **_dma_shape(random, core))


def _matmul(random: Random, core: CoreConfig, wait: int, post: int) -> Instruction:
    m, n_tiles = random.choice([1, 2, 5, 20]), random.choice([1, 1, 2, 3])
    return Matmul(wait=wait, post=post, data_address=0, data_stride=core.sizes.data_word_bytes,
                  weight_address=0, weight_stride=0, acc_address=0, acc_stride=m, m=m,
                  k_tiles=random.randint(1, 4), n_tiles=n_tiles, accumulate=random.random() < 0.5)


def _vector(random: Random, core: CoreConfig, wait: int, post: int) -> Instruction:
    return Vector(wait=wait, post=post, acc_address=core.acc_rows * core.acc_banks // 2,
                  m=random.choice([1, 2, 9, 40]), n=random.randint(1, core.cols), parameter_address=0,
                  data_address=core.data_bytes // 2, data_stride=core.sizes.data_word_bytes)
