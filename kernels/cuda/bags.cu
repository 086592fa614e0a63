// Rows of a table (rows, width) added up over bags of indices. Bag b has the indices from starts[b] up to starts[b + 1],
// the last bag up to the end; without starts every bag has `length`. A thread has a column of a bag. element_t is the
// type in memory, number that of the arithmetic, each defined in front of this text.

struct Bag {
    long long first, end;
};

NBDL_FUNCTION Bag bag_of(
    const long long* starts, int has_starts, long long b, long long bags, long long total, long long length) {
    if (!has_starts) return {b * length, (b + 1) * length};
    const long long first = starts[b], end = b + 1 < bags ? starts[b + 1] : total;
    return {first < 0 ? 0 : first, end < total ? end : total};
}

// Negative indices count from the end.
NBDL_FUNCTION long long row_at(const long long* indices, long long k, long long rows) {
    const long long row = indices[k];
    return row < 0 ? row + rows : row;
}

// One over the number of indices that count, or one.
NBDL_FUNCTION number factor_of(
    const long long* indices, Bag bag, long long rows, long long padding, int mean) {
    if (!mean) return number(1);
    long long counted = 0;
    for (long long k = bag.first; k < bag.end; ++k) counted += row_at(indices, k, rows) != padding;
    return number(1) / number(counted > 1 ? counted : 1);
}

// A row that does not exist gives NaN: to raise an error, the host would have to wait.
extern "C" __global__ void nbdl_embedding_bag(
    const element_t* __restrict__ table, const long long* __restrict__ indices, const long long* __restrict__ starts,
    element_t* __restrict__ y, long long count, long long rows, long long width, long long bags, long long total,
    long long length, long long padding, int has_starts, int mean) {
    NBDL_EACH(i, count) {
        const Bag bag = bag_of(starts, has_starts, i / width, bags, total, length);
        number sum = 0;
        for (long long k = bag.first; k < bag.end; ++k) {
            const long long row = row_at(indices, k, rows);
            const bool exists = row >= 0 && row < rows;
            if (row != padding)
                sum += exists ? nbdl::cast<number>(table[row * width + i % width]) : nbdl::not_a_number<number>();
        }
        y[i] = nbdl::cast<element_t>(sum * factor_of(indices, bag, rows, padding, mean));
    }
}

// The gradient by the table, added to zeros; a row that does not exist is passed over.
extern "C" __global__ void nbdl_embedding_bag_input(
    const element_t* __restrict__ g, const long long* __restrict__ indices, const long long* __restrict__ starts,
    number* __restrict__ gx, long long count, long long rows, long long width, long long bags, long long total,
    long long length, long long padding, int has_starts, int mean) {
    NBDL_EACH(i, count) {
        const Bag bag = bag_of(starts, has_starts, i / width, bags, total, length);
        const number slope = nbdl::cast<number>(g[i]) * factor_of(indices, bag, rows, padding, mean);
        for (long long k = bag.first; k < bag.end; ++k) {
            const long long row = row_at(indices, k, rows);
            if (row != padding && row >= 0 && row < rows) atomicAdd(&gx[row * width + i % width], slope);
        }
    }
}
