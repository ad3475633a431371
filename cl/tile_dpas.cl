// Micro-kernel "dpas": Intel XMX through cl_intel_subgroup_matrix_multiply_accumulate, f16 operands, fp32 sums.
//
// A group computes TILE_M rows x TILE_N columns (of gate and up together) with LOCAL_SIZE / SUBGROUP sub-groups,
// SUBGROUP_ROWS rows each. A sub-group owns FRAGS_M fragments of 8 rows and FRAGS_N of SUBGROUP columns. x rows
// stand in local memory, in two halves that take turns: one is filled while the other is multiplied. Weights
// never leave the registers: a lane is a column, and a column's K is contiguous in memory.
//
// Three permutations; the sums do not notice them, for x and weights share them:
// - K: of 8 neighbours, elements j and j + 4 are a pair. The pair (j, j + 4) of 4-bit weights is one shift and one
//   mask of their 32-bit word; neighbours would cost two of each.
// - M: fragment i of row m of sub-groups is rows 8 (i SUBGROUPS_M + m): few rows still keep every sub-group busy.
// - x stands in local memory as dpas takes it, 8 rows x 16 k in 256 bytes: one block read is one operand.
//
// Rounding: a weight is round_f16((q - zero) * scale), rounded once (the difference is exact). Products are exact, sums
// fp32. A row's arithmetic depends on nothing but the row.

#if CAT(IS_HALF_, INPUT0_TYPE) // rows of f32 are fma's, which is composed behind this

#define FRAG 8        // rows of a dpas with 8 repetitions
#define FRAG_K 16     // its K, of f16
#define FRAG_WORDS 64 // 32-bit words of its x operand
#define WEIGHTS_K 32  // K that one load of weights covers: 16 bytes of a 4-bit row

#define SUBGROUPS_M (TILE_M / SUBGROUP_ROWS)
#define SUBGROUPS_N (LOCAL_SIZE / SUBGROUP / SUBGROUPS_M)
#define FRAGS_M (SUBGROUP_ROWS / FRAG)
#define FRAGS_N (TILE_N / (SUBGROUPS_N * SUBGROUP))
#define PART_FRAGS (FRAGS_N / PARTS)
#define X_UNITS (TILE_M * TILE_K / 8) // units of 8 neighbours along K, 16 bytes
#define X_WORDS (TILE_M * TILE_K / 2)

#if SUBGROUP == 8
typedef int8 rows_t; // a lane's two k of 8 rows
#define BROADCAST_ROW(a, i, k) as_half2(sub_group_broadcast((a)[i], (k) / 2))[(k) % 2]
#else
typedef short8 rows_t; // a lane's one k of 8 rows
#define BROADCAST_ROW(a, i, k) as_half((short)sub_group_broadcast((int)(a)[i], k))
#endif

#if DPAS_EMULATION

#define DPAS_FOR for // sixteen copies of what follows took the CPU's compiler a minute

// What the instruction does, in the order of k, on any device with sub-groups.
inline float8 dpas(rows_t a, int8 b, float8 acc)
{
    DPAS_FOR (int k = 0; k < FRAG_K; ++k)
        DPAS_FOR (int i = 0; i < FRAG; ++i)
            acc[i] = fma((float)BROADCAST_ROW(a, i, k), (float)as_half2(b[k / 2])[k % 2], acc[i]);
    return acc;
}
inline rows_t read_rows(const local uint *operand)
{
    rows_t a;
    DPAS_FOR (int i = 0; i < FRAG; ++i)
#if SUBGROUP == 8
        a[i] = as_int(operand[i * SUBGROUP + get_sub_group_local_id()]);
#else
        a[i] = ((const local short *)operand)[i * SUBGROUP + get_sub_group_local_id()];
#endif
    return a;
}

#else

#define DPAS_FOR __attribute__((opencl_unroll_hint)) for

