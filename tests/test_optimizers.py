"""Optimizer objects: what they tell the kernels, and what they refuse."""

import dataclasses
import math

import numpy as np
import pytest

from fastnn import MLP, SGD, Adagrad, Adam, AdamW, RMSprop, Trainer, kernels, optimizers
from fastnn.kernels import optimizer as layout
from fastnn.kernels import reference
from fastnn.kernels.codes import Optimizer


def test_hyper_parameters_lie_where_kernels_read_them():
    limits = {"clip_norm": 6, "clip_value": 7, "l1": 8, "l2": 9}
    hyper = AdamW(learning_rate=1, beta1=0.2, beta2=0.3, eps=4, weight_decay=5, **limits).hyper()
    assert hyper.dtype == np.float64
    expected = {
        layout.LEARNING_RATE: 1,
        layout.MOMENTUM: 0.2,
        layout.BETA2: 0.3,
        layout.EPS: 4,
        layout.WEIGHT_DECAY: 5,
        layout.NESTEROV: 0,
        layout.CLIP_NORM: 6,
        layout.CLIP_VALUE: 7,
        layout.L1: 8,
        layout.L2: 9,
        layout.EPS_HAT: 0,
        layout.PENALTY_IN_LOSS: 0,
    }
    assert dict(enumerate(hyper)) == expected
    assert SGD(momentum=0.5, nesterov=True).hyper()[[layout.MOMENTUM, layout.NESTEROV]].tolist() == [0.5, 1]
    assert RMSprop(alpha=0.7, momentum=0.1).hyper()[[layout.MOMENTUM, layout.BETA2]].tolist() == [0.1, 0.7]


@pytest.mark.parametrize(
    ("optimizer", "states"),
    [
        (SGD(), (False, False)),
        (SGD(momentum=0.9), (True, False)),
        (RMSprop(), (True, False)),
        (RMSprop(momentum=0.9), (True, True)),
        (Adagrad(), (True, False)),
        (Adam(), (True, True)),
        (AdamW(), (True, True)),
    ],
)
def test_states(optimizer, states):
    assert optimizer.states() == states


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (SGD, {"learning_rate": 0.01, "momentum": 0, "nesterov": False, "weight_decay": 0}),
        (RMSprop, {"learning_rate": 0.01, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0, "momentum": 0}),
        (Adagrad, {"learning_rate": 0.01, "eps": 1e-10, "weight_decay": 0}),
        (Adam, {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0}),
        (AdamW, {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}),
    ],
)
def test_defaults_are_pytorchs(kind, expected):
    assert dataclasses.asdict(kind()) == expected | {"clip_norm": None, "clip_value": None, "l1": 0, "l2": 0}


@pytest.mark.parametrize("kind", [SGD, RMSprop, Adagrad, Adam, AdamW])
def test_the_learning_rate_alone_goes_by_its_place(kind):
    assert kind(0.25) == kind(learning_rate=0.25)
    with pytest.raises(ValueError, match="learning_rate: expected a finite number of at least 0, got -1"):
        kind(-1)
    with pytest.raises(TypeError, match="positional"):
        kind(0.25, 0.5)


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "message"),
    [
        (SGD, {"learning_rate": -1}, ValueError, "learning_rate: expected a finite number of at least 0, got -1"),
        (SGD, {"learning_rate": math.nan}, ValueError, "learning_rate: .* got nan"),
        (SGD, {"learning_rate": "1"}, TypeError, "learning_rate: expected a real number, got '1'"),
        (SGD, {"momentum": 1}, ValueError, "momentum: .* below 1, got 1"),
        (SGD, {"nesterov": True}, ValueError, "nesterov: expected a momentum above 0"),
        (SGD, {"nesterov": 1, "momentum": 0.5}, TypeError, "nesterov: expected True or False, got 1"),
        (SGD, {"l1": -1}, ValueError, "l1: expected a finite number of at least 0, got -1"),
        (Adam, {"l2": math.inf}, ValueError, "l2: expected a finite number of at least 0, got inf"),
        (SGD, {"clip_norm": 0}, ValueError, "clip_norm: expected a finite number above 0, got 0"),
        (RMSprop, {"alpha": -0.1}, ValueError, "alpha: .* got -0.1"),
        (Adam, {"beta2": 1.0}, ValueError, "beta2: .* got 1.0"),
        (Adam, {"eps": math.inf}, ValueError, "eps: .* got inf"),
        (Adam, {"weight_decay": True}, TypeError, "weight_decay: expected a real number, got True"),
    ],
)
def test_bad_arguments(kind, arguments, error, message):
    with pytest.raises(error, match=message):
        kind(**arguments)


def test_lookup():
    assert optimizers.get(None) == SGD()
    assert optimizers.get("adamw") == optimizers.get(Optimizer.ADAMW) == AdamW()
    assert optimizers.get(Adam(eps=1)).eps == 1
    with pytest.raises(ValueError, match="optimizer: expected one of sgd, rmsprop, adagrad, adam, adamw, got 'lion'"):
        optimizers.get("lion")


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Adam().eps = 1
    assert dataclasses.replace(Adam(beta1=0.5), learning_rate=2) == Adam(beta1=0.5, learning_rate=2)


@pytest.mark.parametrize("size", [3e200, 1e160, 3e-170, 1e-200, 5e-324])
def test_norms_whose_squares_leave_the_floats(size):
    """A gradient that has exploded was clipped to 0, not to the limit; one below 1e-162 was never clipped."""
    gradient = size * np.array([3.0, -4.0, 0.0, 1.0])
    for limit in (size / 3, size * 100):
        found, expected = gradient.copy(), gradient.copy()
        assert kernels.clip_by_norm(found, limit) == pytest.approx(reference.clip_by_norm(expected, limit), rel=1e-14)
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    trainer = Trainer(MLP([1, 2], dtype="float64", seed=0), optimizer=SGD(learning_rate=1, clip_norm=1))
    trainer.net.parameters = np.zeros(4)
    trainer.apply_gradient(gradient)
    reference.clip_by_norm(gradient, 1.0)
    np.testing.assert_allclose(trainer.net.parameters, -gradient, rtol=1e-14)


@pytest.mark.parametrize("odd", [[np.inf, 1.0], [-np.inf, 1e200], [np.nan, 1e200], [np.nan, np.inf], [0.0, 0.0], []])
def test_norms_of_odd_gradients(odd):
    for dtype in (np.float32, np.float64):
        with np.errstate(over="ignore"):
            found = np.array(odd).astype(dtype)
        expected = found.copy()
        with np.errstate(invalid="ignore"):
            np.testing.assert_equal(kernels.clip_by_norm(found, 0.5), reference.clip_by_norm(expected, 0.5))
        np.testing.assert_array_equal(found, expected)
