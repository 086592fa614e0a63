"""The entry points of the runtime: find the plan of a call, launch it, split it over threads.

These functions are not called with Python arguments by a compiled wrapper: they *are* the C functions of
builtins (`METH_FASTCALL`, see `nbdl.backend.numba.native`) and read the objects themselves. All words are
int64:

* `args`: address of the `nargs` object pointers of the call;
* `state`: one array per process (constants `STATE_...`): addresses of the C API and of the thread pool;
* block: the argument block of a plan behind a header (`HEADER_...`);
* table: the plans of one operation (`TABLE_...`), each three words: the plan object, the addresses of its
  signature and of its block, the latter 0 if it has none;
* signature: number of operands, then of each: dtype pointer, number of axes, alignment, shape, strides.

* specs: of each output: dtype pointer, number of axes, shape, strides.

They run with the interpreter lock held, so a block or a table is never used by two calls at once. Whatever
they do not expect is left to Python code, which raises the proper exception.
"""

from __future__ import annotations

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import (
    call_int64,
    call_kernel,
    load_int32,
    load_int64,
    stack_int64,
    store_int64,
)
from nbdl.kernels.cpu.workers import (
    JOB_ARGUMENTS,
    JOB_KERNEL,
    JOB_ROWS,
    JOB_TASKS,
    run_shared,
    run_tasks,
)

# PyArrayObject on 64-bit CPython, in words of 8 bytes; the number of axes and the flags are words of 4 bytes.
OBJECT_TYPE = 1
ARRAY_DATA = 2
ARRAY_NDIM_INT32 = 6
ARRAY_SHAPE = 4
ARRAY_STRIDES = 5
ARRAY_DTYPE = 7
ARRAY_FLAGS_INT32 = 16
FLAG_ALIGNED = 0x0100
FLAG_WRITEABLE = 0x0400
# Tuples hold their items behind these words, lists hold the address of their items there.
SEQUENCE_LENGTH = 2
SEQUENCE_ITEMS = 3

HEADER_KERNEL = 0
HEADER_ROWS = 1
HEADER_TASKS = 2
HEADER_OPERANDS = 3
HEADER_OUTPUTS = 4  # the last operands, which must be writeable
HEADER_ALLOCATE = 5  # Python function that allocates the outputs; 0: they are small, as the specs say
HEADER_SPECS = 6  # address of the specs
HEADER_MAGIC = 7
HEADER_WORDS = 8  # one cache line
MAGIC = 0x6E62646C706C616E

TABLE_STATE = 0
TABLE_COUNT = 1
TABLE_LAST = 2  # index of the plan found last, where the next search begins
TABLE_POSITIONS = 3  # address of: number of outputs, position of the operand that each output overwrites
TABLE_PLANS = 4
TABLE_PLAN_WORDS = 3
MAX_ROW = 32  # operands and outputs of a row of `run_rows`

STATE_NDARRAY = 0
STATE_NONE = 1
STATE_INCREF = 2
STATE_DECREF = 3
STATE_TUPLE_NEW = 4
STATE_TUPLE_SET = 5
STATE_OBJECT_CALL = 6
STATE_LAUNCH = 7  # Python function that takes over
STATE_NEW_ARRAY = 8  # PyArray_NewFromDescr
STATE_PARALLEL_FOR = 9  # the entry of Numba's thread pool, where that is used
STATE_REGION = 10  # address of `region`
STATE_THREADS = 11
STATE_GET_NUM_THREADS = 12  # Numba's thread count of the calling thread, which the pool overwrites
STATE_SET_NUM_THREADS = 13
STATE_FAILED = 14  # a kernel met an index out of range: it sets this word to 1, as it cannot raise
STATE_FAILURE = 15  # Python function that raises then
STATE_CALL = 16  # PyObject_CallNoArgs
STATE_NEW_INT = 17  # PyLong_FromLongLong
STATE_LIST = 18
STATE_TUPLE = 19
STATE_WORKERS = 20  # address of the words of our thread pool; without any pool tasks run one after the other
STATE_RUN_REGION = 21  # address of `run_region`
STATE_WORDS = 22


# ---- Splitting over threads ----