// Declared here: the compilers of 2022 know the functions, but no header of theirs does.
float8 __attribute__((overloadable)) intel_sub_group_f16_f16_matrix_mad_k16(rows_t a, int8 b, float8 acc);
#define dpas intel_sub_group_f16_f16_matrix_mad_k16
#if SUBGROUP == 8
uint8 __attribute__((overloadable)) intel_sub_group_block_read8(const local uint *p);
#define read_rows(operand) as_int8(intel_sub_group_block_read8(operand))
#else
ushort8 __attribute__((overloadable)) intel_sub_group_block_read_us8(const local ushort *p);
#define read_rows(operand) as_short8(intel_sub_group_block_read_us8((const local ushort *)(operand)))
#endif

#endif

// ---- Weights
// A lane's column: its operands of two dpas, and scale and zero point while K stays in their group.
typedef struct {
    int8 b[2];
    float scale, zero;
} column_t;

// Defines NAME(column, expert, n, k, w, s, z): the operands of columns [n .. n + SUBGROUP) and K [k .. k + 32) of
// an expert, the lane's own column being n + lane. Columns behind N repeat the last one: nobody stores their sums.
// Where 32 neighbours share a group and stand at words' boundaries they are loaded whole; else one by one.
#define DEFINE_TILE_WEIGHTS(NAME, FORMAT, SCALE, ZERO, W_T, S_T, Z_T, OFFSET, N, K, GROUP, ROWS, ROW)              \
    inline void NAME(column_t *column, int expert, int n, int k, const global W_T *w, const global S_T *s,         \
                     const global Z_T *z)                                                                          \
    {                                                                                                              \
        const int own = min(n + (int)get_sub_group_local_id(), (N) - 1);                                           \
        const ulong row = (ulong)expert * (ROWS) + ROW(own, N), groups = (K) / ((GROUP) ? (GROUP) : 1);            \
        half8 unit[4];                                                                                             \
        if (CAT(F16_WIDE_, FORMAT) && (K) % WEIGHTS_K == 0 && (GROUP) % WEIGHTS_K == 0 && (OFFSET) % 4 == 0) {     \
            if ((GROUP) && k % ((GROUP) ? (GROUP) : 1) == 0) {                                                     \
                const ulong g = row * groups + k / ((GROUP) ? (GROUP) : 1);                                        \
                column->scale = CAT(scale_, SCALE)(s, g);                                                          \
                column->zero = CAT(zero_, ZERO)(z, g) + CAT(F16_BIAS_, FORMAT);                                    \
            }                                                                                                      \
            CAT(units_of_, CAT(F16_OF_, FORMAT))(unit, w, row * (K) + k, CAT(F16_FLIP_, FORMAT));                  \
            DPAS_FOR (int u = 0; u < 4; ++u) {                                                                     \
                if (CAT(F16_BIAS_, FORMAT))                                                                        \
                    unit[u] -= (half8)(half)column->zero;                                                          \
                if (CAT(HAS_SCALE_, SCALE))                                                                        \
                    unit[u] = sizeof(S_T) == 2 ? unit[u] * (half8)(half)column->scale                              \
                                               : convert_half8(convert_float8(unit[u]) * column->scale);           \
            }                                                                                                      \
        } else {                                                                                                   \
            for (int u = 0; u < 4; ++u) {                                                                          \
                float8 v = 0.0f;                                                                                   \
                DPAS_FOR (int j = 0; j < 8; j += 2) {                                                              \
                    const int at = k + 8 * u + j;                                                                  \
                    const bool two = at + 1 < (K);                                                                 \
                    if (at < (K)) {                                                                                \
                        const ulong g = (GROUP) ? row * groups + at / ((GROUP) ? (GROUP) : 1) : 0;                 \
                        const float2 both = (CAT(raw_, FORMAT)(w, row * (K) + at, two) - CAT(zero_, ZERO)(z, g)) * \
                                            CAT(scale_, SCALE)(s, g);                                              \
                        v[j] = both.x, v[j + 1] = two ? both.y : 0.0f;                                             \
                    }                                                                                              \
                }                                                                                                  \
                unit[u] = convert_half8(v.s04152637);                                                              \
            }                                                                                                      \
        }                                                                                                          \
        column->b[0] = (int8)(as_int4(unit[0]), as_int4(unit[1]));                                                 \
        column->b[1] = (int8)(as_int4(unit[2]), as_int4(unit[3]));                                                 \
    }

