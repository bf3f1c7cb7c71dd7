"""Networks called from compiled code: the values of predict, no allocation, errors instead of wild reads."""

import os
import pathlib
import re
import subprocess
import sys

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python, rtsys

import fastnn
from fastnn import kernels
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


def test_compiled_code_refuses_what_is_not_contiguous(net, dtype):
    """Samples and batches alike: kernels would write between the elements, and behind them."""
    network, scratch = net.network, fastnn.workspace(net.network, 5)

    @numba.njit
    def vjp(network, x, dy, dx, scratch):
        fastnn.vjp(network, x, dy, dx, scratch)

    for shape in ((), (5,)):
        x, dx = np.ones((*shape, 4), dtype), np.empty((*shape, 4), dtype)
        y, wide = np.empty((*shape, 3), dtype), np.full((*shape, 6), 7, dtype)
        apart = wide[..., ::2]
        for call, arrays, name in (
            (batch, (x, apart, scratch), "out"),
            (batch, (x, y, np.empty(2 * scratch.size, dtype)[::2]), "workspace"),
            (vjp, (x, apart, dx, scratch), "dy"),
            (vjp, (x, y, np.empty((*shape, 8), dtype)[..., ::2], scratch), "dx"),
        ):
            with pytest.raises(TypingError, match=f"{name}: expected a C-contiguous array, got array"):
                call(network, *arrays)
        assert (wide == 7).all()


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


@numba.njit
def losses_with_parameters(network, x, y, gradient, scratch):
    q = fastnn.gradient(network, x, y, fastnn.Loss.QUANTILE, gradient, scratch, 0.875)
    huber = fastnn.gradient(network, x, y, 2, gradient, scratch, loss_parameter=2)
    own = fastnn.gradient(network, x, y, fastnn.Loss.QUANTILE, gradient, scratch, None)
    # Numbers of fewer bytes than those that the kernels take.
    short = fastnn.gradient(network, x, y, np.int32(7), gradient, scratch, np.float32(0.875))
    return q, huber, own, short, fastnn.gradient(network, x, y, fastnn.Loss.QUANTILE, gradient, scratch)


def test_the_parameter_of_a_loss(net, dtype, rng):
    x, y = rng.standard_normal((7, 4)).astype(dtype), 3 * rng.standard_normal((7, 3)).astype(dtype)
    gradient, scratch = np.empty_like(net.parameters), fastnn.workspace(net.network, 7)
    one = fastnn.losses.Quantile(0.875)
    named = one, fastnn.losses.Huber(delta=2), "quantile", one, "quantile"
    expected = [net.loss_and_gradient(x, y, loss)[0] for loss in named]
    assert list(losses_with_parameters(net.network, x, y, gradient, scratch)) == expected
    assert gradient.tobytes() == net.loss_and_gradient(x, y, "quantile")[1].tobytes()
    for given in (0.875, np.float32(0.875), np.array([0.875]), np.full(3, 0.875)):
        assert fastnn.gradient(net.network, x, y, fastnn.Loss.QUANTILE, gradient, scratch, given) == expected[0]
    assert fastnn.gradient(net.network, x, y, 2, gradient, scratch, np.array([2.0])) == expected[1]
    for loss, wrong in ((7, 0.0), (7, 1.0), (7, np.nan), (2, 0.0), (2, np.inf), (2, -1)):
        for given in (wrong, np.array([float(wrong)])):
            with pytest.raises(ValueError, match="loss_parameter: expected a finite delta"):
                fastnn.gradient(net.network, x, y, loss, gradient, scratch, given)
    for loss in (0, 2, 7):
        with pytest.raises(ValueError, match="loss_parameter: expected a finite delta"):
            fastnn.gradient(net.network, x, y, loss, gradient, scratch, np.empty(0))
    for wrong in ("0.5", True, [0.5]):
        with pytest.raises(TypeError, match="loss_parameter: expected a number"):
            fastnn.gradient(net.network, x, y, 7, gradient, scratch, wrong)


