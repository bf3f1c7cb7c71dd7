"""Properties of the public door: odd input gives the bits of its plain copy, wrong input a documented error."""

import dataclasses
import decimal
import fractions
import math
import os
import re
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastnn
from fastnn import activations, initializers, optimizers
from fastnn.kernels import activation, dense, inference, sweeps, training

TIMES = 20 if os.environ.get("FASTNN_FULL") == "1" else 1


def examples(count):
    """Always the same examples, so that a failure stays one; 20 times as many with FASTNN_FULL=1."""
    return settings(
        max_examples=count * TIMES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


class Subclass(np.ndarray):
    pass


def with_matrix(array):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix(array)


def misaligned(array):
    memory = np.empty(array.nbytes + 1, np.uint8)[1:]
    result = memory.view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


def read_only(array):
    result = array.copy(order="K")
    result.flags.writeable = False
    return result


def spread(array):
    """The same elements with gaps between them in every direction."""
    wide = np.full([2 * size + 1 for size in array.shape], 77, array.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def backwards(array):
    flip = (slice(None, None, -1),) * array.ndim
    return array[flip].copy()[flip]


# What a user may hold the same numbers in.
LAYOUTS = {
    "plain": np.array,
    "fortran": np.asfortranarray,
    "spread": spread,
    "backwards": backwards,
    "misaligned": misaligned,
    "swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "read-only": read_only,
    "read-only fortran": lambda array: read_only(np.asfortranarray(array)),
    "read-only spread": lambda array: np.broadcast_to(spread(array), array.shape),
    "misaligned swapped": lambda array: misaligned(array.astype(array.dtype.newbyteorder())),
    "subclass": lambda array: array.view(Subclass),
    "matrix": lambda array: with_matrix(array) if array.ndim == 2 else array,
    "metadata": lambda array: array.astype(np.dtype(array.dtype, metadata={"unit": "m"})),
    "list": lambda array: array.tolist() if array.size else array,
    "buffer": lambda array: memoryview(array) if array.size else array,
}
DTYPES = ["f4", "f8", "f2", "g", "?", "i1", "u1", "i4", "i8", "u8"]
SPECIAL = [0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e300, -1e300, 1e-45, 1e-310, 65504.0, 2.0**60, -1.0, 0.5]


def numbers(shape, least=-1e3, most=1e3, special=SPECIAL):
    """float64 arrays of some ordinary and some extraordinary numbers."""
    elements = st.one_of(st.floats(least, most), st.sampled_from(special))
    return hnp.arrays(np.float64, shape, elements=elements, fill=st.nothing())


@st.composite
def odd_and_plain(draw, values):
    """The same numbers twice: as a user may hold them, and as a plain float64 or float32 array."""
    array = draw(values)
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    with np.errstate(all="ignore"):
        array = array.astype(dtype) if dtype.kind in "f?" else np.nan_to_num(array).clip(0, 100).astype(dtype)
        if draw(st.booleans()) and array.ndim == 2 and len(array):
            array = np.broadcast_to(array[0], array.shape)
        odd = LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](array)
        # A list of Python floats holds float64, whatever it was made of; longdouble alone stays as it is.
        plain = np.array(np.asarray(odd), np.float32, order="C"), np.array(np.asarray(odd), np.float64, order="C")
    return odd, plain


def plain_for(plain, dtype):
    return plain[0] if dtype == np.float32 else plain[1]


def content(value):
    """The bits of what an argument holds."""
    if isinstance(value, np.ndarray) and value.dtype.kind != "O" and value is not np.ma.masked:
        return value.dtype.str, value.shape, value.tobytes()
    # Of long numbers there is no decimal repr.
    return hex(value) if isinstance(value, int) else repr(value)


ROWS = st.integers(0, 9)
NET_DTYPES = st.sampled_from([np.float32, np.float64])


def make_net(dtype, activation="gelu"):
    return fastnn.MLP([3, 5, 2], activation=activation, dtype=dtype, seed=1)


@examples(120)
@given(st.data(), ROWS, NET_DTYPES)
def test_odd_samples_give_the_bits_of_plain_ones(data, rows, dtype):
    odd, plain = data.draw(odd_and_plain(numbers((rows, 3))))
    plain, before = plain_for(plain, dtype), content(odd)
    net = make_net(dtype)
    assert net.predict(odd).tobytes() == net.predict(plain).tobytes()
    layer = net.layers[0]
    y, context = layer.forward(odd)
    expected, expected_context = layer.forward(plain)
    assert y.tobytes() == expected.tobytes()
    if rows:
        dy = np.linspace(-1, 1, rows * 5).reshape(rows, 5)
        for found, wanted in zip(layer.backward(dy, context), layer.backward(dy, expected_context), strict=True):
            assert found.tobytes() == wanted.tobytes()
    assert content(odd) == before


@examples(60)
@given(st.data(), st.integers(1, 9), NET_DTYPES)
def test_odd_upstream_gradients_give_the_bits_of_plain_ones(data, rows, dtype):
    odd, plain = data.draw(odd_and_plain(numbers((rows, 5))))
    layer = make_net(dtype).layers[0]
    _, context = layer.forward(np.linspace(-2, 2, rows * 3).reshape(rows, 3))
    for found, wanted in zip(
        layer.backward(odd, context), layer.backward(plain_for(plain, dtype), context), strict=True
    ):
        assert found.tobytes() == wanted.tobytes()


@examples(120)
@given(st.data(), st.integers(1, 9), NET_DTYPES, st.sampled_from(["mse", "mae", "huber", "poisson"]), st.booleans())
def test_odd_training_data_give_the_bits_of_plain_ones(data, rows, dtype, loss, weighted):
    x, plain_x = data.draw(odd_and_plain(numbers((rows, 3))))
    y, plain_y = data.draw(odd_and_plain(numbers((rows, 2), 0, 9, [0.0, 1.0])))
    weight, plain_weight = None, None
    if weighted:
        weight, plain_weight = data.draw(odd_and_plain(numbers((rows,), 0.5, 2, [0.0, 1.0, 3.0])))
        plain_weight = plain_for(plain_weight, dtype)
    plain_x, plain_y = plain_for(plain_x, dtype), plain_for(plain_y, dtype)
    before = content(x), content(y), content(weight)
    odd, plain = make_net(dtype), make_net(dtype)
    found = odd.loss_and_gradient(x, y, loss, weight)
    wanted = plain.loss_and_gradient(plain_x, plain_y, loss, plain_weight)
    assert np.float64(found[0]).tobytes() == np.float64(wanted[0]).tobytes()
    assert found[1].tobytes() == wanted[1].tobytes()
    odd, plain = (fastnn.Trainer(net, loss, "adam") for net in (odd, plain))
    for _ in range(2):
        losses = odd.step(x, y, weight), plain.step(plain_x, plain_y, plain_weight)
        assert losses[0] == losses[1] or all(map(math.isnan, losses))
    assert odd.net.parameters.tobytes() == plain.net.parameters.tobytes()
    assert (content(x), content(y), content(weight)) == before


@examples(60)
@given(st.data(), st.integers(1, 9), NET_DTYPES, st.booleans())
def test_odd_labels_give_the_bits_of_plain_ones(data, rows, dtype, column):
    shape = (rows, 1) if column else (rows,)
    labels, plain = data.draw(odd_and_plain(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 1.0]))))
    x = np.linspace(-1, 1, rows * 3).reshape(rows, 3)
    results = []
    for y in (labels, plain_for(plain, dtype)):
        net = make_net(dtype)
        net.fit(x, y, "softmax_cross_entropy", epochs=2, batch_size=4, seed=0)
        results.append(net.parameters.tobytes())
    assert results[0] == results[1]


