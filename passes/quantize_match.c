/* What stands for a quantised number: mul(convert(sub(convert(q), zero)), scale) and its shorter
 * forms, under views. */
#include "graph/element.h"
#include "passes/quantize.h"

#define MOST_NUMBERS 65536

static const kiln_value none = {0, 0};

static const kiln_node *node_of(const kiln_graph *graph, kiln_value value)
{
    return kiln_graph_node(graph, value);
}

/* The only axis with more than one element, or -1; false where there are several. */
static bool only_axis(const kiln_type *type, int64_t *out_axis)
{
    *out_axis = -1;
    for (uint32_t i = 0; i < type->rank; i++) {
        if (type->dims[i] == 1) continue;
        if (*out_axis >= 0) return false;
        *out_axis = i;
    }
    return true;
}

/* A conversion that keeps numbers as they are, or to f32. */
static bool is_widening(const kiln_graph *graph, const kiln_node *node)
{
    if (node->op != KILN_OP_convert) return false;
    kiln_dtype from = kiln_graph_type(graph, node->inputs[0])->dtype;
    return kiln_dtype_in(from, KILN_TYPES_INTEGER) && kiln_dtype_bytes(from) <= 4 &&
           (node->type->dtype == KILN_f32 ||
            kiln_dtype_bytes(from) < kiln_dtype_bytes(node->type->dtype));
}

bool kiln_match_spread(const kiln_graph *graph, kiln_value value, kiln_spread *out)
{
    const kiln_node *node = node_of(graph, value);
    double number;
    while (is_widening(graph, node)) {
        value = node->inputs[0];
        node = node_of(graph, value);
    }
    *out = (kiln_spread){value, -1, 1};
    if (kiln_match_splat(node, &number)) return true;
    const kiln_type *type = node->type;
    bool is_broadcast = node->op == KILN_OP_broadcast;
    if (is_broadcast) {
        out->from = node->inputs[0];
        type = kiln_graph_type(graph, out->from);
        if (kiln_match_splat(node_of(graph, out->from), &number)) return true;
    }
    int64_t axis;
    if (type->n_elements == 0 || !only_axis(type, &axis)) return false;
    if (axis < 0) return true;
    out->n = type->dims[axis];
    out->axis = is_broadcast ? node->attrs->axes.axes.at[axis] : axis;
    return true;
}

bool kiln_spread_read(kiln_scope *scope, const kiln_graph *graph, kiln_spread spread,
                      double **out_numbers, int64_t *out_n)
{
    const kiln_node *node = node_of(graph, spread.from);
    while (node->op == KILN_OP_reshape || is_widening(graph, node))
        node = node_of(graph, node->inputs[0]);
    const kiln_literal *literal = kiln_match_literal(node);
    if (!literal || literal->kind == KILN_LITERAL_FILE || spread.n > MOST_NUMBERS) return false;
    bool is_splat = literal->kind == KILN_LITERAL_SPLAT;
    *out_n = is_splat ? 1 : node->type->n_elements;
    *out_numbers = kiln_new_array(&scope->arena, double, *out_n);
    kiln_element_load_double(node->type->dtype, literal->data, 0, *out_n, *out_numbers);
    return true;
}

static bool is_byte(const kiln_graph *graph, kiln_value value)
{
    kiln_dtype dtype = kiln_graph_type(graph, value)->dtype;
    return dtype == KILN_i8 || dtype == KILN_u8;
}

/* convert(q) or sub(convert(q), zero), in whichever dtype. */
static bool match_centred(const kiln_graph *graph, kiln_value value, kiln_quantized *out)
{
    const kiln_node *node = node_of(graph, value);
    if (node->op == KILN_OP_sub) {
        if (!kiln_match_spread(graph, node->inputs[1], &out->zero)) return false;
        node = node_of(graph, node->inputs[0]);
    }
    if (node->op != KILN_OP_convert || !is_byte(graph, node->inputs[0])) return false;
    out->q = node->inputs[0];
    return true;
}

