"""fastnn inside other people's programs: ODE solvers, Monte Carlo, quasi-Newton methods, Dask, pools of workers."""

import importlib.util
import pathlib

import numpy as np
import pytest

import fastnn

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def uses():
    spec = importlib.util.spec_from_file_location("embedding", ROOT / "examples" / "embedding.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def net():
    return fastnn.MLP([4, 32, 32, 4], activation="tanh", dtype="float64", seed=0)


def test_a_neural_differential_equation(uses, net):
    start = np.ones(4)
    by_hand = uses.runge_kutta(net.network, start, 1e-3, 1000)
    np.testing.assert_allclose(
        by_hand, uses.numpy_runge_kutta(uses.numpy_network(net), start, 1e-3, 1000), rtol=1e-12, atol=1e-14
    )
    solution = uses.integrate(net, start, 1.0)
    assert solution.success
    np.testing.assert_allclose(solution.y[:, -1], by_hand, rtol=1e-7)
    assert (start == 1).all()


def test_monte_carlo_over_threads(uses, rng):
    net = fastnn.MLP([2, 16, 1], activation="tanh", dtype="float64", seed=0)
    noise = rng.standard_normal((300, 20))
    found = uses.mean_of_paths(net.network, noise, 1.0, 0.05)
    np.testing.assert_allclose(found, uses.numpy_mean_of_paths(uses.numpy_network(net), noise, 1.0, 0.05), rtol=1e-12)


def test_a_quasi_newton_fit(uses, rng):
    x = rng.uniform(-2, 2, (200, 1))
    y = np.sin(2 * x)
    net = fastnn.MLP([1, 16, 1], activation="tanh", dtype="float64", seed=0)
    before = net.loss_and_gradient(x, y)[0]
    found = uses.minimize(net, x, y)
    assert found.fun < before / 1000
    assert net.loss_and_gradient(x, y)[0] == found.fun


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask_maps_the_network_over_blocks(net, rng, scheduler):
    array = pytest.importorskip("dask.array", reason="Dask is not installed")
    x = rng.standard_normal((1000, 4))
    blocks = array.from_array(x, chunks=(130, 4))
    found = blocks.map_blocks(net.predict, dtype=float, meta=np.empty((0, 4))).compute(
        scheduler=scheduler, num_workers=2
    )
    assert found.tobytes() == net.predict(x).tobytes()


def test_joblib_runs_the_network_in_processes(net, rng):
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    # Large enough for joblib to hand it over as a read-only memory map.
    x = rng.standard_normal((70_000, 4))
    parts = joblib.Parallel(n_jobs=2, max_nbytes="1M")(joblib.delayed(net.predict)(x[first:]) for first in (0, 35_000))
    expected = net.predict(x)
    assert parts[0].tobytes() == expected.tobytes()
    assert parts[1].tobytes() == expected[35_000:].tobytes()


def test_the_printed_comparison(uses, capsys):
    """Both programs agree; how their times compare is for the reader of what is printed."""
    uses.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["Runge-Kutta", "Monte Carlo"]
