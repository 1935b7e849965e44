/* Cases of Cholesky factors and triangular systems: well-conditioned matrices of several sizes,
 * also empty and of one element. References follow the definition. */
#include <math.h>

#include "graph/element.h"
#include "ops/cases.h"

/* An input that is its own transpose with a heavy diagonal, or a triangle of it. */
static kiln_value heavy_input(op_batch *batch, int64_t n_batch, int64_t n, bool is_symmetric)
{
    kiln_value a = op_input(batch, batch->dtype, OP_DIMS(n_batch, n, n), OP_VALUES_SMALL);
    char *data = (char *)op_data(batch, a);
    for (int64_t at = 0; at < n_batch * n * n; at++) {
        int64_t i = at / n % n, j = at % n, base = at - i * n - j;
        double value = (double)op_element(batch, a, at) / 4;
        if (is_symmetric && j > i) continue;
        if (i == j) value = (double)n + 1;
        kiln_element_store_double(batch->dtype, data, at, 1, &value);
        if (is_symmetric)
            kiln_element_store_double(batch->dtype, data, base + j * n + i, 1, &value);
    }
    return a;
}

/* Each element of the factor from the definition, in long double. */
static void add_cholesky(op_batch *batch, int64_t n_batch, int64_t n)
{
    kiln_value a = heavy_input(batch, n_batch, n, true);
    op_reference reference = op_reference_new(batch, n_batch * n * n, 0);
    long double *out = reference.expected;
    double roundoff = batch->dtype == KILN_f64 ? 0x1p-53 : 0x1p-24;
    reference.tolerance = kiln_new_array(&batch->scope->arena, double, n_batch *n *n + 1);
    for (int64_t base = 0; base < n_batch * n * n; base += n * n) {
        for (int64_t at = 0; at < n * n; at++) {
            int64_t i = at % n, j = at / n;
            long double rest = op_element(batch, a, base + i * n + j);
            reference.tolerance[base + at] = 16 * roundoff * (double)(n + 1);
            if (i < j) continue;
            for (int64_t k = 0; k < j; k++) rest -= out[base + i * n + k] * out[base + j * n + k];
            out[base + i * n + j] = i == j ? sqrtl(rest) : rest / out[base + j * n + j];
        }
    }
    op_case(batch, op_node(batch, KILN_OP_cholesky, 1, &a, NULL), "", &reference);
}

static void add_solves(op_batch *batch, int64_t n_batch, int64_t n, int64_t m)
{
    kiln_value a = heavy_input(batch, n_batch, n, false);
    kiln_value below = op_input(batch, batch->dtype, OP_DIMS(n_batch, n, m), OP_VALUES_SMALL);
    kiln_value beside = op_input(batch, batch->dtype, OP_DIMS(n_batch, m, n), OP_VALUES_SMALL);
    kiln_attrs unit = {KILN_FAMILY_unit, .unit = {false}};
    kiln_value lower[] = {a, below};
    op_case(batch, op_node(batch, KILN_OP_forward_solve, 2, lower, &unit), "", NULL);
    for (int i = 0; i < 8; i++) {
        bool is_left = i & 1;
        kiln_attrs attrs = {KILN_FAMILY_triangular,
                            .triangular = {is_left, (i & 2) != 0, (i & 4) != 0, false}};
        kiln_value pair[] = {a, is_left ? below : beside};
        const char *variant = is_left ? "left" : "right";
        op_case(batch, op_node(batch, KILN_OP_triangular_solve, 2, pair, &attrs), variant, NULL);
    }
}

void op_cases_solve(op_batch *batch)
{
    if (kiln_dtype_kind_of(batch->dtype) != KILN_DTYPE_KIND_FLOAT) return;
    add_cholesky(batch, 2, 5);
    add_cholesky(batch, 1, 37);
    add_cholesky(batch, 3, 1);
    add_cholesky(batch, 2, 0);
    add_solves(batch, 2, 5, 3);
    add_solves(batch, 1, 33, 100);
    add_solves(batch, 2, 3, 0);
}
