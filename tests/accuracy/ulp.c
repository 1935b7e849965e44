/* How far the maths functions are from the truth, through the LLVM backend, elementwise ones as a
 * kernel, composites as a compiled graph: f32 over stratified bit
 * patterns (all 2^32 with --exhaustive), every bf16 and f16, f64 over samples; pairs for two
 * operands. Prints the table of docs/accuracy.md and fails where a bound is passed. usage: ulp
 * [--exhaustive] [--patterns LOG2] [--machine NAME] [function…] */
#define _GNU_SOURCE
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/backend.h"
#include "codegen/math.h"
#include "kiln/runtime.h"
#include "tests/accuracy/composite.h"
#include "tests/accuracy/reference.h"

#define TILE COMPOSITE_TILE
#define MOST_THREADS 64

typedef long double real;
typedef real reference_fn(real a, real b);

static real ref_logistic(real a, real b)
{
    (void)b;
    real z = expl(-fabsl(a));
    return a < 0 ? z / (1 + z) : 1 / (1 + z);
}

static real ref_rsqrt(real a, real b)
{
    (void)b;
    return 1 / sqrtl(a);
}

#define UNARY_REFERENCE(name, value)                                                               \
    static real ref_##name(real a, real b)                                                         \
    {                                                                                              \
        (void)b;                                                                                   \
        return (value);                                                                            \
    }
UNARY_REFERENCE(exp, expl(a))
UNARY_REFERENCE(expm1, expm1l(a))
UNARY_REFERENCE(log, logl(a))
UNARY_REFERENCE(log1p, log1pl(a))
UNARY_REFERENCE(sin, sinl(a))
UNARY_REFERENCE(cos, cosl(a))
UNARY_REFERENCE(tan, tanl(a))
UNARY_REFERENCE(atan, atanl(a))
UNARY_REFERENCE(tanh, tanhl(a))
UNARY_REFERENCE(erf, erfl(a))
UNARY_REFERENCE(sqrt, sqrtl(a))
UNARY_REFERENCE(neg, -a)
UNARY_REFERENCE(abs, fabsl(a))
UNARY_REFERENCE(sign, a > 0 ? 1 : a < 0 ? -1 : a)
UNARY_REFERENCE(floor, floorl(a))
UNARY_REFERENCE(ceil, ceill(a))
UNARY_REFERENCE(trunc, truncl(a))
UNARY_REFERENCE(round_even, rintl(a))
UNARY_REFERENCE(cbrt, cbrtl(a))
UNARY_REFERENCE(asin, asinl(a))
UNARY_REFERENCE(acos, acosl(a))
UNARY_REFERENCE(sinh, sinhl(a))
UNARY_REFERENCE(cosh, coshl(a))
UNARY_REFERENCE(asinh, asinhl(a))
UNARY_REFERENCE(acosh, acoshl(a))
UNARY_REFERENCE(atanh, atanhl(a))
UNARY_REFERENCE(erfc, erfcl(a))
UNARY_REFERENCE(erf_inv, true_erf_inv(a))
UNARY_REFERENCE(lgamma, lgammal(a))
UNARY_REFERENCE(digamma, true_digamma(a))
UNARY_REFERENCE(round_half_away, roundl(a))
UNARY_REFERENCE(softplus, a > 50 ? a : log1pl(expl(a)))
UNARY_REFERENCE(log_sigmoid, a < -50 ? a : -log1pl(expl(-a)))

typedef struct function {
    const char *name;
    kiln_op op;
    reference_fn *reference;
    int n_args;
    double bound_f32, bound_f64; /* ULP */
    double bound_no_fma;         /* f32, where fma is two roundings */
} function;

