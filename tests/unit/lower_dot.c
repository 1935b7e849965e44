/* Dot groups: operand layouts, tails of rows, columns and k, epilogues, dtypes, few results. */
#include "lowered.h"

static kiln_value dot(kiln_graph *g, kiln_value a, kiln_value b, int64_t a_k, int64_t b_k)
{
    kiln_dot_options options = {.n_contract = 1, .lhs_contract = &a_k, .rhs_contract = &b_k};
    return kiln_dot_general(g, a, b, &options);
}

static void product(kiln_graph *g, int64_t m, int64_t n, int64_t k)
{
    kiln_value a = kiln_input(g, "a", KILN_f32, 2, LIST(m, k));
    kiln_value b = kiln_input(g, "b", KILN_f32, 2, LIST(k, n));
    OUT(dot(g, a, b, 1, 0));
}

static void build_square(kiln_graph *g) { product(g, 64, 64, 64); }
static void build_odd(kiln_graph *g) { product(g, 53, 77, 37); }
static void build_odd_long(kiln_graph *g) { product(g, 53, 77, 521); }
static void build_narrow_long(kiln_graph *g) { product(g, 40, 10, 530); }
static void build_even(kiln_graph *g) { product(g, 128, 128, 128); }
static void build_seven_strips(kiln_graph *g) { product(g, 101, 103, 60); }
static void build_nine_strips(kiln_graph *g) { product(g, 137, 129, 75); }
static void build_row(kiln_graph *g) { product(g, 1, 300, 130); }
static void build_column(kiln_graph *g) { product(g, 300, 1, 130); }
static void build_narrow(kiln_graph *g) { product(g, 40, 10, 33); }
static void build_wide(kiln_graph *g) { product(g, 3, 1000, 5); }
static void build_k1(kiln_graph *g) { product(g, 20, 20, 1); }
static void build_k0(kiln_graph *g) { product(g, 20, 20, 0); }
static void build_m0(kiln_graph *g) { product(g, 0, 20, 8); }
static void build_aliased(kiln_graph *g) { product(g, 26, 160, 1024); }
static void build_chunks(kiln_graph *g) { product(g, 7, 40, 9001); }
static void build_two_chunks(kiln_graph *g) { product(g, 3, 20, 8192); }
static void build_cut_chunks(kiln_graph *g) { product(g, 33, 52, 9001); }
static void build_cut_chunks_evenly(kiln_graph *g) { product(g, 24, 20, 8192); }
static void build_cut_k(kiln_graph *g) { product(g, 100, 52, 2048); }
static void build_cut_rows_and_k(kiln_graph *g) { product(g, 130, 20, 2112); }
static void build_streamed(kiln_graph *g) { product(g, 3, 1003, 530); }
static void build_streamed_row(kiln_graph *g) { product(g, 1, 4096, 130); }
/* Columns that their tiles pack: a block or two of them, whole and ragged register tiles. */
static void build_own_panels(kiln_graph *g) { product(g, 517, 816, 640); }
static void build_own_blocks(kiln_graph *g) { product(g, 648, 416, 1000); }
/* The same in one short kernel: several blocks of rows, columns and k, all ragged. */
static void build_strips(kiln_graph *g) { product(g, 301, 117, 450); }

static void build_turned_strips(kiln_graph *g)
{
    OUT(dot(g, IN("a", f32, 301, 450), IN("b", f32, 117, 450), 1, 1));
}

static void build_narrow_turned(kiln_graph *g)
{
    OUT(dot(g, IN("a", f32, 33, 7), IN("b", f32, 5, 7), 1, 1));
}

static void build_turned_f64(kiln_graph *g)
{
    OUT(dot(g, IN("a", f64, 61, 45), IN("b", f64, 37, 45), 1, 1));
}

static void build_turned_f16(kiln_graph *g)
{
    OUT(dot(g, IN("a", f16, 61, 45), IN("b", f16, 37, 45), 1, 1));
}

static void build_few(kiln_graph *g) { product(g, 3, 5, 200); }
static void build_one(kiln_graph *g) { product(g, 1, 1, 70); }

static void build_a_transposed(kiln_graph *g)
{
    OUT(dot(g, IN("a", f32, 70, 45), IN("b", f32, 70, 200), 0, 0));
}

static void build_b_transposed(kiln_graph *g)
{
    OUT(dot(g, IN("a", f32, 45, 70), IN("b", f32, 50, 70), 1, 1));
}

static void build_both_transposed(kiln_graph *g)
{
    OUT(dot(g, IN("a", f32, 70, 45), IN("b", f32, 50, 70), 0, 1));
}

static void build_few_transposed(kiln_graph *g)
{
    OUT(dot(g, IN("a", f32, 70, 2), IN("b", f32, 3, 70), 0, 1));
}

static void build_batched(kiln_graph *g)
{
    kiln_dot_options options = {.n_batch = 2, .lhs_batch = LIST(0, 2), .rhs_batch = LIST(1, 0),
                                .n_contract = 1, .lhs_contract = LIST(3), .rhs_contract = LIST(2)};
    OUT(kiln_dot_general(g, IN("a", f32, 3, 17, 2, 40), IN("b", f32, 2, 3, 40, 21), &options));
}

