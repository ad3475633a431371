// Down: d[row, :] = h[row, :] W_down[expert]^T + bias[expert]. Inputs: h, plan, weights, scales, zero points, bias.
// Behind it stands a micro-kernel: see gate_up.cl.

#define LOAD_PART_0(target, column, k) \
    load_down(target, task.expert, task.block * TILE_N + (column), k, down, down_scale, down_zero)
#define LOAD_PART_1(target, column, k) // one matrix

#define STORE(r, c, sum, same)                                                                             \
    {                                                                                                      \
        const int column = task.block * TILE_N + (c);                                                      \
        if ((r) < task.rows && column < HIDDEN)                                                            \
            d[AT(OUTPUT0, task.row + (r), column)] =                                                       \
                (OUTPUT0_TYPE)((sum) + CAT(bias_, DOWN_BIAS)(bias, (ulong)task.expert * HIDDEN + column)); \
    }

DEFINE_TILE_WEIGHTS(load_down, DOWN_FORMAT, DOWN_SCALE, DOWN_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE,
                    INPUT2_OFFSET, HIDDEN, INTERMEDIATE, DOWN_GROUP, HIDDEN, DOWN_ROW)

TILE_ATTRIBUTES __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1)))
kernel void ov_moe_down(const global INPUT0_TYPE *h, global int *plan,
                        const global INPUT2_TYPE *down, const global INPUT3_TYPE *down_scale,
                        const global INPUT4_TYPE *down_zero, const global INPUT5_TYPE *bias, global OUTPUT0_TYPE *d)
{
    TILE_LOCAL;
    local ulong source[TILE_M];
    local int shared[2];
    down += INPUT2_OFFSET, down_scale += INPUT3_OFFSET, down_zero += INPUT4_OFFSET;
    bias += INPUT5_OFFSET;

    task_t task;
    for (bool more = first_task(&task, plan, PLAN_TICKET_DOWN, CEIL_DIV(HIDDEN, TILE_N), shared); more;
         more = next_task(&task, plan, PLAN_TICKET_DOWN, CEIL_DIV(HIDDEN, TILE_N), shared)) {
        for (int r = get_local_id(0); r < task.rows; r += LOCAL_SIZE)
            source[r] = AT(INPUT0, task.row + r, 0);
        barrier(CLK_LOCAL_MEM_FENCE);
        TILE_SUMS(acc);
        TILE_MULTIPLY(acc, h, source, task)
        TILE_STORE(acc, STORE)
    }
}
