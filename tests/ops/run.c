/* The op cases: every family for every dtype as one graph, evaluated and compared with the cases'
 * own references. Arguments select: `ops [family] [dtype]`. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/cases.h"
#include "ops/compiled.h"

typedef struct tally {
    uint64_t cases, elements, failures;
} tally;

#define FAILURES_SHOWN 20

static void report(tally *counts, const op_batch *batch, const char *what, const char *name,
                   int64_t index, double found, double expected, double bound)
{
    if (counts->failures++ >= FAILURES_SHOWN) return;
    fprintf(stderr, "%s %s: %s: element %lld is %.17g (%a); expected %.17g (%a) within %g\n",
            batch->name, what, name, (long long)index, found, found, expected, expected, bound);
}

/* The first number that does not round to a finite one, and every larger one, is infinite. */
static long double overflowed(kiln_dtype dtype, long double x)
{
    int top = dtype == KILN_f64 ? 1024 : dtype == KILN_f16 ? 16 : 128;
    int fraction = dtype == KILN_f64 ? 53 : dtype == KILN_f16 ? 11 : dtype == KILN_bf16 ? 8 : 24;
    long double limit = ldexpl(1, top) - ldexpl(1, top - fraction - 1);
    return fabsl(x) >= limit ? copysignl(INFINITY, x) : x;
}

/* Half a unit for the evaluator's one rounding, a little for the reference's own, and what the case
 * allows. */
static bool is_near(const op_reference *reference, kiln_dtype dtype, int64_t i, long double found)
{
    long double expected = reference->expected[i];
    if (kiln_dtype_kind_of(dtype) != KILN_DTYPE_KIND_FLOAT) return found == expected;
    if (isnan(found) || isnan(expected)) return isnan(found) && isnan(expected);
    expected = overflowed(dtype, expected);
    if (found == expected)
        return found != 0 || !signbit(found) == !signbit(expected) || reference->tolerance;
    long double bound =
        (0.501L + (long double)reference->ulps) * (long double)bound_ulp(dtype, (double)expected);
    if (reference->tolerance) bound += (long double)reference->tolerance[i];
    return fabsl(found - expected) <= bound;
}

/* Exact for every dtype: 64-bit integers do not fit a double. */
static long double element_of(kiln_dtype dtype, const void *values, int64_t i)
{
    uint64_t bits;
    double value;
    if (kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_FLOAT) {
        kiln_element_load_double(dtype, values, i, 1, &value);
        return value;
    }
    kiln_element_load_int(dtype, values, i, 1, &bits);
    return kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_INT ? (long double)(int64_t)bits
                                                            : (long double)bits;
}

static void check_reference(tally *counts, const op_batch *batch, uint32_t output,
                            const void *values)
{
    const op_reference *reference = &batch->references.at[output];
    const kiln_type *type = kiln_graph_type(batch->graph, batch->graph->outputs.at[output].value);
    if (!reference->expected) return;
    for (int64_t i = 0; i < type->n_elements; i++) {
        long double found = element_of(type->dtype, values, i);
        if (is_near(reference, type->dtype, i, found)) continue;
        report(counts, batch, "evaluator", batch->graph->outputs.at[output].name, i, (double)found,
               (double)reference->expected[i],
               reference->tolerance ? reference->tolerance[i] : reference->ulps);
        return;
    }
}

/* What is compiled. `same_as` names an earlier variant whose bits this one must have. */
typedef struct ops_variant {
    compiled_variant compiled;
    const char *same_as;
    bool f32_only, is_quick;
} ops_variant;

static const ops_variant variants[] = {
    {{"fused", NULL, 0, 0, 2}, NULL, false, true},
    {{"unfused", NULL, 1, 0, 1}, NULL, false},
    {{"fused, one thread", NULL, 0, 0, 1}, "fused", true},
    {{"fused v3", "x86-64-v3", 0, 0, 2}, NULL, true, true},
    {{"fused v4", "x86-64-v4", 0, 0, 2}, "fused v3", true, true},
    {{"fused x86-64", "x86-64", 0, 0, 1}, NULL, true},
};
#define N_VARIANTS (sizeof variants / sizeof *variants)

typedef struct ops_run {
    tally counts;
    const char *family, *dtype, *variant; /* NULL or "all": every one */
    bool is_quick;
    compiled_contexts contexts;
    uint64_t n_kernels, n_same;
    double compile_seconds;
} ops_run;

static bool is_chosen(const char *choice, const char *name)
{
    return !choice || strcmp(choice, "all") == 0 || strcmp(choice, name) == 0;
}

static const char *output_name(const op_batch *batch, uint32_t i)
{
    return batch->graph->outputs.at[i].name;
}

static void check_compiled(ops_run *run, const op_batch *batch, const bounds *b,
                           const char *variant, const compiled_result *result)
{
    for (uint32_t i = 0; i < batch->graph->outputs.n; i++) {
        kiln_value value = b->map[batch->graph->outputs.at[i].value.id];
        const kiln_type *type = kiln_graph_type(b->graph, value);
        bound_miss miss =
            bound_compare(type, result->outputs[i].data, b->values[value.id], b->errors[value.id]);
        if (miss.index < 0) continue;
        report(&run->counts, batch, variant, output_name(batch, i), miss.index, miss.found,
               miss.expected, miss.bound);
    }
    if (result->overrun >= 0) {
        fprintf(stderr, "%s %s: %s: writes beyond its memory\n", batch->name, variant,
                output_name(batch, (uint32_t)result->overrun));
        run->counts.failures++;
    }
}

