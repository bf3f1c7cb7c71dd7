"""Ctrl-C: at once, between two updates, and nothing of what was done is lost."""

import dis
import os
import signal
import statistics
import subprocess
import sys
import threading
import time

import numba
import numpy as np
import pytest
from numba import types

import fastnn
from fastnn import fit_loop, fit_task
from fastnn import trainer as module
from fastnn.interrupts import Interrupts
from fastnn.kernels.compilation import aside

FULL = os.environ.get("FASTNN_FULL") == "1"


@pytest.fixture(autouse=True)
def ctrl_c():
    """As in a terminal: what a shell without job control starts in the background ignores SIGINT from birth."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(script, *arguments):
    """The words of each line that a script prints."""
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert result.returncode == 0, result.stderr
    return [line.split() for line in result.stdout.splitlines()]


LARGE = """
import os, signal, sys, threading, time
import numpy as np
import fastnn
from fastnn.fit_task import order_of_rows

# A process that its parent has started in the background ignores it otherwise.
signal.signal(signal.SIGINT, signal.default_int_handler)
moments, batch = int(sys.argv[1]), 256
rng = np.random.default_rng(0)
x = rng.standard_normal((20 * batch, 256)).astype(np.float32)
y = rng.integers(10, size=20 * batch)


def make():
    net = fastnn.MLP([256, 512, 512, 10], seed=0)
    return fastnn.Trainer(net, "softmax_cross_entropy", fastnn.Adam(learning_rate=1e-4))


sent = 0.0


def interrupt():
    global sent
    sent = time.perf_counter()
    os.kill(os.getpid(), signal.SIGINT)


trainer, twin = make(), make()
twin.step(x[:batch], y[:batch])  # both workers are loaded, and the twin begins anew
twin = make()
again = None
for i in range(moments):
    threading.Timer(rng.uniform(0.05, 0.4), interrupt).start()
    try:
        again(x, y) if again else trainer.fit(x, y, batch_size=batch, epochs=10**6, seed=1)
    except KeyboardInterrupt as caught:
        seconds = time.perf_counter() - sent
        assert caught.trainer is trainer
        again = caught.trainer.resume
    # As many updates as it says, and each of them whole.
    while twin.steps < trainer.steps:
        epoch, number = divmod(twin.steps, 20)
        rows = order_of_rows(len(x), 1, epoch + 1)[number * batch : (number + 1) * batch]
        twin.step(x[rows], y[rows])
    same = np.array_equal(trainer.net.parameters, twin.net.parameters)
    same &= all(np.array_equal(a, b) for a, b in zip(trainer.moments, twin.moments))
    epochs, rest = divmod(trainer.steps, 20)
    assert len(trainer.history.epochs) == trainer.epochs
    # Between an epoch's last update and its numbers it is not done yet.
    assert trainer.epochs == epochs or (rest == 0 and trainer.epochs == epochs - 1)
    print(seconds, trainer.steps, same)
"""


def test_a_large_fit_returns_at_once_and_whole():
    lines = run(LARGE, 40 if FULL else 6)
    seconds, steps = [float(line[0]) for line in lines], [int(line[1]) for line in lines]
    assert [line[2] for line in lines] == ["True"] * len(lines)
    assert steps == sorted(steps)
    assert steps[-1] > steps[0]
    print(f"{len(lines)} interrupts: median {statistics.median(seconds):.3f} s, worst {max(seconds):.3f} s")
    # Other programs may keep this one from running, now and then.
    assert statistics.median(seconds) < 0.3, seconds
    assert max(seconds) < 1.5, seconds


HAMMER = """
import os, pathlib, random, signal, sys, threading, time
import numpy as np
import fastnn
from fastnn import fit_loop

wanted, log, end = int(sys.argv[1]), sys.argv[2], time.monotonic() + float(sys.argv[3])
fit_loop.CALL_SECONDS = 0.0  # an update a call: interrupts mostly fall into Python
x = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
y = (x**2).sum(axis=1)
chance = random.Random(0)
inside = over = False


def handler(number, frame):
    if inside:
        raise KeyboardInterrupt


signal.signal(signal.SIGINT, handler)
sys.setswitchinterval(1e-4)


