/* The harness of lowered.h: one group by hand, its kernel, a run, and the comparison. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lowered.h"

#include "codegen/backend.h"
#include "codegen/lower.h"
#include "codegen/pack.h"
#include "graph/element.h"

static kiln_context *context;

/* A run of one case on one machine. */
typedef struct bench {
    kiln_scope scope;
    kiln_error error;
    kiln_graph *graph;
    kiln_schedule schedule;
    kiln_group group;
    kiln_tensor *inputs, *expected, *found;
} bench;

static uint64_t seed;

static uint64_t random_bits(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return seed >> 33;
}

static const int64_t *dense_strides(kiln_arena *arena, const kiln_type *type)
{
    int64_t *strides = kiln_new_array(arena, int64_t, KILN_MAX_RANK), stride = 1;
    for (uint32_t i = type->rank; i-- > 0;) {
        strides[i] = stride;
        stride *= type->dims[i];
    }
    return strides;
}

static void add_place(bench *b, kiln_value value, kiln_place_kind kind, uint32_t index)
{
    const kiln_type *type = kiln_graph_type(b->graph, value);
    kiln_place place = {.operand = {.value = value}, .kind = kind, .index = index, .bytes = type->bytes};
    place.strides = dense_strides(&b->scope.arena, type);
    place.inside = KILN_NONE;
    kiln_vec_push(&b->schedule.places, &b->scope.arena, place);
}

static bool is_in_code(const kiln_node *node)
{
    return node->op != KILN_OP_input &&
           (node->op != KILN_OP_constant || node->attrs->literal.value.kind == KILN_LITERAL_SPLAT ||
            node->type->n_elements <= 16);
}

/* The second operand of the anchor as panels. */
static void use_panels(bench *b)
{
    kiln_value value = kiln_graph_node(b->graph, b->group.anchor)->inputs[1];
    kiln_operand packed = {.value = value, .format = KILN_FORMAT_PANEL16, .consumer = b->group.anchor};
    kiln_operand *inputs = (kiln_operand *)(uintptr_t)b->group.inputs;
    for (uint32_t i = 0; i < b->group.n_inputs; i++)
        if (inputs[i].value.id == value.id) inputs[i] = packed;
    for (uint32_t i = 0; i < b->schedule.places.n; i++) {
        kiln_place *place = &b->schedule.places.at[i];
        if (place->operand.value.id != value.id) continue;
        place->operand = packed;
        place->kind = KILN_PLACE_CONSTANT;
        place->strides = NULL;
        place->bytes = kiln_operand_bytes(b->graph, packed);
    }
}

/* The whole graph as one group; places in ascending order of values. */
static void make_schedule(bench *b, const group_case *c, const kiln_machine *machine)
{
    kiln_arena *arena = &b->scope.arena;
    kiln_graph *g = b->graph;
    kiln_vec(kiln_value) nodes = {0};
    kiln_vec(kiln_operand) inputs = {0}, outputs = {0};
    uint32_t n_ports = 0;
    for (uint32_t id = 1; id < g->nodes.n; id++) {
        kiln_value value = {id, g->id};
        const kiln_node *node = kiln_graph_node(g, value);
        kiln_class class_ = kiln_node_row(node)->class_;
        if (is_in_code(node)) kiln_vec_push(&nodes, arena, value);
        else kiln_vec_push(&inputs, arena, (kiln_operand){.value = value});
        if (!is_in_code(node)) add_place(b, value, KILN_PLACE_INPUT, n_ports++);
        bool is_anchor = class_ == KILN_REDUCE || class_ == KILN_WINDOW || class_ == KILN_CONTRACT;
        if (is_anchor && !b->group.anchor.id) b->group.anchor = value;
        for (uint32_t i = 0; i < g->outputs.n; i++) {
            if (g->outputs.at[i].value.id != id) continue;
            kiln_vec_push(&outputs, arena, (kiln_operand){.value = value});
            add_place(b, value, KILN_PLACE_OUTPUT, i);
        }
    }
    b->group.kind = c->kind;
    b->group.nodes = nodes.at;
    b->group.n_nodes = nodes.n;
    b->group.inputs = inputs.at;
    b->group.n_inputs = inputs.n;
    b->group.outputs = outputs.at;
    b->group.n_outputs = outputs.n;
    b->group.label = "case";
    b->schedule.graph = g;
    b->schedule.machine = machine;
    b->schedule.scope = &b->scope;
    b->schedule.n_threads = 2;
    if (c->is_packed) use_panels(b);
    kiln_vec_push(&b->schedule.groups, arena, b->group);
}

