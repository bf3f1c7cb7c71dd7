"""Losses of the user's own, gradients of his own making, and both in compiled code."""

import numba
import numpy as np
import pytest

import fastnn
from fastnn import Checkpoint, Dense, EarlyStopping, LearningRateScheduler, Sequential, Standardize, Trainer

ROWS = 50


def squares(y, prediction):
    """The mean squared error by the operations that the kernel has, in its order."""
    d = prediction - y
    factor = prediction.dtype.type(1 / d.size)
    return np.square(d, dtype=np.float64).mean(), (factor + factor) * d


def net_of(kind, dtype):
    options = {"plain": {}, "layer": {"normalization": "layer"}}.get(kind, {})
    if kind == "batch":
        options = {"normalization": "batch", "dropout": 0.3}
    if kind == "dropout":
        options = {"dropout": 0.5}
    layers = [Dense(3, 20, "gelu", **options), Dense(20, 17, "tanh", **options), Dense(17, 2)]
    if kind == "standardized":
        layers.insert(0, Standardize())
    return Sequential(layers, dtype=dtype, seed=0)


KINDS = "plain", "layer", "batch", "dropout", "standardized"


@pytest.fixture
def data(rng):
    return rng.normal(1, 2, (ROWS, 3)), rng.normal(size=(ROWS, 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_function_that_is_the_squared_error_trains_to_the_same_bits(kind, dtype, data):
    """Steps and fits, with what is dropped, running averages, clipping, schedules and shorter last batches."""
    x, y = data
    nets = net_of(kind, dtype), net_of(kind, dtype)
    for net, loss in zip(nets, ("mse", squares), strict=True):
        trainer = Trainer(net, loss, fastnn.Adam(clip_norm=0.5, l1=1e-3), seed=7)
        schedule = LearningRateScheduler(fastnn.schedules.OneCycle())
        trainer.fit(x, y, batch_size=16, epochs=3, seed=2, callbacks=[schedule], validation_split=0.2)
        trainer.step(x, y)
        trainer.optimizer = fastnn.SGD(learning_rate=0.1)
        trainer.step(x[:9], y[:9])
        net.history = trainer.history
    expected, found = nets
    np.testing.assert_array_equal(found.parameters, expected.parameters)
    np.testing.assert_array_equal(found.statistics, expected.statistics)
    eps = np.finfo(dtype).eps
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(found.history.metrics[name], expected.history.metrics[name], rtol=32 * eps)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_function_is_that_of_the_same_loss(kind, data):
    net = net_of(kind, "float32")
    x, y = data
    (expected_loss, expected), (loss, gradient) = (net.loss_and_gradient(x, y, loss) for loss in ("mse", squares))
    np.testing.assert_array_equal(gradient, expected)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    np.testing.assert_allclose(net.evaluate(x, y, squares)["loss"], net.evaluate(x, y)["loss"], rtol=1e-6)


def test_a_gradient_by_central_differences():
    """Of a loss that couples rows and outputs, with targets of another width than the output."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(7, 3)), rng.uniform(1, 2, (7, 3))
    net = net_of("plain", "float64")

    def coupled(y, prediction):
        sums = prediction.T @ y
        return 0.5 * np.sum(sums**2), y @ sums.T

    gradient = net.loss_and_gradient(x, y, coupled)[1]
    start, step = net.parameters.copy(), 1e-6
    for i in rng.choice(start.size, 20, replace=False):
        ends = []
        for side in (step, -step):
            net.parameters[i] = start[i] + side
            ends.append(net.loss_and_gradient(x, y, coupled)[0])
            net.parameters[i] = start[i]
        assert abs((ends[0] - ends[1]) / (2 * step) - gradient[i]) < 1e-6 * (1 + np.abs(gradient).max())


@pytest.mark.parametrize(
    ("y", "columns"), [(None, 0), (np.arange(4), 1), (np.ones((4, 5), bool), 5), (np.ones((4, 2), ">f4").T.T, 2)]
)
def test_what_the_function_is_given(y, columns):
    seen = []

    def loss(y, prediction):
        seen.append((y, prediction))
        return 0, np.zeros_like(prediction)

    net = fastnn.MLP([3, 2], dtype="float64", seed=0)
    x = np.arange(12.0).reshape(4, 3)
    net.fit(x, y, loss, batch_size=3, shuffle=False)
    shapes = [(y.shape, prediction.shape) for y, prediction in seen]
    assert shapes == [((3, columns), (3, 2)), ((1, columns), (1, 2))]
    assert all(array.dtype == np.float64 for pair in seen for array in pair)
    if y is not None:
        np.testing.assert_array_equal(np.concatenate([given for given, _ in seen]), np.reshape(y, (4, -1)))
    np.testing.assert_array_equal(np.concatenate([prediction for _, prediction in seen]), net.predict(x))


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (1.0, TypeError, r"loss: expected \(loss, gradient\) as result of given, got 1.0"),
        (("a", np.zeros((4, 2))), TypeError, "loss: expected a number as first result of given, got 'a'"),
        ((1.0, np.zeros(4)), ValueError, r"loss: gradient of given: expected shape \(4, 2\), got \(4,\)"),
        ((1.0, np.zeros((4, 2), complex)), TypeError, "loss: gradient of given: expected an array of real numbers"),
    ],
)
def test_what_the_function_may_return(result, error, message):
    def given(y, prediction):
        return result

    net = fastnn.MLP([3, 2], seed=0)
    before = net.parameters.copy()
    x = np.ones((4, 3))
    for call in (net.fit, net.loss_and_gradient, Trainer(net, given).step):
        with pytest.raises(error, match=message):
            call(x, None, **({} if call.__name__ == "step" else {"loss": given}))
    np.testing.assert_array_equal(net.parameters, before)


def test_what_is_refused(data):
    net = net_of("plain", "float32")
    x, y = data
    with pytest.raises(ValueError, match="sample_weight: expected None with a loss of your own"):
        net.fit(x, y, squares, sample_weight=np.ones(ROWS))
    with pytest.raises(ValueError, match="x and y: expected the same number of rows, got 50 and 3"):
        net.fit(x, y[:3], squares)
    with pytest.raises(ValueError, match=r"y: expected shape \(50, \*\), got \(50, 2, 1\)"):
        net.fit(x, y[:, :, None], squares)
    with pytest.raises(ValueError, match="metrics: accuracy needs a cross-entropy as loss, got custom"):
        net.fit(x, y, squares, metrics=["accuracy"])
    with pytest.raises(
        TypeError, match=r"loss: expected one of mse, .* or a function, .*, got <class 'fastnn.losses.MSE'>"
    ):
        net.fit(x, y, fastnn.losses.MSE)
    with pytest.raises(TypeError, match=r"function: expected f\(y, prediction\) -> \(loss, gradient\), got 3"):
        fastnn.losses.Custom(3)
    with pytest.raises(TypeError, match=r"function: expected f\(y, .* got <class 'dict'>"):
        fastnn.losses.Custom(dict)


@pytest.mark.parametrize("shuffle", [False, True])
def test_targets_are_not_the_functions_to_change(shuffle):
    def overwrites(y, prediction):
        y[:] = 7
        return 0.0, prediction

    x, y = np.ones((4, 3), np.float32), np.zeros((4, 1), np.float32)
    with pytest.raises(ValueError, match="read-only"):
        fastnn.MLP([3, 1], seed=0).fit(x, y, overwrites, shuffle=shuffle)
    assert not y.any()
    assert y.flags.writeable


# NumPy may deprecate this way of setting a shape.
@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_a_shape_that_the_function_sets_is_its_own(data):
    def flat(y, prediction):
        shape, prediction.shape = prediction.shape, (-1,)
        value, gradient = squares(y.ravel(), prediction)
        return value, gradient.reshape(shape)

    nets = [net_of("plain", "float64") for _ in range(2)]
    for net, loss in zip(nets, (squares, flat), strict=True):
        net.fit(*data, loss, epochs=2, seed=0)
    np.testing.assert_array_equal(nets[1].parameters, nets[0].parameters)


def test_a_loss_that_gives_its_trainer_another_optimizer_moves_by_that(data):
    def loss(y, prediction):
        trainer.optimizer = fastnn.SGD(learning_rate=0)
        return squares(y, prediction)

    trainer = Trainer(net_of("plain", "float32"), loss, "adam")
    before = trainer.net.parameters.copy()
    trainer.fit(*data)
    np.testing.assert_array_equal(trainer.net.parameters, before)


def test_a_loss_that_is_not_finite_ends_the_fit_before_its_epoch(data):
    def once(y, prediction):
        value, gradient = squares(y, prediction)
        return (np.nan if trainer.steps == 5 else value), gradient

    trainer = Trainer(net_of("plain", "float32"), once)
    twin = Trainer(net_of("plain", "float32"), squares)
    twin.fit(*data, batch_size=25, epochs=2, seed=0)
    with pytest.raises(FloatingPointError, match=r"loss is nan in epoch 3 \(batch 2\)"):
        trainer.fit(*data, batch_size=25, epochs=5, seed=0)
    np.testing.assert_array_equal(trainer.net.parameters, twin.net.parameters)
    assert trainer.steps == 4


@pytest.mark.parametrize("kind", ["plain", "batch"])
def test_an_error_in_the_function_loses_nothing(kind, data, tmp_path):
    """The fit resumes, in the process and from a file, to the bits of one that met no error."""
    fails = []

    def fragile(y, prediction):
        if fails:
            raise RuntimeError(fails.pop())
        return squares(y, prediction)

    def break_it(trainer, history):
        if trainer.epochs == 2:
            fails.append("lost the server")

    path = tmp_path / "run.safetensors"
    callbacks = lambda: [EarlyStopping("loss", restore_best=True), Checkpoint(path), break_it]
    straight, broken = (Trainer(net_of(kind, "float32"), loss, "adam") for loss in (squares, fragile))
    given = {"batch_size": 16, "epochs": 5, "seed": 4}
    straight.fit(*data, **given, callbacks=[EarlyStopping("loss", restore_best=True)])
    with pytest.raises(RuntimeError, match="lost the server"):
        broken.fit(*data, **given, callbacks=callbacks())
    with pytest.raises(ValueError, match=r"loss: expected the function that .* was trained with, which a file cannot"):
        Trainer.restore(path)
    with pytest.raises(ValueError, match=r"loss: expected the function that .* was trained with, got MSE"):
        Trainer.restore(path, "mse")
    for trainer in (Trainer.restore(path, squares), broken):
        trainer.resume(*data, callbacks=[*callbacks()[:2], lambda trainer, history: None])
        np.testing.assert_array_equal(trainer.net.parameters, straight.net.parameters)
        assert trainer.history.metrics["loss"] == straight.history.metrics["loss"]
    straight.loss = "mse"
    straight.save(path)
    with pytest.raises(
        ValueError, match=r"loss: expected None, since .* was trained with one of fastnn's, got <function"
    ):
        Trainer.restore(path, squares)


OPTIMIZERS = (
    fastnn.SGD(learning_rate=0.1),
    fastnn.SGD(momentum=0.9, nesterov=True, l1=0.01, clip_value=0.02),
    fastnn.RMSprop(momentum=0.5, clip_norm=0.1),
    fastnn.Adagrad(weight_decay=0.1),
    fastnn.Adam(l2=0.1, clip_norm=0.1, clip_value=0.01),
    fastnn.AdamW(),
)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("kind", ["plain", "layer", "standardized"])
def test_a_gradient_moves_a_model_as_a_step_does(kind, optimizer, data):
    x, y = data
    by_steps, by_gradients = (Trainer(net_of(kind, "float32"), "mae", optimizer) for _ in range(2))
    for trainer in (by_steps, by_gradients):
        if trainer.net.standardize is not None:
            trainer.net.standardize.adapt(x)
    for _ in range(4):
        by_steps.step(x, y)
        gradient = by_gradients.net.loss_and_gradient(x, y, "mae")[1]
        gradient.flags.writeable = False
        by_gradients.apply_gradient(gradient)
    np.testing.assert_array_equal(by_gradients.net.parameters, by_steps.net.parameters)
    for found, expected in zip(by_gradients.moments, by_steps.moments, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert by_gradients.steps == 4


def test_a_gradient_on_threads_has_the_same_bits(rng):
    """So many parameters that an update is worth sharing, in spans that do not end at layers."""
    nets = [fastnn.MLP([700, 800, 701], seed=0) for _ in range(2)]
    gradient = rng.normal(size=nets[0].parameter_count)
    for threads, net in enumerate(nets, 1):
        trainer = Trainer(net, optimizer=fastnn.Adam(l1=0.1, clip_norm=1.0), num_threads=threads)
        for _ in range(2):
            trainer.apply_gradient(gradient)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


def test_wrong_gradients_are_refused():
    trainer = Trainer(fastnn.MLP([2, 1], seed=0))
    for gradient, error, message in (
        (np.zeros(4), ValueError, r"gradient: expected shape \(3,\), got \(4,\)"),
        (np.zeros((1, 3)), ValueError, r"gradient: expected shape \(3,\), got \(1, 3\)"),
        (["a", "b", "c"], TypeError, "gradient: expected an array of real numbers"),
    ):
        with pytest.raises(error, match=message):
            trainer.apply_gradient(gradient)
    assert trainer.steps == 0
    trainer.apply_gradient(np.asfortranarray(np.ones((3, 2), ">f8"))[:, 0])
    assert trainer.steps == 1


@numba.njit
def compiled(network, x, dy, gradient, workspace):
    fastnn.parameter_vjp(network, x, dy, gradient, workspace)


@pytest.mark.parametrize("call", [fastnn.parameter_vjp, compiled], ids=["Python", "compiled"])
@pytest.mark.parametrize("kind", ["plain", "batch", "standardized"])
def test_the_product_with_the_jacobian_by_parameters(kind, call, data, rng):
    net = net_of(kind, "float64")
    # One layout for all: each is compiled anew.
    x = np.asfortranarray(data[0])
    if net.standardize is not None:
        net.standardize.adapt(x)
    dy = rng.normal(size=(ROWS, 2))
    expected = net.loss_and_gradient(x, dy, lambda dy, prediction: (0.0, dy))[1]
    workspace = fastnn.workspace(net.network, ROWS)
    gradient = np.full_like(net.parameters, np.nan)
    call(net.network, x, dy, gradient, workspace)
    np.testing.assert_array_equal(gradient, expected)
    for name, wrong in (
        ("x", {"x": np.asfortranarray(x[:, :2])}),
        ("x", {"x": np.asfortranarray(x[:0]), "dy": dy[:0]}),
        ("dy", {"dy": dy[:-1]}),
        ("gradient", {"gradient": gradient[:-1]}),
        ("gradient", {"gradient": net.parameters}),
        ("workspace", {"workspace": workspace[:9]}),
    ):
        given = {"x": x, "dy": dy, "gradient": gradient, "workspace": workspace} | wrong
        with pytest.raises(ValueError, match=f"^{name}: "):
            call(net.network, *given.values())


def test_the_product_for_single_samples_adds_up_to_that_of_the_batch(data, rng):
    net, x, dy = net_of("plain", "float64"), data[0], rng.normal(size=(ROWS, 2))
    workspace, rows = fastnn.workspace(net.network, 1), np.empty((ROWS, net.parameter_count))
    for i in range(ROWS):
        fastnn.parameter_vjp(net.network, x[i], dy[i], rows[i], workspace)
    expected = net.loss_and_gradient(x, dy, lambda dy, prediction: (0.0, dy))[1]
    np.testing.assert_allclose(rows.sum(0), expected, rtol=1e-12, atol=1e-12)


def test_an_adjoint_in_compiled_code(rng):
    """The gradient of the end of an Euler path by the parameters, against central differences."""

    @numba.njit
    def path(network, start, step, steps):
        states = np.empty((steps + 1, start.size))
        states[0] = start
        slope, scratch = np.empty_like(start), fastnn.workspace(network, 1)
        for i in range(steps):
            fastnn.apply_into(network, states[i], slope, scratch)
            states[i + 1] = states[i] + step * slope
        return states

    @numba.njit
    def adjoint(network, states, step, upper):
        scratch = fastnn.workspace(network, 1)
        total, part, back = np.zeros_like(network.parameters), np.empty_like(network.parameters), np.empty_like(upper)
        for i in range(len(states) - 2, -1, -1):
            fastnn.parameter_vjp(network, states[i], upper, part, scratch)
            total += step * part
            fastnn.vjp(network, states[i], upper, back, scratch)
            upper = upper + step * back
        return total

    net = fastnn.MLP([2, 8, 2], activation="tanh", dtype="float64", seed=0)
    start, step = np.array([1.0, 0.5]), 0.02
    gradient = adjoint(net.network, path(net.network, start, step, 30), step, np.array([1.0, -2.0]))
    own, h = net.parameters.copy(), 1e-6
    for i in rng.choice(own.size, 10, replace=False):
        ends = []
        for side in (h, -h):
            net.parameters[i] = own[i] + side
            ends.append(path(net.network, start, step, 30)[-1] @ [1.0, -2.0])
            net.parameters[i] = own[i]
        assert abs((ends[0] - ends[1]) / (2 * h) - gradient[i]) < 1e-8
