/* Open batches in one executable: any number of rows against the evaluator, the same bits for any
 * threads, from the cache and from a shared object; constants and kernels that sizes share; what is
 * refused, and what the refusal says. */
#include "unit/function_bench.h"

#include <dlfcn.h>
#include <unistd.h>

/* A stack of layers with weights of its own, a table in the second one. */
static char layers[] =
    "graph g(%x: f32[$1,24], %b: f32[40]) {"
    "  %0: f32[24,40] = iota {axis = 1}"
    "  %1: f32[24,40] = constant {value = splat 0.0625}"
    "  %2: f32[24,40] = mul %0, %1"
    "  %3: f32[$1,40] = dot_general %x, %2 {lhs_batch = [], rhs_batch = [], lhs_contract = [1],"
    "    rhs_contract = [0], accumulate = f32}"
    "  %4: f32[$1,40] = broadcast %b {axes = [1]}"
    "  %5: f32[$1,40] = add %3, %4"
    "  %6: f32[$1,40] = tanh %5"
    "  %7: f32[$1,40] = softmax %6 {axis = 1}"
    "  %8: f32[$2,20] = reshape %7"
    "  return %7, %8 }";

static char mean[] = "graph g(%x: f32[$1,3]) { %0: f32[3] = mean %x {axes = [0]}"
                     "  %1: f32[$1,3] = broadcast %0 {axes = [1]}"
                     "  %2: f32[$1,3] = sub %x, %1 return %2 }";
static char counted[] = "graph g(%x: f32[$1,2]) { %0: f32[$1,2] = constant {value = splat $1}"
                        "  %1: f32[$1,2] = mul %x, %0 return %1 }";
static char donated[] = "graph g(%x: f32[$1,2] donated) { %0: f32[$1,2] = abs %x return %0 }";
static char pair[] = "graph g(%x: f32[$1,2], %y: f32[1,2]) {"
                     "  %0: f32[1,2] = abs %y  %1: f32[$1,2] = abs %x return %1, %0 }";
static char packed[] = "graph g(%x: i4[$1,2]) { %0: i4[$1,2] = neg %x return %0 }";

/* The graph of so many rows. */
static kiln_graph *build(kiln_context *context, char *text, int64_t rows)
{
    int64_t dims[] = {rows};
    kiln_tensor first = {KILN_f32, 1, dims, NULL, 0};
    kiln_graph *graph = NULL;
    if (bench_build(text, context, &first, 1, &graph))
        fail_msg("%s", kiln_context_message(context));
    return graph;
}

typedef struct model {
    kiln_graph *one, *larger[2];
    unsigned char batched[2];
    kiln_open_batch open;
    kiln_compile_options options;
} model;

static void open_model(model *m, kiln_context *context, char *text, int64_t first)
{
    *m = (model){.batched = {1, 0}};
    m->one = build(context, text, 1);
    m->larger[0] = build(context, text, first);
    m->larger[1] = build(context, text, 16);
    m->open = (kiln_open_batch){m->batched, 2, 2, (const kiln_graph *const *)m->larger};
    m->options = (kiln_compile_options){.struct_bytes = sizeof m->options,
                                        .open_batch = &m->open};
}

static void close_model(model *m)
{
    kiln_graph_destroy(m->one);
    for (int i = 0; i < 2; i++) kiln_graph_destroy(m->larger[i]);
}

static kiln_executable *compile(kiln_context *context, char *text, const char *cache_dir)
{
    model m;
    kiln_executable *executable = NULL;
    open_model(&m, context, text, 4);
    m.options.cache_dir = cache_dir;
    if (kiln_compile(m.one, &m.options, &executable)) fail_msg("%s", kiln_graph_message(m.one));
    close_model(&m);
    return executable;
}

/* Tensors of `layers` for so many rows. */
static void open_call(bench_call *call, int64_t rows)
{
    *call = (bench_call){0};
    bench_add(call, KILN_f32, 2, (int64_t[]){rows, 24});
    bench_add(call, KILN_f32, 1, (int64_t[]){40});
    for (uint32_t i = 0; i < 2; i++) {
        kiln_output_type *type = &call->types[i];
        *type = (kiln_output_type){.dtype = KILN_f32, .rank = 2};
        type->dims[0] = i ? 2 * rows : rows;
        type->dims[1] = i ? 20 : 40;
        type->bytes = (size_t)rows * 160;
        call->outputs[i] = (kiln_tensor){KILN_f32, 2, type->dims, calloc(1, type->bytes + 1),
                                         type->bytes};
    }
    call->n_outputs = 2;
}

