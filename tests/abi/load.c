/* A compiled model as a file: loaded and run by the runtime, called by itself, and refused when it
 * is missing, damaged or something else. argv[1]: the shared object of the hand-made program. */
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

#include "kiln/runtime.h"
#include "tests/abi/handmade_program.h"

#define CELLS (HANDMADE_ROWS * HANDMADE_COLUMNS)

static const char *library_path;
static char folder[] = "/tmp/kiln-load-XXXXXX";
static float x[CELLS], y[CELLS], loaded_out[CELLS], own_out[CELLS];
static int64_t fault;
static const int64_t dims[] = {HANDMADE_ROWS, HANDMADE_COLUMNS};

static int set_up(void **state)
{
    (void)state;
    for (int i = 0; i < CELLS; i++) {
        x[i] = (float)(i % 23);
        y[i] = (float)(i % 7 - 3);
    }
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(folder);
}

static kiln_context *context_new(void)
{
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 2};
    kiln_context *context;
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    return context;
}

static float run_loaded(void)
{
    kiln_context *context = context_new();
    kiln_executable *executable;
    kiln_workspace *workspace;
    kiln_status status = kiln_executable_load(context, library_path, "handmade", &executable);
    if (status) fail_msg("%s", kiln_context_message(context));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    float total = -1;
    kiln_tensor inputs[] = {{KILN_f32, 2, dims, x, sizeof x},
                            {KILN_f32, 2, dims, y, sizeof y},
                            {KILN_i64, 0, NULL, &fault, sizeof fault}};
    kiln_tensor outputs[] = {{KILN_f32, 2, dims, loaded_out, sizeof loaded_out},
                             {KILN_f32, 0, NULL, &total, sizeof total}};
    assert_int_equal(kiln_run(workspace, inputs, 3, outputs, 2), KILN_OK);
    kiln_context_destroy(context);
    kiln_executable_destroy(executable);
    kiln_workspace_destroy(workspace);
    return total;
}

typedef int run_fn(const void *const *inputs, void *const *outputs, void *arena);
typedef int64_t arena_bytes_fn(void);
typedef const kiln_port_row *ports_fn(uint32_t *n);

static void test_loaded_and_called_by_itself_give_the_same_bits(void **state)
{
    (void)state;
    float total = run_loaded(), own_total = -1;
    void *library = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    run_fn *run = (run_fn *)dlsym(library, "handmade_run");
    arena_bytes_fn *arena_bytes = (arena_bytes_fn *)dlsym(library, "handmade_arena_bytes");
    ports_fn *inputs_of = (ports_fn *)dlsym(library, "handmade_inputs");
    ports_fn *outputs_of = (ports_fn *)dlsym(library, "handmade_outputs");
    assert_true(run && arena_bytes && inputs_of && outputs_of);
    uint32_t n = 0;
    assert_string_equal(inputs_of(&n)[1].name, "y");
    assert_int_equal(n, 3);
    assert_string_equal(outputs_of(NULL)[1].name, "total");
    const void *inputs[] = {x, y, &fault};
    void *outputs[] = {own_out, &own_total};
    assert_int_equal(run(inputs, outputs, NULL), KILN_OK);
    assert_memory_equal(own_out, loaded_out, sizeof own_out);
    assert_true(total == own_total);
    memset(own_out, 0xff, sizeof own_out);
    void *arena = aligned_alloc(64, (size_t)arena_bytes());
    assert_int_equal(run(inputs, outputs, arena), KILN_OK);
    assert_memory_equal(own_out, loaded_out, sizeof own_out);
    assert_int_equal(run(inputs, outputs, (char *)arena + 8), KILN_INVALID);
    assert_int_equal(run(NULL, outputs, arena), KILN_INVALID);
    inputs[1] = NULL;
    assert_int_equal(run(inputs, outputs, arena), KILN_INVALID);
    inputs[1] = (const char *)y + 1;
    assert_int_equal(run(inputs, outputs, arena), KILN_INVALID);
    inputs[1] = y;
    fault = 1;
    assert_int_equal(run(inputs, outputs, arena), KILN_RANGE);
    fault = 0;
    free(arena);
    dlclose(library);
}

