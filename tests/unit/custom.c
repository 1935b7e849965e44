/* Custom calls: a function of the caller's as part of a graph, evaluated, compiled and loaded; what
 * happens without one, with one for other types, and when it fails. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"

/* y = x * user, and the number of calls; RANGE where an element is negative. */
static kiln_status scale(void *user, const kiln_custom_call_args *args)
{
    assert_string_equal(args->signature, "scale(f32[3]) -> (f32[3], i64[])");
    assert_int_equal(args->n_inputs, 1);
    assert_int_equal(args->n_outputs, 2);
    const float *x = args->inputs[0];
    float *y = args->outputs[0];
    for (int i = 0; i < 3; i++) {
        if (x[i] < 0) return KILN_RANGE;
        y[i] = x[i] * *(const float *)user;
    }
    *(int64_t *)args->outputs[1] = 3;
    return KILN_OK;
}

/* A loop around the call; its count is an output of the second call, outside. */
static const char text[] =
    "graph g(%x: f32[3], %n: i64[]) {"
    "  %0: i64[] = constant {value = splat 0}"
    "  %1: (i64[], f32[3]) = while %0, %x, %n {n_carried = 2, limit = 9, regions = ["
    "graph c(%i: i64[], %x: f32[3], %n: i64[]) { %0: bool[] = lt %i, %n return %0 },"
    "graph b(%i: i64[], %x: f32[3], %n: i64[]) { %0: i64[] = constant {value = splat 1}"
    "  %1: i64[] = add %i, %0"
    "  %2: (f32[3], i64[]) = custom_call %x {target = \"scale\"}"
    "  %3: f32[3] = item %2 {index = 0}"
    "  return %1, %3 }]}"
    "  %2: f32[3] = item %1 {index = 1}"
    "  %3: f32[3] = neg %2"
    "  %4: f32[3] = abs %3"
    "  %5: (f32[3], i64[]) = custom_call %4 {target = \"scale\"}"
    "  %6: f32[3] = item %5 {index = 0}"
    "  %7: i64[] = item %5 {index = 1}"
    "  %8: f32[3] = exp %3"
    "  return %6, %7, %8 }";

static float two = 2;

static kiln_context *open_context(const char *signature, kiln_custom_fn *run)
{
    kiln_context *context = NULL;
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 2};
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    if (run)
        assert_int_equal(kiln_context_register(context, "scale", signature, run, &two), KILN_OK);
    return context;
}

static kiln_graph *parse(kiln_context *context)
{
    kiln_graph *graph = NULL;
    if (kiln_parse_text(context, text, strlen(text), &graph))
        fail_msg("%s", kiln_context_message(context));
    return graph;
}

typedef struct ports {
    float x[3], y[3], e[3];
    int64_t n, count, dims[1];
    kiln_tensor inputs[2], outputs[3];
} ports;

static void ports_open(ports *at, float first)
{
    *at = (ports){.x = {first, 1, 2}, .n = 2, .dims = {3}};
    at->inputs[0] = (kiln_tensor){KILN_f32, 1, at->dims, at->x, 12};
    at->inputs[1] = (kiln_tensor){KILN_i64, 0, NULL, &at->n, 8};
    at->outputs[0] = (kiln_tensor){KILN_f32, 1, at->dims, at->y, 12};
    at->outputs[1] = (kiln_tensor){KILN_i64, 0, NULL, &at->count, 8};
    at->outputs[2] = (kiln_tensor){KILN_f32, 1, at->dims, at->e, 12};
}

static void check_ports(const ports *at)
{
    assert_true(at->y[0] == 4 && at->y[1] == 8 && at->y[2] == 16);
    assert_int_equal(at->count, 3);
}

static kiln_status run(kiln_executable *executable, ports *at, char *out_sentence)
{
    kiln_workspace *workspace = NULL;
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    kiln_status status = kiln_run(workspace, at->inputs, 2, at->outputs, 3);
    strcpy(out_sentence, kiln_workspace_message(workspace));
    kiln_workspace_destroy(workspace);
    return status;
}

