// Of a pool, whose tasks are places in one linear space of all experts' tiles: from a task's place to its tile.

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
