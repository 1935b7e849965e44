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

#include <dlfcn.h>
#include <unistd.h>

#include "codegen/backend.h"
#include "codegen/c/print_c.h"
#include "codegen/cuda/nvrtc.h"
#include "codegen/cuda/print_cuda.h"
#include "codegen/lower.h"
#include "codegen/pack.h"
#include "graph/element.h"
#include "tests/unit/nvrtc_leak.h"

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
    kiln_place place = {
        .operand = {.value = value}, .kind = kind, .index = index, .bytes = type->bytes};
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

/* The second operand of the anchor as panels, transformed where the anchor says so. */
static void use_panels(bench *b)
{
    const kiln_node *anchor = kiln_graph_node(b->graph, b->group.anchor);
    bool is_winograd = anchor->op == KILN_OP_convolution && anchor->attrs->conv.winograd;
    kiln_value value = anchor->inputs[1];
    kiln_operand packed = {.value = value,
                           .format = is_winograd ? KILN_FORMAT_WINOGRAD_N16 : KILN_FORMAT_PANEL16,
                           .consumer = b->group.anchor};
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
        if (is_in_code(node))
            kiln_vec_push(&nodes, arena, value);
        else
            kiln_vec_push(&inputs, arena, (kiln_operand){.value = value});
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
    /* a cache line on one machine, not quite one on the others: kernels may tell them apart */
    uintptr_t data = (uintptr_t)kiln_arena_alloc(&b->scope.arena, t.bytes + 256);
    bool is_aligned = strcmp(b->schedule.machine->name, "x86-64-v4") == 0;
    t.data = (void *)((data + 127) / 64 * 64 - (is_aligned ? 0 : 16));
    return t;
}

/* Numbers between -4 and 4, integers between -3 and 12, and some that are special. */
static void fill(kiln_tensor *t)
{
    size_t n = t->bytes / kiln_dtype_bytes(t->dtype);
    bool is_float = kiln_dtype_kind_of(t->dtype) == KILN_DTYPE_KIND_FLOAT;
    for (size_t i = 0; i < n; i++) {
        double x =
            is_float ? (double)(random_bits() % 8192) / 1024 - 4 : (double)(random_bits() % 16) - 3;
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
            kiln_literal_read(&b->scope, node->type, &node->attrs->literal.value,
                              b->inputs[i].data);
        }
    }
    for (uint32_t i = 0; i < n_outputs; i++) {
        b->expected[i] = tensor_of(b, g->outputs.at[i].value);
        b->found[i] = tensor_of(b, g->outputs.at[i].value);
        memset(b->found[i].data, 0xa5, b->found[i].bytes + 64);
    }
    kiln_eval(&b->scope, g, ports, b->expected);
}

/* One address per operand, in the kernel's order. */
static void **make_buffers(bench *b)
{
    uint32_t n = b->group.n_inputs + b->group.n_outputs;
    void **buffers = kiln_arena_array(&b->scope.arena, n, sizeof *buffers);
    for (uint32_t i = 0; i < b->group.n_inputs; i++) buffers[i] = input_data(b, i);
    for (uint32_t i = 0; i < b->group.n_outputs; i++) {
        const kiln_place *place = kiln_schedule_place(&b->schedule, b->group.outputs[i]);
        buffers[b->group.n_inputs + i] = b->found[place->index].data;
    }
    return buffers;
}

