"""The one door for data: arrays that come from the user are checked here, and converted if they have to be.

Kernels follow raw pointers and check nothing, so whatever passes these functions is safe for them. The only copies of
the user's data are made here, and only where dtype, byte order or alignment demand one. Other arguments have their door
in arguments.py.
"""

import numpy as np

from .arguments import shape_text, shown, wrong_shape
from .kernels.codes import Loss

# Labels travel to the kernels as floats: beyond this float32 cannot tell neighbours apart.
FLOAT32_WHOLE_NUMBERS = 2**24
# Losses whose targets may be any number.
UNBOUNDED = frozenset({Loss.MSE, Loss.MAE, Loss.HUBER, Loss.LOG_COSH, Loss.QUANTILE})


def _numbers_of(column):
    """A column of a frame as float64, missing values as NaN; None if it holds no numbers."""
    array = np.asarray(column)
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    # Numbers that pandas holds with a missing value of its own become objects there; their dtype tells.
    if isinstance(column.dtype, np.dtype) or getattr(column.dtype, "kind", None) not in tuple("biuf"):
        return None
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _from_columns(value, name):
    """A frame, or one column of one, of which NumPy made objects: its columns are of kinds that have none in common."""
    if hasattr(value, "collect"):
        raise TypeError(f"{name}: expected an array of real numbers, got a {type(value).__name__}; collect it first")
    if not hasattr(value, "columns"):
        return _numbers_of(value) if hasattr(value, "to_numpy") and hasattr(value, "dtype") else None
    pairs = value.items() if hasattr(value, "items") else ((column.name, column) for column in value)
    arrays = []
    for label, column in pairs:
        arrays.append(_numbers_of(column))
        if arrays[-1] is None:
            raise TypeError(f"{name}: expected columns of real numbers, got column {shown(label)} of {column.dtype}")
    return np.stack(arrays, axis=1)


def _has_times(value):
    """Whether a frame has columns of dates, times or durations: beside numbers polars makes numbers of them."""
    kinds = getattr(value, "dtypes", ()) if hasattr(value, "columns") else ()
    return any(getattr(kind, "is_temporal", bool)() for kind in kinds)


def _masked(value):
    """Whether it is a masked array, or a list of those or of lists with a masked number: NumPy drops the mask."""
    if not isinstance(value, (list, tuple)):
        return isinstance(value, np.ma.MaskedArray)
    rows = (part if isinstance(part, (list, tuple)) else (part,) for part in value)
    return any(isinstance(part, np.ma.MaskedArray) for row in rows for part in row)


def real_array(value, name) -> np.ndarray:
    """`value` as an array of real numbers: itself where it is one."""
    if _masked(value):
        raise TypeError(f"{name}: expected an array of real numbers, got a masked array; fill it first")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array of real numbers: {error}") from None
    if array is not value and (array.dtype.kind not in "biuf" or _has_times(value)):
        columns = _from_columns(value, name)
        array = array if columns is None else columns
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected an array of real numbers, got {_told(value, array)}")
    return array


def _told(value, array):
    """What is no array of numbers, for a message."""
    if array.dtype != object or array.ndim > 0:
        return f"dtype {array.dtype}"
    if hasattr(value, "toarray"):
        return f"a sparse {type(value).__name__}; its toarray() is one"
    return "None" if value is None else f"a {type(value).__name__}"


def converted(array, dtype) -> np.ndarray:
    """`array` in a native dtype and aligned; copied only if it is not so already. Strides stay as they are.

    What lies beyond the dtype becomes inf, as IEEE rounds, whatever np.seterr says.
    """
    with np.errstate(all="ignore"):
        array = np.asarray(array, dtype)
    return array if array.flags.aligned else array.copy()


def as_samples(x, features, dtype, name="x") -> tuple[np.ndarray, bool]:
    """Samples as kernels take them.

    Args:
        x: (features,) or (rows, features) of any real dtype.

    Returns:
        ((rows, features) array of dtype with any strides, whether x was a single sample).
    """
    # What a training loop passes time and again needs no conversion, and should not wait for the checks of one.
    if type(x) is np.ndarray and x.dtype is dtype and x.ndim == 2 and x.shape[1] == features and x.flags.aligned:
        return x, False
    array = real_array(x, name)
    single = array.ndim == 1
    if array.ndim not in (1, 2) or array.shape[-1] != features:
        raise wrong_shape(name, shape_text("*", features), array)
    return converted(array.reshape(1, features) if single else array, dtype), single


