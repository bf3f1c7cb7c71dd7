"""Objects used in ways that nobody meant: no wild reads or writes, no data that change silently."""

import copy
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest

import fastnn
from fastnn import SGD, Adam, Dense, Trainer
from fastnn.layer import Context


def make(loss="mse", optimizer="adam", sizes=(3, 5, 2), dtype="float32"):
    return Trainer(fastnn.MLP(list(sizes), activation="tanh", dtype=dtype, seed=0), loss, optimizer)


@pytest.fixture
def x(rng):
    return rng.standard_normal((40, 3)).astype(np.float32)


@pytest.fixture
def y(rng):
    return rng.standard_normal((40, 2)).astype(np.float32)


@pytest.fixture
def labels():
    return np.arange(40, dtype=np.float32) % 2


def test_a_trainer_stays_with_its_net(x, y):
    trainer = make()
    with pytest.raises(AttributeError):
        trainer.net = fastnn.MLP([3, 500, 2], seed=0)
    assert trainer.step(x, y) > 0


def test_a_loss_assigned_during_a_fit_waits_for_its_end(x, labels):
    """Labels are one column, which mse would take for two: the kernel would read beyond them."""
    changed, straight = make("softmax_cross_entropy"), make("softmax_cross_entropy")

    def change(trainer, history):
        trainer.loss = "mse"

    history = changed.fit(x, labels, epochs=3, seed=0, callbacks=[change], validation_data=(x, labels))
    expected = straight.fit(x, labels, epochs=3, seed=0, validation_data=(x, labels))
    assert history.metrics["loss"] == expected.metrics["loss"]
    assert history.metrics["val_loss"] == expected.metrics["val_loss"]
    assert changed.net.parameters.tobytes() == straight.net.parameters.tobytes()
    assert changed.loss == fastnn.losses.MSE()
    with pytest.raises(ValueError, match="y: expected shape"):
        changed.step(x, labels)


def test_labels_changed_during_a_fit_touch_no_memory(x, labels):
    """The door has checked them, the user changes them: no index any more, but a loss that is NaN."""
    trainer = make("softmax_cross_entropy")

    def spoil(trainer, history):
        labels[:] = [1e9, -1e9, np.nan, np.inf] * 10

    with pytest.raises(FloatingPointError, match="loss is nan in epoch 2"):
        trainer.fit(x, labels, epochs=3, seed=0, callbacks=[spoil])
    assert np.isfinite(trainer.net.parameters).all()


# NumPy may deprecate this way of setting a shape.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_shapes_set_during_a_fit_are_not_followed(x, y):
    changed, straight = make(), make()
    mine_x, mine_y = x.copy(), y.copy()

    def cut(trainer, history):
        mine_x.shape, mine_y.shape = (1, 120), (80,)

    changed.fit(mine_x, mine_y, epochs=3, seed=0, callbacks=[cut])
    straight.fit(x, y, epochs=3, seed=0)
    assert changed.net.parameters.tobytes() == straight.net.parameters.tobytes()


@pytest.mark.parametrize("name", ["x", "y", "sample_weight"])
def test_training_on_the_parameters_themselves_is_refused(x, y, name):
    trainer = make()
    before = trainer.net.parameters.copy()
    flat = trainer.net.parameters
    arguments = {"x": x[:4], "y": y[:4], "sample_weight": np.ones(4, np.float32)}
    arguments[name] = {"x": flat[:12].reshape(4, 3), "y": flat[:8].reshape(4, 2), "sample_weight": abs(flat)[:4]}[name]
    if name == "sample_weight":
        flat[:] = arguments[name] = abs(flat)
        before = flat.copy()
        arguments[name] = flat[:4]
    for train in (trainer.step, trainer.fit):
        with pytest.raises(ValueError, match=f"{name}: expected memory of its own, .* overlaps the parameters"):
            train(**arguments)
    np.testing.assert_array_equal(trainer.net.parameters, before)
    # Where nothing is changed, they are data as any other.
    trainer.net.loss_and_gradient(**arguments)
    trainer.net.predict(flat[:12].reshape(4, 3))


