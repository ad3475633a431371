// Weights of the micro-kernel "mma": from what stands in local memory to operands of the matrix instruction.
//
// Lane p (of 4) of a column holds, of 32 neighbours along K, k = 8c + 2p and k + 1 for c < 4: four pairs of f16. A
// 16-byte unit is 32 weights of 4 bits, 16 of 8 or 8 of f16; the units of a column are TILE_N apart.
//
// PACKED 0: weights, scales and zero points as the model stores them.
// PACKED 1: as ov_moe/kernel_bench/pack.py lays out 4 bits: units [E, K/32, N], lane p's eight nibbles in word p; and
// one word for scale and zero point, both f16, [E, groups, N]; mma.py has the number of rows from which it pays.
//
// Rounding: a weight is round_f16((q - zero) * scale), the difference exact: what the model's own f16 decompression
// gives. Scales of f4e2m1 are below 4, 2^14 times a scale being an f16: others are infinite, and refused in packed
// weights.

#if CAT(IS_HALF_, INPUT0_TYPE)

#define W_FORMAT CAT(WEIGHTS, _FORMAT)
#define W_GROUP CAT(WEIGHTS, _GROUP)
#define W_ZERO CAT(WEIGHTS, _ZERO)
#define SCALE_T INPUT3_TYPE

// By format, of ov_moe/kernels/formats.py; FLIP turns two's complement into offset binary: q ^ 8 = q + 8.
#define W_BITS CAT(BITS_, W_FORMAT)
#define W_FLIP CAT(FLIP_, W_FORMAT)
#define W_IS_E2M1 CAT(IS_E2M1_, W_FORMAT)
#define HAS_zero_none 0
#define HAS_zero_u4 1
#define HAS_zero_i4 1
#define HAS_zero_u8 1
#define HAS_zero_i8 1
#define W_HAS_ZERO CAT(HAS_zero_, W_ZERO)

#if W_IS_E2M1
// e2m1 as f16: sign, exponent and mantissa in their places are the value times 2^-14, a subnormal too; the scale makes
// up for it. `t` holds the nibbles in bits 12..15 and 28..31.
#define E2M1_PAIR(t) and_xor((t) >> 3, 0x0E000E00u, (t) & 0x80008000u)
#define E2M1_FACTOR 16384.0f
#endif

// Rows of a part's matrix for each expert, and the row of a column; packing brings interleaved rows into halves.
#if PARTS == 2
#define PART_ROWS ((1 + GATE_UP_FUSED) * GEMM_N)
#define PART_ROW_0(n) (PACKED ? (n) : CAT(GATE_ROW_, LAYOUT)(n, GEMM_N))
#define PART_ROW_1(n) (PACKED && GATE_UP_FUSED ? GEMM_N + (n) : CAT(UP_ROW_, LAYOUT)(n, GEMM_N))
#else
#define PART_ROWS GEMM_N
#define PART_ROW_0(n) (n)
#define PART_ROW_1(n) (n)
#endif
#define ROW_STEP (PART_ROW_0(1) - PART_ROW_0(0))

// ---- What turns a raw weight into a value: `scale` twice in a word, and what subtracts the zero point.
#if PACKED

typedef uint2 zero_t;
typedef uint entry_t; // scale, then 1024 + zero point
ALWAYS_INLINE void scale_and_zero(entry_t entry, uint index, uint *scale, zero_t *zero)
{
    *scale = select_bytes(entry, 0, 0x1010);
    zero->x = select_bytes(entry, 0, 0x3232) ^ 0x80008000u; // -(1024 + zero)
    zero->y = add_halves(zero->x, 0x63806380u);             // -(64 + zero)
}

ALWAYS_INLINE void dequantise(uint b[4], const local uint4 *w, int p, uint scale, zero_t zero)
{
    const uint q = ((const local uint *)w)[p];
#if W_IS_E2M1
    b[0] = mul_halves(E2M1_PAIR(q << 12), scale), b[1] = mul_halves(E2M1_PAIR(q << 8), scale);
    b[2] = mul_halves(E2M1_PAIR(q << 4), scale), b[3] = mul_halves(E2M1_PAIR(q), scale);
#else
    const uint r = q >> 8;
    // 1024 + q - (1024 + zero), and (1024 + 16 q) / 16 - (64 + zero)
    b[0] = mul_halves(add_halves(and_xor(q, 0x000F000Fu, 0x64006400u), zero.x), scale);
    b[1] = mul_halves(fma_halves(and_xor(q, 0x00F000F0u, 0x64006400u), 0x2C002C00u, zero.y), scale);
    b[2] = mul_halves(add_halves(and_xor(r, 0x000F000Fu, 0x64006400u), zero.x), scale);
    b[3] = mul_halves(fma_halves(and_xor(r, 0x00F000F0u, 0x64006400u), 0x2C002C00u, zero.y), scale);
#endif
}

#else

typedef uint zero_t;
typedef uint2 entry_t; // the stored words that hold the scale and the zero point of `index`

#if W_BITS == 4
#define ZERO_PAIR(z) (0xD400E400u + (z) * 0x00100001u) // -(1024 + z), -(64 + z)
#else
#define ZERO_PAIR(z) (0xE400E400u + (z) * 0x00010001u) // -(1024 + z) twice
#endif

ALWAYS_INLINE void scale_and_zero(entry_t entry, uint index, uint *scale, zero_t *zero)
{
#if W_IS_E2M1
    const float value = e8m0(entry.x >> (index & 3) * 8 & 255) * E2M1_FACTOR;
    *scale = to_halves(value, value);
#elif W_GROUP
    if (sizeof(SCALE_T) == 2)
        *scale = select_bytes(entry.x, 0, index & 1 ? 0x3232 : 0x1010);
    else
        *scale = to_halves(as_float(entry.x), as_float(entry.x));
    uint z = W_FLIP & (W_BITS == 4 ? 15 : 255);
    if (W_HAS_ZERO)
        z ^= W_BITS == 4 ? entry.y >> (index & 7) * 4 & 15 : entry.y >> (index & 3) * 8 & 255;
    *zero = ZERO_PAIR(z);
#endif
}

ALWAYS_INLINE void dequantise(uint b[4], const local uint4 *w, int p, uint scale, zero_t zero)
{
#if W_BITS == 4
    const uint4 q = *w;
    const uint word[4] = {q.x, q.y, q.z, q.w}, byte = 0x1111u * p;
    MMA_FOR (int c = 0; c < 4; ++c) {
        const uint twice = select_bytes(word[c], 0, byte);
#if W_IS_E2M1
        b[c] = mul_halves(E2M1_PAIR(and_xor(twice, 0xF0000000u, twice << 12 & 0xF000u)), scale);
#else
        // 1024 + q in the low half, 1024 + 16 q in the high one: one fma makes both q - zero.
        const uint raised = and_xor(twice, 0x00F0000Fu, 0x64006400u ^ (W_FLIP & 0x00F0000Fu));
        b[c] = mul_halves(fma_halves(raised, 0x2C003C00u, zero), scale);
#endif
    }
#elif W_BITS == 8
    MMA_FOR (int c = 0; c < 4; ++c) {
        const uint q = ((const local uint *)(w + c / 2 * TILE_N))[c % 2 * 2 + p / 2] ^ W_FLIP;
        b[c] = mul_halves(add_halves(select_bytes(q, 0x64646464u, p & 1 ? 0x4342 : 0x4140), zero), scale);
    }
#else
    MMA_FOR (int c = 0; c < 4; ++c)
        b[c] = ((const local uint *)(w + c * TILE_N))[p];
#endif
}

#endif
#endif
