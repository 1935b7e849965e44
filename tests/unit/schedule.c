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

static uint32_t next_random(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % n;
}

typedef struct maker {
    kiln_graph *graph;
    uint64_t seed;
    kiln_value values[64];
    uint32_t n;
} maker;

static kiln_value any_value(maker *make)
{
    return make->values[next_random(&make->seed, make->n)];
}

/* Another value of the dims of `like`, broadcast where one fits, else `like` itself. */
static kiln_value match(maker *make, kiln_value like)
{
    const kiln_type *type = kiln_graph_type(make->graph, like);
    uint32_t start = next_random(&make->seed, make->n);
    for (uint32_t i = 0; i < make->n; i++) {
        kiln_value value = make->values[(start + i) % make->n];
        const kiln_type *other = kiln_graph_type(make->graph, value);
        if (other == type && value.id != like.id) return value;
        if (other->rank + 1 == type->rank &&
            memcmp(other->dims, type->dims + 1, other->rank * sizeof *other->dims) == 0) {
            return kiln_add_broadcast_to(make->graph, value, type->rank, type->dims);
        }
    }
    return like;
}

static kiln_value add_attrs(maker *make, kiln_op op, kiln_value a, kiln_value b,
                            const kiln_attrs *attrs)
{
    kiln_value inputs[] = {a, b};
    kiln_node_spec spec = {.op = op, .inputs = inputs, .n_inputs = b.id ? 2 : 1, .attrs = attrs};
    return kiln_graph_add(make->graph, &spec);
}

static kiln_value make_reduce(maker *make, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(make->graph, a);
    if (!type->rank) return a;
    int64_t axis = type->rank - 1;
    if (next_random(&make->seed, 3) == 0) axis = next_random(&make->seed, type->rank);
    kiln_op op = next_random(&make->seed, 2) ? KILN_OP_reduce_sum : KILN_OP_reduce_max;
    kiln_value r = kiln_add_reduce(make->graph, op, a, 1, &axis);
    if (next_random(&make->seed, 3) == 0) return r;
    return kiln_add_binary(make->graph, KILN_OP_sub, a,
                           kiln_add_unreduce(make->graph, r, a, 1, &axis));
}

static kiln_value make_dot(maker *make, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(make->graph, a);
    if (type->rank < 2) return a;
    for (uint32_t i = 0; i < 8; i++) {
        kiln_value b = any_value(make);
        const kiln_type *other = kiln_graph_type(make->graph, b);
        int64_t last = type->rank - 1, zero = 0;
        if (other->rank != 2 || other->dims[0] != type->dims[last]) continue;
        kiln_attrs attrs = {.family = KILN_FAMILY_dot};
        attrs.dot.lhs_contract = (kiln_ints){1, &last};
        attrs.dot.rhs_contract = (kiln_ints){1, &zero};
        attrs.dot.accumulate = KILN_f32;
        return add_attrs(make, KILN_OP_dot_general, a, b, &attrs);
    }
    return a;
}

static kiln_value make_move(maker *make, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(make->graph, a);
    int64_t ones[4] = {1, 1, 1, 1}, zeros[4] = {0}, starts[4] = {0};
    if (!type->rank) return a;
    uint32_t axis = next_random(&make->seed, type->rank), n = type->rank;
    kiln_attrs attrs = {.family = KILN_FAMILY_axis};
    if (next_random(&make->seed, 2)) {
        attrs.axis.axis = axis;
        return add_attrs(make, KILN_OP_concat, a, match(make, a), &attrs);
    }
    if (next_random(&make->seed, 2)) {
        attrs.family = KILN_FAMILY_pad;
        attrs.pad.low = (kiln_ints){n, ones};
        attrs.pad.high = attrs.pad.interior = (kiln_ints){n, zeros};
        return add_attrs(make, KILN_OP_pad, a, kiln_add_splat(make->graph, KILN_f32, 0, NULL, 2),
                         &attrs);
    }
    attrs.family = KILN_FAMILY_slice;
    starts[axis] = type->dims[axis] > 1;
    attrs.slice.starts = (kiln_ints){n, starts};
    attrs.slice.limits = (kiln_ints){n, type->dims};
    attrs.slice.strides = (kiln_ints){n, ones};
    return add_attrs(make, KILN_OP_slice, a, (kiln_value){0}, &attrs);
}

