/* Isoneutral mixing (Griffies and others, 1998): slopes of the surfaces along which a tracer mixes,
 * at the faces of the cells, and the diffusivities that they bring. */
#include "benchmarks/ocean.h"

typedef struct pair {
    kiln_value of[2];
} pair;

typedef struct fields {
    pair density;      /* derivatives of density by heat and by salt */
    pair gradients[3]; /* of heat and salt along each axis, at the upper faces */
    kiln_value k_iso, masks[3], dzw, dzt;
} fields;

typedef struct tapered {
    kiln_value slope, taper; /* of a surface, and how much of it counts where it is steep */
} tapered;

static tapered taper_of(kiln_graph *g, kiln_value across, kiln_value upward)
{
    kiln_value steep = plus(g, at_most(g, upward, 0), -1e-20);
    kiln_value slope = kiln_div(g, kiln_neg(g, across), steep);
    kiln_value rest = kiln_sub(g, number(g, 1e-3), kiln_abs(g, slope));
    kiln_value taper = kiln_tanh(g, kiln_div(g, rest, number(g, 1e-3)));
    return (tapered){slope, scale(g, 0.5, plus(g, taper, 1))};
}

static kiln_value dot(kiln_graph *g, pair a, pair b)
{
    return kiln_add(g, kiln_mul(g, a.of[0], b.of[0]), kiln_mul(g, a.of[1], b.of[1]));
}

/* Part of a field: planes from `low` to `high` before the end along a horizontal axis, inner along
 * the other. */
typedef struct box {
    int axis;
    int64_t low, high, top, bottom;
} box;

static kiln_value cut(kiln_graph *g, kiln_value x, box b)
{
    planes low = {{2, 2, b.top}}, high = {{2, 2, b.bottom}};
    low.of[b.axis] = b.low;
    high.of[b.axis] = b.high;
    return trim(g, x, low, high);
}

static pair cut_both(kiln_graph *g, pair x, box b)
{
    return (pair){{cut(g, x.of[0], b), cut(g, x.of[1], b)}};
}

static kiln_value gradient(kiln_graph *g, kiln_value x, int axis, kiln_value mask,
                           kiln_value distance)
{
    planes last = along(axis, 1);
    kiln_value step = kiln_mul(g, trim(g, mask, NONE, last), step_along(g, x, axis));
    return widen(g, kiln_div(g, step, trim(g, distance, NONE, last)), NONE, last);
}

static kiln_value store_slope(kiln_graph *g, kiln_value slopes, const int64_t *starts, tapered x,
                              kiln_value wet)
{
    kiln_value block = kiln_mul(g, kiln_mul(g, x.taper, x.slope), wet);
    return put(g, slopes, starts, deepen(g, block, 2));
}

/* The mean of the four values around each face. */
static kiln_value side_diffusivity(kiln_graph *g, kiln_value k_iso, int axis)
{
    kiln_value both = kiln_add(g, around(g, k_iso, axis, 1, 2), around(g, k_iso, axis, 2, 1));
    int64_t nz = kiln_value_dims(g, both)[2];
    kiln_value parts[] = {trim(g, both, NONE, along(2, nz - 1)), trim(g, both, NONE, along(2, 1))};
    return scale(g, 0.25, kiln_add(g, both, kiln_concat(g, 2, parts, 2)));
}

static void side_mixing(kiln_graph *g, int axis, const fields *x, kiln_value *k, kiln_value *slopes)
{
    kiln_value diffusivity = side_diffusivity(g, x->k_iso, axis), total = number(g, 0);
    for (int below = 0; below < 2; below++) {
        int64_t top = 1 - below;
        kiln_value wet = cut(g, x->masks[axis], (box){axis, 1, 2, top, 0});
        pair sideways = cut_both(g, x->gradients[axis], (box){axis, 1, 2, top, 0});
        for (int side = 0; side < 2; side++) {
            pair rho = cut_both(g, x->density, (box){axis, 1 + side, 2 - side, top, 0});
            pair upward = cut_both(g, x->gradients[2], (box){axis, 1 + side, 2 - side, 0, top});
            tapered s = taper_of(g, dot(g, rho, sideways), dot(g, rho, upward));
            kiln_value strength = kiln_mul(g, trim(g, diffusivity, along(2, top), NONE), s.taper);
            kiln_value weight = kiln_mul(g, trim(g, x->dzw, NONE, along(2, top)), wet);
            weight = kiln_mul(g, weight, at_least(g, strength, 50));
            total = kiln_add(g, total, widen(g, weight, along(2, top), NONE));
            int64_t starts[] = {2 - (axis == 0), 2 - (axis == 1), top, side, below};
            *slopes = store_slope(g, *slopes, starts, s, wet);
        }
    }
    int64_t starts[] = {2 - (axis == 0), 2 - (axis == 1), 0};
    *k = put(g, *k, starts, kiln_div(g, total, scale(g, 4, x->dzt)));
}

