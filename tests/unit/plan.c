/* The planner and its checker: random live ranges never overlap, and a shifted place is always
 * caught. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/program.h"
#include "passes/pass.h"
#include "passes/plan.h"

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void check_blocks(const kiln_block *blocks, uint32_t n, int64_t total, int64_t bound)
{
    assert_true(total >= bound);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(blocks[i].offset >= 0 && blocks[i].offset % 64 == 0);
        assert_true(blocks[i].offset + blocks[i].bytes <= total);
        for (uint32_t j = 0; j < i; j++) {
            bool meets = blocks[i].first <= blocks[j].last && blocks[j].first <= blocks[i].last;
            bool overlaps = blocks[i].offset < blocks[j].offset + blocks[j].bytes &&
                            blocks[j].offset < blocks[i].offset + blocks[i].bytes;
            assert_false(meets && overlaps);
        }
    }
}

/* How much larger than the bound the arena of random blocks is, as a share. */
static double place_random(uint64_t *seed)
{
    kiln_block blocks[60];
    uint32_t n = 1 + (uint32_t)(next_random(seed) % 60);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t first = (uint32_t)(next_random(seed) % 40);
        blocks[i] = (kiln_block){.bytes = 64 * (int64_t)(next_random(seed) % 1000),
                                 .first = first,
                                 .last = first + (uint32_t)(next_random(seed) % 8)};
    }
    kiln_error error = {0};
    kiln_scope scope;
    volatile double waste = 0;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        int64_t bound, total = kiln_place_blocks(&scope, blocks, n, &bound);
        check_blocks(blocks, n, total, bound);
        if (bound) waste = (double)total / (double)bound - 1;
    }
    assert_int_equal(kiln_scope_close(&scope), KILN_OK);
    return waste;
}

static void random_ranges_fit(void **state)
{
    uint64_t seed = 1;
    double waste = 0;
    for (uint32_t round = 0; round < 100; round++) waste += place_random(&seed);
    assert_true(waste / 100 < 0.005);
}

/* A random graph of elementwise steps, row reductions and products over 32 x 32 values. */
static void build_random(kiln_graph *graph, uint64_t *seed)
{
    int64_t dims[] = {32, 32}, last = 1, zero = 0;
    const kiln_type *type = kiln_graph_tensor(graph, KILN_f32, 2, dims);
    kiln_value values[40];
    uint32_t n = 3;
    for (uint32_t i = 0; i < n; i++)
        values[i] = kiln_add_input(graph, type, (const char *[]){"a", "b", "c"}[i], false);
    for (; n < 30; n++) {
        kiln_value a = values[next_random(seed) % n], b = values[next_random(seed) % n];
        kiln_attrs attrs = {.family = KILN_FAMILY_dot};
        attrs.dot.lhs_contract = (kiln_ints){1, &last};
        attrs.dot.rhs_contract = (kiln_ints){1, &zero};
        attrs.dot.accumulate = KILN_f32;
        kiln_value pair[] = {a, b};
        kiln_node_spec spec = {
            .op = KILN_OP_dot_general, .inputs = pair, .n_inputs = 2, .attrs = &attrs};
        switch (next_random(seed) % 5) {
        case 0:
            values[n] = kiln_graph_add(graph, &spec);
            break;
        case 1:
            values[n] = kiln_add_reduce(graph, KILN_OP_reduce_sum, a, 1, &last);
            values[n] = kiln_add_binary(graph, KILN_OP_sub, b,
                                        kiln_add_unreduce(graph, values[n], b, 1, &last));
            break;
        case 2:
            values[n] = kiln_add_transpose(graph, a, (int64_t[]){1, 0});
            break;
        default:
            values[n] =
                kiln_add_binary(graph, KILN_OP_add, kiln_add_unary(graph, KILN_OP_tanh, a), b);
        }
    }
    for (uint32_t i = 0; i < 3; i++) kiln_add_output(graph, values[n - 1 - i], NULL);
}

