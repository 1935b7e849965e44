/* How a brief convolution is cut: features, rows and vectors of columns of its one register tile,
 * by a model of a tile's time and of what its code costs to compile; and blocks for the threads. */
#include "base/checked.h"
#include "codegen/conv_brief.h"

#define COMPILE_CYCLES 25000.0 /* of runs that a vector of a tile is worth in compile time */
#define TILE_CYCLES 120.0      /* until a tile is at work, and after it */
#define TAP_CYCLES 12.0        /* of a tap, whatever it does, … */
#define MASK_CYCLES 1.5        /* … and of a mask of its */
#define SUM_CYCLES 3.0
#define MOST_BLOCKS 16

bool kiln_conv_is_repeatable(const kiln_conv *conv)
{
    const kiln_lower *lower = conv->lower;
    for (uint32_t i = 0; i < lower->kernel->params.n; i++)
        if (lower->kernel->params.at[i].may_overlap) return false;
    return true;
}

/* What all tiles of such a size cost for a group, in cycles, their compile beside it: short code
 * comes first where groups are many and small. */
static double cost_of(const kiln_brief_conv *b)
{
    const kiln_conv *conv = b->conv;
    int64_t sums = b->rows * b->down * b->across, vectors = b->down * b->across, taps = 1;
    for (uint32_t i = 0; i < KILN_CONV_AXES; i++)
        taps *= kiln_ceil_div(conv->axis[i].kernel, conv->axis[i].lhs_dilation);
    int64_t n_loads = b->is_paired ? 2 * vectors : vectors; /* most cross a line */
    double work = (double)(sums + n_loads - vectors) * 0.5, latency = 4;
    double loads = (double)b->rows * 0.5 + (double)n_loads;
    double step = work > loads ? work : loads;
    if (step < latency) step = latency;
    double tap = TAP_CYCLES + MASK_CYCLES * (double)vectors + step * (double)conv->in_features;
    double tile = TILE_CYCLES + SUM_CYCLES * (double)sums + tap * (double)taps;
    double n = (double)(conv->batch * conv->axis[KILN_CONV_D].out) *
               (double)kiln_ceil_div(conv->out_features, b->rows) *
               (double)kiln_ceil_div(b->n_rows, b->down) *
               (double)kiln_ceil_div(b->n_columns, kiln_brief_conv_width(b));
    return tile * n + COMPILE_CYCLES * (double)sums;
}

static bool fits(const kiln_brief_conv *b, bool is_repeatable)
{
    const kiln_conv *conv = b->conv;
    int64_t vectors = b->down * b->across, features = conv->out_features;
    bool is_whole = features % b->rows == 0 && b->n_rows % b->down == 0;
    return vectors <= KILN_TILE_VECTORS && b->rows <= features && b->down <= b->n_rows &&
           (is_repeatable || is_whole) && b->rows * vectors <= KILN_TILE_SUMS &&
           b->rows * vectors + vectors + 1 <= conv->lower->machine->n_vector_registers;
}

static void choose_tile(kiln_brief_conv *b)
{
    bool may_repeat = kiln_conv_is_repeatable(b->conv);
    bool is_split_down = b->conv->axis[KILN_CONV_H].lhs_dilation > 1;
    int64_t n_vectors = kiln_ceil_div(b->n_columns, b->conv->lanes);
    kiln_brief_conv best = *b, it = *b;
    double least = -1;
    for (it.across = 1; it.across <= kiln_min_i64(KILN_TILE_VECTORS, n_vectors); it.across++) {
        for (it.down = 1; it.down <= (is_split_down ? 1 : KILN_TILE_VECTORS); it.down++) {
            for (it.rows = 1; it.rows <= KILN_TILE_ROWS; it.rows++) {
                if (!fits(&it, may_repeat)) continue;
                double cost = cost_of(&it);
                if (least >= 0 && cost >= least) continue;
                least = cost;
                best = it;
            }
        }
    }
    *b = best;
    b->column_tiles = kiln_ceil_div(b->n_columns, kiln_brief_conv_width(b));
}

/* Blocks of rows, columns or features, of whichever there are most tiles, so many that the threads
 * have even shares; none is shorter than a tile. */
static void cut_blocks(kiln_brief_conv *b)
{
    const kiln_conv *conv = b->conv;
    int64_t threads = kiln_max_i64(1, conv->lower->schedule->n_threads), most = INT64_MAX;
    int64_t others = conv->batch * conv->axis[KILN_CONV_D].out * conv->groups;
    int64_t sizes[] = {b->n_rows, b->n_columns, conv->out_features};
    int64_t units[] = {b->down, kiln_brief_conv_width(b), b->rows};
    int64_t *blocks[] = {&b->block_rows, &b->block_columns, &b->block_features};
    uint32_t best = 0;
    for (uint32_t i = 0; i < 3; i++) {
        *blocks[i] = sizes[i];
        if (sizes[i] / units[i] > sizes[best] / units[best]) best = i;
    }
    int64_t n = sizes[best], unit = units[best];
    for (int64_t i = 1; i <= MOST_BLOCKS && threads > 1; i++) {
        int64_t size = kiln_round_up(kiln_ceil_div(n, i), unit), parts = kiln_ceil_div(n, size);
        if (parts > 1 && n - (parts - 1) * size < unit) continue;
        int64_t work = kiln_ceil_div(others * parts, threads) * size;
        if (work >= most) continue;
        most = work;
        *blocks[best] = kiln_min_i64(size, n);
    }
}

void kiln_brief_conv_plan(kiln_brief_conv *b)
{
    choose_tile(b);
    cut_blocks(b);
}
