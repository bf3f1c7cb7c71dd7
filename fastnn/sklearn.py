"""scikit-learn's `MLPClassifier` and `MLPRegressor` on fastnn's kernels; needs the extra `sklearn`.

    from fastnn.sklearn import MLPClassifier        # instead of sklearn.neural_network

Parameters, checks, attributes, messages and random numbers are scikit-learn's own, for these classes extend its classes
and replace the arithmetic alone: the forward pass, the loss and its gradient, and the epochs of sgd and adam, each of
which is one or a few calls of a kernel. The same data, parameters and random_state give the same fitted attributes but
for rounding.
"""

import inspect
from typing import ClassVar

import numpy as np

try:
    # For the modules below: here it is told what to install.
    import sklearn.callback
    import sklearn.neural_network
    from sklearn.metrics import accuracy_score
    from sklearn.utils._param_validation import StrOptions
    from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.validation import _check_sample_weight
except ImportError as error:
    raise ImportError(
        'fastnn.sklearn needs the extra "sklearn": pip install "scikit-learn>=1.9,<1.10" "scipy>=1.12"'
    ) from error

from . import losses
from .estimator_parameters import MORE_CONSTRAINTS, MORE_DEFAULTS, constructor
from .estimator_training import EstimatorTraining
from .kernels.codes import EstimatorLoss

__all__ = ["MLPClassifier", "MLPRegressor"]

# What these classes replace in scikit-learn's. Were a name to change there, its own code would run unseen.
_REPLACED = {
    "_fit": "X y sample_weight incremental",
    "_init_coef": "fan_in fan_out dtype",
    "_score": "X y sample_weight",
    "_update_no_improvement_count": "early_stopping X y sample_weight",
    "_backprop": "X y sample_weight activations deltas coef_grads intercept_grads",
    "_fit_lbfgs": "X y sample_weight activations deltas coef_grads intercept_grads layer_units",
    "_fit_stochastic": "X y sample_weight activations deltas coef_grads intercept_grads layer_units incremental",
    "_forward_pass_fast": "X check_input",
    "_initialize": "y layer_units dtype",
    "_predict": "X check_input",
    "_validate_input": "X y incremental reset",
}
for _name, _expected in _REPLACED.items():
    _method = getattr(sklearn.neural_network.MLPClassifier, _name, None)
    if _method is None or list(inspect.signature(_method).parameters)[1:] != _expected.split():
        raise ImportError(
            f"fastnn.sklearn: scikit-learn {sklearn.__version__} has other inner workings than the 1.9 that this "
            'version is made for: pip install "scikit-learn>=1.9,<1.10"'
        )


