// Down: d[row, :] = h[row, :] W_down[expert]^T + bias[expert]. Inputs: h, plan, weights, scales, zero points, bias.
// Behind it stand gemm.cl and a micro-kernel.

#define LOAD_PART_0(target, column, k) \
    load_down(target, task.expert, task.column_tile * TILE_N + (column), k, down, down_scale, down_zero)
#define LOAD_PART_1(target, column, k) // one matrix
#define MATRICES(T) {{(T)down, (T)down}, {(T)down_scale, (T)down_scale}, {(T)down_zero, (T)down_zero}}
#define VALUE(column, first, last) (first + CAT(bias_, DOWN_BIAS)(bias, (ulong)task.expert * HIDDEN + column))
#define ROW_OF_H(row) INDEX_OF(INPUT0, row, 0)

DEFINE_TILE_WEIGHTS(load_down, DOWN_FORMAT, DOWN_SCALE, DOWN_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE,
                    INPUT2_OFFSET, HIDDEN, INTERMEDIATE, DOWN_GROUP, HIDDEN, DOWN_ROW)

TILE_ATTRIBUTES __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1)))
kernel void ov_moe_down(const global INPUT0_TYPE *h, global int *plan,
                        const global INPUT2_TYPE *down, const global INPUT3_TYPE *down_scale,
                        const global INPUT4_TYPE *down_zero, const global INPUT5_TYPE *bias, global OUTPUT0_TYPE *out)
{
    down += INPUT2_OFFSET, down_scale += INPUT3_OFFSET, down_zero += INPUT4_OFFSET;
    bias += INPUT5_OFFSET;
    GEMM(h, ROW_OF_H, plan, PLAN_TICKET_DOWN)
}