def test_training_on_the_moments_is_refused(y):
    trainer = make()
    trainer.step(np.ones((4, 3)), y[:4])
    for moment in trainer.moments:
        before = moment.copy()
        for train in (trainer.step, trainer.fit):
            with pytest.raises(ValueError, match=r"x: expected memory of its own, .* overlaps the optimizer's moments"):
                train(moment[:12].reshape(4, 3), y[:4])
        np.testing.assert_array_equal(moment, before)


def test_a_result_does_not_go_into_the_parameters(x):
    net = make().net
    before = net.parameters.copy()
    for out in (net.parameters[:8].reshape(4, 2), net.layers[1].weight[:4], net.layers[1].bias[None]):
        with pytest.raises(ValueError, match=r"out: expected memory of its own, .* overlaps the parameters"):
            net.predict(x[: len(out)], out=out)
    np.testing.assert_array_equal(net.parameters, before)


def test_what_is_set_on_a_view_of_the_parameters_stays_there(x, y):
    trainer = make()
    flat = trainer.net.parameters
    flat.flags.writeable = False
    trainer.net.network.parameters[:] = 1
    assert (flat == 1).all()
    trainer.step(x, y)
    assert trainer.net.loss_and_gradient(x, y)[1].shape == trainer.net.parameters.shape


def test_the_table_is_read_only():
    net = make().net
    for table in (net.table, net.network.table):
        with pytest.raises(ValueError, match="read-only"):
            table[0, 0] = 10**9


def test_a_loss_that_is_not_finite_leaves_the_state_of_the_epoch_before(x, y):
    """The kernel goes on for some batches before anybody looks at their losses."""
    bad = y.copy()
    bad[17] = np.nan
    for epochs_before in (0, 2):
        failed, straight = make(), make()
        for trainer in (failed, straight):
            trainer.fit(x, y, epochs=epochs_before, batch_size=4, seed=0)
        with pytest.raises(FloatingPointError, match="loss is nan in epoch"):
            failed.fit(x, bad, epochs=5, batch_size=4, seed=0)
        assert failed.steps == straight.steps
        assert failed.epochs == straight.epochs
        assert failed.history.epochs == []
        assert failed.net.parameters.tobytes() == straight.net.parameters.tobytes()
        # The moments too: they go on as if nothing had been.
        for trainer in (failed, straight):
            trainer.fit(x, y, epochs=2, batch_size=4, seed=0)
        assert failed.net.parameters.tobytes() == straight.net.parameters.tobytes()


class InEpoch2:
    """Acts once, after three batches of the second epoch."""

    def __init__(self, action):
        self.action = action

    def on_batches_end(self, trainer, history):
        position = trainer.position()
        if self.action and (position.epoch, position.batch) == (1, 3):
            action, self.action = self.action, None
            action(trainer)


def test_after_a_loss_that_is_not_finite_the_fit_resumes_with_that_epoch(x, y, monkeypatch):
    monkeypatch.setattr(fastnn.fit_loop, "CALL_SECONDS", 0.0)  # an update a call
    straight, failed, bad = make(), make(), y.copy()
    expected = straight.fit(x, y, epochs=3, batch_size=4, seed=0)

    def spoil(trainer):
        bad[:] = np.nan
        # Belongs to the epoch, and goes with it.
        trainer.optimizer = SGD(momentum=0.5)

    with pytest.raises(FloatingPointError, match="loss is nan in epoch 2") as caught:
        failed.fit(x, bad, epochs=3, batch_size=4, seed=0, callbacks=[InEpoch2(spoil)])
    assert caught.value.trainer is failed
    position = failed.position()
    assert (position.phase, position.epoch, position.batch, failed.steps) == ("batches", 1, 0, 10)
    history = failed.resume(x, y, callbacks=[InEpoch2(None)])
    assert history.metrics["loss"] == expected.metrics["loss"]
    assert failed.net.parameters.tobytes() == straight.net.parameters.tobytes()


