"""Compiled loops over vectors, and the functions that go into them."""

import numba

from fastnn.kernels import elementary, normal, sigmoids
from fastnn.kernels.simd import flat_pointer, lanes_of, load_vector, store_vector

FUNCTIONS = {
    name: getattr(module, name)
    for module, names in (
        (elementary, ("exp", "expm1", "softplus", "log", "log1p", "log_cosh")),
        (sigmoids, ("sigmoid", "tanh", "silu", "gelu_tanh")),
        (normal, ("normal_cdf", "normal_pdf", "gelu")),
    )
    for name in names
}


def over_vectors(function):
    @numba.njit(error_model="numpy")
    def loop(x, y, out):
        p, q, r = flat_pointer(x), flat_pointer(y), flat_pointer(out)
        for i in range(0, x.size, lanes_of(p)):
            store_vector(r, i, x.size, function(load_vector(p, i, x.size), load_vector(q, i, x.size)))

    return loop


def scalar(function):
    return numba.njit(function, error_model="numpy", forceinline=True)
