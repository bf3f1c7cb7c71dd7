"""scikit-learn's `MLPClassifier` and `MLPRegressor` on fastnn's kernels; needs the extra `sklearn`.

    from fastnn.sklearn import MLPClassifier        # instead of sklearn.neural_network

Parameters, checks, attributes, messages and random numbers are scikit-learn's own, for these classes extend its classes
and replace the arithmetic alone: the forward pass, the loss and its gradient, and the epochs of sgd and adam, each of
which is one or a few calls of a kernel. The same data, parameters and random_state give the same fitted attributes but
for rounding.
"""

import contextlib
import inspect
import warnings
from numbers import Real
from typing import ClassVar

import numpy as np

try:
    import scipy.sparse
    import sklearn.exceptions
    import sklearn.neural_network
    from sklearn.base import is_classifier
    from sklearn.callback import CallbackSupportMixin
    from sklearn.metrics import check_scoring, get_scorer_names
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
    from sklearn.utils._param_validation import Interval, StrOptions
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.validation import _check_sample_weight, check_consistent_length, validate_data
except ImportError as error:
    raise ImportError('fastnn.sklearn needs scikit-learn 1.9 and SciPy: pip install "fastnn[sklearn]"') from error

from . import activations, kernels, losses
from .callbacks import LearningRateScheduler
from .descent import Descent
from .estimator_fit import EstimatorFit, Tasks
from .initializers import zeros
from .kernels import optimizer as layout
from .kernels.codes import ROW_WISE, Activation, EstimatorLoss, Normalization
from .layer import Dense
from .schedules import Schedule
from .sequential import Sequential
from .standardize import Standardize

__all__ = ["MLPClassifier", "MLPRegressor"]

# What these classes replace in scikit-learn's. Were a name to change there, its own code would run unseen.
_REPLACED = {
    "_backprop": "X y sample_weight activations deltas coef_grads intercept_grads",
    "_fit_lbfgs": "X y sample_weight activations deltas coef_grads intercept_grads layer_units",
    "_fit_stochastic": "X y sample_weight activations deltas coef_grads intercept_grads layer_units incremental",
    "_forward_pass_fast": "X check_input",
    "_initialize": "y layer_units dtype",
}
for _name, _expected in _REPLACED.items():
    _method = getattr(sklearn.neural_network.MLPClassifier, _name, None)
    if _method is None or list(inspect.signature(_method).parameters)[1:] != _expected.split():
        raise ImportError(
            f"fastnn.sklearn: scikit-learn {sklearn.__version__} has other inner workings than the 1.9 that this "
            'version is made for: pip install "fastnn[sklearn]"'
        )

