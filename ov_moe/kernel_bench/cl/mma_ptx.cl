// What the micro-kernel "mma" needs of NVIDIA's hardware, by inline PTX (sm_80 and later): asynchronous copies to local
// memory, the matrix instruction and its loads, and arithmetic on pairs of f16 in one register, which NVIDIA's OpenCL
// has no type for. mma_emulation.cl is the same in OpenCL C.

#if CAT(IS_HALF_, INPUT0_TYPE) && !MMA_EMULATION // rows of f32 are fma's, which is composed behind these files

#define MMA_ATTRIBUTES
#define MMA_FOR _Pragma("unroll") for
#define MMA_ROLLED_FOR _Pragma("unroll 1") for
#define ALWAYS_INLINE inline __attribute__((always_inline))

// A place in local memory, in bytes.
typedef uint address_t;
#define ADDRESS(p) ((uint)(size_t)(p))

// Copies of 16 or 4 bytes where `wanted`, without a branch; FILL writes zeros in place of what is not `inside`. L2
// fetches 128 bytes, what the next steps of K read: 1 to 2 % faster.
#define COPY_16(to, from, wanted)                                                    \
    asm volatile("{.reg .pred p; setp.ne.s32 p, %2, 0;"                              \
                 "@p cp.async.cg.shared.global.L2::128B [%0], [%1], 16;}" ::"r"(to), \
                 "l"(from), "r"((int)(wanted))                                       \
                 : "memory")
#define COPY_16_FILL(to, from, inside, wanted)                                           \
    asm volatile("{.reg .pred p; setp.ne.s32 p, %3, 0;"                                  \
                 "@p cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;}" ::"r"(to), \
                 "l"(from), "r"((inside) ? 16 : 0), "r"((int)(wanted))                   \
                 : "memory")
#define COPY_4(to, from, wanted)                                           \
    asm volatile("{.reg .pred p; setp.ne.s32 p, %2, 0;"                    \
                 "@p cp.async.ca.shared.global [%0], [%1], 4;}" ::"r"(to), \
                 "l"(from), "r"((int)(wanted))                             \
                 : "memory")
#define COPIES_END_STAGE() asm volatile("cp.async.commit_group;" ::: "memory")
// Waits until only the copies of the last n stages are under way.
#define COPIES_WAIT(n) asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")

// Four 8 x 8 matrices of 16-bit elements; lane l names row l % 8 of matrix l / 8.
#define LOAD_MATRICES(r, address)                                                \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" \
                 : "=r"((r)[0]), "=r"((r)[1]), "=r"((r)[2]), "=r"((r)[3])        \
                 : "r"(address)                                                  \
                 : "memory")

// c + the 16 x 16 fragment a * the 16 x 8 fragment (b0, b1).
ALWAYS_INLINE float4 mma(float4 c, const uint *a, uint b0, uint b1)
{
    float x = c.x, y = c.y, z = c.z, w = c.w;
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(x), "+f"(y), "+f"(z), "+f"(w)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    return (float4)(x, y, z, w);
}

// Bytes of (a, b) that the selector's nibbles name; of a are 0 to 3.
ALWAYS_INLINE uint select_bytes(uint a, uint b, uint selector)
{
    uint r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
    return r;
}
// (a & mask) ^ bits, in one instruction.
ALWAYS_INLINE uint and_xor(uint a, uint mask, uint bits)
{
    uint r;
    asm("lop3.b32 %0, %1, %2, %3, 0x6A;" : "=r"(r) : "r"(a), "r"(mask), "r"(bits));
    return r;
}
ALWAYS_INLINE uint fma_halves(uint a, uint b, uint c)
{
    uint r;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}
ALWAYS_INLINE uint add_halves(uint a, uint b)
{
    uint r;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
ALWAYS_INLINE uint mul_halves(uint a, uint b)
{
    uint r;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
// Two fp32 values, rounded.
ALWAYS_INLINE uint to_halves(float low, float high)
{
    uint r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

#endif