@numba.njit(parallel=True)
def losses_of_levels(network, x, y, levels, gradients, scratches):
    losses = np.empty(levels.size)
    for i in numba.prange(levels.size):
        losses[i] = fastnn.gradient(network, x, y, fastnn.Loss.QUANTILE, gradients[i], scratches[i], levels[i])
    return losses


def test_parameters_in_a_parallel_loop_are_those_of_their_turn(net, dtype, rng):
    x, y = rng.standard_normal((7, 4)).astype(dtype), 3 * rng.standard_normal((7, 3)).astype(dtype)
    levels = (np.arange(40) + 0.5) / 40
    gradients = np.empty((levels.size, net.parameters.size), dtype)
    scratches = np.empty((levels.size, fastnn.workspace(net.network, 7).size), dtype)
    losses = losses_of_levels(net.network, x, y, levels, gradients, scratches)
    for q, loss, gradient in zip(levels, losses, gradients, strict=True):
        expected = net.loss_and_gradient(x, y, fastnn.losses.Quantile(q))
        assert (loss, gradient.tobytes()) == (expected[0], expected[1].tobytes())


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
        batch(network, x.astype(other), out, scratch)
    with pytest.raises(TypingError, match="both 1-D or both 2-D"):
        batch(network, x, out[0], scratch)
    frozen = out.copy()
    frozen.flags.writeable = False
    for wrong, error, message in (
        ((network, x.astype(other), out, scratch), TypeError, "x: expected an ndarray of float"),
        ((network, x.tolist(), out, scratch), TypeError, "x: expected an ndarray of float.*got list"),
        ((net, x, out, scratch), TypeError, "network: expected the network of a model, got Sequential"),
        ((network, x, out[0], scratch), ValueError, "x and out: expected both 1-D or both 2-D"),
        ((network, x, np.asfortranarray(out), scratch), ValueError, "out: expected a C-contiguous array"),
        ((network, x, frozen, scratch), ValueError, "out: expected a writeable array"),
        ((network, x, scratch[:9].reshape(3, 3), scratch), ValueError, "out: .*overlaps workspace"),
    ):
        with pytest.raises(error, match=message):
            fastnn.apply_into(*wrong)
    gradient = np.zeros_like(net.parameters)
    for wrong, message in (
        ((x[:, :3], out, gradient, scratch), "x: its last axis"),
        ((x[:0], out[:0], gradient, scratch), "x: expected"),
        ((x, out[:2], gradient, scratch), "y: expected"),
        ((x, out, gradient[1:], scratch), "gradient: expected"),
        ((x, out, gradient, scratch[:10]), "workspace: too small"),
    ):
        samples, targets, result, room = wrong
        with pytest.raises(ValueError, match=message):
            fastnn.gradient(network, samples, targets, fastnn.Loss.MSE, result, room)
    with pytest.raises(ValueError, match="loss: expected a member"):
        fastnn.gradient(network, x, out, 99, gradient, scratch)
    with pytest.raises(TypeError, match="loss: expected a member"):
        fastnn.gradient(network, x, out, "mse", gradient, scratch)
    with pytest.raises(ValueError, match="batch"):
        fastnn.workspace(network, 0)
    for wrong, message in (
        ((x, out, x[:2].copy(), scratch), "dy and dx: expected a row"),
        ((x, out[:, :2].copy(), x.copy(), scratch), "dy and dx: expected a row"),
        ((x, out, x.copy(), scratch[:10]), "workspace: too small"),
        ((x[:, :3], out, x.copy(), scratch), "x: its last axis"),
    ):
        with pytest.raises(ValueError, match=message):
            fastnn.vjp(network, *wrong)
    for wrong, message in (
        ((x, np.empty((3, 4, 3), dtype), scratch), "out: expected an array"),
        ((x, np.empty((2, 3, 4), dtype), scratch), "out: expected an array"),
        ((x[0], np.empty((3, 4), dtype), scratch[:10]), "workspace: too small"),
        ((x, out, scratch), "x and out: expected 1-D and 2-D or 2-D and 3-D"),
    ):
        with pytest.raises(ValueError, match=message):
            fastnn.jacobian(network, *wrong)


