"""How a trainer goes through a fit: its phases, its epochs in calls of the kernel, and the way back where one fails."""

import contextlib
import time
from collections import namedtuple

import numpy as np

from .fit_task import all_finite, order_of_rows, why_not_finite
from .hooks import call, ends_fit, matching_states, scheduled_rates, scheduler_among
from .interrupts import Interrupts
from .metrics import measured
from .position import BATCHES, DONE
from .progress import progress_bar

# One call of the kernel should last about this many seconds: Ctrl-C, checkpoints and progress wait for its end.
CALL_SECONDS = 0.05
# A call may be so many times longer than the one before. The first has MOST_AT_FIRST updates, or fewer if a slow core,
# which does so many operations a second, needs CALL_SECONDS for them; begun with a single one, a fit of 128 small
# updates took four calls, 25 us more.
MOST_GROWTH = 8
MOST_AT_FIRST = 128
SLOW_CORE = 4e9
# The order of rows that are taken as they lie.
NO_ORDER = np.empty(0, np.int64)
IN_A_FIT = "this trainer is in a fit: until its end no callback, metric or thread can begin another"

# What updates change, as it was: attributes of the trainer, its place in the epoch, and copies of the arrays.
_Snapshot = namedtuple("_Snapshot", "attributes place arrays copies")


def first_call(parameters, batch_size, loss):
    """How many updates the first call of a fit does; with a loss of the user's own, which sees each batch, one."""
    if loss.custom:
        return 1
    # Three products of the data with the parameters, and what an optimizer does to these.
    operations = parameters * (6 * batch_size + 20)
    return max(1, min(MOST_AT_FIRST, int(CALL_SECONDS * SLOW_CORE / operations)))


