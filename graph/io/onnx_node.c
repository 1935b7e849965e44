/* One node after the other: operands by name, the row of its operator, the function's result under
 * the names of its outputs. A node that is refused leaves a line and taints what it makes. */
#include <inttypes.h>
#include <string.h>

#include "graph/io/onnx_extent.h"

static int64_t opset_in(size_t n, Kiln__Onnx__OpsetId *const *ids, const char *domain)
{
    if (!strcmp(domain, "ai.onnx")) domain = "";
    for (size_t i = 0; i < n; i++) {
        const char *name = ids[i]->domain ? ids[i]->domain : "";
        if (!strcmp(name, "ai.onnx")) name = "";
        if (!strcmp(name, domain)) return ids[i]->version;
    }
    return 0;
}

int64_t kiln_onnx_opset(const kiln_onnx *onnx, const kiln_onnx_frame *frame, const char *domain)
{
    while (frame && !frame->body) frame = frame->parent;
    if (frame) return opset_in(frame->body->n_opset_import, frame->body->opset_import, domain);
    return opset_in(onnx->model->n_opset_import, onnx->model->opset_import, domain);
}

/* "node 3 'conv1' (Conv)" */
static const char *node_where(kiln_arena *arena, const kiln_onnx_frame *frame, uint32_t index)
{
    const Kiln__Onnx__Node *node = frame->nodes[index];
    return kiln_arena_format(arena, "node %u %s (%s)", index,
                             kiln_onnx_quote(arena, node->name ? node->name : ""),
                             kiln_onnx_quote(arena, node->op_type ? node->op_type : ""));
}

static void call_operands(kiln_onnx_call *call)
{
    const Kiln__Onnx__Node *node = call->node;
    call->n_inputs = (uint32_t)node->n_input;
    call->inputs = kiln_new_array(&call->scope->arena, kiln_value, node->n_input + 1);
    for (uint32_t i = 0; i < call->n_inputs; i++) {
        if (!node->input[i][0]) continue;
        const kiln_onnx_name *found = kiln_onnx_name_find(call->frame, node->input[i]);
        if (!found)
            kiln_onnx_fail(call,
                           "operand %u %s is not defined; expected an input, an initializer or a "
                           "node's output",
                           i, kiln_onnx_quote(&call->scope->arena, node->input[i]));
        call->inputs[i] = kiln_onnx_capture_value(call, found->value);
        if (found->is_tainted) call->is_tainted = true;
    }
    while (call->n_inputs && !call->inputs[call->n_inputs - 1].id && !call->is_tainted)
        call->n_inputs--;
}

static void call_attributes(kiln_onnx_call *call)
{
    const Kiln__Onnx__Node *node = call->node;
    if (node->n_attribute > 64)
        kiln_onnx_fail(call, "%zu attributes; expected at most 64", node->n_attribute);
    for (size_t i = 0; i < node->n_attribute; i++) {
        const char *name = node->attribute[i]->name ? node->attribute[i]->name : "";
        for (size_t k = 0; k < i; k++) {
            if (!strcmp(name, node->attribute[k]->name ? node->attribute[k]->name : ""))
                kiln_onnx_fail(call, "attr %s stands twice; expected it once",
                               kiln_onnx_quote(&call->scope->arena, name));
        }
    }
}

static void unread_refuse(kiln_onnx_call *call)
{
    for (size_t i = 0; i < call->node->n_attribute; i++) {
        if (call->read >> i & 1) continue;
        const char *name = call->node->attribute[i]->name;
        kiln_onnx_refuse(call, "attr %s is not known for this operator",
                         kiln_onnx_quote(&call->scope->arena, name ? name : ""));
    }
}

static void call_label(kiln_onnx_call *call)
{
    const char *name = call->node->name;
    for (uint32_t i = 0; name && *name && i < call->n_outputs; i++) {
        if (call->outputs[i].graph == KILN_ONNX_SEQUENCE) continue;
        kiln_node *node = call->graph->nodes.at[call->outputs[i].id];
        if (node && !node->label && kiln_op_rows[node->op].class_ != KILN_SOURCE)
            node->label = kiln_arena_string(&call->graph->arena, name);
    }
}

