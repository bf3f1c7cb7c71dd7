"""fastnn against NumPy on the same work, and the micro-kernel against the machine's peak.

    python asv_bench/numpy_ratios.py

NumPy is written as well as it can be: matmul into a given array, everything else in place, float32. Both run in
turns, and medians are compared. Before its turn each rests until the threads of the other have gone to sleep
(OpenBLAS's spin for 0.1 s after a call: two pools on the same cores measure each other), then runs until its own are
awake and spread over the cores, and only then is timed, over enough repetitions to last 20 ms.
"""

import argparse
import datetime
import os
import statistics
import time
from itertools import pairwise

import numba
import numpy as np
from peak import peak_gflops, tile_gflops
from peers.numpy_peer import Network, activate
from threadpoolctl import threadpool_info
from work import NETWORKS

import fastnn
from fastnn import kernels
from fastnn.info import cpu_model

LINEAR = ((512, 512, 512), (1024, 1024, 1024), (4096, 256, 256), (128, 784, 256), (32, 64, 64))


TURN = 0.02
REST = 0.15


def awake(function):
    """Rest, then run for a turn; returns how many calls of the function fit into a turn."""
    time.sleep(REST)
    best, begin = float("inf"), time.perf_counter()
    while (start := time.perf_counter()) - begin < TURN:
        function()
        best = min(best, time.perf_counter() - start)
    return max(1, int(TURN / best))


def interleaved(functions, rounds):
    """Median seconds of one call of each, measured in turns."""
    times = [[] for _ in functions]
    for _ in range(rounds):
        for function, record in zip(functions, times, strict=True):
            count = awake(function)
            start = time.perf_counter()
            for _ in range(count):
                function()
            record.append((time.perf_counter() - start) / count)
    return [statistics.median(record) for record in times]


def linear_pair(m, k, n, activation, rng):
    x = rng.standard_normal((m, k)).astype(np.float32)
    weight = (rng.standard_normal((k, n)) * k**-0.5).astype(np.float32)
    bias = rng.standard_normal(n).astype(np.float32)
    mine, theirs = np.empty((m, n), np.float32), np.empty((m, n), np.float32)
    code = fastnn.Activation[activation.upper()]

    def ours():
        kernels.linear(x, weight, bias, code, mine)

    def numpy():
        np.matmul(x, weight, out=theirs)
        np.add(theirs, bias, out=theirs)
        activate(activation, theirs)

    ours()
    numpy()
    np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)
    return ours, numpy


def step_pair(sizes, activation, batch, rng, rate=1e-3):
    net = fastnn.MLP(list(sizes), activation=activation, dtype="float32", seed=0)
    x = rng.standard_normal((batch, sizes[0])).astype(np.float32)
    y = rng.standard_normal((batch, sizes[-1])).astype(np.float32)
    trainer = fastnn.Trainer(net, loss="mse", optimizer=fastnn.SGD(learning_rate=rate))
    activations = [activation] * (len(sizes) - 2) + ["identity"]
    layers = net.layers
    other = Network([layer.weight for layer in layers], [layer.bias for layer in layers], activations, batch)
    trainer.step(x, y)
    other.sgd(x, y, rate)
    for layer, weight in zip(net.layers, other.weights, strict=True):
        np.testing.assert_allclose(layer.weight, weight, rtol=1e-3, atol=1e-5)
    return lambda: trainer.step(x, y), lambda: other.sgd(x, y, rate)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    blas = ", ".join(f"{info['internal_api']} {info.get('architecture', '')}" for info in threadpool_info())
    print(f"{cpu_model()}, {os.cpu_count()} CPUs, {fastnn.get_num_threads()} threads, {datetime.date.today()}")
    print(f"fastnn {fastnn.__version__}, numba {numba.__version__}, numpy {np.__version__} ({blas})\n")

    peaks, tiles = zip(*[(peak_gflops(), tile_gflops()) for _ in range(rounds)], strict=True)
    peak = statistics.median(peaks)
    share = statistics.median(tile / peak for tile, peak in zip(tiles, peaks, strict=True))
    print(f"FMA peak of one core      {peak:7.1f} GFLOP/s")
    print(f"micro-kernel in cache     {statistics.median(tiles):7.1f} GFLOP/s  {share:6.1%}\n")
    print(f"{'work':34}{'fastnn us':>11}{'NumPy us':>11}{'ratio':>8}{'of peak':>9}")
    threads = fastnn.get_num_threads()
    for m, k, n in LINEAR:
        for activation in ("relu", "tanh"):
            ours, theirs = interleaved(linear_pair(m, k, n, activation, rng), rounds)
            share = 2 * m * k * n / ours / 1e9 / (peak * threads)
            print(
                f"linear+{activation} {m}x{k}x{n}".ljust(34)
                + f"{ours * 1e6:11.1f}{theirs * 1e6:11.1f}{theirs / ours:8.2f}{share:9.1%}"
            )
    for sizes, activation, batch in NETWORKS.values():
        ours, theirs = interleaved(step_pair(sizes, activation, batch, rng), rounds)
        products = [k * n for k, n in pairwise(sizes)]
        flops = 2 * batch * (3 * sum(products) - products[0])
        name = f"SGD step {'-'.join(map(str, sizes))} b{batch}"
        print(
            name.ljust(34)
            + f"{ours * 1e6:11.1f}{theirs * 1e6:11.1f}{theirs / ours:8.2f}{flops / ours / 1e9 / (peak * threads):9.1%}"
        )


if __name__ == "__main__":
    main()
