/* Regions: what they compute, their text form, their identity, and what the type rules and limits
 * refuse. Each case is a graph as text with the values that it must give. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "kiln/kiln.h"

static kiln_context *context;

#define POWER                                                                                      \
    "graph power(%n: i64[], %x: f32[]) {\n"                                                        \
    "  %0: i64[] = constant {value = splat 0}\n"                                                   \
    "  %1: f32[] = constant {value = splat 1}\n"                                                   \
    "  %2: (i64[], f32[]) = while %0, %1, %n, %x {n_carried = 2, limit = 100, "                    \
    "regions = [graph condition(%i: i64[], %y: f32[], %n: i64[], %x: f32[]) {\n"                   \
    "    %0: bool[] = lt %i, %n\n"                                                                 \
    "    return %0\n"                                                                              \
    "  }, graph body(%i: i64[], %y: f32[], %n: i64[], %x: f32[]) {\n"                              \
    "    %0: i64[] = constant {value = splat 1}\n"                                                 \
    "    %1: i64[] = add %i, %0\n"                                                                 \
    "    %2: f32[] = mul %y, %x\n"                                                                 \
    "    return %1, %2\n"                                                                          \
    "  }]} \"powers\"\n"                                                                           \
    "  %3: f32[] = item %2 {index = 1}\n"                                                          \
    "  return %3\n"                                                                                \
    "}\n"

/* Prefix sums, and the total; the fixed operand scales. */
#define SUMS                                                                                       \
    "graph sums(%s: f32[2], %xs: f32[3,2], %k: f32[]) {\n"                                         \
    "  %0: (f32[2], f32[3,2]) = scan %s, %xs, %k {n_carried = 1, n_slices = 1, length = 3, "       \
    "regions = [graph body(%s: f32[2], %x: f32[2], %k: f32[]) {\n"                                 \
    "    %0: f32[2] = broadcast %k {axes = []}\n"                                                  \
    "    %1: f32[2] = mul %x, %0\n"                                                                \
    "    %2: f32[2] = add %s, %1\n"                                                                \
    "    %3: f32[2] = neg %2\n"                                                                    \
    "    return %2, %3\n"                                                                          \
    "  }]}\n"                                                                                      \
    "  %1: f32[2] = item %0 {index = 0}\n"                                                         \
    "  %2: f32[3,2] = item %0 {index = 1}\n"                                                       \
    "  return %1, %2\n"                                                                            \
    "}\n"

/* |x| by a choice; both results of one branch, swapped in the other. */
#define CHOICE                                                                                     \
    "graph choice(%p: bool[], %x: f32[2], %y: f32[2]) {\n"                                         \
    "  %0: (f32[2], f32[2]) = if %p, %x, %y {regions = [graph then(%a: f32[2], %b: f32[2]) {\n"    \
    "    return %a, %b\n"                                                                          \
    "  }, graph else(%a: f32[2], %b: f32[2]) {\n"                                                  \
    "    %0: f32[2] = neg %b\n"                                                                    \
    "    return %0, %a\n"                                                                          \
    "  }]}\n"                                                                                      \
    "  %1: f32[2] = item %0 {index = 0}\n"                                                         \
    "  %2: f32[2] = item %0 {index = 1}\n"                                                         \
    "  return %1, %2\n"                                                                            \
    "}\n"

#define UNARY(op)                                                                                  \
    "graph " op "_of(%x: f32[2]) {\n"                                                              \
    "    %0: f32[2] = " op " %x\n"                                                                 \
    "    return %0\n"                                                                              \
    "  }"
#define CASE                                                                                       \
    "graph pick(%i: i32[], %x: f32[2]) {\n"                                                        \
    "  %0: (f32[2]) = case %i, %x {regions = [" UNARY("neg") ", " UNARY("square") ", "             \
    UNARY("abs") "]}\n"                                                                            \
    "  %1: f32[2] = item %0 {index = 0}\n"                                                         \
    "  return %1\n"                                                                                \
    "}\n"
