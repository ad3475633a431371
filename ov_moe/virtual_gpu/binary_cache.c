/* Built programs on disk: one file for each key, in a folder whose name the settings hold; empty means no cache.
 *
 * A file that cannot be read in full, or whose checksum is wrong, counts as missing and is written again. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vgpu.h"

/* Part of every key: a hash of these sources, which decide how programs are changed and how files are laid out. */
#ifndef OV_MOE_VGPU_VERSION
#define OV_MOE_VGPU_VERSION ""
#endif

struct header {
    char magic[8];
    uint64_t axes_bytes, binary_bytes;
    vgpu_hash checksum;
};
static const char magic[8] = "OVMVGPU";

extern char **environ;

/* FNV-1a of 128 bits. */
vgpu_hash vgpu_hash_bytes(vgpu_hash hash, const void *data, size_t bytes)
{
    static const vgpu_hash prime = ((vgpu_hash)1 << 88) + 0x13B;
    const unsigned char *at = data;
    if (!hash)
        hash = ((vgpu_hash)0x6C62272E07BB0142u << 64) + 0x62B821756295C58Du;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ at[i]) * prime;
    return hash;
}

static vgpu_hash hash_string(vgpu_hash hash, const char *string)
{
    return vgpu_hash_bytes(hash, string, strlen(string) + 1);
}

vgpu_hash vgpu_hash_environment(cl_device_id device)
{
    enum { CL_DEVICE_NAME = 0x102B, CL_DRIVER_VERSION = 0x102D };
    char answer[1024] = "";
    vgpu_hash hash = hash_string(0, OV_MOE_VGPU_VERSION);
    struct stat file;
    if (!stat(vgpu_settings.runtime, &file)) {
        hash = hash_string(hash, vgpu_settings.runtime);
        hash = vgpu_hash_bytes(hash, &file.st_size, sizeof file.st_size);
        hash = vgpu_hash_bytes(hash, &file.st_mtim, sizeof file.st_mtim);
    }
    /* Binaries hold machine code for this processor. */
    DRIVER(clGetDeviceInfo)(device, CL_DEVICE_NAME, sizeof answer - 1, answer, NULL);
    hash = hash_string(hash, answer);
    DRIVER(clGetDeviceInfo)(device, CL_DRIVER_VERSION, sizeof answer - 1, answer, NULL);
    hash = hash_string(hash, answer);
    unsigned a = 0, b = 0, c = 0, d = 0;
    __get_cpuid_count(7, 0, &a, &b, &c, &d);
    unsigned features[] = {b, c, d};
    hash = vgpu_hash_bytes(hash, features, sizeof features);
    /* The runtime's own switches change what it builds. */
    for (char **variable = environ; variable && *variable; variable++)
        if (!strncmp(*variable, "CL_CONFIG_", 10))
            hash = hash_string(hash, *variable);
    return hash;
}

bool vgpu_cache_enabled(void)
{
    return *vgpu_settings.programs != 0;
}

static void path_of(vgpu_hash key, struct vgpu_text *path)
{
    vgpu_text_addf(path, "%s/%016llx%016llx.bin", vgpu_settings.programs, (unsigned long long)(key >> 64),
                   (unsigned long long)key);
}

static vgpu_hash checksum(const struct vgpu_text *axes, const struct vgpu_text *binary)
{
    return vgpu_hash_bytes(vgpu_hash_bytes(0, axes->data, axes->length), binary->data, binary->length);
}

static bool read_text(FILE *file, size_t bytes, struct vgpu_text *text)
{
    char block[65536];
    while (bytes) {
        size_t got = fread(block, 1, bytes < sizeof block ? bytes : sizeof block, file);
        if (!got)
            return false;
        vgpu_text_add(text, block, got);
        bytes -= got;
    }
    vgpu_text_add(text, "", 0);
    return true;
}

/* A binary is code that runs as this user: whoever starts the virtual GPU has seen to it that nobody else can put
 * files into the folder, and nobody else may change one that lies there. */
static bool trusted(FILE *file)
{
    struct stat about;
    return !fstat(fileno(file), &about) && S_ISREG(about.st_mode) && !(about.st_mode & (S_IWGRP | S_IWOTH)) &&
           (about.st_uid == 0 || about.st_uid == geteuid());
}

bool vgpu_cache_load(vgpu_hash key, struct vgpu_text *axes, struct vgpu_text *binary)
{
    struct vgpu_text path = {0};
    struct header header;
    path_of(key, &path);
    FILE *file = fopen(path.data, "rb");
    free(path.data);
    if (!file)
        return false;
    bool good = trusted(file) && fread(&header, sizeof header, 1, file) == 1 &&
                !memcmp(header.magic, magic, sizeof magic) && read_text(file, header.axes_bytes, axes) &&
                read_text(file, header.binary_bytes, binary) && fgetc(file) == EOF &&
                checksum(axes, binary) == header.checksum;
    fclose(file);
    return good;
}

/* Written beside its place and renamed into it: readers see the whole file or none. Failure only costs the next
 * process a build. The lock ends with the process: a file that one left behind is removed when the next one starts,
 * which may take the lock first; where files cannot be locked none is removed. */
void vgpu_cache_store(vgpu_hash key, const struct vgpu_text *axes, const struct vgpu_text *binary)
{
    struct vgpu_text path = {0}, temporary = {0};
    struct header header = {.axes_bytes = axes->length, .binary_bytes = binary->length};
    memcpy(header.magic, magic, sizeof magic);
    header.checksum = checksum(axes, binary);
    path_of(key, &path);
    vgpu_text_addf(&temporary, "%s.XXXXXX", path.data);
    int descriptor = mkstemp(temporary.data);
    bool swept = descriptor >= 0 && flock(descriptor, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
    FILE *file = descriptor >= 0 ? fdopen(descriptor, "wb") : NULL;
    if (file) {
        /* mkstemp's files are for their owner alone; the folder decides who reads. */
        bool good = !swept && !fchmod(descriptor, 0644) && fwrite(&header, sizeof header, 1, file) == 1 &&
                    fwrite(axes->data, 1, axes->length, file) == axes->length &&
                    fwrite(binary->data, 1, binary->length, file) == binary->length;
        good = fclose(file) == 0 && good;
        if (!good || rename(temporary.data, path.data))
            unlink(temporary.data);
    }
    free(path.data);
    free(temporary.data);
}
