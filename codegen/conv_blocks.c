/* How a convolution is cut: pixels and features of a register tile together with the rows and
 * features of a tile, for the least time by a model of its products, the copy of its window and its
 * weights. */
#include "base/checked.h"
#include "codegen/conv_product.h"

#define MOST_FEATURE_BLOCKS 64
#define CYCLES_PER_COPY 3.0         /* of a vector of the window */
#define CYCLES_PER_TILE 3000.0      /* of the kernel, whatever it does */
#define COMPILE_CYCLES 7000.0       /* of runs that a sum of a brief one's code is worth */
#define WEIGHT_BYTES_PER_CYCLE 10.0 /* from beyond the second cache */

/* Pixels of a register tile: as many of a row as fit, then more rows. */
static void choose_pixels(const kiln_conv_product *p, uint32_t rows, int64_t *out_width,
                          int64_t *out_height)
{
    const kiln_conv_axis *axis = p->conv->axis;
    int64_t out = axis[KILN_CONV_W].out;
    int64_t most = p->is_band || p->is_brief ? 1 : axis[KILN_CONV_H].out;
    *out_width = kiln_ceil_div(out, kiln_ceil_div(out, rows));
    *out_height = kiln_max_i64(1, kiln_min_i64(rows / *out_width, most));
}

/* Cycles of all register tiles of width x height pixels over an image, tails included. */
static double pixel_cycles(const kiln_conv_product *p, int64_t width, int64_t height,
                           uint32_t vectors)
{
    const kiln_conv_axis *axis = p->conv->axis;
    int64_t widths[] = {width, axis[KILN_CONV_W].out % width},
            heights[] = {height, axis[KILN_CONV_H].out % height};
    int64_t columns[] = {axis[KILN_CONV_W].out / width, 1},
            rows[] = {axis[KILN_CONV_H].out / height, 1};
    double cycles = 0;
    for (uint32_t i = 0; i < 4; i++) {
        int64_t pixels = widths[i % 2] * heights[i / 2];
        if (!pixels) continue;
        cycles += (double)(columns[i % 2] * rows[i / 2]) *
                  kiln_tile_cycles(p->conv->lower->machine, (uint32_t)pixels, vectors, p->k_size);
    }
    return cycles;
}

/* A strip's weights and the next one's stay in the second cache beside the window. */
static bool has_room_for_strips(const kiln_conv_product *p, int64_t strip)
{
    const kiln_conv *conv = p->conv;
    int64_t bytes = p->k_size * strip * (int64_t)kiln_dtype_bytes(conv->dtype);
    return 2 * bytes <= conv->lower->machine->l2_bytes / 4 * 3;
}

/* Cycles of all features of an image and group: whole strips, and one of the vectors that are
 * left. */
static double strip_cycles(const kiln_conv_product *p, int64_t width, int64_t height,
                           uint32_t vectors)
{
    int64_t strip = (int64_t)vectors * p->conv->lanes, features = p->conv->out_features;
    uint32_t rest = (uint32_t)kiln_ceil_div(features % strip, p->conv->lanes);
    double cycles = (double)(features / strip) * pixel_cycles(p, width, height, vectors);
    return rest ? cycles + pixel_cycles(p, width, height, rest) : cycles;
}

/* Bytes of the window that `rows` rows of outputs read. */
static int64_t window_bytes(const kiln_conv *conv, int64_t rows)
{
    const kiln_conv_axis *axis = conv->axis;
    return kiln_conv_axis_local(&axis[KILN_CONV_W], axis[KILN_CONV_W].out) * conv->in_features *
           (int64_t)kiln_dtype_bytes(conv->dtype) * axis[KILN_CONV_D].kernel *
           kiln_conv_axis_local(&axis[KILN_CONV_H], rows);
}

/* Cycles of the longest share of a thread when tiles have `rows` rows of outputs and `features` of
 * the features: what their products take, the copy of their window, and their weights, which come
 * half unseen behind the products. `cycles` are those of all products of an image and group. */
