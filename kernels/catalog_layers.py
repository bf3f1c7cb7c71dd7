"""The catalog's rows of what layers are made of: activations, products, dropout, normalization, standardization."""

import numpy as np

from . import reference
from .catalog_row import PRODUCT_SHAPES, ROWS, SPANS, ULP, Row, eps, sample, sum_bound, ulp_bound
from .codes import NEEDS_PRE_ACTIVATION, ROW_WISE, Activation
from .normalization import EPS as NORMALIZATION_EPS

# The largest slopes of the activations that are steeper than gelu, whose slope reaches 1.13.
STEEP = {Activation.SELU: 1.76, Activation.HARDSWISH: 1.5}


def activation_rows():
    for code in Activation:
        name = code.name.lower()
        shapes = ROWS if code in ROW_WISE else SPANS
        timed = (512, 128) if code in ROW_WISE else (65536,)

        def forward(shape, dtype, rng):
            x = sample(rng, shape, dtype, 4.0)
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
            return {"out": ulp_bound(out, x.dtype, ulp)}

        def backward(shape, dtype, rng, code=code):
            x = sample(rng, shape, dtype, 2.0)
            saved = x
            if code not in NEEDS_PRE_ACTIVATION:
                saved = np.empty_like(x)
                getattr(reference, code.name.lower())(x, saved)
            return {"dy": sample(rng, shape, dtype), "saved": saved, "out": np.full(shape, np.nan, dtype)}

        def backward_bound(inputs, expected, code=code):
            # f' is a difference of terms of at most this size: 1 + |z| where it is z f'(z), 2 for selu.
            size = np.abs(inputs["dy"]) * (1.0 + np.abs(inputs["saved"]))
            if code in ROW_WISE:
                size = np.abs(inputs["dy"]) + np.abs(inputs["dy"]).sum(-1, keepdims=True)
            return {"out": ulp_bound(size, inputs["dy"].dtype, 8)}

        elements = lambda shape: (None, 2 * int(np.prod(shape)))
        # The identity's needs nothing saved.
        arrays = 2 if code == Activation.IDENTITY else 3
        moved = lambda shape, arrays=arrays: (None, arrays * int(np.prod(shape)))
        yield Row(name, forward, ("out",), forward_bound, shapes, timed, elements, "GB/s")
        yield Row(f"{name}_backward", backward, ("out",), backward_bound, shapes, timed, moved, "GB/s")


def linear_rows():
    flops = lambda shape: (2 * shape[0] * shape[1] * shape[2], None)
    timed = (512, 512, 512)

    def linear(shape, dtype, rng, activation=Activation.IDENTITY):
        m, k, n = shape
        weight = sample(rng, (k, n), dtype, k**-0.5)
        return {
            "x": sample(rng, (m, k), dtype),
            "weight": weight,
            "bias": sample(rng, n, dtype),
            "activation": int(activation),
            "out": np.full((m, n), np.nan, dtype),
        }

    def linear_bound(inputs, expected):
        x, weight, bias, dtype = inputs["x"], inputs["weight"], inputs["bias"], inputs["out"].dtype
        k = x.shape[1]
        # A sum begins with the bias, so each of its steps may round a number of that size.
        of_sum = sum_bound(x, weight, k, dtype) + (k + 2) * eps(dtype) * np.abs(bias)
        out, ulp = expected["out"], ULP
        if inputs["activation"] in ROW_WISE:
            # What a row's largest error does to all its results comes on top; softmax halves both.
            of_sum = of_sum + of_sum.max(axis=-1, keepdims=True, initial=0)
        if inputs["activation"] == Activation.LOG_SOFTMAX:
            # A difference of numbers as large as the sums are.
            size = np.abs(x).astype(float) @ np.abs(weight) + np.abs(bias)
            out, ulp = size.max(axis=-1, keepdims=True, initial=0) + 10, ULP + weight.shape[1]
        slope = STEEP.get(inputs["activation"], 1.13)
        return {"out": slope * of_sum + ulp_bound(out, dtype, ulp)}

    yield Row("linear", linear, ("out",), linear_bound, PRODUCT_SHAPES, timed, flops, "GFLOP/s")

    def backward_input(shape, dtype, rng):
        m, k, n = shape
        dz, weight = sample(rng, (m, n), dtype), sample(rng, (k, n), dtype, n**-0.5)
        return {"dz": dz, "weight": weight, "out": np.full((m, k), np.nan, dtype)}

    def backward_input_bound(inputs, expected):
        dz, weight = inputs["dz"], inputs["weight"]
        return {"out": sum_bound(dz, weight.T, dz.shape[1], dz.dtype)}

    yield Row(
        "linear_backward_input", backward_input, ("out",), backward_input_bound, PRODUCT_SHAPES, timed, flops, "GFLOP/s"
    )

    def backward_parameters(shape, dtype, rng):
        m, k, n = shape
        return {
            "x": sample(rng, (m, k), dtype),
            "dz": sample(rng, (m, n), dtype, max(m, 1) ** -0.5),
            "dweight": np.full((k, n), np.nan, dtype),
            "dbias": np.full(n, np.nan, dtype),
        }

    def gradient_bound(x, dz):
        ones = np.ones((1, len(dz)))
        return sum_bound(x.T, dz, len(dz), dz.dtype), sum_bound(ones, dz, len(dz), dz.dtype)[0]

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
            "x": sample(rng, (m, k), dtype),
            "dz": sample(rng, (m, n), dtype, max(m, 1) ** -0.5),
            "learning_rate": 0.125,
            "weight": sample(rng, (k, n), dtype),
            "bias": sample(rng, n, dtype),
        }

    def outer_update_bound(inputs, expected):
        dtype = inputs["weight"].dtype
        dweight, dbias = gradient_bound(inputs["x"], inputs["dz"])
        rate = inputs["learning_rate"]
        return {
            "weight": rate * dweight + ulp_bound(expected["weight"], dtype, 2),
            "bias": rate * dbias + ulp_bound(expected["bias"], dtype, 2),
        }

    yield Row(
        "outer_update", outer_update, ("weight", "bias"), outer_update_bound, PRODUCT_SHAPES, timed, flops, "GFLOP/s"
    )


