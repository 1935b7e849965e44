/* Einsum: the equation gives every axis a label. Operands are multiplied from left to right, each
 * time by one dot_general: labels of both that are needed later are batch, labels of both that are
 * not are contracted, labels of one that are not needed are summed away before. */
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "graph/io/onnx_op.h"

#define MAX_TERMS 16
#define FIRST_ELLIPSIS 128 /* labels of the axes of "...", the last axis has the highest */

typedef struct einsum_term {
    kiln_value value;
    uint32_t rank;
    uint8_t labels[KILN_MAX_RANK];
} einsum_term;

typedef struct einsum_plan {
    const char *equation;
    uint32_t n;
    einsum_term terms[MAX_TERMS], out;
} einsum_plan;

_Noreturn static void equation_fail(kiln_onnx_call *call, const einsum_plan *plan, const char *at,
                                    const char *expected)
{
    kiln_onnx_fail(call, "attr 'equation' %s: position %d; expected %s",
                   kiln_onnx_quote(&call->scope->arena, plan->equation), (int)(at - plan->equation),
                   expected);
}

static bool has_label(const einsum_term *term, uint8_t label)
{
    return memchr(term->labels, label, term->rank) != NULL;
}

static void label_push(kiln_onnx_call *call, einsum_term *term, uint8_t label)
{
    if (term->rank == KILN_MAX_RANK)
        kiln_onnx_refuse(call, "a term of more than %d axes", KILN_MAX_RANK);
    term->labels[term->rank++] = label;
}

/* Reads labels up to ',' or '-' or the end; `n_dots` axes stand for "...". */
static const char *term_read(kiln_onnx_call *call, const einsum_plan *plan, const char *at,
                             einsum_term *term, uint32_t n_dots)
{
    bool has_dots = false;
    for (; *at && *at != ',' && *at != '-'; at++) {
        if (*at == ' ') continue;
        if (isalpha((unsigned char)*at)) {
            label_push(call, term, (uint8_t)*at);
        } else if (!strncmp(at, "...", 3) && !has_dots) {
            has_dots = true;
            for (uint32_t i = 0; i < n_dots; i++)
                label_push(call, term, (uint8_t)(FIRST_ELLIPSIS + 16 - n_dots + i));
            at += 2;
        } else {
            equation_fail(call, plan, at, "letters and one '...'");
        }
    }
    return at;
}

static uint32_t letters_count(const char *at)
{
    uint32_t n = 0;
    for (; *at && *at != ',' && *at != '-'; at++) n += isalpha((unsigned char)*at) != 0;
    return n;
}

/* Without "->" the result has the labels that stand once, in order, after those of "...". */
static void output_imply(kiln_onnx_call *call, einsum_plan *plan)
{
    for (int pass = 0; pass < 2; pass++) {
        for (int label = pass ? 'A' : FIRST_ELLIPSIS; label < (pass ? FIRST_ELLIPSIS : 256);
             label++) {
            uint32_t n = 0;
            for (uint32_t i = 0; i < plan->n; i++) {
                for (uint32_t k = 0; k < plan->terms[i].rank; k++)
                    n += plan->terms[i].labels[k] == label;
            }
            if (n == 1 || (n && pass == 0)) label_push(call, &plan->out, (uint8_t)label);
        }
    }
}

static void plan_read(kiln_onnx_call *call, einsum_plan *plan)
{
    const char *at = plan->equation;
    uint32_t widest = 0;
    for (plan->n = 0; plan->n < MAX_TERMS; at++) {
        if (plan->n == call->n_inputs) equation_fail(call, plan, at, "as many terms as operands");
        const kiln_type *type = kiln_onnx_type(call, plan->n);
        uint32_t letters = letters_count(at),
                 n_dots = type->rank > letters ? type->rank - letters : 0;
        einsum_term *term = &plan->terms[plan->n];
        term->value = call->inputs[plan->n++];
        const char *end = term_read(call, plan, at, term, n_dots);
        if (term->rank != type->rank)
            equation_fail(call, plan, at, "as many labels as the operand has axes");
        if (n_dots > widest) widest = n_dots;
        at = end;
        if (*at != ',') break;
    }
    if (plan->n != call->n_inputs) equation_fail(call, plan, at, "as many terms as operands");
    if (*at == 0) {
        output_imply(call, plan);
        return;
    }
    if (strncmp(at, "->", 2)) equation_fail(call, plan, at, "'->'");
    at = term_read(call, plan, at + 2, &plan->out, widest);
    if (*at) equation_fail(call, plan, at, "the end");
    for (uint32_t i = 0; i < plan->out.rank; i++) {
        bool is_known = false;
        for (uint32_t k = 0; k < plan->n; k++)
            is_known = is_known || has_label(&plan->terms[k], plan->out.labels[i]);
        if (!is_known || memchr(plan->out.labels, plan->out.labels[i], i))
            equation_fail(call, plan, at, "each label of the result once, and in a term");
    }
}