#define CALL                                                                                       \
    "graph twice(%x: f32[2]) {\n"                                                                  \
    "  %0: (f32[2]) = call %x {regions = [" UNARY("square") "]}\n"                                 \
    "  %1: f32[2] = item %0 {index = 0}\n"                                                         \
    "  %2: (f32[2]) = call %1 {regions = [" UNARY("square") "]}\n"                                 \
    "  %3: f32[2] = item %2 {index = 0}\n"                                                         \
    "  return %3\n"                                                                                \
    "}\n"

/* (a, b) -> (b, a + b): results change places, operands are views, an item is read through a view,
 * one nobody reads. */
#define FIBONACCI                                                                                  \
    "graph fibonacci(%n: i64[], %x: f32[2,3]) {\n"                                                 \
    "  %0: f32[3,2] = transpose %x {permutation = [1, 0]}\n"                                       \
    "  %1: f32[3,2] = reshape %x\n"                                                                \
    "  %2: i64[] = constant {value = splat 0}\n"                                                   \
    "  %3: (i64[], f32[3,2], f32[3,2]) = while %2, %0, %1, %n {n_carried = 3, limit = 100, "       \
    "regions = [graph condition(%i: i64[], %a: f32[3,2], %b: f32[3,2], %n: i64[]) {\n"             \
    "    %0: bool[] = lt %i, %n\n"                                                                 \
    "    return %0\n"                                                                              \
    "  }, graph body(%i: i64[], %a: f32[3,2], %b: f32[3,2], %n: i64[]) {\n"                        \
    "    %0: i64[] = constant {value = splat 1}\n"                                                 \
    "    %1: i64[] = add %i, %0\n"                                                                 \
    "    %2: f32[3,2] = add %a, %b\n"                                                              \
    "    return %1, %b, %2\n"                                                                      \
    "  }]}\n"                                                                                      \
    "  %4: f32[3,2] = item %3 {index = 1}\n"                                                       \
    "  %5: f32[3,2] = item %3 {index = 2}\n"                                                       \
    "  %6: f32[6] = reshape %4\n"                                                                  \
    "  %7: f32[2,3] = transpose %5 {permutation = [1, 0]}\n"                                       \
    "  return %6, %7\n"                                                                            \
    "}\n"

/* Rows of a triangle: an outer loop whose body scans, with a choice inside that. */
#define NESTED                                                                                     \
    "graph nested(%n: i64[], %x: f32[4]) {\n"                                                      \
    "  %0: i64[] = constant {value = splat 0}\n"                                                   \
    "  %1: (i64[], f32[4]) = while %0, %x, %n {n_carried = 2, limit = 100, regions = ["            \
    "graph c(%i: i64[], %x: f32[4], %n: i64[]) { %0: bool[] = lt %i, %n return %0 },\n"            \
    "  graph b(%i: i64[], %x: f32[4], %n: i64[]) {\n"                                              \
    "    %0: i64[] = constant {value = splat 1}\n"                                                 \
    "    %1: i64[] = add %i, %0\n"                                                                 \
    "    %2: f32[] = constant {value = splat 0}\n"                                                 \
    "    %3: (f32[], f32[4]) = scan %2, %x, %i {n_carried = 1, n_slices = 1, length = 4, "         \
    "regions = [graph row(%s: f32[], %v: f32[], %i: i64[]) {\n"                                    \
    "      %0: f32[] = constant {value = splat 0}\n"                                               \
    "      %1: bool[] = gt %s, %0\n"                                                               \
    "      %2: (f32[]) = if %1, %s, %v {regions = [graph t(%s: f32[], %v: f32[]) {"                \
    " %0: f32[] = add %s, %v return %0 }, graph f(%s: f32[], %v: f32[]) { return %v }]}\n"         \
    "      %3: f32[] = item %2 {index = 0}\n"                                                      \
    "      return %3, %3\n"                                                                        \
    "    }]}\n"                                                                                    \
    "    %4: f32[4] = item %3 {index = 1}\n"                                                       \
    "    return %1, %4\n"                                                                          \
    "  }]}\n"                                                                                      \
    "  %2: f32[4] = item %1 {index = 1}\n"                                                         \
    "  return %2\n"                                                                                \
    "}\n"

