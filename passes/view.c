/* Views as strides: whether what a chain of views shows of a dense value is strided memory, and
 * reading constants through their views.
 *
 * The chain is walked from the base up; each view maps origin and strides of its operand to its
 * own. Only a reshape can fail: it must split axes, or merge neighbours that are contiguous to each
 * other. */
#include <string.h>

#include "base/checked.h"
#include "passes/schedule.h"

static void dense_strides(const kiln_type *type, int64_t *strides)
{
    int64_t stride = 1;
    for (uint32_t axis = type->rank; axis-- > 0;) {
        strides[axis] = stride;
        stride *= type->dims[axis];
    }
}

/* One run of a reshape: operand axes [*i, i_end) hold the same elements as result axes [*o, o_end).
 */
typedef struct reshape_run {
    uint32_t i, i_end, o, o_end;
} reshape_run;

static void next_run(const kiln_type *from, const kiln_type *to, reshape_run *run)
{
    run->i = run->i_end;
    run->o = run->o_end;
    int64_t in = 1, out = 1;
    while (run->i_end < from->rank || run->o_end < to->rank) {
        if (run->i_end > run->i && run->o_end > run->o && in == out) break;
        bool can_in = run->i_end < from->rank, can_out = run->o_end < to->rank;
        if (can_in && (in <= out || !can_out))
            in *= from->dims[run->i_end++];
        else
            out *= to->dims[run->o_end++];
    }
    while (run->i_end < from->rank && from->dims[run->i_end] == 1) run->i_end++;
    while (run->o_end < to->rank && to->dims[run->o_end] == 1) run->o_end++;
}

static bool reshape_strides(const kiln_type *from, const kiln_type *to, kiln_view_strides *at)
{
    kiln_view_strides result = {.origin = at->origin};
    if (from->n_elements == 0) {
        *at = result;
        return true;
    }
    reshape_run run = {0};
    while (run.i_end < from->rank || run.o_end < to->rank) {
        next_run(from, to, &run);
        int64_t step = 0, span = 1;
        for (uint32_t axis = run.i_end; axis-- > run.i;) {
            if (from->dims[axis] == 1) continue;
            if (span == 1)
                step = at->strides[axis];
            else if (at->strides[axis] != step * span)
                return false;
            span *= from->dims[axis];
        }
        for (uint32_t axis = run.o_end; axis-- > run.o;) {
            result.strides[axis] = step;
            step *= to->dims[axis];
        }
    }
    *at = result;
    return true;
}

static void broadcast_strides(const kiln_type *from, kiln_ints axes, kiln_view_strides *at)
{
    kiln_view_strides result = {.origin = at->origin};
    for (uint32_t i = 0; i < from->rank; i++) {
        if (from->dims[i] != 1) result.strides[axes.at[i]] = at->strides[i];
    }
    *at = result;
}

static bool view_strides(const kiln_graph *graph, const kiln_node *node, kiln_view_strides *at)
{
    const kiln_type *from = kiln_graph_type(graph, node->inputs[0]);
    kiln_view_strides old = *at;
    switch (node->op) {
    case KILN_OP_reshape:
        return reshape_strides(from, node->type, at);
    case KILN_OP_broadcast:
        broadcast_strides(from, node->attrs->axes.axes, at);
        return true;
    case KILN_OP_transpose:
        for (uint32_t i = 0; i < from->rank; i++) {
            at->strides[i] = old.strides[node->attrs->permutation.permutation.at[i]];
        }
        return true;
    case KILN_OP_slice:
        for (uint32_t i = 0; i < from->rank; i++) {
            at->origin += old.strides[i] * node->attrs->slice.starts.at[i];
            at->strides[i] = old.strides[i] * node->attrs->slice.strides.at[i];
        }
        return true;
    case KILN_OP_reverse:
        for (uint32_t i = 0; i < node->attrs->axes.axes.n; i++) {
            int64_t axis = node->attrs->axes.axes.at[i];
            at->origin += old.strides[axis] * (from->dims[axis] - 1);
            at->strides[axis] = -old.strides[axis];
        }
        return true;
    default:
        return false;
    }
}