/* A label that stands twice in a term becomes the diagonal: the two axes joined, every dim + 1-th.
 */
static void diagonal_take(kiln_onnx_call *call, einsum_term *term, uint32_t first, uint32_t second)
{
    const kiln_type *type = kiln_graph_type(call->graph, term->value);
    int64_t order[KILN_MAX_RANK], dims[KILN_MAX_RANK], n = type->dims[first];
    uint32_t rank = 0;
    if (type->dims[second] != n)
        kiln_onnx_fail(call, "label '%c' stands for %" PRId64 " and %" PRId64 "; expected one size",
                       term->labels[first], n, type->dims[second]);
    for (uint32_t i = 0; i < type->rank; i++) {
        if (i == first || i == second) continue;
        dims[rank] = type->dims[i];
        order[rank++] = i;
    }
    order[rank] = first;
    order[rank + 1] = second;
    dims[rank] = n * n;
    int64_t *places = kiln_onnx_dims(call, (uint32_t)n);
    for (int64_t i = 0; i < n; i++) places[i] = i * (n + 1);
    kiln_value joined = kiln_add_reshape(
        call->graph, kiln_add_transpose(call->graph, term->value, order), rank + 1, dims);
    kiln_value index = kiln_onnx_constant_ints(call, KILN_i64, (kiln_ints){(uint32_t)n, places});
    term->value = kiln_onnx_take(call, joined, index, rank);
    uint8_t label = term->labels[first], labels[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) labels[i] = term->labels[order[i]];
    labels[rank] = label;
    memcpy(term->labels, labels, rank + 1);
    term->rank = rank + 1;
}

static void diagonals_take(kiln_onnx_call *call, einsum_term *term)
{
    for (uint32_t i = 0; i < term->rank; i++) {
        const uint8_t *again = memchr(term->labels + i + 1, term->labels[i], term->rank - i - 1);
        if (!again) continue;
        diagonal_take(call, term, i, (uint32_t)(again - term->labels));
        i = (uint32_t)-1;
    }
}

/* Is the label in the result or in a term from `next` on? */
static bool is_needed(const einsum_plan *plan, uint8_t label, uint32_t next)
{
    bool found = has_label(&plan->out, label);
    for (uint32_t i = next; i < plan->n && !found; i++) found = has_label(&plan->terms[i], label);
    return found;
}

/* Sums away labels that neither `other` (may be NULL) nor anything later has. */
static void labels_sum(kiln_onnx_call *call, const einsum_plan *plan, einsum_term *term,
                       const einsum_term *other, uint32_t next)
{
    int64_t axes[KILN_MAX_RANK];
    uint32_t n = 0, rank = 0;
    for (uint32_t i = 0; i < term->rank; i++) {
        uint8_t label = term->labels[i];
        if (is_needed(plan, label, next) || (other && has_label(other, label))) {
            term->labels[rank++] = label;
        } else {
            axes[n++] = i;
        }
    }
    term->rank = rank;
    if (n) term->value = kiln_add_reduce(call->graph, KILN_OP_reduce_sum, term->value, n, axes);
}