def test_a_resumed_epoch_that_fails_goes_back_to_where_it_was_taken_up(x, y, monkeypatch):
    monkeypatch.setattr(fastnn.fit_loop, "CALL_SECONDS", 0.0)
    straight, failed = make(), make()
    expected = straight.fit(x, y, epochs=3, batch_size=4, seed=0)

    def interrupt(trainer):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failed.fit(x, y, epochs=3, batch_size=4, seed=0, callbacks=[InEpoch2(interrupt)])
    for _ in range(2):
        with pytest.raises(FloatingPointError, match=r"loss is nan in epoch 2 \(batch 4\)"):
            failed.resume(x, np.full_like(y, np.nan), callbacks=[InEpoch2(None)])
        assert (failed.position().batch, failed.steps) == (3, 13)
    history = failed.resume(x, y, callbacks=[InEpoch2(None)])
    assert history.metrics["loss"] == expected.metrics["loss"]
    assert failed.net.parameters.tobytes() == straight.net.parameters.tobytes()


def test_steps_that_are_too_long_leave_the_last_whole_epoch(x, y):
    trainer, seen = make(optimizer=SGD(learning_rate=1e30), sizes=(3, 2)), []

    def note(trainer, history):
        seen.append(trainer.net.parameters.copy())

    with pytest.raises(FloatingPointError):
        trainer.fit(x, y, epochs=9, seed=0, callbacks=[note])
    assert len(seen) == len(trainer.history.epochs) == trainer.epochs
    wanted = seen[-1] if seen else make(sizes=(3, 2)).net.parameters
    assert trainer.net.parameters.tobytes() == wanted.tobytes()


def test_another_optimizer_in_the_middle_of_a_fit(x, y):
    trainer = make(optimizer="sgd")
    kinds = iter([Adam(), SGD(momentum=0.9), Adam(clip_norm=0.1), SGD()])

    def change(trainer, history):
        trainer.optimizer = next(kinds)

    trainer.fit(x, y, epochs=4, seed=0, callbacks=[change])
    assert np.isfinite(trainer.net.parameters).all()


def test_callbacks_may_train_predict_and_copy(x, y):
    trainer, copies = make(), []

    def inside(trainer, history):
        copies.extend([copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))])
        trainer.step(x[:7], y[:7])
        trainer.net.predict(np.ones((300, 3)))
        if len(copies) == 2:
            # A fit of its own has the trainer that a callback makes, or copies; this one is in a fit.
            make().fit(x[:5], y[:5], epochs=1, seed=1)

    trainer.fit(x, y, epochs=2, seed=0, callbacks=[inside])
    first, second = copies[:2]
    assert first.epochs == second.epochs == 1
    first.step(x, y)
    second.step(x, y)
    assert first.net.parameters.tobytes() == second.net.parameters.tobytes()
    assert first.net.parameters.tobytes() != trainer.net.parameters.tobytes()


