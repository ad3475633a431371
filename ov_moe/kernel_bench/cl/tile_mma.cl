// Micro-kernel "mma": NVIDIA tensor cores, f16 activations, fp32 sums. mma_ptx.cl is the hardware, mma_weights.cl the
// formats.
//
// A group computes a TILE_M x TILE_N tile with WARPS_M x WARPS_N x WARPS_K warps of 32 work-items. A warp owns FRAGS_M
// fragments of 16 rows and FRAGS_N of 8 columns; with WARPS_K > 1 the warps share out K, and their sums are added in a
// fixed order. x rows and weights travel to local memory asynchronously, STAGES deep, TILE_K of K at a time.
//
// Two permutations make every access wide; the sums do not notice them:
// - N: fragment b of a run of RUN owns columns 2 RUN a + 2b + e (a < 4, e < 2): a lane then holds 2 RUN neighbours of a
//   row of the result and stores them at once. Weights are placed so as they are copied. Of two parts, a run of gate
//   and a run of up take turns.
// - M: fragment i of warp m owns rows 16 (i WARPS_M + m): a tile with few rows keeps all warps equally busy.
//
// Needs K a multiple of 32, N of 8, groups of 32 and fewer than 2^32 elements of x: ov_moe/kernel_bench/mma.py refuses
// the rest. Needs buffers aligned to 16 bytes and dense, as ov_moe/devices/opencl.py makes them. A row's arithmetic
// depends on nothing but the row.

#if CAT(IS_HALF_, INPUT0_TYPE)

#if SCALED_IN || SCALED_OUT
#error mma stores past STORE and loads past IN_LOAD: its blocks have no exponents
#endif
// Results are f16: NVIDIA's approximations are 2^12 times finer.
#define SWISH(gate, beta) native_divide(gate, 1.0f + native_exp(-(beta) * (gate)))

#define FRAGS_M (TILE_M / (16 * WARPS_M))
#define FRAGS_N (TILE_N / (8 * WARPS_N))
#define RUN (FRAGS_N / PARTS < 4 ? FRAGS_N / PARTS : 4)
#define RUNS (FRAGS_N / RUN)
#define RUN_COLUMNS (8 * RUN)
#define SUBS (TILE_K / 32) // of a stage
#define STEPS CEIL_DIV(GEMM_K, TILE_K)
#define X_ROW_UNITS (TILE_K / 8) // units of 16 bytes
#define X_UNITS (TILE_M * X_ROW_UNITS)
#define UNITS_PER_SUB (W_BITS / 4) // of a column
#define W_COLUMN_UNITS (SUBS * UNITS_PER_SUB)
#define W_UNITS (TILE_N * W_COLUMN_UNITS)
#define W_COPIES CEIL_DIV(W_UNITS, LOCAL_SIZE) // of a work-item
#define X_COPIES CEIL_DIV(X_UNITS, LOCAL_SIZE)
#if PACKED // copy i: column i % W_POINTERS of the work-item's, i / W_POINTERS times W_STRIDE 32s of K further
#define W_POINTERS (TILE_N > LOCAL_SIZE ? TILE_N / LOCAL_SIZE : 1)
#define W_STRIDE (TILE_N > LOCAL_SIZE ? 1 : LOCAL_SIZE / TILE_N)
#else
#define W_POINTERS W_COPIES
#define W_STRIDE 0
#endif

