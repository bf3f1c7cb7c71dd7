"""Standardized inputs: StandardScaler's numbers, a plain network's bits, wherever a model goes."""

import copy
import ctypes
import itertools
import pickle
import warnings

import numba
import numpy as np
import pytest
from conftest import FULL
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn import MLP, Dense, Sequential, Standardize, kernels
from fastnn.kernels import network, regularized_training, training
from fastnn.kernels.catalog_training import hyper_parameters
from fastnn.kernels.codes import Activation, Loss, Normalization, Optimizer
from fastnn.kernels.dropout import rate_threshold
from fastnn.kernels.layout import workspace_size
from fastnn.kernels.network import make_table
from fastnn.kernels.optimizer import CLIP_NORM
from fastnn.kernels.sensitivity import SEEDS
from fastnn.kernels.table import ROW_WORKSPACE, statistics_count


def features(rng, rows=120, dtype=np.float32):
    """Four columns of means and deviations far from 0 and 1, the last of one number."""
    x = rng.standard_normal((rows, 4)) * [1, 40, 1e3, 0] + [0, 7, 2e4, 5]
    return x.astype(dtype)


def target(x):
    return (x[:, :1] - x[:, 1:2] / 40).astype(x.dtype)


def built(dtype="float32", kind=None, rate=0.0, standardize=True):
    more = {"normalization": kind, "dropout": rate, "standardize": standardize, "dtype": dtype}
    return fastnn.MLP([4, 24, 12, 1], "gelu", seed=0, **more)


def fitted(rng, **options):
    net = built(**options)
    x = features(rng, dtype=net.dtype)
    net.fit(x, target(x), epochs=1, seed=0)
    return net, x


def bits(net):
    return net.parameters.tobytes(), net.statistics.tobytes()


def by_hand(net, x):
    """What the network's Dense layers read."""
    return (x - net.standardize.mean) / net.standardize.scale


# ---- What is learned


def learned(x, sample_weight=None, dtype=None):
    layer = Standardize(dtype=dtype or x.dtype)
    layer.adapt(x, sample_weight)
    return layer.mean, layer.scale


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 3, 500])
def test_mean_and_scale_are_those_of_a_standard_scaler(rows, weighted, dtype, rng):
    x = features(rng, rows, dtype)
    weight = rng.integers(0, 4, rows).astype(dtype) if weighted else None
    if weighted:
        weight[0] = 1
    scaler = StandardScaler().fit(x, sample_weight=weight)
    mean, scale = learned(x, weight)
    tolerance = 4 * float(np.finfo(dtype).eps)
    # NumPy's sums are off by some roundings of their largest terms.
    assert (np.abs(mean - scaler.mean_) <= tolerance * np.abs(mean) + 4e-16 * np.abs(x).max(axis=0)).all()
    np.testing.assert_allclose(scale, scaler.scale_, rtol=tolerance)
    assert scale[3] == 1


def test_means_of_float32_are_summed_in_float64(rng):
    """By float32 the sum of a million numbers near 16,000 is off by more than their deviation."""
    x = (16_000 + rng.random((1_000_000, 1)) / 8).astype(np.float32)
    with pytest.warns(UserWarning, match="numbers of float32 are"):
        mean, scale = learned(x)
    wide = x.astype(np.float64)
    assert mean[0] == np.float32(wide.mean())
    assert scale[0] == pytest.approx(wide.std(), rel=1e-7)


