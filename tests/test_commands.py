"""The command `fastnn`: demo, check and info."""

import os
import platform
import re
import signal
import subprocess
import sys
import time

import matplotlib.pyplot
import numpy as np
import pytest

import fastnn
from fastnn import demo, kernels
from fastnn.__main__ import main
from fastnn.history import History


def test_demo_learns_digits_and_draws_them(tmp_path, capsys):
    picture = tmp_path / "demo.png"
    assert main(["demo", "--output", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "1,437 scanned digits to learn from, 360 held out" in printed
    accuracy = float(re.search(r"test accuracy ([\d.]+)%", printed).group(1))
    assert accuracy >= 97
    assert re.search(r"forward +worst error [\d.]+% of its tolerance", printed)
    assert re.search(r"one epoch: fastnn [\d.]+ ms, NumPy reference [\d.]+ ms", printed)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_drawing_leaves_the_backend_and_the_figures_of_the_program_alone(tmp_path):
    pyplot = matplotlib.pyplot
    before = matplotlib.get_backend()
    pyplot.switch_backend("svg")
    try:
        labels = np.arange(70) % 10
        history = History([1], {"loss": [1.0], "val_loss": [2.0]})
        demo.draw(tmp_path / "demo.png", history, np.zeros((70, 64)), labels, np.roll(labels, 1))
        assert (matplotlib.get_backend(), pyplot.get_fignums()) == ("svg", [])
    finally:
        pyplot.switch_backend(before)


def test_info_names_versions_machine_and_cache(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for name in ("fastnn", "Python", "NumPy", "Numba", "CPU", "vectors", "register tile", "threads", "cache"):
        assert re.search(rf"^{name} +\S", printed, re.MULTILINE), name
    assert fastnn.__version__ in printed


def test_check_prints_a_row_a_kernel_and_dtype(capsys):
    assert main(["check", "relu", "clip_by_value"]) == 0
    printed = capsys.readouterr().out
    rows = re.findall(r"^(\w+) +(float32|float64) +\d+ +[\d.e-]+ +[\d.]+ GB/s +ok$", printed, re.MULTILINE)
    assert rows == [(name, dtype) for name in ("relu", "clip_by_value") for dtype in ("float32", "float64")]
    assert "4 of 4 within tolerance" in printed


def test_check_fails_where_a_kernel_is_wrong(capsys, monkeypatch):
    def wrong(x, out):
        out[...] = x

    monkeypatch.setattr(kernels, "relu", wrong)
    assert main(["check", "relu"]) == 1
    assert "2 FAILED" in capsys.readouterr().out


def test_check_of_an_unknown_kernel_lists_what_there_is(capsys):
    assert main(["check", "relo"]) == 2
    printed = capsys.readouterr().err
    assert "unknown kernel relo" in printed
    assert "leaky_relu" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--epochs", "0"], "argument --epochs: expected at least 1, got 0"),
        (["demo", "--epochs", "many"], "argument --epochs: invalid whole number value: 'many'"),
        (["demo", "--output", "no/such/folder.png"], "cannot be written: No such file or directory"),
        (["demo", "--output", "picture"], "output: expected a name that ends in one of"),
        (["check", "--exhaustive", "--sample", "0"], "argument --sample: expected at least 1, got 0"),
        (["check", "--exhaustive", "--float64", "-1"], "argument --float64: expected at least 0, got -1"),
        (["check", "--exhaustive", "--markdown", "no.md"], "--markdown: expected a file with tables between the lines"),
        (["check", "--exhaustive", "relu", "--markdown", "no.md"], "--markdown: expected no names with it"),
        (["check", "relu", "--sample", "3"], "usage: fastnn check "),
    ],
)
def test_bad_arguments_are_told_before_any_work(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capsys.readouterr()
    assert (end.value.code, printed.out) == (2, "")
    assert message in printed.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["sklearn", "matplotlib.backend_bases"])
def test_the_demo_says_what_it_needs(name, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit):
        main(["demo"])
    assert 'the demo needs the extra "demo"' in capsys.readouterr().err


def test_the_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, f"fastnn {fastnn.__version__}\n")


def test_a_reader_who_has_seen_enough_is_no_error():
    command = subprocess.Popen(
        [sys.executable, "-m", "fastnn", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    command.stdout.close()
    assert command.stderr.read() == ""
    command.stderr.close()
    assert command.wait() == 1


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_an_interrupt_ends_a_command_without_a_traceback(tmp_path):
    """Pressed several times too; and the signal is what ends it. Without one it takes minutes."""
    code = """
import signal, sys, fastnn.accuracy, fastnn.__main__
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
print("here", flush=True)
sys.argv[1:] = ["check", "--exhaustive", "tanh", "--dtype", "float32"]
run = fastnn.__main__._run
fastnn.__main__._run = lambda arguments: print("not lost", end="") or run(arguments)
fastnn.__main__.main()
"""
    with open(tmp_path / "printed", "w+") as printed:
        command = subprocess.Popen([sys.executable, "-c", code], stdout=printed, stderr=subprocess.PIPE, text=True)
        while "here" not in (tmp_path / "printed").read_text():
            time.sleep(0.1)
        time.sleep(3)
        for _ in range(3):
            command.send_signal(signal.SIGINT)
            time.sleep(0.04)
        _, errors = command.communicate(timeout=120)
    assert (command.returncode, (tmp_path / "printed").read_text()) == (-signal.SIGINT, "here\nnot lost")
    assert "Traceback" not in errors


@pytest.mark.skipif(platform.machine() != "x86_64", reason="of AVX alone")
def test_without_avx():
    """Numba drops these instructions; kernels that have them all the same would end the process."""
    code = """
import fastnn, numpy as np
x = np.linspace(-3, 3, 99)
print(abs(fastnn.activations.tanh(x) - np.tanh(x)).max())
"""
    environment = os.environ | {"NUMBA_ENABLE_AVX": "0"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=600)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 1e-15


def test_info_about_a_layer_of_threads_that_is_not_there():
    environment = os.environ | {"NUMBA_THREADING_LAYER": "bogus", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "fastnn", "info"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert result.returncode == 0
    assert "threads          none: " in result.stdout


def test_a_command_is_needed():
    with pytest.raises(SystemExit):
        main([])
