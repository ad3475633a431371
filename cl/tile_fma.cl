// Micro-kernel "fma": a TILE_M x TILE_N tile of fp32 accumulators spread over LOCAL_SIZE work-items, 16 columns
// wide; operands come from local memory. Every accumulator adds its products in the order of k, whatever its
// place in the tile: a row's result does not depend on the schedule.

#ifndef TILE_MULTIPLY // else a micro-kernel before this takes the rows

#define FMA_LANES 16
#define FMA_ROW_STEP (LOCAL_SIZE / FMA_LANES)
#define FMA_ROWS (TILE_M / FMA_ROW_STEP)
#define FMA_COLUMNS (TILE_N / PARTS / FMA_LANES) // of the calling work-item and a part

// Row i, column j of the calling work-item, within the tile.
#define FMA_ROW(i) ((int)get_local_id(0) / FMA_LANES + (i) * FMA_ROW_STEP)
#define FMA_COLUMN(j) ((int)get_local_id(0) % FMA_LANES + (j) * FMA_LANES)

// One row of padding: 16 lanes of one row read the same word, neighbouring rows other banks.
#define X_STRIDE (TILE_K + 1)

// Unrolled by order: Intel's compiler otherwise kept gate and up in memory, 32 bytes a work-item with TILE_M 8 and
// 80 on Ponte Vecchio.
// acc[FMA_ROWS][FMA_COLUMNS] += x[TILE_M][TILE_K] * w[TILE_K][TILE_N / PARTS]
#define FMA_MULTIPLY(acc, x, w)                                    \
    for (int k = 0; k < TILE_K; ++k) {                             \
        float column[FMA_COLUMNS];                                 \
        UNROLL_FOR (int j = 0; j < FMA_COLUMNS; ++j)               \
            column[j] = (w)[k * (TILE_N / PARTS) + FMA_COLUMN(j)]; \
        UNROLL_FOR (int i = 0; i < FMA_ROWS; ++i) {                \
            const float value = (x)[FMA_ROW(i) * X_STRIDE + k];    \
            UNROLL_FOR (int j = 0; j < FMA_COLUMNS; ++j)           \
                (acc)[i][j] = fma(value, column[j], (acc)[i][j]);  \
        }                                                          \
    }

// Defines NAME(tile, expert, n, k, w, s, z): weights [n .. n + columns) x [k .. k + TILE_K) of an expert into local
// memory as tile[TILE_K][columns]; zeros outside [N, K]. All work-items of the group take part.
#define DEFINE_TILE_WEIGHTS(NAME, FORMAT, SCALE, ZERO, W_T, S_T, Z_T, OFFSET, N, K, GROUP, ROWS, ROW)               \
    inline void NAME(local float *tile, int expert, int n0, int k0, const global W_T *w, const global S_T *s,       \
                     const global Z_T *z)                                                                           \
    {                                                                                                               \
        for (int i = get_local_id(0); i < TILE_N / PARTS * (TILE_K / 2); i += LOCAL_SIZE) {                         \
            const int n = i / (TILE_K / 2), j = 2 * (i % (TILE_K / 2)), k = k0 + j;                                 \
            float2 v = (float2)(0.0f, 0.0f);                                                                        \
            if (n0 + n < (N) && k < (K)) {                                                                          \
                const ulong row = (ulong)expert * (ROWS) + ROW(n0 + n, N);                                          \
                const ulong g = (GROUP) ? row * ((K) / ((GROUP) ? (GROUP) : 1)) + k / ((GROUP) ? (GROUP) : 1) : 0;  \
                const bool two = k + 1 < (K);                                                                       \
                v = (CAT(raw_, FORMAT)(w, row * (K) + k, two) - CAT(zero_, ZERO)(z, g)) * CAT(scale_, SCALE)(s, g); \
                v.y = two ? v.y : 0.0f;                                                                             \
            }                                                                                                       \
            tile[j * (TILE_N / PARTS) + n] = v.x;                                                                   \
            tile[(j + 1) * (TILE_N / PARTS) + n] = v.y;                                                             \
        }                                                                                                           \
    }

// ---- The interface of a micro-kernel: see gemm.cl
// Left alone, Intel's compiler takes 8 work-items a thread for GateUp, and 1.4 times the instructions for each.
#ifdef cl_intel_required_subgroup_size
#define TILE_ATTRIBUTES __attribute__((intel_reqd_sub_group_size(16)))
#else
#define TILE_ATTRIBUTES
#endif
#define TILE_LOCAL                         \
    local float tile_x[TILE_M * X_STRIDE]; \
    local ulong source[TILE_M];            \
    local float tile_w[PARTS][TILE_K * (TILE_N / PARTS)]
#define TILE_SOURCE(r) source[r]
#define TILE_SUMS(acc) float acc[PARTS][FMA_ROWS][FMA_COLUMNS] = {{{0}}}

#define FMA_LOAD(VALUE, x, task, k0)                                                               \
    for (int i = get_local_id(0); i < TILE_M * TILE_K; i += LOCAL_SIZE) {                          \
        const int r = i / TILE_K, k = k0 + i % TILE_K;                                             \
        tile_x[r * X_STRIDE + i % TILE_K] = r < (task).rows && k < GEMM_K ? VALUE(x, r, k) : 0.0f; \
    }

#define TILE_MULTIPLY(acc, x, task)                                                                      \
    for (int k0 = 0; k0 < GEMM_K; k0 += TILE_K) {                                                        \
        IN_LOAD(FMA_LOAD, x, task, k0)                                                                   \
        LOAD_PART_0(tile_w[0], 0, k0);                                                                   \
        if (PARTS == 2)                                                                                  \
            LOAD_PART_1(tile_w[PARTS - 1], 0, k0);                                                       \
        barrier(CLK_LOCAL_MEM_FENCE);                                                                    \
        FMA_MULTIPLY(acc[0], tile_x, tile_w[0])                                                          \
        if (PARTS == 2)                                                                                  \
            FMA_MULTIPLY(acc[PARTS - 1], tile_x, tile_w[PARTS - 1])                                      \
        barrier(CLK_LOCAL_MEM_FENCE); /* the tiles are reused, by the next task too */                   \
    }                                                                                                    \
    IN_SCALE_BACK(UNROLL_FOR (int i = 0; i < FMA_ROWS; ++i) UNROLL_FOR (int j = 0; j < FMA_COLUMNS; ++j) \
                      acc[0][i][j] *= IN_SCALE(FMA_ROW(i));)

#define TILE_STORE(acc, STORE)                       \
    UNROLL_FOR (int i = 0; i < FMA_ROWS; ++i)        \
        UNROLL_FOR (int j = 0; j < FMA_COLUMNS; ++j) \
            STORE(FMA_ROW(i), FMA_COLUMN(j), acc[0][i][j], acc[PARTS - 1][i][j])

#endif