@examples(60)
@given(
    st.data(),
    st.sampled_from(sorted(activations.__all__)),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6),
)
def test_odd_arrays_through_activations(data, name, shape):
    odd, plain = data.draw(odd_and_plain(numbers(shape)))
    held = np.asarray(odd)
    if held.dtype.itemsize > 8:
        with pytest.raises(TypeError, match="x: expected real numbers of at most 64 bits"):
            getattr(activations, name)(odd)
        return
    before = content(odd)
    result = getattr(activations, name)(odd)
    kept = np.dtype(np.float32) if held.dtype.kind == "f" and held.dtype.itemsize <= 4 else np.dtype(np.float64)
    assert result.dtype == kept
    expected = np.empty(held.shape, kept)
    assert getattr(activations, name)(plain_for(plain, kept), out=expected) is expected
    assert result.shape == held.shape
    assert result.tobytes() == expected.tobytes()
    assert content(odd) == before


@examples(60)
@given(st.data(), NET_DTYPES)
def test_odd_parameters_are_copied_in(data, dtype):
    net = make_net(dtype)
    odd, plain = data.draw(odd_and_plain(numbers((net.parameter_count,))))
    net.parameters = odd
    assert net.parameters.tobytes() == plain_for(plain, dtype).tobytes()
    layer = net.layers[0]
    odd, plain = data.draw(odd_and_plain(numbers((3, 5))))
    layer.weight = odd
    assert layer.weight.tobytes() == net.parameters[:15].tobytes() == plain_for(plain, dtype).tobytes()


