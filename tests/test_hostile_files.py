"""Files that are not what they claim: an error that says so, in bounded time and memory, and nothing executed."""

import json
import os
import pathlib
import subprocess
import sys
import time
import tracemalloc

import load_fuzzer
import numpy as np
import pytest

import fastnn

MUTANTS = 100_000 if os.environ.get("FASTNN_FULL") == "1" else 3_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


def test_mutated_and_cut_files(tmp_path):
    command = [sys.executable, "-W", "error", load_fuzzer.__file__, str(tmp_path), "0", str(MUTANTS)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    counts = json.loads(run.stdout)
    print(counts)
    assert sum(sum(kind.values()) for kind in counts.values()) == MUTANTS
    assert set(counts) == {mutate.__name__ for mutate in load_fuzzer.MUTATIONS}
    # A mutation that is never refused would be none; some, as a flipped bit of a weight, leave a model.
    assert all(kind["refused"] > 0 for kind in counts.values())
    assert sum(kind["loaded"] for kind in counts.values()) > 0


def test_the_fuzzer_sees_what_is_executed():
    events = []
    with load_fuzzer.no_execution(events):
        exec("1 + 1")
    exec("1 + 1")
    assert len(events) == 2  # compiled, then executed
    assert events[-1].startswith("exec")


def write(path, architecture, tensors=None, spaces=0):
    """A file of a small model whose architecture has this text."""
    net = fastnn.MLP([3, 2], seed=0)
    net.save(path)
    header, data = load_fuzzer.parts(path.read_bytes())
    header["__metadata__"]["architecture"] = architecture
    path.write_bytes(load_fuzzer.whole(json.dumps(header | (tensors or {})) + " " * spaces, data))


LAYER = '{"in_features":3,"out_features":2,"activation":"relu"}'


@pytest.mark.parametrize(
    "architecture",
    [
        '{"dtype":"float32","layers":[' + ",".join([LAYER] * 1_000_000) + "]}",
        '{"dtype":"float32","layers":[' + "[" * 10_000_000,
        '{"dtype":"float32","dtype":' + "9" * 10_000_000 + "}",
    ],
    ids=["a million layers", "deep", "a long number"],
)
def test_an_architecture_longer_than_its_tensors_is_not_parsed(path, architecture):
    write(path, architecture)
    before = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"architecture: expected at most 1400 characters for 2 tensors, got \d+"):
            fastnn.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The text itself is there twice at most; parsed, a million layers would be ten times as much.
    assert peak < 4 * len(architecture)
    assert time.process_time() - before < 5


def test_a_header_of_many_tensors(path):
    odd = {f"odd{i}": {"dtype": "F32", "shape": [0], "data_offsets": [32, 32]} for i in range(20_000)}
    write(path, json.dumps({"dtype": "float32", "layers": [json.loads(LAYER)]}), odd)
    with pytest.raises(ValueError, match=r"tensors: missing .*: odd0, odd1, .* and 19995 more$"):
        fastnn.load(path)


def test_deep_networks_take_linear_time(path):
    """10,000 layers: assembled, saved, loaded and run."""
    began = time.process_time()
    net = fastnn.MLP([2] * 10_001, activation="tanh", seed=0)
    net.save(path)
    loaded = fastnn.load(path)
    assert len(loaded.layers) == 10_000
    x = np.ones((3, 2))
    assert loaded.predict(x).tobytes() == net.predict(x).tobytes()
    assert np.isfinite(net.loss_and_gradient(x, x)[0])
    assert time.process_time() - began < 60


class Path:
    def __init__(self, path):
        self._path = path

    def __fspath__(self):
        return self._path


@pytest.mark.parametrize("bad", [0, 1, True, 2.5, None, [], pathlib.Path, object(), bytearray(b"a")])
def test_what_is_no_path_is_a_type_error(bad):
    """open() would take 1 and True for the standard output, and close it."""
    net = fastnn.MLP([1, 1], seed=0)
    for call in (fastnn.load, net.save):
        with pytest.raises(TypeError, match=r"path: expected a str, bytes or os\.PathLike"):
            call(bad)
    assert os.fstat(1)


@pytest.mark.parametrize("bad", ["", "a\0b", b"", b"\0"])
def test_a_path_that_names_no_file(bad):
    net = fastnn.MLP([1, 1], seed=0)
    for call in (fastnn.load, net.save):
        with pytest.raises(ValueError, match="path: expected the name of a file"):
            call(bad)


def test_any_kind_of_path(tmp_path):
    net = fastnn.MLP([1, 1], seed=0)
    for name in ("a", "\N{SNOWMAN}", os.fsdecode(b"\xff")):
        text = str(tmp_path / name)
        for path in (text, os.fsencode(text), pathlib.Path(text), Path(text), Path(os.fsencode(text))):
            net.save(path)
            assert fastnn.load(path).parameters.tobytes() == net.parameters.tobytes()


@pytest.mark.parametrize("special", ["/", "/dev/null", "/dev/zero", "/proc/self/mem", "/proc/self/cmdline"])
def test_files_that_hold_no_bytes_of_their_own(special):
    with pytest.raises((OSError, ValueError), match=special):
        fastnn.load(special)
