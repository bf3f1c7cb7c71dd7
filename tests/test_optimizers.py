"""Optimizer objects: what they tell the kernels, and what they refuse."""

import dataclasses
import math

import numpy as np
import pytest

from fastnn import SGD, Adagrad, Adam, AdamW, RMSprop, optimizers
from fastnn.kernels import optimizer as layout
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
