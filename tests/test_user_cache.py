"""Functions that a user compiles with `cache=True`: they survive the loss of fastnn's own cache, and its upgrade."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import fastnn

USER = """
import numba, numpy as np, fastnn

@numba.njit(cache=True, parallel=True)
def many(network, x, out):
    for i in numba.prange(len(x)):
        out[i] = fastnn.apply(network, x[i] + x[i])[0]

net = fastnn.MLP([4, 32, 1], activation="leaky_relu", output_activation="leaky_relu", seed=0)
net.layers[1].bias[:] = -100
x = np.linspace(-1, 1, 400, dtype=np.float32).reshape(100, 4)
out = np.full(100, np.nan, np.float32)
many(net.network, x, out)
assert out.tobytes() == net.predict(x + x).tobytes()
print(sum(many.stats.cache_hits.values()), out[50])
"""
KERNELS = """
import numba, numpy as np, fastnn
from fastnn import kernels

@numba.njit(cache=True)
def layer(x, weight, bias, out):
    kernels.linear(x, weight, bias, 2, out)
    return out[0, 0]

assert fastnn.Activation.LEAKY_RELU == 2
x, weight, bias = np.ones((3, 4)), np.full((4, 5), -0.25), np.zeros(5)
value = layer(x, weight, bias, np.empty((3, 5)))
print(sum(layer.stats.cache_hits.values()), value)
"""
NESTED = """
import sys
import numba, numpy as np, fastnn
from fastnn import kernels

@numba.njit(cache=True)
def inner(x, weight, bias, out):
    kernels.linear(x, weight, bias, 2, out)
    return out[0, 0]

@numba.njit(cache=True)
def outer(x, weight, bias, out):
    return 2 * inner(x, weight, bias, out)

arrays = np.ones((3, 4)), np.full((4, 5), -0.25), np.zeros(5), np.empty((3, 5))
for function in (inner, outer):
    if function.__name__ in sys.argv[1:]:
        value = function(*arrays)
        print(sum(function.stats.cache_hits.values()), value)
"""
PICKLED = """
import pathlib, pickle, sys
import cloudpickle, numba, numpy as np, fastnn
from fastnn.kernels import linear_backward_input, relu
from fastnn.kernels.dense import linear_serial

@numba.njit
def f(x, weight, bias, out):
    linear_serial(x, weight, bias, 2, out)
    relu(out, out)
    linear_backward_input(out, weight, x)
    return out.sum() + x.sum()

arrays = np.ones((3, 4)), np.full((4, 5), 0.25), np.zeros(5), np.empty((3, 5))
path = pathlib.Path(sys.argv[1], "f.pickle")
if path.exists():
    f = pickle.loads(path.read_bytes())
value = f(*arrays)
path.write_bytes(cloudpickle.dumps(f))
print(value)
"""
GLOBAL = """
import numba, numpy as np, fastnn
network = fastnn.MLP([1, 1], seed=0).network

@numba.njit(cache=True)
def one(x):
    return fastnn.apply(network, x)

shape = one(np.ones(1, np.float32)).shape
print(sum(one.stats.cache_hits.values()), shape)
"""

# The second half of a loop is another thread's than the caller's.
MASKED = """
import numba, numpy as np, fastnn

@numba.njit(parallel=True, cache=True)
def last_half(network, x, out, dx):
    for i in numba.prange(len(x)):
        if i >= len(x) // 2:
            out[i] = fastnn.apply(network, x[i])
            fastnn.vjp(network, x[i], out[i], dx[i], fastnn.workspace(network, 1))

net = fastnn.MLP([4, 8, 3], seed=0)
x = np.ones((100, 4), np.float32)
out, dx = np.zeros((100, 3), np.float32), np.zeros((100, 4), np.float32)
last_half(net.network, x, out, dx)
print(sum(last_half.stats.cache_hits.values()), out[-1].any(), dx[-1].any(), out[0].any())
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package that may be changed, found before the installed one."""
    source = pathlib.Path(fastnn.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, tmp_path / "fastnn", ignore=ignored)
    if not (tmp_path / "fastnn" / "kernels").exists():
        shutil.copytree(pathlib.Path(fastnn.kernels.__file__).parent, tmp_path / "fastnn" / "kernels", ignore=ignored)
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "kernels.py").write_text(KERNELS)
    (tmp_path / "nested.py").write_text(NESTED)
    (tmp_path / "pickled.py").write_text(PICKLED)
    (tmp_path / "fixed.py").write_text(GLOBAL)
    (tmp_path / "masked.py").write_text(MASKED)
    return tmp_path


def run(package, script, *arguments, cache="cache"):
    """The finished process. The user's cache lies beside his script, fastnn's in a folder of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= {"XDG_CACHE_HOME": str(package / cache), "PYTHONPATH": str(package), "NUMBA_NUM_THREADS": "2"}
    # The copy shall be found, not an editable installation: those come through a finder, before the path.
    code = (
        "import sys, runpy; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in str(f)];"
        f"sys.path.insert(0, {str(package)!r}); runpy.run_path({str(package / script)!r}, run_name='user')"
    )
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