static void test_no_kernel_runs_where_a_feature_is_missing(void **state)
{
    (void)state;
    void *library = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    run_fn *run = (run_fn *)dlsym(library, "foreign_run");
    assert_non_null(run);
    float total = 7;
    const void *inputs[] = {x, y, &fault};
    void *outputs[] = {own_out, &total};
    memset(own_out, 0x55, sizeof own_out);
    assert_int_equal(run(inputs, outputs, NULL), KILN_UNSUPPORTED);
    assert_true(total == 7);
    for (size_t i = 0; i < sizeof own_out; i++) assert_int_equal(((char *)own_out)[i], 0x55);
    dlclose(library);
}

static void refuse(kiln_context *context, const char *path, const char *prefix, kiln_status status,
                   const char *part)
{
    kiln_executable *executable = NULL;
    kiln_status found = kiln_executable_load(context, path, prefix, &executable);
    const char *message = kiln_context_message(context);
    if (found != status || !strstr(message, part)) {
        fail_msg("status %s, \"%s\"; expected \"%s\"", kiln_status_name(found), message, part);
    }
    assert_null(executable);
}

static void test_wrong_paths_and_prefixes(void **state)
{
    (void)state;
    kiln_context *context = context_new();
    refuse(context, "/nowhere/model.so", "model", KILN_IO, "/nowhere/model.so: No such file");
    refuse(context, "no-such-model.so", "model", KILN_IO, "./no-such-model.so: No such file");
    refuse(context, folder, "model", KILN_IO, "not a regular file");
    refuse(context, "/dev/zero", "model", KILN_IO, "not a regular file");
    refuse(context, "", "model", KILN_INVALID, "a path or the result is missing");
    refuse(context, NULL, "model", KILN_INVALID, "a path or the result is missing");
    refuse(context, library_path, "model", KILN_INVALID, "no symbol model_program");
    refuse(context, library_path, "Model", KILN_INVALID, "does not match");
    refuse(context, library_path, "", KILN_INVALID, "does not match");
    refuse(context, library_path, "a2345678901234567890123456789012", KILN_INVALID,
           "does not match");
    kiln_context_destroy(context);
}

static void file_write(const char *path, const char *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    if (bytes) assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void test_truncated_and_foreign_files_are_corrupt(void **state)
{
    (void)state;
    kiln_context *context = context_new();
    char path[64];
    snprintf(path, sizeof path, "%s/model.so", folder);
    FILE *file = fopen(library_path, "rb");
    assert_non_null(file);
    static char data[1 << 20];
    size_t bytes = fread(data, 1, sizeof data, file);
    fclose(file);
    assert_in_range(bytes, 1000, sizeof data - 1);
    file_write(path, data, 0);
    refuse(context, path, "handmade", KILN_CORRUPT, "an empty file");
    file_write(path, "int main(void) { return 0; }", 28);
    refuse(context, path, "handmade", KILN_CORRUPT, "not an ELF file");
    for (int part = 1; part < 40; part++) {
        file_write(path, data, bytes * (size_t)part / 40);
        refuse(context, path, "handmade", KILN_CORRUPT, "truncated");
    }
    data[4] = 1; /* 32 bits */
    file_write(path, data, bytes);
    refuse(context, path, "handmade", KILN_CORRUPT, "another machine");
    data[4] = 2;
    data[16] = 1; /* relocatable */
    file_write(path, data, bytes);
    refuse(context, path, "handmade", KILN_CORRUPT, "no shared object");
    unlink(path);
    kiln_context_destroy(context);
}

int main(int n, char **arguments)
{
    if (n < 2) return 2;
    library_path = arguments[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loaded_and_called_by_itself_give_the_same_bits),
        cmocka_unit_test(test_no_kernel_runs_where_a_feature_is_missing),
        cmocka_unit_test(test_wrong_paths_and_prefixes),
        cmocka_unit_test(test_truncated_and_foreign_files_are_corrupt),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
