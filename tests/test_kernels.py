"""Every kernel of the catalog against its reference: shapes at tile edges, strides, aliases, special values, njit."""

import numba
import numpy as np
import pytest
from conftest import assert_within, check_against_reference

from fastnn import SGD, Adam, AdamW, RMSprop, kernels
from fastnn.check import copies
from fastnn.kernels import dense, gemm, reference
from fastnn.kernels.activation import (
    LOG_SOFTMAX,
    SOFTMAX,
    activate,
    activate_backward,
    activate_backward_parallel,
    activate_flat,
    activate_worker,
)
from fastnn.kernels.catalog import CATALOG
from fastnn.kernels.codes import NEEDS_PRE_ACTIVATION, ROW_WISE, Activation, EstimatorLoss, Loss
from fastnn.kernels.dot import MOST_OUTPUTS
from fastnn.kernels.microkernel import DEPTH, LOW_ROWS, ROW_NV, tile_columns
from fastnn.kernels.simd import VECTOR_BYTES, flat_pointer

PRODUCTS = [row for row in CATALOG if row.name.startswith(("linear", "outer"))]
ELEMENTWISE = [code for code in Activation if code not in ROW_WISE]
SPECIAL = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1e-310,
    -1e-310,
    1e-40,
    -1e-40,
    1e-20,
    -1e-20,
    3.0,
    -3.0,
    1e4,
    -1e4,
    1e30,
    -1e30,
]


def test_kernel_matches_reference(row, dtype, rng):
    for shape in row.shapes:
        check_against_reference(row, row.inputs(shape, dtype, rng))


@pytest.mark.parametrize("code", list(Activation), ids=lambda code: code.name.lower())
def test_linear_through_every_activation(code, dtype, rng):
    linear = next(row for row in PRODUCTS if row.name == "linear")
    for shape in ((1, 5, 7), (13, 17, 33), (25, 300, 130)):
        check_against_reference(linear, linear.inputs(shape, dtype, rng, code))


def test_kernel_inside_njit(row, dtype, rng):
    kernel = getattr(kernels, row.name)
    arguments = row.inputs(row.shapes[-1], dtype, rng)
    names = ", ".join(arguments)
    scope = {"kernel": kernel}
    exec(f"def caller({names}):\n    return kernel({names})", scope)
    compiled = numba.njit(scope["caller"])
    inside, outside = copies(arguments), copies(arguments)
    value = compiled(*inside.values())
    expected = kernel(*outside.values())
    assert value == expected
    for name in row.outputs:
        assert inside[name].tobytes() == outside[name].tobytes(), name


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda row: row.name)
@pytest.mark.parametrize("layout", ["column order", "step 2", "negative", "read-only", "offset"])
def test_products_take_any_strides(product, layout, rng):
    arguments = product.inputs((31, 70, 33), np.float32, rng)
    plain = copies(arguments)
    check_against_reference(product, plain)
    strided_names = {"x", "weight", "dz"} - set(product.outputs)
    if product.name in ("linear_backward_parameters", "outer_update"):
        strided_names -= {"dz"}  # contiguous by contract
    for name in strided_names & set(arguments):
        arguments[name] = relayout(arguments[name], layout)
    for name, expected in check_against_reference(product, arguments).items():
        assert expected.tobytes() == plain[name].tobytes(), f"bits of {name} depend on the layout"


def widths_of_a_row(dtype):
    """Columns that fill every number of vectors of a tile of one row, one more and one less, and more than a tile."""
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    return [vectors * lanes + more for vectors in range(1, ROW_NV + 2) for more in (-1, 0, 1)]


def test_one_row_has_the_bits_that_it_has_among_others(dtype, rng):
    for n in widths_of_a_row(dtype):
        x, weight, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((7, 19), (19, n), (n,)))
        alone, among = np.empty((1, n), dtype), np.empty((7, n), dtype)
        kernels.linear(x, weight, bias, Activation.IDENTITY, among)
        kernels.linear(x[3:4], weight, bias, Activation.IDENTITY, alone)
        assert alone[0].tobytes() == among[3].tobytes(), n


NARROW = [(1, k) for k in (0, 1, 4, 15, 16, 17, 33, 100)] + [
    (n, k) for n in (2, 3, 4) for k in (8 * n, 8 * n + 3, 33, 48, 61, 100)
]