static void build_streamed_batch(kiln_graph *g)
{
    kiln_value a = IN("a", f32, 2, 2, 520), b = IN("b", f32, 2, 520, 1030);
    kiln_value y = kiln_add(g, kiln_matmul(g, a, b), IN("c", f32, 1030));
    OUT(kiln_tanh(g, y));
}

static void build_many_axes(kiln_graph *g)
{
    kiln_dot_options options = {
        .n_contract = 2, .lhs_contract = LIST(1, 3), .rhs_contract = LIST(0, 2)};
    OUT(kiln_dot_general(g, IN("a", f32, 5, 3, 7, 4), IN("b", f32, 3, 6, 4, 9), &options));
}

static void build_views(kiln_graph *g)
{
    kiln_value a = IN("a", f32, 4, 10, 30), b = IN("b", f32, 33, 90);
    a = kiln_reshape(g, kiln_transpose(g, a, LIST(1, 0, 2)), 2, LIST(40, 30));
    kiln_slice_options cut = {.starts = LIST(1, 5), .limits = LIST(31, 85)};
    b = kiln_slice(g, b, &cut);
    OUT(dot(g, a, b, 1, 0));
}

static void build_bias_relu(kiln_graph *g)
{
    kiln_value y = dot(g, IN("a", f32, 37, 64), IN("b", f32, 64, 50), 1, 0);
    y = kiln_add(g, y, IN("c", f32, 50));
    OUT(kiln_max(g, y, kiln_scalar(g, KILN_f32, 0)));
}

static void build_gelu_residual(kiln_graph *g)
{
    kiln_value y = dot(g, IN("a", f32, 37, 64), IN("b", f32, 64, 70), 1, 0);
    y = kiln_add(g, y, IN("c", f32, 70));
    kiln_value half = kiln_mul(g, y, kiln_scalar(g, KILN_f32, 0.5));
    kiln_value e = kiln_erf(g, kiln_mul(g, y, kiln_scalar(g, KILN_f32, 0.70710678)));
    y = kiln_mul(g, half, kiln_add(g, e, kiln_scalar(g, KILN_f32, 1)));
    OUT(kiln_add(g, y, IN("r", f32, 37, 70)));
    OUT(kiln_tanh(g, y));
}

static void build_transposed_output(kiln_graph *g)
{
    OUT(kiln_transpose(g, dot(g, IN("a", f32, 21, 64), IN("b", f32, 64, 35), 1, 0), LIST(1, 0)));
}

/* Rows that a take, a gather or a dynamic slice finds, read where they stand. */
static void taken(kiln_graph *g, int64_t m, int64_t n, int64_t k)
{
    kiln_value table = kiln_input(g, "table", KILN_f32, 2, LIST(9, k));
    kiln_value at = kiln_input(g, "at", KILN_i32, 1, LIST(m));
    kiln_value b = kiln_input(g, "b", KILN_f32, 2, LIST(k, n));
    OUT(dot(g, kiln_take(g, table, at, 0), b, 1, 0));
}

static void build_taken(kiln_graph *g) { taken(g, 53, 77, 37); }
static void build_taken_row(kiln_graph *g) { taken(g, 1, 300, 130); }
static void build_own_taken(kiln_graph *g) { taken(g, 515, 400, 257); }
static void build_taken_narrow(kiln_graph *g) { taken(g, 45, 10, 33); }
static void build_taken_streamed(kiln_graph *g) { taken(g, 3, 1003, 530); }
static void build_taken_cut_k(kiln_graph *g) { taken(g, 100, 52, 2048); }
static void build_taken_chunks(kiln_graph *g) { taken(g, 33, 52, 9001); }
static void build_taken_few(kiln_graph *g) { taken(g, 3, 5, 200); }

static void build_taken_of_sequences(kiln_graph *g)
{
    kiln_value at = kiln_add(g, IN("at", i64, 3, 7), kiln_scalar(g, KILN_i64, 1));
    kiln_value rows = kiln_take(g, IN("table", f32, 5, 6, 20), at, 0); /* [3, 7, 6, 20] */
    kiln_value y = dot(g, kiln_reshape(g, rows, 3, LIST(21, 2, 60)), IN("b", f32, 60, 33), 2, 0);
    OUT(kiln_add(g, y, IN("c", f32, 33)));
}

static void build_taken_inside(kiln_graph *g)
{
    kiln_value rows = kiln_take(g, IN("table", f32, 4, 9, 30), IN("at", i32, 11), 1);
    OUT(dot(g, rows, IN("b", f32, 30, 20), 2, 0)); /* [4, 11, 30] */
}

static void build_taken_f64(kiln_graph *g)
{
    kiln_value rows = kiln_take(g, IN("table", f64, 9, 31), IN("at", i32, 19), 0);
    OUT(dot(g, rows, IN("b", f64, 31, 45), 1, 0));
}