static void run_call(kiln_workspace *workspace, bench_call *call)
{
    if (kiln_run(workspace, call->inputs, 2, call->outputs, 2))
        fail_msg("%s", kiln_workspace_message(workspace));
}

static void check_evaluated(kiln_context *context, const bench_call *call, int64_t rows)
{
    kiln_graph *whole = build(context, layers, rows);
    bench_call other;
    open_call(&other, rows);
    if (kiln_evaluate(whole, call->inputs, 2, other.outputs, 2))
        fail_msg("%s", kiln_graph_message(whole));
    for (int64_t i = 0; i < rows * 40; i++) {
        double a = kiln_tensor_get(&call->outputs[0], i), b = kiln_tensor_get(&other.outputs[0], i);
        assert_true(a - b < 1e-5 && b - a < 1e-5);
        assert_true(kiln_tensor_get(&call->outputs[1], i) == a);
    }
    bench_close(&other);
    kiln_graph_destroy(whole);
}

/* 0, one, one of each size, ragged, and more than the largest. */
static const int64_t batches[] = {0, 1, 2, 4, 7, 16, 19, 37, 64, 3};

static void test_any_batch_in_one_executable(void **state)
{
    (void)state;
    kiln_workspace *workspaces[2];
    kiln_context *contexts[2];
    for (uint32_t i = 0; i < 2; i++) {
        contexts[i] = bench_context(1 + i);
        kiln_executable *executable = compile(contexts[i], layers, NULL);
        assert_int_equal(kiln_workspace_create(executable, &workspaces[i]), KILN_OK);
        kiln_executable_destroy(executable);
    }
    for (size_t k = 0; k < sizeof batches / sizeof *batches; k++) {
        bench_call a, b;
        open_call(&a, batches[k]);
        open_call(&b, batches[k]);
        run_call(workspaces[0], &a);
        run_call(workspaces[1], &b);
        for (int i = 0; i < 2; i++)
            assert_memory_equal(a.outputs[i].data, b.outputs[i].data, a.outputs[i].bytes);
        if (batches[k]) check_evaluated(contexts[0], &a, batches[k]);
        bench_close(&a);
        bench_close(&b);
    }
    for (uint32_t i = 0; i < 2; i++) {
        kiln_workspace_destroy(workspaces[i]);
        kiln_context_destroy(contexts[i]);
    }
}

/* Each row has the bits that a compile for its chunk's size gives: 21 rows are 16, 4 and 1. */
static void test_rows_have_the_bits_of_their_size(void **state)
{
    (void)state;
    static const int64_t firsts[] = {0, 16, 20}, rows[] = {16, 4, 1};
    kiln_context *context = bench_context(1);
    kiln_executable *open = compile(context, layers, NULL);
    kiln_workspace *workspace;
    bench_call all;
    open_call(&all, 21);
    assert_int_equal(kiln_workspace_create(open, &workspace), KILN_OK);
    run_call(workspace, &all);
    for (int k = 0; k < 3; k++) {
        kiln_graph *graph = build(context, layers, rows[k]);
        kiln_executable *plain;
        kiln_workspace *own;
        bench_call call;
        open_call(&call, rows[k]);
        memcpy(call.inputs[0].data, (float *)all.inputs[0].data + 24 * firsts[k],
               call.inputs[0].bytes);
        assert_int_equal(kiln_compile(graph, NULL, &plain), KILN_OK);
        assert_int_equal(kiln_workspace_create(plain, &own), KILN_OK);
        run_call(own, &call);
        assert_memory_equal(call.outputs[0].data, (float *)all.outputs[0].data + 40 * firsts[k],
                            call.outputs[0].bytes);
        bench_close(&call);
        kiln_workspace_destroy(own);
        kiln_executable_destroy(plain);
        kiln_graph_destroy(graph);
    }
    bench_close(&all);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(open);
    kiln_context_destroy(context);
}

