"""An estimator of `fastnn.sklearn` as a network: its parameters, its forward pass, its loss and gradient."""

import contextlib
import copy
import functools
import operator
from collections import namedtuple
from typing import ClassVar

import numpy as np
import scipy.sparse
import scipy.special
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted, validate_data

from . import activations, kernels, losses
from .arguments import shape_text, wrong_shape
from .estimator_parameters import activation_codes
from .initializers import zeros
from .kernels.codes import Activation, EstimatorLoss
from .kernels.loss import parameter_array
from .kernels.workers import FLOATS
from .layer import Dense
from .sequential import Sequential
from .sparse_rows import dense_rows, output_of, pieces
from .standardize import Standardize

# scikit-learn's losses by its names of a loss and of the output activation that belongs to it.
BY_OUTPUT = {
    ("log_loss", "softmax"): EstimatorLoss.LOG_LOSS,
    ("log_loss", "logistic"): EstimatorLoss.BINARY_LOG_LOSS,
    ("poisson", "exp"): EstimatorLoss.HALF_POISSON_DEVIANCE,
    ("squared_error", "identity"): EstimatorLoss.HALF_SQUARED_ERROR,
}
# Activations of the last layer, by what scikit-learn calls them.
OUTPUTS = {
    "identity": Activation.IDENTITY,
    "logistic": Activation.SIGMOID,
    "softmax": Activation.SOFTMAX,
    "tanh": Activation.TANH,
    "relu": Activation.RELU,
}
# Their functions, and one that no layer has.
OUTPUT_FUNCTIONS = {
    "logistic": activations.sigmoid,
    "softmax": activations.softmax,
    "tanh": activations.tanh,
    "relu": activations.relu,
    "exp": np.exp,
}
# Which attributes of an estimator hold which arrays of the layers. Those of normalized layers, with their start: the
# last layer, which is never normalized, has none.
ARRAYS = {"coefs_": "weight", "intercepts_": "bias"}
SCALES = {"scales_": ("scale", 1.0), "shifts_": ("shift", 0.0)}
AVERAGES = {"running_means_": ("running_mean", 0.0), "running_variances_": ("running_variance", 1.0)}


# What identifies a network (dtype, sizes, options), the network, and by attribute a list of views of its arrays.
Bound = namedtuple("Bound", "key net views")


class Networks:
    """The networks of an estimator; a copy of the estimator makes its own.

    Attributes:
        held: the `Bound` whose views `coefs_` and `intercepts_` were given; or None.
        copies: others by key. Of these nobody else has views, so values may be copied into them: what the
            user has put aside to put something else in its place stays as it is.
        trained: such copies that fits train. Predictions, which other threads may make meanwhile, copy the values of
            `coefs_` into theirs; into these they would write what training has left behind.
    """

    def __init__(self):
        self.held = None
        self.copies = {}
        self.trained = {}

    def __reduce__(self):
        return Networks, ()


def _dense(array):
    """What the user has put in the place of an array, a number or the sparse matrix of a pruned layer, as one."""
    if isinstance(array, np.ndarray):
        return array
    return array.toarray() if scipy.sparse.issparse(array) else np.asarray(array)


def working_dtype(*arrays):
    """float32 or float64, in which scikit-learn would compute with arrays of these dtypes."""
    first = arrays[0].dtype
    if first in FLOATS and all(getattr(array, "dtype", None) is first for array in arrays):
        return first
    dtype = np.result_type(*(_dense(array).dtype for array in arrays))
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)


@functools.cache
def _xlogy_dtype(labels, outputs, complement):
    """The type of scikit-learn's logarithmic losses: of flags and float32, float64 with SciPy 1.17, not 1.12 and 1.18.

    With the complement there is a second term, of 1 - labels, which are whole numbers if the labels are flags.
    """
    labels = np.empty(0, labels)
    return scipy.special.xlogy(1 - labels if complement else labels, np.empty(0, outputs)).dtype


