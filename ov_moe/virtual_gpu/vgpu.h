/* The virtual GPU: an OpenCL layer that changes some answers of Intel's CPU runtime, and passes on all calls that
 * concern another driver.
 *
 * The entries listed in VGPU_OVERRIDDEN are the functions vgpu_<name>; what lies beneath the layer is vgpu_driver.
 * No OpenCL headers are needed: what is used is declared here.
 */
#ifndef OV_MOE_VGPU_H
#define OV_MOE_VGPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int32_t cl_int;
typedef uint32_t cl_uint;
typedef uint64_t cl_ulong;
typedef uint64_t cl_bitfield;
typedef struct cl_platform *cl_platform_id;
typedef struct cl_device *cl_device_id;
typedef struct cl_context_s *cl_context;
typedef struct cl_queue *cl_queue;
typedef struct cl_memory *cl_mem;
typedef struct cl_program_s *cl_program;
typedef struct cl_kernel_s *cl_kernel;
typedef struct cl_event_s *cl_event;

enum {
    CL_SUCCESS = 0,
    CL_PROFILING_INFO_NOT_AVAILABLE = -7,
    CL_DEVICE_NOT_FOUND = -1,
    CL_OUT_OF_HOST_MEMORY = -6,
    CL_INVALID_VALUE = -30,
    CL_MEM_USE_HOST_PTR = 1 << 3,
    CL_MEM_COPY_HOST_PTR = 1 << 5,
    CL_MEM_SIZE = 0x1102,
    CL_PROGRAM_CONTEXT = 0x1161,
    CL_PROGRAM_NUM_DEVICES = 0x1162,
    CL_PROGRAM_DEVICES = 0x1163,
    CL_PROGRAM_BINARY_SIZES = 0x1165,
    CL_PROGRAM_BINARIES = 0x1166,
    CL_PROGRAM_NUM_KERNELS = 0x1167,
    CL_PROGRAM_KERNEL_NAMES = 0x1168,
    CL_KERNEL_FUNCTION_NAME = 0x1190,
    CL_KERNEL_COMPILE_WORK_GROUP_SIZE = 0x11B1,
    CL_MEM_ALLOC_SIZE_INTEL = 0x419C,
};

/* Getters share a tail: size of the answer's place, the place, size of the answer. */
#define VGPU_ANSWER cl_uint parameter, size_t size, void *value, size_t *size_ret
/* Enqueue calls share another: events to wait for, own event. */
#define VGPU_EVENTS cl_uint event_count, const cl_event *events, cl_event *event
typedef void vgpu_program_callback(cl_program program, void *user);
typedef void vgpu_memory_callback(cl_mem memory, void *user);
typedef void vgpu_context_callback(const char *what, const void *data, size_t bytes, void *user);

typedef cl_int clGetPlatformInfo_t(cl_platform_id, VGPU_ANSWER);
typedef cl_int clGetDeviceIDs_t(cl_platform_id, cl_bitfield type, cl_uint count, cl_device_id *, cl_uint *found);
typedef cl_int clGetDeviceInfo_t(cl_device_id, VGPU_ANSWER);
typedef cl_context clCreateContext_t(const intptr_t *properties, cl_uint count, const cl_device_id *,
                                     vgpu_context_callback *, void *user, cl_int *error);
typedef cl_int clRetainContext_t(cl_context);
typedef cl_mem clCreateBuffer_t(cl_context, cl_bitfield flags, size_t bytes, void *host, cl_int *error);
typedef cl_mem clCreateBufferWithProperties_t(cl_context, const cl_ulong *properties, cl_bitfield flags, size_t bytes,
                                              void *host, cl_int *error);
typedef cl_int clGetMemObjectInfo_t(cl_mem, VGPU_ANSWER);
typedef cl_int clSetMemObjectDestructorCallback_t(cl_mem, vgpu_memory_callback *, void *user);
typedef cl_program clCreateProgramWithSource_t(cl_context, cl_uint count, const char **strings, const size_t *lengths,
                                               cl_int *error);
typedef cl_program clCreateProgramWithBinary_t(cl_context, cl_uint count, const cl_device_id *, const size_t *lengths,
                                               const unsigned char **binaries, cl_int *status, cl_int *error);
typedef cl_int clRetainProgram_t(cl_program);
typedef cl_int clReleaseProgram_t(cl_program);
typedef cl_int clBuildProgram_t(cl_program, cl_uint count, const cl_device_id *, const char *options,
                                vgpu_program_callback *, void *user);