def test_predict_within_predict_leaves_the_outer_one_its_memory():
    """As a signal's handler does that comes after the plan was made, before the kernel runs."""
    net = fastnn.MLP([3, 40, 2], activation="tanh", seed=0)
    expected, alive, out = net.predict(np.ones(3)), [], np.empty(2, np.float32)
    held = lambda: net._resources.scratch.inference[2]
    kernel = net._resources.inference(1, None)[0]

    def handle(frame, event, called):
        if event == "c_call" and called is kernel:
            sys.setprofile(None)
            workspace = weakref.ref(held())
            net.predict(np.ones((300, 3)))
            alive.append(workspace() is not None)
            assert workspace() is not held()

    sys.setprofile(handle)
    try:
        assert net.predict(np.ones(3), out=out) is out
    finally:
        sys.setprofile(None)
    assert alive == [True]
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda a: setattr(a, "shape", (1, -1)),
        lambda a: setattr(a, "shape", (-1,)),
        lambda a: setattr(a, "dtype", np.int32),
        lambda a: setattr(a, "strides", (0,) * a.ndim),
        lambda a: setattr(a.flags, "writeable", False),
    ],
    ids=["row", "flat", "dtype", "strides", "flags"],
)
@pytest.mark.filterwarnings("ignore:Setting the (shape|strides|dtype):DeprecationWarning")
def test_views_set_to_another_form_leave_the_model_its_own(change, x, y):
    trainer, twin = make(), make()
    net, layer = trainer.net, trainer.net.layers[0]
    views = net.parameters, net.table, *net.network, layer.weight, layer.bias, *trainer.moments
    for view in views:
        change(view)
    assert trainer.step(x, y) == twin.step(x, y)
    net.layers[0].weight = twin.net.layers[0].weight
    assert net.predict(x).tobytes() == twin.net.predict(x).tobytes()
    assert layer.forward(x)[0].tobytes() == twin.net.layers[0].forward(x)[0].tobytes()
    assert net.loss_and_gradient(x, y)[1].tobytes() == twin.net.loss_and_gradient(x, y)[1].tobytes()


@pytest.mark.parametrize("who", ["metric", "validation data"])
@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_shapes_set_between_epochs_are_not_followed(who, name):
    """By 12 numbers a row where there are 2, the kernel once read far beyond the end."""
    x, y = np.ones((4000, 3), np.float32), np.ones((4000, 2), np.float32)
    mine = {"x": x.copy(), "y": y.copy()}
    seen = []

    def metric(target, prediction):
        seen.append((target.shape, prediction.shape))
        target.shape, prediction.shape = (1, -1), (-1,)
        return 0.0

    def callback(trainer, history):
        mine[name].shape = (1, -1)

    changed, straight = make(), make()
    given = {"metrics": [metric, lambda y, p: metric(y, p)]} if who == "metric" else {"callbacks": [callback]}
    history = changed.fit(x, y, epochs=3, seed=0, validation_data=(mine["x"], mine["y"]), **given)
    expected = straight.fit(x, y, epochs=3, seed=0, validation_data=(x, y))
    assert history.metrics["val_loss"] == expected.metrics["val_loss"]
    assert history.metrics["loss"] == expected.metrics["loss"]
    assert set(seen) <= {((4000, 2), (4000, 2))}
    assert len(seen) == (12 if who == "metric" else 0)


def test_a_schedule_that_moves_the_position(x, y):
    """It was the fit's own: the next call took rows from before the first."""

    class Moves:
        on_epoch_end = staticmethod(lambda *_: None)

        def learning_rates(self, base, position, count):
            position.batch, position.batch_size, position.rows, position.epoch = -50, 10**7, 10**7, 0
            return np.full(count, base)

    moved, straight = make(), make()
    moved.fit(x, y, epochs=3, batch_size=4, seed=0, callbacks=[Moves()])
    straight.fit(x, y, epochs=3, batch_size=4, seed=0)
    assert moved.net.parameters.tobytes() == straight.net.parameters.tobytes()
    assert moved.position().batch_size == 4


def test_models_and_their_layers_are_made_once(x, y):
    """A trainer's moments have the size of the parameters that the model had: it wrote beyond their end."""
    trainer = make()
    net, layer = trainer.net, trainer.net.layers[0]
    other = fastnn.MLP([3, 500, 2], seed=0)
    for again in (
        lambda: net.__init__([Dense(3, 500), Dense(500, 2)], seed=0),
        lambda: net.__setstate__(other.__getstate__()),
        lambda: layer.__init__(3, 500),
        lambda: layer.__setstate__(other.layers[0].__getstate__()),
    ):
        with pytest.raises(RuntimeError, match="made once"):
            again()
    assert (net.parameter_count, layer.weight.shape, other.layers[0].weight.shape) == (32, (3, 5), (3, 500))
    assert trainer.step(x, y) == make().step(x, y)
    assert not copy.deepcopy(layer)._in_model


