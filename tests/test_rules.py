"""Rules of the code base: one-way imports, no stale cache, float32 stays float32, loops are vectors."""

import ast
import graphlib
import itertools
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

import numba
import numpy as np
import pytest
from vector_loops import FUNCTIONS, over_vectors, scalar

import fastnn
from fastnn import kernels

KERNELS = pathlib.Path(kernels.__file__).parent
PACKAGE = pathlib.Path(fastnn.__file__).parent


def imported_modules(path):
    """Top-level names of absolute imports, and (level, module) of relative ones."""
    absolute, relative = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            absolute |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            absolute.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            relative.add((node.level, node.module))
    return absolute - set(sys.stdlib_module_names), relative


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.py")), ids=lambda path: path.name)
def test_kernels_import_numpy_numba_and_themselves(path):
    absolute, relative = imported_modules(path)
    assert absolute <= {"numpy", "numba", "llvmlite"}
    assert {level for level, _ in relative} <= {1}, "kernels must not import fastnn"


def loops_in(nodes):
    """Loops among these nodes and below them, but for those in functions of their own."""
    for node in nodes:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.GeneratorExp)):
            if isinstance(node, (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp)):
                yield node
            yield from loops_in(ast.iter_child_nodes(node))


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_no_interrupt_passes_by_a_finally(path):
    """Python 3.12 and 3.13 leave some jumps back to a loop's begin out of the `try` around it; Ctrl-C comes there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Try):
            caught = {name for handler in node.handlers for name in ast.unparse(handler.type).strip("()").split(", ")}
            if node.finalbody or caught & {"BaseException", "KeyboardInterrupt"}:
                assert [loop.lineno for loop in loops_in(node.body)] == []


def kernel_imports():
    """For each file of kernels those that it imports, in whatever way."""
    graph = {}
    for path in KERNELS.glob("*.py"):
        nodes = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.level
        ]
        names = {node.module or alias.name for node in nodes for alias in node.names}
        graph[path.stem] = {name for name in names if (KERNELS / f"{name}.py").exists()}
    return graph


def test_kernels_import_each_other_one_way():
    """No file imports one that imports it: each can be read after those that it is built on."""
    graph = kernel_imports()
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("table") < order.index("step") < order.index("sweeps") < order.index("__init__")


def files_of_the_map(number):
    """For each file that a table of CONTRIBUTING names, in which row."""
    text = (pathlib.Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    rows = text.split("| subject | files |\n|---|---|\n")[1 + number]
    lines = itertools.takewhile(lambda line: line.startswith("|"), rows.splitlines())
    return {name: i for i, line in enumerate(lines) for name in re.findall(r"`(\w+)`", line)}


def test_the_maps_have_every_file():
    assert files_of_the_map(1).keys() == {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    helpers = {path.stem for path in pathlib.Path(__file__).parent.glob("*.py")} - {"conftest"}
    text = (pathlib.Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    assert not [name for name in helpers if not name.startswith("test_") and f"`{name}`" not in text]


def test_the_map_of_the_kernels_has_every_file_in_order():
    """Each group of CONTRIBUTING's table is built on itself and on those above it."""
    group, graph = files_of_the_map(0), kernel_imports()
    assert group.keys() == graph.keys() - {"__init__"}
    assert not [(name, other) for name in group for other in graph[name] if group[other] > group[name]]


