"""Training: steps, fits, their numbers and their ends."""

import copy
import dataclasses
import functools
import inspect
import math
import pickle
import re
import sys
import warnings

import numpy as np
import pytest

import fastnn
from fastnn import MLP, SGD, Adam, History, Trainer, fit_loop, fit_task
from fastnn.fit_task import order_of_rows
from fastnn.kernels import reference


@pytest.fixture
def data(rng):
    x = rng.standard_normal((50, 3)).astype(np.float32)
    return x, (x**2).sum(axis=1)


def make(seed=0, **arguments):
    return Trainer(fastnn.MLP([3, 8, 1], activation="tanh", seed=seed), **arguments)


def test_a_fit_that_does_not_begin_leaves_the_one_before_to_be_resumed(rng):
    x = rng.standard_normal((40, 3)).astype(np.float32)
    y = x[:, :1] ** 2

    def kill(trainer, history):
        if trainer.epochs == 2:
            raise KeyboardInterrupt

    straight, train = (Trainer(fastnn.MLP([3, 4, 1], seed=0)) for _ in range(2))
    straight.fit(x, y, epochs=5, seed=1)
    with pytest.raises(KeyboardInterrupt):
        train.fit(x, y, epochs=5, seed=1, callbacks=[kill])
    for callbacks in ([fastnn.Checkpoint("none/run.safetensors")], [fastnn.Checkpoint("none/run.safetensors"), kill]):
        with pytest.raises(OSError, match="none"):
            train.fit(x, y, epochs=9, callbacks=callbacks)
    history = train.resume(x, y, callbacks=[lambda trainer, history: None])
    assert history.epochs == [1, 2, 3, 4, 5]
    assert train.net.parameters.tobytes() == straight.net.parameters.tobytes()
    # A finished one gives way.
    with pytest.raises(OSError, match="none"):
        train.fit(x, y, epochs=9, seed=1, callbacks=callbacks[:1])
    assert train.position().epochs == 9


def test_a_step_is_gradient_then_update(data):
    train = make(optimizer=Adam(learning_rate=0.1))
    net, twin = train.net, train.net.copy()
    states = np.zeros_like(twin.parameters), np.zeros_like(twin.parameters)
    for step in (1, 2, 3):
        loss, gradient = twin.loss_and_gradient(*data)
        reference.adam(twin.parameters, gradient, *states, step, train.optimizer.hyper())
        assert train.step(*data) == pytest.approx(loss, rel=1e-5)
        np.testing.assert_allclose(net.parameters, twin.parameters, rtol=1e-4, atol=1e-5)
    assert train.steps == 3


def test_fit_is_steps_over_batches_the_short_one_too(data):
    fitted, stepped = make(), make()
    history = fitted.fit(*data, batch_size=16, epochs=2, shuffle=False)
    x, y = data
    for epoch in range(2):
        losses = [stepped.step(x[i : i + 16], y[i : i + 16]) for i in range(0, 50, 16)]
        assert history.metrics["loss"][epoch] == pytest.approx(np.average(losses, weights=[16, 16, 16, 2]), rel=1e-6)
    np.testing.assert_array_equal(fitted.net.parameters, stepped.net.parameters)
    assert history.epochs == [1, 2]
    assert fitted.steps == stepped.steps == 8


def test_both_fits_take_the_same_and_pass_it_on(monkeypatch):
    """Written out twice: editors and type checkers read signatures, which nothing that is made at import gives them."""
    theirs = inspect.signature(Trainer.fit).parameters
    ours = inspect.signature(fastnn.Sequential.fit).parameters
    made_with = inspect.signature(Trainer).parameters
    assert list(ours) == ["self", "x", "y", "loss", "optimizer", *list(theirs)[3:]]
    for name, parameter in ours.items():
        assert parameter == (made_with if name in ("loss", "optimizer") else theirs)[name]
    seen = []
    monkeypatch.setattr(Trainer, "fit", lambda self, *given, **named: seen.append((self.loss, given, named)))
    settings = {name: object() for name in list(theirs)[3:]}
    fastnn.MLP([1, 1]).fit("x", "y", "mae", **settings)
    assert seen == [(fastnn.losses.get("mae"), ("x", "y"), settings)]


def test_how_calls_are_cut_does_not_show(data, monkeypatch):
    whole = make()
    whole.fit(*data, batch_size=4, epochs=3, seed=1)
    monkeypatch.setattr(fit_loop, "CALL_SECONDS", 0.0)  # one batch a call
    cut = make()
    cut.fit(*data, batch_size=4, epochs=3, seed=1)
    np.testing.assert_array_equal(whole.net.parameters, cut.net.parameters)


