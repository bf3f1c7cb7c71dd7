"""A C program that calls a network: learned in Python, run by a C library through a function pointer.

    python examples/from_c.py

compiles from_c.c with the system's C compiler, or the one that the variable CC names, and lets it integrate a pendulum
whose force is a network, beside the pendulum itself.
"""

import ctypes
import os
import pathlib
import shlex
import subprocess
import tempfile

import numpy as np

import fastnn

SOURCE = pathlib.Path(__file__).with_name("from_c.c")


def force(state):
    """The acceleration of a damped pendulum at (angle, speed): what the network learns from samples."""
    return -np.sin(state[..., 0]) - 0.1 * state[..., 1]


def learned_force():
    """A float64 network from (angle, speed) to the acceleration; `force` in C is a double too."""
    states = np.random.default_rng(0).uniform(-2, 2, (2000, 2))
    net = fastnn.MLP([2, 32, 1], activation="tanh", dtype="float64", seed=0)
    falling = fastnn.LearningRateScheduler(fastnn.schedules.Cosine())
    net.fit(states, force(states), optimizer=fastnn.Adam(1e-2), batch_size=50, epochs=100, seed=0, callbacks=[falling])
    return net


def compiled_library(folder):
    """from_c.c as a shared library that ctypes has loaded."""
    library = pathlib.Path(folder) / "from_c.so"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return ctypes.CDLL(str(library))


def swing(library, net, state, steps, dt):
    """The state after so many steps in C."""
    state = np.array(state, np.float64)
    # The object owns the machine code and keeps the network: it has to live as long as C may call.
    function = net.cfunc()
    library.swing.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_double]
    library.swing.restype = None
    library.swing(function.address, state.ctypes.data, steps, dt)
    return state


def numpy_swing(force, state, steps, dt):
    """The same in Python, with any function as the force."""
    state = np.array(state, np.float64)
    for _ in range(steps):
        acceleration = force(state)
        state += dt * np.array([state[1], acceleration.item()])
    return state


def main():
    net, start, steps, dt = learned_force(), (1.0, 0.0), 2000, 1e-3
    # Windows cannot remove a library that is loaded.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        state = swing(compiled_library(folder), net, start, steps, dt)
    print(f"the network, in C:       {state.round(3)}")
    print(f"the network, in Python:  {numpy_swing(net.predict, start, steps, dt).round(3)}")
    print(f"the pendulum:            {numpy_swing(force, start, steps, dt).round(3)}")


if __name__ == "__main__":
    main()
