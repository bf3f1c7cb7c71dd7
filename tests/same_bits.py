"""Hashes of trained parameters and of predictions, one set everywhere: `python same_bits.py [--write]`.

Prints the hashes as JSON, made under the environment's NUMBA_CPU_FEATURES, NUMBA_THREADING_LAYER and NUMBA_NUM_THREADS;
`test_same_bits.py` compares them with golden.json. `--write` renews that file: after a change of the arithmetic that is
meant to change results, which the changelog has to say, and after nothing else.

All data and starting parameters come from whole-number arithmetic, so they are the same on every machine.
"""

import argparse
import hashlib
import json
import pathlib

import numba
import numpy as np

import fastnn
from fastnn.kernels import simd
from fastnn.kernels.codes import Activation, Loss

GOLDEN = pathlib.Path(__file__).with_name("golden.json")
STEPS = 200
DTYPES = "float32", "float64"
# Rows and sizes: threads and blocks of rows, vectors' remainders, layers of one to four outputs.
LARGE, SMALL = (300, [70, 130, 96, 10]), (5, [4, 9, 3])
NARROW = tuple((37, [20, 33, outputs]) for outputs in (1, 2, 3, 4))
LOSSES = tuple(Loss)[: Loss.SOFTMAX_CROSS_ENTROPY + 1]
# Cases beyond those by number, with losses that have a parameter.
WITH_PARAMETER = fastnn.losses.Quantile(0.9), fastnn.losses.Huber(0.25)
OPTIMIZERS = (
    fastnn.SGD(learning_rate=0.02, momentum=0.9, nesterov=True, clip_norm=1.0),
    fastnn.RMSprop(learning_rate=0.002, momentum=0.5),
    fastnn.Adagrad(learning_rate=0.01),
    fastnn.Adam(learning_rate=0.003, weight_decay=0.01, clip_value=0.5),
    fastnn.AdamW(learning_rate=0.003),
)


def numbers(shape, start, dtype="float64"):
    """In [-1, 1), from a multiplicative congruence: exact in float64, then rounded."""
    count = int(np.prod(shape))
    state = (np.arange(start + 1, start + 1 + count, dtype=np.uint64) * np.uint64(2654435761)) % np.uint64(2**32)
    state ^= state >> np.uint64(15)
    state = (state * np.uint64(2246822519)) % np.uint64(2**32)
    return (state.astype(np.float64) / 2.0**31 - 1.0).reshape(shape).astype(dtype)


