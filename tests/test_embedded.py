"""Networks called from compiled code: the values of predict, no allocation, errors instead of wild reads."""

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python, rtsys

import fastnn
from fastnn.kernels import reference

SIZES = [4, 32, 100, 3]


@pytest.fixture
def net(dtype):
    return fastnn.MLP(SIZES, activation="tanh", output_activation="softmax", dtype=dtype, seed=0)


@numba.njit
def row_by_row(network, x, out, scratch):
    for i in range(len(x)):
        fastnn.apply_into(network, x[i], out[i], scratch)


@numba.njit(parallel=True)
def in_parallel(network, x, out):
    for i in numba.prange(len(x)):
        out[i] = fastnn.apply(network, x[i])


@numba.njit
def batch(network, x, out, scratch):
    fastnn.apply_into(network, x, out, scratch)


def test_the_bits_of_predict(net, dtype, rng):
    x = np.asfortranarray(rng.standard_normal((50, 4)).astype(dtype))
    expected = net.predict(x)
    out = np.empty_like(expected)
    for call in (
        lambda: row_by_row(net.network, x, out, fastnn.workspace(net.network, 1)),
        lambda: batch(net.network, x, out, fastnn.workspace(net.network, 50)),
        lambda: in_parallel(net.network, x, out),
        lambda: fastnn.apply_into(net.network, x, out, fastnn.workspace(net.network, 50)),
        lambda: np.copyto(out, fastnn.apply(net.network, x)),
    ):
        out[:] = np.nan
        call()
        assert out.tobytes() == expected.tobytes()


def test_the_arrays_are_shared_with_the_model(net, dtype):
    x = np.ones(4, dtype)
    before = fastnn.apply(net.network, x)
    net.parameters[:] = 0
    after = fastnn.apply(net.network, x)
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, np.full(3, 1 / 3))


def test_rows_allocate_nothing(net, dtype, rng):
    x = rng.standard_normal((200, 4)).astype(dtype)
    out, scratch = np.empty((200, 3), dtype), fastnn.workspace(net.network, 1)
    row_by_row(net.network, x, out, scratch)
    _nrt_python.memsys_enable_stats()
    try:
        counts = []
        for rows in (1, 200):
            before = rtsys.get_allocation_stats().alloc
            row_by_row(net.network, x[:rows], out, scratch)
            counts.append(rtsys.get_allocation_stats().alloc - before)
    finally:
        _nrt_python.memsys_disable_stats()
    assert counts[0] == counts[1]


@numba.njit
def descend(network, x, y, loss, rate, steps):
    gradient, scratch = np.empty_like(network.parameters), fastnn.workspace(network, len(x))
    value = 0.0
    for _ in range(steps):
        value = fastnn.gradient(network, x, y, loss, gradient, scratch)
        network.parameters[:] -= rate * gradient
    return value


def test_training_in_compiled_code(dtype, rng):
    x = rng.standard_normal((20, 4)).astype(dtype)
    y = x[:, :1] * 2
    net = fastnn.MLP([4, 16, 1], activation="tanh", dtype=dtype, seed=0)
    twin = net.copy()
    first = descend(net.network, x, y, fastnn.Loss.MSE, net.dtype.type(0.05), 1)
    value, gradient = twin.loss_and_gradient(x, y)
    assert first == value
    np.testing.assert_array_equal(net.parameters, twin.parameters - net.dtype.type(0.05) * gradient)
    assert descend(net.network, x, y, fastnn.Loss.MSE, net.dtype.type(0.05), 300) < first / 10


def test_labels(dtype, rng):
    net = fastnn.MLP([4, 5], dtype=dtype, seed=0)
    x, labels = rng.standard_normal((7, 4)).astype(dtype), np.arange(7, dtype=dtype).reshape(-1, 1) % 5
    gradient = np.empty_like(net.parameters)
    code = fastnn.Loss.SOFTMAX_CROSS_ENTROPY
    value = fastnn.gradient(net.network, x, labels, code, gradient, fastnn.workspace(net.network, 7))
    out = np.empty((7, 5))
    expected = reference.softmax_cross_entropy(net.predict(x).astype(float), labels.astype(float), np.empty(0), out)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_what_does_not_fit_is_refused(net, dtype):
    network = net.network
    x, out, scratch = np.zeros((3, 4), dtype), np.zeros((3, 3), dtype), fastnn.workspace(net.network, 3)
    for wrong, message in (
        ((x[:, :3], out, scratch), "x: its last axis"),
        ((x, out[:2], scratch), "out: expected a row"),
        ((x, np.zeros((3, 2), dtype), scratch), "out: expected a row"),
        ((x, out, scratch[:10]), "workspace: too small"),
        ((x[0], out[0], scratch[:10]), "workspace: too small"),
        ((x[0, :3], out[0], scratch), "x: its last axis"),
    ):
        with pytest.raises(ValueError, match=message):
            fastnn.apply_into(network, *wrong)
    other = np.float64 if dtype == np.float32 else np.float32
    with pytest.raises(TypingError, match="the network's dtype"):
        fastnn.apply_into(network, x.astype(other), out, scratch)
    with pytest.raises(TypingError, match="both 1-D or both 2-D"):
        fastnn.apply_into(network, x, out[0], scratch)
    gradient = np.zeros_like(net.parameters)
    for wrong, message in (
        ((x[:, :3], out, gradient, scratch), "x: expected"),
        ((x[:0], out[:0], gradient, scratch), "x: expected"),
        ((x, out[:2], gradient, scratch), "y: expected"),
        ((x, out, gradient[1:], scratch), "gradient: expected"),
        ((x, out, gradient, scratch[:10]), "workspace: too small"),
    ):
        samples, targets, result, room = wrong
        with pytest.raises(ValueError, match=message):
            fastnn.gradient(network, samples, targets, fastnn.Loss.MSE, result, room)
    with pytest.raises(ValueError, match="batch"):
        fastnn.workspace(network, 0)
