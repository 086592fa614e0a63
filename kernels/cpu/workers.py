"""The threads beside the calling one, and how a parallel region is shared with them.

A region is cut into as many shares as there are threads. Every thread takes its own share first and then
those that nobody has begun: the share of a thread that another process keeps from its core does not wait for
it, and no thread is waited for that has not come. Which thread computes a share makes no difference to its
result.

A thread that waits looks for the next region for some microseconds, then it sleeps. If the system takes the
core from a thread, it should be between two regions rather than within a share, for which all others would
wait: a worker that has computed for `_TURN` offers its core to others at the end of a region.

Words of the pool (int64), on cache lines of their own:

    TICKET     the number of regions so far, shifted, and the shares of the newest one
    JOB        address of its descriptor (`JOB_...`)
    CPU        processor of the calling thread, which workers leave, see `nbdl.kernels.cpu.placement`
    SLEEPERS   how many workers sleep, or are about to
    BUSY       1 while a region runs
    SEMAPHORE  on which they sleep
    WAIT ...   addresses of functions of the C library
    RETIRED    1: the workers are to end
    PLACES     address of the words of `placement`; 0: the system places threads
    SHARES     for each share the number of the region whose share was taken last, and was done last
"""

from __future__ import annotations

from nbdl.kernels.cpu.atomics import (
    atomic_add,
    atomic_load,
    atomic_store,
    compare_exchange,
    exchange,
    relax,
)
from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import call_int64, call_kernel, load_int64, stack_int64, store_int64
from nbdl.kernels.cpu.placement import current_cpu, leave

LINE = 8
TICKET = 0
JOB = 1
CPU = 2
SLEEPERS = LINE
BUSY = 2 * LINE
SEMAPHORE = 3 * LINE  # sem_t of the C library has 32 bytes
WAIT = 4 * LINE
POST = WAIT + 1
YIELD = WAIT + 2
CLOCK_TIME = WAIT + 3
CLOCK = WAIT + 4  # which clock CLOCK_TIME is to read
RETIRED = WAIT + 5
PLACES = WAIT + 6
NAP = WAIT + 7
SHARES = 5 * LINE
TAKEN = 0
DONE = 1
# The descriptor of a region: what it runs, and into how many tasks the rows are cut.
JOB_KERNEL = 0
JOB_ARGUMENTS = 1
JOB_ROWS = 2
JOB_TASKS = 3
# A worker is given the address of these.
PLACE_POOL = 0
PLACE_SHARE = 1
PLACE_WORDS = 2

_SHARE_BITS = 16
_SPINS = 1000  # some 30 us: longer than what lies between the regions of a program
_YIELDS = 200  # some 100 us more
_NAP = 50_000  # nanoseconds
_TURN = 1_000_000  # nanoseconds, less than a turn of the system's scheduler


@subroutine
def run_tasks(job: int, first: int, last: int) -> None:
    """Runs tasks of a region: its kernel, each on its part of the rows."""
    kernel, arguments = load_int64(job, JOB_KERNEL), load_int64(job, JOB_ARGUMENTS)
    rows, tasks = load_int64(job, JOB_ROWS), load_int64(job, JOB_TASKS)
    for task in range(first, last):
        call_kernel(kernel, arguments, task * rows // tasks, (task + 1) * rows // tasks, task)


@subroutine
def _run_shares(pool: int, ticket: int, first: int) -> None:
    """Runs the shares of a region that nobody has taken, from `first` on and around.

    The ticket may be an old one: then all of its shares are taken, and the job is not looked at.
    """
    region, shares = ticket >> _SHARE_BITS, ticket & ((1 << _SHARE_BITS) - 1)
    for k in range(first, first + shares):
        share = k % shares
        words = pool + 8 * (SHARES + LINE * share)
        taken = atomic_load(words, TAKEN)
        if taken < region and compare_exchange(words, TAKEN, taken, region):
            job = load_int64(pool, JOB)
            tasks = load_int64(job, JOB_TASKS)
            run_tasks(job, share * tasks // shares, (share + 1) * tasks // shares)
            atomic_store(words, DONE, region)


@subroutine
def _time(pool: int) -> int:
    words = stack_int64(2)
    call_int64(load_int64(pool, CLOCK_TIME), (load_int64(pool, CLOCK), words))
    return 1_000_000_000 * load_int64(words, 0) + load_int64(words, 1)


def work(place: int) -> int:
    """What a worker runs: its shares of all regions until the pool retires."""
    pool, share = load_int64(place, PLACE_POOL), load_int64(place, PLACE_SHARE)
    seen, spins, turn = 0, 0, _time(pool)
    while not atomic_load(pool, RETIRED):
        ticket = atomic_load(pool, TICKET)
        if ticket != seen:
            seen, spins = ticket, 0
            leave(load_int64(pool, PLACES), load_int64(pool, CPU))
            _run_shares(pool, ticket, share)
            if _time(pool) - turn > _TURN:
                call_int64(load_int64(pool, YIELD), (0,))
                turn = _time(pool)
        elif spins < _SPINS:
            relax()
            spins += 1
        else:
            # Who counts itself will be woken, if not by this region, then at once by a later one.
            atomic_add(pool, SLEEPERS, 1)
            if atomic_load(pool, TICKET) == seen and not atomic_load(pool, RETIRED):
                call_int64(load_int64(pool, WAIT), (pool + 8 * SEMAPHORE,))
                spins, turn = 0, _time(pool)
    return 0


@subroutine
def wake(pool: int, count: int) -> None:
    """Wakes so many of the workers that sleep."""
    if atomic_load(pool, SLEEPERS) == 0:
        return
    sleepers = exchange(pool, SLEEPERS, 0)
    for _ in range(min(sleepers, count)):
        call_int64(load_int64(pool, POST), (pool + 8 * SEMAPHORE,))
    if sleepers > count:
        atomic_add(pool, SLEEPERS, sleepers - count)


@subroutine
def _nap(pool: int) -> None:
    """Sleeps: the worker has lost its core, and waiting awake would use up what the system grants us."""
    words = stack_int64(2)
    store_int64(words, 0, 0)
    store_int64(words, 1, _NAP)
    call_int64(load_int64(pool, NAP), (words, 0))


@subroutine
def run_shared(pool: int, job: int, shares: int) -> None:
    """Runs a region with the workers; it is over when this returns. Within another region, in this thread."""
    if exchange(pool, BUSY, 1):
        run_tasks(job, 0, load_int64(job, JOB_TASKS))
        return
    region = (load_int64(pool, TICKET) >> _SHARE_BITS) + 1
    ticket = region << _SHARE_BITS | shares
    store_int64(pool, JOB, job)
    store_int64(pool, CPU, current_cpu(load_int64(pool, PLACES)))
    atomic_store(pool, TICKET, ticket)
    wake(pool, shares - 1)
    _run_shares(pool, ticket, 0)
    for share in range(shares):
        words, spins = pool + 8 * (SHARES + LINE * share), 0
        while atomic_load(words, DONE) != region:
            spins += 1
            if spins < _SPINS:
                relax()
            elif spins < _SPINS + _YIELDS:
                call_int64(load_int64(pool, YIELD), (0,))  # the worker may want this core
            else:
                _nap(pool)
    atomic_store(pool, BUSY, 0)


def retire(pool: int) -> int:
    """Has all workers end."""
    atomic_store(pool, RETIRED, 1)
    wake(pool, 1 << _SHARE_BITS)
    return 0
