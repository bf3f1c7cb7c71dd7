"""What the estimators of `fastnn.sklearn` take beyond scikit-learn's parameters: names, defaults, valid values."""

import inspect
from numbers import Real

from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import Interval, StrOptions

from .kernels.codes import ROW_WISE, Activation, Normalization
from .schedules import Schedule

# scikit-learn's names of activations; every elementwise one of fastnn is known by its own name too.
ACTIVATIONS = {"logistic": Activation.SIGMOID} | {
    code.name.lower(): code for code in Activation if code not in ROW_WISE and code != Activation.SIGMOID
}
# What the constructors take beyond scikit-learn's parameters.
MORE_CONSTRAINTS = {
    "activation": [StrOptions(set(ACTIVATIONS)), list, tuple],
    "scoring": [StrOptions(set(get_scorer_names())), callable, None],
    "l1": [Interval(Real, 0, None, closed="left")],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "clip_value": [Interval(Real, 0, None, closed="neither"), None],
    "schedule": [Schedule, callable, None],
    "callbacks": [list, tuple],
    "progress": ["boolean"],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "normalization": [StrOptions({code.name.lower() for code in Normalization}), None],
    "standardize": ["boolean"],
}
MORE_DEFAULTS = {
    "scoring": None,
    "l1": 0.0,
    "clip_norm": None,
    "clip_value": None,
    "schedule": None,
    "callbacks": (),
    "progress": False,
    "dropout": 0.0,
    "normalization": None,
    "standardize": False,
}
# Those that lbfgs knows nothing of.
OF_EPOCHS = ("l1", "clip_norm", "clip_value", "schedule", "callbacks", "progress", "dropout", "normalization")


def activation_codes(activation, hidden):
    """The codes of the hidden layers, from one name or a list with one for each."""
    names = [activation] * hidden if isinstance(activation, str) else list(activation)
    if len(names) != hidden or not all(isinstance(name, str) and name in ACTIVATIONS for name in names):
        raise ValueError(
            f"activation: expected a name, or one for each of {hidden} hidden layers, of {', '.join(ACTIVATIONS)}; "
            f"got {activation!r}"
        )
    return [ACTIVATIONS[name] for name in names]


def constructor(base, **more):
    """An __init__ with the base class's parameters and keyword-only ones beyond them, for scikit-learn to read."""

    def __init__(self, *arguments, **named):
        for name, default in more.items():
            setattr(self, name, named.pop(name, default))
        base.__init__(self, *arguments, **named)

    signature = inspect.signature(base.__init__)
    keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=more[name]) for name in more]
    __init__.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *keywords])
    return __init__
