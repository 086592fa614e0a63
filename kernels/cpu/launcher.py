"""The entry points of the runtime: find the plan of a call, launch it, split it over threads.

These functions are not called with Python arguments by a compiled wrapper: they *are* the C functions of
builtins (`METH_FASTCALL`, see `nbdl.backend.numba.native`) and read the objects themselves. All words are
int64:

* `args`: address of the `nargs` object pointers of the call;
* `state`: one array per process (constants `STATE_...`): addresses of the C API and of the thread pool;
* block: the argument block of a plan behind a header (`HEADER_...`);
* table: the plans of one operation (`TABLE_...`), each a pair of plan object and address of its signature;
* signature: number of operands, then of each: dtype pointer, number of axes, alignment, shape, strides.

They run with the interpreter lock held, so a block or a table is never used by two calls at once. Whatever
they do not expect goes to a Python function of the same meaning, which raises the proper exception.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from nbdl.kernels.cpu.memory import call_kernel, load_int32, load_int64, stack_int64, store_int64

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

HEADER_KERNEL = 0
HEADER_ROWS = 1
HEADER_TASKS = 2
HEADER_OPERANDS = 3
HEADER_OUTPUTS = 4  # the last operands, which must be writeable
HEADER_MAGIC = 7
HEADER_WORDS = 8  # one cache line
MAGIC = 0x6E62646C706C616E

TABLE_STATE = 0
TABLE_COUNT = 1
TABLE_LAST = 2  # index of the plan found last, where the next search begins
TABLE_PLANS = 3

STATE_NDARRAY = 0
STATE_NONE = 1
STATE_INCREF = 2
STATE_DECREF = 3
STATE_TUPLE_NEW = 4
STATE_TUPLE_SET = 5
STATE_OBJECT_CALL = 6
STATE_LAUNCH = 7  # Python functions that take over
STATE_LAUNCH_MANY = 8
STATE_PARALLEL_FOR = 9  # the thread pool's entry; 0: run the tasks one after the other
STATE_REGION = 10  # address of `region`
STATE_THREADS = 11
STATE_GET_NUM_THREADS = 12  # Numba's thread count of the calling thread, which the pool overwrites
STATE_SET_NUM_THREADS = 13
STATE_WORDS = 14


@intrinsic
def call_int64(typingctx: Any, function: Any, arguments: Any) -> Any:
    """Call the C function at address ``function`` with a tuple of int64; its result is taken as int64."""
    argument_types = types.UniTuple(types.int64, len(arguments))

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        word = ir.IntType(64)
        function_type = ir.FunctionType(word, [word] * len(argument_types))
        words = [builder.extract_value(args[1], i) for i in range(len(argument_types))]
        return builder.call(builder.inttoptr(args[0], function_type.as_pointer()), words)

    return types.int64(types.int64, argument_types), codegen


# ---- Splitting over threads ----


def region(args: int, dimensions: int, steps: int, descriptor: int) -> None:
    """What a thread of the pool runs: the inner loop that Numba's `parallel_for` expects of a ufunc.

    The pool is given one operand at address 0 with a stride of 1 byte, so `args` leads to the index of the
    first task and `dimensions` to the number of tasks. Each task runs the descriptor's instructions, pairs of
    kernel and argument block, over its share of the rows.
    """
    instructions, count = load_int64(descriptor, 0), load_int64(descriptor, 1)
    rows, tasks = load_int64(descriptor, 2), load_int64(descriptor, 3)
    first = load_int64(args, 0)
    for task in range(first, first + load_int64(dimensions, 0)):
        lo, hi = task * rows // tasks, (task + 1) * rows // tasks
        for i in range(count):
            call_kernel(load_int64(instructions, 2 * i), load_int64(instructions, 2 * i + 1), lo, hi, task)


@njit
def run_region(state: int, instructions: int, count: int, rows: int, tasks: int) -> None:
    """Runs `count` instructions in a row, `[0, rows)` split evenly over `tasks`; each task runs all of them.

    An instruction is a pair of words: address of the kernel, address of its argument block.
    """
    if tasks <= 1:
        for i in range(count):
            call_kernel(load_int64(instructions, 2 * i), load_int64(instructions, 2 * i + 1), 0, rows, 0)
        return
    words = stack_int64(8)
    descriptor, args, dimensions, steps = words, words + 32, words + 40, words + 48
    store_int64(descriptor, 0, instructions)
    store_int64(descriptor, 1, count)
    store_int64(descriptor, 2, rows)
    store_int64(descriptor, 3, tasks)
    store_int64(args, 0, 0)
    store_int64(dimensions, 0, tasks)
    store_int64(steps, 0, 1)
    entry, parallel_for = load_int64(state, STATE_REGION), load_int64(state, STATE_PARALLEL_FOR)
    if parallel_for == 0:
        call_kernel(entry, args, dimensions, steps, descriptor)
    else:
        threads = min(tasks, load_int64(state, STATE_THREADS))
        users_threads = call_int64(load_int64(state, STATE_GET_NUM_THREADS), (0,))
        call_int64(parallel_for, (entry, args, dimensions, steps, descriptor, 0, 1, threads))
        call_int64(load_int64(state, STATE_SET_NUM_THREADS), (users_threads,))


@njit
def run_block(state: int, block: int) -> None:
    """Runs the plan of a block whose data addresses are set."""
    kernel, arguments = load_int64(block, HEADER_KERNEL), block + 8 * HEADER_WORDS
    rows, tasks = load_int64(block, HEADER_ROWS), load_int64(block, HEADER_TASKS)
    if tasks <= 1:
        call_kernel(kernel, arguments, 0, rows, 0)
    else:
        instruction = stack_int64(2)
        store_int64(instruction, 0, kernel)
        store_int64(instruction, 1, arguments)
        run_region(state, instruction, 1, rows, tasks)


def run(state: int, block: int, unused_1: int, unused_2: int) -> None:
    """`run_block` as an entry with a kernel's signature, for callers in Python."""
    run_block(state, block)


