/* Finds weights that a product can widen as it reads them (weights.h), and how their scales repeat.
 *
 *     %q: i8[k,n]; %s: f32[k / 32,n]
 *     %1 = mul (convert %q), (reshape (broadcast %s))       codes %q, table of %s, block 32
 *     %2 = dot_general %x, %1
 *
 * Views of a constant are followed as digits: an axis of the view is a number of several digits,
 * each with its distance in the constant; a digit of distance 0 repeats. */
#include <string.h>

#include "base/checked.h"
#include "graph/element.h"
#include "kiln/program.h"
#include "passes/weights.h"

#define MOST_DIGITS 8
#define MOST_VIEWS 16
#define MIN_RESULTS 16 /* fewer elements are row reductions */

typedef struct digit {
    int64_t extent, stride;
} digit;

typedef struct number {
    uint32_t n;
    digit digits[MOST_DIGITS]; /* the most significant first; no digit of one value */
    bool is_cut;               /* the axis ends before the first digit does */
} number;

typedef struct layout {
    int64_t origin;
    number axes[KILN_MAX_RANK];
} layout;

static number number_of(int64_t extent, int64_t stride)
{
    number one = {.n = extent > 1};
    one.digits[0] = (digit){extent, stride};
    return one;
}

/* One more digit below those there are; neighbours that make one number join. */
static bool push_digit(number *to, digit low)
{
    if (low.extent == 1) return true;
    if (to->n > 0) {
        digit *last = &to->digits[to->n - 1];
        if (last->stride == low.stride * low.extent) {
            *last = (digit){last->extent * low.extent, low.stride};
            return true;
        }
    }
    if (to->n == MOST_DIGITS) return false;
    to->digits[to->n++] = low;
    return true;
}

static bool append(number *to, const number *from)
{
    for (uint32_t i = 0; i < from->n; i++)
        if (!push_digit(to, from->digits[i])) return false;
    return true;
}

/* Takes the lowest `dim` values off `all`; false where that is no whole number of digits. */
static bool take_low(number *all, int64_t dim, number *out)
{
    digit taken[MOST_DIGITS];
    uint32_t n = 0;
    while (dim > 1) {
        if (!all->n || n == MOST_DIGITS) return false;
        digit *low = &all->digits[all->n - 1];
        if (dim % low->extent == 0) {
            dim /= low->extent;
            taken[n++] = *low;
            all->n--;
        } else if (low->extent % dim == 0) {
            taken[n++] = (digit){dim, low->stride};
            *low = (digit){low->extent / dim, low->stride * dim};
            dim = 1;
        } else {
            return false;
        }
    }
    *out = (number){0};
    while (n-- > 0)
        if (!push_digit(out, taken[n])) return false;
    return true;
}

static bool reshape_layout(const kiln_type *from, const kiln_type *to, layout *at)
{
    number all = {0};
    for (uint32_t i = 0; i < from->rank; i++)
        if (at->axes[i].is_cut || !append(&all, &at->axes[i])) return false;
    for (uint32_t i = to->rank; i-- > 0;)
        if (!take_low(&all, to->dims[i], &at->axes[i])) return false;
    return true;
}

static bool slice_layout(const kiln_node *node, const kiln_type *from, layout *at)
{
    for (uint32_t i = 0; i < from->rank; i++) {
        int64_t start = node->attrs->slice.starts.at[i], step = node->attrs->slice.strides.at[i];
        int64_t dim = node->type->dims[i], inner = 1;
        number *axis = &at->axes[i];
        if (dim == from->dims[i] && step == 1) continue;
        if (axis->n == 0) continue;
        if (axis->n == 1 && !axis->is_cut) {
            at->origin += start * axis->digits[0].stride;
            axis->digits[0] = (digit){dim, axis->digits[0].stride * step};
            if (dim == 1) axis->n = 0;
            continue;
        }
        if (start != 0 || step != 1) return false;
        for (uint32_t d = 1; d < axis->n; d++) inner *= axis->digits[d].extent;
        axis->digits[0].extent = kiln_ceil_div(dim, inner);
        axis->is_cut = dim % inner != 0;
    }
    return true;
}

