/* The verifier: reads a finished graph and recomputes what must hold of it, trusting nothing that
 * was known while it was built. Types are inferred again in a scratch graph and compared. Its
 * sentences are about mistakes of ours, so the status is INTERNAL. */
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "graph/attrs.h"
#include "graph/describe.h"
#include "graph/element.h"
#include "graph/infer.h"
#include "graph/table.h"

typedef struct verifier {
    const kiln_graph *graph;
    kiln_graph *scratch; /* infers types */
    kiln_scope *scope;
    const char *where;
    uint32_t id; /* the node looked at, or 0 */
} verifier;

#define VERIFY(verifier_, condition, ...)                                                          \
    do {                                                                                           \
        if (!(condition)) verify_fail((verifier_), __VA_ARGS__);                                   \
    } while (0)

__attribute__((format(printf, 2, 3))) _Noreturn static void verify_fail(const verifier *v,
                                                                        const char *format, ...)
{
    char sentence[KILN_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    if (v->id) kiln_fail(v->scope, KILN_INTERNAL, "%s: node %u %s", v->where, v->id, sentence);
    kiln_fail(v->scope, KILN_INTERNAL, "%s: %s", v->where, sentence);
}

static bool is_value(const verifier *v, kiln_value value, uint32_t below)
{
    return value.graph == v->graph->id && value.id > 0 && value.id < below;
}

static void verify_tuple(const verifier *v, const kiln_node *node)
{
    const kiln_type *type = node->type;
    bool may_be = kiln_node_row(node)->class_ == KILN_REGION && node->op != KILN_OP_item;
    VERIFY(v, may_be && type->items, "is a tuple of %u; expected a tensor", type->n_items);
    VERIFY(v, type->n_elements == type->n_items, "counts %lld elements; expected %u",
           (long long)type->n_elements, type->n_items);
    for (uint32_t i = 0; i < type->n_items; i++)
        VERIFY(v, type->items[i] && !type->items[i]->n_items, "has an item that is no tensor");
    int64_t end = kiln_type_item_offset(type, type->n_items);
    VERIFY(v, type->bytes == end, "says %lld bytes; its items give %lld", (long long)type->bytes,
           (long long)end);
    const kiln_type *found = kiln_graph_find_tuple(v->graph, type->n_items, type->items);
    VERIFY(v, found == type, "has a type that is not interned");
}

static void verify_tensor(const verifier *v, const kiln_type *type)
{
    int64_t elements, bytes;
    VERIFY(v, kiln_dtype_bytes(type->dtype) > 0, "has dtype number %d", (int)type->dtype);
    VERIFY(v, type->rank <= KILN_MAX_RANK, "has rank %u", type->rank);
    for (uint32_t i = 0; i < type->rank; i++) {
        VERIFY(v, type->dims[i] >= 0 && type->dims[i] <= KILN_MAX_DIM, "has dim %u of %lld", i,
               (long long)type->dims[i]);
    }
    VERIFY(v,
           kiln_checked_product(type->dims, type->rank, &elements) && elements <= KILN_MAX_ELEMENTS,
           "has too many elements");
    VERIFY(v, kiln_checked_bytes(elements, kiln_dtype_bits(type->dtype), &bytes), "is too large");
    VERIFY(v, type->n_elements == elements && type->bytes == bytes,
           "says %lld elements, %lld bytes; its dims give %lld, %lld", (long long)type->n_elements,
           (long long)type->bytes, (long long)elements, (long long)bytes);
    VERIFY(v, kiln_graph_find_type(v->graph, type->dtype, type->rank, type->dims) == type,
           "has a type that is not interned");
}

static void verify_operands(const verifier *v, const kiln_node *node)
{
    const kiln_op_row *row = kiln_node_row(node);
    bool is_any = row->max_inputs == 255;
    VERIFY(v, node->n_inputs >= row->min_inputs && (is_any || node->n_inputs <= row->max_inputs),
           "is %s with %u operands", row->name, node->n_inputs);
    VERIFY(v, node->inputs || node->n_inputs == 0, "has no list of operands");
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_value operand = node->inputs[i];
        VERIFY(v, is_value(v, operand, v->id),
               "has operand %u of id %u, graph %u; expected an id below its own", i, operand.id,
               operand.graph);
    }
}

