"""The version of the kernels: a digest of their sources, by which every cache of machine code is keyed."""

import hashlib
import pathlib
import sys

import numba


def source_digest():
    """A digest of all kernel sources, and of the Numba and the Python that compile them."""
    digest = hashlib.sha256(f"{numba.__version__} {sys.implementation.cache_tag}".encode())
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


SOURCE_DIGEST = source_digest()
