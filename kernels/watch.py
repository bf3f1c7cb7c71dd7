"""When launches are better left out: what is known of them, and the rules by which threads rest.

Times are in ns. The rules are plain functions of numbers, so that tests can tell them of machines that are not there.
"""

import os

import llvmlite.binding as llvm
import numpy as np

from .jit import plain

# What all launches of the process know. Compiled code finds it by name. Threads that write it at once may lose each
# other's word, which costs a look.
(
    REST_UNTIL,  # time until which threads rest
    REST_LEFT,  # launches that are still to be made without them, however long that takes
    REST,  # length of the last rest; 0 if threads have been worth their while since
    RESTS,  # number of rests
    REST_COUNT,  # pieces of work in the last rest; 0 once they have been compared
    REST_WALL,  # time that these took in all
    NEXT_LOOK,  # time of the next look at launches
    NEXT_TRIAL,  # earliest time of the next rest that is a trial
    COUNT,  # launches in this look
    WALL,  # time that these took in all
    ALONE,  # time that their parts would have taken one after the other
    WALL_BEFORE,  # time of a launch in the look before
    LOSS_UNTIL,  # a second large loss before this time,
    LOSS_LEFT,  # or within so many launches that are looked at, confirms the first
) = range(14)
STATE = np.zeros(14, np.int64)
STATE_NAME = "fastnn_launches"
llvm.add_symbol(STATE_NAME, STATE.ctypes.data)
NEVER = np.iinfo(np.int64).max
# For tests of what threads do, which should not depend on what else the machine does.
if os.environ.get("FASTNN_NEVER_REST") == "1":
    STATE[NEXT_LOOK] = NEVER

# A look is some of the system's time slices long. To time the parts of a launch takes 0.2 us: small launches pay for
# it a fifth of the time, launches as long as LARGE always.
LOOK, BETWEEN_LOOKS, LARGE = 8_000_000, 32_000_000, 100_000
SHORTEST_REST, LONGEST_REST, BETWEEN_TRIALS = 8_000_000, 128_000_000, 400_000_000
# Where one launch loses more than this, soon after another one or few launches later, that one is look enough. Beside
# busy processes turns are lost every few ms. A single one is no sign: a virtual machine's CPUs are taken away for some
# ms several times a second. With a rest of 8 ms after each, in which they took twice as long, products of 128 x 784 x
# 256 took 111 to 120 us on average, and take 109 to 116 (Zen 5).
LOST, SOON, FEW = 1_000_000, 50_000_000, 16
# Launches are small if a look sees so many of them.
SMALL = LOOK // LARGE
# Two threads that share a cache answer each other in 100 ns and less, those that do not in 400 (Zen 4).
FAR = 250


@plain
def note(state, now, wall, threads, busy, longest):
    """Add a launch to those that are being looked at; True if they are enough.

    Args:
        state: STATE.
        now: time of the monotonic clock.
        wall: how long it took.
        threads: how many it had.
        busy, longest: how long its parts took, in all and at most. The longest may be one that was interrupted.
    """
    alone = (busy - longest) * threads // (threads - 1)
    lost = alone + LOST < wall
    if lost:
        again = now < state[LOSS_UNTIL] or state[LOSS_LEFT] > 0
        state[LOSS_UNTIL], state[LOSS_LEFT] = now + SOON, FEW
        if not again:
            return False
        state[COUNT], state[WALL], state[ALONE] = 0, 0, 0
    else:
        state[LOSS_LEFT] = max(0, state[LOSS_LEFT] - 1)
    state[COUNT] += 1
    state[WALL] += wall
    state[ALONE] += alone
    return lost or state[WALL] >= LOOK


@plain
def look_soon(state, now):
    """Have the next launch looked at: the last one was large, or lost its turn."""
    if state[NEXT_LOOK] != NEVER:
        state[NEXT_LOOK] = now


@plain
def are_small(state):
    """Whether the launches that have been looked at were small: what threads say to each other may cost more then."""
    return state[COUNT] >= SMALL


@plain
def judge(state, now, answer):
    """End a look: rest, if one thread is better, or to try whether it is.

    certain     launches took three times as long as their parts one after the other: beside a busy process a thread
                alone would get half a core
    doubtful    they took longer than these parts, or are small while threads answer each other slowly
    trial       the shortest rest, if it is doubtful, there was none yet, and NEXT_TRIAL is over; the next look compares
                what one thread took

    While one thread is better, each rest is twice as long as the one before, in time and in launches.

    Where one of two parts takes six times as long as the other, as if it had lost its turn, one thread is taken for
    better too: it then takes a sixth more time at most. Small networks lose all turns to busy processes. Large ones
    lose theirs to a library of linear algebra in the same process too, whose threads keep their cores for 20 ms after a
    call.

    Being small is not enough to be doubtful: a trial of work that two threads do twice as fast costs 4 ms, so trials
    would have to be a second apart, too rare for work that lasts a second.

    Args:
        state: STATE.
        now: time of the monotonic clock.
        answer: how long a thread waits for another's answer; 0 if nobody knows.
    """
    wall = state[WALL] // max(1, state[COUNT])
    certain = 3 * state[ALONE] < state[WALL]
    doubtful = state[ALONE] < state[WALL] or (are_small(state) and answer > FAR)
    tried = state[REST_COUNT] > 0
    tries = doubtful and not tried and now >= state[NEXT_TRIAL]
    rests = tries or certain or (doubtful and tried and faster_alone(state, wall))
    if not doubtful:
        state[NEXT_TRIAL] = 0
    elif tried and not rests:
        state[NEXT_TRIAL] = now + BETWEEN_TRIALS
    state[REST] = min(max(2 * state[REST], SHORTEST_REST), LONGEST_REST) if rests else 0
    state[REST_COUNT], state[REST_WALL] = 0, 0
    if rests:
        state[REST_UNTIL], state[REST_LEFT] = now + state[REST], state[REST] // SHORTEST_REST
        state[RESTS] += 1
    state[NEXT_LOOK] = now if rests or wall >= LARGE else now + BETWEEN_LOOKS
    state[WALL_BEFORE] = wall
    state[COUNT], state[WALL], state[ALONE] = 0, 0, 0


@plain
def faster_alone(state, wall):
    """Whether launches took longer than the work without them, in this look, of so many ns each, and in that before."""
    return 10 * state[REST_WALL] < 9 * min(wall, state[WALL_BEFORE]) * state[REST_COUNT]
