/* The evaluator of ELEMENTWISE nodes: operands are loaded in chunks into working form, the scalar
 * meaning is applied, the result is rounded or wrapped on the way out. */
#include <string.h>

#include "graph/eval.h"

#define CHUNK 512

typedef struct chunk {
    union {
        double f[CHUNK];
        uint64_t i[CHUNK];
    } in[3];
    union {
        double f[CHUNK];
        uint64_t i[CHUNK];
    } out;
} chunk;

/* convert: the load and the store do all of it. */
static void convert_values(const kiln_eval_call *call)
{
    chunk c;
    kiln_dtype from = call->types[0]->dtype, to = call->node->type->dtype;
    bool is_float = kiln_eval_is_float(call->types[0]);
    int64_t n = call->node->type->n_elements;
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t m = n - at < CHUNK ? n - at : CHUNK;
        if (is_float) {
            kiln_element_load_double(from, call->in[0], at, m, c.in[0].f);
            kiln_element_store_double(to, call->out, at, m, c.in[0].f);
        } else {
            kiln_element_load_int(from, call->in[0], at, m, c.in[0].i);
            kiln_element_store_int(to, call->out, at, m, c.in[0].i,
                                   kiln_eval_int_of(from).is_signed);
        }
    }
}

static void bitcast_values(const kiln_eval_call *call)
{
    int64_t n = call->node->type->bytes;
    if (call->node->type->dtype != KILN_bool) {
        if (n) memcpy(call->out, call->in[0], (size_t)n);
        return;
    }
    const uint8_t *from = call->in[0];
    uint8_t *to = call->out;
    for (int64_t i = 0; i < n; i++) to[i] = from[i] != 0;
}

static void select_values(const kiln_eval_call *call)
{
    const uint8_t *condition = call->in[0];
    size_t element = kiln_dtype_bytes(call->node->type->dtype);
    char *to = call->out;
    for (int64_t i = 0; i < call->node->type->n_elements; i++) {
        const char *from = call->in[condition[i] ? 1 : 2];
        memcpy(to + (size_t)i * element, from + (size_t)i * element, element);
    }
}

static void apply_float(const kiln_eval_call *call, chunk *c, int64_t m)
{
    const kiln_eval_scalar *scalar = &kiln_eval_scalars[call->node->op];
    if (call->node->op == KILN_OP_clamp) {
        kiln_eval_binary_fn *max = kiln_eval_scalars[KILN_OP_max].binary;
        kiln_eval_binary_fn *min = kiln_eval_scalars[KILN_OP_min].binary;
        for (int64_t i = 0; i < m; i++)
            c->out.f[i] = min(max(c->in[0].f[i], c->in[1].f[i]), c->in[2].f[i]);
    } else if (call->node->n_inputs == 1) {
        for (int64_t i = 0; i < m; i++) c->out.f[i] = scalar->unary(c->in[0].f[i]);
    } else {
        for (int64_t i = 0; i < m; i++) c->out.f[i] = scalar->binary(c->in[0].f[i], c->in[1].f[i]);
    }
}

static void apply_int(const kiln_eval_call *call, chunk *c, int64_t m)
{
    const kiln_eval_scalar *scalar = &kiln_eval_scalars[call->node->op];
    kiln_eval_int kind = kiln_eval_int_of(call->types[0]->dtype);
    if (call->node->op == KILN_OP_clamp) {
        kiln_eval_binary_int_fn *max = kiln_eval_scalars[KILN_OP_max].binary_int;
        kiln_eval_binary_int_fn *min = kiln_eval_scalars[KILN_OP_min].binary_int;
        for (int64_t i = 0; i < m; i++) {
            uint64_t low = max(c->in[0].i[i], c->in[1].i[i], &kind);
            c->out.i[i] = min(low, c->in[2].i[i], &kind);
        }
    } else if (call->node->n_inputs == 1) {
        for (int64_t i = 0; i < m; i++) c->out.i[i] = scalar->unary_int(c->in[0].i[i], &kind);
    } else {
        for (int64_t i = 0; i < m; i++) {
            c->out.i[i] = scalar->binary_int(c->in[0].i[i], c->in[1].i[i], &kind);
        }
    }
}

/* Fails where the table has no meaning for the op and dtype: a row was added to ops.def only. */
static void check_meaning(const kiln_eval_call *call, bool is_float)
{
    const kiln_eval_scalar *scalar = &kiln_eval_scalars[call->node->op];
    bool has = call->node->op == KILN_OP_clamp;
    if (call->node->n_inputs == 1)
        has = is_float ? scalar->unary != NULL : scalar->unary_int != NULL;
    if (call->node->n_inputs == 2)
        has = is_float ? scalar->binary != NULL : scalar->binary_int != NULL;
    if (!has) {
        kiln_fail(call->scope, KILN_INTERNAL, "evaluator: %s has no meaning for %s; expected a row",
                  kiln_node_row(call->node)->name, kiln_dtype_name(call->types[0]->dtype));
    }
}

void kiln_eval_elementwise(const kiln_eval_call *call)
{
    const kiln_node *node = call->node;
    if (node->op == KILN_OP_convert) {
        convert_values(call);
        return;
    }
    if (node->op == KILN_OP_bitcast) {
        bitcast_values(call);
        return;
    }
    if (node->op == KILN_OP_select) {
        select_values(call);
        return;
    }

    kiln_dtype from = call->types[0]->dtype, to = node->type->dtype;
    bool is_float = kiln_eval_is_float(call->types[0]);
    bool is_signed = kiln_eval_int_of(from).is_signed;
    check_meaning(call, is_float);
    chunk c;
    int64_t n = node->type->n_elements;
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t m = n - at < CHUNK ? n - at : CHUNK;
        for (uint32_t i = 0; i < node->n_inputs; i++) {
            if (is_float)
                kiln_element_load_double(from, call->in[i], at, m, c.in[i].f);
            else
                kiln_element_load_int(from, call->in[i], at, m, c.in[i].i);
        }
        if (is_float) {
            apply_float(call, &c, m);
            kiln_element_store_double(to, call->out, at, m, c.out.f);
        } else {
            apply_int(call, &c, m);
            kiln_element_store_int(to, call->out, at, m, c.out.i, is_signed);
        }
    }
}