# Whole numbers are small or beyond all memory: what lies between is a valid network that fills the machine.
WHOLE = [0, -1, 1, 2, 3, 2**63, 2**64, -(2**63), 10**30, -(10**30)]
# Python refuses to print these, and so to put them into a message.
LONG = [10**5000, -(10**5000)]
VALUES = [
    *WHOLE,
    None,
    True,
    False,
    np.True_,
    0.5,
    2.0,
    -0.0,
    math.nan,
    math.inf,
    -math.inf,
    1e-320,
    1e300,
    1j,
    decimal.Decimal("0.5"),
    fractions.Fraction(1, 2),
    fractions.Fraction(10**400, 3),
    "",
    "relu",
    "mse",
    "adam",
    "float32",
    "a3",
    "nonsense",
    "x" * 10_000,
    "\0",
    b"relu",
    [],
    (),
    {},
    set(),
    [[1.0, 2.0], [3.0]],
    [None],
    ["a", "b"],
    [1, "a", None],
    range(3),
    np.float32(0.5),
    np.float16(0.5),
    np.longdouble(0.5),
    np.int8(3),
    np.uint64(2**64 - 1),
    np.str_("relu"),
    np.datetime64("2020-01-01"),
    np.array(2),
    np.array([1]),
    np.array("relu"),
    fastnn.Activation.RELU,
    fastnn.Loss.MSE,
    fastnn.SGD(),
    Ellipsis,
    NotImplemented,
    object(),
    int,
    np.ma.masked,
    np.random.default_rng(0),
]
JUNK_DTYPES = ["f4", "f8", "f2", "g", ">f4", "i8", "u8", "?", "c8", "c16", "O", "U3", "S3", "M8[s]", "m8[s]", "V4"]
JUNK_DTYPES += [[("a", "f4"), ("b", "i4")]]


@st.composite
def junk_arrays(draw):
    """Arrays of any dtype and of nearly fitting shapes."""
    sizes = st.sampled_from([0, 1, 2, 3, 4, 5])
    shape = tuple(draw(st.lists(sizes, min_size=0, max_size=3)))
    array = np.zeros(shape, np.dtype(draw(st.sampled_from(JUNK_DTYPES))))
    if array.dtype.kind in "f":
        with np.errstate(all="ignore"):
            array[...] = draw(st.sampled_from(SPECIAL))
    kind = draw(st.sampled_from(["as is", "masked", "matrix", "fortran", "read-only", "broadcast", "spread", "list"]))
    if array.ndim == 0:
        return array
    if kind == "masked":
        return np.ma.array(array, mask=np.zeros(shape, bool))
    if kind == "matrix" and array.ndim == 2:
        return with_matrix(array)
    if kind == "broadcast":
        return np.broadcast_to(array, (4, *shape)) if array.ndim < 3 else array
    if kind == "list":
        return array.tolist()
    return LAYOUTS[{"as is": "plain", "matrix": "plain"}.get(kind, kind)](array)


