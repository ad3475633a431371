// The schedule: which (row tile, N block) a work-group computes next. The GEMMs know only this interface:
//
//     task_t task;
//     for (bool more = first_task(...); more; more = next_task(...)) { ... task ... }
//
// grid:   a 3-D grid (N blocks, row tiles of an expert, experts); a group without rows leaves at once. The
//         loops stride, so that a grid smaller than the problem is still right.
// ticket: a fixed pool of groups over one linear space of tasks; the next task comes from an atomic counter.
// stride: the same pool; group g takes tasks g, g + groups, ... (kept for ablation).

typedef struct {
    int expert;
    int row;   // first row of the tile
    int rows;  // live rows in the tile, 1 .. TILE_M
    int block; // N block
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

// Task -> (row tile, N block) -> expert by binary search: the last expert whose first tile is not behind it.
inline bool locate(task_t *task, const global int *plan, int blocks)
{
    if (task->state >= plan[PLAN_TILES] * blocks)
        return false;
    const int tile = task->state / blocks;
    task->block = task->state - tile * blocks;
    int low = 0, high = EXPERTS;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (plan[PLAN_TILE_OFFSET + middle] <= tile)
            low = middle;
        else
            high = middle;
    }
    task->expert = low;
    place_in_expert(task, plan, tile - plan[PLAN_TILE_OFFSET + low]);
    return true;
}

#if SCHEDULE_ID == SCHEDULE_ticket

inline bool first_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    if (get_local_id(0) == 0)
        *shared = atomic_inc((volatile global int *)plan + ticket);
    barrier(CLK_LOCAL_MEM_FENCE);
    task->state = *shared;
    barrier(CLK_LOCAL_MEM_FENCE); // all have read before the next ticket overwrites it
    return locate(task, plan, blocks);
}

inline bool next_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    return first_task(task, plan, ticket, blocks, shared);
}

#else

inline bool first_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    task->state = get_group_id(0);
    return locate(task, plan, blocks);
}

inline bool next_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    task->state += get_num_groups(0);
    return locate(task, plan, blocks);
}

#endif
#endif
