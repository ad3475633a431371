/* Launches: counted, and turned around for kernels whose dimensions changed places. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu.h"

struct kernel {
    int axis;
    size_t required[3]; /* the work-group that the source asks for, as the runtime sees it, or zeros */
    struct vgpu_launch *launch;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct vgpu_map kernels; /* entries are copied out under the lock: a handle may be used again later */

void vgpu_kernel_created(cl_kernel handle, int axis)
{
    size_t bytes = 0;
    struct kernel *kernel = vgpu_allocate(sizeof *kernel);
    DRIVER(clGetKernelInfo)(handle, CL_KERNEL_FUNCTION_NAME, 0, NULL, &bytes);
    char *name = vgpu_allocate(bytes + 1);
    DRIVER(clGetKernelInfo)(handle, CL_KERNEL_FUNCTION_NAME, bytes, name, NULL);
    kernel->axis = axis;
    kernel->launch = vgpu_launch_named(name);
    DRIVER(clGetKernelWorkGroupInfo)(handle, NULL, CL_KERNEL_COMPILE_WORK_GROUP_SIZE, sizeof kernel->required,
                                     kernel->required, NULL);
    free(name);
    pthread_mutex_lock(&lock);
    struct kernel *stale = vgpu_map_put(&kernels, handle, kernel);
    pthread_mutex_unlock(&lock);
    free(stale);
}

static bool find(cl_kernel handle, struct kernel *kernel)
{
    pthread_mutex_lock(&lock);
    const struct kernel *known = vgpu_map_get(&kernels, handle);
    if (known)
        *kernel = *known;
    pthread_mutex_unlock(&lock);
    return known != NULL;
}

cl_kernel vgpu_clCloneKernel(cl_kernel handle, cl_int *error)
{
    struct kernel kernel = {0};
    find(handle, &kernel);
    cl_kernel clone = DRIVER(clCloneKernel)(handle, error);
    if (clone && vgpu_ours(clone))
        vgpu_kernel_created(clone, kernel.axis);
    return clone;
}

static void swap(size_t sizes[3], int axis)
{
    size_t first = sizes[0];
    sizes[0] = sizes[axis];
    sizes[axis] = first;
}

/* Work-groups of the launch; 0 where the runtime chooses their size. */
static uint64_t group_count(const size_t global[3], const size_t local[3])
{
    uint64_t groups = 1;
    for (int d = 0; d < 3; d++)
        groups *= local[d] ? (global[d] + local[d] - 1) / local[d] : 0;
    return groups;
}

cl_int vgpu_clEnqueueNDRangeKernel(cl_queue queue, cl_kernel handle, cl_uint dimensions, const size_t *offset,
                                   const size_t *global, const size_t *local, VGPU_EVENTS)
{
    struct kernel kernel = {0};
    if (dimensions < 1 || dimensions > 3 || !global || !vgpu_ours(queue))
        return DRIVER(clEnqueueNDRangeKernel)(queue, handle, dimensions, offset, global, local, event_count, events,
                                              event);
    if (!find(handle, &kernel)) {
        vgpu_kernel_created(handle, 0);
        find(handle, &kernel);
    }
    size_t offsets[3] = {0, 0, 0}, globals[3] = {1, 1, 1}, locals[3] = {1, 1, 1};
    for (cl_uint d = 0; d < dimensions; d++) {
        offsets[d] = offset ? offset[d] : 0;
        globals[d] = global[d];
        locals[d] = local ? local[d] : 0;
    }
    cl_int error;
    if (kernel.axis) {
        swap(offsets, kernel.axis);
        swap(globals, kernel.axis);
        swap(locals, kernel.axis);
        error = DRIVER(clEnqueueNDRangeKernel)(queue, handle, 3, offsets, globals, local ? locals : NULL, event_count,
                                               events, event);
    } else {
        error = DRIVER(clEnqueueNDRangeKernel)(queue, handle, dimensions, offset, global, local, event_count, events,
                                               event);
    }
    if (!error)
        vgpu_count_launch(kernel.launch, group_count(globals, local ? locals : kernel.required));
    return error;
}
