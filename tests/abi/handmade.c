/* The runtime on the hand-made program, with no compiler: results for any number of threads, every
 * mistake a caller can make, checks, memory, allocations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xmmintrin.h>

#include <cmocka.h>

#include "kiln/runtime.h"
#include "tests/abi/handmade_program.h"

#define ROWS HANDMADE_ROWS
#define COLUMNS HANDMADE_COLUMNS
#define CELLS (ROWS * COLUMNS)

/* The linker sends the runtime's calls here (--wrap). */
static int n_allocations;

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    n_allocations++;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    n_allocations++;
    return __real_calloc(n, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    n_allocations++;
    return __real_aligned_alloc(alignment, bytes);
}

static float x[CELLS], y[CELLS], out[CELLS], expected[CELLS], total;
static int64_t fault;
static const int64_t dims[] = {ROWS, COLUMNS};

static void tensors_fill(kiln_tensor inputs[3], kiln_tensor outputs[2])
{
    inputs[0] = (kiln_tensor){KILN_f32, 2, dims, x, sizeof x};
    inputs[1] = (kiln_tensor){KILN_f32, 2, dims, y, sizeof y};
    inputs[2] = (kiln_tensor){KILN_i64, 0, NULL, &fault, sizeof fault};
    outputs[0] = (kiln_tensor){KILN_f32, 2, dims, out, sizeof out};
    outputs[1] = (kiln_tensor){KILN_f32, 0, NULL, &total, sizeof total};
}

/* Small integers: every sum is exact, only the division by 17 rounds. */
static int data_fill(void **state)
{
    (void)state;
    for (int i = 0; i < CELLS; i++) {
        x[i] = (float)(i % 23);
        y[i] = (float)(i % 7 - 3);
    }
    for (int row = 0; row < ROWS; row++) {
        float sum = 0;
        for (int c = 0; c < COLUMNS; c++) {
            int i = row * COLUMNS + c;
            expected[i] = x[i] * 2 + y[i] + (float)c;
            sum += expected[i];
        }
        for (int c = 0; c < COLUMNS; c++) expected[row * COLUMNS + c] -= sum / COLUMNS;
    }
    fault = 0;
    return 0;
}

static float expected_total(void)
{
    float sum = 0;
    for (int c = 0; c < COLUMNS; c++) sum += x[c];
    return sum;
}

static kiln_context *context_with(kiln_context_options options)
{
    kiln_context *context = NULL;
    options.struct_bytes = sizeof options;
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    return context;
}

/* The context and the executable live on inside the workspace. */
static kiln_workspace *workspace_on(kiln_context *context, const kiln_program *program)
{
    kiln_executable *executable;
    kiln_workspace *workspace;
    if (kiln_executable_create(context, program, &executable)) {
        fail_msg("%s", kiln_context_message(context));
    }
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    kiln_executable_destroy(executable);
    kiln_context_destroy(context);
    return workspace;
}

static void assert_runs_right(kiln_workspace *workspace, int times)
{
    kiln_tensor inputs[3], outputs[2];
    tensors_fill(inputs, outputs);
    for (int i = 0; i < times; i++) {
        memset(out, 0xff, sizeof out);
        total = -1;
        kiln_status status = kiln_run(workspace, inputs, 3, outputs, 2);
        if (status) fail_msg("%s", kiln_workspace_message(workspace));
        assert_memory_equal(out, expected, sizeof out);
        assert_true(total == expected_total());
    }
}

static void test_same_result_for_any_number_of_threads(void **state)
{
    (void)state;
    static const uint32_t threads[] = {1, 2, 3, 5};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        kiln_context *context = context_with((kiln_context_options){.threads = threads[i]});
        kiln_workspace *workspace = workspace_on(context, &handmade_program);
        assert_runs_right(workspace, 30);
        kiln_workspace_destroy(workspace);
    }
}

/* One worker after the other, the last one first. */
static void run_backwards(void *user, uint32_t n, void (*body)(void *state, uint32_t worker),
                          void *state)
{
    ++*(int *)user;
    while (n-- > 0) body(state, n);
}

static void test_the_callers_parallel_function(void **state)
{
    (void)state;
    int n_calls = 0;
    kiln_context *context = context_with((kiln_context_options){
        .threads = 4, .parallel = run_backwards, .parallel_user = &n_calls});
    kiln_workspace *workspace = workspace_on(context, &handmade_program);
    assert_runs_right(workspace, 3);
    assert_int_equal(n_calls, 9); /* three shared steps, three runs: no region */
    kiln_workspace_destroy(workspace);
}