/* A loop that nothing ends but its limit, and a check within a body. */
#define ENDLESS(limit)                                                                             \
    "graph endless(%x: f32[2]) {\n"                                                                \
    "  %0: (f32[2]) = while %x {n_carried = 1, limit = " limit ", regions = ["                     \
    "graph c(%x: f32[2]) { %0: bool[] = constant {value = splat true} return %0 },"                \
    "graph b(%x: f32[2]) { %0: f32[2] = neg %x return %0 }]}"                                      \
    "  %1: f32[2] = item %0 {index = 0}"                                                           \
    "  return %1\n"                                                                                \
    "}\n"
#define CHECKED                                                                                    \
    "graph checked(%x: f32[3], %y: f32[]) {\n"                                                     \
    "  %0: (f32[]) = scan %y, %x {n_carried = 1, n_slices = 1, length = 3, regions = ["            \
    "graph b(%s: f32[], %x: f32[]) {"                                                              \
    " %0: f32[] = constant {value = splat 0} %1: bool[] = lt %x, %0 %2: i64[] = convert %1"        \
    " %3: f32[] = sqrt %x %4: f32[] = add %s, %3"                                                  \
    " check %2 \"roots: a negative number; expected none\" return %4 }]}"                          \
    "  %1: f32[] = item %0 {index = 0}"                                                            \
    "  return %1\n"                                                                                \
    "}\n"

/* Too long to be unrolled; the stack is made backwards as well, nobody reads the third result. */
#define LONG                                                                                       \
    "graph long(%s: f32[2], %xs: f32[20], %k: f32[]) {\n"                                          \
    "  %0: (f32[2], f32[20,2], f32[20]) = scan %s, %xs, %k {n_carried = 1, n_slices = 1, "         \
    "length = 20, regions = [graph body(%s: f32[2], %x: f32[], %k: f32[]) {\n"                     \
    "    %0: f32[] = mul %x, %k\n"                                                                 \
    "    %1: f32[2] = broadcast %0 {axes = []}\n"                                                  \
    "    %2: f32[2] = add %s, %1\n"                                                                \
    "    %3: f32[2] = neg %2\n"                                                                    \
    "    return %2, %3, %0\n"                                                                      \
    "  }]}\n"                                                                                      \
    "  %1: f32[2] = item %0 {index = 0}\n"                                                         \
    "  %2: f32[20,2] = item %0 {index = 1}\n"                                                      \
    "  %3: f32[20] = reduce_sum %2 {axes = [1]}\n"                                                 \
    "  return %1, %3\n"                                                                            \
    "}\n"

/* One input or output: a dtype is told by its bytes here. */
typedef struct region_case {
    const char *text;
    const void *inputs[3];
    const float *outputs[2];
} region_case;

