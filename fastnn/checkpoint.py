"""Checkpoints: a trainer in a file, as plain data.

A model file (see `serialization`) with more in it: metadata "training", JSON of all that is not an array, in which
{"tensor": name} stands for a tensor of that name. The names begin with "training."; nothing in a file is executed.
"""

import contextlib
import dataclasses
import json

import numpy as np

from . import losses, optimizers
from .arguments import flag, is_number, real_number, seed_number, shown, whole_number
from .history import History
from .metrics import RESERVED
from .position import PHASES, Position
from .serialization import TRAINING, read_file, write_file
from .validation import as_parameters

# The only key of the JSON object that stands for an array.
TENSOR = "tensor"


def _encode(value, name, tensors):
    """A value as JSON; arrays go to `tensors`."""
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray) or value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
            got = type(value).__name__ if value.dtype.kind in "biuf" else f"dtype {value.dtype}"
            raise TypeError(f"{name}: expected JSON and arrays of real numbers of at most 64 bits, got {got}")
        # A key may have a dot too.
        while name in tensors:
            name += "'"
        tensors[name] = np.array(value, value.dtype.newbyteorder("="), order="C", subok=False)
        return {TENSOR: name}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value) or list(value) == [TENSOR]:
            raise TypeError(f"{name}: expected names, and not {TENSOR!r} alone, as keys, got {shown(list(value))}")
        return {key: _encode(part, f"{name}.{key}", tensors) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(part, f"{name}.{i}", tensors) for i, part in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"{name}: expected JSON and arrays, got {type(value).__name__}")


def _decode(value, tensors):
    if isinstance(value, dict):
        if list(value) == [TENSOR]:
            return tensors[value[TENSOR]]
        return {key: _decode(part, tensors) for key, part in value.items()}
    return [_decode(part, tensors) for part in value] if isinstance(value, list) else value


def _fields(thing, own):
    """A loss or an optimizer by its name and its fields; without them if it is the user's own, of some name."""
    return {"name": thing.name} | ({"own": own} if own else dataclasses.asdict(thing))


def _from_fields(get, fields):
    fields = dict(fields)
    return type(get(fields.pop("name")))(**fields)


def _own_class(optimizer):
    """The name of a class of the user's, or None."""
    kind = type(optimizer)
    return None if kind is type(optimizers.get(optimizer.code)) else kind.__name__


def _checked_own(given, own, name, path, expected):
    """Refuse a loss or an optimizer that is missing, or one too many; own: what the file says of one it cannot hold."""
    if own and given is None:
        raise ValueError(f"{name}: expected {expected} that {path} was trained with, which a file cannot hold")
    if not own and given is not None:
        raise ValueError(f"{name}: expected None, since {path} was trained with one of fastnn's, got {shown(given)}")


def _check_metrics(epochs, metrics):
    """Raise TypeError or ValueError unless each epoch has its numbers; callbacks may note theirs of the last."""
    for name, column in metrics.items():
        if not isinstance(name, str) or not isinstance(column, list) or not all(map(is_number, column)):
            raise TypeError(f"history: expected a list of numbers for {shown(name)}, got {shown(column)}")
        least = len(epochs) - (name not in RESERVED)
        if not least <= len(column) <= len(epochs):
            raise ValueError(
                f"history: expected {len(epochs)} numbers for {shown(name)}, got {len(column)}; History.note takes "
                "them from callbacks"
            )


def write_checkpoint(trainer, path):
    """Write a trainer to a file; see `Trainer.save`."""
    position, history, tensors = trainer.position(), trainer.history, {}
    if history is not None:
        _check_metrics(history.epochs, history.metrics)
    record = {
        "loss": _fields(trainer.loss, trainer.loss.custom),
        "optimizer": _fields(trainer.optimizer, _own_class(trainer.optimizer)),
        "seed": trainer.seed,
        "moments": trainer.moments,
        "steps": trainer.steps,
        "epochs": trainer.epochs,
        # Not by asdict, which would copy what callbacks remember.
        "position": None if position is None else vars(position),
        "history": None if history is None else vars(history),
    }
    write_file(trainer.net, path, json.dumps(_encode(record, TRAINING, tensors)), tensors)


