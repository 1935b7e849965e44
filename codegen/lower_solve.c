/* Cholesky factors and triangular systems, a matrix a tile (systems: a block of columns). Both work
 * in scratch memory in compute form, so that narrow types are rounded once, and every element is
 * one chain over ascending k: the lanes are columns. The Cholesky factor is kept as rows of its
 * transpose, which the update of what is left reads and writes by vectors. */
#include "base/checked.h"
#include "codegen/lower_routine.h"
#include "codegen/math.h"

#define COLUMNS 64 /* of a block of right sides */

typedef struct solve_walk {
    kiln_lower *lower;
    const kiln_node *node;
    const kiln_type *type;
    kiln_dtype compute;
    uint32_t lanes, work; /* `work` is the local */
    int64_t n, m, pitch;  /* rows, columns, columns in the local */
    kiln_nest nest;
    kiln_index at; /* the batch axes are set */
} solve_walk;

static kiln_kv i64_of(const solve_walk *w, int64_t value)
{
    return kiln_lower_i64(w->lower, value);
}

static kiln_kv local_at(const solve_walk *w, kiln_kv row, kiln_kv column)
{
    kiln_kernel *k = w->lower->kernel;
    return kiln_k_binary(k, KILN_K_add, kiln_k_mul_imm(k, row, w->pitch), column);
}

static kiln_kv load(const solve_walk *w, kiln_kv at, uint32_t lanes)
{
    return kiln_k_load(w->lower->kernel, w->work, at, lanes, 0, 0);
}

static void set_batch(solve_walk *w, kiln_kv number, int64_t n_batch)
{
    kiln_axis_index linear = kiln_axis_scalar(number, 1);
    linear.extent = n_batch;
    kiln_lower_delinearize(w->lower, linear, w->type->rank - 2, w->type->dims, w->at.axis);
}

/* Operand `i` at [row, column] of the batch at hand. */
static kiln_kv operand_at(solve_walk *w, uint32_t i, kiln_axis_index row, kiln_axis_index column)
{
    kiln_index index = w->at;
    index.axis[index.rank - 2] = row;
    index.axis[index.rank - 1] = column;
    return kiln_lower_value(w->lower, w->node->inputs[i], &index);
}

static kiln_kv round_down(const solve_walk *w, kiln_kv value)
{
    kiln_kernel *k = w->lower->kernel;
    return kiln_k_binary(k, KILN_K_and, value, kiln_k_const_i64(k, -(int64_t)w->lanes));
}

/* Row k of the transpose from the matrix's column k; zeros in the padding. */
static void load_column(kiln_lower *lower, void *state, kiln_axis_index at)
{
    solve_walk *w = state;
    kiln_axis_index row = w->at.axis[w->at.rank - 2];
    kiln_kv value = operand_at(w, 0, at, row);
    if (lower->mask)
        value = kiln_k_select(lower->kernel, lower->mask, value,
                              kiln_k_const_float(lower->kernel, w->compute, lower->lanes, 0));
    kiln_k_store(lower->kernel, w->work, local_at(w, row.base, at.base), value, 0, 0);
}

/* Divides row k by the root of its diagonal element, then subtracts its products from the rows
 * below. */
static void eliminate(solve_walk *w, kiln_kv k_row)
{
    kiln_kernel *k = w->lower->kernel;
    kiln_kv root = kiln_k_unary(k, KILN_K_sqrt, load(w, local_at(w, k_row, k_row), 1));
    kiln_kv end = i64_of(w, w->pitch);
    kiln_kv column = kiln_nest_loop(&w->nest, round_down(w, k_row), end, w->lanes);
    kiln_kv at = local_at(w, k_row, column);
    kiln_kv scaled =
        kiln_k_binary(k, KILN_K_div, load(w, at, w->lanes), kiln_k_splat(k, root, w->lanes));
    kiln_k_store(k, w->work, at, scaled, 0, 0);
    kiln_nest_close(&w->nest, w->nest.n - 1);
    kiln_kv row = kiln_nest_loop(&w->nest, kiln_k_add_imm(k, k_row, 1), i64_of(w, w->n), 1);
    kiln_kv factor = kiln_k_unary(k, KILN_K_neg, load(w, local_at(w, k_row, row), 1));
    factor = kiln_k_splat(k, factor, w->lanes);
    column = kiln_nest_loop(&w->nest, round_down(w, row), end, w->lanes);
    kiln_kv from = load(w, local_at(w, k_row, column), w->lanes);
    at = local_at(w, row, column);
    kiln_k_store(k, w->work, at, kiln_k_fma(k, factor, from, load(w, at, w->lanes)), 0, 0);
    kiln_nest_close(&w->nest, w->nest.n - 2);
}