def narrow_layers(n, k, dtype, rng):
    """x, weight, bias of layers whose sums go in 16 chains, with rows around those of a tile."""
    for m in (1, 2, 3, 8, 13, 31, 32, 70, 300):
        yield tuple(rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), n))


@pytest.mark.parametrize(("n", "k"), NARROW)
def test_a_narrow_layer_is_summed_in_sixteen_chains(n, k, dtype, rng):
    for x, weight, bias in narrow_layers(n, k, dtype, rng):
        out = np.empty((len(x), n), dtype)
        # A multiply-add by a power of two rounds as an addition does.
        weight[:] = 2.0 ** rng.integers(-3, 4, weight.shape)
        kernels.linear(x, weight, bias, Activation.IDENTITY, out)
        chains = np.zeros((len(x), n, 16), dtype)
        chains[:, :, 0] = bias
        for p in range(k):
            chains[:, :, p % 16] += x[:, p, None] * weight[p]
        while chains.shape[2] > 1:
            half = chains.shape[2] // 2
            chains = chains[:, :, :half] + chains[:, :, half:]
        assert out.tobytes() == chains.tobytes(), x.shape


@pytest.mark.parametrize(("n", "k"), [(2, 15), (3, 23), (4, 31), (5, 100)])
def test_other_layers_are_one_chain(n, k, dtype, rng):
    for x, weight, bias in narrow_layers(n, k, dtype, rng):
        out, chain = np.empty((len(x), n), dtype), np.tile(bias, (len(x), 1))
        weight[:] = 2.0 ** rng.integers(-3, 4, weight.shape)
        kernels.linear(x, weight, bias, Activation.IDENTITY, out)
        for p in range(k):
            chain += x[:, p, None] * weight[p]
        assert out.tobytes() == chain.tobytes(), x.shape


@pytest.mark.parametrize("layout", ["column order", "step 2", "negative", "offset"])
@pytest.mark.parametrize(("n", "k"), NARROW)
def test_a_narrow_layer_has_the_same_bits_alone_and_in_any_layout(n, k, layout, dtype, rng):
    for x, weight, bias in narrow_layers(n, k, dtype, rng):
        plain, other, alone = (np.empty((len(x), n), dtype) for _ in range(3))
        kernels.linear(x, weight, bias, Activation.TANH, plain)
        for i in range(len(x)):
            kernels.linear(x[i : i + 1], weight, bias, Activation.TANH, alone[i : i + 1])
        assert plain.tobytes() == alone.tobytes(), x.shape
        for strange, usual in ((relayout(x, layout), weight), (x, relayout(weight, layout))):
            kernels.linear(strange, usual, bias, Activation.TANH, other)
            assert plain.tobytes() == other.tobytes(), x.shape
        # The sign of a zero that comes out of an underflow depends on no layout either.
        tiny = np.full_like(x, np.finfo(dtype).tiny)
        weight[:] = -np.finfo(dtype).tiny
        kernels.linear(tiny, weight, 0 * bias, Activation.IDENTITY, plain)
        kernels.linear(relayout(tiny, layout), relayout(weight, layout), 0 * bias, Activation.IDENTITY, other)
        assert plain.tobytes() == other.tobytes(), x.shape


def test_a_gradient_of_few_columns_has_the_bits_that_it_has_among_many(dtype, rng):
    for k in (1, 7, 16, 33, 255, 256, 257, 600):
        x, dz = rng.standard_normal((37, k)).astype(dtype), rng.standard_normal((37, 40)).astype(dtype)
        many, few = np.empty((k, 40), dtype), {n: np.empty((k, n), dtype) for n in range(1, 9)}
        kernels.linear_backward_parameters(x, dz, many, np.empty(40, dtype))
        for n, dweight in few.items():
            kernels.linear_backward_parameters(x, dz[:, :n].copy(), dweight, np.empty(n, dtype))
            assert dweight.tobytes() == many[:, :n].tobytes(), (k, n)


def test_a_gradient_of_biases_adds_row_after_row(dtype, rng):
    for n in widths_of_a_row(dtype):
        x, dz = rng.standard_normal((37, 1)).astype(dtype), rng.standard_normal((37, n)).astype(dtype)
        dweight, dbias = np.empty((1, n), dtype), np.empty(n, dtype)
        kernels.linear_backward_parameters(x, dz, dweight, dbias)
        assert dbias.tobytes() == np.add.accumulate(dz, axis=0)[-1].tobytes(), n


