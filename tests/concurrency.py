"""Many Python threads, forks and pools on shared networks: `python concurrency.py COMMAND [N]`, N calls in each thread.

Every result is compared, bit for bit, with that of one thread. Run by `test_threads.py` in processes of their own: what
is looked for are aborts and deadlocks. The threading layer is the environment's.
"""

import faulthandler
import multiprocessing
import os
import select
import sys
import threading
import warnings

import numba
import numpy as np

import fastnn

PYTHON_THREADS = 16
CHILDREN = 4
# A child that has not answered by then hangs.
PATIENCE = 120


@numba.njit(nogil=True)
def row_by_row(network, x, out):
    scratch = fastnn.workspace(network, 1)
    for i in range(len(x)):
        fastnn.apply_into(network, x[i], out[i], scratch)


@numba.njit(parallel=True, nogil=True)
def in_prange(network, x, out):
    for i in numba.prange(len(x)):
        out[i] = fastnn.apply(network, x[i])


@numba.njit(parallel=True, nogil=True)
def python_in_prange(parts):
    total = 0.0
    for i in numba.prange(parts):
        with numba.objmode(value="float64"):
            value = predicted_sum(i)
        total += value
    return total


def predicted_sum(i):
    """A call from Python that is large enough for threads, from whichever thread runs this."""
    return float(WORK.large.predict(WORK.x[i:])[-1].sum(dtype=np.float64))


class Work:
    """Networks, data and calls, small and large, each of which gives bytes that are the same every time."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((600, 70)).astype(np.float32)
        self.y = rng.standard_normal((600, 10)).astype(np.float32)
        self.small = fastnn.MLP([70, 8, 10], activation="tanh", seed=1)
        self.large = fastnn.MLP([70, 130, 96, 10], activation="gelu", output_activation="softmax", seed=2)
        self.wide = np.ascontiguousarray(rng.standard_normal((100, 1000)).astype(np.float32))
        self.calls = {
            "predict a row": lambda: self.small.predict(self.x[7]),
            "predict few": lambda: self.small.predict(self.x[:9]),
            "predict many": lambda: self.large.predict(self.x),
            "predict on one thread": self._on_one_thread,
            "gradient few": lambda: self.small.loss_and_gradient(self.x[:5], self.y[:5])[1],
            "gradient many": lambda: self.large.loss_and_gradient(self.x, self.y)[1],
            "activation small": lambda: fastnn.activations.gelu(self.x[0]),
            "activation large": lambda: fastnn.activations.softplus(self.wide),
            "layer by hand": self._layer,
            "fit": self._fit,
            "compiled code": self._compiled,
        }

    def _on_one_thread(self):
        net = self.large.copy()
        net.num_threads = 1
        return net.predict(self.x[:200])

    def _layer(self):
        y, context = self.large.layers[0].forward(self.x)
        return np.concatenate([part.ravel() for part in self.large.layers[0].backward(y, context)])

    def _fit(self):
        net = self.large.copy()
        net.fit(self.x, self.y, batch_size=200, epochs=1, optimizer="adam", seed=3)
        return net.parameters

    def _compiled(self):
        out = np.empty((20, 10), np.float32)
        row_by_row(self.small.network, self.x[:20], out)
        return out

    def results(self):
        return {name: call().tobytes() for name, call in self.calls.items()}


def check(work, expected, calls, seed):
    """So many calls, each compared; returns the names of those that gave something else."""
    names = list(work.calls)
    order = np.random.default_rng(seed).integers(0, len(names), calls)
    return [names[i] for i in order if work.calls[names[i]]().tobytes() != expected[names[i]]]


def hammer(count):
    """PYTHON_THREADS threads with `count` mixed calls each, on the same networks at the same time."""
    work = WORK
    expected = work.results()
    start = threading.Barrier(PYTHON_THREADS)
    wrong, done = [], []

    def run(number):
        start.wait()
        wrong.extend(check(work, expected, count, number))
        done.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(PYTHON_THREADS)]
    for thread in threads:
        thread.start()
    # The main thread is one of those that call.
    wrong += check(work, expected, count // 4, PYTHON_THREADS)
    for thread in threads:
        thread.join()
    assert len(done) == PYTHON_THREADS, "a thread ended with an exception"
    assert not wrong, f"other bits: {wrong[:5]}"
    return f"{PYTHON_THREADS} threads x {count} calls"


def _in_child(function):
    """function() in a forked child; returns the child's process id and the pipe on which it answers."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b"failed"
        try:
            answer = function()
        finally:
            os.write(writing, answer)
            os._exit(0)
    os.close(writing)
    return child, reading


