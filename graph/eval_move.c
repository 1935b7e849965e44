/* The evaluator of nodes that only move elements: sources, VIEW and MOVE. Every one is a few
 * strided copies of a box. */
#include <string.h>

#include "graph/eval.h"

bool kiln_eval_walk_next(kiln_eval_walk *walk)
{
    for (uint32_t axis = walk->rank; axis-- > 0;) {
        for (int s = 0; s < 2; s++) {
            if (walk->strides[s]) walk->offset[s] += walk->strides[s][axis];
        }
        if (++walk->at[axis] < walk->dims[axis]) return true;
        for (int s = 0; s < 2; s++) {
            if (walk->strides[s]) walk->offset[s] -= walk->strides[s][axis] * walk->dims[axis];
        }
        walk->at[axis] = 0;
    }
    return false;
}

void kiln_eval_strides(uint32_t rank, const int64_t *dims, int64_t *out_strides)
{
    int64_t stride = 1;
    for (uint32_t i = rank; i-- > 0;) {
        out_strides[i] = stride;
        stride *= dims[i];
    }
}

static void copy_row(const kiln_eval_box *box, int64_t to, int64_t from)
{
    uint32_t last = box->rank - 1;
    int64_t n = box->rank ? box->dims[last] : 1;
    int64_t to_step = box->rank ? box->to_strides[last] : 1;
    int64_t from_step = box->rank ? box->from_strides[last] : 1;
    char *out = (char *)box->to + to * (int64_t)box->element;
    const char *in = (const char *)box->from + from * (int64_t)box->element;
    if (to_step == 1 && from_step == 1) {
        memcpy(out, in, (size_t)n * box->element);
        return;
    }
    to_step *= (int64_t)box->element;
    from_step *= (int64_t)box->element;
    for (int64_t i = 0; i < n; i++, out += to_step, in += from_step) memcpy(out, in, box->element);
}

void kiln_eval_copy(const kiln_eval_box *box)
{
    for (uint32_t i = 0; i < box->rank; i++) {
        if (box->dims[i] <= 0) return;
    }
    kiln_eval_walk walk = {.rank = box->rank ? box->rank - 1 : 0,
                           .dims = box->dims,
                           .strides = {box->to_strides, box->from_strides},
                           .offset = {box->to_start, box->from_start}};
    do copy_row(box, walk.offset[0], walk.offset[1]);
    while (kiln_eval_walk_next(&walk));
}

static void eval_iota(const kiln_eval_call *call)
{
    const kiln_type *type = call->node->type;
    int64_t axis = call->node->attrs->axis.axis, inner = 1;
    for (uint32_t i = (uint32_t)axis + 1; i < type->rank; i++) inner *= type->dims[i];
    for (int64_t i = 0; i < type->n_elements; i++) {
        uint64_t index = (uint64_t)(i / inner % type->dims[axis]);
        kiln_element_store_int(type->dtype, call->out, i, 1, &index, true);
    }
}

void kiln_eval_source(const kiln_eval_call *call)
{
    const kiln_type *type = call->node->type;
    if (call->node->op == KILN_OP_iota) {
        eval_iota(call);
        return;
    }
    kiln_literal_read(call->scope, type, &call->node->attrs->literal.value, call->out);
    uint8_t *bytes = call->out;
    for (int64_t i = 0; type->dtype == KILN_bool && i < type->bytes; i++) bytes[i] = bytes[i] != 0;
}

/* The result is a row-major walk over the operand with other strides and another start. */
void kiln_eval_view(const kiln_eval_call *call)
{
    const kiln_node *node = call->node;
    const kiln_type *type = node->type, *from = call->types[0];
    if (node->op == KILN_OP_reshape) {
        if (type->bytes) memcpy(call->out, call->in[0], (size_t)type->bytes);
        return;
    }
    int64_t operand[KILN_MAX_RANK], strides[KILN_MAX_RANK] = {0}, result[KILN_MAX_RANK], start = 0;
    kiln_eval_strides(from->rank, from->dims, operand);
    kiln_eval_strides(type->rank, type->dims, result);
    for (uint32_t i = 0; i < from->rank; i++) {
        if (node->op == KILN_OP_broadcast) {
            strides[node->attrs->axes.axes.at[i]] = from->dims[i] == 1 ? 0 : operand[i];
        } else if (node->op == KILN_OP_transpose) {
            strides[i] = operand[node->attrs->permutation.permutation.at[i]];
        } else if (node->op == KILN_OP_slice) {
            start += node->attrs->slice.starts.at[i] * operand[i];
            strides[i] = node->attrs->slice.strides.at[i] * operand[i];
        } else {
            strides[i] = operand[i];
        }
    }
    if (node->op == KILN_OP_reverse) {
        for (uint32_t i = 0; i < node->attrs->axes.axes.n; i++) {
            int64_t axis = node->attrs->axes.axes.at[i];
            start += (from->dims[axis] - 1) * operand[axis];
            strides[axis] = -operand[axis];
        }
    }
    kiln_eval_copy(&(kiln_eval_box){type->rank, type->dims, kiln_dtype_bytes(type->dtype),
                                    call->out, 0, result, call->in[0], start, strides});
}

