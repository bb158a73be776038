"""One product: any shape on any core gives the contract's bits, without a race, by any tiling."""

import numpy as np
import pytest
from compiler.cases import CORES, activations, expected, layer
from compiler.interpreter import Interpreter
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from systolith_hw.config import CoreConfig
from systolith_sim.compiler import Shape, Tiling, chain, gemm, plan_gemm
from systolith_sim.compiler.fits import Ends, capacities, smallest
from systolith_sim.cycle import simulate

SEARCHED = settings(max_examples=80, deadline=None, derandomize=True)


def check(core, shape, seed, **options):
    rng = np.random.default_rng(seed)
    a, data = activations(rng, shape.m, shape.k), layer(rng, shape.k, shape.n)
    plan = plan_gemm(core, shape.m, shape.k, shape.n, table=data.table is not None, signed=data.signed,
                     zero_point=data.zero_point, **options)
    program = chain(core, a, [data], plan=plan)
    result = Interpreter(core, program, seed).run().output("y")
    np.testing.assert_array_equal(result, expected(a, [data]), err_msg=f"{shape=} {seed=} {plan.tiling=}")
    assert simulate(core, program.instructions).cycles > 0


sizes = st.integers(1, 40) | st.sampled_from([1, 61, 64, 67, 127, 128])


@SEARCHED
@given(st.sampled_from(sorted(CORES)), sizes, sizes, sizes, st.integers(0, 1 << 30))
@example("base", 1, 1, 1, 0)
@example("base", 300, 17, 300, 0)
@example("wide", 257, 300, 129, 0)
@example("long", 300, 299, 63, 0)
@example("full", 100, 127, 300, 0)
def test_any_shape_on_any_core(name, m, k, n, seed):
    small = CORES[name].data_bytes <= 1024
    assume(m * k * n < (20_000 if small else 1 << 30))
    check(CORES[name], Shape(m=m, k=k, n=n), seed, play=False)


@SEARCHED
@given(st.sampled_from(sorted(CORES)), st.tuples(*[st.integers(1, 30)] * 3), st.data())
def test_any_tiling_that_fits(name, shape, data):
    core, shape = CORES[name], Shape(m=shape[0], k=shape[1], n=shape[2])
    rows = data.draw(st.integers(1, shape.m), "rows")
    tiling = Tiling(
        rows=rows, first_rows=data.draw(st.integers(1, rows), "first_rows"),
        last_rows=data.draw(st.integers(1, rows), "last_rows"),
        tiles=data.draw(st.sampled_from([1, 2, 3, 8]), "tiles"),
        k_tiles=data.draw(st.sampled_from([1, 2, 3, 100]), "k_tiles"),
        group_columns=min(shape.n, core.port_bytes * data.draw(st.sampled_from([1, 2, 5, 100]), "columns")),
        outer=data.draw(st.sampled_from(["m", "n"]), "outer"))
    assume(capacities(core, shape, tiling, Ends()).enough)
    check(core, shape, 1, tiling=tiling)


@pytest.mark.parametrize("name", sorted(CORES))
def test_the_smallest_tiling_fits_every_core(name):
    shape = Shape(m=2, k=2 * CORES[name].rows + 1, n=CORES[name].port_bytes + 3)
    check(CORES[name], shape, 2, tiling=smallest(CORES[name], shape))


@pytest.mark.parametrize(("fields", "shape"), [
    ({"rows": 4, "cols": 7, "port_bytes": 1, "requant_lanes": 2, "weight_rows_per_cycle": 4, "data_bytes": 8192,
      "weight_bytes": 1024, "parameter_bytes": 256}, (2, 5, 150)),
    ({"rows": 4, "cols": 14, "port_bytes": 4, "requant_lanes": 8, "data_bytes": 256, "data_banks": 1,
      "weight_bytes": 256, "parameter_bytes": 2048, "acc_rows": 128}, (2, 5, 150)),
    ({"rows": 3, "cols": 3, "port_bytes": 2, "requant_lanes": 1, "data_bytes": 1024, "weight_bytes": 256,
      "parameter_bytes": 256, "acc_rows": 32}, (3, 34, 39)),
])
def test_no_block_of_a_narrow_last_group_outgrows_its_slot(fields, shape):
    check(CoreConfig.model_validate(fields), Shape(m=shape[0], k=shape[1], n=shape[2]), 3)


