"""Every public kernel once: tests, benchmarks and `fastnn check` iterate over this list.

A row holds the kernel's name (that of its reference twin), a maker of inputs for a shape and dtype, the shapes to try,
the shape to time, a tolerance and its floating-point operations or bytes.

Tolerances are bounds on the rounding error, worked out from the inputs themselves:

    a sum of k products     (k + 2) eps sum of |a_i b_i|, the worst case of a chain of fused multiply-adds, then
                            through f, whose slope is at most 1.13, plus its own error
    an elementary function  a number of ULP of the result
"""

from collections import namedtuple
from itertools import pairwise

import numpy as np

from . import reference
from .codes import NEEDS_PRE_ACTIVATION, ROW_WISE, Activation, EstimatorLoss, Loss, Normalization, Optimizer
from .layout import workspace_size
from .network import make_table
from .normalization import EPS as NORMALIZATION_EPS
from .optimizer import EPS_HAT, HYPER_SIZE
from .table import IN, NORMALIZATION, OUT, SCALE, STANDARDIZED, STATISTICS, WEIGHT, statistics_count

# inputs(shape, dtype, rng) -> dict of arguments in order; outputs: names of those that the kernel fills or changes;
# bound(inputs, expected) -> dict of absolute error bounds of outputs (and "return");
# work(shape) -> (floating-point operations, elements moved), one of them None
Row = namedtuple("Row", "name inputs outputs bound shapes timed work unit")

# Around the register tile (6 rows; 64, 32 or 16 columns), the blocks (96 rows, 256 inner) and the vector widths.
EDGES = (1, 2, 5, 6, 7, 15, 16, 17, 31, 33, 64, 65, 97)
PRODUCT_SHAPES = (
    *((m, k, n) for m in (1, 5, 6, 7, 13, 97) for k in (1, 2, 17) for n in (1, 7, 16, 17, 33, 65)),
    (3, 257, 129),
    (25, 300, 130),
    (200, 513, 70),
    (1, 784, 10),
    # One row wider than a tile, one column of many rows, and more rows of a than a block.
    (1, 77, 131),
    (1, 1, 300),
    (300, 300, 1),
    (30, 700, 513),
)
SPANS = tuple((n,) for n in (0, *EDGES, 1023, 1024, 1025, 5000))
ROWS = (*((m, n) for m in (1, 2, 7) for n in (1, 2, 10, 15, 16, 17, 33, 100)), (20_000, 3))

# How many ULP of the result an activation may be off.
ULP = 4


def _eps(dtype):
    return float(np.finfo(dtype).eps)


def _relative(expected, dtype, ulp):
    """ulp units in the last place of the result, and as many of the smallest normal number's."""
    tiny = float(np.finfo(dtype).smallest_subnormal)
    with np.errstate(invalid="ignore"):
        return ulp * (_eps(dtype) * np.abs(expected) + tiny)


def _sample(rng, shape, dtype, scale=1.0):
    return (rng.standard_normal(shape) * scale).astype(dtype)


