// Down: d[row, :] = h[row, :] W_down[expert]^T + bias[expert].
//
// Buffers
//   h      INPUT0   [MAX_ROWS, INTERMEDIATE + exponents]  real (f16 or f32), rows ordered by expert  GateUp
//   plan   INPUT1   [PLAN_SIZE]                           i32, see common.cl; its ticket and         Route, this kernel
//                                                         PLAN_D_WIDE are written here
//   down   INPUT2   [EXPERTS, HIDDEN, INTERMEDIATE]       as DOWN_FORMAT says, see weights.cl        the model
//   scale  INPUT3   [EXPERTS, HIDDEN, groups]             real, or u8 exponents                      the model
//   zero   INPUT4   [EXPERTS, HIDDEN, groups]             the weights' type; one number if none      the model
//   bias   INPUT5   [EXPERTS, HIDDEN]                     real; one number if none                   the model
//   d      OUTPUT0  [MAX_ROWS, HIDDEN + exponents]        real                                       this kernel
//
// Before it stand gemm.cl and a micro-kernel.

#define LOAD_PART_0(target, column, k) \
    load_down(target, task.expert, (column) + task.column_tile * TILE_N, k, down, down_scale, down_zero)
#define LOAD_PART_1(target, column, k) // one matrix
#define MATRICES(T) ((matrices_t){{(T)down, (T)down}, {(T)down_scale, (T)down_scale}, {(T)down_zero, (T)down_zero}})
#define VALUE(column, first, last) (first + CAT(bias_, DOWN_BIAS)(bias, (ulong)task.expert * HIDDEN + column))
#define ROW_OF_H(row) INDEX_OF(INPUT0, row, 0)

DEFINE_TILE_WEIGHTS(load_down, DOWN_FORMAT, DOWN_SCALE, DOWN_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE, INPUT2_OFFSET,
                    HIDDEN, INTERMEDIATE, DOWN_GROUP, HIDDEN, DOWN_ROW)

// One work-group computes tiles of TILE_M rows x TILE_N columns of d, one task after the other (schedule.cl).
TILE_ATTRIBUTES
WORK_GROUP
kernel void ov_moe_down(const global INPUT0_TYPE *h, global int *plan, const global INPUT2_TYPE *down,
                        const global INPUT3_TYPE *down_scale, const global INPUT4_TYPE *down_zero,
                        const global INPUT5_TYPE *bias, global OUTPUT0_TYPE *out)
{
    down += INPUT2_OFFSET, down_scale += INPUT3_OFFSET, down_zero += INPUT4_OFFSET;
    bias += INPUT5_OFFSET;
    GEMM(h, ROW_OF_H, plan, PLAN_TICKET_DOWN)
}
