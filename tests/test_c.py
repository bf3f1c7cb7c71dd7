"""Networks as C functions: the bits of predict, from ctypes, from threads, from SciPy."""

import ctypes
import gc
import pickle
import threading

import numpy as np
import pytest

import fastnn


def evaluate(function, x, out):
    element = ctypes.POINTER(np.ctypeslib.as_ctypes_type(x.dtype))
    for row, result in zip(x, out, strict=True):
        function(row.ctypes.data_as(element), result.ctypes.data_as(element))


def test_the_bits_of_predict(dtype, rng):
    net = fastnn.MLP([5, 70, 3], activation="tanh", output_activation="softmax", dtype=dtype, seed=0)
    x = rng.standard_normal((20, 5)).astype(dtype)
    out, function = np.empty((20, 3), dtype), net.cfunc()
    evaluate(function.ctypes, x, out)
    assert out.tobytes() == net.predict(x).tobytes()
    by_address = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(function.address)
    out[:] = np.nan
    for row, result in zip(x, out, strict=True):
        by_address(row.ctypes.data, result.ctypes.data)
    assert out.tobytes() == net.predict(x).tobytes()
    net.parameters[:] *= 2
    evaluate(function.ctypes, x, out)
    assert out.tobytes() == net.predict(x).tobytes()


def test_the_function_keeps_the_network(dtype):
    x = np.ones((1, 2), dtype)
    net = fastnn.MLP([2, 9, 1], dtype=dtype, seed=0)
    expected, function = net.predict(x), net.cfunc().ctypes
    del net
    gc.collect()
    out = np.empty((1, 1), dtype)
    evaluate(function, x, out)
    assert out.tobytes() == expected.tobytes()


def test_a_copy_in_another_process_has_an_address_of_its_own():
    function = fastnn.MLP([2, 1], seed=0).cfunc()
    twin = pickle.loads(pickle.dumps(function))
    x, out = np.ones((1, 2), np.float32), np.empty((1, 1), np.float32)
    evaluate(twin.ctypes, x, out)
    assert out == function.net.predict(x)
    assert repr(twin) == "<void f(const float x[2], float y[1])>"


def test_threads_share_the_function(rng):
    net = fastnn.MLP([4, 64, 2], activation="gelu", dtype="float64", seed=0)
    x, function = rng.standard_normal((500, 4)), net.cfunc().ctypes
    results = [np.empty((500, 2)) for _ in range(8)]
    threads = [threading.Thread(target=evaluate, args=(function, x, out)) for out in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = net.predict(x)
    assert all(out.tobytes() == expected.tobytes() for out in results)


def test_scipy_integrates_a_network():
    integrate = pytest.importorskip("scipy.integrate", reason="SciPy is not installed")
    net = fastnn.MLP([2, 16, 1], activation="tanh", dtype="float64", seed=0)
    value, _ = integrate.nquad(net.cfunc().low_level_callable(), [[0, 1], [-1, 1]])
    expected, _ = integrate.nquad(lambda x, y: net.predict([x, y])[0], [[0, 1], [-1, 1]])
    assert value == expected
    wrong = fastnn.MLP([3, 1], dtype="float64", seed=0).cfunc().low_level_callable()
    with pytest.warns(integrate.IntegrationWarning):
        assert np.isnan(integrate.nquad(wrong, [[0, 1], [-1, 1]])[0])


def test_scipy_filters_an_image_with_a_network(rng):
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    net = fastnn.MLP([9, 16, 1], activation="relu", dtype="float64", seed=0)
    image = rng.standard_normal((12, 15))
    found = ndimage.generic_filter(image, net.cfunc().low_level_callable("filter"), size=3, mode="nearest")
    padded = np.pad(image, 1, mode="edge")
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(-1, 9)
    np.testing.assert_array_equal(found, net.predict(patches).reshape(image.shape))
    with pytest.raises(RuntimeError):
        ndimage.generic_filter(image, net.cfunc().low_level_callable("filter"), size=2)


def test_what_scipy_could_not_call_is_refused():
    net = fastnn.MLP([2, 1], dtype="float64", seed=0)
    with pytest.raises(ValueError, match="kind: expected"):
        net.cfunc().low_level_callable("ode")
    for other in (fastnn.MLP([2, 1], seed=0), fastnn.MLP([2, 2], dtype="float64", seed=0)):
        with pytest.raises(ValueError, match="float64 network with one output"):
            other.cfunc().low_level_callable()
