"""Vectors as values of compiled code: their operators, the tails of loops, and elementary functions of them."""

import math

import numba
import numpy as np
import pytest
from vector_loops import FUNCTIONS, over_vectors, scalar

from fastnn.kernels.simd import constant, fma, select

SIZES = (0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100)
OPERATIONS = {
    "add": (lambda a, b: a + b, np.add),
    "sub": (lambda a, b: a - b, np.subtract),
    "mul": (lambda a, b: a * b, np.multiply),
    "div": (lambda a, b: a / b, np.divide),
    "neg": (lambda a, b: -a, lambda a, b: -a),
    "abs": (lambda a, b: abs(a), lambda a, b: np.abs(a)),
    "sqrt": (lambda a, b: math.sqrt(a), lambda a, b: np.sqrt(a)),
    "less": (lambda a, b: select(a < b, a, b), lambda a, b: np.where(a < b, a, b)),
    "less or equal": (lambda a, b: select(a <= b, a, b), lambda a, b: np.where(a <= b, a, b)),
    "greater": (lambda a, b: select(a > b, a, b), lambda a, b: np.where(a > b, a, b)),
    "greater or equal": (lambda a, b: select(a >= b, a, b), lambda a, b: np.where(a >= b, a, b)),
    "equal": (lambda a, b: select(a == a, b, a), lambda a, b: np.where(a == a, b, a)),
    "and": (
        lambda a, b: select((a > constant(0.0, a)) & (b > constant(0.0, a)), a, b),
        lambda a, b: np.where((a > 0) & (b > 0), a, b),
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operators_are_those_of_numpy(name, dtype, rng):
    compiled, numpy = OPERATIONS[name]
    loop = over_vectors(scalar(compiled))
    for size in SIZES:
        x, y = (rng.standard_normal(size).astype(dtype) for _ in range(2))
        x[: size // 8], y[size // 8 : size // 4] = np.nan, np.inf
        out = np.empty_like(x)
        loop(x, y, out)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(out, numpy(x, y))


def test_fma_rounds_once(dtype):
    eps = np.finfo(dtype).eps
    x = np.full(40, 1 + eps, dtype)
    out = np.empty_like(x)
    over_vectors(scalar(lambda a, b: fma(a, b, constant(-1.0, a))))(x, x, out)
    assert (out == np.asarray(2 * float(eps), dtype) * np.asarray(1 + float(eps) / 2, dtype)).all()


@pytest.mark.parametrize("size", SIZES)
def test_nothing_outside_the_span_is_written(size, dtype, rng):
    memory = np.full(size + 200, 7, dtype)
    out = memory[100 : 100 + size]
    x = rng.standard_normal(size).astype(dtype)
    over_vectors(scalar(lambda a, b: a + b))(x, x, out)
    np.testing.assert_array_equal(out, 2 * x)
    assert (memory[:100] == 7).all()
    assert (memory[100 + size :] == 7).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_vector_has_the_bits_of_its_numbers(name, dtype, rng):
    """A row alone, at the end of a span or amid it, gives the same: lanes and their order change nothing."""
    function = FUNCTIONS[name]
    vectors = over_vectors(scalar(lambda a, b: function(a)))

    @numba.njit(error_model="numpy")
    def numbers(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    x = np.concatenate([rng.standard_normal(500) * scale for scale in (1e-3, 1, 10, 100)]).astype(dtype)
    x[:8] = np.nan, np.inf, -np.inf, 0.0, -0.0, np.finfo(dtype).tiny / 4, -np.finfo(dtype).tiny / 4, 1.0
    whole, single = np.empty_like(x), np.empty_like(x)
    vectors(x, x, whole)
    numbers(x, single)
    known = ~np.isnan(single)
    np.testing.assert_array_equal(known, ~np.isnan(whole))
    assert whole[known].tobytes() == single[known].tobytes()
