/* The operands of a dot: strided memory read in place, panels, or copies in a local. Copies serve
 * dtypes that must be converted, k that is not contiguous, many rows whose distance is a multiple
 * of 4 KiB (they would fight for one set of the first cache), and views that are not strided. */
#include "codegen/lower_dot.h"

#include "base/checked.h"
#include "codegen/math.h"
#include "kiln/program.h"
#include "passes/row_move.h"

#define ALIAS_BYTES 4096
#define ALIAS_ROWS 8             /* more fight for the twelve lines of a set */
#define LINE_BYTES 64
#define COPY_PAD 16              /* elements */
#define COPY_BYTES (1024 * 1024) /* most of a register tile's rows that are worth a copy */

/* One stride for all axes of a role, or false. Axes of one element do not count. */
static bool single_stride(const kiln_strided *strided, kiln_ints axes, const int64_t *dims,
                          int64_t *out_stride)
{
    bool is_first = true;
    int64_t expected = 0;
    *out_stride = 0;
    for (uint32_t i = axes.n; i-- > 0;) {
        int64_t dim = dims[i], stride = strided->strides[axes.at[i]];
        if (dim == 1) continue;
        if (is_first) *out_stride = stride;
        if (!is_first && stride != expected) return false;
        expected = stride * dim;
        is_first = false;
    }
    return true;
}

static kiln_tile_source source_of(const kiln_lower *lower, uint32_t input)
{
    kiln_value value = lower->group->inputs[input].value;
    kiln_dtype dtype = kiln_graph_type(lower->graph, value)->dtype;
    return (kiln_tile_source){.buffer = lower->buffer_of[input], .dtype = dtype};
}

static uint32_t find_panels(const kiln_dot *dot)
{
    const kiln_group *group = dot->lower->group;
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        const kiln_operand *operand = &group->inputs[i];
        bool is_it =
            operand->value.id == dot->b.value.id && operand->consumer.id == group->anchor.id;
        if (is_it && operand->format == KILN_FORMAT_PANEL16) return i;
    }
    return KILN_NONE;
}

static bool has_steps(kiln_dot *dot, kiln_dot_operand *operand, kiln_ints free_axes,
                      const int64_t *dims, kiln_ints k_axes)
{
    operand->source = source_of(dot->lower, operand->strided.input);
    return single_stride(&operand->strided, free_axes, dims, &operand->step) &&
           single_stride(&operand->strided, k_axes, dot->k_dims, &operand->k_step);
}

/* Whether an operand is strided with one stride for its free axes and one for k. */
static bool is_regular(kiln_dot *dot, kiln_dot_operand *operand, kiln_ints free_axes,
                       const int64_t *dims, kiln_ints k_axes)
{
    return kiln_lower_strided(dot->lower, operand->value, &operand->strided) &&
           has_steps(dot, operand, free_axes, dims, k_axes);
}

/* The same of what an operand is computed from, where it is. */
static bool is_regular_under(kiln_dot *dot, kiln_dot_operand *operand, kiln_ints free_axes,
                             const int64_t *dims, kiln_ints k_axes)
{
    return kiln_lower_strided_under(dot->lower, operand->value, &operand->strided) &&
           has_steps(dot, operand, free_axes, dims, k_axes);
}

bool kiln_dot_rows_are_regular(kiln_dot *dot)
{
    return is_regular(dot, &dot->a, dot->roles.a_m, dot->m_dims, dot->roles.a_k);
}

static bool is_in_sum_dtype(const kiln_dot *dot, const kiln_dot_operand *operand)
{
    return kiln_graph_type(dot->lower->graph, operand->value)->dtype == dot->dtype;
}

bool kiln_dot_has_row_move(const kiln_dot *dot)
{
    const kiln_lower *lower = dot->lower;
    kiln_value move = kiln_dot_row_move(&lower->scope->arena, lower->graph, lower->group->anchor);
    return move.id && kiln_lower_position(lower, move) != KILN_NONE;
}

/* Rows that a move of the group says where to find; false where their elements do not lie together
 * in the place that what it reads has. */