# scikit-learn's names of activations; every elementwise one of fastnn is known by its own name too.
_ACTIVATIONS = {"logistic": Activation.SIGMOID} | {
    code.name.lower(): code for code in Activation if code not in ROW_WISE and code != Activation.SIGMOID
}
# The losses of scikit-learn's that belong to an output activation.
_BY_OUTPUT = {
    "softmax": EstimatorLoss.LOG_LOSS,
    "logistic": EstimatorLoss.BINARY_LOG_LOSS,
    "exp": EstimatorLoss.HALF_POISSON_DEVIANCE,
}
# The order of rows that are taken as they lie.
_NO_ORDER = np.empty(0, np.int64)
# What the constructors take beyond scikit-learn's parameters.
_MORE_CONSTRAINTS = {
    "activation": [StrOptions(set(_ACTIVATIONS)), list, tuple],
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
_MORE_DEFAULTS = {
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
_OF_EPOCHS = ("l1", "clip_norm", "clip_value", "schedule", "callbacks", "progress", "dropout", "normalization")
# One call of the kernel does about so many multiply-adds, a tenth of a second: Ctrl-C waits for its end.
_CALL_WORK = 5_000_000_000
# Which attributes of an estimator hold which arrays of the layers. Those of normalised layers, with their start: the
# last layer, which is never normalised, has none.
_ARRAYS = {"coefs_": "weight", "intercepts_": "bias"}
_SCALES = {"scales_": ("scale", 1.0), "shifts_": ("shift", 0.0)}
_AVERAGES = {"running_means_": ("running_mean", 0.0), "running_variances_": ("running_variance", 1.0)}
# Sparse rows become dense ones in pieces of about so many bytes.
_DENSE_BYTES = 1 << 24


class _Networks:
    """The networks over an estimator's parameters, by dtype and architecture; a copy of the estimator makes its own."""

    def __init__(self):
        self.by_key = {}

    def __reduce__(self):
        return _Networks, ()


def _working_dtype(*arrays):
    """float32 or float64, in which scikit-learn would compute with arrays of these dtypes."""
    dtype = np.result_type(*(array.dtype for array in arrays))
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)


def _pieces(total, most):
    """(first, count) of pieces of at most `most`, and at least 1."""
    most = max(1, most)
    return [(first, min(most, total - first)) for first in range(0, total, most)]


def _dense_rows(features, dtype):
    """How many rows of sparse input to make dense at a time.

    Kernels read dense rows. Made dense at the door, text of 100,000 words would not fit in memory; piece by piece it
    costs one pass over a buffer that stays in cache.
    """
    return max(1, _DENSE_BYTES // (features * dtype.itemsize))


class _Kernels(CallbackSupportMixin):
    """What takes the place of the arithmetic of scikit-learn's base class."""

    # ---- Parameters: coefs_ and intercepts_ are views of a network's flat vector, unless the user puts others there.

    def _network(self, dtype):
        """The network of this dtype with the values of coefs_ and intercepts_."""
        if "_networks" not in self.__dict__:
            self._networks = _Networks()
        sizes = (self.coefs_[0].shape[0], *(coef.shape[1] for coef in self.coefs_))
        activation = self.activation if isinstance(self.activation, str) else tuple(self.activation)
        kind = self.__dict__.get("_normalization")
        standardized = self.__dict__.get("_standardized", False)
        key = dtype, activation, sizes, self.dropout, kind, standardized
        net = self._networks.by_key.get(key)
        if net is None:
            hidden = len(sizes) - 2
            codes = [*_activation_codes(self.activation, hidden), Activation.IDENTITY]
            more = [{"dropout": self.dropout, "normalization": kind}] * hidden + [{}]
            layers = zip(sizes[:-1], sizes[1:], codes, more, strict=True)
            layers = [Dense(*given, weight_initializer=zeros, **options) for *given, options in layers]
            layers[:0] = [Standardize()] * standardized
            net = self._networks.by_key[key] = Sequential(layers, dtype=dtype)
        if standardized:
            net.standardize.mean, net.standardize.scale = self.input_mean_, self.input_scale_
        layers = net.layers[standardized:]
        for name, part in self._parts().items():
            for layer, array in zip(layers, getattr(self, name), strict=name in _ARRAYS):
                view = getattr(layer, part)
                if view is not array:
                    view[...] = array
        return net

    def _parts(self):
        """Attributes with a list of arrays each, and what those are of a layer."""
        return _ARRAYS | {name: part for name, (part, _) in self._normalizing().items()}

    def _normalizing(self):
        # That of the fit: the parameter may have been set anew since.
        kind = self.__dict__.get("_normalization")
        if kind is None:
            return {}
        return _SCALES | (_AVERAGES if kind == "batch" else {})

    def _bind(self):
        """Make coefs_ and intercepts_ views of a network; returns it."""
        net = self._network(_working_dtype(*self.coefs_, *self.intercepts_))
        for name, part in self._parts().items():
            layers = net.layers[net.standardize is not None :]
            layers = layers if name in _ARRAYS else layers[:-1]
            views = [getattr(layer, part) for layer in layers]
            held = getattr(self, name)
            if isinstance(held, list):
                # In place: the list may be the one with the best parameters too.
                held[:] = views
            else:
                setattr(self, name, views)
        return net

    def __getstate__(self):
        # What is there while a fit lasts is no part of a copy that a callback makes.
        return {
            name: value for name, value in super().__getstate__().items() if name not in ("_own_validation", "_tasks")
        }

    def __setstate__(self, state):
        super().__setstate__(state)
        if "coefs_" in state:
            self._bind()

    def _initialize(self, y, layer_units, dtype):
        # The arrays of an earlier fit may be in the user's hands.
        self._networks = _Networks()
        for name in ("validation_loss_curve_", "early_stopped_", "input_mean_", "input_scale_"):
            self.__dict__.pop(name, None)
        super()._initialize(y, layer_units, dtype)
        self._normalization, self._standardized = self.normalization, self.standardize
        for name, (_, start) in (_SCALES | _AVERAGES).items():
            if name in self._normalizing():
                setattr(self, name, [np.full(units, start, dtype) for units in layer_units[1:-1]])
            else:
                self.__dict__.pop(name, None)
        self._best_others = self._others()

    def _learn_inputs(self, X, sample_weight):
        """Learn mean and scale of the features, once for an initialisation of the parameters."""
        if self._standardized and not hasattr(self, "input_mean_"):
            layer = Standardize(dtype=X.dtype)
            layer.adapt(X, sample_weight)
            self.input_mean_, self.input_scale_ = layer.mean, layer.scale

    def _others(self):
        """Copies of the arrays that scikit-learn's class has not, by attribute."""
        return {name: [array.copy() for array in getattr(self, name)] for name in self._normalizing()}

    def _update_no_improvement_count(self, early_stopping, X, y, sample_weight):
        best = self.best_validation_score_
        super()._update_no_improvement_count(early_stopping, X, y, sample_weight)
        if early_stopping and self.best_validation_score_ != best:
            self._best_others = self._others()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self.standardize
        return tags

    def __sklearn_is_fitted__(self):
        # Without this, every prediction would look through all attributes for one that a fit has left.
        return "coefs_" in self.__dict__

    # ---- Forward

    def _checked(self, X):
        """X as `validate_data` passes it on. An array of numbers takes a shorter way there: its checks cost 60 us."""
        if (
            type(X) is np.ndarray
            and X.ndim == 2
            and X.dtype in activations.FLOATS
            and X.shape[0] > 0
            and X.shape[1] == getattr(self, "n_features_in_", None)
            and not hasattr(self, "feature_names_in_")
        ):
            with np.errstate(over="ignore", invalid="ignore"):
                if np.isfinite(X.sum()):
                    return X
        return validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)

    def _forward_pass_fast(self, X, check_input=True):
        if check_input:
            X = self._checked(X)
        out = _output(self._network(_working_dtype(X, *self.coefs_)), X)
        if self.out_activation_ == "softmax":
            activations.softmax(out, out=out)
        elif self.out_activation_ == "logistic":
            activations.sigmoid(out, out=out)
        elif self.out_activation_ == "exp":
            np.exp(out, out=out)
        return out

    # ---- Loss and gradient

    def _objective(self):
        """(code, parameter) of the loss."""
        if self.out_activation_ in _BY_OUTPUT:
            return _BY_OUTPUT[self.out_activation_], 0.0
        if self.loss == "squared_error":
            return EstimatorLoss.HALF_SQUARED_ERROR, 0.0
        loss = losses.get(self.loss)
        return loss.code, loss.parameter

    def _loss_data(self, X, y, sample_weight):
        """`_kernel_data` of rows to watch, with y as the user gave it."""
        if is_classifier(self):
            y = self._label_binarizer.transform(y)
        return self._kernel_data(X, y.reshape(X.shape[0], -1), sample_weight, _working_dtype(X, *self.coefs_))

    def _loss_of(self, X, y, weight):
        """The loss of such data, without penalties."""
        code, parameter = self._objective()
        prediction = _output(self._network(X.dtype), X)
        arguments = [parameter] if isinstance(code, kernels.Loss) else []
        kernel = getattr(kernels, code.name.lower())
        return kernel(prediction, y, weight, np.empty_like(prediction), *arguments)

    def _kernel_data(self, X, y, sample_weight, dtype):
        """(X, y, sample_weight) as kernels take them; X stays sparse, as CSR, if it is."""
        if self.out_activation_ == "softmax":
            y = y.argmax(axis=1)[:, np.newaxis]
        y = np.ascontiguousarray(y, dtype)
        weight = np.empty(0, dtype) if sample_weight is None else np.ascontiguousarray(sample_weight, dtype)
        if scipy.sparse.issparse(X):
            return X.tocsr().astype(dtype, copy=False), y, weight
        # Rows are read where they lie, if they lie aligned; np.asarray: a memory map is an array like any other.
        return np.asarray(np.require(X, dtype, "A")), y, weight

    def _backprop(self, X, y, sample_weight, activations, deltas, coef_grads, intercept_grads):
        """The loss with its penalty, and the gradients in two lists, layer by layer."""
        net = self._network(_working_dtype(X, *self.coefs_))
        X, y, weight = self._kernel_data(X, y, sample_weight, net.dtype)
        total = weight.sum(dtype=np.float64) if weight.size else X.shape[0]
        _refuse_zero(total)
        if scipy.sparse.issparse(X):
            loss, gradient = 0.0, np.zeros_like(net.parameters)
            for first, count in _pieces(X.shape[0], _dense_rows(X.shape[1], net.dtype)):
                rows = slice(first, first + count)
                share = (weight[rows].sum(dtype=np.float64) if weight.size else count) / total
                part = net.checked_loss_and_gradient(*self._objective(), X[rows].toarray(), y[rows], weight[rows])
                loss += share * part[0]
                gradient += share * part[1]
        else:
            loss, gradient = net.checked_loss_and_gradient(*self._objective(), X, y, weight)
        end = 0
        for i, coef in enumerate(self.coefs_):
            start, middle, end = end, end + coef.size, end + coef.size + coef.shape[1]
            coef_grads[i] = gradient[start:middle].reshape(coef.shape) + (self.alpha / total) * coef
            intercept_grads[i] = gradient[middle:end]
            loss += 0.5 * self.alpha / total * float(np.vdot(coef, coef))
        return loss, coef_grads, intercept_grads

    # ---- Solvers

    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None, sample_weight_val=None):
        """Fit to data; as scikit-learn's, and with a validation set of the user's own.

        Args:
            X, y, sample_weight: as in scikit-learn's class.
            X_val, y_val, sample_weight_val: what early stopping scores, in place of a part of X and y. Without early
                stopping only their loss is noted, in `validation_loss_curve_`.

        Returns:
            The estimator.

        Raises:
            ValueError, TypeError: as scikit-learn's class; X_val without y_val, or with lbfgs.
        """
        with self._watching(X_val, y_val, sample_weight_val):
            return super().fit(X, y, sample_weight)

    @contextlib.contextmanager
    def _watching(self, X_val, y_val, sample_weight_val):
        """Have the validation set of the user's own, or None, at hand while a fit lasts."""
        if (X_val is None) != (y_val is None) or (X_val is None and sample_weight_val is not None):
            raise ValueError("X_val, y_val: expected both, or neither of them and no sample_weight_val")
        if X_val is not None and self.solver == "lbfgs":
            raise ValueError("X_val: expected solver 'sgd' or 'adam' with it, got 'lbfgs'")
        self._own_validation = None if X_val is None else [X_val, y_val, sample_weight_val]
        try:
            yield
        finally:
            del self._own_validation

    def _fit(self, X, y, sample_weight=None, incremental=False):
        stochastic = self.solver != "lbfgs"
        for name in () if stochastic else _OF_EPOCHS:
            # Equal, for a grid may have 0 where the default is 0.0.
            if getattr(self, name) != _MORE_DEFAULTS[name] and not (name == "callbacks" and not self.callbacks):
                raise ValueError(f"{name}: expected solver 'sgd' or 'adam' with it, got 'lbfgs'")
        if isinstance(self.loss, losses.Quantile) and isinstance(self.loss.q, tuple):
            raise ValueError(f"loss: expected a Quantile of one q, got {self.loss}; a fastnn.MLP takes several")
        # The protocol is one of `fit`.
        told = hasattr(self, "_skl_callbacks") and not incremental
        most = self.max_iter if stochastic else 0
        if self.standardize and scipy.sparse.issparse(X):
            raise TypeError(
                "X: expected a dense array with standardize=True, got a sparse one; features that are moved to mean 0 "
                "do not stay sparse: leave standardize off and put a MaxAbsScaler before"
            )
        self._tasks = Tasks(self, X, y, sample_weight, most, self._as_fitted) if told else None
        try:
            super()._fit(X, y, sample_weight, incremental)
            if self._tasks:
                self._tasks.end()
            return self
        finally:
            del self._tasks

    def _as_fitted(self):
        """Attributes that make a copy of this estimator one with parameters of its own."""
        own = {name: [array.copy() for array in getattr(self, name)] for name in self._parts()}
        return own | {"_networks": _Networks()}

    def _score(self, X, y, sample_weight=None):
        if self.scoring is None:
            return super()._score(X, y, sample_weight)
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        with warnings.catch_warnings():
            # The rows to validate on were a frame's, whose names have been checked.
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            return float(check_scoring(self, self.scoring)(self, X, y, **weight))

    def _fit_lbfgs(self, X, y, sample_weight, *arguments):
        self._learn_inputs(X, sample_weight)
        super()._fit_lbfgs(X, y, sample_weight, *arguments)
        self._networks = _Networks()
        self._bind()

    def _fit_stochastic(
        self,
        X,
        y,
        sample_weight,
        activations,
        deltas,
        coef_grads,
        intercept_grads,
        layer_units,
        incremental,
    ):
        if incremental and self.early_stopping and self._own_validation is None:
            raise ValueError(
                "X_val, y_val: partial_fit with early_stopping=True expects both, for it trains on all that it is given"
            )
        self._learn_inputs(X, sample_weight)
        begins = not incremental or not hasattr(self, "_optimizer")
        if begins:
            scheduler = None if self.schedule is None else LearningRateScheduler(self.schedule)
            # scikit-learn's stream of random numbers is left alone where nothing is dropped.
            seed = int(self._random_state.randint(2**31)) if self.dropout else 0
            self._optimizer = Descent(self._schedule(), scheduler, seed)
        loss_type = np.result_type(X.dtype, y.dtype).type
        validation = None
        if self._own_validation is not None:
            validation = self._checked_validation(*self._own_validation)
        elif self.early_stopping:
            X, y, sample_weight, *validation = self._split(X, y, sample_weight)
        rows = X.shape[0]
        batch_size = min(200, rows)
        if self.batch_size != "auto":
            batch_size = min(self.batch_size, rows)
            if self.batch_size > rows:
                warnings.warn(
                    f"Got `batch_size` {self.batch_size}, larger than the {rows} training samples: it is clipped",
                    stacklevel=4,
                )
        held = self._bind()
        net = self._network(_working_dtype(X, *self.coefs_))
        data = self._kernel_data(X, y, sample_weight, net.dtype)
        watched = None if validation is None else self._loss_data(*validation)
        curve = None if validation is None else self.__dict__.setdefault("validation_loss_curve_", [])
        descent = self._optimizer
        descent.begin(net, self._objective(), self._hyper())
        # Parameters of float32 that meet data of float64 are rounded after each batch.
        after_batch = None if net is held else lambda: _round_trip(net, held)
        watch = EstimatorFit(self, net, descent, rows, int(batch_size), begins, after_batch, not incremental)
        order = np.arange(rows)
        batch_rows = np.diff(np.r_[0 : rows : int(batch_size), rows])
        if batch_rows.min() < net.least_rows:
            raise ValueError(
                "batch_size: expected at least 2 rows in every batch for batch normalization, got one of 1: "
                f"n_samples={rows}, batch_size={batch_size}"
            )

        stop = interrupted = False
        try:
            self.n_iter_ = 0
            for _ in range(self.max_iter):
                if self._tasks:
                    self._tasks.begin_epoch()
                if self.shuffle:
                    # What sklearn.utils.shuffle draws, without its checks.
                    permutation = np.arange(rows)
                    self._random_state.shuffle(permutation)
                    order = order[permutation]
                batch_losses = _epoch(watch, data, order if self.shuffle else None, int(batch_size), after_batch)
                self.n_iter_ += 1
                self.t_ += rows
                self.loss_ = loss_type(batch_losses @ batch_rows / rows)
                self.loss_curve_.append(self.loss_)
                if self.verbose:
                    print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                numbers = {"loss": float(self.loss_)}
                if watched:
                    numbers["val_loss"] = self._loss_of(*watched)
                    curve.append(numbers["val_loss"])
                self._update_no_improvement_count(self.early_stopping, *(validation or (None, None, None)))
                if self.early_stopping:
                    numbers["val_score"] = float(self.validation_scores_[-1])
                stop = self._epoch_ends_the_fit()
                asked = watch.end_epoch(numbers)
                if (self._tasks and self._tasks.end_epoch()) or asked or stop or incremental:
                    break
                if self.n_iter_ == self.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization "
                        "hasn't converged yet.",
                        sklearn.exceptions.ConvergenceWarning,
                        stacklevel=4,
                    )
        except KeyboardInterrupt:
            interrupted = True
            warnings.warn("Training interrupted by user.", stacklevel=4)
        finally:
            watch.close()
        if not incremental and not interrupted:
            watch.end()
        if self.early_stopping and incremental:
            self.early_stopped_ = stop
            if stop:
                self._no_improvement_count = 0
        if self.early_stopping and (stop or not incremental):
            # Lists of their own: another pass goes on from the best parameters, and may have to come back to them.
            best = self._best_coefs, self._best_intercepts
            self.coefs_, self.intercepts_ = map(list, best) if incremental else best
            for name, arrays in self._best_others.items():
                setattr(self, name, list(arrays))
            self._bind()

    def _hyper(self):
        """What the kernel's hyper-parameters hold besides those of scikit-learn's optimizer, by place."""
        return {
            layout.L2: self.alpha,
            layout.L1: self.l1,
            layout.PENALTY_IN_LOSS: 1.0,
            layout.CLIP_NORM: self.clip_norm or 0.0,
            layout.CLIP_VALUE: self.clip_value or 0.0,
        }

    def _schedule(self):
        """scikit-learn's optimizer, without parameters: it knows the learning rate and when to give up."""
        if self.solver == "sgd":
            return SGDOptimizer(
                [],
                self.learning_rate_init,
                self.learning_rate,
                self.momentum,
                self.nesterovs_momentum,
                self.power_t,
            )
        return AdamOptimizer([], self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon)

    def _split(self, X, y, sample_weight):
        """(X, y, sample_weight) to train on, then those to validate on, the targets as the user gave them."""
        weights = [] if sample_weight is None else [sample_weight]
        parts = train_test_split(
            X,
            y,
            *weights,
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=y if is_classifier(self) and self.n_outputs_ == 1 else None,
        )
        training, validation = parts[::2], parts[1::2]
        if validation[0].shape[0] < 2:
            raise ValueError(
                "The validation set is too small: early stopping needs at least 2 samples in it. Increase "
                "'validation_fraction' or the size of your dataset."
            )
        if is_classifier(self):
            validation[1] = self._label_binarizer.inverse_transform(validation[1])
        if not weights:
            training, validation = [*training, None], [*validation, None]
        return *training, *validation

    def _checked_validation(self, X, y, sample_weight):
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32), reset=False)
        y = np.asarray(y)
        check_consistent_length(X, y)
        if is_classifier(self) and y.ndim == 1 and not np.isin(y, self.classes_).all():
            raise ValueError(f"y_val: expected classes of y, {self.classes_}, got {np.unique(y)}")
        return X, y, None if sample_weight is None else _check_sample_weight(sample_weight, X)

    def _epoch_ends_the_fit(self):
        """Set the learning rate of the next epoch; True if there should be none."""
        schedule = self._optimizer.schedule
        before = schedule.learning_rate
        schedule.iteration_ends(self.t_)
        stop = False
        if self._no_improvement_count > self.n_iter_no_change:
            what = "Validation score" if self.early_stopping else "Training loss"
            stop = schedule.trigger_stopping(
                f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} consecutive epochs.",
                self.verbose,
            )
            if not stop:
                self._no_improvement_count = 0
        if self.solver == "sgd":
            self._optimizer.rate_changed(before)
        return stop