@pytest.mark.parametrize("progress", [True, None])
def test_a_fit_without_a_stderr_goes_on(progress, x, y, monkeypatch, tmp_path):
    with open(tmp_path / "closed", "w") as closed:
        pass
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        assert make().fit(x, y, epochs=2, seed=0, progress=progress).epochs == [1, 2]


def test_nobody_writes_the_table_and_nobody_shrinks_what_kernels_fill():
    trainer = make()
    for table in (trainer.net.table, trainer.net.network.table):
        with pytest.raises(ValueError, match="WRITEABLE"):
            table.flags.writeable = True
    for array in (*trainer.moments, trainer.net.parameters, trainer.net.network.parameters):
        with pytest.raises(ValueError, match="cannot resize"):
            array.resize(0, refcheck=False)


def test_subclasses_keep_what_kernels_go_by(x, y):
    """Which memory an update reads, and what y holds: by these they once followed null pointers."""

    class Stateless(Adam):
        states = lambda self: (False, False)

    class Unknown(SGD):
        code = 77

    class Disguised(SGD):
        code = Adam.code

    for optimizer in (Stateless(), Unknown(), Disguised()):
        with pytest.raises(TypeError, match="optimizer: expected the code and states of its base class"):
            make(optimizer=optimizer)

    class Labels(fastnn.losses.MSE):
        code = fastnn.Loss.SOFTMAX_CROSS_ENTROPY

    class Nothing(fastnn.losses.MSE):
        code = 5555

    for loss in (Labels(), Nothing()):
        with pytest.raises(TypeError, match="loss: expected the code of its base class"):
            make(loss=loss)

    class Named(Adam):
        name = "mine"

    assert make(optimizer=Named()).step(x, y) == make().step(x, y)


@pytest.mark.parametrize("name", ["parameter_count", "statistics_count"])
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_layers_that_count_for_themselves(name, count):
    Odd = type("Odd", (Dense,), {name: count})
    with pytest.raises((TypeError, ValueError)):
        fastnn.Sequential([Odd(3, 2, normalization="batch"), Dense(2, 1)])
    Named = type("Named", (Dense,), {})
    assert fastnn.Sequential([Named(3, 2, normalization="batch"), Dense(2, 1)]).predict(np.ones(3)).shape == (1,)


def test_subclasses_with_other_numbers(x, y):
    """An update reads so many hyper-parameters, a loss so many levels, however many there were."""

    class Single(SGD):
        hyper = lambda self: super().hyper().astype(np.float32)

    numbers = SGD().hyper()

    class Fixed(SGD):
        hyper = lambda self: numbers

    for optimizer in (Single(), Fixed()):
        assert make(optimizer=optimizer).step(x, y) == make(optimizer="sgd").step(x, y)
    # A trainer has the numbers of the time when it was given them.
    trainer, plain = make(optimizer=Fixed()), make(optimizer="sgd")
    numbers[:] = 0
    for each in (trainer, plain):
        each.fit(x, y, seed=0)
    assert trainer.net.parameters.tobytes() == plain.net.parameters.tobytes()

    class Short(SGD):
        hyper = lambda self: np.ones(2)

    with pytest.raises(ValueError, match=r"optimizer: hyper: expected shape \(12,\), got \(2,\)"):
        make(optimizer=Short())

    class OneForAll(fastnn.losses.Quantile):
        repeats = False

    class Nothing(fastnn.losses.Huber):
        parameter = np.empty(0)

    for loss, name in ((OneForAll([0.1, 0.9]), "repeats"), (Nothing(), "parameter")):
        with pytest.raises(TypeError, match=f"loss: expected the {name} of its base class"):
            make(loss=loss, sizes=(3, 5))
    assert make(loss=type("Named", (fastnn.losses.Quantile,), {"name": "mine"})()).loss.name == "mine"


@pytest.mark.parametrize("rates", [np.ones(0), np.ones((2, 1)), [0.1, 0.1, 0.1]])
def test_learning_rates_of_another_shape_are_refused(rates, x, y):
    class Schedules:
        on_epoch_end = staticmethod(lambda *_: None)
        learning_rates = staticmethod(lambda base, position, count: rates)

    with pytest.raises(ValueError, match=r"learning_rates: expected shape \(2,\), got"):
        make().fit(x, y, batch_size=20, callbacks=[Schedules()])


