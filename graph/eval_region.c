/* The evaluator of regions: loops and choices in C over evaluations of the region's graph. A loop's
 * values live in two sets of memory, and a trip goes from one to the other. */
#include <string.h>

#include "base/context.h"
#include "graph/describe.h"
#include "graph/eval.h"
#include "kiln/runtime.h"

kiln_eval_region_run kiln_eval_region_open(const kiln_eval_call *call, const kiln_graph *region)
{
    kiln_value *map = kiln_new_array(&call->scope->arena, kiln_value, region->nodes.n);
    return (kiln_eval_region_run){call, kiln_eval_expand(call->scope, region, map),
                                  kiln_new(call->scratch, kiln_error)};
}

/* One evaluation, in a scope of its own so that the memory of a trip goes with it. */
void kiln_eval_region_run_once(const kiln_eval_region_run *run, const kiln_tensor *inputs,
                               kiln_tensor *outputs)
{
    kiln_scope scope;
    kiln_scope_open(&scope, run->error);
    if (kiln_scope_try(&scope)) kiln_eval(&scope, run->region, inputs, outputs);
    if (kiln_scope_close(&scope) != KILN_OK) kiln_fail_with(run->call->scope, run->error);
}

static kiln_tensor tensor_of(const kiln_type *type, const void *data)
{
    return (kiln_tensor){type->dtype, type->rank, type->dims, (void *)(uintptr_t)data,
                         (size_t)type->bytes};
}

static char *item_of(const kiln_eval_call *call, uint32_t index)
{
    return (char *)call->out + kiln_type_item_offset(call->node->type, index);
}

static kiln_tensor *operand_tensors(const kiln_eval_call *call, uint32_t first)
{
    uint32_t n = call->node->n_inputs;
    kiln_tensor *tensors = kiln_new_array(call->scratch, kiln_tensor, n + 1);
    for (uint32_t i = first; i < n; i++)
        tensors[i - first] = tensor_of(call->types[i], call->in[i]);
    return tensors;
}

static kiln_tensor *item_tensors(const kiln_eval_call *call)
{
    const kiln_type *type = call->node->type;
    kiln_tensor *tensors = kiln_new_array(call->scratch, kiln_tensor, type->n_items);
    for (uint32_t i = 0; i < type->n_items; i++)
        tensors[i] = tensor_of(type->items[i], item_of(call, i));
    return tensors;
}

static void eval_item(const kiln_eval_call *call)
{
    const kiln_type *tuple = call->types[0];
    uint32_t index = (uint32_t)call->node->attrs->item.index;
    const char *from = (const char *)call->in[0] + kiln_type_item_offset(tuple, index);
    if (call->node->type->bytes) memcpy(call->out, from, (size_t)call->node->type->bytes);
}

static void eval_once(const kiln_eval_call *call, const kiln_graph *region, uint32_t first)
{
    kiln_eval_region_run run = kiln_eval_region_open(call, region);
    kiln_eval_region_run_once(&run, operand_tensors(call, first), item_tensors(call));
}

static void eval_choice(const kiln_eval_call *call)
{
    kiln_regions regions = call->node->attrs->regions.regions;
    kiln_eval_values choice = kiln_eval_load(call, 0);
    uint64_t number = choice.i[0];
    if (call->node->op == KILN_OP_if) number = number == 0;
    if (number >= regions.n) number = regions.n - 1;
    eval_once(call, regions.at[number], 1);
}

/* The carried values: inputs of the next trip. `other` is where the trip writes them. */
typedef struct loop_values {
    uint32_t n;
    kiln_tensor *inputs; /* all parameters; the first n are carried */
    kiln_tensor *outputs;
} loop_values;

static void *copy_of(const kiln_eval_call *call, const kiln_tensor *tensor)
{
    void *memory = kiln_arena_alloc(call->scratch, tensor->bytes + 1);
    if (tensor->bytes && tensor->data) memcpy(memory, tensor->data, tensor->bytes);
    return memory;
}

/* Carried operands move to memory of their own, which the trips may write. */
static void loop_open(const kiln_eval_call *call, loop_values *values)
{
    for (uint32_t i = 0; i < values->n; i++) {
        values->outputs[i] = values->inputs[i];
        values->outputs[i].data = kiln_arena_alloc(call->scratch, values->inputs[i].bytes + 1);
        values->inputs[i].data = copy_of(call, &values->inputs[i]);
    }
}

static void loop_turn(loop_values *values)
{
    for (uint32_t i = 0; i < values->n; i++) {
        void *data = values->inputs[i].data;
        values->inputs[i].data = values->outputs[i].data;
        values->outputs[i].data = data;
    }
}

