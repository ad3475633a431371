// GateUp: h[row, i] = activation(gate, up) for the rows of each expert, gathering x through the plan.
// Inputs: x, plan; gate weights, scales, zero points; then up weights, scales, zero points, or, where both stand
// in one matrix (GATE_UP_FUSED), the bias of its rows.

#define PAIRS (TILE_N / 2) // columns of gate and as many of up
#define PAIRS_PER_ITEM (PAIRS / FMA_LANES)
#define GATE_ROW CAT(GATE_ROW_, LAYOUT)
#define UP_ROW CAT(UP_ROW_, LAYOUT)

#if GATE_UP_FUSED

DEFINE_LOAD_WEIGHTS(load_gate, GATE_FORMAT, GATE_SCALE, GATE_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE,
                    INTERMEDIATE, HIDDEN, GATE_GROUP, PAIRS, 2 * INTERMEDIATE, GATE_ROW)
DEFINE_LOAD_WEIGHTS(load_up, GATE_FORMAT, GATE_SCALE, GATE_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE,
                    INTERMEDIATE, HIDDEN, GATE_GROUP, PAIRS, 2 * INTERMEDIATE, UP_ROW)
#define UP_ARGUMENTS const global INPUT5_TYPE *bias
#define UP_POINTERS bias += INPUT5_OFFSET
#define LOAD_UP load_up(up_tile, gate, gate_scale, gate_zero, task.expert, task.block * PAIRS, k0)
#define BIAS(ROW, n) CAT(bias_, GATE_BIAS)(bias, (ulong)task.expert * 2 * INTERMEDIATE + ROW(n, INTERMEDIATE))

#else

DEFINE_LOAD_WEIGHTS(load_gate, GATE_FORMAT, GATE_SCALE, GATE_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE,
                    INTERMEDIATE, HIDDEN, GATE_GROUP, PAIRS, INTERMEDIATE, GATE_ROW)
DEFINE_LOAD_WEIGHTS(load_up, UP_FORMAT, UP_SCALE, UP_ZERO, INPUT5_TYPE, INPUT6_TYPE, INPUT7_TYPE,
                    INTERMEDIATE, HIDDEN, UP_GROUP, PAIRS, INTERMEDIATE, UP_ROW)
#define UP_ARGUMENTS \
    const global INPUT5_TYPE *up, const global INPUT6_TYPE *up_scale, const global INPUT7_TYPE *up_zero
#define UP_POINTERS up += INPUT5_OFFSET, up_scale += INPUT6_OFFSET, up_zero += INPUT7_OFFSET
#define LOAD_UP load_up(up_tile, up, up_scale, up_zero, task.expert, task.block * PAIRS, k0)
#define BIAS(ROW, n) 0.0f

#endif

__attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1)))
kernel void ov_moe_gate_up(const global INPUT0_TYPE *x, global int *plan,
                           const global INPUT2_TYPE *gate, const global INPUT3_TYPE *gate_scale,
                           const global INPUT4_TYPE *gate_zero, UP_ARGUMENTS, global OUTPUT0_TYPE *h)
{
    const int blocks = CEIL_DIV(INTERMEDIATE, PAIRS);
    local float x_tile[TILE_M * X_STRIDE];
    local float gate_tile[TILE_K * PAIRS], up_tile[TILE_K * PAIRS];
    local int token[TILE_M];
    local int shared;
    gate += INPUT2_OFFSET, gate_scale += INPUT3_OFFSET, gate_zero += INPUT4_OFFSET;
    UP_POINTERS;
    const int lid = get_local_id(0);

    task_t task;
    for (bool more = first_task(&task, plan, PLAN_TICKET_GATE_UP, blocks, &shared); more;
         more = next_task(&task, plan, PLAN_TICKET_GATE_UP, blocks, &shared)) {
        float g[FMA_ROWS][PAIRS_PER_ITEM] = {{0}}, u[FMA_ROWS][PAIRS_PER_ITEM] = {{0}};
        for (int r = lid; r < TILE_M; r += LOCAL_SIZE)
            token[r] = r < task.rows ? plan[PLAN_PAIR_OF_ROW + task.row + r] / TOP_K : -1;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int k0 = 0; k0 < HIDDEN; k0 += TILE_K) {
            for (int i = lid; i < TILE_M * TILE_K; i += LOCAL_SIZE) {
                const int r = i / TILE_K, k = k0 + i % TILE_K, t = token[r];
                x_tile[r * X_STRIDE + i % TILE_K] =
                    t >= 0 && k < HIDDEN ? (float)x[AT(INPUT0, t, k)] : 0.0f;
            }
            load_gate(gate_tile, gate, gate_scale, gate_zero, task.expert, task.block * PAIRS, k0);
            LOAD_UP;
            barrier(CLK_LOCAL_MEM_FENCE);
            FMA_MULTIPLY(g, x_tile, gate_tile, PAIRS_PER_ITEM)
            FMA_MULTIPLY(u, x_tile, up_tile, PAIRS_PER_ITEM)
            barrier(CLK_LOCAL_MEM_FENCE); // the tiles are reused, by the next task too
        }
#pragma unroll
        for (int i = 0; i < FMA_ROWS; ++i)
#pragma unroll
            for (int j = 0; j < PAIRS_PER_ITEM; ++j) {
                const int column = task.block * PAIRS + FMA_COL(j);
                if (FMA_ROW(i) < task.rows && column < INTERMEDIATE)
                    h[AT(OUTPUT0, task.row + FMA_ROW(i), column)] =
                        (OUTPUT0_TYPE)activate(g[i][j] + BIAS(GATE_ROW, column), u[i][j] + BIAS(UP_ROW, column));
            }
    }
}
