/* The CUDA printer: the cases of kernel_bench.h and a block reduction over shared memory, compiled
 * as C through the shim and run; the same text compiled by NVRTC where it is installed (skipped
 * visibly). */
#include "kernel_bench.h"

#include <dlfcn.h>
#include <unistd.h>

#include "codegen/c/print_c.h"
#include "codegen/cuda/nvrtc.h"
#include "codegen/cuda/print_cuda.h"
#include "tests/unit/nvrtc_leak.h"

#define MAX_CASES 256
#define THREADS 64

static const uint32_t lane_counts[] = {1, 4};

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

static void add_job(const bench_case *row, const bench *b)
{
    assert_in_range(all.n, 0, MAX_CASES - 1);
    job *at = &all.jobs[all.n++];
    *at = (job){row, b, kiln_arena_format(&all.scope.arena, "k_%u", all.n)};
    kiln_error error = {0};
    if (kiln_kernel_verify(b->k, &error)) fail_msg("%s", error.message);
    kiln_kernel_print_cuda(b->k, at->symbol, &all.text);
}

static void add_cases(const bench_case *row)
{
    size_t n_lanes = sizeof lane_counts / sizeof *lane_counts;
    for (size_t i = 0; i < n_lanes * n_bench_dtypes; i++) {
        bench_spec spec = {"sm_90a", bench_dtypes[i / n_lanes], lane_counts[i % n_lanes], 0};
        for (; spec.variant < row->variants; spec.variant++) {
            bench *b = bench_create(&all.scope, row, &spec);
            if (b) add_job(row, b);
        }
    }
}

/* Each block sums 4 * THREADS elements: wide loads, a tree over shared memory with barriers. */
static void build_block_sum(bench *b)
{
    kiln_kernel *k = b->k;
    kiln_param in = {
        .dtype = KILN_f32, .n_elements = 12 * THREADS, .is_read = true, .alignment = 64};
    kiln_param out = {.dtype = KILN_f32, .n_elements = 3, .is_written = true, .alignment = 4};
    kiln_kernel_add_param(k, &in);
    kiln_kernel_add_param(k, &out);
    uint32_t local = kiln_kernel_add_local(k, KILN_f32, THREADS);
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k), zero = kiln_k_const_i64(k, 0);
    kiln_kv block = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    kiln_kv thread = kiln_k_loop(k, KILN_LOOP_THREADS, zero, kiln_k_const_i64(k, THREADS), 1);
    kiln_kv at = kiln_k_binary(k, KILN_K_add, kiln_k_mul_imm(k, block, 4 * THREADS),
                               kiln_k_mul_imm(k, thread, 4));
    kiln_kv x = kiln_k_load(k, 0, at, 4, 0, KILN_MEM_ALIGNED), sum = kiln_k_extract(k, x, 0);
    for (uint32_t i = 1; i < 4; i++)
        sum = kiln_k_binary(k, KILN_K_add, sum, kiln_k_extract(k, x, i));
    kiln_k_store(k, local, thread, sum, 0, 0);
    for (int64_t half = THREADS / 2; half; half /= 2) {
        kiln_k_barrier(k);
        kiln_kv is_low = kiln_k_binary(k, KILN_K_lt, thread, kiln_k_const_i64(k, half));
        kiln_kv other = kiln_k_load(k, local, kiln_k_add_imm(k, thread, half), 1, is_low, 0);
        kiln_kv mine = kiln_k_load(k, local, thread, 1, 0, 0);
        kiln_k_store(k, local, thread, kiln_k_binary(k, KILN_K_add, mine, other), is_low, 0);
    }
    kiln_kv is_first = kiln_k_binary(k, KILN_K_eq, thread, zero);
    kiln_k_store(k, 1, block, kiln_k_load(k, local, zero, 1, is_first, 0), is_first, 0);
}

static void check_block_sum(const bench *b)
{
    for (int i = 0; i < 3; i++) {
        float first = (float)(256 * i), expected = 256 * first + 255 * 128;
        assert_true(((float *)b->buffers.at[1])[i] == expected);
    }
}

static const bench_case block_sum = {.name = "block_sum", .n_tiles = 3, .check = check_block_sum};

static void add_block_sum(void)
{
    kiln_arena *arena = &all.scope.arena;
    bench *b = kiln_new(arena, bench);
    b->k = kiln_kernel_create(&all.scope, kiln_machine_find("sm_90a"), "block_sum");
    b->k->n_tiles = 3;
    b->k->block_threads = THREADS;
    build_block_sum(b);
    while (b->k->open_loops.n) kiln_k_end(b->k);
    float *in = kiln_arena_alloc(arena, 4 * 12 * THREADS);
    for (int i = 0; i < 12 * THREADS; i++) in[i] = (float)i;
    kiln_vec_push(&b->buffers, arena, (void *)in);
    kiln_vec_push(&b->buffers, arena, kiln_arena_alloc(arena, 64));
    add_job(&block_sum, b);
}

