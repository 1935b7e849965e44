/* Operations over complex values that are more than elementwise, against NumPy's values, evaluated
 * and compiled: convolution, regions, order, systems of equations, Fourier transforms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/complex_values.h"
#include "tests/unit/layer_bench.h"

#define BUILD(name) static void build_##name(kiln_graph *g)
#define MOST_RANK 5

/* Parts sin(0.7 i + seed) and sin(0.7 i + seed + 0.5). */
static kiln_value input(kiln_graph *g, double seed, uint32_t rank, const int64_t *dims)
{
    kiln_value re = layer_input(g, seed, rank, dims);
    return kiln_complex(g, re, layer_input(g, seed + 0.5, rank, dims));
}
#define IN(seed, ...) input(g, seed, DIMS(__VA_ARGS__))

static kiln_value number(kiln_graph *g, double re, double im)
{
    return kiln_constant(g, KILN_c64, 0, NULL, (float[]){(float)re, (float)im});
}

/* As pairs on a new last axis. */
static void out(kiln_graph *g, kiln_value a)
{
    int64_t dims[MOST_RANK + 1];
    uint32_t rank = kiln_value_rank(g, a);
    for (uint32_t i = 0; i < rank && i < MOST_RANK; i++) dims[i] = kiln_value_dims(g, a)[i];
    dims[rank] = 1;
    kiln_value parts[] = {kiln_reshape(g, kiln_real(g, a), rank + 1, dims),
                          kiln_reshape(g, kiln_imag(g, a), rank + 1, dims)};
    kiln_output(g, NULL, kiln_concat(g, 2, parts, -1));
}

typedef kiln_value pair_fn(kiln_graph *graph, kiln_value a, kiln_value b);

static kiln_graph *region(pair_fn *fn)
{
    kiln_graph *made;
    assert_int_equal(kiln_graph_create(layer_context(), "pair", &made), KILN_OK);
    kiln_value a = kiln_input(made, "a", KILN_c64, 0, NULL);
    kiln_output(made, NULL, fn(made, a, kiln_input(made, "b", KILN_c64, 0, NULL)));
    return made;
}

BUILD(convolution)
{
    int64_t twos[] = {2, 2}, ones[] = {1, 1};
    kiln_conv_options options = {.strides = twos, .low = ones, .high = ones};
    kiln_value a = IN(0, 1, 2, 5, 5);
    out(g, kiln_convolution(g, a, IN(1, 3, 2, 3, 3), &options));
}

BUILD(largest)
{
    kiln_graph *larger = region(kiln_max);
    kiln_value a = IN(2, 3, 4), least = number(g, -9, 0);
    kiln_reduce_options options = {larger, 1, &a, &least, 1, (int64_t[]){1}};
    out(g, kiln_item(g, kiln_reduce(g, &options), 0));
    kiln_graph_destroy(larger);
}

/* Rounded to halves, so that some are alike. */
static kiln_value halves(kiln_graph *g)
{
    kiln_value a = IN(3, 12), two = kiln_scalar(g, KILN_f32, 2), parts[2];
    parts[0] = kiln_div(g, kiln_round_even(g, kiln_mul(g, kiln_real(g, a), two)), two);
    parts[1] = kiln_div(g, kiln_round_even(g, kiln_mul(g, kiln_imag(g, a), two)), two);
    return kiln_complex(g, parts[0], parts[1]);
}

BUILD(sorted)
{
    kiln_graph *less = region(kiln_lt);
    kiln_value a = halves(g);
    out(g, kiln_item(g, kiln_sort_by(g, less, &(kiln_arguments){1, &a}, 0), 0));
    kiln_graph_destroy(less);
}

BUILD(compared)
{
    kiln_value a = halves(g);
    kiln_slice_options head = {.limits = (int64_t[]){11}}, tail = {.starts = (int64_t[]){11}};
    kiln_value parts[] = {kiln_slice(g, a, &tail), kiln_slice(g, a, &head)};
    kiln_value b = kiln_concat(g, 2, parts, 0);
    out(g, kiln_select(g, kiln_ge(g, a, b), a, b));
    out(g, kiln_min(g, a, b));
}

BUILD(windows)
{
    pair_fn *const fns[] = {kiln_mul, kiln_add};
    kiln_value a = IN(4, 6), padding = number(g, 0.5, 1);
    int64_t one = 1, three = 3;
    for (int i = 0; i < 2; i++) {
        kiln_graph *both = region(fns[i]);
        kiln_pad_options around = {.low = &one, .high = &one};
        kiln_value wide = kiln_pad(g, a, padding, &around), zero = number(g, i ? 0 : 1, 0);
        kiln_reduce_window_options options = {
            .region = both, .n = 1, .values = &wide, .initial = &zero, .sizes = &three};
        out(g, kiln_item(g, kiln_reduce_window(g, &options), 0));
        kiln_graph_destroy(both);
    }
}

