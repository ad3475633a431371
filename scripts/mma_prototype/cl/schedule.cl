// The schedule: which (row tile, N block) a work-group computes next. The GEMMs know only this interface:
//
//     task_t task;
//     for (bool more = first_task(...); more; more = next_task(...)) { ... task ... }
//
// grid:   a 3-D grid (N blocks, row tiles of an expert, experts); a group without rows leaves at once. The
//         loops stride, so that a grid smaller than the problem is still right.
// ticket: a fixed pool of groups over one linear space of tasks; the next task comes from an atomic counter.
// stride: the same pool; group g takes tasks g, g + groups, ... (kept for ablation).

#ifndef TILES_FIRST
#define TILES_FIRST 0
#endif

typedef struct {
    int expert;
    int row;   // first row of the tile
    int rows;  // live rows in the tile, 1 .. TILE_M
    int block; // N block
    int next;  // ticket: the next linear task, known to the first work-item
    int state; // the schedule's own: the linear task (pool), the tile within the expert (grid)
} task_t;

inline void place_in_expert(task_t *task, const global int *plan, int tile)
{
    const int begin = plan[PLAN_ROW_OFFSET + task->expert];
    const int end = plan[PLAN_ROW_OFFSET + task->expert + 1];
    task->row = begin + tile * TILE_M;
    task->rows = min(TILE_M, end - task->row);
}

#if SCHEDULE_ID == SCHEDULE_grid

// Advances (expert, tile, block) from the given starting point to the next tile that has rows.
inline bool settle(task_t *task, const global int *plan, int blocks)
{
    for (; task->expert < EXPERTS; task->expert += get_num_groups(2)) {
        for (; task->block < blocks; task->block += get_num_groups(0)) {
            place_in_expert(task, plan, task->state);
            if (task->rows > 0)
                return true;
            task->state = get_group_id(1);
        }
        task->block = get_group_id(0);
    }
    return false;
}

inline bool first_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    task->expert = get_group_id(2);
    task->block = get_group_id(0);
    task->state = get_group_id(1);
    return settle(task, plan, blocks);
}

inline bool next_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    task->state += get_num_groups(1);
    return settle(task, plan, blocks);
}

#else

// Task -> expert: every work-item looks at its share of the tile offsets, the one that finds the task tells the
// others (a binary search is as many dependent loads as log2 of the experts, in every group).
// ORDER_tiles: the row tiles of an expert follow each other (they share weights); else its N blocks (they share rows).
inline bool locate(task_t *task, const global int *plan, int blocks, local int *shared)
{
    if (task->state >= plan[PLAN_TILES] * blocks)
        return false;
    for (int e = get_local_id(0); e < EXPERTS; e += LOCAL_SIZE)
        if (plan[PLAN_TILE_OFFSET + e] * blocks <= task->state && task->state < plan[PLAN_TILE_OFFSET + e + 1] * blocks)
            shared[1] = e;
    barrier(CLK_LOCAL_MEM_FENCE);
    task->expert = shared[1];
    const int first = plan[PLAN_TILE_OFFSET + task->expert], place = task->state - first * blocks;
#if TILES_FIRST
    const int tiles = plan[PLAN_TILE_OFFSET + task->expert + 1] - first;
    task->block = place / tiles;
    place_in_expert(task, plan, place % tiles);
#else
    task->block = place % blocks;
    place_in_expert(task, plan, place / blocks);
#endif
    return true;
}

#if SCHEDULE_ID == SCHEDULE_ticket

// The first wave is static; the ticket of the next task is taken while this one is computed, so that nobody waits
// for the counter. Between two calls a kernel passes a barrier: only then does the first work-item overwrite *shared.
inline bool first_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    if (get_local_id(0) == 0)
        task->next = get_num_groups(0) + atomic_inc((volatile global int *)plan + ticket);
    task->state = get_group_id(0);
    return locate(task, plan, blocks, shared);
}

inline bool next_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    if (get_local_id(0) == 0) {
        shared[0] = task->next;
        task->next = get_num_groups(0) + atomic_inc((volatile global int *)plan + ticket);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    task->state = shared[0];
    return locate(task, plan, blocks, shared);
}

#else

inline bool first_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    task->state = get_group_id(0);
    return locate(task, plan, blocks, shared);
}

inline bool next_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    task->state += get_num_groups(0);
    return locate(task, plan, blocks, shared);
}

#endif
#endif
