"""Kernels by name: from Python they share large work among threads, to the same bits as on one."""

import numba
import numpy as np
import pytest

from fastnn import Adam, kernels
from fastnn.kernels import loss_kernels, optimizer
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
        launched.append(min(3, max(1, work // grain)))
        return launched[-1]

    for module in (kernels.activation, loss_kernels, optimizer):
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


def outcome(call):
    """What a call returns, or how it ends."""
    try:
        return call()
    except (TypeError, ValueError, numba.core.errors.NumbaError, NotImplementedError) as error:
        return type(error)


def odd_calls(rows, columns, rng):
    """By name, calls of kernels in which something is not as workers of threads take it: (kernel, arguments)."""
    one, dy = (rng.standard_normal((rows, columns)).astype(np.float32) for _ in range(2))
    two, gaps, none = one.astype(np.float64), np.empty((rows, 2 * columns), np.float32)[:, ::2], np.empty(0, np.float32)
    gaps[...] = one
    out, flat = np.zeros_like(one), lambda: [array.ravel().copy() for array in (one, dy, abs(one), abs(dy))]
    hyper = Adam(0.01).hyper()
    yield "activation with gaps", kernels.gelu, (gaps, out)
    yield "activation of columns first", kernels.gelu, (np.asfortranarray(one), out)
    yield "activation of another dtype", kernels.gelu, (two, out)
    yield "activation of a list", kernels.gelu, (one, out.tolist())
    yield "activation backward with gaps", kernels.gelu_backward, (dy, gaps, out)
    yield "activation backward of another dtype", kernels.gelu_backward, (two, one, out)
    yield "activation backward of other bytes", kernels.gelu_backward, (one, one, out.astype(out.dtype.newbyteorder()))
    yield "loss with weights of another dtype", kernels.log_cosh, (one, dy, np.ones(rows), out)
    yield "loss without weights of another dtype", kernels.log_cosh, (one, dy, np.empty(0), out)
    yield "loss of another dtype", kernels.log_cosh, (one, two, none, out)
    yield "loss with gaps", kernels.log_cosh, (gaps, dy, none, out)
    yield "loss with weights of two axes", kernels.log_cosh, (one, dy, np.ones((rows, 1), np.float32), out)
    yield "loss of one axis", kernels.log_cosh, (one, dy, none, out.ravel())
    yield "quantile with a list", kernels.quantile, (one, dy, none, out, [0.5] * columns)
    yield "quantile with gaps", kernels.quantile, (one, dy, none, out, np.full(2 * columns, 0.25)[::2])
    yield "quantile of two axes", kernels.quantile, (one, dy, none, out, np.full((1, columns), 0.25))
    yield "huber with a whole number", kernels.huber, (one, dy, none, out, 1)
    yield "huber with a float32", kernels.huber, (one, dy, none, out, np.float32(0.5))
    yield "a parameter too many", kernels.log_cosh, (one, dy, none, out, 1.0)
    yield "a step of 32 bits", kernels.adam, (*flat(), np.int32(3), hyper)
    yield "a step that is true", kernels.adam, (*flat(), True, hyper)
    yield "a step that is no whole number", kernels.adam, (*flat(), 3.0, hyper)
    yield "hyper-parameters of float32", kernels.adam, (*flat(), 3, hyper.astype(np.float32))
    yield "hyper-parameters with gaps", kernels.adam, (*flat(), 3, np.repeat(hyper, 2)[::2])
    yield "hyper-parameters that are a tuple", kernels.adam, (*flat(), 3, tuple(hyper))
    yield "parameters that are a matrix", kernels.adam, (one.copy(), dy, abs(one), abs(dy), 3, hyper)
    yield "states of two axes", kernels.sgd, (*flat()[:2], np.empty((0, 0), np.float32), none, 3, hyper * 0)
    yield "states of another dtype", kernels.adam, (*flat()[:3], np.ones(one.size), 3, hyper)


def test_what_is_refused_does_not_depend_on_size(three_threads):
    """Nor on how many cores there are: what workers would misread, and they trust, is left to the serial kernel."""
    calls = [list(odd_calls(*shape, np.random.default_rng(0))) for shape in ((3, 5), (7001, 37), (7001, 37))]
    refused = 0
    for (name, kernel, few), (_, _, many), (_, _, alone) in zip(*calls, strict=True):
        small = outcome(lambda kernel=kernel, few=few: kernel(*few))
        found = outcome(lambda kernel=kernel, many=many: kernel(*many))
        expected = outcome(lambda kernel=kernel, alone=alone: kernel.serial(*alone))
        assert isinstance(small, type) == isinstance(found, type), name
        assert found == expected, name
        refused += isinstance(found, type)
        for one, other in zip(many, alone, strict=True):
            if type(one) is np.ndarray:
                assert one.tobytes() == other.tobytes(), name
    assert 8 < refused < len(calls[0]) - 8
    # Of small ones nobody asks.
    assert set(three_threads) == {3}


def test_few_rows_have_no_more_threads(dtype, rng, three_threads):
    p, target = rng.standard_normal((2, 2, 200_001)).astype(dtype)
    gradients = np.empty((2, *p.shape), dtype)
    assert kernels.mse(p, target, p[0, :0], gradients[0]) == kernels.mse.serial(p, target, p[0, :0], gradients[1])
    assert three_threads == [3]
    assert gradients[0].tobytes() == gradients[1].tobytes()


def test_keywords_inside_compiled_code(dtype):
    @numba.njit
    def value(p, target, none, gradient):
        return kernels.huber(p, target, none, gradient, delta=0.5), kernels.quantile(p, target, none, gradient, q=0.25)

    p = np.array([[1.0], [4.0]], dtype)
    assert value(p, np.zeros_like(p), p[0, :0], np.empty_like(p)) == (1.125, 1.875)
