"""N1 to N4 against Python's integers: all bytes, all products, the longest sums."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from systolith_model.integer.linear import linear
from systolith_model.integer.matmul import MAX_K, activation, fold_zero_point, matmul


def test_activation_reads_every_byte_as_its_flag_says():
    bytes_ = torch.arange(256).to(torch.uint8)
    assert activation(bytes_, signed=False).tolist() == list(range(256))
    assert activation(bytes_, signed=True).tolist() == np.arange(256).astype(np.uint8).view(np.int8).tolist()
    assert activation(bytes_.view(torch.int8), signed=False).tolist() == list(range(256))


def test_every_product_of_activation_and_weight():
    a, w = torch.arange(-128, 256), torch.arange(-128, 128)
    expected = [[x * y for y in range(-128, 128)] for x in range(-128, 256)]
    assert matmul(a[:, None], w[None, :]).tolist() == expected
    flat = [product for row in expected for product in row]
    assert (min(flat), max(flat)) == (-32640, 32385)  # numerics.md, bounds: 17 bits


@pytest.mark.parametrize(
    ("signed", "value", "weight"), [(False, 255, -128), (False, 255, 127), (True, -128, -128)]
)
def test_longest_sum_is_exact(signed, value, weight):
    a = torch.full((2, MAX_K), value).to(torch.int8 if signed else torch.uint8)
    w = torch.full((MAX_K, 3), weight)
    acc = matmul(activation(a, signed=signed), w)
    assert acc.dtype == torch.int32
    assert acc.tolist() == [[MAX_K * value * weight] * 3] * 2


@given(m=st.integers(1, 6), k=st.integers(1, 40), n=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_sums_equal_python_integers(m, k, n, seed):
    generator = np.random.default_rng(seed)
    a, w = generator.integers(-128, 256, (m, k)), generator.integers(-128, 128, (k, n))
    expected = [[sum(int(x) * int(y) for x, y in zip(row, col, strict=True)) for col in w.T] for row in a]
    assert matmul(torch.from_numpy(a), torch.from_numpy(w)).tolist() == expected


def test_leading_dimensions_are_independent_rows():
    generator = torch.Generator().manual_seed(1)
    a = torch.randint(-128, 128, (2, 3, 5, 7), generator=generator)
    w = torch.randint(-128, 128, (7, 4), generator=generator)
    assert torch.equal(matmul(a, w), torch.einsum("bhmk,kn->bhmn", a, w).to(torch.int32))


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 50), zero_point=st.integers(-128, 255))
def test_folded_bias_makes_up_for_the_zero_point(seed, k, zero_point):
    generator = np.random.default_rng(seed)
    a, w = generator.integers(-128, 256, (3, k)), generator.integers(-128, 128, (k, 4))
    bias = generator.integers(-(2**20), 2**20, 4)
    folded = fold_zero_point(torch.from_numpy(bias), torch.from_numpy(w), zero_point)
    acc = matmul(torch.from_numpy(a), torch.from_numpy(w))
    assert (acc + folded).tolist() == ((a - zero_point) @ w + bias).tolist()


def test_folded_bias_must_fit_in_32_bits():
    weights = torch.full((1, 1), 127)
    assert fold_zero_point(2**31 - 1 - 128 * 127, weights, -128).tolist() == [2**31 - 1]
    with pytest.raises(ValueError, match=r"folded bias must be in -2147483648\.\.2147483647, not 2147483648"):
        fold_zero_point(2**31 - 128 * 127, weights, -128)


@pytest.mark.parametrize("signed", [False, True])
def test_linear_reads_activation_bytes_by_the_flag(signed):
    a = torch.tensor([[200, 3]], dtype=torch.uint8)
    w = torch.tensor([[1, -1], [2, 0]])
    out = linear(a, w, bias=torch.tensor([-50, 60]), mantissa=1, shift=1, signed=signed)
    # The first byte is 200 or -56: (200 + 6 - 50) / 2, (60 - 200) / 2; (-56 + 6 - 50) / 2, (60 + 56) / 2.
    assert out.tolist() == ([[-50, 58]] if signed else [[78, -70]])


def bytes_of(*shape, value=1):
    return torch.full(shape, value)


@pytest.mark.parametrize(
    ("a", "w", "message"),
    [
        (bytes_of(2, 3, value=256), bytes_of(3, 1), r"a must be in -128\.\.255, not 256"),
        (bytes_of(2, 3, value=-129), bytes_of(3, 1), r"a must be in -128\.\.255, not -129"),
        (bytes_of(2, 3), bytes_of(3, 1, value=128), r"w must be in -128\.\.127, not 128"),
        (bytes_of(2, 3), bytes_of(4, 1), r"must be \(\.\.\., M, K\) by \(K, N\), not \(2, 3\) by \(4, 1\)"),
        (bytes_of(3), bytes_of(3, 1), r"not \(3,\) by \(3, 1\)"),
        (bytes_of(1, MAX_K + 1), bytes_of(MAX_K + 1, 1), r"K must be in 1\.\.65793, not 65794"),
        (bytes_of(1, 0), bytes_of(0, 1), r"K must be in 1\.\.65793, not 0"),
        (torch.ones(1, 1), bytes_of(1, 1), r"a must hold integers of -128\.\.255, not torch\.float32"),
    ],
)
def test_refused_in_one_sentence(a, w, message):
    with pytest.raises(ValueError, match=message):
        matmul(a, w)


def test_activation_refuses_what_is_not_a_byte():
    with pytest.raises(ValueError, match=r"activations must be bytes, int8 or uint8, not torch\.int32"):
        activation(torch.zeros(1, dtype=torch.int32), signed=True)
