"""Normalisation on the CPU, with the statistics of the operand, and its gradient.

    y = (x - mean) / sqrt(variance + eps) * weight + bias

An operand is seen in one of two ways:

* *columns*: a matrix whose rows are reduced, so that each column has its statistics (batch norm, channels
  last). Tasks sum rows side by side, so the work has three stages: sums of each task, coefficients of each
  column, the result;
* *lines*: the elements behind one mean are contiguous lines (layer norm: one; batch norm with channels
  apart: one an image; group norm: one a channel of the group). Each mean belongs to one task; only the
  gradients of a weight that several means share are summed by task.

Sums are taken in float64. Words that are called a place hold the number of an operand, -1 if it is not there.
"""

from __future__ import annotations

import math

import numpy as np

from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64
from nbdl.kernels.cpu.stages import FIRST_WORD

# Words of the argument block; strides count elements.
(
    X,  # places
    WEIGHT,
    BIAS,
    MEAN,
    VARIANCE,
    RESULT,
    G,  # gradient of the result
    GX,
    GW,
    GB,
    EPS,  # bits of a float64
    ROWS,  # of the matrix; lines behind one mean
    COLUMNS,  # of the matrix; elements of a line
    LINE_STRIDE,  # from line to line of one mean
    MEAN_STRIDE,  # from the first line of one mean to that of the next
    WEIGHT_RUNS,  # along the line, from line to line, or from mean to mean
    PERIOD,  # means after which a weight that runs from line to line begins again
    WEIGHTS,  # elements of a weight that several means share
    SUMS,  # address of the sums: for each task two float64 vectors
    TASKS,  # how many there are
    COEFFICIENTS,  # address of three vectors, an element a column
) = range(FIRST_WORD, FIRST_WORD + 21)
BY_MEAN, ALONG, BY_LINE = range(3)  # the ways a weight runs


@subroutine(fastmath=FASTMATH_REASSOC)
def _operand(args, place):
    """Address of an operand, 0 if it is not there."""
    return load_int64(args, place) if place >= 0 else 0


def _view(dtype):
    return float32_at if np.dtype(dtype).itemsize == 4 else float64_at


# ---- Columns ----


def make_column_sums(dtype):
    """Stage 1: sums of x - s and (x - s)^2 over the rows of a task, where s is the first row of x."""
    size, view = np.dtype(dtype).itemsize, _view(dtype)

    def column_sums(args, lo, hi, task):
        n = load_int64(args, COLUMNS)
        x = _operand(args, load_int64(args, X))
        sums = load_int64(args, SUMS) + task * n * 16
        first, squares, shift = float64_at(sums, n), float64_at(sums + n * 8, n), view(x, n)
        for j in range(n):
            first[j] = 0.0
            squares[j] = 0.0
        for i in range(lo, hi):
            row = view(x + i * n * size, n)
            for j in range(n):
                value = float(row[j]) - float(shift[j])
                first[j] += value
                squares[j] += value * value

    return column_sums


def make_column_statistics(dtype):
    """Stage 2: mean and variance; the coefficients mean, weight / sqrt(variance + eps), bias."""
    size, view = np.dtype(dtype).itemsize, _view(dtype)
    real = np.dtype(dtype).type

    def column_statistics(args, lo, hi, task):
        n, count = load_int64(args, COLUMNS), float(load_int64(args, ROWS))
        eps = float64_at(args + EPS * 8, 1)[0]
        weight, bias = _operand(args, load_int64(args, WEIGHT)), _operand(args, load_int64(args, BIAS))
        means, variances = (
            view(_operand(args, load_int64(args, MEAN)), n),
            view(_operand(args, load_int64(args, VARIANCE)), n),
        )
        shift, coefficients = view(_operand(args, load_int64(args, X)), n), load_int64(args, COEFFICIENTS)
        centres, scales = view(coefficients, n), view(coefficients + n * size, n)
        offsets = view(coefficients + 2 * n * size, n)
        for j in range(lo, hi):
            first, squares = 0.0, 0.0
            for k in range(load_int64(args, TASKS)):
                sums = float64_at(load_int64(args, SUMS) + k * n * 16, 2 * n)
                first += sums[j]
                squares += sums[n + j]
            mean = first / count
            variance = squares / count - mean * mean
            if variance < 0.0:  # by rounding
                variance = 0.0
            means[j] = real(float(shift[j]) + mean)
            variances[j] = real(variance)
            scale = 1.0 / math.sqrt(variance + eps)
            centres[j] = means[j]
            scales[j] = real(scale * float(view(weight, n)[j]) if weight != 0 else scale)
            offsets[j] = view(bias, n)[j] if bias != 0 else real(0)

    return column_statistics


