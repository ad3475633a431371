// Weights as f16, 32 neighbours along K at a time: four units of 8, each in the order of its pairs, where elements j
// and j + 4 of a unit are a pair. What is left to undo is in the tables by format, of ov_moe/kernels/formats.py:
//   F16_WIDE_f   1 where format f has a function here, 0 where its weights are taken by twos (weights.cl)
//   F16_OF_f     the end of that function's name
//   F16_BIAS_f   is added to every number
//   F16_FLIP_f   bits to flip in each word: two's complement becomes q + 8 or q + 128
//
// units_of_NAME(unit, w, i, flip): the units from element i of w on.

// The f16 1024 + q has q in its lowest bits.
inline half8 pairs_of_nibbles(uint q)
{
    return as_half8(((uint4)(q, q >> 4, q >> 8, q >> 12) & 0x000F000Fu) | 0x64006400u);
}
inline half8 pairs_of_bytes(uint2 q) { return as_half8(convert_ushort8(as_uchar8(q).s04152637) | (ushort8)0x6400); }
// e2m1 as f16: sign, exponent and mantissa in their places are the value times 2^-14, a subnormal too.
inline half8 pairs_of_e2m1(uint q)
{
    const uint4 p = (uint4)(q, q >> 4, q >> 8, q >> 12);
    return as_half8((p & 0x00070007u) << 9 | (p & 0x00080008u) << 12) * (half8)16384.0h;
}
// 8 neighbouring f16. By shifts and masks: as a permutation of halves it took Arc's compiler twice the instructions.
inline uint4 pairs_of_halves(uint4 w)
{
    const uint2 low = w.xy & 0xFFFFu, high = w.zw & 0xFFFF0000u;
    return (uint4)(low | w.zw << 16, w.xy >> 16 | high).xzyw;
}

#define DEFINE_UNITS_4(NAME)                                                                            \
    inline void units_of_##NAME(half8 unit[4], const global uchar *w, ulong i, uint flip)               \
    {                                                                                                   \
        const uint4 q = vload4(0, (const global uint *)(w + (i >> 1))) ^ flip;                          \
        unit[0] = pairs_of_##NAME(q.x), unit[1] = pairs_of_##NAME(q.y), unit[2] = pairs_of_##NAME(q.z), \
        unit[3] = pairs_of_##NAME(q.w);                                                                 \
    }
DEFINE_UNITS_4(nibbles)
DEFINE_UNITS_4(e2m1)
inline void units_of_bytes(half8 unit[4], const global void *w, ulong i, uint flip)
{
    const uint8 q = vload8(0, (const global uint *)((const global uchar *)w + i)) ^ flip;
    unit[0] = pairs_of_bytes(q.s01), unit[1] = pairs_of_bytes(q.s23);
    unit[2] = pairs_of_bytes(q.s45), unit[3] = pairs_of_bytes(q.s67);
}
inline void __attribute__((overloadable)) units_of_floats(half8 unit[4], const global half *w, ulong i, uint flip)
{
    UNROLL_FOR (int u = 0; u < 4; ++u)
        unit[u] = as_half8(pairs_of_halves(vload4(u, (const global uint *)(w + i))));
}
inline void __attribute__((overloadable)) units_of_floats(half8 unit[4], const global float *w, ulong i, uint flip)
{
    UNROLL_FOR (int u = 0; u < 4; ++u)
        unit[u] = convert_half8(vload8(u, w + i).s04152637);
}
#define units_of_twos(unit, w, i, flip)
