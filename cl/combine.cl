// Combine: y[t, :] = sum over slots, in slot order and fp32, of weight[t, slot] * d[row of (t, slot), :].
// One group a token; rows behind the last token are left as they are. Inputs: d, plan, top-k weights.

__attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1)))
kernel void ov_moe_combine(const global INPUT0_TYPE *d, const global int *plan, const global INPUT2_TYPE *weights,
                           global OUTPUT0_TYPE *y)
{
    for (int t = get_group_id(0); t < plan[PLAN_TOKENS]; t += get_num_groups(0)) {
        for (int column = get_local_id(0); column < HIDDEN; column += LOCAL_SIZE) {
            float sum = 0.0f;
            for (int slot = 0; slot < TOP_K; ++slot) {
                const int row = plan[PLAN_ROW_OF_PAIR + t * TOP_K + slot];
                const float weight = (float)weights[AT(INPUT2, t, slot)];
                if (row >= 0)
                    sum = fma(weight, (float)d[AT(INPUT0, row, column)], sum);
                else if (row == ROW_INVALID)
                    sum = NAN; // loud: an id was out of range
            }
            y[AT(OUTPUT0, t, column)] = (OUTPUT0_TYPE)sum;
        }
    }
}
