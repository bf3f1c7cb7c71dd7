"""The examples of README and docs/embedding.md and the programs in examples/ as their readers run them.

embedding.py and worked_example.py have tests of their own.
"""

import os
import pathlib
import re
import runpy
import shlex
import shutil

import numpy as np
import pytest

import fastnn

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def printed(name, capsys):
    """The lines that an example prints."""
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def blocks(page):
    """The Python examples of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", blocks("README.md"), ids=["network", "classes", "estimator", "compiled code"])
def test_an_example_of_the_readme_prints_what_it_says(block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Those behind the first one go on with its imports.
    check_prints(block, {} if block == blocks("README.md")[0] else {"np": np, "fastnn": fastnn}, capsys)


@pytest.mark.parametrize("block", blocks("docs/embedding.md"), ids=["compiled code"])
def test_an_example_of_the_page_on_embedding_prints_what_it_says(block, capsys):
    check_prints(block, {}, capsys)


def check_prints(block, names, capsys):
    said = re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)
    assert said
    exec(block, names)
    assert capsys.readouterr().out.splitlines() == said


def test_the_page_of_public_names_is_what_its_tool_prints(capsys):
    runpy.run_path(str(ROOT / "tools" / "api_page.py"), run_name="__main__")
    assert capsys.readouterr().out == (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_every_example_is_tested():
    tests = "".join(path.read_text(encoding="utf-8") for path in pathlib.Path(__file__).parent.glob("test_*.py"))
    assert not [path.name for path in EXAMPLES.glob("*.py") if f'"{path.stem}' not in tests]


def test_a_training_loop_of_ones_own(capsys):
    lines = printed("training_loop", capsys)
    losses = {
        name: float(loss) for name, loss in (re.fullmatch(r"rows drawn (\w+): loss (.*)", l).groups() for l in lines)
    }
    assert losses["by_error"] < losses["evenly"]
    assert losses["evenly"] < 0.1


@pytest.mark.skipif(
    shutil.which(shlex.split(os.environ.get("CC", "cc"))[0]) is None,
    reason="there is no C compiler: see CC in from_c.py",
)
def test_a_c_library_calls_a_network(capsys):
    states = [np.array(line.split("[")[1].rstrip("]").split(), float) for line in printed("from_c", capsys)]
    by_c, by_python, exact = states
    np.testing.assert_array_equal(by_c, by_python)
    np.testing.assert_allclose(by_c, exact, atol=0.05)


def test_scikit_learns_tools_around_an_estimator(capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    best, accuracy, *_, same = printed("scikit_learn", capsys)
    assert "mlpclassifier__dropout" in best
    assert float(accuracy.rpartition(" ")[2]) > 0.9
    assert same == "the same probabilities: True"
