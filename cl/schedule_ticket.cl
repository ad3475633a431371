// Schedule "ticket": a fixed pool of groups over one linear space of tasks; the next task comes from an atomic counter.

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
