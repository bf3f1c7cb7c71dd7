"""What the commands in asv_bench/ measure the machine with."""

import pathlib
import sys

import numpy as np
import pytest

sys.path.append(str(pathlib.Path(__file__).parent.parent / "asv_bench"))
import peak


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_micro_kernel_stays_below_the_peak(dtype):
    """It would compute less than it says otherwise; `tile_gflops` looks at the result itself."""
    tile = peak.tile_gflops(dtype, rounds=2000)
    assert 0 < tile < 1.3 * max(peak.peak_gflops(dtype, rounds=100_000) for _ in range(5))
