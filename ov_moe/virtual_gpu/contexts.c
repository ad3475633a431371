/* One context for a device: the plugin makes one for each Core, and programs, which are kept for good, hold theirs. */
#include <pthread.h>

#include "vgpu.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct vgpu_map contexts; /* by device */

cl_context vgpu_clCreateContext(const intptr_t *properties, cl_uint count, const cl_device_id *devices,
                                vgpu_context_callback *notify, void *user, cl_int *error)
{
    /* Only what the plugin asks for: nothing but a device, and perhaps its platform. */
    bool plain =
        count == 1 && devices && vgpu_ours(devices[0]) && !notify && (!properties || !properties[0] || !properties[2]);
    if (!plain)
        return DRIVER(clCreateContext)(properties, count, devices, notify, user, error);
    pthread_mutex_lock(&lock);
    cl_context context = vgpu_map_get(&contexts, devices[0]);
    if (context) {
        if (error)
            *error = CL_SUCCESS;
    } else {
        context = DRIVER(clCreateContext)(properties, count, devices, NULL, NULL, error);
        if (context)
            vgpu_map_put(&contexts, devices[0], context);
    }
    if (context) /* the first reference is ours */
        DRIVER(clRetainContext)(context);
    pthread_mutex_unlock(&lock);
    return context;
}
