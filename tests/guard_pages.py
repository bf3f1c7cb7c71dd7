"""Every kernel with every array against an unreadable page: `python guard_pages.py GROUP CASE_FILE`.

A stray access ends the process, so each case's name is in CASE_FILE before it runs; `test_guard_pages.py` starts one
process for each group. FASTNN_FULL=1 tries all sizes from 1 to 70 instead of those at edges and a sample of the others:
of products all pairs of rows and columns, the tile's two sides, with one step and some of the inner loop, all inner
sizes with edges of both, and 2,000 triples of the other, each on one thread, shared, and by the serial kernel. That is
twenty minutes on one core; all triples would take hours and say nothing new, for the inner loop runs alike in any tile.
"""

import faulthandler
import functools
import itertools
import os
import sys

import numba
import numpy as np
import pytest
from conftest import FULL, check_against_reference
from guarded import LAYOUTS, SIDES, Guard

import fastnn
from fastnn import kernels, resources, sequential
from fastnn.kernels import dense
from fastnn.kernels.activation import (
    activate_backward_parallel,
    activate_flat,
    activate_worker,
)
from fastnn.kernels.catalog import CATALOG
from fastnn.kernels.catalog_training import hyper_parameters
from fastnn.kernels.codes import ROW_WISE, Activation, Loss, Optimizer
from fastnn.kernels.dropout import rate_threshold
from fastnn.kernels.inference import forward_driver, plain_forward_plan
from fastnn.kernels.layout import ROWS, workspace_size
from fastnn.kernels.loss import parameter_array
from fastnn.kernels.loss_kernels import loss_parallel
from fastnn.kernels.network import Network, NormalizedNetwork, make_table
from fastnn.kernels.normalized_inference import forward_plan
from fastnn.kernels.optimizer import CLIP_NORM, CLIP_VALUE, MOMENTUM, update_parallel
from fastnn.kernels.regularized_training import begin_updates, training_plan
from fastnn.kernels.sensitivity import SEEDS
from fastnn.kernels.sweeps import Optimization, gradient_worker, rows_worker
from fastnn.kernels.table import ROW_WORKSPACE, statistics_count
from fastnn.kernels.training import loss_and_gradient_parallel, plain_training_plan, train_planned

DTYPES = np.float32, np.float64
LARGEST = 70
# Around the register tiles (6 or 12 rows; 16 to 64 columns), a block's rows and the vectors of both dtypes.
ROW_EDGES = 0, 1, 2, 5, 6, 7, 12, 13, 25
INNER_EDGES = 1, 2, 8, 17, 70
COLUMN_EDGES = 1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 63, 64, 65, 70
ALL = range(1, LARGEST + 1)
SAMPLE = 100 if not FULL else 2000
NETWORKS = 60 if not FULL else 3000

# Threads that Numba has; cases for more of them are shared by these.
THREADS = numba.get_num_threads()

EMPTY_ORDER = np.empty(0, np.int64)


class Run:
    """The cases of a process: their number, and where the name of the one that runs is kept."""

    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.guard = Guard()
        self.cases = 0

    def begin(self, *what):
        self.guard.clear()
        self.cases += 1
        # Mostly one thread does the parts of all threads, one after the other: on busy CPUs a launch can take 20 ms.
        numba.set_num_threads(THREADS if self.cases % 32 == 0 else 1)
        names = [
            [code.name for code in item] if isinstance(item, list) and isinstance(item[0], Activation) else item
            for item in what
        ]
        os.pwrite(self._file, ", ".join(map(str, names)).ljust(240).encode(), 0)

    def place(self, arguments, side, frozen, layouts=()):
        """The same arguments, arrays guarded; `frozen` names those that the kernel only reads."""
        layouts = dict(layouts)
        return {
            name: self.guard.place(value, side, name, layout=layouts.get(name, "rows"), frozen=name in frozen)
            if isinstance(value, np.ndarray)
            else value
            for name, value in arguments.items()
        }

    def against_reference(self, row, inputs, function, side, layouts=()):
        frozen = set(inputs) - set(row.outputs) - {"workspace"}
        arguments = self.place(inputs, side, frozen, layouts)
        check_against_reference(row, arguments, lambda *values: self.guard.call(function, *values))

    def same_bits(self, function, inputs, outputs, side, layouts=()):
        """A kernel gives on guarded memory what it gives on plain memory, and the same value."""
        plain = {name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in inputs.items()}
        expected_value = function(*plain.values())
        arguments = self.place(inputs, side, set(inputs) - set(outputs), layouts)
        value = self.guard.call(function, *arguments.values())
        assert value == expected_value or (value != value and expected_value != expected_value)
        for name in outputs:
            if name != "workspace":
                assert arguments[name].tobytes() == plain[name].tobytes(), f"{name} differs from that of plain memory"


