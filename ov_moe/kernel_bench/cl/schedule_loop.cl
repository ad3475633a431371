// Benchmark only, in place of cl/schedule_grid.cl: one launch an expert. The launch's offset along the third dimension
// names the expert; its groups are (column tiles, row tiles of that expert), and stride where there are fewer.

inline bool next_with_rows(task_t *task, const global int *plan, int column_tiles)
{
    for (; task->column_tile < column_tiles; task->column_tile += get_num_groups(0)) {
        place_in_expert(task, plan, task->position);
        if (task->rows > 0)
            return true;
        task->position = get_group_id(1);
    }
    return false;
}

inline bool first_task(task_t *task, global int *plan, int ticket, int column_tiles, local int *shared)
{
    task->expert = get_global_offset(2);
    task->column_tile = get_group_id(0);
    task->position = get_group_id(1);
    return next_with_rows(task, plan, column_tiles);
}

inline bool next_task(task_t *task, global int *plan, int ticket, int column_tiles, local int *shared)
{
    task->position += get_num_groups(1);
    return next_with_rows(task, plan, column_tiles);
}
