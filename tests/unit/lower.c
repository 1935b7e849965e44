/* Pointwise groups: elementwise chains, views, moves, transposes, every dtype, odd sizes. */
#include "lowered.h"

static void build_chain(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 7, 333), y = IN("y", f32, 7, 333);
    OUT(kiln_tanh(g, kiln_add(g, kiln_mul(g, x, y), kiln_exp(g, x))));
}

static void build_odd_sizes(kiln_graph *g)
{
    for (int64_t n = 0; n <= 35; n += n < 20 ? 1 : 5) {
        char name[16];
        snprintf(name, sizeof name, "x%d", (int)n);
        kiln_value x = kiln_input(g, name, KILN_f32, 1, &n);
        OUT(kiln_add(g, x, x));
    }
}

/* Blocks of the inner axis, the last one with fewer elements than a vector. */
static void build_odd_blocks(kiln_graph *g)
{
    for (int64_t n = 4097; n < 8192; n += 2053) {
        char name[16];
        snprintf(name, sizeof name, "x%d", (int)n);
        OUT(kiln_exp(g, kiln_input(g, name, KILN_f32, 1, &n)));
    }
    OUT(kiln_tanh(g, IN("rows", f32, 3, 4099)));
}

static void build_scalar(kiln_graph *g)
{
    kiln_value x = kiln_input(g, "x", KILN_f32, 0, NULL);
    OUT(kiln_exp(g, x));
}

static void build_bias(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 5, 3, 70), b = IN("b", f32, 70), c = IN("c", f32, 3, 1),
               d = IN("d", f32, 1);
    OUT(kiln_add(g, kiln_mul(g, kiln_add(g, x, b), c), d));
}

static void build_small_channels(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 50, 3), b = IN("b", f32, 3);
    OUT(kiln_mul(g, x, b));
}

static void build_transpose(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 37, 53), y = IN("y", f32, 53, 37);
    OUT(kiln_add(g, kiln_transpose(g, x, NULL), y));
}

/* Blocks that begin earlier at both edges, in chunks that end with less than a block. */
static void build_transpose_edges(kiln_graph *g)
{
    OUT(kiln_transpose(g, IN("x", f32, 261, 69), NULL));
}

static void build_transpose_batch(kiln_graph *g)
{
    OUT(kiln_neg(g, kiln_transpose(g, IN("x", f32, 2, 261, 263), LIST(0, 2, 1))));
}

static void build_transpose_narrow(kiln_graph *g)
{
    OUT(kiln_transpose(g, IN("x", f32, 261, 5), NULL));
}

static void build_transpose_4d(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 2, 5, 6, 19);
    OUT(kiln_exp(g, kiln_transpose(g, x, LIST(0, 3, 1, 2))));
    OUT(kiln_transpose(g, kiln_neg(g, x), LIST(0, 3, 1, 2)));
}

/* Axes shorter than a block, on either side. */
static void build_transpose_channels(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 2, 3, 17, 19), y = IN("y", u8, 2, 37, 3), z = IN("z", f32, 4, 301);
    OUT(kiln_transpose(g, x, LIST(0, 2, 3, 1)));
    OUT(kiln_transpose(g, y, LIST(0, 2, 1)));
    OUT(kiln_transpose(g, z, NULL));
    OUT(kiln_transpose(g, IN("v", f64, 2, 301), NULL));
}

/* Rows of a short vector interleave. */
static void build_transpose_bytes(kiln_graph *g)
{
    OUT(kiln_transpose(g, IN("x", i8, 37, 43), NULL));
    OUT(kiln_transpose(g, IN("y", i16, 37, 43), NULL));
    OUT(kiln_transpose(g, IN("z", u8, 370, 430), NULL));
}

static void build_transpose_self(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 45, 45);
    OUT(kiln_sub(g, x, kiln_transpose(g, x, NULL)));
    OUT(kiln_exp(g, kiln_mul(g, x, kiln_transpose(g, x, NULL))));
}

static void build_transpose_bf16(kiln_graph *g)
{
    kiln_value x = IN("x", bf16, 3, 40, 33), y = IN("y", bf16, 33);
    OUT(kiln_add(g, kiln_transpose(g, x, LIST(0, 2, 1)), kiln_reshape(g, y, DIMS(33, 1))));
}

static void build_nchw(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 2, 7, 9, 24), b = IN("b", f32, 24, 1, 1);
    OUT(kiln_add(g, kiln_transpose(g, x, LIST(0, 3, 1, 2)), b));
}

