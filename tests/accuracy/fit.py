#!/usr/bin/env python3
"""Fits the polynomials of codegen/math_*.c and prints codegen/math_tables.h.

Interpolation at Chebyshev nodes with mpmath: within a factor of two of the minimax error, and every
degree below has more than that to spare. usage: fit.py > codegen/math_tables.h
"""
import struct
import sys

from mpmath import (atan, cos, erf, exp, factorial, log, log1p, lu_solve, matrix, mp, mpf, pi, sin, sqrt,
                    tan, tanh, taylor)

mp.dps = 60


def f32(x):
    return struct.unpack("f", struct.pack("f", float(x)))[0]


def nodes(low, high, n):
    low, high = mpf(low), mpf(high)
    return [(low + high) / 2 + (high - low) / 2 * cos(pi * (2 * i + 1) / (2 * n)) for i in range(n)]


def interpolate(f, low, high, degree):
    """Coefficients, lowest first, of the polynomial through f at the Chebyshev nodes."""
    xs = nodes(low, high, degree + 1)
    table = [f(x) for x in xs]
    n = len(xs)
    for level in range(1, n):  # divided differences
        for i in range(n - 1, level - 1, -1):
            table[i] = (table[i] - table[i - 1]) / (xs[i] - xs[i - level])
    poly = [mpf(0)]
    for i in range(n - 1, -1, -1):  # poly = poly * (x - xs[i]) + table[i]
        poly = [mpf(0)] + poly
        for j in range(len(poly) - 1):
            poly[j] -= xs[i] * poly[j + 1]
        poly[0] += table[i]
    return poly[:degree + 1]


def least_squares(f, scale, low, high, powers):
    """Coefficients of u^powers[0] ... u^powers[1] with the least error of f relative to scale."""
    points = nodes(low, high, 4 * powers[1])
    rows = [[u ** k / scale(u) for k in range(powers[0], powers[1] + 1)] for u in points]
    return list(lu_solve(matrix(rows), matrix([f(u) / scale(u) for u in points])))


def horner(poly, x):
    value = mpf(0)
    for c in reversed(poly):
        value = value * x + c
    return value


def check(name, f, poly, low, high, weight=lambda x: 1):
    worst = mpf(0)
    for i in range(401):
        x = mpf(low) + (mpf(high) - mpf(low)) * (i + mpf("0.37")) / 402
        worst = max(worst, abs((horner(poly, x) - f(x)) * weight(x)))
    print(f"{name}: {float(worst):.2e}", file=sys.stderr)


def print_array(name, kind, values):
    print(f"static const {kind} {name}[] = {{")
    items = [float(v).hex() for v in values]
    for i in range(0, len(items), 3):
        print("    " + ", ".join(items[i:i + 3]) + ",")
    print("};")


def emit(name, f, low, high, degree, weight=lambda x: 1, single=True):
    poly = interpolate(f, low, high, degree)
    if single:
        poly = [f32(c) for c in poly]
    check(name, f, [mpf(float(c)) for c in poly], low, high, weight)
    print_array(name, "double", poly)


def fit_interval(f, centre, half, degree, kind):
    """Coefficients of f(centre + u); around 0 without a constant, for the relative error."""
    if centre == 0 and kind == "double":
        return [mpf(0)] + interpolate(lambda u: f(u) / u, mpf(2) ** -60, half, degree - 1)
    if centre == 0:
        slope = 1 + mpf(f32(taylor(f, 0, 1)[1] - 1))
        return [mpf(0), slope] + least_squares(lambda u: f(u) - slope * u, f, 0, half, (2, degree))
    if kind == "double":
        return interpolate(lambda u: f(centre + u), -half, half, degree)
    constant = mpf(f32(f(centre)))
    return [constant] + least_squares(lambda u: f(centre + u) - constant, lambda u: f(centre + u),
                                      -half, half, (1, degree))