def some_rows(x, name="x") -> np.ndarray:
    """x, if it has a row to train on."""
    if x.shape[0] == 0:
        raise ValueError(f"{name}: expected at least one row, got shape {x.shape}")
    return x


def enough_rows(rows, least, name="x"):
    """Raise ValueError if a batch has fewer rows than a network can be trained on."""
    if rows < least:
        raise ValueError(f"{name}: expected at least {least} rows of a batch for batch normalization, got {rows}")


def as_parameters(values, shape, dtype, name) -> np.ndarray:
    """Values to copy into parameters of this shape."""
    array = real_array(values, name)
    if array.shape != shape:
        raise wrong_shape(name, shape_text(*shape), array)
    return converted(array, dtype)


def result_array(out, shape, dtype, inputs):
    """`out` if a result may be written there, a new array if it is None. inputs: what out must not overlap, or None."""
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"out: expected an array, got {type(out).__name__}")
    if out.shape != shape:
        raise wrong_shape("out", shape_text(*shape), out)
    if out.dtype != dtype:
        raise ValueError(f"out: expected dtype {dtype}, got {out.dtype}")
    if not out.flags.carray:
        found = [name for name in ("c_contiguous", "aligned", "writeable") if not out.flags[name.upper()]]
        raise ValueError(f"out: expected a C-contiguous, aligned and writeable array, got one that is not {found[0]}")
    if inputs is not None:
        refuse_overlap(out, inputs, "out", "x")
    return out


def refuse_overlap(array, other, name, other_name):
    """Raise ValueError if two arrays share an element."""
    if _overlap(array, other):
        raise ValueError(f"{name}: expected memory of its own, got an array that overlaps {other_name}")


def _overlap(a, b):
    """Whether two arrays share an element; True if that would take long to find out."""
    if a.flags.owndata and b.flags.owndata:
        return a is b
    try:
        return np.may_share_memory(a, b) and np.shares_memory(a, b, max_work=1000)
    except np.exceptions.TooHardError:
        return True


def _refuse_where(bad, y, message):
    """Raise ValueError with the first entry of y where `bad` is True, and the row that it lies in."""
    if bad.any():
        index = tuple(np.argwhere(bad)[0])
        raise ValueError(f"{message}, got {y[index]} at row {index[0]}")


def _labels(y, out_features, dtype):
    if y.dtype.kind == "f":
        with np.errstate(all="ignore"):
            _refuse_where(y != np.floor(y), y, "y: labels must be whole numbers")
    # A class more than outputs is what two classes have with the one output of binary_cross_entropy.
    among = " of a network with one output (binary_cross_entropy has two classes there)" if out_features == 1 else ""
    _refuse_where((y < 0) | (y >= out_features), y, f"y: labels{among} must lie in 0 .. {out_features - 1}")
    if dtype == np.float32 and out_features > FLOAT32_WHOLE_NUMBERS:
        raise ValueError(f"y: float32 cannot hold labels of {out_features} classes; use dtype float64")
    return np.ascontiguousarray(converted(y.reshape(-1, 1), dtype))


def _targets_array(y, loss):
    try:
        return real_array(y, "y")
    except TypeError as error:
        if loss not in (Loss.SOFTMAX_CROSS_ENTROPY, Loss.BINARY_CROSS_ENTROPY):
            raise
        raise TypeError(f"{error}; numpy.unique(y, return_inverse=True) numbers classes that have names") from None