static const function functions[] = {
    {"exp", KILN_OP_exp, ref_exp, 1, 1.0, 2.0, 1.5},
    {"expm1", KILN_OP_expm1, ref_expm1, 1, 1.5, 2.0, 2.0},
    {"log", KILN_OP_log, ref_log, 1, 1.0, 2.0, 1.5},
    {"log1p", KILN_OP_log1p, ref_log1p, 1, 1.0, 2.0, 1.0},
    {"logistic", KILN_OP_logistic, ref_logistic, 1, 2.0, 2.5, 3.0},
    {"tanh", KILN_OP_tanh, ref_tanh, 1, 2.0, 3.0, 3.0},
    {"erf", KILN_OP_erf, ref_erf, 1, 2.0, 2.0, 3.0},
    {"sin", KILN_OP_sin, ref_sin, 1, 1.0, 1.0, 1.0},
    {"cos", KILN_OP_cos, ref_cos, 1, 1.0, 1.0, 1.0},
    {"tan", KILN_OP_tan, ref_tan, 1, 1.0, 3.0, 1.0},
    {"atan", KILN_OP_atan, ref_atan, 1, 1.0, 2.0, 1.0},
    {"rsqrt", KILN_OP_rsqrt, ref_rsqrt, 1, 1.0, 1.0, 2.0},
    {"sqrt", KILN_OP_sqrt, ref_sqrt, 1, 0.5, 0.5, 0.5},
    {"neg", KILN_OP_neg, ref_neg, 1, 0.0, 0.0, 0.0},
    {"abs", KILN_OP_abs, ref_abs, 1, 0.0, 0.0, 0.0},
    {"sign", KILN_OP_sign, ref_sign, 1, 0.0, 0.0, 0.0},
    {"floor", KILN_OP_floor, ref_floor, 1, 0.0, 0.0, 0.0},
    {"ceil", KILN_OP_ceil, ref_ceil, 1, 0.0, 0.0, 0.0},
    {"trunc", KILN_OP_trunc, ref_trunc, 1, 0.0, 0.0, 0.0},
    {"round_even", KILN_OP_round_even, ref_round_even, 1, 0.0, 0.0, 0.0},
    {"cbrt", KILN_OP_cbrt, ref_cbrt, 1, 1.0, 2.0, 1.0},
    {"asin", KILN_OP_asin, ref_asin, 1, 1.0, 4.0, 1.0},
    {"acos", KILN_OP_acos, ref_acos, 1, 1.0, 4.0, 1.0},
    {"sinh", KILN_OP_sinh, ref_sinh, 1, 1.0, 4.0, 1.0},
    {"cosh", KILN_OP_cosh, ref_cosh, 1, 1.0, 4.0, 1.0},
    {"asinh", KILN_OP_asinh, ref_asinh, 1, 1.0, 4.0, 1.0},
    {"acosh", KILN_OP_acosh, ref_acosh, 1, 1.0, 4.0, 1.0},
    {"atanh", KILN_OP_atanh, ref_atanh, 1, 1.0, 4.0, 1.0},
    {"erfc", KILN_OP_erfc, ref_erfc, 1, 1.0, 8.0, 1.0},
    {"erf_inv", KILN_OP_erf_inv, ref_erf_inv, 1, 1.0, 8.0, 1.0},
    {"lgamma", KILN_OP_lgamma, ref_lgamma, 1, 8.0, 1e12, 8.0},
    {"digamma", KILN_OP_digamma, ref_digamma, 1, 8.0, 1e12, 8.0},
    {"softplus", KILN_OP_softplus, ref_softplus, 1, 2.0, 3.0, 2.5},
    {"log_sigmoid", KILN_OP_log_sigmoid, ref_log_sigmoid, 1, 2.0, 3.0, 2.5},
    {"round_half_away", KILN_OP_round_half_away, ref_round_half_away, 1, 0.0, 0.0, 0.0},
    {"pow", KILN_OP_pow, powl, 2, 1.0, 2.0, 1.0},
    {"atan2", KILN_OP_atan2, atan2l, 2, 1.0, 2.0, 1.0},
    {"rem", KILN_OP_rem, fmodl, 2, 0.0, 0.0, 0.0},
};
#define N_FUNCTIONS (sizeof functions / sizeof *functions)

/* What a dtype is, for distances. */
typedef struct format {
    kiln_dtype dtype;
    int mantissa, least; /* exponent of the least normal number */
    real largest;
} format;

static const format formats[] = {
    {KILN_f32, 24, -126, FLT_MAX},
    {KILN_bf16, 8, -126, 0x1.fep127L},
    {KILN_f16, 11, -14, 65504},
    {KILN_f64, 53, -1022, DBL_MAX},
};

static real value_of(const format *f, uint64_t bits)
{
    if (f->dtype == KILN_f64) {
        double d;
        memcpy(&d, &bits, sizeof d);
        return d;
    }
    if (f->dtype == KILN_f16) {
        uint32_t mantissa = bits & 0x3ff, exponent = bits >> 10 & 31;
        real size = exponent ? ldexpl(1024 + mantissa, (int)exponent - 25) : ldexpl(mantissa, -24);
        if (exponent == 31) size = mantissa ? NAN : INFINITY;
        return bits & 0x8000 ? -size : size;
    }
    uint32_t word = f->dtype == KILN_bf16 ? (uint32_t)bits << 16 : (uint32_t)bits;
    float single;
    memcpy(&single, &word, sizeof single);
    return single;
}

