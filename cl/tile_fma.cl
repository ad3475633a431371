// Micro-kernel "fma": a TILE_M x COLS tile of fp32 accumulators spread over LOCAL_SIZE work-items, 16 columns
// wide; operands come from local memory. Every accumulator adds its products in the order of k, whatever its
// place in the tile: a row's result does not depend on the schedule.

#define FMA_LANES 16
#define FMA_ROW_STEP (LOCAL_SIZE / FMA_LANES)
#define FMA_ROWS (TILE_M / FMA_ROW_STEP)

// Row i, column j of the calling work-item, within the tile.
#define FMA_ROW(i) ((int)get_local_id(0) / FMA_LANES + (i) * FMA_ROW_STEP)
#define FMA_COL(j) ((int)get_local_id(0) % FMA_LANES + (j) * FMA_LANES)

// Unrolled by order: Intel's compiler otherwise kept gate and up in memory, 32 bytes a work-item with TILE_M 8 and
// 80 on Ponte Vecchio.
// acc[FMA_ROWS][COLS_PER_ITEM] += x[TILE_M][TILE_K] * w[TILE_K][COLS_PER_ITEM * FMA_LANES]
#define FMA_MULTIPLY(acc, x, w, COLS_PER_ITEM)                                                   \
    for (int k = 0; k < TILE_K; ++k) {                                                           \
        float column[COLS_PER_ITEM];                                                             \
        _Pragma("unroll") for (int j = 0; j < COLS_PER_ITEM; ++j)                                \
            column[j] = (w)[k * (COLS_PER_ITEM * FMA_LANES) + FMA_COL(j)];                       \
        _Pragma("unroll") for (int i = 0; i < FMA_ROWS; ++i) {                                   \
            const float value = (x)[FMA_ROW(i) * X_STRIDE + k];                                  \
            _Pragma("unroll") for (int j = 0; j < COLS_PER_ITEM; ++j)                            \
                acc[i][j] = fma(value, column[j], acc[i][j]);                                    \
        }                                                                                        \
    }

// One row of padding: 16 lanes of one row read the same word, neighbouring rows other banks.
#define X_STRIDE (TILE_K + 1)
