/* ONNX export of gather and scatter in their general form: places in the flat operand are computed
 * axis by axis, by broadcasting over the axes of the slice, and Gather or ScatterElements does the
 * rest. What a scatter drops goes to one more element, which is cut off. */
#include "graph/gather.h"

#include "graph/io/export.h"

typedef struct place_call {
    kiln_export_call *call;
    const kiln_type *operand, *indices, *slice;
    kiln_gather_plan plan;
    int64_t index_axis;
    const char *inside; /* bool of the slice: no axis is out of range; NULL: always */
} place_call;

/* A value along one axis of the slice, 0, 1, 2, …; it broadcasts over the others. */
static const char *along(const place_call *place, int32_t axis, int64_t step)
{
    int64_t dims[KILN_MAX_RANK], n = place->slice->dims[axis];
    for (uint32_t i = 0; i < place->slice->rank; i++) dims[i] = 1;
    dims[axis] = n;
    int64_t *values = kiln_export_filled(place->call, (uint32_t)n, 0);
    for (int64_t i = 0; i < n; i++) values[i] = i * step;
    const kiln_type type = {KILN_i64, place->slice->rank, dims, n, 8 * n, 0, NULL};
    return kiln_export_constant(place->call, &type, values);
}

/* One entry of the index vectors, over the axes of the slice that walk the indices. */
static const char *component(const place_call *place, int32_t number)
{
    kiln_export_call *call = place->call;
    int64_t dims[KILN_MAX_RANK];
    const char *name = kiln_export_plain(call, 1);
    if (place->indices->dtype != KILN_i64) name = kiln_export_cast(call, name, KILN_i64);
    if (place->index_axis < place->indices->rank) {
        kiln_wire attrs = kiln_export_attrs(call);
        kiln_export_attr_int(&attrs, "axis", place->index_axis);
        name = kiln_export_emit(call, "Gather", &attrs, name,
                                kiln_export_scalar(call, KILN_i64, number));
    }
    for (uint32_t i = 0; i < place->slice->rank; i++) dims[i] = 1;
    for (uint32_t i = 0; i < place->indices->rank; i++) {
        if (place->plan.walk[i] >= 0) dims[place->plan.walk[i]] = place->indices->dims[i];
    }
    return kiln_export_reshape(call, name, place->slice->rank, dims);
}

static const char *plus(kiln_export_call *call, const char *a, const char *b)
{
    return !a ? b : !b ? a : kiln_export_emit(call, "Add", NULL, a, b);
}

static const char *times(kiln_export_call *call, const char *a, int64_t factor)
{
    const kiln_type type = {KILN_i64, 0, NULL, 1, 8, 0, NULL};
    if (factor == 1) return a;
    return kiln_export_emit(call, "Mul", NULL, a, kiln_export_constant(call, &type, &factor));
}

/* Remembers where `coordinate` of an axis of `dim` is out of range. */
static void check_inside(place_call *place, const char *coordinate, int64_t dim)
{
    kiln_export_call *call = place->call;
    const char *is_low = kiln_export_emit(call, "Less", NULL, coordinate,
                                          kiln_export_scalar(call, KILN_i64, (double)dim));
    const char *is_high = kiln_export_emit(call, "GreaterOrEqual", NULL, coordinate,
                                           kiln_export_scalar(call, KILN_i64, 0));
    const char *both = kiln_export_emit(call, "And", NULL, is_low, is_high);
    place->inside = place->inside ? kiln_export_emit(call, "And", NULL, place->inside, both) : both;
}