def _activation_rows():
    for code in Activation:
        name = code.name.lower()
        shapes = ROWS if code in ROW_WISE else SPANS
        timed = (512, 128) if code in ROW_WISE else (65536,)

        def forward(shape, dtype, rng):
            x = _sample(rng, shape, dtype, 4.0)
            return {"x": x, "out": np.full(shape, np.nan, dtype)}

        def forward_bound(inputs, expected, code=code):
            x, out = inputs["x"], expected["out"]
            if code == Activation.LOG_SOFTMAX:
                # A difference of numbers as large as its input.
                out = np.abs(x).max(initial=0) + 10
            ulp = ULP
            if code == Activation.SOFTMAX:
                # The exponential amplifies the rounding of its argument, x - max(x), by the size of that.
                ulp = ULP + x.shape[-1] + (x.max(axis=-1, keepdims=True, initial=-np.inf) - x)
            elif code == Activation.LOG_SOFTMAX:
                ulp = ULP + x.shape[-1]
            elif code in (Activation.GELU, Activation.GELU_TANH):
                # Their tails are exponentials of about x^2: the rounding of the exponent is amplified by its size.
                ulp = ULP * (1 + np.square(x.astype(float)))
            return {"out": _relative(out, x.dtype, ulp)}

        def backward(shape, dtype, rng, code=code):
            x = _sample(rng, shape, dtype, 2.0)
            saved = x
            if code not in NEEDS_PRE_ACTIVATION:
                saved = np.empty_like(x)
                getattr(reference, code.name.lower())(x, saved)
            return {"dy": _sample(rng, shape, dtype), "saved": saved, "out": np.full(shape, np.nan, dtype)}

        def backward_bound(inputs, expected, code=code):
            # f' is a difference of terms of at most this size: 1 + |z| where it is z f'(z), 2 for selu.
            size = np.abs(inputs["dy"]) * (1.0 + np.abs(inputs["saved"]))
            if code in ROW_WISE:
                size = np.abs(inputs["dy"]) + np.abs(inputs["dy"]).sum(-1, keepdims=True)
            return {"out": _relative(size, inputs["dy"].dtype, 8)}

        elements = lambda shape: (None, 2 * int(np.prod(shape)))
        moved = lambda shape: (None, 3 * int(np.prod(shape)))
        yield Row(name, forward, ("out",), forward_bound, shapes, timed, elements, "GB/s")
        yield Row(f"{name}_backward", backward, ("out",), backward_bound, shapes, timed, moved, "GB/s")


def _chain(a, b, k, dtype):
    """Bound on the error of sums of k products."""
    return (k + 2) * _eps(dtype) * (np.abs(a).astype(float) @ np.abs(b).astype(float))


def _linear_rows():
    flops = lambda shape: (2 * shape[0] * shape[1] * shape[2], None)
    timed = (512, 512, 512)

    def linear(shape, dtype, rng, activation=Activation.IDENTITY):
        m, k, n = shape
        weight = _sample(rng, (k, n), dtype, k**-0.5)
        return {
            "x": _sample(rng, (m, k), dtype),
            "weight": weight,
            "bias": _sample(rng, n, dtype),
            "activation": int(activation),
            "out": np.full((m, n), np.nan, dtype),
        }

    def linear_bound(inputs, expected):
        x, weight, bias, dtype = inputs["x"], inputs["weight"], inputs["bias"], inputs["out"].dtype
        k = x.shape[1]
        # A sum begins with the bias, so each of its steps may round a number of that size.
        chain = _chain(x, weight, k, dtype) + (k + 2) * _eps(dtype) * np.abs(bias)
        return {"out": 1.13 * chain + _relative(expected["out"], dtype, ULP)}

    yield Row("linear", linear, ("out",), linear_bound, PRODUCT_SHAPES, timed, flops, "GFLOP/s")

    def backward_input(shape, dtype, rng):
        m, k, n = shape
        dz, weight = _sample(rng, (m, n), dtype), _sample(rng, (k, n), dtype, n**-0.5)
        return {"dz": dz, "weight": weight, "out": np.full((m, k), np.nan, dtype)}

    def backward_input_bound(inputs, expected):
        dz, weight = inputs["dz"], inputs["weight"]
        return {"out": _chain(dz, weight.T, dz.shape[1], dz.dtype)}

    yield Row(
        "linear_backward_input", backward_input, ("out",), backward_input_bound, PRODUCT_SHAPES, timed, flops, "GFLOP/s"
    )

    def backward_parameters(shape, dtype, rng):
        m, k, n = shape
        return {
            "x": _sample(rng, (m, k), dtype),
            "dz": _sample(rng, (m, n), dtype, max(m, 1) ** -0.5),
            "dweight": np.full((k, n), np.nan, dtype),
            "dbias": np.full(n, np.nan, dtype),
        }

    def gradient_bound(x, dz):
        ones = np.ones((1, len(dz)))
        return _chain(x.T, dz, len(dz), dz.dtype), _chain(ones, dz, len(dz), dz.dtype)[0]

    def backward_parameters_bound(inputs, expected):
        return dict(zip(("dweight", "dbias"), gradient_bound(inputs["x"], inputs["dz"]), strict=True))

    yield Row(
        "linear_backward_parameters",
        backward_parameters,
        ("dweight", "dbias"),
        backward_parameters_bound,
        PRODUCT_SHAPES,
        timed,
        flops,
        "GFLOP/s",
    )

    def outer_update(shape, dtype, rng):
        m, k, n = shape
        return {
            "x": _sample(rng, (m, k), dtype),
            "dz": _sample(rng, (m, n), dtype, max(m, 1) ** -0.5),
            "learning_rate": 0.125,
            "weight": _sample(rng, (k, n), dtype),
            "bias": _sample(rng, n, dtype),
        }

    def outer_update_bound(inputs, expected):
        dtype = inputs["weight"].dtype
        dweight, dbias = gradient_bound(inputs["x"], inputs["dz"])
        rate = inputs["learning_rate"]
        return {
            "weight": rate * dweight + _relative(expected["weight"], dtype, 2),
            "bias": rate * dbias + _relative(expected["bias"], dtype, 2),
        }

    yield Row(
        "outer_update", outer_update, ("weight", "bias"), outer_update_bound, PRODUCT_SHAPES, timed, flops, "GFLOP/s"
    )


