"""Three kernels of ocean models, written once over NumPy, JAX and PyTorch: the twins of ocean_*.c.

The physics and the shapes are those of the pyhpc benchmarks: the heat derivative of dynamic enthalpy by
the 48-term equation of state of TEOS-10; isoneutral mixing (Griffies et al. 1998); the prognostic equation
of turbulent kinetic energy with an implicit vertical solver and superbee advection. All in f64.
"""
import math

import numpy as np

C = [None,  # of the 48-term expression, numbered as in the standard's tables
     9.998420897506056e2, 2.839940833161907e0, -3.147759265588511e-2, 1.181805545074306e-3,
     -6.698001071123802e0, -2.986498947203215e-2, 2.327859407479162e-4, -3.988822378968490e-2,
     5.095422573880500e-4, -1.426984671633621e-5, 1.645039373682922e-7, -2.233269627352527e-2,
     -3.436090079851880e-4, 3.726050720345733e-6, -1.806789763745328e-4, 6.876837219536232e-7,
     -3.087032500374211e-7, -1.988366587925593e-8, -1.061519070296458e-11, 1.550932729220080e-10,
     1.0e0, 2.775927747785646e-3, -2.349607444135925e-5, 1.119513357486743e-6,
     6.743689325042773e-10, -7.521448093615448e-3, -2.764306979894411e-5, 1.262937315098546e-7,
     9.527875081696435e-10, -1.811147201949891e-11, -3.303308871386421e-5, 3.801564588876298e-7,
     -7.672876869259043e-9, -4.634182341116144e-11, 2.681097235569143e-12, 5.419326551148740e-6,
     -2.742185394906099e-5, -3.212746477974189e-7, 3.191413910561627e-9, -1.931012931541776e-12,
     -1.105097577149576e-7, 6.211426728363857e-10, -1.119011592875110e-10, -1.941660213148725e-11,
     -1.864826425365600e-14, 1.119522344879478e-14, -1.200507748551599e-15, 6.057902487546866e-17]


class NumpyOps:
    """What differs between the three libraries; sizes and starts count one entry per axis."""
    xp = np

    def array(self, x):
        return x

    def pad(self, x, low, high):
        return np.pad(x, list(zip(low, high)))

    def put(self, base, starts, block):
        result = base.copy()
        result[tuple(slice(s, s + n) for s, n in zip(starts, block.shape))] = block
        return result

    def at_least(self, x, bound):
        return self.xp.maximum(x, bound)

    def at_most(self, x, bound):
        return self.xp.minimum(x, bound)

    def levels(self, n):
        return self.xp.arange(n)

    def solve_columns(self, a, b, c, d):
        """Tridiagonal systems along the last axis, by Thomas's algorithm."""
        upper, right, n = [], [], a.shape[-1]
        for k in range(n):
            pivot = b[..., k] - a[..., k] * upper[-1] if k else b[..., k]
            upper.append(c[..., k] / pivot)
            right.append((d[..., k] - a[..., k] * right[-1] if k else d[..., k]) / pivot)
        x = [right[-1]]
        for k in range(n - 2, -1, -1):
            x.append(right[k] - upper[k] * x[-1])
        return self.xp.stack(x[::-1], -1)


class TorchOps(NumpyOps):
    def __init__(self):
        import torch
        self.xp = torch

    def array(self, x):
        return self.xp.from_numpy(x)

    def pad(self, x, low, high):
        amounts = [n for pair in zip(low[::-1], high[::-1]) for n in pair]
        return self.xp.nn.functional.pad(x, amounts)

    def put(self, base, starts, block):
        result = base.clone()
        result[tuple(slice(s, s + n) for s, n in zip(starts, block.shape))] = block
        return result

    def at_least(self, x, bound):
        return self.xp.clamp(x, min=bound)

    def at_most(self, x, bound):
        return self.xp.clamp(x, max=bound)


class JaxOps(NumpyOps):
    def __init__(self):
        import jax
        jax.config.update("jax_enable_x64", True)
        self.jax, self.xp = jax, jax.numpy

    def array(self, x):
        return self.xp.asarray(x)

    def pad(self, x, low, high):
        return self.xp.pad(x, list(zip(low, high)))

    def put(self, base, starts, block):
        return self.jax.lax.dynamic_update_slice(base, block, starts)

    def solve_columns(self, a, b, c, d):
        def down(state, row):
            pivot = row[1] - row[0] * state[0]
            state = row[2] / pivot, (row[3] - row[0] * state[1]) / pivot
            return state, state

        def up(x, row):
            x = row[1] - row[0] * x
            return x, x
        zero = self.xp.zeros(a.shape[:-1], a.dtype)
        rows = [self.xp.moveaxis(x, -1, 0) for x in (a, b, c, d)]
        _, rows = self.jax.lax.scan(down, (zero, zero), rows)
        _, x = self.jax.lax.scan(up, zero, rows, reverse=True)
        return self.xp.moveaxis(x, 0, -1)