static void test_sizes_share_constants_and_kernels(void **state)
{
    (void)state;
    static const int64_t rows[] = {1, 4, 16};
    kiln_context *context = bench_context(1);
    int64_t constants = 0, most = 0;
    uint32_t n_kernels = 0;
    for (int k = 0; k < 3; k++) {
        kiln_graph *graph = build(context, layers, rows[k]);
        kiln_executable *plain;
        assert_int_equal(kiln_compile(graph, NULL, &plain), KILN_OK);
        const kiln_program *program = kiln_executable_program(plain);
        constants += program->constant_bytes;
        n_kernels += program->n_kernels;
        if (program->constant_bytes > most) most = program->constant_bytes;
        kiln_executable_destroy(plain);
        kiln_graph_destroy(graph);
    }
    kiln_executable *open = compile(context, layers, NULL);
    const kiln_program *program = kiln_executable_program(open);
    kiln_compile_report report;
    kiln_executable_report(open, &report);
    assert_int_equal(program->n_larger, 2);
    assert_int_equal(program->rows, 1);
    assert_true(most > 0 && program->constant_bytes >= most);
    assert_true(program->constant_bytes < constants);
    assert_true(program->n_kernels <= n_kernels);
    assert_int_equal(report.n_compiled, 0); /* the context knows all of them */
    for (uint32_t i = 0; i < 2; i++) {
        assert_ptr_equal(program->larger[i]->constants, program->constants);
        assert_ptr_equal(program->larger[i]->kernels, program->kernels);
        assert_true(program->larger[i]->arena_bytes <=
                    kiln_executable_peak_bytes(open, 1));
    }
    kiln_executable_destroy(open);
    kiln_context_destroy(context);
}

static void refuse(kiln_context *context, char *text, int64_t first, kiln_status status,
                   const char *sentence)
{
    model m;
    kiln_executable *executable = NULL;
    open_model(&m, context, text, first);
    assert_int_equal(kiln_compile(m.one, &m.options, &executable), status);
    if (!strstr(kiln_graph_message(m.one), sentence)) fail_msg("%s", kiln_graph_message(m.one));
    close_model(&m);
}

static void test_what_is_no_batch_is_refused(void **state)
{
    (void)state;
    kiln_context *context = bench_context(1);
    refuse(context, mean, 4, KILN_UNSUPPORTED, "mean %x {axes = [0]} mixes the rows of the batch");
    refuse(context, counted, 4, KILN_UNSUPPORTED,
           "the graph of 4 rows computes another function of a row");
    refuse(context, donated, 4, KILN_INVALID, "input 0 is donated");
    refuse(context, packed, 4, KILN_UNSUPPORTED, "i4[1,2], whose rows may share a byte");
    refuse(context, pair, 4, KILN_UNSUPPORTED, "without the rows of the batch");
    refuse(context, layers, 1, KILN_INVALID, "a graph of 1 rows follows one of 1");
    refuse(context, layers, 16, KILN_INVALID, "a graph of 16 rows follows one of 16");
    model m;
    kiln_executable *executable = NULL;
    open_model(&m, context, layers, 4);
    assert_int_equal(kiln_compile(m.larger[0], &m.options, &executable), KILN_INVALID);
    assert_non_null(strstr(kiln_graph_message(m.larger[0]), "of 4 rows follows one of 4"));
    m.batched[0] = 0;
    assert_int_equal(kiln_compile(m.one, &m.options, &executable), KILN_INVALID);
    assert_non_null(strstr(kiln_graph_message(m.one), "no input is batched"));
    m.batched[0] = m.batched[1] = 1;
    assert_int_equal(kiln_compile(m.one, &m.options, &executable), KILN_INVALID);
    assert_non_null(strstr(kiln_graph_message(m.one), "input 1 is f32[40]; expected as many rows"));
    kiln_graph_destroy(m.larger[1]);
    m.larger[1] = NULL;
    m.batched[1] = 0;
    assert_int_equal(kiln_compile(m.one, &m.options, &executable), KILN_INVALID);
    assert_non_null(strstr(kiln_graph_message(m.one), "a larger graph is NULL"));
    close_model(&m);
    kiln_context_destroy(context);
}