static kiln_value make_view(maker *make, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(make->graph, a);
    int64_t reversed[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) reversed[i] = type->rank - 1 - i;
    if (next_random(&make->seed, 2)) return kiln_add_transpose(make->graph, a, reversed);
    if (type->rank == 2) {
        int64_t split[] = {type->dims[0], 1, type->dims[1]};
        if (type->dims[0] % 2 == 0) {
            split[0] = 2;
            split[1] = type->dims[0] / 2;
        }
        return kiln_add_reshape(make->graph, a, 3, split);
    }
    if (type->rank != 3) return a;
    int64_t flat[] = {type->dims[0] * type->dims[1], type->dims[2]};
    return kiln_add_reshape(make->graph, a, 2, flat);
}

static kiln_value make_window(maker *make, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(make->graph, a);
    int64_t sizes[4] = {2, 2, 2, 2}, ones[4] = {1, 1, 1, 1};
    if (type->rank > 4) return a;
    kiln_ints list = {type->rank, ones};
    kiln_attrs attrs = {.family = KILN_FAMILY_window};
    attrs.window.sizes = (kiln_ints){type->rank, sizes};
    attrs.window.strides = attrs.window.low = attrs.window.dilations = list;
    attrs.window.high = list;
    return add_attrs(make, KILN_OP_window_max, a, (kiln_value){0}, &attrs);
}

static kiln_value make_value(maker *make)
{
    kiln_value a = any_value(make);
    if (kiln_graph_type(make->graph, a)->n_elements > 4096) return a;
    switch (next_random(&make->seed, 10)) {
    case 0:
    case 1:
        return make_reduce(make, a);
    case 2:
        return make_dot(make, a);
    case 3:
        return make_move(make, a);
    case 4:
        return make_view(make, a);
    case 5:
        return make_window(make, a);
    case 6:
        return kiln_add_unary(make->graph, KILN_OP_tanh, a);
    default:
        return kiln_add_binary(make->graph, next_random(&make->seed, 2) ? KILN_OP_add : KILN_OP_mul,
                               a, match(make, a));
    }
}

static void build_random(maker *make, kiln_graph *graph, uint64_t seed)
{
    static const int64_t sizes[][2] = {{4, 6}, {4, 6}, {4, 6}, {1, 6},
                                       {4, 1}, {1, 1}, {0, 6}, {4, 0}};
    const int64_t m = sizes[seed % 8][0], n = sizes[seed % 8][1];
    const int64_t shapes[][3] = {{m, n}, {n, n}, {n}, {2, m, n}};
    static const uint32_t ranks[] = {2, 2, 1, 3};
    *make = (maker){.graph = graph, .seed = seed};
    for (uint32_t i = 0; i < 4; i++) {
        const kiln_type *type = kiln_graph_tensor(graph, KILN_f32, ranks[i], shapes[i]);
        const char *names[] = {"a", "b", "c", "d"};
        make->values[make->n++] = kiln_add_input(graph, type, names[i], false);
    }
    float weights[36];
    for (uint32_t i = 0; i < 36; i++) weights[i] = (float)i / 36 - 0.5f;
    const kiln_type *square = kiln_graph_tensor(graph, KILN_f32, 2, shapes[1]);
    make->values[make->n++] = kiln_add_constant(graph, square, weights);
    while (make->n < 32) {
        kiln_value value = make_value(make);
        make->values[make->n++] = value;
    }
    for (uint32_t i = 0; i < 4; i++) kiln_add_output(graph, any_value(make), NULL);
    kiln_add_output(graph, make->values[make->n - 1], NULL);
}

/* Largest difference, relative to the largest magnitude; the evaluator sums in f64 either way, but
 * a value stored between groups is rounded. */
static bool is_near(const kiln_tensor *a, const kiln_tensor *b)
{
    const float *x = a->data, *y = b->data;
    double most = 1e-3, difference = 0;
    for (size_t i = 0; i < a->bytes / sizeof *x; i++) {
        if (memcmp(&x[i], &y[i], sizeof *x) == 0) continue;
        double d = (double)x[i] - y[i], magnitude = x[i] < 0 ? -x[i] : x[i];
        if (d < 0) d = -d;
        if (!(d <= difference)) difference = d;
        if (magnitude > most) most = magnitude;
    }
    return difference <= 1e-5 * most;
}

static void run_random(kiln_scope *scope, uint64_t seed)
{
    maker make;
    kiln_graph *graph = kiln_graph_open(scope, NULL, "test");
    build_random(&make, graph, seed);
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
        float *data = inputs[i].data;
        for (size_t j = 0; j < inputs[i].bytes / 4; j++) {
            data[j] = (float)next_random(&make.seed, 1000) / 500 - 1;
        }
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
        if (is_near(&expected[i], &outputs[i])) continue;
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
