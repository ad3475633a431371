/* Strings that grow. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu.h"

void *vgpu_allocate(size_t bytes)
{
    void *memory = calloc(1, bytes ? bytes : 1);
    if (!memory) {
        fprintf(stderr, "ov-moe virtual GPU: no memory for %zu bytes\n", bytes);
        abort();
    }
    return memory;
}

static void reserve(struct vgpu_text *text, size_t more)
{
    size_t needed = text->length + more + 1;
    if (needed <= text->capacity)
        return;
    size_t capacity = needed > 2 * text->capacity ? needed : 2 * text->capacity;
    char *data = vgpu_allocate(capacity);
    if (text->length)
        memcpy(data, text->data, text->length);
    free(text->data);
    text->data = data;
    text->capacity = capacity;
}

void vgpu_text_add(struct vgpu_text *text, const void *data, size_t length)
{
    reserve(text, length);
    if (length)
        memcpy(text->data + text->length, data, length);
    text->length += length;
    text->data[text->length] = 0;
}

void vgpu_text_addf(struct vgpu_text *text, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length > 0) {
        reserve(text, (size_t)length);
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
}
