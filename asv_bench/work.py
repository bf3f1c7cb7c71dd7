"""The work that fastnn and its peers are compared on: shapes, data, floating-point operations and the right results."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# (sizes, hidden activation, training batch)
NETWORKS = {
    "4-32-32-1": ((4, 32, 32, 1), "tanh", 32),
    "64-64-10": ((64, 64, 10), "relu", 32),
    "784-256-128-10": ((784, 256, 128, 10), "relu", 128),
    "100-512-256-1": ((100, 512, 256, 1), "relu", 1024),
    "1024-1024-1024-10": ((1024, 1024, 1024, 10), "relu", 256),
}
LINEAR = (
    (1, 4, 32),
    (1, 784, 128),
    (32, 64, 64),
    (128, 784, 256),
    (512, 512, 512),
    (1024, 1024, 1024),
    (4096, 256, 256),
)
# Rows of a small batch that comes to be predicted.
FEW = 8
ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu")
RATES = {"sgd": 1e-3, "adam": 1e-3}


@dataclass(frozen=True)
class Work:
    """One row of the comparison.

    kind: "train" (one update on the mean squared error; `what` is the optimizer), "infer" (forward pass), "linear"
    (f(x @ w + b); sizes k, n) or "activation" (sizes: none).
    """

    kind: str
    what: str
    sizes: tuple
    activation: str
    rows: int
    dtype: str = "float32"

    @property
    def name(self):
        shape = "-".join(map(str, self.sizes))
        if self.kind == "linear":
            shape = "x".join(map(str, (self.rows, *self.sizes)))
            return f"linear+{self.activation} {shape}"
        if self.kind == "activation":
            return f"{self.activation} {self.rows}"
        return f"{self.what} {shape} b{self.rows}" + (" float64" if self.dtype == "float64" else "")

    @property
    def flops(self):
        """Multiplications and additions of the matrix products; 0 for an activation."""
        products = [k * n for k, n in pairwise(self.sizes)]
        if self.kind == "train":
            # Forward and weight gradient of every layer, input gradient of all but the first.
            return 2 * self.rows * (3 * sum(products) - products[0])
        return 2 * self.rows * sum(products)

    @property
    def batches(self):
        """Batches of a training row's data set; an epoch over them is what a peer may run in one call."""
        return 16 if self.flops > 1e7 else 128

    @property
    def group(self):
        if self.kind == "infer":
            return "infer " + {1: "one", FEW: "few"}.get(self.rows, "batch")
        return f"{self.kind} {self.dtype}"


def all_work():
    """The rows, in the order of the table."""
    for dtype in ("float32", "float64"):
        for sizes, activation, batch in NETWORKS.values():
            for optimizer in RATES:
                yield Work("train", optimizer, sizes, activation, batch, dtype)
    for rows in (1, FEW, None):
        for sizes, activation, batch in NETWORKS.values():
            yield Work("infer", "predict", sizes, activation, rows or batch)
    for m, k, n in LINEAR:
        for activation in ("relu", "tanh"):
            yield Work("linear", "linear", (k, n), activation, m)
    for size in (16_384, 1_048_576):
        for activation in ACTIVATIONS:
            yield Work("activation", "forward", (), activation, size)


def data(work):
    """(x, y, weights, biases) of a row, the same in every process."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(work.dtype)
    if work.kind == "activation":
        return 3 * draw(work.rows), None, None, None
    rows = work.rows * (work.batches if work.kind == "train" else 1)
    x, y = draw(rows, work.sizes[0]), draw(rows, work.sizes[-1])
    weights = [draw(k, n) * np.array(k**-0.5, work.dtype) for k, n in pairwise(work.sizes)]
    biases = [0.1 * draw(n) for n in work.sizes[1:]]
    return x, y, weights, [b.astype(work.dtype) for b in biases]


def activations_of(work):
    """The activation of every layer."""
    if work.kind == "linear":
        return [work.activation]
    return [work.activation] * (len(work.sizes) - 2) + ["identity"]


def batches_of(work, x, y):
    """The batches of a training row, views."""
    m = work.rows
    return [(x[i : i + m], y[i : i + m]) for i in range(0, len(x), m)]


def expected(work):
    """The right result in float64: of the forward pass, or the first layer's weights after an epoch."""
    from fastnn.kernels import reference

    x, y, weights, biases = (
        a if a is None else [v.astype(float) for v in a] if isinstance(a, list) else a.astype(float) for a in data(work)
    )
    f = lambda name, z: z if name == "identity" else reference_activation(reference, name, z)
    if work.kind == "activation":
        return f(work.activation, x)
    if work.kind != "train":
        for w, b, name in zip(weights, biases, activations_of(work), strict=True):
            x = f(name, x @ w + b)
        return x
    parameters = [*weights, *biases]
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]
    for t, (a, target) in enumerate(batches_of(work, x, y), 1):
        gradients = _gradients(work, weights, biases, a, target, f)
        for p, g, (m, v) in zip(parameters, gradients, moments, strict=True):
            if work.what == "sgd":
                p -= RATES["sgd"] * g
            else:
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                p -= RATES["adam"] * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return weights[0]


def reference_activation(reference, name, z):
    out = np.empty_like(z)
    getattr(reference, name)(z, out)
    return out


def _gradients(work, weights, biases, x, y, f):
    outputs = [x]
    for w, b, name in zip(weights, biases, activations_of(work), strict=True):
        outputs.append(f(name, outputs[-1] @ w + b))
    delta = 2 * (outputs[-1] - y) / y.size
    dw, db = [], []
    for i in range(len(weights) - 1, -1, -1):
        dw.insert(0, outputs[i].T @ delta)
        db.insert(0, delta.sum(0))
        if i:
            a = outputs[i]
            delta = (delta @ weights[i].T) * ((a > 0) if work.activation == "relu" else 1 - a * a)
    return [*dw, *db]
