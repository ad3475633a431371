/* A table from pointers to pointers: open addressing, doubled when two thirds full. A removed key keeps its slot
 * with a null value, and goes at the next doubling. */
#include <stdlib.h>

#include "vgpu.h"

static size_t place(const struct vgpu_map *map, const void *key)
{
    uint64_t hash = (uint64_t)(uintptr_t)key * 0x9E3779B97F4A7C15u;
    size_t at = (size_t)(hash >> 20) & (map->capacity - 1);
    while (map->slots[at].key && map->slots[at].key != key)
        at = (at + 1) & (map->capacity - 1);
    return at;
}

static void grow(struct vgpu_map *map)
{
    struct vgpu_map old = *map;
    map->capacity = old.capacity ? old.capacity * 2 : 256;
    map->slots = vgpu_allocate(map->capacity * sizeof *map->slots);
    map->used = 0;
    for (size_t i = 0; i < old.capacity; i++)
        if (old.slots[i].key && old.slots[i].value) {
            map->slots[place(map, old.slots[i].key)] = old.slots[i];
            map->used++;
        }
    free(old.slots);
}

void *vgpu_map_get(const struct vgpu_map *map, const void *key)
{
    return map->capacity ? map->slots[place(map, key)].value : NULL;
}

void *vgpu_map_put(struct vgpu_map *map, const void *key, void *value)
{
    if (map->used * 3 >= map->capacity * 2)
        grow(map);
    struct vgpu_slot *slot = &map->slots[place(map, key)];
    void *before = slot->value;
    if (!slot->key)
        map->used++;
    slot->key = key;
    slot->value = value;
    return before;
}
