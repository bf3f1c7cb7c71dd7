"""Callbacks: what is called when, early stopping, logs; fits that resume in the same process."""

import concurrent.futures
import copy
import csv
import math
import os
import pathlib
import pickle
import re
import threading
import types
from fractions import Fraction

import matplotlib.figure
import numpy as np
import pytest

import fastnn
from fastnn import MLP, Adam, Checkpoint, CSVLogger, EarlyStopping, LearningRateScheduler, Trainer, schedules


@pytest.fixture
def data(rng):
    x = rng.standard_normal((50, 3)).astype(np.float32)
    return x, (x**2).sum(axis=1)


def make(**arguments):
    return Trainer(fastnn.MLP([3, 8, 1], activation="tanh", seed=0), **arguments)


class Recorder:
    """Notes every call, and ends the fit when told so."""

    def __init__(self, stop_after=math.inf):
        self.seen, self.stop_after = [], stop_after

    def on_fit_begin(self, trainer, history):
        self.seen.append("begin")

    def on_batches_end(self, trainer, history):
        self.seen.append(trainer.steps)

    def on_epoch_end(self, trainer, history):
        self.seen.append(f"epoch {history.epochs[-1]}")
        return trainer.epochs >= self.stop_after

    def on_fit_end(self, trainer, history):
        self.seen.append("end")


def test_hooks_in_their_order(data, monkeypatch):
    monkeypatch.setattr(fastnn.fit_loop, "CALL_SECONDS", 0.0)
    recorder = Recorder()
    make().fit(*data, batch_size=20, epochs=2, callbacks=[recorder])
    assert recorder.seen == ["begin", 1, 2, 3, "epoch 1", 4, 5, 6, "epoch 2", "end"]
    recorder = Recorder(stop_after=1)
    make().fit(*data, batch_size=None, epochs=5, callbacks=[recorder])
    assert recorder.seen == ["begin", 1, "epoch 1", "end"]
    recorder = Recorder()
    make().fit(*data, epochs=0, callbacks=[recorder])
    assert recorder.seen == ["begin", "end"]


def test_all_callbacks_see_the_epoch_that_one_of_them_ends(data):
    seen = []
    callbacks = [lambda trainer, history: True, lambda trainer, history: seen.append(history.epochs[-1])]
    make().fit(*data, epochs=3, callbacks=callbacks)
    assert seen == [1]


@pytest.mark.parametrize("answer", [1, 0.5, "done", np.ones(3), [None]], ids=str)
def test_only_true_ends_a_fit(data, answer):
    history = make().fit(*data, epochs=3, callbacks=[lambda trainer, history: answer])
    assert history.epochs == [1, 2, 3]


