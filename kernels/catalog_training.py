"""The catalog's rows of losses, optimizers and clipping."""

import numpy as np

from .catalog_row import ROWS, SPANS, Row, eps, sample, ulp_bound
from .codes import EstimatorLoss, Loss, Optimizer
from .optimizer import CLIP_VALUE, EPS_HAT, HYPER_SIZE


def loss_rows():
    for code in (*Loss, *EstimatorLoss):

        def inputs(shape, dtype, rng, code=code):
            m, n = shape
            target = sample(rng, shape, dtype)
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
                "prediction": sample(rng, shape, dtype, 3.0),
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
                "gradient": ulp_bound(np.abs(expected["gradient"]) + size / len(p), dtype, 8),
                "return": 8 * eps(dtype) * size,
            }

        # Prediction, target and gradient; labels are one number of a row.
        labels = code in (Loss.SOFTMAX_CROSS_ENTROPY, EstimatorLoss.LOG_LOSS)
        moved = lambda shape, labels=labels: (None, shape[0] * (2 * shape[1] + (1 if labels else shape[1])))
        yield Row(code.name.lower(), inputs, ("gradient",), bound, ROWS, (4096, 16), moved, "GB/s")


def hyper_parameters(code):
    """A set of hyper-parameters in which every term of the optimizer counts; it clips nothing."""
    hyper = np.zeros(HYPER_SIZE)
    hyper[:5] = 0.01, 0.9, 0.99, 1e-8, 0.1
    hyper[5] = float(code == Optimizer.SGD)
    return hyper


def optimizer_rows():
    for code in Optimizer:

        def inputs(shape, dtype, rng, code=code):
            state = np.abs(sample(rng, shape, dtype))
            hyper = hyper_parameters(code)
            hyper[EPS_HAT] = shape[0] % 2
            hyper[CLIP_VALUE] = (0.0, 0.5)[shape[0] // 2 % 2]
            return {
                "parameters": sample(rng, shape, dtype),
                "gradient": sample(rng, shape, dtype),
                "state1": state,
                "state2": state.copy(),
                "step": 3,
                "hyper": hyper,
            }

        def bound(inputs, expected):
            dtype = inputs["parameters"].dtype
            size = 1 + np.abs(inputs["parameters"]) + np.abs(inputs["gradient"]) + inputs["state1"]
            limit = ulp_bound(size * size, dtype, 8)
            return {"parameters": limit, "state1": limit, "state2": limit}

        # Gradient, and read and written the parameters and one state or two.
        elements = 5 if code in (Optimizer.SGD, Optimizer.ADAGRAD) else 7
        moved = lambda shape, elements=elements: (None, elements * shape[0])
        outputs = ("parameters", "state1", "state2")
        yield Row(code.name.lower(), inputs, outputs, bound, SPANS[1:], (65536,), moved, "GB/s")

    def gradient(shape, dtype, rng):
        return {"gradient": sample(rng, shape, dtype), "limit": 0.5}

    def clip_bound(inputs, expected):
        dtype = inputs["gradient"].dtype
        return {"gradient": ulp_bound(expected["gradient"], dtype, 4), "return": 1e-12 * (1 + inputs["gradient"].size)}

    moved = lambda shape: (None, 2 * shape[0])
    for name in ("clip_by_value", "clip_by_norm"):
        yield Row(name, gradient, ("gradient",), clip_bound, SPANS[1:], (65536,), moved, "GB/s")