typedef cl_int clGetProgramInfo_t(cl_program, VGPU_ANSWER);
typedef cl_int clGetProgramBuildInfo_t(cl_program, cl_device_id, VGPU_ANSWER);
typedef cl_kernel clCreateKernel_t(cl_program, const char *name, cl_int *error);
typedef cl_int clCreateKernelsInProgram_t(cl_program, cl_uint count, cl_kernel *, cl_uint *created);
typedef cl_kernel clCloneKernel_t(cl_kernel, cl_int *error);
typedef cl_int clGetKernelInfo_t(cl_kernel, VGPU_ANSWER);
typedef cl_int clGetKernelWorkGroupInfo_t(cl_kernel, cl_device_id, VGPU_ANSWER);
typedef cl_int clEnqueueNDRangeKernel_t(cl_queue, cl_kernel, cl_uint dimensions, const size_t *offset,
                                        const size_t *global, const size_t *local, VGPU_EVENTS);
typedef cl_int clWaitForEvents_t(cl_uint count, const cl_event *events);
typedef cl_int clGetEventProfilingInfo_t(cl_event, VGPU_ANSWER);
typedef cl_int clFinish_t(cl_queue);
typedef cl_int clEnqueueReadBuffer_t(cl_queue, cl_mem, cl_uint blocking, size_t offset, size_t bytes, void *,
                                     VGPU_EVENTS);
typedef cl_int clEnqueueWriteBuffer_t(cl_queue, cl_mem, cl_uint blocking, size_t offset, size_t bytes, const void *,
                                      VGPU_EVENTS);
typedef cl_int clEnqueueReadBufferRect_t(cl_queue, cl_mem, cl_uint blocking, const size_t *, const size_t *,
                                         const size_t *, size_t, size_t, size_t, size_t, void *, VGPU_EVENTS);
typedef cl_int clEnqueueWriteBufferRect_t(cl_queue, cl_mem, cl_uint blocking, const size_t *, const size_t *,
                                          const size_t *, size_t, size_t, size_t, size_t, const void *, VGPU_EVENTS);
typedef cl_int clEnqueueReadImage_t(cl_queue, cl_mem, cl_uint blocking, const size_t *, const size_t *, size_t, size_t,
                                    void *, VGPU_EVENTS);
typedef cl_int clEnqueueWriteImage_t(cl_queue, cl_mem, cl_uint blocking, const size_t *, const size_t *, size_t, size_t,
                                     const void *, VGPU_EVENTS);
typedef void *clEnqueueMapBuffer_t(cl_queue, cl_mem, cl_uint blocking, cl_bitfield flags, size_t offset, size_t bytes,
                                   VGPU_EVENTS, cl_int *error);
typedef void *clEnqueueMapImage_t(cl_queue, cl_mem, cl_uint blocking, cl_bitfield flags, const size_t *, const size_t *,
                                  size_t *, size_t *, VGPU_EVENTS, cl_int *error);
typedef void *clGetExtensionFunctionAddress_t(const char *name);
typedef void *clGetExtensionFunctionAddressForPlatform_t(cl_platform_id, const char *name);

/* Slots of the ICD dispatch table, whose order is fixed for good (Khronos, CL/cl_icd.h). */
#define VGPU_OVERRIDDEN(ENTRY)                           \
    ENTRY(clGetPlatformInfo, 1)                          \
    ENTRY(clGetDeviceIDs, 2)                             \
    ENTRY(clGetDeviceInfo, 3)                            \
    ENTRY(clCreateContext, 4)                            \
    ENTRY(clCreateBuffer, 14)                            \
    ENTRY(clGetMemObjectInfo, 20)                        \
    ENTRY(clCreateProgramWithSource, 26)                 \
    ENTRY(clCreateProgramWithBinary, 27)                 \
    ENTRY(clBuildProgram, 30)                            \
    ENTRY(clGetProgramInfo, 32)                          \
    ENTRY(clGetProgramBuildInfo, 33)                     \
    ENTRY(clCreateKernel, 34)                            \
    ENTRY(clCreateKernelsInProgram, 35)                  \
    ENTRY(clWaitForEvents, 41)                           \
    ENTRY(clGetEventProfilingInfo, 45)                   \
    ENTRY(clFinish, 47)                                  \
    ENTRY(clEnqueueReadBuffer, 48)                       \
    ENTRY(clEnqueueWriteBuffer, 49)                      \
    ENTRY(clEnqueueReadImage, 51)                        \
    ENTRY(clEnqueueWriteImage, 52)                       \
    ENTRY(clEnqueueMapBuffer, 56)                        \
    ENTRY(clEnqueueMapImage, 57)                         \
    ENTRY(clEnqueueNDRangeKernel, 59)                    \
    ENTRY(clGetExtensionFunctionAddress, 65)             \
    ENTRY(clEnqueueReadBufferRect, 86)                   \
    ENTRY(clEnqueueWriteBufferRect, 87)                  \
    ENTRY(clGetExtensionFunctionAddressForPlatform, 107) \
    ENTRY(clCloneKernel, 137)                            \
    ENTRY(clCreateBufferWithProperties, 146)

