"""How an estimator of `fastnn.sklearn` is fitted: scikit-learn's solvers, and what watches them."""

import contextlib
import inspect
import operator
import warnings

import numpy as np
import scipy.sparse
import sklearn.exceptions
from sklearn.base import is_classifier
from sklearn.callback import CallbackSupportMixin
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils._unique import attach_unique
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from .arguments import shape_text, wrong_shape
from .callbacks import LearningRateScheduler
from .descent import Descent
from .estimator_fit import CallbackTasks, EstimatorFit
from .estimator_network import EstimatorNetwork, Networks, refuse_zero, working_dtype
from .estimator_parameters import MORE_DEFAULTS, OF_EPOCHS
from .fit_loop import NO_ORDER
from .kernels import optimizer as layout
from .sparse_rows import dense_rows, pieces

# One call of the kernel does about so many multiply-adds, a tenth of a second: Ctrl-C waits for its end.
CALL_WORK = 5_000_000_000


class EstimatorTraining(EstimatorNetwork, CallbackSupportMixin):
    """What takes the place of scikit-learn's solvers."""

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

        >>> from sklearn.datasets import load_iris
        >>> from fastnn.sklearn import MLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> enough = lambda fit, history: fit.epochs == 2
        >>> model = MLPClassifier(callbacks=[enough], random_state=0)
        >>> model.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2]).n_iter_
        2
        >>> len(model.validation_loss_curve_)
        2
        """
        with self._with_validation(X_val, y_val, sample_weight_val):
            return super().fit(X, y, sample_weight)

    @contextlib.contextmanager
    def _with_validation(self, X_val, y_val, sample_weight_val):
        """Have the validation set of the user's own, or None, at hand while a fit lasts."""
        if (X_val is None) != (y_val is None) or (X_val is None and sample_weight_val is not None):
            raise ValueError("X_val, y_val: expected both, or neither of them and no sample_weight_val")
        if X_val is not None and self.solver == "lbfgs":
            raise ValueError("X_val: expected solver 'sgd' or 'adam' with it, got 'lbfgs'")
        if "_own_validation" in self.__dict__:
            raise RuntimeError("this estimator is in a fit: until its end no callback can begin another")
        self._own_validation = None if X_val is None else [X_val, y_val, sample_weight_val]
        try:
            yield
        finally:
            del self._own_validation

    def _fit(self, X, y, sample_weight=None, incremental=False):
        # As many frames between the warnings of a fit and its caller as in scikit-learn.
        before, self._trains = self.__dict__.copy(), False
        try:
            self._refuse_what_lbfgs_has_not()
            # The protocol is one of `fit`.
            told = hasattr(self, "_skl_callbacks") and not incremental
            most = self.max_iter if self.solver != "lbfgs" else 0
            self._tasks = CallbackTasks(self, X, y, sample_weight, most, self._as_fitted) if told else None
            super()._fit(X, y, sample_weight, incremental)
            if self._tasks:
                self._tasks.end()
            return self
        except BaseException:
            if not self._trains:
                # What is refused, or interrupted before, leaves a model that was there as it was. scikit-learn's
                # callbacks are under way, and it has to find them to end them.
                under_way = {k: v for k, v in self.__dict__.items() if k.startswith(("_callback_", "_skl_"))}
                self.__dict__.clear()
                self.__dict__.update(before | under_way)
            raise
        finally:
            for name in ("_trains", "_tasks"):
                self.__dict__.pop(name, None)

    def _refuse_what_lbfgs_has_not(self):
        for name in OF_EPOCHS if self.solver == "lbfgs" else ():
            # Equal, for a grid may have 0 where the default is 0.0.
            if getattr(self, name) != MORE_DEFAULTS[name] and not (name == "callbacks" and not self.callbacks):
                raise ValueError(f"{name}: expected solver 'sgd' or 'adam' with it, got 'lbfgs'")

    def _as_fitted(self):
        """Attributes that make a copy of this estimator one with parameters of its own."""
        own = {name: [array.copy() for array in getattr(self, name)] for name in self._parts()}
        return own | {"_networks": Networks()}

    def _score(self, X, y, sample_weight=None):
        if self.scoring is None:
            return super()._score(X, y, sample_weight)
        scorer = check_scoring(self, self.scoring)
        weight = {} if sample_weight is None or not _takes_weights(scorer) else {"sample_weight": sample_weight}
        with warnings.catch_warnings():
            # The rows to validate on were a frame's, whose names have been checked.
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            return float(scorer(self, X, y, **weight))

    def _weights(self, X, y, sample_weight):
        """The weights of samples, by which a classifier counts its classes too, or None; y as the network has it."""
        return sample_weight

    def _validate_input(self, X, y, incremental, reset):
        if is_classifier(self) and isinstance(y, np.ndarray) and y.dtype.kind in "biu":
            # scikit-learn looks for the classes four times, 1 ms each for 100,000 rows, unless it finds them at hand.
            y = attach_unique(y)
        X, y = super()._validate_input(X, y, incremental, reset)
        if self.standardize and scipy.sparse.issparse(X):
            raise TypeError(
                "X: expected a dense array with standardize=True, got a sparse one; features that are moved to mean 0 "
                "do not stay sparse: leave standardize off and put a MaxAbsScaler before"
            )
        if scipy.sparse.issparse(y):
            y = y.toarray()
        _refuse_text(y, "y")
        y = self._repeated(y)
        if not reset:
            self._refuse_another_network()
            # Kernels read as many columns as coefs_ have, which are of an earlier fit, or the user's own.
            found = X.shape[1], 1 if y.ndim == 1 else y.shape[1]
            widths = self.coefs_[0].shape[0], self.coefs_[-1].shape[1]
            for name, columns, expected in zip("Xy", found, widths, strict=True):
                if columns != expected:
                    raise ValueError(f"{name}: expected {expected} columns, the width of coefs_, got {columns}")
        return X, y

    def _refuse_another_network(self):
        """Raise ValueError if parameters ask for another network than the one with which a fit is to go on."""
        sizes = self.hidden_layer_sizes
        hidden, asked = len(self.coefs_) - 1, len(sizes) if hasattr(sizes, "__len__") else 1
        if asked != hidden:
            raise ValueError(f"hidden_layer_sizes: expected {hidden} layers, as coefs_ have, got {sizes}")
        if (self.out_activation_ == "exp") != (self.loss == "poisson"):
            expected = "'poisson', as in" if self.out_activation_ == "exp" else "another one than 'poisson', as in"
            raise ValueError(f"loss: expected {expected} the fit that this one goes on from, got {self.loss!r}")
        q, outputs = self._several_q(), self.coefs_[-1].shape[1]
        if q is not None and len(q) != outputs:
            raise ValueError(
                f"loss: expected one for {outputs} outputs, as in the fit that this one goes on from, got {self.loss!r}"
            )
        had = {"normalization": self._normalization, "standardize": self._standardized}
        for name, before in had.items():
            now = getattr(self, name)
            if now != before:
                raise ValueError(f"{name}: expected {before!r}, as in the fit that this one goes on from, got {now!r}")

    def _fit_lbfgs(self, X, y, sample_weight, *arguments):
        sample_weight = self._weights(X, y, sample_weight)
        self._objective()
        self._learn_inputs(X, sample_weight)
        self._trains = True
        super()._fit_lbfgs(X, y, sample_weight, *arguments)
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
        validation = None if self._own_validation is None else self._checked_validation(*self._own_validation)
        sample_weight = self._weights(X, y, sample_weight)
        self._learn_inputs(X, sample_weight)
        begins = self._begin_descent(incremental)
        self._begin_watching()
        # scikit-learn's whole numbers of 64 bits: NumPy's if the user gives a batch size.
        lengths = [] if self.batch_size == "auto" else [np.int64]
        loss_type = np.result_type(self._loss_type(X, y, sample_weight), *lengths).type
        if validation is None and self.early_stopping:
            X, y, sample_weight, *validation = self._split(X, y, sample_weight)
        rows = X.shape[0]
        batch_size = self._rows_of_a_batch(rows)
        held = self._bind()
        net = self._trained_network(working_dtype(X, *self.coefs_))
        data = self._kernel_data(X, y, sample_weight, net.dtype)
        validation_loss_data = None
        if validation is not None:
            validation_loss_data = self._loss_data(*validation)
            self.__dict__.setdefault("validation_loss_curve_", [])
        descent = self._optimizer
        descent.begin(net, self._objective(), self._hyper())
        # Parameters of float32 that meet data of float64 are rounded after each batch.
        after_batch = None if net is held else lambda: _round_trip(net, held)
        batch_rows = np.diff(np.r_[0:rows:batch_size, rows])
        if batch_rows.min() < net._least_rows:
            raise ValueError(
                "batch_size: expected at least 2 rows in every batch for batch normalization, got one of 1: "
                f"n_samples={rows}, batch_size={batch_size}"
            )
        fit = EstimatorFit(self, net, descent, rows, batch_size, begins, after_batch, not incremental)

        def epoch(order):
            """The loss of an epoch, the mean over rows."""
            losses = _epoch(fit, data, order, batch_size, after_batch)
            return loss_type(losses @ batch_rows / rows)

        self._trains = True
        stop, interrupted = self._run_epochs(fit, epoch, rows, validation, validation_loss_data, incremental)
        if not incremental and not interrupted:
            fit.end()
        if self.early_stopping:
            self._come_back_to_the_best(stop, incremental)

    def _begin_descent(self, incremental):
        """Make `_optimizer` a new one, unless there is one to go on with; whether it was made."""
        last = self.__dict__.get("_optimizer")
        # One of scikit-learn's, put here with a fitted model's other attributes, is none to go on with; nor is one of a
        # fit that ended before its first update.
        begins = not (incremental and isinstance(last, Descent) and last.steps)
        if begins:
            scheduler = None if self.schedule is None else LearningRateScheduler(self.schedule)
            self._optimizer = Descent(self._schedule(), scheduler)
        # scikit-learn's stream of random numbers is left alone where nothing is dropped.
        if self.dropout and self._optimizer.seed is None:
            self._optimizer.seed = int(self._random_state.randint(2**31))
        return begins

    def _begin_watching(self):
        """Have what early stopping, or the training loss, is compared with, if an earlier fit went by the other one."""
        self.__dict__.setdefault("loss_curve_", [])
        self.__dict__.setdefault("_no_improvement_count", 0)
        if self.early_stopping and getattr(self, "validation_scores_", None) is None:
            self.validation_scores_, self.best_validation_score_, self.best_loss_ = [], -np.inf, None
        elif not self.early_stopping and getattr(self, "best_loss_", None) is None:
            self.validation_scores_, self.best_validation_score_, self.best_loss_ = None, None, np.inf

    def _rows_of_a_batch(self, rows):
        """`batch_size` as a number, at most all rows."""
        if self.batch_size == "auto":
            return min(200, rows)
        if self.batch_size > rows:
            warnings.warn(
                f"Got `batch_size` {self.batch_size}, larger than the {rows} training samples: it is clipped",
                stacklevel=5,
            )
        # In `partial_fit` scikit-learn checks no parameter; where a batch has no rows it takes them one by one.
        return max(1, min(operator.index(self.batch_size), rows))

    def _run_epochs(self, fit, epoch, rows, validation, validation_loss_data, incremental):
        """`_epochs_to_do`; (whether it has converged, whether Ctrl-C came)."""
        try:
            self.n_iter_ = 0
            # No loop here: an interrupt at the end of its turn might not be caught, see `Trainer._phases_to_do`.
            return self._epochs_to_do(fit, epoch, rows, validation, validation_loss_data, incremental), False
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
            return False, True
        finally:
            fit.close()

    def _epochs_to_do(self, fit, epoch, rows, validation, validation_loss_data, incremental):
        """Epochs until one of those that may end the fit does; whether it has converged.

        Args:
            fit: the `EstimatorFit`.
            epoch: a function of an order of the rows, or None for their own, that trains on all of them once and
                returns the loss.
            rows: how many there are.
            validation: (X, y, sample_weight) for the score of early stopping, or None.
            validation_loss_data: the same as `_loss_data` has it, for the loss.
            incremental: whether this is a call of `partial_fit`, of one epoch.
        """
        order, stop = np.arange(rows), False
        for _ in range(self.max_iter):
            if self._tasks:
                self._tasks.begin_epoch()
            if self.shuffle:
                # What sklearn.utils.shuffle draws, without its checks.
                permutation = np.arange(rows)
                self._random_state.shuffle(permutation)
                order = order[permutation]
            loss = epoch(order if self.shuffle else None)
            self.n_iter_ += 1
            self.t_ += rows
            self.loss_ = loss
            self.loss_curve_.append(self.loss_)
            if self.verbose:
                print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
            numbers = {"loss": float(self.loss_)}
            if validation_loss_data:
                numbers["val_loss"] = self._loss_of(*validation_loss_data)
                self.validation_loss_curve_.append(numbers["val_loss"])
            self._update_no_improvement_count(self.early_stopping, *(validation or (None, None, None)))
            if self.early_stopping:
                numbers["val_score"] = float(self.validation_scores_[-1])
            stop = self._epoch_ends_the_fit()
            asked = fit.end_epoch(numbers)
            if (self._tasks and self._tasks.end_epoch()) or asked or stop or incremental:
                break
            if self.n_iter_ == self.max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization "
                    "hasn't converged yet.",
                    sklearn.exceptions.ConvergenceWarning,
                    stacklevel=6,
                )
        return stop

    def _come_back_to_the_best(self, stop, incremental):
        """With early stopping: take the parameters with the best score where the fit has ended."""
        if incremental:
            self.early_stopped_ = stop
            if stop:
                self._no_improvement_count = 0
        if stop or not incremental:
            self._put_back({"coefs_": self._best_coefs, "intercepts_": self._best_intercepts} | self._best_others)
            if not incremental:
                # As scikit-learn leaves them. Another pass of partial_fit may have to come back to those that it keeps.
                self._best_coefs, self._best_intercepts = self.coefs_, self.intercepts_

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
        y = y.toarray() if scipy.sparse.issparse(y) else np.asarray(y)
        check_consistent_length(X, y)
        if is_classifier(self):
            y = self._checked_labels(y)
        else:
            _refuse_text(y, "y_val")
            columns = self.n_outputs_ if self._several_q() is None else 1
            if y.shape[1:] not in ((columns,), () if columns == 1 else None):
                raise wrong_shape("y_val", shape_text("*", columns), y)
            y = self._repeated(check_array(y, ensure_2d=False, dtype="numeric", input_name="y_val"))
        return X, y, None if sample_weight is None else _check_sample_weight(sample_weight, X)

    def _checked_labels(self, y):
        """The classes of a validation set, as `y_val` has them."""
        if self._label_binarizer.y_type_.startswith("multilabel"):
            if y.shape[1:] != (self.n_outputs_,):
                raise wrong_shape("y_val", shape_text("*", self.n_outputs_), y)
            known = {0, 1}
        else:
            y = column_or_1d(y, warn=True)
            known = set(self.classes_.tolist())
        unknown = set(y.ravel().tolist()) - known
        if unknown:
            raise ValueError(f"y_val: expected classes of y, {sorted(known)}, got {unknown.pop()!r}")
        return y

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
        # Not by `solver`: partial_fit goes on with the optimizer that it has.
        if isinstance(schedule, SGDOptimizer):
            self._optimizer.rate_changed(before)
        return stop