def as_targets(y, rows, out_features, loss, dtype) -> np.ndarray:
    """Targets as the loss kernels take them.

    Args:
        y: (rows, out_features); (rows,) too if there is one output; for softmax_cross_entropy class labels, (rows,) or
            (rows, 1), or probabilities (rows, out_features).

    Returns:
        C-contiguous (rows, out_features), or (rows, 1) for labels.
    """
    usual = type(y) is np.ndarray and y.dtype is dtype and y.shape == (rows, out_features)
    if usual and loss in UNBOUNDED and y.flags.c_contiguous and y.flags.aligned:
        return y
    array = _targets_array(y, loss)
    if array.ndim not in (1, 2):
        raise wrong_shape("y", shape_text(rows, out_features), array)
    if array.shape[0] != rows:
        raise ValueError(f"x and y: expected the same number of rows, got {rows} and {array.shape[0]}")
    column = array.ndim == 1 or array.shape[1] == 1
    if loss == Loss.SOFTMAX_CROSS_ENTROPY and column:
        return _labels(array, out_features, dtype)
    if out_features != (1 if column else array.shape[1]):
        more = f" or {shape_text(rows)} labels" if loss == Loss.SOFTMAX_CROSS_ENTROPY else ""
        if column and (loss == Loss.BINARY_CROSS_ENTROPY or array.dtype.kind in "biu"):
            more = ", for labels are targets of softmax_cross_entropy"
        raise wrong_shape("y", shape_text(rows, out_features) + more, array)
    if loss in (Loss.BINARY_CROSS_ENTROPY, Loss.SOFTMAX_CROSS_ENTROPY):
        message = f"y: targets of {loss.name.lower()} must lie in 0 .. 1"
        _refuse_where(~((array >= 0) & (array <= 1)), array, message)
    elif loss == Loss.POISSON:
        _refuse_where(~(array >= 0), array, "y: targets of poisson must be at least 0")
    # ascontiguousarray alone would keep a misaligned array as it is.
    return np.ascontiguousarray(converted(array.reshape(rows, out_features), dtype))


def _any_targets(y, rows, dtype):
    """Targets of a loss that is the user's own business: C-contiguous (rows, columns), no columns for None."""
    if y is None:
        return np.empty((rows, 0), dtype)
    array = real_array(y, "y")
    if array.ndim not in (1, 2):
        raise wrong_shape("y", shape_text(rows, "*"), array)
    if array.shape[0] != rows:
        raise ValueError(f"x and y: expected the same number of rows, got {rows} and {array.shape[0]}")
    columns = 1 if array.ndim == 1 else array.shape[1]
    return np.ascontiguousarray(converted(array.reshape(rows, columns), dtype))


def _moderate(weights):
    """Weights times a power of two, so that their products with losses are neither subnormal nor inf.

    Weighted means stay the same to the bit. Usual weights are returned as they are.
    """
    exponents = np.frexp(weights[weights > 0])[1]
    if exponents.size == 0:
        return weights
    limits, least, most = np.finfo(weights.dtype), exponents.min(), exponents.max()
    low, high = limits.minexp * 3 // 4, limits.maxexp // 4
    if least >= low and most <= high:
        return weights
    shift = min(max(low - least, -most), high - most)
    # Of a wide range the smallest stay normal numbers: they may be all that a batch has.
    return np.ldexp(weights, max(shift, limits.minexp + 1 - least))


def as_sample_weight(sample_weight, rows, dtype, name="sample_weight") -> np.ndarray:
    """(rows,) finite weights of at least 0, contiguous, or these times a power of two; an empty array for None."""
    if sample_weight is None:
        return np.empty(0, dtype)
    array = real_array(sample_weight, name)
    if array.shape != (rows,):
        raise wrong_shape(name, shape_text(rows), array)
    _refuse_where(~((array >= 0) & np.isfinite(array)), array, f"{name}: weights must be finite and at least 0")
    weights = np.ascontiguousarray(converted(array, dtype))
    lost = ~np.isfinite(weights) | ((weights < np.finfo(dtype).tiny) & (array > 0))
    _refuse_where(lost, array, f"{name}: weights must be 0 or within the normal numbers of {dtype}")
    with np.errstate(over="ignore"):
        total = weights.sum()
    if not np.isfinite(total):
        raise ValueError(f"{name}: expected a sum within {dtype}, got weights of up to {weights.max()}")
    return _moderate(weights)


def as_training_data(x, y, sample_weight, network, loss) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, y, sample_weight) as kernels take them; at least one row.

    Args:
        network: something with in_features, out_features and dtype.
        loss: an object of `fastnn.losses`.
    """
    x, _ = as_samples(x, network.in_features, network.dtype)
    some_rows(x)
    rows = x.shape[0]
    if loss.custom:
        if sample_weight is not None:
            raise ValueError(
                "sample_weight: expected None with a loss of your own, which can take them as a column of y"
            )
        return x, _any_targets(y, rows, network.dtype), as_sample_weight(None, rows, network.dtype)
    y = loss.repeated(y, network.out_features) if loss.repeats else y
    y = as_targets(y, rows, network.out_features, loss.code, network.dtype)
    return x, y, as_sample_weight(sample_weight, rows, network.dtype)
