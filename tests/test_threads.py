"""Python threads, forks, pools, limits and quotas; `concurrency.py` does in processes of its own what may end one."""

import os
import pathlib
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import FULL, threading_layers

import fastnn
from fastnn import resources
from fastnn.kernels import threads

CALLS = 2000 if FULL else 600
SCRIPT = pathlib.Path(__file__).with_name("concurrency.py")


def run(command, count, layer):
    """What a command of `concurrency.py` prints, on two threads of Numba's and under that layer."""
    result = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), command, str(count)],
        capture_output=True,
        text=True,
        env=os.environ | {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"},
        timeout=3600,
    )
    assert result.returncode == 0, f"{command} under {layer} ended with {result.returncode}\n{result.stderr}"
    assert result.stdout.startswith(f"{layer}: ")
    print(result.stdout.strip())
    return result.stdout


@pytest.mark.parametrize("layer", threading_layers())
def test_sixteen_threads_on_the_same_networks(layer):
    assert re.search(rf"16 threads x {CALLS} calls", run("hammer", CALLS, layer))


def test_calls_while_another_dtype_is_compiled():
    """Arguments that have to be converted once made such a call compile for itself, or raise that it may not."""
    from fastnn.kernels import jit

    @jit.driver(lambda t: (jit.read_only(t, 1), t[::1]))
    def twice(x, out):
        for i in range(x.size):
            out[i] = x[i] + x[i]

    for _ in range(2):  # as of two threads that both find it missing
        twice.ready.__wrapped__(np.dtype(np.float32))
    x, out, errors, calls, stop = np.ones(3, np.float32), np.empty(3, np.float32), [], [], threading.Event()

    def call():
        while not stop.is_set():
            try:
                twice(x, out)
            except Exception as error:
                errors.append(error)
            calls.append(0)

    caller = threading.Thread(target=call)
    caller.start()
    while len(calls) < 10:
        time.sleep(0.001)
    twice.ready(np.dtype(np.float64))
    stop.set()
    caller.join()
    assert not errors
    assert len(twice.signatures) == 2
    twice(np.ones(3), result := np.empty(3))
    assert result.tolist() == [2, 2, 2]


posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@posix
@pytest.mark.parametrize("layer", threading_layers())
@pytest.mark.parametrize("command", ["fork", "prefork"])
def test_forked_children_after_threads(command, layer):
    run(command, 200 if FULL else 20, layer)


@posix
def test_pools_of_processes():
    run("pools", 1, threading_layers()[-1])


@pytest.mark.parametrize("layer", threading_layers())
def test_inside_the_users_parallel_loops(layer):
    run("nested", 100 if FULL else 20, layer)


# ---- How many threads


@pytest.fixture
def pool_of_eight(monkeypatch):
    """As if Numba had eight threads, no quota and no limit; nothing is launched."""
    monkeypatch.setattr(threads, "_numba_threads", lambda: 8)
    monkeypatch.setattr(threads, "container_quota", lambda: None)
    monkeypatch.setattr(threads, "default_limit", lambda: None)
    monkeypatch.setattr(threads, "_limit", None)


def given(net, rows):
    return net._resources.threads(rows, net.num_threads)


def test_limits_of_the_model_and_of_the_process(pool_of_eight):
    net = fastnn.MLP([70, 130, 96, 10], seed=0)
    assert given(net, 1) == 1
    assert given(net, 1000) == fastnn.get_num_threads() == 8
    net.num_threads = 3
    assert given(net, 1000) == 3
    fastnn.set_num_threads(2)
    assert given(net, 1000) == fastnn.get_num_threads() == 2
    net.num_threads = 1
    assert given(net, 1000) == 1
    fastnn.set_num_threads(None)
    net.num_threads = None
    assert given(net, 1000) == 8
    net.num_threads, trainer = 3, fastnn.Trainer(net, num_threads=2)
    batch = np.zeros((1000, 70), np.float32), np.zeros((1000, 10), np.float32)
    trainer.step(*batch)
    assert trainer._planned.key[-1] == 2
    for own, expected in ((None, 3), (1, 1)):
        trainer.num_threads = own
        trainer.step(*batch)
        assert trainer._planned.key[-1] == expected


def test_a_gradient_is_applied_within_the_limits(pool_of_eight, monkeypatch):
    seen = []

    def update(*arguments):
        seen.append(arguments[-2])

    update.ready = lambda dtype: None
    monkeypatch.setattr(fastnn.trainer, "update_by_gradient", update)
    net = fastnn.MLP([700, 800, 701], seed=0, num_threads=1)
    for own in (None, 2):
        fastnn.Trainer(net, num_threads=own).apply_gradient(np.zeros(net.parameter_count))
    assert seen == [1, 2]


