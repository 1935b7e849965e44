/* Turbulent kinetic energy, one step in time: implicit vertical mixing and dissipation (tridiagonal
 * systems in every column), lateral diffusion, superbee advection, Adams-Bashforth stepping. */
#include "benchmarks/ocean.h"

typedef struct world {
    grid n;
    kiln_value u, v, w, tke, dtke, masks[3];
    kiln_value dxt, dxu, dyt, dyu, dzt, dzw, cost, cosu;
    kiln_value kappa, mxl, forcing, bottom, surface;
    kiln_value now, after;    /* tke at two times */
    kiln_value depth;         /* dzw, half of it at the surface */
    kiln_value level, is_top; /* of z */
} world;

static world open_world(kiln_graph *g, int64_t size)
{
    grid n = grid_of(size);
    int64_t flat[] = {n.dims[0], n.dims[1], 1}, levels[] = {1, 1, n.dims[2]};
    world x = {.n = n, .u = field_of_three(g, "u", n), .v = field_of_three(g, "v", n)};
    x.w = field_of_three(g, "w", n);
    x.tke = field_of_three(g, "tke", n), x.dtke = field_of_three(g, "dtke", n);
    x.masks[0] = field(g, "mask_u", n), x.masks[1] = field(g, "mask_v", n);
    x.masks[2] = field(g, "mask_w", n);
    x.dxt = metric(g, "dxt", n, 0), x.dxu = metric(g, "dxu", n, 0);
    x.dyt = metric(g, "dyt", n, 1), x.dyu = metric(g, "dyu", n, 1);
    x.dzt = metric(g, "dzt", n, 2), x.dzw = metric(g, "dzw", n, 2);
    x.cost = metric(g, "cost", n, 1), x.cosu = metric(g, "cosu", n, 1);
    x.kappa = field(g, "kappa", n), x.mxl = field(g, "mxl", n);
    x.forcing = field(g, "forcing", n);
    x.bottom = kiln_input(g, "bottom", KILN_i64, 3, flat);
    x.surface = kiln_input(g, "surface", KILN_f64, 3, flat);
    x.now = part(g, x.tke, 0), x.after = part(g, x.tke, 1);
    x.level = kiln_iota(g, KILN_i64, 3, levels, 2);
    x.is_top = kiln_eq(g, x.level, kiln_scalar(g, KILN_i64, (double)n.dims[2] - 1));
    x.depth = kiln_select(g, x.is_top, scale(g, 0.5, x.dzw), x.dzw);
    return x;
}

enum { MAX_LEVELS = 64 };

static kiln_value level_of(kiln_graph *g, kiln_value x, int64_t level)
{
    int64_t n = kiln_value_dims(g, x)[2];
    return trim(g, x, along(2, level), along(2, n - 1 - level));
}

typedef struct systems {
    kiln_value a, b, c, d; /* one tridiagonal matrix and right side for each column of the grid */
} systems;

/* Thomas's algorithm, level by level. */
static kiln_value solve_columns(kiln_graph *g, systems s, int64_t n_levels)
{
    kiln_value upper[MAX_LEVELS], right[MAX_LEVELS];
    for (int64_t k = 0; k < n_levels; k++) {
        kiln_value pivot = level_of(g, s.b, k), d = level_of(g, s.d, k);
        if (k > 0) {
            kiln_value a = level_of(g, s.a, k);
            pivot = kiln_sub(g, pivot, kiln_mul(g, a, upper[k - 1]));
            d = kiln_sub(g, d, kiln_mul(g, a, right[k - 1]));
        }
        upper[k] = kiln_div(g, level_of(g, s.c, k), pivot);
        right[k] = kiln_div(g, d, pivot);
    }
    for (int64_t k = n_levels - 1; k-- > 0;)
        right[k] = kiln_sub(g, right[k], kiln_mul(g, upper[k], right[k + 1]));
    return kiln_concat(g, (uint32_t)n_levels, right, 2);
}

