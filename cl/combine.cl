// Combine: y[t, :] = sum over slots, in slot order and fp32, of weight[t, slot] * d[row of (t, slot), :].
//
// Buffers
//   d        INPUT0   [MAX_ROWS, HIDDEN + exponents]  real (f16 or f32), rows ordered by expert       Down
//   plan     INPUT1   [PLAN_SIZE]                     i32, see common.cl                              Route, Down
//   weights  INPUT2   [MAX_TOKENS, TOP_K]             real, factor of a slot                          the router
//   y        OUTPUT0  [MAX_TOKENS, HIDDEN]            real; rows behind the last token stay as they are  this kernel

#define ALIGNED_8(NAME) (PITCH(NAME, 1) == 1 && PITCH(NAME, 0) % 8 == 0 && CAT(NAME, _OFFSET) % 8 == 0)
// f16 moves 16 bytes at a time where every row starts on 16 bytes.
#define WIDE                                                                                              \
    (CAT(IS_HALF_, INPUT0_TYPE) && CAT(IS_HALF_, OUTPUT0_TYPE) && HIDDEN % 8 == 0 && ALIGNED_8(INPUT0) && \
     ALIGNED_8(OUTPUT0))
#define COLUMNS (WIDE ? 8 : 1)

// NVIDIA has no vectors of half, and its vload_half8 is eight loads: the words are converted by PTX there.
#ifdef __NV_CL_C_VERSION
inline float2 halves(uint w)
{
    float2 f;
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(f.x), "=f"(f.y) : "r"(w));
    return f;
}
inline uint pack_halves(float a, float b)
{
    uint r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a));
    return r;
}
inline float8 load_halves(const global void *p)
{
    const uint4 w = *(const global uint4 *)p;
    return (float8)(halves(w.x), halves(w.y), halves(w.z), halves(w.w));
}
inline void store_halves(float8 v, global void *p)
{
    *(global uint4 *)p =
        (uint4)(pack_halves(v.s0, v.s1), pack_halves(v.s2, v.s3), pack_halves(v.s4, v.s5), pack_halves(v.s6, v.s7));
}
#else
inline float8 load_halves(const global void *p) { return vload_half8(0, (const global half *)p); }
inline void store_halves(float8 v, global void *p) { vstore_half8_rte(v, 0, (global half *)p); }
#endif

// The columns' sum over the slots of token t, whose rows are given; `scaled` where rows of d have exponents.
inline float8 sum_of_slots(const global INPUT0_TYPE *d, const global INPUT2_TYPE *weights, const int *rows, int t,
                           int column, bool scaled)
{
    float8 sum = 0.0f; // only .s0 unless WIDE
    for (int slot = 0; slot < TOP_K; ++slot) {
        // A pair without a row reads row 0 and counts nothing: the loads need not wait for a branch.
        const global INPUT0_TYPE *from = d + INDEX_OF(INPUT0, max(rows[slot], 0), column);
        const float weight = (float)weights[INDEX_OF(INPUT2, t, slot)];
        float factor = 1.0f;
#if SCALED_IN
        if (scaled && rows[slot] >= 0)
            factor = in_factor(d, INDEX_OF(INPUT0, rows[slot], 0), 0, column);
#endif
        if (WIDE) {
            const float8 part = load_halves(from) * factor;
            sum = rows[slot] >= 0 ? fma((float8)weight, part, sum) : sum;
        } else {
            const float part = (float)*from * factor;
            sum.s0 = rows[slot] >= 0 ? fma(weight, part, sum.s0) : sum.s0;
        }
        if (rows[slot] == ROW_INVALID)
            sum = NAN; // loud: an id was out of range
    }
    return sum;
}

// One work-group sums a share of the (token, columns) items: a work-item up to 8 neighbouring columns of a token.
WORK_GROUP
kernel void ov_moe_combine(const global INPUT0_TYPE *d, const global int *plan, const global INPUT2_TYPE *weights,
                           global OUTPUT0_TYPE *y)
{
    const bool wide = SCALED_IN && plan[PLAN_D_WIDE];
    const uint items_of_token = HIDDEN / COLUMNS, items = plan[PLAN_TOKENS] * items_of_token;
    for (uint item = get_global_id(0); item < items; item += get_global_size(0)) {
        const int t = item / items_of_token, column = item % items_of_token * COLUMNS;
        int rows[TOP_K];
        for (int slot = 0; slot < TOP_K; ++slot)
            rows[slot] = plan[PLAN_ROW_OF_PAIR + t * TOP_K + slot];
        const float8 sum =
            wide ? sum_of_slots(d, weights, rows, t, column, true) : sum_of_slots(d, weights, rows, t, column, false);
        global OUTPUT0_TYPE *to = y + INDEX_OF(OUTPUT0, t, column);
        if (WIDE)
            store_halves(sum, to);
        else
            *to = (OUTPUT0_TYPE)sum.s0;
    }
}
