"""Dense neural networks as Numba kernels: fast on CPUs, the same bits everywhere.

Begin with `help(fastnn.MLP)`, a network; `help(fastnn.Sequential.fit)` and `help(fastnn.Trainer)`, its training;
`help(fastnn.losses)`, `optimizers`, `schedules`, `callbacks` and `activations`, what there is of each;
`help(fastnn.apply_into)`, a network in your own compiled code; `help(fastnn.typing)`, what signatures call arguments.

>>> import fastnn
>>> net = fastnn.MLP([784, 256, 10], activation="relu", seed=0)
>>> net.parameter_count
203530
"""

import importlib.util
import pathlib
from typing import TYPE_CHECKING

# Python started in the source's folder finds this package there, with its kernels beside it, before an installed one.
_folder = pathlib.Path(__file__).parent
if not (_folder / "kernels").is_dir() and (_folder.parent / "kernels" / "jit.py").is_file():
    __path__.append(str(_folder.parent))
    from . import kernels

    __path__.pop()

from . import activations, callbacks, initializers, kernels, losses, optimizers, schedules
from .callbacks import Checkpoint, CSVLogger, EarlyStopping, LearningRateScheduler
from .history import History
from .kernels.codes import Activation, Loss, Normalization
from .kernels.embedded_apply import apply, apply_into, workspace
from .kernels.embedded_derivatives import gradient, jacobian, parameter_vjp, vjp
from .kernels.threads import get_num_threads, set_num_threads
from .layer import Dense
from .optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from .sequential import MLP, Sequential
from .serialization import load
from .standardize import Standardize
from .trainer import Trainer

__all__ = [
    "MLP",
    "SGD",
    "Activation",
    "Adagrad",
    "Adam",
    "AdamW",
    "CSVLogger",
    "Checkpoint",
    "Dense",
    "EarlyStopping",
    "History",
    "LearningRateScheduler",
    "Loss",
    "Normalization",
    "RMSprop",
    "Sequential",
    "Standardize",
    "Trainer",
    "__version__",
    "activations",
    "apply",
    "apply_into",
    "callbacks",
    "get_num_threads",
    "gradient",
    "initializers",
    "jacobian",
    "kernels",
    "load",
    "losses",
    "optimizers",
    "parameter_vjp",
    "schedules",
    "set_num_threads",
    "vjp",
    "workspace",
]


# Modules that are not imported here, for they need extras, the packages of their names.
_EXTRAS = ("onnx", "sklearn")

if TYPE_CHECKING:
    from . import onnx as onnx
    from . import sklearn as sklearn

    __version__: str
else:
    # Type checkers would take it that every name is there.
    def __getattr__(name):
        if name == "__version__":
            from importlib.metadata import version

            return version("fastnn")
        if name in _EXTRAS:
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _is_installed(package):
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:
        # Of what somebody has put into sys.modules.
        return False


def __dir__():
    # pydoc asks for each of them: one that is not installed would be all that help(fastnn) says.
    own = [name for name in globals() if name.startswith("__")]
    return sorted({*own, *__all__, "__version__", *filter(_is_installed, _EXTRAS)})