def region(args: int, dimensions: int, steps: int, descriptor: int) -> None:
    """What a thread of the pool runs: the inner loop that Numba's `parallel_for` expects of a ufunc.

    The pool is given one operand at address 0 with a stride of 1 byte, so `args` leads to the index of the
    first task and `dimensions` to the number of tasks.
    """
    first = load_int64(args, 0)
    run_tasks(descriptor, first, first + load_int64(dimensions, 0))


def run_region(state: int, kernel: int, arguments: int, rows: int, tasks: int) -> int:
    """Runs a kernel on its argument block, `[0, rows)` split evenly over `tasks`; returns 0.

    It is compiled once: whatever else is compiled calls it by its address, see `split`.
    """
    words = stack_int64(8)
    job, args, dimensions, steps = words, words + 32, words + 40, words + 48
    store_int64(job, JOB_KERNEL, kernel)
    store_int64(job, JOB_ARGUMENTS, arguments)
    store_int64(job, JOB_ROWS, rows)
    store_int64(job, JOB_TASKS, max(tasks, 1))
    threads = min(tasks, load_int64(state, STATE_THREADS))
    pool, parallel_for = load_int64(state, STATE_WORKERS), load_int64(state, STATE_PARALLEL_FOR)
    if threads <= 1 or (pool == 0 and parallel_for == 0):
        run_tasks(job, 0, load_int64(job, JOB_TASKS))
    elif pool != 0:
        run_shared(pool, job, threads)
    else:
        store_int64(args, 0, 0)
        store_int64(dimensions, 0, tasks)
        store_int64(steps, 0, 1)
        users_threads = call_int64(load_int64(state, STATE_GET_NUM_THREADS), (0,))
        entry = load_int64(state, STATE_REGION)
        call_int64(parallel_for, (entry, args, dimensions, steps, job, 0, 1, threads))
        call_int64(load_int64(state, STATE_SET_NUM_THREADS), (users_threads,))
    return 0


@subroutine
def split(state: int, kernel: int, arguments: int, rows: int, tasks: int) -> None:
    """Runs a kernel, in a parallel region if it has more than one task."""
    if tasks <= 1:
        call_kernel(kernel, arguments, 0, rows, 0)
    else:
        call_int64(load_int64(state, STATE_RUN_REGION), (state, kernel, arguments, rows, tasks))


@subroutine
def run_block(state: int, block: int) -> None:
    """Runs the plan of a block whose data addresses are set."""
    rows, tasks = load_int64(block, HEADER_ROWS), load_int64(block, HEADER_TASKS)
    split(state, load_int64(block, HEADER_KERNEL), block + 8 * HEADER_WORDS, rows, tasks)


def run(state: int, block: int, unused_1: int, unused_2: int) -> None:
    """`run_block` as an entry with a kernel's signature, for callers in Python."""
    run_block(state, block)


# ---- Builtins ----


@subroutine
def is_array(state: int, item: int) -> bool:
    """Whether an object is exactly a numpy.ndarray."""
    return load_int64(item, OBJECT_TYPE) == load_int64(state, STATE_NDARRAY)


@subroutine
def _is_writeable(array: int) -> bool:
    return load_int32(array, ARRAY_FLAGS_INT32) & FLAG_WRITEABLE != 0


@subroutine
def new_reference(state: int, item: int) -> int:
    """The object, with one more reference."""
    call_int64(load_int64(state, STATE_INCREF), (item,))
    return item


@subroutine
def call_python(state: int, function: int, args: int, nargs: int) -> int:
    """Calls a Python function with these arguments; a new reference to its result, 0 after an exception."""
    arguments = call_int64(load_int64(state, STATE_TUPLE_NEW), (nargs,))
    if arguments == 0:
        return 0
    for i in range(nargs):
        item = new_reference(state, load_int64(args, i))
        call_int64(load_int64(state, STATE_TUPLE_SET), (arguments, i, item))
    result = call_int64(load_int64(state, STATE_OBJECT_CALL), (load_int64(state, function), arguments, 0))
    call_int64(load_int64(state, STATE_DECREF), (arguments,))
    return result


