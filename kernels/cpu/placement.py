"""Keeps a thread that helps another one off that one's processor.

Linux wakes a thread where it ran last or where its waker runs, and looks for an idle processor only if there
were some lately. After another program has had both of two cores for a moment, two threads that take turns at
sleeping can share one of them for seconds while the other idles: every parallel region then takes as long as
in one thread, and the switches on top of it.

Where other programs keep the processors busy, the system does well to leave both threads on one: elsewhere
the helper waits for its turn while the other waits for it. So a helper that came late pauses this.
"""

from __future__ import annotations

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import call_int64, load_int64, stack_int64, store_int64

# The words behind the address `places`: functions of the C library, then times in nanoseconds.
PLACES_GETCPU = 0
PLACES_GETAFFINITY = 1
PLACES_SETAFFINITY = 2
PLACES_CLOCK = 3
PLACES_PAUSED_UNTIL = 4
PLACES_PAUSE = 5  # the last one's length
PLACES_WORDS = 6
FUNCTIONS = ("sched_getcpu", "sched_getaffinity", "sched_setaffinity", "clock_gettime")

MASK_WORDS = 16  # of a set of processors, as the C library has it: 1024 of them
LATE = 1_000_000  # more than a thread needs to wake on an idle processor
SHORTEST_PAUSE = 4_000_000  # about a tick of the scheduler
LONGEST_PAUSE = 16_000_000_000
_MONOTONIC = 1  # the clock
_INT32 = 0xFFFFFFFF  # what is meant of the word in which a C function returns an int


@subroutine
def current_cpu(places: int) -> int:
    """The processor that runs this thread."""
    return call_int64(load_int64(places, PLACES_GETCPU), ()) & _INT32


@subroutine
def current_time(places: int) -> int:
    """In nanoseconds, since some day."""
    time = stack_int64(2)
    call_int64(load_int64(places, PLACES_CLOCK), (_MONOTONIC, time))
    return load_int64(time, 0) * 1_000_000_000 + load_int64(time, 1)


@subroutine
def _pause(places: int, now: int) -> None:
    """Others are busy: no thread is moved for a while, for longer where this has just been found."""
    until, last = load_int64(places, PLACES_PAUSED_UNTIL), load_int64(places, PLACES_PAUSE)
    if now < until:
        return
    pause = min(2 * last, LONGEST_PAUSE) if now < until + last else 2 * SHORTEST_PAUSE
    store_int64(places, PLACES_PAUSE, pause)
    store_int64(places, PLACES_PAUSED_UNTIL, now + pause)


@subroutine
def leave(places: int, cpu: int, called: int) -> bool:
    """Moves this thread to another processor if it is on `cpu`; whether it was told to go.

    The thread may come back: what it is allowed is as before.

    Args:
        places: address of the words.
        cpu: the processor of the thread that it helps.
        called: when it was called for help.
    """
    now = current_time(places)
    if current_cpu(places) != cpu:
        if now > called + LATE:
            _pause(places, now)
        return False
    if now < load_int64(places, PLACES_PAUSED_UNTIL):
        return False
    allowed, others = stack_int64(MASK_WORDS), stack_int64(MASK_WORDS)
    if call_int64(load_int64(places, PLACES_GETAFFINITY), (0, 8 * MASK_WORDS, allowed)) & _INT32:
        return False
    for k in range(MASK_WORDS):
        store_int64(others, k, load_int64(allowed, k))
    store_int64(others, cpu >> 6, load_int64(others, cpu >> 6) & ~(1 << (cpu & 63)))
    set_affinity = load_int64(places, PLACES_SETAFFINITY)
    if call_int64(set_affinity, (0, 8 * MASK_WORDS, others)) & _INT32:
        return False  # it may run nowhere else
    call_int64(set_affinity, (0, 8 * MASK_WORDS, allowed))
    arrived = current_time(places)
    if arrived > now + LATE:
        _pause(places, arrived)
    else:
        store_int64(places, PLACES_PAUSED_UNTIL, arrived + SHORTEST_PAUSE)
    return True