static void build_nhwc(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 2, 24, 7, 9), y = IN("y", f64, 2, 24, 7, 9);
    OUT(kiln_neg(g, kiln_transpose(g, x, LIST(0, 2, 3, 1))));
    OUT(kiln_transpose(g, y, LIST(0, 2, 3, 1)));
}

static void build_heads(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 4, 10, 96);
    kiln_value h = kiln_transpose(g, kiln_reshape(g, x, DIMS(4, 10, 6, 16)), LIST(0, 2, 1, 3));
    OUT(kiln_mul(g, h, h));
}

static void build_slices(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 9, 70);
    kiln_slice_options even = {LIST(1, 2), LIST(9, 70), LIST(2, 3)};
    kiln_slice_options part = {LIST(2, 5), LIST(6, 28), NULL};
    OUT(kiln_add(g, kiln_slice(g, x, &even), kiln_slice(g, x, &part)));
    OUT(kiln_neg(g, kiln_reverse(g, x, 2, LIST(0, 1))));
    OUT(kiln_neg(g, kiln_reverse(g, x, 1, LIST(0))));
}

static void build_pads(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 3, 21), v = kiln_input(g, "v", KILN_f32, 0, NULL);
    kiln_pad_options around = {LIST(1, 4), LIST(2, 3), NULL},
                     crop = {LIST(-1, -5), LIST(2, -3), NULL};
    kiln_pad_options between = {LIST(1, 2), LIST(0, 1), LIST(1, 2)};
    OUT(kiln_exp(g, kiln_pad(g, x, v, &around)));
    OUT(kiln_pad(g, x, v, &crop));
    OUT(kiln_pad(g, kiln_exp(g, x), v, &between));
    kiln_value empty = kiln_input(g, "empty", KILN_f32, DIMS(0, 21));
    OUT(kiln_pad(g, empty, v, &around));
}

static void build_concats(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 3, 21), y = IN("y", f32, 3, 2), z = IN("z", f32, 3, 40);
    kiln_value e = IN("e", f32, 3, 0), w = IN("w", f32, 2, 21);
    OUT(kiln_concat(g, 4, (kiln_value[]){kiln_exp(g, x), y, e, z}, 1));
    OUT(kiln_neg(g, kiln_concat(g, 3, (kiln_value[]){x, w, x}, 0)));
}

static void build_nested_moves(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 4, 6), v = kiln_scalar(g, KILN_f32, 7);
    kiln_pad_options by = {LIST(0, 2), LIST(0, 2), NULL};
    kiln_value p = kiln_reshape(g, kiln_pad(g, x, v, &by), DIMS(2, 20));
    kiln_value q = kiln_pad(g, kiln_reshape(g, p, DIMS(8, 5)), v, &by);
    OUT(kiln_concat(g, 2, (kiln_value[]){q, kiln_reverse(g, q, 1, LIST(1))}, 1));
    OUT(kiln_reshape(g, kiln_concat(g, 2, (kiln_value[]){x, x}, 0), DIMS(48)));
}

static void build_takes(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 7, 33), i = IN("i", i32, 2, 5), j = IN("j", i64, 6),
               b = IN("b", u8, 3);
    OUT(kiln_exp(g, kiln_take(g, x, i, 0)));
    OUT(kiln_take(g, x, j, 1));
    OUT(kiln_take(g, kiln_transpose(g, x, NULL), b, 1));
}

static void build_dynamic(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 7, 33), s = IN("s", i64, 2), b = IN("b", f32, 3, 20);
    OUT(kiln_dynamic_slice(g, x, s, LIST(3, 20)));
    OUT(kiln_dynamic_update(g, x, b, s));
}

static void build_iotas(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 5, 40);
    kiln_value row = kiln_iota(g, KILN_f32, DIMS(5, 40), 0),
               col = kiln_iota(g, KILN_f32, DIMS(5, 40), 1);
    OUT(kiln_select(g, kiln_le(g, col, row), x, kiln_scalar(g, KILN_f32, -1)));
    OUT(kiln_iota(g, KILN_i64, DIMS(5, 40), 1));
    OUT(kiln_reshape(g, kiln_iota(g, KILN_i32, DIMS(5, 40), 0), DIMS(200)));
}

static void build_constants(kiln_graph *g)
{
    static const float four[] = {1, -2, 3.5f, 8};
    static const uint8_t flags[] = {1, 0, 0, 1, 1};
    kiln_value x = IN("x", f32, 5, 4), c = kiln_constant(g, KILN_f32, DIMS(4), four);
    kiln_value f = kiln_constant(g, KILN_bool, DIMS(5, 1), flags);
    OUT(kiln_select(g, kiln_broadcast(g, kiln_reshape(g, f, DIMS(5)), DIMS(5, 4), LIST(0)),
                    kiln_mul(g, x, c), kiln_scalar(g, KILN_f32, 0.5)));
}