def make_column_result(dtype):
    """Stage 3: (x - mean) * scale + bias."""
    size, view = np.dtype(dtype).itemsize, _view(dtype)

    def column_result(args, lo, hi, task):
        n, coefficients = load_int64(args, COLUMNS), load_int64(args, COEFFICIENTS)
        centres, scales = view(coefficients, n), view(coefficients + n * size, n)
        offsets = view(coefficients + 2 * n * size, n)
        x, y = _operand(args, load_int64(args, X)), _operand(args, load_int64(args, RESULT))
        for i in range(lo, hi):
            row, result = view(x + i * n * size, n), view(y + i * n * size, n)
            for j in range(n):
                result[j] = (row[j] - centres[j]) * scales[j] + offsets[j]

    return column_result


def make_column_gradient_sums(dtype):
    """Stage 1 of the gradient: sums of g and g * (x - mean) over the rows of a task."""
    size, view = np.dtype(dtype).itemsize, _view(dtype)

    def column_gradient_sums(args, lo, hi, task):
        n = load_int64(args, COLUMNS)
        x, g = _operand(args, load_int64(args, X)), _operand(args, load_int64(args, G))
        means = view(_operand(args, load_int64(args, MEAN)), n)
        sums = load_int64(args, SUMS) + task * n * 16
        totals, products = float64_at(sums, n), float64_at(sums + n * 8, n)
        for j in range(n):
            totals[j] = 0.0
            products[j] = 0.0
        for i in range(lo, hi):
            row, gradient = view(x + i * n * size, n), view(g + i * n * size, n)
            for j in range(n):
                value = float(gradient[j])
                totals[j] += value
                products[j] += value * float(row[j] - means[j])

    return column_gradient_sums


def make_column_gradient_coefficients(dtype):
    """Stage 2 of the gradient: those of weight and bias; a, b, c of gx = a * g - b * (x - mean) - c."""
    size, view = np.dtype(dtype).itemsize, _view(dtype)
    real = np.dtype(dtype).type

    def column_gradient_coefficients(args, lo, hi, task):
        n, count = load_int64(args, COLUMNS), float(load_int64(args, ROWS))
        eps = float64_at(args + EPS * 8, 1)[0]
        weight, gw, gb = _operand(args, load_int64(args, WEIGHT)), load_int64(args, GW), load_int64(args, GB)
        variances, coefficients = (
            view(_operand(args, load_int64(args, VARIANCE)), n),
            load_int64(args, COEFFICIENTS),
        )
        a, b, c = (
            view(coefficients, n),
            view(coefficients + n * size, n),
            view(coefficients + 2 * n * size, n),
        )
        for j in range(lo, hi):
            total, product = 0.0, 0.0
            for k in range(load_int64(args, TASKS)):
                sums = float64_at(load_int64(args, SUMS) + k * n * 16, 2 * n)
                total += sums[j]
                product += sums[n + j]
            scale = 1.0 / math.sqrt(float(variances[j]) + eps)
            product *= scale
            if gw >= 0:
                view(_operand(args, gw), n)[j] = real(product)
                view(_operand(args, gb), n)[j] = real(total)
            factor = scale * float(view(weight, n)[j]) if weight != 0 else scale
            a[j] = real(factor)
            b[j] = real(factor * scale * product / count)
            c[j] = real(factor * total / count)

    return column_gradient_coefficients


def make_column_gradient(dtype):
    """Stage 3 of the gradient."""
    size, view = np.dtype(dtype).itemsize, _view(dtype)

    def column_gradient(args, lo, hi, task):
        n, coefficients = load_int64(args, COLUMNS), load_int64(args, COEFFICIENTS)
        a, b, c = (
            view(coefficients, n),
            view(coefficients + n * size, n),
            view(coefficients + 2 * n * size, n),
        )
        means = view(_operand(args, load_int64(args, MEAN)), n)
        x, g = _operand(args, load_int64(args, X)), _operand(args, load_int64(args, G))
        gx = _operand(args, load_int64(args, GX))
        for i in range(lo, hi):
            row, gradient, result = (
                view(x + i * n * size, n),
                view(g + i * n * size, n),
                view(gx + i * n * size, n),
            )
            for j in range(n):
                result[j] = a[j] * gradient[j] - b[j] * (row[j] - means[j]) - c[j]

    return column_gradient