/* What the kernel reads for input `i`: dense, or packed here. */
static void *input_data(bench *b, uint32_t i)
{
    kiln_operand operand = b->group.inputs[i];
    if (operand.format == KILN_FORMAT_DENSE) return b->inputs[i].data;
    int64_t bytes = kiln_operand_bytes(b->graph, operand);
    char *data = kiln_arena_alloc(&b->scope.arena, (size_t)bytes + 64);
    data += 64 - (uintptr_t)data % 64;
    kiln_pack_operand(&b->scope, b->graph, operand, b->inputs[i].data, data);
    return data;
}

static kiln_tensor tensor_of(bench *b, kiln_value value)
{
    const kiln_type *type = kiln_graph_type(b->graph, value);
    kiln_tensor t = {type->dtype, type->rank, type->dims, NULL, (size_t)type->bytes};
    t.data = kiln_arena_alloc(&b->scope.arena, t.bytes + 64);
    return t;
}

/* Numbers between -4 and 4, integers between -3 and 12, and some that are special. */
static void fill(kiln_tensor *t)
{
    size_t n = t->bytes / kiln_dtype_bytes(t->dtype);
    bool is_float = kiln_dtype_kind_of(t->dtype) == KILN_DTYPE_KIND_FLOAT;
    for (size_t i = 0; i < n; i++) {
        double x = is_float ? (double)(random_bits() % 8192) / 1024 - 4 : (double)(random_bits() % 16) - 3;
        if (kiln_dtype_kind_of(t->dtype) == KILN_DTYPE_KIND_BOOL) x = (double)(random_bits() % 2);
        kiln_element_store_double(t->dtype, t->data, (int64_t)i, 1, &x);
    }
}

static void make_tensors(bench *b)
{
    kiln_graph *g = b->graph;
    uint32_t n_inputs = b->group.n_inputs, n_outputs = g->outputs.n;
    b->inputs = kiln_new_array(&b->scope.arena, kiln_tensor, n_inputs + 1);
    b->expected = kiln_new_array(&b->scope.arena, kiln_tensor, n_outputs);
    b->found = kiln_new_array(&b->scope.arena, kiln_tensor, n_outputs);
    seed = 1;
    uint32_t n_ports = 0;
    kiln_tensor *ports = kiln_new_array(&b->scope.arena, kiln_tensor, n_inputs + 1);
    for (uint32_t i = 0; i < n_inputs; i++) {
        const kiln_node *node = kiln_graph_node(g, b->group.inputs[i].value);
        b->inputs[i] = tensor_of(b, b->group.inputs[i].value);
        if (node->op == KILN_OP_input) {
            fill(&b->inputs[i]);
            ports[n_ports++] = b->inputs[i];
        } else {
            kiln_literal_read(&b->scope, node->type, &node->attrs->literal.value, b->inputs[i].data);
        }
    }
    for (uint32_t i = 0; i < n_outputs; i++) {
        b->expected[i] = tensor_of(b, g->outputs.at[i].value);
        b->found[i] = tensor_of(b, g->outputs.at[i].value);
        memset(b->found[i].data, 0xa5, b->found[i].bytes + 64);
    }
    kiln_eval(&b->scope, g, ports, b->expected);
}

static void run_kernel(bench *b, const kiln_kernel *kernel)
{
    const kiln_backend *backend = kiln_backend_open(&b->scope, "llvm");
    kiln_object object;
    kiln_code *code;
    backend->compile(&b->scope, kernel, "k", &object);
    backend->load(&b->scope, &object, 1, &code);
    uint32_t n = b->group.n_inputs + b->group.n_outputs;
    void **buffers = kiln_arena_array(&b->scope.arena, n, sizeof *buffers);
    for (uint32_t i = 0; i < b->group.n_inputs; i++) buffers[i] = input_data(b, i);
    for (uint32_t i = 0; i < b->group.n_outputs; i++) {
        const kiln_place *place = kiln_schedule_place(&b->schedule, b->group.outputs[i]);
        buffers[b->group.n_inputs + i] = b->found[place->index].data;
    }
    void *scratch = aligned_alloc(64, (size_t)kernel->scratch_bytes / 64 * 64 + 64);
    kiln_kernel_args args = {.buffers = buffers, .scratch = scratch};
    for (uint32_t tile = kernel->n_tiles; tile-- > 0;) backend->function(code, 0)(&args, tile, tile + 1);
    free(scratch);
    backend->unload(code);
}