static const region_case cases[] = {
    {POWER, {(int64_t[]){5}, (float[]){2}}, {(float[]){32}}},
    {POWER, {(int64_t[]){0}, (float[]){7}}, {(float[]){1}}},
    {SUMS,
     {(float[]){1, 0}, (float[]){1, 2, 3, 4, 5, 6}, (float[]){2}},
     {(float[]){19, 24}, (float[]){-3, -4, -9, -12, -19, -24}}},
    {CHOICE,
     {(bool[]){true}, (float[]){1, 2}, (float[]){3, 4}},
     {(float[]){1, 2}, (float[]){3, 4}}},
    {CHOICE,
     {(bool[]){false}, (float[]){1, 2}, (float[]){3, 4}},
     {(float[]){-3, -4}, (float[]){1, 2}}},
    {CASE, {(int32_t[]){0}, (float[]){3, -4}}, {(float[]){-3, 4}}},
    {CASE, {(int32_t[]){1}, (float[]){3, -4}}, {(float[]){9, 16}}},
    {CASE, {(int32_t[]){2}, (float[]){3, -4}}, {(float[]){3, 4}}},
    {CASE, {(int32_t[]){-1}, (float[]){3, -4}}, {(float[]){3, 4}}},
    {CASE, {(int32_t[]){7}, (float[]){3, -4}}, {(float[]){3, 4}}},
    {CALL, {(float[]){2, -1}}, {(float[]){16, 1}}},
    {FIBONACCI,
     {(int64_t[]){1}, (float[]){1, 2, 3, 4, 5, 6}},
     {(float[]){1, 2, 3, 4, 5, 6}, (float[]){2, 5, 8, 6, 9, 12}}},
    {FIBONACCI,
     {(int64_t[]){3}, (float[]){1, 2, 3, 4, 5, 6}},
     {(float[]){3, 8, 8, 13, 13, 18}, (float[]){5, 13, 21, 14, 22, 30}}},
    {NESTED, {(int64_t[]){0}, (float[]){1, 1, 1, 1}}, {(float[]){1, 1, 1, 1}}},
    {NESTED, {(int64_t[]){3}, (float[]){1, 1, 1, 1}}, {(float[]){1, 4, 10, 20}}},
    {NESTED, {(int64_t[]){1}, (float[]){-1, -2, 3, 4}}, {(float[]){-1, -2, 3, 7}}},
    {LONG,
     {(float[]){0, 1},
      (float[]){1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20},
      (float[]){2}},
     {(float[]){420, 421},
      (float[]){-5,   -13,  -25,  -41,  -61,  -85,  -113, -145, -181, -221,
                -265, -313, -365, -421, -481, -545, -613, -685, -761, -841}}},
    {CHECKED, {(float[]){4, 9, 16}, (float[]){1}}, {(float[]){10}}},
};

static kiln_graph *parse(const char *text)
{
    kiln_graph *graph = NULL;
    kiln_status status = kiln_parse_text(context, text, strlen(text), &graph);
    if (status) fail_msg("%s in\n%s", kiln_context_message(context), text);
    return graph;
}

static kiln_tensor tensor_of(const kiln_graph *graph, kiln_value value, const void *data)
{
    const kiln_type *type = kiln_graph_type(graph, value);
    return (kiln_tensor){type->dtype, type->rank, type->dims, (void *)(uintptr_t)data,
                         (size_t)type->bytes};
}

/* Inputs of a case and fresh memory for its outputs. */
static void case_tensors(const kiln_graph *graph, const region_case *one, kiln_tensor *inputs,
                         kiln_tensor *outputs)
{
    for (uint32_t i = 0; i < graph->inputs.n; i++)
        inputs[i] = tensor_of(graph, graph->inputs.at[i], one->inputs[i]);
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        outputs[i] = tensor_of(graph, graph->outputs.at[i].value, NULL);
        outputs[i].data = calloc(1, outputs[i].bytes);
    }
}

static void check_outputs(const char *text, uint32_t n, kiln_tensor *outputs,
                          const float *const *expected)
{
    for (uint32_t i = 0; i < n; i++) {
        if (memcmp(outputs[i].data, expected[i], outputs[i].bytes) != 0) {
            const float *found = outputs[i].data;
            fail_msg("output %u is %g…; expected %g… of\n%s", i, found[0], expected[i][0], text);
        }
        free(outputs[i].data);
    }
}

static void test_the_evaluator_knows_regions(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kiln_tensor inputs[3], outputs[2];
        kiln_graph *graph = parse(cases[i].text);
        case_tensors(graph, &cases[i], inputs, outputs);
        kiln_status status =
            kiln_evaluate(graph, inputs, graph->inputs.n, outputs, graph->outputs.n);
        if (status) fail_msg("%s in\n%s", kiln_graph_message(graph), cases[i].text);
        check_outputs(cases[i].text, graph->outputs.n, outputs, cases[i].outputs);
        kiln_graph_destroy(graph);
    }
}

