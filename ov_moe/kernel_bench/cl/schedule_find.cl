// Benchmark only, in place of cl/schedule.cl: the pool with other ways from a task to its tile.
//
// FIND search: binary search in the tile offsets, for every task.
// FIND walk:   onwards from the expert of the group's last task; a group's tasks come in rising order.
// FIND tiles:  as the product finds it, but the row tiles of an expert follow each other and share its weights; elsewhere
//              the N blocks of a row tile do, and share its rows.
// SCHEDULE ticket, stride: how the next task is taken, as in the product.

typedef struct {
    int expert;
    int row;   // first row of the tile
    int rows;  // live rows in the tile, 1 .. TILE_M
    int block; // N block
    int state; // the linear task
    int next;  // ticket: the linear task after this one, known to the first work-item
} task_t;

#define FIND_search 0
#define FIND_walk 1
#define FIND_tiles 2
#define FIND_ID CAT(FIND_, FIND)

inline bool locate(task_t *task, const global int *plan, int blocks, local int *shared)
{
    if (task->state >= plan[PLAN_TILES] * blocks)
        return false;
#if FIND_ID == FIND_tiles
    for (int e = get_local_id(0); e < EXPERTS; e += LOCAL_SIZE)
        if (plan[PLAN_TILE_OFFSET + e] * blocks <= task->state && task->state < plan[PLAN_TILE_OFFSET + e + 1] * blocks)
            shared[1] = e;
    barrier(CLK_LOCAL_MEM_FENCE);
    task->expert = shared[1];
    const int first = plan[PLAN_TILE_OFFSET + task->expert], tiles = plan[PLAN_TILE_OFFSET + task->expert + 1] - first;
    const int tile = first + (task->state - first * blocks) % tiles;
    task->block = (task->state - first * blocks) / tiles;
#else
    const int tile = task->state / blocks;
    task->block = task->state - tile * blocks;
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

inline void take(task_t *task, global int *plan, int ticket, int blocks, local int *shared, bool first)
{
#if SCHEDULE_ID == SCHEDULE_ticket
    if (get_local_id(0) == 0) {
        const int tasks = plan[PLAN_TILES] * blocks, groups = get_num_groups(0), state = first ? (int)get_group_id(0) : task->next;
        shared[0] = state;
        task->next = state < tasks && groups < tasks ? groups + atomic_inc((volatile global int *)plan + ticket) : tasks;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    task->state = shared[0];
#else
    task->state = first ? (int)get_group_id(0) : task->state + (int)get_num_groups(0);
#endif
}

inline bool first_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    task->expert = task->next = 0;
    take(task, plan, ticket, blocks, shared, true);
    return locate(task, plan, blocks, shared);
}

inline bool next_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    take(task, plan, ticket, blocks, shared, false);
    return locate(task, plan, blocks, shared);
}
