// Combining a value with one in memory that other threads may be combining with theirs, in any dtype.
//
// The word that holds the element is exchanged until no other thread was faster (compare and swap), since CUDA has
// additions of some dtypes only, and no product. float and double, whose sums are what gradients need, are added by
// the hardware.

namespace nbdl {

template <class Word, class T, class Combine>
NBDL_FUNCTION void combine_in_word(Word* word, int shift, T value, Combine combine) {
    Word old = atomicCAS(word, Word(0), Word(0)), assumed;
    do {
        assumed = old;
        const Word bits = assumed >> shift;
        T element;
        memcpy(&element, &bits, sizeof(T));  // little-endian: the lowest bytes
        element = combine(element, value);
        Word changed = 0;
        memcpy(&changed, &element, sizeof(T));
        const Word mask = (sizeof(T) == sizeof(Word) ? ~Word(0) : (Word(1) << (8 * sizeof(T) % (8 * sizeof(Word)))) - 1);
        old = atomicCAS(word, assumed, Word((assumed & ~(mask << shift)) | changed << shift));
    } while (old != assumed);
}

template <class T, class Combine> NBDL_FUNCTION void atomic_combine(T* address, T value, Combine combine) {
    if constexpr (sizeof(T) == 8) {
        combine_in_word(reinterpret_cast<unsigned long long*>(address), 0, value, combine);
    } else {
        const size_t place = reinterpret_cast<size_t>(address);
        combine_in_word(reinterpret_cast<unsigned*>(place & ~size_t(3)), int(place & 3) * 8, value, combine);
    }
}

template <class T, class Combine> NBDL_FUNCTION void atomic_add(T* address, T value, Combine combine) {
    atomic_combine(address, value, combine);
}
template <class Combine> NBDL_FUNCTION void atomic_add(float* address, float value, Combine) {
    atomicAdd(address, value);
}
template <class Combine> NBDL_FUNCTION void atomic_add(double* address, double value, Combine) {
    atomicAdd(address, value);
}

}  // namespace nbdl