def _loss_rows():
    for code in (*Loss, *EstimatorLoss):

        def inputs(shape, dtype, rng, code=code):
            m, n = shape
            target = _sample(rng, shape, dtype)
            if code in (Loss.BINARY_CROSS_ENTROPY, Loss.POISSON, EstimatorLoss.HALF_POISSON_DEVIANCE):
                target = rng.random(shape).astype(dtype)
            if code == EstimatorLoss.BINARY_LOG_LOSS:
                target = rng.integers(0, 2, shape).astype(dtype)
            if code == EstimatorLoss.LOG_LOSS:
                target = rng.integers(0, n, (m, 1)).astype(dtype)
            if code == Loss.SOFTMAX_CROSS_ENTROPY:
                target = rng.integers(0, n, (m, 1)).astype(dtype)
                if m % 2:
                    target = rng.dirichlet(np.ones(n), m).astype(dtype)
            # Numbers of few bits: kernel and reference then agree to the last bit on where huber's tails begin.
            parameter = {Loss.HUBER: {"delta": (1.0, 0.375)[m % 2]}, Loss.QUANTILE: {"q": (0.5, 0.875)[m % 2]}}
            if m == 7:
                parameter[Loss.QUANTILE] = {"q": np.arange(1.0, n + 1) / (n + 1)}
            return {
                "prediction": _sample(rng, shape, dtype, 3.0),
                "target": target,
                "sample_weight": rng.random(m).astype(dtype) if n % 2 else np.empty(0, dtype),
                "gradient": np.full(shape, np.nan, dtype),
                **parameter.get(code, {}),
            }

        def bound(inputs, expected, code=code):
            p, t, dtype = inputs["prediction"].astype(float), inputs["target"].astype(float), inputs["gradient"].dtype
            # Terms are formed from p, t and exp(p) to a few ULP; their mean and every gradient inherit that.
            size = np.square(np.abs(p).max() + np.abs(t).max() + 1)
            if code in (Loss.POISSON, EstimatorLoss.HALF_POISSON_DEVIANCE):
                size = np.exp(p).max() + size
            if code == EstimatorLoss.BINARY_LOG_LOSS:
                # 1 - q is off by eps, its logarithm by eps / (1 - q) <= eps (1 + exp(p)).
                size = 1 + np.exp(np.abs(p)).max()
            if code in EstimatorLoss:
                size *= p.shape[1]
            return {
                "gradient": _relative(np.abs(expected["gradient"]) + size / len(p), dtype, 8),
                "return": 8 * _eps(dtype) * size,
            }

        moved = lambda shape: (None, 3 * shape[0] * shape[1])
        yield Row(code.name.lower(), inputs, ("gradient",), bound, ROWS, (4096, 16), moved, "GB/s")