def test_shuffles_follow_seed_and_epoch(data):
    once, again, parts, other = make(), make(), make(), make()
    once.fit(*data, epochs=4, seed=7)
    again.fit(*data, epochs=4, seed=7)
    parts.fit(*data, epochs=1, seed=7)
    assert parts.fit(*data, epochs=3, seed=7).epochs == [2, 3, 4]
    other.fit(*data, epochs=4, seed=8)
    np.testing.assert_array_equal(once.net.parameters, again.net.parameters)
    np.testing.assert_array_equal(once.net.parameters, parts.net.parameters)
    assert not np.array_equal(once.net.parameters, other.net.parameters)


def test_a_drawn_seed_is_noted(data):
    first = make()
    seed = first.fit(*data, epochs=2).seed
    second = make()
    second.fit(*data, epochs=2, seed=seed)
    np.testing.assert_array_equal(first.net.parameters, second.net.parameters)


def test_orders_are_fixed_for_all_machines():
    assert order_of_rows(8, 1, 1).tolist() == ORDER_OF_8
    assert sorted(order_of_rows(100, 2, 3).tolist()) == list(range(100))


# Philox keyed by (1, 1), shuffled by NumPy: a change breaks everybody's reproducible runs.
ORDER_OF_8 = [2, 3, 6, 7, 1, 4, 0, 5]


def test_data_are_neither_changed_nor_copied_by_layout(data, rng):
    x, y = data
    wide = np.zeros((50, 6), np.float32)
    wide[:, ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    results = []
    for same in (x, np.asfortranarray(x), wide[:, ::2], read_only, x.astype(np.float64)):
        before = same.copy()
        train = make()
        train.fit(same, y, epochs=2, seed=0)
        np.testing.assert_array_equal(same, before)
        results.append(train.net.parameters)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_weights_of_zero_leave_rows_out(data):
    x, y = data
    weight = np.ones(50)
    weight[::2] = 0
    y = y.copy()
    y[::2] = 1e6
    weighted, without = make(), make()
    weighted.fit(x, y, batch_size=None, epochs=3, shuffle=False, sample_weight=weight)
    without.fit(x[1::2], y[1::2], batch_size=None, epochs=3, shuffle=False)
    np.testing.assert_allclose(weighted.net.parameters, without.net.parameters, rtol=1e-4, atol=1e-5)


def test_a_fit_in_which_no_row_counts_has_a_loss_of_0(data):
    train = make()
    before = train.net.parameters.copy()
    history = train.fit(*data, batch_size=20, epochs=2, sample_weight=np.zeros(50))
    assert history.metrics["loss"] == [0, 0]
    np.testing.assert_array_equal(train.net.parameters, before)


def test_validation_and_metrics(rng):
    x = rng.standard_normal((60, 2))
    labels = (x[:, 0] > 0).astype(int)
    net = fastnn.MLP([2, 8, 2], activation="tanh", seed=0)

    def labels_seen(y, prediction):
        return len(np.unique(y))

    history = net.fit(
        x,
        labels,
        "softmax_cross_entropy",
        Adam(learning_rate=0.05),
        epochs=20,
        seed=0,
        validation_data=(x, labels, np.ones(60)),
        metrics=["accuracy", labels_seen],
    )
    names = ["loss", "accuracy", "labels_seen", "val_loss", "val_accuracy", "val_labels_seen", "seconds"]
    assert list(history.metrics) == names
    assert all(len(numbers) == 20 for numbers in history.metrics.values())
    assert history.metrics["val_loss"][-1] == pytest.approx(
        net.loss_and_gradient(x, labels, "softmax_cross_entropy")[0], rel=1e-5
    )
    right = (net.predict(x).argmax(axis=1) == labels).mean()
    assert history.metrics["accuracy"][-1] == history.metrics["val_accuracy"][-1] == right > 0.9
    assert history.metrics["labels_seen"][-1] == 2


def without_seconds(history):
    return {name: numbers for name, numbers in history.metrics.items() if name != "seconds"}


@pytest.mark.parametrize("weighted", [False, True])
def test_a_validation_split_is_the_last_rows(data, rng, weighted):
    x, y = data
    weight = rng.uniform(0.5, 2, 50) if weighted else None
    parts = [None, None] if weight is None else [weight[:37], weight[37:]]
    nets = [fastnn.MLP([3, 8, 1], standardize=True, seed=0) for _ in range(2)]
    given = {"loss": "huber", "optimizer": "adam", "batch_size": 8, "epochs": 3, "seed": 1}
    given["metrics"] = [lambda y, prediction: float(np.abs(y - prediction).max())]
    history = nets[0].fit(x, y, sample_weight=weight, validation_split=0.26, **given)
    by_hand = nets[1].fit(x[:37], y[:37], sample_weight=parts[0], validation_data=(x[37:], y[37:], parts[1]), **given)
    for name in ("parameters", "statistics"):
        np.testing.assert_array_equal(getattr(nets[0], name), getattr(nets[1], name))
    assert without_seconds(history) == without_seconds(by_hand)
    assert set(history.metrics) == {"loss", "<lambda>", "val_loss", "val_<lambda>", "seconds"}


@pytest.mark.parametrize(
    ("share", "rows", "expected"),
    # Rounding of the shares moves no row: 0.07 * 100 is 7.000000000000001, and 1 - 0.9 is below 0.1.
    [(0.1, 10, 1), (0.9, 10, 9), (0.07, 100, 7), (0.3, 10, 3), (1 / 3, 50, 17), (np.float32(0.2), 50, 10), (0.5, 2, 1)],
)
def test_a_validation_split_is_rounded_to_rows(share, rows, expected):
    class Seen:
        rows = None

        def on_batches_end(self, trainer, history):
            Seen.rows = trainer.position().rows, trainer.position().held_back

    make().fit(np.zeros((rows, 3)), np.zeros(rows), validation_split=share, callbacks=[Seen()])
    assert Seen.rows == (rows - expected, expected)


def test_batches_of_a_validation_split_are_those_of_the_other_rows():
    net = fastnn.MLP([3, 4, 1], normalization="batch", seed=0)
    x, y = np.ones((40, 3)), np.ones(40)
    with pytest.raises(ValueError, match="got one of 1 where 33 rows are taken 16 at a time"):
        net.fit(x, y, batch_size=16, validation_split=0.175)
    net.fit(x, y, batch_size=16, validation_split=0.2)


@pytest.mark.parametrize("normalization", [None, "batch"])
def test_evaluate_is_the_loss_of_what_predict_gives(rng, normalization):
    x, weight = rng.standard_normal((60, 2)), rng.uniform(0, 2, 60)
    labels = (x[:, 0] > 0).astype(int)
    net = fastnn.MLP([2, 8, 2], normalization=normalization, dropout=0.3, dtype="float64", seed=0)
    net.fit(x, labels, "softmax_cross_entropy", epochs=2, batch_size=20, seed=0)
    statistics = net.statistics.copy()
    logits = net.predict(x)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(60), labels]

    def largest(y, prediction):
        return prediction.max()

    found = net.evaluate(x, labels, "softmax_cross_entropy", weight, metrics=["accuracy", largest])
    assert found == {
        "loss": pytest.approx((weight * losses).sum() / weight.sum(), rel=1e-12),
        "accuracy": pytest.approx(np.average(logits.argmax(axis=1) == labels, weights=weight), rel=1e-12),
        "largest": logits.max(),
    }
    assert list(found) == ["loss", "accuracy", "largest"]
    assert net.evaluate(x[:1], labels[:1], "softmax_cross_entropy")["loss"] == pytest.approx(losses[0], rel=1e-12)
    np.testing.assert_array_equal(net.statistics, statistics)
    seen = net.fit(x, labels, "softmax_cross_entropy", SGD(learning_rate=0.0), validation_data=(x, labels, weight))
    assert seen.metrics["val_loss"][0] == net.evaluate(x, labels, "softmax_cross_entropy", weight)["loss"]


