"""How many threads a call may use: decided in Python before each launch, because a wrong launch can abort the process.

- A forked child must not launch: GNU OpenMP, once used by the parent, aborts the child at its first parallel region.
- The workqueue layer aborts on concurrent entry, so only the main thread launches on it.
- Container quotas are not in the affinity mask from which Numba takes its default: they are read here.
- Numba's default counts a core that runs two threads at a time as two. They share its arithmetic units, which kernels
  keep busy with one thread. Unless the user asks for more, there is one for each core that the system tells of.

Nothing here launches threads at import or changes Numba's settings.
"""

import contextlib
import functools
import math
import os
import pathlib
import threading

import numba
from numba.np.ufunc import parallel

from .region import find_openmp, forget_openmp
from .whole_numbers import as_int

# Where Linux tells the groups of processes with their quotas, and which of them this one is in.
CGROUPS, MEMBERSHIP = pathlib.Path("/sys/fs/cgroup"), pathlib.Path("/proc/self/cgroup")
# Where it tells of each CPU which ones are on the same core.
CPUS = pathlib.Path("/sys/devices/system/cpu")

_limit = None
_forked = False
_prepared = False
# What all limits but numba.set_num_threads come to, if any thread may launch; 0 is not known.
_most = 0
_main_thread = threading.main_thread().ident


def _after_fork():
    global _forked, _most
    _forked, _most = True, 1
    forget_openmp()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _read_numbers(path):
    try:
        return [float(word) for word in path.read_text().split() if word != "max"]
    except (OSError, ValueError):
        return []


def _with_those_above(root, path):
    """The folder of a cgroup and of each that it lies in, up to the hierarchy's root.

    A container may see its own cgroup as the root, and yet be told the path that the host has for it: folders that are
    not there hold no numbers. A path that leads out of the root is that of a process which was moved there.
    """
    names = [name for name in path.split("/") if name]
    if ".." in names:
        names = []
    return [root.joinpath(*names[:count]) for count in range(len(names) + 1)]


def _quotas():
    """[CPU time, period] of each cgroup with a quota that this process is in, of both versions of cgroups."""
    paths = {"": "", "cpu": ""}
    with contextlib.suppress(OSError, ValueError):
        for line in MEMBERSHIP.read_text().splitlines():
            # number:controllers:path; version 2 names no controllers.
            _, controllers, path = line.split(":", 2)
            paths.update(dict.fromkeys(paths.keys() & set(controllers.split(",")), path))
    for folder in _with_those_above(CGROUPS, paths[""]):
        yield _read_numbers(folder / "cpu.max")
    for folder in _with_those_above(CGROUPS / "cpu", paths["cpu"]):
        yield _read_numbers(folder / "cpu.cfs_quota_us") + _read_numbers(folder / "cpu.cfs_period_us")


@functools.cache
def container_quota():
    """CPUs that the CPU quotas of the process's cgroups allow, rounded up; None if there is no quota."""
    allowed = [quota[0] / quota[1] for quota in _quotas() if len(quota) == 2 and min(quota) > 0]
    return max(1, math.ceil(min(allowed))) if allowed else None


@functools.cache
def physical_cores():
    """Cores of the CPUs that this process may run on; None where the system does not tell."""
    try:
        paths = [CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list" for cpu in os.sched_getaffinity(0)]
        return len({path.read_text() for path in paths})
    except (AttributeError, OSError, ValueError):
        return None


@functools.cache
def default_limit():
    """The most threads where nobody has asked for a number of them; None is as many as Numba has."""
    return None if "NUMBA_NUM_THREADS" in os.environ else physical_cores()


@functools.cache
def _launch_is_thread_safe():
    parallel._launch_threads()
    return numba.threading_layer() != "workqueue"


def _numba_threads():
    """numba.get_num_threads(), which takes the lock of processes at every call, a microsecond, only for the first."""
    try:
        return parallel._get_num_threads()
    except AttributeError:
        return numba.get_num_threads()


def _prepare_launch():
    global _prepared
    parallel._launch_threads()
    find_openmp()
    _prepared = True


def _find_most():
    """Set `_most`, behind a launch."""
    global _most
    if not _forked and _launch_is_thread_safe():
        own = _limit
        limits = parallel.NUM_THREADS, container_quota(), default_limit() if own is None else own
        _most = min(limit for limit in limits if limit is not None)
        if _limit is not own:
            # Another thread has set it meanwhile.
            _most = 0


def set_num_threads(count: int | None) -> None:
    """Let later calls use at most `count` threads; None returns to the default, one for each core.

    Args:
        count: a whole number of at least 1, or None. More than Numba's thread pool holds is cut to that.

    Raises:
        ValueError: count is below 1.
        TypeError: count is not a whole number.

    >>> import fastnn
    >>> fastnn.set_num_threads(1)
    >>> fastnn.get_num_threads()
    1
    >>> fastnn.set_num_threads(None)
    """
    global _limit, _most
    if count is not None:
        number = as_int(count)
        if number is None:
            raise TypeError(f"count: expected a whole number or None, got {count!r:.200}")
        count = number
        if count < 1:
            # Python refuses to print whole numbers of thousands of digits.
            raise ValueError(f"count: expected at least 1, got {max(count, -(2**63))}")
    _limit = count
    if not _forked:
        _most = 0


def get_num_threads() -> int:
    """The number of threads that a large enough call would use now: 1 wherever a launch would not be safe.

    >>> import fastnn
    >>> fastnn.get_num_threads() >= 1
    True
    """
    if _forked:
        return 1
    count = _numba_threads()
    # Asked before every launch: comparisons take half the time of min().
    quota = container_quota()
    if quota is not None and quota < count:
        count = quota
    limit = default_limit() if _limit is None else _limit
    if limit is not None and limit < count:
        count = limit
    if count > 1 and threading.get_ident() != _main_thread and not _launch_is_thread_safe():
        return 1
    return count


def threads_for(work, grain):
    """Threads for `work` units of which each thread should have at least `grain`, ready to be launched."""
    if work < 2 * grain:
        return 1
    count = get_num_threads()
    if count == 1:
        return 1
    if not _prepared:
        _prepare_launch()
    return count if count * grain <= work else work // grain


def threads_allowed(work, grain):
    """`threads_for` without asking for numba.set_num_threads, to which regions keep anyway: 0.05 us, not 0.25."""
    if work < 2 * grain:
        return 1
    if _most == 0:
        threads = threads_for(work, grain)
        if _prepared:
            _find_most()
        return threads
    return _most if _most * grain <= work else work // grain