/* Distance in units of the last place of the truth; HUGE_VAL where the kind of value differs. */
static double distance(const format *f, real got, real truth)
{
    if (isnan(truth) || isnan(got)) return isnan(truth) && isnan(got) ? 0 : HUGE_VAL;
    if (truth == got) return truth != 0 || signbit(truth) == signbit(got) ? 0 : HUGE_VAL;
    if (got == 0 && truth != 0 && signbit(got) != signbit(truth)) return HUGE_VAL;
    int exponent;
    frexpl(truth, &exponent); /* truth in [2^(exponent-1), 2^exponent) */
    if (exponent - 1 < f->least) exponent = f->least + 1;
    real unit = ldexpl(1, exponent - f->mantissa);
    real limit = f->largest + ldexpl(1, ilogbl(f->largest) - f->mantissa);
    if (isinf(got))
        return fabsl(truth) >= limit - unit && signbit(got) == signbit(truth) ? 0.5 : HUGE_VAL;
    if (isinf(truth)) return HUGE_VAL;
    return (double)(fabsl(got - truth) / unit);
}

static kiln_kernel *function_kernel(kiln_scope *scope, const kiln_machine *machine,
                                    const function *fn, kiln_dtype dtype)
{
    kiln_kernel *k = kiln_kernel_create(scope, machine, fn->name);
    kiln_param param = {
        .dtype = kiln_storage_dtype(dtype), .n_elements = TILE, .is_read = true, .alignment = 64};
    for (int i = 0; i < fn->n_args; i++) kiln_kernel_add_param(k, &param);
    param.is_read = false;
    param.is_written = true;
    uint32_t out = kiln_kernel_add_param(k, &param);
    uint32_t lanes = machine->vector_bytes / (uint32_t)kiln_dtype_bytes(kiln_compute_dtype(dtype));
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    begin = kiln_k_const_i64(k, 0);
    end = kiln_k_const_i64(k, TILE);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, lanes), args[2];
    for (int i = 0; i < fn->n_args; i++) {
        args[i] = kiln_k_load(k, (uint32_t)i, at, lanes, 0, 0);
        args[i] = kiln_math_from_storage(k, args[i], dtype);
    }
    kiln_kv value = kiln_math_op(k, fn->op, dtype, dtype, args);
    kiln_k_store(k, out, at, kiln_math_to_storage(k, value, dtype), 0, 0);
    kiln_k_end(k);
    kiln_k_end(k);
    k->n_tiles = 1;
    return k;
}

typedef struct worst {
    double ulp;
    real at, at_b, got;
} worst;

typedef struct job {
    const function *fn;
    const format *f;
    kiln_kernel_fn *run;         /* of elementwise functions */
    kiln_executable *executable; /* of composites */
    uint64_t begin, end;         /* numbers of patterns */
    int log2_patterns;           /* of f32 */
    truth_fn *truth;             /* of many values; NULL: the reference, one by one */
    worst result;
} job;

static uint64_t scramble(uint64_t x)
{
    x = (x ^ x >> 31) * 0x7fb5d329728ea185u;
    x = (x ^ x >> 27) * 0x81dadef4bc2dd44du;
    return x ^ x >> 33;
}

/* Pattern `i`: all of them for 16 bits; else every exponent alike, random mantissas, both signs.
 * Second operands are near 1 half of the time, small integers at others. */
static uint64_t pattern(const job *j, uint64_t i, int operand)
{
    kiln_dtype dtype = j->f->dtype;
    if (dtype == KILN_bf16 || dtype == KILN_f16) {
        if (operand == 0) return i & 0xffff;
        return scramble(i * 2 + 1) & 0xffff;
    }
    int chosen = 32 - j->log2_patterns; /* bits of the pattern that are left to chance */
    uint64_t random = scramble(i * 4 + (uint64_t)operand + 1);
    if (dtype == KILN_f32 && operand == 0) return i << chosen | (random & ((1ull << chosen) - 1));
    if (operand == 1 && random >> 62 == 3) {
        double whole = (double)((int64_t)(random & 127) - 64);
        float single = (float)whole;
        uint64_t bits = 0;
        if (dtype == KILN_f64)
            memcpy(&bits, &whole, sizeof whole);
        else
            memcpy(&bits, &single, sizeof single);
        return bits;
    }
    bool is_near = operand == 1 && random >> 61 & 1;
    if (dtype == KILN_f32)
        return is_near ? (random & 0x83ffffff) | 0x3c000000 : random & 0xffffffff;
    return is_near ? (random & 0x803fffffffffffff) | 0x3fc0000000000000 : random;
}

