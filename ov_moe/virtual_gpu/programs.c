/* Programs: their sources fixed, their binaries cached, their builds counted.
 *
 * Every program keeps one reference of ours for good: the runtime refuses clRetainProgram on a program that its user
 * has released, though kernels of it live, and the plugin does just that.
 *
 * A cached binary makes another program, the stand-in, behind the handle that the user knows. Programs of one binary
 * share one stand-in: a process that compiles many models would else hold 100 MB of machine code for each. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vgpu.h"

struct program {
    cl_program stand_in;
    bool from_source, keep_optimised;
    vgpu_hash sources;
    struct vgpu_part *swapped; /* the parts of the source whose dimensions change places */
    char *axes;                /* after a build: "kernel axis\n" for each kernel of those parts */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct vgpu_map programs;
static struct vgpu_map stand_ins; /* by what stand_in_key makes of context and binary */

static struct program *find(cl_program handle)
{
    pthread_mutex_lock(&lock);
    struct program *program = vgpu_map_get(&programs, handle);
    pthread_mutex_unlock(&lock);
    return program;
}

static void remember(cl_program handle, struct program *program)
{
    DRIVER(clRetainProgram)(handle);
    pthread_mutex_lock(&lock);
    vgpu_map_put(&programs, handle, program);
    pthread_mutex_unlock(&lock);
}

static cl_program actual(cl_program handle)
{
    const struct program *program = find(handle);
    return program && program->stand_in ? program->stand_in : handle;
}

/* ---- creation ---- */

/* The plugin writes a custom layer's name into a comment; without it equal layers of a model are one program, built
   once and then loaded. */
static void drop_layer_name(char *source)
{
    char *comment = strstr(source, "// Layer ");
    if (comment && strstr(comment, " using Custom Layer "))
        memset(comment, ' ', strcspn(comment, "\n"));
}

cl_program vgpu_clCreateProgramWithSource(cl_context context, cl_uint count, const char **strings,
                                          const size_t *lengths, cl_int *error)
{
    struct vgpu_text whole = {0}, fixed = {0};
    for (cl_uint i = 0; i < count && strings; i++)
        if (strings[i])
            vgpu_text_add(&whole, strings[i], lengths && lengths[i] ? lengths[i] : strlen(strings[i]));
    if (!whole.length || !vgpu_ours(context)) { /* the driver knows the right error */
        free(whole.data);
        return DRIVER(clCreateProgramWithSource)(context, count, strings, lengths, error);
    }
    struct program *program = vgpu_allocate(sizeof *program);
    program->from_source = true;
    program->keep_optimised = strstr(whole.data, "ov_moe_") != NULL;
    drop_layer_name(whole.data);
    vgpu_fix_source(&program->swapped, &fixed, whole.data);
    program->sources = vgpu_hash_bytes(0, fixed.data, fixed.length);
    const char *text = fixed.data;
    cl_program handle = DRIVER(clCreateProgramWithSource)(context, 1, &text, &fixed.length, error);
    if (handle)
        remember(handle, program);
    else
        free(program);
    free(whole.data);
    free(fixed.data);
    return handle;
}

/* Binaries handed out carry the axes behind the runtime's own bytes, for the process that loads them again. */
struct trailer {
    uint64_t axes_bytes;
    char magic[8];
};
static const char trailer_magic[8] = "OVMAXES";

cl_program vgpu_clCreateProgramWithBinary(cl_context context, cl_uint count, const cl_device_id *devices,
                                          const size_t *lengths, const unsigned char **binaries, cl_int *status,
                                          cl_int *error)
{
    if (!vgpu_ours(context))
        return DRIVER(clCreateProgramWithBinary)(context, count, devices, lengths, binaries, status, error);
    struct program *program = vgpu_allocate(sizeof *program);
    struct trailer trailer;
    size_t length = count == 1 && lengths && binaries && binaries[0] ? lengths[0] : 0;
    if (length > sizeof trailer) {
        memcpy(&trailer, binaries[0] + length - sizeof trailer, sizeof trailer);
        size_t rest = length - sizeof trailer;
        if (!memcmp(trailer.magic, trailer_magic, sizeof trailer_magic) && trailer.axes_bytes < rest) {
            length = rest - trailer.axes_bytes;
            program->axes = strndup((const char *)binaries[0] + length, trailer.axes_bytes);
        }
    }
    cl_program handle =
        DRIVER(clCreateProgramWithBinary)(context, count, devices, length ? &length : lengths, binaries, status, error);
    if (handle)
        remember(handle, program);
    else
        free(program);
    return handle;
}

/* ---- building ---- */

static char *kernel_names(cl_program handle)
{
    size_t bytes = 0;
    DRIVER(clGetProgramInfo)(handle, CL_PROGRAM_KERNEL_NAMES, 0, NULL, &bytes);
    char *names = vgpu_allocate(bytes + 1);
    DRIVER(clGetProgramInfo)(handle, CL_PROGRAM_KERNEL_NAMES, bytes, names, NULL);
    return names;
}

