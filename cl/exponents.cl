// Values beyond f16. A row of h or d may hold values above 65504 that the model never shows: the next projection, or
// the top-k weight, brings them back. So a row has exponents behind its N columns, one for each block of columns that a
// task stores: a value is what is stored times 2^exponent. They are whole numbers written as f16, and nearly always 0;
// one word of the plan says whether any is not (PLAN_H_WIDE, PLAN_D_WIDE), and only then does anybody read them.
// A row's exponents depend on nothing but its own values.
//
// The stage defines
//   IN_EXPONENTS, OUT_EXPONENTS   none, some: whether the rows that it reads, and writes, have them
//   IN_WIDE, OUT_WIDE             the words of the plan
//   IN_COLUMNS, IN_BLOCK          columns of a row that it reads, and of one of its blocks

#define SOME_none 0
#define SOME_some 1
// Buffers of floats need none; whether they are is known only here.
#define SCALED_IN (CAT(SOME_, IN_EXPONENTS) && CAT(IS_HALF_, INPUT0_TYPE))
#define SCALED_OUT (CAT(SOME_, OUT_EXPONENTS) && CAT(IS_HALF_, OUTPUT0_TYPE))

#define HALF_MAX 65504.0f

// e from -126 to 127.
inline float power_of_two(int e) { return as_float((e + 127) << 23); }

// What brings the largest magnitude of a block below 2^15, from its bits; 0 where it fits, is infinite or no number.
inline int exponent_of(int magnitude)
{
    return magnitude <= as_int(HALF_MAX) || magnitude >= as_int(INFINITY) ? 0 : (magnitude >> 23) - 127 - 14;
}

#if SCALED_IN
// The largest exponent of the row that begins at `source`: in a task all values of a row are brought to it.
inline int row_exponent(const global INPUT0_TYPE *x, ulong source)
{
    int largest = 0;
    for (int b = 0; b < CEIL_DIV(IN_COLUMNS, IN_BLOCK); ++b)
        largest = max(largest, (int)x[source + (IN_COLUMNS + b) * PITCH(INPUT0, 1)]);
    return largest;
}
// What value k of that row is multiplied with: 2^(its block's exponent - the row's).
inline float in_factor(const global INPUT0_TYPE *x, ulong source, int exponent, int k)
{
    return power_of_two((int)x[source + (IN_COLUMNS + k / IN_BLOCK) * PITCH(INPUT0, 1)] - exponent);
}
#endif