/* First the padding everywhere, then the box of operand elements that stay inside. */
static void eval_pad(const kiln_eval_call *call)
{
    const kiln_type *type = call->node->type, *from = call->types[0];
    size_t element = kiln_dtype_bytes(type->dtype);
    for (int64_t i = 0; i < type->n_elements; i++) {
        memcpy((char *)call->out + (size_t)i * element, call->in[1], element);
    }
    int64_t to[KILN_MAX_RANK], in[KILN_MAX_RANK], dims[KILN_MAX_RANK], to_start = 0, from_start = 0;
    kiln_eval_strides(type->rank, type->dims, to);
    kiln_eval_strides(from->rank, from->dims, in);
    for (uint32_t i = 0; i < type->rank; i++) {
        int64_t low = call->node->attrs->pad.low.at[i];
        int64_t step = call->node->attrs->pad.interior.at[i] + 1;
        int64_t first =
            low < 0 ? (-low + step - 1) / step : 0; /* first with low + first step >= 0 */
        int64_t room = type->dims[i] - 1 - low;     /* last with low + last step < dim */
        int64_t last = room < 0 ? -1 : room / step;
        if (last > from->dims[i] - 1) last = from->dims[i] - 1;
        dims[i] = last - first + 1;
        to_start += (low + first * step) * to[i];
        from_start += first * in[i];
        to[i] *= step;
    }
    kiln_eval_copy(&(kiln_eval_box){type->rank, dims, element, call->out, to_start, to, call->in[0],
                                    from_start, in});
}

static void eval_concat(const kiln_eval_call *call)
{
    const kiln_type *type = call->node->type;
    int64_t to[KILN_MAX_RANK], from[KILN_MAX_RANK], at = 0, axis = call->node->attrs->axis.axis;
    kiln_eval_strides(type->rank, type->dims, to);
    for (uint32_t i = 0; i < call->node->n_inputs; i++) {
        const kiln_type *part = call->types[i];
        kiln_eval_strides(part->rank, part->dims, from);
        kiln_eval_copy(&(kiln_eval_box){part->rank, part->dims, kiln_dtype_bytes(type->dtype),
                                        call->out, at * to[axis], to, call->in[i], 0, from});
        at += part->dims[axis];
    }
}

/* An index of any integer dtype, clamped to 0 … top. */
static int64_t index_clamped(const kiln_type *type, const void *data, int64_t at, int64_t top)
{
    uint64_t value;
    kiln_element_load_int(type->dtype, data, at, 1, &value);
    if (kiln_eval_int_of(type->dtype).is_signed && (int64_t)value < 0) return 0;
    return value > (uint64_t)top ? top : (int64_t)value;
}

static void eval_take(const kiln_eval_call *call)
{
    const kiln_type *from = call->types[0], *indices = call->types[1];
    int64_t axis = call->node->attrs->axis.axis, outer = 1, inner = 1;
    for (int64_t i = 0; i < axis; i++) outer *= from->dims[i];
    for (uint32_t i = (uint32_t)axis + 1; i < from->rank; i++) inner *= from->dims[i];
    if (call->node->type->n_elements == 0) return;
    size_t block = (size_t)inner * kiln_dtype_bytes(from->dtype);
    char *to = call->out;
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t i = 0; i < indices->n_elements; i++, to += block) {
            int64_t at = index_clamped(indices, call->in[1], i, from->dims[axis] - 1);
            memcpy(to, (const char *)call->in[0] + (size_t)(o * from->dims[axis] + at) * block,
                   block);
        }
    }
}

/* Start of the block `part` inside `whole`, from the index operand, clamped so that it fits. */
static int64_t block_start(const kiln_type *whole, const kiln_type *part, const kiln_type *indices,
                           const void *data)
{
    int64_t strides[KILN_MAX_RANK], start = 0;
    kiln_eval_strides(whole->rank, whole->dims, strides);
    for (uint32_t i = 0; i < whole->rank; i++) {
        start += index_clamped(indices, data, i, whole->dims[i] - part->dims[i]) * strides[i];
    }
    return start;
}

static void eval_dynamic_slice(const kiln_eval_call *call)
{
    const kiln_type *type = call->node->type, *from = call->types[0];
    int64_t to[KILN_MAX_RANK], in[KILN_MAX_RANK];
    kiln_eval_strides(type->rank, type->dims, to);
    kiln_eval_strides(from->rank, from->dims, in);
    int64_t start = block_start(from, type, call->types[1], call->in[1]);
    kiln_eval_copy(&(kiln_eval_box){type->rank, type->dims, kiln_dtype_bytes(type->dtype),
                                    call->out, 0, to, call->in[0], start, in});
}

static void eval_dynamic_update(const kiln_eval_call *call)
{
    const kiln_type *type = call->node->type, *part = call->types[1];
    int64_t to[KILN_MAX_RANK], in[KILN_MAX_RANK];
    if (type->bytes) memcpy(call->out, call->in[0], (size_t)type->bytes);
    kiln_eval_strides(type->rank, type->dims, to);
    kiln_eval_strides(part->rank, part->dims, in);
    int64_t start = block_start(type, part, call->types[2], call->in[2]);
    kiln_eval_copy(&(kiln_eval_box){part->rank, part->dims, kiln_dtype_bytes(type->dtype),
                                    call->out, start, to, call->in[1], 0, in});
}

void kiln_eval_move(const kiln_eval_call *call)
{
    static kiln_eval_fn *const moves[KILN_N_OPS] = {
        [KILN_OP_pad] = eval_pad,
        [KILN_OP_concat] = eval_concat,
        [KILN_OP_take] = eval_take,
        [KILN_OP_dynamic_slice] = eval_dynamic_slice,
        [KILN_OP_dynamic_update] = eval_dynamic_update,
        [KILN_OP_gather] = kiln_eval_gather,
    };
    moves[call->node->op](call);
}
