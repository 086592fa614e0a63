"""Attention on the CPU, forward and backward, block by block: the matrix of all weights is never stored.

With the scores S = scale Q K^T + mask and the weights P = exp(S - log-sum-exp of the row), the result is P V
(T. Dao et al., "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness", 2022,
algorithm 1, and algorithm 4 for the gradients). The maximum and the sum of a row are carried from one block
of keys to the next (M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", 2018).

A block of scores is kept transposed, keys x queries. So rows of K, V and of the gradient are read where they
are, whatever their strides, only a block of Q is transposed, and softmax runs across the queries: sums and
maxima are vectors. Entries that a causal mask hides are skipped by whole vectors and tiles.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu import math as m
from nbdl.kernels.cpu.attention_blocks import (
    DRAW,
    EVERYTHING,
    GRADIENT,
    IS_CAUSAL,
    KEY,
    KEY_BLOCK,
    KEY_GRADIENT,
    KEYS,
    MASK_KIND,
    PARTIAL,
    PARTS,
    QUERIES,
    QUERY,
    QUERY_GRADIENT,
    RESULT,
    RESULTS,
    SCALE,
    SCRATCH,
    SCRATCH_STRIDE,
    TILES,
    VALUE,
    VALUE_GRADIENT,
    VALUE_WIDTH,
    WIDTH,
    batch_offset,
    block_functions,
    row_stride,
)
from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import float64_at, load_int64, stack_int64


def make_attention(dtype):
    """The kernel of attention: operands Q, K, V, a mask, (seed, draw, p) of dropout, result, log-sum-exp.

    Rows: blocks of queries of all batch entries.

    Args:
        dtype: float32 or float64.
    """
    blocks = block_functions(np.dtype(dtype))
    size, ld, lanes, view, real = blocks.size, blocks.ld, blocks.lanes, blocks.view, blocks.real
    transpose_block, products, sum_over_keys = blocks.transpose_block, blocks.products, blocks.sum_over_keys
    fill, scale_row = blocks.fill, blocks.scale_row
    add_mask, drop = blocks.add_mask, blocks.drop
    zero, one, lowest = real(0), real(1), real(-np.inf)
    stack_words = ld * size // 8

    @subroutine(fastmath=FASTMATH_REASSOC)
    def softmax(block, keys, width, diagonal, largest, total, factor):
        """Scores to exp(score - largest) with the maxima of all blocks so far.

        Their sums are added to `total`, which is first multiplied, as former results must be, by `factor`.
        """
        fresh = stack_int64(stack_words)
        for c in range(0, width, lanes):
            new, old = view(fresh + c * size, lanes), view(largest + c * size, lanes)
            for k in range(lanes):
                new[k] = old[k]
        for a in range(keys):
            row, hidden = block + a * ld * size, max(0, a - diagonal)
            fill(row, hidden // lanes * lanes, hidden, lowest)
            for c in range(hidden // lanes * lanes, width, lanes):
                score, new = view(row + c * size, lanes), view(fresh + c * size, lanes)
                for k in range(lanes):
                    new[k] = score[k] if score[k] > new[k] else new[k]
        for c in range(0, width, lanes):
            old, new = view(largest + c * size, lanes), view(fresh + c * size, lanes)
            change, total_part = view(factor + c * size, lanes), view(total + c * size, lanes)
            for k in range(lanes):
                shift = new[k] if new[k] > lowest else zero  # nothing seen yet
                change[k] = m.exp(old[k] - shift)
                total_part[k] *= change[k]
                old[k] = new[k]
                new[k] = shift
        sums = stack_int64(stack_words)
        fill(sums, 0, ld, zero)
        for a in range(keys):
            row, first = block + a * ld * size, max(0, a - diagonal) // lanes * lanes
            fill(row, 0, first, zero)
            for c in range(first, width, lanes):
                score, shift = view(row + c * size, lanes), view(fresh + c * size, lanes)
                total_part = view(sums + c * size, lanes)
                for k in range(lanes):
                    score[k] = m.exp(score[k] - shift[k])
                    total_part[k] += score[k]
        for c in range(0, width, lanes):
            total_part, part = view(total + c * size, lanes), view(sums + c * size, lanes)
            for k in range(lanes):
                total_part[k] += part[k]

    @subroutine(fastmath=FASTMATH_REASSOC)
    def attend(args, batch, first_query, scratch):
        """One block of queries."""
        tiles, width, value_width = (
            load_int64(args, TILES),
            load_int64(args, WIDTH),
            load_int64(args, VALUE_WIDTH),
        )
        queries, keys = min(ld, load_int64(args, QUERIES) - first_query), load_int64(args, KEYS)
        is_causal, result = load_int64(args, IS_CAUSAL), load_int64(args, RESULTS)
        if is_causal:
            keys = min(keys, first_query + queries)
        columns = (queries + lanes - 1) // lanes * lanes
        q_row, k_row, v_row = row_stride(args, QUERY), row_stride(args, KEY), row_stride(args, VALUE)
        q = load_int64(args, 0) + (batch_offset(args, QUERY, batch) + first_query * q_row) * size
        k = load_int64(args, 1) + batch_offset(args, KEY, batch) * size
        v = load_int64(args, 2) + batch_offset(args, VALUE, batch) * size
        y_row = row_stride(args, RESULT)
        y = load_int64(args, result) + (batch_offset(args, RESULT, batch) + first_query * y_row) * size
        block = scratch + width * ld * size
        transpose_block(q, q_row, queries, width, scratch)
        scale_row(scratch, width * ld, real(float64_at(args + 8 * SCALE, 1)[0]))
        largest, total, factor = stack_int64(stack_words), stack_int64(stack_words), stack_int64(stack_words)
        fill(largest, 0, ld, lowest)
        fill(total, 0, ld, zero)
        for first_key in range(0, keys, KEY_BLOCK):
            count = min(KEY_BLOCK, keys - first_key)
            diagonal = first_query - first_key if is_causal else EVERYTHING
            products(
                tiles, k + first_key * k_row * size, k_row, count, scratch, columns, width, diagonal, block
            )
            if load_int64(args, MASK_KIND):
                add_mask(args, load_int64(args, 3), batch, first_key, first_query, count, queries, block)
            softmax(block, count, columns, diagonal, largest, total, factor)
            if load_int64(args, DRAW):
                drop(args, batch, first_key, first_query, count, queries, block)
            if first_key > 0:
                factors = view(factor, ld)
                for b in range(queries):
                    if factors[b] != one:
                        scale_row(y + b * y_row * size, value_width, factors[b])
            sum_over_keys(tiles, block, count, queries, diagonal, v + first_key * v_row * size, v_row,
                          value_width, y, y_row, first_key)  # fmt: skip
        totals, maxima = view(total, ld), view(largest, ld)
        sums = view(
            load_int64(args, result + 1) + (batch * load_int64(args, QUERIES) + first_query) * size, queries
        )
        for b in range(queries):
            sums[b] = maxima[b] + m.log(totals[b])
            scale_row(y + b * y_row * size, value_width, zero if totals[b] == zero else one / totals[b])

    def attention(args, lo, hi, task):
        scratch = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        count = (load_int64(args, QUERIES) + ld - 1) // ld
        for unit in range(lo, hi):
            batch, block = unit // count, unit % count
            # A causal block takes the longer the later it is: pairs of blocks take alike.
            block = block // 2 if block % 2 == 0 else count - 1 - block // 2
            attend(args, batch, block * ld, scratch)

    return attention


def make_attention_input(dtype):
    """The kernel of the gradients of attention.

    Operands: gradient of the result, Q, K, V, result, log-sum-exp, a mask, (seed, draw, p) of dropout, and
    the gradients by Q, K and V. Rows: the parts of all batch entries; part i of n deals with every n-th block
    of queries. If there are several parts, `make_sum_of_parts` adds what they contribute to K and V.

    Args:
        dtype: float32 or float64.
    """
    blocks = block_functions(np.dtype(dtype))
    size, ld, lanes, view, real = blocks.size, blocks.ld, blocks.lanes, blocks.view, blocks.real
    transpose_block, products, fill, scale_row = (
        blocks.transpose_block,
        blocks.products,
        blocks.fill,
        blocks.scale_row,
    )
    sum_over_keys, sum_over_queries = blocks.sum_over_keys, blocks.sum_over_queries
    add_mask, drop = blocks.add_mask, blocks.drop
    zero, lowest, highest = real(0), real(-np.inf), real(np.inf)
    stack_words = ld * size // 8

    @subroutine(fastmath=FASTMATH_REASSOC)
    def slopes(scores, weights_slope, keys, width, diagonal, shift, centre, scale):
        """Scores to weights P, and their gradients dP to those of the scores, scale P (dP - centre)."""
        for a in range(keys):
            row, slope_row = scores + a * ld * size, weights_slope + a * ld * size
            hidden = max(0, a - diagonal)
            first = hidden // lanes * lanes
            for c in range(first, width, lanes):
                weight, slope = view(row + c * size, lanes), view(slope_row + c * size, lanes)
                shifts, centres = view(shift + c * size, lanes), view(centre + c * size, lanes)
                for k in range(lanes):
                    weight[k] = m.exp(weight[k] - shifts[k])
                    slope[k] = weight[k] * (slope[k] - centres[k]) * scale
            fill(row, 0, hidden, zero)
            fill(slope_row, 0, hidden, zero)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def row_values(g, g_row, y, y_row, width, sums, queries, shift, centre):
        """What a query subtracts: its log-sum-exp from scores, g . y from the gradients of its weights."""
        logs, shifts, centres = view(sums, queries), view(shift, ld), view(centre, ld)
        for b in range(queries):
            shifts[b] = logs[b] if logs[b] != lowest else highest  # a query that sees nothing has weights 0
            gradient, value = view(g + b * g_row * size, width), view(y + b * y_row * size, width)
            total = zero
            for p in range(width):
                total += gradient[p] * value[p]
            centres[b] = total
        for b in range(queries, ld):
            shifts[b] = highest
            centres[b] = zero

    @subroutine(fastmath=FASTMATH_REASSOC)
    def backward(args, batch, first_query, scratch, gk, gk_row, gv, gv_row):
        """One block of queries: their own gradients, and what they contribute to those of keys and values."""
        tiles, width, value_width = (
            load_int64(args, TILES),
            load_int64(args, WIDTH),
            load_int64(args, VALUE_WIDTH),
        )
        queries, keys = min(ld, load_int64(args, QUERIES) - first_query), load_int64(args, KEYS)
        is_causal, result = load_int64(args, IS_CAUSAL), load_int64(args, RESULTS)
        if is_causal:
            keys = min(keys, first_query + queries)
        columns = (queries + lanes - 1) // lanes * lanes
        g_row, y_row = row_stride(args, GRADIENT), row_stride(args, RESULT)
        q_row, k_row, v_row = row_stride(args, QUERY), row_stride(args, KEY), row_stride(args, VALUE)
        gq_row = row_stride(args, QUERY_GRADIENT)
        g = load_int64(args, 0) + (batch_offset(args, GRADIENT, batch) + first_query * g_row) * size
        q = load_int64(args, 1) + (batch_offset(args, QUERY, batch) + first_query * q_row) * size
        k = load_int64(args, 2) + batch_offset(args, KEY, batch) * size
        v = load_int64(args, 3) + batch_offset(args, VALUE, batch) * size
        y = load_int64(args, 4) + (batch_offset(args, RESULT, batch) + first_query * y_row) * size
        sums = load_int64(args, 5) + (batch * load_int64(args, QUERIES) + first_query) * size
        gq = (
            load_int64(args, result)
            + (batch_offset(args, QUERY_GRADIENT, batch) + first_query * gq_row) * size
        )
        g_columns = scratch + width * ld * size
        weights = g_columns + value_width * ld * size
        gradients = weights + KEY_BLOCK * ld * size
        scale = real(float64_at(args + 8 * SCALE, 1)[0])
        transpose_block(q, q_row, queries, width, scratch)
        scale_row(scratch, width * ld, scale)
        transpose_block(g, g_row, queries, value_width, g_columns)
        shift, centre = stack_int64(stack_words), stack_int64(stack_words)
        row_values(g, g_row, y, y_row, value_width, sums, queries, shift, centre)
        for first_key in range(0, keys, KEY_BLOCK):
            count = min(KEY_BLOCK, keys - first_key)
            diagonal = first_query - first_key if is_causal else EVERYTHING
            k_block, v_block = k + first_key * k_row * size, v + first_key * v_row * size
            products(tiles, k_block, k_row, count, scratch, columns, width, diagonal, weights)
            if load_int64(args, MASK_KIND):
                add_mask(args, load_int64(args, 6), batch, first_key, first_query, count, queries, weights)
            products(tiles, v_block, v_row, count, g_columns, columns, value_width, diagonal, gradients)
            if load_int64(args, DRAW):
                drop(args, batch, first_key, first_query, count, queries, gradients)
            slopes(weights, gradients, count, columns, diagonal, shift, centre, scale)
            if load_int64(args, DRAW):
                drop(args, batch, first_key, first_query, count, queries, weights)
            sum_over_keys(tiles, gradients, count, queries, diagonal, k_block, k_row, width, gq, gq_row,
                          first_key)  # fmt: skip
            sum_over_queries(tiles, gradients, count, queries, diagonal, q, q_row, width,
                             gk + first_key * gk_row * size, gk_row)  # fmt: skip
            sum_over_queries(tiles, weights, count, queries, diagonal, g, g_row, value_width,
                             gv + first_key * gv_row * size, gv_row)  # fmt: skip

    def attention_input(args, lo, hi, task):
        result = load_int64(args, RESULTS)
        scratch = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        queries, keys, parts = load_int64(args, QUERIES), load_int64(args, KEYS), load_int64(args, PARTS)
        width, value_width = load_int64(args, WIDTH), load_int64(args, VALUE_WIDTH)
        for unit in range(lo, hi):
            batch, part = unit // parts, unit % parts
            if parts == 1:
                gk_row, gv_row = row_stride(args, KEY_GRADIENT), row_stride(args, VALUE_GRADIENT)
                gk = load_int64(args, result + 1) + batch_offset(args, KEY_GRADIENT, batch) * size
                gv = load_int64(args, result + 2) + batch_offset(args, VALUE_GRADIENT, batch) * size
            else:
                gk_row, gv_row = width, value_width
                gk = load_int64(args, PARTIAL) + unit * keys * (width + value_width) * size
                gv = gk + keys * width * size
            for j in range(keys):
                fill(gk + j * gk_row * size, 0, width, zero)
                fill(gv + j * gv_row * size, 0, value_width, zero)
            for first_query in range(part * ld, queries, parts * ld):
                backward(args, batch, first_query, scratch, gk, gk_row, gv, gv_row)

    return attention_input


def make_sum_of_parts(dtype):
    """The kernel that adds the parts of the gradients of K and V; operands as of `make_attention_input`.

    Rows: keys of all batch entries.

    Args:
        dtype: float32 or float64.
    """
    blocks = block_functions(np.dtype(dtype))
    size, view = blocks.size, blocks.view

    @subroutine(fastmath=FASTMATH_REASSOC)
    def add_parts(source, step, parts, target, width):
        total = view(target, width)
        for part in range(parts):
            row = view(source + part * step, width)
            for p in range(width):
                total[p] = row[p] if part == 0 else total[p] + row[p]

    def sum_of_parts(args, lo, hi, task):
        result = load_int64(args, RESULTS)
        keys, parts = load_int64(args, KEYS), load_int64(args, PARTS)
        width, value_width = load_int64(args, WIDTH), load_int64(args, VALUE_WIDTH)
        step = keys * (width + value_width) * size
        for row in range(lo, hi):
            batch, j = row // keys, row % keys
            source = load_int64(args, PARTIAL) + batch * parts * step
            gk = batch_offset(args, KEY_GRADIENT, batch) + j * row_stride(args, KEY_GRADIENT)
            gv = batch_offset(args, VALUE_GRADIENT, batch) + j * row_stride(args, VALUE_GRADIENT)
            add_parts(source + j * width * size, step, parts, load_int64(args, result + 1) + gk * size, width)
            add_parts(source + (keys * width + j * value_width) * size, step, parts,
                      load_int64(args, result + 2) + gv * size, value_width)  # fmt: skip

    return sum_of_parts
