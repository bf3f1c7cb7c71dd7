"""Rows of data that may be sparse, on their way to kernels, which read dense ones."""

import numpy as np
import scipy.sparse

# Sparse rows become dense ones in pieces of about so many bytes.
DENSE_BYTES = 1 << 24


def pieces(total, most):
    """(first, count) of pieces of at most `most`, and at least 1."""
    most = max(1, most)
    return [(first, min(most, total - first)) for first in range(0, total, most)]


def dense_rows(features, dtype):
    """How many rows of sparse input to make dense at a time.

    Kernels read dense rows. Made dense at the door, text of 100,000 words would not fit in memory; piece by piece it
    costs one pass over a buffer that stays in cache.
    """
    return max(1, DENSE_BYTES // (features * dtype.itemsize))


def output_of(net, X):
    """The network's output for rows, which may be sparse."""
    if not scipy.sparse.issparse(X):
        return net.predict(X)
    X = X.tocsr()
    out = np.empty((X.shape[0], net.out_features), net.dtype)
    for first, count in pieces(X.shape[0], dense_rows(X.shape[1], net.dtype)):
        rows = slice(first, first + count)
        net.predict(X[rows].toarray(), out=out[rows])
    return out
