"""When threads rest: what `judge` makes of a launch, and that nobody sees more of a rest than the time it takes."""

import hashlib
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest

import fastnn
from fastnn.kernels import launch, watch
from fastnn.kernels.borrowed import flat, layout_is_known
from fastnn.kernels.jit import driver, kernel, read_only
from fastnn.kernels.watch import (
    BETWEEN_LOOKS,
    BETWEEN_TRIALS,
    FAR,
    FEW,
    LONGEST_REST,
    LOOK,
    LOST,
    NEVER,
    NEXT_LOOK,
    REST,
    REST_LEFT,
    REST_UNTIL,
    RESTS,
    SHORTEST_REST,
    SOON,
    judge,
    note,
)

MS = 1_000_000


def look(state, begin, wall, parts, answer=0):
    """Look at equal launches, times in ms; returns when the look is over."""
    now = begin
    wall, parts = int(wall * MS), [int(part * MS) for part in parts]
    enough = False
    while not enough:
        # A first launch that loses much does not count.
        assert now - begin < LOOK + wall
        now += wall
        enough = note(state, now, wall, len(parts), sum(parts), max(parts))
    judge(state, now, answer)
    return now


def rest(state, each):
    """What a rest leaves, in which a thread alone has done work of so many ms each; returns when it is over."""
    count = max(int(state[REST]) // int(each * MS), 1)
    state[watch.REST_COUNT], state[watch.REST_WALL] = count, count * int(each * MS)
    return int(state[REST_UNTIL])


@pytest.fixture
def state():
    return np.zeros(watch.STATE.size, np.int64)


@pytest.mark.parametrize("pairs", [1, 4])
@pytest.mark.parametrize(
    ("why", "wall", "parts"),
    [
        ("threads make it faster", 1.0, [0.9, 0.9]),
        ("threads lose a quarter of the time", 4.0, [3.0, 3.0]),
        ("one part is twice the other, and its thread waits", 4.0, [4.0, 2.0]),
        ("every part takes its time, on one core as on two", 20.0, [19.0, 20.0]),
    ],
)
def test_threads_that_are_worth_their_while_go_on(state, pairs, why, wall, parts):
    end = look(state, 5, wall, parts * pairs)
    # Launches so large are all looked at.
    assert (state[REST_UNTIL], state[RESTS], state[NEXT_LOOK]) == (0, 0, end), why


@pytest.mark.parametrize("parts", [[0.1, 1.0], [0.1, 0.1], [0.1] * 7 + [1.0]])
def test_where_turns_are_lost_threads_rest(state, parts):
    end = look(state, 1000 * MS, 3.0, parts)
    assert (state[REST_UNTIL], state[REST_LEFT], state[RESTS]) == (end + SHORTEST_REST, 1, 1)
    assert state[NEXT_LOOK] == end


GOOD = 4 * MS, 2, 8 * MS, 4 * MS
LOSING = 600_001 + LOST, 2, 600_000, 300_000


@pytest.mark.parametrize("later", [SOON - 1, 3 * SOON])
def test_a_second_launch_that_loses_much_is_enough_whatever_was_before(state, later):
    now = 1000 * MS
    assert not note(state, now, *GOOD)
    assert not note(state, now, LOSING[0] - 1, *LOSING[1:])
    state[:] = 0
    assert not note(state, now, *LOSING)
    assert not note(state, now, *GOOD)
    # Soon, or a few launches later.
    assert note(state, now + later, *LOSING)
    judge(state, now + later, 0)
    assert state[RESTS] == 1


def test_a_launch_that_loses_much_now_and_then_is_no_sign(state):
    """As on a virtual machine, whose CPUs are taken away for some ms."""
    now = 1000 * MS
    for _ in range(10):
        assert not note(state, now, *LOSING)
        for _ in range(FEW):
            now += SOON // FEW + 1
            if note(state, now, *GOOD):
                judge(state, now, 0)
    assert state[RESTS] == 0


def test_rests_grow_while_they_help_and_are_short_again_after_a_good_look(state):
    begin, rests = 1000 * MS, []
    for _ in range(10):
        look(state, begin, 4.0, [0.1, 4.0])
        rests.append(int(state[REST]))
        assert state[REST_LEFT] == rests[-1] // SHORTEST_REST
        # However much later: a pipeline may come here but now and then.
        begin = rest(state, 0.2) + 3 * LONGEST_REST
    assert rests == [min(SHORTEST_REST << i, LONGEST_REST) for i in range(10)]
    look(state, begin, 1.0, [0.9, 0.9])
    assert state[REST] == 0
    look(state, begin + LOOK, 4.0, [0.1, 4.0])
    assert state[REST] == SHORTEST_REST


@pytest.mark.parametrize("never", [False, True])
def test_after_a_large_launch_the_next_is_looked_at(state, never):
    state[NEXT_LOOK] = NEVER if never else 1000 * MS
    watch.look_soon(state, 3 * MS)
    assert state[NEXT_LOOK] == (NEVER if never else 3 * MS)


NEAR_WORK = {"wall": 0.09, "parts": [0.08, 0.08], "answer": FAR - 1}
FAR_WORK = dict(NEAR_WORK, answer=FAR + 1)
# Not much longer than its parts one after the other: 8 threads that have next to nothing to do; a thread that a library
# in the same process keeps from its core for a while.
TOO_SMALL_WORK = {"wall": 0.09, "parts": [0.01] * 8, "answer": FAR - 1}
LATE_WORK = {"wall": 5.0, "parts": [2.0, 2.0]}


@pytest.mark.parametrize(("work", "alone"), [(FAR_WORK, 0.07), (TOO_SMALL_WORK, 0.07), (LATE_WORK, 4.0)])
def test_doubtful_work_is_tried_on_one_thread_and_stays_there_while_it_is_faster(state, work, alone):
    begin, rests = 1000 * MS, []
    for _ in range(8):
        end = look(state, begin, **work)
        assert state[REST_UNTIL] == end + state[REST]
        rests.append(int(state[REST]))
        begin = rest(state, alone)
    assert rests == [min(SHORTEST_REST << i, LONGEST_REST) for i in range(8)]
    # Threads are close again.
    end = look(state, begin, 0.06, [0.05, 0.05])
    assert state[REST_UNTIL] == begin
    assert state[NEXT_LOOK] == end + BETWEEN_LOOKS
    # And far again.
    look(state, end + BETWEEN_LOOKS, **work)
    assert state[REST] == SHORTEST_REST


@pytest.mark.parametrize(
    ("work", "alone"), [(FAR_WORK, 0.082), (FAR_WORK, 0.18), (TOO_SMALL_WORK, 0.082), (LATE_WORK, 4.6)]
)
def test_doubtful_work_that_is_not_much_faster_on_one_thread_is_tried_there_now_and_then(state, work, alone):
    begin = look(state, 1000 * MS, **work)
    for trial in range(1, 4):
        assert (state[RESTS], state[REST]) == (trial, SHORTEST_REST)
        begin = failed = look(state, rest(state, alone), **work)
        while begin < failed + BETWEEN_TRIALS:
            assert (state[RESTS], state[REST]) == (trial, 0)
            begin = look(state, begin, **work)


def test_one_thread_is_compared_with_two_looks(state):
    slower, faster = dict(FAR_WORK, wall=0.2), dict(FAR_WORK, wall=0.05)
    for before, after, rests in ((FAR_WORK, slower, 2), (slower, faster, 1), (faster, slower, 1)):
        state[:] = 0
        look(state, 1000 * MS, **before)
        assert state[RESTS] == 1
        look(state, rest(state, 0.07), **after)
        assert state[RESTS] == rests


@pytest.mark.parametrize("work", [NEAR_WORK, dict(FAR_WORK, wall=0.3, parts=[0.29, 0.29])])
def test_work_of_near_threads_and_large_work_are_not_tried_on_one_thread(state, work):
    begin = 1000 * MS
    for _ in range(100):
        begin = look(state, begin, **work) + BETWEEN_LOOKS
    assert state[RESTS] == 0


@kernel
def answer_times(count, threads):
    times = np.empty(count, np.int64)
    for i in range(count):
        times[i] = launch._answer_time(threads)
    return times


@pytest.fixture
def masked():
    """The number of threads of Numba, put back afterwards."""
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


@pytest.mark.skipif(not launch.HAS_CLOCKS, reason="needs POSIX's clocks")
def test_nobody_answers_a_thread_alone(masked):
    numba.set_num_threads(1)
    assert not answer_times(3, 2).any()


@pytest.mark.skipif(not launch.HAS_CLOCKS, reason="needs POSIX's clocks")
@pytest.mark.skipif(fastnn.get_num_threads() == 1, reason="needs two threads")
def test_two_threads_answer_each_other(masked):
    numba.set_num_threads(2)
    # Where others want the cores, answers do not come, until for once both threads have their turn.
    times = next(times for times in (answer_times(10, 2) for _ in range(1000)) if times.any())
    assert (times >= 0).all()


def train(threads):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((512, 40)).astype(np.float32), rng.integers(0, 10, 512)
    net = fastnn.MLP([40, 128, 64, 10], activation="tanh", dropout=0.1, normalization="batch", dtype="float32", seed=0)
    fastnn.set_num_threads(threads)
    try:
        net.fit(x, y, "softmax_cross_entropy", fastnn.Adam(clip_norm=1.0), batch_size=128, epochs=20, seed=0)
        return net.parameters.tobytes() + net.predict(x).tobytes()
    finally:
        fastnn.set_num_threads(None)


@pytest.fixture
def own_state():
    """The state of this process, put back afterwards."""
    before = watch.STATE.copy()
    yield watch.STATE
    watch.STATE[:] = before


def test_who_rests_launches_nothing(own_state):
    state = own_state
    state[:] = 0
    state[REST_UNTIL] = NEVER
    result = train(2)
    launches = fastnn.get_num_threads() > 1 and launch.HAS_CLOCKS
    assert (state[NEXT_LOOK], state[watch.COUNT]) == (0, 0)
    assert (state[watch.REST_COUNT] > 0) == launches
    state[REST_UNTIL] = 0
    assert train(2) == result
    assert (state[NEXT_LOOK] + state[watch.COUNT] > 0) == launches


def test_rests_that_come_and_go_change_no_bit(own_state):
    expected = train(1)
    done = threading.Event()

    def disturb():
        flip = False
        while not done.wait(0.0002):
            flip = not flip
            own_state[REST_UNTIL] = NEVER if flip else 0

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(5):
            assert train(2) == expected
    finally:
        done.set()
        thread.join()


ON_ONE_CORE = """
import contextlib
import os
import numpy as np
import fastnn
from fastnn.kernels import watch
net = fastnn.MLP([64, 256, 10], seed=0)
x = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
expected = net.predict(x)
assert fastnn.get_num_threads() > 1
core = min(os.sched_getaffinity(0))
for thread in os.listdir("/proc/self/task"):
    with contextlib.suppress(ProcessLookupError):  # of a thread that has ended since
        os.sched_setaffinity(int(thread), {core})
rested = False
for _ in range(50):
    assert np.array_equal(net.predict(x), expected)
    # What a trial after the rest finds, beside other processes, may end it.
    rested |= watch.STATE[watch.REST] >= watch.SHORTEST_REST
print(watch.STATE[watch.RESTS], rested)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="moves threads to one core as Linux does")
@pytest.mark.skipif(fastnn.get_num_threads() == 1, reason="needs two threads")
def test_two_threads_on_one_core_are_noticed(monkeypatch):
    monkeypatch.delenv("FASTNN_NEVER_REST")
    result = subprocess.run([sys.executable, "-c", ON_ONE_CORE], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    count, rested = result.stdout.split()
    assert int(count) >= 1
    assert rested == "True"


# As where there are no POSIX clocks: nothing may refer to them. Its cache is its own, for it has other functions.
WITHOUT_CLOCKS = """
import time
del time.clock_gettime, time.CLOCK_MONOTONIC
import hashlib
import numpy as np
import fastnn
from fastnn.kernels import launch, watch
assert not launch.HAS_CLOCKS
assert fastnn.get_num_threads() > 1
x = np.linspace(-20, 20, 1_000_003, dtype=np.float32)
results = {fastnn.activations.tanh(x).tobytes() for _ in range(20)}
assert launch._launch.signatures and not launch._launch_watched.signatures
assert not watch.STATE.any()
print(*[hashlib.sha256(result).hexdigest() for result in results])
"""


@pytest.mark.skipif(fastnn.get_num_threads() == 1, reason="needs two threads")
def test_without_clocks_threads_never_rest_and_give_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTNN_NEVER_REST")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    result = subprocess.run([sys.executable, "-c", WITHOUT_CLOCKS], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    x = np.linspace(-20, 20, 1_000_003, dtype=np.float32)
    fastnn.set_num_threads(1)
    try:
        expected = fastnn.activations.tanh(x).tobytes()
    finally:
        fastnn.set_num_threads(None)
    assert result.stdout.split() == [hashlib.sha256(expected).hexdigest()]


@driver(lambda t: (read_only(t, 2, "A"), t[::1]), nogil=False)
def last_element(x, out):
    """A driver as Python calls it; one that raises where there is nothing."""
    if x.size == 0:
        raise ValueError("nothing")
    out[0] = x[x.shape[0] - 1, x.shape[1] - 1]


def test_a_driver_borrows_its_arrays(dtype):
    """Any strides, and as many references as before, where it raises too."""
    last_element.ready(np.dtype(dtype))
    whole, out = np.arange(48, dtype=dtype).reshape(6, 8), np.empty(1, dtype)
    calls = last_element, last_element.entry_point(np.dtype(dtype))
    for x in (whole, whole.T, whole[::2, 1::3], whole[::-1, ::-1], whole[1:3], np.asfortranarray(whole)):
        for call in calls:
            call(x, out)
            assert out[0] == x[-1, -1]
    nothing, before = whole[:0], sys.getrefcount(out)
    references = sys.getrefcount(nothing)
    for call in calls:
        with pytest.raises(ValueError, match="nothing"):
            call(nothing, out)
    assert (sys.getrefcount(nothing), sys.getrefcount(out)) == (references, before)
    with pytest.raises(TypeError):
        last_element(whole.astype(np.int32), out)


@driver(lambda t: (flat(read_only(t, 1, "A")), t[::1]), nogil=False)
def flat_extent(x, out):
    """A driver that takes arrays of any number of axes."""
    out[0], out[1] = x.shape[0], x.strides[0]


def test_a_driver_takes_arrays_of_any_axes_as_one_axis(dtype):
    assert layout_is_known()
    flat_extent.ready(np.dtype(dtype))
    call = flat_extent.entry_point(np.dtype(dtype))
    whole, out = np.arange(48, dtype=dtype).reshape(2, 4, 6), np.empty(2, dtype)
    read_only_view = whole[:1]
    read_only_view.flags.writeable = False
    arrays = (whole, whole[0], whole[0, 0], whole[0, 0, 0, ...], whole[None], whole[:0], whole[:, :0], read_only_view)
    others = (
        whole.T,
        whole[:, ::2],
        whole[..., 1:],
        whole[0, 0, ::2],
        np.asfortranarray(whole),
        np.broadcast_to(out, (3, 2)),
    )
    for x in (*arrays, *others):
        call(x, out)
        assert tuple(out) == (x.size, x.itemsize if x.flags.c_contiguous else 0)
    for wrong in ([1.0], None, 1.0, np.float32(1), Impostor(whole)):
        with pytest.raises(TypeError, match="expected a NumPy array"):
            call(wrong, out)


class Impostor:
    """Says that it is an array, as arrays on GPUs do: Numba believes it."""

    _numba_type_ = numba.types.Array(numba.float32, 2, "C")

    def __init__(self, array):
        self.array = array

    def __getattr__(self, name):
        return getattr(self.array, name)


class Subclass(np.ndarray):
    """An array that gives no part of itself."""

    def __getitem__(self, index):
        return [1, 2, 3]


def test_a_driver_takes_no_other_object_for_an_array():
    net, x, out = fastnn.MLP([3, 2], seed=0), np.ones((4, 3), np.float32), np.empty((4, 2), np.float32)
    workspace = fastnn.workspace(net.network, 4)
    expected = net.predict(x)
    fastnn.kernels.forward(net.table, net.parameters, x, out, workspace)
    np.testing.assert_array_equal(out, expected)
    with pytest.raises(TypeError, match="expected a NumPy array of 2 axes"):
        fastnn.kernels.forward(net.table, net.parameters, Impostor(x), out, workspace)
    last_element.ready(np.dtype(np.float32))
    call = last_element.entry_point(np.dtype(np.float32))
    for wrong in (x[0], x[0, 0, ...], x[None], [[1.0]], None, Impostor(x)):
        with pytest.raises(TypeError, match="expected a NumPy array of 2 axes"):
            call(wrong, out[0])
    call(x.view(Subclass), out[0].view(Subclass))
    assert out[0, 0] == 1


def test_predict_asks_no_subclass_for_its_parts():
    net, x = fastnn.MLP([3, 2], seed=0), np.ones(3, np.float32)
    out = np.empty(2, np.float32).view(Subclass)
    assert net.predict(x, out) is out
    np.testing.assert_array_equal(np.asarray(out), net.predict(x))
