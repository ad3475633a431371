// Schedule "grid": a 3-D grid (column tiles, row tiles of an expert, experts); a group without rows leaves at once. The
// loops stride, so that a grid smaller than the problem is still right.

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