/* Another way to run a case. */
typedef struct variant {
    uint32_t threads;
    int is_unfused, is_ahead;
} variant;

static kiln_executable *case_compile(kiln_context *own, const kiln_graph *graph, const variant *how)
{
    kiln_compile_options options = {
        .struct_bytes = sizeof options, .is_unfused = how->is_unfused, .compile_threads = 1};
    kiln_executable *executable = NULL;
    kiln_status status = how->is_ahead
                             ? kiln_compile_library(graph, &options, "region_case.so", NULL, NULL)
                             : kiln_compile(graph, &options, &executable);
    if (status) fail_msg("%s", kiln_graph_message(graph));
    if (how->is_ahead) {
        assert_int_equal(kiln_executable_load(own, "region_case.so", NULL, &executable), KILN_OK);
        remove("region_case.so");
    }
    return executable;
}

static void case_run(kiln_context *own, const region_case *one, const variant *how)
{
    kiln_tensor inputs[3], outputs[2];
    kiln_graph *graph = NULL;
    kiln_workspace *workspace = NULL;
    assert_int_equal(kiln_parse_text(own, one->text, strlen(one->text), &graph), KILN_OK);
    case_tensors(graph, one, inputs, outputs);
    kiln_executable *executable = case_compile(own, graph, how);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    for (int twice = 0; twice < 2; twice++) {
        kiln_status status =
            kiln_run(workspace, inputs, graph->inputs.n, outputs, graph->outputs.n);
        if (status) fail_msg("%s in\n%s", kiln_workspace_message(workspace), one->text);
    }
    check_outputs(one->text, graph->outputs.n, outputs, one->outputs);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
}

static void test_compiled_programs_know_regions(void **state)
{
    (void)state;
    const variant variants[] = {{1, 0, 0}, {2, 0, 0}, {2, 1, 0}, {1, 0, 1}};
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        kiln_context_options options = {.struct_bytes = sizeof options,
                                        .threads = variants[v].threads};
        kiln_context *own = NULL;
        assert_int_equal(kiln_context_create(&options, &own), KILN_OK);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            bool is_other_input = i && cases[i].text == cases[i - 1].text;
            if (variants[v].is_ahead && is_other_input) continue; /* linking takes long */
            case_run(own, &cases[i], &variants[v]);
        }
        kiln_context_destroy(own);
    }
}

static void test_text_is_kept(void **state)
{
    (void)state;
    const char *const texts[] = {"kiln 1\n" POWER, "kiln 1\n" SUMS, "kiln 1\n" CHOICE,
                                 "kiln 1\n" CASE};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        kiln_graph *graph = parse(texts[i]);
        char *text = NULL;
        assert_int_equal(kiln_print_text(graph, &text), KILN_OK);
        assert_string_equal(text, texts[i]);
        kiln_free(text);
        kiln_error error = {0};
        assert_int_equal(kiln_graph_verify(graph, NULL, &error), KILN_OK);
        kiln_graph_destroy(graph);
    }
}

static void test_equal_bodies_make_equal_nodes(void **state)
{
    (void)state;
    const char *text =
        "graph same(%x: f32[2]) {"
        "  %0: (f32[2]) = call %x {regions = [" UNARY("neg") "]}"
        "  %1: (f32[2]) = call %x {regions = [graph other(%y: f32[2]) {"
        "    %5: f32[2] = neg %y  return %5 as \"z\" }]}"
        "  %2: (f32[2]) = call %x {regions = [" UNARY("abs") "]}"
        "  %3: f32[2] = item %0 {index = 0}"
        "  %4: f32[2] = item %1 {index = 0}"
        "  %5: f32[2] = item %2 {index = 0}"
        "  return %3, %4, %5 }";
    kiln_graph *graph = parse(text);
    assert_int_equal(graph->outputs.at[0].value.id, graph->outputs.at[1].value.id);
    assert_int_not_equal(graph->outputs.at[0].value.id, graph->outputs.at[2].value.id);
    kiln_graph_destroy(graph);
}