@pytest.mark.parametrize("size", [1e-310, 1e-290, 1e-170, 1e170, 1e300])
def test_numbers_as_large_or_small_as_they_get(size, rng):
    """Their squares leave float64, so a StandardScaler's deviation is inf or 0 for most of these."""
    small = rng.uniform(-1, 1, (200, 2)) + np.array([0, 3])
    mean, scale = learned(small * size)
    tolerance = 1e-12 if size > 1e-300 else 1e-8
    np.testing.assert_allclose(mean / size, small.mean(axis=0), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(scale / size, small.std(axis=0), rtol=tolerance)
    net = fastnn.MLP([2, 3, 1], dtype="float64", standardize=True, seed=0)
    net.fit(small * size, small[:, :1], epochs=1, seed=0)
    np.testing.assert_allclose(by_hand(net, small * size).std(axis=0), 1, rtol=1e-7)
    assert np.isfinite(net.predict(small * size)).all()


def test_the_largest_numbers_of_all_have_a_finite_mean():
    mean, scale = learned(np.full((1000, 1), np.finfo(np.float64).max))
    assert (mean[0], scale[0]) == (np.finfo(np.float64).max, 1)


def test_a_dtype_that_leaves_few_digits_of_a_feature_is_told():
    """Seconds since 1970 in float32 are 128 apart; a constant has no digits to lose."""
    seconds = 1.7e9 + np.arange(1000.0)[:, None]
    x = np.hstack([np.full((1000, 1), 2e5), seconds])
    net = MLP([2, 4, 1], standardize=True, seed=0)
    for learn in (lambda: net.standardize.adapt(x), lambda: MLP([2, 1], standardize=True).fit(x, seconds, epochs=1)):
        with pytest.warns(UserWarning, match=r"x: column 1 has mean 1\.70.*e\+09 .* are 1\.3e\+02 apart") as found:
            learn()
        assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLP([2, 4, 1], standardize=True, dtype="float64", seed=0).standardize.adapt(x)
        net.standardize.adapt(x - [0, 1.7e9])
    # Ten seconds are one number.
    with pytest.warns(UserWarning, match=r"x: column 0 .* standard deviation 1, .* are 1\.3e\+02 apart"):
        Standardize().adapt(seconds[:10])


def test_a_feature_that_varies_by_rounding_alone_is_a_constant():
    x = np.array([[0.1 + 0.2], [0.3], [0.3]])
    assert x.std() > 0
    assert learned(x)[1] == StandardScaler().fit(x).scale_ == 1
    # Of float32 the smallest numbers have a deviation that is none of them.
    assert learned(np.array([[0], [0], [0], [1e-45]], np.float32))[1] == 1


def test_numbers_that_are_not_finite_are_left_out(dtype, rng):
    x = features(rng, dtype=dtype)
    x[3, 0], x[4, 1], x[5, 1], x[:, 2] = np.nan, np.inf, -np.inf, np.nan
    mean, scale = learned(x)
    for j in (0, 1, 3):
        used = x[np.isfinite(x[:, j]), j : j + 1]
        assert [mean[j], scale[j]] == [part[0] for part in learned(used)]
    assert (mean[2], scale[2]) == (0, 1)
    # So are rows without weight, however large.
    assert learned(np.array([[1.0], [5.0], [1e300]]), [1, 1, 0]) == (3, 2)
    # Weights of 0 leave nothing.
    mean, scale = learned(x, np.zeros(len(x)))
    assert not mean.any()
    assert (scale == 1).all()


@pytest.mark.parametrize("layout", ["column order", "steps", "backwards", "read-only", "ints", "list"])
def test_any_layout_gives_the_same(layout, rng):
    x = rng.integers(-50, 50, (30, 6)).astype(np.float64)
    wide = np.zeros((60, 12))
    wide[::2, ::2] = x
    other = {
        "column order": np.asfortranarray(x),
        "steps": wide[::2, ::2],
        "backwards": np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
        "read-only": x.copy(),
        "ints": x.astype(np.int8),
        "list": x.tolist(),
    }[layout]
    if layout == "read-only":
        other.flags.writeable = False
    net = Sequential([Standardize(), Dense(6, 3)], dtype="float64", seed=0)
    net.standardize.adapt(x)
    twin = net.copy()
    twin.standardize.adapt(other)
    assert bits(twin) == bits(net)
    assert twin.predict(other).tobytes() == net.predict(x).tobytes()
    assert twin.loss_and_gradient(other, x[:, :3])[1].tobytes() == net.loss_and_gradient(x, x[:, :3])[1].tobytes()
    assert np.array_equal(net.predict(x), kernels_of(net, x))


def kernels_of(net, x):
    """The output by public kernels, one after the other."""
    z, out = np.empty_like(x), np.empty((len(x), net.out_features), x.dtype)
    kernels.standardize(x, net.standardize.mean, net.standardize.scale, z)
    layer = net.layers[1]
    kernels.linear(z, layer.weight, layer.bias, layer.activation, out)
    return out


# ---- The bits of a network that is given standardized rows


OPTIONS = [(None, 0.0), (None, 0.25), ("layer", 0.0), ("batch", 0.25)]


@pytest.mark.parametrize(("kind", "rate"), OPTIONS)
def test_all_of_a_model_is_that_of_standardised_rows(kind, rate, dtype, rng):
    """Fits, predictions, gradients: the same bits as by (x - mean) / scale in NumPy and a network without the layer."""
    x = features(rng, dtype=dtype)
    y, weight = target(x), rng.random(len(x)).astype(dtype)
    net = built(np.dtype(dtype).name, kind, rate)
    net.standardize.adapt(x)
    z, averages = by_hand(net, x), net.statistics.size - 8
    other = built(np.dtype(dtype).name, kind, rate, standardize=False)
    assert other.parameters.tobytes() == net.parameters.tobytes()
    for options in (
        {"optimizer": "adam", "batch_size": 32, "sample_weight": weight},
        {"optimizer": fastnn.SGD(momentum=0.9, clip_norm=0.1, l1=0.01, l2=0.1), "shuffle": False},
        {"optimizer": "rmsprop", "batch_size": None, "shuffle": False},
    ):
        history = net.fit(x, y, epochs=2, seed=7, validation_data=(x, y), **options)
        expected = other.fit(z, y, epochs=2, seed=7, validation_data=(z, y), **options)
        assert history.metrics["val_loss"] == expected.metrics["val_loss"]
        assert history.metrics["loss"] == expected.metrics["loss"]
        assert net.parameters.tobytes() == other.parameters.tobytes()
        assert net.statistics[:averages].tobytes() == other.statistics.tobytes()
    assert net.predict(x).tobytes() == other.predict(z).tobytes()
    value, gradient = net.loss_and_gradient(x, y, "huber", weight)
    expected = other.loss_and_gradient(z, y, "huber", weight)
    assert (value, gradient.tobytes()) == (expected[0], expected[1].tobytes())
    room, ours, theirs = fastnn.workspace(net.network, len(x)), np.empty_like(x), np.empty_like(x)
    fastnn.vjp(net.network, x, y, ours, room)
    fastnn.vjp(other.network, z, y, theirs, fastnn.workspace(other.network, len(x)))
    tolerance = 0 if kind is not None else 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(ours, theirs / net.standardize.scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", [None, "batch"])
def test_derivatives_by_central_differences(kind, rng):
    net, x = fitted(rng, dtype="float64", kind=kind)
    x, y, scale = x[:9], rng.random((9, 1)), net.standardize.scale
    room, gradient = fastnn.workspace(net.network, 9), np.empty_like(net.parameters)
    fastnn.gradient(net.network, x, y, Loss.MSE, gradient, room)
    start, numeric = net.parameters.copy(), np.empty_like(gradient)
    for i in range(start.size):
        values = []
        for step in (1e-6, -1e-6):
            net.parameters = start
            net.parameters[i] += step
            values.append(net.loss_and_gradient(x, y)[0])
        numeric[i] = (values[0] - values[1]) / 2e-6
    net.parameters = start
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-7)
    jacobian, dx, numeric = np.empty((9, 1, 4)), np.empty((9, 4)), np.empty((9, 4))
    for i in range(4):
        # In steps of the feature's own size.
        step = 1e-5 * scale[i] * np.eye(4)[i]
        numeric[:, i] = (net.predict(x + step) - net.predict(x - step))[:, 0] / (2e-5 * scale[i])
    fastnn.jacobian(net.network, x, jacobian, room)
    np.testing.assert_allclose(jacobian[:, 0] * scale, numeric * scale, rtol=1e-6, atol=1e-8)
    fastnn.vjp(net.network, x, y, dx, room)
    np.testing.assert_allclose(dx * scale, y * numeric * scale, rtol=1e-6, atol=1e-8)


# ---- The same bits everywhere


@pytest.mark.parametrize("kind", [None, "batch"])
def test_a_row_does_not_depend_on_its_batch_nor_on_who_asks(kind, dtype, rng):
    net = Sequential(
        [Standardize(), Dense(4, 300, "gelu", normalization=kind), Dense(300, 5)], dtype=np.dtype(dtype), seed=0
    )
    x = features(rng, 600, dtype)
    net.standardize.adapt(x)
    whole = net.predict(x)
    for threads, cuts in itertools.product((1, 2), ([1], [3, 7, 300], [255, 256, 257])):
        net.num_threads = threads
        assert np.concatenate([net.predict(part) for part in np.split(x, cuts)]).tobytes() == whole.tobytes()
    assert net.predict(x[3]).tobytes() == whole[3].tobytes()
    room, out = fastnn.workspace(net.network, 600), np.empty_like(whole)
    for function in (fastnn.apply_into, lambda network, *rest: kernels.normalized_forward(*network, *rest)):
        out[:] = np.nan
        function(net.network, np.asfortranarray(x), out, room)
        assert out.tobytes() == whole.tobytes()
    assert fastnn.apply(net.network, x[::7][4]).tobytes() == whole[28].tobytes()


@pytest.mark.parametrize("clip", [0.0, 0.01], ids=["fused", "clipped by norm"])
@pytest.mark.parametrize("gathers", [False, True])
def test_any_number_of_threads_trains_the_same(gathers, clip, dtype, rng):
    """In a workspace of its exact size, with rows that lie in columns' order."""
    codes = int(Normalization.BATCH), 0, 0
    table, count = make_table((20, 33, 70, 5), (Activation.GELU,) * 3, codes, [rate_threshold(0.2)] * 3, True)
    parameters = (rng.standard_normal(count) * 0.3).astype(dtype)
    statistics = (0.5 + rng.random(statistics_count(table))).astype(dtype)
    x, y = np.asfortranarray(rng.standard_normal((150, 20)).astype(dtype)), rng.random((150, 5)).astype(dtype)
    weight, hyper = np.linspace(0.5, 1.5, 150).astype(dtype), hyper_parameters(Optimizer.ADAM)
    hyper[CLIP_NORM] = clip
    # The last batch is a short one.
    order = rng.permutation(150)[:123] if gathers else np.empty(0, np.int64)
    found = set()
    for threads in (1, 2, 3, 8):
        own = network.NormalizedNetwork(table, parameters.copy(), statistics.copy())
        size = workspace_size(table, parameters, 40, threads)[1]
        memory, losses = np.full(size + 64, np.nan, dtype), np.full(4, np.nan)
        memory[size:] = 7
        optimization = training.Optimization(int(Optimizer.ADAM), hyper, *np.zeros((2, count), dtype))
        plan = regularized_training.training_plan(own, optimization, Loss.MSE, memory[:size], threads)
        regularized_training.begin_updates(plan, 5, 1)
        training.train_planned(plan.ctypes.data, x, y, weight, order, 40, 1, losses)
        assert np.isfinite(losses).all()
        assert (memory[size:] == 7).all()
        assert own.statistics[-40:].tobytes() == statistics[-40:].tobytes()
        found.add((losses.tobytes(), own.parameters.tobytes(), own.statistics.tobytes()))
    assert len(found) == 1


# ---- In compiled code and in C


@numba.njit
def everything(net, x, y, gradient, dx):
    room = fastnn.workspace(net, len(x))
    loss = fastnn.gradient(net, x, y, fastnn.Loss.MSE, gradient, room)
    fastnn.vjp(net, x, y, dx, room)
    return loss, fastnn.apply(net, x)


@numba.njit(parallel=True)
def each_row(net, x, out):
    for i in numba.prange(len(x)):
        out[i] = fastnn.apply(net, x[i])


def test_a_users_compiled_code_has_the_same_bits(rng):
    net, x = fitted(rng)
    y = target(x)
    gradient, dx = np.empty_like(net.parameters), np.empty_like(x)
    loss, out = everything(net.network, x, y, gradient, dx)
    expected = net.loss_and_gradient(x, y)
    assert (loss, gradient.tobytes()) == (expected[0], expected[1].tobytes())
    assert out.tobytes() == net.predict(x).tobytes()
    room, direct = fastnn.workspace(net.network, len(x)), np.empty_like(x)
    fastnn.vjp(net.network, x, y, direct, room)
    assert dx.tobytes() == direct.tobytes()
    rows = np.empty_like(y)
    each_row(net.network, x, rows)
    assert rows.tobytes() == out.tobytes()
    # A view: what is learned anew is what compiled code sees.
    network = net.network
    net.standardize.mean = np.zeros(4)
    assert fastnn.apply(network, x).tobytes() == net.predict(x).tobytes() != out.tobytes()


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("sizes", [(90, 1), (3, 70, 2)], ids=str)
def test_nothing_is_written_behind_the_smallest_workspace(sizes, rows, rng):
    """Of networks whose input is wider than any layer, and narrower."""
    net = fastnn.MLP(sizes, standardize=True, seed=0)
    x = rng.standard_normal((rows, sizes[0])).astype(np.float32)
    y = rng.standard_normal((rows, sizes[-1])).astype(np.float32)
    net.standardize.adapt(x)
    inference, training = workspace_size(net.table, net.parameters, rows, 1)
    inference = net.table[0, ROW_WORKSPACE] if rows == 1 else inference
    jacobian_room = workspace_size(net.table, net.parameters, SEEDS, 1)[1]
    gradient, jacobian = np.empty_like(net.parameters), np.empty((rows, sizes[-1], sizes[0]), np.float32)
    for size, call in (
        (inference, lambda room: fastnn.apply_into(net.network, x, np.empty_like(y), room)),
        (training, lambda room: fastnn.vjp(net.network, x, y, np.empty_like(x), room)),
        (training, lambda room: fastnn.gradient(net.network, x, y, Loss.MSE, gradient, room)),
        (jacobian_room, lambda room: fastnn.jacobian(net.network, x, jacobian, room)),
    ):
        memory = np.full(size + 4096, 7, np.float32)
        call(memory[:size])
        assert (memory[size:] == 7).all()
        with pytest.raises(ValueError, match="workspace: too small"):
            call(memory[: size // 2])
    assert gradient.tobytes() == net.loss_and_gradient(x, y)[1].tobytes()
    np.testing.assert_allclose(jacobian[:, 0], vjp_of_first_output(net, x), rtol=1e-5, atol=1e-6)


def test_a_fit_that_fails_before_its_first_update_leaves_nothing_learned():
    x = np.linspace(-1, 1, 60, dtype=np.float32).reshape(20, 3)
    y = x[:, :1] ** 2
    net = fastnn.MLP([3, 4, 1], standardize=True, seed=0)
    spoiled = x.copy()
    spoiled[3, 1] = np.nan
    with pytest.raises(FloatingPointError):
        net.fit(spoiled, y, epochs=2, seed=0)
    with pytest.raises(OSError, match="none"):
        net.fit(x * 1000, y, seed=0, callbacks=[fastnn.Checkpoint("none/run.safetensors")])
    assert not net.adapted
    assert net.standardize.scale.tolist() == [1, 1, 1]
    net.fit(x, y, seed=0)
    other = fastnn.MLP([3, 4, 1], standardize=True, seed=0)
    other.fit(x, y, seed=0)
    assert net.parameters.tobytes() == other.parameters.tobytes()
    assert net.standardize.mean.tobytes() == other.standardize.mean.tobytes()
    # A later failure leaves what the updates have gone by.
    with pytest.raises(FloatingPointError):
        net.fit(spoiled, y, seed=0)
    assert net.adapted


def vjp_of_first_output(net, x):
    dx, first = np.empty_like(x), np.zeros((len(x), net.out_features), np.float32)
    first[:, 0] = 1
    fastnn.vjp(net.network, x, first, dx, fastnn.workspace(net.network, len(x)))
    return dx


def test_as_a_c_function(rng):
    net, x = fitted(rng)
    function, y = net.cfunc(), np.empty(1, np.float32)
    pointer = ctypes.POINTER(ctypes.c_float)
    function.ctypes(x[5].ctypes.data_as(pointer), y.ctypes.data_as(pointer))
    assert y.tobytes() == net.predict(x[5]).tobytes()


# ---- Models, trainers, files


@pytest.mark.parametrize("name", ["mean", "scale"])
def test_what_is_written_into_the_views_a_fit_keeps(name, rng):
    x = features(rng)
    net = built()
    getattr(net.standardize, name)[1] = 5.0
    before = net.statistics.copy()
    assert net.adapted
    for twin in (net.copy(), pickle.loads(pickle.dumps(net)), net):
        # Which would learn them, had nothing been written.
        twin.fit(x, target(x), epochs=0)
        assert twin.statistics.tobytes() == before.tobytes()


def test_the_first_fit_learns_and_later_ones_keep(rng):
    x = features(rng)
    weight = rng.random(len(x))
    net = built()
    layer = net.layers[0]
    assert (layer.adapted, layer.mean.tolist(), layer.scale.tolist()) == (False, [0] * 4, [1] * 4)
    assert net.predict(x).tobytes() == built(standardize=False).predict(x).tobytes()
    net.fit(x, target(x), sample_weight=weight, epochs=0)
    mean, scale = learned(x, weight)
    assert layer.adapted
    assert (layer.mean.tobytes(), layer.scale.tobytes()) == (mean.tobytes(), scale.tobytes())
    net.fit(x + 1, target(x), epochs=1)
    fastnn.Trainer(net).step(x + 2, target(x))
    assert layer.mean.tobytes() == mean.tobytes()
    layer.adapt(x + 1)
    assert layer.mean.tobytes() == learned(x + 1)[0].tobytes()
    assert net.statistics.tobytes() == np.concatenate((layer.mean, layer.scale)).tobytes()


def test_no_optimizer_moves_them(rng):
    for optimizer in (fastnn.SGD(l1=1.0, l2=1.0), fastnn.AdamW(weight_decay=0.5), fastnn.Adam(clip_norm=0.1)):
        net, x = fitted(rng)
        before = net.statistics.copy()
        net.fit(x, target(x), optimizer=optimizer, epochs=3)
        assert net.statistics.tobytes() == before.tobytes()
        assert net.parameter_count == built(standardize=False).parameter_count


def test_a_step_wants_them_learned(rng):
    net, x = built(), features(rng)
    trainer, before = fastnn.Trainer(net), bits(net)
    with pytest.raises(ValueError, match="net: its Standardize has not learned mean and scale yet; call its adapt"):
        trainer.step(x, target(x))
    with pytest.raises(ValueError, match="net: its Standardize has not learned mean and scale yet"):
        trainer.apply_gradient(np.ones(net.parameter_count))
    assert (bits(net), trainer.steps) == (before, 0)
    net.standardize.mean = [1, 2, 3, 4]
    assert np.isfinite(trainer.step(x, target(x)))


def test_a_fit_of_data_with_nan_fails_as_without_it(rng):
    x = features(rng)
    x[70, 1] = np.nan
    errors = []
    for standardize in (True, False):
        net = built(standardize=standardize)
        before = net.parameters.tobytes()
        y = target(features(rng))
        with pytest.raises(FloatingPointError) as caught:
            net.fit(x, y, batch_size=32, shuffle=False, optimizer=fastnn.SGD(learning_rate=1e-9))
        errors.append(str(caught.value))
        assert net.parameters.tobytes() == before
    assert errors[0] == errors[1]
    assert "epoch 1 (batch 3)" in errors[0]


@pytest.mark.parametrize("adapted", [False, True])
def test_files_pickles_and_copies(adapted, dtype, tmp_path, rng):
    net = built(np.dtype(dtype).name, "batch", 0.1)
    x = features(rng, dtype=dtype)
    if adapted:
        net.standardize.adapt(x)
    path = tmp_path / "net.safetensors"
    net.save(path)
    for twin in (fastnn.load(path), pickle.loads(pickle.dumps(net)), copy.deepcopy(net), net.copy()):
        assert repr(twin) == repr(net)
        assert (bits(twin), twin.standardize.adapted) == (bits(net), adapted)
        assert twin.predict(x).tobytes() == net.predict(x).tobytes()
        twin.standardize.adapt(3 * x)
        assert bits(twin) != bits(net)
    layer = copy.deepcopy(net.layers[0])
    assert (layer._in_model, layer.adapted) == (False, adapted)
    again = Sequential([layer, Dense(4, 1)], dtype=dtype)
    assert again.standardize.mean.tobytes() == net.standardize.mean.tobytes()
    folded = net.folded()
    assert folded.layers[0].scale.tobytes() == net.layers[0].scale.tobytes()
    expected = net.predict(x)
    np.testing.assert_allclose(
        folded.predict(x), expected, rtol=0, atol=100 * np.finfo(dtype).eps * np.abs(expected).max()
    )


def test_a_shallow_copy_of_the_layer_has_numbers_of_its_own():
    layer = Standardize()
    layer.adapt([[1.0], [3.0]])
    twin = copy.copy(layer)
    twin.adapt([[10.0], [30.0]])
    assert (layer.mean[0], twin.mean[0]) == (2, 20)


def test_a_resumed_fit_has_the_bits_of_one_that_ran_through(tmp_path, rng):
    x = features(rng)
    options, path = {"epochs": 6, "batch_size": 8, "seed": 5}, tmp_path / "run.safetensors"
    whole, cut = built(rate=0.2), built(rate=0.2)
    whole.fit(x, target(x), optimizer="adam", **options)

    def stop(trainer, history):
        if trainer.epochs == 3:
            trainer.save(path)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fastnn.Trainer(cut, optimizer="adam").fit(x, target(x), callbacks=[stop], **options)
    restored = fastnn.Trainer.restore(path)
    assert restored.net.standardize.adapted
    restored.resume(x, target(x), callbacks=[lambda trainer, history: None])
    assert bits(restored.net) == bits(whole)


@pytest.mark.parametrize("change", ["adapted", "features", "scale", "place", "missing"])
def test_damaged_files_are_refused(change, tmp_path):
    import json

    import safetensors.numpy

    path = tmp_path / "net.safetensors"
    built().save(path)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    tensors, architecture = safetensors.numpy.load_file(path), json.loads(metadata["architecture"])
    entry = architecture["layers"][0]
    if change == "adapted":
        entry["adapted"], message = 1, "architecture: cannot be read: .*adapted: expected True or False, got 1"
    elif change == "features":
        entry["standardize"], message = 5, r"layers.0.mean: expected shape \[5\], got \[4\]"
    elif change == "scale":
        tensors["layers.0.scale"][2], message = 0, "scale: expected finite numbers above 0 in float32, got 0.0"
    elif change == "place":
        architecture["layers"].insert(0, {"standardize": 4, "adapted": False})
        for name in ("mean", "scale"):
            tensors |= {f"layers.1.{name}": tensors[f"layers.0.{name}"].copy()}
        for i in (3, 2, 1):
            for name in ("weight", "bias"):
                tensors[f"layers.{i + 1}.{name}"] = tensors[f"layers.{i}.{name}"].copy()
        for name in ("weight", "bias"):
            del tensors[f"layers.1.{name}"]
        message = r"layers\[1\]: expected a Dense layer, got Standardize; it can be the first layer alone"
    else:
        del tensors["layers.0.mean"]
        message = "tensors: missing or not of the architecture: layers.0.mean"
    safetensors.numpy.save_file(tensors, path, metadata | {"architecture": json.dumps(architecture)})
    with pytest.raises(ValueError, match=message):
        fastnn.load(path)


def test_statistics_are_one_vector(rng):
    net, x = fitted(rng, kind="batch")
    other = built(kind="batch")
    other.parameters, other.statistics = net.parameters, net.statistics
    assert other.predict(x).tobytes() == net.predict(x).tobytes()
    assert other.standardize.adapted
    bad, before = net.statistics.copy(), bits(net)
    bad[-1] = 0
    with pytest.raises(ValueError, match=r"scale: expected finite numbers above 0 in float32, got 0\.0"):
        net.statistics = bad
    assert bits(net) == before


# ---- Bad input


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (lambda: [Standardize()], ValueError, "layers: expected at least one Dense layer behind"),
        (
            lambda: [Dense(3, 3), Standardize()],
            TypeError,
            r"layers\[1\]: expected a Dense layer, got Standardize; it can",
        ),
        (lambda: [Standardize(4), Dense(3, 3)], ValueError, r"layers\[1\]: expected in_features 4, the out_features"),
        (
            lambda: [Standardize(dtype="float64"), Dense(3, 3, dtype="float32")],
            ValueError,
            "dtype: expected float32 or",
        ),
        (lambda: [built().layers[0], Dense(4, 3)], ValueError, r"layers\[0\]: this layer is in a model already"),
    ],
)
def test_layers_that_do_not_fit(layers, error, message):
    with pytest.raises(error, match=message):
        Sequential(layers(), seed=0)


def test_bad_arguments():
    with pytest.raises(TypeError, match="standardize: expected True or False, got 1"):
        fastnn.MLP([2, 1], standardize=1)
    with pytest.raises(ValueError, match="in_features: expected at least 1, got 0"):
        Standardize(0)
    layer = Standardize(2)
    for x, error, message in (
        (np.ones((3, 3)), ValueError, r"x: expected shape \(\*, 2\), got \(3, 3\)"),
        (np.ones((0, 2)), ValueError, r"x: expected at least one row, got shape \(0, 2\)"),
        (np.array([["a", "b"]]), TypeError, "x: expected an array of real numbers"),
    ):
        with pytest.raises(error, match=message):
            layer.adapt(x)
    with pytest.raises(ValueError, match=r"x: expected shape \(\*, \*\), got \(2, 2, 2\)"):
        Standardize().adapt(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="sample_weight: weights must be finite and at least 0, got -1"):
        layer.adapt(np.ones((1, 2)), [-1])
    for bad in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="scale: expected finite numbers above 0 in float32, got"):
            layer.scale = [1, bad]
    with pytest.raises(ValueError, match=r"mean: expected shape \(2,\), got \(3,\)"):
        layer.mean = [1, 2, 3]
    with pytest.raises(AttributeError, match="mean, scale: the layer does not know its in_features yet"):
        _ = Standardize().mean
    assert not layer.adapted
    assert (layer.mean == 0).all()
    net = built()
    with pytest.raises(ValueError, match="x: expected memory of its own, got an array that overlaps the statistics"):
        fastnn.Trainer(net).fit(net.statistics.reshape(2, 4), np.zeros((2, 1)))
    for x, out in (np.ones(4), net.statistics[:1]), (np.ones((2, 4)), net.statistics[:2, np.newaxis]):
        with pytest.raises(ValueError, match="out: expected memory of its own, got an array that overlaps the stat"):
            net.predict(x, out=out)
    assert not net.adapted