JUNK = st.one_of(junk_arrays(), st.text(max_size=3), st.floats(), st.lists(st.floats()), st.sampled_from(VALUES))


class World:
    """What a wrong call must leave alone."""

    def __init__(self, dtype=np.float32):
        self.x = np.linspace(-1, 1, 12).reshape(4, 3).astype(dtype)
        self.y = np.linspace(0, 1, 8).reshape(4, 2).astype(dtype)
        self.weight = np.linspace(1, 2, 4).astype(dtype)
        self.out = np.full((4, 2), 7, dtype)
        self.net = make_net(dtype)
        self.trainer = fastnn.Trainer(self.net, "mse", "adam")
        self.trainer.step(self.x, self.y)
        self.layer = self.net.layers[0]
        self.context = self.layer.forward(self.x)[1]

    def state(self):
        trainer = self.trainer
        arrays = self.x, self.y, self.weight, self.out, self.net.parameters, *trainer._states, self.net.table
        parts = trainer.steps, trainer.epochs, trainer.loss, trainer.optimizer, trainer.num_threads, trainer.history
        settings = self.net.num_threads, repr(self.net), fastnn.get_num_threads()
        return [content(array) for array in arrays], parts, settings


def end(trainer, history):
    return True


def fit(**change):
    """A call of `Trainer.fit` with one argument changed; it ends after one epoch, whatever `epochs` is."""

    def call(world, value):
        arguments = {"x": world.x, "y": world.y, "callbacks": [end], "seed": 0} | dict.fromkeys(change, value)
        return world.trainer.fit(arguments.pop("x"), arguments.pop("y"), **arguments)

    return call


def assign(owner, name):
    return lambda world, value: setattr(owner(world), name, value)


def threads(world, value):
    try:
        fastnn.set_num_threads(value)
    finally:
        if not (isinstance(value, (int, np.integer)) or value is None):
            assert fastnn.get_num_threads() >= 1
    fastnn.set_num_threads(None)


def optimizer(kind, name):
    def call(world, value):
        made = kind(**{name: value})
        assert np.isfinite(made.hyper()).all()
        assert type(getattr(made, name)) in (float, bool, type(None))
        return fastnn.Trainer(make_net(np.float32), "mse", made).step(world.x, world.y)

    return call


def initializer(name, argument):
    def call(world, value):
        arguments = {"rng": np.random.default_rng(0), "fan_in": 2, "fan_out": 3, "dtype": "float32"} | {argument: value}
        return getattr(initializers, name)(*arguments.values())

    return call


NET, TRAINER, LAYER = (lambda w: w.net), (lambda w: w.trainer), (lambda w: w.layer)
FIT = ["epochs", "batch_size", "shuffle", "seed", "sample_weight", "validation_data", "validation_split", "callbacks"]
FIT += ["progress", "metrics", "x", "y"]

