"""Every kernel of the catalog at its own size: time, speed, and error against the reference."""

import numpy as np

import fastnn
from fastnn import kernels
from fastnn.check import compare, throughput
from fastnn.kernels.catalog import CATALOG

from .common import DTYPES, peak

ROWS = {row.name: row for row in CATALOG}


def of_unit(unit):
    return [name for name, row in ROWS.items() if row.unit == unit]


def speed(name, dtype):
    return throughput(ROWS[name], np.dtype(dtype).type, np.random.default_rng(0))


class Kernels:
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

    def track_error(self, name, dtype):
        rng = np.random.default_rng(0)
        shares = [compare(self.row, self.row.inputs(shape, self.dtype, rng)) for shape in self.row.shapes[-3:]]
        return max(max(share.values()) for share in shares)

    time_call.pretty_name = "time of a call"
    track_error.unit = "of tolerance"
    track_error.pretty_name = "worst error"


class Bandwidth:
    """The elementwise kernels: bytes read and written, by the catalog's count."""

    params = (of_unit("GB/s"), DTYPES)
    param_names = ("kernel", "dtype")
    timeout = 300
    version = "1"

    def setup(self, name, dtype):
        speed(name, dtype)

    def track_bandwidth(self, name, dtype):
        return speed(name, dtype)

    track_bandwidth.unit = "GB/s"
    track_bandwidth.pretty_name = "bandwidth (more is better)"


class Products:
    """The matrix products and what is made of them: floating-point operations, and their share of the FMA peak."""

    params = (of_unit("GFLOP/s"), DTYPES)
    param_names = ("kernel", "dtype")
    timeout = 300
    version = "2"

    def setup(self, name, dtype):
        speed(name, dtype)
        peak(dtype)

    def track_speed(self, name, dtype):
        return speed(name, dtype)

    def track_share_of_peak(self, name, dtype):
        return 100 * speed(name, dtype) / (peak(dtype) * fastnn.get_num_threads())

    track_speed.unit = "GFLOP/s"
    track_speed.pretty_name = "speed (more is better)"
    track_share_of_peak.unit = "%"
    track_share_of_peak.pretty_name = "share of all threads' peak (more is better)"
