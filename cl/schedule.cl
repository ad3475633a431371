// The schedule: which (row tile, column tile) a work-group computes next. The GEMMs know only this interface:
//
//     task_t task;
//     for (bool more = first_task(...); more; more = next_task(...)) { ... task ... }
//
// which the files behind this one define: schedule_grid.cl, or for a pool schedule_locate.cl and schedule_ticket.cl.
// The benchmark has others.
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