# A call with one value from outside, by the name that its error has to tell.
CALLS = {
    "predict x": lambda w, v: w.net.predict(v),
    "call x": lambda w, v: w.net(v),
    "predict out": lambda w, v: w.net.predict(w.x, out=v),
    "loss_and_gradient x": lambda w, v: w.net.loss_and_gradient(v, w.y),
    "loss_and_gradient y": lambda w, v: w.net.loss_and_gradient(w.x, v),
    "labels y": lambda w, v: w.net.loss_and_gradient(w.x, v, "softmax_cross_entropy"),
    "binary y": lambda w, v: w.net.loss_and_gradient(w.x, v, "binary_cross_entropy"),
    "poisson y": lambda w, v: w.net.loss_and_gradient(w.x, v, "poisson"),
    "loss_and_gradient loss": lambda w, v: w.net.loss_and_gradient(w.x, w.y, v),
    "loss_and_gradient sample_weight": lambda w, v: w.net.loss_and_gradient(w.x, w.y, sample_weight=v),
    "step x": lambda w, v: w.trainer.step(v, w.y),
    "step y": lambda w, v: w.trainer.step(w.x, v),
    "step sample_weight": lambda w, v: w.trainer.step(w.x, w.y, v),
    **{f"fit {name}": fit(**{name: None}) for name in FIT},
    "net.fit loss": lambda w, v: w.net.fit(w.x, w.y, v),
    "net.fit optimizer": lambda w, v: w.net.fit(w.x, w.y, "mse", v),
    "validation x": lambda w, v: w.trainer.fit(w.x, w.y, seed=0, validation_data=(v, w.y)),
    "validation y": lambda w, v: w.trainer.fit(w.x, w.y, seed=0, validation_data=(w.x, v)),
    "Trainer net": lambda w, v: fastnn.Trainer(v),
    "Trainer loss": lambda w, v: fastnn.Trainer(w.net, v),
    "Trainer optimizer": lambda w, v: fastnn.Trainer(w.net, "mse", v),
    "Trainer num_threads": lambda w, v: fastnn.Trainer(w.net, num_threads=v),
    **{
        f"trainer.{name} {name}": assign(TRAINER, name)
        for name in ["loss", "optimizer", "num_threads", "steps", "epochs"]
    },
    "net.num_threads num_threads": assign(NET, "num_threads"),
    "net.parameters parameters": assign(NET, "parameters"),
    "layer.weight weight": assign(LAYER, "weight"),
    "layer.bias bias": assign(LAYER, "bias"),
    "forward x": lambda w, v: w.layer.forward(v),
    "backward dy": lambda w, v: w.layer.backward(v, w.context),
    "backward context": lambda w, v: w.layer.backward(np.ones((4, 5)), v),
    "Dense in_features": lambda w, v: fastnn.Dense(v, 2),
    "Dense out_features": lambda w, v: fastnn.Dense(2, v),
    "Dense activation": lambda w, v: fastnn.Dense(2, 2, v),
    "Dense weight_initializer": lambda w, v: fastnn.Dense(2, 2, weight_initializer=v),
    "Dense dtype": lambda w, v: fastnn.Dense(2, 2, dtype=v),
    "Dense seed": lambda w, v: fastnn.Dense(2, 2, seed=v),
    "Sequential layers": lambda w, v: fastnn.Sequential(v),
    "Sequential layers[0]": lambda w, v: fastnn.Sequential([v]),
    "Sequential dtype": lambda w, v: fastnn.Sequential([fastnn.Dense(2, 2)], dtype=v),
    "Sequential seed": lambda w, v: fastnn.Sequential([fastnn.Dense(2, 2)], seed=v),
    "Sequential num_threads": lambda w, v: fastnn.Sequential([fastnn.Dense(2, 2)], num_threads=v),
    "MLP sizes": lambda w, v: fastnn.MLP(v),
    "MLP sizes[1]|parameters": lambda w, v: fastnn.MLP([2, v, 2]),
    "MLP activation": lambda w, v: fastnn.MLP([2, 2, 2], v),
    "MLP output_activation": lambda w, v: fastnn.MLP([2, 2], output_activation=v),
    "load path": lambda w, v: fastnn.load(v),
    "set_num_threads count": threads,
    **{f"{name} x": lambda w, v, name=name: getattr(activations, name)(v) for name in ("relu", "softmax")},
    **{f"{name} out": lambda w, v, name=name: getattr(activations, name)(w.y, out=v) for name in ("relu", "softmax")},
    **{
        f"{kind.__name__} {field.name}": optimizer(kind, field.name)
        for kind in (getattr(optimizers, name) for name in optimizers.__all__)
        for field in dataclasses.fields(kind)
    },
    **{
        f"{name} {part}": initializer(name, part)
        for name in initializers.__all__
        for part in ("fan_in", "fan_out", "dtype")
    },
    "he_normal rng": initializer("he_normal", "rng"),
}
# The documented errors; a file that is not there or not one is an OSError.
ERRORS = ValueError, TypeError
MORE_ERRORS = dict.fromkeys(["fit", "net.fit", "validation"], (FloatingPointError,)) | {"load": (OSError,)}