static int axis_of(cl_program handle, const char *name)
{
    const struct program *program = find(handle);
    return program ? vgpu_axis_of(program->axes, name) : 0;
}

static bool only_device(cl_program handle, cl_device_id *device)
{
    cl_uint count = 0;
    return !DRIVER(clGetProgramInfo)(handle, CL_PROGRAM_NUM_DEVICES, sizeof count, &count, NULL) && count == 1 &&
           !DRIVER(clGetProgramInfo)(handle, CL_PROGRAM_DEVICES, sizeof *device, device, NULL);
}

static const void *stand_in_key(cl_context context, vgpu_hash key)
{
    return (const void *)(uintptr_t)vgpu_hash_bytes(key, &context, sizeof context);
}

/* The stand-in of an earlier build, with what is known of it in *behind; null where there is none. */
static cl_program known_stand_in(cl_context context, vgpu_hash key, struct program **behind)
{
    pthread_mutex_lock(&lock);
    cl_program stand_in = vgpu_map_get(&stand_ins, stand_in_key(context, key));
    *behind = stand_in ? vgpu_map_get(&programs, stand_in) : NULL;
    pthread_mutex_unlock(&lock);
    return stand_in;
}

static bool build_from_cache(cl_program handle, struct program *program, cl_device_id device, vgpu_hash key)
{
    struct vgpu_text axes = {0}, binary = {0};
    cl_context context = NULL;
    cl_program stand_in = NULL;
    cl_int status = 0, error = 0;
    struct program *behind = NULL;
    if (DRIVER(clGetProgramInfo)(handle, CL_PROGRAM_CONTEXT, sizeof context, &context, NULL))
        return false;
    stand_in = known_stand_in(context, key, &behind);
    if (stand_in) {
        program->axes = behind->axes;
        program->stand_in = stand_in;
        return true;
    }
    if (vgpu_cache_load(key, &axes, &binary)) {
        const unsigned char *bytes = (const unsigned char *)binary.data;
        stand_in = DRIVER(clCreateProgramWithBinary)(context, 1, &device, &binary.length, &bytes, &status, &error);
        if (stand_in && DRIVER(clBuildProgram)(stand_in, 1, &device, NULL, NULL, NULL)) {
            DRIVER(clReleaseProgram)(stand_in);
            stand_in = NULL;
        }
    }
    free(binary.data);
    if (!stand_in) {
        free(axes.data);
        return false;
    }
    /* A kernel tells its program, the stand-in, and may be created again from it. */
    behind = vgpu_allocate(sizeof *behind);
    behind->axes = axes.data;
    remember(stand_in, behind);
    pthread_mutex_lock(&lock);
    vgpu_map_put(&stand_ins, stand_in_key(context, key), stand_in);
    pthread_mutex_unlock(&lock);
    program->axes = axes.data;
    program->stand_in = stand_in;
    return true;
}

static void store(cl_program handle, const struct vgpu_text *axes, vgpu_hash key)
{
    size_t bytes = 0;
    if (DRIVER(clGetProgramInfo)(handle, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) || !bytes)
        return;
    struct vgpu_text binary = {.data = vgpu_allocate(bytes + 1), .length = bytes, .capacity = bytes + 1};
    if (!DRIVER(clGetProgramInfo)(handle, CL_PROGRAM_BINARIES, sizeof binary.data, &binary.data, NULL))
        vgpu_cache_store(key, axes, &binary);
    free(binary.data);
}