def emit_table(name, f, step, degree, kind, limit=None, is_slope_split=True):
    """Row k: coefficient k of every interval; interval i of 32 is centred on i * step, its constant f
    there. Interval 0 covers [0, step / 2] and keeps the relative error: constant 0. With a split slope,
    coefficient 1 is less 1: the code adds it last, which keeps more of its bits. With a limit, the last
    interval is a line that is 1 there."""
    rounded = f32 if kind == "float" else float
    rows = [[] for _ in range(degree + 1)]
    worst = mpf(0)
    half = mpf(step) / 2
    for i in range(32):
        centre = i * mpf(step)
        poly = fit_interval(f, centre, half, degree, kind)
        if limit and i == 31:
            poly = [poly[0], (1 - poly[0]) / (mpf(limit) - centre)] + [mpf(0)] * (degree - 1)
        poly[1] -= is_slope_split
        poly = [mpf(rounded(c)) for c in poly]
        for k in range(degree + 1):
            rows[k].append(float(poly[k]))
        for j in range(40):
            u = half * (mpf(2 * j - 39) / 40 if i else (mpf(j) + mpf("0.5")) / 40)
            worst = max(worst, abs((is_slope_split * u + horner(poly, u)) / f(centre + u) - 1))
    print(f"{name}: {float(worst):.2e}", file=sys.stderr)
    print(f"static const {kind} {name}[{degree + 1}][32] = {{")
    for row in rows:
        print("    {")
        suffix = "f" if kind == "float" else ""
        items = [v.hex() + suffix for v in row]
        for i in range(0, 32, 3):
            print("        " + ", ".join(items[i:i + 3]) + ",")
        print("    },")
    print("};")


def emit_pow_tables():
    """1/m to 7 bits for the 32 stretches of m's bits from sqrt(1/2), and -log2 of that in two parts."""
    inverse, high, low = [], [], []
    start = 0x3FE6A09E667F3BCD
    for i in range(32):
        ends = [struct.unpack("d", struct.pack("Q", start + ((i + j) << 47)))[0] for j in (0, 1)]
        middle = (mpf(ends[0]) + mpf(ends[1])) / 2
        unit = 64 if middle < 1 else 128
        c = round(float(unit / middle)) / unit
        if ends[0] <= 1 <= ends[1]:
            c = 1.0
        exact = -log(mpf(c)) / log(2)
        rounded = round(float(exact) * 2 ** 40) / 2 ** 40
        inverse.append(c)
        high.append(rounded)
        low.append(float(exact - mpf(rounded)))
    print_array("pow_inverse", "double", inverse)
    print_array("pow_log_high", "double", high)
    print_array("pow_log_low", "double", low)


def two_over_pi_parts(block, bits, shift, n_parts, part_bits):
    """2/pi without the bits that make x * them a multiple of 4 in the block, times 2^(bits * block)."""
    mp.prec = 1600
    value = 2 / pi * mpf(2) ** (bits * block)
    value -= 4 * int(value / 4)
    parts = []
    for k in range(n_parts):
        unit = mpf(2) ** (2 - part_bits * (k + 1))
        part = int(value / unit) * unit
        parts.append(float(part))
        value -= part
    mp.prec = 200
    return parts