def test_longest_sums_are_exact():
    core, k = CORES["base"], 65793
    a, w = np.full((2, k), 255, dtype=np.uint8), np.full((k, 1), -128)
    program = gemm(core, a, w, mantissa=1, shift=24, signed=False)
    assert (Interpreter(core, program).run().output("y") == -128).all()
    program = gemm(core, a, w, bias=2**31 - 1, mantissa=1, shift=0, signed=False)
    # 65793 * 255 * -128 + 2**31 - 1 = 127, every bit of the accumulator counts
    assert (Interpreter(core, program).run().output("y") == 127).all()


def test_a_plan_serves_many_data():
    core, plan = CORES["base"], plan_gemm(CORES["base"], 5, 9, 11)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        a, w = activations(rng, 5, 9), rng.integers(-128, 128, (9, 11))
        program = gemm(core, a, w, mantissa=1 << 15, shift=22, plan=plan)
        wanted = np.clip(np.rint(a.astype(np.int64) @ w / 128), -128, 127)
        np.testing.assert_array_equal(Interpreter(core, program).run().output("y"), wanted)


GOOD = {"a": np.zeros((3, 4), np.int8), "w": np.zeros((4, 5), np.int8), "mantissa": 1, "shift": 0}


@pytest.mark.parametrize(("change", "message"), [
    ({"a": np.zeros((3, 4), np.int32)}, r"^a must be a matrix of int8 or uint8, not int32 of shape \(3, 4"),
    ({"a": np.zeros((0, 4), np.int8)}, r"^a must be a matrix .* of shape \(0, 4\)$"),
    ({"w": np.zeros((3, 5), np.int8)}, r"^w must be \(4, N\), as its activations are \(3, 4\), not \(3, 5"),
    ({"w": np.full((4, 5), 200)}, r"^w must be in -128\.\.127, not 200$"),
    ({"w": np.zeros((4, 5))}, r"^w must hold integers of -128\.\.127, not float64$"),
    ({"bias": [1, 2]}, r"^bias must be one value or 5 channels, not of shape \(2,\)$"),
    ({"bias": 1 << 31}, r"^bias must be in -2147483648\.\.2147483647, not 2147483648$"),
    ({"mantissa": 65536}, r"^mantissa must be in 0\.\.65535, not 65536$"),
    ({"shift": -1}, r"^shift must be in 0\.\.63, not -1$"),
    ({"zero_point": 128}, r"^zero_point of layer 0 must be an integer in -128\.\.127, not 128$"),
    ({"zero_point": 1.5}, r"^zero_point of layer 0 must be an integer in -128\.\.127, not 1\.5$"),
    ({"signed": "no"}, r"^signed of layer 0 must be True or False, not 'no'$"),
    ({"w": [[1, 2], [3]]}, r"^w must be an array, not rows of different lengths$"),
    ({"table": [1, 2]}, r"^table must have shape \(256,\), not \(2,\)$"),
    ({"plan": plan_gemm(CORES["base"], 3, 4, 6)}, r"^plan must be made for .*n=5.*, not .*n=6"),
    ({"plan": plan_gemm(CORES["wide"], 3, 4, 5)},
     r"^plan must be made for the core it is used on, with rows = 8, not 16$"),
    ({"plan": plan_gemm(CORES["base"], 3, 4, 5, signed=False)},
     r"^signed of gemm must be as planned, False, not True$"),
])
def test_bad_input_is_refused_in_a_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        gemm(CORES["base"], **(GOOD | change))


@pytest.mark.parametrize(("sizes", "message"), [
    ((0, 1, 1), r"^m must be >= 1, not 0$"), ((1, 65794, 1), r"^k must be in 1\.\.65793, not 65794$"),
    ((1, 1, -3), r"^n must be >= 1, not -3$"), ((1.5, 1, 1), r"^m must be >= 1, not 1\.5$"),
    (("1", 1, 1), r"^m must be >= 1, not '1'$"), ((1 << 40, 1, 1), r"^the tensors must fit in 4294967296 bytes")])
def test_bad_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        plan_gemm(CORES["base"], *sizes)


TILING = {"rows": 1, "first_rows": 1, "last_rows": 1, "tiles": 1, "k_tiles": 1, "group_columns": 8, "outer": "m"}


@pytest.mark.parametrize(("change", "message"), [
    ({"rows": 2000}, "tiling must leave a slot in every memory"),
    ({"rows": 0}, "^rows must be >= 1, not 0$"),
    ({"outer": "k"}, "^outer must be 'm' or 'n', not 'k'$"),
    ({"group_columns": 12}, "^group_columns must be a multiple of port_bytes = 8 or all 40 columns, not 12$"),
])
def test_a_tiling_that_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        plan_gemm(CORES["base"], 2000, 8, 40, tiling=Tiling(**(TILING | change)))