// Scales and zero points of a stage: an entry for each SCALE_K of K and column.
#if W_GROUP == 0 || W_GROUP % TILE_K == 0
#define SCALE_K TILE_K
#elif W_GROUP % 128 == 0
#define SCALE_K 128
#elif W_GROUP % 64 == 0
#define SCALE_K 64
#else
#define SCALE_K 32
#endif
#define SCALES_K (W_GROUP ? TILE_K / SCALE_K : 0)
#define GROUPS_K (W_GROUP ? GEMM_K / (W_GROUP ? W_GROUP : 1) : 1)
#define GROUP_OF(k) min((int)(k) / (W_GROUP ? W_GROUP : 1), GROUPS_K - 1)
#define ENTRIES (TILE_N * SCALES_K)
#if PACKED // four entries are a unit, two otherwise
#define SCALE_UNITS (ENTRIES / 4)
#define SCALE_COPIES CEIL_DIV(SCALE_UNITS, LOCAL_SIZE)
#else
#define SCALE_UNITS CEIL_DIV(ENTRIES, 2)
#define SCALE_COPIES CEIL_DIV(ENTRIES, LOCAL_SIZE)
#endif
#define STAGE_UNITS (X_UNITS + W_UNITS + SCALE_UNITS)
#define REDUCE_UNITS ((WARPS_K - 1) * WARPS_M * WARPS_N * 32 * FRAGS_M * FRAGS_N)
#define LOCAL_UNITS (STAGES * STAGE_UNITS > REDUCE_UNITS ? STAGES * STAGE_UNITS : REDUCE_UNITS)

#define ROWS_AT_ONCE (LOCAL_SIZE / X_ROW_UNITS) // x rows that the group copies at a time
// Where row r stands in source[]: the rows of one work-item are neighbours.
#define SOURCE_PLACE(r) ((r) % ROWS_AT_ONCE * X_COPIES + (r) / ROWS_AT_ONCE)
// Where a column of the tile stands in local memory: N as above.
#define COLUMN_PLACE(c) ((c) / RUN_COLUMNS * RUN_COLUMNS + (c) / 2 % RUN * 8 + (c) / (2 * RUN) % 4 * 2 + (c) % 2)
// Rows of x are 16-byte units apart by this pattern, so that eight of them meet eight banks.
#define SWIZZLE(row) (X_ROW_UNITS >= 8 ? (row) & 7 : (row) >> 1 & 3)
// Whether unpacked scales stay in registers across the 32s of a group: not where accumulators fill them.
#define KEEP_SCALES (FRAGS_M * FRAGS_N < 32)

typedef struct {
    const global uchar *w[2], *s[2], *z[2];
} matrices_t;

#define PART_OF(c) (PARTS == 2 ? (c) / RUN_COLUMNS % 2 : 0)
// Row of its matrix that tile column c is; columns behind the last one repeat it.
ALWAYS_INLINE uint matrix_row(int c, int expert, int column_tile)
{
    const int within = PARTS == 2 ? c / (2 * RUN_COLUMNS) * RUN_COLUMNS + c % RUN_COLUMNS : c;
    const int n = min(column_tile * TILE_COLUMNS + within, GEMM_N - 1);
    return (uint)expert * PART_ROWS + (PART_OF(c) ? PART_ROW_1(n) : PART_ROW_0(n));
}

// What a work-item copies: where the next stage's weights stand, the next stage's first k, and entries of group 0.
typedef struct {
    const global uchar *w[W_POINTERS];
    uint scale[SCALE_COPIES > 0 ? SCALE_COPIES : 1];
    int k0;
} copies_t;
#define COPIES (X_COPIES + W_COPIES + SCALE_COPIES)

ALWAYS_INLINE void plan_copies(copies_t *copies, const matrices_t *matrices, int expert, int column_tile)
{
    const int lid = get_local_id(0);
    MMA_FOR (int i = 0; i < W_POINTERS; ++i) {
        const int unit = lid + i * LOCAL_SIZE, c = PACKED ? unit % TILE_N : unit / W_COLUMN_UNITS;
        const uint row = matrix_row(c, expert, column_tile), before = expert * PART_ROWS;
        const ulong place = PACKED ? ((ulong)expert * (GEMM_K / 32) + unit / TILE_N) * PART_ROWS + row - before
                                   : (ulong)row * (GEMM_K * W_BITS / 128) + unit % W_COLUMN_UNITS;
        copies->w[i] = (PART_OF(c) ? matrices->w[1] : matrices->w[0]) + place * 16;
    }
    MMA_FOR (int i = 0; i < SCALE_COPIES; ++i) {
        const int unit = lid + i * LOCAL_SIZE;
        if (PACKED) {
            const uint row = matrix_row(unit % (TILE_N / 4) * 4, expert, column_tile) - expert * PART_ROWS;
            copies->scale[i] = expert * GROUPS_K * PART_ROWS + row / 4 * 4;
        } else {
            copies->scale[i] = matrix_row(unit % TILE_N, expert, column_tile) * GROUPS_K;
        }
    }
    copies->k0 = 0;
}