# ---- Lines ----


def make_line_result(dtype):
    """The whole forward pass; rows are means."""
    size, view = np.dtype(dtype).itemsize, _view(dtype)
    real = np.dtype(dtype).type

    @subroutine(fastmath=FASTMATH_REASSOC)
    def sum_of(x, n):
        total = 0.0
        line = view(x, n)
        for j in range(n):
            total += float(line[j])
        return total

    @subroutine(fastmath=FASTMATH_REASSOC)
    def sum_of_squares(x, n, mean):
        total = 0.0
        line = view(x, n)
        for j in range(n):
            value = float(line[j] - mean)
            total += value * value
        return total

    @subroutine(fastmath=FASTMATH_REASSOC)
    def write(x, y, n, mean, scale, offset, weight, bias):
        line, result = view(x, n), view(y, n)
        if weight == 0 and bias == 0:
            for j in range(n):
                result[j] = (line[j] - mean) * scale + offset
        elif bias == 0:
            factors = view(weight, n)
            for j in range(n):
                result[j] = (line[j] - mean) * scale * factors[j]
        else:
            factors, offsets = view(weight, n), view(bias, n)
            for j in range(n):
                result[j] = (line[j] - mean) * scale * factors[j] + offsets[j]

    def line_result(args, lo, hi, task):
        lines, n, step = (
            load_int64(args, ROWS),
            load_int64(args, COLUMNS),
            load_int64(args, LINE_STRIDE) * size,
        )
        eps = float64_at(args + EPS * 8, 1)[0]
        weight, bias = _operand(args, load_int64(args, WEIGHT)), _operand(args, load_int64(args, BIAS))
        means, variances = _operand(args, load_int64(args, MEAN)), _operand(args, load_int64(args, VARIANCE))
        count, runs, period = float(lines * n), load_int64(args, WEIGHT_RUNS), load_int64(args, PERIOD)
        for row in range(lo, hi):
            x = _operand(args, load_int64(args, X)) + row * load_int64(args, MEAN_STRIDE) * size
            y = _operand(args, load_int64(args, RESULT)) + row * load_int64(args, MEAN_STRIDE) * size
            mean, squares = real(0), 0.0
            if means != 0:
                total = 0.0
                for k in range(lines):
                    total += sum_of(x + k * step, n)
                mean = real(total / count)
                view(means + row * size, 1)[0] = mean
            for k in range(lines):
                squares += sum_of_squares(x + k * step, n, mean)
            view(variances + row * size, 1)[0] = real(squares / count)
            scale = 1.0 / math.sqrt(squares / count + eps)
            for k in range(lines):
                if runs == ALONG:
                    write(x + k * step, y + k * step, n, mean, real(scale), real(0), weight, bias)
                else:
                    place = (row % period * lines + k if runs == BY_LINE else row) * size
                    factor = scale * float(view(weight + place, 1)[0]) if weight != 0 else scale
                    offset = view(bias + place, 1)[0] if bias != 0 else real(0)
                    write(x + k * step, y + k * step, n, mean, real(factor), offset, 0, 0)

    return line_result


