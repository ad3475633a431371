// Route: ids [MAX_TOKENS, TOP_K] -> plan. One work-group; every loop strides, so that any EXPERTS and any
// number of tokens work. Rows keep the order of their pairs within an expert: the plan is deterministic.

// Exclusive prefix sum over the group; *total receives the sum. scratch holds LOCAL_SIZE ints.
inline int scan_exclusive(int value, local int *scratch, int *total)
{
    const int lid = get_local_id(0);
    scratch[lid] = value;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int reach = 1; reach < LOCAL_SIZE; reach <<= 1) {
        const int left = lid >= reach ? scratch[lid - reach] : 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        scratch[lid] += left;
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    const int inclusive = scratch[lid];
    *total = scratch[LOCAL_SIZE - 1];
    barrier(CLK_LOCAL_MEM_FENCE);
    return inclusive - value;
}

__attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1)))
kernel void ov_moe_route(const global INPUT0_TYPE *ids, global int *plan)
{
    const int lid = get_local_id(0);
    local int scratch[LOCAL_SIZE];
    local int last_pair;

    // 1. Where the tokens end, and how many rows each expert gets.
    if (lid == 0)
        last_pair = -1;
    for (int e = lid; e < EXPERTS; e += LOCAL_SIZE)
        plan[PLAN_ROW_OFFSET + 1 + e] = 0;
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    int last = -1;
    for (int pair = lid; pair < MAX_ROWS; pair += LOCAL_SIZE) {
        const int id = ids[AT(INPUT0, pair / TOP_K, pair % TOP_K)];
        if (id != ID_ABSENT)
            last = pair;
        if (id >= 0 && id < EXPERTS)
            atomic_inc((volatile global int *)plan + PLAN_ROW_OFFSET + 1 + id);
    }
    atomic_max(&last_pair, last);
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    const int tokens = (last_pair + TOP_K) / TOP_K; // last_pair may be -1

    // 2. Exclusive scans over rows and row tiles. Until step 3 ends, PLAN_ROW_OFFSET[1 + e] is the next free
    //    row of expert e: it starts at the expert's first row and ends at the next expert's.
    int rows_before = 0, tiles_before = 0;
    for (int base = 0; base < EXPERTS; base += LOCAL_SIZE) {
        const int e = base + lid;
        const int count = e < EXPERTS ? plan[PLAN_ROW_OFFSET + 1 + e] : 0;
        int rows, tiles;
        const int row = rows_before + scan_exclusive(count, scratch, &rows);
        const int tile = tiles_before + scan_exclusive(CEIL_DIV(count, TILE_M), scratch, &tiles);
        if (e < EXPERTS) {
            plan[PLAN_ROW_OFFSET + 1 + e] = row;
            plan[PLAN_TILE_OFFSET + e] = tile;
        }
        rows_before += rows;
        tiles_before += tiles;
    }
    if (lid == 0) {
        plan[PLAN_TOKENS] = tokens;
        plan[PLAN_LIVE_ROWS] = rows_before;
        plan[PLAN_TILES] = tiles_before;
        plan[PLAN_TICKET_GATE_UP] = 0;
        plan[PLAN_TICKET_DOWN] = 0;
        plan[PLAN_ROW_OFFSET] = 0;
        plan[PLAN_TILE_OFFSET + EXPERTS] = tiles_before;
    }
    barrier(CLK_GLOBAL_MEM_FENCE);

    // 3. Rows, LOCAL_SIZE pairs at a time: a pair's rank among the equal ids before it in its batch.
    for (int base = 0; base < tokens * TOP_K; base += LOCAL_SIZE) {
        const int pair = base + lid;
        const bool live = pair < tokens * TOP_K;
        const int id = live ? ids[AT(INPUT0, pair / TOP_K, pair % TOP_K)] : ID_ABSENT;
        const bool routed = id >= 0 && id < EXPERTS;
        scratch[lid] = routed ? id : -1;
        barrier(CLK_LOCAL_MEM_FENCE);
        int row = 0;
        bool last_of_expert = true;
        if (routed) {
            row = plan[PLAN_ROW_OFFSET + 1 + id];
            for (int other = 0; other < lid; ++other)
                row += scratch[other] == id;
            for (int other = lid + 1; other < LOCAL_SIZE; ++other)
                last_of_expert = last_of_expert && scratch[other] != id;
        }
        barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
        if (routed) {
            plan[PLAN_PAIR_OF_ROW + row] = pair;
            plan[PLAN_ROW_OF_PAIR + pair] = row;
            if (last_of_expert)
                plan[PLAN_ROW_OFFSET + 1 + id] = row + 1;
        } else if (live) {
            plan[PLAN_ROW_OF_PAIR + pair] = id == ID_PADDING || id == ID_ABSENT ? ROW_NONE : ROW_INVALID;
        }
        barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    }
}