def interrupts(clock):
    # By the main thread's own time: on a busy machine it would be interrupted before it gets anywhere. Some come so
    # soon after another that they meet what that one has set going.
    # An end by the clock too, after which the last fit goes on undisturbed.
    while not over and time.monotonic() < end:
        begin, wait = time.clock_gettime(clock), chance.choice([0.003, 0.00003]) * chance.random()
        while not over and time.clock_gettime(clock) < begin + wait:
            time.sleep(0.0002)
        if not over:
            os.kill(os.getpid(), signal.SIGINT)


class Begin:
    first = True

    def on_fit_begin(self, trainer, history):
        if self.first:
            self.first = False
            raise KeyboardInterrupt


def callbacks():
    return [
        Begin(),
        fastnn.EarlyStopping("val_loss", patience=10**6, restore_best=True),
        fastnn.LearningRateScheduler(fastnn.schedules.ReduceOnPlateau(factor=0.9, patience=2, threshold=0.02)),
        fastnn.CSVLogger(log),
    ]


def make():
    net = fastnn.MLP([3, 4, 1], activation="tanh", seed=0)
    return fastnn.Trainer(net, "mse", fastnn.Adam(learning_rate=0.05))


def columns():
    return [line.rsplit(",", 1)[0] for line in pathlib.Path(log).read_text().splitlines()]


def begin(seed):
    trainer = make()
    try:
        trainer.fit(x, y, batch_size=10, epochs=40, seed=seed, callbacks=callbacks(), validation_data=(x, y))
    except KeyboardInterrupt:
        pass
    return trainer


def check(trainer):
    position, history = trainer.position(), trainer.history
    assert trainer.steps == position.epoch * 10 + position.batch, (trainer.steps, position)
    assert trainer.epochs == position.epoch == len(history.epochs)
    assert all(len(numbers) == position.epoch for numbers in history.metrics.values())


count = fits = 0
thread = threading.Thread(
    target=interrupts, args=[time.pthread_getcpuclockid(threading.get_ident())], daemon=True
)
thread.start()
while count < wanted and time.monotonic() < end:
    straight, expected = begin(fits), []
    given = callbacks()
    given[0].first = False
    straight.resume(x, y, callbacks=given, validation_data=(x, y))
    expected = columns()
    trainer, given = begin(fits), callbacks()
    given[0].first = False
    while trainer.position().phase != "done":
        try:
            inside = True
            trainer.resume(x, y, callbacks=given, validation_data=(x, y))
        except KeyboardInterrupt:
            inside = False
            count += 1
        finally:
            inside = False
        check(trainer)
    assert np.array_equal(trainer.net.parameters, straight.net.parameters)
    assert all(np.array_equal(a, b) for a, b in zip(trainer.moments, straight.moments))
    for name in ("loss", "val_loss", "learning_rate"):
        assert trainer.history.metrics[name] == straight.history.metrics[name]
    assert columns() == expected
    fits += 1
