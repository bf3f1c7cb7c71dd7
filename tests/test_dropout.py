"""The mask of dropout: its generator against published numbers, its rate, and that it depends on its counters alone."""

import numpy as np
import pytest

import fastnn
from fastnn import kernels
from fastnn.kernels import reference

# Counter, key and output of Philox 4x32-10, from the known answers that its authors publish with Random123.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_numbers(counter, key, expected):
    assert [int(word) for word in reference.philox(words(counter), words(key))] == words(expected)


def test_the_kernel_has_these_words(dtype):
    """Element 16 w of a layer takes word w of block 0: thresholds at the word and above it tell the word."""
    x, out = np.ones((1, 64), dtype), np.empty((1, 64), dtype)
    for w, word in enumerate(words(KNOWN[0][2])):
        for threshold, kept in ((word, True), (word + 1, False)):
            kernels.dropout(x, threshold / 2**32, 0, 0, 0, out)
            assert (out[0, 16 * w] != 0) == kept


def mask(shape, rate=0.5, seed=1, update=1, layer=0, dtype=np.float32):
    out = np.empty(shape, dtype)
    kernels.dropout(np.ones(shape, dtype), rate, seed, update, layer, out)
    return out != 0


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_units_are_kept_with_their_probability_and_scaled(rate, dtype):
    x = np.ones((1000, 1000), dtype)
    out = np.empty_like(x)
    kernels.dropout(x, rate, 42, 3, 1, out)
    # Six standard deviations of a binomial count.
    limit = 6 * np.sqrt(rate * (1 - rate) / x.size)
    assert abs((out == 0).mean() - rate) < limit
    np.testing.assert_allclose(out[out != 0], 1 / (1 - rate), rtol=2 * np.finfo(dtype).eps + 2**-33 / (1 - rate))
    assert abs(out.mean() - 1) < limit / (1 - rate)
    # Rows and columns each have their share: a mask that repeats along an axis would not.
    for axis in (0, 1):
        assert np.abs((out == 0).mean(axis) - rate).max() < 6 * np.sqrt(rate * (1 - rate) / 1000)


@pytest.mark.parametrize(
    "other",
    [{"seed": 2}, {"seed": 1 + 2**32}, {"seed": 1 - 2**63}, {"update": 2}, {"update": 1 + 2**32}, {"layer": 1}],
    ids=str,
)
def test_every_counter_makes_another_mask(other):
    """Two independent masks of a million units agree on half of them, give or take six standard deviations."""
    shape = (1000, 1000)
    agreement = (mask(shape) == mask(shape, **other)).mean()
    assert abs(agreement - 0.5) < 6 * 0.5 / 1000


def test_neighbours_are_not_correlated():
    kept = mask((1000, 1000)).astype(float) - 0.5
    for lag in (1, 2, 16, 63, 64, 65, 1000):
        flat = kept.ravel()
        correlation = 4 * (flat[lag:] * flat[:-lag]).mean()
        assert abs(correlation) < 6 / 1000, lag


def test_both_dtypes_have_the_same_mask():
    assert np.array_equal(mask((33, 77)), mask((33, 77), dtype=np.float64))


def test_in_place_and_the_ends_of_the_rate(dtype, rng):
    x = rng.standard_normal((13, 37)).astype(dtype)
    out = np.empty_like(x)
    kernels.dropout(x, 0.0, 5, 1, 0, out)
    assert out.tobytes() == x.tobytes()
    kernels.dropout(x, 1 - 2.0**-53, 5, 1, 0, out)
    assert not out.any()
    kernels.dropout(x, 0.4, 5, 1, 0, out)
    kernels.dropout(x, 0.4, 5, 1, 0, x)
    assert out.tobytes() == x.tobytes()


def test_dropped_units_are_zero_whatever_they_were(dtype):
    x = np.full((8, 64), np.nan, dtype)
    kernels.dropout(x, 0.5, 0, 1, 0, x)
    assert set(np.isnan(x).ravel()) == {True, False}
    assert (x[~np.isnan(x)] == 0).all()


@pytest.mark.parametrize("dropout", [0.5, 1 - 1e-12, 0.123456789])
def test_repr_of_dropout_is_the_layers(dropout):
    layer = fastnn.Dense(2, 3, dropout=dropout)
    assert eval(repr(layer), {"Dense": fastnn.Dense}).dropout == dropout
