// Down: d[row, :] = h[row, :] W_down[expert]^T + bias[expert]. Inputs: h, plan, weights, scales, zero points, bias.

#define COLUMNS_PER_ITEM (TILE_N / FMA_LANES)

DEFINE_LOAD_WEIGHTS(load_down, DOWN_FORMAT, DOWN_SCALE, DOWN_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE,
                    HIDDEN, INTERMEDIATE, DOWN_GROUP, TILE_N, HIDDEN, DOWN_ROW)

__attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1)))
kernel void ov_moe_down(const global INPUT0_TYPE *h, global int *plan,
                        const global INPUT2_TYPE *down, const global INPUT3_TYPE *down_scale,
                        const global INPUT4_TYPE *down_zero, const global INPUT5_TYPE *bias, global OUTPUT0_TYPE *d)
{
    const int blocks = CEIL_DIV(HIDDEN, TILE_N);
    local float h_tile[TILE_M * X_STRIDE];
    local float down_tile[TILE_K * TILE_N];
    local int shared;
    down += INPUT2_OFFSET, down_scale += INPUT3_OFFSET, down_zero += INPUT4_OFFSET;
    bias += INPUT5_OFFSET;

    task_t task;
    for (bool more = first_task(&task, plan, PLAN_TICKET_DOWN, blocks, &shared); more;
         more = next_task(&task, plan, PLAN_TICKET_DOWN, blocks, &shared)) {
        float acc[FMA_ROWS][COLUMNS_PER_ITEM] = {{0}};
        for (int k0 = 0; k0 < INTERMEDIATE; k0 += TILE_K) {
            for (int i = get_local_id(0); i < TILE_M * TILE_K; i += LOCAL_SIZE) {
                const int r = i / TILE_K, k = k0 + i % TILE_K;
                h_tile[r * X_STRIDE + i % TILE_K] =
                    r < task.rows && k < INTERMEDIATE ? (float)h[AT(INPUT0, task.row + r, k)] : 0.0f;
            }
            load_down(down_tile, down, down_scale, down_zero, task.expert, task.block * TILE_N, k0);
            barrier(CLK_LOCAL_MEM_FENCE);
            FMA_MULTIPLY(acc, h_tile, down_tile, COLUMNS_PER_ITEM)
            barrier(CLK_LOCAL_MEM_FENCE); // the tiles are reused, by the next task too
        }
#pragma unroll
        for (int i = 0; i < FMA_ROWS; ++i)
#pragma unroll
            for (int j = 0; j < COLUMNS_PER_ITEM; ++j) {
                const int column = task.block * TILE_N + FMA_COL(j);
                if (FMA_ROW(i) < task.rows && column < HIDDEN)
                    d[AT(OUTPUT0, task.row + FMA_ROW(i), column)] = 
                        (OUTPUT0_TYPE)(acc[i][j] + CAT(bias_, DOWN_BIAS)(bias, (ulong)task.expert * HIDDEN + column));
            }
    }
}
