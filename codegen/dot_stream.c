/* A dot of few rows with a right operand that lies row-major in memory and is longer than the
 * caches: its rows are read from one end of a wide strip of columns to the other, several at once,
 * while the strip's sums stay in the first cache. Register tiles, which walk down the rows, have
 * too few lines on their way: 40 GB/s on two threads where this reads 60. Every sum is still one
 * chain over ascending k. */
#include "base/checked.h"
#include "codegen/lower_dot.h"

#define MOST_ROWS 4 /* of the result; their sums share the first cache */
#define GROUP 4     /* rows of B at once */
#define SUMS_BYTES (16 * 1024)
#define LEAST_COLUMNS 256

/* Columns at work: `column` on, the first `n` lanes of each vector. */
typedef struct span {
    kiln_kv column;
    uint32_t n;
} span;

bool kiln_dot_is_streamed(const kiln_dot *dot)
{
    const kiln_matmul_roles *roles = &dot->roles;
    const kiln_dot_operand *b = &dot->b;
    if (b->mode != KILN_DOT_DIRECT || b->step != 1 || roles->m_size > MOST_ROWS) return false;
    if (kiln_graph_type(dot->lower->graph, b->value)->dtype != dot->dtype) return false;
    if (roles->k_size > KILN_CHUNK || roles->k_size < 8 * GROUP) return false;
    int64_t bytes = roles->k_size * roles->n_size * (int64_t)kiln_dtype_bytes(dot->dtype);
    return bytes > dot->lower->machine->l2_bytes && roles->n_size >= 2 * LEAST_COLUMNS;
}

/* One strip a thread, if its sums fit the cache. */
void kiln_dot_choose_strips(kiln_dot *dot)
{
    const kiln_matmul_roles *roles = &dot->roles;
    int64_t most = SUMS_BYTES / (int64_t)kiln_dtype_bytes(dot->dtype) / roles->m_size;
    int64_t threads = kiln_max_i64(1, dot->lower->schedule->n_threads);
    int64_t columns = kiln_max_i64(LEAST_COLUMNS, kiln_ceil_div(roles->n_size, threads));
    columns =
        kiln_ceil_div(roles->n_size, kiln_ceil_div(roles->n_size, kiln_min_i64(columns, most)));
    dot->block_columns = kiln_round_up(columns, 4 * (int64_t)dot->lanes);
    dot->n_column_blocks = kiln_ceil_div(roles->n_size, dot->block_columns);
    dot->block_rows = dot->rows = (uint32_t)roles->m_size;
    dot->n_row_blocks = dot->n_k_blocks = dot->vectors = 1;
    dot->k_block_size = roles->k_size;
}

static kiln_kv sum_offset(kiln_dot *dot, const span *at, int64_t row)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv column = kiln_k_binary(k, KILN_K_sub, at->column, dot->first_column);
    return kiln_k_add_imm(k, column, row * dot->block_columns);
}

static kiln_kv span_mask(kiln_dot *dot, const span *at)
{
    kiln_kernel *k = dot->lower->kernel;
    return kiln_k_active(k, dot->lanes, kiln_k_const_i64(k, at->n));
}

/* What is done for a vector of columns; `b` is B's element there in the first row of a group. */
typedef struct stream {
    kiln_dot *dot;
    int64_t n;                         /* rows of the group; 0: sums become results */
    kiln_kv a[MOST_ROWS * GROUP], row; /* row of B: element offset of the group from the first */
} stream;

static void add_group(stream *s, const span *at)
{
    kiln_dot *dot = s->dot;
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv from = kiln_dot_column_offset(dot, at->column), b[GROUP], mask = span_mask(dot, at);
    from = kiln_k_binary(k, KILN_K_add, from, s->row);
    for (int64_t i = 0; i < s->n; i++) {
        kiln_kv element = kiln_k_add_imm(k, from, i * dot->b.k_step);
        b[i] = kiln_k_load(k, dot->b.source.buffer, element, dot->lanes, mask, 0);
        kiln_k_prefetch(k, dot->b.source.buffer,
                        kiln_k_add_imm(k, from, (i + GROUP) * dot->b.k_step));
    }
    for (int64_t r = 0; r < dot->roles.m_size; r++) {
        kiln_kv place = sum_offset(dot, at, r);
        kiln_kv sum = kiln_k_load(k, dot->partial, place, dot->lanes, 0, KILN_MEM_ALIGNED);
        for (int64_t i = 0; i < s->n; i++)
            sum = kiln_tile_multiply_add(k, s->a[r * GROUP + i], b[i], sum);
        kiln_k_store(k, dot->partial, place, sum, 0, KILN_MEM_ALIGNED);
    }
}

