/* Changes to kernel sources, where the CPU runtime and an Intel GPU differ.
 *
 * 1. native_ functions: an Intel GPU computes them to a few units in the last place, the runtime to 2e-4 (exp),
 *    3e-4 (recip, rsqrt). native_powr of a negative base is NaN by the specification, and the power of the magnitude
 *    on Intel GPUs.
 * 2. Sub-groups: the CPU runtime forms them along dimension 0 only, an Intel GPU from the linear local id. A kernel
 *    with reqd_work_group_size(1, 1, N) would get sub-groups of one work-item. Such a kernel has dimensions 0 and 2
 *    (or 1) exchanged: here in its source by macros, and by launches.c in its launches.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu.h"

static const char prefix[] = "#define native_powr(x, y) powr(fabs(x), y)\n"
                             "#define native_recip(x) (1 / (x))\n"
                             "#define native_divide(x, y) ((x) / (y))\n"
                             "#define native_exp(x) exp(x)\n"
                             "#define native_exp10(x) exp10(x)\n"
                             "#define native_rsqrt(x) rsqrt(x)\n"
                             "#define native_sin(x) sin(x)\n"
                             "#define native_cos(x) cos(x)\n"
                             "#define native_tan(x) tan(x)\n"
                             "#line 1\n";

static const char *const id_functions[] = {
    "get_global_id",  "get_local_id",   "get_group_id",      "get_global_size",
    "get_local_size", "get_num_groups", "get_global_offset", "get_enqueued_local_size",
};
static const size_t id_function_count = sizeof id_functions / sizeof *id_functions;

static bool in_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static const char *find_word(const char *text, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at += length)
        if ((at == text || !in_word(at[-1])) && !in_word(at[length]))
            return at;
    return NULL;
}

static const char *skip_blanks(const char *at)
{
    while (isspace((unsigned char)*at))
        at++;
    return at;
}

/* Does the token at `at` stand for 1, directly or by one `#define`? Other text counts as no. */
static bool is_one(const char *source, const char *at, const char **end)
{
    char token[128];
    size_t length = 0;
    at = skip_blanks(at);
    while (in_word(at[length]) && length < sizeof token - 1) {
        token[length] = at[length];
        length++;
    }
    token[length] = 0;
    *end = at + strcspn(at, ",)");
    if (!strcmp(token, "1"))
        return skip_blanks(at + length) == *end;
    if (!length || isdigit((unsigned char)*token) || skip_blanks(at + length) != *end)
        return false;
    const char *value = NULL;
    for (const char *use = source; (use = find_word(use, token)); use += length) {
        const char *before = use;
        while (before > source && (before[-1] == ' ' || before[-1] == '\t'))
            before--;
        if (before - source >= 7 && !strncmp(before - 7, "#define", 7))
            value = skip_blanks(use + length);
    }
    if (!value)
        return false;
    bool parenthesised = *value == '(';
    value = skip_blanks(value + parenthesised);
    return value[0] == '1' && !in_word(value[1]);
}

/* The dimension along which the work-group of the kernel in `source` starts to be longer than 1. */
static int long_axis(const char *source)
{
    static const char attribute[] = "reqd_work_group_size";
    for (const char *at = source; (at = find_word(at, attribute));) {
        at = skip_blanks(at + sizeof attribute - 1);
        if (*at != '(')
            continue;
        const char *comma;
        if (!is_one(source, at + 1, &comma) || *comma != ',')
            continue;
        if (!is_one(source, comma + 1, &comma))
            return *comma == ',' ? 1 : 0;
        if (*comma == ',' && !is_one(source, comma + 1, &comma))
            return 2;
    }
    return 0;
}

