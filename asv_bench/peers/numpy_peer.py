"""NumPy as a programmer writes it for speed: matmul into given arrays, everything else in place."""

import numpy as np
from work import RATES, activations_of, batches_of, data

from . import Case


def versions():
    from threadpoolctl import threadpool_info

    return f"numpy {np.__version__} ({', '.join(info.get('architecture', '?') for info in threadpool_info())})"


def activate(name, z):
    """In place."""
    if name == "relu":
        np.maximum(z, 0, out=z)
    elif name == "tanh":
        np.tanh(z, out=z)
    elif name == "sigmoid":
        np.negative(z, out=z)
        np.exp(z, out=z)
        np.add(z, 1, out=z)
        np.reciprocal(z, out=z)


class Network:
    """Forward pass, and updates on the mean squared error, into arrays that are made once."""

    def __init__(self, weights, biases, activations, batch):
        self.weights, self.biases = [w.copy() for w in weights], [b.copy() for b in biases]
        self.activations = activations
        dtype = weights[0].dtype
        self.outputs = [np.empty((batch, w.shape[1]), dtype) for w in weights]
        self.deltas = [np.empty_like(out) for out in self.outputs]
        self.gradients = [np.empty_like(w) for w in weights]
        self.moments = [[np.zeros_like(p) for p in (*weights, *biases)] for _ in range(2)]
        self.scratch = [np.empty_like(p) for p in (*weights, *biases)]
        self.steps = 0

    def forward(self, x):
        for w, b, name, out in zip(self.weights, self.biases, self.activations, self.outputs, strict=True):
            np.matmul(x, w, out=out)
            np.add(out, b, out=out)
            activate(name, out)
            x = out
        return x

    def backward(self, x, y):
        """The gradients of all weights, then of all biases."""
        delta = self.deltas[-1]
        np.subtract(self.forward(x), y, out=delta)
        np.multiply(delta, 2 / delta.size, out=delta)
        sums = []
        for i in range(len(self.weights) - 1, -1, -1):
            source = self.outputs[i - 1] if i else x
            np.matmul(source.T, self.deltas[i], out=self.gradients[i])
            sums.insert(0, self.deltas[i].sum(0))
            if i:
                below, out = self.deltas[i - 1], self.outputs[i - 1]
                np.matmul(self.deltas[i], self.weights[i].T, out=below)
                if self.activations[i - 1] == "relu":
                    np.multiply(below, out > 0, out=below)
                else:
                    np.multiply(out, out, out=out)
                    np.subtract(1, out, out=out)
                    np.multiply(below, out, out=below)
        return [*self.gradients, *sums]

    def sgd(self, x, y, rate):
        for p, g in zip((*self.weights, *self.biases), self.backward(x, y), strict=True):
            np.multiply(g, rate, out=g)
            np.subtract(p, g, out=p)

    def adam(self, x, y, rate, beta1=0.9, beta2=0.999, eps=1e-8):
        self.steps += 1
        t = self.steps
        rate, correction = rate / (1 - beta1**t), (1 - beta2**t) ** -0.5
        parameters = (*self.weights, *self.biases)
        for p, g, m, v, s in zip(parameters, self.backward(x, y), *self.moments, self.scratch, strict=True):
            np.multiply(m, beta1, out=m)
            np.multiply(g, 1 - beta1, out=s)
            np.add(m, s, out=m)
            np.multiply(v, beta2, out=v)
            np.multiply(g, g, out=g)
            np.multiply(g, 1 - beta2, out=g)
            np.add(v, g, out=v)
            np.sqrt(v, out=s)
            np.multiply(s, correction, out=s)
            np.add(s, eps, out=s)
            np.divide(m, s, out=s)
            np.multiply(s, rate, out=s)
            np.subtract(p, s, out=p)


def gelu(x, out):
    from scipy.special import erf

    np.multiply(x, 0.5**0.5, out=out)
    erf(out, out=out)
    np.add(out, 1, out=out)
    np.multiply(out, x, out=out)
    np.multiply(out, 0.5, out=out)


def cases(work):
    x, y, weights, biases = data(work)
    if work.kind == "activation":
        out = np.empty_like(x)
        if work.activation == "gelu":
            call = lambda: gelu(x, out)
        elif work.activation == "relu":
            call = lambda: np.maximum(x, 0, out=out)
        elif work.activation == "tanh":
            call = lambda: np.tanh(x, out=out)
        else:

            def call():
                np.negative(x, out=out)
                np.exp(out, out=out)
                np.add(out, 1, out=out)
                np.reciprocal(out, out=out)

        return {"in place": Case(call, lambda: out)}
    net = Network(weights, biases, activations_of(work), work.rows)
    if work.kind != "train":
        return {"in place": Case(lambda: net.forward(x), lambda: net.forward(x))}
    batches = batches_of(work, x, y)
    update = getattr(net, work.what)

    def epoch():
        for a, b in batches:
            update(a, b, RATES[work.what])

    return {"in place": Case(epoch, lambda: net.weights[0].copy(), len(batches))}