static void call_run(kiln_onnx_call *call)
{
    const char *op = call->node->op_type ? call->node->op_type : "";
    const char *domain = call->node->domain ? call->node->domain : "";
    call_operands(call);
    call_attributes(call);
    call->opset = kiln_onnx_opset(call->onnx, call->frame, domain);
    call->row = kiln_onnx_row_find(domain, op, call->opset);
    kiln_onnx_count(call);
    const Kiln__Onnx__Function *function = kiln_onnx_function_find(call->onnx, domain, op);
    if (!call->row && !function) kiln_onnx_refuse(call, "no such operator here");
    if (call->is_tainted) return;
    if (function) {
        kiln_onnx_function(call, function);
        return;
    }
    if (call->n_inputs < call->row->min_inputs || call->n_inputs > call->row->max_inputs)
        kiln_onnx_fail(call, "%u operands; expected %u to %u", call->n_inputs,
                       call->row->min_inputs, call->row->max_inputs);
    for (uint32_t i = 0; i < call->n_inputs && !call->row->takes_sequences; i++) {
        if (call->inputs[i].graph == KILN_ONNX_SEQUENCE)
            kiln_onnx_refuse(call, "operand %u is a sequence; expected a tensor", i);
    }
    for (uint32_t i = 0; i < call->n_inputs && strncmp(call->row->op, "Cast", 4); i++) {
        if (kiln_onnx_is_scale(call->onnx, call->inputs[i]))
            kiln_onnx_refuse(call, "operand %u is float8e8m0; expected another dtype", i);
    }
    kiln_value value = call->row->import(call);
    if (call->is_tainted) return;
    if (call->n_outputs && !call->outputs[0].id) call->outputs[0] = value;
    unread_refuse(call);
    kiln_onnx_extents_check(call);
    for (uint32_t i = 0; i < call->n_outputs; i++) {
        if (kiln_onnx_wants(call, i) && !call->outputs[i].id)
            kiln_onnx_refuse(call, "output %u is asked for", i);
    }
    call_label(call);
}

/* One line: what, of which operator set, on which dtypes, why. */
static void line_add(kiln_onnx_call *call, const char *where, const char *why)
{
    kiln_text text = {.arena = &call->onnx->scope->arena};
    const char *domain = call->node->domain && *call->node->domain ? call->node->domain : "ai.onnx";
    kiln_text_printf(&text, "%s: %s %" PRId64 " (", where,
                     kiln_onnx_quote(&call->onnx->scope->arena, domain), call->opset);
    for (uint32_t i = 0; i < call->n_inputs; i++) {
        kiln_value operand = call->inputs[i];
        bool is_sequence = operand.graph == KILN_ONNX_SEQUENCE;
        const char *name = is_sequence ? "sequence" : "-";
        if (operand.id && !is_sequence)
            name = kiln_dtype_name(kiln_graph_type(call->graph, operand)->dtype);
        kiln_text_printf(&text, "%s%s", i ? ", " : "", name);
    }
    kiln_text_printf(&text, "): %s", why);
    kiln_vec_push(&call->onnx->unsupported, &call->onnx->scope->arena, kiln_text_string(&text));
}

static void outputs_define(kiln_onnx_call *call)
{
    for (uint32_t i = 0; i < call->n_outputs; i++) {
        if (!call->node->output[i][0]) continue;
        /* the name stands since outputs_declare */
        kiln_onnx_name *name = kiln_onnx_name_find(call->frame, call->node->output[i]);
        name->value = call->outputs[i];
        name->is_tainted = call->is_tainted;
    }
}

/* From here failures, also those of the import's own arena, go to `scope`. */
static void scope_enter(kiln_onnx *onnx, kiln_scope *scope)
{
    for (kiln_onnx_level *level = onnx->level; level; level = level->outer)
        kiln_graph_attach(level->graph, scope);
    onnx->scope->arena.scope = scope;
}

static void node_import(kiln_onnx *onnx, kiln_onnx_frame *frame, uint32_t index)
{
    kiln_scope *outer = onnx->graph->scope;
    kiln_onnx_level *level = onnx->level;
    kiln_onnx_call *call = kiln_new(&onnx->scope->arena, kiln_onnx_call);
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    *call = (kiln_onnx_call){.onnx = onnx, .graph = onnx->graph, .scope = &scope, .frame = frame};
    call->node = frame->nodes[index];
    call->n_outputs = (uint32_t)call->node->n_output;
    call->outputs = kiln_new_array(&onnx->scope->arena, kiln_value, call->n_outputs + 1);
    scope_enter(onnx, &scope);
    if (kiln_scope_try(&scope)) call_run(call);
    const char *where = error.status ? node_where(&onnx->scope->arena, frame, index) : NULL;
    if (error.status == KILN_UNSUPPORTED) {
        line_add(call, where, error.message);
        call->is_tainted = true;
    }
    kiln_onnx_level_leave(onnx, level); /* where the node has left it by a failure */
    kiln_scope_close(&scope);
    scope_enter(onnx, outer);
    if (error.status && error.status != KILN_UNSUPPORTED)
        kiln_fail(outer, error.status == KILN_INVALID ? KILN_MODEL : error.status, "%s: %s", where,
                  error.message);
    outputs_define(call);
}

/* Names every output before any node is imported, so that order and double definitions are seen. */
static void outputs_declare(kiln_onnx *onnx, kiln_onnx_frame *frame)
{
    for (uint32_t index = 0; index < frame->n_nodes; index++) {
        for (size_t i = 0; i < frame->nodes[index]->n_output; i++) {
            const char *name = frame->nodes[index]->output[i];
            if (!*name) continue;
            kiln_onnx_name made = {.name = name, .origin = KILN_ONNX_NODE, .index = index};
            kiln_onnx_name_add(onnx, frame, &made);
        }
    }
}

void kiln_onnx_nodes(kiln_onnx *onnx, kiln_onnx_frame *frame)
{
    outputs_declare(onnx, frame);
    const uint32_t *order = kiln_onnx_order(onnx, frame);
    for (uint32_t i = 0; i < frame->n_nodes; i++) node_import(onnx, frame, order[i]);
}
