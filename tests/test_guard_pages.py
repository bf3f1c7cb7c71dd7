"""Not one byte outside: `guard_pages.py` in processes of its own, and the faults that it has to find."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import assert_within
from guard_pages import GROUPS

import fastnn
from fastnn import kernels
from fastnn.kernels import reference

HERE = pathlib.Path(__file__).parent
pytestmark = pytest.mark.skipif(os.name != "posix", reason="unreadable pages are made with POSIX mprotect")


def run(script, *arguments):
    command = [sys.executable, str(HERE / script), *arguments]
    # glibc: each block of memory is mapped on its own, so what a kernel has allocated is unmapped when it is freed.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "4096"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=7200)


@pytest.mark.parametrize("group", GROUPS)
def test_not_one_byte_outside(group, tmp_path):
    case = tmp_path / "case"
    result = run("guard_pages.py", group, str(case))
    assert result.returncode == 0, (
        f"{group} [{case.read_text().strip()}] ended with {result.returncode}\n{result.stderr}"
    )
    cases, guarded = map(
        int, re.fullmatch(rf"{group}: (\d+) cases, (\d+) bytes guarded", result.stdout.strip()).groups()
    )
    print(f"{cases:,} cases, {guarded:,} bytes guarded")
    assert cases > 100
    assert guarded > 1_000_000


@pytest.mark.parametrize("fault", ["read_behind", "read_before", "write_behind", "write_before", "write_input"])
def test_a_stray_access_ends_the_process(fault):
    result = run("guard_faults.py", fault)
    assert result.returncode < 0
    assert result.stdout == "started\n"


@pytest.mark.parametrize("fault", ["write_gap", "write_margin"])
def test_what_no_fence_stops_is_seen_in_the_bytes(fault):
    result = run("guard_faults.py", fault)
    assert result.returncode == 1
    assert re.search(r"AssertionError: (x|out): bytes (between|beside)", result.stderr)


def test_where_nothing_is_wrong_nothing_is_found():
    assert run("guard_faults.py", "nothing_wrong").stdout == "started\nended\n"


# ---- Results over inputs: right, or refused


def test_predict_refuses_a_result_over_its_input(dtype):
    net = fastnn.MLP([4, 4], dtype=dtype, seed=0)
    memory = np.ones(40, dtype)
    x = memory[:16].reshape(4, 4)
    for out in (x, memory[1:17].reshape(4, 4), x[::-1][::-1]):
        with pytest.raises(ValueError, match="out: expected memory of its own"):
            net.predict(x, out=out)
    beside = memory[16:32].reshape(4, 4)
    assert net.predict(x, out=beside).tobytes() == net.predict(x.copy()).tobytes()


def test_compiled_code_refuses_a_result_over_its_input(dtype):
    net = fastnn.MLP([4, 4], dtype=dtype, seed=0)
    room = fastnn.workspace(net.network, 5)
    memory = np.ones(60, dtype)
    x, beside = memory[:16].reshape(4, 4), memory[16:32].reshape(4, 4)
    for samples, out in ((x, x), (x, memory[15:31].reshape(4, 4)), (beside, x[1:]), (x[::-1], x), (x[0], x[0])):
        if out.shape == samples.shape:
            with pytest.raises(ValueError, match="out: expected memory of its own"):
                fastnn.apply_into(net.network, samples, out, room)
    for samples, out in (
        (x, beside),
        (beside, x),
        (x[::-1], beside),
        (x[3], beside[0]),
        (beside[0], x[3]),
        (x[:0], x[:0]),
    ):
        expected = net.predict(samples.copy()) if samples.size else samples
        fastnn.apply_into(net.network, samples, out, room)
        assert out.tobytes() == expected.tobytes()
    one = memory[: net.parameter_count]
    arguments = np.ones((4, 4), dtype), fastnn.Loss.MSE
    with pytest.raises(ValueError, match="gradient: expected memory of its own"):
        fastnn.gradient(net.network, x, *arguments, one, room)
    fastnn.gradient(net.network, x, *arguments, memory[16 : 16 + one.size], room)


def test_activations_work_in_place_and_nowhere_else_over_their_input(dtype, rng):
    memory = rng.standard_normal(100).astype(dtype)
    for name in fastnn.activations.__all__:
        function = getattr(fastnn.activations, name)
        x = memory[:50].copy()
        expected = function(x.copy())
        assert function(x, out=x).tobytes() == expected.tobytes()
        with pytest.raises(ValueError, match="out: expected memory of its own"):
            function(memory[:50], out=memory[1:51])


def test_a_read_only_batch_in_every_door(dtype, rng):
    """Memory maps are opened so; workers receive them so."""
    net = fastnn.MLP([6, 8, 3], dtype=dtype, seed=0)
    x, y = rng.standard_normal((10, 6)).astype(dtype), rng.standard_normal((10, 3)).astype(dtype)
    weight = np.ones(10, dtype)
    expected = net.predict(x), *net.loss_and_gradient(x, y, sample_weight=weight)
    for array in (x, y, weight):
        array.flags.writeable = False
    found = net.predict(x), *net.loss_and_gradient(x, y, sample_weight=weight)
    for one, other in zip(found, expected, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    net.fit(x, y, sample_weight=weight, seed=0)
    layer = net.layers[0]
    out, reference_out = np.empty((10, 8), dtype), np.empty((10, 8), dtype)
    kernels.linear(x, layer.weight, layer.bias, layer.activation, out)
    reference.linear(x, layer.weight, layer.bias, layer.activation, reference_out)
    bound = 8 * np.finfo(dtype).eps * (np.abs(x) @ np.abs(layer.weight) + np.abs(layer.bias))
    assert_within(out, reference_out, bound, "linear")