def hyper_parameters(code):
    """A set of hyper-parameters in which every term of the optimiser counts."""
    hyper = np.zeros(HYPER_SIZE)
    hyper[:5] = 0.01, 0.9, 0.99, 1e-8, 0.1
    hyper[5] = float(code == Optimizer.SGD)
    return hyper


def _optimizer_rows():
    for code in Optimizer:

        def inputs(shape, dtype, rng, code=code):
            state = np.abs(_sample(rng, shape, dtype))
            hyper = hyper_parameters(code)
            hyper[EPS_HAT] = shape[0] % 2
            return {
                "parameters": _sample(rng, shape, dtype),
                "gradient": _sample(rng, shape, dtype),
                "state1": state,
                "state2": state.copy(),
                "step": 3,
                "hyper": hyper,
            }

        def bound(inputs, expected):
            dtype = inputs["parameters"].dtype
            size = 1 + np.abs(inputs["parameters"]) + np.abs(inputs["gradient"]) + inputs["state1"]
            limit = _relative(size * size, dtype, 8)
            return {"parameters": limit, "state1": limit, "state2": limit}

        moved = lambda shape: (None, 7 * shape[0])
        outputs = ("parameters", "state1", "state2")
        yield Row(code.name.lower(), inputs, outputs, bound, SPANS[1:], (65536,), moved, "GB/s")

    def gradient(shape, dtype, rng):
        return {"gradient": _sample(rng, shape, dtype), "limit": 0.5}

    def clip_bound(inputs, expected):
        dtype = inputs["gradient"].dtype
        return {"gradient": _relative(expected["gradient"], dtype, 4), "return": 1e-12 * (1 + inputs["gradient"].size)}

    moved = lambda shape: (None, 2 * shape[0])
    for name in ("clip_by_value", "clip_by_norm"):
        yield Row(name, gradient, ("gradient",), clip_bound, SPANS[1:], (65536,), moved, "GB/s")


