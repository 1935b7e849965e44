/* Regions over scalars: map, reduce, reduce_window, select_and_scatter, scatter_with, sort_by. The
 * evaluator takes the region element by element; compiled code must give the same from whole
 * tensors, known combinations and others alike. Numbers are small integers, so that no grouping
 * rounds. */
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

#define PORTS 5

/* Regions of two scalars a and b. */
#define OF_TWO(name, node) "graph " name "(%a: f32[], %b: f32[]) { %0: f32[] = " node " return %0 }"
#define ADD OF_TWO("add", "add %a, %b")
#define MAX OF_TWO("max", "max %b, %a")
#define LAST "graph last(%a: f32[], %b: f32[]) { return %b }"
#define FIRST "graph first(%a: f32[], %b: f32[]) { return %a }"
#define TWICE                                                                                      \
    "graph twice(%a: f32[], %b: f32[]) { %0: f32[] = add %a, %a %1: f32[] = add %0, %b return %1 }"
#define COMPARE(op) "graph compare(%a: f32[], %b: f32[]) { %0: bool[] = " op " %a, %b return %0 }"
/* The larger value and its place; of equal ones the first. */
#define ARGMAX                                                                                     \
    "graph argmax(%v: f32[], %i: i64[], %w: f32[], %j: i64[]) { %0: bool[] = ge %v, %w "           \
    "%1: f32[] = select %0, %v, %w %2: i64[] = select %0, %i, %j return %1, %2 }"
/* By size, without the sign, of the second of two operands. */
#define BY_SIZE                                                                                    \
    "graph by_size(%a: f32[], %b: f32[], %i: i32[], %j: i32[]) { %0: i32[] = abs %i "              \
    "%1: i32[] = abs %j %2: bool[] = lt %0, %1 return %2 }"

#define ONE(header, op, operands, type, attrs)                                                     \
    "graph g(" header ") { %0: (" type ") = " op " " operands " {" attrs                           \
    "} %1: " type " = item %0 {index = 0} return %1 }"
#define REDUCE(dims, axes, type, region)                                                           \
    ONE("%x: f32" dims ", %s: f32[]", "reduce", "%x, %s", type,                                    \
        "axes = " axes ", regions = [" region "]")
#define WINDOW(x, y, lists, region)                                                                \
    ONE("%x: f32" x ", %s: f32[]", "reduce_window", "%x, %s", "f32" y,                             \
        lists ", regions = [" region "]")
#define LISTS                                                                                      \
    "sizes = [2, 3], strides = [1, 2], low = [1, 0], high = [0, 2], dilations = [1, 2]"
#define SCATTER(region)                                                                            \
    ONE("%x: f32[4,3], %i: i64[5,1], %u: f32[5,2]", "scatter_with", "%x, %i, %u", "f32[4,3]",      \
        "window_axes = [1], inserted_axes = [0], operand_batch = [], indices_batch = [], "         \
        "start_map = [0], index_axis = 1, regions = [" region "]")
#define SCATTER_PAIRS(updates, region)                                                             \
    "graph g(%x: f32[4,3], %y: i64[4,3], %i: i64[5,1], %u: f32[5,2], %v: i64" updates ") { "       \
    "%0: (f32[4,3], i64[4,3]) = scatter_with %x, %y, %i, %u, %v {window_axes = [1], "              \
    "inserted_axes = [0], operand_batch = [], indices_batch = [], start_map = [0], "               \
    "index_axis = 1, regions = [" region "]} "                                                     \
    "%1: f32[4,3] = item %0 {index = 0} %2: i64[4,3] = item %0 {index = 1} return %1, %2 }"
#define SELECT(select, scatter, low)                                                               \
    ONE("%x: f32[4,6], %u: f32[2,3], %s: f32[]", "select_and_scatter", "%x, %u, %s", "f32[4,6]",   \
        "sizes = [2, 3], strides = [2, 2], low = [0, " low "], high = [0, 1], "                    \
        "dilations = [1, 1], regions = [" select ", " scatter "]")

