// Route: from the experts of each token to the plan.
//
// Buffers
//   ids   INPUT0   [MAX_TOKENS, TOP_K]  i32, index of an expert; -1 padding, -2 behind the last token    the router
//   plan  OUTPUT0  [PLAN_SIZE]          i32, see common.cl                                               this kernel
//
// Every loop strides: any EXPERTS, number of tokens and number of groups work.
// Rows keep the order of their pairs within an expert: the plan is deterministic.
//
// Each group counts all pairs and places a share of them: no group waits for another. On an H200 65,536 pairs took one
// group of 1024 82 us, and 16 of them 20. A share is cut into SEGMENTS runs, one for each 32 work-items ("lanes"),
// whose pairs of every expert are counted in local memory; scans over (expert, segment) then say where its first row of
// an expert goes. In the second walk the lanes of a segment place 32 pairs at a time: each sets its bit in the expert's
// mask, and the bits below its own are its rank.
// Experts are taken WINDOW at a time; there is one window unless they exceed local memory.

#define SEGMENTS (LOCAL_SIZE / 32)

#ifndef ROUTE_WINDOW // experts of a window, of 8 bytes a segment, 8 and, in the scan, 16: 47 of NVIDIA's 48 KiB
#define ROUTE_WINDOW (6016 / (SEGMENTS + 3))
#endif
#define WINDOW (EXPERTS < ROUTE_WINDOW ? EXPERTS : ROUTE_WINDOW)

// Turns of 32 pairs whose ids are read together: a walk waits for memory once in so many.
#ifdef cl_intel_vec_len_hint // a CPU waits less, and its compiler takes 0.6 s for 8 and 0.3 s for 2
#define AHEAD 2
#else
#define AHEAD 8
#endif

// The ids of pairs pair, pair + step, ...; ID_ABSENT from end on.
inline void read_ids(int batch[AHEAD], const global INPUT0_TYPE *ids, int pair, int step, int end)
{
#pragma unroll
    for (int i = 0; i < AHEAD; ++i) {
        const int p = pair + step * i;
        batch[i] = p < end ? ids[INDEX_OF(INPUT0, p / TOP_K, p % TOP_K)] : ID_ABSENT;
    }
}

#define SCANNED (LOCAL_SIZE < WINDOW ? LOCAL_SIZE : WINDOW) // experts of one scan

// Exclusive prefix sums over the group of both components; *total receives the sums. scratch holds 2 * SCANNED.
inline int2 scan_exclusive(int2 value, local int2 *scratch, int2 *total)
{
    const int lid = get_local_id(0);
    int2 sum = value;
    int from = 0;
    if (lid < SCANNED)
        scratch[lid] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int reach = 1; reach < SCANNED; reach <<= 1) {
        if (lid >= reach && lid < SCANNED)
            sum += scratch[from + lid - reach];
        from = SCANNED - from; // two buffers: one barrier a step
        if (lid < SCANNED)
            scratch[from + lid] = sum;
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    *total = scratch[from + SCANNED - 1];
    barrier(CLK_LOCAL_MEM_FENCE);
    return sum - value;
}