/* Operand `operand` of the tile that begins with pattern `first`. */
static void fill(const job *j, uint64_t first, int operand, void *out)
{
    if (j->f->dtype == KILN_f32 && operand == 0 && j->log2_patterns == 32) {
        uint32_t *words = out;
        for (uint32_t i = 0; i < TILE; i++) words[i] = (uint32_t)first + i;
        return;
    }
    size_t bytes = kiln_dtype_bytes(j->f->dtype);
    for (uint64_t i = 0; i < TILE; i++) {
        uint64_t bits = pattern(j, first + i, operand);
        memcpy((char *)out + i * bytes, &bits, bytes);
    }
}

static void judge(job *j, const void *args[2], const void *out, uint64_t n)
{
    size_t bytes = kiln_dtype_bytes(j->f->dtype);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t words[3] = {0};
        memcpy(&words[0], (const char *)args[0] + i * bytes, bytes);
        memcpy(&words[1], (const char *)args[1] + i * bytes, bytes);
        memcpy(&words[2], (const char *)out + i * bytes, bytes);
        real a = value_of(j->f, words[0]), b = value_of(j->f, words[1]),
             got = value_of(j->f, words[2]);
        double ulp = distance(j->f, got, j->fn->reference(a, b));
        if (ulp > j->result.ulp) j->result = (worst){.ulp = ulp, .at = a, .at_b = b, .got = got};
    }
}

/* Whether a tile may hold something farther off than what was found before. */
static bool is_worse(const job *j, const float *x, const float *got)
{
    double wide[TILE], truth[TILE];
    bool is_odd;
    widen(wide, x, TILE);
    j->truth(truth, wide, TILE);
    return farthest_from_truth(got, truth, TILE, &is_odd) > j->result.ulp + 1e-6 || is_odd;
}

static void *work(void *argument)
{
    job *j = argument;
    char *memory = aligned_alloc(64, 3 * TILE * 8);
    memset(memory, 0, 3 * TILE * 8);
    kiln_workspace *workspace = composite_workspace(j->executable);
    for (uint64_t first = j->begin; first < j->end; first += TILE) {
        void *buffers[3] = {memory, memory + TILE * 8, memory + 2 * TILE * 8};
        for (int i = 0; i < j->fn->n_args; i++) fill(j, first, i, buffers[i]);
        void *operands[3] = {buffers[0], j->fn->n_args == 2 ? buffers[1] : buffers[2], buffers[2]};
        kiln_kernel_args args = {.buffers = operands};
        if (workspace)
            composite_run(workspace, j->f->dtype, buffers[0], buffers[2]);
        else
            j->run(&args, 0, 1);
        if (!j->truth || is_worse(j, buffers[0], buffers[2]))
            judge(j, (const void *[]){buffers[0], buffers[1]}, buffers[2], TILE);
    }
    kiln_workspace_destroy(workspace);
    free(memory);
    return NULL;
}

/* What runs: a kernel, or an executable. */
typedef struct runnable {
    kiln_kernel_fn *run;
    kiln_executable *executable;
} runnable;

static worst measure(const function *fn, const format *f, runnable code, int log2_patterns)
{
    if ((fn->n_args == 2 || f->dtype == KILN_f64) && log2_patterns > 26) log2_patterns = 26;
    int log2_n = f->dtype == KILN_f32   ? log2_patterns
                 : f->dtype == KILN_f64 ? log2_patterns - 4
                                        : 16;
    uint64_t n = 1ull << (log2_n < 16 ? 16 : log2_n);
    bool is_wide = f->dtype == KILN_f32 && fn->n_args == 1 && __builtin_cpu_supports("avx2");
    pthread_t threads[MOST_THREADS];
    job jobs[MOST_THREADS];
    long n_online = sysconf(_SC_NPROCESSORS_ONLN);
    int n_threads = 1;
    while (n_threads < n_online && n_threads < MOST_THREADS) n_threads *= 2; /* shares of tiles */
    for (int i = 0; i < n_threads; i++) {
        uint64_t share = n / (uint64_t)n_threads;
        jobs[i] = (job){.fn = fn,
                        .f = f,
                        .run = code.run,
                        .executable = code.executable,
                        .begin = share * (uint64_t)i,
                        .end = share * (uint64_t)(i + 1),
                        .log2_patterns = log2_patterns,
                        .truth = is_wide ? find_truth(fn->name) : NULL};
        if (pthread_create(&threads[i], NULL, work, &jobs[i])) exit(2);
    }
    worst most = {0};
    for (int i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
        if (jobs[i].result.ulp >= most.ulp) most = jobs[i].result;
    }
    return most;
}