/* Row i of the result: column i of the transpose, zeros above the diagonal. */
static void store_row(kiln_lower *lower, void *state, kiln_axis_index at)
{
    solve_walk *w = state;
    kiln_kernel *k = lower->kernel;
    kiln_axis_index row = w->at.axis[w->at.rank - 2];
    kiln_access access = {.buffer = w->work,
                          .dtype = KILN_NO_DTYPE,
                          .lanes = lower->lanes,
                          .mask = lower->mask,
                          .offset = kiln_axis_affine(lower, &at, w->pitch, 0)};
    access.offset = kiln_axis_add(lower, &access.offset, &row);
    kiln_kv value = kiln_lower_load_at(lower, &access);
    kiln_kv places = kiln_axis_lanes(lower, &at, lower->lanes);
    kiln_kv is_low = kiln_k_binary(k, KILN_K_le, places, kiln_k_splat(k, row.base, lower->lanes));
    kiln_kv zero = kiln_k_const_float(k, w->compute, lower->lanes, 0);
    value = kiln_math_round_to(k, kiln_k_select(k, is_low, value, zero), w->type->dtype);
    kiln_index index = w->at;
    index.axis[index.rank - 1] = at;
    kiln_lower_store(lower, 0, &index, value);
}

static void walk_rows(solve_walk *w, kiln_lanes_fn *body)
{
    kiln_kv row = kiln_nest_loop(&w->nest, i64_of(w, 0), i64_of(w, w->n), 1);
    w->at.axis[w->at.rank - 2] = kiln_axis_scalar(row, 1);
    kiln_nest_lanes(w->lower, &(kiln_lanes_loop){i64_of(w, 0), i64_of(w, w->n), w->lanes, body, w});
    kiln_nest_close(&w->nest, w->nest.n - 1);
}

static solve_walk walk_open(kiln_lower *lower)
{
    solve_walk w = {.lower = lower, .node = kiln_routine_node(lower), .nest = {.lower = lower}};
    w.type = w.node->type;
    w.compute = kiln_compute_dtype(w.type->dtype);
    w.n = w.type->dims[w.type->rank - 2];
    w.m = w.type->dims[w.type->rank - 1];
    w.at.rank = w.type->rank;
    w.lanes = kiln_machine_lanes(lower->machine, w.compute);
    lower->lanes = 1;
    return w;
}

void kiln_lower_cholesky(kiln_lower *lower)
{
    solve_walk w = walk_open(lower);
    int64_t n_batch = w.type->n_elements ? w.type->n_elements / (w.n * w.n) : 0;
    w.pitch = kiln_ceil_div(w.n, w.lanes) * w.lanes;
    int64_t size = w.n;
    if (!kiln_checked_mul(size, w.pitch, &size) || size > INT32_MAX)
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: a matrix of %lld rows; expected fewer",
                  lower->group->label, (long long)w.n);
    w.work = kiln_kernel_add_local(lower->kernel, w.compute, size > 0 ? size : 1);
    kiln_kv tile = kiln_nest_tiles(&w.nest, n_batch);
    if (n_batch > 0) {
        set_batch(&w, tile, n_batch);
        walk_rows(&w, load_column);
        eliminate(&w, kiln_nest_loop(&w.nest, i64_of(&w, 0), i64_of(&w, w.n), 1));
        kiln_nest_close(&w.nest, w.nest.n - 1);
        walk_rows(&w, store_row);
    }
    kiln_nest_close(&w.nest, 0);
}

/* Element i of the block's columns from `first` on: what the rows above leave of the right side,
 * divided by the diagonal. */
