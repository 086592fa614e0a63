// Words of NBDL_BYTES bytes, which are copied as they are, whatever stands in them.

template <int bytes> struct Word { struct alignas(16) type { unsigned long long low, high; }; };
template <> struct Word<1> { typedef unsigned char type; };
template <> struct Word<2> { typedef unsigned short type; };
template <> struct Word<4> { typedef unsigned type; };
template <> struct Word<8> { typedef unsigned long long type; };
typedef Word<NBDL_BYTES>::type word_t;
