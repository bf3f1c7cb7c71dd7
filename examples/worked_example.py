"""A two-layer sigmoid network by hand: forward propagation, back propagation, gradient descent; then as a fastnn.MLP.

    python examples/worked_example.py             train it both ways
    python examples/worked_example.py --errata    the numbers that docs/mathematics.md quotes

Three samples of three features, one target each. The parameters are theta1 (h, 1 + 3) and theta2 (1, 1 + h): a row for
each neuron, its bias in the first column. Every step of the arithmetic is a kernel of fastnn, in float64.
"""

import argparse

import numpy as np

import fastnn
from fastnn import kernels
from fastnn.kernels import Activation

X = np.array([[0.5, 0.1, 0.2], [0.3, 0.4, 0.6], [0.7, 0.8, 0.9]])
Y = np.array([0.0, 1.0, 1.0])
HIDDEN = 4
LEARNING_RATE = 1.0
STEPS = 500
NO_WEIGHTS = np.empty(0)


def start(seed=0):
    """(theta1, theta2), drawn evenly from -1 to 1."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (HIDDEN, 1 + X.shape[1])), rng.uniform(-1, 1, (1, 1 + HIDDEN))


def layer(a, theta, activation):
    """f(a W + b) for theta (out, 1 + in): b is its first column, W (in, out) the transpose of the others."""
    out = np.empty((len(a), len(theta)))
    kernels.linear(a, theta[:, 1:].T, theta[:, 0].copy(), activation, out)
    return out


def forward_propagation(x, theta1, theta2):
    """x (m, 3) -> hidden activations a2 (m, h), logits z3 (m, 1), predictions a3 = sigmoid(z3) (m, 1)."""
    a2 = layer(x, theta1, Activation.SIGMOID)
    z3 = layer(a2, theta2, Activation.IDENTITY)
    a3 = np.empty_like(z3)
    kernels.sigmoid(z3, a3)
    return a2, z3, a3


def output_error(y, z3, a3, loss):
    """(L, delta3 = dL/dz3), both losses being means over the m samples.

    binary_cross_entropy: delta3 = (a3 - y) / m. mse: delta3 = 2 (a3 - y) / m * sigmoid'(z3).
    """
    target, delta3 = y.reshape(-1, 1), np.empty_like(z3)
    if loss == "binary_cross_entropy":
        return kernels.binary_cross_entropy(z3, target, NO_WEIGHTS, delta3), delta3
    value = kernels.mse(a3, target, NO_WEIGHTS, delta3)
    kernels.sigmoid_backward(delta3, a3, delta3)
    return value, delta3


def theta_gradient(a, delta):
    """dL/dtheta (out, 1 + in) of the layer whose input was a (m, in) and whose error is delta (m, out)."""
    dweight, dbias = np.empty((a.shape[1], delta.shape[1])), np.empty(delta.shape[1])
    kernels.linear_backward_parameters(a, delta, dweight, dbias)
    return np.column_stack([dbias, dweight.T])


def back_propagation(x, y, theta1, theta2, loss="binary_cross_entropy"):
    """(dL/dtheta1, dL/dtheta2), shaped like the thetas; loss: "binary_cross_entropy" or "mse"."""
    a2, z3, a3 = forward_propagation(x, theta1, theta2)
    _, delta3 = output_error(y, z3, a3, loss)
    delta2 = np.empty_like(a2)
    kernels.linear_backward_input(delta3, theta2[:, 1:].T, delta2)
    kernels.sigmoid_backward(delta2, a2, delta2)
    return theta_gradient(x, delta2), theta_gradient(a2, delta3)


def loss_of(theta1, theta2, loss="binary_cross_entropy"):
    """The loss on X, Y."""
    _, z3, a3 = forward_propagation(X, theta1, theta2)
    return output_error(Y, z3, a3, loss)[0]


def descend(theta1, theta2, learning_rate, steps):
    """The thetas after that many steps downhill; those passed in stay as they are."""
    for _ in range(steps):
        gradient1, gradient2 = back_propagation(X, Y, theta1, theta2)
        theta1 = theta1 - learning_rate * gradient1
        theta2 = theta2 - learning_rate * gradient2
    return theta1, theta2


def as_mlp(theta1, theta2):
    """The same network as a fastnn.MLP; its output is the logit z3, which binary_cross_entropy takes."""
    net = fastnn.MLP([3, HIDDEN, 1], activation="sigmoid", output_activation="identity", dtype="float64")
    for dense, theta in zip(net.layers, (theta1, theta2), strict=True):
        dense.weight[...] = theta[:, 1:].T
        dense.bias[...] = theta[:, 0]
    return net


def train():
    """By hand, printing as it goes, then as an MLP from the same start."""
    theta1, theta2 = start()
    net = as_mlp(theta1, theta2)
    print(f"target {Y}")
    for step in range(0, STEPS + 1, 100):
        if step > 0:
            theta1, theta2 = descend(theta1, theta2, LEARNING_RATE, 100)
        _, _, a3 = forward_propagation(X, theta1, theta2)
        print(f"step {step:3d}  loss {loss_of(theta1, theta2):.4f}  predictions {a3[:, 0].round(3)}")

    net.fit(
        X,
        Y,
        loss="binary_cross_entropy",
        optimizer=fastnn.SGD(learning_rate=LEARNING_RATE),
        batch_size=len(X),
        epochs=STEPS,
        shuffle=False,
    )
    predictions = fastnn.activations.sigmoid(net.predict(X))
    print(f"as an MLP, {STEPS} steps    predictions {predictions[:, 0].round(3)}")
    print(f"agree to 12 digits: {np.allclose(predictions, a3, rtol=1e-12, atol=0)}")


# ---- The article's four slips, each against NumPy alone or central differences


def central_difference(function, array, step=1e-5):
    """d function / d array, element by element, for a function that returns a number."""
    derivative = np.empty_like(array)
    for i in np.ndindex(array.shape):
        above, below = array.copy(), array.copy()
        above[i] += step
        below[i] -= step
        derivative[i] = (function(above) - function(below)) / (above[i] - below[i])
    return derivative


def with_ones(a):
    """A column of ones before the features, for the biases to multiply."""
    return np.column_stack([np.ones(len(a)), a])


def try_product(name, a, theta):
    """Print what a theta does to its input."""
    try:
        outcome = f"z {(a @ theta.T).shape}"
    except ValueError as error:
        outcome = type(error).__name__
    print(f"    {name} {theta.shape}: {a.shape} @ {theta.T.shape} -> {outcome}")


def agreement(actual, expected):
    """Whether two arrays agree to the accuracy of a central difference, and by how much they miss if not."""
    worst = np.abs(actual - expected).max()
    return "agrees" if worst < 1e-8 else f"is off by up to {worst:.3f}"


def errata():
    """Print the proofs."""
    theta1, theta2 = start()
    a2, z3, a3 = forward_propagation(X, theta1, theta2)
    y = Y.reshape(-1, 1)

    print("(a) shapes, as printed and as they must be")
    try_product("theta1", with_ones(X), np.zeros((4, 3)))
    try_product("theta2", with_ones(a2), np.zeros((2, 4)))
    try_product("theta1", with_ones(X), theta1)
    try_product("theta2", with_ones(a2), theta2)

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    print("(b) derivatives by z3, central differences: cross-entropy E, half squared error S")
    entropy = central_difference(lambda z: -np.sum(y * np.log(sigmoid(z)) + (1 - y) * np.log(1 - sigmoid(z))), z3)
    squared = central_difference(lambda z: np.sum((sigmoid(z) - y) ** 2) / 2, z3)
    print("     a3 - y    dE/dz3    dS/dz3   (dS/dz3)/(dE/dz3)   sigmoid'(z3)")
    for row in np.column_stack([a3 - y, entropy, squared, squared / entropy, a3 * (1 - a3)]):
        print("    {:7.4f}   {:7.4f}   {:7.4f}   {:17.4f}   {:12.4f}".format(*row))

    print("(c) a^T delta against central differences of the loss by theta")
    by_difference = (
        central_difference(lambda theta: loss_of(theta, theta2), theta1),
        central_difference(lambda theta: loss_of(theta1, theta), theta2),
    )
    for number, theta, gradient, difference in zip(
        (1, 2), (theta1, theta2), back_propagation(X, Y, theta1, theta2), by_difference, strict=True
    ):
        printed = gradient.T
        wrong = agreement(printed, difference) if printed.shape == theta.shape else "does not fit"
        print(f"    theta{number} {theta.shape}: a^T delta {printed.shape} {wrong}", end="")
        print(f", theta - a^T delta is {(theta - printed).shape}; delta^T a {agreement(gradient, difference)}")

    print("(d) loss at the start, after 100 steps with a minus sign, after 100 with a plus sign")
    down, up = (loss_of(*descend(theta1, theta2, rate, 100)) for rate in (LEARNING_RATE, -LEARNING_RATE))
    print(f"    {loss_of(theta1, theta2):.4f}   {down:.4f}   {up:.4f}")


def main(arguments=None):
    """arguments: the command line's, by default those of this process."""
    parser = argparse.ArgumentParser(description="A two-layer sigmoid network by hand.")
    parser.add_argument("--errata", action="store_true", help="print the numbers behind the errata instead")
    if parser.parse_args(arguments).errata:
        errata()
    else:
        train()


if __name__ == "__main__":
    main()