static bool find_rows(kiln_dot *dot)
{
    kiln_lower *lower = dot->lower;
    if (!kiln_dot_has_row_move(dot)) return false;
    kiln_value move = kiln_dot_row_move(&lower->scope->arena, lower->graph, lower->group->anchor);
    kiln_value table = kiln_graph_node(lower->graph, move)->inputs[0];
    const kiln_type *type = kiln_graph_type(lower->graph, table);
    kiln_strided strided;
    if (!kiln_lower_strided(lower, table, &strided)) return false;
    int64_t together = 1;
    for (uint32_t i = type->rank; i-- > 0 && together < dot->roles.k_size;) {
        if (type->dims[i] > 1 && strided.strides[i] != together) return false;
        together *= type->dims[i];
    }
    dot->a.mode = KILN_DOT_ROWS;
    dot->a.source = source_of(lower, strided.input);
    dot->a.k_step = 1;
    return true;
}

static void find_a(kiln_dot *dot)
{
    kiln_dot_operand *a = &dot->a;
    if (find_rows(dot)) return;
    bool is_strided = is_regular(dot, a, dot->roles.a_m, dot->m_dims, dot->roles.a_k);
    int64_t width = (int64_t)dot->vectors * dot->lanes,
            size = (int64_t)kiln_dtype_bytes(dot->dtype);
    bool is_reused = dot->block_columns >= 4 * width && dot->roles.m_size > 1;
    bool is_aliased =
        a->step * size % ALIAS_BYTES == 0 && dot->roles.k_size >= 256 && dot->rows > ALIAS_ROWS;
    bool is_slow = a->k_step != 1 || is_aliased;
    bool is_short = dot->roles.k_size * dot->rows * size <= COPY_BYTES;
    if (is_strided && is_in_sum_dtype(dot, a) && !(is_slow && is_reused && is_short)) {
        a->mode = KILN_DOT_DIRECT;
        return;
    }
    a->mode = is_strided && a->step == 1 && a->k_step != 1 ? KILN_DOT_COPY_M : KILN_DOT_COPY_K;
}

void kiln_dot_find_operands(kiln_dot *dot)
{
    find_a(dot);
    kiln_dot_operand *b = &dot->b;
    if (dot->widen) return;
    uint32_t panels = find_panels(dot);
    if (panels != KILN_NONE) {
        b->mode = KILN_DOT_PANELS;
        b->source = source_of(dot->lower, panels);
        return;
    }
    bool is_strided = is_regular(dot, b, dot->roles.b_n, dot->n_dims, dot->roles.b_k);
    bool is_unit = b->step == 1 || dot->roles.n_size == 1;
    b->mode = is_strided && is_unit ? KILN_DOT_DIRECT : KILN_DOT_COPY_K;
}

void kiln_dot_add_locals(kiln_dot *dot)
{
    kiln_dot_operand *a = &dot->a, *b = &dot->b;
    int64_t k = dot->roles.k_size;
    if (a->mode == KILN_DOT_COPY_K) {
        a->k_step = 1;
        a->step = kiln_round_up(k, 2 * COPY_PAD) + COPY_PAD; /* an odd number of lines */
        a->source.buffer =
            kiln_kernel_add_local(dot->lower->kernel, dot->dtype, dot->block_rows * a->step);
        a->source.dtype = KILN_NO_DTYPE;
    } else if (a->mode == KILN_DOT_COPY_M) {
        a->step = 1;
        a->k_step = kiln_round_up(dot->block_rows, 2 * COPY_PAD) + COPY_PAD;
        a->source.buffer = kiln_kernel_add_local(dot->lower->kernel, dot->dtype, k * a->k_step);
        a->source.dtype = KILN_NO_DTYPE;
    }
    if (b->mode == KILN_DOT_OWN_PANELS) kiln_dot_add_panels(dot);
    if (b->mode == KILN_DOT_STRIPS) kiln_dot_add_strips(dot);
    if (b->mode != KILN_DOT_COPY_K) return;
    b->step = 1;
    b->k_step = (int64_t)dot->vectors * dot->lanes;
    if (dot->widen) k = dot->k_block_size + 1; /* codes may come in pairs */
    b->source.buffer = kiln_kernel_add_local(dot->lower->kernel, dot->dtype, k * b->k_step);
    b->source.dtype = KILN_NO_DTYPE;
}

/* Spreads number `at` over the axes of a role. */
static void spread(kiln_dot *dot, kiln_axis_index at, kiln_ints axes, const int64_t *dims,
                   kiln_index *index)
{
    kiln_axis_index digits[KILN_MAX_RANK];
    kiln_lower_delinearize(dot->lower, at, axes.n, dims, digits);
    for (uint32_t i = 0; i < axes.n; i++) index->axis[axes.at[i]] = digits[i];
}

static kiln_axis_index batch_axis(const kiln_dot *dot)
{
    kiln_axis_index at = kiln_axis_scalar(dot->batch, 1);
    at.extent = dot->roles.batch_size;
    return at;
}

