/* The evaluator of regions over scalars: for every element the region's graph is evaluated, in the
 * order in which the op's meaning names the elements. */
#include <string.h>

#include "graph/eval.h"

/* A region with its scalars. */
typedef struct scalar_run {
    kiln_eval_region_run run;
    kiln_tensor *inputs, *outputs;
} scalar_run;

static scalar_run scalar_open(const kiln_eval_call *call, const kiln_graph *region)
{
    scalar_run scalar = {.run = kiln_eval_region_open(call, region)};
    uint32_t n_in = region->inputs.n, n_out = region->outputs.n;
    scalar.inputs = kiln_new_array(call->scratch, kiln_tensor, n_in + 1);
    scalar.outputs = kiln_new_array(call->scratch, kiln_tensor, n_out + 1);
    for (uint32_t i = 0; i < n_in; i++) {
        const kiln_type *type = kiln_graph_type(region, region->inputs.at[i]);
        scalar.inputs[i] = (kiln_tensor){type->dtype, 0, NULL, NULL, (size_t)type->bytes};
    }
    for (uint32_t i = 0; i < n_out; i++) {
        const kiln_type *type = kiln_graph_type(region, region->outputs.at[i].value);
        void *memory = kiln_arena_alloc(call->scratch, 16);
        scalar.outputs[i] = (kiln_tensor){type->dtype, 0, NULL, memory, (size_t)type->bytes};
    }
    return scalar;
}

static void scalar_input(scalar_run *scalar, uint32_t i, const void *data, int64_t element)
{
    size_t bytes = scalar->inputs[i].bytes;
    scalar->inputs[i].data = (char *)(uintptr_t)data + (size_t)element * bytes;
}

static void scalar_run_once(scalar_run *scalar)
{
    kiln_eval_region_run_once(&scalar->run, scalar->inputs, scalar->outputs);
}

static void scalar_output(const scalar_run *scalar, uint32_t i, void *data, int64_t element)
{
    size_t bytes = scalar->outputs[i].bytes;
    memcpy((char *)data + (size_t)element * bytes, scalar->outputs[i].data, bytes);
}

static bool scalar_flag(const scalar_run *scalar)
{
    return *(const uint8_t *)scalar->outputs[0].data != 0;
}

static char *item_of(const kiln_eval_call *call, uint32_t index)
{
    return (char *)call->out + kiln_type_item_offset(call->node->type, index);
}

void kiln_eval_map(const kiln_eval_call *call)
{
    const kiln_type *tuple = call->node->type;
    scalar_run scalar = scalar_open(call, call->node->attrs->regions.regions.at[0]);
    for (int64_t at = 0; at < tuple->items[0]->n_elements; at++) {
        for (uint32_t i = 0; i < call->node->n_inputs; i++)
            scalar_input(&scalar, i, call->in[i], at);
        scalar_run_once(&scalar);
        for (uint32_t i = 0; i < tuple->n_items; i++)
            scalar_output(&scalar, i, item_of(call, i), at);
    }
}

/* Every element of every item is the initial scalar. */
static void fill_initial(const kiln_eval_call *call, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const kiln_type *item = call->node->type->items[i];
        size_t bytes = kiln_dtype_bytes(item->dtype);
        for (int64_t at = 0; at < item->n_elements; at++)
            memcpy(item_of(call, i) + (size_t)at * bytes, call->in[n + i], bytes);
    }
}

/* item[to] = region(item[to], operand[from]), of all n at once; `from` -1 is the initial one. */
static void fold_in(const kiln_eval_call *call, scalar_run *scalar, uint32_t n, int64_t to,
                    int64_t from)
{
    for (uint32_t i = 0; i < n; i++) {
        scalar_input(scalar, i, item_of(call, i), to);
        scalar_input(scalar, n + i, from < 0 ? call->in[n + i] : call->in[i], from < 0 ? 0 : from);
    }
    scalar_run_once(scalar);
    for (uint32_t i = 0; i < n; i++) scalar_output(scalar, i, item_of(call, i), to);
}

