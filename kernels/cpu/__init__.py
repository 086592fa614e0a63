"""CPU kernels, written in Numba.

A kernel is a function ``kernel(args, lo, hi, task)`` of four int64:

* ``args``: address of its argument block, an int64 array that holds the data addresses of the operands
  (inputs, then outputs) and after them integers of its own (sizes, element strides, scratch addresses);
* ``[lo, hi)``: the rows that this call computes;
* ``task``: index of the task among those that share the work, 0 in a serial run; it selects scratch memory.

Kernels allocate nothing, raise nothing and touch no Python object, so that one and the same address serves an
eager call, a parallel region and a replayed program. :mod:`nbdl.kernels.cpu.memory` has the means to read the
block and to see raw addresses as arrays.
"""