def regularization_rows():
    """Dropout and normalization of a batch."""

    def dropout(shape, dtype, rng):
        x = sample(rng, shape, dtype)
        number = 0x1234_5678_9ABC_DEF0 + x.size
        return {"x": x, "rate": 0.3, "seed": number, "update": 7 + 2**33, "layer": shape[1], "out": np.empty_like(x)}

    def dropout_bound(inputs, expected):
        return {"out": ulp_bound(expected["out"], inputs["x"].dtype, 2)}

    moved = lambda shape: (None, 2 * shape[0] * shape[1])
    yield Row("dropout", dropout, ("out",), dropout_bound, ROWS, (512, 128), moved, "GB/s")

    def forward(shape, dtype, rng, running):
        n = shape[1]
        x = sample(rng, shape, dtype) * sample(rng, n, dtype) + 3 * sample(rng, n, dtype)
        inputs = {"x": x, "scale": sample(rng, n, dtype), "shift": sample(rng, n, dtype)}
        if running:
            variance = np.abs(sample(rng, n, dtype)) + dtype(0.1)
            inputs |= {"running_mean": sample(rng, n, dtype), "running_variance": variance}
        return inputs | {"out": np.full(shape, np.nan, dtype)}

    def backward(shape, dtype, rng):
        inputs = forward(shape, dtype, rng, False)
        results = {name: np.full(shape[1], np.nan, dtype) for name in ("dscale", "dshift")}
        dx = np.full(shape, np.nan, dtype)
        return {"dy": sample(rng, shape, dtype), "x": inputs["x"], "scale": inputs["scale"], "dx": dx, **results}

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
            return 4 * eps(x_dtype(inputs)) * (1 + largest) * factor, factor
        count = x.shape[axis]
        return 4 * eps(x_dtype(inputs)) * (1 + largest * factor) * np.sqrt(count), factor

    x_dtype = lambda inputs: inputs["x"].dtype

    def forward_bound(inputs, expected, axis):
        error, _ = steepness(inputs, axis)
        limit = np.abs(inputs["scale"]) * error + ulp_bound(expected["out"], x_dtype(inputs), 4)
        limit = limit + 4 * eps(x_dtype(inputs)) * np.abs(inputs["shift"])
        size = 1 + np.square(inputs["x"].astype(float)).max()
        averages = 8 * eps(x_dtype(inputs)) * (size + np.abs(inputs.get("running_variance", 0)))
        return {"out": limit, "running_mean": averages, "running_variance": averages}

    def backward_bound(inputs, expected, axis):
        error, factor = steepness(inputs, axis)
        d = np.abs(inputs["dy"].astype(float) * inputs["scale"])
        count = inputs["x"].shape[axis]
        # Of d - mean(d) - x^ mean(d x^), in which x^ is at most sqrt(count).
        size = (d + d.mean(axis, keepdims=True)) * (8 * eps(x_dtype(inputs)) * count + 2 * np.sqrt(count) * error)
        sums = np.abs(inputs["dy"].astype(float)).sum(axis=0)
        errors = (np.abs(inputs["dy"].astype(float)) * (error + 4 * eps(x_dtype(inputs)) * np.sqrt(count))).sum(axis=0)
        dshift = ulp_bound(expected["dshift"], x_dtype(inputs), 4) + 4 * eps(x_dtype(inputs)) * sums
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


def standardization_rows():
    def features(shape, dtype, rng):
        """Columns of all means and deviations, also of none."""
        x = sample(rng, shape, dtype) * 10.0 ** rng.integers(-3, 4, shape[1]) + sample(rng, shape[1], dtype, 30.0)
        x[:, 1::3] = x[0, 1::3]
        return x.astype(dtype)

    def forward(shape, dtype, rng):
        scale = (0.1 + rng.random(shape[1])).astype(dtype)
        mean = sample(rng, shape[1], dtype, 30.0)
        return {"x": features(shape, dtype, rng), "mean": mean, "scale": scale, "out": np.full(shape, np.nan, dtype)}

    def backward(shape, dtype, rng):
        scale = (0.1 + rng.random(shape[1])).astype(dtype)
        return {"dy": sample(rng, shape, dtype), "scale": scale, "out": np.full(shape, np.nan, dtype)}

    def two_roundings(inputs, expected):
        return {"out": ulp_bound(expected["out"], inputs["out"].dtype, 2)}

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
        error = (len(x) + 4) * eps(np.float64) * largest
        return {
            "mean": error + ulp_bound(expected["mean"], dtype, 1),
            "scale": 2 * error + ulp_bound(expected["scale"], dtype, 1),
        }

    moved = lambda shape: (None, 2 * shape[0] * shape[1])
    read = lambda shape: (None, 3 * shape[0] * shape[1])
    yield Row("standardize", forward, ("out",), two_roundings, ROWS, (4096, 64), moved, "GB/s")
    yield Row("standardize_backward", backward, ("out",), two_roundings, ROWS, (4096, 64), moved, "GB/s")
    yield Row("standardization", learned, ("mean", "scale"), learned_bound, ROWS, (4096, 64), read, "GB/s")