def relayout(array, layout):
    """The same values in another memory layout."""
    if layout == "column order":
        return np.asfortranarray(array)
    if layout == "step 2":
        wide = np.full((array.shape[0], 2 * array.shape[1]), np.nan, array.dtype)
        wide[:, ::2] = array
        return wide[:, ::2]
    if layout == "negative":
        return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    if layout == "offset":
        memory = np.empty(array.size + 1, array.dtype)
        memory[1:] = array.ravel()
        return memory[1:].reshape(array.shape)
    frozen = array.copy()
    frozen.flags.writeable = False
    return frozen


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda row: row.name)
def test_same_bits_for_any_thread_count_in_products(product, dtype, rng):
    drivers = {
        "linear": dense.linear_parallel,
        "linear_backward_input": dense.linear_backward_input_parallel,
        "linear_backward_parameters": dense.linear_backward_parameters_parallel,
        "outer_update": dense.outer_update_parallel,
    }
    driver = drivers[product.name]
    for shape in [(1, 1, 1), (7, 5, 70), (130, 40, 67), (3, 300, 257), (20, 6, 512)]:
        arguments = product.inputs(shape, dtype, rng)
        results = []
        for threads in (1, 2, 3, 8):
            mine = copies(arguments)
            driver(*mine.values(), threads)
            results.append([mine[name].tobytes() for name in product.outputs])
        assert all(result == results[0] for result in results), shape


@numba.njit
def wrong_cells(unit, most_columns, most_threads):
    """Cases in which threads do not cover a result of 7 rows once, or one has as few columns as a narrow layer."""
    wrong = 0
    for read_b in (dense.IN_PLACE, dense.FRESH, dense.PACKED):
        for whole_rows in (False, True):
            for n in range(1, most_columns):
                for threads in range(1, most_threads):
                    covered = np.zeros((7, n), np.int64)
                    for cell in range(threads):
                        r0, r1, c0, c1 = dense.cell_of(7, n, threads, cell, unit, whole_rows, read_b)
                        covered[r0:r1, c0:c1] += 1
                        wrong += c1 - c0 < n and c1 - c0 <= MOST_OUTPUTS
                    wrong += not (covered == 1).all()
    return wrong


@pytest.mark.parametrize("unit", [8, 16, 32, 64])
def test_rectangles_of_threads(unit):
    assert wrong_cells(unit, 5 * unit, 17) == 0


def test_units_of_columns(dtype):
    unit = numba.njit(lambda a: dense.column_unit(flat_pointer(a)))(np.empty(1, dtype))
    assert unit > MOST_OUTPUTS
    assert unit * np.dtype(dtype).itemsize % 64 == 0


def test_same_bits_whatever_the_batch_in_linear(dtype, rng):
    x, weight = rng.standard_normal((40, 300)).astype(dtype), rng.standard_normal((300, 70)).astype(dtype)
    bias = rng.standard_normal(70).astype(dtype)
    for activation in Activation:
        whole, row = np.empty((40, 70), dtype), np.empty((1, 70), dtype)
        kernels.linear(x, weight, bias, activation, whole)
        for i in (0, 17, 39):
            kernels.linear(x[i : i + 1], weight, bias, activation, row)
            assert row.tobytes() == whole[i : i + 1].tobytes(), activation