def test_refused_calls_let_go_of_their_arrays(net, dtype):
    """A kernel that raises keeps what Python gave it: so Python looks before."""
    network = net.network
    x, y, slope, scratch = np.zeros((3, 4), dtype), np.zeros((3, 3), dtype), np.empty((3, 4), dtype), np.zeros(9, dtype)
    gradient, jacobians = np.zeros_like(net.parameters), np.empty((3, 3, 4), dtype)
    calls = (
        lambda: fastnn.apply(network, y),
        lambda: fastnn.apply_into(network, x, y, scratch),
        lambda: fastnn.vjp(network, x, y, slope, scratch),
        lambda: fastnn.jacobian(network, x, jacobians, scratch),
        lambda: fastnn.gradient(network, x, y, fastnn.Loss.MSE, gradient, scratch),
        lambda: fastnn.parameter_vjp(network, x, y, gradient, scratch),
        lambda: fastnn.workspace(network, 0),
    )
    counts = lambda: [sys.getrefcount(array) for array in (x, y, slope, scratch, gradient, *network)]
    before = counts()
    for call in calls:
        for _ in range(5):
            with pytest.raises(ValueError, match=r"expected|too small|its last axis"):
                call()
        assert counts() == before


@numba.njit
def derivatives(which, network, x, y, slope, jacobians, gradient, scratch):
    if which == 0:
        fastnn.vjp(network, x, y, slope, scratch)
    elif which == 1:
        fastnn.jacobian(network, x, jacobians, scratch)
    elif which == 2:
        fastnn.gradient(network, x, y, fastnn.Loss.MSE, gradient, scratch)
    elif which == 3:
        fastnn.parameter_vjp(network, x, y, gradient, scratch)
    else:
        fastnn.apply_into(network, x, y, scratch)


@pytest.mark.parametrize("kind", ["plain", "normalized"])
def test_compiled_code_refuses_what_does_not_fit(kind):
    more = {} if kind == "plain" else {"standardize": True, "normalization": "batch"}
    net = fastnn.MLP([4, 8, 3], seed=0, **more)
    network, scratch = net.network, fastnn.workspace(net.network, 3)
    x, y, jacobians = np.ones((3, 4), np.float32), np.ones((3, 3), np.float32), np.empty((3, 3, 4), np.float32)
    good = {"network": network, "x": x, "y": y, "slope": x.copy(), "jacobians": jacobians, "scratch": scratch}
    good["gradient"] = np.empty_like(net.parameters)
    parameters, others = network.parameters, network[1:]
    before = [array.copy() for array in others]
    wrong = [
        ({"x": x[:, :3]}, range(5), "x: its last axis"),
        ({"y": y[:, :2].copy()}, (0,), "dy and dx: expected a row"),
        ({"y": y[:2]}, (2,), "y: expected a row"),
        ({"y": y[:2]}, (3,), "dy: expected a row"),
        ({"y": y[:2]}, (4,), "out: expected a row"),
        ({"jacobians": jacobians[:2]}, (1,), "out: expected an array"),
        ({"gradient": parameters[1:].copy()}, (2, 3), "gradient: expected the size of the parameters"),
        ({"gradient": parameters}, (2, 3), "gradient: expected memory of its own"),
        ({"scratch": scratch[:9]}, range(5), "workspace: too small"),
        ({"scratch": parameters}, range(5), "workspace: expected memory of its own"),
        ({"x": scratch[-12:].reshape(3, 4)}, range(5), "workspace: expected memory of its own"),
        ({"y": scratch[-9:].reshape(3, 3)}, (0, 2, 3, 4), "workspace: expected memory of its own"),
        ({"slope": scratch[-12:].reshape(3, 4)}, (0,), "workspace: expected memory of its own"),
        ({"jacobians": scratch[-36:].reshape(3, 3, 4)}, (1,), "workspace: expected memory of its own"),
        ({"gradient": scratch[-parameters.size :]}, (2, 3), "workspace: expected memory of its own"),
        ({"network": network._replace(parameters=parameters[1:].copy())}, (0, 1, 4), "network: expected parameters"),
        *[({"slope": array[:12].reshape(3, 4)}, (0,), "dx: expected memory of its own") for array in others],
        *[({"y": array[:9].reshape(3, 3)}, (4,), "out: expected memory of its own") for array in others],
    ]
    if kind == "normalized":
        wrong += [
            ({"network": network._replace(statistics=scratch[:5].copy())}, range(5), "network: expected parameters"),
            ({"x": x[:1], "y": y[:1]}, (2, 3), "x: expected at least two rows"),
        ]
    for change, functions, message in wrong:
        for which in functions:
            with pytest.raises(ValueError, match=message):
                derivatives(which, **(good | change))
    for which in range(5):
        derivatives(which, **good)
    for array, was in zip(others, before, strict=True):
        np.testing.assert_array_equal(array, was)
    for change, message in (
        ({"network": network._replace(parameters=parameters[1:].copy())}, "network: expected parameters"),
        ({"scratch": parameters}, "workspace: expected memory of its own"),
        ({"x": scratch[-4:]}, "workspace: expected memory of its own"),
        ({"y": scratch[-3:]}, "workspace: expected memory of its own"),
        *[({"y": array[:3]}, "out: expected memory of its own") for array in others],
    ):
        row = good | {"x": x[0], "y": y[0]} | change
        with pytest.raises(ValueError, match=message):
            batch(*[row[name] for name in ("network", "x", "y", "scratch")])