static void test_a_run_allocates_nothing(void **state)
{
    (void)state;
    kiln_context *context = context_with((kiln_context_options){.threads = 2});
    int before = n_allocations;
    kiln_workspace *workspace = workspace_on(context, &handmade_program);
    assert_true(n_allocations > before); /* the counter counts */
    before = n_allocations;
    assert_runs_right(workspace, 10);
    assert_int_equal(n_allocations, before);
    kiln_workspace_destroy(workspace);
}

static void refuse(kiln_workspace *workspace, const kiln_tensor *inputs, uint32_t n_inputs,
                   const kiln_tensor *outputs, const char *message)
{
    memset(out, 0x7e, sizeof out);
    assert_int_equal(kiln_run(workspace, inputs, n_inputs, outputs, 2), KILN_INVALID);
    assert_string_equal(kiln_workspace_message(workspace), message);
    for (size_t i = 0; i < sizeof out; i++) assert_int_equal(((unsigned char *)out)[i], 0x7e);
}

static void test_wrong_tensors_are_named(void **state)
{
    (void)state;
    kiln_workspace *workspace =
        workspace_on(context_with((kiln_context_options){.threads = 1}), &handmade_program);
    kiln_tensor inputs[3], outputs[2];
    static const int64_t wrong_dims[] = {5, 3};
    tensors_fill(inputs, outputs);
    refuse(workspace, inputs, 2, outputs, "inputs: 2 were given; expected 3");
    refuse(workspace, NULL, 3, outputs, "inputs: NULL for 3 were given; expected 3");
    inputs[0].dims = wrong_dims;
    refuse(workspace, inputs, 3, outputs, "input \"x\": dims are [5,3]; expected [1000,17]");
    inputs[0].dims = NULL;
    refuse(workspace, inputs, 3, outputs, "input \"x\": dims is NULL; expected [1000,17]");
    tensors_fill(inputs, outputs);
    inputs[1].dtype = KILN_i32;
    refuse(workspace, inputs, 3, outputs, "input \"y\": dtype is i32; expected f32");
    tensors_fill(inputs, outputs);
    inputs[1].dtype = (kiln_dtype)99;
    refuse(workspace, inputs, 3, outputs, "input \"y\": dtype is ?; expected f32");
    tensors_fill(inputs, outputs);
    inputs[2].rank = 1;
    refuse(workspace, inputs, 3, outputs, "input \"fault\": rank is 1; expected 0");
    tensors_fill(inputs, outputs);
    outputs[0].bytes -= 4;
    refuse(workspace, inputs, 3, outputs, "output \"out\": bytes is 67996; expected 68000");
    tensors_fill(inputs, outputs);
    outputs[1].data = NULL;
    refuse(workspace, inputs, 3, outputs, "output \"total\": data is NULL; expected 4 bytes");
    tensors_fill(inputs, outputs);
    inputs[2].data = (char *)x + 4;
    refuse(workspace, inputs, 3, outputs,
           "input \"fault\": data is misaligned; expected a multiple of 8 bytes");
    tensors_fill(inputs, outputs);
    assert_int_equal(kiln_run(workspace, inputs, 3, outputs, 1), KILN_INVALID);
    assert_runs_right(workspace, 1);
    kiln_workspace_destroy(workspace);
}

#define OWN_RULE "expected memory of its own"
#define NO_DONOR OWN_RULE ": no input is donated to it"
#define DONOR_RULE OWN_RULE ", or exactly that of input \"x\", which is donated to it"

static void test_overlaps_are_refused_and_donations_work(void **state)
{
    (void)state;
    kiln_workspace *workspace =
        workspace_on(context_with((kiln_context_options){.threads = 2}), &handmade_program);
    static float room[2 * CELLS];
    kiln_tensor inputs[3], outputs[2];
    tensors_fill(inputs, outputs);
    outputs[0].data = y; /* y is not donated */
    refuse(workspace, inputs, 3, outputs,
           "output \"out\": its memory overlaps input \"y\"; " DONOR_RULE);
    inputs[0].data = room;
    outputs[0].data = room + 1; /* x is, but not by one element */
    refuse(workspace, inputs, 3, outputs,
           "output \"out\": its memory overlaps input \"x\"; " DONOR_RULE);
    outputs[0].data = room;
    outputs[1].data = room + 9;
    refuse(workspace, inputs, 3, outputs,
           "output \"total\": its memory overlaps input \"x\"; " NO_DONOR);
    outputs[1].data = &total;
    inputs[1].data = room + 5; /* y behind the donated x */
    refuse(workspace, inputs, 3, outputs,
           "output \"out\": its memory overlaps input \"y\"; " DONOR_RULE);
    inputs[1].data = y;
    memcpy(room, x, sizeof x);
    assert_int_equal(kiln_run(workspace, inputs, 3, outputs, 2), KILN_OK);
    assert_memory_equal(room, expected, sizeof expected);
    inputs[0].data = inputs[1].data = x; /* inputs may share */
    outputs[0].data = room;
    assert_int_equal(kiln_run(workspace, inputs, 3, outputs, 2), KILN_OK);
    kiln_workspace_destroy(workspace);
}

