import numpy as np
from work import RATES, activations_of, batches_of, data

import fastnn
from fastnn import kernels

from . import Case


def versions():
    import numba

    return f"fastnn {fastnn.__version__}, numba {numba.__version__}"


def network(work, weights, biases):
    net = fastnn.MLP(work.sizes, activation=work.activation, dtype=work.dtype, seed=0)
    for layer, w, b in zip(net.layers, weights, biases, strict=True):
        layer.weight[:], layer.bias[:] = w, b
    return net


def train(work, x, y, weights, biases):
    optimizer = {"sgd": fastnn.SGD, "adam": fastnn.Adam}[work.what](learning_rate=RATES[work.what])
    batches = batches_of(work, x, y)

    def case(run, units):
        net = network(work, weights, biases)
        trainer = fastnn.Trainer(net, loss="mse", optimizer=optimizer)
        return Case(lambda: run(trainer), lambda: net.layers[0].weight.copy(), units)

    def steps(trainer):
        for a, b in batches:
            trainer.step(a, b)

    return {
        "step": case(steps, len(batches)),
        "fit": case(
            lambda trainer: trainer.fit(x, y, batch_size=work.rows, shuffle=False, seed=0, progress=False), len(batches)
        ),
    }


def cases(work):
    x, y, weights, biases = data(work)
    if work.kind == "train":
        return train(work, x, y, weights, biases)
    if work.kind == "activation":
        out, function = np.empty_like(x), getattr(fastnn.activations, work.activation)
        return {"out=": Case(lambda: function(x, out=out), lambda: out)}
    out = np.empty((work.rows, work.sizes[-1]), work.dtype)
    if work.kind == "linear":
        code = fastnn.Activation[activations_of(work)[0].upper()]
        w, b = weights[0], biases[0]
        return {"kernel": Case(lambda: kernels.linear(x, w, b, code, out), lambda: out)}
    net = network(work, weights, biases)
    return {
        "predict": Case(lambda: net.predict(x), lambda: net.predict(x)),
        "out=": Case(lambda: net.predict(x, out=out), lambda: out),
    }