// One work-group counts all pairs and writes the rows of its share of them; the first one writes the header, too.
WORK_GROUP
kernel void ov_moe_route(const global INPUT0_TYPE *ids, global int *plan)
{
    const int lid = get_local_id(0), segment = lid / 32, lane = lid % 32;
    local int2 scratch[2 * SCANNED];
    local int next[SEGMENTS * WINDOW];        // rows of (segment, expert), then its next free row
    local uint mask[SEGMENTS * WINDOW];       // lanes of the segment that hold the expert
    local int earlier[WINDOW], later[WINDOW]; // rows of the expert in the shares of other groups
    local int last_pair;

    // Runs are multiples of 32 pairs.
    const int run = CEIL_DIV(MAX_ROWS, 32 * SEGMENTS * (int)get_num_groups(0)) * 32, share = run * SEGMENTS;
    const int share_begin = get_group_id(0) * share, begin = share_begin + segment * run;
    const int end = min(begin + run, MAX_ROWS);
    if (lid == 0)
        last_pair = -1;

    int2 before = 0; // rows and row tiles of the experts of earlier windows
    int tokens = 0;
    for (int first = 0; first < EXPERTS; first += WINDOW) {
        const int experts = min(WINDOW, EXPERTS - first);
        for (int i = lid; i < SEGMENTS * WINDOW; i += LOCAL_SIZE)
            next[i] = 0, mask[i] = 0;
        for (int i = lid; i < WINDOW; i += LOCAL_SIZE)
            earlier[i] = 0, later[i] = 0;
        barrier(CLK_LOCAL_MEM_FENCE);

        // 1. Where the tokens end, and how many rows of each expert stand in each segment.
        int last = -1;
        for (int turn = begin; turn < end; turn += 32 * AHEAD) {
            int batch[AHEAD];
            read_ids(batch, ids, turn + lane, 32, end);
#pragma unroll
            for (int i = 0; i < AHEAD; ++i) {
                if (batch[i] != ID_ABSENT)
                    last = turn + i * 32 + lane;
                if (batch[i] >= first && batch[i] < first + experts)
                    atomic_inc(&next[segment * WINDOW + batch[i] - first]);
            }
        }
        if (get_num_groups(0) > 1)
            for (int turn = lid; turn < MAX_ROWS; turn += LOCAL_SIZE * AHEAD) {
                int batch[AHEAD];
                read_ids(batch, ids, turn, LOCAL_SIZE, MAX_ROWS);
#pragma unroll
                for (int i = 0; i < AHEAD; ++i) {
                    const int pair = turn + i * LOCAL_SIZE, place = pair - share_begin;
                    if (batch[i] != ID_ABSENT)
                        last = max(last, pair);
                    if (batch[i] >= first && batch[i] < first + experts && (place < 0 || place >= share))
                        atomic_inc((place < 0 ? earlier : later) + batch[i] - first);
                }
            }
        if (first == 0 && last >= 0)
            atomic_max(&last_pair, last);
        barrier(CLK_LOCAL_MEM_FENCE);
        tokens = (last_pair + TOP_K) / TOP_K; // last_pair may be -1

        // 2. Scans over rows and row tiles of the experts, then over the segments of each.
        for (int base = 0; base < experts; base += SCANNED) {
            const int e = lid < SCANNED ? base + lid : experts;
            int count = 0;
            if (e < experts) {
                count = earlier[e] + later[e];
                for (int s = 0; s < SEGMENTS; ++s)
                    count += next[s * WINDOW + e];
            }
            int2 total;
            const int2 place = before + scan_exclusive((int2)(count, CEIL_DIV(count, TILE_M)), scratch, &total);
            if (e < experts) {
                if (get_group_id(0) == 0) {
                    plan[PLAN_ROW_OFFSET + first + e] = place.x;
                    plan[PLAN_TILE_OFFSET + first + e] = place.y;
                }
                int row = place.x + earlier[e];
                for (int s = 0; s < SEGMENTS; ++s) {
                    const int rows = next[s * WINDOW + e];
                    next[s * WINDOW + e] = row;
                    row += rows;
                }
            }
            before += total;
        }
        barrier(CLK_LOCAL_MEM_FENCE);

        // 3. Rows, 32 pairs of each segment at a time. All segments take as many turns: barriers are the group's.
        const int pairs = tokens * TOP_K, turns = min(run, max(pairs - share_begin, 0));
        for (int turn = 0; turn < turns; turn += 32 * AHEAD) {
            int batch[AHEAD];
            read_ids(batch, ids, begin + turn + lane, 32, end);
#pragma unroll
            for (int i = 0; i < AHEAD; ++i)
                if (turn + 32 * i < turns) {
                    const int pair = begin + turn + 32 * i + lane, id = batch[i];
                    const bool live = pair < end && pair < pairs, here = live && id >= first && id < first + experts;
                    const int entry = segment * WINDOW + (here ? id - first : 0);
                    if (here)
                        atomic_or(&mask[entry], 1u << lane);
                    barrier(CLK_LOCAL_MEM_FENCE);
                    const uint lanes = mask[entry];
                    const int rank = popcount(lanes & ((1u << lane) - 1)), row = next[entry] + rank;
                    barrier(CLK_LOCAL_MEM_FENCE);
                    if (here) {
                        plan[PLAN_PAIR_OF_ROW + row] = pair;
                        plan[PLAN_ROW_OF_PAIR + pair] = row;
                        if (rank == 0) {
                            next[entry] = row + popcount(lanes);
                            mask[entry] = 0;
                        }
                    } else if (live && first == 0 && (id < 0 || id >= EXPERTS)) {
                        plan[PLAN_ROW_OF_PAIR + pair] = id == ID_PADDING || id == ID_ABSENT ? ROW_NONE : ROW_INVALID;
                    }
                    barrier(CLK_LOCAL_MEM_FENCE);
                }
        }
    }
    if (get_global_id(0) == 0) {
        plan[PLAN_TOKENS] = tokens;
        plan[PLAN_LIVE_ROWS] = before.x;
        plan[PLAN_TILES] = before.y;
        plan[PLAN_H_WIDE] = 0;
        plan[PLAN_D_WIDE] = 0;
        plan[PLAN_TICKET_GATE_UP] = 0;
        plan[PLAN_TICKET_DOWN] = 0;
        plan[PLAN_ROW_OFFSET + EXPERTS] = before.x;
        plan[PLAN_TILE_OFFSET + EXPERTS] = before.y;
    }
}