static void test_a_check_ends_the_run_with_its_sentence(void **state)
{
    (void)state;
    kiln_workspace *workspace =
        workspace_on(context_with((kiln_context_options){.threads = 2}), &handmade_program);
    kiln_tensor inputs[3], outputs[2];
    tensors_fill(inputs, outputs);
    fault = 3;
    assert_int_equal(kiln_run(workspace, inputs, 3, outputs, 2), KILN_RANGE);
    assert_string_equal(kiln_workspace_message(workspace), handmade_program.strings[2]);
    fault = 0;
    assert_runs_right(workspace, 1);
    kiln_workspace_destroy(workspace);
}

static int64_t allocated_bytes;

static void *counting_allocate(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    allocated_bytes += (int64_t)bytes;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void counting_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    allocated_bytes -= (int64_t)bytes;
    free(memory);
}

static void test_peak_bytes_are_what_is_allocated(void **state)
{
    (void)state;
    kiln_allocator allocator = {counting_allocate, counting_release, NULL};
    allocated_bytes = 0;
    kiln_context *context =
        context_with((kiln_context_options){.threads = 3, .allocator = &allocator});
    kiln_executable *executable;
    kiln_workspace *workspace;
    assert_int_equal(kiln_executable_create(context, &handmade_program, &executable), KILN_OK);
    assert_int_equal(kiln_executable_peak_bytes(executable, 1),
                     handmade_program.arena_bytes + 128);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    assert_int_equal(kiln_executable_peak_bytes(executable, 0), allocated_bytes);
    assert_int_equal(kiln_executable_peak_bytes(executable, 3), allocated_bytes);
    assert_runs_right(workspace, 2);
    assert_int_equal(kiln_executable_find_input(executable, "y"), 1);
    assert_int_equal(kiln_executable_find_output(executable, "total"), 1);
    assert_int_equal(kiln_executable_find_output(executable, "y"), -1);
    kiln_workspace_destroy(workspace);
    assert_int_equal(allocated_bytes, 0);
    kiln_executable_destroy(executable);
    kiln_context_destroy(context);
}

static void *no_memory(void *user, size_t bytes, size_t alignment)
{
    (void)user, (void)bytes, (void)alignment;
    return NULL;
}

static void test_no_memory_and_limits_are_statuses(void **state)
{
    (void)state;
    kiln_allocator allocator = {no_memory, counting_release, NULL};
    kiln_context *context =
        context_with((kiln_context_options){.threads = 1, .allocator = &allocator});
    kiln_executable *executable;
    kiln_workspace *workspace;
    assert_int_equal(kiln_executable_create(context, &handmade_program, &executable), KILN_OK);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_NO_MEMORY);
    assert_non_null(strstr(kiln_context_message(context), "bytes of arena and scratch"));
    kiln_executable_destroy(executable);
    kiln_context_destroy(context);
    context = context_with((kiln_context_options){.threads = 1, .max_bytes = 1000});
    assert_int_equal(kiln_executable_create(context, &handmade_program, &executable), KILN_LIMIT);
    kiln_context_destroy(context);
}

static void test_nulls_are_invalid_and_harmless(void **state)
{
    (void)state;
    kiln_context *context = context_with((kiln_context_options){.threads = 1});
    kiln_executable *executable;
    assert_int_equal(kiln_context_create(NULL, NULL), KILN_INVALID);
    assert_int_equal(kiln_executable_create(NULL, &handmade_program, &executable), KILN_INVALID);
    assert_int_equal(kiln_executable_create(context, NULL, &executable), KILN_INVALID);
    assert_int_equal(kiln_workspace_create(NULL, NULL), KILN_INVALID);
    assert_int_equal(kiln_run(NULL, NULL, 0, NULL, 0), KILN_INVALID);
    assert_non_null(kiln_context_message(NULL));
    assert_non_null(kiln_workspace_message(NULL));
    assert_null(kiln_executable_program(NULL));
    kiln_workspace_cancel(NULL);
    kiln_workspace_set_deadline(NULL, 1);
    kiln_workspace_destroy(NULL);
    kiln_executable_destroy(NULL);
    kiln_context_destroy(NULL);
    kiln_context_destroy(context);
}

