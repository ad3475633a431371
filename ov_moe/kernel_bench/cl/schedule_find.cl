// Benchmark only, in place of cl/schedule_locate.cl: the pool with other ways from a task to its tile.
//
// FIND search: binary search in the tile offsets, for every task.
// FIND walk:   onwards from the expert of the group's last task; a group's tasks come in rising order.
// FIND tiles:  as the product finds it, but the row tiles of an expert follow each other and share its weights;
//              elsewhere the column tiles of a row tile do, and share its rows.

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
    if (task->position == (int)get_group_id(0)) // the first task
        task->expert = 0;
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
    place_in_expert(task, plan, tile - plan[PLAN_TILE_OFFSET + task->expert]);
    return true;
}