def test_metrics_without_a_name_of_their_own(data):
    def worst(y, prediction, power):
        return np.abs((y - prediction) ** power).max()

    class Largest:
        def __call__(self, y, prediction):
            return prediction.max()

    found = make().net.evaluate(*data, metrics=[functools.partial(functools.partial(worst), power=2), Largest()])
    assert list(found) == ["loss", "worst", "Largest"]
    with pytest.raises(ValueError, match="metrics: expected names of their own, got 'worst' twice"):
        make().fit(*data, metrics=[functools.partial(worst, power=power) for power in (1, 2)])
    absolute = functools.partial(worst, power=1)
    absolute.__name__ = "absolute"
    found = make().net.evaluate(*data, metrics=[absolute, functools.partial(worst, power=2)])
    assert found["absolute"] ** 2 == pytest.approx(found["worst"])


def test_evaluate_takes_what_losses_take(rng):
    x, y = rng.standard_normal((30, 2)), rng.standard_normal(30)
    net = fastnn.MLP([2, 8, 3], dtype="float64", seed=0)
    d = net.predict(x) - y[:, None]
    expected = np.maximum((1 - np.array([0.1, 0.5, 0.9])) * d, -np.array([0.1, 0.5, 0.9]) * d).mean()
    assert net.evaluate(x, y, fastnn.losses.Quantile([0.1, 0.5, 0.9]))["loss"] == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match=r"y: expected shape \(30, 3\), got \(30,\)"):
        net.evaluate(x, y)
    with pytest.raises(ValueError, match="metrics: accuracy needs a cross-entropy as loss, got mae"):
        net.evaluate(x, np.zeros((30, 3)), "mae", metrics=["accuracy"])


