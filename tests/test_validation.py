"""The public door: what is converted, what is refused, and in which words."""

import math
import re

import numpy as np
import pytest
from scipy import sparse

import fastnn
from fastnn import arguments, validation
from fastnn.kernels.codes import Loss


def exactly(message):
    return f"^{re.escape(message)}$"


def samples(x, features=3):
    return validation.as_samples(x, features, np.dtype(np.float32))


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f2", "f8", "g", ">f4", ">i4"])
def test_real_dtypes_are_converted(dtype):
    x = np.array([[1, 0, 1], [0, 1, 0]]).astype(dtype)
    before = x.copy()
    converted, single = samples(x)
    assert converted.dtype == np.float32
    assert converted.dtype.isnative
    assert not single
    np.testing.assert_array_equal(converted, x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((2, 3), complex),
        np.zeros((2, 3), object),
        np.zeros((2, 3), "M8[s]"),
        [["a", "b", "c"]],
        np.ma.zeros((2, 3)),
    ],
)
def test_what_is_not_real_numbers_is_a_type_error(x):
    with pytest.raises(TypeError, match=r"x: expected an array of real numbers, got (dtype|a masked array)"):
        samples(x)


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (None, "None"),
        ((i for i in range(3)), "a generator"),
        (sparse.eye_array(3).tocsr(), "a sparse csr_array; its toarray"),
    ],
)
def test_what_is_no_array_is_told_by_its_type(x, got):
    with pytest.raises(TypeError, match=f"x: expected an array of real numbers, got {got}"):
        fastnn.MLP([3, 1]).predict(x)


def test_ragged_lists_name_the_argument():
    with pytest.raises(ValueError, match=r"x: expected an array of real numbers: "):
        samples([[1, 2, 3], [1, 2]])


@pytest.mark.parametrize("shape", [(), (2,), (0,), (32, 783), (1, 2, 3)])
def test_wrong_shapes_say_expected_and_got(shape):
    with pytest.raises(ValueError, match=exactly(f"x: expected shape (*, 3), got {shape}")):
        samples(np.zeros(shape))


def test_one_sample_is_told_from_many():
    assert samples([1, 2, 3])[1]
    assert samples([1, 2, 3])[0].shape == (1, 3)
    assert not samples([[1, 2, 3]])[1]


def test_any_strides_are_kept_without_a_copy():
    base = np.zeros((8, 12), np.float32)
    read_only = base[:, :3]
    read_only.flags.writeable = False
    for x in (base[:, ::4], base[::-2, :3], base.T[:3].T, np.broadcast_to(base[:1, :3], (5, 3)), read_only):
        assert np.shares_memory(samples(x)[0], base)


def test_misaligned_samples_are_copied():
    x = np.frombuffer(b"." + np.arange(6, dtype=np.float32).tobytes(), np.float32, offset=1).reshape(2, 3)
    assert not x.flags.aligned
    converted, _ = samples(x)
    assert converted.flags.aligned
    np.testing.assert_array_equal(converted, [[0, 1, 2], [3, 4, 5]])


def targets(y, rows=2, outputs=3, loss=Loss.MSE, dtype=np.float32):
    return validation.as_targets(y, rows, outputs, loss, np.dtype(dtype))


def test_targets_of_one_output_may_be_flat():
    assert targets([1, 2], outputs=1).shape == (2, 1)
    assert targets([[1], [2]], outputs=1).flags.c_contiguous


def test_misaligned_targets_are_copied():
    y = np.frombuffer(b"." + np.arange(6, dtype=np.float32).tobytes(), np.float32, offset=1).reshape(2, 3)
    assert not y.flags.aligned
    converted = targets(y)
    assert converted.flags.aligned
    np.testing.assert_array_equal(converted, y)


@pytest.mark.parametrize("shape", [(2, 1), (2, 4), (2,), (2, 3, 1), ()])
def test_targets_of_wrong_shape(shape):
    with pytest.raises(ValueError, match=exactly(f"y: expected shape (2, 3), got {shape}")):
        targets(np.zeros(shape))