/* Append `source`, written for its own order of dimensions, so that dimension 0 and `axis` have changed places. */
static void add_swapped(struct vgpu_text *out, const char *source, int axis)
{
    vgpu_text_addf(out, "\n");
    for (size_t i = 0; i < id_function_count; i++)
        vgpu_text_addf(out, "#define %s(d) %s((d) == 0 ? %d : (d) == %d ? 0 : (d))\n", id_functions[i], id_functions[i],
                       axis, axis);
    vgpu_text_addf(out, "#define get_global_linear_id() (((get_global_id(2) - get_global_offset(2)) * "
                        "get_global_size(1) + get_global_id(1) - get_global_offset(1)) * get_global_size(0) + "
                        "get_global_id(0) - get_global_offset(0))\n");
    vgpu_text_addf(out, "#define get_local_linear_id() ((get_local_id(2) * get_local_size(1) + get_local_id(1)) * "
                        "get_local_size(0) + get_local_id(0))\n");
    vgpu_text_addf(out, "#define reqd_work_group_size(x, y, z) reqd_work_group_size(%s)\n#line 1\n",
                   axis == 2 ? "z, y, x" : "y, x, z");
    vgpu_text_add(out, source, strlen(source));
    vgpu_text_addf(out, "\n");
    for (size_t i = 0; i < id_function_count; i++)
        vgpu_text_addf(out, "#undef %s\n", id_functions[i]);
    vgpu_text_addf(out, "#undef get_global_linear_id\n#undef get_local_linear_id\n#undef reqd_work_group_size\n");
}

/* The plugin batches kernels into one source; each kernel's part starts with this line, and a comment with the
 * kernel's name before it. Whatever comes before the first, or a source without the line, is one part. */
static const char part_start[] = "\n#define KERNEL(name)";

static const char *next_part(const char *text)
{
    const char *start = strstr(text + 1, part_start);
    while (start) {
        const char *line = start;
        while (line > text + 1 && line[-1] != '\n')
            line--;
        if (line <= text + 1 || strncmp(line, "//", 2))
            break;
        start = line - 1;
    }
    return start;
}

static void add_part(struct vgpu_part **swapped, struct vgpu_text *out, const char *text, size_t length)
{
    char *part = strndup(text, length);
    int axis = long_axis(part);
    if (!axis) {
        vgpu_text_add(out, part, length);
        free(part);
        return;
    }
    struct vgpu_part *kept = vgpu_allocate(sizeof *kept);
    *kept = (struct vgpu_part){*swapped, axis, part};
    *swapped = kept;
    add_swapped(out, part, axis);
}

void vgpu_fix_source(struct vgpu_part **swapped, struct vgpu_text *out, const char *text)
{
    vgpu_text_add(out, prefix, strlen(prefix));
    while (text) {
        const char *next = next_part(text);
        add_part(swapped, out, text, next ? (size_t)(next - text) : strlen(text));
        text = next;
    }
}

/* Does `source` hold the kernel `name`? A part ends with a comment that names the next part's kernel. */
static bool defines(const char *source, const char *name)
{
    static const char type[] = "void";
    size_t length = strlen(name);
    for (const char *at = source; (at = find_word(at, type));) {
        at = skip_blanks(at + sizeof type - 1);
        if (!strncmp(at, name, length) && !in_word(at[length]))
            return true;
    }
    return false;
}

void vgpu_find_axes(const struct vgpu_part *swapped, const char *names, struct vgpu_text *axes)
{
    char *copy = strdup(names), *rest = NULL;
    vgpu_text_add(axes, "", 0);
    for (char *name = strtok_r(copy, ";", &rest); name; name = strtok_r(NULL, ";", &rest))
        for (const struct vgpu_part *part = swapped; part; part = part->next)
            if (defines(part->text, name)) {
                vgpu_text_addf(axes, "%s %d\n", name, part->axis);
                break;
            }
    free(copy);
}

int vgpu_axis_of(const char *axes, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = axes; line && *line;) {
        if (!strncmp(line, name, length) && line[length] == ' ')
            return line[length + 1] - '0';
        line = strchr(line, '\n');
        line += line != NULL;
    }
    return 0;
}
