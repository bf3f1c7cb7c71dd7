"""Layers, models and activations as their users see them."""

import copy
import doctest
import importlib
import inspect
import pathlib
import pickle
import pkgutil
import subprocess
import sys
import threading
import types
import typing

import numpy as np
import pytest
from conftest import DTYPES

import fastnn
from fastnn import MLP, Activation, Dense, Loss, Sequential, Standardize, activations, kernels
from fastnn.kernels import codes, reference
from fastnn.kernels.catalog import CATALOG
from fastnn.kernels.digest import SOURCE_DIGEST

KERNEL_MODULES = [f"fastnn.kernels.{m.name}" for m in pkgutil.iter_modules(kernels.__path__)]
MODULES = [
    "fastnn",
    *(f"fastnn.{m.name}" for m in pkgutil.iter_modules(fastnn.__path__) if m.name not in ("kernels", "__main__")),
    *KERNEL_MODULES,
]
# What the docstrings of `kernels` and `kernels.reference` say that examples take as read.
CODES = {name: getattr(codes, name) for name in ("Activation", "Loss", "Normalization")}
TAKEN_AS_READ = {"np": np, "fastnn": fastnn, "kernels": kernels, "reference": reference, **CODES}


@pytest.fixture
def net():
    return fastnn.MLP([4, 8, 3], activation="tanh", seed=1)


@pytest.fixture
def x(rng):
    return rng.standard_normal((10, 4)).astype(np.float32)


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module):
    taken = TAKEN_AS_READ if module in KERNEL_MODULES else {}
    assert doctest.testmod(importlib.import_module(module), extraglobs=taken).failed == 0


def test_every_public_function_has_an_example():
    """Functions and classes of `__all__`, and references of kernels: examples that `test_docstring_examples` runs."""
    public = [getattr(module, name) for module in (fastnn, kernels) for name in module.__all__]
    named = [
        (thing.__module__, thing.__name__.partition("_" + SOURCE_DIGEST)[0]) for thing in public if callable(thing)
    ]
    named += [(getattr(reference, row.name).__module__, row.name) for row in CATALOG]
    finder = doctest.DocTestFinder()
    found = {test.name for module in MODULES for test in finder.find(importlib.import_module(module)) if test.examples}
    assert not [place for place in map(".".join, named) if place not in found]


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_every_method_of_an_estimator_that_is_ours_has_an_example(name):
    estimator = getattr(pytest.importorskip("fastnn.sklearn"), name)
    ours = {
        method: getattr(estimator, method)
        for kind in estimator.__mro__
        if kind.__module__.startswith("fastnn.")
        for method in vars(kind)
        # scikit-learn gives each class its set_..._request.
        if not method.startswith(("_", "set_")) and callable(getattr(estimator, method))
    }
    assert {"fit", "partial_fit", "predict", "score", "to_network"} <= set(ours)
    parser = doctest.DocTestParser()
    assert not [method for method, function in ours.items() if not parser.get_examples(function.__doc__)]


def test_results_are_of_the_types_that_signatures_say(net, x, tmp_path):
    """Editors and type checkers go by these: the package says that it has types."""
    trainer, path = fastnn.Trainer(net), tmp_path / "net.safetensors"
    y = np.zeros((len(x), net.out_features))
    trainer.save(path)
    calls = {
        fastnn.MLP: fastnn.MLP([2, 1]),
        fastnn.load: fastnn.load(path),
        Sequential.predict: net.predict(x),
        Sequential.fit: net.fit(x, y),
        Sequential.evaluate: net.evaluate(x, y),
        Sequential.copy: net.copy(),
        Sequential.astype: net.astype("float64"),
        Sequential.folded: net.folded(),
        Sequential.summary: net.summary(),
        Sequential.loss_and_gradient: net.loss_and_gradient(x, y),
        fastnn.Trainer.step: trainer.step(x, y),
        fastnn.Trainer.fit: trainer.fit(x, y),
        fastnn.Trainer.resume: trainer.resume(x, y),
        fastnn.Trainer.restore: fastnn.Trainer.restore(path),
        Dense.forward: Dense(2, 1).forward([1.0, 2.0]),
    }
    for function, result in calls.items():
        said = typing.get_type_hints(function)["return"]
        assert type(result) is (typing.get_origin(said) or said), function
    layers = [Standardize(2), Dense(2, 3, normalization="batch"), Dense(3, 1)]
    for thing in (trainer, Sequential(layers), *layers[:2]):
        for name, attribute in inspect.getmembers(type(thing), lambda member: isinstance(member, property)):
            said = typing.get_type_hints(attribute.fget)["return"]
            kinds = typing.get_args(said) if isinstance(said, types.UnionType) else (said,)
            kinds = tuple(typing.get_origin(kind) or kind for kind in kinds)
            assert isinstance(getattr(thing, name), kinds), name