@numba.njit
def derivatives_of_a_sample(network, x, y, slope, jacobian, scratch):
    fastnn.vjp(network, x, y, slope, scratch)
    fastnn.jacobian(network, x, jacobian, scratch)


def test_compiled_code_refuses_a_workspace_over_a_sample(net, dtype):
    scratch = fastnn.workspace(net.network, 1)
    good = {"x": np.ones(4, dtype), "y": np.ones(3, dtype), "slope": np.empty(4, dtype)}
    good["jacobian"] = np.empty((3, 4), dtype)
    for name, array in good.items():
        over = {name: scratch[-array.size :].reshape(array.shape)}
        with pytest.raises(ValueError, match="workspace: expected memory of its own"):
            derivatives_of_a_sample(net.network, **(good | over), scratch=scratch)
    derivatives_of_a_sample(net.network, **good, scratch=scratch)


@numba.njit
def quantile_gradient(network, x, y, gradient, scratch, levels):
    return fastnn.gradient(network, x, y, fastnn.Loss.QUANTILE, gradient, scratch, levels)


def test_loss_parameters_have_memory_of_their_own():
    net = fastnn.MLP([4, 3], dtype="float64", seed=0)
    x, y, scratch = np.ones((2, 4)), np.ones((2, 3)), fastnn.workspace(net.network, 2)
    gradient = np.full_like(net.parameters, 0.5)
    scratch[:] = 0.5
    for function in (quantile_gradient, quantile_gradient.py_func):
        for levels, what in ((gradient[:3], "gradient"), (scratch[-3:], "workspace")):
            with pytest.raises(ValueError, match=f"{what}: expected memory of its own"):
                function(net.network, x, y, gradient, scratch, levels)


def test_members_of_other_enumerations_are_no_losses(net, dtype):
    x, y, gradient = np.ones((2, 4), dtype), np.ones((2, 3), dtype), np.empty_like(net.parameters)
    scratch = fastnn.workspace(net.network, 2)

    def call(network, x, y, gradient, scratch):
        return fastnn.gradient(network, x, y, fastnn.Activation.RELU, gradient, scratch)

    with pytest.raises(TypeError, match=r"loss: expected a member of fastnn\.Loss, got <Activation\.RELU"):
        call(net.network, x, y, gradient, scratch)
    with pytest.raises(TypingError, match=r"loss: expected a member of fastnn\.Loss, got"):
        numba.njit(call)(net.network, x, y, gradient, scratch)


