/* Batches: operands with the special values of their dtype, nodes, outputs. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/describe.h"
#include "ops/cases.h"

uint64_t op_random(op_batch *batch)
{
    uint64_t z = batch->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static const double float_specials[] = {
    NAN,        INFINITY, -INFINITY, 0.0,      -0.0,     1,         -1,
    0.5,        -0.5,     1.5,       2.5,      -2.5,     3,         -3,
    0.1,        1e-3,     0x1p-14,   -0x1p-24, 0x1p-126, -0x1p-149, 0x1p-133,
    65504,      -65536,   88.5,      -87,      104,      0x1p24,    0x1.fffffep127,
    -0x1.8p126, M_PI_2,   -11.25,    100.125,  -709,     0x1p63,
};
static const int64_t int_specials[] = {
    0,
    1,
    -1,
    2,
    -2,
    3,
    5,
    7,
    -7,
    8,
    15,
    16,
    31,
    32,
    33,
    63,
    64,
    100,
    -100,
    127,
    -128,
    255,
    32767,
    -32768,
    65535,
    INT32_MAX,
    INT32_MIN,
    UINT32_MAX,
    INT64_MAX,
    INT64_MIN,
    INT64_MIN + 1,
};

static bool is_float_dtype(kiln_dtype dtype)
{
    return kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_FLOAT;
}

int64_t op_n_specials(kiln_dtype dtype)
{
    if (is_float_dtype(dtype)) return sizeof float_specials / sizeof *float_specials;
    return dtype == KILN_bool ? 2 : sizeof int_specials / sizeof *int_specials;
}

static double unit(op_batch *batch)
{
    return (double)(op_random(batch) >> 11) * 0x1p-53;
}

/* A float of any size: a third near 1, a third of random exponent, a third small integers. */
static double any_float(op_batch *batch)
{
    double value = unit(batch) * 8 - 4;
    uint64_t pick = op_random(batch);
    if (pick % 3 == 1) return ldexp(value, (int)(pick >> 8 & 63) - 32);
    return pick % 3 == 2 ? rint(value * 4) : value;
}

static double make_float(op_batch *batch, op_values values, int64_t index)
{
    int64_t n = op_n_specials(KILN_f32);
    switch (values) {
    case OP_VALUES_SMALL:
        return unit(batch) * 4 - 2;
    case OP_VALUES_UNIT:
        return unit(batch) * 1.5 + 0.25;
    case OP_VALUES_ANY:
        return index < n ? float_specials[index] : any_float(batch);
    case OP_VALUES_LEFT:
        return index < n * n ? float_specials[index % n] : any_float(batch);
    case OP_VALUES_RIGHT:
        return index < n * n ? float_specials[index / n] : any_float(batch);
    case OP_VALUES_WIDE:
        break; /* wide_float */
    }
    return 0;
}

/* Every exponent of the dtype as often, denormals too. */
static double wide_float(op_batch *batch, kiln_dtype dtype)
{
    int least = dtype == KILN_f64 ? -1075 : dtype == KILN_f16 ? -25 : -150;
    int most = dtype == KILN_f64 ? 1023 : dtype == KILN_f16 ? 15 : 127;
    int exponent = least + (int)(op_random(batch) % (uint64_t)(most - least + 1));
    double value = ldexp(1 + unit(batch), exponent);
    return op_random(batch) & 1 ? -value : value;
}

static uint64_t make_int(op_batch *batch, kiln_dtype dtype, op_values values, int64_t index)
{
    int64_t n = op_n_specials(dtype);
    bool is_unsigned = kiln_dtype_kind_of(dtype) != KILN_DTYPE_KIND_INT;
    uint64_t any = op_random(batch);
    if (values == OP_VALUES_SMALL)
        return is_unsigned ? any % 10 : (uint64_t)((int64_t)(any % 19) - 9);
    if (values == OP_VALUES_UNIT) return 1 + any % 2;
    if (values == OP_VALUES_WIDE) return any >> any % 64; /* every length as often */
    if (op_random(batch) & 1) any = (uint64_t)((int64_t)(any % 257) - 128);
    if (values == OP_VALUES_ANY) return index < n ? (uint64_t)int_specials[index] : any;
    if (index >= n * n) return any;
    return (uint64_t)int_specials[values == OP_VALUES_LEFT ? index % n : index / n];
}

