/* Rows of a batch: follows them through a graph, node by node, and prints the graph's form. The
 * rules are in rows_rules.c.
 *
 *     %1: f32[N,4] = mul %x, %x            each row apart, along axis 0
 *     %2: f32[4] = reduce_sum %1 {axes = [0]}    mixes rows: refused */
#include "passes/rows.h"

#include <string.h>

#include "base/hash.h"
#include "graph/attrs.h"
#include "graph/describe.h"
#include "passes/rewrite.h"
#include "passes/rows_rules.h"

/* Names the node as the user wrote it. */
_Noreturn static void fail_mixed(kiln_scope *scope, const kiln_rows *rows, const kiln_graph *source,
                                 const kiln_row_state *state)
{
    const kiln_node *node = rows->graph->nodes.at[state->at];
    uint32_t origin = rows->graph->origins.at[state->at];
    bool is_known = origin > 0 && origin < source->nodes.n;
    kiln_value value = {is_known ? origin : state->at, is_known ? source->id : rows->graph->id};
    const char *label = is_known ? source->nodes.at[origin]->label : node->label;
    kiln_fail(scope, KILN_UNSUPPORTED,
              "rows: node %s%s%s mixes the rows of the batch: %s; expected rows apart",
              kiln_node_string(&scope->arena, is_known ? source : rows->graph, value),
              label ? " " : "", label ? kiln_quoted(&scope->arena, label) : "", state->why);
}

static void check_outputs(kiln_scope *scope, const kiln_rows *rows, const kiln_graph *source)
{
    const kiln_graph *graph = rows->graph;
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_graph_output *output = &graph->outputs.at[i];
        const kiln_row_state *state = &rows->states[output->value.id];
        if (state->kind == KILN_ROW_MIXED || state->kind == KILN_ROW_COUNT)
            fail_mixed(scope, rows, source, state);
        if (state->kind == KILN_ROW_FIXED || state->axis != 0)
            kiln_fail(scope, KILN_UNSUPPORTED,
                      "rows: output %s is %s, without the rows of the batch along its first axis; "
                      "expected one entry or more a row",
                      kiln_quoted(&scope->arena, output->name ? output->name : ""),
                      kiln_type_string(&scope->arena, kiln_graph_type(graph, output->value)));
    }
    for (uint32_t i = 0; i < graph->checks.n; i++) {
        const kiln_row_state *state = &rows->states[graph->checks.at[i].value.id];
        if (state->kind == KILN_ROW_MIXED) fail_mixed(scope, rows, source, state);
    }
}

static void print_literal(kiln_scope *scope, kiln_text *text, const kiln_literal *literal)
{
    if (literal->kind == KILN_LITERAL_FILE) {
        kiln_text_printf(text, " file %s %lld %lld %llx", kiln_quoted(&scope->arena, literal->file),
                         (long long)literal->offset, (long long)literal->bytes,
                         (unsigned long long)literal->stamp);
        return;
    }
    uint64_t a = kiln_hash_bytes(KILN_HASH_SEED, literal->data, (size_t)literal->bytes);
    uint64_t b = kiln_hash_bytes(~KILN_HASH_SEED, literal->data, (size_t)literal->bytes);
    kiln_text_printf(text, " %d %lld %016llx%016llx", (int)literal->kind, (long long)literal->bytes,
                     (unsigned long long)a, (unsigned long long)b);
}

static bool has_axis(kiln_ints axes, uint32_t axis)
{
    for (uint32_t i = 0; i < axes.n; i++) {
        if (axes.at[i] == axis) return true;
    }
    return false;
}

