"""Formats and storages: bytes in closed form, the words that name them, and what is refused."""

from math import ceil

import numpy as np
import pytest

from systolith_model.formats import Formats, Pruning, Storage, storage_bytes, weight_storage

K, N = 384, 250


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        (Storage(format="fp32"), 4 * K * N),
        (Storage(format="int4"), K * N // 2),
        (Storage(format="int8", scale_block=(0, 0), scale_bits=32), K * N + 4),
        (Storage(format="int8", scale_block=(0, 1), scale_bits=32), K * N + 4 * N),
        (Storage(format="int4", scale_block=(128, 1), scale_bits=16, zero_point_bits=4), K * N // 2 + 3 * N * 20 // 8),
        (Storage(format="fp8", scale_block=(128, 128), scale_bits=32), K * N + 3 * 2 * 4),
        (Storage(format="fp4", scale_block=(32, 1), scale_bits=8), K * N // 2 + 12 * N),
        (Storage(format="bf16", pruning="2:4", density=0.5), K * N + K * N // 8),
        (Storage(format="int8", pruning="2:4", density=0.5), K * N // 2 + K * N // 8),
        (Storage(format="int8", pruning="bitmap", density=0.25), K * N // 4 + K * N // 8),
        # columns of 8 bits, since there are 250; 385 pointers of 32
        (Storage(format="bf16", pruning="csr", density=0.25), 3 * (K * N // 4) + 4 * 385),
        (Storage(format="int8", pruning="structured", density=0.5), K * N // 2),
        (Storage(format="int8", entropy_ratio=0.75), 3 * K * N // 4),
        (Storage(format="int8", pruning="bitmap", density=0.25, entropy_ratio=0.5), K * N // 8 + K * N // 8),
    ],
)  # fmt: skip
def test_bytes_in_closed_form(storage, expected):
    assert storage_bytes((K, N), storage) == expected
    assert storage_bytes((5, K, N), storage) == pytest.approx(5 * expected, abs=5)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.9])
def test_pruned_bytes_are_those_of_a_pruned_matrix(density):
    rng = np.random.default_rng(7)
    dense = rng.normal(size=(K, 3000))
    dense[np.abs(dense) < np.quantile(np.abs(dense), 1 - density)] = 0
    kept = int(np.count_nonzero(dense))
    rows, columns = np.nonzero(dense)
    pointers = np.searchsorted(rows, np.arange(K + 1)).astype(np.uint32)
    csr = kept * 2 + columns.astype(np.uint16).nbytes + pointers.nbytes
    bitmap = kept * 2 + np.packbits(dense != 0).nbytes
    expected_bytes: tuple[tuple[Pruning, int], ...] = ("csr", csr), ("bitmap", bitmap)
    for pruning, expected in expected_bytes:
        storage = Storage(format="bf16", pruning=pruning, density=density)
        assert storage_bytes(dense.shape, storage) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("word", "bits"),
    # OCP MX: 4.25 and 8.25; NVFP4 4.5; AWQ 4 + 20 / 128
    [("bf16", 16), ("mxfp4", 4.25), ("mxfp8", 8.25), ("nvfp4", 4.5), ("int4", 4.15625), ("int4-g32", 4.625),
     ("fp8_block", 8 + 32 / 128**2), ("bf16+2:4", 9), ("int8-tensor+bitmap:0.25", 3),
     ("int8-tensor+structured:0.5", 4)],
)  # fmt: skip
def test_words_for_weights(word, bits):
    assert weight_storage(word).bits_per_element == pytest.approx(bits, rel=1e-6)


def test_a_vector_is_one_row():
    assert storage_bytes((N,), Storage(format="bf16")) == 2 * N
    assert storage_bytes((3,), Storage(format="int4")) == 2


def test_rounds_up_to_bytes():
    assert storage_bytes((3, 5), Storage(format="int4")) == ceil(15 / 2)
    assert storage_bytes((6, 3), Storage(format="int8", pruning="2:4", density=0.5)) == 12 + 3


@pytest.mark.parametrize(
    ("text", "weight", "activation", "kv", "residual"),
    [
        ("bf16", "bf16", "bf16", "bf16", "bf16"),
        ("tf32", "tf32", "tf32", "tf32", "tf32"),
        ("fp8", "fp8", "fp8", "fp8", "bf16"),
        ("int4/bf16", "int4", "bf16", "bf16", "bf16"),
        ("int4/bf16/fp8", "int4", "bf16", "fp8", "bf16"),
        ("nvfp4/fp4/fp8", "fp4", "fp4", "fp8", "bf16"),
        ("int8/int8/fp16", "int8", "int8", "fp16", "bf16"),
    ],
)
def test_words_for_runs(text, weight, activation, kv, residual):
    formats = Formats.parse(text)
    assert (formats.weight.format, formats.activation, formats.kv, formats.residual) == (
        weight, activation, kv, residual,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q4", "weight format must be one of fp32, .*mxfp4.*, not 'q4'"),
        ("bf16/q8", "activation format must be one of fp32, tf32, bf16, fp16, fp8, int8, int4, fp4, not 'q8'"),
        ("bf16/bf16/int32", "kv format must be one of .*, not 'int32'"),
        ("a/b/c/d", "format must be W, W/A or W/A/KV, not 'a/b/c/d'"),
        ("", "weight format must be FORMAT.*, not ''"),
        ("int4-g0", "weight format must be FORMAT.*, not 'int4-g0'"),
        ("int8+csr", r"weight format must name the density, as in \+csr:0.5, not 'int8\+csr'"),
        ("int8+csr:1.5", "density must be above 0 and at most 1, not 1.5"),
        ("int8+2:4:0.25", "density of 2:4 must be 0.5, not 0.25"),
    ],
)
def test_words_are_refused_in_one_sentence(text, message):
    with pytest.raises(ValueError, match=message):
        Formats.parse(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "int9"}, "format must be one of .*, not 'int9'"),
        ({"pruning": "4:8"}, "pruning must be one of none, bitmap, csr, 2:4, structured, not '4:8'"),
        ({"density": 0.5}, "density without pruning must be 1, not 0.5"),
        ({"entropy_ratio": 0.0}, "entropy_ratio must be above 0 and at most 1, not 0.0"),
        ({"scale_block": (-1, 1)}, r"scale_block must be sizes >= 0, not \(-1, 1\)"),
    ],
)
def test_storages_are_refused_in_one_sentence(fields, message):
    with pytest.raises(ValueError, match=message):
        Storage(**fields)