@pytest.mark.parametrize("rate", [np.nan, np.inf, -1e-9])
def test_learning_rates_that_are_none_are_refused(rate, x, y):
    """The last update of a fit is followed by no loss that would tell."""

    class Schedules:
        on_epoch_end = staticmethod(lambda *_: None)
        learning_rates = staticmethod(lambda base, position, count: np.full(count, rate))

    trainer = make()
    before = trainer.net.parameters.copy()
    with pytest.raises(ValueError, match="learning_rates: expected finite numbers of at least 0, got"):
        trainer.fit(x, y, callbacks=[Schedules()])
    np.testing.assert_array_equal(trainer.net.parameters, before)


@pytest.mark.parametrize("mode", ["warn", "raise"])
def test_schedules_that_leave_the_floats(mode, x, y):
    growing = fastnn.LearningRateScheduler(fastnn.schedules.Exponential(1e200))
    falling = fastnn.LearningRateScheduler(fastnn.schedules.Exponential(1e-200))
    with np.errstate(all=mode):
        assert make().fit(x, y, epochs=4, seed=0, callbacks=[falling]).metrics["learning_rate"][-1] == 0
        # Labels of their own make each loss 0, so that no step is too long before.
        trainer = make(optimizer=SGD(learning_rate=1e-100), dtype="float64")
        with pytest.raises(ValueError, match="learning_rates: expected finite numbers of at least 0, got inf"):
            trainer.fit(x, trainer.net.predict(x), epochs=4, seed=0, callbacks=[growing])


def test_learning_rates_of_another_dtype_are_converted(x, y):
    class Schedules:
        on_epoch_end = staticmethod(lambda *_: None)
        learning_rates = staticmethod(lambda base, position, count: np.full(2 * count, 0.5, np.float32)[::2])

    trainer, plain = make(optimizer="sgd"), make(optimizer=SGD(learning_rate=0.5))
    trainer.fit(x, y, seed=0, callbacks=[Schedules()])
    plain.fit(x, y, seed=0)
    assert trainer.net.parameters.tobytes() == plain.net.parameters.tobytes()


def test_masks_within_lists_are_not_dropped(x):
    masked = np.ma.array(x, mask=x > 0)
    for value in (masked, list(masked), [masked[0], x[0]], [[1.0, 2.0, np.ma.masked]], (1.0, np.ma.masked, 2.0)):
        with pytest.raises(TypeError, match="x: expected an array of real numbers, got a masked array; fill it first"):
            make().net.predict(value)


def test_layers_belong_to_one_model():
    layer = Dense(2, 2, seed=0)
    with pytest.raises(ValueError, match=r"layers\[1\]: this layer is in a model already"):
        fastnn.Sequential([layer, layer])
    net = fastnn.Sequential([layer])
    with pytest.raises(ValueError, match=r"layers\[0\]: this layer is in a model already"):
        fastnn.Sequential([layer])
    other = fastnn.Sequential([copy.deepcopy(layer), copy.copy(layer)])
    other.parameters[:] = 7
    assert not (net.parameters == 7).any()
    assert np.shares_memory(layer.weight, net.parameters)


def test_parameters_assigned_from_themselves():
    net = make().net
    backwards = net.parameters[::-1].copy()
    net.parameters = net.parameters[::-1]
    np.testing.assert_array_equal(net.parameters, backwards)
    net.layers[0].weight = net.parameters[2:17].reshape(3, 5)
    np.testing.assert_array_equal(net.parameters[:15], backwards[2:17])


