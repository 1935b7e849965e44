/* The LLVM backend against plain C: every case of kernel_bench.h for several lane counts on every
 * CPU model that this machine can run (the others are compiled, not run, which the output says). */
#include "kernel_bench.h"

#include "codegen/backend.h"
#include "kiln/runtime.h"

static const char *const machines[] = {"x86-64", "x86-64-v3", "x86-64-v4"};
static const uint32_t lane_counts[] = {1, 8, 13, 16};

static bool is_runnable(const char *name)
{
    return (kiln_machine_find(name)->cpu_features & ~kiln_cpu_features()) == 0;
}

static void run(kiln_scope *scope, const kiln_backend *backend, const kiln_object *object,
                const bench *b)
{
    kiln_code *code;
    backend->load(scope, object, 1, &code);
    void *scratch = aligned_alloc(64, (size_t)b->k->scratch_bytes + 64);
    kiln_kernel_args args = {.buffers = b->buffers.at, .scratch = scratch};
    kiln_kernel_fn *function = backend->function(code, 0);
    const volatile char *before = (const char *)(uintptr_t)function - 8;
    assert_int_equal(*before, 0); /* readable: -fsanitize=function looks there */
    function(&args, 0, b->k->n_tiles);
    free(scratch);
    backend->unload(code);
}

static void try_case(const bench_case *row, const char *machine, kiln_dtype dtype, uint32_t lanes)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        const kiln_backend *backend = kiln_backend_open(&scope, "llvm");
        for (uint32_t variant = 0; variant < row->variants; variant++) {
            kiln_object object;
            bench *b = bench_create(&scope, row, &(bench_spec){machine, dtype, lanes, variant});
            if (!b) continue;
            backend->compile(&scope, NULL, b->k, "k_1", &object);
            if (!is_runnable(machine)) continue;
            run(&scope, backend, &object, b);
            row->check(b);
        }
    }
    if (kiln_scope_close(&scope))
        fail_msg("%s %s %sx%u: %s", row->name, machine, kiln_dtype_name(dtype), lanes,
                 error.message);
}

static void try_case_everywhere(const bench_case *row)
{
    for (size_t m = 0; m < sizeof machines / sizeof *machines; m++) {
        if (!is_runnable(machines[m])) printf("SKIP running %s: not this processor\n", machines[m]);
        size_t n =
            sizeof lane_counts / sizeof *lane_counts - (m == 0); /* 16 lanes: wide machines only */
        for (size_t l = 0; l < n; l++) {
            for (size_t d = 0; d < n_bench_dtypes; d++)
                try_case(row, machines[m], bench_dtypes[d], lane_counts[l]);
        }
    }
}

static void test_every_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_bench_cases; i++) try_case_everywhere(&bench_cases[i]);
}

/* Those that differ from others by their dots alone; the ops come first in the cases. */
static void test_dots(void **state)
{
    (void)state;
    static const char *const more[] = {"x86-64-v3-vnni", "x86-64-vnni", "x86-64-bf16"};
    assert_string_equal(bench_cases[0].name, "ops");
    for (size_t m = 0; m < sizeof more / sizeof *more; m++) {
        if (!is_runnable(more[m])) printf("SKIP running %s: not this processor\n", more[m]);
        for (size_t l = 0; l < sizeof lane_counts / sizeof *lane_counts; l++) {
            try_case(&bench_cases[0], more[m], KILN_i32, lane_counts[l]);
            try_case(&bench_cases[0], more[m], KILN_f32, lane_counts[l]);
        }
    }
}

static void compare_objects(const kiln_object *a, const kiln_object *b)
{
    assert_int_equal(a->bytes, b->bytes);
    assert_memory_equal(a->data, b->data, a->bytes);
}

/* The same kernel gives the same bytes; a streaming store is fenced. */
static void check_streaming(kiln_scope *scope, const bench *b, bool is_streaming)
{
    const kiln_backend *backend = kiln_backend_open(scope, "llvm");
    kiln_object first, second;
    kiln_text text = {.arena = &scope->arena};
    backend->compile(scope, NULL, b->k, "k_1", &first);
    backend->compile(scope, NULL, b->k, "k_1", &second);
    compare_objects(&first, &second);
    backend->emit(scope, b->k, "k_1", &text);
    assert_int_equal(!strstr(kiln_text_string(&text), "sfence"), !is_streaming);
    assert_int_equal(!strstr(kiln_text_string(&text), "!nontemporal"), !is_streaming);
}

static kiln_kernel *build_copy(kiln_scope *scope, uint32_t flags)
{
    kiln_kernel *k = kiln_kernel_create(scope, kiln_machine_find("x86-64"), "copy");
    kiln_param param = {
        .dtype = KILN_f32, .n_elements = 64, .is_read = true, .is_written = true, .alignment = 64};
    kiln_kernel_add_param(k, &param);
    kiln_kernel_add_param(k, &param);
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv tile = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1), at = kiln_k_mul_imm(k, tile, 4);
    kiln_k_prefetch(k, 0, kiln_k_add_imm(k, at, 4096));
    kiln_k_store(k, 1, at, kiln_k_load(k, 0, at, 4, 0, KILN_MEM_ALIGNED), 0, flags);
    kiln_k_end(k);
    k->n_tiles = 2;
    return k;
}