static worst measure_kernel(kiln_scope *scope, const kiln_machine *machine, const function *fn,
                            const format *f, int log2_patterns)
{
    const kiln_backend *backend = kiln_backend_open(scope, "llvm");
    kiln_object object;
    kiln_code *code;
    backend->compile(scope, NULL, function_kernel(scope, machine, fn, f->dtype), "function",
                     &object);
    backend->load(scope, &object, 1, &code);
    worst w = measure(fn, f, (runnable){.run = backend->function(code, 0)}, log2_patterns);
    backend->unload(code);
    return w;
}

static worst measure_composite(const kiln_machine *machine, const function *fn, const format *f,
                               int log2_patterns)
{
    composite code = composite_open(fn->op, f->dtype, machine->name);
    worst w = measure(fn, f, (runnable){.executable = code.executable}, log2_patterns);
    composite_close(&code);
    return w;
}

static double bound_of(const function *fn, const format *f, const kiln_machine *machine)
{
    if (f->dtype == KILN_f32) return machine->has_fma ? fn->bound_f32 : fn->bound_no_fma;
    if (f->dtype != KILN_f64) return fn->bound_f32 == 0 ? 0 : 0.5 + 0x1p-8;
    return machine->has_fma        ? fn->bound_f64
           : fn->op == KILN_OP_pow ? HUGE_VAL
                                   : fn->bound_f64 + 1.5;
}

/* True when the function keeps its bound in all dtypes. */
static bool check_function(kiln_scope *scope, const kiln_machine *machine, const function *fn,
                           int log2_patterns)
{
    bool is_right = true, is_composite = kiln_op_rows[fn->op].class_ == KILN_COMPOSITE;
    printf("%-15s", fn->name);
    fflush(stdout);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        worst w = is_composite ? measure_composite(machine, fn, &formats[i], log2_patterns)
                               : measure_kernel(scope, machine, fn, &formats[i], log2_patterns);
        bool is_within = w.ulp <= bound_of(fn, &formats[i], machine);
        printf(" %5s %.3f", kiln_dtype_name(formats[i].dtype), w.ulp);
        if (!is_within)
            printf(" (at %La %La: %La, expected %.21Lg; bound %g)", w.at, w.at_b, w.got,
                   fn->reference(w.at, w.at_b), bound_of(fn, &formats[i], machine));
        is_right = is_right && is_within;
    }
    printf("\n");
    fflush(stdout);
    return is_right;
}

int main(int argc, char **argv)
{
    const char *best = kiln_machine_best(kiln_cpu_features())->name;
    bool is_all = true, is_right = true;
    int log2_patterns = 20;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--exhaustive") == 0) log2_patterns = 32;
        if (strcmp(argv[i], "--patterns") == 0 && i + 1 < argc) {
            log2_patterns = atoi(argv[++i]);
            continue;
        }
        if (strcmp(argv[i], "--machine") == 0 && i + 1 < argc) best = argv[++i];
        is_all = is_all && (argv[i][0] == '-' || strcmp(argv[i], best) == 0);
    }
    const kiln_machine *machine = kiln_machine_find(best);
    if (!machine || log2_patterns < 16 || log2_patterns > 32) return 2;
    for (size_t f = 0; f < N_FUNCTIONS; f++) {
        bool is_wanted = is_all;
        for (int i = 1; i < argc; i++)
            is_wanted = is_wanted || strcmp(argv[i], functions[f].name) == 0;
        if (!is_wanted) continue;
        kiln_error error = {0};
        kiln_scope scope;
        volatile bool is_within = false;
        kiln_scope_open(&scope, &error);
        if (kiln_scope_try(&scope))
            is_within = check_function(&scope, machine, &functions[f], log2_patterns);
        if (kiln_scope_close(&scope)) printf("%s\n", error.message);
        is_right = is_right && is_within;
    }
    return is_right ? 0 : 1;
}