def shape_of(size):
    across = math.ceil(2 * size ** (1 / 3))
    return across, across, math.ceil(0.25 * size ** (1 / 3))


def horner(coefficients, x):
    result = coefficients[-1]
    for c in coefficients[-2::-1]:
        result = result * x + c
    return result


def slope(coefficients, x):
    """The derivative of the polynomial."""
    return horner([i * c for i, c in enumerate(coefficients)][1:], x)


def state_inputs(size, random):
    shape = shape_of(size)
    return {"salt": random.uniform(1e-2, 10, shape), "heat": random.uniform(-12, 20, shape),
            "pressure": random.uniform(0, 1000, (1, 1, shape[2]))}


class Dual:
    """A value and its derivative with respect to temperature."""
    def __init__(self, v, t):
        self.v, self.t = v, t

    def __add__(self, b):
        return Dual(self.v + b.v, self.t + b.t)

    def __sub__(self, b):
        return Dual(self.v - b.v, self.t - b.t)

    def __mul__(self, b):
        return Dual(self.v * b.v, self.t * b.v + self.v * b.t)

    def times(self, factor):
        return Dual(factor * self.v, factor * self.t)

    def over(self, b, inverse):
        v = self.v * inverse
        return Dual(v, (self.t - v * b.t) * inverse)


def polynomial(first, last, t):
    return Dual(horner(C[first:last + 1], t), slope(C[first:last + 1], t))


def log_of_one_and(o, x):
    one = x.v + 1
    return Dual(o.xp.log(one), x.t / one)


def equation_of_state(o, salt, heat, pressure):
    """d/dT of dynamic enthalpy: 1e4 times the integral of (a0 + a1 p + a2 p^2 + a3 p^3) /
    (b0 + 2 b1 p + b2 p^2) over pressure, by partial fractions."""
    root, p, t = o.xp.sqrt(salt), pressure, heat
    b0 = polynomial(1, 4, t) + (polynomial(5, 7, t) + polynomial(8, 11, t).times(root)).times(salt)
    b1 = (polynomial(12, 14, t) + polynomial(15, 16, t).times(salt)).times(0.5)
    b2 = polynomial(17, 19, t)
    b2.v = b2.v + C[20] * salt
    rest = polynomial(26, 30, t) + polynomial(31, 35, t).times(root)
    rest.v = rest.v + C[36] * salt
    a0 = polynomial(21, 25, t) + rest.times(salt)
    a1 = polynomial(37, 40, t) + polynomial(41, 42, t).times(salt)
    a2 = polynomial(43, 45, t) + Dual(t * (C[46] * salt), C[46] * salt)
    a3 = polynomial(47, 48, t)
    i2 = 1 / b2.v
    q = b1.over(b2, i2)
    n = a0 + (b0 * ((a3 * q).times(2) - a2)).over(b2, i2)
    m = a1 + ((a3 * b1 * q).times(4) - a3 * b0 - (a2 * b1).times(2)).over(b2, i2)
    square = b1 * b1 - b0 * b2
    r = o.xp.sqrt(square.v)
    ir = 1 / r
    r = Dual(r, 0.5 * (ir * square.t))
    part = (n * b2 - m * b1).over(b2, i2).over(r, ir).times(0.5)
    e = a2 - (a3 * q).times(2) + a3.times(p).times(0.5)
    b2p = b2.times(p)
    up = (b1.times(2) + b2p).times(p)
    first = log_of_one_and(o, up.over(b0, 1 / b0.v))
    low, high = b1 - r, b1 + r + b2p
    z = (b2p * r).times(2).over(low, 1 / low.v).over(high, 1 / high.v)
    return 1e4 * (p * e.over(b2, i2).t + (m.over(b2, i2) * first).times(0.5).t
                  + (part * log_of_one_and(o, z)).t)


def trim(x, low, high):
    """Without the first and last planes; axes of one element stand for all and stay."""
    return x[tuple(slice(a, n - b) if n > 1 else slice(None) for a, b, n in zip(low, high, x.shape))]


def inner(x, top=0, bottom=0):
    return trim(x, (2, 2, top), (2, 2, bottom))


def along(axis, this, others=0):
    return tuple(this if i == axis else others for i in range(3))


