// The schedule: which (row tile, column tile) a work-group computes next. The GEMMs know only this interface:
//
//     task_t task;
//     for (bool more = first_task(...); more; more = next_task(...)) { ... task ... }
//
// which the file behind this one defines: schedule_grid.cl, schedule_ticket.cl, or one of the benchmark's.
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

// For pools, of which a task is a place in one linear space of all experts' tiles.
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
