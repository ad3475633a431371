// Micro-kernel "mma": NVIDIA tensor cores by inline PTX, f16 activations, fp32 accumulation.
//
// A group computes a TILE_M x TILE_N tile with WARPS_M x WARPS_N x WARPS_K warps. A warp owns FRAGS_M fragments of
// 16 rows and FRAGS_N of 8 columns; with WARPS_K > 1 the warps share out K and are summed in a fixed order at the
// end. x rows and weights travel to local memory by cp.async, STAGES deep, TILE_K of K at a time.
//
// Two permutations make every access wide without a packed weight layout; the sums do not notice them:
// - N: fragment b of a run of RUN owns columns 2 RUN a + 2b + e (a < 4, e < 2): a lane then holds 2 RUN neighbours of
//   a row of the result and stores them at once. The rows of the weight tile are placed so as they are loaded.
// - M: fragment i of warp m owns rows 16 (i WARPS_M + m): a tile with few rows keeps all warps equally busy.
//
// Rounding: a dequantised weight is f16, round((q - zero) * scale), the difference exact: what the model's own f16
// decompression computes. Products and sums are fp32. A row's arithmetic depends on nothing but the row.
//
// Needs: K a multiple of 32, N of 8, quantisation groups a multiple of 8, buffers aligned to 16 bytes, x dense
// along K with a row pitch that is a multiple of 8. kernels/config.py refuses the rest.

// ---- Which GEMM: gate_up.cl is two matrices, in turn a run of columns of gate and one of up.
#ifdef GATE_FORMAT
#define GEMM_N INTERMEDIATE
#define GEMM_K HIDDEN
#define GEMM_PARTS 2
#define W_FORMAT GATE_FORMAT
#define W_ZERO GATE_ZERO
#define W_GROUP GATE_GROUP
#define SCALE_T INPUT3_TYPE
#else
#define GEMM_N HIDDEN
#define GEMM_K INTERMEDIATE
#define GEMM_PARTS 1
#define W_FORMAT DOWN_FORMAT
#define W_ZERO DOWN_ZERO
#define W_GROUP DOWN_GROUP
#define SCALE_T INPUT3_TYPE
#endif
#define TILE_COLUMNS (TILE_N / GEMM_PARTS) // of the result
#define BLOCKS CEIL_DIV(GEMM_N, TILE_COLUMNS)

// Whether gate and up stand in one matrix [E, 2I, H]: rows gate0 up0 gate1 up1 ...
#ifndef INTERLEAVED
#define INTERLEAVED 0
#endif

// PACKED 0: weights, scales and zero points as the model stores them. 1: as pack.py lays them out: weights in units of 16
// bytes [E, K/32, N], lane p's eight nibbles in word p; a u32 of scale and 1024 + zero point (both f16) [E, groups, N].
#ifndef PACKED
#define PACKED 0
#endif

#define BITS_u4 4
#define BITS_i4 4
#define BITS_u8 8
#define BITS_i8 8
#define BITS_float 16
#define W_BITS CAT(BITS_, W_FORMAT)
#define FLIP_u4 
#define FLIP_i4 ^ 0x88888888u // two's complement to offset binary: q ^ 8 = q + 8
#define FLIP_u8 
#define FLIP_i8 ^ 0x80808080u
#define FLIP_float 
#define W_FLIP CAT(FLIP_, W_FORMAT)
#define ZERO_IS_none 0
#define ZERO_IS_u4 1
#define ZERO_IS_i4 1
#define ZERO_IS_u8 1
#define ZERO_IS_i8 1
#define W_HAS_ZERO CAT(ZERO_IS_, W_ZERO)

#define FRAGS_M (TILE_M / (16 * WARPS_M))
#define FRAGS_N (TILE_N / (8 * WARPS_N))
#define RUN (FRAGS_N / GEMM_PARTS < 4 ? FRAGS_N / GEMM_PARTS : 4)
#define RUNS (FRAGS_N / RUN)
#define RUN_COLUMNS (8 * RUN)
#define SUBS (TILE_K / 32)              // of a stage
#define STEPS CEIL_DIV(GEMM_K, TILE_K)
#define X_ROW_UNITS (TILE_K / 8)        // 16-byte units
#define X_UNITS (TILE_M * X_ROW_UNITS)
#define UNITS_PER_SUB (W_BITS / 4)      // of a weight row
#define W_ROW_UNITS (SUBS * UNITS_PER_SUB)
#define W_UNITS (TILE_N * W_ROW_UNITS)
#define W_ITERS CEIL_DIV(W_UNITS, LOCAL_SIZE)
#define X_ITERS CEIL_DIV(X_UNITS, LOCAL_SIZE)

