// What the device can do at most: a streaming read and chains of fused multiply-adds in registers.

// Every element of `from` is read once. The store never happens; the compiler cannot know.
kernel void bench_read(const global float4 *from, const ulong count, global float *out)
{
    float4 a = 0.0f, b = 0.0f;
    const ulong step = get_global_size(0);
    ulong i = get_global_id(0);
    for (; i + 3 * step < count; i += 4 * step) {
        a += from[i] + from[i + step];
        b += from[i + 2 * step] + from[i + 3 * step];
    }
    for (; i < count; i += step)
        a += from[i];
    a += b;
    if (a.x + a.y + a.z + a.w == 1.2345f)
        out[0] = a.x;
}

// 32 FLOP a step and work-item: 16 independent chains.
kernel void bench_fma(const int steps, global float *out)
{
    float acc[16];
    for (int i = 0; i < 16; ++i)
        acc[i] = get_local_id(0) * 0.001f + i;
    const float factor = 0.999f + 0.0001f * (get_local_id(0) & 7), add = 0.01f;
    for (int step = 0; step < steps; ++step)
#pragma unroll
        for (int i = 0; i < 16; ++i)
            acc[i] = fma(acc[i], factor, add);
    float sum = 0.0f;
    for (int i = 0; i < 16; ++i)
        sum += acc[i];
    if (sum == 1.2345f)
        out[0] = sum;
}
