/* The pool and what stands on it: the time of a fork and join, every tile once whatever is stolen,
 * runs side by side on one context, a forked child. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "kiln/runtime.h"
#include "runtime/threads.h"

static double seconds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void count_body(void *state, uint32_t worker)
{
    _Atomic uint32_t *counts = state;
    atomic_fetch_add_explicit(&counts[worker], 1, memory_order_relaxed);
}

static void test_the_caller_always_works_and_others_help(void **state)
{
    (void)state;
    kiln_threads *threads = kiln_threads_create(3);
    assert_non_null(threads);
    assert_int_equal(kiln_threads_count(threads), 3);
    _Atomic uint32_t counts[3] = {0};
    double best = 1;
    for (int round = 0; round < 50; round++) {
        double begin = seconds_now();
        for (int i = 0; i < 100; i++) assert_true(kiln_threads_run(threads, count_body, counts));
        double each = (seconds_now() - begin) / 100;
        if (each < best) best = each;
    }
    print_message("fork and join of 3 workers: %.2f us\n", best * 1e6);
    assert_int_equal(counts[0], 5000);
    assert_true(counts[1] <= 5000 && counts[2] <= 5000);
    kiln_threads_destroy(threads);
}

/* The caller waits for the other worker, as a step with tiles for both would. */
static void meet_body(void *state, uint32_t worker)
{
    _Atomic uint32_t *met = state;
    uint32_t turns = 0;
    if (worker) atomic_store(met, 1);
    while (!atomic_load(met)) kiln_threads_spin(&turns);
}

static void test_time_until_both_workers_have_met(void **state)
{
    (void)state;
    kiln_threads *threads = kiln_threads_create(2);
    double best = 1;
    for (int round = 0; round < 50; round++) {
        double begin = seconds_now();
        for (int i = 0; i < 20; i++) {
            _Atomic uint32_t met = 0;
            assert_true(kiln_threads_run(threads, meet_body, &met));
        }
        double each = (seconds_now() - begin) / 20;
        if (each < best) best = each;
    }
    print_message("fork, meet and join of 2 workers: %.2f us\n", best * 1e6);
    kiln_threads_destroy(threads);
}

static void busy_body(void *state, uint32_t worker)
{
    (void)worker;
    kiln_threads **threads = state;
    if (worker == 0) assert_false(kiln_threads_run(*threads, busy_body, state));
}

static void test_a_busy_pool_says_so(void **state)
{
    (void)state;
    kiln_threads *threads = kiln_threads_create(2);
    assert_true(kiln_threads_run(threads, busy_body, &threads));
    assert_true(kiln_threads_run(threads, busy_body, &threads));
    kiln_threads_destroy(threads);
}

#define MAX_TILES 70000

static _Atomic unsigned char tile_counts[4][MAX_TILES];

/* Uneven on purpose: the first tenth of the tiles takes most of the time, so others steal. */
static void count_tiles(uint32_t step, uint32_t n_tiles, uint32_t begin, uint32_t end)
{
    for (uint32_t tile = begin; tile < end; tile++) {
        atomic_fetch_add_explicit(&tile_counts[step][tile], 1, memory_order_relaxed);
        int turns = tile < n_tiles / 10 ? 40 : 1;
        for (volatile int i = 0; i < turns; i = i + 1) continue;
    }
}

/* Each step checks that the step before has done all of its tiles. */
static _Atomic int n_too_early;
static uint32_t n_tiles_now;

#define STEP_KERNEL(number, before)                                                                \
    static void step_##number(const kiln_kernel_args *args, uint32_t begin, uint32_t end)          \
    {                                                                                              \
        (void)args;                                                                                \
        uint32_t opposite = n_tiles_now - 1 - begin;                                               \
        if (number > 0 && tile_counts[before][opposite] != 1) n_too_early++;                       \
        count_tiles(number, n_tiles_now, begin, end);                                              \
    }

STEP_KERNEL(0, 0)
STEP_KERNEL(1, 0)
STEP_KERNEL(2, 1)
STEP_KERNEL(3, 2)