static void verify_field(const verifier *v, const kiln_field_row *field, const void *at)
{
    if (field->kind == KILN_FIELD_KIND_INTS) {
        const kiln_ints *ints = at;
        VERIFY(v, ints->n <= KILN_MAX_RANK, "has %u entries in %s", ints->n, field->name);
        VERIFY(v, ints->n == 0 || ints->at, "has a list %s without entries", field->name);
    } else if (field->kind == KILN_FIELD_KIND_BOOL) {
        VERIFY(v, *(const uint8_t *)at <= 1, "has %s = %u", field->name, *(const uint8_t *)at);
    } else if (field->kind == KILN_FIELD_KIND_DTYPE) {
        VERIFY(v, kiln_dtype_bytes(*(const kiln_dtype *)at) > 0, "has %s = %d", field->name,
               *(const int *)at);
    } else if (field->kind == KILN_FIELD_KIND_STRING) {
        VERIFY(v, *(const char *const *)at, "has no string %s", field->name);
    } else if (field->kind == KILN_FIELD_KIND_REGIONS) {
        const kiln_regions *regions = at;
        VERIFY(v, regions->n <= KILN_MAX_REGIONS, "has %u regions", regions->n);
        for (uint32_t i = 0; i < regions->n; i++)
            VERIFY(v, regions->at[i] && regions->at[i]->is_closed, "has region %u not closed", i);
    }
}

static void verify_attrs(const verifier *v, const kiln_node *node)
{
    const kiln_op_row *row = kiln_node_row(node);
    VERIFY(v, (row->attrs == KILN_FAMILY_none) == (node->attrs == NULL), "has %s attributes for %s",
           node->attrs ? "needless" : "no", row->name);
    if (!node->attrs) return;
    VERIFY(v, node->attrs->family == row->attrs, "has attributes of family %d for %s",
           (int)node->attrs->family, row->name);
    const kiln_family_row *family = kiln_family_fields(row->attrs);
    for (uint32_t i = 0; i < family->n_fields; i++) {
        verify_field(v, &family->fields[i], kiln_attrs_field(node->attrs, &family->fields[i]));
    }
    bool has_serial = row->attrs == KILN_FAMILY_input || row->attrs == KILN_FAMILY_serial;
    int64_t serial = row->attrs == KILN_FAMILY_input ? node->attrs->input.serial
                     : has_serial                    ? node->attrs->serial.serial
                                                     : 0;
    VERIFY(v, !has_serial || (serial >= 0 && serial < v->graph->n_serials),
           "has serial %lld; expected 0 to %u", (long long)serial, v->graph->n_serials);
}

/* What the rule gives for the stored operands; a failure of the rule jumps with its own
 * sentence. */
static void verify_inference(const verifier *v, const kiln_node *node)
{
    const kiln_type *few[8], **types = few;
    if (node->n_inputs > 8)
        types = kiln_new_array(&v->scope->arena, const kiln_type *, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++)
        types[i] = v->graph->nodes.at[node->inputs[i].id]->type;
    const kiln_op_row *row = kiln_node_row(node);
    kiln_infer_call call = {v->scratch, (kiln_op)node->op, row, types, node->n_inputs, node->attrs};
    if (row->result == KILN_RESULT_GIVEN) call.given = node->type;
    const kiln_type *type = kiln_infer_call_type(&call);
    VERIFY(v, kiln_type_equal(type, node->type), "is %s %s; its rule gives %s", row->name,
           kiln_type_string(&v->scope->arena, node->type),
           kiln_type_string(&v->scope->arena, type));
}

static void verify_node(verifier *v, uint32_t id)
{
    const kiln_node *node = v->graph->nodes.at[id];
    v->id = id;
    VERIFY(v, node != NULL, "is missing");
    VERIFY(v, node->id == id, "says that its id is %u", node->id);
    VERIFY(v, node->op > KILN_OP_none && node->op < KILN_N_OPS, "has op number %u", node->op);
    verify_operands(v, node);
    VERIFY(v, node->type != NULL, "has no type");
    if (node->type->n_items)
        verify_tuple(v, node);
    else
        verify_tensor(v, node->type);
    verify_attrs(v, node);
    verify_inference(v, node);
}

/* Reports a name that comes twice among n names. */
static void verify_names(const verifier *v, const char *what, const char *const *names, uint32_t n)
{
    kiln_slots set = {0};
    for (uint32_t i = 0; i < n; i++) {
        VERIFY(v, names[i] != NULL, "%s %u has no name", what, i);
        uint64_t hash = kiln_name_hash(names[i]);
        for (uint32_t at = kiln_slots_first(&set, hash), found;
             (found = kiln_slots_next(&set, hash, &at));) {
            VERIFY(v, strcmp(names[found - 1], names[i]) != 0, "%s %u and %u share the name %s",
                   what, found - 1, i, kiln_quoted(&v->scope->arena, names[i]));
        }
        kiln_slots_reserve(&set, &v->scope->arena);
        kiln_slots_insert(&set, hash, i + 1);
    }
}