/* In the inner box; `after` stays under the ground. */
static kiln_value vertical_mixing(kiln_graph *g, const world *x)
{
    int64_t n = x->n.dims[2];
    planes one = along(2, 1);
    kiln_value kappa = inner(g, x->kappa, 0, 0), zero = number(g, 0);
    kiln_value ground = inner(g, x->bottom, 0, 0);
    ground = kiln_sub(g, ground, kiln_scalar(g, KILN_i64, 1));
    kiln_value both = kiln_add(g, trim(g, kappa, NONE, one), trim(g, kappa, one, NONE));
    kiln_value rate = kiln_div(g, number(g, 0.5), trim(g, x->dzt, one, NONE));
    kiln_value delta = widen(g, kiln_mul(g, rate, both), NONE, one);
    kiln_value below = widen(g, trim(g, delta, NONE, one), one, NONE);
    kiln_value decay = kiln_sqrt(g, at_least(g, inner(g, x->now, 0, 0), 0));
    decay = kiln_div(g, scale(g, 0.7, decay), inner(g, x->mxl, 0, 0));
    kiln_value gain = kiln_div(g, inner(g, x->surface, 0, 0), level_of(g, x->depth, n - 1));
    kiln_value is_edge = kiln_eq(g, x->level, ground);
    kiln_value is_land = kiln_lt(g, ground, kiln_scalar(g, KILN_i64, 0));
    kiln_value is_dry = kiln_or(g, is_land, kiln_lt(g, x->level, ground));
    kiln_value a = kiln_div(g, kiln_neg(g, below), x->depth);
    kiln_value b = plus(g, kiln_div(g, kiln_add(g, delta, below), x->depth), 1);
    kiln_value b_edge = plus(g, kiln_div(g, delta, x->dzw), 1);
    kiln_value c = kiln_div(g, kiln_neg(g, delta), x->dzw);
    kiln_value d = kiln_add(g, inner(g, x->now, 0, 0), inner(g, x->forcing, 0, 0));
    d = kiln_add(g, d, widen(g, gain, along(2, n - 1), NONE));
    b = kiln_add(g, kiln_select(g, is_edge, b_edge, b), decay);
    systems s = {
        .a = kiln_select(g, kiln_or(g, is_dry, is_edge), zero, a),
        .b = kiln_select(g, is_dry, number(g, 1), b),
        .c = kiln_select(g, is_dry, zero, c),
        .d = kiln_select(g, is_dry, zero, d),
    };
    return kiln_select(g, is_dry, inner(g, x->after, 0, 0), solve_columns(g, s, n));
}

static kiln_value divergence(kiln_graph *g, const world *x, kiln_value east, kiln_value north)
{
    kiln_value cost = inner(g, x->cost, 0, 0);
    east = kiln_div(g, step_along(g, east, 0), kiln_mul(g, cost, inner(g, x->dxt, 0, 0)));
    north = kiln_div(g, step_along(g, north, 1), kiln_mul(g, cost, inner(g, x->dyt, 0, 0)));
    return kiln_mul(g, inner(g, x->masks[2], 0, 0), kiln_add(g, east, north));
}

static kiln_value faces(kiln_graph *g, kiln_value x, int axis)
{
    return around(g, x, axis, 1, 2);
}

static kiln_value diffusion(kiln_graph *g, const world *x)
{
    kiln_value east = kiln_sub(g, around(g, x->now, 0, 2, 1), faces(g, x->now, 0));
    east = kiln_div(g, scale(g, 2000, east),
                    kiln_mul(g, inner(g, x->cost, 0, 0), faces(g, x->dxu, 0)));
    east = kiln_mul(g, east, faces(g, x->masks[0], 0));
    kiln_value north = kiln_sub(g, around(g, x->now, 1, 2, 1), faces(g, x->now, 1));
    north = kiln_div(g, scale(g, 2000, north), faces(g, x->dyu, 1));
    north = kiln_mul(g, kiln_mul(g, north, faces(g, x->masks[1], 1)), faces(g, x->cosu, 1));
    return divergence(g, x, east, north);
}

/* What flows along an axis: faces are `width` wide, cells `distance` apart. */
typedef struct flow {
    int axis;
    kiln_value velocity, width, x, mask, distance;
} flow;

static kiln_value at(kiln_graph *g, kiln_value x, int axis, int64_t shift)
{
    return trim(g, x, along(axis, 1 + shift), along(axis, 2 - shift));
}