class FitLoop:
    """The part of a `Trainer` that runs its fits; updates and their state are the trainer's.

    A fit stands at a `Position`, which changes in steps that an interrupt cannot break.
    """

    def _go_on(self, task, position, history):
        """Run a fit from where it stands to its end; what ends it sooner tells which trainer can go on with it."""
        try:
            with Interrupts() as interrupts:
                try:
                    return self._fit(task, position, history, interrupts)
                finally:
                    interrupts.hold()
        except BaseException as error:
            # Who called net.fit has no other way to it. An error of the user's may not take it.
            with contextlib.suppress(Exception):
                error.trainer = self
            raise

    def _fit(self, task, position, history, interrupts):
        callbacks, claim, bar, learns = task.callbacks, object(), None, not self.net.adapted
        try:
            with interrupts.held:
                # One step: two threads may both have found no fit under way, and have worked on their data since.
                if self.__dict__.setdefault("_fit_under_way", claim) is not claim:
                    raise RuntimeError(IN_A_FIT)
                last = self._position, self.history
                self._position, self.history = position, history
                # Those that count until the callbacks have taken them up.
                states = matching_states(position.states, callbacks)
                bar = progress_bar(task.progress, position)
                self._batches_a_call = first_call(self.net.parameter_count, position.batch_size, task.loss)
            if learns:
                self.net.standardize._learn(task.data[0], task.data[2])
            self._phases_to_do(task, states, bar, interrupts.held)
            # Whichever way the last block is reached, none of it may be left out.
            interrupts.hold()
        except BaseException:
            interrupts.hold()
            raise
        finally:
            with interrupts.held:
                if self.__dict__.get("_fit_under_way") is claim:
                    if learns and position.at_start:
                        self.net.standardize._forget()
                    began = self._callbacks is not None
                    self._leave(bar)
                    if not began and last[0] is not None and last[0].phase != DONE:
                        # Nothing came of this one: that which was cut short can still be resumed.
                        self._position, self.history = last
        return history

    def _phases_to_do(self, task, states, bar, held):
        """What is left of a fit.

        Its loops are not in the `try` above: where a loop's turn ends in a condition, Python 3.12 and 3.13 leave its
        jump back out of the `try` around it, and an interrupt that comes there would pass by `except` and `finally`.
        """
        position, callbacks, before = self._position, task.callbacks, None
        for callback in callbacks:
            call(callback, "on_fit_begin", self, self.history)
        for callback, state in zip(callbacks, states, strict=True):
            if state is not None:
                callback.load_state_dict(state)
        self._callbacks = callbacks
        while position.phase != DONE:
            if position.phase == BATCHES:
                before = self._snapshot(before)
                self._epoch(task, before, bar, held)
                continue
            self._call_all(f"on_{position.phase}", held)
            with held:
                position.next_phase()

    def _leave(self, bar):
        """Let others begin a fit."""
        errors = []
        try:
            self._position.states = self._callback_states(errors)
        finally:
            self._callbacks = None
            del self._fit_under_way
            if bar is not None:
                bar.close()
        if errors:
            raise errors[0]

    def _callback_states(self, errors=None):
        """(kind, state) of the last fit's callbacks in their order, a state being what `state_dict` gave, or None.

        errors: a list for what is raised by some of them, whose state is None then: those of the others are not lost.
        """
        if self._callbacks is None:
            return self._position.states
        states = []
        for callback in self._callbacks:
            state = None
            try:
                state = callback.state_dict() if hasattr(callback, "state_dict") else None
            except Exception as error:
                if errors is None:
                    raise
                errors.append(error)
            states.append((type(callback).__name__, state))
        return states

    def _call_all(self, hook, held):
        """Call the callbacks that have not been called in this phase."""
        position, callbacks = self._position, self._callbacks
        while position.callbacks_done < len(callbacks):
            self._in_callback = True
            try:
                said = call(callbacks[position.callbacks_done], hook, self, self.history)
            finally:
                self._in_callback = False
            with held:
                position.callbacks_done += 1
                position.stop |= ends_fit(said)

    def _snapshot(self, last):
        """What an epoch changes, in the copies of the last one if they still fit."""
        arrays = self.net.network.parameters, self.net.statistics, *self._states
        if last is None or [copy.size for copy in last.copies] != [array.size for array in arrays]:
            copies = [np.empty_like(array) for array in arrays]
        else:
            copies = last.copies
        for kept, array in zip(copies, arrays, strict=True):
            kept[:] = array
        attributes = {name: self.__dict__[name] for name in ("_optimizer", "_optimization", "_states", "_steps")}
        return _Snapshot(attributes, self._position.place, arrays, copies)

    def _take_back(self, before):
        """Stand where the snapshot was taken."""
        for array, kept in zip(before.arrays, before.copies, strict=True):
            array[:] = kept
        self.__dict__.update(before.attributes)
        self._position.take_back(before.place)

    def _epoch(self, task, before, bar, held):
        """What is left of an epoch: its batches, and the numbers that history keeps of it."""
        position, callbacks, loss = self._position, self._callbacks, task.loss
        scheduler = scheduler_among(callbacks)
        order = order_of_rows(position.rows, self.history.seed, self.epochs + 1) if position.shuffle else None
        size, mark = position.batch_size, time.perf_counter()
        while position.batch < position.batches:
            first = position.batch
            count = min(self._batches_a_call, position.batches - first)
            rates = scheduled_rates(scheduler, self.optimizer.learning_rate, position, count)
            part = self._part(task.data, order, first, count)
            # Compiles what is not compiled yet: here, where Ctrl-C does not have to wait for the compiler.
            plan = self._plan(size, loss)
            if loss.custom:
                # Nor for the user's function, which may have given the trainer another optimizer.
                part, value = self._evaluated(part, size, loss, self.history.seed)
                plan = self._plan(size, loss)
            with held:
                began = time.perf_counter()
                found = self._run(plan, part, count, size, self.history.seed, rates)
                now = time.perf_counter()
                if loss.custom:
                    found[:] = value
                self._check(found, first, before, task, order)
                position.advance(found, now - mark, rates)
                if not loss.custom:
                    self._batches_a_call = max(1, int(count * min(MOST_GROWTH, CALL_SECONDS / max(now - began, 1e-9))))
                mark = now
            bar.update(count, self.epochs + 1, found[-1])
            for callback in callbacks:
                call(callback, "on_batches_end", self, self.history)
        with held:
            self._check_parameters(before, task, order)
        numbers = {"loss": self._mean_loss(task.data[2], order)}
        for prefix, part in task.watched.items():
            numbers |= self._watch(prefix, part, task)
        if scheduler is not None:
            numbers["learning_rate"] = position.learning_rate
        with held:
            self._epochs += 1
            self.history.append(self.epochs, numbers | {"seconds": position.seconds + time.perf_counter() - mark})
            position.end_epoch()
        bar.scores(numbers)

    def _mean_loss(self, weight, order):
        """The mean of the epoch's losses over samples."""
        position = self._position
        if weight.size:
            visited = weight if order is None else weight[order]
            starts = np.arange(0, position.rows, position.batch_size)
            weights = np.add.reduceat(visited, starts, dtype=np.float64)
            total = weights.sum()
        else:
            weights, total = np.full(position.batches, float(position.batch_size)), position.rows
            weights[-1] -= position.batches * position.batch_size - position.rows
        # Shares of the whole first: sums of losses or of weights could overflow, where the mean does not. What falls
        # below the smallest numbers is nothing to raise for, whatever np.seterr says.
        with np.errstate(under="ignore"):
            return float((position.losses * (weights / total)).sum()) if total else 0.0

    def _part(self, data, order, first, count):
        """(x, y, weights, order) of `count` batches of the data from batch `first` on."""
        size = self._position.batch_size
        rows = slice(first * size, (first + count) * size)
        if order is None:
            return *(array[rows] for array in data), NO_ORDER
        return *data, order[rows]

    def _check(self, found, first, before, task, order):
        """Take the updates back and raise FloatingPointError if a loss is not finite."""
        finite = np.isfinite(found)
        if not finite.all():
            bad = np.flatnonzero(~finite)
            batch = first + int(bad[0])
            what = f"loss is {found[bad[0]]} in epoch {self.epochs + 1} (batch {batch + 1})"
            self._fail(what, batch, before, task, order)

    def _check_parameters(self, before, task, order):
        """As `_check`, of what the last update has left behind, whose loss was that before it."""
        if not all_finite(self.net.network.parameters):
            what = f"parameters are nan or inf after epoch {self.epochs + 1}"
            self._fail(what, self._position.batches - 1, before, task, order)

    def _fail(self, what, batch, before, task, order):
        self._take_back(before)
        rows, size = np.arange(self._position.rows) if order is None else order, self._position.batch_size
        # Where activations saturate, a batch has a finite loss and an update that is not.
        seen = np.r_[rows[batch * size : (batch + 1) * size], rows[: batch * size]]
        raise FloatingPointError(f"{what}: {why_not_finite(task, self.net.network.parameters, seen)}")

    def _watch(self, prefix, data, task):
        """Loss of validation data, and metrics, of the network as it is."""
        # The training data's loss is that of their batches, see `_mean_loss`.
        found = measured(self.net, data, task.loss if prefix else None, task.functions)
        return {prefix + name: number for name, number in found.items()}
