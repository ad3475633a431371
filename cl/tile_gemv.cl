// Micro-kernel "gemv": few rows (decode) on devices without matrix instructions, where what takes time is to read the
// weights. Any device; f32 and f16 buffers.
//
// A group computes up to 8 rows x TILE_N columns (of gate and up together). A work-item is a column, of both parts, and
// a slice of K; GEMV_SLICES slices share out every TILE_K. It reads its weights 16 bytes at a time, turns each into a
// float once and multiplies it with all rows. x stands in local memory as floats and is the same for a whole sub-group:
// on an Intel GPU a scalar operand. Only live rows are multiplied: 1, 2, 4 or 8.
//
// Sums: two chains of fma over 16 neighbours along K each, with whole numbers q - zero; both together times the scale
// onto the slice's sum; the slices' sums in their order at the end. A row's arithmetic depends on nothing but the row.

#define GEMV_K 32 // neighbours along K that a work-item takes at a time: 16 bytes of a 4-bit row
#define GEMV_SLICES (LOCAL_SIZE / TILE_COLUMNS)
#define GEMV_SLICE_K (TILE_K / GEMV_SLICES)
#define GEMV_COLUMN ((int)get_local_id(0) % TILE_COLUMNS)
#define GEMV_SUMS (LOCAL_SIZE * PARTS * TILE_M)
#define GEMV_LOCAL (GEMV_SUMS > TILE_M * TILE_K ? GEMV_SUMS : TILE_M * TILE_K)

// A sub-group stays within a slice, and the compiler is told: else it keeps a copy of x for each lane.
#ifdef cl_intel_required_subgroup_size
#define GEMV_ATTRIBUTES __attribute__((intel_reqd_sub_group_size(SUBGROUP)))
#define GEMV_UNIFORM(value) sub_group_broadcast(value, 0)
#else
#define GEMV_ATTRIBUTES
#define GEMV_UNIFORM(value) (value)
#endif

// ---- Weights
// A work-item's column of one part: 32 weights without their scale; scale and zero point while K stays in their group.
typedef struct {
    float16 low, high;
    float scale, zero, unit; // unit is a constant: times the scale it would be infinite for e8m0 from 2^114 on
} gemv_t;

// A scale that multiplies sums: an infinite one is no number, as it is to most products of weights by themselves; a
// clamp would otherwise make it finite.
inline float gemv_scale(float scale) { return fma(scale, 0.0f, scale); }

// Defines NAME(own, expert, n, k, w, s, z): weights [k .. k + 32) of column n of an expert, zeros behind K. Columns
// behind N repeat the last one: nobody stores their sums. Where 32 neighbours share a group and stand at boundaries of
// 16 bytes they are loaded whole; else by twos.
#define DEFINE_TILE_WEIGHTS(NAME, FORMAT, SCALE, ZERO, W_T, S_T, Z_T, OFFSET, N, K, GROUP, ROWS, ROW)               \
    inline void NAME(private gemv_t *own, int expert, int n, uint k, const global W_T *w, const global S_T *s,      \
                     const global Z_T *z)                                                                           \
    {                                                                                                               \
        const ulong before = (ulong)expert * (ROWS); /* rows of other experts; the same for all work-items */       \
        const uint row = ROW(min(n, (N) - 1), N), groups = (K) / ((GROUP) ? (GROUP) : 1);                           \
        if (CAT(F32_WIDE_, FORMAT) && (K) % GEMV_K == 0 && (GROUP) % GEMV_K == 0 &&                                 \
            (OFFSET) * sizeof(W_T) % 16 == 0) {                                                                     \
            if (k % GEMV_SLICE_K == 0 || ((GROUP) && k % ((GROUP) ? (GROUP) : 1) == 0)) {                           \
                const ulong g = (GROUP) ? before * groups + (row * groups + k / ((GROUP) ? (GROUP) : 1)) : 0;       \
                own->scale = gemv_scale(CAT(scale_, SCALE)(s, g));                                                  \
                own->zero = CAT(zero_, ZERO)(z, g) + CAT(F32_BIAS_, FORMAT);                                        \
            }                                                                                                       \
            CAT(floats_of_, CAT(F32_OF_, FORMAT))(&own->low, &own->high, w + before * (K) / CAT(PER_BYTE_, FORMAT), \
                                                  row * (K) + k, CAT(F32_FLIP_, FORMAT));                           \
            own->low -= own->zero, own->high -= own->zero, own->unit = CAT(F32_UNIT_, FORMAT);                      \
        } else {                                                                                                    \
            float16 v[2] = {0.0f, 0.0f};                                                                            \
            for (uint j = 0; j < GEMV_K && k + j < (K); j += 2) {                                                   \
                const bool two = k + j + 1 < (K);                                                                   \
                const ulong g = (GROUP) ? (before + row) * groups + (k + j) / ((GROUP) ? (GROUP) : 1) : 0;          \
                const float2 both =                                                                                 \
                    (CAT(raw_, FORMAT)(w, (before + row) * (K) + k + j, two) - CAT(zero_, ZERO)(z, g)) *            \
                    CAT(scale_, SCALE)(s, g);                                                                       \
                v[j / 16][j % 16] = both.x, v[j / 16][j % 16 + 1] = two ? both.y : 0.0f;                            \
            }                                                                                                       \
            own->low = v[0], own->high = v[1], own->scale = own->unit = 1.0f;                                       \
        }                                                                                                           \
    }

