"""Pipelines against closed forms of the literature and against a brute-force fixed point of the same constraints."""

import random

import pytest

from systolith_sim.parallel.pipeline import (
    PipelineTimes,
    bubble_free_s,
    closed_form_s,
    in_flight,
    order,
    play_pipeline,
)


def even(parts, forward=1.0, backward=2.0):
    return PipelineTimes((forward,) * parts, (backward,) * parts)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("stages", "micros"), [(1, 1), (1, 5), (2, 2), (4, 8), (5, 7), (8, 3)])
def test_even_stages_take_the_textbook_time(schedule, stages, micros):
    played = play_pipeline(even(stages), schedule, stages=stages, micros=micros)
    assert played.seconds == pytest.approx((micros + stages - 1) * 3.0)
    assert closed_form_s(even(stages), stages=stages, micros=micros) == pytest.approx(played.seconds)


@pytest.mark.parametrize(("stages", "micros", "chunks"), [(2, 4, 2), (4, 8, 2), (4, 8, 3), (8, 16, 3)])
def test_interleaving_divides_the_bubble(stages, micros, chunks):
    times = even(stages * chunks)
    played = play_pipeline(times, "interleaved", stages=stages, micros=micros, interleave=chunks)
    assert played.seconds == pytest.approx(micros * chunks * 3.0 + (stages - 1) * 3.0)
    assert closed_form_s(times, stages=stages, micros=micros, interleave=chunks) == pytest.approx(played.seconds)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved"])
def test_every_stage_does_every_pass_once_and_in_a_possible_order(schedule):
    stages, micros, chunks = 4, 8, 2 if schedule == "interleaved" else 1
    for stage in range(stages):
        tasks = order(schedule, stages=stages, stage=stage, micros=micros, interleave=chunks)
        wanted = {(b, m, c) for b in (False, True) for m in range(micros) for c in range(chunks)}
        assert {(t.backward, t.micro, t.chunk) for t in tasks} == wanted
        assert len(tasks) == len(wanted)
        place = {(t.backward, t.micro, t.chunk): i for i, t in enumerate(tasks)}
        assert all(place[False, m, c] < place[True, m, c] for m in range(micros) for c in range(chunks))


def test_activations_in_flight():
    """GPipe holds all micro-batches, 1F1B as many as stages follow (arXiv 2104.04473, 2.2.1)."""
    for stage in range(4):
        assert in_flight("gpipe", stages=4, stage=stage, micros=8) == 8
        assert in_flight("1f1b", stages=4, stage=stage, micros=8) == 4 - stage
    # 1 + (p - 1) / (p m) of the model's layers on the first stage (arXiv 2205.05198, 4.2.3)
    assert in_flight("interleaved", stages=4, stage=0, micros=8, interleave=2) == pytest.approx(4 * (1 + 3 / 8))


def fixed_point(times, schedule, stages, micros, chunks):
    """End of the pipeline by iterating the constraints until nothing moves; no events, no SimPy."""
    parts = stages * chunks
    lists = [order(schedule, stages=stages, stage=s, micros=micros, interleave=chunks) for s in range(stages)]
    end = {}
    moved = True
    while moved:
        moved = False
        for stage, tasks in enumerate(lists):
            free = 0.0
            for task in tasks:
                part = task.chunk * stages + stage
                start = free
                if not task.backward and part:
                    start = max(start, end.get((False, task.micro, part - 1), 0.0) + times.send_s)
                if task.backward and part < parts - 1:
                    start = max(start, end.get((True, task.micro, part + 1), 0.0) + times.send_s)
                free = start + (times.backward_s if task.backward else times.forward_s)[part]
                if end.get((task.backward, task.micro, part)) != free:
                    end[task.backward, task.micro, part] = free
                    moved = True
    return max(end.values())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved"])
def test_uneven_stages_match_the_fixed_point(schedule, seed):
    rng = random.Random(seed)
    stages, chunks = rng.randint(2, 4), 2 if schedule == "interleaved" else 1
    micros = stages * rng.randint(1, 3)
    parts = stages * chunks
    times = PipelineTimes(
        tuple(rng.uniform(1, 2) for _ in range(parts)), tuple(rng.uniform(2, 4) for _ in range(parts)), 0.1
    )
    played = play_pipeline(times, schedule, stages=stages, micros=micros, interleave=chunks, trace=True)
    assert played.seconds == pytest.approx(fixed_point(times, schedule, stages, micros, chunks)), f"{seed=}"
    assert played.seconds >= bubble_free_s(times, stages=stages, micros=micros)
    assert len(played.spans) == 2 * micros * parts


def test_interleaving_needs_whole_groups():
    with pytest.raises(ValueError, match="multiple of the 4 stages"):
        order("interleaved", stages=4, stage=0, micros=6, interleave=2)
