// Micro-kernel "naive": a work-item is a column, of both parts, and adds its products in the order of k. Half of the
// work-items have nothing to do where there are two parts.

#define NAIVE_COLUMN ((int)get_local_id(0))

// Defines NAME(pair, expert, n, k, w, s, z): weights k and k + 1 of column n of an expert; zeros outside [N, K].
#define DEFINE_TILE_WEIGHTS(NAME, FORMAT, SCALE, ZERO, W_T, S_T, Z_T, OFFSET, N, K, GROUP, ROWS, ROW)          \
    inline void NAME(private float2 *pair, int expert, int n, int k, const global W_T *w, const global S_T *s, \
                     const global Z_T *z)                                                                      \
    {                                                                                                          \
        *pair = 0.0f;                                                                                          \
        if (NAIVE_COLUMN < TILE_COLUMNS && n < (N)) {                                                          \
            const ulong row = (ulong)expert * (ROWS) + ROW(n, N);                                              \
            const ulong g = (GROUP) ? row * ((K) / ((GROUP) ? (GROUP) : 1)) + k / ((GROUP) ? (GROUP) : 1) : 0; \
            *pair = (CAT(raw_, FORMAT)(w, row * (K) + k, k + 1 < (K)) - CAT(zero_, ZERO)(z, g)) *              \
                    CAT(scale_, SCALE)(s, g);                                                                  \
        }                                                                                                      \
    }

// ---- The interface of a micro-kernel: see gemm.cl
#define TILE_ATTRIBUTES
#define TILE_LOCAL local ulong source[TILE_M]
#define TILE_SOURCE(r) source[r]
#define TILE_SUMS(acc) float acc[PARTS][TILE_M] = {{0}}

#define NAIVE_LOOP(X, x, task, acc)                                      \
    for (int k = 0; k < GEMM_K; k += 2) {                                \
        float2 w[PARTS];                                                 \
        LOAD_PART_0(&w[0], NAIVE_COLUMN, k);                             \
        if (PARTS == 2)                                                  \
            LOAD_PART_1(&w[PARTS - 1], NAIVE_COLUMN, k);                 \
        for (int r = 0; r < (task).rows; ++r)                            \
            for (int p = 0; p < PARTS; ++p) {                            \
                acc[p][r] = fma(X(x, r, k), w[p].s0, acc[p][r]);         \
                if (k + 1 < GEMM_K)                                      \
                    acc[p][r] = fma(X(x, r, k + 1), w[p].s1, acc[p][r]); \
            }                                                            \
    }
#define TILE_MULTIPLY(acc, x, task)                                                                           \
    IN_LOAD(NAIVE_LOOP, x, task, acc)                                                                         \
    IN_SCALE_BACK(for (int r = 0; r < TILE_M; ++r) for (int p = 0; p < PARTS; ++p) acc[p][r] *= IN_SCALE(r);) \
    barrier(CLK_LOCAL_MEM_FENCE); /* the next task overwrites the sources */

#define TILE_STORE(acc, STORE)                                   \
    for (int r = 0; r < TILE_M; ++r)                             \
        if (NAIVE_COLUMN < TILE_COLUMNS) {                       \
            STORE(r, NAIVE_COLUMN, acc[0][r], acc[PARTS - 1][r]) \
        }
