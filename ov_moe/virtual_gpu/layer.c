/* The OpenCL layer (Khronos, CL/cl_layer.h): what a loader asks for, and which calls are the virtual GPU's.
 *
 * A loader tells each layer how many entries its dispatch table has and gives it that table; nothing of the runtime's
 * own is written to. Loaders that are in the process together (the runtime's, and the one that pyopencl brings) share
 * this library, and the first one's table serves them all: it finds the driver through the object that it is given. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu.h"

#define EXPORTED __attribute__((visibility("default")))

enum { CL_LAYER_API_VERSION = 0x4240, CL_LAYER_NAME = 0x4241, CL_LAYER_API_VERSION_100 = 100 };

typedef cl_int clIcdGetPlatformIDsKHR_t(cl_uint, cl_platform_id *, cl_uint *);

EXPORTED const char *ov_moe_vgpu_open(const char *runtime, const char *programs, bool fast_build,
                                      unsigned hold_seconds);
EXPORTED unsigned ov_moe_vgpu_layers(void);
EXPORTED cl_platform_id ov_moe_vgpu_platform(void);
EXPORTED cl_int clGetLayerInfo(VGPU_ANSWER);
EXPORTED cl_int clInitLayer(cl_uint count, void *const *target, cl_uint *count_ret, void ***table_ret);
EXPORTED cl_int clInitLayerWithProperties(cl_uint count, void *const *target, cl_uint *count_ret, void ***table_ret,
                                          const cl_ulong *properties);
EXPORTED cl_int clDeinitLayer(void);

struct vgpu_settings vgpu_settings;
void *vgpu_driver[SLOT_COUNT];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned layers;
static cl_platform_id platform;
/* Each OpenCL object starts with a pointer to its driver's dispatch table; the runtime's objects share one. */
static const void *dispatch;

bool vgpu_ours(const void *object)
{
    return object && dispatch && *(const void *const *)object == dispatch;
}

/* Before any loader calls in; returns why it failed, or null. */
const char *ov_moe_vgpu_open(const char *runtime, const char *programs, bool fast_build, unsigned hold_seconds)
{
    vgpu_settings = (struct vgpu_settings){strdup(runtime), strdup(programs), fast_build, hold_seconds};
    /* Not for all to see: it has functions of the same names as a loader. */
    void *library = dlopen(runtime, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return dlerror();
    clGetExtensionFunctionAddress_t *address =
        (clGetExtensionFunctionAddress_t *)dlsym(library, "clGetExtensionFunctionAddress");
    clIcdGetPlatformIDsKHR_t *platforms =
        address ? (clIcdGetPlatformIDsKHR_t *)address("clIcdGetPlatformIDsKHR") : NULL;
    if (!platforms || platforms(1, &platform, NULL))
        return "it shows no platform";
    dispatch = *(const void *const *)platform;
    return NULL;
}

/* Loaders that have let the layer in. */
unsigned ov_moe_vgpu_layers(void)
{
    return layers;
}

cl_platform_id ov_moe_vgpu_platform(void)
{
    return platform;
}

cl_int clGetLayerInfo(VGPU_ANSWER)
{
    static const cl_uint version = CL_LAYER_API_VERSION_100;
    static const char name[] = "ov-moe virtual GPU";
    if (parameter == CL_LAYER_API_VERSION)
        return vgpu_answer(&version, sizeof version, size, value, size_ret);
    if (parameter == CL_LAYER_NAME)
        return vgpu_answer(name, sizeof name, size, value, size_ret);
    return CL_INVALID_VALUE;
}

cl_int clInitLayer(cl_uint count, void *const *target, cl_uint *count_ret, void ***table_ret)
{
    /* An entry that is null is passed on. */
    static void *table[SLOT_COUNT] = {
#define OVERRIDE(name, slot) [slot] = (void *)vgpu_##name,
        VGPU_OVERRIDDEN(OVERRIDE)
#undef OVERRIDE
    };
    if (count < SLOT_COUNT || !dispatch)
        return CL_INVALID_VALUE;
    pthread_mutex_lock(&lock);
    if (!layers++)
        memcpy(vgpu_driver, target, sizeof vgpu_driver);
    pthread_mutex_unlock(&lock);
    *count_ret = SLOT_COUNT;
    *table_ret = table;
    return CL_SUCCESS;
}

cl_int clInitLayerWithProperties(cl_uint count, void *const *target, cl_uint *count_ret, void ***table_ret,
                                 const cl_ulong *properties)
{
    (void)properties; /* when to take down what there is none of */
    return clInitLayer(count, target, count_ret, table_ret);
}

cl_int clDeinitLayer(void)
{
    return CL_SUCCESS;
}

static void *replaced(const char *name, void *real)
{
    return vgpu_wait_extension(name, vgpu_memory_extension(name, real));
}

/* Without a platform a loader asks its drivers one after another: only the runtime's own function is replaced. */
void *vgpu_clGetExtensionFunctionAddress(const char *name)
{
    void *real = DRIVER(clGetExtensionFunctionAddress)(name);
    return real && real == DRIVER(clGetExtensionFunctionAddressForPlatform)(platform, name) ? replaced(name, real)
                                                                                            : real;
}

void *vgpu_clGetExtensionFunctionAddressForPlatform(cl_platform_id asked, const char *name)
{
    void *real = DRIVER(clGetExtensionFunctionAddressForPlatform)(asked, name);
    return vgpu_ours(asked) ? replaced(name, real) : real;
}
