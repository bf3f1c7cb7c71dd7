"""Kernels by name: from Python they share large work among threads, to the same bits as on one."""

import numba
import numpy as np
import pytest

from fastnn import kernels
from fastnn.kernels import activation_kernels, loss_kernels, optimizer
from fastnn.kernels.catalog import CATALOG
from fastnn.kernels.codes import Activation, EstimatorLoss, Loss, Optimizer

ACTIVATIONS = [code.name.lower() for code in Activation]
LOSSES = [code.name.lower() for code in (*Loss, *EstimatorLoss)]
OPTIMIZERS = [code.name.lower() for code in Optimizer]
NAMES = [*ACTIVATIONS, *(f"{name}_backward" for name in ACTIVATIONS), *LOSSES, *OPTIMIZERS]
ROWS = {row.name: row for row in CATALOG}
# Of a size that pays for three threads and divides by none.
MATRIX, SPAN = (5009, 37), (200_003,)


@pytest.fixture
def three_threads(monkeypatch):
    """Launches on three threads, as many as they may be; and how many there were."""
    launched = []

    def threads_for(work, grain):
        launched.append(min(3, work // grain))
        return launched[-1]

    for module in (activation_kernels, kernels.activation, loss_kernels, optimizer):
        if hasattr(module, "threads_for"):
            monkeypatch.setattr(module, "threads_for", threads_for)
    return launched


@pytest.mark.parametrize("name", NAMES)
def test_threads_give_the_bits_of_one(name, dtype, rng, three_threads):
    row, kernel = ROWS[name], getattr(kernels, name)
    inputs = row.inputs(SPAN if name in OPTIMIZERS else MATRIX, dtype, rng)
    alone = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in inputs.items()}
    results = kernel(**inputs), kernel.serial(**alone)
    assert three_threads == [3]
    assert np.array_equal(*results, equal_nan=True) if name in LOSSES else results == (None, None)
    for output in row.outputs:
        assert inputs[output].tobytes() == alone[output].tobytes()


def test_rows_that_are_weighted(dtype, rng, three_threads):
    prediction, target = (rng.standard_normal((7001, 30)).astype(dtype) for _ in range(2))
    weight, q = rng.random(7001).astype(dtype), np.linspace(0.1, 0.9, 30)
    for name, parameter in (("mse", {}), ("huber", {"delta": 0.5}), ("quantile", {"q": q}), ("quantile", {})):
        kernel, gradients = getattr(kernels, name), np.empty((2, *prediction.shape), dtype)
        value = kernel(prediction, target, weight, gradients[0], **parameter)
        assert value == kernel.serial(prediction, target, weight, gradients[1], **parameter)
        assert gradients[0].tobytes() == gradients[1].tobytes()
    assert set(three_threads) == {3}


def test_large_arrays_are_refused_as_small_ones_are(three_threads):
    """A copy that Python makes contiguous would take the result with it."""
    one = np.ones((400, 400), np.float32)
    gaps = np.ones((400, 800), np.float32)[:, ::2]
    for arrays in ((one, gaps), (gaps, one)):
        with pytest.raises(numba.TypingError, match="contiguous"):
            kernels.gelu(*arrays)
    for arrays in ((one, one, gaps), (one, gaps, one), (gaps, one, one)):
        with pytest.raises(numba.TypingError, match="contiguous"):
            kernels.gelu_backward(*arrays)
    two = one.astype(np.float64)
    for call in (
        lambda: kernels.gelu(two, one),
        lambda: kernels.gelu_backward(one, two, one),
        lambda: kernels.log_cosh(one, two, one[0, :0], one),
        lambda: kernels.log_cosh(one, one, two[0, :0], one),
        lambda: kernels.adam(one.ravel(), two.ravel(), one.ravel(), one.ravel(), 1, np.zeros(12)),
    ):
        with pytest.raises(numba.TypingError, match="expected arrays of one dtype, got"):
            call()
    assert set(three_threads) == {3}


def test_a_parameter_is_one_that_the_loss_has(dtype):
    large = np.ones((1000, 1000), dtype)
    for arrays in (np.ones((2, 2, 2), dtype), (large, large)):
        p, gradient = arrays
        with pytest.raises(TypeError):
            kernels.huber(p, p, p[0, :0], gradient, q=1.0)
        with pytest.raises(TypeError):
            kernels.mse(p, p, p[0, :0], gradient, 1.0)


def test_keywords_inside_compiled_code(dtype):
    @numba.njit
    def value(p, target, none, gradient):
        return kernels.huber(p, target, none, gradient, delta=0.5), kernels.quantile(p, target, none, gradient, q=0.25)

    p = np.array([[1.0], [4.0]], dtype)
    assert value(p, np.zeros_like(p), p[0, :0], np.empty_like(p)) == (1.125, 1.875)
