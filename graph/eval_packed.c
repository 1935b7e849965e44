/* The evaluator of nodes that move elements of 2 and 4 bits: operands are unpacked into a wider
 * dtype that holds the same values, the node is evaluated in it, the result is packed. */
#include <string.h>

#include "graph/eval.h"

static kiln_dtype wide_dtype(kiln_dtype dtype)
{
    switch ((int)dtype) {
    case KILN_i2:
    case KILN_i4:
        return KILN_i8;
    case KILN_u2:
    case KILN_u4:
        return KILN_u8;
    case KILN_f4e2m1:
        return KILN_f16; /* has infinities: the least and the greatest of nothing */
    default:
        return dtype;
    }
}

static bool is_packed(const kiln_type *type)
{
    return !type->n_items && kiln_dtype_bits(type->dtype) < 8;
}

/* A scatter that rounds each step sees the elements as they are. */
static bool has_steps(const kiln_node *node)
{
    return node->op == KILN_OP_scatter_add || node->op == KILN_OP_scatter_mul;
}

bool kiln_eval_is_packed_move(const kiln_eval_call *call)
{
    kiln_class class_ = kiln_node_row(call->node)->class_;
    bool has_packed = is_packed(call->node->type);
    for (uint32_t i = 0; i < call->node->n_inputs; i++) has_packed |= is_packed(call->types[i]);
    bool is_move = class_ == KILN_VIEW || class_ == KILN_MOVE || class_ == KILN_ROUTINE;
    if (has_steps(call->node)) return false;
    return has_packed && (is_move || call->node->op == KILN_OP_select);
}

static const kiln_type *wide_type(const kiln_eval_call *call, const kiln_type *type)
{
    kiln_type *copy = kiln_arena_copy(call->scratch, type, sizeof *type);
    copy->dtype = wide_dtype(type->dtype);
    copy->bytes = type->n_elements * (int64_t)kiln_dtype_bytes(copy->dtype);
    return copy;
}

/* Integers wrap. */
static void copy_values(const kiln_type *from, const void *data, const kiln_type *to, void *out)
{
    bool is_float = kiln_dtype_in(from->dtype, KILN_TYPES_FLOAT);
    for (int64_t i = 0; i < from->n_elements; i++) {
        double value;
        uint64_t whole;
        if (is_float) {
            kiln_element_load_double(from->dtype, data, i, 1, &value);
            kiln_element_store_double(to->dtype, out, i, 1, &value);
        } else {
            kiln_element_load_int(from->dtype, data, i, 1, &whole);
            kiln_element_store_int(to->dtype, out, i, 1, &whole, true);
        }
    }
}

void kiln_eval_packed_move(const kiln_eval_call *call)
{
    uint32_t n = call->node->n_inputs;
    const kiln_type **types = kiln_new_array(call->scratch, const kiln_type *, n);
    const void **in = kiln_new_array(call->scratch, const void *, n);
    for (uint32_t i = 0; i < n; i++) {
        types[i] = call->types[i];
        in[i] = call->in[i];
        if (!is_packed(types[i])) continue;
        types[i] = wide_type(call, call->types[i]);
        void *bytes = kiln_arena_alloc(call->scratch, (size_t)types[i]->bytes);
        copy_values(call->types[i], call->in[i], types[i], bytes);
        in[i] = bytes;
    }
    kiln_node node = *call->node;
    const kiln_type *type = node.type;
    if (!is_packed(type)) {
        kiln_eval_node(&(kiln_eval_call){call->scope, call->scratch, &node, types, in, call->out});
        return;
    }
    node.type = wide_type(call, type);
    void *out = kiln_arena_alloc(call->scratch, (size_t)node.type->bytes);
    kiln_eval_node(&(kiln_eval_call){call->scope, call->scratch, &node, types, in, out});
    copy_values(node.type, out, type, call->out);
}
