"""The same hashes from machine code for AArch64: `aarch64.py` has an emulator run it."""

import json
import pathlib
import subprocess
import sys

import pytest
from conftest import FULL
from same_bits import DTYPES, GOLDEN, predictions

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the emulator shares memory as Linux lists it")


def emulated(*command):
    """What a script or module prints whose machine code an emulated CPU runs."""
    script = pathlib.Path(__file__).with_name("aarch64.py")
    result = subprocess.run(
        [sys.executable, str(script), *command], capture_output=True, text=True, timeout=3600, cwd=script.parent
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_predictions_have_the_same_bits():
    found = json.loads(emulated("same_bits.py", "--predictions"))
    assert found["vector_bytes"] == 16
    assert found["runs"] == [predictions()]


@pytest.mark.parametrize("dtype", DTYPES if FULL else DTYPES[:1])
def test_training_has_the_same_bits(dtype):
    # All cases take 5 to 10 minutes.
    (found,) = json.loads(emulated("same_bits.py", "--dtypes", dtype, *([] if FULL else ["--small"])))["runs"]
    golden = {name: pair for name, pair in json.loads(GOLDEN.read_text()).items() if name.split()[0] == dtype}
    assert len(found) == len(golden) if FULL else len(found) >= 10
    assert [name for name, pair in found.items() if pair != golden[name]] == []


def test_kernels_agree_with_their_references():
    names = "softmax_backward", "gelu", "dropout", "layer_norm", "standardization", "adamw", "log_cosh"
    lines = emulated("-m", "fastnn", "check", *names).splitlines()
    assert lines[-1] == f"{2 * len(names)} of {2 * len(names)} within tolerance"
