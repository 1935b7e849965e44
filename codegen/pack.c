/* Host packing: offset tables by role, then panel after panel. */
#include "codegen/pack.h"

#include "codegen/winograd.h"
#include "passes/weights.h"

#include <string.h>

typedef struct role {
    int64_t n;
    int64_t *offsets;
} role;

static void find_strides(const kiln_type *type, int64_t *strides)
{
    int64_t stride = 1;
    for (uint32_t axis = type->rank; axis-- > 0;) {
        strides[axis] = stride;
        stride *= type->dims[axis];
    }
}

/* Offsets of all indices over `axes`, the last one fastest. */
static role list_offsets(kiln_arena *arena, const kiln_type *type, kiln_ints axes)
{
    int64_t strides[KILN_MAX_RANK];
    find_strides(type, strides);
    role all = {.n = 1};
    for (uint32_t i = 0; i < axes.n; i++) all.n *= type->dims[axes.at[i]];
    all.offsets = kiln_new_array(arena, int64_t, all.n + 1);
    for (int64_t number = 0; number < all.n; number++) {
        int64_t rest = number;
        for (uint32_t i = axes.n; i-- > 0;) {
            int64_t dim = type->dims[axes.at[i]];
            all.offsets[number] += rest % dim * strides[axes.at[i]];
            rest /= dim;
        }
    }
    return all;
}

static void find_conv_offsets(kiln_arena *arena, const kiln_type *type, const kiln_node *node,
                              kiln_pack_offsets *out)
{
    kiln_ints kernel = node->attrs->conv.kernel_axes;
    int64_t groups = node->attrs->conv.groups, axes[KILN_MAX_RANK];
    for (uint32_t i = 2; i < kernel.n; i++) axes[i - 2] = kernel.at[i];
    axes[kernel.n - 2] = kernel.at[1];
    role k = list_offsets(arena, type, (kiln_ints){kernel.n - 1, axes});
    role features = list_offsets(arena, type, (kiln_ints){1, kernel.at});
    int64_t per_group = features.n / groups;
    int64_t *batch = kiln_new_array(arena, int64_t, groups + 1);
    for (int64_t g = 0; g < groups; g++) batch[g] = features.offsets[g * per_group];
    *out = (kiln_pack_offsets){groups, k.n, per_group, batch, k.offsets, features.offsets};
}

void kiln_pack_find_offsets(kiln_arena *arena, const kiln_graph *graph, kiln_operand operand,
                            kiln_pack_offsets *out_offsets)
{
    const kiln_type *type = kiln_graph_type(graph, operand.value);
    const kiln_node *consumer = kiln_graph_node(graph, operand.consumer);
    if (consumer->op == KILN_OP_convolution) {
        find_conv_offsets(arena, type, consumer, out_offsets);
        return;
    }
    kiln_matmul_roles roles;
    kiln_dot_roles(arena, graph, operand.consumer, &roles);
    role batch = list_offsets(arena, type, roles.b_batch);
    role k = list_offsets(arena, type, roles.b_k);
    role n = list_offsets(arena, type, roles.b_n);
    *out_offsets = (kiln_pack_offsets){batch.n, k.n, n.n, batch.offsets, k.offsets, n.offsets};
}

/* Copies elements of `size` bytes; instances for the sizes there are, so that the copy is a
 * move. */
#define PACK_AS(name, type)                                                                        \
    static void name(const kiln_pack_offsets *at, const void *dense, void *out)                    \
    {                                                                                              \
        type *to = out;                                                                            \
        for (int64_t batch = 0; batch < at->n_batch; batch++) {                                    \
            for (int64_t panel = 0; panel < at->n_n; panel += 16) {                                \
                int64_t columns = at->n_n - panel < 16 ? at->n_n - panel : 16;                     \
                for (int64_t k = 0; k < at->n_k; k++, to += 16) {                                  \
                    const type *from = (const type *)dense + at->batch[batch] + at->k[k];          \
                    for (int64_t n = 0; n < columns; n++) to[n] = from[at->n[panel + n]];          \
                    for (int64_t n = columns; n < 16; n++) to[n] = 0;                              \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

PACK_AS(pack_1, uint8_t)
PACK_AS(pack_2, uint16_t)
PACK_AS(pack_4, uint32_t)
PACK_AS(pack_8, uint64_t)

/* Codes of four bits in bytes: those of two k in one. */
static void pack_nibbles(const kiln_pack_offsets *at, const uint8_t *dense, uint8_t *out)
{
    for (int64_t panel = 0; panel < at->n_n; panel += 16) {
        int64_t columns = at->n_n - panel < 16 ? at->n_n - panel : 16;
        for (int64_t k = 0; k < at->n_k; k += 2, out += 16) {
            const uint8_t *low = dense + at->k[k],
                          *high = k + 1 < at->n_k ? dense + at->k[k + 1] : 0;
            for (int64_t n = 0; n < columns; n++) {
                uint8_t two = low[at->n[panel + n]] & 15;
                if (high) two |= (uint8_t)(high[at->n[panel + n]] << 4);
                out[n] = two;
            }
            for (int64_t n = columns; n < 16; n++) out[n] = 0;
        }
    }
}

void kiln_pack_table(kiln_scope *scope, const kiln_graph *graph, kiln_operand operand, void *out)
{
    kiln_repeat table;
    if (!kiln_repeat_find(&scope->arena, graph, operand, &table))
        kiln_fail(scope, KILN_INTERNAL, "packing: %%%u repeats nowhere", operand.value.id);
    const kiln_node *base = kiln_graph_node(graph, table.base);
    int64_t size = (int64_t)kiln_dtype_bytes(base->type->dtype);
    char *dense = kiln_arena_alloc(&scope->arena, (size_t)base->type->bytes + 1), *to = out;
    kiln_literal_read(scope, base->type, &base->attrs->literal.value, dense);
    for (int64_t panel = 0; panel < table.n_columns; panel += 16) {
        for (int64_t block = 0; block < table.n_blocks; block++) {
            const char *from = dense + (table.origin + table.k_at[block]) * size;
            for (int64_t n = panel; n < panel + 16; n++, to += size) {
                if (n < table.n_columns)
                    memcpy(to, from + table.n_at[n] * size, (size_t)size);
                else
                    memset(to, 0, (size_t)size);
            }
        }
    }
}

void kiln_pack_operand(kiln_scope *scope, const kiln_graph *graph, kiln_operand operand,
                       const void *dense, void *out)
{
    if (kiln_format_parts(operand.format)) {
        kiln_pack_tiles(scope, graph, operand, dense, out);
        return;
    }
    if (operand.format == KILN_FORMAT_WINOGRAD_N16) {
        kiln_pack_winograd(scope, graph, operand, dense, out);
        return;
    }
    kiln_pack_offsets offsets;
    kiln_pack_find_offsets(&scope->arena, graph, operand, &offsets);
    if (operand.format == KILN_FORMAT_NIBBLE16) {
        pack_nibbles(&offsets, dense, out);
        return;
    }
    switch (kiln_dtype_bytes(kiln_graph_type(graph, operand.value)->dtype)) {
    case 1: pack_1(&offsets, dense, out); break;
    case 2: pack_2(&offsets, dense, out); break;
    case 4: pack_4(&offsets, dense, out); break;
    case 8: pack_8(&offsets, dense, out); break;
    default: kiln_fail(scope, KILN_INTERNAL, "packing: elements of an unknown size");
    }
}