/* Called, not overridden. */
#define VGPU_CALLED(ENTRY)              \
    ENTRY(clRetainContext, 6)           \
    ENTRY(clRetainProgram, 28)          \
    ENTRY(clReleaseProgram, 29)         \
    ENTRY(clGetKernelInfo, 39)          \
    ENTRY(clGetKernelWorkGroupInfo, 40) \
    ENTRY(clSetMemObjectDestructorCallback, 83)

#define VGPU_SLOT(name, slot) SLOT_##name = slot,
enum { VGPU_OVERRIDDEN(VGPU_SLOT) VGPU_CALLED(VGPU_SLOT) SLOT_COUNT = 147 };
#undef VGPU_SLOT

#define VGPU_DECLARE(name, slot) name##_t vgpu_##name;
VGPU_OVERRIDDEN(VGPU_DECLARE)
#undef VGPU_DECLARE

/* What lies beneath the layer. */
extern void *vgpu_driver[SLOT_COUNT];
#define DRIVER(name) ((name##_t *)vgpu_driver[SLOT_##name])

/* layer.c: whether an object (platform, device, context, queue, ...) is the runtime's. */
bool vgpu_ours(const void *object);
extern struct vgpu_settings {
    const char *runtime;  /* path of the runtime's library */
    const char *programs; /* folder of built programs, empty: none */
    bool fast_build;
    unsigned hold_seconds;
} vgpu_settings;

/* Bytes added to each allocation: plugin kernels read and write blocks past the end, which an Intel GPU's page
 * granularity hides and a heap does not. */
enum { VGPU_PADDING = 64 * 1024 };

/* memory.c, waits.c: replacement for an extension function, or `real`. */
void *vgpu_memory_extension(const char *name, void *real);
void *vgpu_wait_extension(const char *name, void *real);

/* device_info.c */
cl_int vgpu_answer(const void *answer, size_t bytes, size_t size, void *value, size_t *size_ret);

/* map.c: a table from pointers to pointers that grows; its user holds a lock. */
struct vgpu_map {
    struct vgpu_slot {
        const void *key;
        void *value;
    } *slots;
    size_t capacity, used;
};
void *vgpu_map_get(const struct vgpu_map *, const void *key);
void *vgpu_map_put(struct vgpu_map *, const void *key, void *value); /* returns the value before */

/* text.c: a string that grows; its text is terminated. */
struct vgpu_text {
    char *data;
    size_t length, capacity;
};
void vgpu_text_add(struct vgpu_text *, const void *data, size_t length);
void vgpu_text_addf(struct vgpu_text *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *vgpu_allocate(size_t bytes); /* zeroed; ends the process when there is no memory */

/* source_fixes.c */
struct vgpu_part { /* a part of a source, whose dimensions 0 and `axis` change places */
    struct vgpu_part *next;
    int axis;
    char *text;
};
void vgpu_fix_source(struct vgpu_part **swapped, struct vgpu_text *out, const char *source);
/* "kernel axis\n" for each of the kernels (joined by ';') that stands in one of the parts; and a look into that. */
void vgpu_find_axes(const struct vgpu_part *swapped, const char *kernel_names, struct vgpu_text *axes);
int vgpu_axis_of(const char *axes, const char *kernel_name);

/* binary_cache.c */
typedef unsigned __int128 vgpu_hash;
vgpu_hash vgpu_hash_bytes(vgpu_hash hash, const void *data, size_t bytes);
vgpu_hash vgpu_hash_environment(cl_device_id); /* what a binary depends on besides its source and options */
bool vgpu_cache_enabled(void);
bool vgpu_cache_load(vgpu_hash key, struct vgpu_text *axes, struct vgpu_text *binary);
void vgpu_cache_store(vgpu_hash key, const struct vgpu_text *axes, const struct vgpu_text *binary);

/* launches.c; `axis` is the dimension that changed places with dimension 0, or 0. */
void vgpu_kernel_created(cl_kernel, int axis);

/* counters.c */
enum vgpu_memory_kind { VGPU_BUFFER, VGPU_USM_HOST, VGPU_USM_DEVICE, VGPU_USM_SHARED, VGPU_MEMORY_KINDS };
struct vgpu_launch;
void vgpu_count_build(const char *kernel_names, bool cached, double seconds);
struct vgpu_launch *vgpu_launch_named(const char *kernel_name);
void vgpu_count_launch(struct vgpu_launch *, uint64_t groups);
void vgpu_count_allocation(enum vgpu_memory_kind, size_t bytes);
void vgpu_count_free(enum vgpu_memory_kind, size_t bytes);
void vgpu_count_wait(void);

#endif