@subroutine
def _matches(state: int, signature: int, args: int, nargs: int) -> bool:
    if load_int64(signature, 0) != nargs:
        return False
    word = signature + 8
    for i in range(nargs):
        array = load_int64(args, i)
        if not is_array(state, array) or load_int64(array, ARRAY_DTYPE) != load_int64(word, 0):
            return False
        ndim = load_int32(array, ARRAY_NDIM_INT32)
        if ndim != load_int64(word, 1):
            return False
        if load_int32(array, ARRAY_FLAGS_INT32) & FLAG_ALIGNED != load_int64(word, 2):
            return False
        shape, strides = load_int64(array, ARRAY_SHAPE), load_int64(array, ARRAY_STRIDES)
        word += 24
        for axis in range(ndim):
            if load_int64(shape, axis) != load_int64(word, axis):
                return False
            if load_int64(strides, axis) != load_int64(word, ndim + axis):
                return False
        word += 16 * ndim
    return True


@subroutine
def _search(table: int, args: int, nargs: int) -> int:
    """Address of the table's words for the plan of these operands, 0 if there is none."""
    state, count = load_int64(table, TABLE_STATE), load_int64(table, TABLE_COUNT)
    k = load_int64(table, TABLE_LAST)
    for _ in range(count):
        if k >= count:
            k = 0
        entry = table + 8 * (TABLE_PLANS + TABLE_PLAN_WORDS * k)
        if _matches(state, load_int64(entry, 1), args, nargs):
            store_int64(table, TABLE_LAST, k)
            return entry
        k += 1
    return 0


def find(self: int, args: int, nargs: int) -> int:
    """`find(*arrays) -> Plan | None`; `self` is the array that holds the table."""
    table = load_int64(self, ARRAY_DATA)
    state, entry = load_int64(table, TABLE_STATE), _search(table, args, nargs)
    return new_reference(state, load_int64(entry, 0) if entry else load_int64(state, STATE_NONE))


@subroutine
def _checked(state: int, args: int, nargs: int) -> int:
    """The block at the head of the arguments; 0 if it is none, or the arrays behind it do not fit."""
    if nargs < 1:
        return 0
    array = load_int64(args, 0)
    if not is_array(state, array) or load_int32(array, ARRAY_NDIM_INT32) != 1:
        return 0
    if load_int64(load_int64(array, ARRAY_SHAPE), 0) < HEADER_WORDS:
        return 0
    block = load_int64(array, ARRAY_DATA)
    operands = load_int64(block, HEADER_OPERANDS)
    if load_int64(block, HEADER_MAGIC) != MAGIC or nargs != 1 + operands:
        return 0
    first_output = operands - load_int64(block, HEADER_OUTPUTS)
    for i in range(operands):
        array = load_int64(args, 1 + i)
        if not is_array(state, array) or (i >= first_output and not _is_writeable(array)):
            return 0
    return block


@subroutine
def _bind(block: int, first: int, arrays: int, count: int) -> None:
    """Writes the addresses of `count` arrays into a block, the first of them as operand `first`."""
    addresses = block + 8 * (HEADER_WORDS + first)
    for i in range(count):
        store_int64(addresses, i, load_int64(load_int64(arrays, i), ARRAY_DATA))


def launch(self: int, args: int, nargs: int) -> int:
    """`launch(block, *arrays) -> None`; `self` is the array that holds the state."""
    state = load_int64(self, ARRAY_DATA)
    block = _checked(state, args, nargs)
    if block == 0:
        return call_python(state, STATE_LAUNCH, args, nargs)
    _bind(block, 0, args + 8, nargs - 1)
    run_block(state, block)
    if load_int64(state, STATE_FAILED):
        return call_python(state, STATE_FAILURE, args, 0)
    return new_reference(state, load_int64(state, STATE_NONE))


@subroutine
def _new_array(state: int, spec: int) -> int:
    """An uninitialised array; 0 after an exception."""
    dtype, ndim = load_int64(spec, 0), load_int64(spec, 1)
    shape, strides = spec + 16, spec + 16 + 8 * ndim
    new_reference(state, dtype)  # which the array takes over
    kind = load_int64(state, STATE_NDARRAY)
    return call_int64(load_int64(state, STATE_NEW_ARRAY), (kind, dtype, ndim, shape, strides, 0, 0, 0))


