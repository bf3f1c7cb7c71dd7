"""One module a library: `cases(work)` returns {variant: Case}, the ways in which it can do a row's work."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """call: does the work `units` times over; result: what `work.expected` gives, after `call` has run once."""

    call: Callable[[], object]
    result: Callable[[], np.ndarray]
    units: int = 1
