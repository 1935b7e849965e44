/* Compiled models as files: a small program by hand, its kernel through LLVM, linked, loaded in
 * three ways (dlopen, the runtime, a C program with the header), with hostile names. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "codegen/library.h"
#include "kiln/runtime.h"

#define N 37

static const int64_t dims[] = {N};
static float constants[48] __attribute__((aligned(64)));
static const kiln_port_row inputs[] = {
    {"x*/ \"%s\" \n#error", KILN_f32, 1, dims, 4 * N, KILN_NONE, 0}};
static const kiln_port_row outputs[] = {{"y\xff\\", KILN_f32, 1, dims, 4 * N, KILN_NONE, 0}};
static const kiln_buffer_row buffers[] = {
    {KILN_BUFFER_INPUT, 0, 0, 4 * N},
    {KILN_BUFFER_CONSTANT, KILN_NONE, 0, 4 * N},
    {KILN_BUFFER_ARENA, KILN_NONE, 64, 4 * N},
    {KILN_BUFFER_OUTPUT, 0, 0, 4 * N},
};
static const uint32_t operands[] = {0, 1, 2, 2, 1, 3};
static const kiln_step_row steps[] = {
    {KILN_STEP_KERNEL, 0, 0, 3, 5, 0, 10, 0, 0},
    {KILN_STEP_KERNEL, 1, 3, 3, 5, 0, 10, KILN_NONE, 0},
};
static const char *const names[] = {"k_1", "k_1"};
static const char *const strings[] = {"first"};

static char folder[] = "/tmp/kiln-library-XXXXXX";
static kiln_program program;

static char *in_folder(char *path, const char *name)
{
    snprintf(path, 128, "%s/%s", folder, name);
    return path;
}

/* y = 2 x + c in tiles of 8. */
static kiln_kernel *build_kernel(kiln_scope *scope)
{
    kiln_kernel *k = kiln_kernel_create(scope, kiln_machine_find("x86-64"), "test");
    kiln_param in = {.dtype = KILN_f32, .n_elements = N, .is_read = true, .alignment = 4}, out = in;
    out.is_written = true;
    kiln_kernel_add_param(k, &in);
    kiln_kernel_add_param(k, &in);
    kiln_kernel_add_param(k, &out);
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv tile = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1), at = kiln_k_mul_imm(k, tile, 8);
    kiln_kv mask = kiln_k_active(k, 8, kiln_k_binary(k, KILN_K_sub, kiln_k_const_i64(k, N), at));
    kiln_kv x = kiln_k_load(k, 0, at, 8, mask, 0), c = kiln_k_load(k, 1, at, 8, mask, 0);
    kiln_kv y = kiln_k_binary(k, KILN_K_add, kiln_k_binary(k, KILN_K_add, x, x), c);
    kiln_k_store(k, 2, at, y, mask, 0);
    kiln_k_end(k);
    return k;
}

static int set_up(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++) constants[i] = (float)(100 * i);
    program = (kiln_program){
        .abi = KILN_PROGRAM_ABI,
        .struct_bytes = sizeof program,
        .name = "two */ lines",
        .target = "x86-64",
        .producer = "kiln " KILN_VERSION,
        .inputs = inputs,
        .outputs = outputs,
        .buffers = buffers,
        .operands = operands,
        .steps = steps,
        .kernel_names = names,
        .strings = strings,
        .n_inputs = 1,
        .n_outputs = 1,
        .n_buffers = 4,
        .n_operands = 6,
        .n_steps = 2,
        .n_kernels = 2,
        .n_strings = 1,
        .constants = constants,
        .constant_bytes = 4 * N,
        .arena_bytes = 256,
    };
    return mkdtemp(folder) ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    char path[128];
    static const char *const files[] = {"m.so", "m.h", "n.so", "use.c", "use"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) unlink(in_folder(path, files[i]));
    return rmdir(folder); /* fails when a temporary was left */
}

static kiln_status write_library(const char *library, const char *header, const char *prefix,
                                 kiln_error *error)
{
    kiln_scope scope;
    kiln_scope_open(&scope, error);
    if (kiln_scope_try(&scope)) {
        kiln_object objects[2];
        const kiln_backend *backend = kiln_backend_open(&scope, "llvm");
        backend->compile(&scope, NULL, build_kernel(&scope), "k_1", &objects[0]);
        objects[1] = objects[0];
        kiln_library_spec spec = {library, header, prefix, &program, objects};
        kiln_library_write(&scope, &spec);
    }
    return kiln_scope_close(&scope);
}

static void check_result(const float *y)
{
    for (int i = 0; i < N; i++) assert_true(y[i] == (float)(2 * (2 * i + 100 * i) + 100 * i));
}

