/* Large models take time in proportion to their size: chains of nodes and nested choices, imported
 * from ONNX and compiled, four times as large against once. Processor time, the best of a few, and
 * room for twice the proportion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "context.h"

/* Wire bytes of any size; onnx_bytes.h is for small ones. */
typedef struct wire {
    size_t n, capacity;
    unsigned char *at;
} wire;

static void put(wire *out, const void *data, size_t n)
{
    if (out->n + n > out->capacity) {
        out->capacity = 2 * (out->n + n) + 64;
        out->at = realloc(out->at, out->capacity);
        assert_non_null(out->at);
    }
    if (n) memcpy(out->at + out->n, data, n);
    out->n += n;
}

static void put_varint(wire *out, uint64_t value)
{
    for (; value > 127; value >>= 7) put(out, (unsigned char[]){(unsigned char)(value | 128)}, 1);
    put(out, (unsigned char[]){(unsigned char)value}, 1);
}

static void put_data(wire *out, uint32_t field, const void *data, size_t n)
{
    put_varint(out, field << 3 | 2);
    put_varint(out, n);
    put(out, data, n);
}

static void put_text(wire *out, uint32_t field, const char *text)
{
    put_data(out, field, text, strlen(text));
}

static void put_int(wire *out, uint32_t field, uint64_t value)
{
    put_varint(out, field << 3);
    put_varint(out, value);
}

/* Takes `inner`. */
static void put_message(wire *out, uint32_t field, wire inner)
{
    put_data(out, field, inner.at, inner.n);
    free(inner.at);
}

static wire node_of(const char *op, const char *a, const char *b, const char *to)
{
    wire out = {0};
    put_text(&out, 1, a);
    if (b) put_text(&out, 1, b);
    put_text(&out, 2, to);
    put_text(&out, 4, op);
    return out;
}

static wire value_of(const char *name, uint64_t dtype, uint64_t dim)
{
    wire out = {0}, outer = {0}, type = {0}, shape = {0}, size = {0};
    if (dim) {
        put_int(&size, 1, dim);
        put_message(&shape, 1, size);
    }
    put_int(&type, 1, dtype);
    put_message(&type, 2, shape);
    put_message(&outer, 1, type);
    put_text(&out, 1, name);
    put_message(&out, 2, outer);
    return out;
}

/* Takes the graph. */
static wire file_of(wire graph)
{
    wire out = {0}, id = {0};
    put_int(&out, 1, 8);
    put_message(&out, 7, graph);
    put_int(&id, 2, 17);
    put_message(&out, 8, id);
    return out;
}

/* y = ((x * x) + x) * x …, n nodes. */
static wire chain_of(int n)
{
    wire graph = {0}, output = {0};
    char from[24] = "x", to[24];
    for (int i = 0; i < n; i++) {
        snprintf(to, sizeof to, i + 1 < n ? "t%d" : "y", i);
        put_message(&graph, 1, node_of(i % 2 ? "Add" : "Mul", from, "x", to));
        memcpy(from, to, sizeof from);
    }
    put_message(&graph, 11, value_of("x", 1, 64));
    put_text(&output, 1, "y");
    put_message(&graph, 12, output);
    return file_of(graph);
}

/* The graph of a branch: -x or |x|, or at a level a choice between the next level and -x, by a
 * condition of its own. */
static wire branch_of(const char *op, int level, int depth, const char *name)
{
    wire graph = {0}, output = {0}, choice = {0};
    if (level == depth) {
        put_message(&graph, 1, node_of(op, "x", NULL, name));
    } else {
        static const char *const sides[] = {"then_branch", "else_branch"};
        char inner[24];
        snprintf(inner, sizeof inner, "d%d", level);
        put_message(&graph, 1, node_of("Not", "c", NULL, inner));
        put_text(&choice, 1, inner);
        put_text(&choice, 2, name);
        put_text(&choice, 4, "If");
        for (int i = 0; i < 2; i++) {
            wire attribute = {0};
            snprintf(inner, sizeof inner, "o%d_%d", level, i);
            put_text(&attribute, 1, sides[i]);
            put_message(&attribute, 6,
                        i ? branch_of("Neg", depth, depth, inner)
                          : branch_of("Abs", level + 1, depth, inner));
            put_int(&attribute, 20, 5);
            put_message(&choice, 5, attribute);
        }
        put_message(&graph, 1, choice);
    }
    put_text(&graph, 2, "g");
    put_text(&output, 1, name);
    put_message(&graph, 12, output);
    return graph;
}

static wire choices_of(int depth)
{
    wire graph = branch_of("Abs", 0, depth, "y");
    put_message(&graph, 11, value_of("c", 9, 0));
    put_message(&graph, 11, value_of("x", 1, 4));
    return file_of(graph);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Seconds of importing, and of compiling if that is asked for; the least of `n_times`. */
typedef struct cost {
    double import, compile;
} cost;

static cost measure(wire file, int is_compiled, int n_times)
{
    cost least = {1e9, 1e9};
    for (int i = 0; i < n_times; i++) {
        kiln_graph *graph = NULL;
        kiln_executable *executable = NULL;
        double start = now();
        if (kiln_import_onnx_memory(context, file.at, file.n, NULL, &graph))
            fail_msg("%s", kiln_context_message(context));
        double imported = now();
        if (is_compiled && kiln_compile(graph, NULL, &executable))
            fail_msg("%s", kiln_graph_message(graph));
        double compiled = now();
        if (imported - start < least.import) least.import = imported - start;
        if (compiled - imported < least.compile) least.compile = compiled - imported;
        kiln_executable_destroy(executable);
        kiln_graph_destroy(graph);
    }
    free(file.at);
    return least;
}

static void check_ratio(const char *what, double small, double large)
{
    print_message("%s: %.4f s, four times as much: %.4f s, ratio %.1f\n", what, small, large,
                  large / small);
    assert_true(large < 8 * small + 0.01);
}

static void test_a_chain_of_20000_nodes(void **state)
{
    (void)state;
    cost small = measure(chain_of(5000), 0, 3), large = measure(chain_of(20000), 0, 3);
    check_ratio("import of 5,000 nodes", small.import, large.import);
}

static void test_a_chain_is_compiled(void **state)
{
    (void)state;
    cost small = measure(chain_of(5000), 1, 1), large = measure(chain_of(20000), 1, 1);
    check_ratio("compile of 5,000 nodes", small.compile, large.compile);
}

/* O4: 60 choices in one another. */
static void test_nested_choices(void **state)
{
    (void)state;
    cost small = measure(choices_of(15), 1, 5), large = measure(choices_of(60), 1, 3);
    check_ratio("import of 15 nested choices", small.import, large.import);
    check_ratio("compile of 15 nested choices", small.compile, large.compile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_chain_of_20000_nodes),
        cmocka_unit_test(test_a_chain_is_compiled),
        cmocka_unit_test(test_nested_choices),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
