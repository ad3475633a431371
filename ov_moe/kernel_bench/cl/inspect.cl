// Counts what is wrong in an output that was all poison before: found[0] elements that are not finite among the
// first `live`, found[1] elements behind them that are poison no more. WORD is uint for f32 and ushort for f16,
// EXPONENT its exponent bits; poison has all bits set. Rows have `columns` elements, the last of which, from `used` on,
// may hold anything: room for exponents.

kernel void bench_inspect(const global WORD *values, const ulong live, const ulong size, const uint columns,
                          const uint used, global int *found)
{
    int bad = 0, touched = 0;
    for (ulong i = get_global_id(0); i < size; i += get_global_size(0)) {
        const WORD value = values[i];
        if (i < live)
            bad += i % columns < used && (value & (WORD)(EXPONENT)) == (WORD)(EXPONENT);
        else
            touched += value != (WORD) ~(WORD)0;
    }
    if (bad)
        atomic_add((volatile global int *)found, bad);
    if (touched)
        atomic_add((volatile global int *)found + 1, touched);
}
