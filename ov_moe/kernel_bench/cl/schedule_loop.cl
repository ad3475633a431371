// Benchmark only, in place of cl/schedule.cl: one launch an expert. The launch's offset along the third dimension
// names the expert; its groups are (N blocks, row tiles of that expert), and stride where there are fewer.

typedef struct {
    int expert;
    int row;   // first row of the tile
    int rows;  // live rows in the tile, 1 .. TILE_M
    int block; // N block
    int state; // the tile within the expert
} task_t;

inline bool settle(task_t *task, const global int *plan, int blocks)
{
    const int begin = plan[PLAN_ROW_OFFSET + task->expert], end = plan[PLAN_ROW_OFFSET + task->expert + 1];
    for (; task->block < blocks; task->block += get_num_groups(0)) {
        task->row = begin + task->state * TILE_M;
        task->rows = min(TILE_M, end - task->row);
        if (task->rows > 0)
            return true;
        task->state = get_group_id(1);
    }
    return false;
}

inline bool first_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    task->expert = get_global_offset(2);
    task->block = get_group_id(0);
    task->state = get_group_id(1);
    return settle(task, plan, blocks);
}

inline bool next_task(task_t *task, global int *plan, int ticket, int blocks, local int *shared)
{
    task->state += get_num_groups(1);
    return settle(task, plan, blocks);
}