// ---- Products
// Written out, with constant places in vectors: loops, though unrolled, and arrays made Intel's compiler keep sums or
// weights in memory.
#define GEMV_CHAIN_4(a, b, sum) fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))))
#define GEMV_CHAIN_8(a, b, sum) GEMV_CHAIN_4(a.hi, b.hi, GEMV_CHAIN_4(a.lo, b.lo, sum))
#define GEMV_CHAIN(a, b) GEMV_CHAIN_8(a.hi, b.hi, GEMV_CHAIN_8(a.lo, b.lo, 0.0f))
#define GEMV_ROW(r, live, x, w, sums)               \
    if (r < (live)) {                               \
        const float16 row = (x)[r * (TILE_K / 16)]; \
        sums.s##r = GEMV_CHAIN(row, w);             \
    }
// sums of row r = 16 products; x points to its k of row 0, rows are TILE_K apart. `live` is a constant on a GPU.
#ifdef cl_intel_vec_len_hint // a CPU: its compiler takes 0.6 s for a loop, 4.8 s for four variants of rows written out
#define GEMV_ROWS(live, x, w, sums)                 \
    for (int r = 0; r < (live); ++r) {              \
        const float16 row = (x)[r * (TILE_K / 16)]; \
        sums[r] = GEMV_CHAIN(row, w);               \
    }
#define GEMV_SLICE_OF_ROWS(acc, k0, rows) GEMV_SLICE(acc, k0, rows)
#else
#define GEMV_ROWS(live, x, w, sums) \
    GEMV_ROW(0, live, x, w, sums)   \
    GEMV_ROW(1, live, x, w, sums)   \
    GEMV_ROW(2, live, x, w, sums)   \
    GEMV_ROW(3, live, x, w, sums)   \
    GEMV_ROW(4, live, x, w, sums)   \
    GEMV_ROW(5, live, x, w, sums)   \
    GEMV_ROW(6, live, x, w, sums)   \
    GEMV_ROW(7, live, x, w, sums)
#define GEMV_SLICE_OF_ROWS(acc, k0, rows)   \
    if (TILE_M > 4 && (rows) > 4) {         \
        GEMV_SLICE(acc, k0, TILE_M)         \
    } else if (TILE_M > 2 && (rows) > 2) {  \
        GEMV_SLICE(acc, k0, min(TILE_M, 4)) \
    } else if (TILE_M > 1 && (rows) > 1) {  \
        GEMV_SLICE(acc, k0, min(TILE_M, 2)) \
    } else {                                \
        GEMV_SLICE(acc, k0, 1)              \
    }
#endif
#define GEMV_PART(p, acc, x, k, live)                                   \
    {                                                                   \
        float8 low = 0.0f, high = 0.0f;                                 \
        LOAD_PART_##p(&own[p], GEMV_COLUMN, k);                         \
        GEMV_ROWS(live, x, own[p].low, low)                             \
        GEMV_ROWS(live, x + 1, own[p].high, high)                       \
        acc[p] = fma((low + high) * own[p].unit, own[p].scale, acc[p]); \
    }