def _refuse_zero(total_weight):
    if np.any(total_weight == 0):
        raise ZeroDivisionError("sample_weight: the weights of a batch sum to zero, so its loss has no mean")


def _round_trip(net, held):
    """Round the parameters of a network to the dtype of another one, which takes them too."""
    for name in ("parameters", "statistics"):
        getattr(held, name)[:] = getattr(net, name)
        getattr(net, name)[:] = getattr(held, name)


def _output(net, X):
    """The network's output for rows, which may be sparse."""
    if not scipy.sparse.issparse(X):
        return net.predict(X)
    X = X.tocsr()
    out = np.empty((X.shape[0], net.out_features), net.dtype)
    for first, count in _pieces(X.shape[0], _dense_rows(X.shape[1], net.dtype)):
        rows = slice(first, first + count)
        net.predict(X[rows].toarray(), out=out[rows])
    return out


def _epoch(watch, data, order, batch_size, after_batch):
    """Updates on every batch of the data in this order, or as they lie; returns their losses."""
    X, y, weight = data
    descent = watch.optimizer
    rows, features = X.shape
    sparse = scipy.sparse.issparse(X)
    most = 1 if after_batch else _CALL_WORK // (3 * descent.parameter_count * batch_size)
    if sparse:
        most = min(most, _dense_rows(features, X.dtype) // batch_size)
    if weight.size:
        _refuse_zero(np.add.reduceat(weight if order is None else weight[order], range(0, rows, batch_size)))
    found = []
    for first, count in _pieces(-(-rows // batch_size), most):
        here = slice(first * batch_size, (first + count) * batch_size)
        if order is not None:
            here = order[here]
        if order is None or sparse:
            x = X[here].toarray() if sparse else X[here]
            part = x, y[here], weight[here] if weight.size else weight, _NO_ORDER
        else:
            part = *data, here
        rates = watch.learning_rates(count)
        found.append(descent.run(*part, batch_size, count, rates))
        if after_batch:
            after_batch()
        watch.batches_done(found[-1], rates)
    return np.concatenate(found)


def _activation_codes(activation, hidden):
    """The codes of the hidden layers, from one name or a list with one for each."""
    names = [activation] * hidden if isinstance(activation, str) else list(activation)
    if len(names) != hidden or not set(names) <= set(_ACTIVATIONS):
        raise ValueError(
            f"activation: expected a name, or one for each of {hidden} hidden layers, of {', '.join(_ACTIVATIONS)}; "
            f"got {activation!r}"
        )
    return [_ACTIVATIONS[name] for name in names]


def _constructor(base, **more):
    """An __init__ with the base class's parameters and keyword-only ones beyond them, for scikit-learn to read."""

    def __init__(self, *arguments, **named):
        for name, default in more.items():
            setattr(self, name, named.pop(name, default))
        base.__init__(self, *arguments, **named)

    signature = inspect.signature(base.__init__)
    keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=more[name]) for name in more]
    __init__.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *keywords])
    return __init__