def test_contexts_that_no_forward_returned():
    layer = Dense(3, 2, activation="tanh", seed=0)
    x, dy = np.ones((4, 3), np.float32), np.ones((4, 2))
    y, context = layer.forward(x)
    for wrong in (None, (), tuple(context), [1, 2, 3]):
        with pytest.raises(TypeError, match="context: expected what forward returned"):
            layer.backward(dy, wrong)
    for wrong in (
        Context(x, np.asfortranarray(y), False),
        Context(x, np.broadcast_to(y[:1], y.shape), False),
        Context(x.tolist(), y, False),
        Context(x, None, False),
        Context(x, y.astype(np.float64), False),
        Context(np.frombuffer(b"." + x.tobytes(), np.float32, offset=1).reshape(x.shape), y, False),
    ):
        with pytest.raises((TypeError, ValueError), match="context: expected"):
            layer.backward(dy, wrong)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_users_who_let_numpy_raise(dtype, x, y):
    """np.seterr is the user's: what overflows on the way into float32 is inf, as ever."""
    huge = np.array([[1e300, -1e300, 1e-300]] * 40)
    results = []
    for mode in ("ignore", "raise"):
        with np.errstate(all=mode):
            trainer = make(dtype=dtype)
            trainer.fit(x.astype(np.float64), y, epochs=2, seed=0, sample_weight=np.linspace(0, 1, 40), metrics=[_mean])
            trainer.net.parameters = trainer.net.parameters.astype(np.longdouble)
            results.append([trainer.net.predict(huge).tobytes(), trainer.net.parameters.tobytes()])
    assert results[0] == results[1]


def _mean(y, prediction):
    return prediction.mean()


def test_a_loss_below_the_smallest_numbers_ends_no_fit():
    net = fastnn.MLP([1, 1], dtype="float64", seed=0)
    net.parameters = [0, 0]
    with np.errstate(all="raise"):
        history = net.fit(np.zeros((3, 1)), np.full(3, 1e-160), batch_size=2, epochs=2, optimizer="adam", seed=0)
    assert history.epochs == [1, 2]


def test_the_mean_loss_of_an_epoch_does_not_overflow():
    net = fastnn.MLP([1, 1], dtype="float64", seed=0)
    history = net.fit(np.ones((4, 1)), np.full((4, 1), 1.2e154), batch_size=1, optimizer=SGD(learning_rate=0), seed=0)
    assert history.metrics["loss"][0] == pytest.approx(1.44e308)


@pytest.mark.parametrize(("dtype", "weight"), [("float64", 1.7e308), ("float32", 3e38)])
def test_weights_whose_sum_overflows_are_refused(dtype, weight):
    """Their sum would be inf, and the loss 0 or inf whatever the data."""
    net = fastnn.MLP([1, 1], dtype=dtype, seed=0)
    with pytest.raises(ValueError, match="sample_weight: expected a sum within"):
        net.loss_and_gradient([[1.0], [1.0]], [[1.0], [1.0]], sample_weight=[weight, weight])


