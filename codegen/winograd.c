/* The transforms of Winograd's algorithm: polynomials evaluated at points, products, interpolation.
 * F(2, 3) has the points 0, 1, -1, infinity; F(4, 3) has 0, 1, -1, 1/2, -2, infinity, which round
 * half as badly as those with 2 in the place of 1/2. The order of operations is fixed here, so the
 * bits are the same on every vector width.
 *
 * Barabasz, Anderson, Soodhalter, Gregg: Error Analysis and Improving the Accuracy of Winograd
 * Convolution, 2020. */
#include "codegen/winograd.h"

#include "base/checked.h"
#include "codegen/pack.h"

static kiln_kv plus(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    return kiln_k_binary(k, KILN_K_add, a, b);
}

static kiln_kv minus(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    return kiln_k_binary(k, KILN_K_sub, a, b);
}

/* a * scale + b */
static kiln_kv scaled(kiln_kernel *k, kiln_kv a, double scale, kiln_kv b)
{
    const kiln_instr *like = kiln_kernel_at(k, a);
    kiln_kv factor = kiln_k_const_float(k, (kiln_dtype)like->dtype, like->lanes, scale);
    return kiln_k_fma(k, a, factor, b);
}

static void data_2(kiln_kernel *k, const kiln_kv *in, kiln_kv *out)
{
    out[0] = minus(k, in[0], in[2]);
    out[1] = plus(k, in[1], in[2]);
    out[2] = minus(k, in[2], in[1]);
    out[3] = minus(k, in[3], in[1]);
}

static void sums_2(kiln_kernel *k, const kiln_kv *in, kiln_kv *out)
{
    out[0] = plus(k, in[0], plus(k, in[1], in[2]));
    out[1] = plus(k, in[3], minus(k, in[1], in[2]));
}

/* The rows are  1 -3/2  -2  3/2  1  0      0  1 -5/2  1/2  1  0      0 1/2 -1 -1/2  1  0
 *               0   -1 1/2  5/2  1  0      0 -2   -1    2  1  0      0   1 -3/2 -2 3/2 1 */
static void data_4(kiln_kernel *k, const kiln_kv *in, kiln_kv *out)
{
    kiln_kv even = minus(k, in[4], in[2]), odd = minus(k, in[3], in[1]);
    out[0] = scaled(k, odd, 1.5, plus(k, minus(k, in[0], in[2]), even));
    out[1] = scaled(k, plus(k, in[2], in[3]), 1.5, plus(k, even, odd));
    out[2] = scaled(k, minus(k, in[3], in[2]), 1.5, minus(k, even, odd));
    out[3] = scaled(k, odd, 2, even);
    out[4] = scaled(k, odd, -0.5, even);
    out[5] = scaled(k, even, 1.5, minus(k, minus(k, in[5], in[3]), odd));
}

/* Powers 0 to 3 of the points 0, 1, -1, 1/2, -2; the point at infinity adds to the last. */
static void sums_4(kiln_kernel *k, const kiln_kv *in, kiln_kv *out)
{
    kiln_kv even = plus(k, in[1], in[2]), odd = minus(k, in[1], in[2]);
    out[0] = plus(k, plus(k, in[0], even), plus(k, in[3], in[4]));
    out[1] = scaled(k, in[4], -2, scaled(k, in[3], 0.5, odd));
    out[2] = scaled(k, in[4], 4, scaled(k, in[3], 0.25, even));
    out[3] = scaled(k, in[4], -8, scaled(k, in[3], 0.125, plus(k, odd, in[5])));
}

static const kiln_winograd_rule rules[] = {
    {2, {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}}, data_2, sums_2},
    {4,
     {{1, 0, 0},
      {1.0 / 3, 1.0 / 3, 1.0 / 3},
      {-1.0 / 3, 1.0 / 3, -1.0 / 3},
      {-16.0 / 15, -8.0 / 15, -4.0 / 15},
      {1.0 / 15, -2.0 / 15, 4.0 / 15},
      {0, 0, 1}},
     data_4,
     sums_4},
};

const kiln_winograd_rule *kiln_winograd_find(int64_t side)
{
    return &rules[side == 4];
}

/* 16 columns of one point and input feature. */
typedef struct panel_place {
    const float *dense;
    const kiln_pack_offsets *at; /* k is (3, 3, input feature) */
    int64_t n_in, feature, first, n_columns;
} panel_place;

static void transform_panel(const kiln_winograd_rule *rule, const panel_place *place,
                            double (*out)[KILN_WINOGRAD_REACH][16])
{
    int64_t reach = rule->side + 2;
    double lines[KILN_WINOGRAD_REACH][3][16] = {{{0}}};
    for (int64_t tap = 0; tap < 9; tap++) {
        int64_t row = place->at->batch[0] + place->at->k[tap * place->n_in + place->feature];
        for (int64_t n = 0; n < place->n_columns; n++) {
            double value = place->dense[row + place->at->n[place->first + n]];
            for (int64_t y = 0; y < reach; y++)
                lines[y][tap % 3][n] += rule->kernel[y][tap / 3] * value;
        }
    }
    for (int64_t at = 0; at < reach * reach; at++) {
        int64_t y = at / reach, x = at % reach;
        const double *by = rule->kernel[x];
        for (int64_t n = 0; n < 16; n++)
            out[y][x][n] = by[0] * lines[y][0][n] + by[1] * lines[y][1][n] + by[2] * lines[y][2][n];
    }
}

void kiln_pack_winograd(kiln_scope *scope, const kiln_graph *graph, kiln_operand operand,
                        const void *dense, void *out)
{
    const kiln_node *consumer = kiln_graph_node(graph, operand.consumer);
    const kiln_winograd_rule *rule = kiln_winograd_find(consumer->attrs->conv.winograd);
    kiln_pack_offsets offsets;
    kiln_pack_find_offsets(&scope->arena, graph, operand, &offsets);
    int64_t n_in = offsets.n_k / 9, reach = rule->side + 2;
    int64_t n_panels = kiln_ceil_div(offsets.n_n, 16);
    panel_place place = {.dense = dense, .at = &offsets, .n_in = n_in};
    for (int64_t i = 0; i < n_panels * n_in; i++) {
        double points[KILN_WINOGRAD_REACH][KILN_WINOGRAD_REACH][16];
        place.first = i / n_in * 16;
        place.feature = i % n_in;
        place.n_columns = kiln_min_i64(16, offsets.n_n - place.first);
        transform_panel(rule, &place, points);
        for (int64_t at = 0; at < reach * reach; at++) {
            float *to = (float *)out + ((i / n_in * reach * reach + at) * n_in + i % n_in) * 16;
            for (int64_t n = 0; n < 16; n++) to[n] = (float)points[at / reach][at % reach][n];
        }
    }
}