/* Columns 2 … of 40 from a place that indices move, rows of two batches. */
static void build_gathered(kiln_graph *g)
{
    kiln_gather_options options = {.n_offset = 1, .offset_axes = LIST(2), .n_collapsed = 1,
                                   .collapsed_axes = LIST(1), .n_batch = 1,
                                   .operand_batch = LIST(0), .indices_batch = LIST(0),
                                   .n_map = 2, .start_map = LIST(1, 2), .index_axis = 2,
                                   .sizes = LIST(1, 1, 35)};
    kiln_value rows = kiln_gather(g, IN("table", f32, 2, 6, 40), IN("at", i32, 2, 13, 2), &options);
    OUT(dot(g, rows, IN("b", f32, 35, 50), 2, 0));
}

static void build_sliced(kiln_graph *g)
{
    kiln_value rows = kiln_dynamic_slice(g, IN("a", f32, 30, 24), IN("at", i64, 2), LIST(21, 17));
    OUT(dot(g, rows, IN("b", f32, 17, 50), 1, 0));
}

#define TYPED(name, dtype)                                                                         \
    static void build_##name(kiln_graph *g)                                                        \
    {                                                                                              \
        OUT(dot(g, IN("a", dtype, 19, 31), IN("b", dtype, 31, 45), 1, 0));                         \
    }
TYPED(f64, f64)
TYPED(bf16, bf16)
TYPED(f16, f16)
TYPED(i32, i32)
TYPED(i64, i64)

#define CASE(name, tolerance) {#name, KILN_GROUP_DOT, build_##name, tolerance}
#define PACKED(name, tolerance) {#name " packed", KILN_GROUP_DOT, build_##name, tolerance, true}

static const group_case cases[] = {
    CASE(square, 1e-4),
    CASE(odd, 1e-4),
    CASE(odd_long, 1e-3),
    CASE(narrow_long, 1e-3),
    CASE(even, 1e-4),
    CASE(seven_strips, 1e-4),
    CASE(nine_strips, 1e-4),
    CASE(row, 1e-4),
    CASE(column, 1e-4),
    CASE(narrow, 1e-4),
    CASE(wide, 1e-4),
    CASE(k1, 1e-5),
    CASE(k0, 0),
    CASE(m0, 0),
    CASE(aliased, 1e-3),
    CASE(chunks, 1e-3),
    CASE(two_chunks, 1e-3),
    CASE(cut_k, 1e-3),
    CASE(streamed, 1e-3),
    CASE(streamed_row, 1e-3),
    CASE(streamed_batch, 1e-3),
    CASE(own_panels, 1e-3),
    CASE(own_blocks, 1e-3),
    CASE(own_taken, 1e-3),
    CASE(strips, 1e-3),
    CASE(turned_strips, 1e-3),
    CASE(narrow_turned, 1e-4),
    CASE(turned_f64, 1e-12),
    CASE(turned_f16, 2e-3),
    CASE(few, 1e-4),
    CASE(one, 1e-4),
    CASE(a_transposed, 1e-4),
    CASE(b_transposed, 1e-4),
    CASE(both_transposed, 1e-4),
    CASE(few_transposed, 1e-4),
    CASE(batched, 1e-4),
    CASE(many_axes, 1e-4),
    CASE(views, 1e-4),
    CASE(bias_relu, 1e-4),
    CASE(gelu_residual, 1e-4),
    CASE(transposed_output, 1e-4),
    CASE(taken, 1e-4),
    CASE(taken_row, 1e-4),
    CASE(taken_narrow, 1e-4),
    CASE(taken_streamed, 1e-3),
    CASE(taken_few, 1e-4),
    CASE(taken_of_sequences, 1e-4),
    CASE(taken_inside, 1e-4),
    CASE(taken_f64, 1e-12),
    CASE(gathered, 1e-4),
    CASE(sliced, 1e-4),
    PACKED(taken, 1e-4),
    PACKED(taken_cut_k, 1e-3),
    PACKED(taken_chunks, 1e-3),
    PACKED(gathered, 1e-4),
    CASE(f64, 1e-12),
    CASE(bf16, 1e-2),
    CASE(f16, 2e-3),
    CASE(i32, 0),
    CASE(i64, 0),
    PACKED(square, 1e-4),
    PACKED(odd, 1e-4),
    PACKED(row, 1e-4),
    PACKED(column, 1e-4),
    PACKED(narrow, 1e-4),
    PACKED(chunks, 1e-3),
    PACKED(cut_k, 1e-3),
    PACKED(cut_chunks, 1e-3),
    CASE(cut_chunks_evenly, 1e-3),
    PACKED(cut_rows_and_k, 1e-3),
    PACKED(few, 1e-4),
    PACKED(few_transposed, 1e-4),
    PACKED(b_transposed, 1e-4),
    PACKED(batched, 1e-4),
    PACKED(many_axes, 1e-4),
    PACKED(gelu_residual, 1e-4),
    PACKED(f64, 1e-12),
    PACKED(bf16, 1e-2),
    PACKED(i32, 0),
    PACKED(k0, 0),
};

int main(void)
{
    return run_cases(cases, sizeof cases / sizeof *cases);
}