kiln_index kiln_dot_a_index(kiln_dot *dot, kiln_axis_index m, kiln_axis_index k)
{
    const kiln_matmul_roles *roles = &dot->roles;
    kiln_index index = {.rank = roles->a_batch.n + roles->a_m.n + roles->a_k.n};
    m.extent = roles->m_size;
    k.extent = roles->k_size;
    spread(dot, batch_axis(dot), roles->a_batch, dot->batch_dims, &index);
    spread(dot, m, roles->a_m, dot->m_dims, &index);
    spread(dot, k, roles->a_k, dot->k_dims, &index);
    return index;
}

kiln_index kiln_dot_b_index(kiln_dot *dot, kiln_axis_index n, kiln_axis_index k)
{
    const kiln_matmul_roles *roles = &dot->roles;
    kiln_index index = {.rank = roles->b_batch.n + roles->b_n.n + roles->b_k.n};
    n.extent = roles->n_size;
    k.extent = roles->k_size;
    spread(dot, batch_axis(dot), roles->b_batch, dot->batch_dims, &index);
    spread(dot, n, roles->b_n, dot->n_dims, &index);
    spread(dot, k, roles->b_k, dot->k_dims, &index);
    return index;
}

void kiln_dot_result_index(void *user, kiln_kv row, kiln_axis_index column, kiln_index *out_index)
{
    kiln_dot *dot = user;
    const kiln_matmul_roles *roles = &dot->roles;
    kiln_axis_index m = kiln_axis_scalar(row, 1);
    m.extent = roles->m_size;
    column.extent = roles->n_size;
    out_index->rank = roles->batch.n + roles->m.n + roles->n.n;
    spread(dot, batch_axis(dot), roles->batch, dot->batch_dims, out_index);
    spread(dot, m, roles->m, dot->m_dims, out_index);
    spread(dot, column, roles->n, dot->n_dims, out_index);
}

/* Element offset of the batch at work in a strided operand. */
static kiln_kv batch_offset(kiln_dot *dot, const kiln_dot_operand *operand, kiln_ints axes)
{
    int64_t strides[KILN_MAX_RANK];
    kiln_axis_index digits[KILN_MAX_RANK];
    for (uint32_t i = 0; i < axes.n; i++) strides[i] = operand->strided.strides[axes.at[i]];
    kiln_lower_delinearize(dot->lower, batch_axis(dot), axes.n, dot->batch_dims, digits);
    kiln_axis_sum sum = {.rank = axes.n,
                         .axes = digits,
                         .dims = dot->batch_dims,
                         .strides = strides,
                         .origin = operand->strided.origin};
    return kiln_lower_sum(dot->lower, &sum).base;
}

kiln_kv kiln_dot_use_rows(kiln_dot *dot, kiln_tile *tile, kiln_kv row)
{
    kiln_kernel *k = dot->lower->kernel;
    bool is_placed = dot->a.mode == KILN_DOT_ROWS;
    for (uint32_t r = 0; r < tile->rows; r++) {
        tile->a_row[r] = is_placed ? 0 : r * dot->a.step;
        if (is_placed) tile->a_place[r] = kiln_dot_row_offset(dot, kiln_k_add_imm(k, row, r));
    }
    return is_placed ? kiln_k_const_i64(k, 0) : kiln_dot_row_offset(dot, row);
}

kiln_kv kiln_dot_row_offset(kiln_dot *dot, kiln_kv at)
{
    kiln_kernel *k = dot->lower->kernel;
    if (dot->a.mode == KILN_DOT_ROWS) {
        kiln_axis_index first = kiln_axis_zero(dot->lower);
        kiln_index index = kiln_dot_a_index(dot, kiln_axis_scalar(at, 1), first);
        return kiln_lower_address(dot->lower, dot->a.value, &index);
    }
    if (dot->a.mode != KILN_DOT_DIRECT)
        return kiln_k_mul_imm(k, kiln_k_binary(k, KILN_K_sub, at, dot->first_row), dot->a.step);
    kiln_kv start = batch_offset(dot, &dot->a, dot->roles.a_batch);
    return kiln_k_binary(k, KILN_K_add, start, kiln_k_mul_imm(k, at, dot->a.step));
}

