"""Numbers that a fit reports: the loss of data that it does not train on, and what the user wants to see besides."""

import functools

import numpy as np

from . import losses
from .arguments import listed, shown, user_number
from .kernels.codes import Loss
from .other_names import did_you_mean
from .validation import UNBOUNDED

# Names that a history may have anyway.
RESERVED = frozenset({"epoch", "loss", "val_loss", "learning_rate", "seconds"})
LOSS_NAMES = [member.name.lower() for member in Loss]
# Multiply-adds that one call does at most, some hundredths of a second: Ctrl-C waits for its end.
CALL_WORK = 2**30


def _prediction(network, x):
    """The network's output for validated data: in parts, whose rows are the same bits as in one."""
    out = np.empty((x.shape[0], network.out_features), network.dtype)
    rows = max(1, CALL_WORK // network.parameter_count)
    for first in range(0, x.shape[0], rows):
        network.predict(x[first : first + rows], out[first : first + rows])
    return out


def measured(network, data, loss, functions):
    """Numbers of a network as it is, by name.

    Args:
        data: (x, y, sample_weight), validated.
        loss: whose value is "loss"; None leaves it out.
        functions: what `named` returned.
    """
    x, y, weight = data
    prediction = _prediction(network, x)
    numbers = {name: function(prediction, y, weight) for name, function in functions.items()}
    if loss is None:
        return numbers
    # Last: a loss of the user's own may work in the prediction's memory. Views, whose shape it may set.
    return {"loss": loss.value(prediction[:], y[:], weight[:], np.empty_like(prediction))} | numbers


def _accuracy(loss, prediction, y, sample_weight):
    if loss.code == Loss.BINARY_CROSS_ENTROPY:
        right = ((prediction > 0) == (y > 0.5)).mean(axis=1)
    else:
        right = prediction.argmax(axis=1) == (y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1))
    # In float64, where a sum of float32 weights cannot overflow.
    return float(np.average(right, weights=sample_weight.astype(np.float64) if sample_weight.any() else None))


def _seen(array):
    """An array as a user's metric gets it, read-only: training and other metrics go on with the same numbers.

    A view: where a metric sets the shape of what it is given, kernels go by their own.
    """
    view = array[:]
    view.flags.writeable = False
    return view


def _targets(y, prediction, loss):
    """y as a user's metric gets it: class labels as whole numbers (rows,), else the columns that training has."""
    if loss.code == Loss.SOFTMAX_CROSS_ENTROPY and y.shape[1] == 1 < prediction.shape[1]:
        return y[:, 0].astype(np.intp)
    return y


def _name(function):
    while isinstance(function, functools.partial) and not hasattr(function, "__name__"):
        function = function.func
    # Not its repr, in which an address may stand: names are columns of logs.
    return getattr(function, "__name__", type(function).__name__)


def _as_loss(metric):
    """The loss that a metric is, by name or as an object; or None."""
    if isinstance(metric, str):
        return losses.get(metric) if metric in LOSS_NAMES else None
    return metric if isinstance(metric, losses.Base) else None


def _value_of(metric, loss):
    """The function for a metric that is a loss, in a fit by `loss`."""
    # Others take y, or the network's output, for something else; and kernels read a q for each output.
    alike = metric.code == loss.code or {metric.code, loss.code} <= UNBOUNDED
    if loss.custom:
        raise ValueError(
            f"metrics: expected functions beside a loss of your own, whose y may be anything, got {metric.name}"
        )
    if not alike or (metric.repeats and getattr(loss, "q", None) != metric.q):
        raise ValueError(f"metrics: expected metrics that a network trained by {loss.name} has, got {metric.name}")
    return lambda p, y, weight: metric.value(p[:], y[:], weight[:], np.empty_like(p))


def named(metrics, loss):
    """A dict of functions (prediction, y, sample_weight) -> float, by name.

    Args:
        metrics: "accuracy"; losses by name or as objects of `fastnn.losses`; or functions (y, prediction) -> float, by
            their __name__, of read-only arrays, see `_targets`; a partial without one is called as its function,
            an object as its class.
    """
    functions = {}
    for metric in [metrics] if isinstance(metrics, str) else listed(metrics, "metrics", "names and functions"):
        if isinstance(metric, type):
            raise TypeError(f"metrics: expected names, objects and functions, got the class {metric.__name__}; call it")
        known = _as_loss(metric)
        name = metric if isinstance(metric, str) else known.name if known else _name(metric)
        if name in functions or name in RESERVED:
            raise ValueError(f"metrics: expected names of their own, got {name!r} twice; a function has its __name__")
        if isinstance(metric, str) and metric == "accuracy":
            if loss.code not in (Loss.BINARY_CROSS_ENTROPY, Loss.SOFTMAX_CROSS_ENTROPY):
                raise ValueError(f"metrics: accuracy needs a cross-entropy as loss, got {loss.name}")
            functions[metric] = lambda p, y, weight: _accuracy(loss, p, y, weight)
        elif known:
            functions[name] = _value_of(known, loss)
        elif callable(metric):
            functions[name] = lambda p, y, weight, metric=metric, name=name: user_number(
                metric(_seen(_targets(y, p, loss)), _seen(p)), f"metrics: expected a number as result of {name}"
            )
        else:
            raise ValueError(
                "metrics: expected 'accuracy', a loss by name or as an object of fastnn.losses, or a function (y, "
                f"prediction) -> float, got {shown(metric)}{did_you_mean(metric, ['accuracy', *LOSS_NAMES])}"
            )
    for name in functions:
        if f"val_{name}" in functions:
            raise ValueError(f"metrics: expected names of their own, got 'val_{name}', which is {name!r} of other data")
    return functions