def few_rows_shapes():
    """(inner, columns): around the widths of low tiles, rows that conflict in the caches, and a weight beyond them."""
    widest, nr = ROW_NV * 16, tile_columns(4)
    yield from ((inner, nr + columns) for inner in (1, 9) for columns in (1, 15, 16, 17, 65, widest - 1))
    yield from ((inner, gemm.CONFLICT_BYTES // size) for inner in (DEPTH, 300) for size in (4, 8))
    yield 300, gemm.FAR_BYTES // (300 * 4) + 3


@pytest.mark.parametrize(("inner", "columns"), list(few_rows_shapes()))
def test_same_bits_of_few_rows(inner, columns, dtype, rng):
    most = LOW_ROWS + 2
    x, bias = rng.standard_normal((4 * most, inner)).astype(dtype), rng.standard_normal(columns).astype(dtype)
    # Not where a line begins, as NumPy's large arrays.
    weight = rng.standard_normal(inner * columns + 17).astype(dtype)[17:].reshape(inner, columns)
    whole = np.empty((4 * most, columns), dtype)
    dense.linear_serial(x, weight, bias, Activation.IDENTITY, whole)
    assert_within(whole, x.astype(float) @ weight + bias, 1e-4, "whole")
    for rows in range(1, most + 1):
        for given in (x[:rows], np.asfortranarray(x)[:rows]):
            memory = np.full(rows * columns + 64, np.nan, dtype)
            out = memory[: rows * columns].reshape(rows, columns)
            dense.linear_serial(given, weight, bias, Activation.IDENTITY, out)
            assert out.tobytes() == whole[:rows].tobytes(), rows
            assert np.isnan(memory[rows * columns :]).all(), rows


@pytest.mark.parametrize("code", list(Activation), ids=lambda code: code.name.lower())
def test_activation_in_place_parallel_and_alone_agree(code, dtype, rng):
    shape = (40, 130)
    x = (rng.standard_normal(shape) * 3).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    out, in_place, parallel = np.empty_like(x), x.copy(), np.empty_like(x)
    activate(x, code, out)
    activate(in_place, code, in_place)
    columns = shape[1] if code in ROW_WISE else 1
    activate_flat(activate_worker.address(x.dtype), x.ravel(), int(code), parallel.ravel(), columns, 3)
    assert out.tobytes() == in_place.tobytes() == parallel.tobytes()

    saved = x if code in NEEDS_PRE_ACTIVATION else out
    dz, in_place, parallel = np.empty_like(x), dy.copy(), np.empty_like(x)
    activate_backward(dy, saved, code, dz)
    activate_backward(in_place, saved, code, in_place)
    activate_backward_parallel(dy, saved, int(code), parallel, columns, 3)
    assert dz.tobytes() == in_place.tobytes() == parallel.tobytes()


@pytest.mark.parametrize("code", ELEMENTWISE, ids=lambda code: code.name.lower())
def test_special_values(code, dtype, rng):
    # Long enough for the vector loop, odd enough for its remainder, every value in several lanes.
    with np.errstate(over="ignore"):
        x = np.resize(np.array(SPECIAL).astype(dtype), 37)
    out, expected = np.empty_like(x), np.empty_like(x)
    getattr(kernels, code.name.lower())(x, out)
    getattr(reference, code.name.lower())(x, expected)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(expected))
    ok = ~np.isnan(expected)
    with np.errstate(over="ignore"):
        smallest = float(np.finfo(dtype).smallest_subnormal)
        np.testing.assert_allclose(
            out[ok], expected[ok], rtol=2e-6 if dtype == np.float32 else 4e-15, atol=2 * smallest
        )
    if code in (Activation.TANH, Activation.IDENTITY, Activation.ELU):
        np.testing.assert_array_equal(np.signbit(out[ok]), np.signbit(expected[ok]))

    saved = x if code in NEEDS_PRE_ACTIVATION else out
    dz, expected = np.empty_like(x), np.empty_like(x)
    dy = np.full_like(x, 0.5)
    getattr(kernels, f"{code.name.lower()}_backward")(dy, saved, dz)
    getattr(reference, f"{code.name.lower()}_backward")(dy, saved, expected)
    np.testing.assert_array_equal(np.isnan(dz), np.isnan(expected))
    ok = ~np.isnan(expected)
    np.testing.assert_allclose(
        dz[ok], expected[ok], rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-6 if dtype == np.float32 else 1e-15
    )


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_float32_within_two_ulp(name):
    # Every 4,099th of all float32 values: a prime step meets all exponents and, over the run, all low bits.
    x = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x)]
    out = np.empty_like(x)
    getattr(kernels, name)(x, out)
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):
        exact = np.tanh(wide) if name == "tanh" else 1 / (1 + np.exp(-wide))
    ulp = np.abs(out - exact) / np.spacing(np.abs(exact.astype(np.float32))).astype(np.float64)
    worst = ulp.argmax()
    assert ulp[worst] <= 2, f"{ulp[worst]:.2f} ULP at {x[worst]!r}"


@pytest.mark.parametrize("code", [Activation.SOFTMAX, Activation.LOG_SOFTMAX])
def test_softmax_of_extreme_rows(code, dtype):
    x = np.array([[0, -np.inf, 1000], [np.nan, 0, 0], [np.inf, 0, 0], [-1000, -1000, -1000], [80, 90, 100]], dtype)
    out, expected = np.empty_like(x), np.empty_like(x)
    activate(x, code, out)
    getattr(reference, code.name.lower())(x, expected)
    assert_within(out, expected, 1e-6 * (1 + np.abs(np.nan_to_num(expected, posinf=0, neginf=0))), code.name)
    assert SOFTMAX < LOG_SOFTMAX