def test_all_is_the_public_surface():
    assert all(hasattr(fastnn, name) for name in fastnn.__all__)
    assert fastnn.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = fastnn.nonsense


def test_import_brings_in_only_what_it_needs():
    lazy = "{'safetensors', 'tqdm', 'matplotlib', 'onnx', 'sklearn'}"
    code = f"import sys, fastnn; print(sorted({lazy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_predict_agrees_with_the_reference(net, x):
    expected = np.empty((10, 3), np.float32)
    reference.forward(net.table, net.parameters, x, expected, None)
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-5, atol=1e-6)


def test_predict_shapes(net, x):
    y = net.predict(x)
    assert y.shape == (10, 3)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(net(x), y)
    np.testing.assert_array_equal(net.predict(x[0]), y[0])
    np.testing.assert_array_equal(net.predict(x.tolist()), y)
    assert net.predict(x[:0]).shape == (0, 3)
    for out in (np.empty((10, 3), np.float32), np.empty(3, np.float32)):
        samples = x if out.ndim == 2 else x[0]
        assert net.predict(samples, out=out) is out
        np.testing.assert_array_equal(out, net.predict(samples))


def test_predict_reads_any_memory_and_changes_none(net, x):
    y = net.predict(x)
    read_only = x.copy()
    read_only.flags.writeable = False
    wide = np.zeros((20, 8), np.float32)
    wide[::2, ::2] = x
    for same in (
        np.asfortranarray(x),
        x[::-1].copy()[::-1],
        wide[::2, ::2],
        read_only,
        x.astype(">f4"),
        x.astype("f8"),
    ):
        before = same.copy()
        np.testing.assert_array_equal(net.predict(same), y)
        np.testing.assert_array_equal(same, before)


def test_nan_and_inf_pass_through(net, x):
    x[3, 1] = np.nan
    y = net.predict(x)
    assert np.isnan(y[3]).all()
    assert np.isfinite(np.delete(y, 3, axis=0)).all()


def test_parameters_are_one_live_vector(net, x):
    assert net.parameters.size == net.parameter_count == 4 * 8 + 8 + 8 * 3 + 3
    assert net.parameters.ctypes.data % 64 == 0
    for layer in net.layers:
        assert np.shares_memory(layer.weight, net.parameters)
        assert np.shares_memory(layer.bias, net.parameters)
    net.layers[1].weight = np.zeros((8, 3))
    net.layers[1].bias = [1, 2, 3]
    np.testing.assert_array_equal(net.predict(x), np.tile(np.float32([1, 2, 3]), (10, 1)))
    net.parameters = np.zeros(net.parameter_count)
    assert not net.layers[0].weight.any()
    assert np.shares_memory(net.network.parameters, net.parameters)
    with pytest.raises(ValueError, match=r"parameters: expected shape \(67,\), got \(3,\)"):
        net.parameters = [1, 2, 3]
    with pytest.raises(ValueError, match=r"weight: expected shape \(8, 3\), got \(3, 8\)"):
        net.layers[1].weight = np.zeros((3, 8))