/* NaNs may differ in their bits, nothing else. */
static void check_same_bits(ops_run *run, const op_batch *batch, const char *variant,
                            const compiled_result *result, const compiled_result *other)
{
    run->n_same++;
    for (uint32_t i = 0; i < batch->graph->outputs.n; i++) {
        const kiln_type *type = kiln_graph_type(batch->graph, batch->graph->outputs.at[i].value);
        bound_miss miss =
            bound_compare(type, result->outputs[i].data, other->outputs[i].data, NULL);
        if (miss.index < 0) continue;
        report(&run->counts, batch, variant, output_name(batch, i), miss.index, miss.found,
               miss.expected, 0);
    }
}

static void run_variants(ops_run *run, const op_batch *batch, const bounds *b)
{
    compiled_result results[N_VARIANTS] = {0};
    for (uint32_t v = 0; v < N_VARIANTS; v++) {
        const ops_variant *variant = &variants[v];
        const char *cpu = variant->compiled.target_cpu, *name = variant->compiled.name;
        bool is_f32 = batch->dtype == KILN_f32;
        if (!is_chosen(run->variant, name) || (variant->f32_only && !is_f32)) continue;
        if (run->is_quick && (is_f32 ? !variant->is_quick : v > 0)) continue;
        if (cpu && !compiled_can_run(cpu)) continue;
        results[v] = compiled_run(batch->scope, &run->contexts, batch->graph, &variant->compiled,
                                  batch->inputs.at);
        if (results[v].status != KILN_OK) {
            fprintf(stderr, "%s %s: %s: %s\n", batch->name, name,
                    kiln_status_name(results[v].status), results[v].message);
            run->counts.failures++;
            continue;
        }
        run->n_kernels += results[v].n_kernels;
        run->compile_seconds += results[v].compile_seconds;
        check_compiled(run, batch, b, name, &results[v]);
        for (uint32_t other = 0; variant->same_as && other < v; other++) {
            bool is_other = strcmp(variants[other].compiled.name, variant->same_as) == 0;
            if (!is_other || !results[other].outputs) continue;
            check_same_bits(run, batch, name, &results[v], &results[other]);
        }
    }
}

static void run_batch(kiln_scope *scope, ops_run *run, const op_family *member, kiln_dtype dtype)
{
    op_batch batch = {
        .scope = scope, .dtype = dtype, .random = (uint64_t)dtype * 1000 + (uint64_t)*member->name};
    batch.name = kiln_arena_format(&scope->arena, "%s %s", member->name, kiln_dtype_name(dtype));
    batch.graph = kiln_graph_open(scope, NULL, batch.name);
    member->add(&batch);
    if (batch.graph->outputs.n == 0) return;
    const bounds *b = bounds_open(scope, batch.graph, batch.inputs.at, true);
    for (uint32_t i = 0; i < batch.graph->outputs.n; i++) {
        kiln_value value = b->map[batch.graph->outputs.at[i].value.id];
        check_reference(&run->counts, &batch, i, b->values[value.id]);
        run->counts.elements += (uint64_t)kiln_graph_type(b->graph, value)->n_elements;
    }
    run->counts.cases += batch.graph->outputs.n;
    run_variants(run, &batch, b);
}

static void run_one(ops_run *run, const op_family *member, kiln_dtype dtype)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) run_batch(&scope, run, member, dtype);
    if (kiln_scope_close(&scope) == KILN_OK) return;
    fprintf(stderr, "%s %s: %s\n", member->name, kiln_dtype_name(dtype), error.message);
    run->counts.failures++;
}

int main(int argc, char **argv)
{
    ops_run run = {.family = argc > 1 ? argv[1] : NULL,
                   .dtype = argc > 2 ? argv[2] : NULL,
                   .variant = argc > 3 ? argv[3] : NULL};
    run.is_quick = run.family && strcmp(run.family, "quick") == 0;
    if (run.is_quick) run.family = NULL;
    if (!compiled_contexts_open(&run.contexts)) return 1;
    if (!compiled_can_run("x86-64-v4")) puts("skipped: no AVX-512 here to compare x86-64-v4 on");
    for (uint32_t f = 0; f < op_n_families; f++) {
        if (!is_chosen(run.family, op_families[f].name)) continue;
        for (int dtype = KILN_bool; dtype <= KILN_f64; dtype++) {
            if (!is_chosen(run.dtype, kiln_dtype_name((kiln_dtype)dtype))) continue;
            if (run.is_quick && dtype != KILN_f32 && (dtype + (int)f) % 3 != 0) continue;
            run_one(&run, &op_families[f], (kiln_dtype)dtype);
        }
    }
    compiled_contexts_close(&run.contexts);
    printf("%llu cases, %llu elements, %llu kernels compiled in %.1f s, %llu graphs bit for bit "
           "alike, %llu failures\n",
           (unsigned long long)run.counts.cases, (unsigned long long)run.counts.elements,
           (unsigned long long)run.n_kernels, run.compile_seconds, (unsigned long long)run.n_same,
           (unsigned long long)run.counts.failures);
    return run.counts.failures || run.counts.cases == 0;
}