// Starts copy number j of COPIES, a constant: rows of x, then weights, then scales. Nothing is copied behind the last
// stage. Dead rows are left as they are: mma keeps rows apart, and nobody stores their sums.
ALWAYS_INLINE void start_copy(const int j, local uint4 *stage, const copies_t *copies, const matrices_t *matrices,
                              const global half *x, const local uint *source, int rows)
{
    const int lid = get_local_id(0), k0 = copies->k0;
    const bool more = k0 < GEMM_K;
    const address_t to = ADDRESS(stage);
    if (j < X_COPIES) {
        const int u = lid % X_ROW_UNITS, r = lid / X_ROW_UNITS + j * ROWS_AT_ONCE;
        const global half *from = x + k0 + 8 * u + source[lid / X_ROW_UNITS * X_COPIES + j];
        const address_t place = to + (r * X_ROW_UNITS + (u ^ SWIZZLE(r))) * 16;
        if (GEMM_K % TILE_K == 0)
            COPY_16(place, from, r < (more ? rows : 0));
        else
            COPY_16_FILL(place, from, k0 + 8 * u < GEMM_K, r < (more ? rows : 0));
    } else if (j < X_COPIES + W_COPIES) {
        const int i = j - X_COPIES, unit = lid + i * LOCAL_SIZE;
        const int c = PACKED ? unit % TILE_N : unit / W_COLUMN_UNITS,
                  v = PACKED ? unit / TILE_N : unit % W_COLUMN_UNITS;
        const global uchar *from = copies->w[i % W_POINTERS] + (ulong)(i / W_POINTERS * W_STRIDE) * (PART_ROWS * 16);
        const address_t place = to + (X_UNITS + v * TILE_N + COLUMN_PLACE(c)) * 16;
        const bool mine = more && (W_UNITS % LOCAL_SIZE == 0 || unit < W_UNITS);
        if (GEMM_K % TILE_K == 0)
            COPY_16(place, from, mine);
        else
            COPY_16_FILL(place, from, k0 + v * (128 / W_BITS) < GEMM_K, mine);
    } else if (SCALE_COPIES) {
        const int i = SCALE_COPIES ? j - X_COPIES - W_COPIES : 0, unit = lid + i * LOCAL_SIZE;
        const address_t entries = to + (X_UNITS + W_UNITS) * 16;
#if PACKED
        const int c = unit % (TILE_N / 4) * 4, part = unit / (TILE_N / 4);
        const uint place = copies->scale[i] + (uint)GROUP_OF(k0 + part * SCALE_K) * PART_ROWS;
        const bool mine = more && (SCALE_UNITS % LOCAL_SIZE == 0 || unit < SCALE_UNITS);
        COPY_16(entries + unit * 16, (PART_OF(c) ? matrices->s[1] : matrices->s[0]) + place * 4ul, mine);
#else
        // The aligned words that hold the scale and the zero point.
        const int c = unit % TILE_N, part = unit / TILE_N;
        const uint place = copies->scale[i] + GROUP_OF(k0 + part * SCALE_K);
        const address_t entry = entries + (part * TILE_N + COLUMN_PLACE(c)) * 8;
        const bool mine = more && (ENTRIES % LOCAL_SIZE == 0 || unit < ENTRIES);
        COPY_4(entry, (PART_OF(c) ? matrices->s[1] : matrices->s[0]) + place / (4 / sizeof(SCALE_T)) * 4ul, mine);
        if (W_HAS_ZERO)
            COPY_4(entry + 4, (PART_OF(c) ? matrices->z[1] : matrices->z[0]) + place / (32 / W_BITS) * 4ul, mine);
#endif
    }
}

