// Combine: y[t, :] = sum over slots, in slot order and fp32, of weight[t, slot] * d[row of (t, slot), :].
// A work-item sums COLUMNS neighbours of one token; rows behind the last token are left as they are.
// Inputs: d, plan, top-k weights.

// 16 bytes of f16 at a time where every row starts on 16 bytes.
#define IS_HALF_half 1
#define IS_HALF_float 0
#define WIDE (HIDDEN % 8 == 0 && CAT(IS_HALF_, INPUT0_TYPE) && CAT(IS_HALF_, OUTPUT0_TYPE))
#define COLUMNS (WIDE ? 8 : 1)
// NVIDIA has no vectors of half; its vload_half8 is eight loads, so the words are converted by PTX there.
#ifndef COMBINE_MODE
#ifdef __NV_CL_C_VERSION
#define COMBINE_MODE 1
#else
#define COMBINE_MODE 0
#endif
#endif
#if COMBINE_MODE == 1
inline float low_half(uint w) { float f; asm("{.reg .b16 l,h; mov.b32 {l,h}, %1; cvt.f32.f16 %0, l;}" : "=f"(f) : "r"(w)); return f; }
inline float high_half(uint w) { float f; asm("{.reg .b16 l,h; mov.b32 {l,h}, %1; cvt.f32.f16 %0, h;}" : "=f"(f) : "r"(w)); return f; }
inline uint pack_half2(float a, float b) { uint r; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a)); return r; }
#define UNPACK(v, words) const uint4 w_ = words; const float v[8] = {low_half(w_.x), high_half(w_.x), low_half(w_.y), high_half(w_.y), low_half(w_.z), high_half(w_.z), low_half(w_.w), high_half(w_.w)};
#define PACK_STORE(to, v) *(global uint4 *)to = (uint4)(pack_half2(v[0], v[1]), pack_half2(v[2], v[3]), pack_half2(v[4], v[5]), pack_half2(v[6], v[7]));
#else
#define UNPACK(v, words) float v[8]; vstore8(vload_half8(0, (const global half *)&words), 0, v);
#define PACK_STORE(to, v) vstore_half8_rte(vload8(0, v), 0, (global half *)to);
#endif
#define ITEMS (HIDDEN / COLUMNS) // of a token

__attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1)))
kernel void ov_moe_combine(const global INPUT0_TYPE *d, const global int *plan, const global INPUT2_TYPE *weights,
                           global OUTPUT0_TYPE *y)
{
    const uint items = (uint)plan[PLAN_TOKENS] * ITEMS;
    for (uint item = get_global_id(0); item < items; item += get_global_size(0)) {
        const int t = item / ITEMS, column = item % ITEMS * COLUMNS;
        float sum[COLUMNS] = {0};
        int rows[TOP_K];
#pragma unroll
        for (int slot = 0; slot < TOP_K; ++slot)
            rows[slot] = plan[PLAN_ROW_OF_PAIR + t * TOP_K + slot];
#pragma unroll
        for (int slot = 0; slot < TOP_K; ++slot) {
            // A pair without a row reads row 0 and counts nothing: the loads need not wait for a branch.
            const global INPUT0_TYPE *from = d + AT(INPUT0, max(rows[slot], 0), column);
            const float weight = (float)weights[AT(INPUT2, t, slot)];
#if WIDE
            UNPACK(part, *(const global uint4 *)from)
#else
            const float part[1] = {(float)*from};
#endif
            for (int i = 0; i < COLUMNS; ++i) {
                sum[i] = rows[slot] >= 0 ? fma(weight, part[i], sum[i]) : sum[i];
                if (rows[slot] == ROW_INVALID)
                    sum[i] = NAN; // loud: an id was out of range
            }
        }
        global OUTPUT0_TYPE *to = y + AT(OUTPUT0, t, column);
#if WIDE
        PACK_STORE(to, sum)
#else
        *to = (OUTPUT0_TYPE)sum[0];
#endif
    }
}
