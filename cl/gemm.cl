// What the two GEMMs share: the loop over tasks, and one element of the result. The stage defines
//   PARTS, GEMM_N, GEMM_K       matrices that share x, columns of the result, the axis that is summed over
//                               (all three in stages.py, ahead of the micro-kernel)
//   VALUE(column, first, last)  a value of the result from the sums of the first and of the last part
// and a micro-kernel (tile_*.cl), which knows neither the schedule nor the stage, defines
//   TILE_ATTRIBUTES             attributes of the kernel
//   TILE_LOCAL                  local memory, declared in the kernel
//   DEFINE_TILE_WEIGHTS(...)    a function that loads weights of one matrix
//   TILE_SOURCE(r)              where row r of the tile begins in x, in elements; the stage writes it
//   TILE_SUMS(acc)              fp32 accumulators
//   TILE_MULTIPLY(acc, x, task) acc = rows of x times the weights
//   TILE_STORE(acc, STORE)      STORE(row, column, first, last) for each sum of a work-item, or what comes to the same
// from LOAD_PART_n(target, column, k), calls of the loading functions at a column of the tile, or, where it reads the
// matrices itself, from MATRICES(T), pointers to the parts' weights, scales and zero points.

#define BLOCK_COLUMNS (TILE_N / PARTS)
#define BLOCKS CEIL_DIV(GEMM_N, BLOCK_COLUMNS)

#define STORE(r, c, first, last)                                                                      \
    {                                                                                                 \
        const int column = task.block * BLOCK_COLUMNS + (c);                                          \
        if ((r) < task.rows && column < GEMM_N)                                                       \
            out[AT(OUTPUT0, task.row + (r), column)] = (OUTPUT0_TYPE)VALUE(column, (first), (last)); \
    }

// For each task: its rows of x, of which row r of the plan begins at ROW(r), times the weights, into `out`. Not a block:
// local memory is declared in the outermost scope of a kernel.
#define GEMM(x, ROW, plan, ticket)                                           \
    TILE_LOCAL;                                                              \
    local int shared[2];                                                     \
    task_t task;                                                             \
    for (bool more = first_task(&task, plan, ticket, BLOCKS, shared); more;  \
         more = next_task(&task, plan, ticket, BLOCKS, shared)) {            \
        for (int r = get_local_id(0); r < TILE_M; r += LOCAL_SIZE)           \
            TILE_SOURCE(r) = r < task.rows ? ROW(task.row + r) : 0;          \
        barrier(CLK_LOCAL_MEM_FENCE);                                        \
        TILE_SUMS(acc);                                                      \
        TILE_MULTIPLY(acc, x, task)                                          \
        TILE_STORE(acc, STORE)                                               \
    }
