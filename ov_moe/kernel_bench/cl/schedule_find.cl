// Benchmark only, in place of cl/schedule.cl and the file behind it: the pool with other ways from a task to its tile.
//
// FIND search: binary search in the tile offsets, for every task.
// FIND walk:   onwards from the expert of the group's last task; a group's tasks come in rising order.
// FIND tiles:  as the product finds it, but the row tiles of an expert follow each other and share its weights;
// elsewhere
//              the column tiles of a row tile do, and share its rows.
// SCHEDULE ticket, stride: how the next task is taken, as in the product.

typedef struct {
    int expert;
    int row;  // first row of the tile
    int rows; // live rows in the tile, 1 .. TILE_M
    int column_tile;
    int position; // the linear task
    int next;     // ticket: the linear task after this one, known to the first work-item
} task_t;

#define SCHEDULE_ticket 1
#define SCHEDULE_stride 2
#define SCHEDULE_ID CAT(SCHEDULE_, SCHEDULE)

#define FIND_search 0
#define FIND_walk 1
#define FIND_tiles 2
#define FIND_ID CAT(FIND_, FIND)

inline bool locate(task_t *task, const global int *plan, int column_tiles, local int *shared)
{
    if (task->position >= plan[PLAN_TILES] * column_tiles)
        return false;
#if FIND_ID == FIND_tiles
    for (int e = get_local_id(0); e < EXPERTS; e += LOCAL_SIZE)
        if (plan[PLAN_TILE_OFFSET + e] * column_tiles <= task->position &&
            task->position < plan[PLAN_TILE_OFFSET + e + 1] * column_tiles)
            shared[1] = e;
    barrier(CLK_LOCAL_MEM_FENCE);
    task->expert = shared[1];
    const int first = plan[PLAN_TILE_OFFSET + task->expert], tiles = plan[PLAN_TILE_OFFSET + task->expert + 1] - first;
    const int tile = first + (task->position - first * column_tiles) % tiles;
    task->column_tile = (task->position - first * column_tiles) / tiles;
#else
    const int tile = task->position / column_tiles;
    task->column_tile = task->position - tile * column_tiles;
#if FIND_ID == FIND_walk
    while (plan[PLAN_TILE_OFFSET + task->expert + 1] <= tile)
        ++task->expert;
#else
    int low = 0, high = EXPERTS;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (plan[PLAN_TILE_OFFSET + middle] <= tile)
            low = middle;
        else
            high = middle;
    }
    task->expert = low;
#endif
#endif
    const int end = plan[PLAN_ROW_OFFSET + task->expert + 1];
    task->row = plan[PLAN_ROW_OFFSET + task->expert] + (tile - plan[PLAN_TILE_OFFSET + task->expert]) * TILE_M;
    task->rows = min(TILE_M, end - task->row);
    return true;
}

inline void take(task_t *task, global int *plan, int ticket, int column_tiles, local int *shared, bool first)
{
#if SCHEDULE_ID == SCHEDULE_ticket
    if (get_local_id(0) == 0) {
        const int tasks = plan[PLAN_TILES] * column_tiles, groups = get_num_groups(0),
                  position = first ? (int)get_group_id(0) : task->next;
        shared[0] = position;
        task->next =
            position < tasks && groups < tasks ? groups + atomic_inc((volatile global int *)plan + ticket) : tasks;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    task->position = shared[0];
#else
    task->position = first ? (int)get_group_id(0) : task->position + (int)get_num_groups(0);
#endif
}

inline bool first_task(task_t *task, global int *plan, int ticket, int column_tiles, local int *shared)
{
    task->expert = task->next = 0;
    take(task, plan, ticket, column_tiles, shared, true);
    return locate(task, plan, column_tiles, shared);
}

inline bool next_task(task_t *task, global int *plan, int ticket, int column_tiles, local int *shared)
{
    take(task, plan, ticket, column_tiles, shared, false);
    return locate(task, plan, column_tiles, shared);
}