def test_binary_accuracy(rng):
    x = rng.standard_normal((60, 2))
    y = x[:, 0] > 0
    net = fastnn.MLP([2, 1], seed=0)
    history = net.fit(x, y, "binary_cross_entropy", SGD(learning_rate=1.0), epochs=20, seed=0, metrics="accuracy")
    assert history.metrics["accuracy"][-1] == ((net.predict(x)[:, 0] > 0) == y).mean() > 0.9


def test_updates_that_were_not_done_are_not_counted(data, monkeypatch):
    def fail(*_):
        raise MemoryError

    train = make()
    monkeypatch.setattr(fastnn.trainer, "train_planned", fail)
    with pytest.raises(MemoryError):
        train.fit(*data, batch_size=10)
    assert train.steps == 0


def test_a_position_does_not_move_with_its_trainer(data):
    seen = []

    def look(trainer, history):
        seen.append(trainer.position())
        seen.append(copy.deepcopy(seen[-1]))

    make().fit(*data, batch_size=10, epochs=2, callbacks=[look])
    assert repr(seen[0]) == repr(seen[1])
    np.testing.assert_array_equal(seen[0].losses, seen[1].losses)
    assert not np.array_equal(seen[0].losses, seen[2].losses)


def test_callbacks_see_every_epoch_and_can_stop(data):
    train, seen = make(), []

    class Watcher:
        def on_epoch_end(self, trainer, history):
            assert trainer is train
            seen.append(history.epochs[-1])

    history = train.fit(*data, epochs=10, callbacks=[lambda trainer, history: trainer.epochs == 3, Watcher()])
    assert seen == history.epochs == [1, 2, 3]


def test_a_callback_may_change_the_learning_rate(data):
    train = make(optimizer=Adam())

    def halve(trainer, history):
        rate = trainer.optimizer.learning_rate
        trainer.optimizer = dataclasses.replace(trainer.optimizer, learning_rate=rate / 2)

    train.fit(*data, epochs=3, callbacks=[halve])
    assert train.optimizer.learning_rate == 0.001 / 8
    assert train.steps == 6
    train.optimizer = SGD()
    assert train.steps == 0


def test_an_interrupt_keeps_what_was_done(data):
    train = make()

    def interrupt(trainer, history):
        if trainer.epochs == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(*data, epochs=10, seed=0, callbacks=[interrupt])
    assert train.history.epochs == [1, 2]
    train.fit(*data, epochs=1, seed=0)
    straight = make()
    straight.fit(*data, epochs=3, seed=0)
    np.testing.assert_array_equal(train.net.parameters, straight.net.parameters)


@pytest.mark.parametrize("seconds", [fit_loop.CALL_SECONDS, 0.0], ids=["one call", "an update a call"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_raises(data, bad, seconds, monkeypatch):
    monkeypatch.setattr(fit_loop, "CALL_SECONDS", seconds)
    x, y = data
    y = y.copy()
    y[20] = bad
    train = make()
    with pytest.raises(
        FloatingPointError, match=rf"loss is {bad} in epoch 1 \(batch 3\): y holds {bad} at row 20, in float32"
    ):
        train.fit(x, y, batch_size=10, shuffle=False)
    assert train.history.epochs == []


@pytest.mark.parametrize("shuffle", [True, False])
def test_what_is_not_finite_is_told(data, shuffle, monkeypatch):
    x, y = data
    for looked_at in (3, fit_task.LOOKED_AT):
        monkeypatch.setattr(fit_task, "LOOKED_AT", looked_at)
        for batch_size in (8, None):
            holed = x.astype(np.float64)
            holed[37, 2] = -1e300
            with pytest.raises(FloatingPointError, match="x holds -inf at row 37, column 2, in float32"):
                make().fit(holed, y, batch_size=batch_size, shuffle=shuffle, seed=0)
    with pytest.raises(FloatingPointError, match=r"x and y are finite, so the steps .* too large; lower the learning"):
        make(optimizer=SGD(learning_rate=1e30)).fit(x, y, epochs=3, shuffle=shuffle, seed=0)
    with pytest.raises(FloatingPointError, match=r"x and y are finite, .* or the function gives it; lower the"):
        make(loss=lambda y, prediction: (math.nan, prediction)).fit(x, y, shuffle=shuffle, seed=0)


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_last_update_of_a_fit_is_looked_at_too(data, epochs):
    """Its loss is one from before it, and finite."""
    x, y = data
    train = make(optimizer=Adam(learning_rate=1e-3))
    train.fit(x, y, batch_size=None, epochs=epochs - 1, seed=0)
    before, moments = train.net.parameters.copy(), [moment.copy() for moment in train.moments]
    train.optimizer = Adam(learning_rate=1e39)
    message = rf"parameters are nan or inf after epoch {epochs}: x and y are finite, so the steps are too long"
    with pytest.raises(FloatingPointError, match=message):
        train.fit(x, y, batch_size=None, seed=0)
    np.testing.assert_array_equal(train.net.parameters, before)
    np.testing.assert_array_equal(train.moments, moments)
    train.optimizer = Adam(learning_rate=1e-3)
    assert train.resume(x, y).epochs == [epochs]
    train.net.parameters[3] = np.nan
    with pytest.raises(
        FloatingPointError, match=r"loss is nan in epoch . \(batch 1\): parameters were nan or inf before it"
    ):
        train.fit(x, y)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda train: pickle.loads(pickle.dumps(train))])
