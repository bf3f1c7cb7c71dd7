"""The version of the kernels: a digest of their sources, by which every cache of machine code is keyed."""

import hashlib
import pathlib
import sys

import numba


def source_digest():
    """A digest of all kernel sources, and of the Numba and the Python, with its objects' size, that compile them."""
    python = f"{sys.implementation.cache_tag} {object.__basicsize__}"
    digest = hashlib.sha256(f"{numba.__version__} {python}".encode())
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


SOURCE_DIGEST = source_digest()