def _regular_rows():
    """Dropout and normalisation of a batch."""

    def dropout(shape, dtype, rng):
        x = _sample(rng, shape, dtype)
        number = 0x1234_5678_9ABC_DEF0 + x.size
        return {"x": x, "rate": 0.3, "seed": number, "update": 7 + 2**33, "layer": shape[1], "out": np.empty_like(x)}

    def dropout_bound(inputs, expected):
        return {"out": _relative(expected["out"], inputs["x"].dtype, 2)}

    moved = lambda shape: (None, 2 * shape[0] * shape[1])
    yield Row("dropout", dropout, ("out",), dropout_bound, ROWS, (512, 128), moved, "GB/s")

    def forward(shape, dtype, rng, running):
        n = shape[1]
        x = _sample(rng, shape, dtype) * _sample(rng, n, dtype) + 3 * _sample(rng, n, dtype)
        inputs = {"x": x, "scale": _sample(rng, n, dtype), "shift": _sample(rng, n, dtype)}
        if running:
            variance = np.abs(_sample(rng, n, dtype)) + dtype(0.1)
            inputs |= {"running_mean": _sample(rng, n, dtype), "running_variance": variance}
        return inputs | {"out": np.full(shape, np.nan, dtype)}

    def backward(shape, dtype, rng):
        inputs = forward(shape, dtype, rng, False)
        results = {name: np.full(shape[1], np.nan, dtype) for name in ("dscale", "dshift")}
        dx = np.full(shape, np.nan, dtype)
        return {"dy": _sample(rng, shape, dtype), "x": inputs["x"], "scale": inputs["scale"], "dx": dx, **results}

    def steepness(inputs, axis):
        """(error of x^, of size at most sqrt(count); 1 / sqrt(variance + eps)) over an axis, or by running averages.

        x - mean is off by some roundings of x and its mean, and the root of its square's mean magnifies that error.
        """
        x = inputs["x"].astype(float)
        variance = x.var(axis, keepdims=True) if axis is not None else inputs["running_variance"].astype(float)
        factor = 1 / np.sqrt(variance + NORMALIZATION_EPS)
        largest = np.abs(x).max(axis or 0, keepdims=True)
        if axis is None:
            largest = largest + np.abs(inputs["running_mean"])
            return 4 * _eps(x_dtype(inputs)) * (1 + largest) * factor, factor
        count = x.shape[axis]
        return 4 * _eps(x_dtype(inputs)) * (1 + largest * factor) * np.sqrt(count), factor

    x_dtype = lambda inputs: inputs["x"].dtype

    def forward_bound(inputs, expected, axis):
        error, _ = steepness(inputs, axis)
        limit = np.abs(inputs["scale"]) * error + _relative(expected["out"], x_dtype(inputs), 4)
        limit = limit + 4 * _eps(x_dtype(inputs)) * np.abs(inputs["shift"])
        size = 1 + np.square(inputs["x"].astype(float)).max()
        averages = 8 * _eps(x_dtype(inputs)) * (size + np.abs(inputs.get("running_variance", 0)))
        return {"out": limit, "running_mean": averages, "running_variance": averages}

    def backward_bound(inputs, expected, axis):
        error, factor = steepness(inputs, axis)
        d = np.abs(inputs["dy"].astype(float) * inputs["scale"])
        count = inputs["x"].shape[axis]
        # Of d - mean(d) - x^ mean(d x^), in which x^ is at most sqrt(count).
        size = (d + d.mean(axis, keepdims=True)) * (8 * _eps(x_dtype(inputs)) * count + 2 * np.sqrt(count) * error)
        sums = np.abs(inputs["dy"].astype(float)).sum(axis=0)
        errors = (np.abs(inputs["dy"].astype(float)) * (error + 4 * _eps(x_dtype(inputs)) * np.sqrt(count))).sum(axis=0)
        dshift = _relative(expected["dshift"], x_dtype(inputs), 4) + 4 * _eps(x_dtype(inputs)) * sums
        return {"dx": factor * size, "dscale": errors, "dshift": dshift}

    for name, axis in (("layer_norm", 1), ("batch_norm", 0)):
        shapes = ROWS if axis == 1 else [shape for shape in ROWS if shape[0] > 1]
        outputs = ("out", "running_mean", "running_variance") if axis == 0 else ("out",)
        yield Row(
            name,
            lambda *what, running=axis == 0: forward(*what, running),
            outputs,
            lambda inputs, expected, axis=axis: forward_bound(inputs, expected, axis),
            shapes,
            (512, 128),
            moved,
            "GB/s",
        )
        yield Row(
            f"{name}_backward",
            backward,
            ("dx", "dscale", "dshift"),
            lambda inputs, expected, axis=axis: backward_bound(inputs, expected, axis),
            shapes,
            (512, 128),
            lambda shape: (None, 3 * shape[0] * shape[1]),
            "GB/s",
        )
    yield Row(
        "batch_norm_running",
        lambda *what: forward(*what, True),
        ("out",),
        lambda inputs, expected: forward_bound(inputs, expected, None),
        ROWS,
        (512, 128),
        moved,
        "GB/s",
    )


