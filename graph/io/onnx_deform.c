/* DeformConv: every tap of a convolution is sampled between pixels, at its place plus an offset
 * from the data, and zeros lie outside. The samples become columns, the rest is a matrix product.
 */
#include <inttypes.h>

#include "graph/io/onnx_op.h"

typedef struct deform_plan {
    kiln_onnx_call *call;
    kiln_graph *g;
    kiln_dtype dtype;
    kiln_onnx_window window;
    int64_t batch, channels, dims[2], out[2], taps, places, groups, offset_groups;
} deform_plan;

static void plan_read(kiln_onnx_call *call, deform_plan *p)
{
    const kiln_type *a = kiln_onnx_ranked(call, 0, 4), *w = kiln_onnx_ranked(call, 1, 4);
    const kiln_type *offset = kiln_onnx_ranked(call, 2, 4);
    if (a->rank != 4 || w->rank != 4 || offset->rank != 4)
        kiln_onnx_refuse(call, "operands of rank %u; expected 4", a->rank);
    *p = (deform_plan){.call = call, .g = call->graph, .dtype = a->dtype};
    kiln_onnx_window_read(call, w->dims + 2, &p->window);
    p->groups = kiln_onnx_int(call, "group", 1);
    p->offset_groups = kiln_onnx_int(call, "offset_group", 1);
    p->batch = a->dims[0];
    p->channels = a->dims[1];
    p->taps = w->dims[2] * w->dims[3];
    p->places = offset->dims[2] * offset->dims[3];
    for (uint32_t i = 0; i < 2; i++) {
        p->dims[i] = a->dims[i + 2];
        p->out[i] = offset->dims[i + 2];
    }
    bool fits = p->groups > 0 && p->offset_groups > 0 && p->channels % p->offset_groups == 0 &&
                w->dims[1] * p->groups == p->channels && w->dims[0] % p->groups == 0 &&
                offset->dims[0] == p->batch && offset->dims[1] == p->offset_groups * p->taps * 2 &&
                a->n_elements > 0;
    if (kiln_onnx_has(call, 4))
        fits = fits && kiln_onnx_type(call, 4)->n_elements * 2 == offset->n_elements;
    if (!fits)
        kiln_onnx_fail(call,
                       "%" PRId64 " channels in %" PRId64 " groups with %" PRId64
                       " of offsets; expected operands that fit them",
                       p->channels, p->groups, p->offset_groups);
}

static kiln_value with(const deform_plan *p, kiln_op op, kiln_value a, double number)
{
    return kiln_onnx_with(p->call, op, a, number);
}

static kiln_value both(const deform_plan *p, kiln_op op, kiln_value a, kiln_value b)
{
    return kiln_add_binary(p->g, op, a, b);
}

/* Where taps stand along axis `axis` (0: rows): [batch, offset groups, taps * places]. */
static kiln_value coordinates(const deform_plan *p, uint32_t axis)
{
    int64_t grid[4] = {p->window.kernel[0], p->window.kernel[1], p->out[0], p->out[1]};
    int64_t split[5] = {p->batch, p->offset_groups, p->taps, 2, p->places};
    int64_t flat[3] = {p->batch, p->offset_groups, p->taps * p->places}, last = 2;
    kiln_value tap = with(p, KILN_OP_mul, kiln_onnx_iota(p->call, KILN_i64, 4, grid, axis),
                          (double)p->window.dilations[axis]);
    kiln_value at = with(p, KILN_OP_mul, kiln_onnx_iota(p->call, KILN_i64, 4, grid, axis + 2),
                         (double)p->window.strides[axis]);
    at = with(p, KILN_OP_sub, both(p, KILN_OP_add, at, tap), (double)p->window.low[axis]);
    at = kiln_add_convert(p->g, kiln_add_reshape(p->g, at, 1, flat + 2), p->dtype);
    kiln_value offset = kiln_add_reshape(p->g, p->call->inputs[2], 5, split);
    offset = kiln_onnx_slice(p->call, offset, 3, axis, axis + 1);
    offset = kiln_add_reshape(p->g, offset, 3, flat);
    return both(p, KILN_OP_add, offset, kiln_add_broadcast(p->g, at, 3, flat, &last));
}