@subroutine
def _allocate(state: int, block: int) -> int:
    """The outputs of a plan: an array, or a tuple if they are not just one; 0 after an exception."""
    allocate = load_int64(block, HEADER_ALLOCATE)
    if allocate:
        return call_int64(load_int64(state, STATE_CALL), (allocate,))
    outputs, spec = load_int64(block, HEADER_OUTPUTS), load_int64(block, HEADER_SPECS)
    if outputs == 1:
        return _new_array(state, spec)
    result = call_int64(load_int64(state, STATE_TUPLE_NEW), (outputs,))
    for i in range(outputs):
        array = _new_array(state, spec) if result else 0
        if array == 0:
            break
        call_int64(load_int64(state, STATE_TUPLE_SET), (result, i, array))
        spec += 16 + 16 * load_int64(spec, 1)
    else:
        return result
    if result:
        call_int64(load_int64(state, STATE_DECREF), (result,))
    return 0


@subroutine
def _items(state: int, sequence: int) -> int:
    """Address of the items of a list or a tuple; 0 if it is neither."""
    kind = load_int64(sequence, OBJECT_TYPE)
    if kind == load_int64(state, STATE_LIST):
        items = load_int64(sequence, SEQUENCE_ITEMS)
        return items if items != 0 else sequence  # an empty list may have none
    return sequence + 8 * SEQUENCE_ITEMS if kind == load_int64(state, STATE_TUPLE) else 0


def run_plan(self: int, args: int, nargs: int) -> int:
    """`run_plan(inputs)`: new outputs of the plan for these inputs, None if no plan has a kernel for them.

    The inputs are a list or tuple; `self` is the array that holds the table.
    """
    table = load_int64(self, ARRAY_DATA)
    state, row = load_int64(table, TABLE_STATE), load_int64(args, 0) if nargs == 1 else 0
    inputs = _items(state, row) if row else 0
    count = load_int64(row, SEQUENCE_LENGTH) if inputs else 0
    entry = _search(table, inputs, count) if inputs else 0
    block = load_int64(entry, 2) if entry else 0
    if block == 0:
        return new_reference(state, load_int64(state, STATE_NONE))
    plan = new_reference(state, load_int64(entry, 0))  # allocation may run Python code that drops it
    result = _allocate(state, block)
    if result:
        outputs = load_int64(block, HEADER_OUTPUTS)
        _bind(block, 0, inputs, count)
        if is_array(state, result):
            store_int64(block, HEADER_WORDS + count, load_int64(result, ARRAY_DATA))
        else:
            _bind(block, count, result + 8 * SEQUENCE_ITEMS, outputs)
        run_block(state, block)
        if load_int64(state, STATE_FAILED):
            call_int64(load_int64(state, STATE_DECREF), (result,))
            result = call_python(state, STATE_FAILURE, args, 0)
    call_int64(load_int64(state, STATE_DECREF), (plan,))
    return result


@subroutine
def _row_operands(state: int, row: int, positions: int, operands: int) -> int:
    """Copies the operands of a row and those it overwrites to `operands`; their number, 0 if it is no row."""
    items = _items(state, row)
    if items == 0:
        return 0
    inputs, outputs = load_int64(row, SEQUENCE_LENGTH), load_int64(positions, 0)
    if inputs + outputs > MAX_ROW:
        return 0
    for i in range(inputs):
        store_int64(operands, i, load_int64(items, i))
    for i in range(outputs):
        position = load_int64(positions, 1 + i)
        if position >= inputs:
            return 0
        store_int64(operands, inputs + i, load_int64(items, position))
    return inputs + outputs


@subroutine
def _run_row(table: int, row: int) -> bool:
    """Runs the plan for a row; False if there is none, or an output is read-only."""
    operands = stack_int64(MAX_ROW)
    state, positions = load_int64(table, TABLE_STATE), load_int64(table, TABLE_POSITIONS)
    count = _row_operands(state, row, positions, operands)
    entry = _search(table, operands, count) if count else 0
    block = load_int64(entry, 2) if entry else 0
    if block == 0:
        return False
    for i in range(count - load_int64(positions, 0), count):
        if not _is_writeable(load_int64(operands, i)):
            return False
    _bind(block, 0, operands, count)
    run_block(state, block)
    return True


def run_rows(self: int, args: int, nargs: int) -> int:
    """`run_rows(*rows) -> int`: runs the plans for rows that overwrite operands, up to the first without one.

    A row is a list or tuple of operands. Returns how many were run; `self` is the array that holds the table.
    """
    table = load_int64(self, ARRAY_DATA)
    done = 0
    while done < nargs and _run_row(table, load_int64(args, done)):
        done += 1
    return call_int64(load_int64(load_int64(table, TABLE_STATE), STATE_NEW_INT), (done,))