static bool view_layout(const kiln_graph *graph, const kiln_node *node, layout *at)
{
    const kiln_type *from = kiln_graph_type(graph, node->inputs[0]);
    layout old = *at;
    switch (node->op) {
    case KILN_OP_reshape:
        return reshape_layout(from, node->type, at);
    case KILN_OP_slice:
        return slice_layout(node, from, at);
    case KILN_OP_transpose:
        for (uint32_t i = 0; i < from->rank; i++)
            at->axes[i] = old.axes[node->attrs->permutation.permutation.at[i]];
        return true;
    case KILN_OP_broadcast:
        for (uint32_t i = 0; i < node->type->rank; i++)
            at->axes[i] = number_of(node->type->dims[i], 0);
        for (uint32_t i = 0; i < from->rank; i++)
            if (from->dims[i] != 1) at->axes[node->attrs->axes.axes.at[i]] = old.axes[i];
        return true;
    default:
        return false;
    }
}

static bool find_layout(const kiln_graph *graph, kiln_value value, kiln_value *out_base,
                        layout *out)
{
    kiln_value chain[MOST_VIEWS];
    uint32_t n = 0;
    const kiln_node *node = kiln_graph_node(graph, value);
    for (; kiln_node_row(node)->class_ == KILN_VIEW; node = kiln_graph_node(graph, value)) {
        if (n == MOST_VIEWS) return false;
        chain[n++] = value;
        value = node->inputs[0];
    }
    if (node->op != KILN_OP_constant || node->type->n_elements == 0) return false;
    *out_base = value;
    *out = (layout){0};
    bool is_splat = node->attrs->literal.value.kind == KILN_LITERAL_SPLAT;
    int64_t stride = 1;
    for (uint32_t i = node->type->rank; i-- > 0;) {
        int64_t dim = node->type->dims[i];
        out->axes[i] = number_of(dim, is_splat ? 0 : stride);
        stride *= dim;
    }
    while (n-- > 0)
        if (!view_layout(graph, kiln_graph_node(graph, chain[n]), out)) return false;
    return true;
}

/* Axes in order as one number; only the first may end within a digit. */
static bool join_axes(const layout *at, kiln_ints axes, number *out)
{
    *out = (number){0};
    for (uint32_t i = 0; i < axes.n; i++) {
        const number *axis = &at->axes[axes.at[i]];
        if ((axis->is_cut && axes.n > 1) || !append(out, axis)) return false;
        out->is_cut |= axis->is_cut;
    }
    return true;
}

/* Where each of the first n values of a number lies, `step` apart. */
static const int64_t *list_places(kiln_arena *arena, const number *of, int64_t n, int64_t step)
{
    int64_t *places = kiln_new_array(arena, int64_t, n + 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i * step;
        for (uint32_t d = of->n; d-- > 0; rest /= of->digits[d].extent)
            places[i] += rest % of->digits[d].extent * of->digits[d].stride;
    }
    return places;
}

/* A table as numbers of k and of the column. */
typedef struct repetition {
    kiln_value base;
    layout at;
    number k, n;
    int64_t k_size, n_size, block;
} repetition;

static bool find_repetition(const kiln_graph *graph, kiln_operand operand, repetition *out)
{
    const kiln_type *type = kiln_graph_type(graph, operand.value);
    const kiln_attrs *attrs = kiln_graph_node(graph, operand.consumer)->attrs;
    int64_t free[KILN_MAX_RANK];
    kiln_ints k = attrs->dot.rhs_contract, n = {0, free};
    *out = (repetition){.k_size = 1, .n_size = 1, .block = 1};
    for (uint32_t axis = 0; axis < type->rank; axis++) {
        bool is_k = false;
        for (uint32_t i = 0; i < k.n; i++) is_k |= k.at[i] == axis;
        *(is_k ? &out->k_size : &out->n_size) *= type->dims[axis];
        if (!is_k) free[n.n++] = axis;
    }
    if (attrs->dot.rhs_batch.n || !find_layout(graph, operand.value, &out->base, &out->at))
        return false;
    if (!join_axes(&out->at, k, &out->k) || !join_axes(&out->at, n, &out->n)) return false;
    const number *along = &out->k;
    if (along->n == 0 || (along->n == 1 && along->digits[0].stride == 0))
        out->block = out->k_size;
    else if (along->digits[along->n - 1].stride == 0)
        out->block = along->digits[along->n - 1].extent;
    return true;
}