// Scales and zero points of a stage: one entry for each SZ_K of K and column.
#if W_GROUP == 0
#define SZ_K TILE_K
#elif W_GROUP % TILE_K == 0 || W_GROUP == GEMM_K
#define SZ_K TILE_K
#elif W_GROUP % 128 == 0
#define SZ_K 128
#elif W_GROUP % 64 == 0
#define SZ_K 64
#elif W_GROUP % 32 == 0
#define SZ_K 32
#elif W_GROUP % 16 == 0
#define SZ_K 16
#else
#define SZ_K 8
#endif
#define SZ_PARTS (W_GROUP ? TILE_K / SZ_K : 0)
#define GROUPS_K (W_GROUP ? GEMM_K / (W_GROUP ? W_GROUP : 1) : 1)
#if PACKED
#define SZ_UNITS (TILE_N * SZ_PARTS / 4)
#define SZ_ITERS CEIL_DIV(SZ_UNITS, LOCAL_SIZE)
#else
#define SZ_UNITS CEIL_DIV(TILE_N * SZ_PARTS, 2)
#define SZ_ITERS CEIL_DIV(TILE_N * SZ_PARTS, LOCAL_SIZE)
#endif
#define ROWS_AT_ONCE (LOCAL_SIZE / X_ROW_UNITS) // x rows that the group copies in one iteration
// Where row r stands in source[]: the rows of one work-item are neighbours.
#define SOURCE_PLACE(r) ((r) % ROWS_AT_ONCE * X_ITERS + (r) / ROWS_AT_ONCE)
#define STAGE_UNITS (X_UNITS + W_UNITS + SZ_UNITS)
#define REDUCE_UNITS ((WARPS_K - 1) * WARPS_M * WARPS_N * 32 * FRAGS_M * FRAGS_N)
#define LOCAL_UNITS (STAGES * STAGE_UNITS > REDUCE_UNITS ? STAGES * STAGE_UNITS : REDUCE_UNITS)

// ---- PTX
#define LOCAL_ADDRESS(p) ((uint)(size_t)(p))
#define CP_ASYNC_16(to, from, bytes) \
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory")
// Weights: .L2::128B or .L2::256B makes L2 fetch what the next steps of K read.
#ifndef W_PREFETCH
#define W_PREFETCH ""
#endif
#define CP_ASYNC_W(to, from, bytes) \
    asm volatile("cp.async.cg.shared.global" W_PREFETCH " [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory")
#define CP_ASYNC_4(to, from) \
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory")
#define CP_COMMIT() asm volatile("cp.async.commit_group;" ::: "memory")
#define CP_WAIT(n) asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")

inline __attribute__((always_inline)) uint prmt(uint a, uint b, uint selector)
{
    uint r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
    return r;
}
// (a & mask) | bits, in one instruction.
inline __attribute__((always_inline)) uint and_or(uint a, uint mask, uint bits)
{
    uint r;
    asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(r) : "r"(a), "r"(mask), "r"(bits));
    return r;
}
// Four 8 x 8 matrices of 16-bit elements; a lane names one row.
#define LDMATRIX(r, address)                                                                       \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"                   \
                 : "=r"((r)[0]), "=r"((r)[1]), "=r"((r)[2]), "=r"((r)[3])                          \
                 : "r"(address)                                                                    \
                 : "memory")
inline __attribute__((always_inline)) uint fma_h2(uint a, uint b, uint c)
{
    uint r;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}