void kiln_eval_reduce_region(const kiln_eval_call *call)
{
    const kiln_type *type = call->types[0], *item = call->node->type->items[0];
    kiln_ints axes = call->node->attrs->reduce.axes;
    uint32_t n = call->node->n_inputs / 2, kept = 0;
    scalar_run scalar = scalar_open(call, call->node->attrs->reduce.regions.at[0]);
    int64_t strides[KILN_MAX_RANK] = {0}, own[KILN_MAX_RANK] = {0};
    kiln_eval_strides(item->rank, item->dims, own);
    for (uint32_t axis = 0, dropped = 0; axis < type->rank; axis++) {
        bool is_dropped = dropped < axes.n && axes.at[dropped] == axis;
        strides[axis] = is_dropped ? 0 : own[kept++];
        dropped += is_dropped;
    }
    kiln_eval_walk walk = {.rank = type->rank, .dims = type->dims};
    walk.strides[0] = walk.strides[1] = strides;
    fill_initial(call, n);
    for (int64_t from = 0; from < type->n_elements; from++) {
        fold_in(call, &scalar, n, walk.offset[0], from);
        kiln_eval_walk_next(&walk);
    }
}

/* The operand's element under tap `tap` of the window at `at`; -1 in the padding. */
static int64_t window_element(const kiln_eval_call *call, const int64_t *at, const int64_t *tap)
{
    const kiln_attrs *attrs = call->node->attrs;
    const kiln_type *type = call->types[0];
    int64_t linear = 0;
    for (uint32_t i = 0; i < type->rank; i++) {
        int64_t index = at[i] * attrs->reduce_window.strides.at[i] +
                        tap[i] * attrs->reduce_window.dilations.at[i] -
                        attrs->reduce_window.low.at[i];
        if (index < 0 || index >= type->dims[i]) return -1;
        linear = linear * type->dims[i] + index;
    }
    return linear;
}

static int64_t n_taps(const kiln_eval_call *call)
{
    int64_t n = 1;
    kiln_ints sizes = call->node->attrs->reduce_window.sizes;
    for (uint32_t i = 0; i < sizes.n; i++) n *= sizes.at[i];
    return n;
}

void kiln_eval_reduce_window(const kiln_eval_call *call)
{
    const kiln_type *item = call->node->type->items[0];
    uint32_t n = call->node->n_inputs / 2;
    scalar_run scalar = scalar_open(call, call->node->attrs->reduce_window.regions.at[0]);
    kiln_eval_walk at = {.rank = item->rank, .dims = item->dims};
    fill_initial(call, n);
    for (int64_t to = 0; to < item->n_elements; to++) {
        kiln_eval_walk tap = {.rank = item->rank,
                              .dims = call->node->attrs->reduce_window.sizes.at};
        for (int64_t i = 0; i < n_taps(call); i++) {
            fold_in(call, &scalar, n, to, window_element(call, at.at, tap.at));
            kiln_eval_walk_next(&tap);
        }
        kiln_eval_walk_next(&at);
    }
}

void kiln_eval_select_and_scatter(const kiln_eval_call *call)
{
    const kiln_type *source = call->types[1], *item = call->node->type->items[0];
    kiln_regions regions = call->node->attrs->reduce_window.regions;
    scalar_run select = scalar_open(call, regions.at[0]);
    scalar_run scatter = scalar_open(call, regions.at[1]);
    size_t bytes = kiln_dtype_bytes(item->dtype);
    char *out = item_of(call, 0);
    for (int64_t i = 0; i < item->n_elements; i++)
        memcpy(out + (size_t)i * bytes, call->in[2], bytes);
    kiln_eval_walk at = {.rank = source->rank, .dims = source->dims};
    for (int64_t from = 0; from < source->n_elements; from++, kiln_eval_walk_next(&at)) {
        kiln_eval_walk tap = {.rank = source->rank,
                              .dims = call->node->attrs->reduce_window.sizes.at};
        int64_t best = -1;
        for (int64_t i = 0; i < n_taps(call); i++, kiln_eval_walk_next(&tap)) {
            int64_t other = window_element(call, at.at, tap.at);
            if (other < 0) continue;
            scalar_input(&select, 0, call->in[0], best < 0 ? other : best);
            scalar_input(&select, 1, call->in[0], other);
            if (best >= 0) scalar_run_once(&select);
            if (best < 0 || !scalar_flag(&select)) best = other;
        }
        if (best < 0) continue;
        scalar_input(&scatter, 0, out, best);
        scalar_input(&scatter, 1, call->in[1], from);
        scalar_run_once(&scatter);
        scalar_output(&scatter, 0, out, best);
    }
}

