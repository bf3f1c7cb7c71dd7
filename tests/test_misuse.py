"""Mistakes at the door that once got past it."""

import numpy as np
import pytest

import fastnn
from fastnn import Dense, Trainer
from fastnn.kernels.layout import workspace_size


def test_a_context_of_another_layer_is_refused():
    narrow, wide = Dense(1, 2, seed=0), Dense(5000, 2, seed=0)
    _, context = narrow.forward(np.ones((4, 1)))
    with pytest.raises(ValueError, match=r"context: expected .*\(4, 5000\)"):
        wide.backward(np.ones((4, 2)), context)
    double = Dense(1, 2, seed=0, dtype="float64")
    with pytest.raises(ValueError, match="context: expected"):
        double.backward(np.ones((4, 2)), context)


@pytest.mark.parametrize("name", ["in_features", "out_features", "activation"])
def test_what_memory_is_laid_out_by_is_fixed(name):
    with pytest.raises(AttributeError):
        setattr(Dense(2, 2), name, 50)


def test_layers_are_free_again_after_an_initializer_has_failed():
    def broken(rng, fan_in, fan_out, dtype):
        raise RuntimeError("no start today")

    first = Dense(2, 2, seed=0)
    with pytest.raises(RuntimeError, match="no start today"):
        fastnn.Sequential([first, Dense(2, 2, weight_initializer=broken)])
    assert fastnn.Sequential([first]).predict(np.zeros((1, 2))).shape == (1, 2)


def test_the_loss_of_an_epoch_is_weighted_over_batches_too():
    net = fastnn.MLP([1, 1], seed=0)
    net.parameters = [1.0, 0.0]
    x, y, weight = np.array([[1.0], [2.0]]), np.array([[0.0], [0.0]]), np.array([1.0, 0.0])
    trainer = Trainer(net, optimizer=fastnn.SGD(learning_rate=0))
    history = trainer.fit(x, y, batch_size=1, sample_weight=weight, seed=0)
    assert history.metrics["loss"] == [net.loss_and_gradient(x, y, sample_weight=weight)[0]] == [1.0]


def test_metrics_need_names_of_their_own():
    def loss(y, prediction):
        return 0.0

    for metrics in ([loss], [lambda y, p: 0.0, lambda y, p: 1.0]):
        with pytest.raises(ValueError, match="names of their own"):
            Trainer(fastnn.MLP([1, 1], seed=0)).fit([[1.0]], [[1.0]], metrics=metrics)


@pytest.mark.parametrize("weights", [[1e300, 1.0], [1e-300, 1e-300]])
def test_weights_that_float32_cannot_hold_are_refused(weights):
    with pytest.raises(ValueError, match="sample_weight"):
        fastnn.MLP([1, 1], seed=0).loss_and_gradient([[1.0], [2.0]], [[1.0], [2.0]], sample_weight=weights)


def test_one_row_of_a_wide_net_needs_room_for_one_row():
    net = fastnn.MLP([1, 200_000, 1], seed=0)
    net.predict([[1.0]])
    assert workspace_size(net.table, net.parameters, 1, 2)[0] * net.dtype.itemsize < 2**25


def test_a_dtype_that_is_no_dtype_is_a_value_error():
    with pytest.raises(ValueError, match="dtype"):
        fastnn.MLP([1, 1], dtype="(1,")
    with pytest.raises(ValueError, match="learning_rate"):
        fastnn.SGD(learning_rate=10**400)


def test_out_may_lie_between_the_rows_of_x():
    net = fastnn.MLP([2, 2], seed=0)
    memory = np.zeros((5, 2), np.float32)
    assert net.predict(memory[::4], out=memory[1:3]) is not None
    with pytest.raises(ValueError, match="overlaps"):
        net.predict(memory[::4], out=memory[0:2])


def test_an_interrupt_right_after_the_kernel_counts_its_updates(monkeypatch):
    from fastnn import trainer as module

    real = module.train_planned

    def interrupted(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    trainer = Trainer(fastnn.MLP([1, 1], seed=0))
    monkeypatch.setattr(module, "train_planned", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.step([[1.0]], [[1.0]])
    assert trainer.steps == 1


def test_a_numpy_true_from_a_callback_stops_the_fit():
    net = fastnn.MLP([1, 1], seed=0)
    history = net.fit([[1.0]], [[1.0]], epochs=5, seed=0, callbacks=[lambda trainer, history: np.float64(1) > 0])
    assert len(history.epochs) == 1
