"""The functions that are polynomials of intervals, in float32: where one interval, or the table, ends."""

import importlib.util
import pathlib

import numpy as np
import pytest

from fastnn import accuracy
from fastnn.kernels import normal, sigmoids, tables
from fastnn.kernels.codes import Activation

spec = importlib.util.spec_from_file_location(
    "fit_tables", pathlib.Path(__file__).parent.parent / "tools" / "fit_tables.py"
)
fit_tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fit_tables)

EDGES = {name: edges for name, _, _, edges, *_ in fit_tables.TABLES}
# Where the first 16 intervals are left for the whole table.
COMMON_ENDS = {"SIGMOID": sigmoids.COMMON_END, "NORMAL_CDF": normal.COMMON_END}
# The activations of each table, and where it is left.
USES = {
    "SIGMOID": (("SIGMOID", "SILU"), sigmoids.SIGMOID_END),
    "TANH": (("TANH",), sigmoids.TANH_END),
    "NORMAL_CDF": (("GELU",), normal.TABLE_END),
    "GELU_TANH": (("GELU_TANH",), sigmoids.GELU_TANH_END),
}
NEAR = 3000  # numbers on either side


def around(value):
    """Patterns of the float32 numbers around a positive one."""
    middle = int(np.float32(value).view(np.uint32))
    return np.arange(middle - NEAR, middle + NEAR + 1, dtype=np.uint32)


@pytest.mark.parametrize("name", USES)
def test_no_seam_where_intervals_meet_and_where_the_table_ends(name):
    activations, end = USES[name]
    for activation in activations:
        code = Activation[activation]
        for edge in [*EDGES[name][1:], end, COMMON_ENDS.get(name, end)]:
            for sign in (0, 1 << 31):
                findings = accuracy._sweep_part(code, around(edge) + np.uint32(sign))
                assert findings.passed(), (activation, edge, sign, findings.value, findings.failures)


@pytest.mark.parametrize("name", USES)
def test_a_table_is_left_before_it_ends(name):
    assert EDGES[name][-1] * 0.995 < USES[name][1] < EDGES[name][-1]
    assert len(EDGES[name]) == (33 if name in COMMON_ENDS else 17)
    if name in COMMON_ENDS:
        assert EDGES[name][16] * 0.995 < COMMON_ENDS[name] < EDGES[name][16]


@pytest.mark.parametrize("name", USES)
def test_every_centre_lies_in_its_interval_and_has_the_functions_value(name):
    function = next(f for table, _, f, *_ in fit_tables.TABLES if table == name)
    centres, values = np.float32(getattr(tables, name)[:2]).astype(float)
    for centre, value, low, high in zip(centres, values, EDGES[name][:-1], EDGES[name][1:], strict=True):
        assert low <= centre < high
        # Centres are chosen so that this is much better than a float32 number is elsewhere; where tanh is nearly 1 it
        # does not change enough for a choice.
        assert value == pytest.approx(float(function(centre)), rel=2**-29 if value < 0.999 else 2**-25)
