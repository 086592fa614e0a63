// Arrays one after the other along an axis: rows of y are made of rows of up to eight parts, in words
// (words.cuh). A part that is missing has no words.

#define NBDL_PARTS(of) of(0) of(1) of(2) of(3) of(4) of(5) of(6) of(7)
#define NBDL_OPERAND(k) const word_t* __restrict__ x##k,
#define NBDL_WIDTH(k) , long long n##k
#define NBDL_ADDED(k) +n##k
#define NBDL_TAKEN(k)                      \
    if (place >= 0 && place < n##k) {      \
        from = x##k + row * n##k + place;  \
    }                                      \
    place -= n##k;

// `count` words of all parts; rows of y have `width` words, the first part begins at word `start`.
extern "C" __global__ void nbdl_concatenate(
    NBDL_PARTS(NBDL_OPERAND) word_t* __restrict__ y, long long count, long long width,
    long long start NBDL_PARTS(NBDL_WIDTH)) {
    const long long taken = 0 NBDL_PARTS(NBDL_ADDED);
    NBDL_EACH(i, count) {
        const long long row = i / taken;
        long long place = i % taken;
        word_t* to = y + row * width + start + place;
        const word_t* from = x0;
        NBDL_PARTS(NBDL_TAKEN)
        *to = *from;
    }
}