static void test_functions_are_called(void **state)
{
    (void)state;
    kiln_context *context = open_context("(f32[3]) -> (f32[3], i64[])", scale);
    kiln_graph *graph = parse(context);
    kiln_executable *executable = NULL;
    char sentence[1024];
    ports at;
    ports_open(&at, 0.5f);
    if (kiln_evaluate(graph, at.inputs, 2, at.outputs, 3))
        fail_msg("%s", kiln_graph_message(graph));
    check_ports(&at);
    ports_open(&at, 0.5f);
    if (kiln_compile(graph, NULL, &executable)) fail_msg("%s", kiln_graph_message(graph));
    if (run(executable, &at, sentence)) fail_msg("%s", sentence);
    check_ports(&at);
    ports_open(&at, -1);
    assert_int_equal(run(executable, &at, sentence), KILN_RANGE);
    assert_string_equal(sentence, "custom call scale(f32[3]) -> (f32[3], i64[]): the function "
                                  "returned RANGE");
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

static void test_loaded_models_find_them(void **state)
{
    (void)state;
    kiln_context *context = open_context(NULL, scale), *bare = open_context(NULL, NULL);
    kiln_graph *graph = parse(context);
    kiln_executable *executable = NULL;
    char sentence[1024];
    ports at;
    ports_open(&at, 0.5f);
    assert_int_equal(kiln_compile_library(graph, NULL, "custom_case.so", NULL, NULL), KILN_OK);
    assert_int_equal(kiln_executable_load(bare, "custom_case.so", NULL, &executable),
                     KILN_UNSUPPORTED);
    assert_non_null(strstr(kiln_context_message(bare), "the context has no such function"));
    assert_int_equal(kiln_executable_load(context, "custom_case.so", NULL, &executable), KILN_OK);
    remove("custom_case.so");
    if (run(executable, &at, sentence)) fail_msg("%s", sentence);
    check_ports(&at);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
    kiln_context_destroy(bare);
}

static int scale_status(void *user, const kiln_custom_call_args *args)
{
    return (int)scale(user, args);
}

/* The library by itself: functions come with the call. */
static void test_a_library_is_given_them(void **state)
{
    (void)state;
    typedef int run_fn(const void *const *, void *const *, void *);
    typedef int call_fn(const void *const *, void *const *, void *, const kiln_custom_functions *);
    kiln_context *context = open_context(NULL, scale);
    kiln_graph *graph = parse(context);
    char header[8192] = "";
    ports at;
    ports_open(&at, 0.5f);
    if (kiln_compile_library(graph, NULL, "custom_alone.so", "custom_alone.h", NULL))
        fail_msg("%s", kiln_graph_message(graph));
    void *library = dlopen("./custom_alone.so", RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    run_fn *run_alone = (run_fn *)dlsym(library, "model_run");
    call_fn *call = (call_fn *)dlsym(library, "model_call");
    assert_true(run_alone && call);
    const void *inputs[] = {at.x, &at.n};
    void *outputs[] = {at.y, &at.count, at.e};
    const kiln_custom_function other = {"sca", scale_status, &two};
    const kiln_custom_function functions[] = {other, {"scale", scale_status, &two}};
    assert_int_equal(run_alone(inputs, outputs, NULL), KILN_UNSUPPORTED);
    assert_int_equal(call(inputs, outputs, NULL, NULL), KILN_UNSUPPORTED);
    assert_int_equal(call(inputs, outputs, NULL, &(kiln_custom_functions){1, 0, &other}),
                     KILN_UNSUPPORTED);
    assert_int_equal(call(inputs, outputs, NULL, &(kiln_custom_functions){2, 0, functions}),
                     KILN_OK);
    check_ports(&at);
    ports_open(&at, -1);
    assert_int_equal(call(inputs, outputs, NULL, &(kiln_custom_functions){2, 0, functions}),
                     KILN_RANGE);
    FILE *file = fopen("custom_alone.h", "r");
    assert_non_null(file);
    header[fread(header, 1, sizeof header - 1, file)] = 0;
    fclose(file);
    assert_non_null(strstr(header, "int model_call(const void *const *inputs"));
    remove("custom_alone.so");
    remove("custom_alone.h");
    dlclose(library);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

static void test_missing_and_other_functions_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *signature, *sentence;
        kiln_custom_fn *run;
        kiln_status status;
    } rows[] = {
        {NULL, "the context has no such function", NULL, KILN_UNSUPPORTED},
        {"(f32[4]) -> (f32[4], i64[])", "registered for scale(f32[4])", scale, KILN_INVALID},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kiln_context *context = open_context(rows[i].signature, rows[i].run);
        kiln_graph *graph = parse(context);
        kiln_executable *executable = NULL;
        ports at;
        ports_open(&at, 1);
        assert_int_equal(kiln_evaluate(graph, at.inputs, 2, at.outputs, 3), rows[i].status);
        assert_non_null(strstr(kiln_graph_message(graph), rows[i].sentence));
        assert_int_equal(kiln_compile(graph, NULL, &executable), rows[i].status);
        assert_non_null(strstr(kiln_graph_message(graph), rows[i].sentence));
        assert_null(executable);
        kiln_graph_destroy(graph);
        kiln_context_destroy(context);
    }
}

/* They would see other bytes than their signature says. */
static void test_narrow_operands_are_refused(void **state)
{
    (void)state;
    static const char narrow[] = "graph f(%x: f8e5m2[4]) {\n"
                                 "  %0: (f8e5m2[4]) = custom_call %x {target = \"scale\"}\n"
                                 "  %1: f8e5m2[4] = item %0 {index = 0}\n"
                                 "  return %1\n"
                                 "}\n";
    kiln_context *context = open_context(NULL, scale);
    kiln_graph *graph = NULL;
    kiln_executable *executable = NULL;
    assert_int_equal(kiln_parse_text(context, narrow, strlen(narrow), &graph), KILN_OK);
    assert_int_equal(kiln_compile(graph, NULL, &executable), KILN_UNSUPPORTED);
    assert_non_null(strstr(kiln_graph_message(graph), "a custom call of narrow or complex values"));
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

static void test_names_are_checked(void **state)
{
    (void)state;
    kiln_context *context = open_context(NULL, NULL);
    assert_int_equal(kiln_context_register(context, "a(b", NULL, scale, NULL), KILN_INVALID);
    assert_int_equal(kiln_context_register(context, "", NULL, scale, NULL), KILN_INVALID);
    assert_int_equal(kiln_context_register(context, "a", NULL, NULL, NULL), KILN_INVALID);
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_functions_are_called),
        cmocka_unit_test(test_loaded_models_find_them),
        cmocka_unit_test(test_a_library_is_given_them),
        cmocka_unit_test(test_missing_and_other_functions_are_refused),
        cmocka_unit_test(test_narrow_operands_are_refused),
        cmocka_unit_test(test_names_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