def _standardization_rows():
    def features(shape, dtype, rng):
        """Columns of all means and deviations, also of none."""
        x = _sample(rng, shape, dtype) * 10.0 ** rng.integers(-3, 4, shape[1]) + _sample(rng, shape[1], dtype, 30.0)
        x[:, 1::3] = x[0, 1::3]
        return x.astype(dtype)

    def forward(shape, dtype, rng):
        scale = (0.1 + rng.random(shape[1])).astype(dtype)
        mean = _sample(rng, shape[1], dtype, 30.0)
        return {"x": features(shape, dtype, rng), "mean": mean, "scale": scale, "out": np.full(shape, np.nan, dtype)}

    def backward(shape, dtype, rng):
        scale = (0.1 + rng.random(shape[1])).astype(dtype)
        return {"dy": _sample(rng, shape, dtype), "scale": scale, "out": np.full(shape, np.nan, dtype)}

    def two_roundings(inputs, expected):
        return {"out": _relative(expected["out"], inputs["out"].dtype, 2)}

    def learned(shape, dtype, rng):
        weight = rng.random(shape[0]).astype(dtype) if shape[1] % 2 else np.empty(0, dtype)
        results = {name: np.full(shape[1], np.nan, dtype) for name in ("mean", "scale")}
        x = features(shape, dtype, rng)
        x[-1, ::5] = np.nan
        return {"x": x, "sample_weight": weight, **results}

    def learned_bound(inputs, expected):
        x, dtype = inputs["x"].astype(float), inputs["x"].dtype
        largest = np.abs(np.where(np.isfinite(x), x, 0)).max(axis=0)
        # NumPy's sums of the reference: a rounding for each row at worst, of numbers of at most this size.
        error = (len(x) + 4) * _eps(np.float64) * largest
        return {
            "mean": error + _relative(expected["mean"], dtype, 1),
            "scale": 2 * error + _relative(expected["scale"], dtype, 1),
        }

    moved = lambda shape: (None, 2 * shape[0] * shape[1])
    read = lambda shape: (None, 3 * shape[0] * shape[1])
    yield Row("standardize", forward, ("out",), two_roundings, ROWS, (4096, 64), moved, "GB/s")
    yield Row("standardize_backward", backward, ("out",), two_roundings, ROWS, (4096, 64), moved, "GB/s")
    yield Row("standardization", learned, ("mean", "scale"), learned_bound, ROWS, (4096, 64), read, "GB/s")