// All copies of a stage are started.
ALWAYS_INLINE void end_copies(copies_t *copies)
{
    COPIES_END_STAGE();
    MMA_FOR (int i = 0; i < W_POINTERS; ++i)
        copies->w[i] += PACKED ? (TILE_K / 32) * PART_ROWS * 16 : TILE_K * W_BITS / 8;
    copies->k0 += TILE_K;
}

// acc += the stage at `read`, and the copies of a later stage to `write` between the products. `live` of the FRAGS_M
// fragments hold rows (a constant where this is called). first[q] is the scale of group 0 of the lane's first column in
// run q.
ALWAYS_INLINE void multiply(float4 acc[FRAGS_M][FRAGS_N], local uint4 *stages, int read, int write, copies_t *copies,
                            const matrices_t *matrices, const global half *x, const local uint *source, int rows,
                            const uint first[RUNS], int k0, const int live)
{
    const int lane = get_local_id(0) % 32, warp = get_local_id(0) / 32, g = lane / 4, p = lane % 4;
    const int warp_n = warp % WARPS_N, warp_m = warp / WARPS_N % WARPS_M, warp_k = warp / (WARPS_N * WARPS_M);
    const local uint4 *stage = stages + read * STAGE_UNITS;
    const local uint4 *w_tile = stage + X_UNITS + warp_n * FRAGS_N * 8 + g;
    const local entry_t *entries = (const local entry_t *)(stage + X_UNITS + W_UNITS) + warp_n * FRAGS_N * 8;
    const int x_row = warp_m * 16 + lane % 16, x_unit = lane / 16; // what the lane names to LOAD_MATRICES
    const address_t x_tile = ADDRESS(stage) + x_row * X_ROW_UNITS * 16;
    uint scale[FRAGS_N];
    zero_t zero[FRAGS_N];
    MMA_FOR (int s = 0; s < SUBS / WARPS_K; ++s) {
        const int j = warp_k * (SUBS / WARPS_K) + s;
        // All are dequantised before their mma are issued: an mma that waits for the one before it stalls the warp.
        uint b[FRAGS_N][4];
        MMA_FOR (int n = 0; n < FRAGS_N; ++n) {
            if (W_GROUP && (!KEEP_SCALES || s * 32 % SCALE_K == 0)) {
                const int part = j * 32 / SCALE_K;
#if PACKED
                const int entry = n / RUN * RUN_COLUMNS + g / 2 * (2 * RUN) + g % 2 + n % RUN * 2;
#else
                const int entry = n * 8 + g;
#endif
                const uint index = first[n / RUN] + n % RUN * (2 * ROW_STEP * GROUPS_K) + GROUP_OF(k0 + part * SCALE_K);
                scale_and_zero(entries[part * TILE_N + entry], index, &scale[n], &zero[n]);
            }
            dequantise(b[n], w_tile + j * UNITS_PER_SUB * TILE_N + n * 8, p, scale[n], zero[n]);
        }
        MMA_FOR (int h = 0; h < 2; ++h) {
            uint a[FRAGS_M][4];
            MMA_FOR (int i = 0; i < FRAGS_M; ++i)
                if (i < live)
                    LOAD_MATRICES(
                        a[i],
                        x_tile + (i * WARPS_M * 16 * X_ROW_UNITS + ((j * 4 + h * 2 + x_unit) ^ SWIZZLE(x_row))) * 16);
            MMA_FOR (int n = 0; n < FRAGS_N; ++n) {
                MMA_FOR (int i = 0; i < FRAGS_M; ++i)
                    if (i < live)
                        acc[i][n] = mma(acc[i][n], a[i], b[n][2 * h], b[n][2 * h + 1]);
                // A share of the copies: in one piece they would keep the warp from its products. With two stages they
                // must arrive within this step, and start at once: 6 % at 8192 tokens.
                const int slots = STAGES == 2 ? 1 : SUBS / WARPS_K * 2 * FRAGS_N, slot = (s * 2 + h) * FRAGS_N + n;
                MMA_FOR (int c = 0; c < COPIES; ++c)
                    if (c >= COPIES * slot / slots && c < COPIES * (slot + 1) / slots)
                        start_copy(c, stages + write * STAGE_UNITS, copies, matrices, x, source, rows);
            }
        }
    }
}

