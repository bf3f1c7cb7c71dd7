"""Networks: dense layers one after the other over one flat vector of parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np
from numba.core.errors import NumbaValueError
from numba.extending import typeof_impl
from numpy import empty, ndarray

from . import initializers, losses
from .arguments import enum_member, flag, float_dtype, listed, seed_number, whole_number
from .class_weights import weighted
from .elsewhere import OF_MODELS, RefusesElsewhere
from .history import History
from .kernels.codes import Activation, Normalization
from .kernels.custom_training import batch_outputs
from .kernels.dropout import rate_threshold
from .kernels.network import Network, NormalizedNetwork, make_table
from .kernels.normalization import EPS
from .kernels.regularized_training import gradient_sweeps
from .kernels.table import has_batch_normalization, has_statistics, statistics_count
from .kernels.training import loss_and_gradient_parallel
from .layer import Dense
from .metrics import measured, named
from .resources import Resources, aligned_empty
from .standardize import Standardize
from .summary import summary
from .typing import (
    ActivationLike,
    ArrayLike,
    CallbackLike,
    ClassWeightLike,
    DTypeLike,
    InitializerLike,
    LossLike,
    MetricLike,
    NormalizationLike,
    OptimizerLike,
    PathLike,
)
from .validation import as_parameters, as_samples, as_training_data, enough_rows, refuse_overlap, result_array

if TYPE_CHECKING:
    from .c_function import CFunction


def _network(table, parameters, statistics):
    """What compiled code holds of a model."""
    if has_statistics(table):
        return NormalizedNetwork(table, parameters, statistics)
    return Network(table, parameters)


# What is told of an x that has to be looked at more closely.
_UNUSUAL = SimpleNamespace(carray=False, owndata=False)


def _is_usual(out, shape, dtype):
    """Whether a result may go to `out`, which owns its memory, and so is no view of another array."""
    if type(out) is not np.ndarray or out.dtype is not dtype or out.shape != shape:
        return False
    flags = out.flags
    return flags.carray and flags.owndata


class Sequential(RefusesElsewhere):
    """A network of `Dense` layers, which may begin with a `Standardize`.

    Args:
        layers: `Dense` layers, the in_features of each equal to the out_features of the one before; a `Standardize` may
            come first.
        dtype: float32 or float64, of parameters, inputs and results. None is that of the layers which have values
            already or were made for one, else float32.
        seed: a whole number that fixes the start, the same on every machine with the same version of NumPy; None draws
            one.
        num_threads: most threads that a call may use; None is `fastnn.get_num_threads()`. Results do not depend on it.

    Two Python threads may call `predict` on one model at the same time, but one alone may train it. Models pickle and
    deep-copy.

    Raises:
        ValueError, TypeError: an argument is not what it should be; the message names it.
        MemoryError: there is no memory for so many parameters.

    >>> import numpy as np
    >>> net = Sequential([Dense(4, 16, activation="tanh"), Dense(16, 3)], seed=0)
    >>> net.predict(np.zeros((5, 4))).shape
    (5, 3)
    """

    _elsewhere = OF_MODELS

    def __init__(
        self,
        layers: Iterable[Dense | Standardize],
        *,
        dtype: DTypeLike | None = None,
        seed: int | None = None,
        num_threads: int | None = None,
    ) -> None:
        layers = listed(layers, "layers", "layers")
        dtype = _dtype_of(layers) if dtype is None else float_dtype(dtype)
        self.num_threads = num_threads
        rng = initializers.generator(seed_number(seed))
        _check_layers(layers, dtype)
        self._assemble(layers, dtype, rng)

    def _assemble(self, layers, dtype, rng):
        if "_layers" in self.__dict__:
            # Trainers and functions in C hold on to the memory that it has.
            raise RuntimeError("a model is made once: neither __init__ nor __setstate__ can make it another")
        self._layers, self._dtype = tuple(layers), dtype
        self._standardize, layers = _split_layers(layers)
        sizes = [layers[0].in_features, *(layer.out_features for layer in layers)]
        standardized = 0 if self._standardize is None else 2 * sizes[0]
        # First, for sizes that are too large for memory may be too large for the table's numbers too.
        self._parameters = aligned_empty(sum(layer.parameter_count for layer in layers), dtype, "parameters")
        averages = sum(layer.statistics_count for layer in layers)
        self._statistics = aligned_empty(averages + standardized, dtype, "statistics")
        self._table, count = make_table(
            sizes,
            [layer.activation for layer in layers],
            [layer.normalization or 0 for layer in layers],
            [rate_threshold(layer.dropout) for layer in layers],
            standardized > 0,
        )
        # Kernels go by the table: a subclass of Dense may not count for itself.
        if (self._parameters.size, self._statistics.size) != (count, statistics_count(self._table)):
            raise TypeError("layers: expected layers with the parameters and statistics of their base class")
        # Kernels follow it without a check.
        self._table.flags.writeable = False
        parts = list(
            zip(
                _parts(self._parameters, [layer.parameter_count for layer in layers]),
                _parts(self._statistics[:averages], [layer.statistics_count for layer in layers]),
                strict=True,
            )
        )
        # A user's initializer may raise: until all have done their part, no layer belongs to the model.
        for layer, part in zip(layers, parts, strict=True):
            layer._fill(*part, rng)
        for layer, part in zip(layers, parts, strict=True):
            layer._place(*part)
        if self._standardize is not None:
            self._standardize._fill(self._statistics[averages:])
            self._standardize._place(self._statistics[averages:])
        self._least_rows = 2 if has_batch_normalization(self._table) else 1
        self._in_features, self._out_features = sizes[0], sizes[-1]
        self._sample_shape = (self._in_features,)
        # Trainers draw on them too.
        self._resources = Resources(_network(self._table, self._parameters, self._statistics))

    @property
    def layers(self) -> tuple[Dense | Standardize, ...]:
        """All layers."""
        return self._layers

    @property
    def standardize(self) -> Standardize | None:
        """The `Standardize` that the model begins with, or None."""
        return self._standardize

    @property
    def adapted(self) -> bool:
        """Whether a `Standardize`, if there is one, has learned mean and scale."""
        return self._standardize is None or self._standardize.adapted

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return self._dtype

    @property
    def in_features(self) -> int:
        """Columns of x."""
        return self._in_features

    @property
    def out_features(self) -> int:
        """Columns of the result."""
        return self._out_features

    @property
    def parameter_count(self) -> int:
        """Weights, biases, scales and shifts in all."""
        return self._parameters.size

    # New views every time: setting the shape, the dtype or the flags of one leaves the model's own arrays alone.

    @property
    def table(self) -> np.ndarray:
        """int64 (Dense layers, 18): the architecture for kernels."""
        return self._table[:]

    @property
    def network(self) -> Network | NormalizedNetwork:
        """NamedTuple (table, parameters), and statistics if layers or inputs are normalized, for compiled code.

        A live view.
        """
        return _network(self._table[:], self._parameters[:], self._statistics[:])

    @property
    def parameters(self) -> np.ndarray:
        """All parameters, flat: weight row by row, bias, scale and shift if there are, layer after layer.

        A live view; assigning copies in.
        """
        return self._parameters[:]

    @parameters.setter
    def parameters(self, values: ArrayLike) -> None:
        self._parameters[:] = as_parameters(values, self._parameters.shape, self._dtype, "parameters")

    @property
    def statistics(self) -> np.ndarray:
        """What the model has learned and no optimizer moves, flat.

        Running mean and running variance of each layer with batch normalization, which training updates; then mean and
        scale of a `Standardize`. A live view; assigning copies in.
        """
        return self._statistics[:]

    @statistics.setter
    def statistics(self, values: ArrayLike) -> None:
        values = as_parameters(values, self._statistics.shape, self._dtype, "statistics")
        averages = values.size
        if self._standardize is not None:
            averages -= 2 * self._in_features
            self._standardize._assign(*np.split(values[averages:], 2))
        self._statistics[:averages] = values[:averages]

    @property
    def num_threads(self) -> int | None:
        """Most threads that a call may use, or None."""
        return self._num_threads

    @num_threads.setter
    def num_threads(self, count: int | None) -> None:
        self._num_threads = None if count is None else whole_number(count, "num_threads", 1)

    def predict(self, x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
        """The network's output.

        Args:
            x: (rows, in_features), or (in_features,) for one sample. An array of the model's dtype is read where it
                lies, whatever its strides; other real dtypes and lists are converted. NaN and inf pass through.
            out: (rows, out_features) or (out_features,) C-contiguous of the model's dtype, overlapping neither x nor
                the parameters; or None.

        Returns:
            out, or a new array.

        Raises:
            ValueError, TypeError: x or out has another shape, or a dtype that will not do.

        >>> MLP([2, 8, 1], seed=0).predict([[0.0, 1.0], [1.0, 0.0]]).shape
        (2, 1)
        """
        # One small sample is where these checks, not the kernel, take the time: the usual arrays go first and fast, and
        # what is at hand is not asked for, which took 0.1 us more.
        flags = x.flags if type(x) is ndarray and x.dtype is self._dtype else _UNUSUAL
        given: tuple[int, ...] = x.shape if flags.carray else ()  # type: ignore[union-attr]
        if len(given) == 2 and given[1] == self._in_features:
            samples, single, rows = x, False, given[0]
        elif given == self._sample_shape:
            samples, single, rows = x[None], True, 1  # type: ignore[call-overload, index]
        else:
            x, single = as_samples(x, self._in_features, self._dtype)
            samples, rows = x, x.shape[0]
        shape = (self._out_features,) if single else (rows, self._out_features)
        if out is None:
            out = target = empty(shape, self._dtype)
        elif flags.owndata and out is not x and _is_usual(out, shape, self._dtype):
            target = out
        else:
            result_array(out, shape, self._dtype, x)
            refuse_overlap(out, self._parameters, "out", "the parameters")
            refuse_overlap(out, self._statistics, "out", "the statistics")
            # An array itself: a subclass may do anything when it is asked for a part.
            target = np.asarray(out)
        resources, most = self._resources, self._num_threads
        never_shared, planned_for_one, planned = resources.scratch.small
        if rows > (planned_for_one if most == 1 else never_shared):
            planned = resources.inference(rows, most)
        forward, address, _memory = planned
        forward(address, samples, target[None] if single else target)
        return out

    __call__ = predict

    def loss_and_gradient(
        self,
        x: ArrayLike,
        y: ArrayLike | None,
        loss: LossLike = "mse",
        sample_weight: ArrayLike | None = None,
        *,
        class_weight: ClassWeightLike | None = None,
    ) -> tuple[float, np.ndarray]:
        """The loss of a batch, and its gradient with respect to the parameters.

        A function of its arguments and the parameters alone: nothing is dropped, and batch normalization goes by the
        statistics of this batch, every row counting as one, and leaves its running averages as they are.

        Args:
            x: (rows, in_features), at least one row, with batch normalization two.
            y: (rows, out_features), or (rows,) for one output; for softmax_cross_entropy (rows,) class labels or
                (rows, out_features) probabilities.
            loss: a name, a `fastnn.Loss`, an object of `fastnn.losses` or a function of your own, which says what y is
                then: see `fastnn.losses.Custom`.
            sample_weight: (rows,) of at least 0: the loss is then the weighted mean over rows. All zero gives 0.
            class_weight: for cross-entropies, weights of classes by which those of the rows are multiplied: a dict
                from class, a whole number from 0 on, to weight, 1 where it has none; an array with one for each class;
                or "balanced", rows / (classes * rows of the class) as in scikit-learn, of the rows that are given.
                Targets must be of one class each: labels, rows with a single 1, or 0 and 1 for a single output.

        Returns:
            (loss, gradient): a float and a new flat array in the order of `parameters`.

        Raises:
            ValueError, TypeError: shapes that do not agree, labels or targets out of range, an unknown loss.

        >>> net = MLP([1, 1], seed=0)
        >>> net.parameters = [2.0, 0.0]
        >>> loss, gradient = net.loss_and_gradient([[3.0]], [[5.0]])
        >>> loss, gradient.tolist()
        (1.0, [6.0, 2.0])
        """
        loss = losses.get(loss)
        data = weighted(as_training_data(x, y, sample_weight, self, loss), class_weight, sample_weight, self, loss)
        enough_rows(data[0].shape[0], self._least_rows)
        if isinstance(loss, losses.Custom):
            x, y, none = data
            value, slope = loss.evaluated(y, self._batch_outputs(x))
            return value, self._checked_loss_and_gradient(loss.code, loss.parameter, x, slope, none)[1]
        return self._checked_loss_and_gradient(loss.code, loss.parameter, *data)

    def _batch_outputs(self, x):
        """The outputs of which `loss_and_gradient` is a function."""
        if not has_statistics(self._table):
            return self.predict(x)
        threads = self._resources.threads(x.shape[0], self._num_threads)
        return batch_outputs(self.network, x, self._resources.training(x.shape[0], threads), threads)

    def _checked_loss_and_gradient(self, loss, parameter, x, y, sample_weight):
        """`loss_and_gradient` of a code, the loss's parameter and arrays as kernels take them.

        For code that has checked them itself.
        """
        threads = self._resources.threads(x.shape[0], self._num_threads)
        gradient = np.empty_like(self._parameters)
        loss_and_gradient_parallel.ready(self._dtype)
        value = loss_and_gradient_parallel(
            *gradient_sweeps(self._table, self._dtype, threads, self._statistics),
            self._parameters,
            x,
            y,
            sample_weight,
            int(loss),
            parameter,
            gradient,
            self._resources.training(x.shape[0], threads),
            threads,
        )
        return value, gradient

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike | None,
        loss: LossLike = "mse",
        sample_weight: ArrayLike | None = None,
        *,
        class_weight: ClassWeightLike | None = None,
        metrics: Iterable[MetricLike] = (),
    ) -> dict[str, float]:
        """Loss and metrics of `predict(x)`, with running averages and without dropout: a fit's of its validation data.

        `loss_and_gradient` is the loss to train by, which with batch normalization goes by the batch.

        Args:
            x, y, loss, sample_weight, class_weight: as in `loss_and_gradient`; one row will do. Metrics count by these
                weights too: by "balanced" the accuracy is the mean of those of the classes. A fit reports its
                validation data by sample_weight alone.
            metrics: as in `Trainer.fit`.

        Returns:
            A dict of floats: "loss", and each metric by its name.

        Raises:
            ValueError, TypeError: as `loss_and_gradient`, and where a metric is none.

        >>> net = MLP([2, 2], dtype="float64", seed=0)
        >>> net.parameters = [1, 0, 0, 1, 0, 0]
        >>> net.evaluate([[0.0, 9.0], [9.0, 0.0]], [1, 0], "softmax_cross_entropy", metrics=["accuracy"])["accuracy"]
        1.0
        """
        loss = losses.get(loss)
        data = weighted(as_training_data(x, y, sample_weight, self, loss), class_weight, sample_weight, self, loss)
        return measured(self, data, loss, named(metrics, loss))

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike | None,
        loss: LossLike = "mse",
        optimizer: OptimizerLike | None = None,
        *,
        batch_size: int | None = 32,
        epochs: int = 1,
        shuffle: bool = True,
        seed: int | None = None,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeightLike | None = None,
        validation_data: Sequence[ArrayLike | None] | None = None,
        validation_split: float | None = None,
        callbacks: Iterable[CallbackLike] = (),
        progress: bool | None = None,
        metrics: Iterable[MetricLike] = (),
    ) -> History:
        """Train for some epochs, with a new `Trainer(self, loss, optimizer)`.

        Args:
            x: (rows, in_features) of real numbers.
            y: (rows, out_features); (rows,) for one output, or class labels from 0 for softmax_cross_entropy.
            loss: a name such as "mse" or "softmax_cross_entropy", an object or function of `fastnn.losses`' kinds.
            optimizer: an object such as `Adam(1e-3)`, or its name; None is `SGD()`.
            batch_size: rows of a batch; None takes all.
            epochs: how often to go through the data.
            shuffle: visit the rows in a new order every epoch.
            seed: a whole number that fixes the orders and what is dropped; None draws one.
            sample_weight: (rows,), how much each row counts in the loss.
            class_weight: {label: weight} or "balanced".
            validation_data: (x, y) or (x, y, sample_weight) to measure after every epoch.
            validation_split: the share of the last rows to measure in place of training on them.
            callbacks: functions f(trainer, history) or objects of `fastnn.callbacks`.
            progress: True shows a bar, False none; None one on a terminal if the fit lasts.
            metrics: "accuracy", losses, or functions (y, prediction) -> float.

        Returns:
            The `History`, with "loss" and what was measured after every epoch.

        Raises:
            ValueError, TypeError: an argument is wrong; the message names it.
            FloatingPointError: a loss or parameter became nan or inf; the model is as before its epoch.

        `Trainer.fit` tells more of each, and what interrupts and errors leave.

        >>> import numpy as np
        >>> x = np.linspace(-1, 1, 64)[:, None]
        >>> net = MLP([1, 16, 1], activation="tanh", seed=0)
        >>> history = net.fit(x, x**2, optimizer="adam", epochs=50, seed=0)
        >>> history.metrics["loss"][-1] < history.metrics["loss"][0]
        True
        """
        # Imported here: a trainer is built on models.
        from .trainer import Trainer

        return Trainer(self, loss, optimizer).fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            shuffle=shuffle,
            seed=seed,
            sample_weight=sample_weight,
            class_weight=class_weight,
            validation_data=validation_data,
            validation_split=validation_split,
            callbacks=callbacks,
            progress=progress,
            metrics=metrics,
        )

    def cfunc(self) -> CFunction:
        """The network as a C function, for ctypes, C libraries and SciPy: a `CFunction`, which tells how to call it.

        >>> MLP([2, 8, 1], seed=0).cfunc()
        <void f(const float x[2], float y[1])>
        """
        from .c_function import CFunction

        return CFunction(self)

    def folded(self) -> Sequential:
        """An equal model without batch normalization: its running averages are folded into weights and biases.

        `predict` gives the same to rounding, and sooner. Activations, layer normalization, dropout and a `Standardize`
        stay; parameters are the new model's own, so training one of the two leaves the other alone.

        >>> import numpy as np
        >>> net = MLP([4, 16, 1], normalization="batch", seed=0)
        >>> x = np.random.default_rng(0).normal(size=(64, 4))
        >>> history = net.fit(x, x[:, :1], epochs=3, seed=0)
        >>> plain = net.folded()
        >>> plain.layers[0], bool(np.allclose(plain.predict(x), net.predict(x), atol=1e-5))
        (Dense(4, 16, activation='relu'), True)
        """
        first, layers = _split_layers(self._layers)
        folded_layers = [] if first is None else [copy.deepcopy(first)]
        for layer in layers:
            batch = layer.normalization == Normalization.BATCH
            folded = Dense(
                layer.in_features,
                layer.out_features,
                layer.activation,
                normalization=None if batch else layer.normalization,
                dropout=layer.dropout,
                weight_initializer="zeros",
                dtype=self._dtype,
            )
            weight, bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
            if batch:
                factor = layer.scale / np.sqrt(layer.running_variance.astype(np.float64) + EPS)
                weight, bias = weight * factor, (bias - layer.running_mean) * factor + layer.shift
            elif layer.normalization is not None:
                folded.scale, folded.shift = layer.scale, layer.shift
            folded.weight, folded.bias = weight, bias
            folded_layers.append(folded)
        return Sequential(folded_layers, dtype=self._dtype, num_threads=self._num_threads)

    def save(self, path: PathLike) -> None:
        """Write architecture, parameters and statistics to a safetensors file, whole or not at all.

        `fastnn.load` reads it.

        Raises:
            OSError: the file cannot be written.
            ValueError: a scale of the model's `Standardize`, into which somebody has written, is not above 0.

        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "net.safetensors")
        >>> MLP([2, 1], seed=0).save(path)
        >>> path.exists()
        True
        """
        from .serialization import save

        save(self, path)

    def copy(self) -> Sequential:
        """An equal model with parameters of its own.

        >>> net = MLP([2, 1], seed=0)
        >>> twin = net.copy()
        >>> twin.parameters[:] = 0
        >>> bool(net.parameters.any())
        True
        """
        return copy.deepcopy(self)

    __copy__ = copy

    def astype(self, dtype: DTypeLike) -> Sequential:
        """A copy of the model in another dtype, or in its own: parameters and statistics are converted one by one.

        From float64 to float32 they are rounded, the other way they keep their values. Layers, num_threads and whether
        a `Standardize` has learned something are those of this model.

        Args:
            dtype: float32 or float64.

        Raises:
            ValueError: dtype is neither; or a finite number of the model's is beyond float32, or a scale of a
                `Standardize` is so small there that it would be 0.

        >>> net = MLP([2, 8, 1], seed=0)
        >>> twin = net.astype("float64")
        >>> twin.dtype, bool((twin.parameters == net.parameters).all())
        (dtype('float64'), True)
        """
        dtype = float_dtype(dtype)
        layers = copy.deepcopy(self._layers)
        for layer in layers:
            if layer._asked_dtype is not None:
                layer._asked_dtype = dtype
        # Layers copy their values into the model's vectors, which converts them.
        with np.errstate(all="ignore"):
            model = Sequential(layers, dtype=dtype, num_threads=self._num_threads)
        for old, new in (self._parameters, model.parameters), (self._statistics, model.statistics):
            lost = np.isfinite(old) & ~np.isfinite(new)
            if lost.any():
                raise ValueError(f"dtype: {dtype} cannot hold {old[lost][0]}, a number of the model's")
        if model.standardize is not None:
            old = self._standardize.scale
            lost = (old != 0) & (model.standardize.scale == 0)
            if lost.any():
                raise ValueError(f"dtype: {dtype} cannot hold {old[lost][0]}, a scale of the model's Standardize")
        return model

    def __getstate__(self):
        state = {"layers": self._layers, "dtype": self._dtype, "num_threads": self._num_threads}
        own = {name: value for name, value in self.__dict__.items() if name not in _OWN_NAMES}
        return state | ({"attributes": own} if own else {})

    def __setstate__(self, state):
        self._num_threads = state["num_threads"]
        self._assemble(state["layers"], float_dtype(state["dtype"]), None)
        self.__dict__.update(state.get("attributes", {}))

    def summary(self) -> str:
        """A table of the layers, their sizes and parameters; normalization and dropout where a layer has some.

        >>> print(MLP([4, 8, 2], seed=0).summary())
        layer  in  out  activation  parameters
            0   4    8        relu          40
            1   8    2    identity          18
        58 parameters, float32, 232 bytes
        """
        return summary(self)

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Dense | Standardize]:
        return iter(self._layers)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Dense | Standardize: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Dense | Standardize, ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Dense | Standardize | tuple[Dense | Standardize, ...]:
        """A layer, or for a slice a tuple of layers: those of `layers`."""
        return self._layers[index]

    def __repr__(self):
        return f"Sequential([{', '.join(map(repr, self._layers))}], dtype={self._dtype.name!r})"


# Attributes that a model makes for itself; all others are its user's, or those of a subclass.
_OWN_NAMES = frozenset(
    [
        "_layers",
        "_dtype",
        "_standardize",
        "_parameters",
        "_statistics",
        "_table",
        "_least_rows",
        "_in_features",
        "_out_features",
        "_sample_shape",
        "_resources",
        "_num_threads",
    ]
)


def _parts(memory, counts):
    """Memory cut into one part for each layer."""
    return np.split(memory, np.cumsum(counts)[:-1])


def _split_layers(layers):
    """(the `Standardize` that layers begin with or None, the `Dense` layers)"""
    return (layers[0], layers[1:]) if layers and isinstance(layers[0], Standardize) else (None, layers)


def _dtype_of(layers):
    """That of the layers which have values or were made for one, or float32."""
    found = {layer.dtype for layer in layers if isinstance(layer, (Dense, Standardize)) and layer._has_dtype}
    if len(found) > 1:
        raise ValueError("dtype: expected float32 or float64 for layers of both, got None")
    return found.pop() if found else np.dtype(np.float32)


def _check_layers(layers, dtype):
    first, dense = _split_layers(layers)
    if not dense:
        kind = "layer" if first is None else "Dense layer behind Standardize"
        raise ValueError(f"layers: expected at least one {kind}, got none")
    before = set()
    for i, layer in enumerate(layers):
        if not isinstance(layer, Dense) and (first is None or layer is not first):
            where = "; it can be the first layer alone" if isinstance(layer, Standardize) else ""
            raise TypeError(f"layers[{i}]: expected a Dense layer, got {type(layer).__name__}{where}")
        if layer._in_model or id(layer) in before:
            raise ValueError(f"layers[{i}]: this layer is in a model already; use copy.deepcopy(layer)")
        before.add(id(layer))
        if layer._asked_dtype is not None and layer._asked_dtype != dtype:
            raise ValueError(f"layers[{i}]: expected dtype {dtype}, the model's, got {layer._asked_dtype}")
        # What a `Standardize` was not told it takes from the layer behind.
        if i > 0 and layers[i - 1].out_features not in (layer.in_features, None):
            raise ValueError(
                f"layers[{i}]: expected in_features {layers[i - 1].out_features}, the out_features of layers[{i - 1}], "
                f"got {layer.in_features}"
            )


@typeof_impl.register(Sequential)
def _no_type(model, context):
    # Numba adds what this says to its own error; its object mode takes a model as any other object.
    raise NumbaValueError("compiled code takes the `network` of a model, net.network, got the model itself")


def MLP(
    sizes: Iterable[int],
    activation: ActivationLike | Sequence[ActivationLike] = "relu",
    output_activation: ActivationLike = "identity",
    *,
    normalization: NormalizationLike | None = None,
    dropout: float = 0.0,
    weight_initializer: InitializerLike | None = None,
    standardize: bool = False,
    dtype: DTypeLike = "float32",
    seed: int | None = None,
    num_threads: int | None = None,
) -> Sequential:
    """A `Sequential` of dense layers from the sizes between them.

    Args:
        sizes: in_features, the out_features of every hidden layer, and those of the last layer.
        activation: of the hidden layers; a name or a `fastnn.Activation`, or a list with one for each of them.
        output_activation: of the last layer. Leave it "identity" for losses that take logits.
        normalization, dropout: of the hidden layers, as in `Dense`.
        weight_initializer: of all layers, as in `Dense`; None follows each layer's activation.
        standardize: whether to begin with a `Standardize`, which learns the features' mean and scale at the first fit.
        dtype, seed, num_threads: as in `Sequential`.

    Raises:
        ValueError, TypeError: an argument is not what it should be; the message names it.

    >>> MLP([784, 256, 10], seed=0)
    Sequential([Dense(784, 256, activation='relu'), Dense(256, 10, activation='identity')], dtype='float32')
    """
    sizes = listed(sizes, "sizes", "whole numbers")
    if len(sizes) < 2:
        raise ValueError(f"sizes: expected at least 2 numbers, in_features and out_features, got {len(sizes)}")
    sizes = [whole_number(size, f"sizes[{i}]", 1) for i, size in enumerate(sizes)]
    hidden = len(sizes) - 2
    activations: list[Any] = list(activation) if isinstance(activation, (list, tuple)) else [activation] * hidden
    if len(activations) != hidden:
        raise ValueError(f"activation: expected one for each of {hidden} hidden layers, got {len(activations)}")
    activations.append(enum_member(output_activation, Activation, "output_activation"))
    of_hidden: dict[str, Any] = {"normalization": normalization, "dropout": dropout}
    if not hidden:
        # There is no layer that would find a wrong one.
        alone: list[Any] = [] if isinstance(activation, (list, tuple)) else [activation]
        Dense(1, 1, *alone, **of_hidden)
    start: dict[str, Any] = {"weight_initializer": weight_initializer}
    more = [of_hidden | start] * hidden + [start]
    each = zip(sizes[:-1], sizes[1:], activations, more, strict=True)
    layers: list[Dense | Standardize] = [Dense(*given, **options) for *given, options in each]
    if flag(standardize, "standardize"):
        layers.insert(0, Standardize())
    return Sequential(layers, dtype=dtype, seed=seed, num_threads=num_threads)
