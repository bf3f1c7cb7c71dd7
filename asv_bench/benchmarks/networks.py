"""Whole networks: inference, training steps, and what a call costs before any work is done."""

import concurrent.futures

import numba
import numpy as np

import fastnn

from .common import DTYPES, NETWORKS, seconds, work

OPTIMIZERS = {"sgd": fastnn.SGD, "adam": fastnn.Adam}


class Inference:
    params = (list(NETWORKS), ["one row", "batch"], DTYPES)
    param_names = ("network", "rows", "dtype")
    timeout = 300
    warmup_time = 0.05
    version = "1"

    def setup(self, name, rows, dtype):
        sizes, activation, batch = NETWORKS[name]
        self.net = fastnn.MLP(sizes, activation=activation, dtype=dtype, seed=0)
        rows = 1 if rows == "one row" else batch
        self.x = np.random.default_rng(0).standard_normal((rows, sizes[0])).astype(dtype)
        self.out = self.net.predict(self.x)

    def time_predict(self, name, rows, dtype):
        self.net.predict(self.x, out=self.out)

    time_predict.pretty_name = "predict"


class Training:
    params = (list(NETWORKS), list(OPTIMIZERS), DTYPES)
    param_names = ("network", "optimizer", "dtype")
    timeout = 300
    warmup_time = 0.05
    version = "3"

    def setup(self, name, optimizer, dtype):
        sizes, activation, self.batch = NETWORKS[name]
        # So many that what a call of fit does besides is a small part of it.
        self.batches = work.Work("train", optimizer, sizes, activation, self.batch, dtype).batches
        rng = np.random.default_rng(0)
        net = fastnn.MLP(sizes, activation=activation, dtype=dtype, seed=0)
        self.trainer = fastnn.Trainer(net, loss="mse", optimizer=OPTIMIZERS[optimizer](learning_rate=1e-5))
        self.x = rng.standard_normal((self.batch * self.batches, sizes[0])).astype(dtype)
        self.y = rng.standard_normal((self.batch * self.batches, sizes[-1])).astype(dtype)
        self.first = self.x[: self.batch], self.y[: self.batch]
        self.trainer.step(*self.first)

    def time_step(self, name, optimizer, dtype):
        self.trainer.step(*self.first)

    def track_step_in_an_epoch(self, name, optimizer, dtype):
        fit = lambda: self.trainer.fit(self.x, self.y, batch_size=self.batch, shuffle=False, seed=0, progress=False)
        fit()
        return seconds(fit) / self.batches

    def peakmem_step(self, name, optimizer, dtype):
        self.trainer.step(*self.first)

    time_step.pretty_name = "Trainer.step"
    track_step_in_an_epoch.unit = "seconds"
    track_step_in_an_epoch.pretty_name = "a step in an epoch of fit"
    peakmem_step.pretty_name = "memory of a process that trains"


class PythonThreads:
    """Kernels give up the interpreter's lock: how many times more two Python threads predict than one, at most 2."""

    timeout = 300
    version = "1"
    unit = "times"

    def setup(self):
        sizes, activation, _ = NETWORKS["784-256-128-10"]
        self.net = fastnn.MLP(sizes, activation=activation, seed=0, num_threads=1)
        self.x = np.random.default_rng(0).standard_normal((2000, sizes[0])).astype(np.float32)
        self.net.predict(self.x)

    def track_throughput_of_two(self):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            both = lambda: list(pool.map(self.net.predict, [self.x, self.x]))
            both()
            return 2 * seconds(lambda: self.net.predict(self.x)) / seconds(both)

    track_throughput_of_two.pretty_name = "predictions of two Python threads, one's being 1 (more is better)"


class CallOverhead:
    """The smallest network there is: what remains is the price of a call."""

    timeout = 300
    version = "1"

    def setup(self):
        self.net = fastnn.MLP([1, 1], seed=0)
        self.x, self.out = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)
        self.net.predict(self.x)
        fastnn.activations.relu(self.x, out=self.out)

    def time_predict(self):
        self.net.predict(self.x)

    def time_predict_into(self):
        self.net.predict(self.x, out=self.out)

    def time_relu(self):
        fastnn.activations.relu(self.x, out=self.out)

    time_predict.pretty_name = "predict, 1 to 1"
    time_predict_into.pretty_name = "predict with out, 1 to 1"
    time_relu.pretty_name = "relu of one number"


@numba.njit
def _samples(network, x, out, workspace, count):
    for _ in range(count):
        fastnn.apply_into(network, x, out, workspace)


class CallOverheadCompiled:
    """A sample in the user's own loop, through a network and through the smallest one."""

    params = ("4-32-32-1", "4-1")
    param_names = ("network",)
    unit = "ns"
    timeout = 300
    version = "1"

    def setup(self, name):
        sizes = [int(size) for size in name.split("-")]
        net = fastnn.MLP(sizes, activation="tanh", seed=0)
        self.arrays = np.ones(sizes[0], np.float32), np.empty(1, np.float32), fastnn.workspace(net.network, 1)
        self.network = net.network
        _samples(self.network, *self.arrays, 1)

    def track_apply_into(self, name):
        return seconds(lambda: _samples(self.network, *self.arrays, 10_000)) / 10_000 * 1e9
