// mma_ptx.cl in OpenCL C, for tests on devices with sub-groups of 32 and f16: copies are done at once, and the matrix
// instruction multiplies in the order of k.

#if CAT(IS_HALF_, INPUT0_TYPE) && MMA_EMULATION

// Intel's runtime for CPUs otherwise gives both columns of a pair the same weights in some tiles; it also
// compiles three times faster.
#pragma clang optimize off

#define MMA_ATTRIBUTES __attribute__((intel_reqd_sub_group_size(32)))
#define MMA_FOR for // a hundred copies of what follows take a CPU's compiler minutes
#define MMA_ROLLED_FOR for
#define ALWAYS_INLINE inline

typedef local uchar *address_t;
#define ADDRESS(p) ((local uchar *)(p))

#define COPY_16(to, from, wanted) COPY_16_FILL(to, from, true, wanted)
#define COPY_16_FILL(to, from, inside, wanted)                                            \
    do                                                                                    \
        if (wanted)                                                                       \
            *(local uint4 *)(to) = (inside) ? *(const global uint4 *)(from) : (uint4)(0); \
    while (0)
#define COPY_4(to, from, wanted)                                \
    do                                                          \
        if (wanted)                                             \
            *(local uint *)(to) = *(const global uint *)(from); \
    while (0)
#define COPIES_END_STAGE()
#define COPIES_WAIT(n)

// Lane l receives words l % 4 of row l / 4 of each matrix.
inline void load_matrices(uint r[4], const local uchar *base, uint offset)
{
    const uint lane = get_sub_group_local_id();
    for (int m = 0; m < 4; ++m)
        r[m] = *(const local uint *)(base + intel_sub_group_shuffle(offset, 8 * m + lane / 4) + lane % 4 * 4);
}
// Pointers have no shuffle: the address is taken apart into the group's stages and an offset.
#define LOAD_MATRICES(r, address) \
    load_matrices(r, (const local uchar *)stages, (uint)((address) - (local uchar *)stages))

// Element k of row `row` of a: lane 4 (row % 8) + k % 8 / 2 holds it; of column n of b: lane 4 n + k % 8 / 2.
inline float4 mma(float4 c, const uint *a, uint b0, uint b1)
{
    const uint lane = get_sub_group_local_id(), g = lane / 4, p = lane % 4;
    for (int k = 0; k < 16; ++k) {
        const uint from = k % 8 / 2, high = k / 8;
        const float above = as_half2(intel_sub_group_shuffle(a[2 * high], 4 * g + from))[k % 2];
        const float below = as_half2(intel_sub_group_shuffle(a[2 * high + 1], 4 * g + from))[k % 2];
        const float left = as_half2(intel_sub_group_shuffle(high ? b1 : b0, 8 * p + from))[k % 2];
        const float right = as_half2(intel_sub_group_shuffle(high ? b1 : b0, 8 * p + 4 + from))[k % 2];
        c = fma((float4)(above, above, below, below), (float4)(left, right, left, right), c);
    }
    return c;
}

inline uint select_bytes(uint a, uint b, uint selector)
{
    const ulong both = (ulong)b << 32 | a;
    uint r = 0;
    for (int i = 0; i < 4; ++i)
        r |= (uint)(both >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
    return r;
}
inline uint and_xor(uint a, uint mask, uint bits) { return (a & mask) ^ bits; }
inline uint fma_halves(uint a, uint b, uint c) { return as_uint(fma(as_half2(a), as_half2(b), as_half2(c))); }
inline uint add_halves(uint a, uint b) { return as_uint(as_half2(a) + as_half2(b)); }
inline uint mul_halves(uint a, uint b) { return as_uint(as_half2(a) * as_half2(b)); }
inline uint to_halves(float low, float high) { return as_uint(convert_half2_rte((float2)(low, high))); }

#endif