def test_rows_that_differ_name_both():
    with pytest.raises(ValueError, match=r"x and y: expected the same number of rows, got 2 and 3"):
        targets(np.zeros((3, 3)))


@pytest.mark.parametrize("y", [[2, 0], [[2], [0]], np.array([2, 0], np.uint8), [2.0, 0.0]])
def test_labels_become_a_column(y):
    column = targets(y, loss=Loss.SOFTMAX_CROSS_ENTROPY)
    assert column.dtype == np.float32
    np.testing.assert_array_equal(column, [[2], [0]])


def test_boolean_labels():
    np.testing.assert_array_equal(targets(np.array([True, False]), loss=Loss.SOFTMAX_CROSS_ENTROPY), [[1], [0]])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 3], "y: labels must lie in 0 .. 2, got 3 at row 1"),
        ([-1, 0], "y: labels must lie in 0 .. 2, got -1 at row 0"),
        ([0.0, 1.5], "y: labels must be whole numbers, got 1.5 at row 1"),
        ([math.nan, 1.0], "y: labels must be whole numbers, got nan at row 0"),
        ([[0, 0, 2], [0, 0, 1]], "y: targets of softmax_cross_entropy must lie in 0 .. 1, got 2 at row 0"),
        (np.zeros((2, 4)), "y: expected shape (2, 3) or (2,) labels, got (2, 4)"),
    ],
)
def test_bad_labels(y, message):
    with pytest.raises(ValueError, match=exactly(message)):
        targets(y, loss=Loss.SOFTMAX_CROSS_ENTROPY)


def test_labels_that_float32_cannot_hold():
    many = {"rows": 1, "outputs": 2**24 + 1, "loss": Loss.SOFTMAX_CROSS_ENTROPY}
    with pytest.raises(ValueError, match=r"y: float32 cannot hold labels of 16777217 classes"):
        targets([0], **many)
    assert targets([2**24], **many, dtype=np.float64)[0, 0] == 2**24


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_binary_targets_lie_between_0_and_1(bad):
    targets([[0, 0.5, 1]], rows=1, loss=Loss.BINARY_CROSS_ENTROPY)
    with pytest.raises(ValueError, match=rf"must lie in 0 .. 1, got {bad} at row 0"):
        targets([[0, bad, 1]], rows=1, loss=Loss.BINARY_CROSS_ENTROPY)


def test_poisson_targets_are_not_negative():
    with pytest.raises(ValueError, match=r"targets of poisson must be at least 0, got -1 at row 0"):
        targets([[0, -1, 1]], rows=1, loss=Loss.POISSON)
    with pytest.raises(ValueError, match=r"targets of poisson must be at least 0, got nan at row 0"):
        targets([[0, math.nan, 1]], rows=1, loss=Loss.POISSON)


def test_sample_weights():
    weights = validation.as_sample_weight
    assert weights(None, 2, np.float32).size == 0
    assert weights(np.arange(4.0)[::2], 2, np.float32).flags.c_contiguous
    with pytest.raises(ValueError, match=r"sample_weight: expected shape \(2,\), got \(3,\)"):
        weights([1, 2, 3], 2, np.float32)
    for bad in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=rf"finite and at least 0, got {bad} at row 1"):
            weights([1.0, bad], 2, np.float32)


def test_results_need_the_right_memory():
    net = fastnn.MLP([3, 3], seed=0)
    x = np.zeros((2, 3), np.float32)
    read_only = np.zeros((2, 3), np.float32)
    read_only.flags.writeable = False
    for out, message in [
        (np.zeros((2, 4), np.float32), r"out: expected shape \(2, 3\), got \(2, 4\)"),
        (np.zeros((2, 3)), "out: expected dtype float32, got float64"),
        (np.zeros((3, 2), np.float32).T, "out: expected a C-contiguous, aligned and writeable array"),
        (read_only, "out: expected a C-contiguous, aligned and writeable array"),
        (x, "out: expected memory of its own, got an array that overlaps x"),
    ]:
        with pytest.raises(ValueError, match=message):
            net.predict(x, out=out)
    for out, got in ([0], "list"), (np.ma.zeros((2, 3), np.float32), "MaskedArray"):
        with pytest.raises(TypeError, match=f"out: expected an array, got {got}"):
            net.predict(x, out=out)