static void build_dtypes(kiln_graph *g)
{
    kiln_value a = IN("a", bf16, 77), b = IN("b", f16, 77), c = IN("c", i8, 77),
               d = IN("d", bool, 77);
    kiln_value e = IN("e", f64, 77), f = IN("f", i64, 77), h = IN("h", u16, 77);
    OUT(kiln_add(g, a, a));
    OUT(kiln_mul(g, b, kiln_convert(g, c, KILN_f16)));
    OUT(kiln_select(g, d, e, kiln_convert(g, f, KILN_f64)));
    OUT(kiln_not(g, d));
    OUT(kiln_add(g, c, c));
    OUT(kiln_convert(g, h, KILN_f32));
    OUT(kiln_lt(g, e, kiln_convert(g, a, KILN_f64)));
}

static void build_gathered_dtypes(kiln_graph *g)
{
    kiln_value a = IN("a", bf16, 7, 19), c = IN("c", i8, 7, 19), d = IN("d", bool, 7, 19);
    kiln_value e = IN("e", f64, 7, 19);
    OUT(kiln_transpose(g, kiln_neg(g, a), NULL));
    OUT(kiln_transpose(g, kiln_neg(g, c), NULL));
    OUT(kiln_transpose(g, kiln_not(g, d), NULL));
    OUT(kiln_transpose(g, kiln_neg(g, e), NULL));
}

static void build_large(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 3, 40007);
    OUT(kiln_add(g, x, x));
    OUT(kiln_exp(g, kiln_reshape(g, x, DIMS(40007, 3))));
}

static void build_copy(kiln_graph *g)
{
    OUT(kiln_barrier(g, IN("x", u8, 1000)));
}

static const group_case cases[] = {
    {"chain", KILN_GROUP_POINTWISE, build_chain, 1e-6},
    {"odd_sizes", KILN_GROUP_POINTWISE, build_odd_sizes, 0},
    {"odd_blocks", KILN_GROUP_POINTWISE, build_odd_blocks, 1e-6},
    {"scalar", KILN_GROUP_POINTWISE, build_scalar, 1e-6},
    {"bias", KILN_GROUP_POINTWISE, build_bias, 1e-6},
    {"small_channels", KILN_GROUP_POINTWISE, build_small_channels, 0},
    {"transpose", KILN_GROUP_POINTWISE, build_transpose, 0},
    {"transpose_edges", KILN_GROUP_POINTWISE, build_transpose_edges, 0},
    {"transpose_batch", KILN_GROUP_POINTWISE, build_transpose_batch, 0},
    {"transpose_narrow", KILN_GROUP_POINTWISE, build_transpose_narrow, 0},
    {"transpose_channels", KILN_GROUP_POINTWISE, build_transpose_channels, 0},
    {"transpose_bytes", KILN_GROUP_POINTWISE, build_transpose_bytes, 0},
    {"transpose_4d", KILN_GROUP_POINTWISE, build_transpose_4d, 1e-6},
    {"transpose_self", KILN_GROUP_POINTWISE, build_transpose_self, 1e-6},
    {"transpose_bf16", KILN_GROUP_POINTWISE, build_transpose_bf16, 0},
    {"nchw", KILN_GROUP_POINTWISE, build_nchw, 0},
    {"nhwc", KILN_GROUP_POINTWISE, build_nhwc, 0},
    {"heads", KILN_GROUP_POINTWISE, build_heads, 0},
    {"slices", KILN_GROUP_POINTWISE, build_slices, 0},
    {"pads", KILN_GROUP_POINTWISE, build_pads, 1e-6},
    {"concats", KILN_GROUP_POINTWISE, build_concats, 1e-6},
    {"nested_moves", KILN_GROUP_POINTWISE, build_nested_moves, 0},
    {"takes", KILN_GROUP_POINTWISE, build_takes, 1e-6},
    {"dynamic", KILN_GROUP_POINTWISE, build_dynamic, 0},
    {"iotas", KILN_GROUP_POINTWISE, build_iotas, 0},
    {"constants", KILN_GROUP_POINTWISE, build_constants, 0},
    {"dtypes", KILN_GROUP_POINTWISE, build_dtypes, 0},
    {"gathered_dtypes", KILN_GROUP_POINTWISE, build_gathered_dtypes, 0},
    {"large", KILN_GROUP_POINTWISE, build_large, 1e-6},
    {"copy", KILN_GROUP_ROUTINE, build_copy, 0},
};

int main(void)
{
    return run_cases(cases, sizeof cases / sizeof *cases);
}