// The slice's share of the K that stands in local memory.
#define GEMV_SLICE(acc, k0, live)                                                              \
    NO_UNROLL_FOR (uint k = begin; k < min(begin + GEMV_SLICE_K, (uint)GEMM_K); k += GEMV_K) { \
        const local float16 *x_k = tile_x + (k - (k0)) / 16;                                   \
        GEMV_PART(0, acc, x_k, k, live)                                                        \
        if (PARTS == 2)                                                                        \
            GEMV_PART(1, acc, x_k, k, live)                                                    \
    }

// ---- The interface of a micro-kernel: see gemm.cl
#define TILE_ATTRIBUTES GEMV_ATTRIBUTES
#define TILE_LOCAL                         \
    local float16 tile_x[GEMV_LOCAL / 16]; \
    local ulong source[TILE_M]
#define TILE_SOURCE(r) source[r]
#define TILE_SUMS(acc) float8 acc[2] = {0.0f, 0.0f}

#define GEMV_LOAD_X(VALUE, x, task, k0)                                           \
    for (int i = get_local_id(0); i < (task).rows * TILE_K; i += LOCAL_SIZE) {    \
        const int k = k0 + i % TILE_K;                                            \
        ((local float *)tile_x)[i] = k < GEMM_K ? VALUE(x, i / TILE_K, k) : 0.0f; \
    }

#define TILE_MULTIPLY(acc, x, task)                                                                \
    for (int k0 = 0; k0 < GEMM_K; k0 += TILE_K) {                                                  \
        IN_LOAD(GEMV_LOAD_X, x, task, k0)                                                          \
        barrier(CLK_LOCAL_MEM_FENCE);                                                              \
        gemv_t own[2];                                                                             \
        const uint begin = k0 + GEMV_UNIFORM((uint)get_local_id(0) / TILE_COLUMNS) * GEMV_SLICE_K; \
        GEMV_SLICE_OF_ROWS(acc, k0, (task).rows)                                                   \
        barrier(CLK_LOCAL_MEM_FENCE); /* x is replaced, in the end by the sums */                  \
    }                                                                                              \
    IN_SCALE_BACK(for (int r = 0; r < TILE_M; ++r) acc[0][r] *= r < (task).rows ? IN_SCALE(r) : 1.0f;)

// Sum of a slice's part at row r and column c of the tile. All work-items add up the slices and store; x of the next
// task is written behind the barrier that follows its sources.
#define GEMV_SUM(slice, part, r, c) \
    ((local float *)tile_x)[(((slice) * PARTS + (part)) * TILE_M + (r)) * TILE_COLUMNS + (c)]
#define GEMV_PUT(p, r) \
    if (r < TILE_M)    \
        GEMV_SUM((int)get_local_id(0) / TILE_COLUMNS, p, r, GEMV_COLUMN) = acc[p].s##r;
#define GEMV_PUT_ALL(p) \
    GEMV_PUT(p, 0)      \
    GEMV_PUT(p, 1)      \
    GEMV_PUT(p, 2)      \
    GEMV_PUT(p, 3)      \
    GEMV_PUT(p, 4)      \
    GEMV_PUT(p, 5)      \
    GEMV_PUT(p, 6)      \
    GEMV_PUT(p, 7)
#define TILE_STORE(acc, STORE)                                                     \
    GEMV_PUT_ALL(0)                                                                \
    if (PARTS == 2) {                                                              \
        GEMV_PUT_ALL(1)                                                            \
    }                                                                              \
    barrier(CLK_LOCAL_MEM_FENCE);                                                  \
    for (int i = get_local_id(0); i < task.rows * TILE_COLUMNS; i += LOCAL_SIZE) { \
        const int r = i / TILE_COLUMNS, c = i % TILE_COLUMNS;                      \
        float first = 0.0f, last = 0.0f;                                           \
        UNROLL_FOR (int s = 0; s < GEMV_SLICES; ++s)                               \
            first += GEMV_SUM(s, 0, r, c), last += GEMV_SUM(s, PARTS - 1, r, c);   \
        STORE(r, c, first, last)                                                   \
    }