static const char *const texts[] = {
    "graph g(%x: f32[3,2], %y: f32[3,2]) { %0: (f32[3,2], bool[3,2]) = map %x, %y {regions = ["
    "graph f(%a: f32[], %b: f32[]) { %0: f32[] = constant {value = splat 3} %1: f32[] = mul %a, %0 "
    "%2: f32[] = relu %1 %3: bool[] = lt %2, %b return %2, %3 }]} "
    "%1: f32[3,2] = item %0 {index = 0} %2: bool[3,2] = item %0 {index = 1} return %1, %2 }",
    REDUCE("[4,5]", "[1]", "f32[4]", ADD),
    REDUCE("[4,5]", "[0, 1]", "f32[]", MAX),
    REDUCE("[4,5]", "[1]", "f32[4]", LAST),
    REDUCE("[4,7]", "[0]", "f32[7]", FIRST),
    REDUCE("[3,4,5]", "[0, 2]", "f32[4]", LAST),
    REDUCE("[3,0]", "[1]", "f32[3]", LAST),
    "graph g(%x: f32[4,7], %i: i64[4,7], %s: f32[], %j: i64[]) { "
    "%0: (f32[4], i64[4]) = reduce %x, %i, %s, %j {axes = [1], regions = [" ARGMAX "]} "
    "%1: f32[4] = item %0 {index = 0} %2: i64[4] = item %0 {index = 1} return %1, %2 }",
    WINDOW("[4,9]", "[4,4]", LISTS, ADD),
    WINDOW("[4,9]", "[4,4]", LISTS, MAX),
    WINDOW("[4,9]", "[4,4]", LISTS, LAST),
    WINDOW("[4,9]", "[4,4]", LISTS, FIRST),
    SCATTER(ADD),
    SCATTER(LAST),
    SCATTER(TWICE),
    SCATTER_PAIRS("[5,2]", ARGMAX),
    SELECT(COMPARE("ge"), ADD, "0"),
    SELECT(COMPARE("lt"), MAX, "0"),
    "graph g(%x: f32[3,6]) { %0: (f32[3,6]) = sort_by %x {axis = 1, regions = [" COMPARE("gt") "]} "
    "%1: f32[3,6] = item %0 {index = 0} return %1 }",
    "graph g(%x: f32[6,2], %k: i32[6,2]) { %0: (f32[6,2], i32[6,2]) = sort_by %x, %k {axis = 0, "
    "regions = [" BY_SIZE "]} %1: f32[6,2] = item %0 {index = 0} "
    "%2: i32[6,2] = item %0 {index = 1} return %1, %2 }",
};

/* Integers from -4 to 4, by dtype. */
static void fill(const kiln_type *type, uint32_t seed, void *data)
{
    for (int64_t i = 0; i < type->n_elements; i++) {
        seed = seed * 1664525u + 1013904223u;
        int value = (int)(seed >> 24) % 9 - 4;
        if (type->dtype == KILN_f32) ((float *)data)[i] = (float)value;
        if (type->dtype == KILN_i64) ((int64_t *)data)[i] = value;
        if (type->dtype == KILN_i32) ((int32_t *)data)[i] = value;
    }
}

static kiln_tensor new_tensor(const kiln_graph *graph, kiln_value value)
{
    const kiln_type *type = kiln_graph_type(graph, value);
    return (kiln_tensor){type->dtype, type->rank, type->dims, calloc(1, (size_t)type->bytes + 16),
                         (size_t)type->bytes};
}

static void run(const kiln_graph *graph, int is_unfused, const kiln_tensor *inputs,
                const kiln_tensor *outputs)
{
    kiln_compile_options options = {
        .struct_bytes = sizeof options, .is_unfused = is_unfused, .compile_threads = 1};
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    if (kiln_compile(graph, &options, &executable)) fail_msg("%s", kiln_graph_message(graph));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    if (kiln_run(workspace, inputs, graph->inputs.n, outputs, graph->outputs.n))
        fail_msg("%s", kiln_workspace_message(workspace));
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
}

static void check_text(kiln_context *context, const char *text, int is_unfused)
{
    kiln_graph *graph = NULL;
    kiln_tensor inputs[PORTS], expected[PORTS], outputs[PORTS];
    if (kiln_parse_text(context, text, strlen(text), &graph))
        fail_msg("%s in\n%s", kiln_context_message(context), text);
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        inputs[i] = new_tensor(graph, graph->inputs.at[i]);
        fill(kiln_graph_type(graph, graph->inputs.at[i]), i + 7, inputs[i].data);
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        expected[i] = new_tensor(graph, graph->outputs.at[i].value);
        outputs[i] = new_tensor(graph, graph->outputs.at[i].value);
    }
    if (kiln_evaluate(graph, inputs, graph->inputs.n, expected, graph->outputs.n))
        fail_msg("%s in\n%s", kiln_graph_message(graph), text);
    run(graph, is_unfused, inputs, outputs);
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        if (memcmp(outputs[i].data, expected[i].data, outputs[i].bytes) != 0)
            fail_msg("output %u of\n%s", i, text);
        free(outputs[i].data);
        free(expected[i].data);
    }
    for (uint32_t i = 0; i < graph->inputs.n; i++) free(inputs[i].data);
    kiln_graph_destroy(graph);
}

static void test_compiled_code_gives_what_the_evaluator_gives(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads <= 2; threads++) {
        kiln_context_options options = {.struct_bytes = sizeof options, .threads = threads};
        kiln_context *context = NULL;
        assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
            check_text(context, texts[i], threads == 2);
        kiln_context_destroy(context);
    }
}