def refuse_zero(total_weight):
    if np.any(total_weight == 0):
        raise ZeroDivisionError("sample_weight: the weights of a batch sum to zero, so its loss has no mean")


class EstimatorNetwork:
    """What takes the place of scikit-learn's arithmetic but for its solvers."""

    # Of a network that a fit of scikit-learn's own class has made, whose attributes may be put here.
    _normalization, _standardized = None, False
    _best_others: ClassVar[dict] = {}

    # ---- Parameters: coefs_ and intercepts_ are views of a network's flat vector, unless the user puts others there.

    def _network(self, dtype):
        """The network of this dtype with the values of coefs_ and intercepts_, for predictions."""
        return self._bound(dtype, self._all_networks().copies).net

    def _trained_network(self, dtype):
        """The same for a fit: one that no prediction writes to."""
        return self._bound(dtype, self._all_networks().trained).net

    def _all_networks(self):
        if "_networks" not in self.__dict__:
            self._networks = Networks()
        return self._networks

    def _bound(self, dtype, copies):
        """The `Bound` of this dtype, its network having the values of coefs_ and intercepts_: held or of the copies."""
        bound = self._networks.held
        sizes = (self.coefs_[0].shape[0], *[coef.shape[1] for coef in self.coefs_])
        activation = self.activation if isinstance(self.activation, str) else tuple(self.activation)
        key = dtype, activation, sizes, self.dropout, self._normalization, self._standardized
        if bound is None or bound.key != key or not self._holds(bound.views):
            if key not in copies:
                net = self._new_network(dtype, sizes)
                copies[key] = Bound(key, net, self._views(net))
            bound = copies[key]
            for name, arrays in bound.views.items():
                for i, (view, array) in enumerate(zip(arrays, map(_dense, getattr(self, name)), strict=True)):
                    # One row would go to all; intercepts scikit-learn spreads so itself.
                    if name == "coefs_" and array.shape != view.shape:
                        raise wrong_shape(f"coefs_[{i}]", shape_text(*view.shape), array)
                    view[...] = array
        if self._standardized:
            layer = bound.net.standardize
            # To assign them takes longer than one row takes through a small network.
            known = np.array_equal(layer.mean, self.input_mean_) and np.array_equal(layer.scale, self.input_scale_)
            if not (layer.adapted and known):
                layer.mean, layer.scale = self.input_mean_, self.input_scale_
        return bound

    def _own_dtype(self):
        """That of its parameters together."""
        return working_dtype(*map(_dense, (*self.coefs_, *self.intercepts_)))

    def _holds(self, views):
        """Whether the attributes hold these very views, nothing in their place."""
        for name, arrays in views.items():
            found = getattr(self, name)
            if len(found) != len(arrays) or not all(map(operator.is_, found, arrays)):
                return False
        return True

    def _new_network(self, dtype, sizes):
        hidden = len(sizes) - 2
        codes = [*activation_codes(self.activation, hidden), Activation.IDENTITY]
        more = [{"dropout": self.dropout, "normalization": self._normalization}] * hidden + [{}]
        layers = zip(sizes[:-1], sizes[1:], codes, more, strict=True)
        layers = [Dense(*given, weight_initializer=zeros, **options) for *given, options in layers]
        layers[:0] = [Standardize()] * self._standardized
        return Sequential(layers, dtype=dtype)

    def _views(self, net):
        layers = net.layers[net.standardize is not None :]
        return {
            name: [getattr(layer, part) for layer in (layers if name in ARRAYS else layers[:-1])]
            for name, part in self._parts().items()
        }

    def _parts(self):
        """Attributes with a list of arrays each, and what those are of a layer."""
        return ARRAYS | {name: part for name, (part, _) in self._normalizing().items()}

    def _normalizing(self):
        # That of the fit: the parameter may have been set anew since.
        kind = self._normalization
        if kind is None:
            return {}
        return SCALES | (AVERAGES if kind == "batch" else {})

    def to_network(self) -> Sequential:
        """The fitted network as a `fastnn.Sequential` with parameters of its own, for whatever a model can do.

        Compiled code takes its `network`, C its `cfunc()`, ONNX Runtime what `fastnn.onnx.save` writes of it. Its
        `predict` gives `predict_proba`, of two classes or of several labels at once the column of each class 1; and
        `predict` of a regressor, with loss="poisson" the logarithm of it. An input layer that standardizes and dropout
        come along.

        Raises:
            NotFittedError: there was no fit.

        >>> from sklearn.datasets import load_iris
        >>> from fastnn.sklearn import MLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = MLPClassifier((8,), solver="lbfgs", random_state=0, max_iter=1000).fit(X, y)
        >>> model.to_network().layers
        (Dense(4, 8, activation='relu'), Dense(8, 3, activation='softmax'))
        """
        self._check_is_fitted()
        net = self._network(self._own_dtype())
        *layers, last = copy.deepcopy(net.layers)
        activation = OUTPUTS["identity" if self._output() == "exp" else self._output()]
        output = Dense(last.in_features, last.out_features, activation, weight_initializer=zeros, dtype=net.dtype)
        output.weight, output.bias = last.weight, last.bias
        return Sequential([*layers, output], dtype=net.dtype)

    def _bind(self):
        """Make coefs_ and intercepts_ views of a network; returns it."""
        networks = self._all_networks()
        # Of its own: a prediction in another thread may be at work on one of the copies.
        bound = self._bound(self._own_dtype(), {})
        if bound is not networks.held:
            networks.held = bound
            for name, arrays in bound.views.items():
                found = getattr(self, name)
                if isinstance(found, list):
                    # In place: after a fit the list is the one with the best parameters too.
                    found[:] = arrays
                else:
                    setattr(self, name, list(arrays))
        return bound.net

    def _put_back(self, arrays):
        """Copy arrays, in lists by attribute, into the network that is held, and give the attributes its views.

        Those of another network, which the user has put others in place of, become the estimator's with a new one.
        """
        views = self._networks.held.views
        shapes = lambda lists: {name: [array.shape for array in each] for name, each in lists.items()}
        if shapes(arrays) != shapes(views):
            for name, values in arrays.items():
                setattr(self, name, list(values))
            self._bind()
            return
        for name, values in arrays.items():
            for view, value in zip(views[name], values, strict=True):
                view[...] = value
            setattr(self, name, list(views[name]))

    def _values_beside(self, net):
        """Copies of what the network of coefs_ holds, where another one is trained; None where it is the same."""
        held = self._networks.held.net
        return None if held is net else (held.parameters.copy(), held.statistics.copy())

    def _take_up(self, net, before):
        """Let a fit go on with what a callback has written to coefs_ and the like, or put in their place.

        net: the network that is trained. before: `_values_beside` it before the callback.
        """
        held = self._networks.held
        if not self._holds(held.views):
            found = {name: list(map(_dense, getattr(self, name))) for name in held.views}
            wrong = None
            for name, views in held.views.items():
                shapes, expected = [array.shape for array in found[name]], [view.shape for view in views]
                if shapes != expected:
                    wrong = wrong or f"{name}: expected the shapes {expected} of the fit, got {shapes}"
            self._put_back(held.views if wrong else found)
            if wrong:
                raise ValueError(wrong)
        if before is not None:
            for name, values in zip(("parameters", "statistics"), before, strict=True):
                now = getattr(held.net, name)
                if now.tobytes() != values.tobytes():
                    getattr(net, name)[:] = now

    def __getstate__(self):
        # What is there while a fit lasts is no part of a copy that a callback makes.
        return {
            name: value
            for name, value in super().__getstate__().items()
            if name not in ("_own_validation", "_tasks", "_trains", "_to_draw")
        }

    def __setstate__(self, state):
        super().__setstate__(state)
        # What was copied while its user was at work on it, and fits together no more, is whatever it was.
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            if "coefs_" in state:
                self._bind()

    def _initialize(self, y, layer_units, dtype):
        activation_codes(self.activation, len(layer_units) - 2)
        # The arrays of an earlier fit may be in the user's hands.
        self._networks = Networks()
        for name in ("validation_loss_curve_", "early_stopped_", "input_mean_", "input_scale_"):
            self.__dict__.pop(name, None)
        if not isinstance(self.activation, str):
            # For each layer; scikit-learn draws the last one as it does those before.
            self._to_draw = iter([*self.activation, *self.activation[-1:]])
        try:
            super()._initialize(y, layer_units, dtype)
        finally:
            self.__dict__.pop("_to_draw", None)
        self._normalization, self._standardized = self.normalization, self.standardize
        for name, (_, start) in (SCALES | AVERAGES).items():
            if name in self._normalizing():
                setattr(self, name, [np.full(units, start, dtype) for units in layer_units[1:-1]])
            else:
                self.__dict__.pop(name, None)
        self._best_others = self._others()

    def _init_coef(self, fan_in, fan_out, dtype):
        if isinstance(self.activation, str):
            return super()._init_coef(fan_in, fan_out, dtype)
        # As scikit-learn draws the layers of a network with the activation that stands here for one of them.
        bound = np.sqrt((2.0 if next(self._to_draw, None) == "logistic" else 6.0) / (fan_in + fan_out))
        drawn = [self._random_state.uniform(-bound, bound, shape) for shape in ((fan_in, fan_out), fan_out)]
        return [array.astype(dtype, copy=False) for array in drawn]

    def _learn_inputs(self, X, sample_weight):
        """Learn mean and scale of the features, once for an initialization of the parameters."""
        if self._standardized and not hasattr(self, "input_mean_"):
            layer = Standardize(dtype=X.dtype)
            layer.adapt(X, sample_weight)
            self.input_mean_, self.input_scale_ = layer.mean, layer.scale

    def _others(self):
        """Copies of the arrays that scikit-learn's class has not, by attribute."""
        return {name: [array.copy() for array in getattr(self, name)] for name in self._normalizing()}

    def _update_no_improvement_count(self, early_stopping, X, y, sample_weight):
        best = self.best_validation_score_ if early_stopping else None
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

    def _check_is_fitted(self):
        """check_is_fitted(self), which builds the estimator's tags: 4 us, as long as a row takes through a network."""
        if not self.__sklearn_is_fitted__():
            check_is_fitted(self)

    def _checked(self, X):
        """X as `validate_data` passes it on. An array of numbers takes a shorter way there: its checks cost 60 us."""
        if (
            type(X) is np.ndarray
            and X.ndim == 2
            and X.dtype in FLOATS
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
        out = output_of(self._network(working_dtype(X, *self.coefs_)), X)
        output = self._output()
        if output != "identity":
            OUTPUT_FUNCTIONS[output](out, out=out)
        return out

    def _output(self):
        """`out_activation_`, which users may set."""
        if self.out_activation_ != "identity" and self.out_activation_ not in OUTPUT_FUNCTIONS:
            expected = ", ".join(("identity", *OUTPUT_FUNCTIONS))
            raise ValueError(f"out_activation_: expected one of {expected}, got {self.out_activation_!r}")
        return self.out_activation_

    # ---- Loss and gradient

    def _objective(self):
        """(code, parameter) of the loss."""
        ours = [output for loss, output in BY_OUTPUT if loss == self.loss]
        if self.out_activation_ not in (ours or ["identity"]):
            raise ValueError(
                f"out_activation_: expected {' or '.join(map(repr, ours or ['identity']))} to train by the loss "
                f"{self.loss!r}, got {self.out_activation_!r}"
            )
        if ours:
            code = BY_OUTPUT[self.loss, self.out_activation_]
            if code == EstimatorLoss.LOG_LOSS and self.coefs_[-1].shape[1] == 1:
                raise ValueError("out_activation_: expected 'logistic' to train one output, got 'softmax'")
            return code, parameter_array(code, None)
        loss = losses.get(self.loss)
        if loss.repeats:
            # Kernels read a q for each output, and a callback may put another loss here.
            loss.refuse_others(self.coefs_[-1].shape[1])
        return loss.code, loss.parameter

    def _several_q(self):
        """The q of a loss that has several, for one column of y; or None."""
        return self.loss.q if isinstance(self.loss, losses.Quantile) and self.loss.repeats else None

    def _repeated(self, y):
        """y with a column for each output of the network, where the loss has several q."""
        q = self._several_q()
        return y if q is None else self.loss.repeated(y, len(q))

    def _loss_data(self, X, y, sample_weight):
        """`_kernel_data` of rows to watch, with y as the user gave it."""
        if is_classifier(self):
            y = self._label_binarizer.transform(y)
        return self._kernel_data(X, y.reshape(X.shape[0], -1), sample_weight, working_dtype(X, *self.coefs_))

    def _loss_of(self, X, y, weight):
        """The loss of such data, without penalties."""
        code, parameter = self._objective()
        prediction = output_of(self._network(X.dtype), X)
        if prediction.shape[1] != self.n_outputs_:
            raise ValueError(f"coefs_: expected {self.n_outputs_} outputs, as y has, got {prediction.shape[1]}")
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

    def _loss_type(self, X, y, sample_weight):
        """The type that scikit-learn's arithmetic gives the loss of a batch."""
        weights = [] if sample_weight is None else [sample_weight.dtype]
        outputs = np.result_type(X.dtype, *(coef.dtype for coef in self.coefs_))
        kind = self.out_activation_
        targets = y.dtype if kind == "identity" else _xlogy_dtype(y.dtype, outputs, kind == "logistic")
        # The penalty has a 0.5, which before NumPy 2 made float64 of any number.
        return type(0.5 * np.result_type(outputs, targets, self.alpha, *weights).type(0))

    def _backprop(self, X, y, sample_weight, activations, deltas, coef_grads, intercept_grads):
        """The loss with its penalty, and the gradients in two lists, layer by layer."""
        loss_type = self._loss_type(X, y, sample_weight)
        net = self._trained_network(working_dtype(X, *self.coefs_))
        # NumPy's float16 and float32 would draw Python's numbers down to their own.
        alpha = float(self.alpha)
        X, y, weight = self._kernel_data(X, y, sample_weight, net.dtype)
        total = weight.sum(dtype=np.float64) if weight.size else X.shape[0]
        refuse_zero(total)
        if scipy.sparse.issparse(X):
            loss, gradient = 0.0, np.zeros_like(net.parameters)
            for first, count in pieces(X.shape[0], dense_rows(X.shape[1], net.dtype)):
                rows = slice(first, first + count)
                share = (weight[rows].sum(dtype=np.float64) if weight.size else count) / total
                part = net._checked_loss_and_gradient(*self._objective(), X[rows].toarray(), y[rows], weight[rows])
                loss += share * part[0]
                gradient += share * part[1]
        else:
            loss, gradient = net._checked_loss_and_gradient(*self._objective(), X, y, weight)
        end = 0
        for i, coef in enumerate(self.coefs_):
            start, middle, end = end, end + coef.size, end + coef.size + coef.shape[1]
            coef_grads[i] = gradient[start:middle].reshape(coef.shape) + (alpha / total) * coef
            intercept_grads[i] = gradient[middle:end]
            loss += 0.5 * alpha / total * float(np.vdot(coef, coef))
        return loss_type(loss), coef_grads, intercept_grads
