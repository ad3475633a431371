/* Allocations: padded, zeroed, counted; their sizes are told without the padding. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu.h"

typedef void *clHostMemAllocINTEL_t(cl_context, const cl_ulong *properties, size_t bytes, cl_uint align, cl_int *);
typedef void *clDeviceMemAllocINTEL_t(cl_context, cl_device_id, const cl_ulong *properties, size_t bytes, cl_uint align,
                                      cl_int *);
typedef cl_int clMemFreeINTEL_t(cl_context, void *);
typedef cl_int clGetMemAllocInfoINTEL_t(cl_context, const void *, VGPU_ANSWER);

struct allocation {
    enum vgpu_memory_kind kind;
    size_t bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct vgpu_map live; /* of cl_mem and of USM pointers */

static clHostMemAllocINTEL_t *driver_host;
static clDeviceMemAllocINTEL_t *driver_device, *driver_shared;
static clMemFreeINTEL_t *driver_free, *driver_blocking_free;
static clGetMemAllocInfoINTEL_t *driver_info;

static void born(const void *handle, enum vgpu_memory_kind kind, size_t bytes)
{
    struct allocation *allocation = vgpu_allocate(sizeof *allocation);
    *allocation = (struct allocation){kind, bytes};
    pthread_mutex_lock(&lock);
    struct allocation *stale = vgpu_map_put(&live, handle, allocation);
    pthread_mutex_unlock(&lock);
    free(stale);
    vgpu_count_allocation(kind, bytes);
}

static void died(const void *handle)
{
    pthread_mutex_lock(&lock);
    struct allocation *allocation = vgpu_map_get(&live, handle) ? vgpu_map_put(&live, handle, NULL) : NULL;
    pthread_mutex_unlock(&lock);
    if (allocation)
        vgpu_count_free(allocation->kind, allocation->bytes);
    free(allocation);
}

static void buffer_died(cl_mem memory, void *user)
{
    (void)user;
    died(memory);
}

static bool asked_size(const void *handle, size_t *bytes)
{
    pthread_mutex_lock(&lock);
    const struct allocation *allocation = vgpu_map_get(&live, handle);
    if (allocation)
        *bytes = allocation->bytes;
    pthread_mutex_unlock(&lock);
    return allocation != NULL;
}

cl_mem vgpu_clCreateBufferWithProperties(cl_context context, const cl_ulong *properties, cl_bitfield flags,
                                         size_t bytes, void *host, cl_int *error)
{
    void *initial = NULL;
    bool padded =
        vgpu_ours(context) && bytes && !(flags & CL_MEM_USE_HOST_PTR) && (host || !(flags & CL_MEM_COPY_HOST_PTR));
    if (padded) {
        /* calloc gives the runtime zeros to copy from, without touching memory for large sizes. */
        initial = calloc(1, bytes + VGPU_PADDING);
        if (!initial) {
            if (error)
                *error = CL_OUT_OF_HOST_MEMORY;
            return NULL;
        }
        if (host)
            memcpy(initial, host, bytes);
        host = initial;
        flags |= CL_MEM_COPY_HOST_PTR;
    }
    size_t total = bytes + (padded ? VGPU_PADDING : 0);
    cl_mem memory = properties ? DRIVER(clCreateBufferWithProperties)(context, properties, flags, total, host, error)
                               : DRIVER(clCreateBuffer)(context, flags, total, host, error);
    free(initial);
    if (memory && vgpu_ours(memory)) {
        born(memory, VGPU_BUFFER, bytes);
        DRIVER(clSetMemObjectDestructorCallback)(memory, buffer_died, NULL);
    }
    return memory;
}

cl_mem vgpu_clCreateBuffer(cl_context context, cl_bitfield flags, size_t bytes, void *host, cl_int *error)
{
    return vgpu_clCreateBufferWithProperties(context, NULL, flags, bytes, host, error);
}

cl_int vgpu_clGetMemObjectInfo(cl_mem memory, VGPU_ANSWER)
{
    size_t bytes;
    if (parameter == CL_MEM_SIZE && asked_size(memory, &bytes))
        return vgpu_answer(&bytes, sizeof bytes, size, value, size_ret);
    return DRIVER(clGetMemObjectInfo)(memory, parameter, size, value, size_ret);
}

