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
//   TILE_STORE(acc, STORE)      STORE(row, column, first, last) for each sum of a work-item, or what comes to the same;
//                               twice in a row it does the same with a barrier between
// and loads x through IN_LOAD, or asks in_factor (exponents.cl), and scales its sums in IN_SCALE_BACK,
// from LOAD_PART_n(target, column, k), calls of the loading functions at a column of the tile, or, where it reads the
// matrices itself, from MATRICES(T), pointers to the parts' weights, scales and zero points.

#define TILE_COLUMNS (TILE_N / PARTS)
#define COLUMN_TILES CEIL_DIV(GEMM_N, TILE_COLUMNS)

#define STORE(r, c, first, last, AS)                              \
    {                                                             \
        const int column = task.column_tile * TILE_COLUMNS + (c); \
        if ((r) < task.rows && column < GEMM_N) {                 \
            AS(r, column, VALUE(column, (first), (last)))         \
        }                                                         \
    }

// ---- Rows with exponents
#if SCALED_IN || SCALED_OUT
#if (SCALED_IN && IN_BLOCK < 32) || (SCALED_OUT && TILE_COLUMNS < 32)
#error a row has room for an exponent for each 32 columns
#endif
#endif

// Element k of row r of the tile as a float, and a loop that loads such; what the sums of a row are multiplied with in
// the end. The choice stands around the loads: in each of them it made Arc's compiler keep 4 dpas of 8 together, around
// the products that of Xe-LP kept sums in memory.
#define IN_DENSE(x, r, k) (float)(x)[TILE_SOURCE(r) + (k) * PITCH(INPUT0, 1)]
#if SCALED_IN
#define IN_LOCAL(plan)             \
    local int in_exponent[TILE_M]; \
    const bool wide = plan[IN_WIDE]
#define IN_ROW(x, r) \
    if (wide)        \
        in_exponent[r] = row_exponent(x, TILE_SOURCE(r));
#define IN_SCALED(x, r, k) IN_DENSE(x, r, k) * in_factor(x, TILE_SOURCE(r), in_exponent[r], k)
#define IN_LOAD(LOOP, x, task, k0)   \
    if (wide) {                      \
        LOOP(IN_SCALED, x, task, k0) \
    } else {                         \
        LOOP(IN_DENSE, x, task, k0)  \
    }
#define IN_EXPONENT (wide ? in_exponent : 0)
#define IN_SCALE(r) power_of_two(in_exponent[r])
#define IN_SCALE_BACK(STATEMENTS) \
    if (wide) {                   \
        STATEMENTS                \
    }
#else
#define IN_LOCAL(plan)
#define IN_ROW(x, r)
#define IN_LOAD(LOOP, x, task, k0) LOOP(IN_DENSE, x, task, k0)
#define IN_EXPONENT 0
#define IN_SCALE_BACK(STATEMENTS)
#endif

// Values are stored as they are. Where a group meets one beyond f16 it stores the tile, and those of all its further
// tasks, once more, each row times the power of two that its largest magnitude asks for.
#define STORE_AS_IT_IS(r, column, value) out[INDEX_OF(OUTPUT0, task.row + (r), column)] = (OUTPUT0_TYPE)(value);
#if SCALED_OUT
#define OUT_LOCAL                    \
    local int out_magnitude[TILE_M]; \
    local int any_beyond;            \
    if (get_local_id(0) == 0)        \
        any_beyond = 0;
#define OUT_ROW(r) out_magnitude[r] = 0;
#define STORE_CHECKED(r, column, VALUE)                     \
    const float value = VALUE;                              \
    STORE_AS_IT_IS(r, column, value)                        \
    if (fabs(value) > HALF_MAX) {                           \
        atomic_max(&out_magnitude[r], as_int(fabs(value))); \
        atomic_or(&any_beyond, 1);                          \
    }
#define STORE_SCALED(r, column, VALUE) STORE_AS_IT_IS(r, column, (VALUE) * power_of_two(-exponent_of(out_magnitude[r])))
#define STORE_FIRST(r, c, first, last) STORE(r, c, first, last, STORE_CHECKED)
#define STORE_AGAIN(r, c, first, last) STORE(r, c, first, last, STORE_SCALED)
#define STORE_ROWS(acc, plan)                                       \
    TILE_STORE(acc, STORE_FIRST)                                    \
    barrier(CLK_LOCAL_MEM_FENCE);                                   \
    for (int r = get_local_id(0); r < task.rows; r += LOCAL_SIZE) { \
        const int e = exponent_of(out_magnitude[r]);                \
        STORE_AS_IT_IS(r, GEMM_N + task.column_tile, e)             \
        if (e)                                                      \
            atomic_or((volatile global int *)plan + OUT_WIDE, 1);   \
    }                                                               \
    if (any_beyond) {                                               \
        TILE_STORE(acc, STORE_AGAIN)                                \
        barrier(CLK_LOCAL_MEM_FENCE);                               \
    }
#else
#define OUT_LOCAL
#define OUT_ROW(r)
#define STORE_FIRST(r, c, first, last) STORE(r, c, first, last, STORE_AS_IT_IS)
#define STORE_ROWS(acc, plan) TILE_STORE(acc, STORE_FIRST)
#endif

// For each task: its rows of x, of which row r of the plan begins at ROW(r), times the weights, into `out`. Not a
// block: local memory is declared in the outermost scope of a kernel.
#define GEMM(x, ROW, plan, ticket)                                                \
    TILE_LOCAL;                                                                   \
    local int shared[2];                                                          \
    IN_LOCAL(plan);                                                               \
    OUT_LOCAL                                                                     \
    task_t task;                                                                  \
    for (bool more = first_task(&task, plan, ticket, COLUMN_TILES, shared); more; \
         more = next_task(&task, plan, ticket, COLUMN_TILES, shared)) {           \
        for (int r = get_local_id(0); r < TILE_M; r += LOCAL_SIZE) {              \
            TILE_SOURCE(r) = r < task.rows ? ROW(task.row + r) : 0;               \
            IN_ROW(x, r)                                                          \
            OUT_ROW(r)                                                            \
        }                                                                         \
        barrier(CLK_LOCAL_MEM_FENCE);                                             \
        TILE_SUMS(acc);                                                           \
        TILE_MULTIPLY(acc, x, task)                                               \
        STORE_ROWS(acc, plan)                                                     \
    }
