// Down with the micro-kernel "mma": d[row, :] = h[row, :] W_down[expert]^T.

__attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1)))
kernel void ov_moe_down(const global half *h, global int *plan, const global uchar *down,
                        const global uchar *down_scale, const global uchar *down_zero, global half *d)
{
    local uint4 stages[LOCAL_UNITS];
    local uint source[ROWS_AT_ONCE * X_ITERS] __attribute__((aligned(16)));
    local int shared[2];
    const weights_t weights = {{down, down}, {down_scale, down_scale}, {down_zero, down_zero}};

    task_t task;
    for (bool more = first_task(&task, plan, PLAN_TICKET_DOWN, BLOCKS, shared); more;
         more = next_task(&task, plan, PLAN_TICKET_DOWN, BLOCKS, shared)) {
        for (int r = get_local_id(0); r < TILE_M; r += LOCAL_SIZE)
            source[SOURCE_PLACE(r)] = r < task.rows ? AT(INPUT0, task.row + r, 0) : 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        float4 acc[FRAGS_M][FRAGS_N];
        multiply_tile(acc, stages, source, h, &weights, &task);
        if (MMA_STORES)
#pragma unroll
            for (int i = 0; i < FRAGS_M; ++i)
#pragma unroll
                for (int half_of = 0; half_of < 2; ++half_of) {
                    const int r = MMA_ROW(i, half_of);
#pragma unroll
                    for (int q = 0; q < RUNS; ++q) {
                        const int column = task.block * TILE_N + MMA_COLUMN(q);
                        uint out[RUN];
#pragma unroll
                        for (int b = 0; b < RUN; ++b) {
                            const float4 v = acc[i][RUN * q + b];
                            out[b] = half_of ? pack_h2(v.z, v.w) : pack_h2(v.x, v.y);
                        }
                        if (r < task.rows && column < HIDDEN)
                            store_run(d + AT(OUTPUT0, task.row + r, column), out);
                    }
                }
    }
}
