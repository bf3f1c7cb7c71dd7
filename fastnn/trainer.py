"""Training: one batch at a time, or whole fits in calls of the kernel that each run many batches."""

from __future__ import annotations

import copy
import dataclasses
import operator
import secrets
from collections import namedtuple
from collections.abc import Iterable, Sequence

import numpy as np

from . import losses, optimizers
from .arguments import flag, seed_number, shown, whole_number
from .checkpoint import read_checkpoint, write_checkpoint
from .class_weights import weighted
from .elsewhere import OF_TRAINERS, RefusesElsewhere
from .fit_loop import IN_A_FIT, NO_ORDER, FitLoop
from .fit_task import (
    check_batches,
    divided,
    has_weights,
    make_task,
    numbers_of,
    rows_held_back,
    training_data,
    weighted_task,
)
from .history import History
from .hooks import refuse_missing, refuse_other_numbers
from .kernels.custom_training import update_by_gradient, update_outputs
from .kernels.regularized_training import begin_updates, training_plan
from .kernels.sweeps import Optimization, flat_update_worker
from .kernels.table import is_regularized
from .kernels.training import RATES, train_planned
from .position import Position
from .sequential import Sequential
from .typing import ArrayLike, CallbackLike, ClassWeightLike, LossLike, MetricLike, OptimizerLike, PathLike
from .validation import as_parameters, enough_rows

# numbers: from `training_plan`; the rest keeps alive what they point to, and tells whether they still fit.
_Plan = namedtuple("_Plan", "key network numbers address")


def _optimization(optimizer, moments):
    """What the kernel takes of an optimizer."""
    return Optimization(int(optimizer.code), optimizers.hyper_of(optimizer), *moments)