// ---- x
// Whether 8 neighbours along K stand together and at words' boundaries.
#define X_WIDE (GEMM_K % 8 == 0 && INPUT0_OFFSET % 2 == 0 && PITCH(INPUT0, 0) % 2 == 0 && PITCH(INPUT0, 1) == 1)

// 8 neighbours along K of the row that begins at `source`.
inline uint4 load_unit(const global INPUT0_TYPE *x, ulong source, int k)
{
    uint4 words = 0;
    if (X_WIDE) {
        if (GEMM_K % TILE_K == 0 || k < GEMM_K)
            words = vload4(0, (const global uint *)(x + source + k));
    } else {
        half8 v = 0.0h;
        for (int j = 0; j < 8; ++j)
            if (k + j < GEMM_K)
                v[j] = x[source + (k + j) * PITCH(INPUT0, 1)];
        words = as_uint4(v);
    }
    return words;
}
// Fills one half of the local memory with K [k0 .. k0 + TILE_K) of the tile's rows; source[r] is row r's first
// element. Dead rows are left as they are: dpas keeps rows apart, and nobody stores their sums. `exponents` are those
// that the rows are brought to, if any.
inline void gather_units(local uint *x_tile, const global INPUT0_TYPE *x, const local ulong *source, int rows, int k0,
                         const local int *exponents, bool scaled)
{
    for (int i = get_local_id(0); i < X_UNITS; i += LOCAL_SIZE) {
        const int r = i / (TILE_K / 8), u = i % (TILE_K / 8), k = k0 + 8 * u;
        if (r >= rows)
            break; // rows only grow
        uint4 words = load_unit(x, source[r], k);
#if SCALED_IN // 8 neighbours share a block
        if (scaled && k < GEMM_K)
            words = as_uint4(convert_half8(convert_float8(as_half8(words)) * in_factor(x, source[r], exponents[r], k)));
#endif
        local uint *operand = x_tile + (r / FRAG * (TILE_K / FRAG_K) + u / 2) * FRAG_WORDS;
        vstore4(pairs_of_halves(words), 0, operand + r % FRAG * 8 + u % 2 * 4);
    }
}
inline void gather_rows(local uint *x_tile, const global INPUT0_TYPE *x, const local ulong *source, int rows, int k0,
                        const local int *exponents)
{
    if (exponents)
        gather_units(x_tile, x, source, rows, k0, exponents, true);
    else
        gather_units(x_tile, x, source, rows, k0, exponents, false);
}

// ---- The interface of a micro-kernel: see gemm.cl
#define TILE_ATTRIBUTES __attribute__((intel_reqd_sub_group_size(SUBGROUP)))
#define TILE_LOCAL                                               \
    local uint tile_x[2 * X_WORDS] __attribute__((aligned(64))); \
    local ulong source[TILE_M]
#define TILE_SOURCE(r) source[r]
#define TILE_SUMS(acc) float8 acc[FRAGS_N][FRAGS_M]

#define DPAS_M ((int)get_sub_group_id() / SUBGROUPS_N)
#define DPAS_N ((int)get_sub_group_id() % SUBGROUPS_N)
#define DPAS_ROW(i) (FRAG * ((i) * SUBGROUPS_M + DPAS_M))
#define DPAS_COLUMN(f) ((DPAS_N * PART_FRAGS + (f)) * SUBGROUP)