def test_the_seconds_of_an_epoch_are_those_of_all_its_calls(data, monkeypatch):
    now = [0.0]

    class Slow:
        def on_batches_end(self, trainer, history):
            now[0] += 1.0

    monkeypatch.setattr(fastnn.fit_loop, "CALL_SECONDS", 0.0)  # an update a call
    monkeypatch.setattr(fastnn.fit_loop, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    history = make().fit(*data, batch_size=5, epochs=2, callbacks=[Slow()])
    assert history.metrics["seconds"] == [10, 10]


# ---- Early stopping


def stopped_after(numbers, **settings):
    """(epochs done, best epoch) of a fit whose metric takes these values."""
    values = iter(numbers)

    def score(y, prediction):
        return next(values)

    stopping = EarlyStopping("score", **settings)
    x = [[0.0]]
    history = fastnn.MLP([1, 1], seed=0).fit(x, x, epochs=len(numbers), callbacks=[stopping], metrics=[score])
    return len(history.epochs), stopping.best_epoch


@pytest.mark.parametrize(
    ("numbers", "settings", "expected"),
    [
        ([3, 2, 2, 2, 1], {"patience": 2}, (4, 2)),
        ([3, 2, 2, 1, 2, 2, 2], {"patience": 2}, (6, 4)),
        ([3, 2, 1], {"patience": 1}, (3, 3)),
        ([1, 2, 3, 3, 3], {"patience": 1, "mode": "max"}, (4, 3)),
        ([3, 2.9, 2.8, 2.7], {"patience": 2, "min_delta": 0.15}, (4, 3)),
        ([3, 2.9, 2.8, 2.7], {"patience": 2, "min_delta": 0.5}, (3, 1)),
        ([1, 1.1, 1.2], {"patience": 1, "mode": "max", "min_delta": 0.5}, (2, 1)),
        # Better each time, but not better than the baseline in time.
        ([3, 2, 1, 0.5], {"patience": 2, "baseline": 0.9}, (2, 2)),
        ([3, 0.5, 0.6, 0.7], {"patience": 2, "baseline": 0.9}, (4, 2)),
        ([3, 0.85, 0.84], {"patience": 2, "baseline": 0.9, "min_delta": 0.1}, (2, 2)),
        ([math.nan] * 3, {"patience": 2}, (2, None)),
        ([math.nan, 1, math.nan, 0.5], {"patience": 2}, (4, 4)),
    ],
)
def test_patience_by_hand(numbers, settings, expected):
    assert stopped_after(numbers, **settings) == expected


@pytest.mark.parametrize("runs_out", [False, True])
def test_the_best_parameters_come_back_bit_for_bit(data, runs_out):
    train, seen = make(optimizer=fastnn.SGD(learning_rate=0.05)), []
    values = iter([5, 3, 1, 2, 2, 2, 2])

    def score(y, prediction):
        return next(values)

    stopping = EarlyStopping("score", patience=100 if runs_out else 2, restore_best=True)
    watch = lambda trainer, history: seen.append(trainer.net.parameters.copy())
    history = train.fit(*data, epochs=7, callbacks=[stopping, watch], metrics=[score])
    assert len(history.epochs) == (7 if runs_out else 5)
    np.testing.assert_array_equal(train.net.parameters, seen[2])
    assert not np.array_equal(seen[2], seen[-1])
    assert (stopping.best, stopping.best_epoch) == (1, 3)


def test_without_restore_the_last_parameters_stay(data):
    train, seen = make(), []
    watch = lambda trainer, history: seen.append(trainer.net.parameters.copy())
    train.fit(*data, epochs=3, callbacks=[EarlyStopping("loss", patience=1), watch])
    np.testing.assert_array_equal(train.net.parameters, seen[-1])


def test_a_callback_is_good_for_another_fit(data):
    stopping = EarlyStopping("loss", patience=3)
    make().fit(*data, epochs=4, callbacks=[stopping])
    first = stopping.best
    again = make()
    history = again.fit(*data, epochs=4, seed=9, callbacks=[stopping])
    assert stopping.best == min(history.metrics["loss"]) != first


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"patience": 0}, ValueError, "patience: expected at least 1, got 0"),
        ({"min_delta": -1}, ValueError, "min_delta: expected a finite number of at least 0, got -1"),
        ({"mode": "auto"}, ValueError, "mode: expected one of min, max, got 'auto'"),
        ({"baseline": math.nan}, ValueError, "baseline: expected a finite number, got nan"),
        ({"restore_best": 1}, TypeError, "restore_best: expected True or False, got 1"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        EarlyStopping(**settings)


def test_a_number_that_is_not_there(data):
    with pytest.raises(ValueError, match="monitor: expected one of loss, seconds, got 'val_loss'"):
        make().fit(*data, callbacks=[EarlyStopping()])


def test_a_metric_may_not_take_a_name_of_the_history(data):
    def learning_rate(y, prediction):
        return 0.0

    with pytest.raises(ValueError, match="expected names of their own, got 'learning_rate'"):
        make().fit(*data, metrics=[learning_rate])


# ---- Logs


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_log_has_the_history_exactly(data, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("an older log")
    history = make().fit(*data, epochs=3, validation_data=data, callbacks=[CSVLogger(path)])
    header, *rows = rows_of(path)
    assert header == ["epoch", *history.metrics]
    assert [int(row[0]) for row in rows] == [1, 2, 3]
    for i, name in enumerate(history.metrics):
        assert [float(row[i + 1]) for row in rows] == history.metrics[name]


def test_a_log_in_no_folder(data, tmp_path):
    train = make()
    with pytest.raises(FileNotFoundError):
        train.fit(*data, callbacks=[CSVLogger(tmp_path / "none" / "log.csv")])
    assert train.steps == 0


def test_a_log_of_a_fit_that_does_not_begin_is_the_old_one(data, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("an older log")
    with pytest.raises(ZeroDivisionError):
        make().fit(*data, callbacks=[CSVLogger(path), Nested("on_fit_begin", lambda: 1 // 0)])
    assert path.read_text() == "an older log"


@pytest.mark.parametrize("kind", [CSVLogger, fastnn.Checkpoint])
def test_a_callback_names_a_path_that_is_none(kind):
    with pytest.raises(TypeError, match=r"path: expected a str, bytes or os\.PathLike, got 1"):
        kind(1)
    with pytest.raises(ValueError, match="path: expected the name of a file, got ''"):
        kind("")


def test_a_class_is_no_callback(data):
    train = make()
    with pytest.raises(TypeError, match="callbacks: expected an object, got the class EarlyStopping; call it"):
        train.fit(*data, callbacks=[EarlyStopping])
    assert train.steps == 0


def test_a_class_is_no_schedule():
    with pytest.raises(TypeError, match=r"schedule: expected an object of .* or a function, got <class"):
        LearningRateScheduler(schedules.Cosine)


def test_callbacks_and_trainers_show_their_settings():
    assert repr(EarlyStopping("loss", patience=3)) == (
        "EarlyStopping(monitor='loss', patience=3, min_delta=0.0, mode='min', baseline=None, restore_best=False)"
    )
    assert repr(fastnn.Checkpoint("a", 2, "updates")) == (
        "Checkpoint(path='a', every=2, unit='updates', monitor=None, mode='min')"
    )
    assert repr(LearningRateScheduler(schedules.Step(3))) == (
        "LearningRateScheduler(schedule=Step(size=3, gamma=0.1), per='epoch')"
    )
    assert repr(CSVLogger(pathlib.Path("log.csv"))) == "CSVLogger(path='log.csv')"
    assert re.fullmatch(
        r"Trainer\(Sequential\(.*\), loss=Huber\(delta=0.5\), optimizer=SGD\(.*\), steps=0\)",
        repr(make(loss=fastnn.losses.Huber(0.5))),
    )


# ---- Fits that resume


def callbacks_of(path, *more):
    """All kinds that remember something."""
    return [
        EarlyStopping("val_loss", patience=4, restore_best=True),
        LearningRateScheduler(schedules.ReduceOnPlateau(factor=0.5, patience=1, threshold=0.05)),
        CSVLogger(path),
        *more,
    ]


def settings_of(data):
    x, y = data

    def largest(y, prediction):
        return float(np.abs(y - prediction).max())

    return {"validation_data": (x[:20], y[:20]), "metrics": [largest]}


def assert_same(train, other):
    np.testing.assert_array_equal(train.net.parameters, other.net.parameters)
    for moment, other_moment in zip(train.moments, other.moments, strict=True):
        np.testing.assert_array_equal(moment, other_moment)
    assert (train.steps, train.epochs, train.history.epochs) == (other.steps, other.epochs, other.history.epochs)
    metrics = {name: numbers for name, numbers in train.history.metrics.items() if name != "seconds"}
    assert metrics == {name: other.history.metrics[name] for name in metrics}


class Interrupter:
    """Ctrl-C in any hook, once."""

    def __init__(self, hook, count):
        self.count = count
        setattr(self, hook, self._called)
        self.on_epoch_end = getattr(self, "on_epoch_end", lambda *_: None)

    def _called(self, trainer, history):
        self.count -= 1
        if self.count == 0:
            raise KeyboardInterrupt


HOOKS = [("on_fit_begin", 1), ("on_batches_end", 1), ("on_batches_end", 8), ("on_epoch_end", 2), ("on_fit_end", 1)]


@pytest.mark.parametrize("first", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("hook", "count"), HOOKS)
def test_a_fit_goes_on_to_the_same_bits(data, tmp_path, monkeypatch, hook, count, first):
    monkeypatch.setattr(fastnn.fit_loop, "CALL_SECONDS", 0.0)  # an update a call
    settings = {"batch_size": 16, "epochs": 30, "seed": 3, **settings_of(data)}
    straight = make(optimizer=fastnn.Adam(learning_rate=0.2))
    straight.fit(*data, **settings, callbacks=callbacks_of(tmp_path / "straight.csv"))
    assert len(straight.history.epochs) < 30
    assert straight.history.metrics["learning_rate"][-1] < 0.2

    broken = make(optimizer=fastnn.Adam(learning_rate=0.2))
    callbacks = callbacks_of(tmp_path / "broken.csv")
    callbacks.insert(0 if first else 3, Interrupter(hook, count))
    with pytest.raises(KeyboardInterrupt) as caught:
        broken.fit(*data, **settings, callbacks=callbacks)
    assert caught.value.trainer is broken
    before = list(broken.history.epochs)

    resumed = callbacks_of(tmp_path / "broken.csv")
    resumed.insert(0 if first else 3, Interrupter(hook, 0))
    history = broken.resume(*data, **settings_of(data), callbacks=resumed)
    assert history is broken.history
    assert history.epochs[: len(before)] == before
    assert_same(broken, straight)
    columns = [row[:-1] for row in rows_of(tmp_path / "broken.csv")]
    assert columns == [row[:-1] for row in rows_of(tmp_path / "straight.csv")]
    assert resumed[1 if first else 0].best == callbacks_of_best(straight)

    broken.resume(*data, **settings_of(data), callbacks=resumed)
    assert_same(broken, straight)


def callbacks_of_best(train):
    return min(train.history.metrics["val_loss"])


def test_an_epoch_that_is_shown_twice_counts_once():
    plateau = schedules.ReduceOnPlateau(monitor="loss", factor=0.5, patience=1)
    stopping, scheduler = EarlyStopping("loss", patience=2), LearningRateScheduler(plateau)
    trainer, history = make(optimizer=fastnn.SGD(learning_rate=1)), fastnn.History()
    scheduler.on_fit_begin(trainer, history)
    for epoch, ends in ((1, False), (2, False), (3, True)):
        history.append(epoch, {"loss": 1.0})
        for _ in range(2):
            assert stopping.on_epoch_end(trainer, history) == ends
            scheduler.on_epoch_end(trainer, history)
        assert scheduler.state_dict()["plateau"]["learning_rate"] == (0.5 if ends else 1)


def test_a_copy_made_by_a_callback_resumes_like_the_fit(data):
    twins, straight = [], make(optimizer="adam")
    stopping = lambda: EarlyStopping("loss", patience=2, min_delta=1e9)

    def keep(trainer, history):
        if trainer.epochs == 2:
            twins.append(copy.deepcopy(trainer))

    straight.fit(*data, epochs=9, seed=3, callbacks=[keep, stopping()])
    twins[0].resume(*data, callbacks=[lambda *_: None, stopping()])
    assert twins[0].epochs == 3
    assert_same(twins[0], straight)


class Nested:
    """Calls a function at one of the moments at which a fit calls its user."""

    def __init__(self, moment, call):
        setattr(self, moment, lambda *_: call())
        if moment == "state_dict":
            self.load_state_dict = lambda state: None

    def on_epoch_end(self, trainer, history):
        pass


def from_a_thread(call):
    """The error that a function raises on another thread."""

    def wait():
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return pool.submit(call).result()

    return wait


# What a fit calls, and how to have it call a function.
USERS = {
    **{
        moment: lambda call, moment=moment: {"callbacks": [Nested(moment, call)]}
        for moment in ("on_fit_begin", "on_batches_end", "on_epoch_end", "on_fit_end")
    },
    "state_dict": lambda call: {"callbacks": [Nested("state_dict", call)]},
    "metric": lambda call: {"metrics": [lambda y, prediction: call()]},
    "schedule": lambda call: {"callbacks": [LearningRateScheduler(lambda t, rate: call())]},
    "thread": lambda call: {"callbacks": [Nested("on_epoch_end", from_a_thread(call))]},
}


@pytest.mark.parametrize("method", ["fit", "resume"])
@pytest.mark.parametrize("user", USERS)
def test_a_fit_within_a_fit_is_refused(data, user, method):
    train = make()
    with pytest.raises(RuntimeError, match="this trainer is in a fit: until its end no callback, metric or thread"):
        train.fit(*data, seed=0, **USERS[user](lambda: getattr(train, method)(*data)))
    # It was refused, not half begun, and the trainer is free again.
    assert train.history.seed == 0
    assert train.fit(*data, epochs=2, seed=1).seed == 1


def test_a_fit_that_begins_while_another_looks_at_its_data_has_the_trainer(data):
    x, y = data
    train, began, refused, found = make(), threading.Event(), threading.Event(), []

    def wait(trainer, history):
        began.set()
        assert refused.wait(60)

    other = threading.Thread(target=lambda: found.append(train.fit(x, y, epochs=2, seed=1, callbacks=[wait])))

    class Slow:
        def __array__(self, dtype=None, copy=None):
            other.start()
            assert began.wait(60)
            return x

    with pytest.raises(RuntimeError, match="this trainer is in a fit"):
        train.fit(Slow(), y, seed=2)
    refused.set()
    other.join()
    assert train.history is found[0]
    assert (train.history.seed, train.history.epochs) == (1, [1, 2])
    alone = make()
    alone.fit(x, y, epochs=2, seed=1)
    np.testing.assert_array_equal(train.net.parameters, alone.net.parameters)


def test_a_fit_within_load_state_dict_is_refused(data):
    train = make()

    class Loads:
        on_epoch_end = staticmethod(lambda trainer, history: True)
        state_dict = staticmethod(dict)
        load_state_dict = staticmethod(lambda state: train.fit(*data))

    train.fit(*data, epochs=2, callbacks=[Loads()])
    with pytest.raises(RuntimeError, match="this trainer is in a fit"):
        train.resume(*data, callbacks=[Loads()])


def test_a_callbacks_state_that_fails_leaves_no_fit_behind(data):
    class Broken:
        on_epoch_end = staticmethod(lambda trainer, history: None)
        state_dict = staticmethod(lambda: 1 // 0)
        load_state_dict = staticmethod(lambda state: None)

    train = make()
    with pytest.raises(ZeroDivisionError):
        train.fit(*data, callbacks=[Broken()])
    assert len(train.fit(*data, epochs=2).epochs) == 2


def test_resume_refuses_what_does_not_fit(data):
    x, y = data
    train = make()
    with pytest.raises(ValueError, match="resume: there is no fit to go on with; call fit"):
        train.resume(x, y)

    def interrupt(trainer, history):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(x, y, epochs=3, callbacks=[interrupt])
    with pytest.raises(ValueError, match="x: expected the fit's 50 rows, got 49"):
        train.resume(x[1:], y[1:], callbacks=[interrupt])
    for callbacks, got in ([], ""), ([EarlyStopping("loss")], "EarlyStopping"):
        with pytest.raises(ValueError, match=rf"callbacks: expected those of the fit, \[function\], got \[{got}\]"):
            train.resume(x, y, callbacks=callbacks)
    assert train.resume(x, y, callbacks=[lambda *_: None]).epochs == [1, 2, 3]


def test_validation_in_parts_is_validation_in_one(data, monkeypatch):
    whole, parts = make(), make()
    settings = {"epochs": 2, "seed": 0, **settings_of(data)}
    whole.fit(*data, **settings)
    monkeypatch.setattr(fastnn.metrics, "CALL_WORK", 7 * parts.net.parameter_count)
    calls, predict = [], fastnn.Sequential.predict
    monkeypatch.setattr(fastnn.Sequential, "predict", lambda net, *a: calls.append(len(a[0])) or predict(net, *a))
    parts.fit(*data, **settings)
    assert calls[:8] == [7] * 7 + [1]
    assert_same(whole, parts)


def test_the_bar_shows_loss_and_validation_scores(data, capsys):
    x, y = data
    make().fit(x, y, epochs=2, validation_data=data, metrics=settings_of(data)["metrics"], progress=True)
    shown = capsys.readouterr().err
    assert "loss=" in shown
    assert "val_loss=" in shown
    assert "val_largest=" in shown
    assert "4/4" in shown


def test_the_bar_of_a_resumed_fit_begins_where_that_stands(data, capsys):
    train, callbacks = make(), [Interrupter("on_epoch_end", 1)]
    with pytest.raises(KeyboardInterrupt):
        train.fit(*data, epochs=2, callbacks=callbacks)
    train.resume(*data, callbacks=callbacks, progress=True)
    assert "4/4" in capsys.readouterr().err


def test_the_documented_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (pathlib.Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
    names, blocks = {}, re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert sum(")  # " in block for block in blocks) > 1
    for block in blocks:
        exec(block, names)
        said = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)
        # Of some prints the page says nothing.
        assert set(said) <= set(capsys.readouterr().out.splitlines())
    assert sorted(os.listdir()) == ["log.csv", "run.safetensors"]
    # The last block resumes what the first one ran.
    first, *_ = rows_of("log.csv")[1:]
    assert first[0] == "1"
    assert names["history"].epochs[-1] == len(rows_of("log.csv")) - 1


@pytest.mark.parametrize(
    "callback",
    [
        fastnn.EarlyStopping("loss", patience=2, restore_best=True),
        fastnn.LearningRateScheduler(fastnn.schedules.ReduceOnPlateau(monitor="loss", patience=0, threshold=1e9)),
    ],
    ids=["early stopping", "plateau"],
)
def test_callbacks_pickle_with_what_they_have_seen(callback):
    x = np.linspace(-1, 1, 20)[:, None]
    fastnn.MLP([1, 4, 1], seed=0).fit(x, x**2, epochs=3, seed=0, callbacks=[callback])
    loaded = pickle.loads(pickle.dumps(callback))
    assert repr(loaded.state_dict()) == repr(callback.state_dict())
    assert "epoch" in loaded.state_dict()


@pytest.mark.parametrize("unit", ["epochs", "updates", "seconds"])
def test_checkpoints_pickle(unit, tmp_path):
    """For workers by spawn; their clock was a function without a name."""
    loaded = pickle.loads(pickle.dumps(fastnn.Checkpoint(tmp_path / "training.safetensors", every=2, unit=unit)))
    net = fastnn.MLP([1, 1], seed=0)
    net.fit([[0.0], [1.0]], [[0.0], [1.0]], epochs=3, seed=0, callbacks=[loaded])
    restored = fastnn.Trainer.restore(tmp_path / "training.safetensors")
    assert (loaded.unit, loaded.every, restored.epochs) == (unit, 2, 3)
    assert restored.net.parameters.tobytes() == net.parameters.tobytes()


# ---- Numbers that are not there, found before the first batch


def watching(monitor="val_loss"):
    plateau = fastnn.LearningRateScheduler(fastnn.schedules.ReduceOnPlateau(monitor=monitor, mode="max"))
    return [EarlyStopping(monitor, mode="max"), plateau]


@pytest.mark.parametrize("which", [0, 1])
def test_a_number_that_will_be_missing_is_told_before_the_first_batch(data, which):
    train = make()
    before = train.net.parameters.copy()
    names = ["loss, seconds", "loss, learning_rate, seconds"][which]
    with pytest.raises(ValueError, match=f"monitor: expected one of {names}, got 'val_loss'; a fit with validation"):
        # A function may add numbers to the history, but not this one.
        train.fit(*data, callbacks=[lambda trainer, history: None, watching()[which]])
    with pytest.raises(
        ValueError, match=r"monitor: expected one of loss, mae, val_loss, val_mae, (learning_rate, )?seconds"
    ):
        train.fit(*data, callbacks=[watching("val_mse")[which]], validation_split=0.5, metrics=["mae"])
    assert train.steps == 0
    assert train.history is None
    np.testing.assert_array_equal(train.net.parameters, before)


def lines_of(path):
    return [line.split(",") for line in path.read_text().splitlines()]


@pytest.mark.parametrize("first", ["logger", "note"])
def test_numbers_of_a_callback_of_ones_own_are_logged_and_kept(data, tmp_path, first):
    """Wherever the callback stands, from whatever epoch on; a fit that resumes from a file has them too."""
    log, path = tmp_path / "log.csv", tmp_path / "run.safetensors"
    begin, kills = 2, []

    def note(trainer, history):
        if trainer.epochs >= begin:
            history.note("twice", 2 * trainer.epochs)
        if trainer.epochs in kills:
            kills.remove(trainer.epochs)
            raise KeyboardInterrupt

    def callbacks():
        keep = [CSVLogger(log), fastnn.Checkpoint(path)]
        return [*keep, note] if first == "logger" else [note, *keep]

    expected = ["nan", "4", "6", "8"]
    history = make().fit(*data, epochs=4, seed=1, callbacks=callbacks())
    assert np.array_equal(history.metrics["twice"], [np.nan, 4, 6, 8], equal_nan=True)
    names, *rows = lines_of(log)
    assert [row[names.index("twice")] for row in rows] == expected
    kills.append(3)
    train = make()
    with pytest.raises(KeyboardInterrupt):
        train.fit(*data, epochs=4, seed=1, callbacks=callbacks())
    restored = fastnn.Trainer.restore(path)
    for trainer in (train, restored):
        log.unlink()
        resumed = trainer.resume(*data, callbacks=callbacks())
        assert np.array_equal(resumed.metrics["twice"], history.metrics["twice"], equal_nan=True)
        assert resumed.metrics["loss"] == history.metrics["loss"]
        names, *rows = lines_of(log)
        assert [row[names.index("twice")] for row in rows] == expected
    # Finished: nothing is called but on_fit_begin, and the log is whole again all the same.
    log.unlink()
    fastnn.Trainer.restore(path).resume(*data, callbacks=callbacks())
    assert len(lines_of(log)) == 5


def test_history_notes(tmp_path):
    history = fastnn.History()
    history.append(1, {"a": 1.0})
    history.append(2, {"b": 2.0})
    history.append(3, {"a": 3.0})
    history.note("b", 4.0)
    history.note("b", 5.0)
    assert np.array_equal(history.metrics["a"], [1, np.nan, 3], equal_nan=True)
    assert np.array_equal(history.metrics["b"], [np.nan, 2, 5], equal_nan=True)
    history.append(4, {"a": 1.0})
    lines = history.plot(matplotlib.figure.Figure().subplots()).get_lines()
    assert [line.get_xdata().size for line in lines] == [4, 3]
    history.append(5, {"a": 1.0})
    assert np.array_equal(history.metrics["b"], [np.nan, 2, 5, np.nan], equal_nan=True)
    for bad in (None, "1", np.ones(1), True):
        with pytest.raises(TypeError, match="number: expected a float for b, got"):
            history.note("b", bad)


def test_a_history_that_no_file_can_hold_is_told(data, tmp_path):
    for numbers, error, message in (
        ([None], TypeError, "history: expected a list of numbers for 'own', got \\[None\\]"),
        ([1.0] * 5, ValueError, "history: expected 3 numbers for 'own', got 5"),
        ([1.0], ValueError, "history: expected 3 numbers for 'own', got 1; History.note takes them"),
    ):

        def note(trainer, history, numbers=numbers):
            if trainer.epochs == 3:
                history.metrics["own"] = numbers

        path = tmp_path / "run.safetensors"
        with pytest.raises(error, match=message):
            make().fit(*data, epochs=3, callbacks=[note, fastnn.Checkpoint(path, every=3)])
        assert not path.exists()


def test_a_resumed_callback_watches_the_same_number(data):
    def kill(trainer, history):
        if trainer.epochs == 2:
            raise KeyboardInterrupt

    given = {"metrics": ["mae"]}
    train = make()
    with pytest.raises(KeyboardInterrupt):
        train.fit(*data, epochs=4, seed=1, callbacks=[EarlyStopping("loss"), kill], **given)
    for other, message in (
        (EarlyStopping("mae"), "callbacks: expected EarlyStopping with monitor='loss', .*, got monitor='mae'"),
        (EarlyStopping("loss", mode="max"), "callbacks: expected EarlyStopping with mode='min', .*, got mode='max'"),
    ):
        with pytest.raises(ValueError, match=message):
            train.resume(*data, callbacks=[other, lambda *_: None], **given)
    stopping = EarlyStopping("loss")
    history = train.resume(*data, callbacks=[stopping, lambda *_: None], **given)
    assert stopping.best == min(history.metrics["loss"])


def test_a_number_of_a_callback_of_ones_own_can_be_watched(data):
    def note(trainer, history):
        history.metrics.setdefault("norm", []).append(float(np.abs(trainer.net.parameters).sum()))

    class Noting(EarlyStopping):
        def on_epoch_end(self, trainer, history):
            note(trainer, history)
            return super().on_epoch_end(trainer, history)

    for callbacks in ([note, EarlyStopping("norm", patience=1)], [Noting("norm", patience=1)]):
        history = make().fit(*data, epochs=3, callbacks=callbacks)
        assert len(history.metrics["norm"]) == len(history.epochs)
    # Noted behind it, which is told before the first batch.
    train = make()
    with pytest.raises(ValueError, match="monitor: expected one of loss, seconds, got 'norm'"):
        train.fit(*data, callbacks=[EarlyStopping("norm"), note])
    assert train.steps == 0


@pytest.mark.parametrize("monitor", ["accuracy", "val_accuracy", "val_score"])
def test_of_an_accuracy_more_is_better(monitor):
    for kind in (EarlyStopping, fastnn.schedules.ReduceOnPlateau):
        with pytest.raises(ValueError, match=f"mode: expected 'max' with monitor='{monitor}'"):
            kind(monitor=monitor)
        assert kind(monitor=monitor, mode="max").monitor == monitor
        with pytest.raises(TypeError, match=r"monitor: expected the name of a number in .*, got None"):
            kind(monitor=None)


def test_a_resumed_fit_notes_the_same_numbers(data):
    ends = iter([False, True])

    def interrupt(trainer, history):
        if next(ends, False):
            raise KeyboardInterrupt

    train, given = make(), {"validation_data": data, "metrics": ["mae"]}
    with pytest.raises(KeyboardInterrupt):
        train.fit(*data, epochs=4, seed=0, callbacks=[EarlyStopping(), interrupt], **given)
    own, other = [EarlyStopping(), CSVLogger("never.csv")], [EarlyStopping(), interrupt]
    message = (
        "validation_data, metrics: expected those of the fit, which give loss, mae, val_loss, val_mae, seconds, got"
    )
    for callbacks, lacking in ((own, {"validation_data": data}), (other, {**given, "metrics": ["mae", "huber"]})):
        with pytest.raises(ValueError, match=message):
            train.resume(*data, callbacks=callbacks, **lacking)
    with pytest.raises(ValueError, match="monitor: expected one of loss, mae, seconds, got 'val_loss'"):
        train.resume(*data, callbacks=other, metrics=["mae"])
    callbacks = [EarlyStopping("loss"), interrupt]
    with pytest.raises(ValueError, match=message):
        train.resume(*data, callbacks=callbacks, metrics=["mae"])
    assert train.epochs == 2
    history = train.resume(*data, callbacks=other, **given)
    assert {len(numbers) for numbers in history.metrics.values()} == {4}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("on_epoch_begin", "'on_fit_begin' or 'on_epoch_end'"),
        ("on_train_begin", "'on_fit_begin'"),
        ("on_train_batch_end", "'on_batches_end'"),
        ("on_epochs_end", "'on_epoch_end'"),
        ("on_Fit_End", "'on_fit_end'"),
    ],
)
def test_a_method_that_nothing_would_call_is_refused(data, name, meant):
    for hooks in ([name], [name, "on_epoch_end"]):
        callback = type("Other", (), dict.fromkeys(hooks, lambda *_: None))()
        message = (
            rf"callbacks: expected methods of the names on_fit_begin, .*, got {name} of .*; did you mean {meant}\?"
        )
        with pytest.raises(TypeError, match=message):
            make().fit(*data, callbacks=[callback])
    callback = type("Own", (), dict.fromkeys(["on_my_way", "on_epoch_end"], lambda *_: None))()
    make().fit(*data, callbacks=[callback])


def test_a_schedule_needs_its_scheduler(data):
    with pytest.raises(
        TypeError, match=r"callbacks: expected LearningRateScheduler\(Step\(.*\)\), got the schedule alone"
    ):
        make().fit(*data, callbacks=[schedules.Step(2)])
    for rate in (schedules.Step(2), lambda t: 0.1):
        with pytest.raises(TypeError, match=r"learning_rate: expected a real number, got .*; a schedule goes into the"):
            fastnn.Adam(rate)


class Noting:
    """Notes a number at these epochs, or if there are none at the end of the fit."""

    def __init__(self, *epochs):
        self.epochs = epochs

    def on_epoch_end(self, trainer, history):
        if trainer.epochs in self.epochs:
            history.note("own", trainer.epochs)

    def on_fit_end(self, trainer, history):
        if not self.epochs:
            history.note("own", 9.0)


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize(
    ("noted", "behind"),
    [((), False), *((epochs, behind) for epochs in [(1,), (2, 3), (1, 2, 3)] for behind in (False, True))],
)
def test_the_log_has_all_that_was_noted(tmp_path, epochs, noted, behind):
    path, x = tmp_path / "log.csv", np.zeros((4, 2))
    callbacks = [CSVLogger(path), Noting(*noted)] if behind else [Noting(*noted), CSVLogger(path)]
    history = MLP([2, 1], seed=0).fit(x, x[:, 0], epochs=epochs, seed=0, callbacks=callbacks)
    header, *lines = path.read_text().splitlines()
    assert header == ",".join(["epoch", *history.metrics])
    assert len(lines) == epochs
    for i, line in enumerate(lines):
        numbers = [
            history.epochs[i],
            *(column[i] if i < len(column) else np.nan for column in history.metrics.values()),
        ]
        np.testing.assert_array_equal([float(number) for number in line.split(",")], numbers)


def test_the_log_has_a_number_that_was_noted_twice(tmp_path):
    class First:
        def on_epoch_end(self, trainer, history):
            history.note("own", 1.0)

    class Second:
        def on_epoch_end(self, trainer, history):
            history.note("own", 2.0 + trainer.epochs)

    path, x = tmp_path / "log.csv", np.zeros((4, 2))
    MLP([2, 1], seed=0).fit(x, x[:, 0], epochs=2, seed=0, callbacks=[First(), CSVLogger(path), Second()])
    assert [line.split(",")[-1] for line in path.read_text().splitlines()] == ["own", "3.0", "4.0"]


def test_nothing_can_be_noted_of_no_epoch(tmp_path):
    class Begin:
        def on_fit_begin(self, trainer, history):
            history.note("start", 1.0)

        def on_epoch_end(self, trainer, history):
            pass

    net, x = MLP([2, 1], seed=0), np.zeros((4, 2))
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="expected an epoch whose number start is"):
        net.fit(x, x[:, 0], callbacks=[Begin()])
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize("number", [Fraction(1, 3), np.longdouble(0.5), np.float32(0.25), 3])
def test_what_is_noted_can_be_saved(tmp_path, number):
    def note(trainer, history):
        history.note("tensor", number)

    path, x = tmp_path / "fit.safetensors", np.zeros((4, 2))
    history = MLP([2, 1], seed=0).fit(x, x[:, 0], epochs=2, seed=0, callbacks=[note, Checkpoint(path)])
    assert history.metrics["tensor"] == [float(number)] * 2
    assert Trainer.restore(path).history == history


def test_a_rate_that_is_set_after_a_reduction_counts(rng):
    x = rng.standard_normal((40, 2))

    def set_rate(trainer, history):
        if trainer.epochs == 4:
            trainer.learning_rate = 1e-5

    schedule = schedules.ReduceOnPlateau(monitor="loss", patience=1, threshold=0.9, factor=0.5)
    callbacks = [LearningRateScheduler(schedule), set_rate]
    history = MLP([2, 1], seed=0).fit(x, x[:, 0], epochs=7, seed=0, optimizer=Adam(1e-2), callbacks=callbacks)
    assert history.metrics["learning_rate"] == [1e-2, 1e-2, 1e-2, 5e-3, 1e-5, 5e-6, 5e-6]


@pytest.mark.parametrize("name", ["epoch", "loss", "val_loss", "seconds", "learning_rate"])
def test_no_number_is_called_as_those_of_fits(name):
    """A fit that resumes would look for the validation set that gave it."""
    history = fastnn.History()
    history.append(1, {"loss": 1.0})
    with pytest.raises(ValueError, match=f"name: expected another one than fits give, .*, got '{name}'"):
        history.note(name, 1.0)
    assert history.metrics == {"loss": [1.0]}


class _Forgetful:
    """A callback whose state cannot be had."""

    broken = True

    def on_epoch_end(self, trainer, history):
        if self.broken and trainer.epochs == 3:
            raise KeyboardInterrupt

    def state_dict(self):
        if self.broken:
            raise OSError("no state")
        return {}

    def load_state_dict(self, state):
        pass


def test_a_state_that_cannot_be_had_loses_none_of_the_others(data):
    patient = lambda: EarlyStopping("loss", patience=4, min_delta=1e9)
    forgetful, trainer = _Forgetful(), make()
    with pytest.raises(OSError, match="no state"):
        trainer.fit(*data, epochs=10, seed=0, callbacks=[forgetful, patient()])
    forgetful.broken = False
    assert trainer.resume(*data, callbacks=[forgetful, patient()]).epochs == [1, 2, 3, 4, 5]


def test_half_a_state_is_refused(data):
    class Half:
        def on_epoch_end(self, trainer, history):
            pass

        def state_dict(self):
            return {}

    with pytest.raises(TypeError, match="callbacks: expected load_state_dict beside the state_dict of"):
        make().fit(*data, callbacks=[Half()])


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (schedules.ReduceOnPlateau(monitor="loss"), "LearningRateScheduler with monitor='worst'"),
        (schedules.Cosine(), "expected ReduceOnPlateau, as in the fit, got Cosine"),
    ],
)
def test_a_schedule_that_waits_goes_on_with_its_own_number(schedule, told, data):
    def worst(y, prediction):
        return -1.0

    def cut(trainer, history):
        if trainer.epochs == 2:
            raise KeyboardInterrupt

    waits = LearningRateScheduler(schedules.ReduceOnPlateau(monitor="worst"))
    trainer, ignore = make(), lambda trainer, history: None
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(*data, epochs=5, seed=0, metrics=[worst], callbacks=[waits, cut])
    with pytest.raises(ValueError, match=re.escape(told)):
        trainer.resume(*data, metrics=[worst], callbacks=[LearningRateScheduler(schedule), ignore])
    assert len(trainer.resume(*data, metrics=[worst], callbacks=[waits, ignore]).epochs) == 5