class Trainer(FitLoop, RefusesElsewhere):
    """A model, a loss and an optimizer with its moments; they live on from call to call.

    Args:
        net: a `Sequential`; its parameters are updated in place. A trainer stays with its net.
        loss: a name, a `fastnn.Loss`, an object of `fastnn.losses`, or a function of your own as
            `fastnn.losses.Custom` has it. Another one may be assigned; a fit that runs keeps the one for which it has
            checked its data, one that resumes takes the trainer's. A cross-entropy on a network that ends in its
            probabilities is a UserWarning.
        optimizer: an object of `fastnn.optimizers`, or a name; None is SGD().
        seed: of what `step` drops from layers with dropout, together with the number of the update; a fit has a seed of
            its own. None draws one.
        num_threads: most threads to use; None is the model's limit. Results do not depend on it.

    Attributes:
        steps, epochs: updates and epochs done so far.
        history: the `History` of the last fit, of as much of it as was done.

    Raises:
        ValueError, TypeError: an argument is not what it should be; the message names it.

    >>> from fastnn import MLP
    >>> net = MLP([1, 1], seed=0)
    >>> trainer = Trainer(net, loss="mse", optimizer="adam")
    >>> losses = [trainer.step([[1.0], [2.0]], [[2.0], [4.0]]) for _ in range(100)]
    >>> losses[-1] < losses[0]
    True
    """

    _elsewhere = OF_TRAINERS
    _optimizer: optimizers.Base
    _states: tuple[np.ndarray, ...]

    def __init__(
        self,
        net: Sequential,
        loss: LossLike = "mse",
        optimizer: OptimizerLike | None = None,
        *,
        seed: int | None = None,
        num_threads: int | None = None,
    ) -> None:
        if not isinstance(net, Sequential):
            raise TypeError(f"net: expected a Sequential, got {type(net).__name__}")
        self._net = net
        seed = seed_number(seed)
        self._seed = secrets.randbits(63) if seed is None else seed
        self._regularized = is_regularized(net.table)
        self.loss = loss
        self.num_threads = num_threads
        self.steps = self.epochs = 0
        self.history: History | None = None
        # Of the last fit; its callbacks while it runs.
        self._position = self._callbacks = None
        self._in_callback = False
        self._states = ()
        self.optimizer = optimizer

    @property
    def net(self) -> Sequential:
        """The model that is trained; fixed, since the moments are laid out by it."""
        return self._net

    @property
    def seed(self) -> int:
        """Of what `step` drops."""
        return self._seed

    @property
    def loss(self) -> losses.Base:
        """An object of `fastnn.losses`."""
        return self._loss

    @loss.setter
    def loss(self, loss: LossLike) -> None:
        loss = losses.get(loss)
        losses.warn_of_probabilities(loss, self.net.layers[-1].activation)  # type: ignore[union-attr]  # a Dense
        self._loss = loss

    @property
    def learning_rate(self) -> float:
        """The optimizer's; assigning one gives the trainer the same optimizer with that rate, its moments kept."""
        return self._optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self.optimizer = dataclasses.replace(self._optimizer, learning_rate=rate)  # type: ignore[type-var]

    @property
    def num_threads(self) -> int | None:
        """Most threads to use; None is the model's limit."""
        return self._num_threads

    @num_threads.setter
    def num_threads(self, count: int | None) -> None:
        self._num_threads = None if count is None else whole_number(count, "num_threads", 1)

    @property
    def steps(self) -> int:
        """Updates done so far."""
        return self._steps

    @steps.setter
    def steps(self, count: int) -> None:
        self._steps = whole_number(count, "steps", 0, bits=62)

    @property
    def epochs(self) -> int:
        """Epochs done so far."""
        return self._epochs

    @epochs.setter
    def epochs(self, count: int) -> None:
        self._epochs = whole_number(count, "epochs", 0, bits=62)

    @property
    def optimizer(self) -> optimizers.Base:
        """The optimizer. Assigning one with the same moments keeps them; with others, they and `steps` begin anew."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: OptimizerLike | None) -> None:
        optimizer = optimizers.get(optimizer)
        old, states, steps = self.__dict__.get("_optimizer"), self._states, self._steps
        if old is None or (old.code, old.states()) != (optimizer.code, optimizer.states()):
            size = self.net.parameter_count
            states = tuple(np.zeros(size if needed else 0, self.net.dtype) for needed in optimizer.states())
            steps = 0
        optimization = _optimization(optimizer, states)
        # One step: no interrupt falls between these.
        self.__dict__.update(
            _optimizer=optimizer, _optimization=optimization, _states=states, _steps=steps, _planned=None
        )

    def step(
        self,
        x: ArrayLike,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None = None,
        *,
        class_weight: ClassWeightLike | None = None,
    ) -> float:
        """One update on one batch.

        Args:
            x, y, sample_weight: as in `Sequential.loss_and_gradient`.
            class_weight: a dict or an array as there; not "balanced", for a batch does not tell how many rows of each
                class all of the data have.

        Returns:
            The loss before the update, a float; not checked for nan or inf.

        Raises:
            ValueError, TypeError: as `Sequential.loss_and_gradient`; an argument overlaps parameters or moments; or the
                model begins with a `Standardize` that has learned nothing yet.

        >>> from fastnn import MLP, SGD
        >>> net = MLP([1, 1], dtype="float64", seed=0)
        >>> net.parameters = [0.0, 0.0]  # weight, bias
        >>> Trainer(net, "mse", SGD(0.1)).step([[1.0], [2.0]], [2.0, 4.0])
        10.0
        >>> net.parameters
        array([1. , 0.6])
        """
        loss = self._loss
        if isinstance(class_weight, str):
            raise ValueError(
                f"class_weight: expected a dict or an array, since a step does not see all of the data, got "
                f"{shown(class_weight)}; numpy.bincount counts their labels"
            )
        data = training_data(self.net, loss, self._states, x, y, sample_weight)
        data = weighted(data, class_weight, sample_weight, self.net, loss)
        rows = data[0].shape[0]
        enough_rows(rows, self.net._least_rows)
        self._check_adapted()
        part = *data, NO_ORDER
        if not loss.custom:
            return float(self._run(self._plan(rows, loss), part, 1, rows, self._seed)[0])
        part, value = self._evaluated(part, rows, loss, self._seed)
        self._run(self._plan(rows, loss), part, 1, rows, self._seed)
        return value

    def _check_adapted(self):
        if self._regularized and not self.net.adapted:
            raise ValueError("net: its Standardize has not learned mean and scale yet; call its adapt with the data")

    def apply_gradient(self, gradient: ArrayLike) -> None:
        """One update by a gradient of your own making: of several batches together, of several processes, of a loss.

        `trainer.step(x, y)` is `trainer.apply_gradient(net.loss_and_gradient(x, y, trainer.loss)[1])`, to the bit, but
        for dropout, which is a part of steps alone, and running averages, which steps alone move. The optimizer does
        all that it does in a step: it clips, adds penalties, moves its moments.

        Args:
            gradient: flat, in the order of `Sequential.parameters`, any real dtype; it is left as it is, and not
                checked for nan or inf.

        Raises:
            ValueError, TypeError: gradient has another shape, or is not an array of real numbers; the model begins with
                a `Standardize` that has not learned yet.

        >>> import numpy as np
        >>> from fastnn import MLP
        >>> x = np.linspace(-1, 1, 64)[:, None]
        >>> net = MLP([1, 8, 1], seed=0)
        >>> trainer = Trainer(net, optimizer="adam")
        >>> halves = [net.loss_and_gradient(x[part], x[part] ** 2)[1] for part in (slice(32), slice(32, 64))]
        >>> trainer.apply_gradient((halves[0] + halves[1]) / 2)
        >>> trainer.steps
        1
        """
        net, dtype = self.net, self.net.dtype
        self._check_adapted()
        # A copy: clipping changes it.
        gradient = np.array(as_parameters(gradient, (net.parameter_count,), dtype, "gradient"))
        threads = net._resources.threads(1, self._num_threads or net.num_threads)
        address, done = flat_update_worker.address(dtype), np.zeros(1, np.int64)
        update_by_gradient.ready(dtype)
        parameters = net.network.parameters
        try:
            update_by_gradient(
                address, net.table, parameters, gradient, self._optimization, self._steps + 1, threads, done
            )
        finally:
            self.__dict__["_steps"] += int(done[0])

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike | None,
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
        """Train for some epochs. Rows are read in place: the data are not copied unless their dtype differs.

        A `Standardize` that has learned no mean and scale yet learns those of x first, by the weights of its rows and
        their classes; it forgets them if an error ends the fit before its first update, or takes that back.

        Args:
            x, y, sample_weight: as in `Sequential.loss_and_gradient`.
            class_weight: as there, "balanced" of the rows that are trained on. It applies to the training loss only;
                validation loss and all metrics use sample_weight alone, as in Keras.
            batch_size: rows of a batch; the last of an epoch may have fewer, but with batch normalization none may have
                one alone. None takes all rows.
            epochs: how often to go through the data.
            shuffle: visit the rows in a new order every epoch, fixed by (seed, epoch) alone.
            seed: a whole number below 2**64, from which follow the orders and, with the numbers of the updates, what is
                dropped; None draws one, see `History.seed`.
            validation_data: (x, y) or (x, y, sample_weight) on which loss and metrics are worked out after every epoch.
            validation_split: a share above 0 and below 1: as large a share of the rows, rounded to a whole number, is
                not trained on but is the validation data, with its weights. These are the last rows, before any
                shuffle: shuffle sorted data first. Not together with validation_data.
            callbacks: functions f(trainer, history), called after every epoch, or objects with the methods that
                `fastnn.callbacks` lists; True as result ends the fit.
            progress: True shows a bar, False none, None one on a terminal if the fit lasts.
            metrics: "accuracy" (cross-entropies); losses, by name or as objects of `fastnn.losses` (those of regression
                only if the loss is one too); or functions (y, prediction) -> float, which the history has by their
                __name__. They get read-only arrays: y is (rows, out_features) of the model's dtype, class labels are
                (rows,) whole numbers. Computed after every epoch, on the training data too.

        Returns:
            The `History` of this fit. "loss" is the (weighted) mean over rows, each before the update of its batch.

        Raises:
            RuntimeError: this trainer is in a fit: a callback, a metric, a schedule or another thread has called.
            FloatingPointError: a loss is nan or inf, or after an epoch a parameter; the message says which number of
                the data is to blame, if one is. Parameters, optimizer, moments and `steps` are then those from
                before its epoch, or from where `resume` took it up; from there its attribute `trainer` can resume.
            ValueError, TypeError: an argument is not what it should be, or overlaps the parameters or the moments; the
                message names it.
            KeyboardInterrupt: passed on between two updates, after some 0.05 s unless one update takes longer. Its
                attribute `trainer` has the `history` so far, and its `resume` goes on. Any other error raised during a
                fit has that attribute too; if a callback failed before the first batch, `resume` goes on with an
                earlier fit that was cut short.

        >>> import numpy as np
        >>> from fastnn import MLP
        >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> y = np.array([0, 1, 1, 0])
        >>> trainer = Trainer(MLP([2, 8, 2], activation="tanh", seed=0), "softmax_cross_entropy", "adam")
        >>> history = trainer.fit(x, y, epochs=300, seed=0, metrics=["accuracy"])
        >>> history.metrics["accuracy"][-1]
        1.0
        """
        task = self._task(x, y, sample_weight, validation_data, callbacks, metrics, progress)
        held_back = rows_held_back(validation_split, task.data[0].shape[0])
        task = weighted_task(divided(task, held_back), self.net, class_weight, sample_weight)
        rows = task.data[0].shape[0]
        batch_size = rows if batch_size is None else min(rows, whole_number(batch_size, "batch_size", 1))
        check_batches(self.net, rows, batch_size)
        epochs = whole_number(epochs, "epochs", 0)
        shuffle = flag(shuffle, "shuffle")
        seed = seed_number(seed)
        position = Position(rows, batch_size, shuffle, epochs, held_back, has_weights(task))
        refuse_missing(task.callbacks, numbers_of(task))
        history = History(seed=secrets.randbits(63) if seed is None else seed)
        return self._go_on(task, position, history)

    def resume(
        self,
        x: ArrayLike,
        y: ArrayLike | None,
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeightLike | None = None,
        validation_data: Sequence[ArrayLike | None] | None = None,
        callbacks: Iterable[CallbackLike] = (),
        progress: bool | None = None,
        metrics: Iterable[MetricLike] = (),
    ) -> History:
        """Finish the last fit, which Ctrl-C, an error or the end of its process cut short; see `Trainer.restore`.

        Parameters, history and callbacks end with the same bits as if the fit had run through. batch_size, epochs,
        shuffle, seed and validation_split are those of the fit; what a file cannot hold has to be given again.

        Args:
            x, y, sample_weight, class_weight, validation_data, metrics: what the fit was given.
            callbacks: as many as the fit was given and of the same kinds; they take up the states of those.
            progress: as in `fit`.

        Returns:
            The `History` of the whole fit. Resuming one that is finished changes nothing.

        Raises:
            ValueError: there is no fit to resume, or x has not its number of rows, or weights are missing or new, or
                callbacks are not its kinds, or other numbers would follow those of its history: validation data or
                metrics are missing, or new.
            RuntimeError, FloatingPointError, TypeError, KeyboardInterrupt: as `fit`.

        >>> import numpy as np
        >>> from fastnn import MLP
        >>> x = np.linspace(-1, 1, 64)[:, None]
        >>> def out_of_patience(trainer, history):
        ...     if trainer.epochs == 3:
        ...         raise KeyboardInterrupt
        >>> trainer = Trainer(MLP([1, 4, 1], seed=0), optimizer="adam")
        >>> try:
        ...     history = trainer.fit(x, x**2, epochs=5, seed=0, callbacks=[out_of_patience])
        ... except KeyboardInterrupt:
        ...     history = trainer.resume(x, x**2, callbacks=[lambda trainer, history: None])
        >>> history.epochs
        [1, 2, 3, 4, 5]
        """
        position, history = self._position, self.history
        if position is None:
            raise ValueError("resume: there is no fit to go on with; call fit")
        task = self._task(x, y, sample_weight, validation_data, callbacks, metrics, progress)
        expected, got = position.rows + position.held_back, task.data[0].shape[0]
        if got != expected:
            raise ValueError(f"x: expected the fit's {expected} rows, got {got}")
        task = weighted_task(divided(task, position.held_back), self.net, class_weight, sample_weight)
        if has_weights(task) != position.weighted:
            had, has = ("weights", "none") if position.weighted else ("no weights", "some")
            raise ValueError(f"sample_weight, class_weight: expected what the fit was given, {had}, got {has}")
        check_batches(self.net, position.rows, position.batch_size)
        names = numbers_of(task)
        refuse_missing(task.callbacks, names)
        refuse_other_numbers(history, names, task.callbacks)
        return self._go_on(task, position, history)

    def save(self, path: PathLike) -> None:
        """Write a checkpoint, whole or not at all: `Trainer.restore` reads it, and `fastnn.load` the model in it.

        A safetensors file of everything that training depends on but the data and the code of callbacks and metrics:
        parameters, loss, optimizer and moments, steps, seed, where the last fit stands, its history, the states of its
        callbacks. A callback may call it: the fit then resumes after that callback.

        Raises:
            OSError: the file cannot be written; an old one of that name is as it was.
            TypeError: the state of a callback is not JSON and arrays of numbers, or the history has what is no number.
            ValueError: a callback has put too many or too few numbers into the history, past `History.note`.

        >>> import pathlib, tempfile
        >>> from fastnn import MLP
        >>> path = pathlib.Path(tempfile.mkdtemp(), "training.safetensors")
        >>> Trainer(MLP([1, 1], seed=0), optimizer="adam").save(path)
        >>> Trainer.restore(path).optimizer.name
        'adam'
        """
        write_checkpoint(self, path)

    @classmethod
    def restore(cls, path: PathLike, loss: LossLike | None = None, optimizer: OptimizerLike | None = None) -> Trainer:
        """A trainer as `save` or a `Checkpoint` left it, with a model of its own.

        To finish the fit that it was in: `Trainer.restore(path).resume(x, y)`, see `resume`.

        Args:
            path: a checkpoint. Nothing in it is executed.
            loss: the function, if the trainer had a loss of your own; else None.
            optimizer: an equal one, if the trainer had one of a class of your own; else None.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not a checkpoint of fastnn, or not a whole one; or loss or optimizer is missing or
                one too many. The message says what is wrong.

        >>> import pathlib, tempfile
        >>> from fastnn import MLP, Checkpoint
        >>> path = pathlib.Path(tempfile.mkdtemp(), "training.safetensors")
        >>> x = [[0.0], [1.0]]
        >>> trainer = Trainer(MLP([1, 1], seed=0))
        >>> history = trainer.fit(x, x, epochs=3, seed=0, callbacks=[Checkpoint(path)])
        >>> Trainer.restore(path).resume(x, x, callbacks=[Checkpoint(path)]) == history
        True
        """
        return read_checkpoint(cls, path, loss, optimizer)

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """The optimizer's two states, live views: flat arrays of the parameters' size, or empty."""
        first, second = self._states
        return first[:], second[:]

    def position(self) -> Position | None:
        """Where the last fit stands, a `Position` of its own, or None; callbacks count as done when they ask."""
        position = self._position
        if position is None:
            return None
        done = position.callbacks_done + self._in_callback
        losses = position.losses.copy()
        return dataclasses.replace(position, losses=losses, callbacks_done=done, states=self._callback_states())

    def _take_up(self, steps, epochs, position, history):
        """Stand where another trainer stood."""
        self.steps, self.epochs, self._position, self.history = steps, epochs, position, history

    def _task(self, *arguments):
        """The `Task` that the arguments of a fit make."""
        if "_fit_under_way" in self.__dict__:
            raise RuntimeError(IN_A_FIT)
        return make_task(self.net, self._loss, self._states, *arguments)

    def _plan(self, batch_size, loss):
        """The plan for the kernel: that of the last call, if nothing has changed."""
        net = self.net
        threads = net._resources.threads(batch_size, self._num_threads or net.num_threads)
        key = net._resources.training(batch_size, threads), self._optimization, loss, threads
        last = self._planned
        if last is None or any(map(operator.is_not, last.key, key)):
            workspace, optimization, loss, threads = key
            numbers = training_plan(net.network, optimization, loss.code, workspace, threads, loss.parameter)
            last = self._planned = _Plan(key, net.network, numbers, numbers.ctypes.data)
        return last

    def __repr__(self):
        return f"Trainer({self.net!r}, loss={self.loss!r}, optimizer={self.optimizer!r}, steps={self.steps})"

    def __copy__(self):
        # Two that move the same moments would count the updates each for itself.
        return copy.deepcopy(self)

    def __getstate__(self):
        # Addresses are good for this process and these arrays alone.
        own = {"_planned": None, "_callbacks": None, "_in_callback": False}
        # A copy made by a callback stands where the fit stands; it can resume, with callbacks of its own.
        state = self.__dict__ | own | {"_position": self.position()}
        for name in ("_fit_under_way", "_optimization"):
            state.pop(name, None)
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        # Arrays come in memory that is not ours to write to, a file's that joblib maps or the bytes of a message.
        self._states = tuple(np.array(moment) for moment in self._states)
        if self._position is not None:
            self._position.losses = self._position.losses.copy()
        self._optimization = _optimization(self._optimizer, self._states)

    def _evaluated(self, part, batch_size, loss, seed):
        """A part of one batch for `_run`, with the slope of a loss of the user's own as y; and the loss."""
        x, y, none, order = part
        if order.size:
            x, y = x[order], y[order]
        net = self.net
        if self._regularized:
            workspace, optimization, _, threads = self._plan(batch_size, loss).key
            prediction = update_outputs(net.network, optimization, x, workspace, threads, seed, self._steps + 1)
        else:
            prediction = net.predict(x)
        value, slope = loss.evaluated(y, prediction)
        return (x, slope, none, NO_ORDER), value

    def _run(self, plan, part, count, batch_size, seed, rates=None):
        """One call of the kernel: updates on `count` batches; returns their losses.

        plan: that of `_plan` for them. part: x, y, weights and order. seed: of what is dropped. rates: a learning rate
            for each update, float64; None means the optimizer's.
        """
        # -inf is no loss: what is left of it counts the updates that were not done, should an interrupt come.
        batch_losses = np.empty(count)
        batch_losses.fill(-np.inf)
        done = self._steps
        if rates is not None:
            plan.numbers[RATES] = rates.ctypes.data
        if self._regularized:
            begin_updates(plan.numbers, seed, done + 1)
        try:
            train_planned(plan.address, *part, batch_size, done + 1, batch_losses)
        finally:
            # One update calls nothing here, and so leaves no gap for an interrupt; more come from `fit` alone, which
            # keeps interrupts out. By __dict__: `__setattr__` takes 0.1 us, of 4 that a small network takes.
            if count > 1:
                self.__dict__["_steps"] = done + int(np.count_nonzero(batch_losses != -np.inf))
            elif batch_losses[0] != -np.inf:
                self.__dict__["_steps"] = done + 1
            if rates is not None:
                plan.numbers[RATES] = 0
        return batch_losses