def anchors(page):
    """What links may name behind `#`: the headings of a page, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_the_pages_lead_somewhere():
    root = pathlib.Path(__file__).parents[1]
    pages = [*root.glob("*.md"), *root.glob("docs/*.md")]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if "://" not in link
    ]
    assert len(links) > 20
    for page, link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), (page.name, link)
        assert not anchor or anchor in anchors(target), (page.name, link)


def test_the_reference_imports_numpy_alone():
    files = sorted(KERNELS.glob("reference*.py"))
    own = {(1, path.stem) for path in files} | {(1, "codes")}
    for path in files:
        modules, siblings = imported_modules(path)
        assert modules <= {"numpy"}, path
        assert siblings <= own, path
    assert imported_modules(KERNELS / "codes.py") == (set(), set())


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_the_layer_api_compiles_nothing(path):
    tree = ast.parse(path.read_text())
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"njit", "jit", "prange", "vectorize", "guvectorize", "cfunc"}


def test_optional_packages_are_not_imported():
    """Numba itself imports SciPy where there is one."""
    names = ("sklearn", "matplotlib", "onnx", "onnxruntime", "pandas", "polars", "joblib", "safetensors", "tqdm")
    assert run(f"import sys, fastnn; print(sorted({set(names)} & set(sys.modules)))") == "[]"


def run(code, **environment):
    """What a fresh Python prints."""
    result = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_editing_a_callee_takes_effect(tmp_path):
    """Numba's own cache stamps the caller's file alone."""
    package = tmp_path / "package"
    shutil.copytree(KERNELS, package / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").touch()
    code = (
        "import numpy as np; from package.kernels import leaky_relu; x = np.full(3, -1.0); leaky_relu(x, x);"
        "print(x[0]); print(sum(leaky_relu.serial.stats.cache_hits.values()))"
    )
    settings = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    assert run(code, **settings).split() == ["-0.01", "0"]
    assert run(code, **settings).split() == ["-0.01", "1"]
    simd = package / "kernels" / "simd.py"
    text = simd.read_text()
    edited = text.replace("builder.select(args[0], args[1], args[2])", "builder.select(args[0], args[2], args[1])", 1)
    assert edited != text
    simd.write_text(edited)
    assert run(code, **settings).split() == ["-1.0", "0"]


def test_without_a_writable_cache_kernels_still_work(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    code = (
        "import warnings; warnings.simplefilter('ignore'); warnings.filterwarnings('error', module='numba')\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always'); import fastnn\n"
        "import numpy as np; x = np.array([-1.0, 2.0]); fastnn.kernels.clip_by_value(x, 0.5)\n"
        "print(any('no writable cache folder' in str(w.message) for w in seen), x)"
    )
    settings = {name: str(blocked / "below") for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME")}
    assert run(code, **settings) == "True [-0.5  0.5]"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_loops_are_vectors_of_float32(name):
    function = FUNCTIONS[name]
    loop = over_vectors(scalar(lambda a, b: function(a)))
    array = numba.float32[::1]
    loop.compile((array, array, array))
    assembly = next(iter(loop.inspect_asm().values()))
    doubles = re.findall(r"\bv?(?:add|sub|mul|div|fn?m(?:add|sub)\d+)[ps]d\b", assembly)
    assert not doubles, f"double arithmetic: {set(doubles)}"
    assert not re.search(r"\b(expf?|tanhf?|erff?|logf?|log1pf?|expm1f?|fmaf?)@PLT|\$(expf?|tanhf?)\b", assembly)
    registers = {16: "xmm", 32: "ymm", 64: "zmm"}[fastnn.kernels.simd.VECTOR_BYTES]
    assert re.search(rf"ps\b.*%{registers}", assembly), "not vectorized"


def test_no_compile_after_the_first_call_of_a_dtype():
    """One compiled kernel serves every architecture, layout and writeability."""
    net = fastnn.MLP([3, 4, 2], seed=0)
    x = np.zeros((5, 3), np.float32)
    net.predict(x)
    kernel = kernels.inference.forward_planned
    before = len(kernel.signatures)
    frozen = x.copy()
    frozen.flags.writeable = False
    for sizes, samples in [([3, 9, 9, 1], x), ([3, 2], frozen), ([3, 1], np.asfortranarray(x)), ([3, 1], x[::2])]:
        fastnn.MLP(sizes, seed=0).predict(samples)
    assert len(kernel.signatures) == before