class MLPClassifier(_Kernels, sklearn.neural_network.MLPClassifier):
    """`sklearn.neural_network.MLPClassifier`, computed by fastnn.

    Every parameter, attribute and method is that of scikit-learn's class, of which this is a subclass. Data of float32
    are computed in float32, all else in float64. Sparse data are made dense some rows at a time.

    Args, beyond those of scikit-learn's class and its values of them:
        activation: leaky_relu, elu, selu, softplus, gelu, gelu_tanh, silu, hardsigmoid or hardswish too, or a list with
            one name for each hidden layer.
        class_weight: a dict from classes to weights, which multiply those of the samples; "balanced" gives all classes
            the same total; None leaves the samples as they are.
        scoring: what early stopping watches, a scorer's name or a function of (estimator, X, y); None is the score.
        l1: strength of a penalty on the sizes of weights, beside `alpha` on their squares; a batch's loss has (l1 |w| +
            alpha / 2 w^2) / its total sample weight.
        clip_norm, clip_value: scale the gradient of each batch down to this 2-norm, then cut each of its elements to
            [-clip_value, clip_value]; penalties come after that. None does neither.
        schedule: an object of `fastnn.schedules`, or a function f(t, learning_rate), by which the learning rate goes
            from `learning_rate_init`; its end is that of `max_iter` epochs. For solver sgd learning_rate must be
            "constant", and the velocity is PyTorch's, which does not hold the rate.
        callbacks: functions f(fit, history) called after every epoch, or objects as in `fastnn.callbacks`; True as
            result ends the fit. fit is an `EstimatorFit`. They are not copied: an `EarlyStopping` knows its best epoch
            afterwards. With `partial_fit` a call is an epoch, and on_fit_end is not called.
        progress: True shows a bar with losses and scores.
        dropout, normalization: of the hidden layers, as in `fastnn.Dense`: the rate with which training drops units,
            and "layer" or "batch". What is dropped follows from random_state, on any number of threads. A normalised
            network has its other parameters in `scales_` and `shifts_`, with "batch" its averages in `running_means_`
            and `running_variances_`, an array for each hidden layer.
        standardize: whether the network begins with a `fastnn.Standardize`, whose mean and scale are `input_mean_` and
            `input_scale_`, (n_features_in_,) each. They are those that a StandardScaler before it in a pipeline would
            learn, from all of X, by the weights of samples and classes. With warm_start and `partial_fit` those of the
            first call stay. Sparse data are refused with it.

    l1 to normalization are for solvers sgd and adam. `set_callbacks` takes callbacks of scikit-learn's own protocol:
    `fit` is a task, and so is each epoch of sgd and adam.

    Attributes, beyond those of scikit-learn's class:
        history_: of sgd and adam, the `fastnn.History` by epoch.
        validation_loss_curve_: with a validation set, the loss on it after every epoch, without penalties.
        early_stopped_: after `partial_fit` with early stopping, whether the best parameters have come back.

    Raises:
        ValueError, TypeError: as scikit-learn's class.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> MLPClassifier(solver="lbfgs", random_state=0, max_iter=1000).fit(X, y).score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **sklearn.neural_network.MLPClassifier._parameter_constraints,
        **_MORE_CONSTRAINTS,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }
    __init__ = _constructor(sklearn.neural_network.MLPClassifier, class_weight=None, **_MORE_DEFAULTS)

    @available_if(lambda self: self._check_solver())
    def partial_fit(self, X, y, sample_weight=None, classes=None, *, X_val=None, y_val=None, sample_weight_val=None):
        """One pass over some data; as scikit-learn's, and with a validation set of the user's own.

        The loss of that is added to `validation_loss_curve_`. With early_stopping=True it is scored too, after every
        call: once the score has in more than `n_iter_no_change` calls in a row not been better than the best one by
        `tol`, the parameters become those of the best call and `early_stopped_` True. Another call goes on from there.

        Args:
            X, y, sample_weight, classes: as in scikit-learn's class.
            X_val, y_val, sample_weight_val: what is watched; with early_stopping=True X_val and y_val must be given.

        Returns:
            The estimator.

        Raises:
            ValueError, TypeError: as scikit-learn's class; X_val without y_val, or early stopping without them.
        """
        with self._watching(X_val, y_val, sample_weight_val):
            return super().partial_fit(X, y, sample_weight, classes)

    def _fit(self, X, y, sample_weight=None, incremental=False):
        if self.class_weight is not None:
            if incremental and self.class_weight == "balanced":
                raise ValueError(
                    "class_weight: 'balanced' needs all of the data, which partial_fit does not see; expected a dict"
                )
            by_class = compute_sample_weight(self.class_weight, y)
            sample_weight = by_class if sample_weight is None else by_class * _check_sample_weight(sample_weight, y)
        return super()._fit(X, y, sample_weight, incremental)

    def _score(self, X, y, sample_weight=None):
        if self.scoring is None and np.ndim(y) == 1:
            # The accuracy of every epoch: accuracy_score takes longer to look at the labels than a small epoch does.
            return float(np.average(self._predict(X, check_input=False) == y, weights=sample_weight))
        return super()._score(X, y, sample_weight)


class MLPRegressor(_Kernels, sklearn.neural_network.MLPRegressor):
    """`sklearn.neural_network.MLPRegressor`, computed by fastnn.

    Every parameter, attribute and method is that of scikit-learn's class, of which this is a subclass. Data of float32
    are computed in float32, all else in float64. Sparse data are made dense some rows at a time.

    Args, beyond those of scikit-learn's class and its values of them:
        activation: leaky_relu, elu, selu, softplus, gelu, gelu_tanh, silu, hardsigmoid or hardswish too, or a list with
            one name for each hidden layer.
        loss: "huber" or "quantile" too, or `fastnn.losses.Huber(delta)` or `Quantile(q)`; the mean over rows and
            outputs. Early stopping then watches minus the loss, unless it is given a `scoring`.
        scoring: what early stopping watches, a scorer's name or a function of (estimator, X, y); None is the score.
        l1: strength of a penalty on the sizes of weights, beside `alpha` on their squares; a batch's loss has (l1 |w| +
            alpha / 2 w^2) / its total sample weight.
        clip_norm, clip_value: scale the gradient of each batch down to this 2-norm, then cut each of its elements to
            [-clip_value, clip_value]; penalties come after that. None does neither.
        schedule: an object of `fastnn.schedules`, or a function f(t, learning_rate), by which the learning rate goes
            from `learning_rate_init`; its end is that of `max_iter` epochs. For solver sgd learning_rate must be
            "constant", and the velocity is PyTorch's, which does not hold the rate.
        callbacks: functions f(fit, history) called after every epoch, or objects as in `fastnn.callbacks`; True as
            result ends the fit. fit is an `EstimatorFit`. They are not copied: an `EarlyStopping` knows its best epoch
            afterwards. With `partial_fit` a call is an epoch, and on_fit_end is not called.
        progress: True shows a bar with losses and scores.
        dropout, normalization: of the hidden layers, as in `fastnn.Dense`: the rate with which training drops units,
            and "layer" or "batch". What is dropped follows from random_state, on any number of threads. A normalised
            network has its other parameters in `scales_` and `shifts_`, with "batch" its averages in `running_means_`
            and `running_variances_`, an array for each hidden layer.
        standardize: whether the network begins with a `fastnn.Standardize`, whose mean and scale are `input_mean_` and
            `input_scale_`, (n_features_in_,) each. They are those that a StandardScaler before it in a pipeline would
            learn, from all of X, by the weights of samples and classes. With warm_start and `partial_fit` those of the
            first call stay. Sparse data are refused with it.

    l1 to normalization are for solvers sgd and adam. `set_callbacks` takes callbacks of scikit-learn's own protocol:
    `fit` is a task, and so is each epoch of sgd and adam.

    Attributes, beyond those of scikit-learn's class:
        history_: of sgd and adam, the `fastnn.History` by epoch.
        validation_loss_curve_: with a validation set, the loss on it after every epoch, without penalties.
        early_stopped_: after `partial_fit` with early stopping, whether the best parameters have come back.

    Raises:
        ValueError, TypeError: as scikit-learn's class.

    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 100)[:, np.newaxis]
    >>> y = X.ravel() ** 2
    >>> MLPRegressor(solver="lbfgs", random_state=0, max_iter=1000).fit(X, y).score(X, y) > 0.9
    True
    >>> from fastnn.losses import Quantile
    >>> from fastnn.schedules import Cosine
    >>> enough = lambda fit, history: fit.epochs == 20
    >>> model = MLPRegressor(loss=Quantile(0.9), schedule=Cosine(), callbacks=[enough], random_state=0)
    >>> model.fit(X, y, X_val=X, y_val=y).validation_loss_curve_[-1] == model.history_.metrics["val_loss"][-1]
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **sklearn.neural_network.MLPRegressor._parameter_constraints,
        **_MORE_CONSTRAINTS,
        "loss": [
            StrOptions({"squared_error", "poisson", "huber", "quantile"}),
            losses.Huber,
            losses.Quantile,
        ],
    }
    __init__ = _constructor(sklearn.neural_network.MLPRegressor, **_MORE_DEFAULTS)

    @available_if(lambda self: self._check_solver())
    def partial_fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None, sample_weight_val=None):
        """As `MLPClassifier.partial_fit`, without classes."""
        with self._watching(X_val, y_val, sample_weight_val):
            return super().partial_fit(X, y, sample_weight)

    def _score(self, X, y, sample_weight=None):
        if self.scoring is None and not isinstance(self._objective()[0], EstimatorLoss):
            return -self._loss_of(*self._loss_data(X, y, sample_weight))
        return super()._score(X, y, sample_weight)