static void test_every_tile_once_and_steps_in_order(void **state)
{
    (void)state;
    static kiln_kernel_fn *const kernels[] = {step_0, step_1, step_2, step_3};
    static const uint32_t tiles[] = {1, 2, 3, 7, 64, 1001, MAX_TILES};
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 4};
    kiln_context *context;
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    for (size_t t = 0; t < sizeof tiles / sizeof *tiles; t++) {
        n_tiles_now = tiles[t];
        kiln_step_row steps[4];
        for (uint32_t s = 0; s < 4; s++) {
            /* step 2 is cheap: the caller alone, inside the region */
            steps[s] = (kiln_step_row){KILN_STEP_KERNEL, s, 0, 0, n_tiles_now, 7,
                                       s == 2 ? 100 : 1000000, KILN_NONE, 0};
        }
        kiln_program program = {.abi = KILN_PROGRAM_ABI,
                                .struct_bytes = sizeof program,
                                .steps = steps,
                                .kernels = kernels,
                                .n_steps = 4,
                                .n_kernels = 4};
        kiln_executable *executable;
        kiln_workspace *workspace;
        assert_int_equal(kiln_executable_create(context, &program, &executable), KILN_OK);
        assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
        for (int run = 0; run < 20; run++) {
            memset((void *)tile_counts, 0, sizeof tile_counts);
            assert_int_equal(kiln_run(workspace, NULL, 0, NULL, 0), KILN_OK);
            for (uint32_t i = 0; i < 4 * n_tiles_now; i++) {
                uint32_t step = i / n_tiles_now, tile = i % n_tiles_now;
                if (tile_counts[step][tile] != 1) fail_msg("step %u tile %u", step, tile);
            }
            if (tiles[t] == MAX_TILES && run == 4) break;
        }
        kiln_workspace_destroy(workspace);
        kiln_executable_destroy(executable);
    }
    assert_int_equal(n_too_early, 0);
    kiln_context_destroy(context);
}

/* Steps 0, 1 and 2 write memory of their own, 3 reads all of it, 4 overwrites what 3 reads. */
#define N_BESIDE 5
static _Atomic uint32_t n_done_of[N_BESIDE];
static _Atomic int n_met, n_early;

static void require_done(uint32_t step, uint32_t n)
{
    if (n_done_of[step] != n) n_early++;
}

/* Its first tile waits for the next step to begin, as long as a loaded machine may take. */
static void beside_0(const kiln_kernel_args *args, uint32_t begin, uint32_t end)
{
    (void)args;
    struct timespec nap = {0, 100000};
    for (int i = 0; begin == 0 && i < 20000 && !n_done_of[1]; i++) nanosleep(&nap, NULL);
    if (begin == 0 && n_done_of[1]) n_met++;
    n_done_of[0] += end - begin;
}

static void beside_1(const kiln_kernel_args *args, uint32_t begin, uint32_t end)
{
    (void)args;
    n_done_of[1] += end - begin;
}

static void beside_2(const kiln_kernel_args *args, uint32_t begin, uint32_t end)
{
    (void)args;
    n_done_of[2] += end - begin;
}

static void beside_3(const kiln_kernel_args *args, uint32_t begin, uint32_t end)
{
    (void)args;
    require_done(0, 8);
    require_done(1, 8);
    require_done(2, 1);
    n_done_of[3] += end - begin;
}

static void beside_4(const kiln_kernel_args *args, uint32_t begin, uint32_t end)
{
    (void)args;
    require_done(3, 8);
    n_done_of[4] += end - begin;
}

static void test_independent_steps_run_beside_each_other(void **state)
{
    (void)state;
    static kiln_kernel_fn *const kernels[] = {beside_0, beside_1, beside_2, beside_3, beside_4};
    static const kiln_buffer_row buffers[] = {{KILN_BUFFER_ARENA, KILN_NONE, 0, 64},
                                              {KILN_BUFFER_ARENA, KILN_NONE, 64, 64},
                                              {KILN_BUFFER_ARENA, KILN_NONE, 128, 128},
                                              {KILN_BUFFER_ARENA, KILN_NONE, 256, 64},
                                              {KILN_BUFFER_ARENA, KILN_NONE, 192, 64}};
    static const uint32_t operands[] = {0, 1, 2, 0, 1, 2, 3, 4};
    static const kiln_step_row steps[N_BESIDE] = {
        {KILN_STEP_KERNEL, 0, 0, 1, 8, 1, 1000000, KILN_NONE, 1},
        {KILN_STEP_KERNEL, 1, 1, 1, 8, 1, 1000000, KILN_NONE, 1},
        {KILN_STEP_KERNEL, 2, 2, 1, 1, 1, 100, KILN_NONE, 1},
        {KILN_STEP_KERNEL, 3, 3, 4, 8, 1, 1000000, KILN_NONE, 1},
        {KILN_STEP_KERNEL, 4, 7, 1, 8, 1, 1000000, KILN_NONE, 1}};
    kiln_program program = {.abi = KILN_PROGRAM_ABI, .struct_bytes = sizeof program,
                            .buffers = buffers, .operands = operands, .steps = steps,
                            .kernels = kernels, .n_buffers = 5, .n_operands = 8,
                            .n_steps = N_BESIDE, .n_kernels = 5, .arena_bytes = 320};
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 2};
    kiln_context *context;
    kiln_executable *executable;
    kiln_workspace *workspace;
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    assert_int_equal(kiln_executable_create(context, &program, &executable), KILN_OK);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    for (int run = 0; run < 5; run++) {
        for (uint32_t i = 0; i < N_BESIDE; i++) n_done_of[i] = 0;
        assert_int_equal(kiln_run(workspace, NULL, 0, NULL, 0), KILN_OK);
        for (uint32_t i = 0; i < N_BESIDE; i++) assert_int_equal(n_done_of[i], i == 2 ? 1 : 8);
    }
    assert_int_equal(n_met, 5);
    assert_int_equal(n_early, 0);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_context_destroy(context);
}