bool kiln_repeat_find(kiln_arena *arena, const kiln_graph *graph, kiln_operand operand,
                      kiln_repeat *out_repeat)
{
    repetition found;
    if (!find_repetition(graph, operand, &found)) return false;
    kiln_repeat repeat = {.base = found.base,
                          .origin = found.at.origin,
                          .block = found.block,
                          .n_blocks = kiln_ceil_div(found.k_size, found.block),
                          .n_columns = found.n_size};
    repeat.k_at = list_places(arena, &found.k, repeat.n_blocks, repeat.block);
    repeat.n_at = list_places(arena, &found.n, repeat.n_columns, 1);
    *out_repeat = repeat;
    return true;
}

int64_t kiln_repeat_block(const kiln_graph *graph, kiln_operand operand)
{
    repetition found;
    return find_repetition(graph, operand, &found) ? found.block : 0;
}

/* A constant under its views: codes, or a table. */
static bool add_leaf(const kiln_graph *graph, kiln_operand leaf, kiln_weights *out)
{
    const kiln_type *type = kiln_graph_type(graph, leaf.value);
    int64_t block = kiln_repeat_block(graph, leaf);
    if (block == 0 || kiln_dtype_bits(type->dtype) < 8) return false;
    if (block == 1) {
        bool is_only = out->codes.id == 0 || out->codes.id == leaf.value.id;
        out->codes = leaf.value;
        return is_only;
    }
    for (uint32_t i = 0; i < out->n_tables; i++)
        if (out->tables[i].id == leaf.value.id) return true;
    if (out->n_tables == KILN_WEIGHT_TABLES) return false;
    if (block < out->block) out->block = block;
    out->tables[out->n_tables++] = leaf.value;
    return true;
}

/* Whether a block of k lies within one entry of every table. */
static bool has_even_blocks(const kiln_graph *graph, kiln_value dot, int64_t k_size,
                            const kiln_weights *weights)
{
    for (uint32_t i = 0; i < weights->n_tables; i++) {
        kiln_operand table = {weights->tables[i], KILN_FORMAT_TABLE16, dot};
        int64_t block = kiln_repeat_block(graph, table);
        if (block == k_size) continue;
        if (weights->block < KILN_WEIGHT_BLOCK || block % weights->block) return false;
    }
    return true;
}

static bool is_known(const kiln_weights *weights, kiln_value value)
{
    for (uint32_t i = 0; i < weights->n_nodes; i++)
        if (weights->nodes[i].id == value.id) return true;
    return false;
}

static void sort_nodes(kiln_weights *weights)
{
    for (uint32_t i = 1; i < weights->n_nodes; i++) {
        kiln_value node = weights->nodes[i];
        uint32_t at = i;
        for (; at > 0 && weights->nodes[at - 1].id > node.id; at--)
            weights->nodes[at] = weights->nodes[at - 1];
        weights->nodes[at] = node;
    }
}

