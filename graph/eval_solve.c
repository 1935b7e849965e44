/* The evaluator of Cholesky factors and triangular systems, from their definitions in f64. */
#include <complex.h>
#include <math.h>

#include "graph/eval.h"

/* L[i][j] = (a[i][j] - sum over k < j of L[i][k] L[j][k]) / L[j][j], the root on the diagonal. */
static void factor_matrix(int64_t n, const double *a, double *out)
{
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = j; i < n; i++) {
            double rest = a[i * n + j];
            for (int64_t k = 0; k < j; k++) rest -= out[i * n + k] * out[j * n + k];
            out[i * n + j] = i == j ? sqrt(rest) : rest / out[j * n + j];
        }
    }
}

static double complex *load_complex(const kiln_eval_call *call, uint32_t operand)
{
    const kiln_type *type = call->types[operand];
    double complex *values = kiln_new_array(call->scratch, double complex, type->n_elements + 1);
    for (int64_t i = 0; i < type->n_elements; i++)
        kiln_element_load_double(kiln_dtype_part(type->dtype), call->in[operand], 2 * i, 2,
                                 (double *)&values[i]);
    return values;
}

static void store_complex(const kiln_eval_call *call, const double complex *values)
{
    const kiln_type *type = call->node->type;
    for (int64_t i = 0; i < type->n_elements; i++)
        kiln_element_store_double(kiln_dtype_part(type->dtype), call->out, 2 * i, 2,
                                  (const double *)&values[i]);
}

/* The same with conjugates of L[j][k]; the diagonal is real. */
static void factor_complex(int64_t n, const double complex *a, double complex *out)
{
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = j; i < n; i++) {
            double complex rest = i == j ? creal(a[i * n + j]) : a[i * n + j];
            for (int64_t k = 0; k < j; k++) rest -= out[i * n + k] * conj(out[j * n + k]);
            out[i * n + j] = i == j ? sqrt(creal(rest)) : rest / creal(out[j * n + j]);
        }
    }
}

static void cholesky_complex(const kiln_eval_call *call)
{
    const kiln_type *type = call->node->type;
    int64_t n = type->dims[type->rank - 1];
    double complex *a = load_complex(call, 0);
    double complex *out = kiln_new_array(call->scratch, double complex, type->n_elements + 1);
    for (int64_t at = 0; at < type->n_elements; at += n * n) factor_complex(n, a + at, out + at);
    store_complex(call, out);
}

void kiln_eval_cholesky(const kiln_eval_call *call)
{
    const kiln_type *type = call->node->type;
    if (kiln_dtype_in(type->dtype, KILN_TYPES_COMPLEX)) {
        cholesky_complex(call);
        return;
    }
    int64_t n = type->rank ? type->dims[type->rank - 1] : 0;
    kiln_eval_values a = kiln_eval_load(call, 0),
                     out = kiln_eval_values_new(call, type->n_elements);
    for (int64_t at = 0; at < type->n_elements; at += n * n) factor_matrix(n, a.f + at, out.f + at);
    kiln_eval_store(call, out, false);
}

typedef struct solve_run {
    int64_t n, m;
    bool is_unit;
} solve_run;

static void solve_matrix(const solve_run *run, const double *a, const double *b, double *x)
{
    for (int64_t i = 0; i < run->n; i++) {
        for (int64_t c = 0; c < run->m; c++) {
            double rest = b[i * run->m + c];
            for (int64_t k = 0; k < i; k++) rest -= a[i * run->n + k] * x[k * run->m + c];
            x[i * run->m + c] = run->is_unit ? rest : rest / a[i * run->n + i];
        }
    }
}

static void solve_complex(const solve_run *run, const double complex *a, const double complex *b,
                          double complex *x)
{
    for (int64_t i = 0; i < run->n; i++) {
        for (int64_t c = 0; c < run->m; c++) {
            double complex rest = b[i * run->m + c];
            for (int64_t k = 0; k < i; k++) rest -= a[i * run->n + k] * x[k * run->m + c];
            x[i * run->m + c] = run->is_unit ? rest : rest / a[i * run->n + i];
        }
    }
}

static void forward_solve_complex(const kiln_eval_call *call, const solve_run *run)
{
    const kiln_type *type = call->node->type;
    int64_t size = run->n * run->m;
    double complex *a = load_complex(call, 0), *b = load_complex(call, 1);
    double complex *x = kiln_new_array(call->scratch, double complex, type->n_elements + 1);
    for (int64_t i = 0; size > 0 && i < type->n_elements / size; i++)
        solve_complex(run, a + i * run->n * run->n, b + i * size, x + i * size);
    store_complex(call, x);
}

void kiln_eval_forward_solve(const kiln_eval_call *call)
{
    const kiln_type *type = call->node->type;
    solve_run run = {type->dims[type->rank - 2], type->dims[type->rank - 1],
                     call->node->attrs->unit.unit_diagonal};
    int64_t size = run.n * run.m;
    if (kiln_dtype_in(type->dtype, KILN_TYPES_COMPLEX)) {
        forward_solve_complex(call, &run);
        return;
    }
    kiln_eval_values a = kiln_eval_load(call, 0), b = kiln_eval_load(call, 1);
    kiln_eval_values x = kiln_eval_values_new(call, type->n_elements);
    for (int64_t i = 0; size > 0 && i < type->n_elements / size; i++)
        solve_matrix(&run, a.f + i * run.n * run.n, b.f + i * size, x.f + i * size);
    kiln_eval_store(call, x, false);
}