static void test_options_out_of_range_are_invalid(void **state)
{
    (void)state;
    static const kiln_context_options wrong[] = {
        {0},
        {.struct_bytes = sizeof(kiln_context_options) - 1},
        {.struct_bytes = sizeof(kiln_context_options), .threads = 1025},
        {.struct_bytes = sizeof(kiln_context_options), .threads = (uint32_t)-1},
        {.struct_bytes = sizeof(kiln_context_options), .max_bytes = -1},
    };
    kiln_context *context = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(kiln_context_create(&wrong[i], &context), KILN_INVALID);
        assert_null(context);
    }
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    assert_in_range(kiln_context_threads(context), 1, 1024);
    kiln_context_destroy(context);
}

static void test_profile_has_a_time_for_every_step(void **state)
{
    (void)state;
    kiln_workspace *workspace =
        workspace_on(context_with((kiln_context_options){.threads = 2}), &handmade_program);
    assert_null(kiln_workspace_step_times(workspace));
    kiln_workspace_set_profile(workspace, 1);
    assert_runs_right(workspace, 2);
    const uint64_t *times = kiln_workspace_step_times(workspace);
    static const int kernel_steps[] = {1, 5, 6, 7, 8};
    for (size_t i = 0; i < 5; i++) assert_true(times[kernel_steps[i]] > 0);
    assert_true(times[2] == 0);
    kiln_workspace_destroy(workspace);
}

static void test_the_callers_float_mode_survives(void **state)
{
    (void)state;
    kiln_workspace *workspace =
        workspace_on(context_with((kiln_context_options){.threads = 2}), &handmade_program);
    uint32_t before = _mm_getcsr(), odd = 0x1f80 | 0x6000 | 0x8040; /* toward zero, flushed */
    _mm_setcsr(odd);
    kiln_tensor inputs[3], outputs[2];
    tensors_fill(inputs, outputs);
    kiln_status status = kiln_run(workspace, inputs, 3, outputs, 2);
    uint32_t after = _mm_getcsr();
    _mm_setcsr(before);
    assert_int_equal(status, KILN_OK);
    assert_int_equal(after, odd);
    assert_memory_equal(out, expected, sizeof out);
    kiln_workspace_destroy(workspace);
}

static double seconds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void test_an_empty_programs_call_is_short(void **state)
{
    (void)state;
    static const kiln_program empty = {.abi = KILN_PROGRAM_ABI,
                                       .struct_bytes = sizeof(kiln_program)};
    kiln_workspace *workspace =
        workspace_on(context_with((kiln_context_options){.threads = 2}), &empty);
    double best = 1;
    for (int i = 0; i < 20; i++) {
        double begin = seconds_now();
        for (int j = 0; j < 1000; j++) kiln_run(workspace, NULL, 0, NULL, 0);
        double each = (seconds_now() - begin) / 1000;
        if (each < best) best = each;
    }
    print_message("an empty program's call: %.0f ns\n", best * 1e9);
    assert_true(best < 3e-7); /* some 30 ns; sanitizers and busy machines have room */
    kiln_workspace_destroy(workspace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_result_for_any_number_of_threads),
        cmocka_unit_test(test_the_callers_parallel_function),
        cmocka_unit_test(test_a_run_allocates_nothing),
        cmocka_unit_test(test_wrong_tensors_are_named),
        cmocka_unit_test(test_overlaps_are_refused_and_donations_work),
        cmocka_unit_test(test_a_check_ends_the_run_with_its_sentence),
        cmocka_unit_test(test_peak_bytes_are_what_is_allocated),
        cmocka_unit_test(test_no_memory_and_limits_are_statuses),
        cmocka_unit_test(test_nulls_are_invalid_and_harmless),
        cmocka_unit_test(test_options_out_of_range_are_invalid),
        cmocka_unit_test(test_profile_has_a_time_for_every_step),
        cmocka_unit_test(test_the_callers_float_mode_survives),
        cmocka_unit_test(test_an_empty_programs_call_is_short),
    };
    return cmocka_run_group_tests(tests, data_fill, NULL);
}
