/* Matrix tiles: the instructions against their meaning in C, to the bit; contractions in bf16, in
 * six products of bf16 parts, and with rounded operands, against the evaluator; the same bits for
 * any number of threads; bf16 by dots of pairs too, as on machines that have those and no tiles.
 * What needs the instructions is skipped, visibly, where there are none. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "codegen/backend.h"
#include "codegen/c/print_c.h"
#include "codegen/kernel.h"
#include "kiln/kiln.h"
#include "kiln/program.h"
#include "runtime/cpu.h"
#include "runtime/executable.h"

#define AMX (KILN_CPU_AMX_BF16 | KILN_CPU_AMX_INT8)

static uint32_t random_state = 1;

static uint32_t random_bits(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

static void need(uint64_t features, const char *what)
{
    bool is_there = (kiln_cpu_features() & features) == features && kiln_cpu_enable(features);
    if (is_there) return;
    printf("SKIP: this machine has no %s\n", what);
    skip();
}

static void need_amx(void)
{
    need(AMX, "matrix tiles");
}

/* Instructions. Buffers: 0 and 1 operands, 2 sums before, 3 sums after. */

static kiln_kernel *build_kernel(kiln_scope *scope, kiln_instr_op op)
{
    kiln_kernel *k = kiln_kernel_create(scope, kiln_machine_find("x86-64-amx"), "tiles");
    for (uint32_t i = 0; i < 4; i++) {
        kiln_param param = {.dtype = KILN_u32,
                            .n_elements = 16 * 20,
                            .is_read = true,
                            .is_written = i == 3,
                            .alignment = 4};
        kiln_kernel_add_param(k, &param);
    }
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv zero = kiln_k_const_i64(k, 0);
    kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    kiln_k_tile_zero(k, 0);
    kiln_k_tile_load(k, 0, 2, zero, 16);
    kiln_k_tile_load(k, 4, 0, zero, 20);
    kiln_k_tile_load(k, 7, 1, zero, 16);
    kiln_k_tile_dot(k, op, 0, 4, 7);
    kiln_k_tile_store(k, 0, 3, zero, 20);
    kiln_k_end(k);
    k->n_tiles = 1;
    kiln_error error = {0};
    if (kiln_kernel_verify(k, &error)) fail_msg("%s", error.message);
    return k;
}

static const kiln_instr_op dots[] = {KILN_K_tile_dot_bf16, KILN_K_tile_dot_i8, KILN_K_tile_dot_u8i8,
                                     KILN_K_tile_dot_i8u8, KILN_K_tile_dot_u8};
#define N_DOTS (sizeof dots / sizeof *dots)

