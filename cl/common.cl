// Definitions that every kernel shares: the layout of the plan, indices, and the group geometry.
//
// What the composer (pyopencl) or the GPU plugin's custom layer defines before this text:
//   INPUTn_TYPE, INPUTn_DIMS, INPUTn_PITCHES, INPUTn_OFFSET, OUTPUT0_...  buffers, in elements
//   EXPERTS, TOP_K, MAX_TOKENS, HIDDEN, INTERMEDIATE                     sizes of the block
//   TILE_M, TILE_N, TILE_K, LOCAL_SIZE, SCHEDULE, ...                    the kernel configuration
//   PARTS, GEMM_K                                                        what a micro-kernel knows of its stage
//   F16_OF_u4, F32_BIAS_i4, ...                                          tables by weight format, see formats.py

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
// Pitch i of a buffer. The plugin writes all four as an array, "(size_t []){ ... }", which Intel's compiler loads from
// memory at each use; as a vector they are constants.
#define VECTOR_FOR(array) (ulong4)
#define EXPANDED(...) __VA_ARGS__
#define PITCH(NAME, i) (EXPANDED(VECTOR_FOR CAT(NAME, _PITCHES))[i])
#define UNROLL_FOR _Pragma("unroll") for
#define NO_UNROLL_FOR _Pragma("nounroll") for
// Every kernel is built for the one size of a group that it is launched with.
#define WORK_GROUP __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1)))
#define CEIL_DIV(a, b) (((a) + (b) - 1) / (b))

// Whether rows are f16 is known only here: the plugin's precision hint decides.
#define IS_HALF_half 1
#define IS_HALF_float 0

// Index of element (row, column) of a buffer, e.g. x[INDEX_OF(INPUT0, t, k)]: pitches and offset are the plugin's to
// choose, an input may be a slice of a larger buffer.
#define INDEX_OF(NAME, row, column) \
    (CAT(NAME, _OFFSET) + (ulong)(row) * PITCH(NAME, 0) + (ulong)(column) * PITCH(NAME, 1))

// A pair is one (token, slot): pair = token * TOP_K + slot. A row is a pair's place once ordered by expert.
#define MAX_ROWS (MAX_TOKENS * TOP_K)

// The ids of a pair that reaches no expert.
#define ID_PADDING (-1) // a padded token: contributes zero
#define ID_ABSENT (-2)  // a row behind the last token: neither read nor written
// PLAN_ROW_OF_PAIR of such a pair.
#define ROW_NONE (-1)    // contributes zero
#define ROW_INVALID (-3) // the id was out of range: the token's output becomes NaN

// The plan [PLAN_SIZE], i32; ov_moe/kernels/plan.py is its mirror. Route writes it, and of the words below each GEMM
// its ticket and the word for its exponents. PLAN_SIZE is PLAN_ROW_OF_PAIR + MAX_ROWS. Tickets stand 64 bytes apart
// from all else: every group of a GEMM adds to one while others read the offsets.
#define PLAN_TOKENS 0 // tokens up to the last one that is not ID_ABSENT
#define PLAN_LIVE_ROWS 1
#define PLAN_TILES 2  // row tiles of all experts
#define PLAN_H_WIDE 3 // 1 where a row of h holds values beyond f16: see exponents.cl
#define PLAN_D_WIDE 4
#define PLAN_TICKET_GATE_UP 16
#define PLAN_TICKET_DOWN 32
#define PLAN_ROW_OFFSET 48
#define PLAN_TILE_OFFSET (PLAN_ROW_OFFSET + EXPERTS + 1)
#define PLAN_PAIR_OF_ROW (PLAN_TILE_OFFSET + EXPERTS + 1)
#define PLAN_ROW_OF_PAIR (PLAN_PAIR_OF_ROW + MAX_ROWS)