/* What the attributes say along the axis of the rows grows with their number. */
static uint64_t hash_attrs(kiln_arena *arena, const kiln_rows *rows, const kiln_node *node)
{
    if (!node->attrs) return 0;
    kiln_attrs attrs = *node->attrs;
    if (rows->inner[node->id]) kiln_attrs_set_regions(&attrs, (kiln_regions){0}); /* printed */
    if (attrs.family == KILN_FAMILY_input) attrs.input.serial = 0;
    kiln_ints *lists[] = {
        attrs.family == KILN_FAMILY_slice ? &attrs.slice.limits : NULL,
        attrs.family == KILN_FAMILY_sizes ? &attrs.sizes.sizes : NULL,
        attrs.family == KILN_FAMILY_gather ? &attrs.gather.sizes : NULL,
    };
    const kiln_row_state *state = node->n_inputs ? &rows->states[node->inputs[0].id] : NULL;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        if (!lists[i] || state->kind != KILN_ROW_EACH || state->axis >= lists[i]->n) continue;
        int64_t *copy = kiln_arena_copy(arena, lists[i]->at, lists[i]->n * sizeof *copy);
        bool is_entry = attrs.family == KILN_FAMILY_gather && /* one, however many rows */
                        has_axis(attrs.gather.operand_batch, state->axis);
        if (!is_entry && copy[state->axis] == state->each * rows->n)
            copy[state->axis] = -state->each;
        lists[i]->at = copy;
    }
    return kiln_attrs_hash(KILN_HASH_SEED, &attrs);
}

/* Whether a value without rows that is the same along an axis says the same for any number of
 * entries there. */
static bool is_length_free(const kiln_node *node)
{
    bool is_shaped = node->op == KILN_OP_broadcast || node->op == KILN_OP_transpose ||
                     node->op == KILN_OP_reshape || node->op == KILN_OP_constant;
    return is_shaped || kiln_node_row(node)->class_ == KILN_ELEMENTWISE;
}

/* Along the rows, dims are printed for one of them. Where elements of a value without rows are all
 * the same they are left out; who counts them says so in print_counted. */
static void print_dims(kiln_text *text, const kiln_rows *rows, const kiln_node *node)
{
    const kiln_row_state *state = &rows->states[node->id];
    const int64_t *dims = node->type->dims;
    bool is_free = state->kind == KILN_ROW_FIXED && is_length_free(node);
    for (uint32_t i = 0; i < node->type->rank; i++) {
        if (state->kind == KILN_ROW_EACH && state->axis == i) {
            kiln_text_printf(text, " n*%lld", (long long)state->each);
        } else if (is_free && !(state->varies >> i & 1)) {
            kiln_text_append(text, " *");
        } else {
            kiln_text_printf(text, " %lld", (long long)dims[i]);
        }
    }
}

/* The dims of operands without rows, where their number of entries may matter to the node. */
static void print_counted(kiln_text *text, const kiln_rows *rows, const kiln_node *node)
{
    const kiln_row_state *state = &rows->states[node->id];
    bool is_walked = rows->inner[node->id] != NULL; /* its parameters show their dims */
    if (is_walked || (state->kind == KILN_ROW_FIXED && is_length_free(node))) return;
    bool is_beside = kiln_node_row(node)->class_ == KILN_ELEMENTWISE ||
                     node->op == KILN_OP_concat || node->op == KILN_OP_dynamic_update;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const kiln_type *type = kiln_graph_type(rows->graph, node->inputs[i]);
        if (rows->states[node->inputs[i].id].kind != KILN_ROW_FIXED) continue;
        bool has_rows = is_beside && state->kind == KILN_ROW_EACH && type->rank > state->axis;
        kiln_text_printf(text, " of");
        for (uint32_t k = 0; k < type->rank; k++) {
            bool is_left_out = has_rows && k == state->axis;
            kiln_text_printf(text, " %lld", is_left_out ? -1 : (long long)type->dims[k]);
        }
    }
}

static void print_node(kiln_scope *scope, kiln_text *text, const kiln_rows *rows,
                       const kiln_node *node, const uint32_t *numbers)
{
    kiln_text_append(text, kiln_node_row(node)->name);
    for (uint32_t i = 0; i < node->n_inputs; i++)
        kiln_text_printf(text, " %u", numbers[node->inputs[i].id]);
    if (rows->inner[node->id]) {
        kiln_text_printf(text, " (%u)", node->type->n_items); /* items show their dims */
    } else if (node->type->n_items) {
        kiln_text_printf(text, " %s", kiln_type_string(&scope->arena, node->type));
    } else {
        kiln_text_printf(text, " %s", kiln_dtype_name(node->type->dtype));
    }
    print_dims(text, rows, node);
    print_counted(text, rows, node);
    if (node->op == KILN_OP_constant) {
        print_literal(scope, text, &node->attrs->literal.value);
    } else {
        kiln_text_printf(text, " %016llx",
                         (unsigned long long)hash_attrs(&scope->arena, rows, node));
    }
    kiln_text_append(text, "\n");
}