/* The kernels' C text as a module. */
static void *compile_c(const char *text)
{
    char folder[] = "/tmp/kiln-amx-XXXXXX", source[64], library[64], command[256];
    assert_non_null(mkdtemp(folder));
    snprintf(source, sizeof source, "%s/k.c", folder);
    snprintf(library, sizeof library, "%s/k.so", folder);
    FILE *file = fopen(source, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    snprintf(command, sizeof command,
             "cc -std=gnu11 -O1 -fPIC -shared -ffp-contract=off %s -o %s -lm", source, library);
    assert_int_equal(system(command), 0);
    void *module = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    unlink(library);
    unlink(source);
    rmdir(folder);
    if (!module) fail_msg("%s", dlerror());
    return module;
}

typedef struct operands {
    uint32_t a[320], b[320], before[320];
} operands;

/* Variant 0: numbers near one. 1: of all sizes, subnormal ones and sums too. */
static void fill_operands(operands *data, bool is_bf16, uint32_t variant)
{
    for (uint32_t i = 0; i < 320; i++) {
        data->a[i] = random_bits() << 16 ^ random_bits();
        data->b[i] = random_bits() << 16 ^ random_bits();
        data->before[i] = random_bits();
        if (!is_bf16) continue;
        uint32_t low = variant ? 0x00000000u : 0x3f003f00u,
                 keep = variant ? 0x9fff9fffu : 0x80ff80ffu;
        data->a[i] = (data->a[i] & keep) | low;
        data->b[i] = (data->b[i] & keep) | low;
        if (variant) data->b[i] = (data->b[i] & 0x80ff80ff) | 0x20002000;
    }
}

static void compare_runs(kiln_kernel_fn *run, kiln_kernel_fn *reference, kiln_instr_op op)
{
    for (uint32_t variant = 0; variant < 2; variant++) {
        operands data;
        uint32_t found[320] = {0}, expected[320] = {0};
        fill_operands(&data, op == KILN_K_tile_dot_bf16, variant);
        void *buffers[] = {data.a, data.b, data.before, found};
        run(&(kiln_kernel_args){.buffers = buffers}, 0, 1);
        buffers[3] = expected;
        reference(&(kiln_kernel_args){.buffers = buffers}, 0, 1);
        for (uint32_t i = 0; i < 320; i++) {
            if (found[i] != expected[i])
                fail_msg("%s, variant %u: word %u is %08x; expected %08x", kiln_instr_name(op),
                         variant, i, found[i], expected[i]);
        }
    }
}

static void instructions_do_what_their_c_says(void **state)
{
    (void)state;
    need_amx();
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_text text = {.arena = &scope.arena};
        kiln_object objects[N_DOTS];
        const kiln_backend *backend = kiln_backend_open(&scope, "llvm");
        for (size_t i = 0; i < N_DOTS; i++) {
            kiln_kernel *k = build_kernel(&scope, dots[i]);
            const char *symbol = kiln_arena_format(&scope.arena, "k_%zu", i);
            if (i == 0)
                kiln_kernel_print_c_file(k, symbol, &text);
            else
                kiln_kernel_print_c(k, symbol, &text);
            backend->compile(&scope, NULL, k, symbol, &objects[i]);
        }
        void *module = compile_c(kiln_text_string(&text));
        kiln_code *code;
        backend->load(&scope, objects, N_DOTS, &code);
        for (size_t i = 0; i < N_DOTS; i++) {
            kiln_kernel_fn *reference;
            *(void **)&reference = dlsym(module, objects[i].symbol);
            compare_runs(backend->function(code, (uint32_t)i), reference, dots[i]);
        }
        backend->unload(code);
        dlclose(module);
    }
    if (kiln_scope_close(&scope)) fail_msg("%s", error.message);
}

static void the_verifier_refuses_bad_tiles(void **state)
{
    (void)state;
    static const kiln_instr bad[] = {
        {.op = KILN_K_tile_zero, .flags = 8},
        {.op = KILN_K_tile_dot_bf16, .flags = KILN_TILES(0, 4, 4)},
        {.op = KILN_K_tile_dot_bf16, .flags = KILN_TILES(0, 0, 1)},
        {.op = KILN_K_tile_load, .flags = 1, .dtype = KILN_u32, .lanes = 1, .imm = 9},
    };
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_kernel *k = build_kernel(&scope, KILN_K_tile_dot_bf16);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            kiln_error found = {0};
            assert_int_equal(kiln_instr_check(k, &bad[i], &found), KILN_INTERNAL);
        }
        kiln_error found = {0};
        kiln_instr good = {.op = KILN_K_tile_zero, .flags = 7};
        assert_int_equal(kiln_instr_check(k, &good, &found), KILN_OK);
        k->machine = kiln_machine_find("x86-64-v4");
        assert_int_equal(kiln_instr_check(k, &good, &found), KILN_INTERNAL);
    }
    kiln_scope_close(&scope);
    assert_string_equal(error.message, "");
}

/* Contractions. */

typedef struct shape {
    int64_t batch, m, n, k;
    int is_a_transposed, is_b_transposed, is_constant, has_epilogue;
} shape;

static const shape shapes[] = {
    {1, 1, 64, 64, 0, 0, 1, 0},    {1, 5, 17, 33, 0, 0, 1, 1},     {1, 33, 31, 40, 1, 1, 0, 0},
    {2, 49, 65, 129, 0, 0, 0, 1},  {1, 48, 96, 64, 0, 0, 0, 0},    {3, 32, 64, 96, 0, 1, 1, 1},
    {1, 100, 70, 300, 1, 0, 0, 1}, {1, 16, 200, 32, 0, 1, 1, 0},   {1, 130, 130, 140, 0, 0, 0, 0},
    {1, 33, 70, 544, 0, 0, 1, 1},  {2, 37, 70, 544, 0, 1, 0, 0},   {1, 16, 66, 1060, 0, 0, 1, 1},
    {1, 32, 257, 64, 0, 0, 1, 0},  {1, 257, 70, 1060, 0, 0, 0, 1},
};