static void solve_row(solve_walk *w, kiln_kv row, kiln_kv first, uint32_t n_vectors)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv carries[COLUMNS], starts[COLUMNS];
    kiln_axis_index here = kiln_axis_scalar(row, 1);
    for (uint32_t v = 0; v < n_vectors; v++) {
        kiln_kv at = kiln_k_add_imm(k, first, (int64_t)v * w->lanes);
        kiln_kv left = kiln_k_binary(k, KILN_K_sub, i64_of(w, w->m), at);
        lower->lanes = w->lanes;
        kiln_axis_index column = kiln_axis_vector(at, 1);
        kiln_kv inside = kiln_k_active(k, w->lanes, left);
        column.is_guarded = true;
        kiln_index index = w->at;
        index.axis[index.rank - 2] = here;
        index.axis[index.rank - 1] = column;
        starts[v] = kiln_lower_value_where(lower, w->node->inputs[1], &index, inside);
        lower->lanes = 1;
    }
    kiln_kv above = kiln_nest_loop(&w->nest, i64_of(w, 0), row, 1);
    for (uint32_t v = 0; v < n_vectors; v++) carries[v] = kiln_k_carry(k, starts[v]);
    kiln_kv factor = operand_at(w, 0, here, kiln_axis_scalar(above, 1));
    factor = kiln_k_splat(k, kiln_k_unary(k, KILN_K_neg, factor), w->lanes);
    for (uint32_t v = 0; v < n_vectors; v++) {
        kiln_kv from = local_at(w, above, i64_of(w, (int64_t)v * w->lanes));
        kiln_kv next = kiln_k_fma(k, factor, load(w, from, w->lanes), carries[v]);
        kiln_k_next(k, carries[v], next);
    }
    kiln_nest_close(&w->nest, w->nest.n - 1);
    kiln_kv diagonal = 0;
    if (!w->node->attrs->unit.unit_diagonal) diagonal = operand_at(w, 0, here, here);
    for (uint32_t v = 0; v < n_vectors; v++) {
        kiln_kv value = kiln_k_last(k, carries[v]);
        if (diagonal)
            value = kiln_k_binary(k, KILN_K_div, value, kiln_k_splat(k, diagonal, w->lanes));
        kiln_k_store(k, w->work, local_at(w, row, i64_of(w, (int64_t)v * w->lanes)), value, 0, 0);
    }
}

/* Copies a row of the block from the local to the result. */
static void store_solution(kiln_lower *lower, void *state, kiln_axis_index at)
{
    solve_walk *w = state;
    kiln_axis_index row = w->at.axis[w->at.rank - 2];
    kiln_kv value = kiln_k_load(lower->kernel, w->work, local_at(w, row.base, at.base),
                                lower->lanes, lower->mask, 0);
    kiln_index index = w->at;
    index.axis[index.rank - 1] = kiln_axis_add(lower, &at, &w->at.axis[w->at.rank - 1]);
    kiln_lower_store(lower, 0, &index, kiln_math_round_to(lower->kernel, value, w->type->dtype));
}

void kiln_lower_forward_solve(kiln_lower *lower)
{
    solve_walk w = walk_open(lower);
    int64_t n_batch = w.type->n_elements ? w.type->n_elements / (w.n * w.m) : 0, size, n_tiles;
    w.pitch = kiln_ceil_div(w.m < COLUMNS ? w.m : COLUMNS, w.lanes) * w.lanes;
    int64_t n_blocks = kiln_ceil_div(w.m, w.pitch > 0 ? w.pitch : 1);
    if (!kiln_checked_mul(w.n, w.pitch, &size) || size > INT32_MAX ||
        !kiln_checked_mul(n_blocks, n_batch, &n_tiles))
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: a system of %lld rows; expected fewer",
                  lower->group->label, (long long)w.n);
    w.work = kiln_kernel_add_local(lower->kernel, w.compute, size > 0 ? size : 1);
    kiln_kv tile = kiln_nest_tiles(&w.nest, n_tiles);
    if (n_tiles > 0) {
        set_batch(&w, kiln_lower_op_imm(lower, KILN_K_div, tile, n_blocks), n_batch);
        kiln_kv first = kiln_lower_op_imm(lower, KILN_K_rem, tile, n_blocks);
        first = kiln_lower_op_imm(lower, KILN_K_mul, first, w.pitch);
        kiln_kv left = kiln_lower_op(lower, KILN_K_sub, i64_of(&w, w.m), first);
        left = kiln_lower_op_imm(lower, KILN_K_min, left, w.pitch);
        kiln_kv row = kiln_nest_loop(&w.nest, i64_of(&w, 0), i64_of(&w, w.n), 1);
        solve_row(&w, row, first, (uint32_t)(w.pitch / w.lanes));
        w.at.axis[w.at.rank - 2] = kiln_axis_scalar(row, 1);
        w.at.axis[w.at.rank - 1] = kiln_axis_scalar(first, 1);
        kiln_nest_lanes(lower,
                        &(kiln_lanes_loop){i64_of(&w, 0), left, w.lanes, store_solution, &w});
        kiln_nest_close(&w.nest, w.nest.n - 1);
    }
    kiln_nest_close(&w.nest, 0);
}
