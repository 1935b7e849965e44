/* Ends of a run that come from outside: cancel, deadline, a busy workspace; and the float mode that
 * a program asks for. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <xmmintrin.h>

#include <cmocka.h>

#include "kiln/runtime.h"

#define N_TILES 64

static _Atomic int n_spins;
static _Atomic uint32_t csr_seen[N_TILES];

/* About 10 µs a tile. */
static void spin_tiles(const kiln_kernel_args *args, uint32_t tile_begin, uint32_t tile_end)
{
    (void)args;
    for (uint32_t tile = tile_begin; tile < tile_end; tile++) {
        atomic_store(&csr_seen[tile], _mm_getcsr());
        for (volatile int i = 0; i < 10000; i = i + 1) continue;
    }
    atomic_fetch_add(&n_spins, 1);
}

static kiln_kernel_fn *const spin_kernels[] = {spin_tiles};

/* Runs for ever: in one region, then over a jump. */
static const kiln_step_row endless_steps[] = {
    {KILN_STEP_KERNEL, 0, 0, 0, N_TILES, 1, 640000, KILN_NONE, 0},
    {KILN_STEP_KERNEL, 0, 0, 0, N_TILES, 1, 640000, KILN_NONE, 0},
    {KILN_STEP_JUMP, 0, 0, 0, 0, 0, 0, KILN_NONE, 0},
};

static const kiln_program endless = {
    .abi = KILN_PROGRAM_ABI,
    .struct_bytes = sizeof(kiln_program),
    .steps = endless_steps,
    .kernels = spin_kernels,
    .n_steps = 3,
    .n_kernels = 1,
};

static const kiln_program flushing = {
    .abi = KILN_PROGRAM_ABI,
    .struct_bytes = sizeof(kiln_program),
    .steps = endless_steps,
    .kernels = spin_kernels,
    .n_steps = 2,
    .n_kernels = 1,
    .flags = KILN_PROGRAM_FLUSH_DENORMALS,
};

static kiln_workspace *workspace_of(const kiln_program *program, uint32_t threads)
{
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = threads};
    kiln_context *context;
    kiln_executable *executable;
    kiln_workspace *workspace;
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    assert_int_equal(kiln_executable_create(context, program, &executable), KILN_OK);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    kiln_context_destroy(context);
    kiln_executable_destroy(executable);
    return workspace;
}

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static double seconds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void *cancel_later(void *workspace)
{
    sleep_ms(20);
    kiln_workspace_cancel(workspace);
    return NULL;
}

static void test_cancel_from_another_thread(void **state)
{
    (void)state;
    static const uint32_t threads[] = {1, 2, 5};
    for (size_t i = 0; i < 3; i++) {
        kiln_workspace *workspace = workspace_of(&endless, threads[i]);
        kiln_workspace_cancel(workspace); /* no run: no effect */
        pthread_t other;
        assert_int_equal(pthread_create(&other, NULL, cancel_later, workspace), 0);
        assert_int_equal(kiln_run(workspace, NULL, 0, NULL, 0), KILN_CANCELLED);
        assert_string_equal(kiln_workspace_message(workspace), "run: cancelled");
        pthread_join(other, NULL);
        kiln_workspace_destroy(workspace);
    }
}

static void test_deadline_ends_a_run_and_can_be_lifted(void **state)
{
    (void)state;
    static const uint32_t threads[] = {1, 2};
    for (size_t i = 0; i < 2; i++) {
        kiln_workspace *workspace = workspace_of(&endless, threads[i]);
        kiln_workspace_set_deadline(workspace, 30 * 1000 * 1000);
        double begin = seconds_now();
        assert_int_equal(kiln_run(workspace, NULL, 0, NULL, 0), KILN_DEADLINE);
        double seconds = seconds_now() - begin;
        assert_true(seconds >= 0.030);
        assert_true(seconds < 2); /* 10 ms over, but machines are busy */
        assert_non_null(strstr(kiln_workspace_message(workspace), "deadline of 30000000 ns"));
        kiln_workspace_destroy(workspace);
        workspace = workspace_of(&flushing, threads[i]);
        kiln_workspace_set_deadline(workspace, 1);
        assert_int_equal(kiln_run(workspace, NULL, 0, NULL, 0), KILN_DEADLINE);
        kiln_workspace_set_deadline(workspace, INT64_MAX);
        assert_int_equal(kiln_run(workspace, NULL, 0, NULL, 0), KILN_OK);
        kiln_workspace_set_deadline(workspace, 0);
        assert_int_equal(kiln_run(workspace, NULL, 0, NULL, 0), KILN_OK);
        kiln_workspace_destroy(workspace);
    }
}

static void *run_for_ever(void *workspace)
{
    return (void *)(intptr_t)kiln_run(workspace, NULL, 0, NULL, 0);
}

static void test_one_run_at_a_time(void **state)
{
    (void)state;
    kiln_workspace *workspace = workspace_of(&endless, 2);
    pthread_t other;
    void *status;
    int before = atomic_load(&n_spins);
    assert_int_equal(pthread_create(&other, NULL, run_for_ever, workspace), 0);
    while (atomic_load(&n_spins) < before + 2) sleep_ms(1);
    assert_int_equal(kiln_run(workspace, NULL, 0, NULL, 0), KILN_INVALID);
    kiln_workspace_cancel(workspace);
    pthread_join(other, &status);
    assert_int_equal((intptr_t)status, KILN_CANCELLED);
    kiln_workspace_destroy(workspace);
}

static void test_every_worker_has_the_programs_float_mode(void **state)
{
    (void)state;
    kiln_workspace *workspace = workspace_of(&flushing, 2);
    uint32_t before = _mm_getcsr();
    assert_int_equal(kiln_run(workspace, NULL, 0, NULL, 0), KILN_OK);
    assert_int_equal(_mm_getcsr(), before);
    for (int i = 0; i < N_TILES; i++) {
        assert_int_equal(atomic_load(&csr_seen[i]) & ~0x3fu, 0x9fc0); /* without sticky flags */
    }
    kiln_workspace_destroy(workspace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancel_from_another_thread),
        cmocka_unit_test(test_deadline_ends_a_run_and_can_be_lifted),
        cmocka_unit_test(test_one_run_at_a_time),
        cmocka_unit_test(test_every_worker_has_the_programs_float_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
