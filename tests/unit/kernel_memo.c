/* Kernels that a context keeps: found by text and symbol, and let go by the last use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/kernel_memo.h"
#include "kiln/kiln.h"

#define OBJECT_BYTES ((size_t)15 << 20) /* four of them fit */

typedef struct memo_test {
    kiln_error error;
    kiln_scope scope;
    kiln_context *context;
    void *data;
} memo_test;

static void keep(memo_test *test, const char *text)
{
    memset(test->data, text[0], OBJECT_BYTES);
    kiln_unit unit = {.text = text, .symbol = "k", .object = {test->data, OBJECT_BYTES, "k"}};
    kiln_kernel_memo_keep(test->context, &unit);
}

static bool is_kept(memo_test *test, const char *text, const char *symbol)
{
    kiln_unit unit = {.text = text, .symbol = symbol};
    if (!kiln_kernel_memo_find(test->context, &test->scope.arena, &unit)) return false;
    assert_int_equal(unit.object.bytes, OBJECT_BYTES);
    assert_int_equal(((const char *)unit.object.data)[OBJECT_BYTES - 1], text[0]);
    return true;
}

static void open_test(memo_test *test)
{
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 1};
    memset(test, 0, sizeof *test);
    assert_int_equal(kiln_context_create(&options, &test->context), KILN_OK);
    test->data = malloc(OBJECT_BYTES);
    assert_non_null(test->data);
    kiln_scope_open(&test->scope, &test->error);
}

static void close_test(memo_test *test)
{
    assert_int_equal(kiln_scope_close(&test->scope), KILN_OK);
    free(test->data);
    kiln_context_destroy(test->context);
}

static void test_finds_by_text_and_symbol(void **state)
{
    (void)state;
    memo_test test;
    open_test(&test);
    assert_false(is_kept(&test, "a", "k"));
    keep(&test, "a");
    keep(&test, "a");
    assert_true(is_kept(&test, "a", "k"));
    assert_false(is_kept(&test, "a", "other"));
    assert_false(is_kept(&test, "b", "k"));
    close_test(&test);
}

static void test_lets_go_what_was_not_used_longest(void **state)
{
    (void)state;
    memo_test test;
    open_test(&test);
    for (const char *text = "abcd"; *text; text++) keep(&test, text);
    assert_true(is_kept(&test, "abcd", "k"));
    keep(&test, "e");
    assert_false(is_kept(&test, "bcd", "k"));
    assert_true(is_kept(&test, "abcd", "k"));
    keep(&test, "f");
    keep(&test, "g");
    assert_false(is_kept(&test, "cd", "k"));
    assert_false(is_kept(&test, "d", "k"));
    keep(&test, "h");
    assert_true(is_kept(&test, "abcd", "k"));
    assert_false(is_kept(&test, "e", "k"));
    close_test(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_by_text_and_symbol),
        cmocka_unit_test(test_lets_go_what_was_not_used_longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