static void loop_close(const kiln_eval_call *call, const loop_values *values)
{
    for (uint32_t i = 0; i < values->n; i++) {
        const kiln_tensor *tensor = &values->inputs[i];
        if (tensor->bytes) memcpy(item_of(call, i), tensor->data, tensor->bytes);
    }
}

static void eval_while(const kiln_eval_call *call)
{
    const kiln_attrs *attrs = call->node->attrs;
    kiln_eval_region_run condition = kiln_eval_region_open(call, attrs->loop.regions.at[0]);
    kiln_eval_region_run body = kiln_eval_region_open(call, attrs->loop.regions.at[1]);
    loop_values values = {(uint32_t)attrs->loop.n_carried, operand_tensors(call, 0), NULL};
    values.outputs = kiln_new_array(call->scratch, kiln_tensor, values.n + 1);
    loop_open(call, &values);
    bool is_on = false;
    kiln_tensor flag = {KILN_bool, 0, NULL, &is_on, 1};
    for (int64_t trip = 0;; trip++) {
        kiln_eval_region_run_once(&condition, values.inputs, &flag);
        if (!is_on) break;
        if (trip >= attrs->loop.limit)
            kiln_fail(call->scope, KILN_RANGE, KILN_TRIPS_SENTENCE, (long long)attrs->loop.limit);
        kiln_eval_region_run_once(&body, values.inputs, values.outputs);
        loop_turn(&values);
    }
    loop_close(call, &values);
}

static void eval_scan(const kiln_eval_call *call)
{
    const kiln_attrs *attrs = call->node->attrs;
    kiln_eval_region_run body = kiln_eval_region_open(call, attrs->scan.regions.at[0]);
    uint32_t n_outputs = body.region->outputs.n, n_slices = (uint32_t)attrs->scan.n_slices;
    loop_values values = {(uint32_t)attrs->scan.n_carried, operand_tensors(call, 0), NULL};
    values.outputs = kiln_new_array(call->scratch, kiln_tensor, n_outputs + 1);
    loop_open(call, &values);
    for (int64_t trip = 0; trip < attrs->scan.length; trip++) {
        for (uint32_t i = values.n; i < values.n + n_slices; i++) {
            const kiln_type *slice = kiln_graph_type(body.region, body.region->inputs.at[i]);
            values.inputs[i] = tensor_of(slice, (const char *)call->in[i] + trip * slice->bytes);
        }
        for (uint32_t i = values.n; i < n_outputs; i++) {
            const kiln_type *row = kiln_graph_type(body.region, body.region->outputs.at[i].value);
            values.outputs[i] = tensor_of(row, item_of(call, i) + trip * row->bytes);
        }
        kiln_eval_region_run_once(&body, values.inputs, values.outputs);
        loop_turn(&values);
    }
    loop_close(call, &values);
}

static void eval_custom(const kiln_eval_call *call)
{
    const kiln_type *tuple = call->node->type;
    kiln_error *error = kiln_new(call->scratch, kiln_error);
    void **outputs = kiln_new_array(call->scratch, void *, tuple->n_items);
    for (uint32_t i = 0; i < tuple->n_items; i++) outputs[i] = item_of(call, i);
    kiln_custom_call_args args = {
        .signature = kiln_signature_string(call->scratch, call->node, call->types),
        .n_inputs = call->node->n_inputs,
        .n_outputs = tuple->n_items,
        .inputs = call->in,
        .outputs = outputs,
    };
    if (kiln_context_call(call->context, &args, error)) kiln_fail_with(call->scope, error);
}

void kiln_eval_region(const kiln_eval_call *call)
{
    static kiln_eval_fn *const ops[KILN_N_OPS] = {
        [KILN_OP_item] = eval_item,    [KILN_OP_if] = eval_choice, [KILN_OP_case] = eval_choice,
        [KILN_OP_while] = eval_while, [KILN_OP_scan] = eval_scan,
        [KILN_OP_custom_call] = eval_custom,
        [KILN_OP_map] = kiln_eval_map, [KILN_OP_reduce] = kiln_eval_reduce_region,
        [KILN_OP_reduce_window] = kiln_eval_reduce_window,
        [KILN_OP_select_and_scatter] = kiln_eval_select_and_scatter,
        [KILN_OP_scatter_with] = kiln_eval_scatter_with,
        [KILN_OP_sort_by] = kiln_eval_sort_by,
    };
    if (call->node->op == KILN_OP_call) {
        eval_once(call, call->node->attrs->regions.regions.at[0], 0);
    } else if (ops[call->node->op]) {
        ops[call->node->op](call);
    } else {
        kiln_fail(call->scope, KILN_INTERNAL, "evaluator: %s has no meaning",
                  kiln_node_row(call->node)->name);
    }
}