static void run_kernel(bench *b, const kiln_kernel *kernel)
{
    const kiln_backend *backend = kiln_backend_open(&b->scope, "llvm");
    kiln_object object;
    kiln_code *code;
    backend->compile(&b->scope, NULL, kernel, "k", &object);
    backend->load(&b->scope, &object, 1, &code);
    void **buffers = make_buffers(b);
    void *scratch = aligned_alloc(64, (size_t)kernel->scratch_bytes / 64 * 64 + 64);
    kiln_kernel_args args = {.buffers = buffers, .scratch = scratch};
    for (uint32_t tile = kernel->n_tiles; tile-- > 0;)
        backend->function(code, 0)(&args, tile, tile + 1);
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
            fail_msg("%s on %s: output %u, element %lld is %.9g; expected %.9g", c->name, machine,
                     i, (long long)j, got, want);
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

static bench *open_bench(const group_case *c)
{
    bench *b = calloc(1, sizeof *b);
    if (kiln_graph_create(context, c->name, &b->graph)) fail();
    c->build(b->graph);
    if (kiln_graph_status(b->graph)) fail_msg("%s: %s", c->name, kiln_graph_message(b->graph));
    kiln_scope_open(&b->scope, &b->error);
    return b;
}

static void close_bench(bench *b, const char *what)
{
    if (kiln_scope_close(&b->scope)) fail_msg("%s: %s", what, b->error.message);
    kiln_graph_destroy(b->graph);
    free(b);
}

/* Lowers for the machine and verifies. */
static kiln_kernel *lower_case(bench *b, const group_case *c, const char *name)
{
    /* small caches, so that the large cases are large */
    kiln_machine *machine =
        kiln_arena_copy(&b->scope.arena, kiln_machine_find(name), sizeof *machine);
    machine->l3_bytes = 65536;
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
    return kernel;
}

/* Builds, lowers, verifies, runs and compares; the hash of the results. */
static uint64_t run_case(const group_case *c, const char *name)
{
    volatile uint64_t hash = 0;
    bench *b = open_bench(c);
    if (kiln_scope_try(&b->scope)) {
        run_kernel(b, lower_case(b, c, name));
        compare(b, c, name);
        hash = hash_outputs(b);
    }
    close_bench(b, c->name);
    return hash;
}

static const group_case *first_case;
static uint64_t v3_hashes[64]; /* by case */

static void test_case(void **state)
{
    const group_case *c = *state;
    uint64_t v3 = 0, v4 = 0;
    run_case(c, "x86-64");
    if (is_runnable("x86-64-v3")) v3 = run_case(c, "x86-64-v3");
    if (is_runnable("x86-64-v4")) v4 = run_case(c, "x86-64-v4");
    v3_hashes[c - first_case] = v3;
    if (v3 && v4 && v3 != v4) fail_msg("%s: x86-64-v3 and x86-64-v4 differ in bits", c->name);
}

/* The GPU: all kernels that there are in one text, through the shim; and through NVRTC, if there
 * is. */

typedef struct device_run {
    const group_case *c;
    bench *b;
    const kiln_kernel *kernel;
} device_run;

static device_run device_runs[64];
static size_t n_device_runs;
static kiln_text device_text;

static void print_device_case(const group_case *c)
{
    device_run *run = &device_runs[n_device_runs];
    char symbol[32];
    run->c = c;
    run->b = open_bench(c);
    if (!kiln_scope_try(&run->b->scope)) {
        close_bench(run->b, c->name);
        return;
    }
    run->kernel = lower_case(run->b, c, "sm_90a");
    snprintf(symbol, sizeof symbol, "g_%zu", n_device_runs++);
    kiln_kernel_print_cuda(run->kernel, symbol, &device_text);
}

static void *compile_device_text(void)
{
    char folder[] = "/tmp/kiln-lowered-XXXXXX", source[64], library[64], command[1024];
    assert_non_null(mkdtemp(folder));
    snprintf(source, sizeof source, "%s/g.c", folder);
    snprintf(library, sizeof library, "%s/g.so", folder);
    FILE *file = fopen(source, "w");
    assert_non_null(file);
    fprintf(file, "#include \"codegen/cuda/shim.h\"\n%s%s", kiln_prelude,
            kiln_text_string(&device_text));
    fclose(file);
    snprintf(command, sizeof command,
             "cc -I'%s' -std=gnu11 -O1 -fPIC -shared -ffp-contract=off %s -o %s -lm", SOURCE_ROOT,
             source, library);
    assert_int_equal(system(command), 0);
    void *module = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!module) fail_msg("%s", dlerror());
    unlink(source);
    unlink(library);
    rmdir(folder);
    return module;
}

typedef int shim_fn(void *const *buffers, unsigned n_blocks);

static void run_on_shim(void *module, size_t number)
{
    const device_run *run = &device_runs[number];
    char symbol[32];
    shim_fn *function;
    snprintf(symbol, sizeof symbol, "g_%zu_shim", number);
    *(void **)&function = dlsym(module, symbol);
    assert_non_null(function);
    if (function(make_buffers(run->b), run->kernel->n_tiles))
        fail_msg("%s: threads part at a barrier", run->c->name);
    compare(run->b, run->c, "sm_90a");
    uint64_t v3 = v3_hashes[run->c - first_case];
    if (v3 && v3 != hash_outputs(run->b))
        fail_msg("%s: sm_90a and x86-64-v3 differ in bits", run->c->name);
}

static void compile_by_nvrtc(void)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_cubin cubin;
        kiln_text text = {.arena = &scope.arena};
        kiln_text_append(&text, kiln_prelude);
        kiln_text_append(&text, kiln_text_string(&device_text));
        kiln_nvrtc_compile(&scope, kiln_text_string(&text), "sm_90a", &cubin);
        has_used_nvrtc = 1;
        printf("NVRTC %d.%d: %zu kernels, %zu bytes\n", cubin.major, cubin.minor, n_device_runs,
               cubin.bytes);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status == KILN_UNSUPPORTED)
        printf("SKIP compiling by NVRTC: %s\n", error.message);
    else if (status)
        fail_msg("%s", error.message);
}

typedef struct case_list {
    const group_case *cases;
    size_t n;
} case_list;

static void test_device(void **state)
{
    const case_list *list = *state;
    const char *only = getenv("KILN_CASE");
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    device_text = (kiln_text){.arena = &scope.arena};
    for (size_t i = 0; i < list->n && i < 64; i++) {
        kiln_group_kind kind = list->cases[i].kind;
        if (only && strcmp(only, list->cases[i].name) != 0) continue;
        if (kind <= KILN_GROUP_WINDOW) print_device_case(&list->cases[i]);
    }
    if (!n_device_runs) skip();
    void *module = compile_device_text();
    for (size_t i = 0; i < n_device_runs; i++) run_on_shim(module, i);
    dlclose(module);
    compile_by_nvrtc();
    for (size_t i = 0; i < n_device_runs; i++)
        close_bench(device_runs[i].b, device_runs[i].c->name);
    kiln_scope_close(&scope);
}

int run_cases(const group_case *cases, size_t n_cases)
{
    struct CMUnitTest tests[65] = {0};
    case_list list = {cases, n_cases};
    first_case = cases;
    size_t n = 0;
    const char *only = getenv("KILN_CASE");
    if (kiln_context_create(NULL, &context)) return 1;
    for (size_t i = 0; i < n_cases && n < 64; i++) {
        if (only && strcmp(only, cases[i].name) != 0) continue;
        tests[n++] = (struct CMUnitTest){.name = cases[i].name,
                                         .test_func = test_case,
                                         .initial_state = (void *)(uintptr_t)&cases[i]};
    }
    tests[n++] =
        (struct CMUnitTest){.name = "device", .test_func = test_device, .initial_state = &list};
    int failed = _cmocka_run_group_tests("lower", tests, n, NULL, NULL);
    kiln_context_destroy(context);
    return failed;
}
