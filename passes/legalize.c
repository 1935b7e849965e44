/* legalize: dtypes that kernels do not have (passes/legalize.h) become ones that they have. Ports
 * keep their bytes: what the caller passes as i4[3] arrives as u8[2].
 *
 *     graph f(%x: f8e5m2[4]) {               graph f(%x: u8[4]) {
 *       %0: f8e5m2[4] = neg %x         =>      … decode %x to f32, neg, encode to u8 …
 *
 * Nodes that only move elements move what stands for them; a value that nobody computes with is
 * never decoded. Labels and origins come along. */
#include "passes/legalize.h"

#include <math.h>

#include "graph/attrs.h"
#include "graph/describe.h"
#include "passes/rewrite.h"

bool kiln_dtype_is_packed(kiln_dtype dtype)
{
    return dtype != KILN_NO_DTYPE && kiln_dtype_bits(dtype) < 8; /* tuples have none */
}

static bool is_signed(kiln_dtype dtype)
{
    return kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_INT;
}

/* The unsigned integer with the bits of a packed dtype. */
static kiln_dtype packed_pattern(kiln_dtype dtype)
{
    return kiln_dtype_bits(dtype) == 2 ? KILN_u2 : KILN_u4;
}

bool kiln_dtype_is_narrow_float(kiln_dtype dtype)
{
    return kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_FLOAT && kiln_dtype_bits(dtype) <= 8;
}

kiln_dtype kiln_legal_dtype(kiln_dtype dtype)
{
    if (kiln_dtype_is_packed(dtype) && is_signed(dtype)) return KILN_i8;
    if (kiln_dtype_is_packed(dtype) || kiln_dtype_is_narrow_float(dtype)) return KILN_u8;
    return kiln_dtype_part(dtype);
}

bool kiln_dtype_is_legal(kiln_dtype dtype)
{
    return kiln_legal_dtype(dtype) == dtype;
}

/* Shorthands */

kiln_value kiln_legal_with(kiln_graph *graph, kiln_op op, kiln_value a, double value)
{
    return kiln_add_binary(graph, op, a, kiln_add_splat_like(graph, a, value));
}

kiln_value kiln_legal_bitcast(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    kiln_node_spec spec = {.op = KILN_OP_bitcast, .inputs = &a, .n_inputs = 1};
    spec.given = kiln_graph_tensor(graph, dtype, type->rank, type->dims);
    return kiln_graph_add(graph, &spec);
}

kiln_value kiln_legal_select(kiln_graph *graph, kiln_value condition, kiln_value a, kiln_value b)
{
    kiln_value inputs[] = {condition, a, b};
    kiln_node_spec spec = {.op = KILN_OP_select, .inputs = inputs, .n_inputs = 3};
    return kiln_graph_add(graph, &spec);
}

kiln_value kiln_legal_slice(kiln_graph *graph, kiln_value a, const int64_t *starts,
                            const int64_t *limits)
{
    int64_t ones[KILN_MAX_RANK];
    uint32_t rank = kiln_graph_type(graph, a)->rank;
    for (uint32_t i = 0; i < rank; i++) ones[i] = 1;
    kiln_ints from = {rank, starts}, to = {rank, limits}, steps = {rank, ones};
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {from, to, steps}};
    kiln_node_spec spec = {KILN_OP_slice, NULL, &a, 1, &attrs, NULL};
    return kiln_graph_add(graph, &spec);
}

/* Sums are kept in what kernels have; f32 for narrow floats, whose operands become that. */
static kiln_dtype legal_sum(kiln_dtype dtype)
{
    return kiln_dtype_is_narrow_float(dtype) || dtype == KILN_bf16 || dtype == KILN_f16
               ? KILN_f32
               : kiln_legal_dtype(dtype);
}

kiln_value kiln_legal_node(kiln_legal *legal, const kiln_node *node, const kiln_value *inputs,
                           kiln_dtype dtype)
{
    kiln_graph *target = legal->target;
    kiln_node_spec spec = {(kiln_op)node->op, NULL,        inputs,
                           node->n_inputs,    node->attrs, node->label};
    if (kiln_node_row(node)->result == KILN_RESULT_GIVEN)
        spec.given = kiln_graph_tensor(target, dtype, node->type->rank, node->type->dims);
    kiln_attrs attrs;
    if (node->attrs && (node->op == KILN_OP_dot_general || node->op == KILN_OP_convolution)) {
        attrs = *node->attrs;
        bool is_dot = node->op == KILN_OP_dot_general;
        kiln_dtype *sum = is_dot ? &attrs.dot.accumulate : &attrs.conv.accumulate;
        *sum = legal_sum(*sum);
        spec.attrs = &attrs;
    }
    return kiln_graph_add(target, &spec);
}

