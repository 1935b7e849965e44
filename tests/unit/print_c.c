/* The C printer against plain C: the cases of kernel_bench.h printed into one file, compiled by the
 * system's C compiler and run. */
#include "kernel_bench.h"

#include <dlfcn.h>
#include <unistd.h>

#include "codegen/c/print_c.h"
#include "kiln/program.h"

#define MAX_CASES 512

static const uint32_t lane_counts[] = {1, 4, 13};

typedef struct job {
    const bench_case *row;
    const bench *b;
    const char *symbol;
} job;

typedef struct suite {
    kiln_scope scope;
    kiln_error error;
    kiln_text text;
    job jobs[MAX_CASES];
    uint32_t n;
} suite;

static suite all;

static void add_case(const bench_case *row, const bench_spec *spec)
{
    bench *b = bench_create(&all.scope, row, spec);
    if (!b) return;
    assert_in_range(all.n, 0, MAX_CASES - 1);
    job *at = &all.jobs[all.n++];
    *at = (job){row, b, kiln_arena_format(&all.scope.arena, "k_%u", all.n)};
    kiln_error error = {0};
    if (kiln_kernel_verify(b->k, &error)) fail_msg("%s", error.message);
    if (all.n == 1) {
        kiln_kernel_print_c_file(b->k, at->symbol, &all.text);
    } else {
        kiln_kernel_print_c(b->k, at->symbol, &all.text);
    }
}

static void add_cases(const bench_case *row)
{
    size_t n_lanes = sizeof lane_counts / sizeof *lane_counts;
    for (size_t i = 0; i < n_lanes * n_bench_dtypes; i++) {
        bench_spec spec = {"x86-64-v3", bench_dtypes[i / n_lanes], lane_counts[i % n_lanes], 0};
        for (; spec.variant < row->variants; spec.variant++) add_case(row, &spec);
    }
    if (row != &bench_cases[0]) return; /* ops; dots of bf16 are those of one machine */
    add_case(row, &(bench_spec){"x86-64-bf16", KILN_f32, 13, 0});
}

/* The shared object of the text. */
static void *compile_text(void)
{
    char folder[] = "/tmp/kiln-print-c-XXXXXX", source[64], library[64], command[512];
    assert_non_null(mkdtemp(folder));
    snprintf(source, sizeof source, "%s/k.c", folder);
    snprintf(library, sizeof library, "%s/k.so", folder);
    FILE *file = fopen(source, "w");
    assert_non_null(file);
    fputs(kiln_text_string(&all.text), file);
    fclose(file);
    snprintf(command, sizeof command,
             "cc -std=gnu11 -O0 -fPIC -shared -Wall -Werror -Wno-unused-variable "
             "-Wno-unused-but-set-variable "
             "-ffp-contract=off %s -o %s -lm",
             source, library);
    assert_int_equal(system(command), 0);
    void *module = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    unlink(library);
    unlink(source);
    rmdir(folder);
    if (!module) fail_msg("%s", dlerror());
    return module;
}

static void test_every_case(void **state)
{
    (void)state;
    kiln_scope_open(&all.scope, &all.error);
    all.text.arena = &all.scope.arena;
    if (!kiln_scope_try(&all.scope)) fail_msg("%s", all.error.message);
    for (size_t i = 0; i < n_bench_cases; i++) add_cases(&bench_cases[i]);
    void *module = compile_text();
    for (uint32_t i = 0; i < all.n; i++) {
        kiln_kernel_fn *function;
        *(void **)&function = dlsym(module, all.jobs[i].symbol);
        assert_non_null(function);
        const bench *b = all.jobs[i].b;
        void *scratch = kiln_arena_alloc(&all.scope.arena, (size_t)b->k->scratch_bytes + 64);
        kiln_kernel_args args = {.buffers = b->buffers.at, .scratch = scratch};
        function(&args, 0, b->k->n_tiles);
        all.jobs[i].row->check(b);
    }
    assert_true(all.n > 100);
    dlclose(module);
    kiln_scope_close(&all.scope);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_case)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
