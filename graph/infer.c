/* Type rules: what every row of ops.def demands of its operands and attributes, and the type it
 * gives. Counts, dtypes and families are checked from the row; the rest is one function an op, by
 * table. Composites are expanded once in a scratch graph, which remembers what it has seen. */
#include "graph/infer.h"

#include <stdarg.h>
#include <stdio.h>

#include "graph/describe.h"
#include "graph/element.h"
#include "graph/table.h"

void kiln_infer_fail(const kiln_infer_call *call, const char *format, ...)
{
    char sentence[KILN_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    kiln_fail(call->graph->scope, KILN_INVALID, "%s: %s", call->row->name, sentence);
}

const char *kiln_infer_types_string(const kiln_infer_call *call)
{
    return kiln_types_string(&call->graph->scope->arena, call->types, call->n);
}

void kiln_infer_ints(const kiln_infer_call *call, const char *name, kiln_ints ints, uint32_t n)
{
    if (ints.n != n) {
        kiln_infer_fail(call, "%s has %u entries for operands %s; expected %u", name, ints.n,
                        kiln_infer_types_string(call), n);
    }
}

void kiln_infer_range(const kiln_infer_call *call, const char *name, kiln_ints ints, int64_t low,
                      int64_t high)
{
    for (uint32_t i = 0; i < ints.n; i++) {
        if (ints.at[i] >= low && ints.at[i] <= high) continue;
        kiln_infer_fail(call, "%s is %s; expected entries in %lld to %lld", name,
                        kiln_ints_string(&call->graph->scope->arena, ints), (long long)low,
                        (long long)high);
    }
}

void kiln_infer_axes(const kiln_infer_call *call, const char *name, kiln_ints axes, uint32_t rank,
                     bool is_ascending)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < axes.n; i++) {
        int64_t axis = axes.at[i];
        bool is_good = axis >= 0 && axis < rank && !(seen >> axis & 1);
        if (is_good && is_ascending && i) is_good = axes.at[i - 1] < axis;
        if (!is_good) {
            kiln_infer_fail(call, "%s is %s; expected distinct %saxes below %u", name,
                            kiln_ints_string(&call->graph->scope->arena, axes),
                            is_ascending ? "ascending " : "", rank);
        }
        seen |= 1u << axis;
    }
}

void kiln_infer_axis(const kiln_infer_call *call, int64_t axis, uint32_t rank)
{
    if (axis >= 0 && axis < rank) return;
    kiln_infer_fail(call, "axis is %lld for %s; expected 0 to %d", (long long)axis,
                    call->n ? kiln_infer_types_string(call)
                            : kiln_type_string(&call->graph->scope->arena, call->given),
                    (int)rank - 1);
}

static bool has_type(const kiln_type *a, const kiln_type *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank) return false;
    for (uint32_t i = 0; i < a->rank; i++) {
        if (a->dims[i] != b->dims[i]) return false;
    }
    return true;
}

static bool has_dims(const kiln_type *a, const kiln_type *b)
{
    kiln_type like = *b;
    like.dtype = a->dtype;
    return has_type(a, &like);
}

static const kiln_type *retype(const kiln_infer_call *call, const kiln_type *type, kiln_dtype dtype)
{
    return kiln_graph_tensor(call->graph, dtype, type->rank, type->dims);
}

/* Rules of sources and elementwise rows */

static const kiln_type *infer_input(const kiln_infer_call *call)
{
    return call->given;
}

static const kiln_type *infer_constant(const kiln_infer_call *call)
{
    const kiln_literal *literal = &call->attrs->literal.value;
    bool is_splat = literal->kind == KILN_LITERAL_SPLAT;
    int64_t expected =
        is_splat ? (int64_t)kiln_dtype_bytes(call->given->dtype) : call->given->bytes;
    if ((unsigned)literal->kind > KILN_LITERAL_FILE) {
        kiln_infer_fail(call, "literal kind %d; expected splat, bytes, blob or file",
                        literal->kind);
    }
    if (literal->bytes != expected) {
        kiln_infer_fail(call, "%lld bytes for %s; expected %lld", (long long)literal->bytes,
                        kiln_type_string(&call->graph->scope->arena, call->given),
                        (long long)expected);
    }
    if (literal->kind == KILN_LITERAL_BYTES && literal->bytes > KILN_LITERAL_BYTES_MAX) {
        kiln_infer_fail(call, "%lld bytes by content; expected at most %d, or a blob",
                        (long long)literal->bytes, KILN_LITERAL_BYTES_MAX);
    }
    bool is_file = literal->kind == KILN_LITERAL_FILE;
    if (is_file ? !literal->file : !literal->data && literal->bytes) {
        kiln_infer_fail(call, "no %s; expected one", is_file ? "file name" : "data");
    }
    if (is_file && literal->offset < 0) {
        kiln_infer_fail(call, "file offset is %lld; expected 0 or more",
                        (long long)literal->offset);
    }
    return call->given;
}

