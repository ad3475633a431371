/* What the device says of itself: an integrated Intel GPU of the Xe-LP generation, without matrix engines. */
#include <string.h>

#include "vgpu.h"

enum {
    CL_PLATFORM_NAME = 0x0902,
    CL_DEVICE_TYPE = 0x1000,
    CL_DEVICE_VENDOR_ID = 0x1001,
    CL_DEVICE_MAX_MEM_ALLOC_SIZE = 0x1010,
    CL_DEVICE_NAME = 0x102B,
    CL_DEVICE_SUB_GROUP_SIZES_INTEL = 0x4108,
    CL_DEVICE_IP_VERSION_INTEL = 0x4250,
    CL_DEVICE_ID_INTEL = 0x4251,
    CL_DEVICE_NUM_SLICES_INTEL = 0x4252,
    CL_DEVICE_NUM_SUB_SLICES_PER_SLICE_INTEL = 0x4253,
    CL_DEVICE_NUM_EUS_PER_SUB_SLICE_INTEL = 0x4254,
    CL_DEVICE_NUM_THREADS_PER_EU_INTEL = 0x4255,
    CL_DEVICE_FEATURE_CAPABILITIES_INTEL = 0x4256,
    DEVICE_TYPE_DEFAULT = 1 << 0,
    DEVICE_TYPE_GPU = 1 << 2,
    FEATURE_DP4A = 1 << 0,
};
static const cl_bitfield device_type_all = 0xFFFFFFFF;

cl_int vgpu_answer(const void *answer, size_t bytes, size_t size, void *value, size_t *size_ret)
{
    if (size_ret)
        *size_ret = bytes;
    if (!value)
        return CL_SUCCESS;
    if (size < bytes)
        return CL_INVALID_VALUE;
    memcpy(value, answer, bytes);
    return CL_SUCCESS;
}

static cl_int answer_uint(cl_uint number, size_t size, void *value, size_t *size_ret)
{
    return vgpu_answer(&number, sizeof number, size, value, size_ret);
}

static cl_int answer_bits(cl_bitfield bits, size_t size, void *value, size_t *size_ret)
{
    return vgpu_answer(&bits, sizeof bits, size, value, size_ret);
}

cl_int vgpu_clGetPlatformInfo(cl_platform_id platform, VGPU_ANSWER)
{
    /* The plugin looks for this name. */
    static const char name[] = "Intel(R) OpenCL Graphics";
    if (parameter == CL_PLATFORM_NAME && vgpu_ours(platform))
        return vgpu_answer(name, sizeof name, size, value, size_ret);
    return DRIVER(clGetPlatformInfo)(platform, parameter, size, value, size_ret);
}

cl_int vgpu_clGetDeviceIDs(cl_platform_id platform, cl_bitfield type, cl_uint count, cl_device_id *devices,
                           cl_uint *found)
{
    if (!vgpu_ours(platform))
        return DRIVER(clGetDeviceIDs)(platform, type, count, devices, found);
    if (!(type & (DEVICE_TYPE_GPU | DEVICE_TYPE_DEFAULT))) {
        if (found)
            *found = 0;
        return CL_DEVICE_NOT_FOUND;
    }
    return DRIVER(clGetDeviceIDs)(platform, device_type_all, count, devices, found);
}

cl_int vgpu_clGetDeviceInfo(cl_device_id device, VGPU_ANSWER)
{
    static const char name[] = "ov-moe virtual GPU (Intel OpenCL CPU runtime)";
    static const size_t sub_group_sizes[] = {8, 16, 32};
    if (!vgpu_ours(device))
        return DRIVER(clGetDeviceInfo)(device, parameter, size, value, size_ret);
    switch (parameter) {
    case CL_DEVICE_TYPE:
        return answer_bits(DEVICE_TYPE_GPU, size, value, size_ret);
    case CL_DEVICE_VENDOR_ID:
        return answer_uint(0x8086, size, value, size_ret);
    case CL_DEVICE_NAME:
        return vgpu_answer(name, sizeof name, size, value, size_ret);
    case CL_DEVICE_SUB_GROUP_SIZES_INTEL:
        return vgpu_answer(sub_group_sizes, sizeof sub_group_sizes, size, value, size_ret);
    case CL_DEVICE_IP_VERSION_INTEL: /* 12.0.0: Xe-LP */
        return answer_uint(12u << 22, size, value, size_ret);
    case CL_DEVICE_ID_INTEL:
        return answer_uint(0x9A49, size, value, size_ret);
    case CL_DEVICE_NUM_SLICES_INTEL:
        return answer_uint(1, size, value, size_ret);
    case CL_DEVICE_NUM_SUB_SLICES_PER_SLICE_INTEL:
        return answer_uint(6, size, value, size_ret);
    case CL_DEVICE_NUM_EUS_PER_SUB_SLICE_INTEL:
        return answer_uint(16, size, value, size_ret);
    case CL_DEVICE_NUM_THREADS_PER_EU_INTEL:
        return answer_uint(7, size, value, size_ret);
    case CL_DEVICE_FEATURE_CAPABILITIES_INTEL: /* with matrix engines the plugin would emit Gen code */
        return answer_bits(FEATURE_DP4A, size, value, size_ret);
    case CL_DEVICE_MAX_MEM_ALLOC_SIZE: {
        cl_ulong bytes = 0;
        cl_int error = DRIVER(clGetDeviceInfo)(device, parameter, sizeof bytes, &bytes, NULL);
        return error ? error : answer_bits(bytes - VGPU_PADDING, size, value, size_ret);
    }
    default:
        return DRIVER(clGetDeviceInfo)(device, parameter, size, value, size_ret);
    }
}
