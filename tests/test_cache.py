"""The cache of compiled kernels: damaged, deleted, full, shared. Work goes on, and is right."""

import hashlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from numba.core.errors import NumbaWarning

from fastnn.kernels import cache as module
from fastnn.kernels import jit
from fastnn.kernels.digest import SOURCE_DIGEST

# Prints "right" if the results are, and how many of the two kernels came from the cache.
WORK = """
import sys, warnings
warnings.simplefilter("error")
import numpy as np
from fastnn.kernels import clip_by_value
from fastnn.kernels.cache import CACHE_DIRECTORY


def work(dtype):
    x = np.array([-1.0, 0.25, 2.0], dtype)
    clip_by_value(x, 0.5)
    assert x.tolist() == [-0.5, 0.25, 0.5], x


"""
BOTH = (
    WORK
    + """
for name in sys.argv[1:]:
    work(name)
print("right", sum(clip_by_value.stats.cache_hits.values()))
"""
)
KINDS = ("float32", "float64")


def start(code, cache, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
    )


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output.strip()


def run(code, cache, *arguments):
    return finish(start(code, cache, *arguments))


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A cache with the kernel for both dtypes."""
    cache = tmp_path_factory.mktemp("warm")
    assert run(BOTH, cache, *KINDS) == "right 0"
    assert run(BOTH, cache, *KINDS) == "right 2"
    return cache


def flipped(content):
    """One bit of the machine code is another."""
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    return bytes(changed)


DAMAGES = {
    "random": lambda content: os.urandom(len(content)),
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "flipped": flipped,
    "no pickle": lambda content: hashlib.sha256(b"x").digest() + b"x",
}


def copied(cache, target, change):
    folder = target / f"fastnn-{SOURCE_DIGEST}"
    folder.mkdir(parents=True)
    files = sorted(pathlib.Path(cache, folder.name).iterdir())
    assert len(files) >= 2
    for file in files:
        (folder / file.name).write_bytes(change(file.read_bytes()))


def test_damaged_files_are_compiled_anew(warm, tmp_path):
    runs = {}
    for name, damage in DAMAGES.items():
        copied(warm, tmp_path / name, damage)
        runs[name] = start(BOTH, tmp_path / name, *KINDS)
    assert {name: finish(process) for name, process in runs.items()} == dict.fromkeys(DAMAGES, "right 0")
    # And replaced by whole ones.
    assert run(BOTH, tmp_path / "random", *KINDS) == "right 2"


def test_four_processes_fill_an_empty_cache_at_once(tmp_path):
    processes = [start(BOTH, tmp_path, *KINDS[:: 1 if i % 2 else -1]) for i in range(4)]
    for process in processes:
        assert finish(process).startswith("right")
    assert run(BOTH, tmp_path, *KINDS) == "right 2"
    (folder,) = tmp_path.iterdir()
    assert {file.suffix for file in folder.iterdir()} == {".nbc"}


LOST = (
    WORK
    + """
import pathlib, resource, shutil

folder = pathlib.Path(CACHE_DIRECTORY)
work("float32")
shutil.rmtree(folder)
work("float64")
assert list(folder.iterdir()), "made anew"


def work_with_warning(expected):
    clip_by_value.overloads.clear()
    clip_by_value._reset_overloads()
    for file in folder.iterdir() if folder.is_dir() else []:
        file.unlink()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        work("float64")
    messages = {str(warning.message) for warning in seen}
    assert messages, "no warning"
    for message in messages:
        assert "compiled kernels cannot be kept" in message and expected in message, message


limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
work_with_warning("File too large")
assert not list(folder.iterdir()), "half a file"
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
shutil.rmtree(folder)
folder.touch()
work_with_warning("exists")
print("right")
"""
)


def test_a_cache_that_goes_while_the_process_runs(tmp_path):
    assert run(LOST, tmp_path) == "right"


# ---- Files


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CACHE_DIRECTORY", str(tmp_path / "folder"))
    return module._CacheFiles("module.function")


class LooksAlike:
    """Equal to none but itself, and shown as all others."""

    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return self.number == other.number

    def __hash__(self):
        return 0

    def __repr__(self):
        return "a key"


def test_each_key_has_what_was_saved_under_it(files, tmp_path):
    assert files.load("a") is None
    files.save("a", 1)
    files.save("b", [2])
    assert (files.load("a"), files.load("b"), files.load("c")) == (1, [2], None)
    files.save("a", 3)
    assert files.load("a") == 3
    files.flush()
    assert files.load("a") is files.load("b") is None
    assert list((tmp_path / "folder").iterdir()) == []


def test_keys_that_look_alike_are_told_apart(files):
    files.save(LooksAlike(1), "one")
    assert files.load(LooksAlike(1)) == "one"
    assert files.load(LooksAlike(2)) is None


def test_an_interrupted_save_leaves_no_file(files, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pathlib.Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.save("a", 1)
    assert list((tmp_path / "folder").iterdir()) == []


def test_what_cannot_be_cached_works_with_a_warning():
    """Code with addresses in it, as under NUMBA_OPT=0: the warning itself ended the call."""
    large = np.arange(2.0**18)

    @jit.kernel
    def with_an_address(index):
        return large[index]

    with pytest.warns(NumbaWarning, match='Cannot cache compiled function "with_an_address"'):
        assert with_an_address(3) == 3


def test_without_a_compiler_the_import_says_so():
    code = "try:\n    import fastnn\nexcept ImportError as error:\n    print(error)"
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert "unset NUMBA_DISABLE_JIT" in done.stdout


# Doubles numbers by a worker on two threads; nothing here asks Numba for its threads but what is compiled.
DOUBLES = """
import numpy as np
from numba import intp
from fastnn.kernels import jit, launch, workers


@workers.worker(lambda t: (t[::1], intp, intp))
def double(x, index, parts):
    for i in range(index, x.size, parts):
        x[i] *= 2


@jit.kernel
def one(address, x):
    launch.run(address, (x,), 2)


@jit.kernel
def other(address, x):
    launch.run(address, (x,), 2)


def work(name):
    x = np.ones(8)
    {"one": one, "other": other}[name](double.address(x.dtype), x)
    print(x.sum(), len(one.stats.cache_hits) + len(other.stats.cache_hits))
"""


def test_a_caller_of_a_cached_parallel_loop_may_be_loaded_first(tmp_path):
    script = tmp_path / "doubles.py"
    script.write_text(DOUBLES)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import doubles; doubles.work(sys.argv[1])"
    assert run(code, tmp_path, "one") == "16.0 0"
    # Compiled around a loop that comes from the cache.
    assert run(code, tmp_path, "other") == "16.0 0"
    assert run(code, tmp_path, "other") == "16.0 1"
