/* The three functions an ICD loader asks for, and the rewriting of the runtime's dispatch table. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vgpu.h"

#define EXPORTED __attribute__((visibility("default")))

typedef cl_int clIcdGetPlatformIDsKHR_t(cl_uint, cl_platform_id *, cl_uint *);

EXPORTED clIcdGetPlatformIDsKHR_t clIcdGetPlatformIDsKHR;
EXPORTED clGetExtensionFunctionAddress_t clGetExtensionFunctionAddress;
EXPORTED clGetPlatformInfo_t clGetPlatformInfo;

void *vgpu_driver[SLOT_COUNT];

static pthread_once_t opened = PTHREAD_ONCE_INIT;
static pthread_mutex_t patching = PTHREAD_MUTEX_INITIALIZER;
static clGetExtensionFunctionAddress_t *driver_extension;
static clIcdGetPlatformIDsKHR_t *driver_platforms;
static void **patched;

static void open_driver(void)
{
    const char *path = getenv("OV_MOE_VGPU_RUNTIME");
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_GLOBAL) : NULL;
    if (!library) {
        fprintf(stderr, "ov-moe virtual GPU: %s\n", path ? dlerror() : "OV_MOE_VGPU_RUNTIME is not set");
        return;
    }
    driver_extension = (clGetExtensionFunctionAddress_t *)dlsym(library, "clGetExtensionFunctionAddress");
    if (driver_extension)
        driver_platforms = (clIcdGetPlatformIDsKHR_t *)driver_extension("clIcdGetPlatformIDsKHR");
}

static bool make_writable(void *from, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)from & ~(page - 1);
    uintptr_t end = ((uintptr_t)from + bytes + page - 1) & ~(page - 1);
    return mprotect((void *)start, end - start, PROT_READ | PROT_WRITE) == 0;
}

/* Each OpenCL object starts with a pointer to its dispatch table; the runtime's objects share one. */
static cl_int patch(cl_platform_id platform)
{
    void **table = *(void ***)platform;
    cl_int error = CL_SUCCESS;
    pthread_mutex_lock(&patching);
    if (!patched) {
        memcpy(vgpu_driver, table, sizeof vgpu_driver);
        if (make_writable(table, sizeof vgpu_driver)) {
#define OVERRIDE(name, slot) table[slot] = (void *)vgpu_##name;
            VGPU_OVERRIDDEN(OVERRIDE)
#undef OVERRIDE
            patched = table;
        } else {
            error = CL_PLATFORM_NOT_FOUND_KHR;
        }
    }
    pthread_mutex_unlock(&patching);
    return error;
}

cl_int clIcdGetPlatformIDsKHR(cl_uint count, cl_platform_id *platforms, cl_uint *found)
{
    cl_uint total = 0;
    pthread_once(&opened, open_driver);
    if (!driver_platforms)
        return CL_PLATFORM_NOT_FOUND_KHR;
    cl_int error = driver_platforms(count, platforms, &total);
    if (found)
        *found = total;
    for (cl_uint i = 0; !error && platforms && i < count && i < total; i++)
        error = patch(platforms[i]);
    return error;
}

cl_int clGetPlatformInfo(cl_platform_id platform, VGPU_ANSWER)
{
    cl_int error = patch(platform);
    return error ? error : vgpu_clGetPlatformInfo(platform, parameter, size, value, size_ret);
}

void *clGetExtensionFunctionAddress(const char *name)
{
    if (!strcmp(name, "clIcdGetPlatformIDsKHR"))
        return (void *)clIcdGetPlatformIDsKHR;
    if (!strcmp(name, "clGetPlatformInfo"))
        return (void *)clGetPlatformInfo;
    pthread_once(&opened, open_driver);
    return driver_extension ? vgpu_wait_extension(name, vgpu_memory_extension(name, driver_extension(name))) : NULL;
}

void *vgpu_clGetExtensionFunctionAddress(const char *name)
{
    return clGetExtensionFunctionAddress(name);
}

void *vgpu_clGetExtensionFunctionAddressForPlatform(cl_platform_id platform, const char *name)
{
    void *real = DRIVER(clGetExtensionFunctionAddressForPlatform)(platform, name);
    return vgpu_wait_extension(name, vgpu_memory_extension(name, real));
}