kiln_kv kiln_dot_column_offset(kiln_dot *dot, kiln_kv at)
{
    kiln_kernel *k = dot->lower->kernel;
    bool is_own = dot->b.mode == KILN_DOT_COPY_K || dot->b.mode == KILN_DOT_WIDEN;
    if (is_own) return kiln_k_const_i64(k, 0);
    int64_t panels = kiln_round_up(dot->roles.n_size, KILN_PANEL) * dot->roles.k_size;
    if (dot->b.mode == KILN_DOT_PANELS) {
        kiln_kv start = kiln_k_mul_imm(k, dot->batch, panels);
        return kiln_k_binary(k, KILN_K_add, start, kiln_k_mul_imm(k, at, dot->roles.k_size));
    }
    if (dot->b.mode == KILN_DOT_STRIPS) return kiln_dot_strip_offset(dot, at);
    if (dot->b.mode == KILN_DOT_OWN_PANELS) {
        at = kiln_k_binary(k, KILN_K_sub, at, dot->first_column);
        return kiln_k_mul_imm(k, at, dot->roles.k_size);
    }
    return kiln_dot_b_offset(dot, at);
}

kiln_kv kiln_dot_b_offset(kiln_dot *dot, kiln_kv at)
{
    kiln_kernel *k = dot->lower->kernel;
    return kiln_k_binary(k, KILN_K_add, batch_offset(dot, &dot->b, dot->roles.b_batch), at);
}

static void fetch(kiln_dot *dot, const kiln_dot_operand *operand, kiln_kv from, int64_t n)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_tile_source source = source_of(dot->lower, operand->strided.input);
    int64_t line = LINE_BYTES / (int64_t)kiln_dtype_bytes(source.dtype);
    for (int64_t i = 0; i < n; i += line)
        kiln_k_prefetch_far(k, source.buffer, kiln_k_add_imm(k, from, i));
}

void kiln_dot_fetch_a(kiln_dot *dot, kiln_kv at)
{
    kiln_dot_operand a = dot->a;
    const kiln_matmul_roles *roles = &dot->roles;
    if (!is_regular_under(dot, &a, roles->a_m, dot->m_dims, roles->a_k) || a.k_step != 1) return;
    kiln_kv start = batch_offset(dot, &a, roles->a_batch);
    fetch(dot, &a,
          kiln_k_binary(dot->lower->kernel, KILN_K_add, start,
                        kiln_k_mul_imm(dot->lower->kernel, at, a.step)),
          roles->k_size);
}

bool kiln_dot_columns_are_along_k(kiln_dot *dot)
{
    kiln_dot_operand b = dot->b;
    const kiln_matmul_roles *roles = &dot->roles;
    bool is_along = is_regular_under(dot, &b, roles->b_n, dot->n_dims, roles->b_k);
    return is_along && b.k_step == 1 && b.step != 1;
}

void kiln_dot_fetch_b(kiln_dot *dot, kiln_kv at)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_dot_operand b = dot->b;
    const kiln_matmul_roles *roles = &dot->roles;
    if (!is_regular_under(dot, &b, roles->b_n, dot->n_dims, roles->b_k)) return;
    bool is_along_k = b.k_step == 1;
    if (!is_along_k && b.step != 1) return;
    kiln_kv start = batch_offset(dot, &b, roles->b_batch);
    kiln_kv offset = kiln_k_mul_imm(k, at, is_along_k ? b.step : b.k_step);
    fetch(dot, &b, kiln_k_binary(k, KILN_K_add, start, offset),
          is_along_k ? roles->k_size : roles->n_size);
}

/* One vector of a copy: `along` says which number runs over the lanes. */
typedef struct copy_vector {
    bool is_a, is_k_along;
    kiln_kv row, k; /* the numbers: row of A or column of B, and k */
    kiln_kv to;     /* element of the local */
} copy_vector;

static void emit_copy(kiln_dot *dot, const copy_vector *copy, kiln_kv mask)
{
    kiln_lower *lower = dot->lower;
    kiln_axis_index free = kiln_axis_scalar(copy->row, 1), along = kiln_axis_scalar(copy->k, 1);
    *(copy->is_k_along ? &along : &free) =
        kiln_axis_vector(copy->is_k_along ? copy->k : copy->row, 1);
    lower->lanes = dot->lanes;
    lower->mask = mask;
    kiln_index index =
        copy->is_a ? kiln_dot_a_index(dot, free, along) : kiln_dot_b_index(dot, free, along);
    const kiln_dot_operand *operand = copy->is_a ? &dot->a : &dot->b;
    kiln_kv value = kiln_lower_value(lower, operand->value, &index);
    value = kiln_k_convert(lower->kernel, value, dot->dtype);
    kiln_k_store(lower->kernel, operand->source.buffer, copy->to, value, mask, 0);
    lower->mask = 0;
}