inline __attribute__((always_inline)) uint add_h2(uint a, uint b)
{
    uint r;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
inline __attribute__((always_inline)) uint mul_h2(uint a, uint b)
{
    uint r;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
inline __attribute__((always_inline)) uint pack_h2(float low, float high)
{
    uint r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
// c + the 16 x 16 fragment a * the 16 x 8 fragment (b0, b1).
inline __attribute__((always_inline)) float4 mma(float4 c, const uint *a, uint b0, uint b1)
{
    float x = c.x, y = c.y, z = c.z, w = c.w;
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(x), "+f"(y), "+f"(z), "+f"(w)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    return (float4)(x, y, z, w);
}

// ---- Weights: lane p's share of 32 along K of one column is k = 8c + 2p, + 1 for c < 4: four f16 pairs.
// w is the 32's first unit, the units of a column are TILE_N apart.
#if PACKED
inline __attribute__((always_inline)) void dequantise(uint b[4], const local uint4 *w, int p, uint scale, uint2 zero)
{
    const uint q = ((const local uint *)w)[p], r = q >> 8;
    b[0] = mul_h2(add_h2(and_or(q, 0x000F000Fu, 0x64006400u), zero.x), scale); // 1024 + q - (1024 + zero)
    b[1] = mul_h2(fma_h2(and_or(q, 0x00F000F0u, 0x64006400u), 0x2C002C00u, zero.y), scale); // 64 + q - (64 + zero)
    b[2] = mul_h2(add_h2(and_or(r, 0x000F000Fu, 0x64006400u), zero.x), scale);
    b[3] = mul_h2(fma_h2(and_or(r, 0x00F000F0u, 0x64006400u), 0x2C002C00u, zero.y), scale);
}
#define ZERO_T uint2
#elif W_BITS == 4
// 1024 + q sits in the low half's mantissa, 1024 + 16 q in the high half's: one fma makes both q - zero, exactly.
#define ZERO_PAIR(z) (0xD400E400u + (z) * 0x00100001u) // -(1024 + z), -(64 + z)
inline __attribute__((always_inline)) void dequantise(uint b[4], const local uint4 *w, int p, uint scale, uint zero)
{
    const uint4 q = *w;
    const uint byte = 0x1111u * p;
#define PAIR(word) mul_h2(fma_h2(and_or(prmt(word W_FLIP, 0, byte), 0x00F0000Fu, 0x64006400u), 0x2C003C00u, zero), scale)
    b[0] = PAIR(q.x), b[1] = PAIR(q.y), b[2] = PAIR(q.z), b[3] = PAIR(q.w);
}
#elif W_BITS == 8
#define ZERO_PAIR(z) (0xE400E400u + (z) * 0x00010001u) // -(1024 + z) twice
inline __attribute__((always_inline)) void dequantise(uint b[4], const local uint4 *w, int p, uint scale, uint zero)
{
#pragma unroll
    for (int c = 0; c < 4; ++c) {
        const uint q = ((const local uint *)(w + c / 2 * TILE_N))[c % 2 * 2 + p / 2] W_FLIP;
        b[c] = mul_h2(add_h2(prmt(q, 0x64646464u, p & 1 ? 0x4342 : 0x4140), zero), scale);
    }
}
#else
#define ZERO_PAIR(z) 0
inline __attribute__((always_inline)) void dequantise(uint b[4], const local uint4 *w, int p, uint scale, uint zero)
{
#pragma unroll
    for (int c = 0; c < 4; ++c)
        b[c] = ((const local uint *)(w + c * TILE_N))[p];
}
#endif

#ifndef ZERO_T
#define ZERO_T uint
#endif

// Where a column of the tile stands in local memory: N as above.
#define COLUMN_PLACE(c) ((c) / RUN_COLUMNS * RUN_COLUMNS + (c) / 2 % RUN * 8 + (c) / (2 * RUN) % 4 * 2 + (c) % 2)
#define X_SWIZZLE(row) (X_ROW_UNITS >= 8 ? (row) & 7 : (row) >> 1 & 3)

// Matrix row of tile column c, columns behind the last one repeat it; *part is 1 for up.
inline __attribute__((always_inline)) uint weight_row(int c, int expert, int block, int *part)
{
#if GEMM_PARTS == 2
    *part = c / RUN_COLUMNS % 2;
    const uint n = min(block * TILE_COLUMNS + c / (2 * RUN_COLUMNS) * RUN_COLUMNS + c % RUN_COLUMNS, GEMM_N - 1);
    return INTERLEAVED ? ((uint)expert * GEMM_N + n) * 2 + *part : (uint)expert * GEMM_N + n;
#else
    *part = 0;
    return (uint)expert * GEMM_N + min(block * TILE_N + c, GEMM_N - 1);
#endif
}

// The matrices of a GEMM, as bytes; of one part unless gate and up stand apart.
typedef struct {
    const global uchar *w[2], *s[2], *z[2];
} weights_t;

// Whether unpacked scales stay in registers across the 32s of a group: not where accumulators fill them.
#ifndef KEEP_SCALES
#define KEEP_SCALES (FRAGS_M * FRAGS_N < 32)
#endif

// 32s of K in one body of the loop: more overlap, but registers.
#ifndef UNROLL_SUBS
#define UNROLL_SUBS 4
#endif

// What a work-item copies in each stage.
typedef struct {
    const global uchar *w[W_ITERS];
    uint sz[SZ_ITERS > 0 ? SZ_ITERS : 1]; // row of scales
} copies_t;

inline __attribute__((always_inline)) void plan_copies(copies_t *copies, const weights_t *weights,
                                                       int expert, int block)
{
    const int lid = get_local_id(0);
#pragma unroll
    for (int i = 0; i < W_ITERS; ++i) {
        const int c = PACKED ? (lid + i * LOCAL_SIZE) % TILE_N : (lid + i * LOCAL_SIZE) / W_ROW_UNITS;
        int part;
        const uint row = weight_row(c, expert, block, &part);
#if PACKED
        const int u = (lid + i * LOCAL_SIZE) / TILE_N;
        copies->w[i] = (part ? weights->w[1] : weights->w[0]) + ((ulong)(expert * (GEMM_K / 32) + u) * GEMM_N + row - expert * GEMM_N) * 16;
#else
        copies->w[i] = (part ? weights->w[1] : weights->w[0]) + (ulong)row * (GEMM_K * W_BITS / 8) +
                       (lid + i * LOCAL_SIZE) % W_ROW_UNITS * 16;
#endif
    }
#pragma unroll
    for (int i = 0; i < SZ_ITERS; ++i) {
        int part;
#if PACKED
        const int unit = lid + i * LOCAL_SIZE; // 4 columns
        const uint row = weight_row(min(unit % (TILE_N / 4) * 4, TILE_N - 4), expert, block, &part);
        copies->sz[i] = expert * GROUPS_K * GEMM_N + min(row - expert * GEMM_N, (uint)(GEMM_N - 4));
#else
        copies->sz[i] = weight_row((lid + i * LOCAL_SIZE) % TILE_N, expert, block, &part) * GROUPS_K;
#endif
    }
}

// Starts the copies of step k0 / TILE_K. source[r] is the first element of row r; dead rows are not read: they
// hold whatever was there, and mma keeps rows apart.
inline __attribute__((always_inline)) void start_copies(local uint4 *stage, const copies_t *copies,
                                                        const weights_t *weights, const global half *x,
                                                        const local uint *source, int rows, int k0)
{
    const int lid = get_local_id(0);
    const uint to = LOCAL_ADDRESS(stage);
    const int x_row = lid / X_ROW_UNITS, c = lid % X_ROW_UNITS, k = k0 + 8 * c;
    const int bytes = GEMM_K % TILE_K == 0 || k < GEMM_K ? 16 : 0;
    uint offsets[X_ITERS];
#pragma unroll
    for (int i = 0; i < X_ITERS; ++i)
        offsets[i] = source[x_row * X_ITERS + i];
#pragma unroll
    for (int i = 0; i < X_ITERS; ++i) {
        const int r = x_row + i * ROWS_AT_ONCE;
        if (r < rows)
            CP_ASYNC_16(to + (r * X_ROW_UNITS + (c ^ X_SWIZZLE(r))) * 16, x + offsets[i] + (bytes ? k : 0), bytes);
    }
#pragma unroll
    for (int i = 0; i < W_ITERS; ++i) {
        const int unit = lid + i * LOCAL_SIZE;
        const int c = PACKED ? unit % TILE_N : unit / W_ROW_UNITS, u = PACKED ? unit / TILE_N : unit % W_ROW_UNITS;
        if (W_UNITS % LOCAL_SIZE == 0 || unit < W_UNITS) {
            const int bytes = GEMM_K % TILE_K == 0 || k0 + u * (128 / W_BITS) < GEMM_K ? 16 : 0;
            const ulong step = PACKED ? (ulong)(k0 / 32) * (GEMM_N * 16) : k0 * W_BITS / 8;
            CP_ASYNC_W(to + (X_UNITS + u * TILE_N + COLUMN_PLACE(c)) * 16, copies->w[i] + (bytes ? step : 0), bytes);
        }
    }
#if W_GROUP && PACKED
#pragma unroll
    for (int i = 0; i < SZ_ITERS; ++i) {
        const int unit = lid + i * LOCAL_SIZE, c = unit % (TILE_N / 4) * 4, j = unit / (TILE_N / 4);
        if (SZ_UNITS % LOCAL_SIZE == 0 || unit < SZ_UNITS) {
            const uint index = copies->sz[i] + min((k0 + j * SZ_K) / W_GROUP, GROUPS_K - 1) * GEMM_N;
            const int part = GEMM_PARTS == 2 ? c / RUN_COLUMNS % 2 : 0;
            CP_ASYNC_16(to + (X_UNITS + W_UNITS + unit) * 16, (part ? weights->s[1] : weights->s[0]) + (ulong)index * 4, 16);
        }
    }
#elif W_GROUP
#pragma unroll
    for (int i = 0; i < SZ_ITERS; ++i) {
        const int unit = lid + i * LOCAL_SIZE, c = unit % TILE_N, j = unit / TILE_N;
        if (TILE_N * SZ_PARTS % LOCAL_SIZE == 0 || unit < TILE_N * SZ_PARTS) {
            const uint index = copies->sz[i] + min((k0 + j * SZ_K) / W_GROUP, GROUPS_K - 1);
            const int part = GEMM_PARTS == 2 && !INTERLEAVED ? c / RUN_COLUMNS % 2 : 0;
            const uint entry = to + (X_UNITS + W_UNITS) * 16 + (j * TILE_N + COLUMN_PLACE(c)) * 8;
            // The aligned words that hold the scale and the zero point.
            CP_ASYNC_4(entry, (part ? weights->s[1] : weights->s[0]) + (sizeof(SCALE_T) == 2 ? index >> 1 : index) * 4ul);
            if (W_HAS_ZERO)
                CP_ASYNC_4(entry + 4, (part ? weights->z[1] : weights->z[0]) + (W_BITS == 4 ? index >> 3 : index >> 2) * 4ul);
        }
    }
#endif
}

#if PACKED
inline __attribute__((always_inline)) void scale_and_zero(uint entry, uint *scale, uint2 *zero)
{
    *scale = prmt(entry, 0, 0x1010);
    zero->x = prmt(entry, 0, 0x3232) ^ 0x80008000u;
    zero->y = add_h2(zero->x, 0x63806380u); // + 960
}
#else
// Entry of the table -> scale twice, and the pair that subtracts the zero point.
inline __attribute__((always_inline)) void scale_and_zero(uint2 entry, uint index, uint *scale, uint *zero)
{
    if (sizeof(SCALE_T) == 2)
        *scale = prmt(entry.x, 0, index & 1 ? 0x3232 : 0x1010);
    else
        *scale = pack_h2(as_float(entry.x), as_float(entry.x));
    uint z = (0u W_FLIP) & (W_BITS == 4 ? 15 : 255);
    if (W_HAS_ZERO)
        z ^= W_BITS == 4 ? entry.y >> (index & 7) * 4 & 15 : entry.y >> (index & 3) * 8 & 255;
    *zero = ZERO_PAIR(z);
}
#endif

// acc += the stage; `live` of the FRAGS_M fragments hold rows (a constant where this is called, so that it folds).
// index is that of the first scale of the lane's columns.
inline __attribute__((always_inline)) void multiply(float4 acc[FRAGS_M][FRAGS_N], const local uint4 *stage,
                                                    const uint *index, int k0, const int live)
{
    const int lane = get_local_id(0) % 32, warp = get_local_id(0) / 32, g = lane / 4, p = lane % 4;
    const int warp_n = warp % WARPS_N, warp_m = warp / WARPS_N % WARPS_M, warp_k = warp / (WARPS_N * WARPS_M);
    const local uint4 *w_tile = stage + X_UNITS + warp_n * FRAGS_N * 8 + g;
#if PACKED
    const local uint *sz = (const local uint *)(stage + X_UNITS + W_UNITS) + warp_n * FRAGS_N * 8 + g / 2 * (2 * RUN) + g % 2;
#else
    const local uint2 *sz = (const local uint2 *)(stage + X_UNITS + W_UNITS) + warp_n * FRAGS_N * 8 + g;
#endif
    const int x_row = warp_m * 16 + lane % 16, x_unit = lane / 16; // what the lane names to ldmatrix
    const uint x_tile = LOCAL_ADDRESS(stage) + x_row * X_ROW_UNITS * 16;
    uint scale[FRAGS_N];
    ZERO_T zero[FRAGS_N];
#pragma unroll UNROLL_SUBS
    for (int s = 0; s < SUBS / WARPS_K; ++s) {
        const int j = warp_k * (SUBS / WARPS_K) + s;
        uint a[FRAGS_M][2][4];
#pragma unroll
        for (int i = 0; i < FRAGS_M; ++i)
#pragma unroll
            for (int h = 0; h < 2; ++h)
                if (i < live)
                    LDMATRIX(a[i][h], x_tile + (i * WARPS_M * 16 * X_ROW_UNITS + ((j * 4 + h * 2 + x_unit) ^ X_SWIZZLE(x_row))) * 16);
        // Fragments dequantised before their mma are issued: an mma that waits for the one before it stalls the warp.
        const int together = live >= 4 || FRAGS_N < 2 ? 1 : live >= 2 || FRAGS_N < 4 ? 2 : 4;
        uint b[4][4];
#pragma unroll
        for (int n = 0; n < FRAGS_N; ++n) {
#if W_GROUP
            if (SZ_K < 32 || KEEP_SCALES == 0 || s * 32 % SZ_K == 0) {
                const int part = SZ_K < 32 ? (j * 32 + p * 8) / SZ_K : j * 32 / SZ_K;
                const uint group = min((k0 + part * SZ_K) / W_GROUP, GROUPS_K - 1);
#if PACKED
                scale_and_zero(sz[part * TILE_N + n / RUN * RUN_COLUMNS + n % RUN * 2], &scale[n], &zero[n]);
#else
                scale_and_zero(sz[part * TILE_N + n * 8], index[n / RUN] + n % RUN * (2 * (1 + INTERLEAVED) * GROUPS_K) + group,
                               &scale[n], &zero[n]);
#endif
            }
#endif
            dequantise(b[n % together], w_tile + j * UNITS_PER_SUB * TILE_N + n * 8, p, scale[n], zero[n]);
            if (n % together == together - 1) {
#pragma unroll
                for (int h = 0; h < 2; ++h)
#pragma unroll
                    for (int m = 0; m < 4; ++m)
#pragma unroll
                        for (int i = 0; i < FRAGS_M; ++i)
                            if (i < live && m < together) {
                                const int f = m < together ? n - together + 1 + m : 0;
                                acc[i][f] = mma(acc[i][f], a[i][h], b[m][2 * h], b[m][2 * h + 1]);
                            }
            }
        }
    }
}

// acc = x rows of the task * weights. On return all work-items may overwrite the stages.
inline __attribute__((always_inline)) void multiply_tile(float4 acc[FRAGS_M][FRAGS_N], local uint4 *stages,
                                                         const local uint *source, const global half *x,
                                                         const weights_t *weights, const task_t *task)
{
    const int lane = get_local_id(0) % 32, warp = get_local_id(0) / 32, g = lane / 4;
    const int warp_n = warp % WARPS_N, warp_m = warp / WARPS_N % WARPS_M;
    copies_t copies;
    plan_copies(&copies, weights, task->expert, task->block);
    uint index[RUNS];
#pragma unroll
    for (int q = 0; q < RUNS; ++q) {
        int part;
        index[q] = weight_row(warp_n * FRAGS_N * 8 + q * RUN_COLUMNS + g / 2 * (2 * RUN) + g % 2, task->expert, task->block, &part) * GROUPS_K;
    }
#pragma unroll
    for (int i = 0; i < FRAGS_M; ++i)
#pragma unroll
        for (int n = 0; n < FRAGS_N; ++n)
            acc[i][n] = 0.0f;
    const int live = (task->rows - warp_m * 16 + 16 * WARPS_M - 1) / (16 * WARPS_M); // fragments with rows

#pragma unroll
    for (int s = 0; s < STAGES - 1; ++s) {
        if (s < STEPS)
            start_copies(stages + s * STAGE_UNITS, &copies, weights, x, source, task->rows, s * TILE_K);
        CP_COMMIT();
    }
    int read = 0, write = STAGES - 1;
#pragma unroll 1
    for (int step = 0; step < STEPS; ++step) {
        CP_WAIT(STAGES - 2);
        barrier(CLK_LOCAL_MEM_FENCE); // the stage has arrived for all, and all are done with the one before
        if (step + STAGES - 1 < STEPS)
            start_copies(stages + write * STAGE_UNITS, &copies, weights, x, source, task->rows,
                         (step + STAGES - 1) * TILE_K);
        CP_COMMIT();
        const local uint4 *stage = stages + read * STAGE_UNITS;
#if FRAGS_M >= 4
        if (live <= FRAGS_M / 4) {
            if (live > 0)
                multiply(acc, stage, index, step * TILE_K, FRAGS_M / 4);
        } else
#endif
#if FRAGS_M >= 2
            if (live <= FRAGS_M / 2) {
            if (live > 0)
                multiply(acc, stage, index, step * TILE_K, FRAGS_M / 2);
        } else
#endif
            if (live > 0)
            multiply(acc, stage, index, step * TILE_K, FRAGS_M);
        read = read + 1 == STAGES ? 0 : read + 1;
        write = write + 1 == STAGES ? 0 : write + 1;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
#if WARPS_K > 1
    // Warps of K slices 1, 2, ... leave their sums, slice 0 adds them in this order.
    local float4 *sums = (local float4 *)stages;
    const int warp_k = warp / (WARPS_N * WARPS_M), place = (warp % (WARPS_N * WARPS_M)) * 32 + lane;
    if (warp_k > 0) {
#pragma unroll
        for (int i = 0; i < FRAGS_M; ++i)
#pragma unroll
            for (int n = 0; n < FRAGS_N; ++n)
                sums[((warp_k - 1) * FRAGS_M * FRAGS_N + i * FRAGS_N + n) * (WARPS_M * WARPS_N * 32) + place] =
                    acc[i][n];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (warp_k == 0) {
#pragma unroll
        for (int s = 0; s < WARPS_K - 1; ++s)
#pragma unroll
            for (int i = 0; i < FRAGS_M; ++i)
#pragma unroll
                for (int n = 0; n < FRAGS_N; ++n)
                    acc[i][n] += sums[(s * FRAGS_M * FRAGS_N + i * FRAGS_N + n) * (WARPS_M * WARPS_N * 32) + place];
    }
    barrier(CLK_LOCAL_MEM_FENCE); // the next task may overwrite the sums
#endif
}

// The calling work-item holds, for i < FRAGS_M and h < 2, row MMA_ROW(i, h) of the tile, and for q < RUNS the 2 RUN
// columns from MMA_COLUMN(q) on: the first (h = 0) or last two of acc[i][RUN q .. RUN q + RUN - 1].
#define MMA_WARP ((int)get_local_id(0) / 32)
#define MMA_STORES (MMA_WARP < WARPS_M * WARPS_N)
#define MMA_ROW(i, h) (((i) * WARPS_M + MMA_WARP / WARPS_N % WARPS_M) * 16 + (h) * 8 + (int)get_local_id(0) % 32 / 4)
#define MMA_COLUMN(q) (MMA_WARP % WARPS_N * (FRAGS_N * 8) + (q) * RUN_COLUMNS + (int)get_local_id(0) % 4 * (2 * RUN))
// Stores RUN f16 pairs.
inline __attribute__((always_inline)) void store_run(global half *to, const uint *pairs)
{
    if (RUN == 4)
        *(global uint4 *)to = (uint4)(pairs[0], pairs[1], pairs[2], pairs[RUN - 1]);
    else if (RUN == 2)
        *(global uint2 *)to = (uint2)(pairs[0], pairs[RUN - 1]);
    else
        *(global uint *)to = pairs[0];
}
