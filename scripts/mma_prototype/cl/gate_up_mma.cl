// GateUp with the micro-kernel "mma": h[row, i] = silu(gate) * up; x rows are gathered through the plan.

// In fp32, before any rounding. exp(-g) overflows to infinity for g < -88: the quotient is then -0, as it should.
inline float swiglu(float gate, float up) { return gate / (1.0f + native_exp(-gate)) * up; }

__attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1)))
kernel void ov_moe_gate_up(const global half *x, global int *plan,
                           const global uchar *gate, const global uchar *gate_scale, const global uchar *gate_zero,
                           const global uchar *up, const global uchar *up_scale, const global uchar *up_zero,
                           global half *h)
{
    local uint4 stages[LOCAL_UNITS];
    local uint source[ROWS_AT_ONCE * X_ITERS] __attribute__((aligned(16)));
    local int shared[2];
    const weights_t weights = {{gate, up}, {gate_scale, up_scale}, {gate_zero, up_zero}};

    task_t task;
    for (bool more = first_task(&task, plan, PLAN_TICKET_GATE_UP, BLOCKS, shared); more;
         more = next_task(&task, plan, PLAN_TICKET_GATE_UP, BLOCKS, shared)) {
        for (int r = get_local_id(0); r < TILE_M; r += LOCAL_SIZE)
            source[SOURCE_PLACE(r)] = r < task.rows ? AT(INPUT0, plan[PLAN_PAIR_OF_ROW + task.row + r] / TOP_K, 0) : 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        float4 acc[FRAGS_M][FRAGS_N];
        multiply_tile(acc, stages, source, x, &weights, &task);
        if (MMA_STORES)
#pragma unroll
            for (int i = 0; i < FRAGS_M; ++i)
#pragma unroll
                for (int half_of = 0; half_of < 2; ++half_of) {
                    const int r = MMA_ROW(i, half_of);
#pragma unroll
                    for (int q = 0; q < RUNS; q += 2) { // a run of gate, then its run of up
                        const int c = MMA_COLUMN(q);
                        const int column = task.block * TILE_COLUMNS + c / (2 * RUN_COLUMNS) * RUN_COLUMNS + c % RUN_COLUMNS;
                        uint out[RUN];
#pragma unroll
                        for (int b = 0; b < RUN; ++b) {
                            const float4 gated = acc[i][RUN * q + b], other = acc[i][RUN * (q + 1) + b];
                            out[b] = half_of ? pack_h2(swiglu(gated.z, other.z), swiglu(gated.w, other.w))
                                             : pack_h2(swiglu(gated.x, other.x), swiglu(gated.y, other.y));
                        }
                        if (r < task.rows && column < INTERMEDIATE)
                            store_run(h + AT(OUTPUT0, task.row + r, column), out);
                    }
                }
    }
}