static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* Random numbers in -1 … 1; f32 ones with a short mantissa when is_short. */
static void *random_elements(kiln_dtype dtype, int64_t n, bool is_short)
{
    void *data = malloc((size_t)n * 4 + 64);
    for (int64_t i = 0; i < n; i++) {
        float value = (float)random_bits() / (1 << 23) - 1;
        uint16_t half = to_bf16(value);
        if (dtype == KILN_bf16)
            ((uint16_t *)data)[i] = half;
        else
            ((float *)data)[i] = is_short ? from_bf16(half) : value;
    }
    return data;
}

typedef struct problem {
    const shape *s;
    const char *cpu;
    uint64_t features; /* that its program needs, of AMX and AVX512_BF16 */
    kiln_dtype dtype;
    int64_t a_dims[3], b_dims[3], y_dims[3];
    void *a, *b, *bias;
    int64_t n_y;
} problem;

static problem problem_create(const shape *s, kiln_dtype dtype, bool is_short)
{
    problem p = {.s = s,
                 .cpu = "x86-64-amx",
                 .features = AMX | KILN_CPU_AVX512_BF16,
                 .dtype = dtype,
                 .a_dims = {s->batch, s->m, s->k},
                 .b_dims = {s->batch, s->k, s->n},
                 .y_dims = {s->batch, s->m, s->n}};
    if (s->is_a_transposed) memcpy(p.a_dims, (int64_t[]){s->batch, s->k, s->m}, sizeof p.a_dims);
    if (s->is_b_transposed) memcpy(p.b_dims, (int64_t[]){s->batch, s->n, s->k}, sizeof p.b_dims);
    p.n_y = s->batch * s->m * s->n;
    p.a = random_elements(dtype, s->batch * s->m * s->k, is_short);
    p.b = random_elements(dtype, s->batch * s->k * s->n, is_short);
    p.bias = random_elements(dtype, s->n, is_short);
    return p;
}

static void problem_destroy(problem *p)
{
    free(p->a);
    free(p->b);
    free(p->bias);
}

static kiln_graph *problem_graph(const problem *p, kiln_context *context)
{
    static const int64_t swap[] = {0, 2, 1};
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "amx", &graph), KILN_OK);
    kiln_value a = kiln_input(graph, "a", p->dtype, 3, p->a_dims);
    kiln_value b = kiln_input(graph, "b", p->dtype, 3, p->b_dims);
    if (p->s->is_constant) b = kiln_constant(graph, p->dtype, 3, p->b_dims, p->b);
    if (p->s->is_a_transposed) a = kiln_transpose(graph, a, swap);
    if (p->s->is_b_transposed) b = kiln_transpose(graph, b, swap);
    kiln_value y = kiln_matmul(graph, a, b);
    if (p->s->has_epilogue) {
        kiln_value bias = kiln_constant(graph, p->dtype, 1, &p->s->n, p->bias);
        y = kiln_relu(graph, kiln_add(graph, y, bias));
    }
    kiln_output(graph, "y", y);
    return graph;
}

static void problem_inputs(const problem *p, kiln_tensor *inputs)
{
    size_t bytes = kiln_dtype_bytes(p->dtype);
    const shape *s = p->s;
    inputs[0] =
        (kiln_tensor){p->dtype, 3, p->a_dims, p->a, (size_t)(s->batch * s->m * s->k) * bytes};
    inputs[1] =
        (kiln_tensor){p->dtype, 3, p->b_dims, p->b, (size_t)(s->batch * s->k * s->n) * bytes};
}