static kiln_value named(kiln_legal *legal, const kiln_node *node, kiln_value value)
{
    kiln_node *made = legal->target->nodes.at[value.id];
    if (node->label && !made->label)
        made->label = kiln_arena_string(&legal->target->arena, node->label);
    return value;
}

/* Ports and constants */

/* The type of the bytes of a value at a port. */
static const kiln_type *port_type(kiln_legal *legal, const kiln_type *type)
{
    kiln_graph *target = legal->target;
    kiln_dtype dtype = kiln_legal_dtype(type->dtype);
    if (kiln_dtype_is_packed(type->dtype) && !legal->is_region)
        return kiln_graph_tensor(target, KILN_u8, 1, &type->bytes);
    if (!kiln_dtype_in(type->dtype, KILN_TYPES_COMPLEX))
        return kiln_graph_tensor(target, dtype, type->rank, type->dims);
    if (type->rank == KILN_MAX_RANK) {
        kiln_fail(legal->pipeline->scope, KILN_LIMIT,
                  "%s: expected a complex value of rank 15 or less",
                  kiln_type_string(&legal->pipeline->scope->arena, type));
    }
    int64_t dims[KILN_MAX_RANK] = {0};
    for (uint32_t i = 0; i < type->rank; i++) dims[i] = type->dims[i];
    dims[type->rank] = 2;
    return kiln_graph_tensor(target, dtype, type->rank + 1, dims);
}

static void keep_parts(kiln_legal *legal, const kiln_node *node, kiln_parts parts)
{
    legal->values[node->id] = parts.re;
    legal->imaginary[node->id] = parts.im;
}

/* What stands for the value whose bytes `port` holds. */
static void take_port(kiln_legal *legal, const kiln_node *node, kiln_value port)
{
    kiln_parts parts = {.re = port};
    if (kiln_dtype_is_packed(node->type->dtype))
        parts.re = kiln_packed_unpack(legal->target, port, node->type);
    if (kiln_dtype_in(node->type->dtype, KILN_TYPES_COMPLEX))
        parts = kiln_parts_split(legal->target, port);
    keep_parts(legal, node, parts);
}

static void legalize_input(kiln_legal *legal, const kiln_node *node)
{
    const kiln_type *type = port_type(legal, node->type);
    bool is_donated = node->attrs->input.donated;
    kiln_value port = kiln_add_input(legal->target, type, node->label, is_donated);
    if (legal->is_region && kiln_dtype_is_packed(node->type->dtype))
        legal->values[node->id] = port;
    else
        take_port(legal, node, port);
}

static kiln_value legalize_output(kiln_legal *legal, kiln_value source)
{
    kiln_dtype dtype = kiln_graph_type(legal->source, source)->dtype;
    kiln_value value = kiln_legal_whole(legal, source);
    bool is_packed = kiln_dtype_is_packed(dtype) && !legal->is_region;
    return is_packed ? kiln_packed_pack(legal->target, value, dtype) : value;
}

static kiln_value packed_bytes_constant(kiln_legal *legal, const kiln_node *node)
{
    const kiln_type *type = node->type;
    kiln_dtype dtype = kiln_legal_dtype(type->dtype);
    kiln_dtype whole = is_signed(type->dtype) ? type->dtype : packed_pattern(type->dtype);
    int8_t *data = kiln_new_array(&legal->pipeline->scope->arena, int8_t, type->n_elements);
    for (int64_t i = 0; i < type->n_elements; i++) {
        uint64_t value;
        kiln_element_load_int(whole, node->attrs->literal.value.data, i, 1, &value);
        data[i] = (int8_t)value;
    }
    type = kiln_graph_tensor(legal->target, dtype, type->rank, type->dims);
    return kiln_add_constant(legal->target, type, data);
}

/* Splats, one of each part. */
static kiln_parts complex_splat(kiln_legal *legal, const kiln_node *node)
{
    const kiln_type *type = node->type;
    kiln_dtype part = kiln_dtype_part(type->dtype);
    double values[2];
    kiln_element_load_double(part, node->attrs->literal.value.data, 0, 2, values);
    kiln_value re = kiln_add_splat(legal->target, part, type->rank, type->dims, values[0]);
    kiln_value im = kiln_add_splat(legal->target, part, type->rank, type->dims, values[1]);
    return (kiln_parts){re, im};
}