/* in, out: out = in + 1 */
static void add_one(const kiln_kernel_args *args, uint32_t begin, uint32_t end)
{
    const float *in = args->buffers[0];
    float *out = args->buffers[1];
    for (uint32_t i = begin * 64; i < end * 64; i++) out[i] = in[i] + 1;
}

static const int64_t wide_dims[] = {4096};
static const kiln_port_row wide_in = {"in", KILN_f32, 1, wide_dims, 16384, KILN_NONE, 0};
static const kiln_port_row wide_out = {"out", KILN_f32, 1, wide_dims, 16384, KILN_NONE, 0};
static const kiln_buffer_row wide_buffers[] = {{KILN_BUFFER_INPUT, 0, 0, 16384},
                                               {KILN_BUFFER_OUTPUT, 0, 0, 16384},
                                               {KILN_BUFFER_ARENA, KILN_NONE, 0, 16384}};
static const uint32_t wide_operands[] = {0, 2, 2, 1};
static const kiln_step_row wide_steps[] = {
    {KILN_STEP_KERNEL, 0, 0, 2, 64, 1, 50000, KILN_NONE, 0},
    {KILN_STEP_KERNEL, 0, 2, 2, 64, 1, 50000, KILN_NONE, 0},
};
static kiln_kernel_fn *const wide_kernels[] = {add_one};
static const kiln_program wide = {
    .abi = KILN_PROGRAM_ABI,
    .struct_bytes = sizeof(kiln_program),
    .inputs = &wide_in,
    .outputs = &wide_out,
    .buffers = wide_buffers,
    .operands = wide_operands,
    .steps = wide_steps,
    .kernels = wide_kernels,
    .n_inputs = 1,
    .n_outputs = 1,
    .n_buffers = 3,
    .n_operands = 4,
    .n_steps = 2,
    .n_kernels = 1,
    .arena_bytes = 16384,
};

/* Returns how many of 300 runs went wrong. */
static void *run_many(void *argument)
{
    kiln_workspace *workspace;
    if (kiln_workspace_create(argument, &workspace)) return (void *)-1;
    float *in = malloc(16384), *out = malloc(16384);
    kiln_tensor input = {KILN_f32, 1, wide_dims, in, 16384};
    kiln_tensor output = {KILN_f32, 1, wide_dims, out, 16384};
    intptr_t n_wrong = 0;
    for (int run = 0; run < 300; run++) {
        for (int i = 0; i < 4096; i++) in[i] = (float)(i + run);
        n_wrong += kiln_run(workspace, &input, 1, &output, 1) != KILN_OK;
        for (int i = 0; i < 4096; i++) n_wrong += out[i] != (float)(i + run + 2);
    }
    free(in);
    free(out);
    kiln_workspace_destroy(workspace);
    return (void *)n_wrong;
}

static void test_runs_side_by_side_on_one_context(void **state)
{
    (void)state;
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 3};
    kiln_context *context;
    kiln_executable *executable;
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    assert_int_equal(kiln_executable_create(context, &wide, &executable), KILN_OK);
    kiln_context_destroy(context);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, executable), 0);
    }
    for (int i = 0; i < 3; i++) {
        void *n_wrong;
        pthread_join(threads[i], &n_wrong);
        assert_int_equal((intptr_t)n_wrong, 0);
    }
    kiln_executable_destroy(executable);
}

/* The child has the workspace but no workers: it must neither hang nor crash. */
static void test_a_forked_child_runs_alone(void **state)
{
    (void)state;
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 2};
    kiln_context *context;
    kiln_executable *executable;
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    assert_int_equal(kiln_executable_create(context, &wide, &executable), KILN_OK);
    assert_int_equal((intptr_t)run_many(executable), 0);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        intptr_t n_wrong = (intptr_t)run_many(executable);
        kiln_executable_destroy(executable);
        kiln_context_destroy(context);
        _exit(n_wrong ? 1 : 0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    kiln_executable_destroy(executable);
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_caller_always_works_and_others_help),
        cmocka_unit_test(test_time_until_both_workers_have_met),
        cmocka_unit_test(test_a_busy_pool_says_so),
        cmocka_unit_test(test_every_tile_once_and_steps_in_order),
        cmocka_unit_test(test_independent_steps_run_beside_each_other),
        cmocka_unit_test(test_runs_side_by_side_on_one_context),
        cmocka_unit_test(test_a_forked_child_runs_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