def around(x, axis, low, high, top=0, bottom=0):
    """The inner box, but from plane `low` to `high` planes before the end along a horizontal axis."""
    lows, highs = [2, 2, top], [2, 2, bottom]
    lows[axis], highs[axis] = low, high
    return trim(x, lows, highs)


def step_along(x, axis):
    """x[i + 1] - x[i]"""
    return trim(x, along(axis, 1), (0, 0, 0)) - trim(x, (0, 0, 0), along(axis, 1))


def masks(shape, random, names):
    return {name: (random.random(shape) < 0.8).astype(np.float64) for name in names}


def metrics(shape, random, names):
    axes = {"dxt": 0, "dxu": 0, "dyt": 1, "dyu": 1, "cost": 1, "cosu": 1, "dzt": 2, "dzw": 2, "zt": 2}
    return {name: random.standard_normal(shape[axes[name]]).reshape(
        [-1 if i == axes[name] else 1 for i in range(3)]) for name in names}


def mixing_inputs(size, random):
    shape = shape_of(size)
    fields = {name: random.standard_normal(shape) for name in ("k_iso", "k11", "k22", "k33")}
    tracers = {name: random.standard_normal((*shape, 3)) for name in ("salt", "heat")}
    slopes = {name: np.zeros((*shape, 2, 2)) for name in ("ez", "nz", "bx", "by")}
    return {**masks(shape, random, ("mask_t", "mask_u", "mask_v", "mask_w")),
            **metrics(shape, random, ("dxt", "dxu", "dyt", "dyu", "dzt", "dzw", "cost", "cosu", "zt")),
            **fields, **tracers, **slopes}


def gradient(o, x, axis, mask, distance):
    """At the upper faces; 0 at the last."""
    last = along(axis, 1)
    mask, distance = trim(mask, (0, 0, 0), last), trim(distance, (0, 0, 0), last)
    return o.pad(mask * step_along(x, axis) / distance, (0, 0, 0), last)


def tapered(o, across, upward):
    """Slope of an isoneutral surface and how much of it counts where it is steep."""
    s = -across / (o.at_most(upward, 0.0) - 1e-20)
    return s, 0.5 * (1 + o.xp.tanh((1e-3 - abs(s)) / 1e-3))


def side_mixing(o, axis, density, sideways, upward, given):
    """Slopes and diffusivity at the faces between neighbours along a horizontal axis."""
    mask, k_iso, dzw, dzt, k, slopes = given
    start = along(axis, 1, 2)[:2]
    both = around(k_iso, axis, 1, 2) + around(k_iso, axis, 2, 1)
    diffusivity = 0.25 * (both + o.xp.concatenate([both[..., :1], both[..., :-1]], -1))
    total = 0.0
    for below in range(2):
        top = 1 - below
        for side in range(2):
            rho = [around(x, axis, 1 + side, 2 - side, top) for x in density]
            across = sum(r * around(x, axis, 1, 2, top) for r, x in zip(rho, sideways))
            up = sum(r * around(x, axis, 1 + side, 2 - side, 0, top) for r, x in zip(rho, upward))
            s, taper = tapered(o, across, up)
            wet = around(mask, axis, 1, 2, top)
            part = trim(dzw, (0, 0, 0), (0, 0, top)) * wet * o.at_least(diffusivity[..., top:] * taper, 50.0)
            total = total + o.pad(part, (0, 0, top), (0, 0, 0))
            block = (taper * s * wet)[..., None, None]
            slopes = o.put(slopes, (*start, top, side, below), block)
    return o.put(k, (*start, 0), total / (4 * dzt)), slopes


def top_mixing(o, axis, density, sideways, upward, given):
    """The same slopes at the upper faces, and their part of the vertical diffusivity."""
    mask, k_iso, width, slopes = given
    total = 0.0
    wet = inner(mask, 0, 1)
    for below in range(2):
        rho = [inner(x, below, 1 - below) for x in density]
        up = sum(r * inner(x, 0, 1) for r, x in zip(rho, upward))
        for side in range(2):
            across = sum(r * around(x, axis, 1 + side, 3 - side, below, 1 - below)
                         for r, x in zip(rho, sideways))
            s, taper = tapered(o, across, up)
            total = total + around(width, axis, 1 + side, 3 - side) * inner(k_iso, 0, 1) * taper * s * s * wet
            slopes = o.put(slopes, (2, 2, 0, side, below), (taper * s * wet)[..., None, None])
    return total, slopes