def _takes_weights(scorer):
    """Whether a scorer, one of scikit-learn's or a function of the user's own, has a `sample_weight`."""
    try:
        parameters = inspect.signature(getattr(scorer, "_score_func", scorer)).parameters.values()
    except ValueError:  # a function in C may not tell
        return False
    return any(each.name == "sample_weight" or each.kind is each.VAR_KEYWORD for each in parameters)


def _refuse_text(y, name):
    """Raise TypeError if targets are no numbers: NumPy would make some of text."""
    if y.dtype.kind not in "biufO":
        raise TypeError(f"{name}: expected numbers, got dtype {y.dtype}")


def _round_trip(net, held):
    """Round the parameters of a network to the dtype of another one, which takes them too."""
    for name in ("parameters", "statistics"):
        getattr(held, name)[:] = getattr(net, name)
        getattr(net, name)[:] = getattr(held, name)


def _epoch(fit, data, order, batch_size, after_batch):
    """Updates on every batch of the data in this order, or their own; returns the losses. fit: the `EstimatorFit`."""
    X, _, weight = data
    descent = fit.optimizer
    rows, features = X.shape
    sparse = scipy.sparse.issparse(X)
    most = 1 if after_batch else CALL_WORK // (3 * descent.parameter_count * batch_size)
    if sparse:
        most = min(most, dense_rows(features, X.dtype) // batch_size)
    if weight.size:
        refuse_zero(np.add.reduceat(weight if order is None else weight[order], range(0, rows, batch_size)))
    found = []
    for first, count in pieces(-(-rows // batch_size), most):
        here = slice(first * batch_size, (first + count) * batch_size)
        rows_of_piece = here if order is None else order[here]
        rates = fit.learning_rates(count)
        # No name for the rows here: a sparse piece, made dense, would stay in memory beside the next one.
        found.append(descent.run(*_piece(data, rows_of_piece), batch_size, count, rates))
        if after_batch:
            after_batch()
        fit.batches_done(found[-1], rates)
    return np.concatenate(found)


def _piece(data, rows):
    """(X, y, weight, order) as `Descent.run` takes them, of some rows: a slice, or their numbers in an order."""
    X, y, weight = data
    if isinstance(rows, slice) or scipy.sparse.issparse(X):
        x = X[rows].toarray() if scipy.sparse.issparse(X) else X[rows]
        return x, y[rows], weight[rows] if weight.size else weight, NO_ORDER
    return *data, rows