typedef int run_fn(const void *const *in, void *const *out, void *arena);

static void test_library_runs(void **state)
{
    (void)state;
    char library[128], header[128], other[128];
    kiln_error error = {0};
    in_folder(library, "m.so");
    in_folder(header, "m.h");
    if (write_library(library, header, "m", &error)) fail_msg("%s", error.message);
    void *module = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!module) fail_msg("%s", dlerror());
    float x[N], y[N] = {0};
    for (int i = 0; i < N; i++) x[i] = (float)i;
    run_fn *run;
    *(void **)&run = dlsym(module, "m_run");
    assert_non_null(run);
    assert_int_equal(run((const void *[]){x}, (void *[]){y}, NULL), 0);
    check_result(y);
    const kiln_program *inside = dlsym(module, "m_program");
    assert_non_null(inside);
    assert_string_equal(inside->inputs[0].name, inputs[0].name);
    assert_string_equal(inside->outputs[0].name, outputs[0].name);
    assert_string_equal(inside->name, program.name);
    assert_string_equal(inside->strings[0], "first");
    assert_memory_equal(inside->steps, steps, sizeof steps);
    assert_memory_equal(inside->buffers, buffers, sizeof buffers);
    assert_int_equal((uintptr_t)inside->constants % 64, 0);
    assert_null(dlsym(module, "k_1"));
    assert_null(dlsym(module, "kiln_aot_run"));
    assert_non_null(dlsym(module, "m_arena_bytes"));
    assert_non_null(dlsym(module, "m_outputs"));
    dlclose(module);
    if (write_library(in_folder(other, "n.so"), NULL, "m", &error)) fail_msg("%s", error.message);
    char command[400];
    snprintf(command, sizeof command, "cmp -s %s %s", library, other);
    assert_int_equal(system(command), 0);
}

static void test_runtime_loads_the_library(void **state)
{
    (void)state;
    char library[128];
    kiln_context *context;
    kiln_executable *model;
    kiln_workspace *workspace;
    float x[N], y[N] = {0};
    for (int i = 0; i < N; i++) x[i] = (float)i;
    kiln_tensor in = {KILN_f32, 1, dims, x, sizeof x}, out = {KILN_f32, 1, dims, y, sizeof y};
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    if (kiln_executable_load(context, in_folder(library, "m.so"), "m", &model))
        fail_msg("%s", kiln_context_message(context));
    assert_int_equal(kiln_workspace_create(model, &workspace), KILN_OK);
    if (kiln_run(workspace, &in, 1, &out, 1)) fail_msg("%s", kiln_workspace_message(workspace));
    check_result(y);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(model);
    kiln_context_destroy(context);
}

static const char use[] =
    "#include \"m.h\"\n"
    "int main(void)\n{\n    static float x[M_INPUT_0_BYTES / 4], y[M_OUTPUT_0_BYTES / 4];\n"
    "    const void *in[M_N_INPUTS] = {x};\n    void *out[M_N_OUTPUTS] = {y};\n"
    "    x[1] = 1;\n    return m_run(in, out, 0) || y[1] != 304;\n}\n";

static void test_c_program_uses_the_header(void **state)
{
    (void)state;
    char path[128], command[600];
    FILE *file = fopen(in_folder(path, "use.c"), "w");
    assert_non_null(file);
    fputs(use, file);
    fclose(file);
    snprintf(command, sizeof command,
             "cd %s && cc -std=c99 -Wall -Wextra -Werror use.c ./m.so -o use && ./use", folder);
    assert_int_equal(system(command), 0);
}

static void test_mistakes_are_named(void **state)
{
    (void)state;
    kiln_error error = {0};
    char path[128];
    static const char *const wrong[] = {"",    "1a",  "A",
                                        "a-b", "a;b", "abcdefghijklmnopqrstuvwxyz0123456"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(write_library(in_folder(path, "n.so"), NULL, wrong[i], &error),
                         KILN_INVALID);
    assert_int_equal(write_library("/nowhere/at/all/n.so", NULL, "m", &error), KILN_IO);
    assert_non_null(strstr(error.message, "cannot write in its folder"));
    char *old = strdup(getenv("PATH"));
    setenv("PATH", "/nowhere", 1);
    assert_int_equal(write_library(path, NULL, "m", &error), KILN_UNSUPPORTED);
    assert_non_null(strstr(error.message, "no C compiler driver"));
    setenv("PATH", old, 1);
    free(old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_library_runs),
        cmocka_unit_test(test_runtime_loads_the_library),
        cmocka_unit_test(test_c_program_uses_the_header),
        cmocka_unit_test(test_mistakes_are_named),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
