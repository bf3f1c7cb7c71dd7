"""Benchmarks for airspeed velocity; see CONTRIBUTING for how to track a change.

FASTNN_BENCH=full widens the small default grid.
"""

import os

FULL = os.environ.get("FASTNN_BENCH") == "full"