over = True
thread.join()
print(count, fits)
"""


def test_interrupts_anywhere_in_the_python_part_break_nothing(tmp_path):
    wanted, seconds = (10_000, 600) if FULL else (300, 10)
    (line,) = run(HAMMER, wanted, tmp_path / "log.csv", seconds)
    print(f"{line[0]} interrupts in {line[1]} fits")
    # Fewer where the machine has little time for it.
    assert int(line[0]) >= wanted // 10


class Points:
    """A `with` block with Ctrl-C at one of the points of fastnn's Python code at which Python looks for signals.

    Those are the entry of a function, the end of a call and the end of a loop's turn. `count` is their number, as far
    as the block has come.
    """

    FOLDER = os.path.dirname(module.__file__)
    BEFORE = ("RESUME", "CALL", "PRECALL", "JUMP_BACKWARD")

    def __init__(self, at):
        self.at, self.count = at, 0

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_):
        sys.settrace(self._before)

    def _enter(self, frame, event, argument):
        if os.path.dirname(frame.f_code.co_filename) != self.FOLDER:
            return None
        frame.f_trace_opcodes, last = True, None

        def step(frame, event, argument):
            nonlocal last
            if event == "opcode":
                if last is not None and dis.opname[frame.f_code.co_code[last]].startswith(self.BEFORE):
                    self.count += 1
                    if self.count == self.at:
                        signal.raise_signal(signal.SIGINT)
                last = frame.f_lasti
            return step

        return step


def test_an_interrupt_at_any_point_of_a_fit_is_heard_and_breaks_nothing(rng):
    x = rng.standard_normal((8, 3)).astype(np.float32)
    y = (x**2).sum(axis=1)

    def run(at):
        trainer = module.Trainer(fastnn.MLP([3, 4, 1], seed=0), "mse", "adam")
        arguments = {"batch_size": 4, "epochs": 2, "seed": 0}
        given = {
            "callbacks": [fastnn.EarlyStopping("loss", restore_best=True), lambda trainer, history: None],
            "metrics": [lambda y, prediction: abs(y - prediction).max()],
        }
        heard = False
        with Points(at) as points:
            try:
                trainer.fit(x, y, **arguments, **given)
            except KeyboardInterrupt:
                heard = True
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        # Before a fit has begun there is none to resume.
        again = trainer.fit if trainer.position() is None else trainer.resume
        if heard or at == 0:
            again(x, y, **(arguments if again == trainer.fit else {}), **given)
        return points.count, heard, trainer.net.parameters.tobytes(), list(trainer.history.metrics["loss"])

    # The first fit of a process passes points that no later one has.
    run(0)
    points, heard, *expected = run(0)
    assert not heard
    assert points > 400
    some = range(1, points, 1 if FULL else points // 100)
    interrupts = 0
    for at in some:
        count, heard, *found = run(at)
        # Python 3.13 traces fewer opcodes in some runs than in others: a point that did not come interrupts nothing.
        assert heard or count < at, f"the interrupt at point {at} of {points} was lost"
        interrupts += heard
        assert found == expected, f"the interrupt at point {at} of {points} changed the result"
    print(f"{interrupts} of {points} points")
    assert interrupts > len(some) // 2


def interrupt_after(seconds):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_ctrl_c_does_not_wait_for_a_compiler():
    done = threading.Event()

    def compile_for_long():
        time.sleep(1)
        done.set()

    interrupt_after(0.1)
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        aside(compile_for_long)
    assert time.perf_counter() - began < 0.9
    assert not done.is_set()
    assert done.wait(10)


def test_aside_hands_on_results_and_errors():
    assert aside(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        aside(divmod, 1, 0)
    assert aside(threading.current_thread) is not threading.main_thread()


def test_who_compiles_already_does_not_wait_for_another_thread():
    from numba.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:
        assert aside(threading.current_thread) is threading.main_thread()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_fit_compiles_outside_of_what_ctrl_c_waits_for(order, shuffle, rng, monkeypatch):
    """The plan, which compiles, is made before interrupts are held; the kernel finds its signature for any layout."""
    held, begun, plan, kernel = [], [], module.training_plan, module.train_planned
    monkeypatch.setattr(fit_loop, "Interrupts", lambda: begun.append(Interrupts()) or begun[0])
    monkeypatch.setattr(module, "training_plan", lambda *a: held.append(begun[0]._holding) or plan(*a))
    x = np.asarray(rng.standard_normal((50, 3)), np.float32, order)
    fastnn.MLP([3, 4, 1], seed=0).fit(x, x.sum(axis=1), batch_size=20, epochs=2, shuffle=shuffle)
    assert held == [False]
    assert not kernel._can_compile


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_workers_and_training_compile_on_a_thread_aside(dtype, monkeypatch):
    from fastnn.kernels import jit, slots, workers

    @workers.worker(lambda t: (numba.int64[::1],))
    def nothing(numbers):
        pass

    @jit.driver(lambda t: (t[::1],))
    def nothing_at_all(array):
        pass

    ran = []
    for caller in (jit, workers):
        monkeypatch.setattr(caller, "aside", lambda function, *a: ran.append(function) or aside(function, *a))
    address = nothing.address(np.dtype(dtype))
    nothing_at_all.ready(np.dtype(dtype))
    assert len(ran) == 2
    assert slots.SLOTS[nothing.slots[np.dtype(dtype)]].tolist() == [slots.TOKEN, address]
    nothing_at_all(np.zeros(3, dtype))
    # Both are there: nothing is compiled again.
    assert nothing.address(np.dtype(dtype)) == address
    nothing_at_all.ready(np.dtype(dtype))
    assert len(ran) == 2


def test_an_interrupt_waits_for_the_worker_that_compiled_code_asks_for(monkeypatch):
    """Other threads may wait for it too: what compiled code asks for comes, and the interrupt after the code's end."""
    from fastnn.kernels import slots

    done = []

    class Slow:
        def address(self, dtype):
            aside(time.sleep, 0.5)
            done.append(dtype)

    monkeypatch.setitem(slots._owners, 1, (Slow(), np.dtype(np.float32)))
    interrupt_after(0.1)
    slots._compile_for_slot(1)
    assert done == [np.float32]
    with pytest.raises(KeyboardInterrupt):
        spin(10)


