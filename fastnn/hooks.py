"""How a fit checks and calls its callbacks; callbacks.py says what those are, and has fastnn's own."""

import dataclasses
import math

import numpy as np

from .arguments import listed, shown
from .callbacks import Checkpoint, CSVLogger, EarlyStopping, LearningRateScheduler, refuse_unknown
from .metrics import RESERVED
from .other_names import did_you_mean
from .schedules import Schedule

HOOKS = ("on_fit_begin", "on_batches_end", "on_epoch_end", "on_fit_end")


def callback_list(callbacks):
    """A list of callbacks, checked."""
    callbacks = listed(callbacks, "callbacks", "functions and objects with on_epoch_end")
    for callback in callbacks:
        if isinstance(callback, type):
            raise TypeError(f"callbacks: expected an object, got the class {callback.__name__}; call it")
        if isinstance(callback, Schedule):
            raise TypeError(f"callbacks: expected LearningRateScheduler({callback!r}), got the schedule alone")
        _refuse_other_hooks(callback)
        remembers, recalls = (hasattr(callback, name) for name in ("state_dict", "load_state_dict"))
        if remembers != recalls:
            has, lacks = ("state_dict", "load_state_dict")[:: 1 if remembers else -1]
            raise TypeError(f"callbacks: expected {lacks} beside the {has} of {shown(callback)}")
        if not callable(callback) and not any(callable(getattr(callback, hook, None)) for hook in HOOKS):
            raise TypeError(f"callbacks: expected functions or objects with on_epoch_end, got {shown(callback)}")
    schedulers = sum(hasattr(callback, "learning_rates") for callback in callbacks)
    if schedulers > 1:
        raise ValueError(f"callbacks: expected at most one LearningRateScheduler, got {schedulers}")
    return callbacks


def _refuse_other_hooks(callback):
    """Raise TypeError for a method whose name is nearly one of HOOKS, or is a hook elsewhere: nothing would call it."""
    for name in dir(callback):
        if name.startswith("on_") and name not in HOOKS and (meant := did_you_mean(name, HOOKS)):
            raise TypeError(
                f"callbacks: expected methods of the names {', '.join(HOOKS)}, each of (trainer, history), got {name} "
                f"of {shown(callback)}{meant}"
            )


def call(callback, hook, trainer, history):
    """Call one of the HOOKS, if the callback has it."""
    method = getattr(callback, hook, callback if hook == "on_epoch_end" and callable(callback) else None)
    return None if method is None else method(trainer, history)


def ends_fit(answer):
    """Whether what `on_epoch_end` returned asks for the end of the fit."""
    return isinstance(answer, (bool, np.bool_)) and bool(answer)


def scheduler_among(callbacks):
    """The callback that sets learning rates, or None."""
    return next((callback for callback in callbacks if hasattr(callback, "learning_rates")), None)


def scheduled_rates(scheduler, base, position, count):
    """The learning rates of the next `count` updates, as kernels take them.

    Args:
        scheduler: an object with the method `learning_rates` of a `LearningRateScheduler`, or None.
        base: the optimizer's learning rate.
        position: where the fit stands.

    Returns:
        float64 (count,); None without a scheduler.

    Raises:
        ValueError: the scheduler, which may be the user's own, has given another number of them; or one is not a finite
            number of at least 0, as those of a schedule that grows are at some time.
    """
    if scheduler is None:
        return None
    # A position of its own: by the fit's, kernels count their rows.
    rates = scheduler.learning_rates(base, dataclasses.replace(position), count)
    rates = np.ascontiguousarray(rates, np.float64)
    if rates.shape != (count,):
        raise ValueError(f"learning_rates: expected shape ({count},), got {rates.shape}")
    bad = ~((rates >= 0) & (rates < math.inf))
    if bad.any():
        raise ValueError(f"learning_rates: expected finite numbers of at least 0, got {rates[bad][0]}")
    return rates


def matching_states(states, callbacks):
    """For each callback the state that it had, from (kind, state) pairs; None stands for a fit that just begins."""
    if states is None:
        return [None] * len(callbacks)
    had, got = [kind for kind, _ in states], [type(callback).__name__ for callback in callbacks]
    if had != got:
        raise ValueError(f"callbacks: expected those of the fit, [{', '.join(had)}], got [{', '.join(got)}]")
    return [state for _, state in states]


def refuse_missing(callbacks, names):
    """Raise ValueError before a fit if one of fastnn's callbacks will look for a number that there will not be.

    names: of the numbers that the fit notes after every epoch.
    """
    for i, callback in enumerate(callbacks):
        monitor = callback.monitor if isinstance(callback, (EarlyStopping, Checkpoint, LearningRateScheduler)) else None
        if monitor in RESERVED or not any_foreign(callbacks[: i + 1]):
            refuse_unknown(monitor, names)


def refuse_other_numbers(history, names, callbacks):
    """Raise ValueError if a fit that resumes would note other numbers than those in its history.

    names: as in `refuse_missing`; the learning rate is left to `matching_states`.
    """
    if not history.epochs:
        return
    had, get = (set(found) - {"learning_rate"} for found in (history.metrics, names))
    lost = had - get if not any_foreign(callbacks) else (had - get) & RESERVED
    if lost or get - had:
        raise ValueError(
            f"validation_data, metrics: expected those of the fit, which give {', '.join(history.metrics)}, got those "
            f"that give {', '.join(names)}"
        )


def any_foreign(callbacks):
    """Whether one of them is the user's own, which may note numbers of its own in the history."""
    own = EarlyStopping, Checkpoint, LearningRateScheduler, CSVLogger
    return any(type(callback) not in own for callback in callbacks)