@contextlib.contextmanager
def _readable(path):
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"{path}: training: cannot be read: {shown(error)}") from error


def read_checkpoint(kind, path, loss, optimizer):
    """Read a trainer of that kind, `Trainer` or its subclass; see `Trainer.restore`."""
    net, text, tensors = read_file(path)
    if text is None:
        raise ValueError(f"{path}: a model without a training; fastnn.load reads it")
    with _readable(path):
        record = _decode(json.loads(text), tensors)
        custom, own = record["loss"]["name"] == losses.Custom.name, record["optimizer"].get("own")
        code = optimizers.get(record["optimizer"]["name"]).code
    _checked_own(loss, custom, "loss", path, "the function")
    loss = losses.get(loss) if custom else None
    if custom and not loss.custom:
        raise ValueError(f"loss: expected the function that {path} was trained with, got {shown(loss)}")
    _checked_own(optimizer, own, "optimizer", path, f"the {shown(own)}")
    optimizer = optimizers.get(optimizer) if own else None
    if own and (optimizer.code, type(optimizer).__name__) != (code, own):
        raise ValueError(f"optimizer: expected the {shown(own)} that {path} was trained with, got {shown(optimizer)}")
    with _readable(path):
        loss = loss or _from_fields(losses.get, record["loss"])
        optimizer = optimizer or _from_fields(optimizers.get, record["optimizer"])
        trainer = kind(net, loss, optimizer, seed=seed_number(record["seed"]))
        history = None if record["history"] is None else _history(**record["history"])
        position = None if record["position"] is None else _position(**record["position"])
        if (history is None) != (position is None):
            raise ValueError("expected a history with a position")
        for moment, saved in zip(trainer.moments, record["moments"], strict=True):
            moment[:] = as_parameters(saved, moment.shape, moment.dtype, "moments")
        trainer._take_up(
            whole_number(record["steps"], "steps", 0), whole_number(record["epochs"], "epochs", 0), position, history
        )
    return trainer


def _history(*, epochs, metrics, seed):
    epochs = [whole_number(epoch, "epoch", 1) for epoch in epochs]
    _check_metrics(epochs, metrics)
    return History(epochs, metrics, seed_number(seed))


def _position(
    *,
    rows,
    batch_size,
    shuffle,
    epochs,
    held_back,
    weighted,
    phase,
    epoch,
    batch,
    losses,
    seconds,
    learning_rate,
    callbacks_done,
    stop,
    states,
):
    rows, batch_size = whole_number(rows, "rows", 1), whole_number(batch_size, "batch_size", 1)
    epochs, epoch = whole_number(epochs, "epochs", 0), whole_number(epoch, "epoch", 0)
    batches = -(-rows // batch_size)
    if not isinstance(losses, np.ndarray) or losses.shape != (batches,) or losses.dtype != np.float64:
        raise ValueError(f"losses: expected {batches} float64 numbers")
    if phase not in PHASES or epoch > epochs or not 0 <= whole_number(batch, "batch", 0) <= batches:
        raise ValueError(f"no such position: {shown(phase)}, epoch {epoch}, batch {batch}")
    return Position(
        rows=rows,
        batch_size=batch_size,
        shuffle=flag(shuffle, "shuffle"),
        epochs=epochs,
        held_back=whole_number(held_back, "held_back", 0),
        weighted=flag(weighted, "weighted"),
        phase=phase,
        epoch=epoch,
        batch=batch,
        losses=losses,
        seconds=real_number(seconds, "seconds", 0),
        learning_rate=None if learning_rate is None else real_number(learning_rate, "learning_rate", 0),
        callbacks_done=whole_number(callbacks_done, "callbacks_done", 0),
        stop=flag(stop, "stop"),
        states=None if states is None else [(str(kind), state) for kind, state in states],
    )