def test_an_interrupt_that_came_in_compiled_code_waits_for_what_that_asks_for(monkeypatch):
    """Python looks for signals when a function begins: it broke the one that compiles before its first line."""
    from fastnn.kernels import slots

    row, asked, printed = 63, [], []

    class Quick:
        def address(self, dtype):
            asked.append(dtype)
            if len(asked) == 1 and broken:
                raise MemoryError
            slots.fill_slot(row, 4711)

    monkeypatch.setitem(slots._owners, row, (Quick(), np.dtype(np.float32)))
    monkeypatch.setattr(sys, "unraisablehook", lambda error: printed.append(error.exc_type))
    send_to_itself, find = types.ExternalFunction("raise", types.int32(types.int32)), numba.njit(slots._find)

    @numba.njit
    def ask(number):
        if number:
            send_to_itself(number)
        return find(row)

    def clear():
        slots.SLOTS[row] = 0
        slots._heard.discard(row)
        asked.clear()

    broken = False
    clear()
    assert ask(0) == 4711
    clear()
    assert ask(int(signal.SIGINT)) == 4711
    assert printed == [KeyboardInterrupt]
    assert len(asked) == 1
    with pytest.raises(KeyboardInterrupt):
        spin(10)
    # What fails for another reason is tried again too, without an interrupt.
    clear()
    broken = True
    assert ask(0) == 4711
    assert printed == [KeyboardInterrupt, MemoryError]
    spin(0.3)
    clear()


def test_a_shuffle_of_many_rows_is_the_same(monkeypatch):
    few = fit_task.order_of_rows(1000, 3, 4)
    monkeypatch.setattr(fit_task, "MANY_ROWS", 1000)
    np.testing.assert_array_equal(fit_task.order_of_rows(1000, 3, 4), few)


def send():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)


def test_an_interrupt_waits_for_the_end_of_the_inner_block():
    reached = []

    def block(inner):
        with Interrupts() as interrupts:
            if inner:
                with interrupts.held:
                    pass
                reached.append("passed")
            # Before the end of the first inner block interrupts wait too.
            with interrupts.held:
                send()
                reached.append("sent")
            reached.append("never")

    for inner in (True, False):
        with pytest.raises(KeyboardInterrupt):
            block(inner)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert reached == ["passed", "sent", "sent"]


def test_outside_the_inner_blocks_an_interrupt_comes_at_once():
    reached = []

    def block():
        with Interrupts() as interrupts:
            with interrupts.held:
                pass
            send()
            reached.append("never")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert reached == []


def test_a_second_interrupt_waits_for_what_cleans_up_after_the_first():
    cleaned = []

    def block():
        with Interrupts() as interrupts:
            with interrupts.held:
                pass
            try:
                send()
            finally:
                send()
                with interrupts.held:
                    cleaned.append(True)

    with pytest.raises(KeyboardInterrupt) as caught:
        block()
    assert cleaned
    assert isinstance(caught.value.__context__, KeyboardInterrupt)


def test_blocks_nest_and_other_handlers_stay():
    arrived = []
    old = signal.signal(signal.SIGINT, lambda number, frame: arrived.append(number))
    try:
        with Interrupts() as outer, outer.held:
            with Interrupts() as interrupts, interrupts.held:
                send()
            assert arrived == []
        assert arrived == [signal.SIGINT]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with Interrupts() as interrupts, interrupts.held:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            send()
        # One that is set within a block that holds another back.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with Interrupts():
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, old)


def test_other_threads_change_no_handler():
    seen = []

    def block():
        with Interrupts() as interrupts, interrupts.held:
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