/* Two batched inputs of a run that differ. */
static void test_batches_that_differ_are_refused(void **state)
{
    (void)state;
    static char sum[] = "graph g(%x: f32[$1,2], %y: f32[$1,2]) {"
                        "  %0: f32[$1,2] = add %x, %y return %0 }";
    kiln_context *context = bench_context(1);
    kiln_executable *executable = NULL;
    kiln_workspace *workspace;
    model m;
    open_model(&m, context, sum, 4);
    m.batched[1] = 1;
    if (kiln_compile(m.one, &m.options, &executable)) fail_msg("%s", kiln_graph_message(m.one));
    close_model(&m);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    float x[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, z[10];
    int64_t five[] = {5, 2}, four[] = {4, 2}, dims[KILN_MAX_RANK];
    kiln_tensor inputs[] = {{KILN_f32, 2, five, x, 40}, {KILN_f32, 2, four, x, 32}};
    kiln_tensor output = {KILN_f32, 2, five, z, 40};
    assert_int_equal(kiln_run(workspace, inputs, 2, &output, 1), KILN_INVALID);
    assert_non_null(strstr(kiln_workspace_message(workspace), "dims are [4,2]; expected [5,2]"));
    inputs[1] = inputs[0];
    assert_int_equal(kiln_run(workspace, inputs, 2, &output, 1), KILN_OK);
    for (int i = 0; i < 10; i++) assert_true(z[i] == 2 * x[i]);
    assert_int_equal(kiln_executable_output_dims(executable, 0, &output, dims), KILN_OK);
    assert_true(dims[0] == 5 && dims[1] == 2);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_context_destroy(context);
}

static char folder[] = "/tmp/kiln-batch-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) != 0;
}

/* Two executables give the same bits for all batches. */
static void check_same(kiln_executable *a, kiln_executable *b)
{
    kiln_workspace *workspaces[2];
    assert_int_equal(kiln_workspace_create(a, &workspaces[0]), KILN_OK);
    assert_int_equal(kiln_workspace_create(b, &workspaces[1]), KILN_OK);
    for (size_t k = 0; k < sizeof batches / sizeof *batches; k++) {
        bench_call calls[2];
        for (int i = 0; i < 2; i++) {
            open_call(&calls[i], batches[k]);
            run_call(workspaces[i], &calls[i]);
        }
        for (int i = 0; i < 2; i++)
            assert_memory_equal(calls[0].outputs[i].data, calls[1].outputs[i].data,
                                calls[0].outputs[i].bytes);
        for (int i = 0; i < 2; i++) bench_close(&calls[i]);
    }
    for (int i = 0; i < 2; i++) kiln_workspace_destroy(workspaces[i]);
}

static void test_the_cache_keeps_all_sizes(void **state)
{
    (void)state;
    char cache[128];
    snprintf(cache, sizeof cache, "%s/cache", folder);
    kiln_context *contexts[2] = {bench_context(1), bench_context(1)};
    kiln_executable *made[2];
    for (int i = 0; i < 2; i++) {
        kiln_compile_report report;
        made[i] = compile(contexts[i], layers, cache);
        kiln_executable_report(made[i], &report);
        assert_int_equal(report.cache, i ? KILN_CACHE_HIT : KILN_CACHE_MISS);
    }
    check_same(made[0], made[1]);
    model m; /* other sizes are another model */
    kiln_executable *other;
    kiln_compile_report report;
    open_model(&m, contexts[0], layers, 5);
    m.options.cache_dir = cache;
    if (kiln_compile(m.one, &m.options, &other)) fail_msg("%s", kiln_graph_message(m.one));
    kiln_executable_report(other, &report);
    assert_int_equal(report.cache, KILN_CACHE_MISS);
    assert_int_equal(kiln_executable_program(other)->larger[0]->rows, 5);
    close_model(&m);
    kiln_executable_destroy(other);
    for (int i = 0; i < 2; i++) {
        kiln_executable_destroy(made[i]);
        kiln_context_destroy(contexts[i]);
    }
}