static void legalize_constant(kiln_legal *legal, const kiln_node *node)
{
    kiln_graph *target = legal->target;
    const kiln_type *type = node->type;
    const kiln_literal *literal = &node->attrs->literal.value;
    bool is_packed = kiln_dtype_is_packed(type->dtype);
    if (is_packed && literal->kind == KILN_LITERAL_SPLAT) {
        kiln_dtype whole = is_signed(type->dtype) ? type->dtype : packed_pattern(type->dtype);
        double value = kiln_element_to_double(whole, literal->data);
        legal->values[node->id] =
            kiln_add_splat(target, kiln_legal_dtype(type->dtype), type->rank, type->dims, value);
    } else if (literal->kind == KILN_LITERAL_SPLAT &&
               kiln_dtype_in(type->dtype, KILN_TYPES_COMPLEX)) {
        keep_parts(legal, node, complex_splat(legal, node));
    } else if (is_packed && literal->kind == KILN_LITERAL_BYTES) {
        legal->values[node->id] = packed_bytes_constant(legal, node);
    } else {
        type = is_packed ? kiln_graph_tensor(target, KILN_u8, 1, &type->bytes)
                         : port_type(legal, type);
        take_port(legal, node, kiln_add_literal(target, type, literal));
    }
}

/* Nodes */

/* Patterns of 8 bits, or of fewer in the low bits, and back. */
static kiln_value to_pattern(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    if (!is_signed(dtype)) return a;
    a = kiln_legal_bitcast(graph, a, KILN_u8);
    return kiln_dtype_is_packed(dtype) ? kiln_packed_wrap(graph, a, packed_pattern(dtype)) : a;
}

static kiln_value from_pattern(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    if (!is_signed(dtype)) return a;
    a = kiln_legal_bitcast(graph, a, KILN_i8);
    return kiln_dtype_is_packed(dtype) ? kiln_packed_wrap(graph, a, dtype) : a;
}

/* A number as an f32 or f64 that rounds to the narrow float as the number does: large integers are
 * beyond the largest one long before f32 rounds them. */
static kiln_value widen(kiln_graph *graph, kiln_value a)
{
    kiln_dtype dtype = kiln_graph_type(graph, a)->dtype;
    if (dtype == KILN_f32 || dtype == KILN_f64) return a;
    if (kiln_dtype_in(dtype, KILN_TYPES_INTEGER) && kiln_dtype_bytes(dtype) >= 4) {
        bool is_signed = kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_INT;
        a = kiln_legal_with(graph, KILN_OP_min, a, 0x1p20);
        if (is_signed) a = kiln_legal_with(graph, KILN_OP_max, a, -0x1p20);
    }
    return kiln_add_convert(graph, a, KILN_f32);
}

kiln_value kiln_legal_number(kiln_graph *graph, kiln_value a, kiln_dtype from, kiln_dtype to)
{
    if (from == to) return a;
    if (kiln_dtype_is_narrow_float(from)) a = kiln_float_decode(graph, a, from);
    if (kiln_dtype_is_narrow_float(to)) return kiln_float_encode(graph, widen(graph, a), to);
    if (kiln_graph_type(graph, a)->dtype != kiln_legal_dtype(to))
        a = kiln_add_convert(graph, a, kiln_legal_dtype(to));
    if (!kiln_dtype_is_packed(to)) return a;
    if (!kiln_dtype_in(from, KILN_TYPES_FLOAT)) return kiln_packed_wrap(graph, a, to);
    return kiln_packed_clamp(graph, a, to);
}

/* A node that computes with narrow floats: in f32, rounded once at the end. */
static kiln_value legalize_float(kiln_legal *legal, const kiln_node *node)
{
    kiln_graph *graph = legal->target;
    kiln_value *inputs = kiln_new_array(&legal->pipeline->scope->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_dtype dtype = kiln_legal_operand(legal, node, i)->dtype;
        inputs[i] = legal->values[node->inputs[i].id];
        if (kiln_dtype_is_narrow_float(dtype))
            inputs[i] = kiln_float_decode(graph, inputs[i], dtype);
    }
    kiln_dtype dtype = node->type->dtype;
    bool is_narrow = kiln_dtype_is_narrow_float(dtype);
    kiln_value a = kiln_legal_node(legal, node, inputs, is_narrow ? KILN_f32 : dtype);
    return is_narrow ? kiln_float_encode(graph, a, dtype) : a;
}

bool kiln_legal_is_move(const kiln_node *node)
{
    kiln_class class_ = kiln_node_row(node)->class_;
    return class_ == KILN_VIEW || class_ == KILN_MOVE || node->op == KILN_OP_select ||
           node->op == KILN_OP_barrier;
}

static kiln_value legalize_move(kiln_legal *legal, const kiln_node *node)
{
    kiln_value *inputs = kiln_new_array(&legal->pipeline->scope->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) inputs[i] = legal->values[node->inputs[i].id];
    return kiln_legal_node(legal, node, inputs, kiln_legal_dtype(node->type->dtype));
}

typedef struct node_dtypes {
    bool is_legal, has_float, has_complex;
} node_dtypes;

static void look_at(node_dtypes *found, kiln_dtype dtype)
{
    found->is_legal = found->is_legal && kiln_dtype_is_legal(dtype);
    found->has_float = found->has_float || kiln_dtype_is_narrow_float(dtype);
    found->has_complex = found->has_complex || kiln_dtype_in(dtype, KILN_TYPES_COMPLEX);
}