/* Deeper chains are not looked through; simplify leaves two or three views at most. */
#define MAX_CHAIN 64

bool kiln_view_is_strided(const kiln_graph *graph, kiln_value value, kiln_value base,
                          kiln_view_strides *out_strides)
{
    kiln_value chain[MAX_CHAIN];
    uint32_t n = 0;
    for (; value.id != base.id; value = kiln_graph_node(graph, value)->inputs[0]) {
        if (n == MAX_CHAIN || kiln_node_row(kiln_graph_node(graph, value))->class_ != KILN_VIEW)
            return false;
        chain[n++] = value;
    }
    *out_strides = (kiln_view_strides){0};
    dense_strides(kiln_graph_type(graph, base), out_strides->strides);
    while (n-- > 0) {
        if (!view_strides(graph, kiln_graph_node(graph, chain[n]), out_strides)) return false;
    }
    return true;
}

/* Copies `type`'s elements from strided memory to dense memory, innermost axis in a loop of its
 * own. */
static void copy_strided(const kiln_type *type, const kiln_view_strides *at, const char *from,
                         char *to)
{
    size_t size = kiln_dtype_bytes(type->dtype);
    int64_t index[KILN_MAX_RANK] = {0};
    uint32_t rank = type->rank;
    int64_t inner = rank ? type->dims[rank - 1] : 1, step = rank ? at->strides[rank - 1] : 0;
    for (int64_t done = 0; done < type->n_elements; done += inner) {
        int64_t offset = at->origin;
        for (uint32_t axis = 0; axis + 1 < rank; axis++) offset += index[axis] * at->strides[axis];
        for (int64_t i = 0; i < inner; i++, to += size) {
            memcpy(to, from + (offset + i * step) * (int64_t)size, size);
        }
        for (uint32_t axis = rank > 0 ? rank - 1 : 0; axis-- > 0;) {
            if (++index[axis] < type->dims[axis]) break;
            index[axis] = 0;
        }
    }
}

void kiln_constant_read(kiln_scope *scope, const kiln_graph *graph, kiln_value value, void *out)
{
    kiln_value base = value;
    kiln_view_strides at;
    /* The longest strided stretch of views ends in `base`; what lies below it is read first. */
    const kiln_node *node = kiln_graph_node(graph, base);
    while (kiln_node_row(node)->class_ == KILN_VIEW &&
           kiln_view_is_strided(graph, value, node->inputs[0], &at)) {
        base = node->inputs[0];
        node = kiln_graph_node(graph, base);
    }
    kiln_vec(kiln_value) stretches = {0};
    kiln_vec_push(&stretches, &scope->arena, value);
    while (kiln_node_row(node)->class_ == KILN_VIEW) {
        kiln_value top = base;
        kiln_vec_push(&stretches, &scope->arena, top);
        while (kiln_node_row(node)->class_ == KILN_VIEW &&
               kiln_view_is_strided(graph, top, node->inputs[0], &at)) {
            base = node->inputs[0];
            node = kiln_graph_node(graph, base);
        }
    }
    if (node->op != KILN_OP_constant) {
        kiln_fail(scope, KILN_INTERNAL, "constants: %%%u is placed as a constant and is not one",
                  value.id);
    }
    char *data = kiln_arena_alloc(&scope->arena, (size_t)node->type->bytes + 1);
    kiln_literal_read(scope, node->type, &node->attrs->literal.value, data);
    while (stretches.n-- > 0) {
        kiln_value top = stretches.at[stretches.n];
        const kiln_type *type = kiln_graph_type(graph, top);
        char *to = stretches.n ? kiln_arena_alloc(&scope->arena, (size_t)type->bytes + 1) : out;
        if (!kiln_view_is_strided(graph, top, base, &at)) {
            kiln_fail(scope, KILN_INTERNAL, "constants: views of %%%u are not strided", value.id);
        }
        copy_strided(type, &at, data, to);
        data = to;
        base = top;
    }
}
