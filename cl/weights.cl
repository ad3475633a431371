// Weights [EXPERTS, N, K], K contiguous: two neighbours along K at a time, as stored, then dequantised in
// registers to float: (q - zero point) * scale, exact in fp32 for 8-bit q and f16 scales.
// Indices are ulong: 256 experts of 7168 x 2048 are beyond 2^31 elements.

// Element types, as in ov_moe.spec.Precision; "float" stands for f32 and f16 (whatever the plugin made of it).
// The second of a pair may lie behind the row's end (odd K): it is then not read.
inline float2 raw_u4(const global uchar *w, ulong i, bool two)
{
    const uchar b = w[i >> 1]; // rows are byte-aligned: i is even, low nibble first
    return (float2)(b & 15, b >> 4);
}
inline float2 raw_i4(const global uchar *w, ulong i, bool two)
{
    const char b = as_char(w[i >> 1]);
    return (float2)((char)(b << 4) >> 4, b >> 4);
}
// f4e2m1 (OCP Microscaling Formats 1.0): 0, .5, 1, 1.5, 2, 3, 4, 6 and a sign bit. Without table and denormals:
// from code 2 on, code and fp32 have the same order of exponent and mantissa bits.
inline float e2m1(uchar code)
{
    const uint m = code & 7;
    const float magnitude = m < 2 ? 0.5f * m : as_float((m << 22) + (126u << 23));
    return code & 8 ? -magnitude : magnitude;
}
inline float2 raw_f4e2m1(const global uchar *w, ulong i, bool two)
{
    const uchar b = w[i >> 1];
    return (float2)(e2m1(b & 15), e2m1(b >> 4));
}
inline float2 raw_u8(const global uchar *w, ulong i, bool two) { return (float2)(w[i], two ? w[i + 1] : 0); }
inline float2 raw_i8(const global char *w, ulong i, bool two) { return (float2)(w[i], two ? w[i + 1] : 0); }
#define raw_float(w, i, two) ((float2)((float)(w)[i], (two) ? (float)(w)[(i) + 1] : 0.0f))

// Zero points, one a group: 4-bit ones are packed over the flat index.
inline float zero_u4(const global uchar *z, ulong g) { return (float)((z[g >> 1] >> (4 * (g & 1))) & 15); }
inline float zero_i4(const global uchar *z, ulong g) { return (float)((char)((z[g >> 1] >> (4 * (g & 1))) << 4) >> 4); }
inline float zero_u8(const global uchar *z, ulong g) { return (float)z[g]; }
inline float zero_i8(const global char *z, ulong g) { return (float)z[g]; }
#define zero_none(z, g) 0.0f
#define bias_some(b, i) ((float)(b)[i])
#define bias_none(b, i) 0.0f
#define HAS_SCALE_none 0
#define HAS_SCALE_some 1
#define HAS_SCALE_e8m0 1
#define scale_some(s, g) ((float)(s)[g])
#define scale_none(s, g) 1.0f
// f8e8m0: a power of two from its exponent's byte; 255 is NaN, 0 is 2^-127.
inline float e8m0(uint e) { return e == 255 ? NAN : e == 0 ? 0x1p-127f : as_float(e << 23); }
inline float scale_e8m0(const global uchar *s, ulong g) { return e8m0(s[g]); }

// Which row of an expert's matrix holds output n of gate or up: the matrices are apart, or both in one of
// ROWS = 2 * N rows.
#define GATE_ROW_separate(n, N) (n)
#define UP_ROW_separate(n, N) (n)
#define GATE_ROW_interleaved(n, N) (2 * (n))
#define UP_ROW_interleaved(n, N) (2 * (n) + 1)
#define GATE_ROW_halves(n, N) (n)
#define UP_ROW_halves(n, N) ((N) + (n))
#define DOWN_ROW(n, N) (n)