def isoneutral_mixing(o, mask_t, mask_u, mask_v, mask_w, dxt, dxu, dyt, dyu, dzt, dzw, cost, cosu, zt, k_iso,
                      k11, k22, k33, salt, heat, ez, nz, bx, by):
    salt, heat = salt[..., 0], heat[..., 0]
    expansion = 1.67e-4 * (1 + 1.1e-8 * 9.81 * 1024.0 * abs(zt))
    density = [mask_t * (-1024.0 * (1e-5 * (heat - 9.85) + expansion)), mask_t * (0.78e-3 * 1024.0)]
    tracers = [heat, salt]
    upward = [gradient(o, x, 2, mask_w, dzw) for x in tracers]
    east = [gradient(o, x, 0, mask_u, dxu * cost) for x in tracers]
    north = [gradient(o, x, 1, mask_v, dyu) for x in tracers]
    k11, ez = side_mixing(o, 0, density, east, upward, (mask_u, k_iso, dzw, dzt, k11, ez))
    k22, nz = side_mixing(o, 1, density, north, upward, (mask_v, k_iso, dzw, dzt, k22, nz))
    sum_x, bx = top_mixing(o, 0, density, east, upward, (mask_w, k_iso, dxu, bx))
    sum_y, by = top_mixing(o, 1, density, north, upward, (mask_w, k_iso, cosu * dyu, by))
    both = sum_x / (4 * inner(dxt)) + sum_y / (4 * inner(dyt) * inner(cost))
    k33 = o.put(k33, (2, 2, 0), o.pad(both, (0, 0, 0), (0, 0, 1)))
    return k11, k22, k33, ez, nz, bx, by


def energy_inputs(size, random):
    shape = shape_of(size)
    states = {name: random.standard_normal((*shape, 3)) for name in ("u", "v", "w", "tke", "dtke")}
    fields = {name: random.standard_normal(shape) for name in ("kappa", "mxl", "forcing")}
    return {**states, **masks(shape, random, ("mask_u", "mask_v", "mask_w")),
            **metrics(shape, random, ("dxt", "dxu", "dyt", "dyu", "dzt", "dzw", "cost", "cosu")), **fields,
            "bottom": random.integers(0, shape[2], (*shape[:2], 1)),
            "surface": random.standard_normal((*shape[:2], 1))}


def superbee(o, axis, velocity, width, x, mask, distance):
    """Flux of x through the upper faces along an axis by a flux-limited second-order scheme; faces are
    `width` wide."""
    def at(y, shift):
        return trim(y, along(axis, 1 + shift), along(axis, 2 - shift))
    v, here, ahead, wet = at(velocity, 0), at(x, 0), at(x, 1), at(mask, 0)
    step = (ahead - here) * wet
    before, after = (here - at(x, -1)) * at(mask, -1), (at(x, 2) - ahead) * at(mask, 1)
    ratio = o.xp.where(v > 0, before, after) / o.xp.where(abs(step) < 1e-20, 1e-20, step)
    limit = o.at_least(o.xp.maximum(o.at_most(2 * ratio, 1.0), o.at_most(ratio, 2.0)), 0.0)
    flow = width * v
    return 0.5 * (flow * (ahead + here) - abs(flow) * ((1 - limit) + abs(flow / distance) * limit) * step)


def both_wet(o, mask, axis):
    last = along(axis, 1)
    return o.pad(trim(mask, last, (0, 0, 0)) * trim(mask, (0, 0, 0), last), (0, 0, 0), last)


def advection(o, x, u, v, w, mask, dxt, dyt, depth, dzw, cost, cosu):
    """Minus the divergence of the three fluxes, in the inner box."""
    def rows(y):
        return trim(y, (0, 2, 0), (0, 2, 0))

    def columns(y):
        return trim(y, (2, 0, 0), (2, 0, 0))

    def deep(y):
        return o.pad(inner(y), (0, 0, 1), (0, 0, 1))
    east = superbee(o, 0, rows(u), 1.0, rows(x), rows(both_wet(o, mask, 0)),
                    inner(cost) * around(dxt, 0, 1, 2))
    north = superbee(o, 1, columns(v), around(cosu, 1, 1, 2), columns(x), columns(both_wet(o, mask, 1)),
                     around(cost * dyt, 1, 1, 2))
    top = superbee(o, 2, deep(w), 1.0, deep(x), deep(both_wet(o, mask, 2)), trim(dzw, (0, 0, 0), (0, 0, 1)))
    top = o.pad(top, (0, 0, 1), (0, 0, 1))
    return (-inner(mask) * (step_along(east, 0) / (inner(cost) * inner(dxt))
                            + step_along(north, 1) / (inner(cost) * inner(dyt)))
            - step_along(top, 2) / depth)