#define COPIED_AT_ONCE 4 /* vectors: a loop over so few costs as much as the copying */

/* Rows first … end, k along the lanes. */
static void copy_rows_by_k(kiln_dot *dot, kiln_kv first, kiln_kv end)
{
    kiln_kernel *k = dot->lower->kernel;
    int64_t size = dot->roles.k_size, whole = size / dot->lanes * dot->lanes;
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, 1);
    uint32_t mark = kiln_lower_mark(dot->lower);
    kiln_kv to = kiln_k_mul_imm(k, kiln_k_binary(k, KILN_K_sub, row, first), dot->a.step);
    copy_vector copy = {.is_a = true, .is_k_along = true, .row = row};
    if (whole <= COPIED_AT_ONCE * dot->lanes) {
        for (int64_t at = 0; at < whole; at += dot->lanes) {
            copy.k = kiln_k_const_i64(k, at);
            copy.to = kiln_k_add_imm(k, to, at);
            emit_copy(dot, &copy, 0);
        }
    } else {
        kiln_kv zero = kiln_k_const_i64(k, 0);
        copy.k = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, kiln_k_const_i64(k, whole), dot->lanes);
        uint32_t inner = kiln_lower_mark(dot->lower);
        copy.to = kiln_k_binary(k, KILN_K_add, to, copy.k);
        emit_copy(dot, &copy, 0);
        kiln_lower_cut(dot->lower, inner);
        kiln_k_end(k);
    }
    if (whole < size) {
        copy.k = kiln_k_const_i64(k, whole);
        copy.to = kiln_k_add_imm(k, to, whole);
        emit_copy(dot, &copy, kiln_k_active(k, dot->lanes, kiln_k_const_i64(k, size - whole)));
    }
    kiln_lower_cut(dot->lower, mark);
    kiln_k_end(k);
}

/* The same with rows along the lanes, for A that is contiguous in m. */
static void copy_rows_by_m(kiln_dot *dot, kiln_kv first, kiln_kv end)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0), k_end = kiln_k_const_i64(k, dot->roles.k_size);
    copy_vector copy = {.is_a = true};
    copy.k = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, k_end, 1);
    uint32_t mark = kiln_lower_mark(dot->lower);
    kiln_kv to = kiln_k_mul_imm(k, copy.k, dot->a.k_step);
    copy.row = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, dot->lanes);
    uint32_t inner = kiln_lower_mark(dot->lower);
    copy.to = kiln_k_binary(k, KILN_K_add, to, kiln_k_binary(k, KILN_K_sub, copy.row, first));
    kiln_kv mask = kiln_k_active(k, dot->lanes, kiln_k_binary(k, KILN_K_sub, end, copy.row));
    emit_copy(dot, &copy, mask);
    kiln_lower_cut(dot->lower, inner);
    kiln_k_end(k);
    kiln_lower_cut(dot->lower, mark);
    kiln_k_end(k);
}

void kiln_dot_copy_rows(kiln_dot *dot, kiln_kv first, kiln_kv end)
{
    if (dot->a.mode == KILN_DOT_COPY_K) copy_rows_by_k(dot, first, end);
    if (dot->a.mode == KILN_DOT_COPY_M) copy_rows_by_m(dot, first, end);
}

void kiln_dot_copy_columns(kiln_dot *dot, kiln_kv column, uint32_t vectors, uint32_t last)
{
    if (dot->b.mode != KILN_DOT_COPY_K) return;
    if (dot->widen) {
        kiln_dot_copy_widened(dot, column, vectors);
        return;
    }
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, dot->roles.k_size);
    copy_vector copy = {.is_a = false};
    copy.k = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, 1);
    uint32_t mark = kiln_lower_mark(dot->lower);
    kiln_kv to = kiln_k_mul_imm(k, copy.k, dot->b.k_step);
    for (uint32_t v = 0; v < vectors; v++) {
        int64_t at = (int64_t)v * dot->lanes;
        uint32_t n = v + 1 == vectors ? last : dot->lanes;
        copy.row = kiln_k_add_imm(k, column, at);
        copy.to = kiln_k_add_imm(k, to, at);
        emit_copy(dot, &copy, kiln_k_active(k, dot->lanes, kiln_k_const_i64(k, n)));
    }
    kiln_lower_cut(dot->lower, mark);
    kiln_k_end(k);
}