static const kiln_type *infer_iota(const kiln_infer_call *call)
{
    if (!kiln_dtype_in(call->given->dtype, call->row->types)) {
        kiln_infer_fail(call, "result is %s; expected a number type",
                        kiln_type_string(&call->graph->scope->arena, call->given));
    }
    kiln_infer_axis(call, call->attrs->axis.axis, call->given->rank);
    return call->given;
}

static const kiln_type *infer_convert(const kiln_infer_call *call)
{
    if (!has_dims(call->types[0], call->given)) {
        kiln_infer_fail(call, "operand is %s and result %s; expected equal dims",
                        kiln_infer_types_string(call),
                        kiln_type_string(&call->graph->scope->arena, call->given));
    }
    return call->given;
}

static const kiln_type *infer_bitcast(const kiln_infer_call *call)
{
    kiln_dtype from = call->types[0]->dtype, to = call->given->dtype;
    bool is_bits = kiln_dtype_in(from, KILN_TYPES_NUMBER) && kiln_dtype_in(to, KILN_TYPES_NUMBER);
    if (!is_bits || kiln_dtype_bits(from) != kiln_dtype_bits(to)) {
        kiln_infer_fail(call, "from %s to %s; expected number dtypes of the same size",
                        kiln_dtype_name(from), kiln_dtype_name(to));
    }
    return infer_convert(call);
}

/* `abs`, `real` and `imag`: of complex operands a real. */
static const kiln_type *infer_part(const kiln_infer_call *call)
{
    return retype(call, call->types[0], kiln_dtype_part(call->types[0]->dtype));
}

static const kiln_type *infer_complex(const kiln_infer_call *call)
{
    kiln_dtype part = call->types[0]->dtype;
    if (part != KILN_f32 && part != KILN_f64)
        kiln_infer_fail(call, "operands are %s; expected f32 or f64",
                        kiln_infer_types_string(call));
    return retype(call, call->types[0], part == KILN_f32 ? KILN_c64 : KILN_c128);
}

static const kiln_type *infer_select(const kiln_infer_call *call)
{
    const kiln_type *condition = call->types[0], *value = call->types[1];
    if (!has_type(value, call->types[2]) || !has_dims(condition, value)) {
        kiln_infer_fail(call,
                        "operands are %s; expected bool and two equal types, all of the same dims",
                        kiln_infer_types_string(call));
    }
    return retype(call, value, value->dtype);
}

/* Rules of reductions */

static const kiln_type *reduce_to(const kiln_infer_call *call, kiln_ints axes, kiln_dtype dtype)
{
    const kiln_type *type = call->types[0];
    int64_t dims[KILN_MAX_RANK];
    uint32_t rank = 0;
    kiln_infer_axes(call, "axes", axes, type->rank, true);
    for (uint32_t axis = 0, dropped = 0; axis < type->rank; axis++) {
        if (dropped < axes.n && axes.at[dropped] == axis) {
            dropped++;
        } else {
            dims[rank++] = type->dims[axis];
        }
    }
    return kiln_graph_tensor(call->graph, dtype, rank, dims);
}

static const kiln_type *infer_reduce(const kiln_infer_call *call)
{
    return reduce_to(call, call->attrs->axes.axes, call->types[0]->dtype);
}

static const kiln_type *infer_arg(const kiln_infer_call *call)
{
    const kiln_type *type = call->types[0];
    int64_t axis = call->attrs->arg.axis;
    kiln_infer_axis(call, axis, type->rank);
    const kiln_type *result = reduce_to(call, (kiln_ints){1, &axis}, KILN_i64);
    if (type->dims[axis] == 0 && result->n_elements > 0) {
        kiln_infer_fail(call, "axis %lld of %s is empty; expected at least one element",
                        (long long)axis, kiln_infer_types_string(call));
    }
    return result;
}

/* `reverse` keeps the type. */
static const kiln_type *infer_reverse(const kiln_infer_call *call)
{
    kiln_infer_axes(call, "axes", call->attrs->axes.axes, call->types[0]->rank, true);
    return retype(call, call->types[0], call->types[0]->dtype);
}

