/* Types, shapes and names for error sentences. */
#include "graph/describe.h"

#include <string.h>

#define TYPES_MAX 8
#define NAME_MAX_BYTES 200

const char *kiln_dims_string(kiln_arena *arena, kiln_dtype dtype, uint32_t rank,
                             const int64_t *dims)
{
    kiln_text text = {.arena = arena};
    kiln_text_type(&text, dtype, rank, dims);
    return kiln_text_string(&text);
}

void kiln_type_print(kiln_text *text, const kiln_type *type)
{
    if (!type->n_items) {
        kiln_text_type(text, type->dtype, type->rank, type->dims);
        return;
    }
    for (uint32_t i = 0; i < type->n_items; i++) {
        const kiln_type *item = type->items[i];
        kiln_text_append(text, i ? ", " : "(");
        kiln_text_type(text, item->dtype, item->rank, item->dims);
    }
    kiln_text_append(text, ")");
}

const char *kiln_type_string(kiln_arena *arena, const kiln_type *type)
{
    kiln_text text = {.arena = arena};
    kiln_type_print(&text, type);
    return kiln_text_string(&text);
}

const char *kiln_ints_string(kiln_arena *arena, kiln_ints ints)
{
    kiln_text text = {.arena = arena};
    uint32_t n = ints.n < 2 * KILN_MAX_RANK ? ints.n : 2 * KILN_MAX_RANK;
    kiln_text_ints(&text, ints.at, n);
    return kiln_text_string(&text);
}

const char *kiln_quoted(kiln_arena *arena, const char *name)
{
    kiln_text text = {.arena = arena};
    size_t n = strlen(name);
    kiln_text_quoted(&text, name, n < NAME_MAX_BYTES ? n : NAME_MAX_BYTES);
    return kiln_text_string(&text);
}

const char *kiln_types_string(kiln_arena *arena, const kiln_type *const *types, uint32_t n)
{
    kiln_text text = {.arena = arena};
    for (uint32_t i = 0; i < n && i < TYPES_MAX; i++) {
        if (i) kiln_text_append(&text, i + 1 == n ? " and " : ", ");
        kiln_type_print(&text, types[i]);
    }
    if (n > TYPES_MAX) kiln_text_append(&text, ", …");
    return kiln_text_string(&text);
}

const char *kiln_signature_string(kiln_arena *arena, const kiln_node *node,
                                  const kiln_type *const *types)
{
    kiln_text text = {.arena = arena};
    kiln_text_printf(&text, "%s(", node->attrs->custom.target);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_text_append(&text, i ? ", " : "");
        kiln_type_print(&text, types[i]);
    }
    kiln_text_append(&text, ") -> ");
    kiln_type_print(&text, node->type);
    return kiln_text_string(&text);
}