/* Walks the operand's expression; nodes[] is the list of what is still to be looked at, too. */
static bool walk(const kiln_graph *graph, kiln_value dot, kiln_weights *out)
{
    for (uint32_t i = 0; i < out->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(graph, out->nodes[i]);
        for (uint32_t j = 0; node->op != KILN_OP_constant && j < node->n_inputs; j++) {
            kiln_value input = node->inputs[j];
            const kiln_node *operand = kiln_graph_node(graph, input);
            bool is_splat = operand->op == KILN_OP_constant &&
                            operand->attrs->literal.value.kind == KILN_LITERAL_SPLAT;
            bool is_inner = kiln_node_row(operand)->class_ == KILN_ELEMENTWISE &&
                            operand->op != KILN_OP_barrier;
            if (is_splat || is_inner) {
                if (is_known(out, input)) continue;
                if (out->n_nodes == KILN_WEIGHT_NODES) return false;
                out->nodes[out->n_nodes++] = input;
            } else if (!add_leaf(graph, (kiln_operand){input, KILN_FORMAT_PANEL16, dot}, out)) {
                return false;
            }
        }
    }
    return true;
}

bool kiln_match_weights(kiln_arena *arena, const kiln_graph *graph, kiln_value dot,
                        kiln_weights *out_weights)
{
    const kiln_node *node = kiln_graph_node(graph, dot);
    if (node->op != KILN_OP_dot_general ||
        !kiln_dtype_in(node->attrs->dot.accumulate, KILN_TYPES_FLOAT))
        return false;
    const kiln_node *operand = kiln_graph_node(graph, node->inputs[1]);
    const kiln_type *left = kiln_graph_type(graph, node->inputs[0]);
    if (kiln_node_row(operand)->class_ != KILN_ELEMENTWISE ||
        node->type->n_elements < MIN_RESULTS || left->n_elements == 0 ||
        node->attrs->dot.rhs_batch.n)
        return false;
    kiln_matmul_roles roles;
    kiln_dot_roles(arena, graph, dot, &roles);
    kiln_weights weights = {.n_nodes = 1, .nodes = {node->inputs[1]}, .block = roles.k_size};
    if (!walk(graph, dot, &weights) || !weights.codes.id) return false;
    if (!has_even_blocks(graph, dot, roles.k_size, &weights)) return false;
    kiln_dtype from = kiln_graph_type(graph, weights.codes)->dtype;
    if (kiln_dtype_bytes(from) >= kiln_dtype_bytes(node->attrs->dot.accumulate)) return false;
    sort_nodes(&weights);
    *out_weights = weights;
    return true;
}

/* Whether all elements fit four bits, by the dtype's sign. */
static bool fits_nibbles(const uint8_t *codes, int64_t n, bool is_signed)
{
    uint8_t low = is_signed ? 8 : 0, outside = 0;
    for (int64_t i = 0; i < n; i++) outside |= (uint8_t)((uint8_t)(codes[i] + low) & 0xf0);
    return outside == 0;
}

kiln_format kiln_weights_format(kiln_scope *scope, const kiln_graph *graph,
                                const kiln_weights *weights)
{
    kiln_dtype dtype = kiln_graph_type(graph, weights->codes)->dtype;
    if ((dtype != KILN_i8 && dtype != KILN_u8) || weights->block % 2) return KILN_FORMAT_PANEL16;
    const kiln_node *base = kiln_graph_node(graph, kiln_view_base(graph, weights->codes));
    const kiln_literal *literal = &base->attrs->literal.value;
    if (literal->data && literal->kind != KILN_LITERAL_SPLAT)
        return fits_nibbles(literal->data, base->type->n_elements, dtype == KILN_i8)
                   ? KILN_FORMAT_NIBBLE16
                   : KILN_FORMAT_PANEL16;
    volatile bool is_narrow = false;
    kiln_error error = {0};
    kiln_scope inner;
    kiln_scope_open(&inner, &error);
    if (kiln_scope_try(&inner)) {
        void *codes = kiln_arena_alloc(&inner.arena, (size_t)base->type->bytes + 1);
        kiln_literal_read(&inner, base->type, literal, codes);
        is_narrow = fits_nibbles(codes, base->type->n_elements, dtype == KILN_i8);
    }
    if (kiln_scope_close(&inner) != KILN_OK) kiln_fail_with(scope, &error);
    return is_narrow ? KILN_FORMAT_NIBBLE16 : KILN_FORMAT_PANEL16;
}