static void test_compile_is_deterministic_and_streams_are_fenced(void **state)
{
    (void)state;
    for (volatile int i = 0; i < 2; i++) {
        kiln_error error = {0};
        kiln_scope scope;
        kiln_scope_open(&scope, &error);
        if (kiln_scope_try(&scope)) {
            kiln_object object;
            bench b = {.k = build_copy(&scope, i ? KILN_MEM_STREAM : 0)};
            float *from = kiln_arena_alloc(&scope.arena, 320),
                  *to = kiln_arena_alloc(&scope.arena, 320);
            from = (void *)(((uintptr_t)from + 63) & ~(uintptr_t)63);
            to = (void *)(((uintptr_t)to + 63) & ~(uintptr_t)63);
            kiln_vec_push(&b.buffers, &scope.arena, (void *)from);
            kiln_vec_push(&b.buffers, &scope.arena, (void *)to);
            for (int j = 0; j < 16; j++) from[j] = (float)j + 1;
            check_streaming(&scope, &b, i);
            const kiln_backend *backend = kiln_backend_open(&scope, "llvm");
            backend->compile(&scope, NULL, b.k, "k_1", &object);
            run(&scope, backend, &object, &b);
            for (int j = 0; j < 16; j++) assert_true(to[j] == (j < 8 ? from[j] : 0));
        }
        if (kiln_scope_close(&scope)) fail_msg("%s", error.message);
    }
}

/* More instructions than registers are allocated well for: another level of LLVM's. */
static kiln_kernel *build_long(kiln_scope *scope)
{
    kiln_kernel *k = kiln_kernel_create(scope, kiln_machine_find("x86-64-v3"), "long");
    kiln_param param = {.dtype = KILN_i64, .n_elements = 1, .is_read = true, .is_written = true};
    kiln_kernel_add_param(k, &param);
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv tile = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    kiln_kv at = kiln_k_const_i64(k, 0), product = kiln_k_load(k, 0, at, 1, 0, 0);
    for (int i = 0; i < 6100; i++) product = kiln_k_binary(k, KILN_K_mul, product, tile);
    kiln_k_store(k, 0, at, product, 0, 0);
    kiln_k_end(k);
    k->n_tiles = 1;
    return k;
}

#define MAX_KERNELS 32

static uint32_t build_kernels(kiln_scope *scope, const kiln_kernel **kernels)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < 2 * n_bench_cases && n < MAX_KERNELS - 3; i++) {
        bench_spec spec = {machines[1 + i % 2], KILN_f32, i % 3 ? 16 : 13, 0};
        const bench *b = bench_create(scope, &bench_cases[i / 2], &spec);
        if (b) kernels[n++] = b->k;
    }
    kernels[n++] = build_copy(scope, KILN_MEM_STREAM);
    kernels[n++] = build_long(scope);
    kernels[n++] = build_copy(scope, 0);
    return n;
}

/* What the tools were used for before changes no byte. */
static void test_tools_leave_no_trace(void **state)
{
    (void)state;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        const kiln_kernel *kernels[MAX_KERNELS];
        kiln_object fresh[MAX_KERNELS], object;
        const kiln_backend *backend = kiln_backend_open(&scope, "llvm");
        uint32_t n = build_kernels(&scope, kernels);
        for (uint32_t i = 0; i < n; i++)
            backend->compile(&scope, NULL, kernels[i], "k_1", &fresh[i]);
        kiln_tools *tools = backend->open_tools(&scope);
        for (uint32_t i = 0; i < 2 * n; i++) {
            uint32_t at = i < n ? i : 2 * n - 1 - i;
            backend->compile(&scope, tools, kernels[at], "k_1", &object);
            compare_objects(&object, &fresh[at]);
        }
        backend->close_tools(tools);
    }
    if (kiln_scope_close(&scope)) fail_msg("%s", error.message);
}

static void test_loader_refuses_damage(void **state)
{
    (void)state;
    for (volatile size_t cut = 0; cut < 40; cut++) {
        kiln_error error = {0};
        kiln_scope scope;
        kiln_scope_open(&scope, &error);
        if (kiln_scope_try(&scope)) {
            kiln_object object;
            kiln_code *code;
            const kiln_backend *backend = kiln_backend_open(&scope, "llvm");
            backend->compile(&scope, NULL, build_copy(&scope, 0), "k_1", &object);
            object.bytes = object.bytes * cut / 40;
            backend->load(&scope, &object, 1, &code);
        }
        assert_int_not_equal(kiln_scope_close(&scope), KILN_OK);
        assert_true(error.status == KILN_CORRUPT || error.status == KILN_INTERNAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compile_is_deterministic_and_streams_are_fenced),
        cmocka_unit_test(test_tools_leave_no_trace),
        cmocka_unit_test(test_loader_refuses_damage),
        cmocka_unit_test(test_every_case),
        cmocka_unit_test(test_dots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