def main():
    print("/* Coefficients of the maths functions, made by tests/accuracy/fit.py: lowest degree first; tables\n"
          " * hold one row per coefficient, one column per interval. Constants of f32 code are exact in f32. */\n"
          "#ifndef KILN_CODEGEN_MATH_TABLES_H\n#define KILN_CODEGEN_MATH_TABLES_H\n")
    half_ln2 = log(2) / 2 * mpf("1.0001")
    exp_tail = lambda r: sum(r ** k / factorial(k + 2) for k in range(40))
    emit("exp_f32", exp_tail, -half_ln2, half_ln2, 4, lambda r: r ** 2 / exp(r))
    emit("exp_f64", exp_tail, -half_ln2, half_ln2, 10, lambda r: r ** 2 / exp(r), single=False)

    low, high = sqrt(mpf("0.5")) - 1, sqrt(mpf(2)) - 1
    log_tail = lambda f: (log1p(f) - f + f ** 2 / 2) / f ** 3
    emit("log_f32", log_tail, low, high, 8, lambda f: f ** 3 / log1p(f))
    # log1p(f) = f - f^2/2 + s (f^2/2 + R(s^2)), s = f / (2 + f)
    s_max = (sqrt(mpf(2)) - 1) / (sqrt(mpf(2)) + 1)
    atanh_tail = lambda z: (log((1 + sqrt(z)) / (1 - sqrt(z))) / sqrt(z) - 2) / z
    emit("log_f64", atanh_tail, mpf(10) ** -12, s_max ** 2 * mpf("1.0001"), 6, lambda z: z / 2, single=False)
    # for f32 results computed in f64: log1p(f) = f + f^2 P(f)
    mid_tail = lambda f: (log1p(f) - f) / f ** 2
    emit("log_mid", mid_tail, low, high, 13, lambda f: f ** 2 / log1p(f), single=False)
    emit("exp_mid", exp_tail, -half_ln2, half_ln2, 5, lambda r: r ** 2 / exp(r), single=False)

    log2_tail = lambda f: (log1p(f) - f) / f ** 2 / log(2)
    emit("pow_tail", log2_tail, mpf("-0.0323"), mpf("0.0321"), 10, lambda f: f ** 2, single=False)

    quarter = mpf("0.5001")
    sine = lambda z: sin(pi / 2 * sqrt(z)) / sqrt(z)
    cosine = lambda z: cos(pi / 2 * sqrt(z))
    tiny = mpf(10) ** -20
    emit("sin_mid", sine, tiny, quarter ** 2, 4, single=False)
    emit("cos_mid", cosine, tiny, quarter ** 2, 4, single=False)
    eighth = (pi / 4 * mpf("1.0001")) ** 2
    emit("sin_f64", lambda z: (sin(sqrt(z)) / sqrt(z) - 1) / z, tiny, eighth, 6, lambda z: z, single=False)
    emit("cos_f64", lambda z: (cos(sqrt(z)) - 1 + z / 2) / z ** 2, tiny, eighth, 6, lambda z: z * z,
         single=False)

    octant = tan(pi / 8) ** 2 * mpf("1.0001")
    arc = lambda z: (atan(sqrt(z)) / sqrt(z) - 1) / z
    emit("atan_mid", arc, tiny, octant, 5, lambda z: z, single=False)
    emit("atan_f64", arc, tiny, octant, 12, lambda z: z, single=False)

    print()
    emit_table("tanh_f32", tanh, mpf(141) / 512, 5, "float", mpf("8.67"), False)
    emit_table("erf_f32", erf, mpf(1) / 8, 4, "float")
    emit_table("erf_f64", erf, mpf(3) / 16, 12, "double")
    emit_pow_tables()
    parts = [two_over_pi_parts(b, 4, 0, 4, 24) for b in range(27)]
    print("/* 2/pi for arguments of exponent block b, in four parts of 24 bits. */")
    print("static const float two_over_pi_f32[4][32] = {")
    for k in range(4):
        items = [parts[b][k].hex() + "f" for b in range(27)]
        print("    {")
        for i in range(0, 27, 3):
            print("        " + ", ".join(items[i:i + 3]) + ",")
        print("    },")
    print("};")
    mp.prec = 1600
    words = [0] + [int(2 / pi * mpf(2) ** (64 * (i + 1))) % 2 ** 64 for i in range(19)]
    print("/* 2/pi in words of 64 bits after one of zeros. */")
    print("static const uint64_t two_over_pi_words[20] = {")
    for i in range(0, 20, 4):
        print("    " + ", ".join(f"{w:#018x}" for w in words[i:i + 4]) + ",")
    print("};")
    print("\n#endif")


main()