def test_a_failed_assembly_leaves_the_layer_alone():
    layer = Standardize()
    with pytest.raises(ValueError, match=r"layers\[2\]: expected in_features 3"):
        Sequential([layer, Dense(2, 3), Dense(4, 1)])
    assert (layer.in_features, layer._in_model, repr(layer)) == (None, False, "Standardize()")
    net = Sequential([layer, Dense(2, 3), Dense(3, 1)], seed=0)
    assert repr(net.layers[0]) == "Standardize(2)"


# ---- Random networks


@pytest.mark.parametrize("seed", range(300 if FULL else 12))
def test_random_networks_have_the_bits_of_standardised_rows(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 90, rng.integers(2, 5)).tolist()
    rows, dtype = int(rng.integers(2, 700)), ("float32", "float64")[seed % 2]
    activation = list(Activation)[seed % len(Activation)]
    make = lambda standardize: fastnn.MLP(
        sizes, activation, dropout=0.1 * (seed % 3), dtype=dtype, standardize=standardize, seed=seed
    )
    net, other = make(True), make(False)
    x = (rng.standard_normal((rows, sizes[0])) * rng.uniform(0.01, 100, sizes[0])).astype(dtype)
    y = rng.random((rows, sizes[-1])).astype(dtype)
    settings = {"batch_size": int(rng.integers(1, rows + 1)), "shuffle": bool(seed % 2), "seed": seed, "epochs": 2}
    net.fit(x, y, **settings)
    other.fit(by_hand(net, x), y, **settings)
    assert net.parameters.tobytes() == other.parameters.tobytes()
    assert net.predict(x).tobytes() == other.predict(by_hand(net, x)).tobytes()