def _network_rows():
    def network(shape, dtype, rng):
        rows, *sizes = shape
        activations = [*[Activation.TANH, Activation.GELU, Activation.RELU][: len(sizes) - 2], Activation.IDENTITY]
        table, _ = make_table(sizes, activations)
        parameters = np.concatenate([_sample(rng, k * n + n, dtype, (k + 1) ** -0.5) for k, n in pairwise(sizes)])
        workspace = np.full(max(workspace_size(table, parameters, rows, 2)), np.nan, dtype)
        return {"table": table, "parameters": parameters, "x": _sample(rng, (rows, sizes[0]), dtype)}, workspace

    def forward(shape, dtype, rng):
        inputs, workspace = network(shape, dtype, rng)
        return {**inputs, "out": np.full((shape[0], shape[-1]), np.nan, dtype), "workspace": workspace}

    def bound(inputs, expected, name):
        # Layers of unit gain: each adds the error of its own sums, of numbers of size 1 in k terms.
        table, dtype = inputs["table"], inputs["parameters"].dtype
        return {name: 4 * _eps(dtype) * float(table[:, 0].sum() + 8) * (1 + np.abs(expected[name]))}

    def loss_and_gradient(shape, dtype, rng):
        inputs, workspace = network(shape, dtype, rng)
        return {
            **inputs,
            "y": _sample(rng, (shape[0], shape[-1]), dtype),
            "sample_weight": np.empty(0, dtype),
            "loss": int(Loss.MSE),
            "gradient": np.full_like(inputs["parameters"], np.nan),
            "workspace": workspace,
        }

    def gradient_bound(inputs, expected):
        limit = bound(inputs, expected, "gradient")
        return {**limit, "return": float(np.max(limit["gradient"]))}

    multiply_adds = lambda shape: sum(k * n + n for k, n in pairwise(shape[1:])) * shape[0]
    shapes = ((1, 3, 1), (5, 4, 32, 32, 1), (33, 64, 64, 10), (130, 70, 33, 65, 17), (257, 20, 100, 3))
    timed = (128, 784, 256, 128, 10)
    yield Row(
        "forward",
        forward,
        ("out",),
        lambda inputs, expected: bound(inputs, expected, "out"),
        shapes,
        timed,
        lambda shape: (2 * multiply_adds(shape), None),
        "GFLOP/s",
    )
    yield Row(
        "loss_and_gradient",
        loss_and_gradient,
        ("gradient",),
        gradient_bound,
        shapes,
        timed,
        lambda shape: (6 * multiply_adds(shape) - 2 * shape[0] * shape[1] * shape[2], None),
        "GFLOP/s",
    )

    def normalized(shape, dtype, rng):
        """As `network`, layers normalised over the batch, over rows and not at all, in turn from the first."""
        rows, *sizes = shape
        layers = len(sizes) - 1
        activations = [*[Activation.TANH, Activation.GELU, Activation.RELU][: layers - 1], Activation.IDENTITY]
        codes = [(Normalization.BATCH, Normalization.LAYER, 0)[i % 3] for i in range(layers)]
        # Those of an odd number of inputs have them standardised too.
        table, count = make_table(sizes, activations, codes, standardizes=sizes[0] % 2 == 1)
        parameters, statistics = np.empty(count, dtype), _sample(rng, statistics_count(table), dtype)
        for k, n, at, at_scale, at_mean, code in table[:, (IN, OUT, WEIGHT, SCALE, STATISTICS, NORMALIZATION)].tolist():
            parameters[at : at + k * n + n] = _sample(rng, k * n + n, dtype, (k + 1) ** -0.5)
            if code:
                parameters[at_scale : at_scale + 2 * n] = 0.5 + rng.random(2 * n)
            if code == Normalization.BATCH:
                statistics[at_mean + n : at_mean + 2 * n] = 0.5 + rng.random(n)
        statistics[statistics.size - table[0, STANDARDIZED] :] = 0.5 + rng.random(table[0, STANDARDIZED])
        workspace = np.full(max(workspace_size(table, parameters, rows, 2)), np.nan, dtype)
        x = _sample(rng, (rows, sizes[0]), dtype)
        return {"table": table, "parameters": parameters, "statistics": statistics, "x": x}, workspace

    def normalized_forward(shape, dtype, rng):
        inputs, workspace = normalized(shape, dtype, rng)
        return {**inputs, "out": np.full((shape[0], shape[-1]), np.nan, dtype), "workspace": workspace}

    def normalized_gradient(shape, dtype, rng):
        inputs, workspace = normalized(shape, dtype, rng)
        del inputs["statistics"]
        return {
            **inputs,
            "y": _sample(rng, (shape[0], shape[-1]), dtype),
            "sample_weight": np.empty(0, dtype),
            "loss": int(Loss.MSE),
            "gradient": np.full_like(inputs["parameters"], np.nan),
            "workspace": workspace,
        }

    yield Row(
        "normalized_forward",
        normalized_forward,
        ("out",),
        lambda inputs, expected: bound(inputs, expected, "out"),
        shapes,
        timed,
        lambda shape: (2 * multiply_adds(shape), None),
        "GFLOP/s",
    )
    yield Row(
        "normalized_loss_and_gradient",
        normalized_gradient,
        ("gradient",),
        gradient_bound,
        [shape for shape in shapes if shape[0] > 1],
        timed,
        lambda shape: (6 * multiply_adds(shape) - 2 * shape[0] * shape[1] * shape[2], None),
        "GFLOP/s",
    )


CATALOG = (
    *_linear_rows(),
    *_activation_rows(),
    *_loss_rows(),
    *_optimizer_rows(),
    *_regular_rows(),
    *_standardization_rows(),
    *_network_rows(),
)