def _answer(child, reading):
    ready, _, _ = select.select([reading], [], [], PATIENCE)
    answer = os.read(reading, 100) if ready else b"hangs"
    if not ready:
        os.kill(child, 9)
    _, status = os.waitpid(child, 0)
    os.close(reading)
    assert (answer, status) == (b"same", 0), f"child: {answer}, status {status}"


def fork(count):
    """A child after the parent's threads have worked, a child of that child, and one forked by a thread."""
    expected = WORK.results()

    def same():
        wrong = check(WORK, expected, count, 0)
        return b"same" if not wrong and fastnn.get_num_threads() == 1 else b"other bits"

    def with_threads_of_its_own():
        found = []
        threads = [threading.Thread(target=lambda: found.append(same())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return b"same" if found == [b"same"] * 3 else b"other bits"

    def with_a_child_of_its_own():
        _answer(*_in_child(same))
        return same()

    for function in (same, with_threads_of_its_own, with_a_child_of_its_own):
        _answer(*_in_child(function))
    thread = threading.Thread(target=lambda: _answer(*_in_child(same)))
    thread.start()
    thread.join()
    # The parent goes on, with its threads.
    assert not check(WORK, expected, count, 1)
    return "4 forks"


def _predict_part(arguments):
    net, x = arguments
    return net.predict(x), net.loss_and_gradient(x, x[:, :10])[1]


def pools(count):
    """multiprocessing's pools, started after the parent's threads have worked."""
    WORK.results()
    parts = [WORK.x[first : first + 300] for first in (0, 300, 100)]
    expected = [_predict_part((WORK.large, x)) for x in parts]
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            found = pool.map_async(_predict_part, [(WORK.large, x) for x in parts]).get(PATIENCE)
        for mine, theirs in zip(expected, found, strict=True):
            assert all(a.tobytes() == b.tobytes() for a, b in zip(mine, theirs, strict=True)), method
    return "pools by fork, spawn and forkserver"


def _serve(connection):
    """Answer until the other side closes."""
    while True:
        try:
            first, last = connection.recv()
        except EOFError:
            os._exit(0)
        connection.send(WORK.large.predict(WORK.x[first:last]))


def prefork(count):
    """A server that loads and warms its model, then forks workers that answer requests."""
    expected = WORK.large.predict(WORK.x)
    context = multiprocessing.get_context("fork")
    workers = []
    for _ in range(CHILDREN):
        ours, theirs = context.Pipe()
        # A child holds no end of the others' pipes, or they would never close.
        child = os.fork()
        if child == 0:
            ours.close()
            for _, connection in workers:
                connection.close()
            _serve(theirs)
        theirs.close()
        workers.append((child, ours))
    for request in range(count):
        for number, (_, connection) in enumerate(workers):
            first = (37 * request + number) % 300
            connection.send((first, first + 1 + 17 * request % 300))
        for number, (_, connection) in enumerate(workers):
            first = (37 * request + number) % 300
            assert connection.poll(PATIENCE), "a worker hangs"
            assert connection.recv().tobytes() == expected[first : first + 1 + 17 * request % 300].tobytes()
    for child, connection in workers:
        connection.close()
        assert os.waitpid(child, 0)[1] == 0
    assert WORK.large.predict(WORK.x).tobytes() == expected.tobytes()
    return f"{CHILDREN} workers x {count} requests"


def nested(count):
    """Networks in the user's own parallel loops, from compiled code and back through Python."""
    expected = WORK.large.predict(WORK.x)
    out = np.empty_like(expected)
    sums = sum(predicted_sum(i) for i in range(8))
    for _ in range(max(1, count // 10)):
        in_prange(WORK.large.network, WORK.x, out)
        assert out.tobytes() == expected.tobytes()
        assert np.isclose(python_in_prange(8), sums, rtol=1e-12)
    thread = threading.Thread(target=python_in_prange, args=(8,))
    if numba.threading_layer() != "workqueue":  # which no two threads may enter, the user's loops included
        thread.start()
        python_in_prange(8)
        thread.join()
    return "apply and predict in prange"


COMMANDS = {function.__name__: function for function in (hammer, fork, pools, prefork, nested)}
WORK = Work()


def main(command, count):
    faulthandler.enable()
    # Python 3.12 warns of forks in processes with threads: this is about nothing else.
    warnings.filterwarnings("ignore", message=".*use of fork.*", category=DeprecationWarning)
    # Numba, of `python_in_prange`: it stands still while it is in Python, which is what a user's callback does.
    warnings.filterwarnings("ignore", message="Code running in object mode won't allow parallel execution")
    said = COMMANDS[command](int(count))
    print(f"{numba.threading_layer()}: {said}")


if __name__ == "__main__":
    main(*sys.argv[1:])
