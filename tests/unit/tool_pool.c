/* Tools of a context: lent to one compile at a time, and closed with the context. The backend is
 * one that counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codegen/tool_pool.h"
#include "kiln/kiln.h"

struct kiln_tools {
    uint32_t number;
};

static uint32_t n_opened, n_closed;

static kiln_tools *open_tools(kiln_scope *scope)
{
    kiln_tools *tools = malloc(sizeof *tools);
    if (!tools) kiln_fail(scope, KILN_NO_MEMORY, "tools");
    tools->number = n_opened++;
    return tools;
}

static void close_tools(kiln_tools *tools)
{
    n_closed++;
    free(tools);
}

static const kiln_backend counting = {.open_tools = open_tools, .close_tools = close_tools};
static const kiln_backend other = {.open_tools = open_tools, .close_tools = close_tools};

static kiln_context *start(void)
{
    kiln_context *context = NULL;
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 1};
    n_opened = n_closed = 0;
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    return context;
}

/* The number of `n` tools that were lent at once, the last one's. */
static uint32_t borrow(kiln_context *context, const kiln_backend *backend, uint32_t n)
{
    kiln_error error = {0};
    kiln_scope scope;
    volatile uint32_t number = 0, lent = 0;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        for (uint32_t i = 0; i < n; i++) {
            number = kiln_tools_borrow(&scope, context, backend)->number;
            assert_false(lent >> number & 1);
            lent |= 1u << number;
        }
    }
    assert_int_equal(kiln_scope_close(&scope), KILN_OK);
    return number;
}

static void test_lends_again_what_came_back(void **state)
{
    (void)state;
    kiln_context *context = start();
    assert_int_equal(borrow(context, &counting, 1), 0);
    assert_int_equal(borrow(context, &counting, 1), 0);
    borrow(context, &counting, 3);
    assert_int_equal(n_opened, 3);
    assert_int_equal(borrow(context, &other, 1), 3);
    assert_true(borrow(context, &counting, 1) < 3);
    assert_int_equal(n_opened, 4);
    assert_int_equal(n_closed, 0);
    kiln_context_destroy(context);
    assert_int_equal(n_closed, 4);
}

static void test_keeps_a_few(void **state)
{
    (void)state;
    kiln_context *context = start();
    borrow(context, &counting, 20);
    assert_int_equal(n_opened, 20);
    assert_true(n_closed >= 10 && n_closed < 19);
    kiln_context_destroy(context);
    assert_int_equal(n_closed, 20);
}

static void test_closes_without_context(void **state)
{
    (void)state;
    n_opened = n_closed = 0;
    borrow(NULL, &counting, 2);
    assert_int_equal(n_opened, 2);
    assert_int_equal(n_closed, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lends_again_what_came_back),
        cmocka_unit_test(test_keeps_a_few),
        cmocka_unit_test(test_closes_without_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