/* The shared object of shim, prelude and kernels. `folder` has codegen/cuda/shim.h. */
static void *compile_text(const char *source_root)
{
    char folder[] = "/tmp/kiln-print-cuda-XXXXXX", source[64], library[64], command[1024];
    assert_non_null(mkdtemp(folder));
    snprintf(source, sizeof source, "%s/k.c", folder);
    snprintf(library, sizeof library, "%s/k.so", folder);
    FILE *file = fopen(source, "w");
    assert_non_null(file);
    fprintf(file, "#include \"codegen/cuda/shim.h\"\n%s%s", kiln_prelude,
            kiln_text_string(&all.text));
    fclose(file);
    snprintf(command, sizeof command,
             "cc -I'%s' -std=gnu11 -O0 -fPIC -shared -Wall -Werror -Wno-unused-variable "
             "-Wno-unused-but-set-variable -ffp-contract=off %s -o %s -lm",
             source_root, source, library);
    assert_int_equal(system(command), 0);
    void *module = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    unlink(library);
    unlink(source);
    rmdir(folder);
    if (!module) fail_msg("%s", dlerror());
    return module;
}

static int set_up(void **state)
{
    (void)state;
    kiln_scope_open(&all.scope, &all.error);
    all.text.arena = &all.scope.arena;
    if (!kiln_scope_try(&all.scope)) fail_msg("%s", all.error.message);
    for (size_t i = 0; i < n_bench_cases; i++) add_cases(&bench_cases[i]);
    add_block_sum();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return kiln_scope_close(&all.scope) != KILN_OK;
}

typedef int shim_fn(void *const *buffers, unsigned n_blocks);

static void test_every_case_on_the_shim(void **state)
{
    (void)state;
    void *module = compile_text(SOURCE_ROOT);
    for (uint32_t i = 0; i < all.n; i++) {
        shim_fn *function;
        char name[64];
        snprintf(name, sizeof name, "%s_shim", all.jobs[i].symbol);
        *(void **)&function = dlsym(module, name);
        assert_non_null(function);
        assert_int_equal(function(all.jobs[i].b->buffers.at, all.jobs[i].b->k->n_tiles), 0);
        all.jobs[i].row->check(all.jobs[i].b);
    }
    assert_true(all.n > 80);
    dlclose(module);
}

/* A barrier that half of the block skips is told, not hung on. */
static void test_shim_tells_divergence(void **state)
{
    (void)state;
    static const char text[] =
        "#include \"codegen/cuda/shim.h\"\n"
        "static void k_thread(void *const *b) { (void)b; if (threadIdx.x < 2) __syncthreads(); }\n"
        "KILN_SHIM_ENTRY(k, 4, 0, 1)\nint main(void) { return !k_shim(0, 1); }\n";
    char folder[] = "/tmp/kiln-print-cuda-XXXXXX", command[1024];
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command, "%s/d.c", folder);
    FILE *file = fopen(command, "w");
    assert_non_null(file);
    fprintf(file, "#define kiln_b16 char\n%s", text);
    fclose(file);
    snprintf(command, sizeof command, "cd %s && cc -I'%s' d.c -o d && ./d && rm d d.c", folder,
             SOURCE_ROOT);
    assert_int_equal(system(command), 0);
    rmdir(folder);
}

static void test_nvrtc_takes_every_case(void **state)
{
    (void)state;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_cubin cubin;
        kiln_text text = {.arena = &scope.arena};
        kiln_text_append(&text, kiln_prelude);
        for (uint32_t i = 0; i < all.n; i++) {
            if (i % 5 == 0 || i + 1 == all.n)
                kiln_kernel_print_cuda(all.jobs[i].b->k, all.jobs[i].symbol, &text);
        }
        kiln_nvrtc_compile(&scope, kiln_text_string(&text), "sm_90a", &cubin);
        printf("NVRTC %d.%d: %zu bytes\n", cubin.major, cubin.minor, cubin.bytes);
        assert_memory_equal(cubin.data, "\177ELF", 4);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status == KILN_UNSUPPORTED) {
        printf("SKIP: %s\n", error.message);
        skip();
    }
    has_used_nvrtc = 1;
    if (status) fail_msg("%s", error.message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_case_on_the_shim),
        cmocka_unit_test(test_shim_tells_divergence),
        cmocka_unit_test(test_nvrtc_takes_every_case),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