/* The result for `threads` threads, or the evaluator's for 0. The caller frees it. */
static void *problem_run(const problem *p, kiln_precision precision, uint32_t threads)
{
    kiln_context *context;
    kiln_context_options context_options = {.struct_bytes = sizeof context_options,
                                            .threads = threads ? threads : 1};
    assert_int_equal(kiln_context_create(&context_options, &context), KILN_OK);
    kiln_graph *graph = problem_graph(p, context);
    size_t bytes = (size_t)p->n_y * kiln_dtype_bytes(p->dtype);
    kiln_tensor inputs[2], output = {p->dtype, 3, p->y_dims, calloc(1, bytes + 64), bytes};
    problem_inputs(p, inputs);
    kiln_compile_options options = {.struct_bytes = sizeof options,
                                    .precision = precision,
                                    .target_cpu = p->cpu,
                                    .compile_threads = 1};
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    if (threads == 0) {
        assert_int_equal(kiln_evaluate(graph, inputs, graph->inputs.n, &output, 1), KILN_OK);
    } else {
        if (kiln_compile(graph, &options, &executable)) fail_msg("%s", kiln_graph_message(graph));
        assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
        uint64_t used = executable->program->cpu_features & (AMX | KILN_CPU_AVX512_BF16);
        assert_int_equal(used, p->features);
        assert_int_equal(kiln_run(workspace, inputs, graph->inputs.n, &output, 1), KILN_OK);
    }
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
    return output.data;
}

static double element(kiln_dtype dtype, const void *data, int64_t i)
{
    return dtype == KILN_bf16 ? from_bf16(((const uint16_t *)data)[i]) : ((const float *)data)[i];
}

typedef struct mode {
    kiln_dtype dtype;
    kiln_precision precision;
    bool is_short;
    double relative, absolute; /* allowed: relative * |expected| + absolute * k */
    bool is_without_tiles;
} mode;

static void check_shape(const shape *s, const mode *m)
{
    problem p = problem_create(s, m->dtype, m->is_short);
    if (m->is_without_tiles) {
        p.cpu = "x86-64-bf16";
        p.features = KILN_CPU_AVX512_BF16;
    }
    void *expected = problem_run(&p, m->precision, 0);
    void *one = problem_run(&p, m->precision, 1), *two = problem_run(&p, m->precision, 2);
    assert_memory_equal(one, two, (size_t)p.n_y * kiln_dtype_bytes(m->dtype));
    for (int64_t i = 0; i < p.n_y; i++) {
        double want = element(m->dtype, expected, i), is = element(m->dtype, one, i);
        if (!(fabs(is - want) <= m->relative * fabs(want) + m->absolute * (double)s->k))
            fail_msg("%dx%dx%dx%d: element %lld is %g; expected %g", (int)s->batch, (int)s->m,
                     (int)s->n, (int)s->k, (long long)i, is, want);
    }
    free(one);
    free(two);
    free(expected);
    problem_destroy(&p);
}

static void bf16_is_near_the_evaluator(void **state)
{
    (void)state;
    need_amx();
    mode m = {KILN_bf16, KILN_PRECISION_FMA, true, 1.0 / 128, 1e-6, false};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_shape(&shapes[i], &m);
}

/* In bf16, and from f32 that is rounded. */
static void bf16_by_pairs_is_near_the_evaluator(void **state)
{
    (void)state;
    need(KILN_CPU_AVX512_BF16, "dots of bf16 pairs");
    mode m = {KILN_bf16, KILN_PRECISION_FMA, true, 1.0 / 128, 1e-6, true};
    for (size_t i = 2; i < sizeof shapes / sizeof *shapes; i += 3) check_shape(&shapes[i], &m);
    m = (mode){KILN_f32, KILN_PRECISION_BF16, true, 1e-6, 2e-7, true};
    check_shape(&shapes[6], &m);
    check_shape(&shapes[9], &m);
}

/* Operands that are bf16 numbers already lose nothing. */
static void rounded_f32_is_near_the_evaluator(void **state)
{
    (void)state;
    need_amx();
    mode m = {KILN_f32, KILN_PRECISION_BF16, true, 1e-6, 2e-7, false};
    for (size_t i = 3; i < sizeof shapes / sizeof *shapes; i += 2) {
        if (shapes[i].m >= 32) check_shape(&shapes[i], &m);
    }
}