def rows_named(*names):
    return [row for row in CATALOG if row.name in names]


# ---- Kernels of the catalog


def activations(run):
    """Named kernels, and the shared driver on one to three threads, from 0 to 70 elements or columns."""
    rng = np.random.default_rng(1)
    by_name = {row.name: row for row in CATALOG}
    for code, dtype in itertools.product(Activation, DTYPES):
        forward, backward = by_name[code.name.lower()], by_name[f"{code.name.lower()}_backward"]
        address = activate_worker.address(np.dtype(dtype))
        shapes = [(n,) for n in range(LARGEST + 1)]
        if code in ROW_WISE:
            shapes = [(m, n) for m in ((0, 1, 2, 7) if not FULL else range(9)) for n in range(1, LARGEST + 1)]
        for row, shape, side in itertools.product((forward, backward), shapes, SIDES):
            inputs = row.inputs(shape, dtype, rng)
            run.begin(row.name, np.dtype(dtype), shape, side)
            run.against_reference(row, inputs, getattr(kernels, row.name), side)
            threads = 1 + run.cases % 3
            columns = shape[-1] if code in ROW_WISE else 1

            def flat(*arrays, row=row, code=code, columns=columns, threads=threads, address=address):
                *arrays, out = (array.reshape(-1) for array in arrays)
                if row.name.endswith("_backward"):
                    activate_backward_parallel(*arrays, int(code), out, columns, threads)
                else:
                    activate_flat(address, *arrays, int(code), out, columns, threads)

            run.begin(row.name, np.dtype(dtype), shape, side, "threads", threads)
            run.against_reference(row, inputs, flat, side)
            in_place(run, row, code, inputs, side)


def in_place(run, row, code, inputs, side):
    """The result written over the input has the same bits."""
    source = "dy" if row.name.endswith("_backward") else "x"
    expected = np.empty_like(inputs[source])
    getattr(kernels, row.name)(*(inputs | {"out": expected}).values())
    run.begin(row.name, "in place", expected.shape, side)
    names = [name for name in inputs if name != "out"]
    arguments = run.place({name: inputs[name] for name in names}, side, set(names) - {source})
    run.guard.call(getattr(kernels, row.name), *arguments.values(), arguments[source])
    assert arguments[source].tobytes() == expected.tobytes(), "in place it has other bits"


PRODUCT_DRIVERS = {
    "linear": (dense.linear_parallel, dense.linear_serial),
    "linear_backward_input": (dense.linear_backward_input_parallel, dense.linear_backward_input_serial),
    "linear_backward_parameters": (dense.linear_backward_parameters_parallel, dense.linear_backward_parameters_serial),
    "outer_update": (dense.outer_update_parallel, dense.outer_update_serial),
}


