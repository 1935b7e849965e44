/* Which kernels are compiled with little effort: those of an operation that stands alone, is much
 * code and runs shortly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codegen/compile.h"
#include "codegen/kernel.h"
#include "kiln/kiln.h"
#include "tests/unit/context.h"

typedef kiln_value build_fn(kiln_graph *graph, kiln_value a);

static kiln_value power(kiln_graph *graph, kiln_value a)
{
    return kiln_pow(graph, a, a);
}

static kiln_value sum_of_powers(kiln_graph *graph, kiln_value a)
{
    return kiln_tanh(graph, kiln_add(graph, kiln_pow(graph, a, a), a));
}

static kiln_value sorted(kiln_graph *graph, kiln_value a)
{
    return kiln_sort(graph, a, 1, 0);
}

/* How many of the kernels for f32[n,n] are quick; -1: some are and some are not. */
static int count_quick(build_fn *build, int64_t n)
{
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "g", &graph), KILN_OK);
    kiln_output(graph, "b", build(graph, kiln_input(graph, "a", KILN_f32, 2, (int64_t[]){n, n})));
    kiln_compile_options options = {.struct_bytes = sizeof options, .target_cpu = "x86-64-v4"};
    kiln_error error = {0};
    kiln_scope scope;
    int n_quick = 0;
    uint32_t n_units = 0;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_compilation *compilation = kiln_compilation_open(&scope, graph, &options, false);
        kiln_compilation_run(compilation);
        n_units = compilation->units.n;
        for (uint32_t i = 0; i < n_units; i++)
            n_quick += compilation->units.at[i].kernel->is_quick;
    }
    assert_int_equal(kiln_scope_close(&scope), KILN_OK);
    kiln_graph_destroy(graph);
    return n_quick && n_quick < (int)n_units ? -1 : n_quick;
}

static void much_code_and_a_short_run(void **state)
{
    (void)state;
    assert_int_equal(count_quick(power, 120), 1);
    assert_true(count_quick(sorted, 120) >= 1);
}

static void little_code(void **state)
{
    (void)state;
    assert_int_equal(count_quick(kiln_neg, 120), 0);
    assert_int_equal(count_quick(kiln_tanh, 120), 0);
}

static void a_long_run(void **state)
{
    (void)state;
    assert_int_equal(count_quick(power, 3000), 0);
}

static void several_operations(void **state)
{
    (void)state;
    assert_int_equal(count_quick(sum_of_powers, 120), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(much_code_and_a_short_run),
        cmocka_unit_test(little_code),
        cmocka_unit_test(a_long_run),
        cmocka_unit_test(several_operations),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
