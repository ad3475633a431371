/* What happened since the last reset, as JSON for the tests. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu.h"

#define EXPORTED __attribute__((visibility("default")))
EXPORTED char *ov_moe_vgpu_snapshot(void);
EXPORTED void ov_moe_vgpu_free(char *);
EXPORTED void ov_moe_vgpu_reset(void);

struct build {
    char *kernels; /* names joined by ';' */
    bool cached;
    double seconds;
};

struct vgpu_launch {
    struct vgpu_launch *next;
    uint64_t count, groups, last_groups;
    char name[];
};

struct memory {
    uint64_t count, bytes, live_bytes, peak_bytes;
};

enum { BUCKETS = 1024 };
static const char *const memory_names[VGPU_MEMORY_KINDS] = {"buffer", "usm_host", "usm_device", "usm_shared"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct build *builds;
static size_t build_count, build_capacity;
static struct vgpu_launch *launches[BUCKETS];
static struct memory memories[VGPU_MEMORY_KINDS];
static uint64_t waits;

void vgpu_count_build(const char *kernel_names, bool cached, double seconds)
{
    pthread_mutex_lock(&lock);
    if (build_count == build_capacity) {
        size_t capacity = build_capacity ? 2 * build_capacity : 64;
        struct build *more = vgpu_allocate(capacity * sizeof *more);
        if (build_count)
            memcpy(more, builds, build_count * sizeof *more);
        free(builds);
        builds = more;
        build_capacity = capacity;
    }
    builds[build_count++] = (struct build){strdup(kernel_names), cached, seconds};
    pthread_mutex_unlock(&lock);
}

/* Records stay for good: kernels hold pointers to them. */
struct vgpu_launch *vgpu_launch_named(const char *name)
{
    size_t length = strlen(name);
    size_t bucket = (size_t)vgpu_hash_bytes(0, name, length) % BUCKETS;
    pthread_mutex_lock(&lock);
    struct vgpu_launch *launch = launches[bucket];
    while (launch && strcmp(launch->name, name))
        launch = launch->next;
    if (!launch) {
        launch = vgpu_allocate(sizeof *launch + length + 1);
        memcpy(launch->name, name, length + 1);
        launch->next = launches[bucket];
        launches[bucket] = launch;
    }
    pthread_mutex_unlock(&lock);
    return launch;
}

void vgpu_count_launch(struct vgpu_launch *launch, uint64_t groups)
{
    pthread_mutex_lock(&lock);
    launch->count++;
    launch->groups += groups;
    launch->last_groups = groups;
    pthread_mutex_unlock(&lock);
}

void vgpu_count_allocation(enum vgpu_memory_kind kind, size_t bytes)
{
    pthread_mutex_lock(&lock);
    struct memory *memory = &memories[kind];
    memory->count++;
    memory->bytes += bytes;
    memory->live_bytes += bytes;
    if (memory->live_bytes > memory->peak_bytes)
        memory->peak_bytes = memory->live_bytes;
    pthread_mutex_unlock(&lock);
}

void vgpu_count_free(enum vgpu_memory_kind kind, size_t bytes)
{
    pthread_mutex_lock(&lock);
    memories[kind].live_bytes -= bytes;
    pthread_mutex_unlock(&lock);
}

void vgpu_count_wait(void)
{
    pthread_mutex_lock(&lock);
    waits++;
    pthread_mutex_unlock(&lock);
}

/* Kernel names are C identifiers: nothing in them needs escaping. */
char *ov_moe_vgpu_snapshot(void)
{
    struct vgpu_text out = {0};
    const char *comma = "";
    pthread_mutex_lock(&lock);
    vgpu_text_addf(&out, "{\"builds\":[");
    for (size_t i = 0; i < build_count; i++)
        vgpu_text_addf(&out, "%s{\"kernels\":\"%s\",\"cached\":%s,\"microseconds\":%llu}", i ? "," : "",
                       builds[i].kernels, builds[i].cached ? "true" : "false",
                       (unsigned long long)(builds[i].seconds * 1e6));
    vgpu_text_addf(&out, "],\"launches\":{");
    for (size_t bucket = 0; bucket < BUCKETS; bucket++)
        for (const struct vgpu_launch *launch = launches[bucket]; launch; launch = launch->next)
            if (launch->count) {
                vgpu_text_addf(&out, "%s\"%s\":{\"count\":%llu,\"groups\":%llu,\"last_groups\":%llu}", comma,
                               launch->name, (unsigned long long)launch->count, (unsigned long long)launch->groups,
                               (unsigned long long)launch->last_groups);
                comma = ",";
            }
    vgpu_text_addf(&out, "},\"allocations\":{");
    for (int kind = 0; kind < VGPU_MEMORY_KINDS; kind++)
        vgpu_text_addf(&out, "%s\"%s\":{\"count\":%llu,\"bytes\":%llu,\"live_bytes\":%llu,\"peak_bytes\":%llu}",
                       kind ? "," : "", memory_names[kind], (unsigned long long)memories[kind].count,
                       (unsigned long long)memories[kind].bytes, (unsigned long long)memories[kind].live_bytes,
                       (unsigned long long)memories[kind].peak_bytes);
    vgpu_text_addf(&out, "},\"blocking_waits\":%llu}", (unsigned long long)waits);
    pthread_mutex_unlock(&lock);
    return out.data;
}

void ov_moe_vgpu_free(char *snapshot)
{
    free(snapshot);
}

/* Live bytes are a state, not an event: they stay, and the peak starts again from them. */
void ov_moe_vgpu_reset(void)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < build_count; i++)
        free(builds[i].kernels);
    build_count = 0;
    for (size_t bucket = 0; bucket < BUCKETS; bucket++)
        for (struct vgpu_launch *launch = launches[bucket]; launch; launch = launch->next)
            launch->count = launch->groups = launch->last_groups = 0;
    for (int kind = 0; kind < VGPU_MEMORY_KINDS; kind++)
        memories[kind] =
            (struct memory){.live_bytes = memories[kind].live_bytes, .peak_bytes = memories[kind].live_bytes};
    waits = 0;
    pthread_mutex_unlock(&lock);
}