static void x6_is_near_the_evaluator(void **state)
{
    (void)state;
    need_amx();
    mode m = {KILN_f32, KILN_PRECISION_X6, false, 1e-6, 2e-7, false};
    for (size_t i = 3; i < sizeof shapes / sizeof *shapes; i++) check_shape(&shapes[i], &m);
}

/* Worst error over the sum of the products' sizes. */
static double worst_error(const problem *p, const float *y)
{
    const shape *s = p->s;
    double worst = 0;
    for (int64_t i = 0; i < s->m * s->n; i++) {
        double sum = 0, sizes = 0;
        for (int64_t k = 0; k < s->k; k++) {
            float a = ((float *)p->a)[i / s->n * s->k + k],
                  b = ((float *)p->b)[k * s->n + i % s->n];
            sum += (double)a * b;
            sizes += fabs((double)a * b);
        }
        double error = fabs(y[i] - sum) / sizes;
        if (error > worst) worst = error;
    }
    return worst;
}

static void x6_is_as_accurate_as_fma(void **state)
{
    (void)state;
    need_amx();
    static const shape s = {1, 64, 64, 640, 0, 0, 1, 0};
    problem p = problem_create(&s, KILN_f32, false);
    for (int64_t i = 0; i < s.m * s.k; i += 3) ((float *)p.a)[i] *= 0x1p-20f;
    float *y = problem_run(&p, KILN_PRECISION_X6, 1);
    double x6 = worst_error(&p, y);
    kiln_context *context;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    for (int64_t i = 0; i < s.m; i++) {
        for (int64_t j = 0; j < s.n; j++) {
            float sum = 0;
            for (int64_t k = 0; k < s.k; k++)
                sum = fmaf(((float *)p.a)[i * s.k + k], ((float *)p.b)[k * s.n + j], sum);
            y[i * s.n + j] = sum;
        }
    }
    double chain = worst_error(&p, y);
    if (!(x6 <= chain && x6 > 0)) fail_msg("x6 errs by %g, a chain of fma by %g", x6, chain);
    kiln_context_destroy(context);
    free(y);
    problem_destroy(&p);
}

/* Sums of huge operands: rounding to bf16 would leave the finite numbers. */
static void x6_keeps_huge_numbers_finite(void **state)
{
    (void)state;
    need_amx();
    static const shape s = {1, 16, 64, 32, 0, 0, 1, 0};
    problem p = problem_create(&s, KILN_f32, false);
    memset(p.a, 0, (size_t)(s.m * s.k) * 4);
    for (int64_t i = 0; i < s.m; i++) ((float *)p.a)[i * s.k] = 0x1.fffffep127f;
    for (int64_t i = 0; i < s.k * s.n; i++) ((float *)p.b)[i] = 0.5f;
    float *y = problem_run(&p, KILN_PRECISION_X6, 1);
    for (int64_t i = 0; i < s.m * s.n; i++) assert_true(y[i] == 0x1.fffffep126f);
    free(y);
    problem_destroy(&p);
}

/* Packing when compiling and packing at run time split numbers alike. */
static void x6_splits_constants_as_inputs(void **state)
{
    (void)state;
    need_amx();
    static const uint32_t odd[] = {0x7f7fffff, 0xff7f8000, 0x7f800000, 0xff800000, 0x7fc00000,
                                   0x7f800001, 0xffffffff, 0x00000001, 0x807fffff, 0x3f808000,
                                   0x3f818000, 0x3f80ffff, 0x00808000, 0x0b808080};
    shape s = {1, 16, 64, 64, 0, 0, 1, 0};
    problem p = problem_create(&s, KILN_f32, false);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        memcpy((float *)p.b + 65 * i, &odd[i], sizeof odd[i]);
    float *constant = problem_run(&p, KILN_PRECISION_X6, 1);
    s.is_constant = 0;
    float *input = problem_run(&p, KILN_PRECISION_X6, 1);
    for (int64_t i = 0; i < s.m * s.n; i++) {
        bool is_same = constant[i] == input[i] || (isnan(constant[i]) && isnan(input[i]));
        if (!is_same) fail_msg("element %lld: %a and %a", (long long)i, constant[i], input[i]);
        if (i % s.n == 4 || i % s.n == 5 || i % s.n == 6) assert_true(isnan(input[i]));
    }
    free(constant);
    free(input);
    problem_destroy(&p);
}