/* Rows whose result is GIVEN or RULE. */
static kiln_infer_fn *const rules[KILN_N_OPS] = {
    [KILN_OP_input] = infer_input,
    [KILN_OP_constant] = infer_constant,
    [KILN_OP_iota] = infer_iota,
    [KILN_OP_convert] = infer_convert,
    [KILN_OP_bitcast] = infer_bitcast,
    [KILN_OP_select] = infer_select,
    [KILN_OP_abs] = infer_part,
    [KILN_OP_real] = infer_part,
    [KILN_OP_imag] = infer_part,
    [KILN_OP_complex] = infer_complex,
    [KILN_OP_reduce_sum] = infer_reduce,
    [KILN_OP_reduce_prod] = infer_reduce,
    [KILN_OP_reduce_max] = infer_reduce,
    [KILN_OP_reduce_min] = infer_reduce,
    [KILN_OP_reduce_any] = infer_reduce,
    [KILN_OP_reduce_all] = infer_reduce,
    [KILN_OP_argmax] = infer_arg,
    [KILN_OP_argmin] = infer_arg,
    [KILN_OP_window_sum] = kiln_infer_window,
    [KILN_OP_window_prod] = kiln_infer_window,
    [KILN_OP_window_max] = kiln_infer_window,
    [KILN_OP_window_min] = kiln_infer_window,
    [KILN_OP_broadcast] = kiln_infer_broadcast,
    [KILN_OP_reshape] = kiln_infer_reshape,
    [KILN_OP_transpose] = kiln_infer_transpose,
    [KILN_OP_slice] = kiln_infer_slice,
    [KILN_OP_reverse] = infer_reverse,
    [KILN_OP_pad] = kiln_infer_pad,
    [KILN_OP_concat] = kiln_infer_concat,
    [KILN_OP_take] = kiln_infer_take,
    [KILN_OP_dynamic_slice] = kiln_infer_dynamic_slice,
    [KILN_OP_dynamic_update] = kiln_infer_dynamic_update,
    [KILN_OP_gather] = kiln_infer_gather,
    [KILN_OP_scatter] = kiln_infer_scatter,
    [KILN_OP_scatter_add] = kiln_infer_scatter,
    [KILN_OP_scatter_mul] = kiln_infer_scatter,
    [KILN_OP_scatter_max] = kiln_infer_scatter,
    [KILN_OP_scatter_min] = kiln_infer_scatter,
    [KILN_OP_argsort] = kiln_infer_argsort,
    [KILN_OP_cumulative_sum] = kiln_infer_cumulative,
    [KILN_OP_cumulative_prod] = kiln_infer_cumulative,
    [KILN_OP_cumulative_max] = kiln_infer_cumulative,
    [KILN_OP_cumulative_min] = kiln_infer_cumulative,
    [KILN_OP_cholesky] = kiln_infer_cholesky,
    [KILN_OP_forward_solve] = kiln_infer_forward_solve,
    [KILN_OP_dot_general] = kiln_infer_dot,
    [KILN_OP_convolution] = kiln_infer_convolution,
    [KILN_OP_item] = kiln_infer_item,
    [KILN_OP_call] = kiln_infer_call_op,
    [KILN_OP_if] = kiln_infer_branches,
    [KILN_OP_case] = kiln_infer_branches,
    [KILN_OP_while] = kiln_infer_while,
    [KILN_OP_scan] = kiln_infer_scan,
    [KILN_OP_map] = kiln_infer_map,
    [KILN_OP_reduce] = kiln_infer_reduce,
    [KILN_OP_reduce_window] = kiln_infer_reduce_window,
    [KILN_OP_select_and_scatter] = kiln_infer_select_and_scatter,
    [KILN_OP_scatter_with] = kiln_infer_scatter_with,
    [KILN_OP_sort_by] = kiln_infer_sort_by,
    [KILN_OP_custom_call] = kiln_infer_custom,
};

/* The type of the expansion. The scratch graph has one input per operand number and type, so that
 * composites of the same types share their nodes and it does not grow with repeated layers. */
static const kiln_type *infer_expansion(const kiln_infer_call *call)
{
    kiln_graph *graph = call->graph, *scratch = graph->table->scratch;
    kiln_expand_fn *expand = kiln_expand_rules[call->op];
    if (!expand) kiln_fail(graph->scope, KILN_INTERNAL, "%s: no expansion", call->row->name);
    if (!scratch) {
        scratch = kiln_graph_open(graph->scope, graph->context, "scratch");
        kiln_scope_keep(graph->scope, scratch);
        graph->table->scratch = scratch;
    }
    kiln_graph_attach(scratch, graph->scope);
    kiln_value *inputs = kiln_new_array(&graph->scope->arena, kiln_value, call->n);
    for (uint32_t i = 0; i < call->n; i++) {
        const kiln_type *type = call->types[i];
        kiln_attrs attrs = {KILN_FAMILY_input, .input = {i, false}};
        kiln_node_spec spec = {.op = KILN_OP_input, .attrs = &attrs};
        spec.given = kiln_graph_tensor(scratch, type->dtype, type->rank, type->dims);
        inputs[i] = kiln_graph_add(scratch, &spec);
    }
    const kiln_type *type = kiln_graph_type(scratch, expand(scratch, inputs, call->n, call->attrs));
    return kiln_graph_tensor(graph, type->dtype, type->rank, type->dims);
}