/* Flux through the upper faces by a flux-limited second-order scheme. */
static kiln_value superbee(kiln_graph *g, flow f)
{
    kiln_value v = at(g, f.velocity, f.axis, 0), zero = number(g, 0), tiny = number(g, 1e-20);
    kiln_value here = at(g, f.x, f.axis, 0), ahead = at(g, f.x, f.axis, 1);
    kiln_value step = kiln_mul(g, kiln_sub(g, ahead, here), at(g, f.mask, f.axis, 0));
    kiln_value before = kiln_sub(g, here, at(g, f.x, f.axis, -1));
    before = kiln_mul(g, before, at(g, f.mask, f.axis, -1));
    kiln_value after = kiln_sub(g, at(g, f.x, f.axis, 2), ahead);
    after = kiln_mul(g, after, at(g, f.mask, f.axis, 1));
    kiln_value safe = kiln_select(g, kiln_lt(g, kiln_abs(g, step), tiny), tiny, step);
    kiln_value ratio = kiln_div(g, kiln_select(g, kiln_gt(g, v, zero), before, after), safe);
    kiln_value limit = at_most(g, scale(g, 2, ratio), 1);
    limit = at_least(g, kiln_max(g, limit, at_most(g, ratio, 2)), 0);
    kiln_value carried = kiln_mul(g, f.width, v), size = kiln_abs(g, carried);
    kiln_value courant = kiln_abs(g, kiln_div(g, carried, f.distance));
    kiln_value share = kiln_add(g, kiln_sub(g, number(g, 1), limit), kiln_mul(g, courant, limit));
    kiln_value mean = kiln_mul(g, carried, kiln_add(g, ahead, here));
    kiln_value limited = kiln_mul(g, kiln_mul(g, size, share), step);
    return scale(g, 0.5, kiln_sub(g, mean, limited));
}

static kiln_value both_wet(kiln_graph *g, kiln_value mask, int axis)
{
    planes one = along(axis, 1);
    kiln_value both = kiln_mul(g, trim(g, mask, one, NONE), trim(g, mask, NONE, one));
    return widen(g, both, NONE, one);
}

/* Inner along all horizontal axes but `axis`; along z one plane of zeros on both sides. */
static kiln_value lane(kiln_graph *g, kiln_value x, int axis)
{
    static const planes sides[] = {{{0, 2, 0}}, {{2, 0, 0}}, {{2, 2, 0}}};
    x = trim(g, x, sides[axis], sides[axis]);
    return axis == 2 ? widen(g, x, along(2, 1), along(2, 1)) : x;
}

/* Minus the divergence of the three fluxes, in the inner box. */
static kiln_value advection(kiln_graph *g, const world *x)
{
    kiln_value velocities[] = {part(g, x->u, 0), part(g, x->v, 0), part(g, x->w, 0)};
    kiln_value one = number(g, 1), widths[] = {one, faces(g, x->cosu, 1), one};
    kiln_value distances[] = {
        kiln_mul(g, inner(g, x->cost, 0, 0), faces(g, x->dxt, 0)),
        faces(g, kiln_mul(g, x->cost, x->dyt), 1),
        trim(g, x->dzw, NONE, along(2, 1)),
    };
    kiln_value fluxes[3];
    for (int i = 0; i < 3; i++) {
        kiln_value mask = both_wet(g, x->masks[2], i);
        fluxes[i] = superbee(g, (flow){i, lane(g, velocities[i], i), widths[i], lane(g, x->now, i),
                                       lane(g, mask, i), distances[i]});
    }
    kiln_value top = widen(g, fluxes[2], along(2, 1), along(2, 1));
    top = kiln_div(g, step_along(g, top, 2), x->depth);
    return kiln_sub(g, kiln_neg(g, divergence(g, x, fluxes[0], fluxes[1])), top);
}

void build_turbulent_energy(kiln_graph *g, int64_t size)
{
    world x = open_world(g, size);
    int64_t n = x.n.dims[2], corner[] = {2, 2, 0};
    kiln_value new = vertical_mixing(g, &x);
    kiln_value excess = kiln_neg(g, at_most(g, level_of(g, new, n - 1), 0));
    excess = kiln_mul(g, excess, level_of(g, x.depth, n - 1));
    excess = widen(g, excess, (planes){{2, 2, 0}}, (planes){{2, 2, 0}});
    new = kiln_select(g, x.is_top, at_least(g, new, 0), new);
    new = kiln_add(g, new, diffusion(g, &x));
    kiln_value tendency = put(g, part(g, x.dtke, 0), corner, advection(g, &x));
    kiln_value past = scale(g, 0.6, part(g, x.dtke, 2));
    new = kiln_add(g, put(g, x.after, corner, new), scale(g, 1.6, tendency));
    new = kiln_sub(g, new, past);
    tendency = put(g, x.dtke, (int64_t[]){0, 0, 0, 0}, deepen(g, tendency, 1));
    kiln_output(g, "tke_next", put(g, x.tke, (int64_t[]){0, 0, 0, 1}, deepen(g, new, 1)));
    kiln_output(g, "dtke_next", tendency);
    kiln_output(g, "correction", kiln_reshape(g, excess, 2, x.n.dims));
}