/* The places in the flat operand; a scatter's own check is in place->inside. */
static const char *flat_places(place_call *place, bool is_clamped)
{
    kiln_export_call *call = place->call;
    const char *sum = NULL;
    int64_t stride = 1;
    for (uint32_t axis = place->plan.rank; axis-- > 0; stride *= place->operand->dims[axis]) {
        int64_t dim = place->operand->dims[axis], room = dim - place->plan.sizes[axis];
        int32_t entry = place->plan.component[axis], offset = place->plan.offset[axis];
        int32_t batch = place->plan.batch[axis];
        if (batch >= 0) sum = plus(call, sum, along(place, batch, stride));
        if (entry < 0) {
            if (offset >= 0) sum = plus(call, sum, along(place, offset, stride));
            continue;
        }
        const char *start = component(place, entry);
        if (is_clamped) {
            start =
                kiln_export_emit(call, "Max", NULL, start, kiln_export_scalar(call, KILN_i64, 0));
            start = kiln_export_emit(call, "Min", NULL, start,
                                     kiln_export_scalar(call, KILN_i64, (double)room));
        }
        if (offset >= 0) start = plus(call, start, along(place, offset, 1));
        if (!is_clamped) check_inside(place, start, dim);
        sum = plus(call, sum, times(call, start, stride));
    }
    return sum ? sum : kiln_export_scalar(call, KILN_i64, 0);
}

static const char *flat(kiln_export_call *call, const char *name, int64_t n)
{
    return kiln_export_reshape(call, name, 1, &n);
}

const char *kiln_export_gather(kiln_export_call *call)
{
    const kiln_attrs *attrs = call->node->attrs;
    place_call place = {call, kiln_export_type(call, 0), kiln_export_type(call, 1), call->type};
    place.index_axis = attrs->gather.index_axis;
    kiln_gather_plan_make(attrs, place.operand, place.indices, place.slice, &place.plan);
    if (call->type->n_elements == 0) {
        kiln_export_set_small(call, kiln_export_scalar(call, call->type->dtype, 0), 0, NULL);
        return NULL;
    }
    const char *places = flat_places(&place, true);
    const char *dims = kiln_export_ints(call, (kiln_ints){call->type->rank, call->type->dims});
    places = kiln_export_emit(call, "Expand", NULL, places, dims);
    const char *all = flat(call, kiln_export_operand(call, 0), place.operand->n_elements);
    return kiln_export_emit(call, "Gather", NULL, all, places);
}

const char *kiln_export_scatter(kiln_export_call *call)
{
    const kiln_attrs *attrs = call->node->attrs;
    place_call place = {call, kiln_export_type(call, 0), kiln_export_type(call, 1),
                        kiln_export_type(call, 2)};
    int64_t n = place.operand->n_elements, m = place.slice->n_elements;
    place.index_axis = attrs->scatter.index_axis;
    if (n == 0 || m == 0) return kiln_export_operand(call, 0);
    kiln_gather_plan_make(attrs, place.operand, place.indices, place.slice, &place.plan);
    const char *places = flat_places(&place, false);
    if (place.inside)
        places = kiln_export_emit(call, "Where", NULL, place.inside, places,
                                  kiln_export_scalar(call, KILN_i64, (double)n));
    const char *dims = kiln_export_ints(call, (kiln_ints){place.slice->rank, place.slice->dims});
    places = flat(call, kiln_export_emit(call, "Expand", NULL, places, dims), m);
    const char *spare = flat(call, kiln_export_scalar(call, call->dtype, 0), 1);
    kiln_wire concat = kiln_export_attrs(call), list = concat;
    kiln_export_attr_int(&concat, "axis", 0);
    if (*call->row->onnx) kiln_export_attr_string(&list, "reduction", call->row->onnx);
    const char *all = kiln_export_emit(call, "Concat", &concat,
                                       flat(call, kiln_export_operand(call, 0), n), spare);
    all = kiln_export_emit(call, "ScatterElements", &list, all, places,
                           flat(call, kiln_export_operand(call, 2), m));
    const int64_t zero = 0;
    all = kiln_export_emit(call, "Slice", NULL, all, kiln_export_ints(call, (kiln_ints){1, &zero}),
                           kiln_export_ints(call, (kiln_ints){1, &n}));
    return kiln_export_reshape(call, all, call->type->rank, call->type->dims);
}