def test_results_do_not_depend_on_the_limits(rng):
    x, y = rng.standard_normal((600, 70)).astype(np.float32), rng.standard_normal((600, 10)).astype(np.float32)
    found = set()
    for limit in (1, 2, None):
        for own in (1, 2, None):
            fastnn.set_num_threads(limit)
            try:
                net = fastnn.MLP([70, 130, 96, 10], seed=0, num_threads=own)
                net.fit(x, y, batch_size=200, seed=0)
                found.add(net.parameters.tobytes() + net.predict(x).tobytes())
            finally:
                fastnn.set_num_threads(None)
    assert len(found) == 1


V1 = "3:cpuset:/elsewhere\n2:cpu,cpuacct:/docker/a\n1:name=systemd:/b\n"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/", {"cpu.max": "max 100000\n"}, None),
        ("0::/", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/", {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ("0::/", {"cpu/cpu.cfs_quota_us": "250000\n"}, None),
        ("0::/", {"cpu.max": "what is this\n"}, None),
        ("0::/", {"cpu.max": "100000 0\n"}, None),
        ("0::/", {"cpu.max": ""}, None),
        ("0::/", {}, None),
        (None, {"cpu.max": "300000 100000\n"}, 3),
        ("what is this", {"cpu.max": "300000 100000\n"}, 3),
        # The smallest of those that the process is in counts, whichever of them it is; those of others do not.
        ("0::/a/b", {"a/b/cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b", {"a/b/cpu.max": "500000 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "max 100000\n", "cpu.max": "400000 100000\n"}, 4),
        ("0::/a/b", {"a/b/cpu.max": "40000 10000\n", "a/cpu.max": "500000 100000\n"}, 4),
        ("0::/a/b", {"a/c/cpu.max": "100000 100000\n", "a/b/c/cpu.max": "100000 100000\n"}, None),
        # The host's path for what the container sees as the root; a process outside the root that it sees.
        ("0::/system.slice/docker-0.scope", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/../other", {"cpu.max": "200000 100000\n", "../other/cpu.max": "100000 100000\n"}, 2),
        ("0::/../other", {"other/cpu.max": "100000 100000\n"}, None),
        # Version 1, and both at once.
        (V1, {"cpu/docker/a/cpu.cfs_quota_us": "250000\n", "cpu/docker/a/cpu.cfs_period_us": "100000\n"}, 3),
        (V1, {"cpu/b/cpu.cfs_quota_us": "250000\n", "cpu/b/cpu.cfs_period_us": "100000\n"}, None),
        (V1 + "0::/s\n", {"s/cpu.max": "500000 100000\n"}, 5),
        ("0::/a:b", {"a:b/cpu.max": "200000 100000\n"}, 2),
    ],
)
def test_quotas_of_containers(membership, files, quota, tmp_path, monkeypatch):
    root = tmp_path / "cgroup"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if membership is not None:
        (tmp_path / "membership").write_text(membership)
    monkeypatch.setattr(threads, "CGROUPS", root)
    monkeypatch.setattr(threads, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(threads, "_numba_threads", lambda: 8)
    monkeypatch.setattr(threads, "default_limit", lambda: None)
    monkeypatch.setattr(threads, "_limit", None)
    threads.container_quota.cache_clear()
    try:
        assert threads.container_quota() == quota
        assert fastnn.get_num_threads() == (quota or 8)
        fastnn.set_num_threads(1)
        assert fastnn.get_num_threads() == 1
    finally:
        threads.container_quota.cache_clear()


@pytest.mark.parametrize(
    ("siblings", "cores"),
    [
        (["0,4", "1,5", "2,6", "3,7"] * 2, 4),
        (["0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7"], 6),
        ([str(cpu) for cpu in range(8)], 8),
        (["0-1", "0-1", "2-3"], None),
        ([], None),
    ],
)
def test_two_threads_of_one_core_count_once(siblings, cores, tmp_path, monkeypatch):
    for cpu, text in enumerate(siblings):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(text + "\n")
    monkeypatch.setattr(threads, "CPUS", tmp_path)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_numba_threads", lambda: 8)
    monkeypatch.setattr(threads, "container_quota", lambda: None)
    monkeypatch.setattr(threads, "_limit", None)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    threads.physical_cores.cache_clear()
    threads.default_limit.cache_clear()
    try:
        assert threads.physical_cores() == cores
        assert fastnn.get_num_threads() == (cores or 8)
        # Who asks for more gets it.
        fastnn.set_num_threads(7)
        assert fastnn.get_num_threads() == 7
        fastnn.set_num_threads(None)
        monkeypatch.setenv("NUMBA_NUM_THREADS", "8")
        threads.default_limit.cache_clear()
        assert fastnn.get_num_threads() == 8
    finally:
        fastnn.set_num_threads(None)
        threads.physical_cores.cache_clear()
        threads.default_limit.cache_clear()


def test_a_thread_that_may_not_launch_is_given_one(pool_of_eight, monkeypatch):
    monkeypatch.setattr(threads, "_launch_is_thread_safe", lambda: False)
    found = []
    thread = threading.Thread(target=lambda: found.append(fastnn.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [1]
    assert fastnn.get_num_threads() == 8
    monkeypatch.setattr(threads, "_launch_is_thread_safe", lambda: True)
    thread = threading.Thread(target=lambda: found.append(fastnn.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [1, 8]


def test_what_is_allowed_is_what_there_is(monkeypatch):
    """`threads_allowed` remembers; limits that change count all the same."""
    monkeypatch.setattr(threads, "_most", 0)
    fastnn.activations.tanh(np.zeros(1_000_000, np.float32))
    agree = lambda: [threads.threads_allowed(n, 10) == threads.threads_for(n, 10) for n in (0, 19, 20, 35, 1000)]
    assert all(agree())
    assert all(agree())
    for limit in (1, 2, 100, None):
        fastnn.set_num_threads(limit)
        assert all(agree())
        assert all(agree())
    # As in a forked child, but for this process's regions.
    monkeypatch.setattr(threads, "_forked", False)
    monkeypatch.setattr(threads, "forget_openmp", lambda: None)
    threads._after_fork()
    assert threads.threads_allowed(1000, 10) == threads.threads_for(1000, 10) == 1
    fastnn.set_num_threads(None)
    assert threads.threads_allowed(1000, 10) == 1


def test_a_limit_that_is_set_while_another_thread_looks_for_it_counts(pool_of_eight, monkeypatch):
    monkeypatch.setattr(threads, "_most", 0)
    monkeypatch.setattr(threads, "_launch_is_thread_safe", lambda: True)
    monkeypatch.setattr(threads, "container_quota", lambda: fastnn.set_num_threads(1))
    threads._find_most()
    assert threads.threads_allowed(1000, 10) == 1


# ---- The interpreter's lock


def test_kernels_release_the_interpreters_lock(rng):
    """With forced switches off, another thread's counter moves only if the call lets go of the lock."""
    x, y = rng.standard_normal((4000, 70)).astype(np.float32), rng.standard_normal((4000, 10)).astype(np.float32)
    net = fastnn.MLP([70, 256, 256, 10], seed=0, num_threads=1)
    trainer, column = fastnn.Trainer(net, optimizer="adam"), np.ones(2_000_000, np.float32)
    calls = {
        "predict": lambda: net.predict(x),
        "loss_and_gradient": lambda: net.loss_and_gradient(x, y),
        "step": lambda: trainer.step(x, y),
        "activation": lambda: fastnn.activations.gelu(column),
        "layer": lambda: net.layers[1].forward(np.ones((4000, 256), np.float32)),
        "layer backward": lambda: net.layers[1].backward(np.ones((4000, 256), np.float32), context),
        "apply_into": lambda: fastnn.apply(net.network, x),
    }
    _, context = net.layers[1].forward(np.ones((4000, 256), np.float32))
    small, row = fastnn.MLP([4, 8, 1], seed=0), np.ones((1, 4), np.float32)
    short = {"predict": lambda: small.predict(row), "activation": lambda: fastnn.activations.relu(row)}
    for call in (*calls.values(), *short.values()):
        call()  # compiles
    counter, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            counter[0] += 1
            time.sleep(0)  # gives the lock back

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=count)
    thread.start()
    try:
        while not counter[0]:
            time.sleep(0)
        sys.setswitchinterval(1000)
        for name, call in calls.items():
            moved = False
            # A busy machine may not run the other thread during one call.
            for _ in range(200):
                before = counter[0]
                call()
                moved = counter[0] != before
                if moved:
                    break
            assert moved, f"{name} holds the lock"
        before = counter[0]
        for _ in range(1000):
            for call in short.values():
                call()
        assert counter[0] == before, "a call of a microsecond lets the lock go"
        sum(range(3_000_000))
        assert counter[0] == before, "the counter would move without a release too: this test shows nothing"
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join()


@pytest.mark.parametrize("sizes", [(4, 32, 1), (64, 128, 128, 10), (300, 300), (784, 256, 10), (2048, 64), (930, 64)])
@pytest.mark.parametrize("normalization", [None, "layer"])
def test_rows_of_which_no_thread_is_asked(sizes, normalization, dtype, monkeypatch):
    """`Resources` asks for threads from the first number of rows on that more than one of them would share."""
    monkeypatch.setattr(resources, "threads_for", lambda work, grain: 1 if work < 2 * grain else 2)
    found = resources.Resources(fastnn.MLP(sizes, normalization=normalization, dtype=dtype).network)
    shared = [found._inference_threads(rows, None) > 1 for rows in range(1, 3 * resources.GRAIN // sizes[0])]
    # A single row that columns are not shared of has no parts.
    least = 1 if found._few_rows else 2
    assert shared.index(True) + 1 == max(found._serial_rows + 1, least)
