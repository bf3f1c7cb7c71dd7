"""How parameters start: variances, defaults, seeds."""

import numpy as np
import pytest

import fastnn
from fastnn import Activation, initializers

VARIANCES = {
    "glorot_uniform": 2 / 500,
    "glorot_normal": 2 / 500,
    "he_uniform": 2 / 200,
    "he_normal": 2 / 200,
    "lecun_uniform": 1 / 200,
    "lecun_normal": 1 / 200,
}


@pytest.mark.parametrize("name", VARIANCES)
def test_variance_and_mean(name, rng):
    weight = getattr(initializers, name)(rng, 200, 300, "float64")
    # The spread of a variance estimated from 60,000 draws is at most sqrt(2 / 60,000) of it: five of these.
    assert weight.var() == pytest.approx(VARIANCES[name], rel=5 * (2 / 60_000) ** 0.5)
    assert abs(weight.mean()) < 5 * (VARIANCES[name] / 60_000) ** 0.5
    if name.endswith("uniform"):
        assert np.abs(weight).max() <= (3 * VARIANCES[name]) ** 0.5


def test_defaults_follow_the_activation():
    chosen = {activation.name.lower(): initializers.get(None, activation) for activation in Activation}
    of_relu = ["relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "hardswish", "softplus"]
    expected = dict.fromkeys(chosen, initializers.glorot_uniform) | dict.fromkeys(of_relu, initializers.he_uniform)
    assert chosen == expected | {"selu": initializers.lecun_normal}


def test_a_seed_fixes_the_start_in_both_dtypes():
    a, b = (fastnn.MLP([5, 7, 2], dtype=dtype, seed=3).parameters for dtype in ("float32", "float64"))
    np.testing.assert_array_equal(a, b.astype(np.float32))
    np.testing.assert_array_equal(a, fastnn.MLP([5, 7, 2], seed=3).parameters)
    assert not np.array_equal(a, fastnn.MLP([5, 7, 2], seed=4).parameters)
    assert not np.array_equal(fastnn.MLP([5, 2]).parameters, fastnn.MLP([5, 2]).parameters)


def test_layers_draw_from_one_generator():
    net = fastnn.MLP([4, 4, 4], activation="identity", seed=0)
    assert not np.array_equal(net.layers[0].weight, net.layers[1].weight)
    assert not net.layers[0].bias.any()


def test_a_layer_may_have_a_seed_of_its_own():
    nets = [fastnn.Sequential([fastnn.Dense(3, 3), fastnn.Dense(3, 2, seed=9)], seed=seed) for seed in (0, 1)]
    assert not np.array_equal(nets[0].layers[0].weight, nets[1].layers[0].weight)
    np.testing.assert_array_equal(nets[0].layers[1].weight, nets[1].layers[1].weight)


def test_own_initializers():
    layer = fastnn.Dense(2, 3, weight_initializer=lambda rng, fan_in, fan_out, dtype: np.full((fan_in, fan_out), 7))
    np.testing.assert_array_equal(layer.weight, np.full((2, 3), 7))
    assert not fastnn.Dense(2, 3, weight_initializer="zeros").weight.any()
    with pytest.raises(ValueError, match=r"result of weight_initializer: expected shape \(2, 3\), got \(3,\)"):
        _ = fastnn.Dense(2, 3, weight_initializer=lambda *_: np.zeros(3)).weight
    with pytest.raises(ValueError, match=r"weight_initializer: expected one of glorot_normal, .*, got 'nonsense'"):
        fastnn.Dense(2, 3, weight_initializer="nonsense")
    with pytest.raises(TypeError, match="weight_initializer: expected a name or a callable, got 3"):
        fastnn.Dense(2, 3, weight_initializer=3)