static void verify_inputs(const verifier *v)
{
    const kiln_graph *graph = v->graph;
    const char **names = kiln_new_array(&v->scope->arena, const char *, graph->inputs.n);
    uint32_t n = 0;
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        if (graph->nodes.at[id]->op != KILN_OP_input) continue;
        VERIFY(v,
               n < graph->inputs.n && graph->inputs.at[n].id == id &&
                   graph->inputs.at[n].graph == graph->id,
               "input node %u is not input %u of the graph", id, n);
        names[n++] = graph->nodes.at[id]->label;
    }
    VERIFY(v, n == graph->inputs.n, "the graph lists %u inputs and has %u", graph->inputs.n, n);
    verify_names(v, "inputs", names, n);
}

static void verify_count(const verifier *v, uint32_t i)
{
    const kiln_graph_output *output = &v->graph->outputs.at[i];
    uint32_t by = output->counted_by;
    if (by == KILN_NOT_COUNTED) return;
    VERIFY(v, output->counted_axis < v->graph->nodes.at[output->value.id]->type->rank,
           "output %u is counted along axis %u; expected one it has", i, output->counted_axis);
    VERIFY(v, by < v->graph->outputs.n && by != i,
           "output %u is counted by output %u, which is none", i, by);
    kiln_value counter = v->graph->outputs.at[by].value;
    VERIFY(v, is_value(v, counter, v->graph->nodes.n), "output %u is no value", by);
    const kiln_type *type = v->graph->nodes.at[counter.id]->type;
    VERIFY(v, !type->n_items && type->dtype == KILN_i64 && type->rank == 0,
           "output %u is counted by %s; expected i64[]", i,
           kiln_type_string(&v->scope->arena, type));
}

static void verify_ends(const verifier *v)
{
    const kiln_graph *graph = v->graph;
    const char **names = kiln_new_array(&v->scope->arena, const char *, graph->outputs.n);
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        VERIFY(v, is_value(v, graph->outputs.at[i].value, graph->nodes.n), "output %u is no value",
               i);
        names[i] = graph->outputs.at[i].name;
        verify_count(v, i);
    }
    verify_names(v, "outputs", names, graph->outputs.n);
    for (uint32_t i = 0; i < graph->checks.n; i++) {
        const kiln_graph_check *check = &graph->checks.at[i];
        VERIFY(v, is_value(v, check->value, graph->nodes.n), "check %u is no value", i);
        const kiln_type *type = graph->nodes.at[check->value.id]->type;
        VERIFY(v, !type->n_items && type->dtype == KILN_i64 && type->rank == 0,
               "check %u is %s; expected i64[]", i,
               kiln_type_string(&v->scope->arena, type));
        VERIFY(v, check->sentence != NULL, "check %u has no sentence", i);
    }
}

static void verify_graph(verifier *v)
{
    const kiln_graph *graph = v->graph;
    VERIFY(v, graph->id != 0, "the graph has id 0");
    VERIFY(v, graph->nodes.n > 0 && graph->nodes.at[0] == NULL, "node 0 is not empty");
    VERIFY(v, graph->origins.n == graph->nodes.n, "%u origins for %u nodes", graph->origins.n,
           graph->nodes.n);
    v->scratch = kiln_graph_open(v->scope, graph->context, "verify");
    for (uint32_t id = 1; id < graph->nodes.n; id++) verify_node(v, id);
    v->id = 0;
    verify_inputs(v);
    verify_ends(v);
}

static kiln_status graph_check(const kiln_graph *graph, const char *where, kiln_error *error)
{
    kiln_scope scope;
    kiln_scope_open(&scope, error);
    if (kiln_scope_try(&scope)) {
        verify_graph(&(verifier){.graph = graph, .scope = &scope, .where = where});
    }
    return kiln_scope_close(&scope);
}

kiln_status kiln_graph_verify(const kiln_graph *graph, const char *where, kiln_error *error)
{
    kiln_error own = {0};
    if (!where) where = "verify";
    kiln_status status = graph_check(graph, where, &own);
    if (status == KILN_OK) return KILN_OK;
    /* Rules speak as if to a user, of whom there is none here: the mistake is ours. */
    if (status == KILN_INVALID || status == KILN_LIMIT) {
        return kiln_error_set(error, KILN_INTERNAL, "%s: %s", where, own.message);
    }
    return kiln_error_set(error, status, "%s", own.message);
}
