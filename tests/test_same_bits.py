"""One hash: whatever the threads, the batch, the vector width, the threading layer or the language that calls."""

import ctypes
import functools
import json
import os
import pathlib
import subprocess
import sys
from itertools import pairwise

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from conftest import FULL, threading_layers
from same_bits import (
    DTYPES,
    GOLDEN,
    OPTIMIZERS,
    STEPS,
    WITH_PARAMETER,
    cases,
    digest,
    hashes,
    predictions,
    trained,
)

import fastnn
from fastnn import kernels
from fastnn.kernels import simd
from fastnn.kernels.codes import Activation, Loss, Optimizer

# Other processes look at one dtype by default, of plain networks: each vector width is a build of its own.
OTHERS = DTYPES if FULL else DTYPES[:1]
WHICH = [] if FULL else ["--plain"]
# Features of x86-64 builds, and the width of vectors in bytes that they mean.
WIDTHS = {
    "avx512": ("avx512f,avx512dq,avx512bw,avx512vl,avx2,avx,fma,sse4.2", 64),
    "avx2": ("avx2,avx,fma,sse4.2", 32),
    "fma": ("avx,fma,sse4.2", 16),
}
# No fused multiply-add at all: a library call takes its place.
SSE = "sse4.2", 16
if FULL:
    WIDTHS["sse"] = SSE
else:
    # This process has the one that is left out.
    WIDTHS = {name: build for name, build in WIDTHS.items() if build[1] != simd.VECTOR_BYTES}


@functools.cache
def golden():
    return json.loads(GOLDEN.read_text())


def golden_of(dtypes, with_regularized):
    """What is expected of these dtypes; without regularized networks if those were left out."""
    return {
        name: pair
        for name, pair in golden().items()
        if name.split()[0] in dtypes and (with_regularized or "regularized" not in name)
    }


@functools.cache
def networks():
    """The cases of both dtypes, each with its trained network."""
    return trained(DTYPES, num_threads=1)


def in_a_process(*threads, dtypes=OTHERS, options=(), **environment):
    """What `same_bits.py` finds, once for each number of threads."""
    script = pathlib.Path(__file__).with_name("same_bits.py")
    command = [sys.executable, str(script), *WHICH, *options, "--dtypes", *dtypes, "--threads", *map(str, threads)]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=3600)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def differences(found, dtypes, with_regularized=FULL):
    expected = golden_of(dtypes, with_regularized)
    assert found.keys() == expected.keys()
    return [name for name, pair in found.items() if list(pair) != expected[name]]


def test_the_cases_have_every_activation_loss_and_optimizer():
    assert STEPS == 200
    for dtype in DTYPES:
        mine = [case for case in cases() if case.dtype == dtype]
        assert {case.activation for case in mine} == set(Activation)
        assert {case.loss for case in mine} == set(Loss)
        assert {case.optimizer for case in mine} == set(OPTIMIZERS)
    assert {optimizer.code for optimizer in OPTIMIZERS} == set(Optimizer)
    assert len(golden()) == 2 * (len(Activation) + len(WITH_PARAMETER) + 3)
    assert len({parameters for parameters, _ in golden().values()}) == len(golden())


def test_golden_hashes():
    assert differences(hashes(DTYPES, 1, networks=networks()), DTYPES, with_regularized=True) == []


def test_any_number_of_threads():
    found = in_a_process(2, 3, 8, NUMBA_NUM_THREADS="8")
    assert found["threads"] == [2, 3, 8], "that many threads were not used"
    for run in found["runs"]:
        assert differences(run, OTHERS) == []


