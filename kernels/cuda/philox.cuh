// Random words by counter: Philox4x32-10 (Salmon et al. 2011, section 3.3 and table 2), the stream of the CPU.
//
// A draw is a sequence of 32-bit words; word i is word i % 4 of block i / 4. Its key is the seed, its counter the block
// and the number of the draw: both are read on the device.

struct Words {
    unsigned word[4];
};

NBDL_FUNCTION Words philox(long long seed, long long draw, long long block) {
    unsigned c0 = (unsigned)block, c1 = (unsigned)(block >> 32), c2 = (unsigned)draw, c3 = (unsigned)(draw >> 32);
    unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const unsigned long long p0 = 0xD2511F53ULL * c0, p1 = 0xCD9E8D57ULL * c2;
        c0 = (unsigned)(p1 >> 32) ^ c1 ^ k0;
        c1 = (unsigned)p1;
        c2 = (unsigned)(p0 >> 32) ^ c3 ^ k1;
        c3 = (unsigned)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}