/* One input with its numbers, one scalar, and what must come out. */
typedef struct worked_case {
    const char *text;
    const float *x, *scalar, *expected;
} worked_case;

static const worked_case worked[] = {
    {REDUCE("[2,3]", "[1]", "f32[2]", ADD), (float[]){1, 2, 3, 4, 5, 6}, (float[]){10},
     (float[]){16, 25}},
    {REDUCE("[2,3]", "[0]", "f32[3]", LAST), (float[]){1, 2, 3, 4, 5, 6}, (float[]){10},
     (float[]){4, 5, 6}},
    {REDUCE("[2,3]", "[0]", "f32[3]", FIRST), (float[]){1, 2, 3, 4, 5, 6}, (float[]){10},
     (float[]){10, 10, 10}},
    {WINDOW("[4]", "[2]",
            "sizes = [3], strides = [2], low = [1], high = [0], dilations = [1]", LAST),
     (float[]){1, 2, 3, 4}, (float[]){0}, (float[]){2, 4}},
};

static void test_worked_cases(void **state)
{
    (void)state;
    kiln_context *context = NULL;
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 1};
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    for (size_t i = 0; i < sizeof worked / sizeof *worked; i++) {
        kiln_graph *graph = NULL;
        const char *text = worked[i].text;
        assert_int_equal(kiln_parse_text(context, text, strlen(text), &graph), KILN_OK);
        kiln_tensor inputs[] = {new_tensor(graph, graph->inputs.at[0]),
                                new_tensor(graph, graph->inputs.at[1])};
        kiln_tensor output = new_tensor(graph, graph->outputs.at[0].value);
        memcpy(inputs[0].data, worked[i].x, inputs[0].bytes);
        memcpy(inputs[1].data, worked[i].scalar, inputs[1].bytes);
        assert_int_equal(kiln_evaluate(graph, inputs, 2, &output, 1), KILN_OK);
        assert_memory_equal(output.data, worked[i].expected, output.bytes);
        free(inputs[0].data);
        free(inputs[1].data);
        free(output.data);
        kiln_graph_destroy(graph);
    }
    kiln_context_destroy(context);
}

typedef struct mistake {
    const char *text, *sentence;
} mistake;

static const mistake mistakes[] = {
    {REDUCE("[4,5]", "[1]", "f32[4]", COMPARE("lt")),
     "result 0 of region \"compare\" is bool; expected f32"},
    {REDUCE("[4,5]", "[1]", "f32[4]",
            "graph r(%a: f32[], %b: f32[], %c: f32[]) { return %a }"),
     "region \"r\" has 3 parameters and 1 results; expected 2 and 1"},
    {REDUCE("[4,5]", "[1]", "f32[4]",
            "graph r(%a: f32[2], %b: f32[]) { return %b }"),
     "region \"r\" holds input of f32[2]; expected elementwise operations of scalars"},
    {REDUCE("[4,5]", "[2]", "f32[4]", ADD), "axes is [2]; expected distinct ascending axes"},
    {ONE("%x: f32[2], %y: f32[3]", "map", "%x, %y", "f32[2]", "regions = [" ADD "]"),
     "operands are f32[2] and f32[3]; expected equal dims"},
    {ONE("%x: f32[2]", "sort_by", "%x", "f32[2]", "axis = 0, regions = [" ADD "]"),
     "result 0 of region \"add\" is f32; expected bool"},
    {SCATTER_PAIRS("[5,1]", ARGMAX),
     "updates are f32[4,3], i64[4,3], i64[5,1], f32[5,2] and i64[5,1]; expected equal dims"},
    {SCATTER_PAIRS("[5,2]", ADD),
     "region \"add\" has 2 parameters and 1 results; expected 4 and 2"},
    {ONE("%x: f32[2], %y: f32[2]", "scatter_with", "%x, %y", "f32[2]",
         "window_axes = [], inserted_axes = [0], operand_batch = [], indices_batch = [], "
         "start_map = [0], index_axis = 1, regions = [" ADD "]"),
     "2 operands; expected values, indices and as many updates"},
};

static void test_mistakes_have_sentences(void **state)
{
    (void)state;
    kiln_context *context = NULL;
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 1};
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        kiln_graph *graph = NULL;
        const char *text = mistakes[i].text;
        assert_int_equal(kiln_parse_text(context, text, strlen(text), &graph), KILN_MODEL);
        if (!strstr(kiln_context_message(context), mistakes[i].sentence))
            fail_msg("%s; expected %s", kiln_context_message(context), mistakes[i].sentence);
    }
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mistakes_have_sentences),
        cmocka_unit_test(test_compiled_code_gives_what_the_evaluator_gives),
        cmocka_unit_test(test_worked_cases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