@pytest.mark.parametrize("layer", threading_layers())
def test_any_threading_layer(layer):
    found = in_a_process(2, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")
    assert found["layer"] == layer
    assert differences(found["runs"][0], OTHERS) == []


def of_width(build, **arguments):
    names, size = build
    missing = [name for name in names.split(",") if not llvm.get_host_cpu_features().get(name)]
    if missing:
        pytest.skip(f"this CPU has no {', '.join(missing)}")
    features = ",".join(f"+{name}" for name in names.split(","))
    found = in_a_process(1, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=features, **arguments)
    assert found["vector_bytes"] == size
    return found["runs"][0]


@pytest.mark.parametrize("width", WIDTHS)
def test_any_vector_width(width):
    assert differences(of_width(WIDTHS[width]), OTHERS) == []


def test_predictions_without_fused_multiply_add():
    """Training without them, a minute of compiling, is in the long form alone."""
    assert of_width(SSE, options=["--predictions"]) == predictions(OTHERS)


def splits(rows):
    """Ways to cut a batch: rows alone, halves, uneven parts, at and beside blocks of 256 rows."""
    yield range(rows + 1)
    for cuts in ([rows // 2], [1], [rows - 1], [7, 20], [255], [256], [257]):
        yield [0, *(cut for cut in cuts if cut < rows), rows]


def test_a_row_alone_in_its_batch_and_in_any_part_of_it():
    for case in cases():
        net = case.network()
        whole = net.predict(case.x)
        for ends in splits(case.rows):
            parts = [net.predict(case.x[first:last]) for first, last in pairwise(ends)]
            assert np.concatenate(parts).tobytes() == whole.tobytes(), (case.name, ends)
        assert net.predict(case.x[::-1])[::-1].tobytes() == whole.tobytes()
        assert net.predict(np.asfortranarray(case.x)).tobytes() == whole.tobytes()
        assert net.predict(case.x[3]).tobytes() == whole[3].tobytes()


def targets(case):
    return np.asarray(case.y, case.dtype).reshape(case.rows, -1)


def test_serial_and_parallel_drivers():
    """Those for compiled code, which are serial, against those that Python calls."""
    for case in cases():
        if case.sample_weight is not None:
            continue
        net = case.network()
        network, room = net.network, fastnn.workspace(net.network, case.rows)
        out, gradient = np.empty((case.rows, net.out_features), case.dtype), np.empty_like(net.parameters)
        fastnn.apply_into(network, case.x, out, room)
        assert out.tobytes() == net.predict(case.x).tobytes(), case.name
        loss = fastnn.gradient(network, case.x, targets(case), case.loss, gradient, room, case.objective.parameter)
        expected_loss, expected = net.loss_and_gradient(case.x, case.y, case.objective)
        assert loss == expected_loss, case.name
        assert gradient.tobytes() == expected.tobytes(), case.name


@numba.njit
def apply_rows(network, x, out):
    """The network's output as a user's compiled code asks for it, row by row."""
    scratch = fastnn.workspace(network, 1)
    for i in range(len(x)):
        fastnn.apply_into(network, x[i], out[i], scratch)


def call_rows(net, x, out):
    """The same from C."""
    function, element = net.cfunc().ctypes, ctypes.POINTER(np.ctypeslib.as_ctypes_type(x.dtype))
    for row, result in zip(x, out, strict=True):
        function(row.ctypes.data_as(element), result.ctypes.data_as(element))


CALLERS = {
    "Python": lambda net, x, out: net.predict(x, out=out),
    "compiled code": lambda net, x, out: apply_rows(net.network, x, out),
    "C": call_rows,
}


@pytest.mark.parametrize("caller", CALLERS)
def test_predictions_whoever_calls(caller):
    for case, net in networks():
        out = np.full((case.rows, net.out_features), np.nan, case.dtype)
        CALLERS[caller](net, case.x, out)
        assert digest(out) == golden()[case.name][1], case.name


@numba.njit
def train(network, x, y, loss, loss_parameter, optimizer, hyper, steps):
    """Training as a user's compiled code does it."""
    parameters = network.parameters
    gradient, scratch = np.empty_like(parameters), fastnn.workspace(network, len(x))
    state1, state2 = np.zeros_like(parameters), np.zeros_like(parameters)
    for step in range(1, steps + 1):
        fastnn.gradient(network, x, y, loss, gradient, scratch, loss_parameter)
        if optimizer == 1:
            kernels.rmsprop(parameters, gradient, state1, state2, step, hyper)
        elif optimizer == 2:
            kernels.adagrad(parameters, gradient, state1, state2, step, hyper)
        else:
            kernels.adamw(parameters, gradient, state1, state2, step, hyper)
    out = np.empty((len(x), network.table[-1, 1]), parameters.dtype)
    fastnn.apply_into(network, x, out, scratch)
    return out


def test_inside_compiled_code():
    # Sample weights and clipping are the trainer's.
    usable = [
        case
        for case in cases(OTHERS)
        if case.sample_weight is None and case.optimizer.clip_norm is None and case.optimizer.clip_value is None
    ]
    assert {case.optimizer.code for case in usable} == {Optimizer.RMSPROP, Optimizer.ADAGRAD, Optimizer.ADAMW}
    for case in usable:
        net = case.network()
        hyper = case.optimizer.hyper()
        code, parameter = int(case.optimizer.code), case.objective.parameter
        out = train(net.network, case.x, targets(case), case.loss, parameter, code, hyper, STEPS)
        assert [digest(net.parameters), digest(out)] == golden()[case.name], case.name
