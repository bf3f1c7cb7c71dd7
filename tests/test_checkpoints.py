"""Checkpoints: kills, full disks, places that cannot be written, files that are not what they should be."""

import contextlib
import dataclasses
import errno
import functools
import json
import os
import pathlib
import resource
import signal
import stat
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import safetensors.numpy

import fastnn
from fastnn import Checkpoint, EarlyStopping, LearningRateScheduler, Trainer, schedules
from fastnn.files import write_whole

FULL = os.environ.get("FASTNN_FULL") == "1"
KILLS = 50 if FULL else 6
MUTATIONS = 20_000 if FULL else 400


@pytest.fixture
def data(rng):
    x = rng.standard_normal((50, 3)).astype(np.float32)
    return x, (x**2).sum(axis=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


def make(**arguments):
    return Trainer(fastnn.MLP([3, 8, 1], activation="tanh", seed=0), **arguments)


# ---- Kills

SCRIPT = """
import hashlib, json, os, pathlib, sys, time
import numpy as np
import fastnn
from fastnn import fit_loop

path, log, epochs, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
fit_loop.CALL_SECONDS = 0.0  # an update a call


class Pace:
    ready = False

    def on_batches_end(self, trainer, history):
        time.sleep(pause)
        if not self.ready:
            print("ready", trainer.steps, flush=True)
            self.ready = True


def largest(y, prediction):
    return float(np.abs(y - prediction).max())


x = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
y = (x**2).sum(axis=1)
callbacks = [
    fastnn.EarlyStopping("val_loss", patience=10**6, restore_best=True),
    fastnn.LearningRateScheduler(fastnn.schedules.ReduceOnPlateau(factor=0.9, patience=2, threshold=0.05)),
    fastnn.Checkpoint(path, every=0.005, unit="seconds"),
    fastnn.CSVLogger(log),
    Pace(),
]
given = {"validation_data": (x[:50], y[:50]), "metrics": [largest], "callbacks": callbacks}
if os.path.exists(path):
    trainer = fastnn.Trainer.restore(path)
    history = trainer.resume(x, y, **given)
else:
    net = fastnn.MLP([3, 8, 1], activation="tanh", seed=0)
    trainer = fastnn.Trainer(net, "huber", fastnn.Adam(learning_rate=0.01, clip_value=5.0))
    history = trainer.fit(x, y, batch_size=20, epochs=epochs, seed=5, **given)
digest = hashlib.sha256(trainer.net.parameters.tobytes())
for moment in trainer.moments:
    digest.update(moment.tobytes())
history.metrics.pop("seconds")
lines = [line.rsplit(",", 1)[0] for line in pathlib.Path(log).read_text().splitlines()]
digest.update(json.dumps([history.epochs, history.metrics, trainer.steps, lines]).encode())
print("done", digest.hexdigest(), callbacks[0].best_epoch, flush=True)
"""


def start(path, epochs, pause):
    command = [sys.executable, "-W", "error", "-c", SCRIPT, path, path.with_suffix(".csv"), str(epochs), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_kills_lose_nothing(tmp_path, rng):
    # Ten updates an epoch, each 0.002 s and more, and a kill after 0 to 0.2 s: thrice the time to the last kill.
    epochs = 30 * KILLS
    with start(tmp_path / "straight.safetensors", epochs, 0) as straight:
        expected = straight.stdout.read().splitlines()[-1]
    path, begins = tmp_path / "killed.safetensors", []
    for _ in range(KILLS):
        with start(path, epochs, 0.002) as process:
            word, steps = process.stdout.readline().split()
            assert word == "ready"
            begins.append(int(steps))
            time.sleep(rng.uniform(0, 0.2))
            process.kill()
        assert process.returncode == -signal.SIGKILL
    # It went on from the kill before, within epochs too.
    assert begins == sorted(begins)
    assert begins[-1] > begins[0] == 1
    with start(path, epochs, 0) as last:
        assert last.stdout.read().splitlines()[-1] == expected
    assert expected.startswith("done ")


def test_a_fit_that_holds_rows_back_resumes_with_the_same_rows(data, path, rng, monkeypatch):
    monkeypatch.setattr(fastnn.fit_loop, "CALL_SECONDS", 0.0)
    weight = rng.uniform(0.5, 2, 50)
    given = {"batch_size": 5, "epochs": 4, "seed": 1, "sample_weight": weight, "validation_split": 0.3}
    callbacks = lambda last: [EarlyStopping(restore_best=True), Checkpoint(path, 3, "updates"), last]
    straight = make(optimizer="adam")
    straight.fit(*data, **given, callbacks=callbacks(lambda trainer, history: None))

    class Killer:
        def on_batches_end(self, trainer, history):
            if trainer.steps == 17:
                raise KeyboardInterrupt

    killed = make(optimizer="adam")
    with pytest.raises(KeyboardInterrupt):
        killed.fit(*data, **given, callbacks=callbacks(Killer()))
    kind = type("Killer", (), {"on_fit_end": lambda self, trainer, history: None})
    for trainer in (Trainer.restore(path), killed):
        x, y = data
        with pytest.raises(ValueError, match="x: expected the fit's 50 rows, got 35"):
            trainer.resume(x[:35], y[:35], sample_weight=weight[:35])
        with pytest.raises(ValueError, match="validation_data: expected None in a fit with validation_split"):
            trainer.resume(*data, sample_weight=weight, validation_data=data)
        with pytest.raises(ValueError, match="expected what the fit was given, weights, got none"):
            trainer.resume(*data, callbacks=callbacks(kind()))
        history = trainer.resume(*data, sample_weight=weight, callbacks=callbacks(kind()))
        np.testing.assert_array_equal(trainer.net.parameters, straight.net.parameters)
        for moment, expected in zip(trainer.moments, straight.moments, strict=True):
            np.testing.assert_array_equal(moment, expected)
        for name in ("loss", "val_loss"):
            assert history.metrics[name] == straight.history.metrics[name]


@pytest.mark.parametrize("given", [{"sample_weight": np.ones(50)}, {"class_weight": {0: 2.0}}])
def test_a_fit_without_weights_does_not_go_on_with_them(rng, given):
    def interrupt(trainer, history):
        raise KeyboardInterrupt

    x, y = rng.normal(size=(50, 3)), rng.integers(0, 2, 50)
    trainer = Trainer(fastnn.MLP([3, 2], seed=0), "softmax_cross_entropy")
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, epochs=2, seed=0, callbacks=[interrupt])
    with pytest.raises(ValueError, match="expected what the fit was given, no weights, got some"):
        trainer.resume(x, y, callbacks=[interrupt], **given)
    assert trainer.epochs == 1


def test_a_checkpoint_within_an_epoch(data, path, monkeypatch):
    monkeypatch.setattr(fastnn.fit_loop, "CALL_SECONDS", 0.0)
    straight = make(optimizer="adam")
    straight.fit(*data, batch_size=5, epochs=3, seed=1)

    class Killer:
        def on_batches_end(self, trainer, history):
            if trainer.steps == 18:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        make(optimizer="adam").fit(
            *data, batch_size=5, epochs=3, seed=1, callbacks=[Checkpoint(path, 7, "updates"), Killer()]
        )
    restored = Trainer.restore(path)
    assert (restored.steps, restored.epochs, restored.position().batch) == (14, 1, 4)
    restored.resume(*data, callbacks=[Checkpoint(path, 7, "updates"), type("Killer", (EarlyStopping,), {})("loss")])
    np.testing.assert_array_equal(restored.net.parameters, straight.net.parameters)
    assert restored.history.metrics["loss"] == straight.history.metrics["loss"]


@pytest.mark.parametrize(("every", "unit", "written"), [(2, "epochs", [0, 2, 2, 4]), (25, "updates", [0, 0, 2, 2])])
def test_how_often(data, path, monkeypatch, every, unit, written):
    monkeypatch.setattr(fastnn.fit_loop, "CALL_SECONDS", 0.0)
    seen = []

    class Watch:
        def on_epoch_end(self, trainer, history):
            seen.append(Trainer.restore(path).epochs if path.exists() else 0)

    make().fit(*data, batch_size=5, epochs=4, callbacks=[Checkpoint(path, every, unit), Watch()])
    # 25 updates are two and a half epochs: the file is written within the third.
    assert seen == written
    assert Trainer.restore(path).epochs == 4


def test_a_fit_of_a_used_trainer_counts_from_its_own_start(data, path):
    seen, train = [], make()
    train.fit(*data, epochs=2)
    watch = lambda trainer, history: seen.append(Trainer.restore(path).epochs if path.exists() else 0)
    train.fit(*data, epochs=4, callbacks=[Checkpoint(path, 3), watch])
    assert seen == [0, 0, 5, 5]


def test_updates_counted_from_0_again_are_written(data, path):
    train, written = make(optimizer="sgd"), []

    def change(trainer, history):
        if trainer.epochs == 2:
            trainer.optimizer = fastnn.Adam()

    watch = lambda trainer, history: written.append(Trainer.restore(path).epochs)
    train.fit(*data, batch_size=10, epochs=4, callbacks=[change, Checkpoint(path, 5, "updates"), watch])
    # Behind the last batch of an epoch, and at the end of that with the change.
    assert written == [0, 2, 2, 3]


def test_another_process_counts_its_seconds_from_elsewhere(data, path, monkeypatch):
    now, seen = [1000.0], []
    monkeypatch.setattr(fastnn.callbacks, "time", types.SimpleNamespace(monotonic=lambda: now[0]))

    def watch(trainer, history):
        if trainer.epochs == 1:
            trainer.save(path)
            raise KeyboardInterrupt
        seen.append(Trainer.restore(path).steps)
        now[0] += 60

    with pytest.raises(KeyboardInterrupt):
        make().fit(*data, batch_size=None, epochs=3, callbacks=[Checkpoint(path, 60, "seconds"), watch])
    now[0] = 5.0
    Trainer.restore(path).resume(*data, callbacks=[Checkpoint(path, 60, "seconds"), watch])
    assert seen == [1, 3]


def test_the_seconds_of_an_epoch_count_those_before_its_checkpoint(data, path, monkeypatch):
    now = [0.0]

    class Killer:
        def on_batches_end(self, trainer, history):
            now[0] += 1.0
            if trainer.steps == 4:
                trainer.save(path)
                raise KeyboardInterrupt

    monkeypatch.setattr(fastnn.fit_loop, "CALL_SECONDS", 0.0)
    monkeypatch.setattr(fastnn.fit_loop, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    with pytest.raises(KeyboardInterrupt):
        make().fit(*data, batch_size=5, callbacks=[Killer()])
    # The kill came before the seconds of its own call were counted.
    assert Trainer.restore(path).resume(*data, callbacks=[Killer()]).metrics["seconds"] == [3 + 6]


def test_a_fit_that_was_told_to_end_ends_when_it_resumes(data, path):
    def killer(trainer, history):
        raise KeyboardInterrupt

    enough, ignore = lambda trainer, history: True, lambda trainer, history: None
    with pytest.raises(KeyboardInterrupt):
        make().fit(*data, epochs=9, seed=1, callbacks=[enough, Checkpoint(path), killer])
    assert Trainer.restore(path).resume(*data, callbacks=[ignore, Checkpoint(path), ignore]).epochs == [1]


def test_a_callback_that_has_saved_is_not_called_again_for_its_epoch(data, path):
    seen = []

    def save(trainer, history):
        seen.append(trainer.epochs)
        trainer.save(path)
        if seen == [1, 2]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make().fit(*data, epochs=3, seed=1, callbacks=[save])
    Trainer.restore(path).resume(*data, callbacks=[save])
    assert seen == [1, 2, 3]


class Scores:
    """A metric that gives these numbers in turn."""

    __name__ = "score"

    def __init__(self, *scores):
        self._scores = iter(scores)

    def __call__(self, y, prediction):
        return next(self._scores)


@pytest.mark.parametrize(
    ("mode", "every", "scores", "best_epoch"),
    [
        ("max", 1, (1, 3, 2, 3, 0), 2),
        ("min", 1, (1, np.nan, 0.5, np.nan, 0.75), 3),
        ("min", 2, (0, 4, 1, 3, 2), 4),
        ("min", 2, (0, 1, 9, 2, 0.5), 2),
        ("min", 1, (np.nan, np.inf, np.nan, np.inf, np.nan), None),
    ],
)
def test_the_best_epoch_is_kept(data, path, mode, every, scores, best_epoch):
    parameters = {}
    best = Checkpoint(path, every, monitor="score", mode=mode)
    keep = lambda trainer, history: parameters.update({trainer.epochs: trainer.net.parameters.copy()})
    make().fit(*data, epochs=5, seed=1, metrics=[Scores(*scores)], callbacks=[best, keep])
    assert best.best_epoch == best_epoch
    assert path.exists() == (best_epoch is not None)
    if best_epoch:
        assert best.best == scores[best_epoch - 1]
        np.testing.assert_array_equal(fastnn.load(path).parameters, parameters[best_epoch])
        # Another fit has a best epoch of its own, a worse one too.
        worse = {"min": 7, "max": -7}[mode]
        make().fit(*data, epochs=every, seed=1, metrics=[Scores(*[worse] * every)], callbacks=[best, keep])
        assert (best.best, best.best_epoch) == (worse, every)
        assert Trainer.restore(path).epochs == every


def test_a_resumed_fit_knows_its_best_epoch(data, path):
    """From memory, and from the file of that epoch, after which epochs are done again."""
    scores = (3.0, 1.0, 2.0, 1.5, 0.5, 0.75)
    given = {"epochs": 6, "seed": 1}
    straight = make(optimizer="adam")
    straight.fit(*data, **given, metrics=[Scores(*scores)], callbacks=[Checkpoint(path, monitor="score")])
    expected = fastnn.load(path).parameters
    path.unlink()
    kills = []

    def killer(trainer, history):
        if trainer.epochs in kills:
            kills.remove(trainer.epochs)
            raise KeyboardInterrupt

    def killed(run, *scores):
        best = Checkpoint(path, monitor="score")
        kills.append(4)
        with pytest.raises(KeyboardInterrupt):
            run(*data, metrics=[Scores(*scores)], callbacks=[best, killer])
        assert (best.best, best.best_epoch) == (1.0, 2)

    in_memory = make(optimizer="adam")
    killed(functools.partial(in_memory.fit, **given), *scores)
    from_file = Trainer.restore(path)
    assert from_file.epochs == 2
    killed(from_file.resume, *scores[2:])
    for trainer in (in_memory, from_file):
        path.unlink()
        best = Checkpoint(path, monitor="score")
        history = trainer.resume(*data, metrics=[Scores(*scores[4:])], callbacks=[best, killer])
        assert (best.best, best.best_epoch) == (0.5, 5)
        assert history.metrics["score"] == list(scores)
        np.testing.assert_array_equal(fastnn.load(path).parameters, expected)
        np.testing.assert_array_equal(trainer.net.parameters, straight.net.parameters)


def test_everything_comes_back(data, path, dtype):
    optimizer = fastnn.RMSprop(learning_rate=0.01, momentum=0.5, clip_norm=3.0)
    train = Trainer(fastnn.MLP([3, 4, 1], activation="gelu", dtype=dtype, seed=0), "log_cosh", optimizer)
    train.fit(*data, epochs=2, seed=2**64 - 1)
    train.save(path)
    other = Trainer.restore(path)
    assert (other.optimizer, other.loss, repr(other.net)) == (train.optimizer, train.loss, repr(train.net))
    assert (other.steps, other.epochs, other.history) == (train.steps, train.epochs, train.history)
    np.testing.assert_array_equal(fastnn.load(path).parameters, train.net.parameters)
    for each in (train, other):
        each.fit(*data, epochs=2, seed=1)
        each.step(*data)
    np.testing.assert_array_equal(other.net.parameters, train.net.parameters)
    for moment, expected in zip(other.moments, train.moments, strict=True):
        np.testing.assert_array_equal(moment, expected)


def test_a_best_epoch_that_could_not_be_written_is_written_later(data, path, monkeypatch):
    train, best = make(), Checkpoint(path, monitor="loss")
    save = Trainer.save

    def full(trainer, path):
        raise OSError("full")

    monkeypatch.setattr(Trainer, "save", full)
    with pytest.raises(OSError, match="full"):
        train.fit(*data, epochs=2, seed=1, callbacks=[best])
    assert best.best is None
    monkeypatch.setattr(Trainer, "save", save)
    history = train.resume(*data, callbacks=[best])
    assert history.epochs == [1, 2]
    assert best.best == min(history.metrics["loss"])
    assert Trainer.restore(path).epochs == best.best_epoch


def test_a_trainer_that_has_not_fitted_comes_back(path):
    make().save(path)
    other = Trainer.restore(path)
    assert (other.steps, other.history, other.position()) == (0, None, None)


def test_the_users_own_state_comes_back(data, path):
    class Own:
        def __init__(self):
            self.state = {"deep": [1, {"array": np.arange(3.0)}], "nothing": None, "nan": float("nan"), "is": True}

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.state = state

        def on_epoch_end(self, trainer, history):
            self.state["deep"][1]["array"] += 1

    make().fit(*data, epochs=2, callbacks=[Own(), Checkpoint(path)])
    own = Own()
    Trainer.restore(path).resume(*data, callbacks=[own, Checkpoint(path)])
    assert own.state["deep"][1]["array"].tolist() == [2, 3, 4]
    assert own.state["deep"][0] == 1
    assert own.state["is"] is True
    assert np.isnan(own.state["nan"])

    for bad, got in [({"set": {1}}, r"states.0.1.set: .* got set"), ({"tensor": 1}, "and not 'tensor' alone")]:
        own.state_dict = lambda bad=bad: bad
        with pytest.raises(TypeError, match=got):
            make().fit(*data, callbacks=[own, Checkpoint(path)])


@pytest.mark.parametrize(
    "state",
    [
        {"a.b": np.zeros(2), "a": {"b": np.ones(2), "b'": np.full(2, 2.0)}},
        {"scalar": np.array(3.0), "big": np.arange(3, dtype=">f4"), "flags": np.array([True, False])},
    ],
)
def test_a_state_comes_back_as_it_was(data, path, state):
    class Own:
        def state_dict(self):
            return state

        def load_state_dict(self, found):
            self.found = found

        def on_epoch_end(self, trainer, history):
            pass

    make().fit(*data, callbacks=[Own(), Checkpoint(path)])
    own = Own()
    Trainer.restore(path).resume(*data, callbacks=[own, Checkpoint(path)])

    def same(found, expected):
        if isinstance(expected, dict):
            assert found.keys() == expected.keys()
            for key, part in expected.items():
                same(found[key], part)
        else:
            assert found.shape == expected.shape
            np.testing.assert_array_equal(found, expected)

    same(own.found, state)
    for bad in (
        np.ma.masked_array([1.0], [True]),
        np.array(["text"]),
        np.zeros(1, complex),
        np.zeros(1, np.longdouble),
    ):
        state = {"own": {"bad": bad}}
        with pytest.raises(TypeError, match=r"own.bad: expected JSON and arrays of real numbers of at most 64 bits"):
            make().fit(*data, callbacks=[Own(), Checkpoint(path)])


# ---- Disks and folders


@pytest.fixture
def small_disk(tmp_path):
    """(folder, a context in which there is no more room in it): a small disk where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = 200_000

    @contextlib.contextmanager
    def filled():
        filler = folder.parent / "disk" / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(1000))
        yield
        filler.unlink()

    @contextlib.contextmanager
    def limited():
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        yield folder, limited
        return
    yield folder, filled
    subprocess.run(["umount", folder], check=True)


FULL_DISK = f"cannot be written: ({os.strerror(errno.ENOSPC)}|{os.strerror(errno.EFBIG)})"


def test_a_full_disk_keeps_the_model_that_was_there(small_disk):
    folder, full = small_disk
    path = folder / "net.safetensors"
    net = fastnn.MLP([3, 40, 40, 1], seed=0)
    net.save(path)
    before, listing = path.read_bytes(), set(os.listdir(folder))
    net.parameters[:] = 0
    with full():
        with pytest.raises(OSError, match=FULL_DISK) as caught:
            net.save(path)
        assert caught.value.filename == str(path)
        assert path.read_bytes() == before
        assert set(os.listdir(folder)) - {"filler"} == listing
    net.save(path)
    assert not fastnn.load(path).parameters.any()


def test_a_full_disk_ends_a_fit_that_can_go_on(data, small_disk):
    folder, full = small_disk
    path = folder / "run.safetensors"
    straight = make(optimizer="adam")
    straight.fit(*data, epochs=5, seed=1)
    train = make(optimizer="adam")
    train.fit(*data, epochs=0, callbacks=[Checkpoint(path)])
    before, room = path.read_bytes(), contextlib.ExitStack()

    class Fill:
        def on_epoch_end(self, trainer, history):
            if trainer.epochs == 3:
                room.enter_context(full())

    with room, pytest.raises(OSError, match=FULL_DISK):
        train.fit(*data, epochs=5, seed=1, callbacks=[Fill(), Checkpoint(path, every=3)])
    assert path.read_bytes() == before
    assert os.listdir(folder) == [path.name]
    assert train.history.epochs == [1, 2, 3]

    train.resume(*data, callbacks=[Fill(), Checkpoint(path, every=3)])
    np.testing.assert_array_equal(train.net.parameters, straight.net.parameters)
    np.testing.assert_array_equal(fastnn.load(path).parameters, straight.net.parameters)


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failure_at_the_last_moment(data, path, monkeypatch, function):
    make().fit(*data, callbacks=[Checkpoint(path)])
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(OSError, match=FULL_DISK):
            make().fit(*data, epochs=2, callbacks=[Checkpoint(path)])
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(("error", "raised"), [(None, False), ("ENOTSUP", False), ("EINVAL", False), ("EIO", True)])
def test_a_new_name_is_brought_to_the_disk_where_folders_can_be(tmp_path, monkeypatch, error, raised):
    synced = []

    def fsync(descriptor):
        synced.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        if error is not None and synced[-1] == "folder":
            raise OSError(getattr(errno, error), error)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=error) if raised else contextlib.nullcontext():
        write_whole(tmp_path / "file", b"content")
    assert synced == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.parametrize("place", ["file/below", "none", "/proc"])
def test_a_place_that_cannot_be_written_ends_the_fit_before_it_begins(data, tmp_path, place):
    (tmp_path / "file").touch()
    path = tmp_path / place / "run.safetensors"
    train = make()
    with pytest.raises(OSError, match=r"cannot be written: .*run\.safetensors"):
        train.fit(*data, callbacks=[Checkpoint(path)])
    assert train.steps == 0
    with pytest.raises(OSError, match=r"cannot be written: .*run\.safetensors"):
        train.net.save(path)
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, pathlib.Path(os.devnull)):
        with pytest.raises(OSError, match="cannot be written: not a regular file"):
            write_whole(path, b"content")
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    link.symlink_to(target)
    write_whole(link, b"content")
    assert link.is_symlink()
    assert target.read_bytes() == b"content"
    assert os.listdir(tmp_path / "folder") == ["target"]


def test_what_killed_processes_left_behind_goes(path):
    other = path.with_name(".other.fastnn-0123456789abcdef")
    stale, fresh = [path.with_name(f".{path.name}.fastnn-{name}") for name in ("stale", "fresh")]
    for each in (other, stale, fresh):
        each.touch()
        if each is not fresh:
            os.utime(each, (time.time() - 4000,) * 2)
    write_whole(path, b"content")
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, other.name, fresh.name}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"every": 0}, ValueError, "every: expected at least 1, got 0"),
        ({"every": 1.5}, TypeError, "every: expected a whole number, got 1.5"),
        ({"every": 0, "unit": "seconds"}, ValueError, "every: expected a finite number above 0, got 0"),
        ({"unit": "steps"}, ValueError, "unit: expected one of epochs, updates, seconds, got 'steps'"),
        ({"monitor": "loss", "unit": "updates"}, ValueError, "unit: expected 'epochs' with a monitor"),
        ({"monitor": "loss", "mode": "least"}, ValueError, "mode: expected one of min, max, got 'least'"),
        ({"monitor": "val_accuracy"}, ValueError, "mode: expected 'max' with monitor='val_accuracy'"),
        ({"monitor": 1}, TypeError, r"monitor: expected the name of a number in History.metrics, got 1"),
    ],
)
def test_bad_settings(path, arguments, error, message):
    with pytest.raises(error, match=message):
        Checkpoint(path, **arguments)


# ---- Files


def written(path, data):
    """A checkpoint with everything in it; (tensors, metadata, training)."""
    callbacks = [
        EarlyStopping("loss", restore_best=True),
        LearningRateScheduler(schedules.ReduceOnPlateau(monitor="loss")),
        Checkpoint(path),
    ]
    make(optimizer="adam").fit(*data, epochs=2, callbacks=callbacks)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    return safetensors.numpy.load_file(path), metadata, json.loads(metadata["training"])


CHANGES = [
    (lambda t: t.pop("loss"), r"KeyError\('loss'\)"),
    (lambda t: t["loss"].update(name="other"), "loss: expected one of mse"),
    (lambda t: t["loss"].update(delta=[]), "TypeError"),
    (lambda t: t["optimizer"].update(learning_rate=-1), "learning_rate: expected a finite number of at least 0"),
    (lambda t: t["optimizer"].update(beta3=0.5), "TypeError"),
    (lambda t: t["optimizer"].update(name="adagrad"), "TypeError"),
    (lambda t: t["moments"].pop(), "ValueError"),
    (lambda t: t["moments"].__setitem__(0, {"tensor": "training.none"}), "KeyError"),
    (lambda t: t["moments"].__setitem__(0, [0.0]), r"moments: expected shape \(41,\)"),
    (lambda t: t.update(steps=-1), "steps: expected at least 0, got -1"),
    (lambda t: t.update(steps=2**62), r"steps: expected below 2\*\*62"),
    (lambda t: t.update(epochs="many"), "epochs: expected a whole number, got 'many'"),
    (lambda t: t.update(history=None), "expected a history with a position"),
    (lambda t: t["history"]["epochs"].append(3), "history: expected 3 numbers for 'loss', got 2"),
    (lambda t: t["history"]["metrics"].update(loss=["a", "b"]), "history: expected a list of numbers for 'loss'"),
    (lambda t: t["history"].update(seed=2**64), r"seed: expected below 2\*\*64"),
    (lambda t: t["position"].update(rows=10**18), "losses: expected 31250000000000000 float64 numbers"),
    (lambda t: t["position"].update(phase="middle"), "no such position: 'middle'"),
    (lambda t: t["position"].update(phase="x" * 10**6), r"no such position: 'x{100}.{0,200}$"),
    (lambda t: t["position"].update(batch=3), "no such position: 'fit_end', epoch 2, batch 3"),
    (lambda t: t["position"].update(states=[3]), "TypeError"),
    (lambda t: t["position"].update(more=3), "TypeError.*unexpected keyword argument 'more'"),
    (lambda t: t["position"].update(weighted=2), "weighted: expected True or False, got 2"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_wrong_content(data, path, change, message):
    tensors, metadata, training = written(path, data)
    change(training)
    safetensors.numpy.save_file(tensors, path, metadata | {"training": json.dumps(training)})
    with pytest.raises(ValueError, match=rf"run\.safetensors: training: cannot be read: .*{message}"):
        Trainer.restore(path)


def test_the_unchanged_content_is_right(data, path):
    tensors, metadata, training = written(path, data)
    safetensors.numpy.save_file(tensors, path, metadata | {"training": json.dumps(training)})
    assert Trainer.restore(path).epochs == 2


def test_a_model_is_no_checkpoint(path):
    with pytest.raises(FileNotFoundError):
        Trainer.restore(path)
    fastnn.MLP([1, 1], seed=0).save(path)
    with pytest.raises(ValueError, match=r"run\.safetensors: a model without a training; fastnn\.load reads it"):
        Trainer.restore(path)


@pytest.mark.parametrize("read", [fastnn.load, Trainer.restore])
def test_the_model_in_a_checkpoint_has_the_limits_of_one_alone(data, path, read):
    """However many tensors the training has."""
    tensors, metadata, _ = written(path, data)
    tensors |= {f"training.more{i}": np.zeros(1) for i in range(100)}
    long = metadata | {"architecture": metadata["architecture"] + " " * 2000}
    safetensors.numpy.save_file(tensors, path, long)
    with pytest.raises(ValueError, match=r"architecture: expected at most 1800 characters for 4 tensors, got \d+$"):
        read(path)
    safetensors.numpy.save_file(tensors | {f"odd{i}": np.zeros(1) for i in range(9)}, path, metadata)
    with pytest.raises(ValueError, match=r"tensors: missing .*: odd0, odd1, odd2, odd3, odd4 and 4 more$"):
        read(path)


def test_mutated_files(data, path, rng):
    written(path, data)
    content = path.read_bytes()
    whole = 0
    for _ in range(MUTATIONS):
        mutant = bytearray(content)
        if rng.random() < 0.2:
            del mutant[rng.integers(len(mutant)) :]
        for at in rng.integers(len(mutant), size=rng.integers(0, 4)) if mutant else ():
            # Most of the file is numbers: those of the header say what they are.
            mutant[at if rng.random() < 0.2 else at % 3000 % len(mutant)] = rng.integers(256)
        path.write_bytes(mutant)
        # What other error there may be ends the test.
        with contextlib.suppress(ValueError):
            whole += Trainer.restore(path).epochs >= 0
    assert 0 < whole < MUTATIONS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Half(fastnn.SGD):
    """An optimizer of the user's own: half of SGD."""

    share: float = 0.5

    def hyper(self):
        hyper = super().hyper()
        hyper[0] *= self.share
        return hyper


def test_an_optimizer_of_the_users_own_has_to_be_given_again(data, path):
    train = make(optimizer=Half(0.1))
    train.fit(*data, seed=0)
    train.save(path)
    for given in (None, "adam"):
        with pytest.raises(ValueError, match="optimizer: expected the 'Half' that"):
            Trainer.restore(path, optimizer=given)
    back = Trainer.restore(path, optimizer=Half(0.1))
    for trainer in (train, back):
        trainer.fit(*data, epochs=2, seed=1)
    assert back.net.parameters.tobytes() == train.net.parameters.tobytes()
    make().save(path)
    with pytest.raises(ValueError, match="optimizer: expected None"):
        Trainer.restore(path, optimizer="sgd")


def test_a_model_is_not_saved_that_could_not_be_read(tmp_path, data):
    net = fastnn.MLP([3, 1], standardize=True, seed=0)
    net.fit(*data, seed=0)
    net.save(tmp_path / "net.safetensors")
    net.standardize.scale[:] = 0
    with pytest.raises(ValueError, match=r"scale: expected finite numbers above 0 in float32, got 0.0"):
        net.save(tmp_path / "net.safetensors")
    assert fastnn.load(tmp_path / "net.safetensors").adapted