class MLPClassifier(EstimatorTraining, sklearn.neural_network.MLPClassifier):
    """`sklearn.neural_network.MLPClassifier`, computed by fastnn.

    Every parameter, attribute and method is that of scikit-learn's class, of which this is a subclass. Data of float32
    are computed in float32, all else in float64. Sparse data are made dense some rows at a time.

    Args, beyond those of scikit-learn's class and its values of them:
        activation: leaky_relu, elu, selu, softplus, gelu, gelu_tanh, silu, hardsigmoid or hardswish too, or a list with
            one name for each hidden layer.
        class_weight: a dict from classes to weights, which multiply those of the samples; "balanced" weighs a class by
            the inverse of how many rows it has, which gives all classes the same total where samples have no weights
            of their own; None leaves the samples as they are.
        scoring: what early stopping watches, a scorer's name or a function of (estimator, X, y); None is the score.
            Weights go to those that take a sample_weight.
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
            and "layer" or "batch". What is dropped follows from random_state, on any number of threads. A normalized
            network has its other parameters in `scales_` and `shifts_`, with "batch" its averages in `running_means_`
            and `running_variances_`, an array for each hidden layer.
        standardize: whether the network begins with a `fastnn.Standardize`, whose mean and scale are `input_mean_` and
            `input_scale_`, (n_features_in_,) each. They are those that a StandardScaler before it in a pipeline would
            learn, from all of X, by the weights of samples and classes. With warm_start and `partial_fit` those of the
            first call stay. Sparse data are refused with it.

    l1, clip_norm, clip_value, schedule, callbacks, progress, dropout and normalization are for solvers sgd and adam.
    `set_callbacks` takes callbacks of scikit-learn's protocol: `fit` is a task, and so is each epoch of sgd and adam.

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
        **MORE_CONSTRAINTS,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }
    __init__ = constructor(sklearn.neural_network.MLPClassifier, class_weight=None, **MORE_DEFAULTS)

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

        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = MLPClassifier(random_state=0)
        >>> for rows in (slice(0, 150, 2), slice(1, 150, 2)):
        ...     model = model.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        >>> model.t_
        150
        """
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            raise ValueError(
                "class_weight: 'balanced' needs all of the data, which partial_fit does not see; expected a dict"
            )
        with self._with_validation(X_val, y_val, sample_weight_val):
            return super().partial_fit(X, y, sample_weight, classes)

    def _weights(self, X, y, sample_weight):
        if self.class_weight is None:
            return sample_weight
        if self._label_binarizer.y_type_.startswith("multilabel"):
            if self.class_weight != "balanced":
                raise ValueError(
                    f"class_weight: expected 'balanced' or None with several labels at once, got {self.class_weight!r}"
                )
            by_class = compute_sample_weight("balanced", y)
        else:
            which = y.argmax(axis=1) if y.shape[1] > 1 else y.ravel().astype(np.intp)
            labels = self.classes_[which]
            by_class = compute_class_weight(self.class_weight, classes=self.classes_, y=labels)[which]
        return _check_sample_weight(by_class if sample_weight is None else by_class * sample_weight, X)

    def predict(self, X):
        """The labels of rows; as scikit-learn's.

        Args:
            X: (n_samples, n_features).

        Returns:
            (n_samples,) labels, or (n_samples, n_classes) for several labels at once.

        Raises:
            NotFittedError, ValueError, TypeError: as scikit-learn's class.

        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = MLPClassifier(solver="lbfgs", random_state=0, max_iter=1000).fit(X, y)
        >>> model.predict(X[[0, 50]])
        array([0, 1])
        """
        self._check_is_fitted()
        return self._predict(X)

    def predict_proba(self, X):
        """The probabilities of classes, in the order of `classes_`; as scikit-learn's.

        Args:
            X: (n_samples, n_features).

        Returns:
            (n_samples, n_classes) of float32 or float64.

        Raises:
            NotFittedError, ValueError, TypeError: as scikit-learn's class.

        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = MLPClassifier(solver="lbfgs", random_state=0, max_iter=1000).fit(X, y)
        >>> model.predict_proba(X[[0, 50]]).round(2)
        array([[1., 0., 0.],
               [0., 1., 0.]])
        """
        self._check_is_fitted()
        out = self._forward_pass_fast(X)
        if self.n_outputs_ > 1:
            return out
        both = np.empty((2, out.shape[0]), out.dtype)
        np.subtract(1, out.ravel(), out=both[0])
        both[1] = out.ravel()
        return both.T

    def _predict(self, X, check_input=True):
        binarizer = self._label_binarizer
        out = self._forward_pass_fast(X, check_input)
        # What inverse_transform gives, which takes several times as long as a row takes through a network.
        if binarizer.y_type_ == "multiclass":
            return binarizer.classes_[out.argmax(axis=1)]
        if binarizer.y_type_ == "binary" and binarizer.classes_.size == 2:
            return binarizer.classes_.take(out.ravel() > 0.5)
        return binarizer.inverse_transform(out.ravel() if self.n_outputs_ == 1 else out)

    def score(self, X, y, sample_weight=None):
        """The accuracy of `predict(X)`; as scikit-learn's.

        Args:
            X, y, sample_weight: as in scikit-learn's class.

        Returns:
            A float, the mean over rows of whether the prediction is y.

        Raises:
            ValueError, TypeError: as scikit-learn's class.

        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = MLPClassifier(solver="lbfgs", random_state=0, max_iter=1000).fit(X, y)
        >>> model.score(X, y) > 0.95
        True
        """
        # accuracy_score looks at labels for longer than a network at a hundred rows. Where those of y can be nothing
        # but labels, as many as there are rows, it finds nothing to refuse.
        predicted = self.predict(X)
        labels = type(y) is np.ndarray and y.ndim == 1 and y.size > 0 and y.dtype.kind in "biuU"
        if labels and sample_weight is None and predicted.shape == y.shape and predicted.dtype == y.dtype:
            return float(np.mean(predicted == y))
        return accuracy_score(y, predicted, sample_weight=sample_weight)

    def _score(self, X, y, sample_weight=None):
        # Of weights that are all 0, NaN or inf scikit-learn says what is wrong.
        weighted = sample_weight is None or (np.any(sample_weight) and np.all(np.isfinite(sample_weight)))
        if self.scoring is None and np.ndim(y) == 1 and weighted:
            # The accuracy of every epoch, of labels that fit has looked at.
            return float(np.average(self._predict(X, check_input=False) == y, weights=sample_weight))
        return super()._score(X, y, sample_weight)


