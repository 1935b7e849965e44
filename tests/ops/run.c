/* The op cases: every family for every dtype as one graph, evaluated and compared with the cases'
 * own references. Arguments select: `ops [family] [dtype]`. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/cases.h"

typedef struct family {
    const char *name;
    op_family_fn *add;
} family;

static const family families[] = {
    {"unary", op_cases_unary},
    {"binary", op_cases_binary},
    {"convert", op_cases_convert},
    {"reduce", op_cases_reduce},
    {"window", op_cases_window},
    {"view", op_cases_view},
    {"move", op_cases_move},
    {"contract", op_cases_contract},
    {"activation", op_cases_activation},
    {"row", op_cases_row},
    {"attention", op_cases_attention},
};

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

static void run_batch(kiln_scope *scope, tally *counts, const family *member, kiln_dtype dtype)
{
    op_batch batch = {
        .scope = scope, .dtype = dtype, .random = (uint64_t)dtype * 1000 + (uint64_t)*member->name};
    batch.name = kiln_arena_format(&scope->arena, "%s %s", member->name, kiln_dtype_name(dtype));
    batch.graph = kiln_graph_open(scope, NULL, batch.name);
    member->add(&batch);
    if (batch.graph->outputs.n == 0) return;
    bounds *b = bounds_open(scope, batch.graph, batch.inputs.at);
    for (uint32_t i = 0; i < batch.graph->outputs.n; i++) {
        kiln_value value = b->map[batch.graph->outputs.at[i].value.id];
        check_reference(counts, &batch, i, b->values[value.id]);
        counts->elements += (uint64_t)kiln_graph_type(b->graph, value)->n_elements;
    }
    counts->cases += batch.graph->outputs.n;
}

static bool run_one(tally *counts, const family *member, kiln_dtype dtype)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) run_batch(&scope, counts, member, dtype);
    if (kiln_scope_close(&scope) == KILN_OK) return true;
    fprintf(stderr, "%s %s: %s\n", member->name, kiln_dtype_name(dtype), error.message);
    counts->failures++;
    return false;
}

int main(int argc, char **argv)
{
    tally counts = {0};
    for (uint32_t f = 0; f < sizeof families / sizeof *families; f++) {
        if (argc > 1 && strcmp(argv[1], families[f].name) != 0) continue;
        for (int dtype = KILN_bool; dtype <= KILN_f64; dtype++) {
            if (argc > 2 && strcmp(argv[2], kiln_dtype_name((kiln_dtype)dtype)) != 0) continue;
            run_one(&counts, &families[f], (kiln_dtype)dtype);
        }
    }
    printf("%llu cases, %llu elements, %llu failures\n", (unsigned long long)counts.cases,
           (unsigned long long)counts.elements, (unsigned long long)counts.failures);
    return counts.failures || counts.cases == 0;
}
