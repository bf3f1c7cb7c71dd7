"""The layer y = (x - mean) / scale, by which a network brings its inputs to one size before anything else."""

from __future__ import annotations

import warnings

import numpy as np

from .arguments import float_dtype, shape_text, users_stacklevel, whole_number, wrong_shape
from .elsewhere import OF_STANDARDIZE, RefusesElsewhere
from .kernels.compilation import aside
from .kernels.standardization import standardization
from .resources import aligned_empty
from .typing import ArrayLike, DTypeLike
from .validation import as_parameters, as_sample_weight, as_samples, real_array, some_rows

# So many numbers take longer to go through than Ctrl-C should have to wait.
MANY_NUMBERS = 2**24


class Standardize(RefusesElsewhere):
    """y = (x - mean) / scale: as the first layer of a `Sequential`, features of mean 0 and standard deviation 1.

    Networks learn badly from features of different sizes. mean and scale are learned from data, once: by the first
    `fit` of the model from what it trains on, before the first update, or by `adapt`. Later fits keep them,
    since the layers that follow were trained with them; call `adapt` to learn them again. `Trainer.step` needs them.
    They are not parameters: no optimizer moves them, no penalty counts them. They travel with the model, into files,
    pickles, checkpoints, compiled code and C functions. Until they are learned they are 0 and 1.

    mean and scale are what scikit-learn's StandardScaler learns: scale is the standard deviation of the population
    (divided by the number of rows), 1 for a feature that is constant but for rounding; rows count by their weights.
    They are worked out in float64 from x as the model reads it, in its dtype: where float32 leaves a feature fewer than
    64 steps to its standard deviation, as it does with seconds since 1970, there is a warning. Numbers that are not
    finite are left out, and make outputs nan as they do without this layer.

    Args:
        in_features: columns of x; None takes the next layer's.
        dtype: float32 or float64; None is the model's, or float32 for a layer alone.

    Raises:
        ValueError, TypeError: an argument is not what it should be; the message names it.

    >>> import numpy as np
    >>> from fastnn import Dense, Sequential
    >>> x = np.array([[1.0, 100.0], [3.0, 500.0]])
    >>> net = Sequential([Standardize(), Dense(2, 8, activation="tanh"), Dense(8, 1)], seed=0)
    >>> history = net.fit(x, x[:, :1], epochs=3, seed=0)
    >>> net.layers[0].mean.tolist(), net.layers[0].scale.tolist()
    ([2.0, 300.0], [1.0, 200.0])
    """

    parameter_count = 0
    _elsewhere = OF_STANDARDIZE

    def __init__(self, in_features: int | None = None, *, dtype: DTypeLike | None = None) -> None:
        self._in_features = None if in_features is None else whole_number(in_features, "in_features", 1)
        self._asked_dtype = None if dtype is None else float_dtype(dtype)
        self._statistics = None
        self._adapted = self._in_model = False

    @property
    def in_features(self) -> int | None:
        """Columns of x; None while they are not known."""
        return self._in_features

    @property
    def out_features(self) -> int | None:
        """Columns of y, as many as of x."""
        return self._in_features

    @property
    def adapted(self) -> bool:
        """Whether mean and scale are learned, or were assigned or written to: then fits keep them."""
        if self._adapted or self._statistics is None:
            return self._adapted
        return bool((self._statistics != _start(self._statistics.size)).any())

    @property
    def _has_dtype(self) -> bool:
        """Whether it has values, or was made for a dtype."""
        return self._statistics is not None or self._asked_dtype is not None

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        if self._statistics is not None:
            return self._statistics.dtype
        return np.dtype(np.float32) if self._asked_dtype is None else self._asked_dtype

    @property
    def mean(self) -> np.ndarray:
        """(in_features,), a live view; assigning an array of that shape copies it in."""
        return self._held()[: self.in_features]

    @mean.setter
    def mean(self, value: ArrayLike) -> None:
        self._assign(as_parameters(value, self.mean.shape, self.dtype, "mean"), self.scale)

    @property
    def scale(self) -> np.ndarray:
        """(in_features,), a live view; assigning an array of that shape, of numbers above 0, copies it in."""
        return self._held()[self.in_features :]

    @scale.setter
    def scale(self, value: ArrayLike) -> None:
        self._assign(self.mean, as_parameters(value, self.scale.shape, self.dtype, "scale"))

    def adapt(self, x: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Learn mean and scale from data; what was learned before is forgotten.

        Args:
            x: (rows, in_features), at least one row, any real dtype; in_features is taken from it if it is not known.
            sample_weight: (rows,) of at least 0, or None.

        Raises:
            ValueError, TypeError: x or sample_weight is not what it should be; the message names it.

        >>> layer = Standardize()
        >>> layer.adapt([[1.0, 5.0], [3.0, 5.0]])
        >>> layer.mean.tolist(), layer.scale.tolist()
        ([2.0, 5.0], [1.0, 1.0])
        """
        x, features = _columns(x, self.in_features)
        x = some_rows(as_samples(x, features, self.dtype)[0])
        self._learn(x, as_sample_weight(sample_weight, x.shape[0], self.dtype))

    def _learn(self, x, sample_weight):
        """`adapt` to arrays as kernels take them: for trainers, which have checked them."""
        found = np.empty((2, x.shape[1]), self.dtype)
        work = standardization if x.size < MANY_NUMBERS else lambda *arrays: aside(standardization, *arrays)
        work(x, sample_weight, *found)
        if self._in_features is None:
            self._in_features = x.shape[1]
        self._assign(*found)
        self._warn_of_lost_digits()

    def _warn_of_lost_digits(self):
        """Where float32 numbers about the mean lie no closer than a 64th of the scale."""
        with np.errstate(all="ignore"):
            apart = np.spacing(abs(self.mean))
        # A scale of 1 is that of a constant, which there may be, or of what float32 has made one.
        lost = np.flatnonzero((64 * apart > self.scale) & ((self.scale != 1) | (apart >= 1)))
        if lost.size and self.dtype == np.float32:
            column = lost[0]
            warnings.warn(
                f"x: column {column} has mean {self.mean[column]:.7g} and standard deviation {self.scale[column]:.3g}, "
                f"and numbers of float32 are {apart[column]:.2g} apart there; subtract an offset before, or use a "
                "float64 model",
                stacklevel=users_stacklevel(),
            )

    def _check_scale(self, scale=None):
        """Raise ValueError if a scale, or the layer's own, into which its user may write, is none."""
        scale = self.scale if scale is None else scale
        bad = ~((scale > 0) & np.isfinite(scale))
        if bad.any():
            raise ValueError(f"scale: expected finite numbers above 0 in {self.dtype}, got {scale[bad][0]}")

    def _assign(self, mean, scale, adapted=True):
        """Take mean and scale, which may be the layer's own: for models and files alone."""
        self._check_scale(scale)
        # One assignment: an interrupt finds the old ones or the new.
        self._held()[:] = np.concatenate((mean, scale))
        self._adapted = adapted

    def _forget(self):
        """Be as before `_learn`: for trainers, whose fit has failed before its first update."""
        self._assign(*_start(2 * self.in_features).reshape(2, -1), adapted=False)

    def _held(self):
        """The layer's vector of mean and scale, a new view."""
        if self._statistics is None:
            if self.in_features is None:
                raise AttributeError("mean, scale: the layer does not know its in_features yet")
            statistics = aligned_empty(2 * self.in_features, self.dtype, "statistics")
            self._fill(statistics)
            self._statistics = statistics
        return self._statistics[:]

    def _fill(self, statistics):
        """Put the layer's values, or a start, into a part of a model's vector: for `Sequential` alone."""
        if self._statistics is not None:
            statistics[:] = self._statistics
        else:
            statistics[:] = _start(statistics.size)

    def _place(self, statistics):
        """Take the part of a model's vector that `_fill` has filled as the layer's own: for `Sequential` alone."""
        self._in_features = statistics.size // 2
        self._statistics, self._in_model = statistics, True

    def __getstate__(self):
        statistics = None if self._statistics is None else self._statistics.copy()
        return self.__dict__ | {"_statistics": statistics, "_in_model": False}

    def __repr__(self):
        return f"Standardize({'' if self.in_features is None else self.in_features})"


def _start(size):
    """mean and scale of this size together, before anything is learned."""
    return np.repeat([0, 1], size // 2)


def _columns(x, features):
    """x as an array, and how many columns it is expected to have."""
    if features is not None:
        return x, features
    array = real_array(x, "x")
    if array.ndim not in (1, 2):
        raise wrong_shape("x", shape_text("*", "*"), array)
    return array, array.shape[-1]