def diffusion(o, x, mask_u, mask_v, mask_w, dxt, dxu, dyt, dyu, cost, cosu):
    """Lateral mixing in the inner box."""
    def faces(y, axis):
        return around(y, axis, 1, 2)

    def steps(axis):
        return around(x, axis, 2, 1) - around(x, axis, 1, 2)
    east = 2000.0 * steps(0) / (inner(cost) * faces(dxu, 0)) * faces(mask_u, 0)
    north = 2000.0 * steps(1) / faces(dyu, 1) * faces(mask_v, 1) * faces(cosu, 1)
    return inner(mask_w) * (step_along(east, 0) / (inner(cost) * inner(dxt))
                            + step_along(north, 1) / (inner(cost) * inner(dyt)))


def vertical_mixing(o, now, after, kappa, mxl, forcing, bottom, surface, dzt, dzw, depth):
    """Implicit vertical mixing and dissipation in the inner box; `after` stays under the ground."""
    n, where = dzw.shape[2], o.xp.where
    kappa, ground = inner(kappa), inner(bottom) - 1
    level = o.levels(n)
    delta = o.pad(0.5 / dzt[..., 1:] * (kappa[..., :-1] + kappa[..., 1:]), (0, 0, 0), (0, 0, 1))
    below = o.pad(delta[..., :-1], (0, 0, 1), (0, 0, 0))
    decay = 0.7 * o.xp.sqrt(o.at_least(inner(now), 0.0)) / inner(mxl)
    d = inner(now) + inner(forcing) + o.pad(inner(surface) / depth[..., -1:], (0, 0, n - 1), (0, 0, 0))
    is_land, is_edge = ground < 0, level == ground
    is_dry = is_land | (level < ground)
    a = where(is_dry | is_edge, 0.0, -below / depth)
    b = where(is_edge, 1 + delta / dzw + decay, 1 + (delta + below) / depth + decay)
    b, c = where(is_dry, 1.0, b), where(is_dry, 0.0, -delta / dzw)
    return where(is_dry, inner(after), o.solve_columns(a, b, c, where(is_dry, 0.0, d)))


def turbulent_energy(o, u, v, w, tke, dtke, mask_u, mask_v, mask_w, dxt, dxu, dyt, dyu, dzt, dzw, cost, cosu,
                     kappa, mxl, forcing, bottom, surface):
    now, after = tke[..., 0], tke[..., 1]
    n = dzw.shape[2]
    is_top = o.levels(n) == n - 1
    depth = o.xp.where(is_top, 0.5 * dzw, dzw)
    new = vertical_mixing(o, now, after, kappa, mxl, forcing, bottom, surface, dzt, dzw, depth)
    correction = -o.at_most(new[..., -1:], 0.0) * depth[..., -1:]
    new = o.xp.where(is_top, o.at_least(new, 0.0), new)
    new = new + diffusion(o, now, mask_u, mask_v, mask_w, dxt, dxu, dyt, dyu, cost, cosu)
    tendency = advection(o, now, u[..., 0], v[..., 0], w[..., 0], mask_w, dxt, dyt, depth, dzw, cost, cosu)
    tendency = o.put(dtke[..., 0], (2, 2, 0), tendency)
    new = o.put(after, (2, 2, 0), new) + 1.6 * tendency - 0.6 * dtke[..., 2]
    correction = o.pad(correction, (2, 2, 0), (2, 2, 0))[..., 0]
    return (o.put(tke, (0, 0, 0, 1), new[..., None]), o.put(dtke, (0, 0, 0, 0), tendency[..., None]),
            correction)


KERNELS = {"equation_of_state": (equation_of_state, state_inputs),
           "isoneutral_mixing": (isoneutral_mixing, mixing_inputs),
           "turbulent_energy": (turbulent_energy, energy_inputs)}

SIZES = {"4K": 1 << 12, "64K": 1 << 16, "1M": 1 << 20, "4M": 1 << 22}
ROWS = {f"{kernel}_{label}": (kernel, size) for kernel in KERNELS for label, size in SIZES.items()}


def results_of(returned):
    return returned if isinstance(returned, tuple) else (returned,)


def jax_call(function, inputs):
    o = JaxOps()
    values = {name: o.array(x) for name, x in inputs.items()}
    compiled = o.jax.jit(lambda given: function(o, **given))
    return lambda: o.jax.block_until_ready(compiled(values))


def inductor_call(function, inputs):
    o = TorchOps()
    values = {name: o.array(x) for name, x in inputs.items()}
    o.xp._dynamo.reset()
    compiled = o.xp.compile(lambda **given: function(o, **given))
    return lambda: compiled(**values)


PEERS = {"jax": jax_call, "inductor": inductor_call}
