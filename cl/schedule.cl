// The schedule: which (row tile, column tile) a work-group computes next. The GEMMs know only this interface:
//
//     task_t task;
//     for (bool more = first_task(...); more; more = next_task(...)) { ... task ... }
//
// grid:   a 3-D grid (column tiles, row tiles of an expert, experts); a group without rows leaves at once. The
//         loops stride, so that a grid smaller than the problem is still right.
// ticket: a fixed pool of groups over one linear space of tasks; the next task comes from an atomic counter.
// stride: the same pool; group g takes tasks g, g + groups, ... (kept for ablation).
//
// All work-items of a group call both functions, and pass at least one barrier between two calls.

typedef struct {
    int expert;
    int row;  // first row of the tile
    int rows; // live rows in the tile, 1 .. TILE_M
    int column_tile;
    int position; // the schedule's own: the linear task (pool), the tile within the expert (grid)
    int next;     // ticket: the linear task after this one, known to the first work-item
} task_t;

inline void place_in_expert(task_t *task, const global int *plan, int tile)
{
    const int begin = plan[PLAN_ROW_OFFSET + task->expert];
    const int end = plan[PLAN_ROW_OFFSET + task->expert + 1];
    task->row = begin + tile * TILE_M;
    task->rows = min(TILE_M, end - task->row);
}

#if SCHEDULE_ID == SCHEDULE_grid

// Advances (expert, row tile, column tile) from the given starting point to the next tile that has rows.
inline bool next_with_rows(task_t *task, const global int *plan, int column_tiles)
{
    for (; task->expert < EXPERTS; task->expert += get_num_groups(2)) {
        for (; task->column_tile < column_tiles; task->column_tile += get_num_groups(0)) {
            place_in_expert(task, plan, task->position);
            if (task->rows > 0)
                return true;
            task->position = get_group_id(1);
        }
        task->column_tile = get_group_id(0);
    }
    return false;
}

inline bool first_task(task_t *task, global int *plan, int ticket, int column_tiles, local int *shared)
{
    task->expert = get_group_id(2);
    task->column_tile = get_group_id(0);
    task->position = get_group_id(1);
    return next_with_rows(task, plan, column_tiles);
}

inline bool next_task(task_t *task, global int *plan, int ticket, int column_tiles, local int *shared)
{
    task->position += get_num_groups(1);
    return next_with_rows(task, plan, column_tiles);
}

#else

// Task -> (expert, row tile, column tile). Each work-item looks at its share of the tile offsets, and the one that
// finds the task tells the others: a binary search is log2(EXPERTS) loads, each of which waits for the one before. The
// column tiles of a row tile follow each other.
inline bool locate(task_t *task, const global int *plan, int column_tiles, local int *shared)
{
    if (task->position >= plan[PLAN_TILES] * column_tiles)
        return false;
    const int tile = task->position / column_tiles;
    for (int e = get_local_id(0); e < EXPERTS; e += LOCAL_SIZE)
        if (plan[PLAN_TILE_OFFSET + e] <= tile && tile < plan[PLAN_TILE_OFFSET + e + 1])
            shared[1] = e;
    barrier(CLK_LOCAL_MEM_FENCE);
    task->expert = shared[1];
    task->column_tile = task->position - tile * column_tiles;
    place_in_expert(task, plan, tile - plan[PLAN_TILE_OFFSET + task->expert]);
    return true;
}

#if SCHEDULE_ID == SCHEDULE_ticket

// The first wave is static, and the next ticket is taken while a task runs: nobody waits for the counter. None is taken
// where it could not be for a task: hundreds of groups at one counter are microseconds.
inline void take_ticket(task_t *task, global int *plan, int ticket, int column_tiles)
{
    const int tasks = plan[PLAN_TILES] * column_tiles, groups = get_num_groups(0);
    task->next =
        task->position < tasks && groups < tasks ? groups + atomic_inc((volatile global int *)plan + ticket) : tasks;
}

inline bool first_task(task_t *task, global int *plan, int ticket, int column_tiles, local int *shared)
{
    task->position = get_group_id(0);
    if (get_local_id(0) == 0)
        take_ticket(task, plan, ticket, column_tiles);
    return locate(task, plan, column_tiles, shared);
}

inline bool next_task(task_t *task, global int *plan, int ticket, int column_tiles, local int *shared)
{
    if (get_local_id(0) == 0) {
        task->position = shared[0] = task->next;
        take_ticket(task, plan, ticket, column_tiles);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    task->position = shared[0];
    return locate(task, plan, column_tiles, shared);
}

#else

inline bool first_task(task_t *task, global int *plan, int ticket, int column_tiles, local int *shared)
{
    task->position = get_group_id(0);
    return locate(task, plan, column_tiles, shared);
}

inline bool next_task(task_t *task, global int *plan, int ticket, int column_tiles, local int *shared)
{
    task->position += get_num_groups(0);
    return locate(task, plan, column_tiles, shared);
}

#endif
#endif
