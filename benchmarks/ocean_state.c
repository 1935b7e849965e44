/* Heat derivative of dynamic enthalpy by the 48-term equation of state of TEOS-10: enthalpy is 1e4
 * times the integral of (a0 + a1 p + a2 p^2 + a3 p^3) / (b0 + 2 b1 p + b2 p^2) over pressure,
 * solved by partial fractions. Every quantity comes with its derivative with respect to
 * temperature. */
#include "benchmarks/ocean.h"

/* Numbered as in the standard's tables; 0 is none. */
static const double table[] = {
    0,
    9.998420897506056e2,
    2.839940833161907e0,
    -3.147759265588511e-2,
    1.181805545074306e-3,
    -6.698001071123802e0,
    -2.986498947203215e-2,
    2.327859407479162e-4,
    -3.988822378968490e-2,
    5.095422573880500e-4,
    -1.426984671633621e-5,
    1.645039373682922e-7,
    -2.233269627352527e-2,
    -3.436090079851880e-4,
    3.726050720345733e-6,
    -1.806789763745328e-4,
    6.876837219536232e-7,
    -3.087032500374211e-7,
    -1.988366587925593e-8,
    -1.061519070296458e-11,
    1.550932729220080e-10,
    1.0e0,
    2.775927747785646e-3,
    -2.349607444135925e-5,
    1.119513357486743e-6,
    6.743689325042773e-10,
    -7.521448093615448e-3,
    -2.764306979894411e-5,
    1.262937315098546e-7,
    9.527875081696435e-10,
    -1.811147201949891e-11,
    -3.303308871386421e-5,
    3.801564588876298e-7,
    -7.672876869259043e-9,
    -4.634182341116144e-11,
    2.681097235569143e-12,
    5.419326551148740e-6,
    -2.742185394906099e-5,
    -3.212746477974189e-7,
    3.191413910561627e-9,
    -1.931012931541776e-12,
    -1.105097577149576e-7,
    6.211426728363857e-10,
    -1.119011592875110e-10,
    -1.941660213148725e-11,
    -1.864826425365600e-14,
    1.119522344879478e-14,
    -1.200507748551599e-15,
    6.057902487546866e-17,
};

typedef struct dual {
    kiln_value v, t; /* value, derivative */
} dual;

static kiln_value horner(kiln_graph *g, const double *coefficients, int n, kiln_value x)
{
    if (n == 1) return number(g, coefficients[0]);
    kiln_value result = number(g, coefficients[n - 1]);
    for (int i = n - 1; i-- > 0;) result = plus(g, kiln_mul(g, result, x), coefficients[i]);
    return result;
}

/* The polynomial in temperature with coefficients `first` to `last` of the table. */
static dual polynomial(kiln_graph *g, int first, int last, kiln_value x)
{
    int n = last - first + 1;
    double slopes[8];
    for (int i = 1; i < n; i++) slopes[i - 1] = i * table[first + i];
    return (dual){horner(g, table + first, n, x), horner(g, slopes, n - 1, x)};
}

static dual sum(kiln_graph *g, dual a, dual b)
{
    return (dual){kiln_add(g, a.v, b.v), kiln_add(g, a.t, b.t)};
}

static dual difference(kiln_graph *g, dual a, dual b)
{
    return (dual){kiln_sub(g, a.v, b.v), kiln_sub(g, a.t, b.t)};
}

static dual product(kiln_graph *g, dual a, dual b)
{
    kiln_value left = kiln_mul(g, a.t, b.v), right = kiln_mul(g, a.v, b.t);
    return (dual){kiln_mul(g, a.v, b.v), kiln_add(g, left, right)};
}

static dual scaled(kiln_graph *g, double factor, dual a)
{
    return (dual){scale(g, factor, a.v), scale(g, factor, a.t)};
}

/* `factor` does not depend on temperature. */
static dual spread(kiln_graph *g, kiln_value factor, dual a)
{
    return (dual){kiln_mul(g, factor, a.v), kiln_mul(g, factor, a.t)};
}

/* a / b, with 1 / b at hand. */
static dual over(kiln_graph *g, dual a, dual b, kiln_value inverse)
{
    kiln_value v = kiln_mul(g, a.v, inverse);
    kiln_value t = kiln_sub(g, a.t, kiln_mul(g, v, b.t));
    return (dual){v, kiln_mul(g, t, inverse)};
}

static kiln_value inverse(kiln_graph *g, kiln_value x)
{
    return kiln_div(g, number(g, 1), x);
}