@pytest.mark.parametrize("loss", [*Loss, *EstimatorLoss], ids=lambda loss: loss.name.lower())
def test_zero_weights_give_zero(loss, dtype):
    gradient = np.full((3, 2), np.nan, dtype)
    target = np.ones((3, 1 if loss == EstimatorLoss.LOG_LOSS else 2), dtype)
    value = getattr(kernels, loss.name.lower())(np.ones((3, 2), dtype), target, np.zeros(3, dtype), gradient)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize(
    "loss",
    [loss for loss in (*Loss, *EstimatorLoss) if loss not in (Loss.SOFTMAX_CROSS_ENTROPY, EstimatorLoss.LOG_LOSS)],
    ids=lambda loss: loss.name.lower(),
)
def test_losses_where_two_formulas_meet_and_of_nan(loss, dtype):
    eps = np.finfo(dtype).eps
    prediction = np.array([[0, 1, 2, 0, -1, -2, 0.5, 0, 3]], dtype)
    target = np.array([[0, 1, 1, 1, 0, 0, 0, 0, 1]], dtype)
    for last in (3, np.nan):
        prediction[0, -1] = last
        gradients = np.empty_like(prediction), np.empty_like(prediction)
        found, expected = (
            getattr(module, loss.name.lower())(prediction, target, np.empty(0, dtype), gradient)
            for module, gradient in zip((kernels, reference), gradients, strict=True)
        )
        np.testing.assert_allclose(found, expected, rtol=16 * eps)
        np.testing.assert_allclose(*gradients, rtol=16 * eps, atol=eps)


@pytest.mark.parametrize("function", [kernels.softmax_cross_entropy, kernels.log_loss])
def test_a_label_of_no_class_touches_nothing(function, dtype):
    memory = np.zeros((3, 4), dtype)
    gradient = memory[1:2]
    for label in (-1, 4, 1e9, np.nan, 2.5):
        value = function(np.zeros((1, 4), dtype), np.array([[label]], dtype), np.empty(0, dtype), gradient)
        assert np.isnan(value)
        assert not memory[0].any()
        assert not memory[2].any()


@pytest.mark.parametrize("function", [kernels.binary_log_loss, kernels.log_loss])
def test_probabilities_of_log_losses_stay_within_eps_of_0_and_1(function, dtype):
    binary = function is kernels.binary_log_loss
    eps = float(np.finfo(dtype).eps)
    for logit, expected in [(-300.0, -np.log(eps)), (300.0, eps)]:
        prediction = np.array([[logit]] if binary else [[logit, 0.0]], dtype)
        target = np.array([[1.0 if binary else 0.0]], dtype)
        value = function(prediction, target, np.empty(0, dtype), np.empty_like(prediction))
        assert value == pytest.approx(expected, rel=1e-6)


def test_an_empty_batch_is_a_sum_of_nothing(dtype):
    x, dz = np.empty((0, 3), dtype), np.empty((0, 2), dtype)
    dweight, dbias = np.full((3, 2), np.nan, dtype), np.full(2, np.nan, dtype)
    kernels.linear_backward_parameters(x, dz, dweight, dbias)
    assert not dweight.any()
    assert not dbias.any()
    for loss in Loss:
        assert getattr(kernels, loss.name.lower())(dz, dz, np.empty(0, dtype), dz) == 0


def test_kernels_refuse_what_may_not_be_contiguous():
    x = np.ones((4, 4), np.float32)[:, ::2]
    with pytest.raises(numba.TypingError, match="C-contiguous"):
        kernels.relu(x, x)


@pytest.mark.parametrize(
    ("name", "which", "optimizer"),
    [("sgd", 0, SGD(momentum=0.9)), ("rmsprop", 1, RMSprop(momentum=0.9)), ("adam", 0, Adam()), ("adamw", 0, AdamW())],
)
def test_moments_of_what_has_no_gradient_any_more_reach_zero(name, which, optimizer, dtype):
    """Not the smallest number, where rounding would hold them and arithmetic takes its time."""
    steps, hyper = 1000 if dtype == np.float32 else 7500, optimizer.hyper()
    for kernel in (getattr(kernels, name), getattr(kernels.reference, name)):
        p, gradient = np.ones(33, dtype), np.zeros(33, dtype)
        states = np.full((2, 33), 0.5, dtype)
        for step in range(1, steps):
            kernel(p, gradient, *states, step, hyper)
            size = np.abs(states[which])
            assert (size == 0).all() or (size >= np.finfo(dtype).tiny).all()
        assert (states[which] == 0).all()