/* Stretches dims of 1 that meet larger ones, as "..." does. */
static void dims_match(kiln_onnx_call *call, einsum_term *a, einsum_term *b)
{
    int64_t dims[2][KILN_MAX_RANK];
    einsum_term *terms[2] = {a, b};
    for (uint32_t t = 0; t < 2; t++) {
        const kiln_type *own = kiln_graph_type(call->graph, terms[t]->value);
        const kiln_type *other = kiln_graph_type(call->graph, terms[1 - t]->value);
        for (uint32_t i = 0; i < terms[t]->rank; i++) {
            const uint8_t *found =
                memchr(terms[1 - t]->labels, terms[t]->labels[i], terms[1 - t]->rank);
            int64_t theirs = found ? other->dims[found - terms[1 - t]->labels] : own->dims[i];
            dims[t][i] = own->dims[i] == 1 ? theirs : own->dims[i];
            if (theirs != dims[t][i] && theirs != 1)
                kiln_onnx_fail(call,
                               "a label stands for %" PRId64 " and %" PRId64 "; expected one size",
                               theirs, dims[t][i]);
        }
    }
    for (uint32_t t = 0; t < 2; t++)
        terms[t]->value =
            kiln_add_broadcast_to(call->graph, terms[t]->value, terms[t]->rank, dims[t]);
}

/* a and b become one term: batch labels, free labels of a, free labels of b. */
static void terms_multiply(kiln_onnx_call *call, const einsum_plan *plan, einsum_term *a,
                           einsum_term *b, uint32_t next)
{
    int64_t batch[2][KILN_MAX_RANK], contract[2][KILN_MAX_RANK];
    uint32_t n_batch = 0, n_contract = 0;
    einsum_term made = {0};
    labels_sum(call, plan, a, b, next);
    labels_sum(call, plan, b, a, next);
    dims_match(call, a, b);
    for (uint32_t i = 0; i < a->rank; i++) {
        const uint8_t *found = memchr(b->labels, a->labels[i], b->rank);
        if (!found) continue;
        bool is_batch = is_needed(plan, a->labels[i], next);
        int64_t *lists[2] = {is_batch ? batch[0] : contract[0], is_batch ? batch[1] : contract[1]};
        uint32_t at = is_batch ? n_batch++ : n_contract++;
        lists[0][at] = i;
        lists[1][at] = found - b->labels;
        if (is_batch) label_push(call, &made, a->labels[i]);
    }
    for (uint32_t i = 0; i < a->rank; i++) {
        if (!has_label(b, a->labels[i])) label_push(call, &made, a->labels[i]);
    }
    for (uint32_t i = 0; i < b->rank; i++) {
        if (!has_label(a, b->labels[i])) label_push(call, &made, b->labels[i]);
    }
    kiln_value operands[] = {a->value, b->value};
    kiln_dtype dtype = kiln_graph_type(call->graph, a->value)->dtype;
    kiln_attrs attrs = {KILN_FAMILY_dot, .dot = {{n_batch, batch[0]},
                                                 {n_batch, batch[1]},
                                                 {n_contract, contract[0]},
                                                 {n_contract, contract[1]},
                                                 kiln_dtype_accumulator(dtype)}};
    made.value = kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_dot_general,
                                                               .inputs = operands,
                                                               .n_inputs = 2,
                                                               .attrs = &attrs});
    *a = made;
}

static kiln_value import_einsum(kiln_onnx_call *call)
{
    einsum_plan *plan = kiln_new(&call->scope->arena, einsum_plan);
    plan->equation = kiln_onnx_string(call, "equation", "");
    if (call->n_inputs > MAX_TERMS) kiln_onnx_refuse(call, "over %d operands", MAX_TERMS);
    plan_read(call, plan);
    for (uint32_t i = 0; i < plan->n; i++) diagonals_take(call, &plan->terms[i]);
    einsum_term made = plan->terms[0];
    for (uint32_t i = 1; i < plan->n; i++)
        terms_multiply(call, plan, &made, &plan->terms[i], i + 1);
    labels_sum(call, plan, &made, NULL, plan->n);
    int64_t order[KILN_MAX_RANK];
    for (uint32_t i = 0; i < plan->out.rank; i++)
        order[i] =
            (const uint8_t *)memchr(made.labels, plan->out.labels[i], made.rank) - made.labels;
    return kiln_add_transpose(call->graph, made.value, order);
}

const kiln_onnx_row kiln_onnx_einsum_rows[] = {
    {"Einsum", 12, KILN_ONNX_NEWEST, 1, KILN_ONNX_ANY, import_einsum},
    {0},
};
