// GateUp: h[row, i] = activation(gate, up) for the rows of each expert, gathering x through the plan.
// Inputs: x, plan; gate weights, scales, zero points; then up weights, scales, zero points, or, where both stand
// in one matrix (GATE_UP_FUSED), the bias of its rows.
//
// Behind it stands a micro-kernel (tile_*.cl), which knows neither the schedule nor the stage. It defines
//   TILE_ATTRIBUTES             attributes of the kernel
//   TILE_LOCAL                  local memory, declared in the kernel
//   DEFINE_TILE_WEIGHTS(...)    a function that loads weights of one matrix
//   TILE_SUMS(acc)              fp32 accumulators
//   TILE_MULTIPLY(acc, x, source, task)
//                               acc = rows of x times the weights; source[r] is where row r of the tile begins in x
//   TILE_STORE(acc, STORE)      STORE(row, column, sum of part 0, sum of the last part) for each sum of a work-item
// from what the stage defines: PARTS matrices that share x, GEMM_K (both in stages.py, ahead of the micro-kernel),
// LOAD_PART_n(target, column, k), calls of the loading functions at a column of the tile, and STORE.

#define PAIRS (TILE_N / 2) // columns of gate and as many of up
#define GATE_ROW CAT(GATE_ROW_, LAYOUT)
#define UP_ROW CAT(UP_ROW_, LAYOUT)

#define LOAD_PART_0(target, column, k) \
    load_gate(target, task.expert, task.block * PAIRS + (column), k, gate, gate_scale, gate_zero)

#if GATE_UP_FUSED

DEFINE_TILE_WEIGHTS(load_gate, GATE_FORMAT, GATE_SCALE, GATE_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE,
                    INPUT2_OFFSET, INTERMEDIATE, HIDDEN, GATE_GROUP, 2 * INTERMEDIATE, GATE_ROW)
DEFINE_TILE_WEIGHTS(load_up, GATE_FORMAT, GATE_SCALE, GATE_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE,
                    INPUT2_OFFSET, INTERMEDIATE, HIDDEN, GATE_GROUP, 2 * INTERMEDIATE, UP_ROW)
#define UP_ARGUMENTS const global INPUT5_TYPE *bias
#define UP_POINTERS bias += INPUT5_OFFSET
#define LOAD_PART_1(target, column, k) \
    load_up(target, task.expert, task.block * PAIRS + (column), k, gate, gate_scale, gate_zero)
#define BIAS(ROW, n) CAT(bias_, GATE_BIAS)(bias, (ulong)task.expert * 2 * INTERMEDIATE + ROW(n, INTERMEDIATE))

#else

DEFINE_TILE_WEIGHTS(load_gate, GATE_FORMAT, GATE_SCALE, GATE_ZERO, INPUT2_TYPE, INPUT3_TYPE, INPUT4_TYPE,
                    INPUT2_OFFSET, INTERMEDIATE, HIDDEN, GATE_GROUP, INTERMEDIATE, GATE_ROW)
DEFINE_TILE_WEIGHTS(load_up, UP_FORMAT, UP_SCALE, UP_ZERO, INPUT5_TYPE, INPUT6_TYPE, INPUT7_TYPE,
                    INPUT5_OFFSET, INTERMEDIATE, HIDDEN, UP_GROUP, INTERMEDIATE, UP_ROW)
#define UP_ARGUMENTS \
    const global INPUT5_TYPE *up, const global INPUT6_TYPE *up_scale, const global INPUT7_TYPE *up_zero
#define UP_POINTERS up += INPUT5_OFFSET, up_scale += INPUT6_OFFSET, up_zero += INPUT7_OFFSET
#define LOAD_PART_1(target, column, k) \
    load_up(target, task.expert, task.block * PAIRS + (column), k, up, up_scale, up_zero)
#define BIAS(ROW, n) 0.0f

#endif

#define STORE(r, c, g, u)                                                                         \
    {                                                                                             \
        const int column = task.block * PAIRS + (c);                                              \
        if ((r) < task.rows && column < INTERMEDIATE)                                             \
            h[AT(OUTPUT0, task.row + (r), column)] =                                              \
                (OUTPUT0_TYPE)activate((g) + BIAS(GATE_ROW, column), (u) + BIAS(UP_ROW, column)); \
    }

TILE_ATTRIBUTES __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1)))
kernel void ov_moe_gate_up(const global INPUT0_TYPE *x, global int *plan,
                           const global INPUT2_TYPE *gate, const global INPUT3_TYPE *gate_scale,
                           const global INPUT4_TYPE *gate_zero, UP_ARGUMENTS, global OUTPUT0_TYPE *h)
{
    TILE_LOCAL;
    local ulong source[TILE_M];
    local int shared[2];
    gate += INPUT2_OFFSET, gate_scale += INPUT3_OFFSET, gate_zero += INPUT4_OFFSET;
    UP_POINTERS;

    task_t task;
    for (bool more = first_task(&task, plan, PLAN_TICKET_GATE_UP, CEIL_DIV(INTERMEDIATE, PAIRS), shared); more;
         more = next_task(&task, plan, PLAN_TICKET_GATE_UP, CEIL_DIV(INTERMEDIATE, PAIRS), shared)) {
        for (int r = get_local_id(0); r < task.rows; r += LOCAL_SIZE)
            source[r] = AT(INPUT0, plan[PLAN_PAIR_OF_ROW + task.row + r] / TOP_K, 0);
        barrier(CLK_LOCAL_MEM_FENCE);
        TILE_SUMS(acc);
        TILE_MULTIPLY(acc, x, source, task)
        TILE_STORE(acc, STORE)
    }
}