class MLPRegressor(EstimatorTraining, sklearn.neural_network.MLPRegressor):
    """`sklearn.neural_network.MLPRegressor`, computed by fastnn.

    Every parameter, attribute and method is that of scikit-learn's class, of which this is a subclass. Data of float32
    are computed in float32, all else in float64. Sparse data are made dense some rows at a time.

    Args, beyond those of scikit-learn's class and its values of them:
        activation: leaky_relu, elu, selu, softplus, gelu, gelu_tanh, silu, hardsigmoid or hardswish too, or a list with
            one name for each hidden layer.
        loss: "huber" or "quantile" too, or `fastnn.losses.Huber(delta)` or `Quantile(q)`; the mean over rows and
            outputs. Early stopping then watches minus the loss, unless it is given a `scoring`. `Quantile([0.1, 0.9])`
            learns as many quantiles of one y, (n_samples,), at once: `predict` gives (n_samples, len(q)), and scores
            compare each of them with y. A `scoring` of early stopping gets y with its column repeated.
        scoring: what early stopping watches, a scorer's name or a function of (estimator, X, y); None is the score.
            Weights go to those that take a sample_weight.
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
            and "layer" or "batch". What is dropped follows from random_state, on any number of threads. A normalized
            network has its other parameters in `scales_` and `shifts_`, with "batch" its averages in `running_means_`
            and `running_variances_`, an array for each hidden layer.
        standardize: whether the network begins with a `fastnn.Standardize`, whose mean and scale are `input_mean_` and
            `input_scale_`, (n_features_in_,) each. They are those that a StandardScaler before it in a pipeline would
            learn, from all of X, by the weights of samples and classes. With warm_start and `partial_fit` those of the
            first call stay. Sparse data are refused with it.

    l1, clip_norm, clip_value, schedule, callbacks, progress, dropout and normalization are for solvers sgd and adam.
    `set_callbacks` takes callbacks of scikit-learn's protocol: `fit` is a task, and so is each epoch of sgd and adam.

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
    >>> MLPRegressor(loss=Quantile([0.1, 0.5, 0.9]), max_iter=500, random_state=0).fit(X, y).predict(X).shape
    (100, 3)
    """

    _parameter_constraints: ClassVar[dict] = {
        **sklearn.neural_network.MLPRegressor._parameter_constraints,
        **MORE_CONSTRAINTS,
        "loss": [
            StrOptions({"squared_error", "poisson", "huber", "quantile"}),
            losses.Huber,
            losses.Quantile,
        ],
    }
    __init__ = constructor(sklearn.neural_network.MLPRegressor, **MORE_DEFAULTS)

    @available_if(lambda self: self._check_solver())
    def partial_fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None, sample_weight_val=None):
        """As `MLPClassifier.partial_fit`, without classes.

        >>> import numpy as np
        >>> X = np.linspace(-1, 1, 100)[:, np.newaxis]
        >>> y = 2 * X.ravel() + 1
        >>> model = MLPRegressor(random_state=0, early_stopping=True)
        >>> for first in range(0, 80, 20):
        ...     rows = slice(first, first + 20)
        ...     model = model.partial_fit(X[rows], y[rows], X_val=X[80:], y_val=y[80:])
        >>> len(model.validation_scores_)
        4
        """
        with self._with_validation(X_val, y_val, sample_weight_val):
            return super().partial_fit(X, y, sample_weight)

    def predict(self, X):
        """The targets of rows; as scikit-learn's.

        Args:
            X: (n_samples, n_features).

        Returns:
            (n_samples,), or (n_samples, n_outputs).

        Raises:
            NotFittedError, ValueError, TypeError: as scikit-learn's class.

        >>> import numpy as np
        >>> X = np.linspace(-1, 1, 100)[:, np.newaxis]
        >>> y = 2 * X.ravel() + 1
        >>> model = MLPRegressor(solver="lbfgs", random_state=0).fit(X, y)
        >>> model.predict([[0.5]]).round(1)
        array([2.])
        """
        self._check_is_fitted()
        return self._predict(X)

    def _predict(self, X, check_input=True):
        if self._several_q() is None:
            return super()._predict(X, check_input)
        # (rows, 1) for a list of one q.
        return self._forward_pass_fast(X, check_input)

    def score(self, X, y, sample_weight=None):
        """R^2 of `predict(X)`; as scikit-learn's. Of several quantiles each is compared with y, and the mean counts.

        Args:
            X, y, sample_weight: as in scikit-learn's class.

        Returns:
            A float, at most 1.

        Raises:
            ValueError, TypeError: as scikit-learn's class.

        >>> import numpy as np
        >>> X = np.linspace(-1, 1, 100)[:, np.newaxis]
        >>> y = 2 * X.ravel() + 1
        >>> model = MLPRegressor(solver="lbfgs", random_state=0).fit(X, y)
        >>> model.score(X, y) > 0.99
        True
        """
        return super().score(X, self._repeated(y), sample_weight)

    def _score(self, X, y, sample_weight=None):
        if self.scoring is None and not isinstance(self._objective()[0], EstimatorLoss):
            return -self._loss_of(*self._loss_data(X, y, sample_weight))
        return super()._score(X, y, sample_weight)