def make_line_gradient(dtype):
    """The gradient; rows are means. Gradients of a weight that means share are left as sums of the task."""
    size, view = np.dtype(dtype).itemsize, _view(dtype)
    real = np.dtype(dtype).type

    @subroutine(fastmath=FASTMATH_REASSOC)
    def add_sums(x, g, n, mean, weight):
        """Sums of g * weight and g * weight * (x - mean) over a line; the weight is 1 if its address is 0."""
        line, gradient = view(x, n), view(g, n)
        total, product = 0.0, 0.0
        if weight == 0:
            for j in range(n):
                total += float(gradient[j])
                product += float(gradient[j] * (line[j] - mean))
        else:
            factors = view(weight, n)
            for j in range(n):
                value = gradient[j] * factors[j]
                total += float(value)
                product += float(value * (line[j] - mean))
        return total, product

    @subroutine(fastmath=FASTMATH_REASSOC)
    def write(x, g, gx, n, mean, weight, a, b, c):
        line, gradient, result = view(x, n), view(g, n), view(gx, n)
        if weight == 0:
            for j in range(n):
                result[j] = a * gradient[j] - b * (line[j] - mean) - c
        else:
            factors = view(weight, n)
            for j in range(n):
                result[j] = a * (gradient[j] * factors[j]) - b * (line[j] - mean) - c

    @subroutine(fastmath=FASTMATH_REASSOC)
    def add_weight_sums(x, g, n, mean, scale, products, totals):
        line, gradient = view(x, n), view(g, n)
        of_products, of_totals = float64_at(products, n), float64_at(totals, n)
        for j in range(n):
            of_products[j] += float(gradient[j] * ((line[j] - mean) * scale))
            of_totals[j] += float(gradient[j])

    def line_gradient(args, lo, hi, task):
        lines, n, step = (
            load_int64(args, ROWS),
            load_int64(args, COLUMNS),
            load_int64(args, LINE_STRIDE) * size,
        )
        eps, count = float64_at(args + EPS * 8, 1)[0], float(lines * n)
        weight, gw, gb = _operand(args, load_int64(args, WEIGHT)), load_int64(args, GW), load_int64(args, GB)
        means, variances = _operand(args, load_int64(args, MEAN)), _operand(args, load_int64(args, VARIANCE))
        runs, period, weights = (
            load_int64(args, WEIGHT_RUNS),
            load_int64(args, PERIOD),
            load_int64(args, WEIGHTS),
        )
        sums = load_int64(args, SUMS) + task * weights * 16
        shared = float64_at(sums, 2 * weights)
        for j in range(2 * weights):
            shared[j] = 0.0
        for row in range(lo, hi):
            offset = row * load_int64(args, MEAN_STRIDE) * size
            x, g = _operand(args, load_int64(args, X)) + offset, _operand(args, load_int64(args, G)) + offset
            gx = _operand(args, load_int64(args, GX)) + offset
            mean = view(means + row * size, 1)[0] if means != 0 else real(0)
            scale = 1.0 / math.sqrt(float(view(variances + row * size, 1)[0]) + eps)
            along, first = weight if runs == ALONG else 0, row % period * lines
            total, product = 0.0, 0.0
            for k in range(lines):
                parts = add_sums(x + k * step, g + k * step, n, mean, along)
                factor = 1.0
                if runs == ALONG:
                    add_weight_sums(x + k * step, g + k * step, n, mean, real(scale), sums, sums + n * 8)
                elif runs == BY_LINE:
                    factor = float(view(weight + (first + k) * size, 1)[0])
                    shared[first + k] += parts[1] * scale
                    shared[weights + first + k] += parts[0]
                total += factor * parts[0]
                product += factor * parts[1]
            factor = scale
            if runs == BY_MEAN and weight != 0:
                factor *= float(view(weight + row * size, 1)[0])
                view(_operand(args, gw) + row * size, 1)[0] = real(product * scale)
                view(_operand(args, gb) + row * size, 1)[0] = real(total)
            a, b = real(factor), real(factor * scale * scale * product / count)
            c = real(factor * total / count) if means != 0 else real(0)
            for k in range(lines):
                if runs == BY_LINE:
                    a = real(scale * float(view(weight + (first + k) * size, 1)[0]))
                write(x + k * step, g + k * step, gx + k * step, n, mean, along, a, b, c)

    return line_gradient


def make_weight_gradient(dtype):
    """Stage 2 of the gradient of lines: a weight and a bias that means share, from the sums of all tasks."""
    view, real = _view(dtype), np.dtype(dtype).type

    def weight_gradient(args, lo, hi, task):
        n = load_int64(args, WEIGHTS)
        gw, gb = view(_operand(args, load_int64(args, GW)), n), view(_operand(args, load_int64(args, GB)), n)
        for j in range(lo, hi):
            product, total = 0.0, 0.0
            for k in range(load_int64(args, TASKS)):
                sums = float64_at(load_int64(args, SUMS) + k * n * 16, 2 * n)
                product += sums[j]
                total += sums[n + j]
            gw[j] = real(product)
            gb[j] = real(total)

    return weight_gradient
