/* How a dot is cut: blocks of rows that stay in the second cache with a block of k, columns until
 * there is work for all threads in even shares, and k where the rows would be too long. Sums of a
 * cut k wait in a local, so an element is still one chain over ascending k: cuts change no bits. */
#include "base/checked.h"
#include "codegen/lower_dot.h"

#define MOST_ROWS 128            /* of a block with all rows: weights come from memory once */
#define ROWS 64                  /* of a block among many: enough to pay for a panel's way */
#define WHOLE_BYTES (512 * 1024) /* of A, in the second cache beside a panel and the sums */
#define MANY_ROWS 512            /* from here on a panel is met often and small blocks win */
#define MANY_BYTES (64 * 1024)   /* of A then: of 64 KiB to 1 MiB the fastest, by 1 to 6 % */
#define BLOCK_BYTES (256 * 1024) /* the same when k is cut */
#define PANEL_ROWS 4             /* what a panel costs a block, in rows */
#define TILE_CYCLES 10000.0      /* fewer are not worth handing out */
#define TILES_PER_THREAD 8
#define LONG_CYCLES 3e6 /* of a tile: more keep a free thread waiting at the end */
#define FEW_STRIPS 4    /* columns of a tile, in register tiles, for which cutting k pays */
#define MANY_STRIPS 8
#define MOST_CUTS 32
#define FOREIGN_BYTES 4.0   /* a cycle from another core's cache */
#define FMAS_PER_CYCLE 29.0 /* of 16 lanes */
#define CHUNK_BLOCKS 8

/* Cuts k into equal blocks, each a multiple of 16; not where none fits. Beyond a chunk blocks are
 * parts of chunks, and the last one may be shorter. */
static void cut_k(kiln_dot *dot, int64_t rows)
{
    int64_t size = dot->roles.k_size, bytes = (int64_t)kiln_dtype_bytes(dot->dtype);
    dot->n_k_blocks = 1;
    dot->k_block_size = size;
    if (size * bytes * rows <= WHOLE_BYTES || dot->b.mode == KILN_DOT_WIDEN) return;
    if (size > KILN_CHUNK) {
        if (!kiln_dtype_is_float(dot->dtype)) return;
        dot->k_block_size = KILN_CHUNK / CHUNK_BLOCKS;
        dot->n_k_blocks = kiln_ceil_div(size, dot->k_block_size);
        return;
    }
    int64_t n = kiln_ceil_div(size * bytes * rows, BLOCK_BYTES);
    for (int64_t most = 2 * n; n <= most; n++) {
        if (size % (n * 16) != 0) continue;
        dot->n_k_blocks = n;
        dot->k_block_size = size / n;
        return;
    }
}

typedef struct cut {
    int64_t n_rows, n_columns; /* blocks */
    int64_t rows, columns;     /* of a block */
    double cost;
} cut;

/* Work of the first n tiles, columns fastest: elements of the result, and some for each panel that
 * a block of rows reads. */
static double prefix_work(const kiln_matmul_roles *roles, const cut *it, int64_t n)
{
    int64_t blocks = n / it->n_columns, per_batch = it->n_rows;
    int64_t last = roles->m_size - (it->n_rows - 1) * it->rows;
    int64_t whole = blocks / per_batch * (roles->m_size + it->n_rows * PANEL_ROWS);
    whole += blocks % per_batch * (it->rows + PANEL_ROWS);
    int64_t rows = PANEL_ROWS + (blocks % per_batch == per_batch - 1 ? last : it->rows);
    int64_t columns = kiln_min_i64(n % it->n_columns * it->columns, roles->n_size);
    return (double)whole * (double)roles->n_size + (double)rows * (double)columns;
}

/* Work lost on lines that another core's cache holds: steps of a network mostly give a thread the
 * same share of the rows, so these are rows of A that it reads beyond its share, and parts of its
 * share of the result that others write. Weights from far away cost more, unless a thread's rows
 * are enough for them to come in time. */
static double foreign_work(const kiln_dot *dot, const cut *it, int64_t begin, int64_t end)
{
    const kiln_matmul_roles *roles = &dot->roles;
    double threads = kiln_max_i64(1, dot->lower->schedule->n_threads);
    double share = (double)roles->m_size / threads, rows = (double)(end - begin) * (double)it->rows;
    double columns = (double)roles->n_size, bytes = (double)kiln_dtype_bytes(dot->dtype);
    double weights = (double)roles->k_size * (double)roles->n_size * bytes;
    bool is_far = weights > (double)dot->lower->machine->l2_bytes / 2;
    bool is_hidden = share >= ROWS && dot->n_k_blocks == 1; /* the way of B, behind its products */
    if (threads <= 1 || roles->batch_size > 1 || (is_far && !is_hidden)) return 0;
    if (it->n_columns > 1) {
        rows = (double)kiln_ceil_div(end - begin, it->n_columns) * (double)it->rows;
        columns = (double)(kiln_min_i64(end - begin, it->n_columns) * it->columns);
    }
    double k = (double)kiln_max_i64(1, roles->k_size), n = (double)roles->n_size;
    double a = rows > share ? (rows - share) * k : 0;
    double c = columns < n ? share * (n - columns) : 0;
    return (a + c) * bytes / FOREIGN_BYTES * FMAS_PER_CYCLE / k;
}

