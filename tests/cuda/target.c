/* Target cuda from graph to result: on this machine's device where there is one, and always on a
 * fake driver and a fake NVRTC that run the same text on the CPU. Arguments: the two fakes' paths.
 */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"

#define ROWS 5
#define COLS 77

static const char *driver_path, *nvrtc_path;
static void *driver;
static const int64_t dims[] = {ROWS, COLS};

/* softmax(x * scale + 1) and the largest of each row. */
static kiln_graph *build(kiln_context *context)
{
    kiln_graph *g;
    float scale[COLS];
    const int64_t cols = COLS, axis = 1;
    for (int i = 0; i < COLS; i++) scale[i] = 0.25f + (float)(i % 7);
    assert_int_equal(kiln_graph_create(context, "softmax", &g), KILN_OK);
    kiln_value x = kiln_input(g, "x", KILN_f32, 2, dims);
    kiln_value s = kiln_constant(g, KILN_f32, 1, &cols, scale);
    kiln_value y = kiln_add(g, kiln_mul(g, x, s), kiln_scalar(g, KILN_f32, 1));
    kiln_output(g, "p", kiln_softmax(g, y, 1));
    kiln_output(g, "most", kiln_reduce_max(g, y, 1, &axis));
    return g;
}

typedef struct result {
    float p[ROWS * COLS], most[ROWS];
} result;

static kiln_status run(kiln_context *context, const char *target, result *out)
{
    kiln_compile_options options = {.struct_bytes = sizeof options, .target = target};
    kiln_graph *g = build(context);
    kiln_executable *executable;
    kiln_workspace *workspace;
    float x[ROWS * COLS];
    const int64_t rows = ROWS;
    for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)(i * 37 % 101) / 101;
    kiln_status status = kiln_compile(g, &options, &executable);
    if (status) printf("%s\n", kiln_graph_message(g));
    kiln_graph_destroy(g);
    if (status) return status;
    kiln_tensor in = {KILN_f32, 2, dims, x, sizeof x};
    kiln_tensor outs[] = {{KILN_f32, 2, dims, out->p, sizeof out->p},
                          {KILN_f32, 1, &rows, out->most, sizeof out->most}};
    if (kiln_workspace_create(executable, &workspace))
        fail_msg("%s", kiln_context_message(context));
    for (int i = 0; i < 2; i++)
        if (kiln_run(workspace, &in, 1, outs, 2)) fail_msg("%s", kiln_workspace_message(workspace));
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    return KILN_OK;
}

/* Before any fake is loaded: a result like the CPU's, or the sentence that there is no device. */
static void test_real_device(void **state)
{
    (void)state;
    kiln_context *context;
    result cpu, cuda;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    assert_int_equal(run(context, "cpu", &cpu), KILN_OK);
    kiln_status status = run(context, "cuda", &cuda);
    kiln_context_destroy(context);
    if (status) {
        assert_true(status == KILN_DEVICE || status == KILN_UNSUPPORTED);
        printf("SKIP: no device to run on\n");
        skip();
    }
    for (int i = 0; i < ROWS * COLS; i++) assert_true(fabsf(cpu.p[i] - cuda.p[i]) <= 1e-6f);
    for (int i = 0; i < ROWS; i++) assert_true(fabsf(cpu.most[i] - cuda.most[i]) <= 1e-6f);
}

static int counter(const char *name)
{
    int (*function)(void);
    *(void **)&function = dlsym(driver, name);
    return function();
}

static void test_fake_device(void **state)
{
    (void)state;
    kiln_context *context;
    result cpu = {0}, cuda = {0};
    driver = dlopen(driver_path, RTLD_NOW | RTLD_LOCAL);
    if (!driver || !dlopen(nvrtc_path, RTLD_NOW | RTLD_LOCAL)) fail_msg("%s", dlerror());
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    assert_int_equal(run(context, "cpu", &cpu), KILN_OK);
    assert_int_equal(run(context, "cuda", &cuda), KILN_OK);
    assert_true(counter("fake_cuda_launches") >= 2);
    assert_int_equal(counter("fake_cuda_live"), 0);
    assert_memory_equal(&cpu, &cuda, sizeof cpu);
    kiln_context_destroy(context);
}

static void test_fake_device_of_another_kind(void **state)
{
    (void)state;
    kiln_context *context;
    result cuda;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    setenv("KILN_FAKE_CUDA", "none", 1);
    assert_int_equal(run(context, "cuda", &cuda), KILN_DEVICE);
    setenv("KILN_FAKE_CUDA", "61", 1);
    assert_int_equal(run(context, "cuda", &cuda), KILN_UNSUPPORTED);
    setenv("KILN_FAKE_CUDA", "86", 1);
    assert_int_equal(run(context, "cuda", &cuda), KILN_OK);
    unsetenv("KILN_FAKE_CUDA");
    assert_int_equal(counter("fake_cuda_live"), 0);
    kiln_context_destroy(context);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_device),
        cmocka_unit_test(test_fake_device),
        cmocka_unit_test(test_fake_device_of_another_kind),
    };
    if (argc != 3) return 2;
    driver_path = argv[1];
    nvrtc_path = argv[2];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