typedef int run_rows_fn(int64_t rows, const void *const *inputs, void *const *outputs, void *arena);

static void run_by_itself(const char *library, bench_call *call, int64_t rows)
{
    void *module = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    run_rows_fn *run_rows;
    if (!module) fail_msg("%s", dlerror());
    *(void **)&run_rows = dlsym(module, "net_run_rows");
    assert_non_null(run_rows);
    const void *inputs[] = {call->inputs[0].data, call->inputs[1].data};
    void *outputs[] = {call->outputs[0].data, call->outputs[1].data};
    assert_int_equal(run_rows(rows, inputs, outputs, NULL), 0);
    dlclose(module);
}

static const char use[] =
    "#include \"net.h\"\n"
    "int main(void)\n{\n    static float x[3 * NET_INPUT_0_BYTES / 4], b[NET_INPUT_1_BYTES / 4];\n"
    "    static float y[3 * NET_OUTPUT_0_BYTES / 4], z[3 * NET_OUTPUT_1_BYTES / 4];\n"
    "    const void *in[NET_N_INPUTS] = {x, b};\n    void *out[NET_N_OUTPUTS] = {y, z};\n"
    "    return net_run_rows(3, in, out, 0) || y[119] <= 0 || z[119] != y[119];\n}\n";

static void test_a_shared_object_serves_any_batch(void **state)
{
    (void)state;
    char library[128], header[128], command[600], path[128];
    snprintf(library, sizeof library, "%s/net.so", folder);
    snprintf(header, sizeof header, "%s/net.h", folder);
    kiln_context *context = bench_context(2);
    kiln_executable *made = compile(context, layers, NULL), *loaded;
    kiln_workspace *workspace;
    model m;
    open_model(&m, context, layers, 4);
    if (kiln_compile_library(m.one, &m.options, library, header, "net"))
        fail_msg("%s", kiln_graph_message(m.one));
    close_model(&m);
    if (kiln_executable_load(context, library, "net", &loaded))
        fail_msg("%s", kiln_context_message(context));
    check_same(made, loaded);
    assert_int_equal(kiln_workspace_create(made, &workspace), KILN_OK);
    for (size_t k = 0; k < sizeof batches / sizeof *batches; k++) {
        bench_call a, b;
        open_call(&a, batches[k]);
        open_call(&b, batches[k]);
        run_call(workspace, &a);
        run_by_itself(library, &b, batches[k]);
        assert_memory_equal(a.outputs[0].data, b.outputs[0].data, a.outputs[0].bytes);
        assert_memory_equal(a.outputs[1].data, b.outputs[1].data, a.outputs[1].bytes);
        bench_close(&a);
        bench_close(&b);
    }
    snprintf(path, sizeof path, "%s/use.c", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(use, file);
    fclose(file);
    snprintf(command, sizeof command,
             "cd %s && cc -std=c99 -Wall -Wextra -Werror use.c ./net.so -o use && ./use", folder);
    assert_int_equal(system(command), 0);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(loaded);
    kiln_executable_destroy(made);
    kiln_context_destroy(context);
}

/* A function compiled ahead of time. The graph of one row has a form of its own here, as it cannot
 * tell the two first axes apart: two rows are the smallest size. */
static char unsqueezed[] = "graph g(%x: f32[$1,4]) { %0: f32[1,$1,4] = reshape %x"
                           "  %1: f32[1,$1,4] = abs %0  %2: f32[$1,4] = reshape %1 return %2 }";

static kiln_function *open_function(kiln_context *context, char *text, const int64_t *sizes,
                                    uint32_t n_sizes)
{
    static const unsigned char batched[] = {1};
    kiln_function *function = NULL;
    kiln_function_options options = {sizeof options, .is_batched = batched, .n_is_batched = 1,
                                     .row_sizes = sizes, .n_row_sizes = n_sizes};
    if (kiln_function_create(context, bench_build, text, &options, &function))
        fail_msg("%s", kiln_context_message(context));
    return function;
}

static void test_a_function_ahead_of_time(void **state)
{
    (void)state;
    static const int64_t sizes[] = {3, 9};
    char library[128];
    snprintf(library, sizeof library, "%s/function.so", folder);
    kiln_library_paths paths = {.library = library};
    kiln_context *context = bench_context(1);
    for (int own = 0; own < 2; own++) {
        kiln_function *function =
            open_function(context, unsqueezed, own ? sizes : NULL, own ? 2 : 0);
        int64_t dims[] = {77, 4};
        kiln_tensor input = {KILN_f32, 2, dims, NULL, 0}, output;
        kiln_executable *loaded;
        kiln_workspace *workspace;
        if (kiln_function_compile_library(function, &input, 1, &paths))
            fail_msg("%s", kiln_context_message(context));
        if (kiln_executable_load(context, library, NULL, &loaded))
            fail_msg("%s", kiln_context_message(context));
        assert_int_equal(kiln_executable_program(loaded)->rows, own ? 3 : 2);
        assert_int_equal(kiln_workspace_create(loaded, &workspace), KILN_OK);
        for (int64_t rows = 0; rows < 24; rows++) {
            float x[96], y[97];
            for (int i = 0; i < 96; i++) x[i] = (float)(i % 5 - 2);
            dims[0] = rows;
            input = (kiln_tensor){KILN_f32, 2, dims, x, (size_t)rows * 16};
            output = input;
            output.data = y;
            y[rows * 4] = 7;
            if (kiln_run(workspace, &input, 1, &output, 1))
                fail_msg("%s", kiln_workspace_message(workspace));
            for (int i = 0; i < rows * 4; i++) assert_true(y[i] == (x[i] < 0 ? -x[i] : x[i]));
            assert_true(y[rows * 4] == 7);
        }
        kiln_workspace_destroy(workspace);
        kiln_executable_destroy(loaded);
        kiln_function_destroy(function);
    }
    kiln_context_destroy(context);
}

static void test_a_function_that_is_none_of_a_row(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 8};
    char library[128];
    snprintf(library, sizeof library, "%s/none.so", folder);
    kiln_library_paths paths = {.library = library};
    kiln_context *context = bench_context(1);
    static const struct {
        char *text;
        uint32_t first, n;
        const char *sentence;
    } rows[] = {
        {mean, 0, 2, "mixes the rows of the batch"},
        {counted, 0, 2, "the graph of 1 rows computes another function of a row"},
        {counted, 0, 1, "the graph of 2 rows computes another function of a row"},
        {counted, 1, 1, "the graph of 9 rows computes another function of a row"},
        {packed, 0, 2, "whose rows may share a byte"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kiln_function *function =
            open_function(context, rows[i].text, sizes + rows[i].first, rows[i].n);
        int64_t dims[] = {4, rows[i].text == mean ? 3 : 2};
        kiln_tensor input = {rows[i].text == packed ? KILN_i4 : KILN_f32, 2, dims, NULL, 0};
        assert_int_equal(kiln_function_compile_library(function, &input, 1, &paths),
                         KILN_UNSUPPORTED);
        if (!strstr(kiln_context_message(context), rows[i].sentence))
            fail_msg("%s", kiln_context_message(context));
        assert_int_equal(access(library, F_OK), -1);
        kiln_function_destroy(function);
    }
    assert_int_equal(kiln_function_compile_library(NULL, NULL, 0, &paths), KILN_INVALID);
    kiln_function *function = open_function(context, layers, sizes, 2);
    assert_int_equal(kiln_function_compile_library(function, NULL, 0, NULL), KILN_INVALID);
    assert_int_equal(kiln_function_compile_library(function, NULL, 2, &paths), KILN_INVALID);
    kiln_function_destroy(function);
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_batch_in_one_executable),
        cmocka_unit_test(test_rows_have_the_bits_of_their_size),
        cmocka_unit_test(test_sizes_share_constants_and_kernels),
        cmocka_unit_test(test_what_is_no_batch_is_refused),
        cmocka_unit_test(test_batches_that_differ_are_refused),
        cmocka_unit_test(test_the_cache_keeps_all_sizes),
        cmocka_unit_test(test_a_shared_object_serves_any_batch),
        cmocka_unit_test(test_a_function_ahead_of_time),
        cmocka_unit_test(test_a_function_that_is_none_of_a_row),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