static kiln_value top_mixing(kiln_graph *g, int axis, const fields *x, kiln_value width,
                             kiln_value *slopes)
{
    kiln_value total = number(g, 0), wet = inner(g, x->masks[2], 0, 1);
    kiln_value k_iso = inner(g, x->k_iso, 0, 1);
    pair upward = cut_both(g, x->gradients[2], (box){axis, 2, 2, 0, 1});
    for (int below = 0; below < 2; below++) {
        pair rho = cut_both(g, x->density, (box){axis, 2, 2, below, 1 - below});
        for (int side = 0; side < 2; side++) {
            box b = {axis, 1 + side, 3 - side, below, 1 - below};
            pair sideways = cut_both(g, x->gradients[axis], b);
            tapered s = taper_of(g, dot(g, rho, sideways), dot(g, rho, upward));
            kiln_value term = kiln_mul(g, around(g, width, axis, 1 + side, 3 - side), k_iso);
            term = kiln_mul(g, kiln_mul(g, term, s.taper), kiln_square(g, s.slope));
            total = kiln_add(g, total, kiln_mul(g, term, wet));
            int64_t starts[] = {2, 2, 0, side, below};
            *slopes = store_slope(g, *slopes, starts, s, wet);
        }
    }
    return total;
}

/* The derivatives of a linear equation of state with thermobaric expansion. */
static pair density_of(kiln_graph *g, kiln_value mask, kiln_value heat, kiln_value depth)
{
    kiln_value pressed = plus(g, scale(g, 1.1e-8 * 9.81 * 1024, kiln_abs(g, depth)), 1);
    kiln_value by_heat = scale(g, 1e-5, plus(g, heat, -9.85));
    by_heat = kiln_add(g, by_heat, scale(g, 1.67e-4, pressed));
    return (pair){{kiln_mul(g, mask, scale(g, -1024, by_heat)), scale(g, 0.78e-3 * 1024, mask)}};
}

static kiln_value slopes_input(kiln_graph *g, const char *name, grid shape)
{
    int64_t dims[] = {shape.dims[0], shape.dims[1], shape.dims[2], 2, 2};
    return kiln_input(g, name, KILN_f64, 5, dims);
}

void build_isoneutral_mixing(kiln_graph *g, int64_t size)
{
    static const char *const mask_names[] = {"mask_u", "mask_v", "mask_w"};
    grid n = grid_of(size);
    fields x = {.k_iso = field(g, "k_iso", n)};
    kiln_value mask_t = field(g, "mask_t", n);
    for (int i = 0; i < 3; i++) x.masks[i] = field(g, mask_names[i], n);
    kiln_value dxt = metric(g, "dxt", n, 0), dxu = metric(g, "dxu", n, 0);
    kiln_value dyt = metric(g, "dyt", n, 1), dyu = metric(g, "dyu", n, 1);
    x.dzt = metric(g, "dzt", n, 2), x.dzw = metric(g, "dzw", n, 2);
    kiln_value cost = metric(g, "cost", n, 1), cosu = metric(g, "cosu", n, 1);
    kiln_value k11 = field(g, "k11", n), k22 = field(g, "k22", n), k33 = field(g, "k33", n);
    kiln_value ez = slopes_input(g, "ez", n), nz = slopes_input(g, "nz", n);
    kiln_value bx = slopes_input(g, "bx", n), by = slopes_input(g, "by", n);
    kiln_value heat = part(g, field_of_three(g, "heat", n), 0);
    kiln_value salt = part(g, field_of_three(g, "salt", n), 0);
    kiln_value distances[] = {kiln_mul(g, dxu, cost), dyu, x.dzw};
    x.density = density_of(g, mask_t, heat, metric(g, "zt", n, 2));
    for (int i = 0; i < 3; i++) {
        x.gradients[i].of[0] = gradient(g, heat, i, x.masks[i], distances[i]);
        x.gradients[i].of[1] = gradient(g, salt, i, x.masks[i], distances[i]);
    }
    side_mixing(g, 0, &x, &k11, &ez);
    side_mixing(g, 1, &x, &k22, &nz);
    kiln_value sum_x = top_mixing(g, 0, &x, dxu, &bx);
    kiln_value sum_y = top_mixing(g, 1, &x, kiln_mul(g, cosu, dyu), &by);
    kiln_value area = kiln_mul(g, scale(g, 4, inner(g, dyt, 0, 0)), inner(g, cost, 0, 0));
    sum_x = kiln_div(g, sum_x, scale(g, 4, inner(g, dxt, 0, 0)));
    kiln_value both = kiln_add(g, sum_x, kiln_div(g, sum_y, area));
    k33 = put(g, k33, (int64_t[]){2, 2, 0}, widen(g, both, NONE, along(2, 1)));
    const char *const names[] = {"k11", "k22", "k33", "ez", "nz", "bx", "by"};
    kiln_value results[] = {k11, k22, k33, ez, nz, bx, by};
    for (int i = 0; i < 7; i++) kiln_output(g, names[i], results[i]);
}