def test_debug_information_brings_no_warnings():
    """Warnings are errors here."""
    for more in ({}, {"normalization": "layer"}):
        net = fastnn.MLP([4, 8, 3], seed=0, **more)
        x, y, gradient = np.ones((3, 4), np.float32), np.ones((3, 3), np.float32), np.empty_like(net.parameters)
        arrays = x, y, x.copy(), np.empty((3, 3, 4), np.float32), gradient, fastnn.workspace(net.network, 3)
        debugged = numba.njit(debug=True)(derivatives.py_func)
        for which in range(5):
            debugged(which, net.network, *arrays)
        np.testing.assert_array_equal(y, net.predict(x))


@numba.njit
def room(network, batch):
    return fastnn.workspace(network, batch).size


def test_unsigned_counts_of_rows(net):
    assert room(net.network, np.uint64(5)) == room(net.network, 5) == fastnn.workspace(net.network, 5).size
    with pytest.raises(ValueError, match="batch: expected at least 1"):
        room(net.network, np.uint64(2**63 + 5))


def test_compiled_code_refuses_a_result_over_its_input(net, dtype):
    """Found by their addresses: nothing else is known of arrays there."""
    square = fastnn.MLP([4, 8, 4], dtype=dtype, seed=0)
    memory, scratch = np.zeros(64, dtype), fastnn.workspace(square.network, 3)
    x = memory[:12].reshape(3, 4)
    for out in (x, memory[11:23].reshape(3, 4)):
        with pytest.raises(ValueError, match="expected memory of its own"):
            batch(square.network, x, out, scratch)
    with pytest.raises(ValueError, match="expected memory of its own"):
        row_by_row(square.network, x, x, scratch)
    batch(square.network, x, memory[12:24].reshape(3, 4), scratch)
    batch(square.network, memory[23:11:-1].reshape(3, 4), memory[24:36].reshape(3, 4), scratch)
    row_by_row(square.network, x, memory[12:24].reshape(3, 4), scratch)


NETWORKS = [
    ([4, 32, 100, 3], "tanh", "softmax"),
    ([5, 7], "relu", "identity"),
    ([3, 40, 70], "gelu", "log_softmax"),
    ([3, 16, 8, 1], "softmax", "sigmoid"),
    ([6, 300, 2], "silu", "gelu"),
]


@pytest.mark.parametrize(("sizes", "activation", "last"), NETWORKS)
def test_jacobian_is_the_slope_and_vjp_its_product(sizes, activation, last, dtype, rng):
    """Against central differences of a float64 twin; a sample alone gives the bits that it gives in its batch."""
    net = fastnn.MLP(sizes, activation=activation, output_activation=last, dtype=dtype, seed=0)
    twin = fastnn.MLP(sizes, activation=activation, output_activation=last, dtype="float64", seed=0)
    twin.parameters = net.parameters.astype(float)
    network, scratch = net.network, fastnn.workspace(net.network, 9)
    x, dy = (rng.standard_normal((9, n)).astype(dtype) for n in (sizes[0], sizes[-1]))
    dx, out = np.empty_like(x), np.empty((9, sizes[-1], sizes[0]), dtype)
    fastnn.jacobian(network, x, out, scratch)
    fastnn.vjp(network, np.asfortranarray(x), dy, dx, scratch)
    slopes = np.empty(out.shape)
    for j, step in enumerate(np.eye(sizes[0]) * 1e-6):
        slopes[:, :, j] = (twin.predict(x + step) - twin.predict(x - step)) / 2e-6
    tolerance = 1e-7 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(out, slopes, atol=tolerance)
    np.testing.assert_allclose(dx, np.einsum("mi,mij->mj", dy, slopes), atol=tolerance)
    alone, row = np.empty_like(out[0]), np.empty_like(x[0])
    fastnn.jacobian(network, x[2], alone, scratch)
    fastnn.vjp(network, x[2], dy[2], row, scratch)
    assert alone.tobytes() == out[2].tobytes()
    assert row.tobytes() == dx[2].tobytes()