static double block_cycles(const kiln_conv_product *p, double cycles, int64_t rows,
                           int64_t features)
{
    const kiln_conv *conv = p->conv;
    const kiln_conv_axis *axis = conv->axis;
    double bytes = (double)kiln_dtype_bytes(conv->dtype), out = (double)axis[KILN_CONV_H].out;
    int64_t real = kiln_min_i64(rows, axis[KILN_CONV_H].out);
    double copy = (double)window_bytes(conv, real) / bytes / conv->lanes * CYCLES_PER_COPY;
    if (p->is_in_place) copy = 0;
    double part = (double)features / (double)conv->out_features;
    if (part > 1) part = 1;
    double weights = (double)(p->k_size * conv->out_features) * bytes * part;
    double one = cycles * (double)real / out * part + copy + weights / WEIGHT_BYTES_PER_CYCLE / 2 +
                 CYCLES_PER_TILE;
    double n_tiles = (double)(conv->batch * axis[KILN_CONV_D].out * conv->groups *
                              kiln_ceil_div(conv->out_features, features) *
                              kiln_ceil_div(axis[KILN_CONV_H].out, rows));
    double threads = conv->lower->schedule->n_threads;
    double share = n_tiles / (threads > 1 ? threads : 1);
    return one * (double)(int64_t)(share + 0.999);
}

/* Rows and features of a tile, for the least time, which it returns; the window stays in the second
 * cache. */
static double choose_blocks(kiln_conv_product *p, double cycles)
{
    kiln_conv *conv = p->conv;
    int64_t out = conv->axis[KILN_CONV_H].out, width = (int64_t)p->vectors * conv->lanes;
    int64_t room = conv->lower->machine->l2_bytes / 2;
    int64_t strips = kiln_ceil_div(conv->out_features, width);
    double best = -1;
    for (int64_t rows = p->height; rows < out + p->height; rows += p->height) {
        if (rows > p->height && window_bytes(conv, rows) > room) break;
        for (int64_t n = 1; n <= kiln_min_i64(strips, p->is_brief ? 1 : MOST_FEATURE_BLOCKS); n++) {
            int64_t features = kiln_ceil_div(strips, n) * width;
            double all = block_cycles(p, cycles, rows, features);
            if (best >= 0 && all >= best) continue;
            best = all;
            p->block_rows = rows;
            p->block_features = features;
            p->n_row_blocks = kiln_ceil_div(out, rows);
            p->n_feature_blocks = kiln_ceil_div(conv->out_features, features);
        }
    }
    return best;
}

void kiln_conv_choose_tile(kiln_conv_product *p)
{
    const kiln_conv *conv = p->conv;
    const kiln_machine *machine = conv->lower->machine;
    uint32_t unit = conv->lanes < KILN_PANEL ? KILN_PANEL / conv->lanes : 1;
    double threads = kiln_max_i64(1, conv->lower->schedule->n_threads), best = -1;
    double images = (double)(conv->batch * conv->axis[KILN_CONV_D].out * conv->groups);
    for (uint32_t vectors = unit; vectors <= KILN_TILE_VECTORS; vectors += unit) {
        if (vectors > unit && !has_room_for_strips(p, (int64_t)vectors * conv->lanes)) break;
        for (uint32_t rows = 1; rows <= KILN_TILE_ROWS; rows++) {
            bool fits = rows * vectors + vectors + 1 <= machine->n_vector_registers ||
                        (rows <= 2 && vectors == unit);
            if (!fits || rows * vectors > KILN_TILE_SUMS) continue;
            kiln_conv_product it = *p;
            it.vectors = vectors;
            choose_pixels(p, rows, &it.width, &it.height);
            double cycles = strip_cycles(p, it.width, it.height, vectors);
            bool is_worse = best >= 0 && cycles * (p->is_band ? 1 : images / threads) >= best;
            if (is_worse) continue; /* however it is cut */
            if (!p->is_band) cycles = choose_blocks(&it, cycles);
            if (p->is_brief) cycles += COMPILE_CYCLES * rows * vectors;
            if (best >= 0 && cycles >= best) continue;
            best = cycles;
            *p = it;
        }
    }
}