def test_a_copied_trainer_goes_on_as_the_first(data, twin):
    train = make(optimizer="adam")
    train.fit(*data, epochs=2, seed=0)
    other = twin(train)
    for each in (train, other):
        each.fit(*data, epochs=2, seed=0)
    np.testing.assert_array_equal(train.net.parameters, other.net.parameters)
    assert not np.shares_memory(train.net.parameters, other.net.parameters)


def test_clipping_bounds_the_step(data):
    train = make(optimizer=SGD(learning_rate=1.0, clip_norm=0.01))
    before = train.net.parameters.copy()
    train.step(*data)
    assert np.linalg.norm(train.net.parameters - before) == pytest.approx(0.01, rel=1e-4)
    train = make(optimizer=SGD(learning_rate=1.0, clip_value=0.001))
    train.step(*data)
    assert np.abs(train.net.parameters - before).max() <= 0.00101


def test_thread_limit_does_not_change_results(rng):
    x, y = rng.standard_normal((512, 64)), np.zeros(512)
    nets = [fastnn.MLP([64, 64, 1], seed=0) for _ in range(2)]
    for net, count in zip(nets, (1, None), strict=True):
        Trainer(net, num_threads=count).fit(x, y, batch_size=256, epochs=2, seed=0)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size: expected at least 1, got 0"),
        ({"epochs": -1}, ValueError, "epochs: expected at least 0, got -1"),
        ({"epochs": 1.5}, TypeError, "epochs: expected a whole number, got 1.5"),
        ({"shuffle": "yes"}, TypeError, "shuffle: expected True or False, got 'yes'"),
        ({"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
        ({"metrics": ["accuracy"]}, ValueError, "metrics: accuracy needs a cross-entropy as loss, got mse"),
        ({"metrics": [3]}, ValueError, "metrics: expected 'accuracy', a loss by name"),
        ({"callbacks": 3}, TypeError, "callbacks: expected a list of functions and objects with on_epoch_end, got 3"),
        ({"metrics": {"mae": 1}}, TypeError, "metrics: expected a list of names and functions, got {.mae.: 1}"),
        ({"callbacks": [3]}, TypeError, "callbacks: expected functions or objects with on_epoch_end, got 3"),
        ({"validation_data": np.zeros(3)}, ValueError, r"validation_data: expected \(x, y\)"),
        ({"validation_data": ([[1]], [1])}, ValueError, r"validation_data: x: expected shape \(\*, 3\), got \(1, 1\)"),
        ({"validation_split": 1}, ValueError, "validation_split: expected a finite number above 0 and below 1, got 1"),
        (
            {"validation_split": 0.0},
            ValueError,
            "validation_split: expected a finite number above 0 and below 1, got 0.0",
        ),
        ({"validation_split": "half"}, TypeError, "validation_split: expected a real number, got 'half'"),
        ({"validation_split": 0.01}, ValueError, "validation_split: expected a share that leaves rows .* 0 of 50"),
        ({"validation_split": 0.99}, ValueError, "validation_split: expected a share that leaves rows .* 50 of 50"),
        (
            {"validation_split": 0.5, "validation_data": (np.zeros((1, 3)), [1])},
            ValueError,
            "validation_data: expected None in a fit with validation_split",
        ),
        ({"progress": "bar"}, TypeError, "progress: expected True or False, got 'bar'"),
    ],
)
def test_bad_arguments(data, arguments, error, message):
    with pytest.raises(error, match=message):
        make().fit(*data, **arguments)


