"""Every kernel of the catalog at its own size: time, throughput, and error against the reference."""

import numpy as np

from fastnn import kernels
from fastnn.check import compare, throughput
from fastnn.kernels.catalog import CATALOG

from .common import DTYPES, peak

ROWS = {row.name: row for row in CATALOG}


class Kernels:
    """Bytes or floating-point operations are the catalog's."""

    params = (list(ROWS), DTYPES)
    param_names = ("kernel", "dtype")
    timeout = 300
    warmup_time = 0.05
    version = "1"

    def setup(self, name, dtype):
        self.row, self.dtype = ROWS[name], np.dtype(dtype).type
        self.arguments = tuple(self.row.inputs(self.row.timed, self.dtype, np.random.default_rng(0)).values())
        self.kernel = getattr(kernels, name)
        self.kernel(*self.arguments)

    def time_call(self, name, dtype):
        self.kernel(*self.arguments)

    def track_throughput(self, name, dtype):
        return throughput(self.row, self.dtype, np.random.default_rng(0))

    track_throughput.unit = "GFLOP/s or GB/s"

    def track_error(self, name, dtype):
        rng = np.random.default_rng(0)
        return max(compare(self.row, self.row.inputs(shape, self.dtype, rng)) for shape in self.row.shapes[-3:])

    track_error.unit = "share of tolerance"


class Products:
    """The matrix products as a share of the FMA peak of all threads."""

    params = ([name for name, row in ROWS.items() if row.unit == "GFLOP/s"], DTYPES)
    param_names = ("kernel", "dtype")
    timeout = 300
    version = "1"

    def setup(self, name, dtype):
        throughput(ROWS[name], np.dtype(dtype).type, np.random.default_rng(0))
        peak(dtype)

    def track_share_of_peak(self, name, dtype):
        import fastnn

        speed = throughput(ROWS[name], np.dtype(dtype).type, np.random.default_rng(0))
        return 100 * speed / (peak(dtype) * fastnn.get_num_threads())

    track_share_of_peak.unit = "%"