def test_an_overlap_that_takes_long_to_find_counts_as_one(monkeypatch):
    def shares_memory(*_, **__):
        raise np.exceptions.TooHardError

    # Of arrays of two axes NumPy seldom finds it hard.
    monkeypatch.setattr(np, "shares_memory", shares_memory)
    memory = np.zeros((5, 2), np.float32)
    with pytest.raises(ValueError, match="out: expected memory of its own, got an array that overlaps x"):
        fastnn.MLP([2, 2], seed=0).predict(memory[::4], out=memory[1:3])


def test_numbers_name_argument_expected_and_got():
    with pytest.raises(TypeError, match=r"n: expected a whole number, got 1.5"):
        arguments.whole_number(1.5, "n", 1)
    with pytest.raises(TypeError, match=r"n: expected a whole number, got True"):
        arguments.whole_number(True, "n", 1)
    with pytest.raises(ValueError, match=r"n: expected at least 1, got 0"):
        arguments.whole_number(np.int64(0), "n", 1)
    with pytest.raises(ValueError, match=r"r: expected a finite number of at least 0 and below 1, got 1.0"):
        arguments.real_number(1.0, "r", 0, below=1)
    with pytest.raises(ValueError, match=r"r: expected a finite number above 0, got 0"):
        arguments.real_number(0, "r", 0, above=True)
    with pytest.raises(ValueError, match=r"r: expected a finite number, got nan"):
        arguments.real_number(math.nan, "r")
    with pytest.raises(TypeError, match=r"r: expected a real number, got '1'"):
        arguments.real_number("1", "r")
    with pytest.raises(ValueError, match=r"seed: expected below 2\*\*64"):
        arguments.seed_number(2**64)


@pytest.mark.parametrize("bad", ["float16", ">f4", "nonsense", None, int, {"a": 1}])
def test_dtypes_other_than_two_are_refused(bad):
    if bad == ">f4":  # byte order belongs to the user's data, not to a model: the native twin is meant
        assert arguments.float_dtype(bad) is np.dtype(np.float32)
        return
    with pytest.raises(ValueError, match="dtype: expected float32 or float64, got "):
        arguments.float_dtype(bad)


@pytest.mark.parametrize(
    ("loss", "outputs", "y", "message"),
    [
        (
            "softmax_cross_entropy",
            1,
            [0, 1],
            r"y: labels of a network with one output \(binary_cross_entropy has .*\) must lie in 0 .. 0, got 1",
        ),
        (
            "softmax_cross_entropy",
            2,
            ["a", "b"],
            r"y: expected an array .*; numpy.unique\(y, return_inverse=True\) numbers",
        ),
        (
            "binary_cross_entropy",
            1,
            ["a", "b"],
            r"y: expected an array .*; numpy.unique\(y, return_inverse=True\) numbers",
        ),
        (
            "binary_cross_entropy",
            3,
            [0, 2],
            r"y: expected shape \(2, 3\), for labels are targets of softmax_cross_entropy, got \(2,\)",
        ),
        ("mse", 1, ["a", "b"], "y: expected an array of real numbers, got dtype <U1$"),
        ("mse", 3, [0, 2], r"y: expected shape \(2, 3\), for labels are targets of softmax_cross_entropy, got \(2,\)"),
        ("mse", 3, [0.5, 2.0], r"y: expected shape \(2, 3\), got \(2,\)"),
    ],
)
def test_messages_lead_from_one_form_of_targets_to_another(loss, outputs, y, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        fastnn.MLP([1, outputs], seed=0).fit([[1.0], [2.0]], y, loss)