/* Moves each arena place onto another one that lives at the same time; the checker must object. */
static void shift_places(kiln_schedule *schedule, uint32_t *n_shifted)
{
    kiln_error error;
    for (uint32_t i = 0; i < schedule->places.n; i++) {
        kiln_place *place = &schedule->places.at[i];
        int64_t offset = place->offset;
        if (place->kind != KILN_PLACE_ARENA) continue;
        place->offset = offset + 4;
        assert_int_equal(kiln_schedule_verify(schedule, "test", &error), KILN_INTERNAL);
        place->offset = schedule->arena_bytes;
        assert_int_equal(kiln_schedule_verify(schedule, "test", &error), KILN_INTERNAL);
        for (uint32_t j = 0; j < schedule->places.n; j++) {
            const kiln_place *other = &schedule->places.at[j];
            if (other->kind != KILN_PLACE_ARENA || j == i) continue;
            if (other->shares == i || place->shares == j || other->offset == offset) continue;
            if (other->first_step > place->last_step || place->first_step > other->last_step)
                continue;
            place->offset = other->offset;
            assert_int_equal(kiln_schedule_verify(schedule, "test", &error), KILN_INTERNAL);
            (*n_shifted)++;
        }
        place->offset = offset;
    }
    memset(&error, 0, sizeof error);
    assert_int_equal(kiln_schedule_verify(schedule, "test", &error), KILN_OK);
}

/* Groups out of order, an operand left out, an output stored twice. */
static void break_groups(kiln_schedule *schedule)
{
    kiln_error error;
    for (uint32_t g = 0; g < schedule->groups.n; g++) {
        kiln_group *group = &schedule->groups.at[g], saved = *group;
        if (group->n_inputs) {
            group->n_inputs--;
            group->inputs++;
            assert_int_equal(kiln_schedule_verify(schedule, "test", &error), KILN_INTERNAL);
            *group = saved;
        }
        group->n_outputs = 0;
        assert_int_equal(kiln_schedule_verify(schedule, "test", &error), KILN_INTERNAL);
        *group = saved;
        if (!g) continue;
        *group = schedule->groups.at[g - 1];
        assert_int_equal(kiln_schedule_verify(schedule, "test", &error), KILN_INTERNAL);
        *group = saved;
    }
}

static uint32_t break_random(uint64_t round)
{
    volatile uint32_t n_shifted = 0;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        uint64_t seed = round;
        uint32_t n = 0;
        kiln_graph *graph = kiln_graph_open(&scope, NULL, "test");
        build_random(graph, &seed);
        kiln_pipeline pipeline = {.scope = &scope,
                                  .machine = kiln_machine_find("x86-64-v4"),
                                  .n_threads = 2,
                                  .is_unfused = round % 4 == 0};
        kiln_schedule *schedule = kiln_fuse(&pipeline, graph);
        kiln_plan_memory(&pipeline, schedule);
        shift_places(schedule, &n);
        break_groups(schedule);
        n_shifted = n;
    }
    kiln_scope_close(&scope);
    assert_string_equal(error.message, "");
    return n_shifted;
}

static void broken_schedules_are_caught(void **state)
{
    uint32_t n_shifted = 0;
    for (uint64_t round = 1; round <= 20; round++) n_shifted += break_random(round);
    assert_true(n_shifted > 100);
}

static void limit_names_the_largest(void **state)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        uint64_t seed = 3;
        kiln_graph *graph = kiln_graph_open(&scope, NULL, "test");
        build_random(graph, &seed);
        kiln_pipeline pipeline = {.scope = &scope,
                                  .machine = kiln_machine_find("x86-64-v4"),
                                  .n_threads = 1,
                                  .max_bytes = 64};
        kiln_plan_memory(&pipeline, kiln_fuse(&pipeline, graph));
    }
    assert_int_equal(kiln_scope_close(&scope), KILN_LIMIT);
    assert_non_null(strstr(error.message, "expected at most 64; largest values alive at group"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_ranges_fit),
        cmocka_unit_test(broken_schedules_are_caught),
        cmocka_unit_test(limit_names_the_largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
