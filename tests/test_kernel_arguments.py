"""Kernels by name refuse what does not fit, and have then written nothing: they would follow it beyond its end."""

import numpy as np
import pytest
from numba.core.errors import NumbaError

from fastnn import kernels
from fastnn.kernels.catalog import CATALOG

# Others have but one array, or share their checks with these: each layout and each dtype is compiled.
ROWS = [row for row in CATALOG if not row.name.startswith("clip_")]
FAMILIES = ("activation_kernels", "loss_kernels", "optimizer")
FEW = {"relu", "softmax_backward", "mse", "softmax_cross_entropy", "quantile", "sgd", "adam"}
TYPED = [row for row in ROWS if row.name in FEW or not getattr(kernels, row.name).__module__.endswith(FAMILIES)]
# What a table holds is trusted, and the others are not used.
TRUSTED = {"table", "hyper", ("sgd", "state2"), ("adagrad", "state2")}
# What docstrings say is taken. The catalog's workspaces are larger than they have to be.
TAKEN_SHAPES = {"workspace": {"more along 0", "less along 0"}, "q": {"an axis more"}}
STRIDES = {"gaps", "columns first"}
TAKEN_TYPES = {
    ("linear", "x"): STRIDES,
    ("linear", "weight"): STRIDES,
    ("linear_backward_input", "dz"): STRIDES,
    ("linear_backward_input", "weight"): STRIDES,
    ("linear_backward_parameters", "x"): STRIDES,
    ("outer_update", "x"): STRIDES,
    ("standardize", "x"): STRIDES,
    ("standardization", "x"): STRIDES | {"of another dtype"},
    ("forward", "x"): STRIDES,
    ("normalized_forward", "x"): STRIDES,
    ("loss_and_gradient", "x"): STRIDES,
    ("normalized_loss_and_gradient", "x"): STRIDES,
    ("standardization", "sample_weight"): STRIDES | {"of another dtype"},
    "sample_weight": {"of another dtype"},
}


def arguments_of(row):
    """Arguments of several rows, and of an odd number of columns, for which rows have weights."""
    shape = next(shape for shape in row.shapes if min(shape) > 4 and shape[-1] % 2 > 0)
    return row.inputs(shape, np.float32, np.random.default_rng(0))


def arrays_of(row):
    arrays = {name for name, value in arguments_of(row).items() if isinstance(value, np.ndarray) and value.size}
    return sorted(name for name in arrays if not {name, (row.name, name)} & TRUSTED)


def with_other_shapes(array):
    for axis in range(array.ndim):
        yield f"less along {axis}", np.take(array, range(array.shape[axis] - 1), axis)
        yield f"more along {axis}", np.concatenate([array, np.take(array, [0], axis)], axis)
    yield "an axis more", array[None]
    if array.ndim > 1:
        yield "an axis less", array.ravel()


def of_other_types(array, filled):
    yield "gaps", np.repeat(array, 2, axis=-1)[..., ::2]
    if array.ndim > 1:
        yield "columns first", np.asfortranarray(array)
    yield "of another dtype", array.astype(np.float64)
    yield "of whole numbers", np.zeros(array.shape, np.int32)
    yield "of other bytes", array.astype(array.dtype.newbyteorder())
    if filled:
        locked = array.copy()
        locked.flags.writeable = False
        yield "read-only", locked


def outputs_of(row, arguments):
    return [np.array(arguments[name]) for name in row.outputs]


def taken(kernel, row, name, variants):
    """Which variants of an argument a kernel takes: with the results that it gives without. Others leave all alone."""
    whole, found = arguments_of(row), set()
    kernel(**whole)
    for what, value in variants:
        given = arguments_of(row) | {name: value}
        before = outputs_of(row, given)
        try:
            kernel(**given)
        except (TypeError, ValueError, NumbaError) as error:
            message, expected = str(error), before
        else:
            message, expected = None, outputs_of(row, whole)
            found.add(what)
        for one, other in zip(expected, outputs_of(row, given), strict=True):
            assert one.tobytes() == other.tobytes(), (name, what)
        # Some are Numba's words.
        words = "expected", "Unsupported array dtype", "No matching definition"
        assert message is None or any(word in message for word in words), (name, what, message)
    return found


def ways(name):
    """The kernel for Python, which may share its work, and that for compiled code."""
    kernel = getattr(kernels, name)
    return {kernel, getattr(kernel, "serial", kernel)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_shapes_that_do_not_fit(row):
    for kernel in ways(row.name):
        for name in arrays_of(row):
            found = taken(kernel, row, name, with_other_shapes(arguments_of(row)[name]))
            assert found <= TAKEN_SHAPES.get(name, set()), name


@pytest.mark.parametrize("row", TYPED, ids=lambda row: row.name)
def test_layouts_and_dtypes_that_do_not_fit(row):
    # A q may be whatever makes an array.
    for name in set(arrays_of(row)) - {"q"}:
        variants = of_other_types(arguments_of(row)[name], name in (*row.outputs, "workspace"))
        found = taken(getattr(kernels, row.name), row, name, variants)
        assert found <= TAKEN_TYPES.get((row.name, name), TAKEN_TYPES.get(name, set())), name


@pytest.mark.parametrize("row", [row for row in ROWS if "workspace" in arguments_of(row)], ids=lambda row: row.name)
def test_workspaces_that_are_too_small(row):
    for kernel in ways(row.name):
        assert taken(kernel, row, "workspace", [("small", np.empty(40, np.float32))]) == set()


def test_activations_that_there_are_not():
    x, out = np.ones((2, 2)), np.zeros((2, 2))
    for code in (-1, 15, 99):
        for kernel in ways("activate"):
            with pytest.raises(ValueError, match=r"^activation: expected an Activation"):
                kernel(x, code, out)
        for kernel in ways("activate_backward"):
            with pytest.raises(ValueError, match=r"^activation: expected an Activation"):
                kernel(x, x, code, out)
        for kernel in ways("linear"):
            with pytest.raises(ValueError, match=r"^activation: expected an Activation"):
                kernel(x, x, x[0], code, out)
    assert not out.any()


def test_activations_named_by_a_code():
    x, out = np.ones((3, 4)), np.zeros((3, 4))
    for given, result in ((x[:2], out), (x, out[:2]), (x, out.T), (x, out.ravel()), (x[:, :2], out[:, :2])):
        for kernel in ways("activate"):
            with pytest.raises((ValueError, NumbaError), match="expected"):
                kernel(given, 1, result)
        for kernel in ways("activate_backward"):
            with pytest.raises((ValueError, NumbaError), match="expected"):
                kernel(given, given, 1, result)
    assert not out.any()
