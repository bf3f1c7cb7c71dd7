"""Networks that no model gave, to Python's door: taken if they are right to the last number, refused if not."""

import copy
import pickle

import numba
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numba.core.errors import TypingError
from test_hostile_input import examples

import fastnn
from fastnn.kernels import Activation, Network, Normalization, NormalizedNetwork, embedded_apply
from fastnn.kernels.dropout import RATE_UNITS
from fastnn.kernels.network import make_table
from fastnn.kernels.table import (
    ACTIVATION,
    CONTEXT,
    DROPOUT,
    IN,
    NORMALIZATION,
    OUT,
    ROW_WORKSPACE,
    STANDARDIZED,
    TABLE_COLUMNS,
)

ROWS, INPUTS, OUTPUTS = 3, 4, 2
KINDS = {
    "plain": {},
    "dropping": {"dropout": 0.25},
    "layer": {"normalization": "layer"},
    "batch": {"normalization": "batch", "dropout": 0.5},
    "standardized": {"standardize": True},
}


def built(kind="plain", dtype=np.float32, activations=("tanh", "gelu")):
    return fastnn.MLP([INPUTS, 7, 5, OUTPUTS], list(activations), dtype=dtype, seed=0, **KINDS[kind])


def doors(dtype):
    """Every function that takes a network, with arrays that fit `built`."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((ROWS, INPUTS)).astype(dtype), rng.standard_normal((ROWS, OUTPUTS)).astype(dtype)
    room = fastnn.workspace(built("batch", dtype).network, 30)
    out, dx, slopes = np.empty_like(y), np.empty_like(x), np.empty((ROWS, OUTPUTS, INPUTS), dtype)
    sample, row = np.empty(OUTPUTS, dtype), np.empty((OUTPUTS, INPUTS), dtype)

    def gradient(network):
        size = np.asarray(network.parameters).size if len(network) > 1 else 0
        result = np.empty(size, dtype)
        fastnn.gradient(network, x, y, fastnn.Loss.MSE, result, room)
        return result

    return {
        "apply": lambda network: fastnn.apply(network, x),
        "apply sample": lambda network: fastnn.apply(network, x[0]),
        "apply_into": lambda network: fastnn.apply_into(network, x, out, room) or out,
        "apply_into sample": lambda network: fastnn.apply_into(network, x[0], sample, room) or sample,
        "vjp": lambda network: fastnn.vjp(network, x, y, dx, room) or dx,
        "jacobian": lambda network: fastnn.jacobian(network, x, slopes, room) or slopes,
        "jacobian sample": lambda network: fastnn.jacobian(network, x[0], row, room) or row,
        "gradient": gradient,
        "workspace": lambda network: fastnn.workspace(network, ROWS)[:0],
    }


DOORS = {dtype: doors(dtype) for dtype in (np.float32, np.float64)}


def as_made(table):
    """Whether `make_table` makes this table from its own sizes and codes."""
    codes = table[:, [ACTIVATION, NORMALIZATION, DROPOUT]]
    limits = len(Activation) - 1, len(Normalization), RATE_UNITS - 1
    sizes = [*table[:, IN].tolist(), int(table[-1, OUT])]
    if (codes < 0).any() or (codes > limits).any() or min(sizes) < 1 or max(sizes) > 1000:
        return False
    activations, normalizations, dropouts = codes.T.tolist()
    made, _ = make_table(sizes, activations, normalizations, dropouts, table[0, STANDARDIZED] != 0)
    return made.tobytes() == table.tobytes()


NUMBERS = st.one_of(
    st.integers(-3, 20),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**s + d for s in (8, 16, 31, 32, 40, 56, 61, 62) for d in (-1, 0, 1)]),
)


@settings(examples(300), phases=[Phase.generate])
@given(st.data(), st.sampled_from(list(KINDS)), st.sampled_from([np.float32, np.float64]))
def test_numbers_in_a_table(data, kind, dtype):
    net = built(kind, dtype)
    network = net.network
    table = np.array(network.table)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(table) - 1)), data.draw(st.integers(0, TABLE_COLUMNS - 1))
        table[at] = data.draw(NUMBERS)
    forged = network._replace(table=table)
    name = data.draw(st.sampled_from(list(DOORS[dtype])))
    before = table.tobytes(), net.parameters.tobytes()
    if as_made(table):
        DOORS[dtype][name](forged)
    else:
        with pytest.raises(ValueError, match="network: expected a table that a model"):
            DOORS[dtype][name](forged)
    assert (table.tobytes(), net.parameters.tobytes()) == before


@pytest.mark.parametrize("kind", KINDS)
def test_one_number_more_or_less_anywhere_in_a_table(kind, dtype):
    network = built(kind, dtype).network
    refused = 0
    for at, step in ((at, step) for at in np.ndindex(network.table.shape) for step in (-1, 1)):
        table = np.array(network.table)
        table[at] += step
        if not as_made(table):
            refused += 1
            with pytest.raises(ValueError, match="network: expected a table that a model"):
                fastnn.apply(network._replace(table=table), np.ones(INPUTS, dtype))
    # Activations of one kind, and rates of dropout, are as good as their neighbours.
    assert refused >= 2 * network.table.size - 12


def misaligned(array):
    memory = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    memory[...] = array
    return memory


def widened(array):
    """The same numbers with gaps between them."""
    return np.repeat(array, 2, axis=-1)[..., ::2]


CHANGES = {
    "list": lambda a: a.tolist(),
    "None": lambda a: None,
    "bytes": lambda a: a.tobytes(),
    "number": lambda a: 3,
    "scalar": lambda a: a.reshape(-1)[0],
    "masked": np.ma.array,
    "object": lambda a: a.astype(object),
    "other dtype": lambda a: a.astype(np.int32 if a.dtype == np.int64 else np.float16),
    "unsigned": lambda a: a.astype(np.uint64),
    "complex": lambda a: a.astype(np.complex64),
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "misaligned": misaligned,
    "with gaps": widened,
    "backwards": lambda a: a[..., ::-1],
    "Fortran": lambda a: np.asfortranarray(a) if a.ndim == 2 else a[::-1],
    "one axis more": lambda a: a[None],
    "one axis less": lambda a: a[0],
    "empty": lambda a: a[:0],
    "cut": lambda a: a[:-1],
    "cut across": lambda a: np.ascontiguousarray(a[..., :-1]),
    "longer": lambda a: np.concatenate([a, a[-1:]]),
    "wider": lambda a: np.concatenate([a, a], axis=-1),
    "twice the rows": lambda a: np.concatenate([a, a]),
    "in another order": lambda a: a[::-1].copy() if a.ndim == 2 else a[:-1].copy(),
    "one for all": lambda a: np.broadcast_to(a[:1], a.shape),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["table", "parameters", "statistics"])
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_arrays_of_another_form(kind, part, dtype):
    network = built(kind, dtype).network
    if not hasattr(network, part):
        part = "parameters"
    array = getattr(network, part)
    for name, change in CHANGES.items():
        if array.size == 0 and name in ("scalar", "one axis less"):
            continue
        forged = network._replace(**{part: change(array)})
        changed = forged[network._fields.index(part)]
        if array.size == 0 and getattr(changed, "shape", None) == (0,) and changed.dtype == array.dtype:
            continue
        for function in DOORS[dtype].values():
            with pytest.raises((TypeError, ValueError), match="network: expected"):
                function(forged)


def test_tuples_of_another_kind(dtype):
    plain, batch = built("plain", dtype).network, built("batch", dtype).network

    class Mine(Network):
        pass

    class Normalized(NormalizedNetwork):
        pass

    wrong = [
        None,
        tuple(plain),
        list(plain),
        Mine(*plain),
        Normalized(*batch),
        Network(*batch[:2]),
        NormalizedNetwork(*plain, plain.parameters),
        Network(batch.table, plain.parameters),
        plain._replace(table=built(activations=("relu", "silu")).table[:2]),
        NormalizedNetwork(plain.table, *batch[1:]),
        tuple.__new__(Network, plain[:1]),
        tuple.__new__(Network, (*plain, plain[1])),
        tuple.__new__(NormalizedNetwork, plain),
        tuple.__new__(Network),
        np.asarray(plain.parameters),
        fastnn.MLP([2, 1], seed=0),
    ]
    for forged in wrong:
        for door, function in DOORS[dtype].items():
            if door == "gradient" and not isinstance(forged, tuple):
                continue
            with pytest.raises((TypeError, ValueError), match="network: expected"):
                function(forged if not (door == "gradient" and type(forged) is tuple) else Mine(*forged))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_networks_are_as_good(kind, dtype, tmp_path):
    """What comes by pickle, from a file or out of a copy has arrays of its own, which anybody may write."""
    network = built(kind, dtype).network
    apply = DOORS[dtype]["apply"]
    expected = apply(network).tobytes()
    equal = [pickle.loads(pickle.dumps(network)), copy.deepcopy(network), type(network)(*map(np.array, network))]
    if kind == "plain" and dtype == np.float32:
        # One of them, for it is compiled for read-only parameters.
        np.save(tmp_path / "parameters.npy", network.parameters)
        equal.append(network._replace(parameters=np.load(tmp_path / "parameters.npy", mmap_mode="r")))
        equal.append(network._replace(parameters=np.frombuffer(network.parameters.tobytes(), dtype)))
    for other in equal:
        assert apply(other).tobytes() == expected


def test_a_table_that_anybody_may_write_compiles_nothing_again(dtype):
    network, x = built("plain", dtype).network, np.ones((ROWS, INPUTS), dtype)
    fastnn.apply(network, x)
    before = len(embedded_apply._apply_kernel.signatures)
    fastnn.apply(pickle.loads(pickle.dumps(network)), x)
    assert len(embedded_apply._apply_kernel.signatures) == before


def test_a_table_that_changes_is_looked_at_again(dtype):
    network = built("plain", dtype).network
    network = network._replace(table=np.array(network.table))
    x = np.ones(INPUTS, dtype)
    before = fastnn.apply(network, x)
    for column in (IN, ROW_WORKSPACE, CONTEXT):
        kept, network.table[0, column] = network.table[0, column], 10**6
        with pytest.raises(ValueError, match="network: expected a table"):
            fastnn.apply(network, x)
        network.table[0, column] = kept
    assert fastnn.apply(network, x).tobytes() == before.tobytes()


# ---- The other arguments


@numba.njit
def compiled_apply_into(network, x, out, room):
    fastnn.apply_into(network, x, out, room)


@numba.njit
def compiled_vjp(network, x, dy, dx, room):
    fastnn.vjp(network, x, dy, dx, room)


@numba.njit
def compiled_gradient(network, x, y, gradient, room):
    return fastnn.gradient(network, x, y, fastnn.Loss.MSE, gradient, room)


@numba.njit
def compiled_workspace(network, batch):
    return fastnn.workspace(network, batch)


def test_samples_between_other_fields_of_records(dtype):
    """Strides that are no whole number of elements: they were rounded down, and other bytes read."""
    records = np.zeros(ROWS, np.dtype([("sample", dtype, INPUTS), ("flag", np.int8)]))
    records["sample"] = np.arange(ROWS * INPUTS).reshape(ROWS, INPUTS)
    x, net = records["sample"], built(dtype=dtype)
    room, out, dx = (
        fastnn.workspace(net.network, ROWS),
        np.empty((ROWS, OUTPUTS), dtype),
        np.empty((ROWS, INPUTS), dtype),
    )
    for call in (
        lambda: fastnn.apply(net.network, x),
        lambda: fastnn.apply(net.network, misaligned(x[0])),
        lambda: fastnn.apply_into(net.network, x, out, room),
        lambda: fastnn.vjp(net.network, x, out, dx, room),
        lambda: fastnn.gradient(net.network, x, out, fastnn.Loss.MSE, np.empty_like(net.parameters), room),
    ):
        with pytest.raises(ValueError, match="x: expected an aligned array"):
            call()
    assert net.predict(x).tobytes() == net.predict(np.ascontiguousarray(x)).tobytes()


def test_samples_between_other_fields_in_compiled_code():
    records = np.zeros(ROWS, np.dtype([("sample", np.float32, INPUTS), ("flag", np.int8)]))
    x, net, out = records["sample"], built(), np.empty((ROWS, OUTPUTS), np.float32)
    room = fastnn.workspace(net.network, ROWS)
    for wrong in (x, misaligned(x[:, ::-1])[:, ::-1]):
        with pytest.raises(ValueError, match="x: expected an aligned array"):
            compiled_apply_into(net.network, wrong, out, room)
    # The stride of an axis of length 1 means nothing.
    alone = np.lib.stride_tricks.as_strided(np.ones(INPUTS + 1, np.float32)[1:], (1, INPUTS), (13, 4))[:, ::-1]
    compiled_apply_into(net.network, alone, out[:1], room)
    expected = net.predict(np.ones((1, INPUTS))).tobytes()
    assert out[:1].tobytes() == fastnn.apply(net.network, alone).tobytes() == expected


def test_compiled_code_writes_no_read_only_array(dtype, tmp_path):
    net = built(dtype=dtype)
    room, x, out = fastnn.workspace(net.network, ROWS), np.ones((ROWS, INPUTS), dtype), np.zeros((ROWS, OUTPUTS), dtype)
    np.save(tmp_path / "out.npy", out)
    mapped = np.load(tmp_path / "out.npy", mmap_mode="r")
    frozen = np.zeros_like(net.parameters)
    frozen.flags.writeable = False
    for call, name in (
        (lambda: compiled_apply_into(net.network, x, mapped, room), "out"),
        (lambda: compiled_apply_into(net.network, x, out, frozen), "workspace"),
        (lambda: compiled_vjp(net.network, x, out, np.broadcast_to(x, x.shape), room), "dx"),
        (lambda: compiled_gradient(net.network, x, out, frozen, room), "gradient"),
    ):
        with pytest.raises(TypingError, match=f"{name}: expected a writeable array"):
            call()


def test_compiled_code_takes_networks_alone(dtype):
    network = built(dtype=dtype).network
    room, x, out = fastnn.workspace(network, ROWS), np.ones((ROWS, INPUTS), dtype), np.zeros((ROWS, OUTPUTS), dtype)
    for forged in (
        tuple(network),
        x,
        network._replace(table=network.table.astype(np.int32)),
        network._replace(table=np.asfortranarray(network.table)),
        network._replace(parameters=widened(network.parameters)),
        network._replace(parameters=3.0),
    ):
        for call in (
            lambda forged=forged: compiled_apply_into(forged, x, out, room),
            lambda forged=forged: compiled_workspace(forged, 1),
        ):
            with pytest.raises(TypingError, match="network: expected"):
                call()


def test_results_do_not_go_into_the_network(dtype):
    """Kernels read weights and targets while they write."""
    net = fastnn.MLP([4, 4], dtype=dtype, seed=0)
    network, room = net.network, fastnn.workspace(net.network, 4)
    x, y = np.ones((4, 4), dtype), np.zeros((4, 4), dtype)
    inside = network.parameters[:16].reshape(4, 4)
    before = net.parameters.copy()
    for call in (
        lambda: fastnn.apply_into(network, x, inside, room),
        lambda: fastnn.apply_into(network, x[0], inside[0], room),
        lambda: fastnn.vjp(network, x, y, inside, room),
        lambda: fastnn.jacobian(network, x[0], inside, room),
        lambda: fastnn.gradient(network, x, y, fastnn.Loss.MSE, network.parameters, room),
        lambda: fastnn.apply_into(network, x, y, network.parameters),
    ):
        with pytest.raises(ValueError, match="expected memory of its own, it overlaps parameters"):
            call()
    assert net.parameters.tobytes() == before.tobytes()


def test_results_do_not_go_into_the_network_in_compiled_code():
    net = fastnn.MLP([4, 4], seed=0)
    network, room = net.network, fastnn.workspace(net.network, 4)
    x, y = np.ones((4, 4), np.float32), np.zeros((4, 4), np.float32)
    inside, before = network.parameters[:16].reshape(4, 4), net.parameters.copy()
    for call in (
        lambda: compiled_apply_into(network, x, inside, room),
        lambda: compiled_apply_into(network, x[0], inside[0], room),
        lambda: compiled_vjp(network, x, y, inside, room),
        lambda: compiled_vjp(network, x, y, y, room),
        lambda: compiled_gradient(network, x, y, network.parameters, room),
        lambda: compiled_gradient(network, x, before[:16].reshape(4, 4), before, room),
    ):
        with pytest.raises(ValueError, match="expected memory of its own"):
            call()
    assert net.parameters.tobytes() == before.tobytes()


def test_batches_that_no_memory_holds(dtype):
    network = built(dtype=dtype).network
    for batch in (0, -1, -(10**30), 2**50, 2**62, 2**63 - 1, 2**63, 10**30):
        with pytest.raises(ValueError, match="batch: expected at least 1, and no more than any memory holds"):
            fastnn.workspace(network, batch)
    with pytest.raises(MemoryError):
        fastnn.workspace(network, 2**46)
    for batch in (1.0, "3", None, True, np.bool_(True), np.array([1, 2]), np.array([[3.0]])):
        with pytest.raises(TypeError, match="batch: expected a whole number"):
            fastnn.workspace(network, batch)
    assert fastnn.workspace(network, np.int8(3)).size == fastnn.workspace(network, 3).size


def test_batches_that_no_memory_holds_in_compiled_code():
    network = built().network
    for batch in (0, -1, 2**50, 2**63 - 1):
        with pytest.raises(ValueError, match="batch: expected at least 1"):
            compiled_workspace(network, batch)
    assert fastnn.workspace(network, 3).size == compiled_workspace(network, 3).size


def test_numbers_of_any_length_beside_a_loss(dtype):
    net = built(dtype=dtype)
    x, y = np.ones((ROWS, INPUTS), dtype), np.zeros((ROWS, OUTPUTS), dtype)
    room, gradient = fastnn.workspace(net.network, ROWS), np.empty_like(net.parameters)
    for loss in (-1, 8, 2**63, -(2**70), 10**30):
        with pytest.raises(ValueError, match="loss: expected a member"):
            fastnn.gradient(net.network, x, y, loss, gradient, room)
    for parameter in (10**400, -(10**400), 2**70 * 10**300):
        with pytest.raises(ValueError, match="loss_parameter: expected a finite delta"):
            fastnn.gradient(net.network, x, y, fastnn.Loss.HUBER, gradient, room, parameter)


def test_masked_arrays_are_refused(dtype):
    """Their mask would be dropped."""
    net = built(dtype=dtype)
    x, out = np.ones((ROWS, INPUTS), dtype), np.zeros((ROWS, OUTPUTS), dtype)
    room = fastnn.workspace(net.network, ROWS)
    for arguments in ((np.ma.array(x), out, room), (x, np.ma.array(out), room), (x, out, np.ma.array(room))):
        with pytest.raises(TypeError, match=r"expected an ndarray of .*, got MaskedArray"):
            fastnn.apply_into(net.network, *arguments)