# ---- Builtins ----


@njit
def _is_array(state: int, item: int) -> bool:
    return load_int64(item, OBJECT_TYPE) == load_int64(state, STATE_NDARRAY)


@njit
def _new_reference(state: int, item: int) -> int:
    call_int64(load_int64(state, STATE_INCREF), (item,))
    return item


@njit
def _call_python(state: int, function: int, args: int, nargs: int) -> int:
    """Calls a Python function with these arguments; a new reference to its result, 0 after an exception."""
    arguments = call_int64(load_int64(state, STATE_TUPLE_NEW), (nargs,))
    if arguments == 0:
        return 0
    for i in range(nargs):
        item = _new_reference(state, load_int64(args, i))
        call_int64(load_int64(state, STATE_TUPLE_SET), (arguments, i, item))
    result = call_int64(load_int64(state, STATE_OBJECT_CALL), (load_int64(state, function), arguments, 0))
    call_int64(load_int64(state, STATE_DECREF), (arguments,))
    return result


@njit
def _matches(state: int, signature: int, args: int, nargs: int) -> bool:
    if load_int64(signature, 0) != nargs:
        return False
    word = signature + 8
    for i in range(nargs):
        array = load_int64(args, i)
        if not _is_array(state, array) or load_int64(array, ARRAY_DTYPE) != load_int64(word, 0):
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


def find(self: int, args: int, nargs: int) -> int:
    """`find(*arrays) -> Plan | None`; `self` is the array that holds the table."""
    table = load_int64(self, ARRAY_DATA)
    state, count = load_int64(table, TABLE_STATE), load_int64(table, TABLE_COUNT)
    k = load_int64(table, TABLE_LAST)
    for _ in range(count):
        if k >= count:
            k = 0
        entry = table + 8 * TABLE_PLANS + 16 * k
        if _matches(state, load_int64(entry, 1), args, nargs):
            store_int64(table, TABLE_LAST, k)
            return _new_reference(state, load_int64(entry, 0))
        k += 1
    return _new_reference(state, load_int64(state, STATE_NONE))


@njit
def _checked(state: int, args: int, nargs: int) -> int:
    """How many arguments belong to the block at their head, itself included; 0 if they do not fit it."""
    if nargs < 1:
        return 0
    array = load_int64(args, 0)
    if not _is_array(state, array) or load_int32(array, ARRAY_NDIM_INT32) != 1:
        return 0
    if load_int64(load_int64(array, ARRAY_SHAPE), 0) < HEADER_WORDS:
        return 0
    block = load_int64(array, ARRAY_DATA)
    operands = load_int64(block, HEADER_OPERANDS)
    if load_int64(block, HEADER_MAGIC) != MAGIC or nargs < 1 + operands:
        return 0
    first_output = operands - load_int64(block, HEADER_OUTPUTS)
    for i in range(operands):
        array = load_int64(args, 1 + i)
        if not _is_array(state, array):
            return 0
        if i >= first_output and load_int32(array, ARRAY_FLAGS_INT32) & FLAG_WRITEABLE == 0:
            return 0
    return 1 + operands


@njit
def _bind_and_run(state: int, args: int) -> int:
    """Writes the addresses of checked arguments into their block and runs it; the number of arguments."""
    block = load_int64(load_int64(args, 0), ARRAY_DATA)
    operands = load_int64(block, HEADER_OPERANDS)
    addresses = block + 8 * HEADER_WORDS
    for i in range(operands):
        store_int64(addresses, i, load_int64(load_int64(args, 1 + i), ARRAY_DATA))
    run_block(state, block)
    return 1 + operands


def launch(self: int, args: int, nargs: int) -> int:
    """`launch(block, *arrays) -> None`; `self` is the array that holds the state."""
    state = load_int64(self, ARRAY_DATA)
    taken = _checked(state, args, nargs)
    if taken == 0 or taken != nargs:
        return _call_python(state, STATE_LAUNCH, args, nargs)
    _bind_and_run(state, args)
    return _new_reference(state, load_int64(state, STATE_NONE))


def launch_many(self: int, args: int, nargs: int) -> int:
    """`launch_many(block, *arrays, block, *arrays, ...) -> None`: checks all, then runs all in this order."""
    state = load_int64(self, ARRAY_DATA)
    i = 0
    while i < nargs:
        taken = _checked(state, args + 8 * i, nargs - i)
        if taken == 0:
            return _call_python(state, STATE_LAUNCH_MANY, args, nargs)
        i += taken
    i = 0
    while i < nargs:  # a block may come more than once, so its addresses are written just before it runs
        i += _bind_and_run(state, args + 8 * i)
    return _new_reference(state, load_int64(state, STATE_NONE))