/* mul(x, scale) in either order: x centred, or the f32 of what is. */
static bool match_scaled(const kiln_graph *graph, const kiln_node *node, kiln_quantized *out)
{
    if (node->op != KILN_OP_mul || node->type->dtype != KILN_f32) return false;
    for (uint32_t i = 2; i-- > 0;) {
        *out = (kiln_quantized){.n_views = 0};
        if (!kiln_match_spread(graph, node->inputs[i], &out->scale)) continue;
        kiln_value x = node->inputs[1 - i];
        if (match_centred(graph, x, out)) return true;
        out->zero = (kiln_spread){none, -1, 1};
        const kiln_node *convert = node_of(graph, x);
        bool is_whole = convert->op == KILN_OP_convert &&
                        kiln_graph_type(graph, convert->inputs[0])->dtype == KILN_i32;
        if (is_whole && match_centred(graph, convert->inputs[0], out)) return true;
    }
    return false;
}

/* Where a vector's axis goes through a view; false where it does not stay an axis. */
static bool carry_axis(const kiln_node *view, kiln_spread *spread)
{
    if (!spread->from.id || spread->axis < 0) return true;
    if (view->op != KILN_OP_transpose) return false;
    int64_t from = spread->axis;
    for (uint32_t i = 0; i < view->type->rank; i++)
        if (view->attrs->permutation.permutation.at[i] == from) spread->axis = i;
    return true;
}

bool kiln_match_quantized(const kiln_graph *graph, kiln_value value, bool is_scaled,
                          kiln_quantized *out)
{
    const kiln_node *views[KILN_QUANTIZED_VIEWS], *node = node_of(graph, value);
    uint32_t n = 0;
    while (kiln_node_row(node)->class_ == KILN_VIEW && n < KILN_QUANTIZED_VIEWS) {
        views[n++] = node;
        value = node->inputs[0];
        node = node_of(graph, value);
    }
    *out = (kiln_quantized){.n_views = 0};
    if (is_scaled ? !match_scaled(graph, node, out) : !match_centred(graph, value, out))
        return false;
    if (!is_scaled && node->type->dtype != KILN_i32) return false;
    for (uint32_t i = n; i-- > 0;) {
        if (!carry_axis(views[i], &out->zero) || !carry_axis(views[i], &out->scale)) return false;
    }
    for (uint32_t i = 0; i < n; i++) out->views[i] = views[i];
    out->n_views = n;
    return true;
}

kiln_value kiln_quantized_build(kiln_rewrite *rewrite, const kiln_quantized *quantized)
{
    kiln_graph *target = rewrite->target;
    kiln_value value = kiln_mapped(rewrite, quantized->q);
    kiln_dtype dtype = kiln_graph_type(target, value)->dtype;
    for (uint32_t i = quantized->n_views; i-- > 0;) {
        const kiln_node *node = quantized->views[i];
        kiln_node_spec spec = {(kiln_op)node->op, NULL, &value, 1, node->attrs, node->label};
        if (kiln_node_row(node)->result == KILN_RESULT_GIVEN)
            spec.given = kiln_graph_tensor(target, dtype, node->type->rank, node->type->dims);
        value = kiln_graph_add(target, &spec);
    }
    return value;
}

kiln_value kiln_spread_build(kiln_rewrite *rewrite, kiln_spread spread, kiln_dtype dtype)
{
    const kiln_node *node = node_of(rewrite->source, spread.from);
    kiln_graph *target = rewrite->target;
    kiln_value vector;
    if (spread.axis < 0 && kiln_match_literal(node) &&
        kiln_match_literal(node)->kind == KILN_LITERAL_SPLAT) {
        const kiln_type *scalar = kiln_graph_tensor(target, node->type->dtype, 0, NULL);
        vector = kiln_add_literal(target, scalar, kiln_match_literal(node));
    } else {
        vector = kiln_mapped(rewrite, spread.from);
        vector = kiln_add_reshape(target, vector, spread.axis < 0 ? 0 : 1, &spread.n);
    }
    return kiln_add_convert(target, vector, dtype);
}

kiln_value kiln_spread_over(kiln_graph *target, kiln_value vector, int64_t axis,
                            const kiln_type *like)
{
    return kiln_add_broadcast(target, vector, like->rank, like->dims, &axis);
}
