// GateUp: h[row, i] = activation(gate, up) for the rows of each expert, gathering x through the plan.
//
// Buffers
//   x          INPUT0   [MAX_TOKENS, HIDDEN]                  real (f16 or f32)                     the layer before
//   plan       INPUT1   [PLAN_SIZE]                           i32, see common.cl; its ticket and    Route, this kernel
//                                                             PLAN_H_WIDE are written here
//   gate       INPUT2   [EXPERTS, INTERMEDIATE, HIDDEN]       as GATE_FORMAT says, see weights.cl   the model
//   scale      INPUT3   [EXPERTS, INTERMEDIATE, groups]       real, or u8 exponents                 the model
//   zero       INPUT4   [EXPERTS, INTERMEDIATE, groups]       their type; one number if none      the model
//   up, ...    INPUT5-7 the same of up; or, where both matrices are one (GATE_UP_FUSED: 2 * INTERMEDIATE rows)
//   bias       INPUT5   [EXPERTS, 2 * INTERMEDIATE]           real; one number if none              the model
//   h          OUTPUT0  [MAX_ROWS, INTERMEDIATE + exponents]  real, rows ordered by expert          this kernel
//
// Before it stand gemm.cl and a micro-kernel.

#define GATE_ROW CAT(GATE_ROW_, LAYOUT)
#define UP_ROW CAT(UP_ROW_, LAYOUT)
#define LOAD_PART_0(target, column, k) \
    load_gate(target, task.expert, (column) + task.column_tile * TILE_COLUMNS, k, gate, gate_scale, gate_zero)

#if GATE_UP_FUSED
DEFINE_TILE_WEIGHTS(load_gate, GATE_FORMAT, GATE_SCALE, GATE_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE, INPUT2_OFFSET,
                    INTERMEDIATE, HIDDEN, GATE_GROUP, 2 * INTERMEDIATE, GATE_ROW)
DEFINE_TILE_WEIGHTS(load_up, GATE_FORMAT, GATE_SCALE, GATE_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE, INPUT2_OFFSET,
                    INTERMEDIATE, HIDDEN, GATE_GROUP, 2 * INTERMEDIATE, UP_ROW)
#define UP_ARGUMENTS const global INPUT5_TYPE *bias
#define UP_POINTERS bias += INPUT5_OFFSET
#define LOAD_PART_1(target, column, k) \
    load_up(target, task.expert, (column) + task.column_tile * TILE_COLUMNS, k, gate, gate_scale, gate_zero)
#define BIAS(ROW, n) CAT(bias_, GATE_BIAS)(bias, (ulong)task.expert * 2 * INTERMEDIATE + ROW(n, INTERMEDIATE))
#define MATRICES(T) ((matrices_t){{(T)gate, (T)gate}, {(T)gate_scale, (T)gate_scale}, {(T)gate_zero, (T)gate_zero}})
#else
DEFINE_TILE_WEIGHTS(load_gate, GATE_FORMAT, GATE_SCALE, GATE_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE, INPUT2_OFFSET,
                    INTERMEDIATE, HIDDEN, GATE_GROUP, INTERMEDIATE, GATE_ROW)
DEFINE_TILE_WEIGHTS(load_up, UP_FORMAT, UP_SCALE, UP_ZERO, INPUT5_TYPE, INPUT6_TYPE, INPUT7_TYPE, INPUT5_OFFSET,
                    INTERMEDIATE, HIDDEN, UP_GROUP, INTERMEDIATE, UP_ROW)
#define UP_ARGUMENTS const global INPUT5_TYPE *up, const global INPUT6_TYPE *up_scale, const global INPUT7_TYPE *up_zero
#define UP_POINTERS up += INPUT5_OFFSET, up_scale += INPUT6_OFFSET, up_zero += INPUT7_OFFSET
#define LOAD_PART_1(target, column, k) \
    load_up(target, task.expert, (column) + task.column_tile * TILE_COLUMNS, k, up, up_scale, up_zero)
#define BIAS(ROW, n) 0.0f
#define MATRICES(T) ((matrices_t){{(T)gate, (T)up}, {(T)gate_scale, (T)up_scale}, {(T)gate_zero, (T)up_zero}})
#endif

#define VALUE(column, first, last) activate(first + BIAS(GATE_ROW, column), last + BIAS(UP_ROW, column))
#define ROW_OF_X(row) INDEX_OF(INPUT0, plan[PLAN_PAIR_OF_ROW + (row)] / TOP_K, 0)

// One work-group computes tiles of TILE_M rows x TILE_COLUMNS columns of h, one task after the other (schedule.cl).
TILE_ATTRIBUTES
WORK_GROUP
kernel void ov_moe_gate_up(const global INPUT0_TYPE *x, global int *plan, const global INPUT2_TYPE *gate,
                           const global INPUT3_TYPE *gate_scale, const global INPUT4_TYPE *gate_zero, UP_ARGUMENTS,
                           global OUTPUT0_TYPE *out)
{
    gate += INPUT2_OFFSET, gate_scale += INPUT3_OFFSET, gate_zero += INPUT4_OFFSET;
    UP_POINTERS;
    GEMM(x, ROW_OF_X, plan, PLAN_TICKET_GATE_UP)
}