def test_batch_normalization_of_numbers_whose_squares_overflow(dtype, rng):
    x = (rng.standard_normal((6, 8)) * {np.float32: 1e30, np.float64: 1e200}[dtype]).astype(dtype)
    ones, zeros, out = np.ones(8, dtype), np.zeros(8, dtype), np.full_like(x, np.nan)
    mean, variance = zeros.copy(), ones.copy()
    kernels.batch_norm(x, ones, zeros, mean, variance, out)
    assert (out == 0).all()
    assert np.isposinf(variance).all()
    assert np.isfinite(mean).all()


@pytest.mark.parametrize(("backward", "axis"), [(kernels.batch_norm_backward, 0), (kernels.layer_norm_backward, 1)])
def test_sums_over_many_rows_of_a_normalization_lose_one_rounding(backward, axis, rng):
    x = rng.normal(size=(100_000, 2)).astype(np.float32)
    dy, dx = x + 1, np.empty_like(x)
    dscale, dshift = np.empty(2, np.float32), np.empty(2, np.float32)
    backward(dy, x, np.ones(2, np.float32), dx, dscale, dshift)
    z = x.astype(np.float64)
    normalized = (z - z.mean(axis, keepdims=True)) / np.sqrt(z.var(axis, keepdims=True) + 1e-5)
    for found, terms in (dshift, dy.astype(np.float64)), (dscale, dy * normalized):
        assert_within(found, terms.sum(axis=0), 8 * np.finfo(np.float32).eps * np.abs(terms).sum(axis=0), "the sums")


@pytest.mark.parametrize("limit", [1e-8, 1e-6, 1.0])
def test_clipping_of_a_gradient_too_large_for_the_factor(limit, dtype):
    largest = {np.float32: 1e38, np.float64: 1e308}[dtype]
    gradient = (np.array([1.0, 0.25, 1e-3]) * largest).astype(dtype)
    expected = gradient.astype(np.longdouble)
    expected *= limit / np.sqrt((expected**2).sum())
    kernels.clip_by_norm(gradient, limit)
    np.testing.assert_allclose(gradient, expected.astype(dtype), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("target", [0.0, 1.0])
@pytest.mark.parametrize("logit", [np.nan, np.inf])
def test_one_class_and_a_logit_that_is_no_number(logit, target, dtype):
    for module in (kernels, reference):
        gradient = np.empty((1, 1), dtype)
        arrays = np.full((1, 1), logit, dtype), np.full((1, 1), target, dtype), np.empty(0, dtype), gradient
        assert np.isnan(module.softmax_cross_entropy(*arrays))
        assert np.isnan(gradient).all()


def test_a_probability_of_zero_where_the_logit_is_minus_infinity(dtype):
    logits, target = np.array([[0, -np.inf, 1]], dtype), np.array([[0.5, 0, 0.5]], dtype)
    values = [
        module.softmax_cross_entropy(logits, target, np.empty(0, dtype), np.empty_like(logits))
        for module in (kernels, reference)
    ]
    np.testing.assert_allclose(values, np.log(1 + np.e) - 0.5, rtol=1e-6)


def test_products_refuse_arrays_of_several_dtypes():
    """Their workers, compiled for the result's dtype, would read the others as what they are not."""
    one, two = (lambda *shape, t=t: np.ones(shape, t) for t in (np.float32, np.float64))
    calls = [
        (kernels.linear, (two(2, 3), one(3, 4), one(4), 1, one(2, 4))),
        (kernels.linear, (one(2, 3), one(3, 4), one(4), 1, two(2, 4))),
        (kernels.linear, (np.ones((2, 3), int), two(3, 4), two(4), 1, two(2, 4))),
        (kernels.linear_backward_input, (one(2, 4), two(3, 4), one(2, 3))),
        (kernels.linear_backward_parameters, (one(2, 3), two(2, 4), one(3, 4), one(4))),
        (kernels.outer_update, (one(2, 3), one(2, 4), 0.1, one(3, 4), two(4))),
    ]
    for kernel, arguments in calls:
        for function in (kernel, kernel.serial):
            with pytest.raises(TypeError, match=r"expected (an array of|.* of float32 or float64)"):
                function(*arguments)