def test_bad_parts():
    with pytest.raises(TypeError, match="net: expected a Sequential, got int"):
        Trainer(3)
    with pytest.raises(TypeError, match=r"optimizer: .*, or an object of fastnn\.optimizers, got <class '.*Adam'>"):
        make(optimizer=fastnn.Adam)
    with pytest.raises(ValueError, match="x: expected at least one row"):
        make().step(np.zeros((0, 3)), np.zeros(0))


def test_no_epochs_leave_an_empty_history(data):
    history = make().fit(*data, epochs=0)
    assert history.epochs == []
    assert repr(history) == "History(0 epochs)"


def test_progress_is_shown_when_asked_for(data, capsys):
    make().fit(*data, epochs=2, progress=True)
    assert "epoch 2" in capsys.readouterr().err
    make().fit(*data, epochs=2)
    make().fit(*data, epochs=2, progress=False)
    assert capsys.readouterr().err == ""


def test_history_plots(monkeypatch):
    history = History([1, 2], {"loss": [2.0, 1.0], "seconds": [0.1, 0.1]})
    assert repr(history) == "History(2 epochs, loss 1)"
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match='plot needs matplotlib: pip install "matplotlib'):
        history.plot()


def test_history_plots_on_given_axes():
    class Axes:
        drawn = None

        def plot(self, epochs, numbers, label):
            self.drawn = epochs, numbers, label

        def set_xlabel(self, label):
            self.label = label

        def legend(self):
            pass

    axes = Axes()
    assert History([1, 2], {"loss": [2.0, 1.0], "seconds": [0.1, 0.1]}).plot(axes) is axes
    assert axes.drawn == ([1, 2], [2.0, 1.0], "loss")


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))])
def test_a_copied_trainer_goes_on_with_arrays_of_its_own(twin):
    x, y = np.ones((8, 2), np.float32), np.ones((8, 1), np.float32)
    trainer = Trainer(fastnn.MLP([2, 4, 1], seed=0), optimizer="adam")
    trainer.step(x, y)
    other = twin(trainer)
    before = trainer.net.parameters.copy()
    loss = other.step(x, y)
    assert np.array_equal(trainer.net.parameters, before)
    assert trainer.step(x, y) == loss
    assert np.array_equal(trainer.net.parameters, other.net.parameters)
    assert trainer.steps == other.steps == 2


def test_a_change_of_loss_reaches_the_next_step():
    x, y = np.ones((8, 2), np.float32), np.zeros((8, 1), np.float32)
    net = fastnn.MLP([2, 1], seed=0)
    trainer = Trainer(net, optimizer=fastnn.SGD(learning_rate=0))
    trainer.step(x, y)
    trainer.loss = fastnn.losses.get("mae")
    assert trainer.step(x, y) == net.loss_and_gradient(x, y, loss="mae")[0]


@pytest.mark.parametrize(
    ("activation", "loss", "warned"),
    [
        ("softmax", "softmax_cross_entropy", True),
        ("sigmoid", "binary_cross_entropy", True),
        ("identity", "softmax_cross_entropy", False),
        # Its exponentials sum to 1 already: the loss is that of its logits.
        ("log_softmax", "softmax_cross_entropy", False),
        ("sigmoid", "mse", False),
        ("softmax", lambda y, prediction: (0.0, prediction), False),
    ],
)
def test_a_loss_that_would_make_probabilities_of_probabilities_is_told(activation, loss, warned):
    net = fastnn.MLP([2, 3], output_activation=activation, seed=0)
    x, y = np.zeros((4, 2)), np.ones((4, 3)) / 3
    trainer = Trainer(net, "mse")

    def assign():
        trainer.loss = loss

    for call in (lambda: Trainer(net, loss), assign, lambda: net.fit(x, y, loss, epochs=1, progress=False)):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            call()
        assert len(found) == warned
        if warned:
            assert re.match("loss: .*_cross_entropy takes logits", str(found[0].message))
            assert found[0].filename == __file__


def test_the_rate_of_steps_may_change_between_them(data):
    x, y = data
    trainers = [Trainer(fastnn.MLP([3, 8, 1], dtype="float64", seed=0), "mse", "adam") for _ in range(2)]
    for each in trainers:
        each.step(x, y)
    trainers[0].learning_rate = 0.25
    trainers[1].optimizer = fastnn.Adam(0.25)
    for each in trainers:
        each.step(x, y)
        assert (each.learning_rate, each.steps) == (0.25, 2)
    np.testing.assert_array_equal(trainers[0].net.parameters, trainers[1].net.parameters)
    with pytest.raises(ValueError, match="learning_rate: expected a finite number of at least 0, got -1"):
        trainers[0].learning_rate = -1
    assert trainers[0].learning_rate == 0.25