class Case:
    """One network with its data, loss and optimizer; number i has activation i, and all losses and optimizers occur."""

    def __init__(self, i, dtype, objective=None):
        self.activation = list(Activation)[i]
        self.objective = fastnn.losses.get(LOSSES[i % len(LOSSES)]) if objective is None else objective
        self.loss = self.objective.code
        self.optimizer = OPTIMIZERS[i % len(OPTIMIZERS)]
        self.rows, self.sizes = (LARGE, NARROW[i // 3 % 4], SMALL)[i % 3]
        if self.loss == Loss.SOFTMAX_CROSS_ENTROPY and self.sizes[-1] == 1:
            self.rows, self.sizes = SMALL
        self.last = Activation.IDENTITY
        if self.loss <= Loss.LOG_COSH or self.loss == Loss.QUANTILE:
            self.last = (Activation.IDENTITY, Activation.SOFTMAX, Activation.SIGMOID, Activation.GELU)[i % 4]
        self.dtype = dtype
        parts = dtype, self.activation.name, self.last.name, self.loss.name, type(self.optimizer).__name__
        self.name = " ".join(parts).lower()
        self.x = numbers((self.rows, self.sizes[0]), 0, dtype)
        outputs = self.sizes[-1]
        self.y = (numbers((self.rows, outputs), 10**6, dtype) + 1) / 2
        if self.loss == Loss.SOFTMAX_CROSS_ENTROPY:
            self.y = np.arange(self.rows) * 7 % outputs
        self.sample_weight = numbers(self.rows, 2 * 10**6, dtype) + 1 if i % 2 else None

    def network(self, num_threads=None):
        hidden = [self.activation] * (len(self.sizes) - 2)
        net = fastnn.MLP(self.sizes, hidden, self.last, dtype=self.dtype, seed=0, num_threads=num_threads)
        for layer in net.layers:
            layer.weight = numbers(layer.weight.shape, 3 * 10**6 + layer.in_features) / np.sqrt(layer.in_features)
            layer.bias = numbers(layer.bias.shape, 4 * 10**6) / 8
        return net

    def trained(self, num_threads=None):
        """The network after STEPS updates, each on the whole batch."""
        net = self.network(num_threads)
        trainer = fastnn.Trainer(net, self.objective, self.optimizer)
        trainer.fit(
            self.x,
            self.y,
            batch_size=None,
            epochs=STEPS,
            shuffle=False,
            sample_weight=self.sample_weight,
        )
        return net


def cases(dtypes=DTYPES, most_rows=LARGE[0]):
    """Those of at most so many rows."""
    with_parameter = enumerate(WITH_PARAMETER, int(Activation.TANH))
    every = [
        *(Case(i, dtype) for dtype in dtypes for i in range(len(Activation))),
        *(Case(i, dtype, objective) for i, objective in with_parameter for dtype in dtypes),
    ]
    return [case for case in every if case.rows <= most_rows]


def digest(array):
    """sha256 of an array's bytes in C order, NaN refused: a network of NaN would agree with any other."""
    assert np.isfinite(array).all()
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def hashes_of(case, net):
    """[hash of the parameters, hash of the predictions]"""
    return [digest(net.parameters), digest(net.predict(case.x))]


def trained(dtypes=DTYPES, num_threads=None):
    """Each case with its network after training."""
    return [(case, case.trained(num_threads)) for case in cases(dtypes)]


def hashes(dtypes=DTYPES, num_threads=None, with_regularized=True, networks=None):
    """{case: [hash of the parameters, hash of the predictions]}; regularized networks are kernels of their own.

    networks: what `trained` gave, if it was called.
    """
    found = {}
    for case, net in trained(dtypes, num_threads) if networks is None else networks:
        found[case.name] = hashes_of(case, net)
    for dtype in dtypes:
        found[f"{dtype} shuffled"] = shuffled(dtype, num_threads)
        if with_regularized:
            found[f"{dtype} regularized"] = regularized(dtype, num_threads)
            found[f"{dtype} regularized and standardized"] = standardized(dtype, num_threads)
    return found


def predictions(dtypes=DTYPES):
    """{case: hash of the predictions before training}: what compiles in a tenth of the time."""
    return {case.name: digest(case.network(1).predict(case.x)) for case in cases(dtypes)}


def shuffled(dtype, num_threads=None):
    """[hash of parameters, hash of predictions] of a fit in batches that a seed shuffles."""
    case = Case(0, dtype)
    net = case.network(num_threads)
    net.fit(case.x, case.y, case.loss, case.optimizer, batch_size=64, epochs=3, seed=2**63 + 11)
    return [digest(net.parameters), digest(net.predict(case.x))]


def regularized(dtype, num_threads=None):
    """[hash of parameters and running averages, hash of predictions] of a fit with normalized layers and dropout."""
    case = Case(0, dtype)
    kinds = "batch", "layer", None
    layers = [
        fastnn.Dense(k, n, "gelu", normalization=kind, dropout=0.25)
        for k, n, kind in zip(case.sizes, case.sizes[1:], kinds, strict=False)
    ]
    net = fastnn.Sequential(layers, dtype=dtype, seed=0, num_threads=num_threads)
    for layer in net.layers:
        layer.weight = numbers(layer.weight.shape, 3 * 10**6 + layer.in_features) / np.sqrt(layer.in_features)
        layer.bias = numbers(layer.bias.shape, 4 * 10**6) / 8
    net.fit(case.x, case.y, case.loss, fastnn.Adam(), batch_size=64, epochs=3, seed=2**63 + 11)
    return [digest(np.concatenate((net.parameters, net.statistics))), digest(net.predict(case.x))]


def standardized(dtype, num_threads=None):
    """[hash of parameters, mean and scale, hash of predictions] of a fit of features far from 0 and 1."""
    case = Case(0, dtype)
    net = fastnn.MLP(case.sizes, "tanh", dtype=dtype, standardize=True, seed=0, num_threads=num_threads)
    for layer in net.layers[1:]:
        layer.weight = numbers(layer.weight.shape, 3 * 10**6 + layer.in_features) / np.sqrt(layer.in_features)
        layer.bias = numbers(layer.bias.shape, 4 * 10**6) / 8
    x = case.x * (1 + np.arange(case.sizes[0], dtype=dtype)) + 100
    net.fit(x, case.y, case.loss, fastnn.Adam(), batch_size=64, epochs=3, seed=2**63 + 11)
    return [digest(np.concatenate((net.parameters, net.statistics))), digest(net.predict(x))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="renew golden.json")
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--predictions", action="store_true", help="those of untrained networks alone")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="find them once for each number")
    parser.add_argument("--plain", action="store_true", help="without regularized networks, and their compilation")
    parser.add_argument("--small", action="store_true", help="plain networks of few rows alone, not shuffled")
    options = parser.parse_args()
    if options.write and (options.predictions or options.small):
        parser.error("--write: golden.json holds what training gives of every case")
    if options.predictions:
        runs = [predictions(options.dtypes)]
    elif options.small:
        few = cases(options.dtypes, NARROW[0][0])
        runs = [{case.name: hashes_of(case, case.trained(threads)) for case in few} for threads in options.threads]
    else:
        runs = [hashes(options.dtypes, threads, not options.plain) for threads in options.threads]
    if options.write:
        GOLDEN.write_text(json.dumps(runs[0], indent=1) + "\n")
    try:
        layer = numba.threading_layer()
    except ValueError:
        layer = None
    # Those that the largest network was given.
    resources = Case(0, "float32").network()._resources
    threads = [resources.threads(LARGE[0], most) for most in options.threads]
    print(json.dumps({"vector_bytes": simd.VECTOR_BYTES, "layer": layer, "threads": threads, "runs": runs}))


if __name__ == "__main__":
    main()