/* Work of the thread with the most of it, and a little for shapes that are worse at the same. */
static cut evaluate(const kiln_dot *dot, int64_t n_rows, int64_t n_columns, double wanted)
{
    const kiln_matmul_roles *roles = &dot->roles;
    int64_t width = (int64_t)dot->vectors * dot->lanes;
    int64_t threads = kiln_max_i64(1, dot->lower->schedule->n_threads);
    cut it = {0};
    it.rows = kiln_round_up(kiln_ceil_div(roles->m_size, n_rows), dot->rows);
    it.columns = kiln_round_up(kiln_ceil_div(roles->n_size, n_columns), width);
    it.n_rows = kiln_ceil_div(roles->m_size, it.rows);
    it.n_columns = kiln_ceil_div(roles->n_size, it.columns);
    int64_t n = it.n_rows * it.n_columns * roles->batch_size, begin = 0;
    for (int64_t thread = 1; thread <= threads; thread++) {
        int64_t end = n * thread / threads;
        double work = prefix_work(roles, &it, end) - prefix_work(roles, &it, begin);
        work += foreign_work(dot, &it, begin, end);
        if (it.cost < work) it.cost = work;
        begin = end;
    }
    double ratio = (double)n < wanted ? wanted / (double)n : (double)n / wanted;
    it.cost *= 1 + 0.01 * (ratio < 8 ? ratio : 8);
    if (dot->n_k_blocks > 1 && it.columns < FEW_STRIPS * width) it.cost *= 1.05;
    if (dot->n_k_blocks > 1 && it.columns > MANY_STRIPS * width) it.cost *= 1.05;
    return it;
}

static double count_wanted(const kiln_dot *dot, double cycles)
{
    uint32_t threads = dot->lower->schedule->n_threads;
    double wanted = cycles * (double)dot->roles.batch_size / TILE_CYCLES;
    double enough = (double)threads * TILES_PER_THREAD, most = wanted * TILE_CYCLES / LONG_CYCLES;
    if (enough < most) enough = most;
    if (wanted > enough) wanted = enough;
    return wanted < 1 || threads <= 1 ? 1 : wanted;
}

void kiln_dot_choose_blocks(kiln_dot *dot, double cycles)
{
    const kiln_matmul_roles *roles = &dot->roles;
    int64_t bytes = kiln_max_i64(1, roles->k_size * (int64_t)kiln_dtype_bytes(dot->dtype));
    int64_t rows = roles->m_size <= MOST_ROWS ? MOST_ROWS : ROWS;
    rows = kiln_max_i64(rows, (roles->m_size < MANY_ROWS ? WHOLE_BYTES : MANY_BYTES) / bytes);
    int64_t least = kiln_ceil_div(roles->m_size, rows);
    int64_t strips = kiln_ceil_div(roles->n_size, (int64_t)dot->vectors * dot->lanes);
    double wanted = count_wanted(dot, cycles);
    cut_k(dot, kiln_min_i64(roles->m_size, rows));
    cut best = {.cost = -1};
    int64_t most_cuts = wanted > 1 ? MOST_CUTS : 1;
    for (int64_t r = 1; r <= most_cuts; r++) {
        if (r > 1 && least * r > kiln_ceil_div(roles->m_size, dot->rows)) break;
        int64_t most_columns = dot->n_k_blocks > 1 ? strips : kiln_min_i64(strips, most_cuts);
        for (int64_t c = 1; c <= most_columns && c <= 2 * MOST_CUTS; c++) {
            cut it = evaluate(dot, least * r, c, wanted);
            if (best.cost < 0 || it.cost < best.cost) best = it;
        }
    }
    const kiln_tuned *tuned = dot->tuned;
    if (tuned && tuned->row_blocks)
        best = evaluate(dot, tuned->row_blocks, tuned->column_blocks, wanted);
    dot->block_rows = best.rows;
    dot->n_row_blocks = best.n_rows;
    dot->block_columns = best.columns;
    dot->n_column_blocks = best.n_columns;
}