/* A node with real operands and result, some of them of dtypes that kernels lack. */
static kiln_value legalize_real(kiln_legal *legal, const kiln_node *node, bool has_float)
{
    if (node->op == KILN_OP_convert || node->op == KILN_OP_bitcast) {
        kiln_dtype from = kiln_legal_operand(legal, node, 0)->dtype, to = node->type->dtype;
        kiln_value a = legal->values[node->inputs[0].id];
        if (node->op == KILN_OP_convert) return kiln_legal_number(legal->target, a, from, to);
        return from_pattern(legal->target, to_pattern(legal->target, a, from), to);
    }
    if (kiln_legal_is_move(node)) return legalize_move(legal, node);
    bool is_chain = node->op == KILN_OP_scatter_add || node->op == KILN_OP_scatter_mul;
    if (is_chain && has_float) return kiln_legal_scatter(legal, node);
    return has_float ? legalize_float(legal, node) : kiln_legal_int_node(legal, node);
}

/* A custom call sees its operands as they are: of dtypes that kernels have. */
static void check_custom(kiln_legal *legal, const kiln_node *node)
{
    bool is_legal = true;
    for (uint32_t i = 0; i < node->n_inputs; i++)
        is_legal = is_legal && kiln_dtype_is_legal(kiln_legal_operand(legal, node, i)->dtype);
    for (uint32_t i = 0; i < node->type->n_items; i++)
        is_legal = is_legal && kiln_dtype_is_legal(node->type->items[i]->dtype);
    if (is_legal) return;
    kiln_fail(legal->pipeline->scope, KILN_UNSUPPORTED,
              "%s: a custom call of narrow or complex values; expected bool, floats of 16 to 64 "
              "bits and integers of 8 to 64",
              kiln_node_string(&legal->pipeline->scope->arena, legal->source,
                               (kiln_value){node->id, legal->source->id}));
}

static kiln_parts legalize_node(kiln_legal *legal, const kiln_node *node)
{
    if (node->op == KILN_OP_custom_call) check_custom(legal, node);
    node_dtypes found = {!kiln_legal_has_regions(node), false, false};
    look_at(&found, node->type->dtype);
    for (uint32_t i = 0; i < node->n_inputs; i++)
        look_at(&found, kiln_legal_operand(legal, node, i)->dtype);
    bool is_region = node->op == KILN_OP_item || kiln_attrs_regions(node->attrs).n;
    if (is_region && !found.is_legal) return kiln_legal_region_node(legal, node);
    if (found.has_complex) return kiln_legal_complex_node(legal, node);
    kiln_parts parts = {0};
    if (found.is_legal)
        parts.re = kiln_graph_copy(legal->target, legal->source, node, legal->values);
    else
        parts.re = legalize_real(legal, node, found.has_float);
    return parts;
}

static void legalize_one(kiln_legal *legal, const kiln_node *node)
{
    legal->target->current_origin = legal->source->origins.at[node->id];
    if (node->op == KILN_OP_constant && !kiln_dtype_is_legal(node->type->dtype)) {
        legalize_constant(legal, node);
    } else {
        keep_parts(legal, node, legalize_node(legal, node));
    }
    named(legal, node, legal->values[node->id]);
    legal->target->current_origin = 0;
}

kiln_graph *kiln_legalize_graph(kiln_pipeline *pipeline, const kiln_graph *graph, bool is_region)
{
    kiln_arena *arena = &pipeline->scope->arena;
    kiln_legal legal = {pipeline, graph, .is_region = is_region};
    legal.target = kiln_graph_open(pipeline->scope, graph->context, graph->name);
    legal.values = kiln_new_array(arena, kiln_value, graph->nodes.n);
    legal.imaginary = kiln_new_array(arena, kiln_value, graph->nodes.n);
    bool *is_live = kiln_live_nodes(pipeline->scope, graph);
    for (uint32_t i = 0; i < graph->inputs.n; i++)
        legalize_input(&legal, kiln_graph_node(graph, graph->inputs.at[i]));
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        if (is_live[id] && node->op != KILN_OP_input) legalize_one(&legal, node);
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_graph_output *output = &graph->outputs.at[i];
        legal.target->current_origin = graph->origins.at[output->value.id];
        kiln_copy_output(legal.target, legalize_output(&legal, output->value), output);
    }
    legal.target->current_origin = 0;
    for (uint32_t i = 0; i < graph->checks.n; i++) {
        const kiln_graph_check *check = &graph->checks.at[i];
        kiln_add_check(legal.target, legal.values[check->value.id], check->sentence);
    }
    return legal.target;
}

kiln_graph *kiln_pass_legalize(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    return kiln_legalize_graph(pipeline, graph, false);
}