static void *usm_born(void *pointer, enum vgpu_memory_kind kind, size_t bytes)
{
    if (pointer) {
        memset(pointer, 0, bytes + VGPU_PADDING);
        born(pointer, kind, bytes);
    }
    return pointer;
}

/* GPU_ENABLE_LARGE_ALLOCATIONS asks for buffers above CL_DEVICE_MAX_MEM_ALLOC_SIZE by a flag of Intel's GPU driver,
   which the runtime for CPUs refuses. */
#define ALLOW_UNRESTRICTED_SIZE ((cl_ulong)1 << 23)
#define PROPERTIES 16

static const cl_ulong *known(const cl_ulong *properties, cl_ulong kept[PROPERTIES])
{
    size_t count = 0;
    for (const cl_ulong *one = properties; one && *one; one += 2) {
        if (count + 2 >= PROPERTIES)
            return properties;
        if (one[1] == ALLOW_UNRESTRICTED_SIZE)
            continue;
        kept[count++] = one[0];
        kept[count++] = one[1];
    }
    kept[count] = 0;
    return count ? kept : NULL;
}

static void *host_alloc(cl_context context, const cl_ulong *properties, size_t bytes, cl_uint align, cl_int *error)
{
    cl_ulong kept[PROPERTIES];
    return usm_born(driver_host(context, known(properties, kept), bytes + VGPU_PADDING, align, error), VGPU_USM_HOST,
                    bytes);
}

static void *device_alloc(cl_context context, cl_device_id device, const cl_ulong *properties, size_t bytes,
                          cl_uint align, cl_int *error)
{
    cl_ulong kept[PROPERTIES];
    void *pointer = driver_device(context, device, known(properties, kept), bytes + VGPU_PADDING, align, error);
    return usm_born(pointer, VGPU_USM_DEVICE, bytes);
}

static void *shared_alloc(cl_context context, cl_device_id device, const cl_ulong *properties, size_t bytes,
                          cl_uint align, cl_int *error)
{
    cl_ulong kept[PROPERTIES];
    void *pointer = driver_shared(context, device, known(properties, kept), bytes + VGPU_PADDING, align, error);
    return usm_born(pointer, VGPU_USM_SHARED, bytes);
}

/* Forgotten before it is freed: afterwards another thread may be given the same address. */
static cl_int usm_free(cl_context context, void *pointer)
{
    died(pointer);
    return driver_free(context, pointer);
}

static cl_int usm_blocking_free(cl_context context, void *pointer)
{
    died(pointer);
    return driver_blocking_free(context, pointer);
}

static cl_int usm_info(cl_context context, const void *pointer, VGPU_ANSWER)
{
    size_t bytes;
    if (parameter == CL_MEM_ALLOC_SIZE_INTEL && asked_size(pointer, &bytes))
        return vgpu_answer(&bytes, sizeof bytes, size, value, size_ret);
    return driver_info(context, pointer, parameter, size, value, size_ret);
}

void *vgpu_memory_extension(const char *name, void *real)
{
    const struct {
        const char *name;
        void *replacement, **driver;
    } replaced[] = {
        {"clHostMemAllocINTEL", (void *)host_alloc, (void **)&driver_host},
        {"clDeviceMemAllocINTEL", (void *)device_alloc, (void **)&driver_device},
        {"clSharedMemAllocINTEL", (void *)shared_alloc, (void **)&driver_shared},
        {"clMemFreeINTEL", (void *)usm_free, (void **)&driver_free},
        {"clMemBlockingFreeINTEL", (void *)usm_blocking_free, (void **)&driver_blocking_free},
        {"clGetMemAllocInfoINTEL", (void *)usm_info, (void **)&driver_info},
    };
    for (size_t i = 0; real && i < sizeof replaced / sizeof *replaced; i++)
        if (!strcmp(name, replaced[i].name)) {
            /* One query may be answered through the other, which has already replaced it. */
            if (real != replaced[i].replacement)
                *replaced[i].driver = real;
            return replaced[i].replacement;
        }
    return real;
}