static void test_trips_have_a_limit(void **state)
{
    (void)state;
    kiln_graph *graph = parse(POWER);
    kiln_tensor inputs[2], outputs[1];
    const region_case one = {POWER, {(int64_t[]){101}, (float[]){1}}, {0}};
    case_tensors(graph, &one, inputs, outputs);
    assert_int_equal(kiln_evaluate(graph, inputs, 2, outputs, 1), KILN_RANGE);
    assert_string_equal(kiln_graph_message(graph),
                        "while: over 100 trips; expected its condition to end it before");
    free(outputs[0].data);
    kiln_graph_destroy(graph);
}

/* Runs a graph of one output of two numbers; returns the status and keeps the sentence. */
static kiln_status run_text(const char *text, const void *const *inputs, int64_t deadline,
                            char *out_sentence)
{
    kiln_graph *graph = parse(text);
    kiln_tensor ins[3], out;
    float memory[2] = {0};
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    for (uint32_t i = 0; i < graph->inputs.n; i++)
        ins[i] = tensor_of(graph, graph->inputs.at[i], inputs[i]);
    out = tensor_of(graph, graph->outputs.at[0].value, memory);
    if (kiln_compile(graph, NULL, &executable)) fail_msg("%s", kiln_graph_message(graph));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    kiln_workspace_set_deadline(workspace, deadline);
    kiln_status status = kiln_run(workspace, ins, graph->inputs.n, &out, 1);
    strcpy(out_sentence, kiln_workspace_message(workspace));
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    return status;
}

static void test_endless_loops_end(void **state)
{
    (void)state;
    char sentence[KILN_MESSAGE_BYTES];
    const void *inputs[] = {(float[]){1, 2}};
    kiln_status status = run_text(ENDLESS("9223372036854775807"), inputs, 20000000, sentence);
    assert_int_equal(status, KILN_DEADLINE);
    assert_int_equal(run_text(ENDLESS("1000"), inputs, 0, sentence), KILN_RANGE);
    assert_string_equal(sentence,
                        "while: over 1000 trips; expected its condition to end it before");
}

static void test_checks_within_regions_are_seen(void **state)
{
    (void)state;
    char sentence[KILN_MESSAGE_BYTES];
    const void *inputs[] = {(float[]){4, -1, 4}, (float[]){0}};
    assert_int_equal(run_text(CHECKED, inputs, 0, sentence), KILN_RANGE);
    assert_string_equal(sentence, "roots: a negative number; expected none");
}

typedef struct mistake {
    const char *text, *sentence;
    kiln_status status;
} mistake;

static const mistake mistakes[] = {
    {"graph a(%x: f32[2]) { %0: (f32[3]) = call %x {regions = [" UNARY("neg") "]} return %x }",
     "1:38: call gives (f32[2]); the text says (f32[3])", KILN_MODEL},
    {"graph a(%x: f32[3]) { %0: (f32[2]) = call %x {regions = [" UNARY("neg") "]} return %x }",
     "1:38: call: parameter 0 of region \"neg_of\" is f32[2]; expected f32[3]", KILN_MODEL},
    {"graph a(%x: f32[2]) { %0: (f32[2]) = call %x {regions = [" UNARY("neg") "]} return %0 }",
     "4:17: output: the value is (f32[2]); expected a tensor", KILN_MODEL},
    {"graph a(%x: f32[2]) { %0: (f32[2]) = call %x {regions = []} return %x }",
     "1:38: call: 0 regions; expected 1 to 1", KILN_MODEL},
    {"graph a(%x: f32[2]) { %0: (f32[2]) = call %x {regions = [graph b(%y: f32[2]) {"
     " return %x }]} return %x }",
     "1:87: %\"x\" is not defined above", KILN_MODEL},
    {"graph a(%x: f32[2]) { %0: f32[2] = item %x {index = 0} return %x }",
     "1:36: item: operand 0 is f32[2]; expected a tuple", KILN_MODEL},
};

