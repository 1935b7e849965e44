/* Schedules are run here without a compiler: each group is evaluated by the reference evaluator
 * from and to the memory that the plan gives it, and the outputs must be those of the whole graph.
 * Graphs are random; wrong groups, a wrong order and wrong places all show as wrong outputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/program.h"
#include "passes/pass.h"
#include "random_graph.h"

typedef struct runner {
    kiln_scope *scope;
    const kiln_graph *graph;
    const kiln_schedule *schedule;
    const kiln_tensor *inputs;
    kiln_tensor *outputs;
    char *arena;
} runner;

/* Where a place's buffer is. */
static char *place_memory(const runner *run, const kiln_place *place)
{
    switch (place->kind) {
    case KILN_PLACE_INPUT:
        return run->inputs[place->index].data;
    case KILN_PLACE_OUTPUT:
        return run->outputs[place->index].data;
    case KILN_PLACE_ARENA:
        return run->arena + place->offset;
    case KILN_PLACE_CONSTANT:
        break;
    }
    const kiln_type *type = kiln_graph_type(run->graph, place->operand.value);
    char *memory = kiln_arena_alloc(&run->scope->arena, (size_t)type->bytes + 1);
    kiln_constant_read(run->scope, run->graph, place->operand.value, memory);
    return memory;
}

/* Copies between dense memory and a place; packed places hold the dense elements here. */
static void move_operand(const runner *run, kiln_operand operand, char *dense, bool is_write)
{
    const kiln_place *place = kiln_schedule_place(run->schedule, operand);
    const kiln_type *type = kiln_graph_type(run->graph, operand.value);
    char *memory = place_memory(run, place);
    size_t size = kiln_dtype_bytes(type->dtype);
    int64_t index[KILN_MAX_RANK] = {0};
    for (int64_t i = 0; i < type->n_elements; i++) {
        int64_t offset = place->strides ? place->origin : i;
        for (uint32_t a = 0; place->strides && a < type->rank; a++)
            offset += index[a] * place->strides[a];
        assert_true(offset >= 0 && (offset + 1) * (int64_t)size <= place->bytes);
        char *there = memory + offset * (int64_t)size, *here = dense + i * (int64_t)size;
        memcpy(is_write ? there : here, is_write ? here : there, size);
        for (uint32_t a = type->rank; a-- > 0 && ++index[a] == type->dims[a];) index[a] = 0;
    }
}

static kiln_tensor new_tensor(const runner *run, const kiln_type *type)
{
    void *data = kiln_arena_alloc(&run->scope->arena, (size_t)type->bytes + 64);
    return (kiln_tensor){type->dtype, type->rank, type->dims, data, (size_t)type->bytes};
}

static const kiln_type *same_type(kiln_graph *graph, const kiln_type *type)
{
    return kiln_graph_tensor(graph, type->dtype, type->rank, type->dims);
}

/* The group as a graph: its inputs are inputs; a packed operand replaces the contraction's second.
 */
static kiln_graph *group_graph(const runner *run, const kiln_group *group)
{
    kiln_graph *graph = kiln_graph_open(run->scope, NULL, "group");
    uint32_t n = run->graph->nodes.n;
    kiln_value *map = kiln_new_array(&run->scope->arena, kiln_value, n);
    kiln_value *packed = kiln_new_array(&run->scope->arena, kiln_value, n);
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        kiln_operand operand = group->inputs[i];
        const kiln_type *type = same_type(graph, kiln_graph_type(run->graph, operand.value));
        const char *name = kiln_arena_format(&run->scope->arena, "v%u", i);
        kiln_value value = kiln_add_input(graph, type, name, false);
        if (operand.format == KILN_FORMAT_DENSE)
            map[operand.value.id] = value;
        else
            packed[operand.consumer.id] = value;
    }
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(run->graph, group->nodes[i]);
        uint32_t id = group->nodes[i].id;
        uint32_t second = node->n_inputs > 1 ? node->inputs[1].id : 0;
        kiln_value saved = map[second];
        if (packed[id].id) map[second] = packed[id];
        map[id] = kiln_graph_copy(graph, run->graph, node, map);
        if (packed[id].id) map[second] = saved;
    }
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        kiln_add_output(graph, map[group->outputs[i].value.id], NULL);
    }
    return graph;
}