/* log(1 + x) */
static dual log_of_one_and(kiln_graph *g, dual x)
{
    kiln_value one = plus(g, x.v, 1);
    return (dual){kiln_log(g, one), kiln_div(g, x.t, one)};
}

typedef struct terms {
    dual a0, a1, a2, a3, b0, b1, b2;
} terms;

static terms terms_of(kiln_graph *g, kiln_value salt, kiln_value t)
{
    kiln_value root = kiln_sqrt(g, salt);
    terms x;
    dual rest = sum(g, polynomial(g, 5, 7, t), spread(g, root, polynomial(g, 8, 11, t)));
    x.b0 = sum(g, polynomial(g, 1, 4, t), spread(g, salt, rest));
    x.b1 = sum(g, polynomial(g, 12, 14, t), spread(g, salt, polynomial(g, 15, 16, t)));
    x.b1 = scaled(g, 0.5, x.b1);
    x.b2 = polynomial(g, 17, 19, t);
    x.b2.v = kiln_add(g, x.b2.v, scale(g, table[20], salt));
    rest = sum(g, polynomial(g, 26, 30, t), spread(g, root, polynomial(g, 31, 35, t)));
    rest.v = kiln_add(g, rest.v, scale(g, table[36], salt));
    x.a0 = sum(g, polynomial(g, 21, 25, t), spread(g, salt, rest));
    x.a1 = sum(g, polynomial(g, 37, 40, t), spread(g, salt, polynomial(g, 41, 42, t)));
    x.a2 = polynomial(g, 43, 45, t);
    x.a2 =
        sum(g, x.a2, (dual){kiln_mul(g, t, scale(g, table[46], salt)), scale(g, table[46], salt)});
    x.a3 = polynomial(g, 47, 48, t);
    return x;
}

/* What multiplies the two logarithms: m = a1 + …, n = a0 + …, part = (n b2 - m b1) / (2 b2 r). */
typedef struct fractions {
    dual m, part, r;
} fractions;

static fractions fractions_of(kiln_graph *g, const terms *x, dual q, kiln_value i2)
{
    dual weight = difference(g, scaled(g, 2, product(g, x->a3, q)), x->a2);
    dual n = sum(g, x->a0, over(g, product(g, x->b0, weight), x->b2, i2));
    dual m = scaled(g, 4, product(g, product(g, x->a3, x->b1), q));
    m = difference(g, m, product(g, x->a3, x->b0));
    m = difference(g, m, scaled(g, 2, product(g, x->a2, x->b1)));
    m = sum(g, x->a1, over(g, m, x->b2, i2));
    dual square = difference(g, product(g, x->b1, x->b1), product(g, x->b0, x->b2));
    kiln_value r = kiln_sqrt(g, square.v), ir = inverse(g, r);
    dual root = {r, scale(g, 0.5, kiln_mul(g, ir, square.t))};
    dual k = difference(g, product(g, n, x->b2), product(g, m, x->b1));
    k = over(g, k, x->b2, i2);
    return (fractions){m, scaled(g, 0.5, over(g, k, root, ir)), root};
}

void build_equation_of_state(kiln_graph *g, int64_t size)
{
    grid shape = grid_of(size);
    kiln_value salt = field(g, "salt", shape), heat = field(g, "heat", shape);
    kiln_value p = metric(g, "pressure", shape, 2);
    terms x = terms_of(g, salt, heat);
    kiln_value i2 = inverse(g, x.b2.v);
    dual q = over(g, x.b1, x.b2, i2);
    fractions f = fractions_of(g, &x, q, i2);
    dual e = difference(g, x.a2, scaled(g, 2, product(g, x.a3, q)));
    e = sum(g, e, scaled(g, 0.5, spread(g, p, x.a3)));
    kiln_value result = kiln_mul(g, p, over(g, e, x.b2, i2).t);
    dual b2p = spread(g, p, x.b2), up = spread(g, p, sum(g, scaled(g, 2, x.b1), b2p));
    dual first = log_of_one_and(g, over(g, up, x.b0, inverse(g, x.b0.v)));
    dual second = scaled(g, 0.5, product(g, over(g, f.m, x.b2, i2), first));
    result = kiln_add(g, result, second.t);
    dual low = difference(g, x.b1, f.r), high = sum(g, sum(g, x.b1, f.r), b2p);
    dual z = scaled(g, 2, product(g, b2p, f.r));
    z = over(g, over(g, z, low, inverse(g, low.v)), high, inverse(g, high.v));
    result = kiln_add(g, result, product(g, f.part, log_of_one_and(g, z)).t);
    kiln_output(g, "result", scale(g, 1e4, result));
}