static void finish_span(stream *s, const span *at)
{
    kiln_dot *dot = s->dot;
    kiln_kernel *k = dot->lower->kernel;
    uint32_t rows = (uint32_t)dot->roles.m_size;
    kiln_tile tile = {
        .lower = dot->lower, .dtype = dot->dtype, .lanes = dot->lanes, .rows = rows, .vectors = 1};
    for (uint32_t r = 0; r < rows; r++)
        tile.sums[r] =
            kiln_k_load(k, dot->partial, sum_offset(dot, at, r), dot->lanes, 0, KILN_MEM_ALIGNED);
    kiln_kv zero = kiln_k_const_i64(k, 0);
    kiln_axis_index column = kiln_axis_vector(at->column, dot->lanes);
    kiln_epilogue_emit(&dot->epilogue, &tile, zero, column, at->n);
}

static void emit_spans(stream *s, kiln_kv first, kiln_kv end, uint32_t n)
{
    kiln_lower *lower = s->dot->lower;
    kiln_kernel *k = lower->kernel;
    span at = {.n = n};
    at.column = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, s->dot->lanes);
    uint32_t mark = kiln_lower_mark(lower);
    if (s->n)
        add_group(s, &at);
    else
        finish_span(s, &at);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* All columns of the strip: whole vectors, and the last one. */
static void walk_strip(stream *s)
{
    kiln_dot *dot = s->dot;
    kiln_kernel *k = dot->lower->kernel;
    int64_t n = dot->roles.n_size, rest = n % dot->lanes;
    kiln_kv whole = kiln_k_const_i64(k, n - rest);
    emit_spans(s, dot->first_column, kiln_k_min(k, dot->column_end, whole), dot->lanes);
    if (rest)
        emit_spans(s, kiln_k_max(k, dot->first_column, whole), dot->column_end, (uint32_t)rest);
}

/* Rows `at` … at + n - 1 of B, for all columns of the strip. */
static void add_rows(stream *s, kiln_kv at, int64_t n)
{
    kiln_dot *dot = s->dot;
    kiln_kernel *k = dot->lower->kernel;
    s->n = n;
    for (int64_t r = 0; r < dot->roles.m_size; r++) {
        kiln_kv from = kiln_dot_row_offset(dot, kiln_k_const_i64(k, r));
        from = kiln_k_binary(k, KILN_K_add, from, kiln_k_mul_imm(k, at, dot->a.k_step));
        kiln_tile tile = {
            .lower = dot->lower, .dtype = dot->dtype, .lanes = dot->lanes, .a = dot->a.source};
        for (int64_t i = 0; i < n; i++)
            s->a[r * GROUP + i] = kiln_tile_load_row(&tile, from, i * dot->a.k_step);
    }
    s->row = kiln_k_mul_imm(k, at, dot->b.k_step);
    walk_strip(s);
}

static void clear_sums(kiln_dot *dot)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv zero = kiln_k_const_bits(k, dot->dtype, dot->lanes, 0);
    kiln_kv begin = kiln_k_const_i64(k, 0);
    kiln_kv end = kiln_k_const_i64(k, dot->block_columns * dot->roles.m_size);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, dot->lanes);
    kiln_k_store(k, dot->partial, at, zero, 0, KILN_MEM_ALIGNED);
    kiln_k_end(k);
}

void kiln_dot_emit_strip(kiln_dot *dot)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    stream s = {.dot = dot};
    int64_t size = dot->roles.k_size, whole = size / GROUP * GROUP;
    clear_sums(dot);
    kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, whole);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, GROUP);
    uint32_t mark = kiln_lower_mark(lower);
    add_rows(&s, at, GROUP);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
    if (whole < size) add_rows(&s, end, size - whole);
    s.n = 0;
    walk_strip(&s);
}