def upgrade(package):
    """Make leaky_relu another function."""
    kernels = package / "fastnn" / "kernels" / "activation.py"
    text = kernels.read_text()
    edited = re.sub(r"^LEAKY_SLOPE = .*$", "LEAKY_SLOPE = 0.5", text, flags=re.MULTILINE)
    assert edited != text
    kernels.write_text(edited)


def printed(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_cached_function_outlives_the_cache_of_the_package(package):
    """In a container, say: one cache is part of the image, the other is not. And an upgrade takes effect."""
    first = printed(run(package, "user.py"))
    assert first[0] == "0"
    assert printed(run(package, "user.py")) == ["1", first[1]]
    assert printed(run(package, "user.py", cache="empty")) == ["1", first[1]]
    upgrade(package)
    # The arguments' types carry the version: nothing is found in the user's cache, and the values are the new ones.
    hits, value = printed(run(package, "user.py"))
    assert hits == "0"
    assert float(value) < 10 * float(first[1])


def test_a_cached_function_that_calls_a_kernel_is_compiled_anew_after_an_upgrade(package):
    """It holds machine code of the kernel, and symbols of what that calls, which are there again in every process."""
    assert printed(run(package, "kernels.py")) == ["0", "-0.01"]
    assert printed(run(package, "kernels.py")) == ["1", "-0.01"]
    assert printed(run(package, "kernels.py", cache="empty")) == ["1", "-0.01"]
    upgrade(package)
    assert printed(run(package, "kernels.py")) == ["0", "-0.5"]
    assert printed(run(package, "kernels.py")) == ["1", "-0.5"]


def test_cached_functions_around_cached_functions(package):
    """Of a function that came from a cache, what it needs goes with that which is compiled around it."""
    assert printed(run(package, "nested.py", "inner")) == ["0", "-0.01"]
    assert printed(run(package, "nested.py", "inner", "outer")) == ["1", "-0.01", "0", "-0.02"]
    assert printed(run(package, "nested.py", "outer")) == ["1", "-0.02"]
    assert printed(run(package, "nested.py", "outer", cache="empty")) == ["1", "-0.02"]
    upgrade(package)
    assert printed(run(package, "nested.py", "outer")) == ["0", "-1.0"]
    assert printed(run(package, "nested.py", "outer")) == ["1", "-1.0"]


def test_a_function_goes_to_another_process_as_a_pickle(package):
    """As Dask and joblib send it; with all that belongs to one process left behind."""
    first = printed(run(package, "pickled.py", str(package)))
    assert printed(run(package, "pickled.py", str(package))) == first
    assert printed(run(package, "pickled.py", str(package), cache="empty")) == first


def test_a_network_frozen_into_a_cached_function_is_compiled_anew_after_an_upgrade(package):
    """As a global it is a constant, of which Numba's cache knows nothing."""
    assert printed(run(package, "fixed.py")) == ["0", "(1,)"]
    assert printed(run(package, "fixed.py")) == ["1", "(1,)"]
    source = package / "fastnn" / "kernels" / "codes.py"
    source.write_text(source.read_text() + "\n# another version\n")
    assert printed(run(package, "fixed.py")) == ["0", "(1,)"]


def test_kernels_are_there_for_a_loop_in_which_the_caller_calls_none(package):
    """Threads of Numba's pool cannot compile what a function from a cache calls: that happens when it is loaded."""
    assert printed(run(package, "masked.py")) == ["0", "True", "True", "False"]
    assert printed(run(package, "masked.py")) == ["1", "True", "True", "False"]
    assert printed(run(package, "masked.py", cache="empty")) == ["1", "True", "True", "False"]