/* The plugin's own kernels are many and each runs briefly here: building them costs far more than running them. */
static bool fast_build(const struct program *program)
{
    return program->from_source && !program->keep_optimised && vgpu_settings.fast_build;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The plugin (2026.4.1) builds kernels for single shapes in the background and fails with some of them, unfused
 * models too: the weights of an int4 fully connected layer with 8 outputs cannot be reordered for the kernel. A
 * name without "__sa" (shape agnostic) is such a kernel; held back, it comes too late to be used. */
static void hold_back(const char *names)
{
    if (strstr(names, "fully_connected_gpu") && !strstr(names, "__sa"))
        sleep(vgpu_settings.hold_seconds);
}

/* An option that the runtime for CPUs does not know, and does not need: its addresses have 64 bits. */
static void drop_large_buffers(struct vgpu_text *flags)
{
    static const char option[] = "-cl-intel-greater-than-4GB-buffer-required";
    char *found = flags->data ? strstr(flags->data, option) : NULL;
    if (found)
        memset(found, ' ', sizeof option - 1);
}

cl_int vgpu_clBuildProgram(cl_program handle, cl_uint count, const cl_device_id *devices, const char *options,
                           vgpu_program_callback *notify, void *user)
{
    if (!vgpu_ours(handle))
        return DRIVER(clBuildProgram)(handle, count, devices, options, notify, user);
    double start = now();
    struct program *program = find(handle), unknown = {0};
    struct vgpu_text flags = {0}, axes = {0};
    cl_device_id device = NULL;
    cl_int error = CL_SUCCESS;
    if (!program)
        program = &unknown;
    vgpu_text_addf(&flags, "%s%s", options ? options : "", fast_build(program) ? " -cl-opt-disable" : "");
    drop_large_buffers(&flags);
    bool cacheable = program->from_source && vgpu_cache_enabled() && only_device(handle, &device);
    vgpu_hash key = 0;
    if (cacheable) {
        key = vgpu_hash_environment(device);
        key = vgpu_hash_bytes(key, &program->sources, sizeof program->sources);
        key = vgpu_hash_bytes(key, flags.data, flags.length);
    }
    program->stand_in = NULL;
    bool cached = cacheable && build_from_cache(handle, program, device, key);
    if (!cached)
        error = DRIVER(clBuildProgram)(handle, count, devices, flags.data, NULL, NULL);
    if (!error) {
        char *names = kernel_names(actual(handle));
        if (!cached && program->from_source) {
            vgpu_find_axes(program->swapped, names, &axes);
            program->axes = axes.data;
            if (cacheable)
                store(handle, &axes, key);
        }
        vgpu_count_build(names, cached, now() - start);
        hold_back(names);
        free(names);
    }
    free(flags.data);
    if (notify)
        notify(handle, user);
    return error;
}

/* ---- questions ---- */

static cl_int binary_sizes(cl_program handle, const struct program *program, size_t size, void *value, size_t *size_ret)
{
    size_t bytes = 0;
    cl_int error = DRIVER(clGetProgramInfo)(actual(handle), CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL);
    if (error)
        return error;
    bytes += strlen(program->axes) + sizeof(struct trailer);
    return vgpu_answer(&bytes, sizeof bytes, size, value, size_ret);
}

static cl_int binaries(cl_program handle, const struct program *program, size_t size, void *value, size_t *size_ret)
{
    size_t bytes = 0;
    struct trailer trailer = {.axes_bytes = strlen(program->axes)};
    memcpy(trailer.magic, trailer_magic, sizeof trailer_magic);
    cl_int error = DRIVER(clGetProgramInfo)(actual(handle), CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL);
    if (!error)
        error = DRIVER(clGetProgramInfo)(actual(handle), CL_PROGRAM_BINARIES, size, value, size_ret);
    char *place = !error && value ? *(char **)value : NULL;
    if (place) {
        memcpy(place + bytes, program->axes, trailer.axes_bytes);
        memcpy(place + bytes + trailer.axes_bytes, &trailer, sizeof trailer);
    }
    return error;
}

cl_int vgpu_clGetProgramInfo(cl_program handle, VGPU_ANSWER)
{
    const struct program *program = find(handle);
    cl_device_id device;
    bool trailing = program && program->axes && *program->axes && only_device(handle, &device);
    switch (parameter) {
    case CL_PROGRAM_BINARY_SIZES:
        if (trailing)
            return binary_sizes(handle, program, size, value, size_ret);
        break;
    case CL_PROGRAM_BINARIES:
        if (trailing)
            return binaries(handle, program, size, value, size_ret);
        break;
    case CL_PROGRAM_NUM_KERNELS:
    case CL_PROGRAM_KERNEL_NAMES:
        break;
    default:
        return DRIVER(clGetProgramInfo)(handle, parameter, size, value, size_ret);
    }
    return DRIVER(clGetProgramInfo)(actual(handle), parameter, size, value, size_ret);
}

cl_int vgpu_clGetProgramBuildInfo(cl_program handle, cl_device_id device, VGPU_ANSWER)
{
    return DRIVER(clGetProgramBuildInfo)(actual(handle), device, parameter, size, value, size_ret);
}

/* ---- kernels ---- */

cl_kernel vgpu_clCreateKernel(cl_program handle, const char *name, cl_int *error)
{
    cl_kernel kernel = DRIVER(clCreateKernel)(actual(handle), name, error);
    if (kernel && vgpu_ours(kernel))
        vgpu_kernel_created(kernel, axis_of(handle, name));
    return kernel;
}

cl_int vgpu_clCreateKernelsInProgram(cl_program handle, cl_uint count, cl_kernel *kernels, cl_uint *created)
{
    cl_uint total = 0;
    cl_int error = DRIVER(clCreateKernelsInProgram)(actual(handle), count, kernels, &total);
    if (created)
        *created = total;
    for (cl_uint i = 0; !error && kernels && vgpu_ours(handle) && i < count && i < total; i++) {
        size_t bytes = 0;
        DRIVER(clGetKernelInfo)(kernels[i], CL_KERNEL_FUNCTION_NAME, 0, NULL, &bytes);
        char *name = vgpu_allocate(bytes + 1);
        DRIVER(clGetKernelInfo)(kernels[i], CL_KERNEL_FUNCTION_NAME, bytes, name, NULL);
        vgpu_kernel_created(kernels[i], axis_of(handle, name));
        free(name);
    }
    return error;
}