@numba.njit(parallel=True)
def slopes_in_parallel(network, x, dy, dx, out):
    for i in numba.prange(len(x)):
        scratch = fastnn.workspace(network, 1)
        fastnn.vjp(network, x[i], dy[i], dx[i], scratch)
        fastnn.jacobian(network, x[i], out[i], scratch)


def test_slopes_in_compiled_code(net, dtype, rng):
    x, dy = rng.standard_normal((50, 4)).astype(dtype), rng.standard_normal((50, 3)).astype(dtype)
    dx, out = np.empty_like(x), np.empty((50, 3, 4), dtype)
    slopes_in_parallel(net.network, x, dy, dx, out)
    expected = np.empty_like(dx), np.empty_like(out)
    scratch = fastnn.workspace(net.network, 50)
    fastnn.vjp(net.network, x, dy, expected[0], scratch)
    fastnn.jacobian(net.network, x, expected[1], scratch)
    assert dx.tobytes() == expected[0].tobytes()
    assert out.tobytes() == expected[1].tobytes()


@numba.njit
def temporaries(network, x):
    out = np.empty((len(x), 3), x.dtype)
    fastnn.apply_into(network, x + x, out, fastnn.workspace(network, len(x)))
    return out


def test_temporary_arrays_live_until_the_call_is_over(net, dtype, rng):
    """Numba frees an array after the last use of its name, not of a pointer into it. Freed memory is unmapped here."""
    x = rng.standard_normal((700, 4)).astype(dtype)
    assert temporaries(net.network, x).tobytes() == net.predict(x + x).tobytes()
    code = """
import numpy as np, fastnn
from test_embedded import temporaries
K, x, log = fastnn.kernels, np.ones((300, 400)), fastnn.Activation.LOG_SOFTMAX
w, b, y = np.ones((400, 500)), np.ones(500), np.empty((300, 500))
K.linear(x, w.T.copy().T, b, log, y)
K.linear_backward_input(y, w, x)
K.linear_backward_parameters(x, y, w, b)
K.outer_update(x, y, 0.1, w, b)
K.log_softmax_backward(y, y.copy(), y)
K.log_softmax(y, y)
K.mse(x, x, x[:0, 0], x.copy())
net = fastnn.MLP([4, 32, 100, 3], dtype="float64", seed=0)
print(temporaries(net.network, np.ones((700, 4))).shape)
"""
    folders = os.pathsep.join([str(pathlib.Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000", "PYTHONPATH": folders}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=600)
    assert (done.returncode, done.stdout) == (0, "(700, 3)\n"), done.stderr


def test_a_model_in_the_place_of_its_network_is_told():
    net = fastnn.MLP([2, 1], seed=0)

    @numba.njit
    def answer(network, x):
        return fastnn.apply(network, x)

    with pytest.raises(numba.core.errors.TypingError, match=r"net\.network, got the model itself"):
        answer(net, np.ones(2, np.float32))
    # What does not go into compiled code is Numba's object as any other.
    assert numba.jit(forceobj=True)(lambda model: model.in_features)(net) == 2


@pytest.mark.parametrize("options", [{"normalization": "layer"}, {"standardize": True}])
def test_plain_kernels_refuse_the_table_of_another_network(options):
    net = fastnn.MLP([2, 3, 1], seed=0, **options)
    x, out, gradient = np.ones((2, 2), np.float32), np.empty((2, 1), np.float32), np.empty_like(net.parameters)
    workspace, none = fastnn.workspace(net.network, 2), np.empty(0, np.float32)

    @numba.njit
    def forward(table, parameters, x, out, workspace):
        kernels.forward(table, parameters, x, out, workspace)

    @numba.njit
    def loss(table, parameters, x, y, none, gradient, workspace):
        return kernels.loss_and_gradient(table, parameters, x, y, none, kernels.Loss.MSE, gradient, workspace)

    arrays, more = (net.table, net.parameters, x, out), (none, gradient, workspace)
    for call in (forward, kernels.forward):
        with pytest.raises(ValueError, match="table: expected plain layers, got normalized ones or inputs"):
            call(*arrays, workspace)
    with pytest.raises(ValueError, match="table: expected plain layers"):
        loss(*arrays, *more)
    with pytest.raises(ValueError, match="table: expected plain layers"):
        kernels.loss_and_gradient(*arrays, none, kernels.Loss.MSE, gradient, workspace)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_workspace_of_two_axes_is_refused(compiled):
    """A worker would read its strides for a size."""
    net = fastnn.MLP([4, 6, 3], seed=0)
    x, y, slope = np.ones((5, 4), np.float32), np.ones((5, 3), np.float32), np.empty_like(net.parameters)
    workspace = fastnn.workspace(net.network, 5)[np.newaxis].copy()
    calls = [
        lambda network, workspace: fastnn.gradient(network, x, y, fastnn.Loss.MSE, slope, workspace),
        lambda network, workspace: fastnn.parameter_vjp(network, x, y, slope, workspace),
        lambda network, workspace: fastnn.apply_into(network, x, y, workspace),
        lambda network, workspace: fastnn.vjp(network, x, y, np.empty_like(x), workspace),
    ]
    if compiled:

        @numba.njit
        def gradient(network, x, y, slope, workspace):
            return fastnn.gradient(network, x, y, fastnn.Loss.MSE, slope, workspace)

        @numba.njit
        def sample(network, x, y, slope, workspace):
            fastnn.apply_into(network, x[0], y[0], workspace)

        calls = [lambda network, workspace, f=f: f(network, x, y, slope, workspace) for f in (gradient, sample)]
    for call in calls:
        with pytest.raises((ValueError, TypingError), match="workspace: expected 1-D, got 2-D"):
            call(net.network, workspace)


@pytest.mark.parametrize("parallel", [False, True])
def test_a_function_may_call_each_of_them_more_than_once(parallel):
    """Numba warns of some code with branches that is copied twice into one function; warnings are errors here."""
    net = fastnn.MLP([4, 8, 3], seed=0)
    x, dy, gradient = np.ones((6, 4), np.float32), np.ones((6, 3), np.float32), np.empty_like(net.parameters)
    dx, out, slopes = np.empty_like(x), np.empty_like(dy), np.empty((6, 3, 4), np.float32)

    @numba.njit(parallel=parallel)
    def twice(network, x, dy, dx, out, slopes, gradient, losses):
        for i in numba.prange(losses.size):
            scratch = fastnn.workspace(network, 8)
            for _ in range(2):
                fastnn.apply_into(network, x, out, scratch)
                fastnn.apply_into(network, x[0], out[0], scratch)
                fastnn.apply_into(network, x[1], out[1], scratch)
                fastnn.apply_into(network, x, out, scratch)
                fastnn.vjp(network, x, dy, dx, scratch)
                fastnn.vjp(network, x[0], dy[0], dx[0], scratch)
                fastnn.vjp(network, x, dy, dx, scratch)
                fastnn.vjp(network, x[1], dy[1], dx[1], scratch)
                fastnn.parameter_vjp(network, x, dy, gradient, scratch)
                fastnn.parameter_vjp(network, x, dy, gradient, scratch)
                fastnn.jacobian(network, x, slopes, scratch)
                fastnn.jacobian(network, x[0], slopes[0], scratch)
                fastnn.jacobian(network, x, slopes, scratch)
                losses[i] = fastnn.gradient(network, x, dy, fastnn.Loss.MAE, gradient, scratch)
                losses[i] += fastnn.gradient(network, x, dy, fastnn.Loss.MSE, gradient, scratch)

    losses = np.zeros(1)
    twice(net.network, x, dy, dx, out, slopes, gradient, losses)
    assert losses[0] == sum(net.loss_and_gradient(x, dy, loss)[0] for loss in ("mae", "mse"))
    np.testing.assert_array_equal(gradient, net.loss_and_gradient(x, dy, "mse")[1])


def test_python_names_the_shapes_that_it_expected_and_got():
    network = fastnn.MLP([2, 4, 3], seed=0).network
    x, room = np.zeros((5, 2), np.float32), fastnn.workspace(network, 5)
    new = lambda *shape: np.zeros(shape, np.float32)
    for call, message in (
        (lambda: fastnn.apply(network, new(5, 3)), "x: expected shape (5, 2), got (5, 3)"),
        (lambda: fastnn.apply(network, new(3)), "x: expected shape (2,), got (3,)"),
        (lambda: fastnn.apply_into(network, x, new(5, 2), room), "out: expected shape (5, 3), got (5, 2)"),
        (lambda: fastnn.apply_into(network, x, new(5, 3), room[:7]), "elements, got 7"),
        (lambda: fastnn.vjp(network, x, new(4, 3), new(5, 2), room), "dy: expected shape (5, 3), got (4, 3)"),
        (lambda: fastnn.vjp(network, x, new(5, 3), new(5, 3), room), "dx: expected shape (5, 2), got (5, 3)"),
        (lambda: fastnn.jacobian(network, x, new(5, 2, 3), room), "out: expected shape (5, 3, 2), got (5, 2, 3)"),
        (lambda: fastnn.gradient(network, x, new(5, 2), fastnn.Loss.MSE, new(27), room), "y: expected shape (5, 3)"),
        (lambda: fastnn.gradient(network, x, new(5, 3), fastnn.Loss.MSE, new(9), room), "expected 27 elements, got 9"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("normalization", [None, "batch"])
def test_a_gradient_with_sample_weights_is_that_of_the_model(dtype, normalization, rng):
    net = fastnn.MLP([3, 20, 2], normalization=normalization, dtype=dtype, seed=0)
    x, y = rng.standard_normal((7, 3)).astype(dtype), rng.standard_normal((7, 2)).astype(dtype)
    weight = rng.random(7).astype(dtype)
    value, expected = net.loss_and_gradient(x, y, "huber", sample_weight=weight)
    room = fastnn.workspace(net.network, 7)

    @numba.njit
    def compiled(network, x, y, gradient, room, weight):
        return fastnn.gradient(network, x, y, fastnn.Loss.HUBER, gradient, room, None, weight)

    def python(network, x, y, gradient, room, weight):
        return fastnn.gradient(network, x, y, fastnn.Loss.HUBER, gradient, room, sample_weight=weight)

    for call in (compiled, python):
        gradient = np.empty_like(net.parameters)
        assert call(net.network, x, y, gradient, room, weight) == value
        assert gradient.tobytes() == expected.tobytes()
        with pytest.raises(ValueError, match="sample_weight: expected one for each row of x"):
            call(net.network, x, y, gradient, room, weight[:6])
        with pytest.raises(ValueError, match="memory of its own"):
            call(net.network, x, y, gradient, room, gradient[:7])
    wrong = np.float64 if dtype == np.float32 else np.float32
    with pytest.raises(TypeError, match="sample_weight: expected an ndarray of"):
        python(net.network, x, y, gradient, room, weight.astype(wrong))
    with pytest.raises(TypingError, match="sample_weight: expected an array of"):
        compiled(net.network, x, y, gradient, room, weight.astype(wrong))
    with pytest.raises(TypingError, match="sample_weight: expected 1-D"):
        compiled(net.network, x, y, gradient, room, weight[:, None])