def test_loss_and_gradient_agrees_with_the_reference(net, x, rng):
    labels, weights = rng.integers(0, 3, 10), rng.random(10)
    loss, gradient = net.loss_and_gradient(x, labels, "softmax_cross_entropy", weights)
    expected = np.empty_like(net.parameters)
    target, weights = labels[:, None].astype(np.float32), weights.astype(np.float32)
    code = int(Loss.SOFTMAX_CROSS_ENTROPY)
    value = reference.loss_and_gradient(net.table, net.parameters, x, target, weights, code, expected, None)
    assert type(loss) is float
    assert loss == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_loss_may_be_a_name_a_member_or_an_object(net, x):
    y = np.zeros((10, 3))
    results = [net.loss_and_gradient(x, y, loss)[0] for loss in ("huber", Loss.HUBER, fastnn.losses.Huber())]
    assert results[0] == results[1] == results[2]
    with pytest.raises(ValueError, match=r"loss: expected one of mse, mae, .*, got 'nonsense'"):
        net.loss_and_gradient(x, y, "nonsense")
    with pytest.raises(
        TypeError, match=r"mse, .*, or a member of Loss, or a function, or an object of fastnn\.losses, got 0"
    ):
        net.loss_and_gradient(x, y, 0)


def test_training_on_no_rows_is_refused(net):
    with pytest.raises(ValueError, match=r"x: expected at least one row, got shape \(0, 4\)"):
        net.loss_and_gradient(np.zeros((0, 4)), np.zeros((0, 3)))


def test_zero_weights_give_zero(net, x):
    loss, gradient = net.loss_and_gradient(x, np.zeros((10, 3)), sample_weight=np.zeros(10))
    assert loss == 0
    assert not gradient.any()


def test_thread_limits_do_not_change_results(rng):
    x = rng.standard_normal((500, 64)).astype(np.float32)
    nets = [fastnn.MLP([64, 128, 1], seed=0, num_threads=count) for count in (None, 1)]
    np.testing.assert_array_equal(nets[0].predict(x), nets[1].predict(x))
    gradients = [net.loss_and_gradient(x, np.zeros(500))[1] for net in nets]
    np.testing.assert_array_equal(*gradients)
    with pytest.raises(ValueError, match="num_threads: expected at least 1, got 0"):
        fastnn.MLP([1, 1], num_threads=0)


def test_python_started_in_the_source_folder_finds_the_kernels():
    """Whatever the installation: there `fastnn` is the source's folder, beside which the kernels lie."""
    source = pathlib.Path(__file__).parents[1]
    # Without the finder of an editable installation.
    code = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if finder.__module__.startswith("_frozen_importlib")]
import fastnn
print(fastnn.__file__, fastnn.kernels.__file__, len(fastnn.__path__), fastnn.MLP([2, 1], seed=0).predict([0.0, 0.0]))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True).stdout
    # Nothing else of the folder is a part of the package.
    assert found.split()[:3] == [str(source / "fastnn/__init__.py"), str(source / "kernels/__init__.py"), "1"]