static void run_group(const runner *run, const kiln_group *group)
{
    kiln_tensor inputs[64], outputs[64];
    assert_true(group->n_inputs <= 64 && group->n_outputs <= 64);
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        inputs[i] = new_tensor(run, kiln_graph_type(run->graph, group->inputs[i].value));
        move_operand(run, group->inputs[i], inputs[i].data, false);
    }
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        outputs[i] = new_tensor(run, kiln_graph_type(run->graph, group->outputs[i].value));
    }
    kiln_eval(run->scope, group_graph(run, group), inputs, outputs);
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        move_operand(run, group->outputs[i], outputs[i].data, true);
    }
}

static void run_schedule(runner *run)
{
    const kiln_schedule *schedule = run->schedule;
    run->arena = kiln_arena_alloc(&run->scope->arena, (size_t)schedule->arena_bytes + 64);
    memset(run->arena, 0x7f, (size_t)schedule->arena_bytes);
    for (uint32_t g = 0; g < schedule->groups.n; g++) run_group(run, &schedule->groups.at[g]);
    for (uint32_t i = 0; i < schedule->copies.n; i++) {
        const kiln_output_copy *copy = &schedule->copies.at[i];
        const kiln_tensor *to = &run->outputs[copy->port];
        memcpy(to->data, place_memory(run, &schedule->places.at[copy->from]), to->bytes);
    }
}

static void run_random(kiln_scope *scope, uint64_t seed)
{
    kiln_graph *graph = kiln_graph_open(scope, NULL, "test");
    random_graph_build(graph, seed);
    kiln_pipeline pipeline = {.scope = scope,
                              .machine = kiln_machine_find("x86-64-v4"),
                              .n_threads = 2,
                              .is_unfused = seed % 4 == 0};
    kiln_schedule *schedule = kiln_fuse(&pipeline, graph);
    kiln_plan_memory(&pipeline, schedule);
    runner run = {.scope = scope, .graph = graph, .schedule = schedule};
    kiln_tensor inputs[4], expected[5], outputs[5];
    for (uint32_t i = 0; i < 4; i++) {
        inputs[i] = new_tensor(&run, kiln_graph_type(graph, graph->inputs.at[i]));
        random_graph_fill(seed * 4 + i, inputs[i].data, inputs[i].bytes / sizeof(float));
    }
    for (uint32_t i = 0; i < 5; i++) {
        expected[i] = new_tensor(&run, kiln_graph_type(graph, graph->outputs.at[i].value));
        outputs[i] = new_tensor(&run, kiln_graph_type(graph, graph->outputs.at[i].value));
    }
    run.inputs = inputs;
    run.outputs = outputs;
    kiln_eval(scope, graph, inputs, expected);
    run_schedule(&run);
    kiln_text dump = {.arena = &scope->arena};
    kiln_schedule_print(schedule, &dump);
    for (uint32_t i = 0; i < 5; i++) {
        if (random_graph_is_near(&expected[i], &outputs[i])) continue;
        fail_msg("graph %llu, output %u (%%%u):\n%s", (unsigned long long)seed, i,
                 graph->outputs.at[i].value.id, kiln_text_string(&dump));
    }
}

static void run_seed(uint64_t seed)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) run_random(&scope, seed);
    kiln_scope_close(&scope);
    assert_string_equal(error.message, "");
}

static void random_schedules_give_the_graphs_outputs(void **state)
{
    for (uint64_t seed = 1; seed <= 2000; seed++) run_seed(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_schedules_give_the_graphs_outputs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
