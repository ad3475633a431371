/* Calls in which the host waits for the device: counted, and made one at a time.
 *
 * Threads of the CPU runtime that wait help the others, and may end up beneath one another's waits: with eight requests
 * on two cores it then stood still, no kernel running. One thread at a time has nobody to stand beneath. */
#include <pthread.h>
#include <string.h>

#include "vgpu.h"

typedef cl_int clEnqueueMemcpyINTEL_t(cl_queue, cl_uint blocking, void *to, const void *from, size_t bytes,
                                      VGPU_EVENTS);
static clEnqueueMemcpyINTEL_t *driver_memcpy;

static pthread_mutex_t waiting = PTHREAD_MUTEX_INITIALIZER;

/* `object`: a queue or an event. Returns whether the call is one at a time, for end(). */
static bool begin(const void *object, cl_uint blocking)
{
    if (!blocking || !vgpu_ours(object))
        return false;
    vgpu_count_wait();
    pthread_mutex_lock(&waiting);
    return true;
}

static void end(bool alone)
{
    if (alone)
        pthread_mutex_unlock(&waiting);
}

cl_int vgpu_clFinish(cl_queue queue)
{
    bool alone = begin(queue, true);
    cl_int error = DRIVER(clFinish)(queue);
    end(alone);
    return error;
}

cl_int vgpu_clWaitForEvents(cl_uint count, const cl_event *events)
{
    bool alone = begin(count && events ? events[0] : NULL, true);
    cl_int error = DRIVER(clWaitForEvents)(count, events);
    end(alone);
    return error;
}

/* The plugin asks for the times of commands that have not ended, such as those of a loop's last round. */
cl_int vgpu_clGetEventProfilingInfo(cl_event event, VGPU_ANSWER)
{
    cl_int error = DRIVER(clGetEventProfilingInfo)(event, parameter, size, value, size_ret);
    if (error != CL_PROFILING_INFO_NOT_AVAILABLE || !vgpu_ours(event) || vgpu_clWaitForEvents(1, &event))
        return error;
    return DRIVER(clGetEventProfilingInfo)(event, parameter, size, value, size_ret);
}

cl_int vgpu_clEnqueueReadBuffer(cl_queue queue, cl_mem memory, cl_uint blocking, size_t offset, size_t bytes, void *to,
                                VGPU_EVENTS)
{
    bool alone = begin(queue, blocking);
    cl_int error = DRIVER(clEnqueueReadBuffer)(queue, memory, blocking, offset, bytes, to, event_count, events, event);
    end(alone);
    return error;
}

cl_int vgpu_clEnqueueWriteBuffer(cl_queue queue, cl_mem memory, cl_uint blocking, size_t offset, size_t bytes,
                                 const void *from, VGPU_EVENTS)
{
    bool alone = begin(queue, blocking);
    cl_int error =
        DRIVER(clEnqueueWriteBuffer)(queue, memory, blocking, offset, bytes, from, event_count, events, event);
    end(alone);
    return error;
}

cl_int vgpu_clEnqueueReadBufferRect(cl_queue queue, cl_mem memory, cl_uint blocking, const size_t *origin,
                                    const size_t *host_origin, const size_t *region, size_t row, size_t slice,
                                    size_t host_row, size_t host_slice, void *to, VGPU_EVENTS)
{
    bool alone = begin(queue, blocking);
    cl_int error = DRIVER(clEnqueueReadBufferRect)(queue, memory, blocking, origin, host_origin, region, row, slice,
                                                   host_row, host_slice, to, event_count, events, event);
    end(alone);
    return error;
}

cl_int vgpu_clEnqueueWriteBufferRect(cl_queue queue, cl_mem memory, cl_uint blocking, const size_t *origin,
                                     const size_t *host_origin, const size_t *region, size_t row, size_t slice,
                                     size_t host_row, size_t host_slice, const void *from, VGPU_EVENTS)
{
    bool alone = begin(queue, blocking);
    cl_int error = DRIVER(clEnqueueWriteBufferRect)(queue, memory, blocking, origin, host_origin, region, row, slice,
                                                    host_row, host_slice, from, event_count, events, event);
    end(alone);
    return error;
}

cl_int vgpu_clEnqueueReadImage(cl_queue queue, cl_mem image, cl_uint blocking, const size_t *origin,
                               const size_t *region, size_t row, size_t slice, void *to, VGPU_EVENTS)
{
    bool alone = begin(queue, blocking);
    cl_int error =
        DRIVER(clEnqueueReadImage)(queue, image, blocking, origin, region, row, slice, to, event_count, events, event);
    end(alone);
    return error;
}

cl_int vgpu_clEnqueueWriteImage(cl_queue queue, cl_mem image, cl_uint blocking, const size_t *origin,
                                const size_t *region, size_t row, size_t slice, const void *from, VGPU_EVENTS)
{
    bool alone = begin(queue, blocking);
    cl_int error = DRIVER(clEnqueueWriteImage)(queue, image, blocking, origin, region, row, slice, from, event_count,
                                               events, event);
    end(alone);
    return error;
}

void *vgpu_clEnqueueMapBuffer(cl_queue queue, cl_mem memory, cl_uint blocking, cl_bitfield flags, size_t offset,
                              size_t bytes, VGPU_EVENTS, cl_int *error)
{
    bool alone = begin(queue, blocking);
    void *place =
        DRIVER(clEnqueueMapBuffer)(queue, memory, blocking, flags, offset, bytes, event_count, events, event, error);
    end(alone);
    return place;
}

void *vgpu_clEnqueueMapImage(cl_queue queue, cl_mem image, cl_uint blocking, cl_bitfield flags, const size_t *origin,
                             const size_t *region, size_t *row, size_t *slice, VGPU_EVENTS, cl_int *error)
{
    bool alone = begin(queue, blocking);
    void *place = DRIVER(clEnqueueMapImage)(queue, image, blocking, flags, origin, region, row, slice, event_count,
                                            events, event, error);
    end(alone);
    return place;
}

static cl_int counted_memcpy(cl_queue queue, cl_uint blocking, void *to, const void *from, size_t bytes, VGPU_EVENTS)
{
    bool alone = begin(queue, blocking);
    cl_int error = driver_memcpy(queue, blocking, to, from, bytes, event_count, events, event);
    end(alone);
    return error;
}

void *vgpu_wait_extension(const char *name, void *real)
{
    if (!real || strcmp(name, "clEnqueueMemcpyINTEL"))
        return real;
    /* The static extension query may already hand out this file's function, through the rewritten table. */
    if (real != (void *)counted_memcpy)
        driver_memcpy = (clEnqueueMemcpyINTEL_t *)real;
    return (void *)counted_memcpy;
}