/* Neighbour `side` of coordinates: its weight, 0 outside, and its index, kept inside. */
static kiln_value neighbour(const deform_plan *p, kiln_value x, uint32_t axis, bool side,
                            kiln_value *out_index)
{
    kiln_value low = kiln_add_unary(p->g, KILN_OP_floor, x);
    kiln_value share = both(p, KILN_OP_sub, x, low);
    kiln_value at = side ? with(p, KILN_OP_add, low, 1) : low;
    if (!side) share = both(p, KILN_OP_sub, kiln_add_splat_like(p->g, share, 1), share);
    double most = (double)p->dims[axis] - 1;
    kiln_value is_in =
        both(p, KILN_OP_and, with(p, KILN_OP_ge, at, 0), with(p, KILN_OP_le, at, most));
    at = with(p, KILN_OP_min, with(p, KILN_OP_max, at, 0), most);
    *out_index = kiln_add_convert(p->g, at, KILN_i64);
    return kiln_onnx_select(p->call, is_in, share, kiln_add_splat_like(p->g, share, 0));
}

/* Pixels at flat places [batch, offset groups, n] for all channels of each group. */
static kiln_value pixels_at(const deform_plan *p, kiln_value at)
{
    int64_t each = p->channels / p->offset_groups, size = p->dims[0] * p->dims[1];
    int64_t split[4] = {p->batch, p->offset_groups, each, size}, axes[2] = {0, 1};
    int64_t sizes[4] = {1, 1, each, 1}, channel = 2, pixel = 3;
    kiln_value pair[] = {kiln_add_reshape(p->g, p->call->inputs[0], 4, split), at};
    kiln_attrs attrs = {KILN_FAMILY_gather};
    attrs.gather.offset_axes = (kiln_ints){1, &channel};
    attrs.gather.collapsed_axes = attrs.gather.start_map = (kiln_ints){1, &pixel};
    attrs.gather.operand_batch = attrs.gather.indices_batch = (kiln_ints){2, axes};
    attrs.gather.index_axis = 3;
    attrs.gather.sizes = (kiln_ints){4, sizes};
    return kiln_graph_add(
        p->g,
        &(kiln_node_spec){.op = KILN_OP_gather, .inputs = pair, .n_inputs = 2, .attrs = &attrs});
}

/* [batch, offset groups, channels of a group, taps * places] */
static kiln_value sample(const deform_plan *p)
{
    kiln_value y = coordinates(p, 0), x = coordinates(p, 1), total = {0};
    int64_t wide[4] = {p->batch, p->offset_groups, p->channels / p->offset_groups,
                       p->taps * p->places};
    int64_t axes[3] = {0, 1, 3}, flat[3] = {wide[0], wide[1], wide[3]};
    for (uint32_t i = 0; i < 4; i++) {
        kiln_value row, column;
        kiln_value weight = neighbour(p, y, 0, i / 2, &row);
        weight = both(p, KILN_OP_mul, weight, neighbour(p, x, 1, i % 2, &column));
        if (kiln_onnx_has(p->call, 4))
            weight =
                both(p, KILN_OP_mul, weight, kiln_add_reshape(p->g, p->call->inputs[4], 3, flat));
        kiln_value at = both(p, KILN_OP_add, with(p, KILN_OP_mul, row, (double)p->dims[1]), column);
        kiln_value part =
            both(p, KILN_OP_mul, pixels_at(p, at), kiln_add_broadcast(p->g, weight, 4, wide, axes));
        total = i ? both(p, KILN_OP_add, total, part) : part;
    }
    return total;
}

static kiln_value import_deform_conv(kiln_onnx_call *call)
{
    deform_plan p;
    plan_read(call, &p);
    int64_t out = kiln_onnx_type(call, 1)->dims[0], inner = p.channels / p.groups * p.taps;
    int64_t columns[4] = {p.batch, p.groups, inner, p.places};
    int64_t weights[4] = {1, p.groups, out / p.groups, inner};
    int64_t dims[4] = {p.batch, out, p.out[0], p.out[1]};
    kiln_value a = kiln_add_reshape(call->graph, sample(&p), 4, columns);
    kiln_value w = kiln_add_reshape(call->graph, call->inputs[1], 4, weights);
    kiln_value y = kiln_onnx_matmul(call, w, a, kiln_dtype_accumulator(p.dtype));
    y = kiln_add_reshape(call->graph, y, 4, dims);
    if (!kiln_onnx_has(call, 3)) return y;
    return kiln_onnx_binary(call, KILN_OP_add, y, kiln_onnx_along(call, call->inputs[3], 1, 4));
}

const kiln_onnx_row kiln_onnx_deform_rows[] = {
    {"DeformConv", 19, KILN_ONNX_NEWEST, 3, 5, import_deform_conv, KILN_OP_none},
    {0},
};