BUILD(scattered)
{
    kiln_graph *product = region(kiln_mul);
    kiln_value u = IN(5, 4), t = IN(6, 3);
    kiln_value at = kiln_constant(g, KILN_i64, DIMS(4), (int64_t[]){2, 0, 0, 1});
    kiln_scatter_options options = {.n_inserted = 1,
                                    .inserted_axes = (int64_t[]){0},
                                    .n_map = 1,
                                    .start_map = (int64_t[]){0},
                                    .index_axis = 1};
    out(g, kiln_scatter_add(g, t, at, u, &options));
    kiln_value tuple = kiln_scatter_with(g, product, (kiln_value[]){t, at, u}, &options);
    out(g, kiln_item(g, tuple, 0));
    kiln_graph_destroy(product);
}

BUILD(selected)
{
    kiln_graph *larger = region(kiln_ge), *sum = region(kiln_add);
    kiln_value a = IN(7, 6);
    int64_t two = 2;
    kiln_select_and_scatter_options options = {.select = larger,
                                               .scatter = sum,
                                               .sizes = &two,
                                               .strides = &two,
                                               .source = IN(8, 3),
                                               .initial = number(g, 0.25, -1)};
    out(g, kiln_item(g, kiln_select_and_scatter(g, a, &options), 0));
    kiln_graph_destroy(larger);
    kiln_graph_destroy(sum);
}

static kiln_value adjoint(kiln_graph *g, kiln_value a)
{
    return kiln_conj(g, kiln_transpose(g, a, (int64_t[]){0, 2, 1}));
}

/* The unit matrix times `scale`. */
static kiln_value diagonal(kiln_graph *g, double scale)
{
    kiln_value is_on =
        kiln_eq(g, kiln_iota(g, KILN_i32, DIMS(3, 3), 0), kiln_iota(g, KILN_i32, DIMS(3, 3), 1));
    kiln_value zero = number(g, 0, 0);
    return kiln_select(g, is_on, number(g, scale, 0), zero);
}

BUILD(cholesky)
{
    kiln_value m = IN(9, 2, 3, 3);
    kiln_dot_options options = {.n_batch = 1,
                                .n_contract = 1,
                                .lhs_batch = (int64_t[]){0},
                                .rhs_batch = (int64_t[]){0},
                                .lhs_contract = (int64_t[]){2},
                                .rhs_contract = (int64_t[]){1}};
    kiln_value h = kiln_dot_general(g, m, adjoint(g, m), &options);
    h = kiln_add(g, h, diagonal(g, 0.5));
    out(g, kiln_cholesky(g, h, 1));
    out(g, kiln_cholesky(g, h, 0));
}

BUILD(solved)
{
    kiln_value m = kiln_add(g, IN(9, 2, 3, 3), diagonal(g, 2)), b = IN(10, 2, 3, 2);
    kiln_triangular_options upper = {.upper = 1};
    out(g, kiln_triangular_solve(g, m, b, NULL));
    kiln_value is_low =
        kiln_ge(g, kiln_iota(g, KILN_i32, DIMS(3, 3), 0), kiln_iota(g, KILN_i32, DIMS(3, 3), 1));
    m = kiln_select(g, is_low, m, number(g, 7, 7)); /* what is above is not read */
    out(g, kiln_triangular_solve(g, adjoint(g, m), b, &upper));
}

BUILD(fourier)
{
    kiln_value a = IN(11, 2, 6, 5);
    out(g, kiln_fft(g, a, 2, (int64_t[]){1, -1}, 0));
    out(g, kiln_fft(g, a, 1, (int64_t[]){1}, 1));
}

BUILD(real_fourier)
{
    int64_t axes[] = {1, 2};
    kiln_value y = kiln_rfft(g, layer_input(g, 12, DIMS(3, 4, 6)), 2, axes);
    out(g, y);
    kiln_output(g, NULL, kiln_irfft(g, y, 2, axes, 6));
}

BUILD(odd_fourier)
{
    int64_t last = -1;
    kiln_slice_options five = {.limits = (int64_t[]){3, 4, 5}};
    kiln_value a = kiln_slice(g, layer_input(g, 12, DIMS(3, 4, 6)), &five);
    kiln_value y = kiln_rfft(g, a, 1, &last);
    out(g, y);
    kiln_output(g, NULL, kiln_irfft(g, y, 1, &last, 5));
}

BUILD(functions)
{
    kiln_value p = IN(13, 6), q = IN(14, 6);
    out(g, kiln_atan2(g, p, q));
    out(g, kiln_cbrt(g, p));
}

BUILD(clamped)
{
    out(g, kiln_clamp(g, number(g, -0.2, 0.3), IN(13, 6), number(g, 0.4, -0.1)));
}

static void test_complex_operations_are_those_of_numpy(void **state)
{
    static const layer_case cases[] = {
        LAYER_CASE(convolution), LAYER_CASE(largest),      LAYER_CASE(sorted),
        LAYER_CASE(compared),    LAYER_CASE(windows),      LAYER_CASE(scattered),
        LAYER_CASE(selected),    LAYER_CASE(cholesky),     LAYER_CASE(solved),
        LAYER_CASE(fourier),     LAYER_CASE(real_fourier), LAYER_CASE(odd_fourier),
        LAYER_CASE(functions),   LAYER_CASE(clamped),
    };
    layer_check(cases, sizeof cases / sizeof *cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_complex_operations_are_those_of_numpy),
    };
    return cmocka_run_group_tests(tests, layer_set_up, layer_tear_down);
}