static void test_mistakes_have_sentences(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        kiln_graph *graph = NULL;
        const char *text = mistakes[i].text;
        kiln_status status = kiln_parse_text(context, text, strlen(text), &graph);
        const char *message = kiln_context_message(context);
        size_t n = strlen(mistakes[i].sentence);
        if (strncmp(message, mistakes[i].sentence, n) || message[n] != '\n')
            fail_msg("%s\ninstead of\n%s", message, mistakes[i].sentence);
        assert_int_equal(status, mistakes[i].status);
    }
}

/* A graph of `depth` calls within each other. */
static kiln_status parse_nested(uint32_t depth, kiln_graph **out_graph)
{
    static const char open[] = "graph g(%x: f32[]) { %0: (f32[]) = call %x {regions = [";
    static const char inner[] = "graph g(%x: f32[]) { return %x }";
    static const char close[] = "]} %1: f32[] = item %0 {index = 0} return %1 }";
    char *text = calloc(depth + 1, sizeof open + sizeof close), *at = text;
    for (uint32_t i = 0; i < depth; i++) at += sprintf(at, "%s", open);
    at += sprintf(at, "%s", inner);
    for (uint32_t i = 0; i < depth; i++) at += sprintf(at, "%s", close);
    kiln_status status = kiln_parse_text(context, text, (size_t)(at - text), out_graph);
    free(text);
    return status;
}

static void test_nesting_has_a_limit(void **state)
{
    (void)state;
    kiln_graph *graph = NULL;
    assert_int_equal(parse_nested(64, &graph), KILN_OK);
    kiln_graph_destroy(graph);
    assert_int_equal(parse_nested(65, &graph), KILN_LIMIT);
    assert_int_equal(parse_nested(5000, &graph), KILN_LIMIT);
    assert_non_null(strstr(kiln_context_message(context), "regions nest deeper than 64"));
}

static void test_a_region_is_finished(void **state)
{
    (void)state;
    kiln_graph *graph, *region;
    assert_int_equal(kiln_graph_create(context, "outer", &graph), KILN_OK);
    assert_int_equal(kiln_graph_create(context, "inner", &region), KILN_OK);
    kiln_value x = kiln_input(graph, "x", KILN_f32, 0, NULL);
    kiln_value y = kiln_input(region, "y", KILN_f32, 0, NULL);
    kiln_output(region, NULL, kiln_neg(region, y));
    kiln_value tuple = kiln_call(graph, region, &(kiln_arguments){1, &x});
    assert_string_equal(kiln_graph_message(graph), "");
    assert_int_equal(kiln_abs(region, y).id, 0);
    assert_string_equal(kiln_graph_message(region),
                        "graph: \"inner\" is a region of another graph; expected one that is not "
                        "finished");
    kiln_graph_destroy(region);
    kiln_output(graph, NULL, kiln_item(graph, tuple, 0));
    float in = 3, out = 0;
    kiln_tensor input = {KILN_f32, 0, NULL, &in, 4}, output = {KILN_f32, 0, NULL, &out, 4};
    assert_int_equal(kiln_evaluate(graph, &input, 1, &output, 1), KILN_OK);
    assert_true(out == -3);
    kiln_graph_destroy(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_evaluator_knows_regions),
        cmocka_unit_test(test_compiled_programs_know_regions),
        cmocka_unit_test(test_text_is_kept),
        cmocka_unit_test(test_equal_bodies_make_equal_nodes),
        cmocka_unit_test(test_trips_have_a_limit),
        cmocka_unit_test(test_endless_loops_end),
        cmocka_unit_test(test_checks_within_regions_are_seen),
        cmocka_unit_test(test_mistakes_have_sentences),
        cmocka_unit_test(test_nesting_has_a_limit),
        cmocka_unit_test(test_a_region_is_finished),
    };
    kiln_context_create(
        &(kiln_context_options){.struct_bytes = sizeof(kiln_context_options), .threads = 1},
        &context);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kiln_context_destroy(context);
    return failed;
}