@pytest.mark.parametrize("loss", ["mse", "log_cosh", "softmax_cross_entropy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_any_size_give_the_same_bits(dtype, loss):
    """Beside a loss of 1e-6 the smallest were subnormal, the largest inf; twice the largest sum made the loss 0."""
    limits, net = np.finfo(dtype), fastnn.MLP([3, 5, 2], dtype=dtype, seed=0)
    x = np.linspace(-1, 1, 24).reshape(8, 3).astype(dtype)
    if loss == "softmax_cross_entropy":
        near = fastnn.activations.softmax(net.predict(x))
        far = near[:, ::-1]
    else:
        near, far = net.predict(x) * 1.001, net.predict(x) * 1e4
    weights = np.linspace(1, 2, 8).astype(dtype)
    for y in near, far:
        value, gradient = net.loss_and_gradient(x, y, loss, weights)
        straight = fastnn.Trainer(net.copy(), loss, "adam")
        history = straight.fit(x, y, batch_size=3, epochs=2, seed=0, sample_weight=weights)
        for exponent in (limits.minexp, limits.minexp + 9, -40, 40, limits.maxexp - 6, limits.maxexp - 5):
            scaled = np.ldexp(weights, exponent)
            found = net.loss_and_gradient(x, y, loss, scaled)
            assert found[0] == value
            assert found[1].tobytes() == gradient.tobytes()
            trainer = fastnn.Trainer(net.copy(), loss, "adam")
            again = trainer.fit(x, y, batch_size=3, epochs=2, seed=0, sample_weight=scaled)
            assert again.metrics["loss"] == history.metrics["loss"]
            assert trainer.net.parameters.tobytes() == straight.net.parameters.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_all_sizes_at_once(dtype):
    """The smallest are a batch of their own."""
    limits, x, y = np.finfo(dtype), np.ones((4, 1)), np.array([1.0, 2.0, 3.0, 4.0])
    for least, most in ((limits.tiny, 1.0), (2**20 * limits.tiny, limits.max / 2**20), (1.0, limits.max / 4)):
        trainer = fastnn.Trainer(fastnn.MLP([1, 1], dtype=dtype, seed=0), optimizer=SGD(learning_rate=0))
        trainer.net.parameters = [0, 0]
        trainer.fit(x, y, batch_size=2, shuffle=False, seed=0, sample_weight=[least, least, most, most])
        np.testing.assert_allclose(trainer.position().losses, [2.5, 12.5], rtol=1e-6)


def test_a_metric_that_is_no_number_is_named(x, y):
    def spread(y, prediction):
        return prediction

    trainer = make()
    with pytest.raises(TypeError, match="metrics: expected a number as result of spread, got array"):
        trainer.fit(x, y, metrics=[spread])
    for metrics in (np.array(["accuracy", "accuracy"]), np.array([1.0, 2.0])):
        with pytest.raises(ValueError, match="metrics: "):
            trainer.fit(x, y, metrics=metrics)


@pytest.mark.parametrize(
    "bad",
    [{"progress": "yes"}, {"metrics": [3]}, {"callbacks": [3]}, {"seed": -1}, {"epochs": True}, {"batch_size": 2.0}],
)
def test_a_fit_that_does_not_begin_leaves_the_history_of_the_last(x, y, bad):
    trainer = make()
    history = trainer.fit(x, y, epochs=2, seed=0)
    with pytest.raises((TypeError, ValueError), match=next(iter(bad))):
        trainer.fit(x, y, **bad)
    assert trainer.history is history
    assert trainer.position().phase == "done"


def test_resume_checks_as_fit_does(x, y):
    trainer = make()
    trainer.fit(x[:4], y[:4], epochs=0)
    flat = trainer.net.parameters[:12].reshape(4, 3)
    with pytest.raises(ValueError, match=r"x: expected memory of its own, .* overlaps the parameters"):
        trainer.resume(flat, y[:4])
    with pytest.raises(TypeError, match="progress: expected True or False, got 'yes'"):
        trainer.resume(x[:4], y[:4], progress="yes")


@pytest.mark.parametrize(
    "code",
    [
        "fastnn.MLP([100_000, 10_000])",
        "fastnn.MLP([100_000, 10_000], dtype='float64')",
        "fastnn.MLP([2**62, 1])",
        "fastnn.MLP([10**30, 10**30])",
        "fastnn.Dense(100_000, 10_000).weight",
        "fastnn.Dense(30_000, 3_000).weight",
        "fastnn.MLP([1, 2000, 2000]).loss_and_gradient(numpy.ones((100_000, 1)), numpy.ones((100_000, 2000), 'f4'))",
    ],
)
def test_what_memory_does_not_hold_is_named(code):
    """A process with 1.5 GB: 10^9 parameters, a start whose draw alone is too much, a batch of 10^5 rows."""
    program = f"""
import resource, numpy, fastnn
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**29, 3 * 2**29))
fastnn.MLP([2, 2], seed=0).loss_and_gradient([[1.0, 2.0]], [[1.0, 2.0]])
try:
    {code}
except MemoryError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "no memory for" in run.stdout
    assert run.stdout.startswith(("parameters", "weight_initializer", "workspace"))
