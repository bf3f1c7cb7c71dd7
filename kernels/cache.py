"""The disk cache of compiled kernels: it cannot serve stale machine code, and no damaged file ends a process.

Numba's own cache stamps only the file that defines a function: after an edit or an upgrade of a callee in another file
it would go on serving the caller's old machine code. Here the cache lies in a folder named by a digest of every kernel
source, so a changed source means an empty folder. Its files are of our own making too, see `_CacheFiles`.
"""

import contextlib
import hashlib
import os
import pathlib
import pickle
import secrets
import tempfile
import warnings

from numba.core import caching, config, serialize
from numba.misc.appdirs import AppDirs

from .digest import SOURCE_DIGEST
from .requirement import VERSION


def _choose_cache_directory():
    """The first writable of: NUMBA_CACHE_DIR, the user's cache folder; None (with a warning) if there is none."""
    candidates = [config.CACHE_DIR] if config.CACHE_DIR else []
    candidates.append(AppDirs(appname="fastnn", appauthor=False).user_cache_dir)
    for candidate in candidates:
        # A folder that is named from the current one stays where it is if that changes.
        path = os.path.abspath(os.path.join(candidate, f"fastnn-{SOURCE_DIGEST}"))
        try:
            os.makedirs(path, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
        except OSError:
            continue
        return path
    warnings.warn(
        f"fastnn: no writable cache folder (tried {', '.join(candidates)}): kernels are compiled anew in every "
        "process; set NUMBA_CACHE_DIR to a writable folder",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


CACHE_DIRECTORY = _choose_cache_directory()


class _Locator(caching._CacheLocator):
    def __init__(self, function):
        # Numba warns by it of what it cannot cache: code with addresses in it, as under NUMBA_OPT=0.
        self._py_file = function.__code__.co_filename

    def get_cache_path(self):
        return CACHE_DIRECTORY

    def ensure_cache_path(self):
        # Whoever writes a file makes the folder: it may have been deleted since, and the disk may be full.
        pass

    def get_source_stamp(self):
        return SOURCE_DIGEST

    def get_disambiguator(self):
        return ""


class _CacheImpl(caching.CompileResultCacheImpl):
    def __init__(self, py_func):
        self._lineno = py_func.__code__.co_firstlineno
        self._locator = _Locator(py_func)
        self._filename_base = f"{py_func.__module__}.{py_func.__qualname__}"


class _CacheFiles:
    """Compiled functions on disk: for each function, signature and CPU a file, named by its key and sealed by a digest.

    Numba's files are a pickled index and numbered data files. A damaged one raises whatever pickle happens to raise, or
    runs damaged machine code. Two processes that compile two signatures at once take the same number, and the index of
    one may then name the machine code of the other. Here a file that is not whole counts as missing, and is replaced.
    """

    DIGEST_SIZE = hashlib.sha256().digest_size

    def __init__(self, base):
        self._base = base

    def _path(self, key):
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return pathlib.Path(CACHE_DIRECTORY, f"{self._base}.{name}.nbc")

    def load(self, key):
        """What was saved under a key, or None."""
        try:
            content = memoryview(self._path(key).read_bytes())
        except OSError:
            return None
        sealed = content[self.DIGEST_SIZE :]
        if hashlib.sha256(sealed).digest() != content[: self.DIGEST_SIZE]:
            return None
        try:
            stored, data = pickle.loads(sealed)
        except Exception:
            # Whole, but written by another version of what it holds: pickle then raises anything.
            return None
        # Two keys may look alike, say with two named tuples of one name.
        return data if stored == key else None

    def save(self, key, data):
        """Write a file whole or not at all; without a place for it the process works on with what it compiled."""
        path = self._path(key)
        sealed = serialize.dumps((key, data))
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(hashlib.sha256(sealed).digest() + sealed)
            temporary.replace(path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            if not isinstance(error, OSError):
                raise
            warnings.warn(
                f"fastnn: compiled kernels cannot be kept ({error}): later processes will compile them anew",
                RuntimeWarning,
                stacklevel=2,
            )

    def flush(self):
        """Forget everything about this function."""
        for path in pathlib.Path(CACHE_DIRECTORY).glob(f"{self._base}.*"):
            path.unlink(missing_ok=True)


class _Cache(caching.FunctionCache):
    """What a dispatcher of Numba's asks for machine code, and gives what it has compiled."""

    _impl_class = _CacheImpl

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _CacheFiles(self._impl.filename_base)

    def load_overload(self, sig, target_context):
        # Machine code of a parallel loop refers to Numba's threads, which have to be there before it is loaded. Numba
        # tells so to what is compiled around the loop, but not if the loop itself came from the cache: such a caller
        # ended the next process that loaded it.
        found = super().load_overload(sig, target_context)
        if found is not None:
            found.library._reload_init.update(found.reload_init)
        return found

    def save_overload(self, sig, data):
        VERSION.add_to(data.environment)
        super().save_overload(sig, data)


class _NoCache(caching.NullCache):
    """Keeps nothing; but a user's cache may keep what was linked into his function."""

    def save_overload(self, sig, data):
        VERSION.add_to(data.environment)


def cache_for(function):
    """The cache of a function that is to be compiled."""
    return _NoCache() if CACHE_DIRECTORY is None else _Cache(function)
