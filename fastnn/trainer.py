"""Training: one batch at a time, or whole fits in calls of the kernel that each run many batches."""

import operator
import secrets
import time
from collections import namedtuple

import numpy as np

from . import losses, optimizers
from .history import History
from .kernels.network import Optimization, train_planned, training_plan
from .metrics import loss_of, named
from .progress import progress_bar
from .sequential import Sequential
from .validation import as_training_data, flag, listed, refuse_overlap, seed_number, shown, whole_number

# One call of the kernel should last about this many seconds: Ctrl-C, callbacks and progress wait for its end.
CALL_SECONDS = 0.05
# A call may be so many times longer than the one before: the first is short, and slow where it has to compile.
MOST_GROWTH = 8
# The order of rows that are taken as they lie.
NO_ORDER = np.empty(0, np.int64)

# numbers: from `training_plan`; the rest keeps alive what they point to, and tells whether they still fit.
_Plan = namedtuple("_Plan", "key network numbers address")


class Trainer:
    """A model, a loss and an optimizer with its moments; they live on from call to call.

    Args:
        net: a `Sequential`; its parameters are updated in place. A trainer stays with its net.
        loss: a name, a `fastnn.Loss` or an object of `fastnn.losses`. Another one may be assigned; a fit that runs
            keeps the one for which it has checked its data.
        optimizer: an object of `fastnn.optimizers`, or a name; None is SGD().
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

    def __init__(self, net, loss="mse", optimizer=None, *, num_threads=None):
        if not isinstance(net, Sequential):
            raise TypeError(f"net: expected a Sequential, got {type(net).__name__}")
        self._net = net
        self.loss = loss
        self.num_threads = num_threads
        self.steps = 0
        self.epochs = 0
        self.history = None
        self._batches_a_call = 1
        self._optimizer = None
        self.optimizer = optimizer

    # Fixed: the moments are laid out by it.
    net = property(lambda self: self._net, doc="The `Sequential` that is trained.")

    @property
    def loss(self):
        """An object of `fastnn.losses`."""
        return self._loss

    @loss.setter
    def loss(self, loss):
        self._loss = losses.get(loss)

    @property
    def num_threads(self):
        """Most threads to use; None is the model's limit."""
        return self._num_threads

    @num_threads.setter
    def num_threads(self, count):
        self._num_threads = None if count is None else whole_number(count, "num_threads", 1)

    @property
    def steps(self):
        """Updates done so far."""
        return self._steps

    @steps.setter
    def steps(self, count):
        self._steps = whole_number(count, "steps", 0, bits=62)

    @property
    def epochs(self):
        """Epochs done so far."""
        return self._epochs

    @epochs.setter
    def epochs(self, count):
        self._epochs = whole_number(count, "epochs", 0, bits=62)

    @property
    def optimizer(self):
        """The optimizer. Assigning one with the same moments keeps them; with others, they and `steps` begin anew."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer):
        optimizer = optimizers.get(optimizer)
        old = self._optimizer
        if old is None or (old.code, old.states()) != (optimizer.code, optimizer.states()):
            size = self.net.parameter_count
            self._states = tuple(np.zeros(size if needed else 0, self.net.dtype) for needed in optimizer.states())
            self._steps = 0
        self._optimizer = optimizer
        self._planned = None
        self._optimization = Optimization(int(optimizer.code), optimizer.hyper(), *self._states)

    def step(self, x, y, sample_weight=None):
        """One update on one batch.

        Args:
            x, y, sample_weight: as in `Sequential.loss_and_gradient`.

        Returns:
            The loss before the update, a float; not checked for nan or inf.

        Raises:
            ValueError, TypeError: as `Sequential.loss_and_gradient`; or an argument overlaps the parameters.
        """
        loss = self._loss.code
        data = self._training_data(x, y, sample_weight, loss)
        return float(self._run(data, NO_ORDER, 1, data[0].shape[0], loss)[0])

    def fit(
        self,
        x,
        y,
        *,
        batch_size=32,
        epochs=1,
        shuffle=True,
        seed=None,
        sample_weight=None,
        validation_data=None,
        callbacks=(),
        progress=None,
        metrics=(),
    ):
        """Train for some epochs. Rows are read where they lie: the data are not copied unless their dtype differs.

        Args:
            x, y, sample_weight: as in `Sequential.loss_and_gradient`.
            batch_size: rows of a batch; the last of an epoch may have fewer. None takes all rows.
            epochs: how often to go through the data.
            shuffle: visit the rows in a new order every epoch, fixed by (seed, epoch) alone.
            seed: a whole number below 2**64; None draws one, see `History.seed`.
            validation_data: (x, y) or (x, y, sample_weight) on which loss and metrics are worked out after every epoch.
            callbacks: functions f(trainer, history), or objects with on_epoch_end(trainer, history), called after every
                epoch; True as result ends the fit.
            progress: True shows a bar, False none, None one on a terminal if the fit lasts.
            metrics: "accuracy" (cross-entropies), or functions (y, prediction) -> float; worked out after every epoch,
                on the training data too.

        Returns:
            The `History` of this fit. "loss" is the (weighted) mean over rows, each before the update of its batch.

        Raises:
            FloatingPointError: a loss is nan or inf. Parameters and moments are then those from before its epoch.
            ValueError, TypeError: an argument is not what it should be, or overlaps the parameters; the message
                names it.
            KeyboardInterrupt: passed on; `history` has the epochs done, and the trainer can go on.

        >>> import numpy as np
        >>> from fastnn import MLP
        >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> y = np.array([0, 1, 1, 0])
        >>> trainer = Trainer(MLP([2, 8, 2], activation="tanh", seed=0), "softmax_cross_entropy", "adam")
        >>> history = trainer.fit(x, y, epochs=300, seed=0, metrics=["accuracy"])
        >>> history.metrics["accuracy"][-1]
        1.0
        """
        loss = self._loss
        # Views, of which nobody else can set the shape.
        data = tuple(array[:] for array in self._training_data(x, y, sample_weight, loss.code))
        rows = data[0].shape[0]
        batch_size = rows if batch_size is None else min(rows, whole_number(batch_size, "batch_size", 1))
        epochs = whole_number(epochs, "epochs", 0)
        shuffle = flag(shuffle, "shuffle")
        seed = seed_number(seed)
        functions = named(metrics, loss)
        watched = {"": data} if functions else {}
        if validation_data is not None:
            watched["val_"] = self._validation_data(validation_data, loss.code)
        callbacks = [_callback(callback) for callback in listed(callbacks, "callbacks", "functions")]

        bar = progress_bar(progress, epochs, -(-rows // batch_size))
        history = self.history = History(seed=secrets.randbits(63) if seed is None else seed)
        kept = ()
        try:
            for _ in range(epochs):
                began = time.perf_counter()
                order = _order(rows, history.seed, self.epochs + 1) if shuffle else None
                kept, steps = self._copy_state(kept), self._steps
                try:
                    numbers = {"loss": self._epoch(data, order, batch_size, bar, loss.code)}
                except FloatingPointError:
                    for array, copy in zip(self._state(), kept, strict=True):
                        array[:] = copy
                    self._steps = steps
                    raise
                self._epochs += 1
                for prefix, part in watched.items():
                    numbers |= self._watch(prefix, part, functions, loss)
                history.append(self.epochs, numbers | {"seconds": time.perf_counter() - began})
                stop = False
                for callback in callbacks:
                    said = callback(self, history)
                    stop |= isinstance(said, (bool, np.bool_)) and bool(said)
                if stop:
                    break
        finally:
            bar.close()
        return history

    def _state(self):
        """The arrays that training changes."""
        return self.net.network.parameters, *self._states

    def _copy_state(self, copies):
        """Copies of these arrays, in the arrays of the last copies if they still fit."""
        state = self._state()
        if [array.size for array in copies] != [array.size for array in state]:
            return [array.copy() for array in state]
        for array, copy in zip(state, copies, strict=True):
            copy[:] = array
        return copies

    def _training_data(self, x, y, sample_weight, loss):
        """What `as_training_data` returns, in memory that training does not change."""
        data = as_training_data(x, y, sample_weight, self.net, loss)
        for name, array in zip(("x", "y", "sample_weight"), data, strict=True):
            # An array with memory of its own has no base.
            if array.base is not None:
                refuse_overlap(array, self.net.network.parameters, name, "the parameters")
        return data

    def _epoch(self, data, order, batch_size, bar, loss):
        """One pass over the data; returns the mean loss over samples."""
        rows = data[0].shape[0]
        batches = -(-rows // batch_size)
        batch_losses = np.empty(batches)
        done = 0
        while done < batches:
            count = min(self._batches_a_call, batches - done)
            began = time.perf_counter()
            found = batch_losses[done : done + count] = self._train(data, order, done, count, batch_size, loss)
            seconds = time.perf_counter() - began
            self._check(found, done)
            done += count
            bar.update(count, self.epochs + 1, found[-1])
            self._batches_a_call = max(1, int(count * min(MOST_GROWTH, CALL_SECONDS / max(seconds, 1e-9))))
        weight = data[2] if data[2].size else np.ones(rows)
        visited = weight if order is None else weight[order]
        total = np.add.reduceat(visited, np.arange(0, rows, batch_size), dtype=np.float64)
        # Shares of the whole first: sums of losses or of weights could overflow, where the mean does not.
        return float((batch_losses * (total / total.sum())).sum()) if total.any() else 0.0

    def _train(self, data, order, first, count, batch_size, loss):
        """Updates on `count` batches from batch `first` on; returns their losses."""
        rows = slice(first * batch_size, (first + count) * batch_size)
        if order is None:
            x, y, weight = data
            return self._run((x[rows], y[rows], weight[rows]), NO_ORDER, count, batch_size, loss)
        return self._run(data, order[rows], count, batch_size, loss)

    def _plan(self, batch_size, loss):
        """The plan for the kernel: that of the last call, if nothing has changed."""
        net = self.net
        threads = net.resources.threads(batch_size, self._num_threads or net.num_threads)
        key = net.resources.training(batch_size, threads), self._optimization, loss, threads
        last = self._planned
        if last is None or any(map(operator.is_not, last.key, key)):
            workspace, optimization, loss, threads = key
            numbers = training_plan(net.network, optimization, loss, workspace, threads)
            last = self._planned = _Plan(key, net.network, numbers, numbers.ctypes.data)
        return last

    def __getstate__(self):
        # Addresses are good for this process and these arrays alone.
        return self.__dict__ | {"_planned": None}

    def _run(self, data, order, count, batch_size, loss):
        """One call of the kernel: updates on `count` batches of the data; returns their losses."""
        # -inf is no loss: what is left of it counts the updates that were not done, should an interrupt come.
        batch_losses = np.empty(count)
        batch_losses.fill(-np.inf)
        plan = self._plan(batch_size, loss)
        done = self._steps
        try:
            train_planned(plan.address, *data, order, batch_size, done + 1, batch_losses)
        finally:
            found = batch_losses[0] != -np.inf if count == 1 else np.count_nonzero(batch_losses != -np.inf)
            self._steps = done + int(found)
        return batch_losses

    def _check(self, found, first):
        bad = np.flatnonzero(~np.isfinite(found))
        if bad.size:
            raise FloatingPointError(
                f"loss is {found[bad[0]]} in epoch {self.epochs + 1} (batch {first + bad[0] + 1}): the data hold nan "
                "or inf, or the steps are too long; lower the learning rate, scale the data or set clip_norm"
            )

    def _validation_data(self, validation_data, loss):
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            raise ValueError("validation_data: expected (x, y) or (x, y, sample_weight)")
        x, y, weight = (*validation_data, None)[:3]
        try:
            return as_training_data(x, y, weight, self.net, loss)
        except (ValueError, TypeError) as error:
            raise type(error)(f"validation_data: {error}") from error

    def _watch(self, prefix, data, functions, loss):
        """Loss of validation data, and metrics, of the network as it is."""
        x, y, weight = data
        numbers = {"val_loss": loss_of(self.net, loss, x, y, weight)} if prefix else {}
        if functions:
            prediction = self.net.predict(x)
            numbers |= {prefix + name: function(prediction, y, weight) for name, function in functions.items()}
        return numbers


def _order(rows, seed, epoch):
    """A permutation of the rows; a counter-based generator gives the same on every machine and at every start."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
    return generator.permutation(rows).astype(np.int64, copy=False)


def _callback(callback):
    method = getattr(callback, "on_epoch_end", callback)
    if not callable(method):
        raise TypeError(f"callbacks: expected functions or objects with on_epoch_end, got {shown(callback)}")
    return method