def product_cases(row, dtype, rng):
    """(shape, layout) of a product: the full grid of edges, a sample of the rest, large ones, and all layouts."""
    for shape in itertools.product(ROW_EDGES, ALL if FULL else INNER_EDGES, COLUMN_EDGES):
        yield shape, "rows"
    if FULL:
        for shape in itertools.product(ALL, (1, 17), ALL):
            yield shape, "rows"
    for shape in rng.integers(1, LARGEST + 1, (SAMPLE, 3)).tolist():
        yield shape, "rows"
    # Narrow layers: weights in place and copied, blocks of rows, the least inner dimension.
    for shape in itertools.product((1, 3, 31, 32, 33, 257), (15, 16, 24, 32, 33, 70), (2, 3, 4)):
        yield shape, "rows"
    for shape, layout in itertools.product(((3, 33, 2), (37, 70, 3), (50, 32, 4), (257, 40, 4)), LAYOUTS[1:]):
        yield shape, layout
    for shape in row.shapes:
        if max(shape) > LARGEST:
            yield shape, "rows"
    # From 2 on: with an axis of length 1 the memory order of an array, and so its type, would be another one.
    for layout in LAYOUTS[1:]:
        for shape in rng.integers(2, LARGEST + 1, (SAMPLE // 8, 3)).tolist():
            yield shape, layout
        yield (26, 300, 67), layout
    # An axis of length 1 may have any stride.
    for n in ALL if FULL else COLUMN_EDGES:
        yield (1, 1, n), "row step"


def in_threads(driver, threads):
    return lambda *values: driver(*values, threads)


def products(run):
    rng = np.random.default_rng(2)
    for row, dtype in itertools.product(rows_named(*PRODUCT_DRIVERS), DTYPES):
        driver, serial = PRODUCT_DRIVERS[row.name]
        strided = {"x", "weight", "dz"} - set(row.outputs)
        if row.name in ("linear_backward_parameters", "outer_update"):
            strided -= {"dz"}  # contiguous by contract
        for (shape, layout), side in itertools.product(product_cases(row, dtype, rng), SIDES):
            inputs = row.inputs(shape, dtype, rng)
            if "activation" in inputs:
                inputs["activation"] = (0, int(Activation.TANH), int(Activation.LOG_SOFTMAX))[run.cases % 3]
            layouts = dict.fromkeys(strided, layout)
            if layout == "row of one":
                for name in strided & set(inputs):
                    inputs[name][:] = inputs[name][0]
            for threads in (1, 2 + run.cases % 2):
                run.begin(row.name, np.dtype(dtype), tuple(shape), layout, side, "threads", threads)
                function = in_threads(driver, threads)
                if inputs.get("activation") == int(Activation.LOG_SOFTMAX):
                    run.same_bits(function, inputs, row.outputs, side, layouts.items())
                else:
                    run.against_reference(row, inputs, function, side, layouts)
            if FULL and layout == "rows":
                run.begin(row.name, "serial", np.dtype(dtype), tuple(shape), side)
                run.against_reference(row, inputs, serial, side)


def loss_in_threads(code, threads):
    """The loss of this code with its rows shared, a kernel like those by name."""

    def shared(prediction, target, sample_weight, gradient, parameter=None):
        numbers = parameter_array(code, parameter)
        return loss_parallel(int(code), numbers, prediction, target, sample_weight, gradient, threads)

    return shared


def losses(run):
    rng = np.random.default_rng(3)
    rows = (1, 2, 3, 8, 70) if not FULL else range(1, LARGEST + 1)
    for row, dtype in itertools.product(rows_named(*(loss.name.lower() for loss in Loss)), DTYPES):
        for m, n, side in itertools.product(rows, range(1, LARGEST + 1), SIDES):
            run.begin(row.name, np.dtype(dtype), (m, n), side)
            inputs = row.inputs((m, n), dtype, rng)
            run.against_reference(row, inputs, getattr(kernels, row.name), side)
            if run.cases % 4 == 0:
                threads = 1 + run.cases // 4 % 3
                run.begin(row.name, np.dtype(dtype), (m, n), side, "threads", threads)
                run.against_reference(row, inputs, loss_in_threads(Loss[row.name.upper()], threads), side)


def optimizers(run):
    rng = np.random.default_rng(4)
    names = [code.name.lower() for code in Optimizer]
    for row, dtype in itertools.product(rows_named(*names, "clip_by_value", "clip_by_norm"), DTYPES):
        for n, side in itertools.product([*range(1, LARGEST + 1), 1023, 1024, 1025], SIDES):
            inputs = row.inputs((n,), dtype, rng)
            run.begin(row.name, np.dtype(dtype), n, side)
            run.against_reference(row, inputs, getattr(kernels, row.name), side)
            if row.name in names:
                threads = 1 + run.cases % 3
                shared = functools.partial(update_parallel, int(Optimizer[row.name.upper()]))
                run.begin(row.name, np.dtype(dtype), n, side, "threads", threads)
                run.against_reference(row, inputs, in_threads(shared, threads), side)
        if row.name in names:
            # Without momentum nothing is read of the states that are not used.
            inputs["hyper"][MOMENTUM] = 0
            used = {"sgd": (), "rmsprop": ("state1",), "adagrad": ("state1",)}.get(row.name, ("state1", "state2"))
            inputs |= {name: inputs[name][:0] for name in ("state1", "state2") if name not in used}
            outputs = {"parameters", *used}
            for side in SIDES:
                run.begin(row.name, "without momentum", np.dtype(dtype), side)
                run.same_bits(getattr(kernels, row.name), inputs, outputs, side)


# ---- Whole networks, with no more workspace than they ask for


def some_networks(rng, count):
    """(row count, sizes, activations, dtype): random ones, then those at the edges of blocks of rows."""
    for _ in range(count):
        sizes = rng.integers(1, LARGEST + 1, rng.integers(2, 6)).tolist()
        rows = int(rng.integers(1, LARGEST + 1))
        yield (
            rows,
            sizes,
            [Activation(code) for code in rng.integers(0, len(Activation), len(sizes) - 1)],
            DTYPES[rng.integers(2)],
        )
    for rows, dtype in itertools.product((1, 2, 4, 5, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 3), DTYPES):
        yield rows, [9, 70, 33, 1], [Activation.GELU, Activation.LOG_SOFTMAX, Activation.IDENTITY], dtype
        yield rows, [70, 130, 96, 10], [Activation.TANH, Activation.SILU, Activation.SOFTMAX], dtype
        # Narrow layers need a scratch of their own, and a wide layer after a narrow one the largest panels.
        yield rows, [300, 1], [Activation.SIGMOID], dtype
        yield rows, [300, 3], [Activation.SOFTMAX], dtype
        yield rows, [5, 40, 2, 16, 2], [Activation.GELU, Activation.TANH, Activation.RELU, Activation.SOFTPLUS], dtype
        yield rows, [1, 300, 1, 65], [Activation.HARDSWISH, Activation.SELU, Activation.ELU], dtype


def network_inputs(rows, sizes, activations, dtype, rng):
    table, count = make_table(sizes, activations)
    parameters = (rng.standard_normal(count) * 0.2).astype(dtype)
    return {"table": table, "parameters": parameters, "x": rng.standard_normal((rows, sizes[0])).astype(dtype)}


def scratch(inputs, rows, threads, which):
    size = workspace_size(inputs["table"], inputs["parameters"], rows, threads)[which]
    return np.full(size, np.nan, inputs["parameters"].dtype)


def planned_forward(threads):
    def forward(table, parameters, x, out, workspace):
        plan = plain_forward_plan(table, parameters, workspace, threads)
        forward_driver(threads, out.dtype)(plan.ctypes.data, x, out)

    return forward


def shared_gradient(threads):
    def loss_and_gradient(table, parameters, x, y, sample_weight, loss, gradient, workspace):
        addresses = rows_worker.address(parameters.dtype), gradient_worker.address(parameters.dtype)
        arguments = table, parameters, x, y, sample_weight, loss, parameter_array(loss, None), gradient, workspace
        return loss_and_gradient_parallel(*addresses, *arguments, threads)

    return loss_and_gradient


def networks(run):
    """Inference: bits of plain memory for random networks, and the reference for those of the catalog."""
    rng = np.random.default_rng(5)
    for (rows, sizes, codes, dtype), side in itertools.product(some_networks(rng, NETWORKS), SIDES):
        inputs = network_inputs(rows, sizes, codes, dtype, rng)
        out = np.full((rows, sizes[-1]), np.nan, dtype)
        for threads, layout in ((1, "rows"), (2, "rows"), (3, "step 2" if min(rows, sizes[0]) > 1 else "rows")):
            what = inputs | {"out": out, "workspace": scratch(inputs, rows, threads, 0)}
            run.begin("forward", np.dtype(dtype), rows, sizes, codes, side, "threads", threads, layout)
            run.same_bits(planned_forward(threads), what, ("out", "workspace"), side, {"x": layout})
    for row in rows_named("forward", "loss_and_gradient"):
        catalog_networks(run, row, rng)


def catalog_networks(run, row, rng):
    shapes = [*row.shapes, *rng.integers(1, LARGEST + 1, (NETWORKS, 4)).tolist()]
    for shape, dtype, side, threads in itertools.product(shapes, DTYPES, SIDES, (1, 2, 3)):
        inputs = row.inputs(tuple(shape), dtype, rng)
        which = int(row.name != "forward")
        inputs["workspace"] = scratch(inputs, shape[0], threads, which)
        run.begin(row.name, np.dtype(dtype), tuple(shape), side, "threads", threads)
        run.against_reference(row, inputs, (planned_forward, shared_gradient)[which](threads), side)


def training_inputs(inputs, rows, outputs, dtype, rng, case):
    """Targets and sample weights for some loss, in turn weighted or not, labels or probabilities."""
    loss = list(Loss)[case % len(Loss)]
    y = rng.random((rows, outputs)).astype(dtype)
    if loss == Loss.SOFTMAX_CROSS_ENTROPY and case % 2:
        y = rng.integers(0, outputs, (rows, 1)).astype(dtype)
    weight = rng.random(rows if case % 3 else 0).astype(dtype)
    return inputs | {"y": y, "sample_weight": weight}, loss


def gradients(run):
    """loss_and_gradient of random networks on one to three threads."""
    rng = np.random.default_rng(6)
    for (rows, sizes, codes, dtype), side in itertools.product(some_networks(rng, NETWORKS), SIDES):
        inputs = network_inputs(rows, sizes, codes, dtype, rng)
        for threads in (1, 2, 3):
            what, loss = training_inputs(inputs, rows, sizes[-1], dtype, rng, run.cases)
            what |= {"loss": int(loss), "gradient": np.full_like(inputs["parameters"], np.nan)}
            what["workspace"] = scratch(inputs, rows, threads, 1)
            run.begin("loss_and_gradient", loss.name, np.dtype(dtype), rows, sizes, codes, side, "threads", threads)
            run.same_bits(shared_gradient(threads), what, ("gradient", "workspace"), side)


def training(run):
    """Updates of random networks: each optimizer, rows in order or gathered, short last batches, clipping."""
    rng = np.random.default_rng(7)
    for (rows, sizes, codes, dtype), side in itertools.product(some_networks(rng, NETWORKS), SIDES):
        inputs = network_inputs(rows, sizes, codes, dtype, rng)
        for threads in (1, 2, 3):
            case = run.cases
            what, loss = training_inputs(inputs, rows, sizes[-1], dtype, rng, case)
            optimizer = list(Optimizer)[case % len(Optimizer)]
            hyper = hyper_parameters(optimizer)
            hyper[(CLIP_VALUE, CLIP_NORM)[case % 2]] = 0.1 * (case % 4 > 1)
            batch_size = max(1, rows // (1 + case % 3) - case % 2)
            what |= {
                "order": rng.integers(0, rows, rows + 3) if case % 2 else EMPTY_ORDER,
                "hyper": hyper,
                "state1": np.zeros_like(inputs["parameters"]),
                "state2": np.zeros_like(inputs["parameters"]),
                "losses": np.full(-(-(rows + 3 * (case % 2)) // batch_size), np.nan),
                "workspace": scratch(inputs, batch_size, threads, 1),
            }

            def train(
                table,
                parameters,
                x,
                y,
                weight,
                order,
                hyper,
                state1,
                state2,
                losses,
                workspace,
                optimizer=optimizer,
                loss=loss,
                threads=threads,
                batch_size=batch_size,
            ):
                optimization = Optimization(int(optimizer), hyper, state1, state2)
                plan = plain_training_plan(Network(table, parameters), optimization, loss, workspace, threads)
                train_planned(plan.ctypes.data, x, y, weight, order, batch_size, 1, losses)

            outputs = "parameters", "state1", "state2", "losses", "workspace"
            settings = optimizer.name, loss.name, np.dtype(dtype), rows, "batch", batch_size, sizes, codes
            run.begin("train", *settings, side, "threads", threads)
            run.same_bits(train, what, outputs, side)


def normalized(run):
    """Networks with normalized layers or inputs and dropout: inference, derivatives by the input, updates."""
    rng = np.random.default_rng(10)
    cases = list(some_networks(rng, NETWORKS // 3))
    for (rows, sizes, codes, dtype), side in itertools.product(cases if FULL else cases[::3], SIDES):
        kinds = [0, 1, 2] if rows > 1 else [0, 1]
        kinds = [int(rng.choice(kinds)) for _ in codes]
        kinds[-1] = kinds[-1] or 1
        dropouts = [rate_threshold(rate) for rate in rng.random(len(codes)) * rng.integers(0, 2, len(codes))]
        table, count = make_table(sizes, codes, kinds, dropouts, standardizes=run.cases % 2 == 1)
        inputs = {
            "table": table,
            "parameters": (rng.standard_normal(count) * 0.2).astype(dtype),
            "statistics": (0.5 + rng.random(statistics_count(table))).astype(dtype),
            "x": rng.standard_normal((rows, sizes[0])).astype(dtype),
        }
        what, out = (np.dtype(dtype), rows, sizes, codes, kinds, side), np.full((rows, sizes[-1]), np.nan, dtype)
        threads = 1 + run.cases % 3
        dy, dx = rng.standard_normal(out.shape).astype(dtype), np.full_like(inputs["x"], np.nan)
        jacobian, training = np.full((rows, sizes[-1], sizes[0]), np.nan, dtype), scratch(inputs, rows, 1, 1)
        for name, function, more, result, room in (
            ("forward", normalized_forward(threads), {"out": out}, "out", scratch(inputs, rows, threads, 0)),
            ("apply_into", with_statistics(fastnn.apply_into), {"out": out}, "out", scratch(inputs, rows, 1, 0)),
            ("vjp", with_statistics(fastnn.vjp), {"dy": dy, "dx": dx}, "dx", training),
            ("jacobian", with_statistics(fastnn.jacobian), {"out": jacobian}, "out", scratch(inputs, SEEDS, 1, 1)),
        ):
            if name == "apply_into" and rows == 1:
                room = np.full(table[0, ROW_WORKSPACE], np.nan, dtype)
            run.begin(name, *what, "threads", threads)
            run.same_bits(function, inputs | more | {"workspace": room}, (result, "workspace"), side)

        more, loss = training_inputs(inputs, rows, sizes[-1], dtype, rng, run.cases)
        optimizer = list(Optimizer)[run.cases % len(Optimizer)]
        hyper = hyper_parameters(optimizer)
        hyper[CLIP_NORM] = 0.1 * (run.cases % 2)
        more |= {
            "hyper": hyper,
            "state1": np.zeros_like(inputs["parameters"]),
            "state2": np.zeros_like(inputs["parameters"]),
            "losses": np.full(2, np.nan),
            "workspace": scratch(inputs, rows, threads, 1),
        }

        def train(table, parameters, statistics, x, *rest, optimizer=optimizer, loss=loss, threads=threads, rows=rows):
            y, weight, hyper, state1, state2, losses, workspace = rest
            network = NormalizedNetwork(table, parameters, statistics)
            optimization = Optimization(int(optimizer), hyper, state1, state2)
            plan = training_plan(network, optimization, loss, workspace, threads)
            begin_updates(plan, 5, 1)
            order = np.arange(2 * rows) % rows
            train_planned(plan.ctypes.data, x, y, weight, order, rows, 1, losses)

        outputs = "parameters", "statistics", "state1", "state2", "losses", "workspace"
        run.begin("train", optimizer.name, loss.name, *what, "threads", threads)
        run.same_bits(train, inputs | more, outputs, side)


def normalized_forward(threads):
    def forward(table, parameters, statistics, x, out, workspace):
        plan = forward_plan(NormalizedNetwork(table, parameters, statistics), workspace, threads)
        forward_driver(threads, out.dtype)(plan.ctypes.data, x, out)

    return forward


def with_statistics(function):
    return lambda table, parameters, statistics, *rest: function(
        NormalizedNetwork(table, parameters, statistics), *rest
    )


def compiled_code(run):
    """apply_into and gradient, with no more workspace than their checks ask for, and an element less."""
    rng = np.random.default_rng(8)
    apply_into = lambda table, parameters, *rest: fastnn.apply_into(Network(table, parameters), *rest)

    def gradient(table, parameters, x, y, loss, gradient, workspace):
        return fastnn.gradient(Network(table, parameters), x, y, loss, gradient, workspace)

    for (rows, sizes, codes, dtype), side in itertools.product(some_networks(rng, NETWORKS), SIDES):
        inputs = network_inputs(rows, sizes, codes, dtype, rng)
        network = Network(inputs["table"], inputs["parameters"])
        what = np.dtype(dtype), rows, sizes, codes, side
        out = np.full((rows, sizes[-1]), np.nan, dtype)
        for name, size in (
            ("least", scratch(inputs, rows, 1, 0).size if rows > 1 else inputs["table"][0, ROW_WORKSPACE]),
            ("usual", fastnn.workspace(network, rows).size),
        ):
            room = np.full(size, np.nan, dtype)
            run.begin("apply_into", *what, name)
            run.same_bits(apply_into, inputs | {"out": out, "workspace": room}, ("out", "workspace"), side)
        sample = inputs | {
            "x": inputs["x"][0],
            "out": out[0],
            "workspace": np.full(inputs["table"][0, ROW_WORKSPACE], np.nan, dtype),
        }
        run.begin("apply_into sample", *what)
        run.same_bits(apply_into, sample, ("out", "workspace"), side)

        more, loss = training_inputs(inputs, rows, sizes[-1], dtype, rng, run.cases)
        del more["sample_weight"]
        more |= {"loss": int(loss), "gradient": np.full_like(inputs["parameters"], np.nan)}
        more["workspace"] = scratch(inputs, rows, 1, 1)
        run.begin("gradient", loss.name, *what)
        run.same_bits(gradient, more, ("gradient", "workspace"), side)

        for function, arguments in ((apply_into, sample), (gradient, more)):
            short = arguments | {"workspace": arguments["workspace"][1:]}
            with pytest.raises(ValueError, match="workspace: too small"):
                function(*short.values())


def python(run):
    """predict, loss_and_gradient and fit, where all that a model allocates for its kernels is guarded too."""
    rng = np.random.default_rng(9)
    side = None

    def guarded_empty(size, dtype, purpose=None):
        return run.guard.place(np.full(size, np.nan, dtype), side, "a model's memory")

    for module in (resources, sequential):
        module.aligned_empty = guarded_empty
    # Short steps: the exponentials of the Poisson loss run away under the usual ones, and the fit then ends early.
    kinds = fastnn.RMSprop, fastnn.Adagrad, fastnn.Adam, fastnn.AdamW
    optimizers = [fastnn.SGD(learning_rate=1e-6, momentum=0.9), *(kind(learning_rate=1e-6) for kind in kinds)]
    for (rows, sizes, codes, dtype), side in itertools.product(some_networks(rng, NETWORKS // 3), SIDES):
        run.begin("python", np.dtype(dtype), rows, sizes, codes, side)
        net = fastnn.MLP(sizes, codes[:-1], codes[-1], dtype=dtype, seed=0, num_threads=1 + run.cases % 2)
        what, loss = training_inputs({}, rows, sizes[-1], dtype, rng, run.cases)
        y, weight = what["y"], what["sample_weight"] if what["sample_weight"].size else None
        x = run.guard.place(rng.standard_normal((rows, sizes[0])).astype(dtype), side, "x", frozen=True)
        y = run.guard.place(y, side, "y", frozen=True)
        if weight is not None:
            weight = run.guard.place(weight, side, "sample_weight", frozen=True)
        out = run.guard.place(np.full((rows, sizes[-1]), np.nan, dtype), side, "out")
        predicted = run.guard.call(net.predict, x, out)
        assert predicted is out
        assert net.predict(x).tobytes() == out.tobytes()
        assert net.predict(x[:1]).tobytes() == out[:1].tobytes()
        if loss == Loss.SOFTMAX_CROSS_ENTROPY and sizes[-1] == 1:
            loss = Loss.MSE  # a single column would be labels
        labels = y.reshape(-1) if y.shape[1] == 1 and sizes[-1] > 1 else y
        run.guard.call(net.loss_and_gradient, x, labels, loss, weight)
        trainer = fastnn.Trainer(net, loss, optimizers[run.cases % len(optimizers)])
        fit = lambda trainer=trainer, x=x, labels=labels, weight=weight: trainer.fit(
            x, labels, batch_size=max(1, len(x) // 2), sample_weight=weight, seed=0
        )
        run.guard.call(fit)


GROUPS = {
    function.__name__: function
    for function in (
        activations,
        products,
        losses,
        optimizers,
        networks,
        gradients,
        training,
        normalized,
        compiled_code,
        python,
    )
}


def main(group, path):
    faulthandler.enable()
    run = Run(path)
    GROUPS[group](run)
    print(f"{group}: {run.cases} cases, {run.guard.bytes} bytes guarded")


if __name__ == "__main__":
    main(*sys.argv[1:])
