"""Names that the field has for what is called otherwise here: refused, with the name that is meant."""

import numpy as np
import pytest

import fastnn
from fastnn import hooks, initializers, other_names
from fastnn.kernels.codes import Activation, Loss, Normalization, Optimizer

X, Y = np.zeros((4, 2)), np.zeros(4)
ENUMS = Activation, Loss, Normalization, Optimizer


def fit(**settings):
    fastnn.MLP([2, 1], seed=0).fit(X, Y, **settings)


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: fastnn.Dense(2, 2, "swish"), "'silu'"),
        (lambda: fastnn.Dense(2, 2, "linear"), "'identity'"),
        (lambda: fastnn.Dense(2, 2, "LeakyReLU"), "'leaky_relu'"),
        (lambda: fastnn.Dense(2, 2, "gelu_new"), "'gelu_tanh'"),
        (lambda: fastnn.Dense(2, 2, "hard_sigmoid"), "'hardsigmoid'"),
        (lambda: fastnn.Dense(2, 2, "sigmoyd"), "'sigmoid'"),
        (lambda: fastnn.Dense(2, 2, "logistic"), "'sigmoid'"),
        (lambda: fastnn.Dense(2, 2, None), "'identity'"),
        (lambda: fastnn.Dense(2, 2, np.tanh), "'tanh'"),
        (lambda: fastnn.Dense(2, 2, fastnn.activations.relu), "'relu'"),
        (lambda: fastnn.Dense(2, 2, normalization="BatchNorm"), "'batch'"),
        (lambda: fastnn.Dense(2, 2, weight_initializer="xavier_uniform"), "'glorot_uniform'"),
        (lambda: fastnn.Dense(2, 2, weight_initializer="HeNormal"), "'he_normal'"),
        (lambda: fastnn.Dense(2, 2, weight_initializer="kaiming"), "'he_uniform' or 'he_normal'"),
        (lambda: fit(loss="mean_squared_error"), "'mse'"),
        (lambda: fit(loss="MSE"), "'mse'"),
        (lambda: fit(loss="l1"), "'mae'"),
        (lambda: fit(loss="bce"), "'binary_cross_entropy'"),
        (lambda: fit(loss="CrossEntropyLoss"), "'softmax_cross_entropy' or 'binary_cross_entropy'"),
        (lambda: fit(loss="sparse_categorical_crossentropy"), "'softmax_cross_entropy'"),
        (lambda: fit(optimizer="Adam"), "'adam'"),
        (lambda: fit(optimizer="rms_prop"), "'rmsprop'"),
        (lambda: fit(optimizer=fastnn.AdamW), "'adamw'"),
        (lambda: fit(metrics=["acc"]), "'accuracy'"),
        (lambda: fit(metrics=["MAE"]), "'mae'"),
        (lambda: fit(metrics=["mae"], callbacks=[fastnn.EarlyStopping("MAE")]), "'mae'"),
        (lambda: fastnn.EarlyStopping(mode="Max"), "'max'"),
    ],
)
def test_what_is_meant_is_told(call, meant):
    with pytest.raises((ValueError, TypeError), match=f"expected .*, got .*; did you mean {meant}\\?$"):
        call()


@pytest.mark.parametrize("value", ["nonsense", "", 3, None, b"mse", ["mse"]])
def test_where_nothing_is_meant_nothing_is_told(value):
    with pytest.raises((ValueError, TypeError), match=r"^loss: expected one of mse, .*, got [^;]*$"):
        fit(loss=value)
    with pytest.raises(ValueError, match=r"^mode: expected one of min, max, got [^;]*$"):
        fastnn.EarlyStopping(mode=value)


def test_the_table_leads_to_names_that_there_are_from_names_that_there_are_not():
    names = {member.name.lower() for enum in ENUMS for member in enum}
    names |= {"accuracy", "val_accuracy", *initializers.__all__, *hooks.HOOKS}
    for other, meant in other_names._MEANT.items():
        assert other not in names
        assert set(meant.split()) <= names


def test_what_is_for_hidden_layers_is_checked_without_any():
    for name, wrong in (("activation", "swish"), ("normalization", "BatchNorm"), ("dropout", 2.0)):
        with pytest.raises(ValueError, match=f"{name}: expected"):
            fastnn.MLP([2, 2], **{name: wrong})
    assert len(fastnn.MLP([2, 2], activation=[], normalization="batch", dropout=0.5)) == 1
