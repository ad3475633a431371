// Schedule "stride", for ablation: the pool of "ticket", but group g takes tasks g, g + groups, ...

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
