"""The dense layer y = f(x @ weight + bias), as a part of a model and by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import initializers
from .arguments import enum_member, flag, float_dtype, real_number, seed_number, whole_number
from .elsewhere import OF_DENSE_LAYERS, RefusesElsewhere
from .kernels.activation import activate, activate_backward
from .kernels.codes import NEEDS_PRE_ACTIVATION, Activation, Normalization
from .kernels.dense import linear, linear_backward_input, linear_backward_parameters
from .resources import aligned_empty
from .typing import ActivationLike, ArrayLike, DTypeLike, InitializerLike, NormalizationLike
from .validation import as_parameters, as_samples, some_rows


class Context(NamedTuple):
    """What `Dense.backward` takes from `Dense.forward`. Holds x and y themselves: do not change them in between."""

    x: np.ndarray
    saved: np.ndarray
    single: bool


class _Vector(property):
    # Its types are known, which those of a property that a function makes are not.
    if TYPE_CHECKING:

        def __get__(self, layer: Any, owner: type | None = None, /) -> np.ndarray: ...  # type: ignore[override]
        def __set__(self, layer: Any, value: ArrayLike, /) -> None: ...


def _vector(name, attribute, index, what) -> _Vector:
    """A property of a layer: one of its vectors that not every layer has."""

    def get(layer) -> np.ndarray:
        vectors = getattr(layer._held(), attribute)
        if len(vectors) <= index:
            raise AttributeError(f"{name}: {layer!r} has none")
        return vectors[index]

    def assign(layer, value: ArrayLike) -> None:
        get(layer)[...] = as_parameters(value, (layer.out_features,), layer.dtype, name)

    # By the getter: Python's own docstring of a class that extends property hides `doc`.
    get.__doc__ = f"(out_features,), {what}: a live view; assigning an array copies it in."
    return _Vector(get, assign)


class Dense(RefusesElsewhere):
    """y = f(x @ weight + bias), or y = dropout(f(normalized(x @ weight + bias))).

    Alone, a layer holds its own parameters. Put into a `Sequential`, its `weight` and `bias` become views of the
    model's flat vector, with the values that it already had, or else a start drawn from the model's seed.

    Normalized pre-activations have mean 0 and variance 1, with eps = 1e-5, and are then multiplied by `scale` and moved
    by `shift`, parameters that start as 1 and 0. "layer" takes mean and variance over the units of each row (Ba, Kiros
    and Hinton 2016). "batch" takes those of each unit over the batch that is trained on (Ioffe and Szegedy 2015), and
    outside of training `running_mean` and `running_variance`, to which each update adds a tenth of the batch's.
    Dropout (Srivastava et al. 2014) sets units to 0 in training and divides the others by 1 - rate; it does nothing
    outside of training. Formulas and constants are PyTorch's.

    Args:
        in_features: columns of x.
        out_features: columns of y.
        activation: a name or a `fastnn.Activation`.
        normalization: "layer", "batch" or None.
        dropout: the rate, the probability with which a unit is dropped: 0 <= rate < 1. It counts in whole 2^-32.
        weight_initializer: a name or a callable, see `fastnn.initializers`; None is the activation's default.
        dtype: float32 or float64; None is the model's, or float32 for a layer alone.
        seed: a start of the layer's own, whatever the model's seed; None takes the model's, or a random one.

    Raises:
        ValueError, TypeError: an argument is not what it should be; the message names it.
        MemoryError: there is no memory for the parameters, when they are first asked for.

    >>> import numpy as np
    >>> layer = Dense(3, 2, activation="tanh", seed=0)
    >>> y, context = layer.forward(np.ones((4, 3)))
    >>> dx, dweight, dbias = layer.backward(np.ones((4, 2)), context)
    >>> y.shape, dx.shape, dweight.shape, dbias.shape
    ((4, 2), (4, 3), (3, 2), (2,))
    """

    _elsewhere = OF_DENSE_LAYERS

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: ActivationLike = "identity",
        *,
        normalization: NormalizationLike | None = None,
        dropout: float = 0.0,
        weight_initializer: InitializerLike | None = None,
        dtype: DTypeLike | None = None,
        seed: int | None = None,
    ) -> None:
        self._made_once()
        self._in_features = whole_number(in_features, "in_features", 1)
        self._out_features = whole_number(out_features, "out_features", 1)
        self._activation = enum_member(activation, Activation, "activation")
        self._normalization = (
            None if normalization is None else enum_member(normalization, Normalization, "normalization")
        )
        self._dropout = real_number(dropout, "dropout", 0, below=1)
        self._initializer = initializers.get(weight_initializer, self._activation)
        self._asked_dtype = None if dtype is None else float_dtype(dtype)
        self._seed = seed_number(seed)
        # Drawn when they are first asked for: a model draws them into its own vectors.
        self._parameters = self._statistics = None
        self._in_model = False

    def _made_once(self):
        if self.__dict__.get("_in_model"):
            raise RuntimeError("a layer in a model is made once: neither __init__ nor __setstate__ can make it another")

    # Fixed: memory and the model's table are laid out by them.

    @property
    def in_features(self) -> int:
        """Columns of x."""
        return self._in_features

    @property
    def out_features(self) -> int:
        """Columns of y."""
        return self._out_features

    @property
    def activation(self) -> Activation:
        """The activation f that follows x @ weight + bias."""
        return self._activation

    @property
    def normalization(self) -> Normalization | None:
        """How x @ weight + bias is normalized before the activation; None if it is not."""
        return self._normalization

    @property
    def dropout(self) -> float:
        """The probability with which training drops a unit."""
        return self._dropout

    @property
    def trainable(self) -> bool:
        """True: a fit moves the parameters of all layers.

        To keep some as they are, train a model of those behind them on what these give, as docs/training.md shows.
        """
        return True

    @trainable.setter
    def trainable(self, value: bool) -> None:
        # Keras' way to freeze a layer: nothing would come of it, and nobody would know.
        if not flag(value, "trainable"):
            raise ValueError(
                "trainable: expected True, since a fit moves all layers of its model, got False; train a model of the "
                "other layers on what those that are to stay predict"
            )

    @property
    def parameter_count(self) -> int:
        """Weights, biases, scales and shifts in all."""
        return (self.in_features + (1 if self.normalization is None else 3)) * self.out_features

    @property
    def statistics_count(self) -> int:
        """Running averages, which are no parameters."""
        return 2 * self.out_features if self.normalization == Normalization.BATCH else 0

    def _fill(self, parameters, statistics, rng):
        """Put the layer's values, or a start, into a part of a model's vectors: for `Sequential` alone."""
        if self._parameters is not None:
            parameters[:] = self._parameters
            statistics[:] = self._statistics
        else:
            self._draw(parameters, statistics, rng)

    def _place(self, parameters, statistics):
        """Take the part of a model's vectors that `_fill` has filled as the layer's own: for `Sequential` alone."""
        self._hold(parameters, statistics)
        self._in_model = True

    def _draw(self, parameters, statistics, rng):
        if self._seed is not None:
            rng = initializers.generator(self._seed)
        weight, bias, *normalization = self._split(parameters)
        weight[...] = initializers.draw(self._initializer, rng, self.in_features, self.out_features, parameters.dtype)
        bias[...] = 0
        # scale and shift, mean and variance
        for array, value in zip((*normalization, *self._halves(statistics)), (1, 0, 0, 1), strict=False):
            array[...] = value

    def _split(self, parameters):
        end = self.in_features * self.out_features
        weight = parameters[:end].reshape(self.in_features, self.out_features)
        return weight, *(
            parameters[start : start + self.out_features] for start in range(end, parameters.size, self.out_features)
        )

    def _halves(self, statistics):
        return statistics.reshape(-1, self.out_features)

    def _hold(self, parameters, statistics):
        weight, bias, *scale_and_shift = self._split(parameters)
        # One step: an interrupt finds all of them or none.
        self.__dict__.update(
            _parameters=parameters, _statistics=statistics, _weight=weight, _bias=bias, _scale_and_shift=scale_and_shift
        )

    def _held(self):
        if self._parameters is None:
            parameters = aligned_empty(self.parameter_count, self.dtype, "parameters")
            statistics = aligned_empty(self.statistics_count, self.dtype, "statistics")
            self._draw(parameters, statistics, initializers.generator(None))
            self._hold(parameters, statistics)
        return self

    @property
    def _has_dtype(self) -> bool:
        """Whether it has values, or was made for a dtype."""
        return self._parameters is not None or self._asked_dtype is not None

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        if self._parameters is not None:
            return self._parameters.dtype
        return np.dtype(np.float32) if self._asked_dtype is None else self._asked_dtype

    @property
    def weight(self) -> np.ndarray:
        """(in_features, out_features), a live view; assigning an array of that shape copies it in."""
        # A new view: a user who sets its shape leaves alone what kernels read.
        return self._held()._weight[:]

    @weight.setter
    def weight(self, value: ArrayLike) -> None:
        self.weight[...] = as_parameters(value, self.weight.shape, self.dtype, "weight")

    @property
    def bias(self) -> np.ndarray:
        """(out_features,), a live view; assigning an array of that shape copies it in."""
        return self._held()._bias[:]

    @bias.setter
    def bias(self, value: ArrayLike) -> None:
        self.bias[...] = as_parameters(value, self.bias.shape, self.dtype, "bias")

    scale = _vector("scale", "_scale_and_shift", 0, "factors of the normalized pre-activations")
    shift = _vector("shift", "_scale_and_shift", 1, "added to the normalized and scaled pre-activations")
    running_mean = _vector("running_mean", "_running", 0, "of the pre-activations, over batches")
    running_variance = _vector("running_variance", "_running", 1, "of the pre-activations, over batches")

    @property
    def _running(self) -> np.ndarray:
        return self._halves(self._statistics)

    def _refuse_by_hand(self, name):
        if self.normalization is not None or self.dropout > 0:
            raise ValueError(f"{name}: a layer with normalization or dropout works in a model alone")

    def forward(self, x: ArrayLike) -> tuple[np.ndarray, Context]:
        """y = f(x @ weight + bias), and what `backward` needs.

        Args:
            x: (rows, in_features) or (in_features,), any real dtype.

        Returns:
            (y, context): y (rows, out_features) or (out_features,). The context refers to x, which has to stay as it
                is until `backward`, and to nothing else of the caller's.

        Raises:
            ValueError, TypeError: x has another shape, or is not an array of real numbers; or the layer has
                normalization or dropout, which depend on the training that a model is in.

        >>> layer = Dense(2, 1, "relu", dtype="float64")
        >>> layer.weight, layer.bias = [[1.0], [2.0]], [0.5]
        >>> y, context = layer.forward([[1.0, 1.0], [0.0, -1.0]])
        >>> y.ravel()
        array([3.5, 0. ])
        """
        self._refuse_by_hand("forward")
        x, single = as_samples(x, self.in_features, self.dtype)
        y = np.empty((x.shape[0], self.out_features), self.dtype)
        if self.activation in NEEDS_PRE_ACTIVATION:
            saved = np.empty_like(y)
            linear(x, self.weight, self.bias, Activation.IDENTITY, saved)
            activate(saved, self.activation, y)
        else:
            linear(x, self.weight, self.bias, self.activation, y)
            # y is the caller's, who may go on in place, as in y -= target.
            saved = y.copy()
        return (y[0] if single else y), Context(x, saved, single)

    def backward(self, dy: ArrayLike, context: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The gradients of a loss from its gradient with respect to y.

        Args:
            dy: of y's shape, any real dtype.
            context: from the `forward` that made y; neither x nor the weight may have changed since.

        Returns:
            (dx, dweight, dbias), of the shapes of x, weight and bias.

        Raises:
            ValueError, TypeError: dy has another shape than y, or no rows, or is not an array of real numbers; the
                context is not of this layer.

        >>> layer = Dense(2, 1, "relu", dtype="float64")
        >>> layer.weight, layer.bias = [[1.0], [2.0]], [0.5]
        >>> y, context = layer.forward([[1.0, 1.0], [0.0, -1.0]])
        >>> dx, dweight, dbias = layer.backward([[1.0], [1.0]], context)
        >>> dx
        array([[1., 2.],
               [0., 0.]])
        >>> dweight.ravel(), dbias
        (array([1., 1.]), array([1.]))
        """
        self._refuse_by_hand("backward")
        dy = np.ascontiguousarray(as_samples(dy, self.out_features, self.dtype, "dy")[0])
        if not isinstance(context, Context):
            raise TypeError(f"context: expected what forward returned, got {type(context).__name__}")
        x, saved, single = context
        if type(x) is not np.ndarray or type(saved) is not np.ndarray:
            raise TypeError(f"context: expected arrays as forward returned them, got {type(x)} and {type(saved)}")
        if dy.shape != saved.shape:
            raise ValueError(f"dy: expected shape {saved.shape}, got {dy.shape}")
        expected = (dy.shape[0], self.in_features)
        if x.shape != expected or not x.dtype == saved.dtype == self.dtype:
            raise ValueError(
                f"context: expected that of a forward of this layer, x of shape {expected} and dtype {self.dtype}, got "
                f"{x.shape} and {x.dtype}"
            )
        if not (x.flags.aligned and saved.flags.c_contiguous and saved.flags.aligned):
            raise ValueError("context: expected aligned arrays, and contiguous results, as forward returned them")
        dz = np.empty_like(some_rows(dy, "dy"))
        activate_backward(dy, saved, self.activation, dz)
        dx = np.empty((x.shape[0], self.in_features), self.dtype)
        dweight, dbias = np.empty_like(self.weight), np.empty_like(self.bias)
        linear_backward_input(dz, self.weight, dx)
        linear_backward_parameters(x, dz, dweight, dbias)
        return (dx[0] if single else dx), dweight, dbias

    def __getstate__(self):
        # The parameters, of which a layer in a model has only a view, stand for the initializer that made them.
        own = {
            "_parameters": self._held()._parameters.copy(),
            "_statistics": self._statistics.copy(),
            "_in_model": False,
        }
        state = self.__dict__ | own
        for name in ("_weight", "_bias", "_scale_and_shift", "_initializer"):
            del state[name]
        return state

    def __setstate__(self, state):
        self._made_once()
        self.__dict__.update(state)
        self._initializer = initializers.get(None, self.activation)
        self._hold(self._parameters, self._statistics)

    def __repr__(self):
        more = "" if self.normalization is None else f", normalization={self.normalization.name.lower()!r}"
        more += f", dropout={self.dropout}" if self.dropout else ""
        return f"Dense({self.in_features}, {self.out_features}, activation={self.activation.name.lower()!r}{more})"
