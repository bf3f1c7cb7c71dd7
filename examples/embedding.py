"""fastnn inside larger numeric programs: integrated, sampled, minimized, and how much faster than the network in NumPy.

    python examples/embedding.py

prints the time of each beside the same program with the network written in NumPy.
"""

import time

import numba
import numpy as np

import fastnn


def numpy_network(net):
    """The network of tanh layers with an identity at the end, as one writes it in NumPy."""
    layers = [(layer.weight, layer.bias) for layer in net.layers]

    def apply(x):
        for weight, bias in layers[:-1]:
            x = np.tanh(x @ weight + bias)
        weight, bias = layers[-1]
        return x @ weight + bias

    return apply


# ---- A neural ordinary differential equation, dy/dt = network(y), by the classical Runge-Kutta method


@numba.njit
def runge_kutta(network, y, step, steps):
    """y after `steps` steps; nothing is allocated in the loop."""
    y = y.copy()
    k1, k2, k3, k4, at = np.empty_like(y), np.empty_like(y), np.empty_like(y), np.empty_like(y), np.empty_like(y)
    scratch = fastnn.workspace(network, 1)
    for _ in range(steps):
        fastnn.apply_into(network, y, k1, scratch)
        at[:] = y + 0.5 * step * k1
        fastnn.apply_into(network, at, k2, scratch)
        at[:] = y + 0.5 * step * k2
        fastnn.apply_into(network, at, k3, scratch)
        at[:] = y + step * k3
        fastnn.apply_into(network, at, k4, scratch)
        y += step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y


def numpy_runge_kutta(f, y, step, steps):
    for _ in range(steps):
        k1 = f(y)
        k2 = f(y + 0.5 * step * k1)
        k3 = f(y + 0.5 * step * k2)
        k4 = f(y + step * k3)
        y = y + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y


# ---- Monte Carlo: paths of dS = S (network(S, t) dt + 0.2 dW), every path on whatever thread has time for it


@numba.njit(parallel=True)
def mean_of_paths(network, noise, start, step):
    """Mean of S at the end; noise (paths, steps) are standard normal."""
    paths, steps = noise.shape
    ends = np.empty(paths)
    for i in numba.prange(paths):
        state, drift, scratch = np.empty(2), np.empty(1), fastnn.workspace(network, 1)
        s = start
        for j in range(steps):
            state[0], state[1] = s, j * step
            fastnn.apply_into(network, state, drift, scratch)
            s *= 1.0 + drift[0] * step + 0.2 * np.sqrt(step) * noise[i, j]
        ends[i] = s
    return ends.mean()


def numpy_mean_of_paths(f, noise, start, step):
    s = np.full(len(noise), start)
    for j in range(noise.shape[1]):
        drift = f(np.column_stack([s, np.full(len(s), j * step)]))[:, 0]
        s = s * (1.0 + drift * step + 0.2 * np.sqrt(step) * noise[:, j])
    return s.mean()


# ---- A fit on all rows at once by a quasi-Newton method: one flat vector is all that an optimizer has to know


def minimize(net, x, y, iterations=200):
    """L-BFGS on the mean squared error; the network holds what was found. Returns SciPy's result."""
    from scipy.optimize import minimize

    def loss(parameters):
        net.parameters = parameters
        return net.loss_and_gradient(x, y, "mse")

    found = minimize(loss, net.parameters.copy(), jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    net.parameters = found.x
    return found


# ---- Solvers that want a Python function


def integrate(net, y, end):
    """scipy.integrate.solve_ivp with the network as the right-hand side."""
    from scipy.integrate import solve_ivp

    return solve_ivp(lambda t, y: net.predict(y), (0, end), y, rtol=1e-8, atol=1e-10)


def main():
    net = fastnn.MLP([4, 32, 32, 4], activation="tanh", dtype="float64", seed=0)
    drift = fastnn.MLP([2, 16, 1], activation="tanh", dtype="float64", seed=0)
    y, noise = np.ones(4), np.random.default_rng(0).standard_normal((2000, 100))
    pairs = {
        "Runge-Kutta, 4,000 evaluations of 4-32-32-4": (
            lambda: runge_kutta(net.network, y, 1e-3, 1000),
            lambda: numpy_runge_kutta(numpy_network(net), y, 1e-3, 1000),
        ),
        "Monte Carlo, 2,000 paths of 100 steps, 2-16-1": (
            lambda: mean_of_paths(drift.network, noise, 1.0, 1e-2),
            lambda: numpy_mean_of_paths(numpy_network(drift), noise, 1.0, 1e-2),
        ),
    }
    for name, (ours, theirs) in pairs.items():
        np.testing.assert_allclose(ours(), theirs(), rtol=1e-10)
        times = np.empty((5, 2))
        for row in times:
            for i, function in enumerate((ours, theirs)):
                began = time.perf_counter()
                function()
                row[i] = time.perf_counter() - began
        fast, slow = np.median(times, axis=0) * 1e3
        print(f"{name}: {fast:.2f} ms, in NumPy {slow:.2f} ms, {slow / fast:.1f} times as long")


if __name__ == "__main__":
    main()