static void precision_wants_a_machine_with_tiles(void **state)
{
    (void)state;
    static const shape s = {1, 16, 64, 32, 0, 0, 0, 0};
    kiln_context *context;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    problem p = problem_create(&s, KILN_f32, false);
    kiln_graph *graph = problem_graph(&p, context);
    kiln_compile_options options = {
        .struct_bytes = sizeof options, .precision = KILN_PRECISION_X6, .target_cpu = "x86-64-v4"};
    char *text = NULL;
    assert_int_equal(kiln_explain(graph, &options, &text), KILN_UNSUPPORTED);
    assert_non_null(strstr(kiln_graph_message(graph), "x86-64-v4"));
    options.target_cpu = "x86-64-amx";
    assert_int_equal(kiln_print_passes(graph, &options, "expand,schedule", &text), KILN_OK);
    assert_non_null(strstr(text, "bf16x3_k2n16"));
    kiln_free(text);
    kiln_graph_destroy(graph);
    problem_destroy(&p);
    kiln_context_destroy(context);
}

/* What is rounded to bf16 stands in the graph, the same for every machine. */
static void a_compile_in_bf16_says_what_it_rounds(void **state)
{
    (void)state;
    static const shape s = {1, 32, 64, 32, 0, 0, 0, 0};
    kiln_context *context;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    problem p = problem_create(&s, KILN_f32, false);
    kiln_graph *graph = problem_graph(&p, context);
    kiln_compile_options options = {.struct_bytes = sizeof options,
                                    .precision = KILN_PRECISION_BF16};
    static const char *const machines[] = {"x86-64-amx", "x86-64-v4", "x86-64-v3"};
    char *texts[3];
    for (int i = 0; i < 3; i++) {
        options.target_cpu = machines[i];
        kiln_status status = kiln_print_passes(graph, &options, "expand,precision", &texts[i]);
        assert_int_equal(status, KILN_OK);
        assert_non_null(strstr(texts[i], "convert"));
        assert_non_null(strstr(texts[i], "wide = 1"));
        assert_string_equal(texts[i], texts[0]);
    }
    for (int i = 0; i < 3; i++) kiln_free(texts[i]);
    kiln_graph_destroy(graph);
    problem_destroy(&p);
    kiln_context_destroy(context);
}

/* f32 programs do not ask for tiles, so that they run on machines without. */
static void programs_need_what_their_kernels_use(void **state)
{
    (void)state;
    need_amx();
    static const shape s = {1, 48, 64, 64, 0, 0, 0, 0};
    kiln_context *context;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    problem p = problem_create(&s, KILN_f32, false);
    kiln_graph *graph = problem_graph(&p, context);
    kiln_executable *executable;
    assert_int_equal(kiln_compile(graph, NULL, &executable), KILN_OK);
    uint64_t plain = kiln_machine_find("x86-64-v4")->cpu_features;
    assert_int_equal(executable->program->cpu_features & ~plain, 0);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    problem_destroy(&p);
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(instructions_do_what_their_c_says),
        cmocka_unit_test(the_verifier_refuses_bad_tiles),
        cmocka_unit_test(bf16_is_near_the_evaluator),
        cmocka_unit_test(bf16_by_pairs_is_near_the_evaluator),
        cmocka_unit_test(rounded_f32_is_near_the_evaluator),
        cmocka_unit_test(x6_is_near_the_evaluator),
        cmocka_unit_test(x6_is_as_accurate_as_fma),
        cmocka_unit_test(x6_keeps_huge_numbers_finite),
        cmocka_unit_test(x6_splits_constants_as_inputs),
        cmocka_unit_test(precision_wants_a_machine_with_tiles),
        cmocka_unit_test(a_compile_in_bf16_says_what_it_rounds),
        cmocka_unit_test(programs_need_what_their_kernels_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
