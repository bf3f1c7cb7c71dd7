"""A training loop of one's own, for what `fit` does not do: batches drawn by error, and a gradient in pieces.

    python examples/training_loop.py

A network learns a curve with one narrow peak, which rows drawn evenly rarely show it. The loop draws them by their
last known errors, with weights that take back what that does to the mean (importance sampling). In the end it goes on
with gradients of all rows at once, summed over pieces, as one does with data beyond memory.
"""

import numpy as np

import fastnn

BATCH = 32


def curve(x):
    return np.sin(3 * x) + 2 * np.exp(-(((x - 0.5) / 0.02) ** 2))


def by_error(net, x, y):
    """(probability with which to draw each row, its weight): half even, half in proportion to its error."""
    error = np.abs(net.predict(x) - y)[:, 0]
    probability = 0.5 / len(x) + 0.5 * error / error.sum()
    return probability, 1 / (len(x) * probability)


def evenly(net, x, y):
    """The same for rows that count alike."""
    return np.full(len(x), 1 / len(x)), np.ones(len(x))


def whole_gradient(net, x, y, piece=500):
    """The gradient of the mean loss over all rows, from pieces of them."""
    total = np.zeros(net.parameter_count)
    for first in range(0, len(x), piece):
        part = slice(first, first + piece)
        total += len(x[part]) * net.loss_and_gradient(x[part], y[part], "mse")[1]
    return total / len(x)


def train(drawn, x, y, held_back, rounds=60, updates=100):
    """A network trained on batches that `drawn` gives the probabilities of; its best parameters on held_back."""
    rng = np.random.default_rng(0)
    net = fastnn.MLP([1, 64, 64, 1], activation="tanh", seed=0)
    trainer = fastnn.Trainer(net, "mse", fastnn.Adam(3e-3))
    best, parameters = np.inf, net.parameters.copy()
    for done in range(rounds):
        # The rate falls along half a cosine.
        rate = 3e-3 * 0.5 * (1 + np.cos(np.pi * done / rounds))
        trainer.learning_rate = rate
        probability, weight = drawn(net, x, y)
        for rows in rng.choice(len(x), (updates, BATCH), p=probability):
            trainer.step(x[rows], y[rows], weight[rows])
        loss = net.evaluate(*held_back)["loss"]
        if loss < best:
            best, parameters = loss, net.parameters.copy()
    net.parameters = parameters
    trainer.learning_rate = 1e-4
    for _ in range(100):
        trainer.apply_gradient(whole_gradient(net, x, y))
    return net


def main():
    rng = np.random.default_rng(1)
    x, x_held_back = rng.uniform(-1, 1, (2000, 1)), rng.uniform(-1, 1, (2000, 1))
    held_back = x_held_back, curve(x_held_back)
    for drawn in (evenly, by_error):
        net = train(drawn, x, curve(x), held_back)
        print(f"rows drawn {drawn.__name__}: loss {net.evaluate(*held_back)['loss']:.5f}")


if __name__ == "__main__":
    main()