// acc = x rows of the task * weights. All work-items of the group take part; source is written before, and may be
// overwritten after.
#define TILE_MULTIPLY(acc, x, task)                                                                                   \
    {                                                                                                                 \
        /* the same for all lanes, and the compiler is told: dpas has no mask */                                      \
        const int live = sub_group_broadcast(CEIL_DIV((task).rows - FRAG * DPAS_M, FRAG * SUBGROUPS_M), 0);           \
        column_t column[FRAGS_N];                                                                                     \
        DPAS_FOR (int f = 0; f < FRAGS_N; ++f)                                                                        \
            DPAS_FOR (int i = 0; i < FRAGS_M; ++i)                                                                    \
                acc[f][i] = 0.0f;                                                                                     \
        gather_rows(tile_x, x, source, (task).rows, 0, IN_EXPONENT);                                                  \
        for (int k0 = 0; k0 < GEMM_K; k0 += TILE_K) {                                                                 \
            local uint *half_x = tile_x + k0 / TILE_K % 2 * X_WORDS;                                                  \
            barrier(CLK_LOCAL_MEM_FENCE); /* this half is filled, and all are done with the other */                  \
            if (k0 + TILE_K < GEMM_K)                                                                                 \
                gather_rows(tile_x + (k0 / TILE_K + 1) % 2 * X_WORDS, x, source, (task).rows, k0 + TILE_K,            \
                            IN_EXPONENT);                                                                             \
            DPAS_FOR (int j = 0; j < TILE_K / WEIGHTS_K; ++j)                                                         \
                if (k0 + j * WEIGHTS_K < GEMM_K) /* TILE_K may be more than is left */                                \
                {                                                                                                     \
                    DPAS_FOR (int f = 0; f < PART_FRAGS; ++f) {                                                       \
                        LOAD_PART_0(&column[f], DPAS_COLUMN(f), k0 + j * WEIGHTS_K);                                  \
                        if (PARTS == 2)                                                                               \
                            LOAD_PART_1(&column[FRAGS_N - PART_FRAGS + f], DPAS_COLUMN(f), k0 + j * WEIGHTS_K);       \
                    }                                                                                                 \
                    DPAS_FOR (int s = 0; s < 2; ++s)                                                                  \
                        DPAS_FOR (int i = 0; i < FRAGS_M; ++i)                                                        \
                            if (i < live) {                                                                           \
                                const rows_t a =                                                                      \
                                    read_rows(half_x + ((i * SUBGROUPS_M + DPAS_M) * (TILE_K / FRAG_K) + 2 * j + s) * \
                                                           FRAG_WORDS);                                               \
                                DPAS_FOR (int f = 0; f < FRAGS_N; ++f)                                                \
                                    acc[f][i] = dpas(a, column[f].b[s], acc[f][i]);                                   \
                            }                                                                                         \
                }                                                                                                     \
        }                                                                                                             \
        barrier(CLK_LOCAL_MEM_FENCE); /* the next task overwrites both halves */                                      \
        IN_SCALE_BACK(DPAS_FOR (int i = 0; i < FRAGS_M; ++i) {                                                        \
            const float8 scale = as_float8(vload8(0, in_exponent + DPAS_ROW(i)) + 127 << 23);                         \
            DPAS_FOR (int f = 0; f < FRAGS_N; ++f)                                                                    \
                acc[f][i] *= scale;                                                                                   \
        })                                                                                                            \
    }

// STORE(row, column, sum of part 0, sum of the last part) for every sum of the calling work-item; row and column
// within the tile, dead rows and columns behind N included.
#define TILE_STORE(acc, STORE)                                                                       \
    DPAS_FOR (int f = 0; f < PART_FRAGS; ++f)                                                        \
        DPAS_FOR (int i = 0; i < FRAGS_M; ++i)                                                       \
            DPAS_FOR (int e = 0; e < FRAG; ++e)                                                      \
                STORE(DPAS_ROW(i) + e, DPAS_COLUMN(f) + (int)get_sub_group_local_id(), acc[f][i][e], \
                      acc[FRAGS_N - PART_FRAGS + f][i][e])

#endif