static void fill_input(op_batch *batch, kiln_dtype dtype, int64_t n, op_values values, void *data)
{
    for (int64_t i = 0; i < n; i++) {
        if (is_float_dtype(dtype)) {
            bool is_wide = values == OP_VALUES_WIDE;
            double value = is_wide ? wide_float(batch, dtype) : make_float(batch, values, i);
            kiln_element_store_double(dtype, data, i, 1, &value);
        } else {
            uint64_t value = make_int(batch, dtype, values, i);
            if (dtype == KILN_bool)
                value = values == OP_VALUES_RIGHT ? (uint64_t)(i / 2 & 1) : value & 1;
            kiln_element_store_int(dtype, data, i, 1, &value, true);
        }
    }
}

void *op_values_new(op_batch *batch, const kiln_type *type, op_values values)
{
    void *data = kiln_arena_alloc(&batch->scope->arena, (size_t)type->bytes + 16);
    bool is_complex = kiln_dtype_in(type->dtype, KILN_TYPES_COMPLEX);
    fill_input(batch, kiln_dtype_part(type->dtype), type->n_elements * (is_complex ? 2 : 1), values,
               data);
    return data;
}

kiln_value op_input(op_batch *batch, kiln_dtype dtype, uint32_t rank, const int64_t *dims,
                    op_values values)
{
    kiln_arena *arena = &batch->scope->arena;
    const kiln_type *type = kiln_graph_tensor(batch->graph, dtype, rank, dims);
    void *data = op_values_new(batch, type, values);
    kiln_tensor tensor = {dtype, rank, type->dims, data, (size_t)type->bytes};
    const char *name = kiln_arena_format(arena, "in%u", batch->inputs.n);
    kiln_vec_push(&batch->inputs, arena, tensor);
    return kiln_add_input(batch->graph, type, name, false);
}

static const kiln_tensor *input_tensor(const op_batch *batch, kiln_value input)
{
    for (uint32_t i = 0; i < batch->graph->inputs.n; i++) {
        if (batch->graph->inputs.at[i].id == input.id) return &batch->inputs.at[i];
    }
    return NULL;
}

const void *op_data(const op_batch *batch, kiln_value input)
{
    return input_tensor(batch, input)->data;
}

long double op_element(const op_batch *batch, kiln_value input, int64_t index)
{
    const kiln_tensor *tensor = input_tensor(batch, input);
    if (is_float_dtype(tensor->dtype)) {
        double value;
        kiln_element_load_double(tensor->dtype, tensor->data, index, 1, &value);
        return value;
    }
    uint64_t value;
    kiln_element_load_int(tensor->dtype, tensor->data, index, 1, &value);
    bool is_signed = kiln_dtype_kind_of(tensor->dtype) == KILN_DTYPE_KIND_INT;
    return is_signed ? (long double)(int64_t)value : (long double)value;
}

kiln_value op_node(op_batch *batch, kiln_op op, uint32_t n_inputs, const kiln_value *inputs,
                   const kiln_attrs *attrs)
{
    return kiln_graph_add(
        batch->graph,
        &(kiln_node_spec){.op = op, .inputs = inputs, .n_inputs = n_inputs, .attrs = attrs});
}

kiln_value op_node_given(op_batch *batch, kiln_op op, const kiln_type *given, kiln_value input,
                         const kiln_attrs *attrs)
{
    return kiln_graph_add(batch->graph, &(kiln_node_spec){.op = op,
                                                          .given = given,
                                                          .inputs = &input,
                                                          .n_inputs = input.id ? 1 : 0,
                                                          .attrs = attrs});
}

const kiln_type *op_type(const op_batch *batch, kiln_value value)
{
    return kiln_graph_type(batch->graph, value);
}

void op_case(op_batch *batch, kiln_value value, const char *variant, const op_reference *reference)
{
    static const op_reference none;
    kiln_arena *arena = &batch->scope->arena;
    const kiln_node *node = kiln_graph_node(batch->graph, value);
    const char *operand = "";
    if (node->n_inputs) {
        operand = kiln_type_string(arena, op_type(batch, node->inputs[node->op == KILN_OP_select]));
    }
    const char *name =
        kiln_arena_format(arena, "%u: %s%s%s of %s", batch->references.n, kiln_node_row(node)->name,
                          *variant ? " " : "", variant, operand);
    kiln_add_output(batch->graph, value, name);
    kiln_vec_push(&batch->references, arena, reference ? *reference : none);
}

op_reference op_reference_new(op_batch *batch, int64_t n, double ulps)
{
    op_reference reference = {.ulps = ulps};
    reference.expected = kiln_arena_array(&batch->scope->arena, (size_t)n + 1, sizeof(long double));
    return reference;
}
