"""The command `fastnn`: demo, check and info."""

import re

import pytest

import fastnn
from fastnn import kernels
from fastnn.__main__ import main


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
    printed = capsys.readouterr().out
    assert "unknown kernel relo" in printed
    assert "leaky_relu" in printed


def test_a_command_is_needed():
    with pytest.raises(SystemExit):
        main([])