def test_layers_are_kept_by_training_others_on_what_they_predict(data, rng):
    """The recipe of docs/training.md is a loop of steps that copies the first layer back after each."""
    x, y = data[0].astype(np.float64), data[1]
    stepped = fastnn.MLP([3, 8, 1], activation="tanh", dtype="float64", seed=0)
    kept, last = (fastnn.Sequential([copy.deepcopy(layer)], dtype="float64") for layer in stepped.layers)
    last.fit(kept.predict(x), y, "mse", "adam", batch_size=10, epochs=4, shuffle=False)
    whole = fastnn.Sequential(copy.deepcopy([*kept.layers, *last.layers]), dtype="float64")
    train, weight, bias = Trainer(stepped, "mse", "adam"), stepped[0].weight.copy(), stepped[0].bias.copy()
    for _ in range(4):
        for first in range(0, 50, 10):
            train.step(x[first : first + 10], y[first : first + 10])
            stepped[0].weight, stepped[0].bias = weight, bias
    # The same steps, in kernels for other shapes: 20 updates of about eps each.
    np.testing.assert_allclose(whole.parameters, stepped.parameters, rtol=1e-12, atol=1e-13)
    assert not np.allclose(whole[1].weight, fastnn.MLP([3, 8, 1], activation="tanh", dtype="float64", seed=0)[1].weight)


def test_no_layer_says_that_it_is_frozen():
    layer = fastnn.MLP([2, 3, 1], seed=0)[0]
    layer.trainable = True
    with pytest.raises(
        ValueError, match="trainable: expected True, since a fit moves all layers of its model, got False"
    ):
        layer.trainable = False
    with pytest.raises(TypeError, match="trainable: expected True or False, got 'no'"):
        layer.trainable = "no"
    assert layer.trainable is True


def test_a_history_draws_its_numbers_if_it_has_some(data):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    history = make().fit(*data, epochs=3, validation_split=0.2, metrics=["mae"])
    lines = {line.get_label(): line for line in history.plot().lines}
    assert lines.keys() == {"loss", "val_loss", "mae", "val_mae"}
    np.testing.assert_array_equal(lines["val_mae"].get_xydata(), np.c_[[1, 2, 3], history.metrics["val_mae"]])
    axes = pyplot.subplots()[1]
    assert make().fit(*data, epochs=0).plot(axes) is axes
    pyplot.close("all")


def test_small_updates_share_a_call_and_large_ones_leave_room_for_an_interrupt(monkeypatch):
    counts, kernel = [], fastnn.trainer.train_planned

    def counted(*arguments):
        counts.append(arguments[-1].size)
        return kernel(*arguments)

    monkeypatch.setattr(fastnn.trainer, "train_planned", counted)
    x = np.linspace(-1, 1, 256, dtype=np.float32)[:, None]
    fastnn.MLP([1, 8, 1], seed=0).fit(x, x, batch_size=1, seed=0)
    assert counts[0] == 128
    assert sum(counts) == 256
    counts.clear()
    # Of these updates the first call does no more than a core of 4 GFLOP/s would in 50 ms.
    fastnn.MLP([1, 600, 600, 1], seed=0).fit(x, x, batch_size=16, seed=0)
    assert counts[0] == int(0.05 * 4e9 / (362_401 * (6 * 16 + 20))) == 4


def test_a_loss_that_raises_leaves_a_way_to_the_trainer(rng):
    x, calls = rng.standard_normal((40, 2)), []

    def loss(y, prediction):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("once")
        return float(np.mean((prediction - y) ** 2)), 2 * (prediction - y) / y.size

    net = MLP([2, 1], seed=0)
    with pytest.raises(RuntimeError, match="once") as caught:
        net.fit(x, x[:, 0], loss, batch_size=8, epochs=2, seed=0)
    assert caught.value.trainer.steps == 2
    assert caught.value.trainer.resume(x, x[:, 0]).epochs == [1, 2]


def test_a_shallow_copy_has_moments_of_its_own(rng):
    x = rng.standard_normal((40, 2))
    trainer = Trainer(MLP([2, 1], seed=0), optimizer="adam")
    trainer.step(x, x[:, 0])
    twin, before = copy.copy(trainer), trainer.net.parameters.copy()
    twin.step(x, x[:, 0])
    np.testing.assert_array_equal(trainer.net.parameters, before)
    trainer.step(x, x[:, 0])
    np.testing.assert_array_equal(trainer.net.parameters, twin.net.parameters)


@pytest.mark.parametrize("held", ["split", "data"])
def test_validation_data_that_do_not_count_are_refused(held, rng):
    x, weight = rng.standard_normal((40, 2)), np.ones(40)
    weight[-10:] = 0
    given = {"validation_split": 0.25} if held == "split" else {"validation_data": (x, x[:, 0], np.zeros(40))}
    with pytest.raises(ValueError, match="expected a weight above 0 for some row to validate on"):
        MLP([2, 1], seed=0).fit(x, x[:, 0], sample_weight=weight, **given)


