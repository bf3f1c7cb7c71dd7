"""What a fit works on: its arguments, checked, and the order in which it visits their rows."""

from collections import namedtuple

import numpy as np

from .arguments import flag, real_number, shown
from .class_weights import weighted
from .hooks import callback_list, scheduler_among
from .kernels.compilation import aside
from .metrics import named
from .validation import as_training_data, refuse_overlap

# So many rows take longer to shuffle than Ctrl-C should have to wait.
MANY_ROWS = 2**20

# So many rows are looked at together for what is not finite.
LOOKED_AT = 2**14

# data: (x, y, sample_weight) to train on. watched: data by prefix, functions: by name, with which to watch them.
Task = namedtuple("Task", "loss data watched functions callbacks progress")


def training_data(net, loss, moments, x, y, sample_weight):
    """What `as_training_data` returns, in memory that training does not change."""
    data = as_training_data(x, y, sample_weight, net, loss)
    for name, array in zip(("x", "y", "sample_weight"), data, strict=True):
        # An array with memory of its own has no base.
        if array.base is not None:
            refuse_overlap(array, net.network.parameters, name, "the parameters")
            refuse_overlap(array, net.statistics, name, "the statistics")
            for moment in moments:
                refuse_overlap(array, moment, name, "the optimizer's moments")
    return data


def _told(given):
    kind = type(given).__name__
    return f"a {kind} of {len(given)}" if isinstance(given, (tuple, list)) else f"a {kind}"


def _validation_data(net, loss, given):
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise ValueError(f"validation_data: expected (x, y) or (x, y, sample_weight), got {_told(given)}")
    x, y, weight = (*given, None)[:3]
    try:
        # Views, as those of the training data.
        return _counting(tuple(array[:] for array in as_training_data(x, y, weight, net, loss)))
    except (ValueError, TypeError) as error:
        raise type(error)(f"validation_data: {error}") from error


def _counting(data):
    """Data to validate on, of which some row counts: of others the loss is 0, the best that there is."""
    if data[2].size and not data[2].any():
        raise ValueError("sample_weight: expected a weight above 0 for some row to validate on, got zeros")
    return data


def make_task(net, loss, moments, x, y, sample_weight, validation_data, callbacks, metrics, progress):
    """The `Task` that the arguments of a fit make; moments: those of its optimizer."""
    # Views, of which nobody else can set the shape.
    data = tuple(array[:] for array in training_data(net, loss, moments, x, y, sample_weight))
    functions = named(metrics, loss)
    watched = {"": data} if functions else {}
    if validation_data is not None:
        watched["val_"] = _validation_data(net, loss, validation_data)
    progress = None if progress is None else flag(progress, "progress")
    return Task(loss, data, watched, functions, callback_list(callbacks), progress)


def rows_held_back(validation_split, rows):
    """How many of so many rows a share of them is, some but not all; None of them is none."""
    if validation_split is None:
        return 0
    count = round(real_number(validation_split, "validation_split", 0, above=True, below=1) * rows)
    if not 0 < count < rows:
        raise ValueError(
            f"validation_split: expected a share that leaves rows to train on and rows to validate on, got "
            f"{shown(validation_split)}, which holds back {count} of {rows}"
        )
    return count


def divided(task, held_back):
    """A task that validates on the last rows of its data, so many of them, and trains on the others."""
    if held_back == 0:
        return task
    if "val_" in task.watched:
        raise ValueError("validation_data: expected None in a fit with validation_split, got both")
    rows = task.data[0].shape[0] - held_back
    # Of no weights there are none on either side.
    data, behind = (tuple(array[part] for array in task.data) for part in (slice(rows), slice(rows, None)))
    watched = dict.fromkeys(task.watched, data) | {"val_": behind}
    _counting(behind)
    return task._replace(data=data, watched=watched)


def weighted_task(task, net, class_weight, sample_weight):
    """A task that trains by the weights of classes too; its numbers of validation data and its metrics stay without.

    sample_weight: that of the user, whose first rows are those that the task trains on.
    """
    return task._replace(data=weighted(task.data, class_weight, sample_weight, net, task.loss))


def has_weights(task):
    """Whether it trains by weights, of samples or of classes."""
    return task.data[2].size > 0


def numbers_of(task):
    """Names of the numbers that the history gets after every epoch, in their order."""
    watched = [(prefix, ["loss"] * bool(prefix) + list(task.functions)) for prefix in task.watched]
    rate = [] if scheduler_among(task.callbacks) is None else ["learning_rate"]
    return ["loss", *(prefix + name for prefix, names in watched for name in names), *rate, "seconds"]


def check_batches(net, rows, batch_size):
    """Refuse batches of fewer rows than the network can be trained on, of which an epoch's last is the shortest."""
    least, shortest = net._least_rows, rows % batch_size or batch_size
    if shortest < least:
        raise ValueError(
            f"batch_size: expected batches of at least {least} rows for batch normalization, got one of {shortest} "
            f"where {rows} rows are taken {batch_size} at a time"
        )


def all_finite(parameters):
    """Whether none of them is nan or inf."""
    return bool(np.isfinite(parameters).all())


def why_not_finite(task, parameters, rows):
    """What a message says of a fit in which a number has become nan or inf.

    Args:
        parameters: those before the epoch.
        rows: the numbers of those that it has been trained on since.
    """
    if not all_finite(parameters):
        return "parameters were nan or inf before it"
    for name, array in zip("xy", task.data[:2], strict=True):
        # In pieces: a batch may be all of the data, which memory may not hold twice.
        for first in range(0, rows.size, LOOKED_AT):
            piece = rows[first : first + LOOKED_AT]
            bad = np.argwhere(~np.isfinite(array[piece]))
            if bad.size:
                row, column = piece[bad[0][0]], bad[0][1]
                where = f"row {row}" + (f", column {column}" if array.shape[1] > 1 else "")
                return f"{name} holds {array[row, column]} at {where}, in {array.dtype}"
    or_else = " or the function gives it" if task.loss.custom else ""
    return (
        f"x and y are finite, so the steps are too long or the numbers too large{or_else}; lower the learning "
        "rate, scale the data or set clip_norm"
    )


def order_of_rows(rows, seed, epoch):
    """A permutation of the rows; a counter-based generator gives the same on every machine with the same
    version of NumPy, and at every start."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
    # Ten million rows take a second.
    order = generator.permutation(rows) if rows < MANY_ROWS else aside(generator.permutation, rows)
    return order.astype(np.int64, copy=False)