static void print_form(kiln_scope *scope, kiln_text *text, const kiln_rows *rows);

/* The regions of a node, with what is known in them; they nest at most KILN_MAX_NESTING deep. */
static void print_inner(kiln_scope *scope, kiln_text *text, const kiln_rows *rows, uint32_t id)
{
    uint32_t n = kiln_attrs_regions(rows->graph->nodes.at[id]->attrs).n;
    for (uint32_t i = 0; rows->inner[id] && i < n; i++) {
        kiln_text_append(text, "{\n");
        print_form(scope, text, rows->inner[id][i]);
        kiln_text_append(text, "}\n");
    }
}

static void print_form(kiln_scope *scope, kiln_text *text, const kiln_rows *rows)
{
    const kiln_graph *graph = rows->graph;
    const bool *is_live = kiln_live_nodes(scope, graph);
    uint32_t *numbers = kiln_new_array(&scope->arena, uint32_t, graph->nodes.n), n = 0;
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        if (!is_live[id]) continue;
        numbers[id] = ++n;
        print_node(scope, text, rows, graph->nodes.at[id], numbers);
        if (graph->nodes.at[id]->attrs) print_inner(scope, text, rows, id);
    }
    for (uint32_t i = 0; i < graph->inputs.n; i++) /* 0: not used */
        kiln_text_printf(text, "input %u\n", numbers[graph->inputs.at[i].id]);
    for (uint32_t i = 0; i < graph->outputs.n; i++)
        kiln_text_printf(text, "output %u\n", numbers[graph->outputs.at[i].value.id]);
    for (uint32_t i = 0; i < graph->checks.n; i++)
        kiln_text_printf(text, "check %u\n", numbers[graph->checks.at[i].value.id]);
}

kiln_rows *kiln_rows_open(kiln_pipeline *pipeline, const kiln_graph *graph, int64_t n)
{
    kiln_scope *scope = pipeline->scope;
    kiln_rows *rows = kiln_new(&scope->arena, kiln_rows);
    graph = kiln_pass_expand(pipeline, kiln_pass_inline(pipeline, graph));
    *rows = (kiln_rows){.pipeline = pipeline, .scope = scope, .graph = graph, .n = n};
    rows->states = kiln_new_array(&scope->arena, kiln_row_state, graph->nodes.n);
    rows->items = kiln_new_array(&scope->arena, kiln_row_state *, graph->nodes.n);
    rows->inner = kiln_new_array(&scope->arena, kiln_rows **, graph->nodes.n);
    return rows;
}

const char *kiln_rows_form(kiln_pipeline *pipeline, const kiln_graph *graph,
                           const kiln_rows_spec *spec)
{
    kiln_scope *scope = pipeline->scope;
    kiln_rows *rows = kiln_rows_open(pipeline, graph, spec->n);
    const kiln_graph *plain = rows->graph;
    bool *has_rows = kiln_new_array(&scope->arena, bool, plain->nodes.n);
    kiln_text text = {.arena = &scope->arena};
    rows->n_walks = kiln_new(&scope->arena, uint32_t);
    for (uint32_t i = 0; i < plain->inputs.n; i++)
        has_rows[plain->inputs.at[i].id] = spec->is_batched[i];
    for (uint32_t id = 1; id < plain->nodes.n; id++) {
        rows->states[id] = kiln_row_visit(rows, plain->nodes.at[id]);
        if (has_rows[id]) rows->states[id] = (kiln_row_state){.kind = KILN_ROW_EACH, .each = 1};
    }
    check_outputs(scope, rows, graph);
    print_form(scope, &text, rows);
    return kiln_text_string(&text);
}