def _from_bytes(trainer):
    """As frameworks send objects: the arrays apart, in memory that nobody may write to."""
    buffers = []
    stream = pickle.dumps(trainer, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(stream, buffers=[bytes(buffer) for buffer in buffers])


def _from_a_map(trainer, path):
    joblib = pytest.importorskip("joblib")
    joblib.dump(trainer, path)
    return joblib.load(path, mmap_mode="r")


@pytest.mark.parametrize("way", ["bytes", "map", "pickle"])
def test_a_trainer_from_memory_that_is_read_only_trains_on(way, data, tmp_path):
    first = make(optimizer="adam")
    first.fit(*data, seed=0)
    ways = {"bytes": _from_bytes, "map": lambda t: _from_a_map(t, tmp_path / "t"), "pickle": copy.deepcopy}
    second = ways[way](first)
    for trainer in (first, second):
        trainer.fit(*data, epochs=2, seed=1)
    # What it shows, saves and takes back are the moments that the kernel moves.
    for ours, theirs in zip(first.moments, second.moments, strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert first.net.parameters.tobytes() == second.net.parameters.tobytes()


@pytest.mark.parametrize(
    ("owner", "name", "told"),
    [
        (lambda: make(), "lr", "did you mean 'learning_rate'"),
        (lambda: make().net, "learning_rate", "a Trainer has it"),
        (lambda: make().net, "trainable", "train a model of the others"),
        (lambda: make().net.layers[0], "weights", "did you mean 'weight'"),
        (lambda: fastnn.Standardize(2), "std", "did you mean 'scale'"),
    ],
)
def test_attributes_of_other_libraries_are_refused_where_they_would_do_nothing(owner, name, told):
    thing = owner()
    with pytest.raises(AttributeError, match=f"{name}: .*{told}"):
        setattr(thing, name, 1e-3)
    # Any other name is the user's.
    thing.notes = "mine"
    assert copy.deepcopy(thing).notes == "mine"


def test_a_subclass_of_a_model_keeps_its_attributes(tmp_path):
    class Named(fastnn.Sequential):
        def __init__(self):
            super().__init__([fastnn.Dense(3, 1)], seed=0)
            self.classes, self.loss = ["a"], "mse"

    for twin in (Named().copy(), copy.deepcopy(Named())):
        assert (type(twin), twin.classes, twin.loss) == (Named, ["a"], "mse")
    # Nothing of its own is in the list that a copy takes over.
    assert fastnn.MLP([3, 1]).__dict__.keys() == fastnn.sequential._OWN_NAMES


def test_a_model_takes_the_dtype_of_layers_that_have_values():
    wide = fastnn.MLP([3, 4, 1], dtype="float64", seed=0)
    kept = fastnn.Sequential(copy.deepcopy(wide.layers[:1]))
    assert kept.dtype == np.float64
    assert kept.parameters.tobytes() == wide.layers[0]._parameters.tobytes()
    assert fastnn.Sequential([*copy.deepcopy(wide.layers[:1]), fastnn.Dense(4, 2)]).dtype == np.float64
    assert fastnn.Sequential([fastnn.Dense(3, 1)]).dtype == np.float32
    assert fastnn.Sequential([fastnn.Dense(3, 1, dtype="float64")]).dtype == np.float64
    with pytest.raises(ValueError, match="dtype: expected float32 or float64 for layers of both"):
        fastnn.Sequential([*copy.deepcopy(wide.layers[:1]), fastnn.Dense(4, 2, dtype="float32")])


@pytest.mark.parametrize("metric", [fastnn.losses.MAE, str])
def test_a_class_is_no_metric(metric, data):
    train = make()
    before = train.net.parameters.copy()
    with pytest.raises(TypeError, match=f"got the class {metric.__name__}; call it"):
        train.fit(*data, metrics=[metric])
    assert train.net.parameters.tobytes() == before.tobytes()


def test_a_loss_may_be_an_array_of_one_number(data):
    def squares(y, prediction):
        d = prediction - y
        return np.mean(d**2, keepdims=True), 2 * d / d.size

    losses = [make(loss=loss).fit(*data, seed=0).metrics["loss"] for loss in (squares, "mse")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_value_of_a_loss_is_that_which_is_trained(data):
    class Seven(fastnn.losses.Huber):
        def value(self, *arrays):
            return 7.0

    with pytest.raises(TypeError, match="loss: expected the value of its base class"):
        make(loss=Seven())