void kiln_eval_scatter_with(const kiln_eval_call *call)
{
    uint32_t n = call->node->n_inputs / 2;
    const kiln_type *updates = call->types[n + 1];
    const kiln_type *types[] = {call->types[0], call->types[n], updates};
    const void *in[] = {call->in[0], call->in[n], call->in[n + 1]};
    kiln_eval_call first = *call; /* all go to the same places */
    first.types = types;
    first.in = in;
    scalar_run scalar = scalar_open(call, call->node->attrs->scatter_with.regions.at[0]);
    int64_t *places = kiln_new_array(call->scratch, int64_t, updates->n_elements + 1);
    int64_t *from = kiln_new_array(call->scratch, int64_t, updates->n_elements + 1);
    kiln_eval_scatter_places(&first, places, from);
    for (uint32_t k = 0; k < n; k++)
        if (call->types[k]->bytes)
            memcpy(item_of(call, k), call->in[k], (size_t)call->types[k]->bytes);
    for (int64_t i = 0; i < updates->n_elements; i++) {
        if (places[i] < 0) continue;
        for (uint32_t k = 0; k < n; k++) {
            scalar_input(&scalar, k, item_of(call, k), places[i]);
            scalar_input(&scalar, n + k, call->in[n + 1 + k], from[i]);
        }
        scalar_run_once(&scalar);
        for (uint32_t k = 0; k < n; k++) scalar_output(&scalar, k, item_of(call, k), places[i]);
    }
}

/* Whether element `a` of every operand comes before element `b`. */
static bool comes_first(const kiln_eval_call *call, scalar_run *scalar, int64_t a, int64_t b)
{
    for (uint32_t i = 0; i < call->node->n_inputs; i++) {
        scalar_input(scalar, 2 * i, call->in[i], a);
        scalar_input(scalar, 2 * i + 1, call->in[i], b);
    }
    scalar_run_once(scalar);
    return scalar_flag(scalar);
}

/* Sorts places by insertion: one moves left past those that it comes before. */
static void sort_line(const kiln_eval_call *call, scalar_run *scalar, int64_t *places, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        int64_t place = places[i], at = i;
        for (; at > 0 && comes_first(call, scalar, place, places[at - 1]); at--)
            places[at] = places[at - 1];
        places[at] = place;
    }
}

void kiln_eval_sort_by(const kiln_eval_call *call)
{
    const kiln_type *type = call->types[0];
    int64_t axis = call->node->attrs->sort_by.axis, n = type->dims[axis], inner = 1;
    scalar_run scalar = scalar_open(call, call->node->attrs->sort_by.regions.at[0]);
    int64_t *places = kiln_new_array(call->scratch, int64_t, n + 1);
    for (uint32_t i = (uint32_t)axis + 1; i < type->rank; i++) inner *= type->dims[i];
    for (int64_t line = 0; n && line < type->n_elements / n; line++) {
        int64_t start = line / inner * inner * n + line % inner;
        for (int64_t i = 0; i < n; i++) places[i] = start + i * inner;
        sort_line(call, &scalar, places, n);
        for (uint32_t k = 0; k < call->node->n_inputs; k++) {
            size_t bytes = kiln_dtype_bytes(call->types[k]->dtype);
            for (int64_t i = 0; i < n; i++)
                memcpy(item_of(call, k) + (size_t)(start + i * inner) * bytes,
                       (const char *)call->in[k] + (size_t)places[i] * bytes, bytes);
        }
    }
}
