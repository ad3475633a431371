// Weights as floats, 32 neighbours along K at a time. What is left to undo is in the tables by format, of
// ov_moe/kernels/formats.py:
//   F32_WIDE_f   1 where format f has a function here, 0 where its weights are taken by twos (weights.cl)
//   F32_OF_f     the end of that function's name
//   F32_BIAS_f   is added to every number
//   F32_UNIT_f   what a number is to be multiplied with
//   F32_FLIP_f   bits to flip in each word: a signed nibble becomes q + 8
//   PER_BYTE_f   weights in an element of the buffer
//
// floats_of_NAME(low, high, w, i, flip): the numbers from element i of w on.

// 16 bytes, and 16 bytes of f16 as floats. A buffer may stand anywhere in the host's memory; on NVIDIA it does not, and
// the compiler wants to be told. It has no vectors of half.
#ifdef __NV_CL_C_VERSION
#define LOAD_16(p, j) ((const global uint4 *)(p))[j]
inline float8 floats_of_halves(uint4 q) { return vload_half8(0, (const half *)&q); }
#else
#define LOAD_16(p, j) vload4(j, (const global uint *)(p))
inline float8 floats_of_halves(uint4 q) { return convert_float8(as_half8(q)); }
#endif
// Bytes become floats in one instruction.
inline float8 eight_nibbles(uint q)
{
    const float4 even = convert_float4(as_uchar4(q & 0x0F0F0F0F)), odd = convert_float4(as_uchar4(q >> 4 & 0x0F0F0F0F));
    return (float8)(even.x, odd.x, even.y, odd.y, even.z, odd.z, even.w, odd.w);
}
// e2m1 as f16: sign, exponent and mantissa in their places are the value times 2^-14, a subnormal too.
inline float8 eight_e2m1(uint q)
{
    const uint4 p = (uint4)(q, q >> 4, q >> 8, q >> 12);
    return floats_of_halves((p & 0x00070007u) << 9 | (p & 0x00080008u) << 12).s02461357;
}

#define DEFINE_FLOATS(NAME, W_T)                                                                            \
    inline void __attribute__((overloadable)) floats_of_##NAME(private float16 *low, private float16 *high, \
                                                               const global W_T *w, uint i, uint flip)
#define DEFINE_FLOATS_4(NAME)                                    \
    DEFINE_FLOATS(NAME, uchar)                                   \
    {                                                            \
        const uint4 q = LOAD_16(w + (i >> 1), 0) ^ flip;         \
        *low = (float16)(eight_##NAME(q.x), eight_##NAME(q.y));  \
        *high = (float16)(eight_##NAME(q.z), eight_##NAME(q.w)); \
    }
#define DEFINE_FLOATS_8(W_T)                                      \
    DEFINE_FLOATS(bytes, W_T)                                     \
    {                                                             \
        *low = convert_float16(as_##W_T##16(LOAD_16(w + i, 0)));  \
        *high = convert_float16(as_##W_T##16(LOAD_16(w + i, 1))); \
    }
DEFINE_FLOATS_4(nibbles)
DEFINE_FLOATS_4(e2m1)
DEFINE_FLOATS_8(uchar)
DEFINE_FLOATS_8(char)
#define HALVES(j) floats_of_halves(LOAD_16(w + i, j))
#define SINGLES(j) as_float4(LOAD_16(w + i, j))
DEFINE_FLOATS(floats, half)
{
    *low = (float16)(HALVES(0), HALVES(1));
    *high = (float16)(HALVES(2), HALVES(3));
}
DEFINE_FLOATS(floats, float)
{
    *low = (float16)(SINGLES(0), SINGLES(1), SINGLES(2), SINGLES(3));
    *high = (float16)(SINGLES(4), SINGLES(5), SINGLES(6), SINGLES(7));
}
#define floats_of_twos(low, high, w, i, flip)
