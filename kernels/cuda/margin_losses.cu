// Margin losses of rows of n scores (rows.cuh). element_t is the type in memory, number that of the arithmetic, each
// defined in front of this text. A class that does not exist gives NaN: to raise an error, the host would have to wait.

// max(0, lead), NaN of NaN.
NBDL_FUNCTION number shortfall(number lead) { return nbdl::maximum(lead, number(0)); }

// The mean over the classes of max(0, margin - x[target] + x)^p.
extern "C" __global__ void nbdl_multi_margin_loss(
    const element_t* __restrict__ x, const long long* __restrict__ target, number* __restrict__ losses, long long rows,
    long long n, double margin, int p) {
    const Row row = this_row(rows, n, 1);
    const long long label = row.exists ? target[row.number] : 0;
    const bool fits = label >= 0 && label < n;
    number total = 0;
    if (row.exists && fits) {
        const number offset = number(margin) - nbdl::cast<number>(x[row.start + label]);
        for (long long k = row.lane; k < n; k += row.lanes) {
            if (k == label) continue;
            const number loss = shortfall(offset + nbdl::cast<number>(x[row.start + k]));
            total += p == 1 ? loss : loss * loss;
        }
    }
    total = sum_over_lanes(total, row);
    if (row.exists && row.lane == 0) losses[row.number] = fits ? total / number(n) : nbdl::not_a_number<number>();
}

// The gradient by the scores; that of a row's mean over the classes is *g / divisor.
extern "C" __global__ void nbdl_multi_margin_loss_input(
    const element_t* __restrict__ g, const element_t* __restrict__ x, const long long* __restrict__ target,
    element_t* __restrict__ y, long long rows, long long n, double margin, double divisor, int p) {
    const Row row = this_row(rows, n, 1);
    const long long label = row.exists ? target[row.number] : 0;
    const bool fits = label >= 0 && label < n;
    const number share = nbdl::cast<number>(*g) / number(divisor);
    number total = 0;
    if (row.exists) {
        const number offset = fits ? number(margin) - nbdl::cast<number>(x[row.start + label])
                                   : nbdl::not_a_number<number>();
        for (long long k = row.lane; k < n; k += row.lanes) {
            if (k == label) continue;
            const number loss = shortfall(offset + nbdl::cast<number>(x[row.start + k]));
            number slope = p == 2 ? 2 * loss * share : loss > 0 ? share : number(0);
            if (!fits) slope = offset;
            total += slope;
            y[row.start + k] = nbdl::cast<element_t>(slope);
        }
    }
    total = sum_over_lanes(total, row);
    if (row.exists && fits && row.lane == 0) y[row.start + label] = nbdl::cast<element_t>(-total);
}

// How many targets a row has: those before the first negative one; -1 if one of them is no class.
NBDL_FUNCTION long long count_of(const long long* target, long long n) {
    long long count = 0;
    while (count < n && target[count] >= 0) {
        if (target[count] >= n) return -1;
        ++count;
    }
    return count;
}

NBDL_FUNCTION bool is_among(const long long* target, long long count, long long label) {
    for (long long k = 0; k < count; ++k)
        if (target[k] == label) return true;
    return false;
}

// A block a row: the sum of max(0, 1 - x[target] + x) / n over targets and other classes.
extern "C" __global__ void nbdl_multilabel_margin_loss(
    const element_t* __restrict__ x, const long long* __restrict__ target, number* __restrict__ losses, long long rows,
    long long n) {
    const Row row = this_row(rows, n, 1);
    target += row.start;
    x += row.start;
    const long long count = count_of(target, n);
    number total = 0;
    for (long long j = row.lane; j < n && count > 0; j += row.lanes) {
        if (is_among(target, count, j)) continue;
        const number score = 1 + nbdl::cast<number>(x[j]);
        for (long long k = 0; k < count; ++k) total += shortfall(score - nbdl::cast<number>(x[target[k]]));
    }
    total = sum_over_lanes(total, row);
    if (row.lane == 0) losses[row.number] = count < 0 ? nbdl::not_a_number<number>() : total / number(n);
}

// A block a row: the gradient by the scores. `marks` has room for a byte a score; a lane looks at its own ones only.
extern "C" __global__ void nbdl_multilabel_margin_loss_input(
    const element_t* __restrict__ g, const element_t* __restrict__ x, const long long* __restrict__ target,
    unsigned char* __restrict__ marks, element_t* __restrict__ y, long long rows, long long n, double divisor) {
    const Row row = this_row(rows, n, 1);
    target += row.start;
    x += row.start;
    y += row.start;
    marks += row.start;
    const number share = nbdl::cast<number>(*g) / number(divisor);
    const long long count = count_of(target, n);
    for (long long j = row.lane; j < n; j += row.lanes) {
        number slope = count < 0 ? nbdl::not_a_number<number>() : number(0);
        marks[j] = is_among(target, count, j);
        for (long long k = 0; k < count && !marks[j]; ++k)
            if (1 - nbdl::cast<number>(x[target[k]]) + nbdl::cast<number>(x[j]) > 0) slope += share;
        y[j] = nbdl::cast<element_t>(slope);
    }
    for (long long k = 0; k < count; ++k) {
        const number offset = 1 - nbdl::cast<number>(x[target[k]]);
        number total = 0;
        for (long long j = row.lane; j < n; j += row.lanes)
            if (!marks[j] && offset + nbdl::cast<number>(x[j]) > 0) total += share;
        total = sum_over_lanes(total, row);
        if (target[k] % row.lanes == row.lane)
            y[target[k]] = nbdl::cast<element_t>(nbdl::cast<number>(y[target[k]]) - total);
    }
}