/* What the row states */

static void check_count(const kiln_infer_call *call)
{
    const kiln_op_row *row = call->row;
    if (call->n < row->min_inputs || (row->max_inputs != 255 && call->n > row->max_inputs)) {
        kiln_infer_fail(call, "%u operands; expected %u%s", call->n, row->min_inputs,
                        row->max_inputs == row->min_inputs ? ""
                        : row->max_inputs == 255           ? " or more"
                                                           : " or one more");
    }
}

static const char *set_string(kiln_dtype_set set)
{
    static const char *const names[] = {
        [KILN_TYPES_FLOAT] = "a float dtype",
        [KILN_TYPES_INTEGER] = "an integer dtype",
        [KILN_TYPES_NUMBER] = "a number dtype",
        [KILN_TYPES_BITS] = "an integer dtype or bool",
        [KILN_TYPES_BOOL] = "bool",
        [KILN_TYPES_ANY] = "any dtype",
        [KILN_TYPES_ORDERED] = "any dtype but complex",
        [KILN_TYPES_FIELD] = "a float or complex dtype",
        [KILN_TYPES_ARITHMETIC] = "a number or complex dtype",
        [KILN_TYPES_COMPLEX] = "a complex dtype",
    };
    return names[set];
}

static void check_operands(const kiln_infer_call *call)
{
    const kiln_op_row *row = call->row;
    for (uint32_t i = 0; i < call->n; i++) {
        if (call->types[i]->n_items && call->op != KILN_OP_item)
            kiln_infer_fail(call, "operand %u is a tuple; expected a tensor", i);
    }
    if (call->n && !call->types[0]->n_items && !kiln_dtype_in(call->types[0]->dtype, row->types)) {
        kiln_infer_fail(call, "operand 0 is %s; expected %s",
                        kiln_types_string(&call->graph->scope->arena, call->types, 1),
                        set_string(row->types));
    }
    if (row->class_ != KILN_ELEMENTWISE || call->op == KILN_OP_select) return;
    for (uint32_t i = 1; i < call->n; i++) {
        if (has_type(call->types[0], call->types[i])) continue;
        kiln_infer_fail(call, "operands are %s; expected equal types",
                        kiln_infer_types_string(call));
    }
}

static void check_attrs(const kiln_infer_call *call)
{
    kiln_family family = call->attrs ? call->attrs->family : KILN_FAMILY_none;
    if (family != call->row->attrs) kiln_infer_fail(call, "attributes of another family");
    if ((call->row->result == KILN_RESULT_GIVEN) != (call->given != NULL)) {
        kiln_infer_fail(call, call->given ? "a result type is given; expected none"
                                          : "no result type; expected one");
    }
}

const kiln_type *kiln_infer_call_type(const kiln_infer_call *call)
{
    if ((unsigned)call->op - 1 >= KILN_N_OPS - 1) {
        kiln_fail(call->graph->scope, KILN_INVALID, "op number %u; expected a row of ops.def",
                  call->op);
    }
    check_count(call);
    check_operands(call);
    check_attrs(call);
    switch (call->row->result) {
    case KILN_RESULT_SAME:
        return retype(call, call->types[0], call->types[0]->dtype);
    case KILN_RESULT_BOOL:
        return retype(call, call->types[0], KILN_bool);
    case KILN_RESULT_GIVEN:
    case KILN_RESULT_RULE:
        if (rules[call->op]) return rules[call->op](call);
        break;
    case KILN_RESULT_EXPANSION:
        return infer_expansion(call);
    }
    kiln_fail(call->graph->scope, KILN_INTERNAL, "%s: no type rule", call->row->name);
}

const kiln_type *kiln_infer(kiln_graph *graph, const kiln_node_spec *spec)
{
    const kiln_type *few[8], **types = few;
    if (spec->n_inputs > 8) {
        types = kiln_new_array(&graph->scope->arena, const kiln_type *, spec->n_inputs);
    }
    for (uint32_t i = 0; i < spec->n_inputs; i++)
        types[i] = kiln_graph_type(graph, spec->inputs[i]);
    bool is_row = (unsigned)spec->op < KILN_N_OPS;
    kiln_infer_call call = {graph,      spec->op,       &kiln_op_rows[is_row ? spec->op : 0],
                            types,      spec->n_inputs, spec->attrs,
                            spec->given};
    return kiln_infer_call_type(&call);
}
