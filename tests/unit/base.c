/* The base layer: scopes that fail and release, arenas, checked arithmetic, text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/scope.h"
#include "base/text.h"
#include "base/vec.h"

static int released;

static void count_release(void *object)
{
    released += *(int *)object;
}

static void test_failure_releases_and_keeps_the_sentence(void **state)
{
    (void)state;
    static int one = 1, ten = 10;
    kiln_error error = {0};
    kiln_scope scope;
    released = 0;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_scope_defer(&scope, count_release, &one);
        kiln_scope_defer(&scope, count_release, &ten);
        kiln_scope_keep(&scope, &ten);
        kiln_fail(&scope, KILN_INVALID, "input %d: rank is 3; expected 2", 7);
    }
    assert_int_equal(kiln_scope_close(&scope), KILN_INVALID);
    assert_int_equal(released, 1);
    assert_string_equal(error.message, "input 7: rank is 3; expected 2");
}

static void test_arena_arrays_grow_and_overflow_is_limit(void **state)
{
    (void)state;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_vec(uint32_t) numbers = {0};
        for (uint32_t i = 0; i < 100000; i++) kiln_vec_push(&numbers, &scope.arena, i);
        for (uint32_t i = 0; i < 100000; i++) assert_int_equal(numbers.at[i], i);
        kiln_arena_array(&scope.arena, SIZE_MAX / 4, 8);
        fail();
    }
    assert_int_equal(kiln_scope_close(&scope), KILN_LIMIT);
}

static void test_products_see_overflow_behind_a_zero(void **state)
{
    (void)state;
    int64_t product;
    assert_true(kiln_checked_product((int64_t[]){3, 0, 5}, 3, &product));
    assert_int_equal(product, 0);
    assert_false(kiln_checked_product((int64_t[]){0, INT64_MAX, 4}, 3, &product));
}

static void test_text_escapes_what_is_not_printable(void **state)
{
    (void)state;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_text text = {.arena = &scope.arena};
        kiln_text_quoted(&text, "a\n\"\xff", 4);
        kiln_text_type(&text, KILN_f32, 2, (int64_t[]){2, 3});
        assert_string_equal(kiln_text_string(&text), "\"a\\x0a\\\"\\xff\"f32[2,3]");
    }
    assert_int_equal(kiln_scope_close(&scope), KILN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failure_releases_and_keeps_the_sentence),
        cmocka_unit_test(test_arena_arrays_grow_and_overflow_is_limit),
        cmocka_unit_test(test_products_see_overflow_behind_a_zero),
        cmocka_unit_test(test_text_escapes_what_is_not_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
