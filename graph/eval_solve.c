/* The evaluator of Cholesky factors and triangular systems, from their definitions in f64. */
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

void kiln_eval_cholesky(const kiln_eval_call *call)
{
    const kiln_type *type = call->node->type;
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

void kiln_eval_forward_solve(const kiln_eval_call *call)
{
    const kiln_type *type = call->node->type;
    solve_run run = {type->dims[type->rank - 2], type->dims[type->rank - 1],
                     call->node->attrs->unit.unit_diagonal};
    int64_t size = run.n * run.m;
    kiln_eval_values a = kiln_eval_load(call, 0), b = kiln_eval_load(call, 1);
    kiln_eval_values x = kiln_eval_values_new(call, type->n_elements);
    for (int64_t i = 0; size > 0 && i < type->n_elements / size; i++)
        solve_matrix(&run, a.f + i * run.n * run.n, b.f + i * size, x.f + i * size);
    kiln_eval_store(call, x, false);
}