static void compare(const bench *b, const group_case *c, const char *machine)
{
    for (uint32_t i = 0; i < b->graph->outputs.n; i++) {
        const kiln_tensor *e = &b->expected[i], *f = &b->found[i];
        int64_t n = (int64_t)(e->bytes / kiln_dtype_bytes(e->dtype));
        for (int64_t j = 0; j < n; j++) {
            double want, got;
            kiln_element_load_double(e->dtype, e->data, j, 1, &want);
            kiln_element_load_double(f->dtype, f->data, j, 1, &got);
            double limit = c->tolerance * fmax(1, fabs(want));
            if ((isnan(want) && isnan(got)) || want == got || fabs(want - got) <= limit) continue;
            fail_msg("%s on %s: output %u, element %lld is %.9g; expected %.9g", c->name, machine, i,
                     (long long)j, got, want);
        }
        for (size_t j = 0; j < 64; j++)
            if (((unsigned char *)f->data)[f->bytes + j] != 0xa5)
                fail_msg("%s on %s: output %u is written past its end", c->name, machine, i);
    }
}

static uint64_t hash_outputs(const bench *b)
{
    uint64_t hash = 1469598103934665603u;
    for (uint32_t i = 0; i < b->graph->outputs.n; i++)
        for (size_t j = 0; j < b->found[i].bytes; j++)
            hash = (hash ^ ((unsigned char *)b->found[i].data)[j]) * 1099511628211u;
    return hash;
}

static bool is_runnable(const char *name)
{
    if (strcmp(name, "x86-64") == 0) return true;
    if (strcmp(name, "x86-64-v3") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

/* Without barriers, the threads of a block may run one after the other. */
static void put_on_cpu(kiln_kernel *kernel)
{
    kernel->machine = kiln_machine_find("x86-64-v3");
    for (uint32_t i = 0; i < kernel->instrs.n; i++) {
        kiln_instr *instr = &kernel->instrs.at[i];
        bool is_threads = instr->op == KILN_K_loop && instr->flags == KILN_LOOP_THREADS;
        if (is_threads) instr->flags = KILN_LOOP_SERIAL;
    }
}

/* Builds, lowers, verifies, runs and compares; the hash of the results. */
static uint64_t run_case(const group_case *c, const char *name)
{
    volatile uint64_t hash = 0;
    bench *b = calloc(1, sizeof *b);
    const kiln_machine *machine = kiln_machine_find(name);
    if (kiln_graph_create(context, c->name, &b->graph)) fail();
    c->build(b->graph);
    if (kiln_graph_status(b->graph)) fail_msg("%s: %s", c->name, kiln_graph_message(b->graph));
    kiln_scope_open(&b->scope, &b->error);
    if (kiln_scope_try(&b->scope)) {
        make_schedule(b, c, machine);
        make_tensors(b);
        kiln_kernel *kernel = kiln_lower_group(&b->scope, &b->schedule, 0);
        kiln_error error = {0};
        if (getenv("KILN_PRINT_KERNEL")) {
            kiln_text text = {.arena = &b->scope.arena};
            kiln_kernel_print(kernel, &text);
            puts(kiln_text_string(&text));
        }
        if (kiln_kernel_verify(kernel, &error)) fail_msg("%s: %s", c->name, error.message);
        bool is_runnable_here = machine->kind == KILN_MACHINE_CPU || c->kind != KILN_GROUP_ROW;
        if (machine->kind == KILN_MACHINE_GPU) put_on_cpu(kernel);
        if (is_runnable_here) {
            run_kernel(b, kernel);
            compare(b, c, name);
            hash = hash_outputs(b);
        }
    }
    if (kiln_scope_close(&b->scope)) fail_msg("%s on %s: %s", c->name, name, b->error.message);
    kiln_graph_destroy(b->graph);
    free(b);
    return hash;
}

static void test_case(void **state)
{
    const group_case *c = *state;
    uint64_t v3 = 0, v4 = 0;
    run_case(c, "x86-64");
    if (is_runnable("x86-64-v3")) v3 = run_case(c, "x86-64-v3");
    if (is_runnable("x86-64-v4")) v4 = run_case(c, "x86-64-v4");
    bool has_gpu = c->kind == KILN_GROUP_POINTWISE || c->kind == KILN_GROUP_ROW;
    if (has_gpu && v3) run_case(c, "sm_90a");
    if (v3 && v4 && v3 != v4) fail_msg("%s: x86-64-v3 and x86-64-v4 differ in bits", c->name);
}

int run_cases(const group_case *cases, size_t n_cases)
{
    struct CMUnitTest tests[64] = {0};
    size_t n = 0;
    const char *only = getenv("KILN_CASE");
    if (kiln_context_create(NULL, &context)) return 1;
    for (size_t i = 0; i < n_cases && n < 64; i++) {
        if (only && strcmp(only, cases[i].name) != 0) continue;
        tests[n++] = (struct CMUnitTest){.name = cases[i].name, .test_func = test_case,
                                         .initial_state = (void *)(uintptr_t)&cases[i]};
    }
    int failed = _cmocka_run_group_tests("lower", tests, n, NULL, NULL);
    kiln_context_destroy(context);
    return failed;
}
