"""Keeps a thread that helps another one off that one's processor.

Linux wakes a thread where it ran last or where its waker runs, and looks for an idle processor only if there
were some lately. After another program has had both of two cores for a moment, two threads that take turns at
sleeping can share one of them for seconds while the other idles: every parallel region then takes as long as
in one thread, and the switches on top of it.
"""

from __future__ import annotations

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import call_int64, load_int64, stack_int64, store_int64

# The words behind the address `places`: functions of the C library; when a thread was moved last, or NEVER.
PLACES_GETCPU = 0
PLACES_GETAFFINITY = 1
PLACES_SETAFFINITY = 2
PLACES_CLOCK = 3
PLACES_MOVED = 4
NEVER = -1
FUNCTIONS = ("sched_getcpu", "sched_getaffinity", "sched_setaffinity", "clock_gettime")

MASK_WORDS = 16  # of a set of processors, as the C library has it: 1024 of them
COARSE_CLOCK = 6  # CLOCK_MONOTONIC_COARSE, which moves with the scheduler's ticks and costs two loads
_INT32 = 0xFFFFFFFF  # what is meant of the word in which a C function returns an int


@subroutine
def current_cpu(places: int) -> int:
    """The processor that runs this thread; -1 where the system does not tell (`places` is 0)."""
    return call_int64(load_int64(places, PLACES_GETCPU), ()) & _INT32 if places else -1


@subroutine
def leave(places: int, cpu: int) -> bool:
    """Moves this thread to another processor if it is on `cpu`; whether it was told to go.

    At most one thread goes in a tick of the scheduler: if the system puts it here again at once, other
    programs are busy elsewhere. The thread may come back: what it is allowed is as before.
    """
    if cpu < 0 or current_cpu(places) != cpu:
        return False
    time = stack_int64(2)
    call_int64(load_int64(places, PLACES_CLOCK), (COARSE_CLOCK, time))
    now = load_int64(time, 0) * 1_000_000_000 + load_int64(time, 1)
    if load_int64(places, PLACES_MOVED) == now:
        return False
    store_int64(places, PLACES_MOVED, now)
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
    return True