// acc = x rows of the task * weights. On return all work-items may overwrite the stages and source.
ALWAYS_INLINE void multiply_tile(float4 acc[FRAGS_M][FRAGS_N], local uint4 *stages, const local uint *source,
                                 const global half *x, const matrices_t *matrices, const task_t *task)
{
    const int lane = get_local_id(0) % 32, warp = get_local_id(0) / 32, g = lane / 4;
    const int warp_n = warp % WARPS_N, warp_m = warp / WARPS_N % WARPS_M;
    copies_t copies;
    plan_copies(&copies, matrices, task->expert, task->column_tile);
    uint first[RUNS];
    MMA_FOR (int q = 0; q < RUNS; ++q) {
        const int c = warp_n * FRAGS_N * 8 + q * RUN_COLUMNS + g / 2 * (2 * RUN) + g % 2;
        first[q] = matrix_row(c, task->expert, task->column_tile) * GROUPS_K;
    }
    MMA_FOR (int i = 0; i < FRAGS_M; ++i)
        MMA_FOR (int n = 0; n < FRAGS_N; ++n)
            acc[i][n] = 0.0f;
    const int live = (task->rows - warp_m * 16 + 16 * WARPS_M - 1) / (16 * WARPS_M); // fragments with rows

    MMA_FOR (int s = 0; s < STAGES - 1; ++s) {
        MMA_FOR (int c = 0; c < COPIES; ++c)
            start_copy(c, stages + s * STAGE_UNITS, &copies, matrices, x, source, task->rows);
        end_copies(&copies);
    }
    int read = 0, write = STAGES - 1;
    MMA_ROLLED_FOR (int step = 0; step < STEPS; ++step) {
        COPIES_WAIT(STAGES - 2);
        barrier(CLK_LOCAL_MEM_FENCE); // the stage has arrived for all, and all are done with the one before
#define MULTIPLY(frags) \
    multiply(acc, stages, read, write, &copies, matrices, x, source, task->rows, first, (step) * TILE_K, frags)
#if MMA_EMULATION
        MULTIPLY(FRAGS_M); // one copy compiles three times faster
#else
        if (FRAGS_M >= 4 && live <= FRAGS_M / 4)
            MULTIPLY(FRAGS_M / 4); // also without rows: the copies are for all
        else if (FRAGS_M >= 2 && live <= FRAGS_M / 2)
            MULTIPLY(FRAGS_M / 2);
        else
            MULTIPLY(FRAGS_M);
#endif
        end_copies(&copies);
        read = read + 1 == STAGES ? 0 : read + 1;
        write = write + 1 == STAGES ? 0 : write + 1;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
#if WARPS_K > 1
    // Warps of K slices 1, 2, ... leave their sums, slice 0 adds them in this order.
    local float4 *sums = (local float4 *)stages;
    const int warp_k = warp / (WARPS_N * WARPS_M), place = warp % (WARPS_N * WARPS_M) * 32 + lane;
#define SUM(slice, i, n) sums[(((slice) * FRAGS_M + (i)) * FRAGS_N + (n)) * (WARPS_M * WARPS_N * 32) + place]
    if (warp_k > 0)
        MMA_FOR (int i = 0; i < FRAGS_M; ++i)
            MMA_FOR (int n = 0; n < FRAGS_N; ++n)
                SUM(warp_k - 1, i, n) = acc[i][n];
    barrier(CLK_LOCAL_MEM_FENCE);
    if (warp_k == 0)
        MMA_FOR (int s = 0; s < WARPS_K - 1; ++s)
            MMA_FOR (int i = 0; i < FRAGS_M; ++i)
                MMA_FOR (int n = 0; n < FRAGS_N; ++n)
                    acc[i][n] += SUM(s, i, n);
    barrier(CLK_LOCAL_MEM_FENCE); // the next task may overwrite the sums
#endif
}

// Stores RUN pairs of f16.
ALWAYS_INLINE void store_run(global half *to, const uint *pairs)
{
    if (RUN == 4)
        *(global uint4 *)to = (uint4)(pairs[0], pairs[1], pairs[2 % RUN], pairs[RUN - 1]);
    else if (RUN == 2)
        *(global uint2 *)to = (uint2)(pairs[0], pairs[RUN - 1]);
    else
        *(global uint *)to = pairs[0];
}

// ---- The interface of a micro-kernel: see gemm.cl
#define TILE_ATTRIBUTES MMA_ATTRIBUTES
#define TILE_LOCAL                   \
    local uint4 stages[LOCAL_UNITS]; \
    local uint source[ROWS_AT_ONCE * X_COPIES] __attribute__((aligned(16)))
#define TILE_SOURCE(r) source[SOURCE_PLACE(r)]
#define DEFINE_TILE_WEIGHTS(...)
#define TILE_SUMS(acc) float4 acc[FRAGS_M][FRAGS_N]
#define TILE_MULTIPLY(acc, x, task)                                  \
    {                                                                \
        const matrices_t matrices = MATRICES(const global uchar *);  \
        multiply_tile(acc, stages, source, (x), &matrices, &(task)); \
    }
// A lane holds, for i < FRAGS_M and h < 2, row MMA_ROW(i, h), and for q < RUNS the 2 RUN columns from MMA_COLUMN(q) on:
// halves h of acc[i][RUN q .. RUN q + RUN - 1].
#define MMA_WARP ((int)get_local_id(0) / 32)
#define MMA_ROW(i, h) (((i) * WARPS_M + MMA_WARP / WARPS_N % WARPS_M) * 16 + (h) * 8 + (int)get_local_id(0) % 32 / 4)
#define MMA_COLUMN(q) \
    (MMA_WARP % WARPS_N * (FRAGS_N * 8 / PARTS) + (q) / PARTS * RUN_COLUMNS + (int)get_local_id(0) % 4 * (2 * RUN))
#define HALF_OF(v, h) ((h) ? (v).zw : (v).xy)
#define TILE_STORE(acc, STORE)                                                                                  \
    if (MMA_WARP < WARPS_M * WARPS_N) /* else the sums are in another warp */                                   \
        MMA_FOR (int i = 0; i < FRAGS_M; ++i)                                                                   \
            MMA_FOR (int h = 0; h < 2; ++h)                                                                     \
                MMA_FOR (int q = 0; q < RUNS; q += PARTS) {                                                     \
                    const int r = MMA_ROW(i, h), run = task.column_tile * TILE_COLUMNS + MMA_COLUMN(q);         \
                    if (r < task.rows && run < GEMM_N) {                                                        \
                        uint pairs[RUN];                                                                        \
                        MMA_FOR (int b = 0; b < RUN; ++b) {                                                     \
                            const int column = run + 2 * b;                                                     \
                            const float2 one = HALF_OF(acc[i][RUN * q + b], h);                                 \
                            const float2 two = HALF_OF(acc[i][RUN * (q + PARTS - 1) + b], h);                   \
                            pairs[b] = to_halves(VALUE(column, one.x, two.x), VALUE(column + 1, one.y, two.y)); \
                        }                                                                                       \
                        store_run(out + INDEX_OF(OUTPUT0, task.row + r, run), pairs);                           \
                    }                                                                                           \
                }

#endif