def test_two_python_threads_share_a_model(rng):
    net = fastnn.MLP([16, 64, 64, 4], activation="gelu", seed=0)
    batches = rng.standard_normal((2, 200, 16)).astype(np.float32)
    expected = [net.predict(batch) for batch in batches]
    wrong, workspaces, start = [], [], threading.Barrier(2)

    def work(i):
        start.wait()
        for _ in range(200):
            if not np.array_equal(net.predict(batches[i]), expected[i]):
                wrong.append(i)
        _, _, (_, workspace) = net._resources.inference(1, 1)
        workspaces.append((workspace, net._resources.training(1, 1)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    (first, training), (second, other) = workspaces
    assert not np.shares_memory(first, second)
    assert not np.shares_memory(training, other)


@pytest.mark.parametrize(
    "twin", [lambda net: pickle.loads(pickle.dumps(net)), copy.deepcopy, copy.copy, fastnn.Sequential.copy]
)
def test_models_copy_and_pickle(net, x, twin):
    y = net.predict(x)
    other = twin(net)
    assert repr(other) == repr(net)
    np.testing.assert_array_equal(other.predict(x), y)
    assert np.shares_memory(other.layers[0].weight, other.parameters)
    other.parameters[:] = 0
    np.testing.assert_array_equal(net.predict(x), y)


def test_a_shallow_copy_of_a_layer_has_parameters_of_its_own(net):
    layer = net.layers[0]
    twin, before = copy.copy(layer), layer.weight.copy()
    twin.weight[:] = 7
    np.testing.assert_array_equal(layer.weight, before)


def converted(dtype, other):
    """A model that has all that a model can have, trained in one dtype, and its copy in another."""
    layers = [
        Standardize(dtype=dtype),
        Dense(3, 8, "tanh", normalization="batch", dtype=dtype),
        Dense(8, 6, "gelu", normalization="layer", dropout=0.2),
        Dense(6, 2, weight_initializer="zeros", dtype=dtype),
    ]
    net = Sequential(layers, dtype=dtype, seed=0, num_threads=1)
    x = np.random.default_rng(0).normal(5, [1, 10, 1e-3], (64, 3))
    net.fit(x, x[:, :2], optimizer="adam", batch_size=16, epochs=3, seed=0)
    return net, net.astype(other), x


@pytest.mark.parametrize("other", DTYPES)
def test_astype_is_a_copy_in_another_dtype(dtype, other):
    net, twin, x = converted(dtype, other)
    before = net.parameters.copy(), net.statistics.copy()
    assert (twin.dtype, twin.num_threads, twin.adapted) == (np.dtype(other), 1, True)
    assert repr(twin.layers) == repr(net.layers)
    for mine, theirs in zip(before, (twin.parameters, twin.statistics), strict=True):
        np.testing.assert_array_equal(theirs, mine.astype(other))
    for layer in twin:
        assert layer.dtype == other
    # Features of mean 5 and deviation 1e-3 lose some digits in float32.
    np.testing.assert_allclose(twin.predict(x), net.predict(x), atol=0.02 if dtype != other else 0)
    # What is done to the one the other does not see: they have no memory in common.
    twin.fit(x, x[:, :2], optimizer="adam", epochs=1, seed=0)
    twin.standardize.mean = np.zeros(3)
    for mine, array in zip(before, (net.parameters, net.statistics), strict=True):
        np.testing.assert_array_equal(array, mine)
    assert (twin.parameters != before[0]).any()


def test_astype_and_back_is_the_same_model():
    net, twin, x = converted("float32", "float64")
    back = twin.astype("float32")
    for name in ("parameters", "statistics"):
        np.testing.assert_array_equal(getattr(back, name), getattr(net, name))
    np.testing.assert_array_equal(back.predict(x), net.predict(x))
    for copied in (pickle.loads(pickle.dumps(twin)), copy.deepcopy(twin)):
        np.testing.assert_array_equal(copied.predict(x), twin.predict(x))
    # A layer that was told a dtype is one of the new dtype.
    Sequential(copy.deepcopy(twin.layers), dtype="float64")


def test_astype_of_a_model_that_has_learned_nothing():
    net = MLP([3, 1], standardize=True, dtype="float64", seed=0)
    twin = net.astype(np.float32)
    assert not twin.adapted
    x = np.random.default_rng(0).normal(7, 2, (50, 3))
    twin.fit(x, x[:, 0], seed=0)
    np.testing.assert_allclose(twin.standardize.mean, x.mean(axis=0), rtol=1e-5)


def test_astype_refuses_to_lose_what_float32_cannot_hold():
    net = MLP([2, 1], standardize=True, dtype="float64", seed=0)
    for bad, message in ((np.nan, None), (np.inf, None), (1e300, r"dtype: float32 cannot hold 1e\+300, a number")):
        net.parameters[0] = bad
        if message is None:
            np.testing.assert_array_equal(net.astype("float32").parameters[0], np.float32(bad))
        else:
            with pytest.raises(ValueError, match=message):
                net.astype("float32")
            assert net.astype("float64").parameters[0] == bad
    net.parameters[0] = 1e-300
    with np.errstate(all="raise"):
        assert net.astype("float32").parameters[0] == 0
    net.standardize.scale = [1, 1e-300]
    with pytest.raises(ValueError, match="dtype: float32 cannot hold 1e-300, a scale of the model's Standardize"):
        net.astype("float32")
    net.standardize.mean, net.standardize.scale = [1e300, 0], [1, 1]
    with pytest.raises(ValueError, match=r"dtype: float32 cannot hold 1e\+300, a number of the model's"):
        net.astype("float32")
    with pytest.raises(ValueError, match="dtype: expected float32 or float64, got 'float16'"):
        net.astype("float16")


def test_pickles_hold_no_scratch():
    net = fastnn.MLP([2, 2], seed=0)
    small = len(pickle.dumps(net))
    net.loss_and_gradient(np.zeros((1000, 2)), np.zeros((1000, 2)))
    assert len(pickle.dumps(net)) == small < 1000


def test_layers_must_fit_each_other():
    for layers, error, message in [
        ([], ValueError, "layers: expected at least one layer, got none"),
        (Dense(2, 2), TypeError, r"layers: expected a list of layers, got Dense\(2, 2"),
        ({Dense(2, 2)}, TypeError, r"layers: expected a list of layers, got \{Dense\(2, 2"),
        ([3], TypeError, r"layers\[0\]: expected a Dense layer, got int"),
        ([Dense(2, 3), Dense(4, 1)], ValueError, r"layers\[1\]: expected in_features 3, .*, got 4"),
        ([Dense(2, 2)] * 2, ValueError, r"layers\[1\]: this layer is in a model already"),
        ([fastnn.MLP([2, 2]).layers[0]], ValueError, r"layers\[0\]: this layer is in a model already"),
    ]:
        with pytest.raises(error, match=message):
            Sequential(layers)
    with pytest.raises(ValueError, match=r"layers\[0\]: expected dtype float32, the model's, got float64"):
        Sequential([Dense(2, 2, dtype="float64")], dtype="float32")


def test_a_layer_keeps_its_values_in_a_model():
    layer = Dense(3, 2, seed=5)
    weight = layer.weight.copy()
    net = Sequential([layer, Dense(2, 2)], seed=0)
    np.testing.assert_array_equal(net.layers[0].weight, weight)
    np.testing.assert_array_equal(copy.deepcopy(layer).weight, weight)


def test_all_layers_of_an_mlp_may_start_alike():
    net = fastnn.MLP([3, 5, 2], weight_initializer=lambda rng, k, n, dtype: np.full((k, n), 0.5), dropout=0.1, seed=0)
    assert all((layer.weight == 0.5).all() for layer in net.layers)
    twin = fastnn.MLP([3, 5, 2], "tanh", weight_initializer="he_normal", seed=0)
    layers = [Dense(3, 5, "tanh", weight_initializer="he_normal"), Dense(5, 2, weight_initializer="he_normal")]
    np.testing.assert_array_equal(twin.parameters, Sequential(layers, seed=0).parameters)


def test_mlp_is_the_sequential_that_it_says():
    by_hand = Sequential([Dense(3, 5, "relu"), Dense(5, 4, "gelu"), Dense(4, 2, "softmax")], seed=2)
    net = fastnn.MLP([3, 5, 4, 2], activation=["relu", Activation.GELU], output_activation="softmax", seed=2)
    assert repr(net) == repr(by_hand)
    np.testing.assert_array_equal(net.parameters, by_hand.parameters)
    with pytest.raises(ValueError, match="activation: expected one for each of 2 hidden layers, got 1"):
        fastnn.MLP([3, 5, 4, 2], activation=["relu"])
    with pytest.raises(ValueError, match="sizes: expected at least 2 numbers"):
        fastnn.MLP([3])
    with pytest.raises(ValueError, match=r"activation: expected one of identity, relu, .*, got 'nonsense'"):
        fastnn.MLP([3, 2, 1], activation="nonsense")


@pytest.mark.parametrize("options", [{"activation": "nonsense"}, {"dropout": 2}, {"normalization": ""}], ids=str)
def test_options_of_hidden_layers_are_checked_where_there_are_none(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}: expected"):
        fastnn.MLP([3, 2], **options)


@pytest.mark.parametrize("activation", ["relu", "gelu", "softmax"])
def test_layers_by_hand_agree_with_the_model(activation, rng):
    net = fastnn.MLP([3, 5, 2], activation=activation, dtype="float64", seed=0)
    x, y = rng.standard_normal((7, 3)), rng.standard_normal((7, 2))
    a, first = net.layers[0].forward(x)
    b, second = net.layers[1].forward(a)
    np.testing.assert_allclose(b, net.predict(x), rtol=1e-12)
    da, dweight2, dbias2 = net.layers[1].backward(2 * (b - y) / y.size, second)
    dx, dweight1, dbias1 = net.layers[0].backward(da, first)
    by_hand = np.concatenate([dweight1.ravel(), dbias1, dweight2.ravel(), dbias2])
    np.testing.assert_allclose(by_hand, net.loss_and_gradient(x, y)[1], rtol=1e-9, atol=1e-12)
    assert dx.shape == x.shape


def test_vectors_of_a_layer_have_docstrings():
    assert Dense.running_mean.__doc__.startswith("(out_features,), of the pre-activations, over batches: a live view")
    assert Dense.scale.__doc__ != Dense.shift.__doc__


@pytest.mark.parametrize("activation", list(fastnn.Activation), ids=lambda code: code.name.lower())
def test_results_of_a_layer_are_the_callers(activation):
    layer, x = Dense(3, 2, activation, dtype="float64", seed=0), np.linspace(-1, 1, 12).reshape(4, 3)
    y, context = layer.forward(x)
    expected = layer.backward(np.ones((4, 2)), context)
    y[...] = 7
    for one, other in zip(expected, layer.backward(np.ones((4, 2)), context), strict=True):
        np.testing.assert_array_equal(one, other)


def test_layer_on_one_sample_and_on_wrong_ones():
    layer = Dense(3, 2, seed=0)
    y, context = layer.forward([1, 2, 3])
    assert y.shape == (2,)
    assert [part.shape for part in layer.backward(np.ones(2), context)] == [(3,), (3, 2), (2,)]
    with pytest.raises(ValueError, match=r"dy: expected shape \(1, 2\), got \(4, 2\)"):
        layer.backward(np.ones((4, 2)), context)
    empty, context = layer.forward(np.zeros((0, 3)))
    assert empty.shape == (0, 2)
    with pytest.raises(ValueError, match="dy: expected at least one row"):
        layer.backward(empty, context)


def test_summary_counts_every_parameter(net):
    assert net.summary().endswith("67 parameters, float32, 268 bytes")


def test_summary_shows_normalization_and_dropout_where_there_are_some():
    net = fastnn.Sequential(
        [fastnn.Standardize(), Dense(4, 8, "relu", normalization="batch"), Dense(8, 2, dropout=0.5)]
    )
    assert [line.split() for line in net.summary().splitlines()[:-1]] == [
        ["layer", "in", "out", "activation", "normalization", "dropout", "parameters"],
        ["0", "4", "4", "standardize", "0"],
        ["1", "4", "8", "relu", "batch", "56"],
        ["2", "8", "2", "identity", "0.5", "18"],
    ]
    assert len({len(line) for line in net.summary().splitlines()[:-1]}) == 1


def test_a_model_is_a_sequence_of_its_layers(net):
    assert len(net) == 2
    assert list(net) == [net[0], net[-1]] == list(net.layers)
    assert net[1:] == net.layers[1:]
    with pytest.raises(IndexError):
        net[2]


@pytest.mark.parametrize("name", activations.__all__)
def test_activations_agree_with_the_reference(name, dtype, rng):
    x = (rng.standard_normal((5, 7)) * 3).astype(dtype)
    expected = np.empty_like(x)
    getattr(reference, name)(x, expected)
    function = getattr(activations, name)
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(function(x), expected, rtol=tolerance, atol=tolerance)
    assert function(x).dtype == dtype
    np.testing.assert_array_equal(function(np.asfortranarray(x)), function(x))
    in_place = x.copy()
    assert function(in_place, out=in_place) is in_place
    np.testing.assert_array_equal(in_place, function(x))


def test_activation_dtypes_and_shapes():
    assert activations.relu([1, -1]).dtype == np.float64
    assert activations.relu(np.float16([1])).dtype == np.float32
    assert activations.relu(np.zeros((2, 0, 3))).shape == (2, 0, 3)
    assert type(activations.relu(-1.0)) is np.float64
    assert activations.softmax(np.zeros((2, 3, 4))).shape == (2, 3, 4)
    with pytest.raises(ValueError, match="x: expected at least one axis"):
        activations.softmax(1.0)
    with pytest.raises(TypeError, match="x: expected an array of real numbers, got dtype complex128"):
        activations.relu(1j)
    x = np.zeros(4)
    with pytest.raises(ValueError, match="out: expected memory of its own"):
        activations.relu(x[:3], out=x[1:])


@pytest.mark.parametrize("name", ["tanh", "softmax"])
def test_activations_take_whatever_memory_and_refuse_what_overlaps(name, dtype, rng):
    """Usual arrays take a short way to the kernel: whatever is unusual must not take it, or come out the same."""
    function = getattr(activations, name)
    values = rng.standard_normal(24).astype(dtype)
    frozen = values.copy()
    frozen.flags.writeable = False
    unaligned = np.frombuffer(b"-" + values.tobytes(), dtype, offset=1)
    swapped = values.astype(values.dtype.newbyteorder())
    for shape in ((24,), (1, 24), (4, 6), (2, 3, 4), (24, 1, 1)):
        x = values.reshape(shape)
        expected = function(x.tolist()).astype(dtype) if dtype == np.float64 else function(x)
        every_other, wide = np.repeat(values, 2)[::2].reshape(shape), np.empty((*shape, 2), dtype)
        for source in (x, frozen.reshape(shape), unaligned.reshape(shape), swapped.reshape(shape), every_other):
            for out in (None, np.empty(shape, dtype)):
                result = function(source, out=out)
                assert result.tobytes() == expected.tobytes()
                assert out is None or result is out
        for wrong in (wide[..., 0], np.empty((*shape, 1), dtype), frozen.reshape(shape)):
            before = wrong.copy()
            with pytest.raises(ValueError, match="out: expected"):
                function(x, out=wrong)
            np.testing.assert_array_equal(wrong, before)
    memory = np.zeros(40, dtype)
    with pytest.raises(ValueError, match="out: expected memory of its own"):
        function(memory[:24].reshape(4, 6), out=memory[1:25].reshape(4, 6))
    with pytest.raises(ValueError, match="out: expected shape"):
        function(memory[:3], out=memory[10:14])
    assert not memory.any()


def test_help_is_there_without_the_extras():
    """pydoc gives up at the first attribute that cannot be had."""
    code = (
        "import pydoc, sys; sys.modules['onnx'] = sys.modules['sklearn'] = None; import fastnn;"
        "text = pydoc.render_doc(fastnn, renderer=pydoc.plaintext);"
        "print('class Trainer' in text, 'help(fastnn.MLP)' in text, 'onnx' in dir(fastnn))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["True", "True", "False"], done.stderr
    assert {"onnx", "sklearn"} <= set(dir(fastnn))
