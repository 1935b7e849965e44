/* atan, atan2: the angle of the point (big, small) in the first octant by one quotient, either
 * small / big or, past pi/8, (small - big) / (small + big) from pi/4; then the octant is undone.
 * f32 works in f64. */
#include <math.h>

#include "codegen/math_build.h"
#include "codegen/math_tables.h"

#define PI_HIGH 0x1.921fb54442d18p1
#define PI_LOW 0x1.1a62633145c07p-53

/* Angle of y / x with |y|, |x| given and 0 <= y <= x, in [0, pi/4]. */
static kiln_kv octant_angle(kiln_kernel *k, kiln_kv small, kiln_kv big, bool is_full)
{
    kiln_kv limit = mul_num(k, big, 0.41421356237309503);
    kiln_kv both_infinite = compare_num(k, KILN_K_eq, small, INFINITY); /* then exactly pi/4 */
    kiln_kv is_far = kiln_k_binary(k, KILN_K_gt, small, limit);
    is_far = kiln_k_binary(k, KILN_K_or, is_far, both_infinite);
    kiln_kv over = kiln_k_select(k, is_far, sub(k, small, big), small);
    kiln_kv under = kiln_k_select(k, is_far, add(k, small, big), big);
    kiln_kv q = quotient(k, over, under);
    q = num_where(k, compare_num(k, KILN_K_eq, big, 0.0), 0.0, q);
    q = num_where(k, both_infinite, 0.0, q);
    kiln_kv z = mul(k, q, q);
    kiln_kv p = is_full ? poly_of(k, z, atan_f64) : poly_of(k, z, atan_mid);
    kiln_kv tail = mul(k, mul(k, q, z), p);
    kiln_kv low = else_num(k, is_far, num(k, q, PI_LOW / 4), 0.0);
    q = add(k, q, add(k, tail, low));
    return add(k, q, else_num(k, is_far, num(k, q, PI_HIGH / 4), 0.0));
}

/* atan2 in f64; `is_full`: to f64 precision. */
static kiln_kv angle_of(kiln_kernel *k, kiln_kv y, kiln_kv x, bool is_full)
{
    kiln_kv a = absolute(k, y), b = absolute(k, x);
    kiln_kv sum = add(k, a, b);
    kiln_kv is_nan = kiln_k_binary(k, KILN_K_ne, sum, sum);
    kiln_kv is_steep = kiln_k_binary(k, KILN_K_gt, a, b);
    kiln_kv big = kiln_k_select(k, is_steep, a, b), small = kiln_k_select(k, is_steep, b, a);
    if (is_full) { /* so that small + big does not overflow */
        kiln_kv is_huge = compare_num(k, KILN_K_gt, big, 0x1p1000);
        kiln_kv factor = else_num(k, is_huge, num(k, big, 0.25), 1.0);
        big = mul(k, big, factor);
        small = mul(k, small, factor);
    }
    kiln_kv angle = octant_angle(k, small, big, is_full);
    kiln_kv turned = num_sub(k, PI_HIGH / 2, sub(k, angle, num(k, angle, PI_LOW / 2)));
    angle = kiln_k_select(k, is_steep, turned, angle);
    kiln_kv is_behind = int_op(k, KILN_K_lt, bits_of(k, x), 0);
    turned = num_sub(k, PI_HIGH, sub(k, angle, num(k, angle, PI_LOW)));
    angle = kiln_k_select(k, is_behind, turned, angle);
    return num_where(k, is_nan, NAN, copy_sign(k, angle, y));
}

kiln_kv kiln_math_atan2(kiln_kernel *k, kiln_kv y, kiln_kv x)
{
    if (is_f64(k, y)) return angle_of(k, y, x, true);
    kiln_kv wide_y = kiln_k_convert(k, y, KILN_f64), wide_x = kiln_k_convert(k, x, KILN_f64);
    return kiln_k_convert(k, angle_of(k, wide_y, wide_x, false), KILN_f32);
}

kiln_kv kiln_math_atan(kiln_kernel *k, kiln_kv x)
{
    return kiln_math_atan2(k, x, num(k, x, 1.0));
}