def outcome(call, value, dtype):
    """The error of a call, or None, after a look at what it has changed."""
    kind, _, name = call.partition(" ")
    world = World(dtype)
    before, value_before = world.state(), content(value)
    allowed = (*ERRORS, MemoryError, *MORE_ERRORS.get(kind, ()))
    try:
        CALLS[call](world, value)
        error = None
    except allowed as raised:
        error = raised
    if error is not None:
        assert world.state() == before
    if error is not None or name != "out":
        assert content(value) == value_before
    return error


def check_message(call, error):
    kind, _, names = call.partition(" ")
    message = str(error)
    # The system's errors show the whole name of a file.
    assert len(message) < 3000 or isinstance(error, OSError)
    if isinstance(error, MORE_ERRORS.get(kind, ())):
        names = "loss is" if isinstance(error, FloatingPointError) else ""
    if isinstance(error, MemoryError):
        names = "parameters|fan_in and fan_out"
    assert any(re.search(rf"(^|\W){re.escape(name)}(\W|$)", message) for name in names.split("|")), message


@pytest.mark.parametrize("call", CALLS)
def test_wrong_values_are_refused_and_change_nothing(call):
    refused = 0
    for value in VALUES + LONG:
        error = outcome(call, value, np.float32)
        if error is not None:
            refused += 1
            check_message(call, error)
    # Of a test of what is refused, the larger part has to be.
    assert refused > len(VALUES) / 4


# What takes arrays; of other things the values above have nearly all kinds.
ARRAYS = ("x", "y", "out", "sample_weight", "dy", "parameters", "weight", "bias", "context", "validation_data")


@pytest.mark.parametrize("call", CALLS)
def test_any_values_are_taken_or_refused(call):
    @examples(50 if call.endswith(ARRAYS) else 5)
    @given(JUNK, NET_DTYPES)
    def check(value, dtype):
        error = outcome(call, value, dtype)
        if error is not None:
            check_message(call, error)

    check()


def test_a_tour_of_layouts_compiles_no_large_kernel_again(rng):
    """Layouts and read-only arrays are types of their own to Numba, each of which could mean seconds of compiling."""
    drivers = dense.linear_parallel, dense.linear_backward_parameters_parallel
    # Other tests have called them with other types.
    before = [set(driver.signatures) for driver in drivers]
    for dtype in (np.float32, np.float64):
        net = make_net(dtype)
        x, y, weight = rng.random((6, 3)).astype(dtype), rng.random((6, 2)).astype(dtype), rng.random(6).astype(dtype)
        for change in LAYOUTS.values():
            for change_y in (change, np.array, read_only):
                trainer = fastnn.Trainer(net)
                trainer.step(change(x), change_y(y), change(weight))
                trainer.step(change(x), change_y(y))
                net.loss_and_gradient(change(x), change_y(y), sample_weight=change_y(weight))
            net.fit(change(x), change(y), epochs=1, seed=0, sample_weight=change(weight))
            net.fit(change(x), change(y), epochs=1, shuffle=False)
            net.predict(change(x), out=np.empty((6, 2), dtype).view(Subclass))
            _, context = net.layers[0].forward(change(x))
            net.layers[0].backward(change(rng.random((6, 5))), context)
            for shape in ((6,), (2, 3), (1, 2, 3), (1, 1, 2, 3)):
                activations.relu(change(x.ravel()[:6].reshape(shape)))
    # Both dtypes of the large ones.
    assert len(training.train_planned.signatures) <= 2
    assert len(training.loss_and_gradient_parallel.signatures) <= 2
    assert len(inference.forward_planned.signatures) <= 2
    assert len(activation.activate_flat.signatures) <= 2
    for worker in (sweeps.rows_worker, sweeps.update_worker, sweeps.gradient_worker, inference.forward_worker):
        assert len(worker._compiled.signatures) <= 2
    # Thin drivers of 0.2 to 0.5 s: contiguous, Fortran and strided x, each writeable and not.
    for driver, known in zip(drivers, before, strict=True):
        assert len(set(driver.signatures) - known) <= 12
