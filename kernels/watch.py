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
    REST_UNTIL,  # threads rest until then,
    REST_LEFT,  # and while there are launches left to be made without them
    REST,  # how long the last rest was; 0 if launches have been well since
    RESTS,  # how many there were
    REST_COUNT,  # how often there was work in the last rest,
    REST_WALL,  # and how long it took in all
    NEXT_LOOK,  # when to look at launches again
    TRIAL_AFTER,  # so many looks at doubtful work have to pass before the next trial
    BEGIN,  # of the launches that are being looked at: when the first began,
    COUNT,  # how many there were,
    WALL,  # how long they took in all,
    ALONE,  # and how long their parts would have taken one after the other
    WALL_BEFORE,  # how long a launch took in the look before
) = range(13)
STATE = np.zeros(13, np.int64)
STATE_NAME = "fastnn_launches"
llvm.add_symbol(STATE_NAME, STATE.ctypes.data)
NEVER = np.iinfo(np.int64).max
# For tests of what threads do, which should not depend on what else the machine does.
if os.environ.get("FASTNN_NEVER_REST") == "1":
    STATE[NEXT_LOOK] = NEVER

# A look is some of the system's time slices long. To time the parts of a launch takes 0.2 us: small launches pay for
# it a fifth of the time, launches as long as LARGE always.
LOOK, BETWEEN_LOOKS, LARGE = 8_000_000, 32_000_000, 100_000
SHORTEST_REST, LONGEST_REST = 8_000_000, 128_000_000
# Where one launch loses more than this, that one is look enough.
LOST = 1_000_000
# Launches are small if a look sees so many of them. 10 looks are 0.4 s of work.
SMALL, LOOKS_BETWEEN_TRIALS = 32, 10
# Two threads that share a cache answer each other in 100 ns and less, those that do not in 400 (Zen 4).
FAR = 250


@plain
def note(state, wall, threads, busy, longest):
    """Add a launch to those that are being looked at; True if they are enough.

    Args:
        state: STATE.
        wall: how long it took.
        threads: how many it had.
        busy, longest: how long its parts took, in all and at most. The longest may be one that was interrupted.
    """
    alone = (busy - longest) * threads // (threads - 1)
    lost = 3 * alone + LOST < wall
    if lost:
        state[COUNT], state[WALL], state[ALONE] = 0, 0, 0
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
    """End a look: rest, where one thread is better, or to try whether it is.

    Rests last twice as long from one to the next, in time and in launches, until threads have been worth their while.

    A trial is the shortest of rests. It is made where there is reason to doubt: where threads answer each other slowly,
    or launches took as long as their parts one after the other. Small work alone is no reason: each trial of work that
    two threads do twice as fast costs 4 ms, so that a second went by between trials, too long for what lasts a second.

    Args:
        state: STATE.
        now: time of the monotonic clock.
        answer: how long a thread waits for another's answer; 0 if nobody knows.
    """
    wall = state[WALL] // max(1, state[COUNT])
    # Of the same work, as far as anybody can tell: launches have followed the last rest at once.
    tried = state[REST_COUNT] >= SMALL and state[BEGIN] - state[REST_UNTIL] < LOOK
    better = lost_turns(state) or (tried and faster_alone(state, wall))
    doubtful = are_small(state) and (answer > FAR or state[ALONE] < state[WALL])
    tries = doubtful and not better and not tried and state[TRIAL_AFTER] == 0
    if not doubtful:
        state[TRIAL_AFTER] = 0
    elif tried and not better:
        state[TRIAL_AFTER] = LOOKS_BETWEEN_TRIALS
    else:
        state[TRIAL_AFTER] = max(0, state[TRIAL_AFTER] - 1)
    state[REST] = min(max(2 * state[REST], SHORTEST_REST), LONGEST_REST) if better else SHORTEST_REST if tries else 0
    if state[REST] > 0:
        state[REST_UNTIL], state[REST_LEFT] = now + state[REST], state[REST] // SHORTEST_REST
        state[REST_COUNT], state[REST_WALL] = 0, 0
        state[RESTS] += 1
    state[NEXT_LOOK] = now if state[REST] > 0 or wall >= LARGE else now + BETWEEN_LOOKS
    state[WALL_BEFORE] = wall
    state[COUNT], state[WALL], state[ALONE] = 0, 0, 0


@plain
def lost_turns(state):
    """Whether threads have been less than a third as fast as one that nobody interrupts.

    Beside a busy process a thread alone would get half a core. Turns that are lost now and then are worth it, for more
    threads get more of the cores. Small networks lose all turns; and large ones lose theirs to a library of linear
    algebra in the same process, whose threads keep their cores for 20 ms after a call. Where one of two parts is a
    sixth of the other or less one thread is taken for better too, which then is a sixth slower at most.
    """
    return 3 * state[ALONE] < state[WALL]


@plain
def faster_alone(state, wall):
    """Whether launches took longer than the work without them, in this look, of so many ns each, and in that before."""
    return 10 * state[REST_WALL] < 9 * min(wall, state[WALL_BEFORE]) * state[REST_COUNT]
