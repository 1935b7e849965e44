/* Convolution groups by Winograd's algorithm: tiles of the kernel are blocks of rows of Winograd
 * tiles and of output features. A kernel tile transforms the patches of its rows into a local
 * [point][Winograd tile][input feature]; then, a strip of output features after the other,
 * multiplies every point by its own matrix with the register tiles of the dots, and transforms the
 * sums back, into the epilogue. Blocks are sized so that both locals stay in the second cache. */
#include "base/checked.h"
#include "codegen/gemm.h"
#include "codegen/winograd.h"
#include "kiln/program.h"

#define MOST_ROWS 64                /* of Winograd tiles in a block */
#define SCRATCH_SHARE 0.75          /* of the second cache */
#define CYCLES_PER_POINT 5.0        /* transforming one vector at one point, there or back */
#define CYCLES_PER_TILE 2000.0      /* of the kernel, whatever it does */
#define WEIGHT_BYTES_PER_CYCLE 10.0 /* from beyond the second cache */

/* Register tiles run over the last Winograd tile: what they read there counts for nothing, but is
 * not left to chance. */
static void clear_rest(kiln_winograd *w)
{
    kiln_conv *conv = w->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0),
            nothing = kiln_k_const_bits(k, conv->dtype, conv->lanes, 0);
    kiln_kv end = kiln_k_div_imm(k, kiln_k_add_imm(k, w->n_tiles, w->rows - 1), w->rows);
    end = kiln_k_mul_imm(k, end, w->rows);
    kiln_kv point = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, kiln_k_const_i64(k, w->points), 1);
    kiln_kv tile = kiln_k_loop(k, KILN_LOOP_SERIAL, w->n_tiles, end, 1);
    kiln_kv to = kiln_k_binary(k, KILN_K_add, kiln_k_mul_imm(k, point, w->data_point),
                               kiln_k_mul_imm(k, tile, w->data_pitch));
    kiln_kv n_features = kiln_k_const_i64(k, conv->in_features);
    kiln_kv feature = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, n_features, conv->lanes);
    kiln_k_store(k, w->data, kiln_k_binary(k, KILN_K_add, to, feature), nothing, 0,
                 KILN_MEM_ALIGNED);
    for (uint32_t i = 0; i < 3; i++) kiln_k_end(k);
}

/* Products. */

static int64_t kernel_bytes(const kiln_winograd *w)
{
    return w->points * w->conv->in_features * w->conv->out_features *
           (int64_t)kiln_dtype_bytes(w->conv->dtype);
}

static int64_t count_register_tiles(const kiln_winograd *w)
{
    return kiln_ceil_div(w->block_rows * w->n_columns, w->rows);
}

/* The lines that the strip's results go to, from the block's first pixel on. */
static kiln_tile find_results(kiln_winograd *w, kiln_kv feature)
{
    kiln_conv *conv = w->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_tile results = {.lower = conv->lower, .lanes = conv->lanes, .vectors = w->vectors};
    conv->row = kiln_k_mul_imm(k, kiln_winograd_enter_row(w, w->first_row), w->rule->side);
    conv->column = kiln_k_const_i64(k, 0);
    conv->tile_width = 1;
    kiln_axis_index features = kiln_axis_vector(feature, conv->lanes);
    features.extent = conv->out_features;
    kiln_epilogue_follow(&conv->epilogue, &results, kiln_k_const_i64(k, 0), features);
    return results;
}

/* Shares the block's pixels, which follow each other, among all register tiles of all points. */
static void follow_results(const kiln_winograd *w, kiln_tile *tile, const kiln_tile *results,
                           kiln_kv number)
{
    kiln_kernel *k = w->conv->lower->kernel;
    int64_t pixels = w->block_rows * w->rule->side * w->width;
    tile->beside_rows = kiln_ceil_div(pixels, w->points * count_register_tiles(w));
    tile->n_beside = results->n_beside;
    for (uint32_t i = 0; i < results->n_beside; i++) {
        tile->beside[i] = results->beside[i];
        kiln_kv skipped = kiln_k_mul_imm(k, number, tile->beside_rows * tile->beside[i].stride);
        tile->beside[i].at = kiln_k_binary(k, KILN_K_add, tile->beside[i].at, skipped);
    }
}

/* The products of a point for Winograd tiles from `first` on; panels of the next point are on the
 * way where they do not all stay in the second cache, and so are the lines of the results. */
static void multiply_tile(kiln_winograd *w, kiln_kv point, kiln_kv first, kiln_kv b,
                          const kiln_tile *results)
{
    kiln_conv *conv = w->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_tile tile = {.lower = conv->lower,
                      .dtype = conv->dtype,
                      .lanes = conv->lanes,
                      .rows = w->rows,
                      .vectors = w->vectors,
                      .a = {w->data, KILN_NO_DTYPE},
                      .b = w->kernel,
                      .a_k = 1};
    int64_t panel = conv->in_features * KILN_PANEL;
    kiln_tile_next next = {.buffer = w->kernel.buffer,
                           .from = kiln_k_add_imm(k, b, panel),
                           .number = kiln_k_div_imm(k, first, w->rows),
                           .n_tiles = count_register_tiles(w),
                           .steps = conv->in_features,
                           .n_panels = kiln_tile_panels(&tile),
                           .size = conv->in_features,
                           .panel = w->points * panel};
    kiln_kv a = kiln_k_binary(k, KILN_K_add, kiln_k_mul_imm(k, point, w->data_point),
                              kiln_k_mul_imm(k, first, w->data_pitch));
    kiln_kv to = kiln_k_binary(k, KILN_K_add, kiln_k_mul_imm(k, point, w->sums_point),
                               kiln_k_mul_imm(k, first, w->strip));
    for (uint32_t r = 0; r < w->rows; r++) tile.a_row[r] = r * w->data_pitch;
    kiln_tile_use_panels(&tile, w->points * conv->in_features);
    if (kernel_bytes(w) > conv->lower->machine->l2_bytes / 2) kiln_tile_fetch(&tile, &next);
    kiln_kv number = kiln_k_mul_imm(k, point, next.n_tiles);
    follow_results(w, &tile, results, kiln_k_binary(k, KILN_K_add, number, next.number));
    kiln_tile_zero(&tile);
    kiln_tile_accumulate(&tile, a, b, conv->in_features);
    for (uint32_t i = 0; i < w->rows * w->vectors; i++)
        kiln_k_store(k, w->sums, kiln_k_add_imm(k, to, (int64_t)i * conv->lanes), tile.sums[i], 0,
                     KILN_MEM_ALIGNED);
}

/* All points of the strip of features that begins at `feature`. */
static void multiply_points(kiln_winograd *w, kiln_kv feature)
{
    kiln_conv *conv = w->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0);
    kiln_tile results = find_results(w, feature);
    kiln_kv point = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, kiln_k_const_i64(k, w->points), 1);
    kiln_kv b = kiln_k_mul_imm(k, point, conv->in_features * KILN_PANEL);
    b = kiln_k_binary(k, KILN_K_add, b, kiln_k_mul_imm(k, feature, w->points * conv->in_features));
    kiln_kv first = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, w->n_tiles, w->rows);
    multiply_tile(w, point, first, b, &results);
    kiln_k_end(k);
    kiln_k_end(k);
}

/* From points to results. */

/* The results of a Winograd tile of which height x width pixels exist. */
typedef struct result_place {
    kiln_kv down, right; /* Winograd tile within the image */
    kiln_kv from, feature;
    int64_t height, width;
} result_place;

static void finish_tile(kiln_winograd *w, const result_place *place)
{
    kiln_conv *conv = w->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_kv lines[KILN_WINOGRAD_REACH][KILN_WINOGRAD_REACH]; /* by column */
    for (int64_t x = 0; x < w->reach; x++) {
        kiln_kv in[KILN_WINOGRAD_REACH];
        for (int64_t y = 0; y < w->reach; y++) {
            kiln_kv at = kiln_k_add_imm(k, place->from, (y * w->reach + x) * w->sums_point);
            in[y] = kiln_k_load(k, w->sums, at, conv->lanes, 0, KILN_MEM_ALIGNED);
        }
        w->rule->sums(k, in, lines[x]);
    }
    kiln_tile tile = {.lower = conv->lower,
                      .dtype = conv->dtype,
                      .lanes = conv->lanes,
                      .rows = (uint32_t)(place->height * place->width),
                      .vectors = 1};
    for (int64_t y = 0; y < place->height; y++) {
        kiln_kv in[KILN_WINOGRAD_REACH], out[KILN_WINOGRAD_REACH];
        for (int64_t x = 0; x < w->reach; x++) in[x] = lines[x][y];
        w->rule->sums(k, in, out);
        for (int64_t x = 0; x < place->width; x++) tile.sums[y * place->width + x] = out[x];
    }
    conv->row = kiln_k_mul_imm(k, place->down, w->rule->side);
    conv->column = kiln_k_mul_imm(k, place->right, w->rule->side);
    conv->tile_width = place->width;
    kiln_axis_index features = kiln_axis_vector(place->feature, conv->lanes);
    features.extent = conv->out_features;
    kiln_epilogue_emit(&conv->epilogue, &tile, kiln_k_const_i64(k, 0), features, conv->lanes);
}

/* Winograd tiles first … end of a row, all features of the strip. */
static void finish_columns(kiln_winograd *w, result_place place, int64_t first, int64_t end,
                           kiln_kv feature)
{
    kiln_conv *conv = w->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_kv tile = place.from;
    kiln_kv begin = kiln_k_const_i64(k, first), zero = kiln_k_const_i64(k, 0);
    place.right = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, kiln_k_const_i64(k, end), 1);
    uint32_t outer = kiln_lower_mark(conv->lower);
    kiln_kv at = kiln_k_mul_imm(k, kiln_k_binary(k, KILN_K_add, tile, place.right), w->strip);
    kiln_kv lane =
        kiln_k_loop(k, KILN_LOOP_SERIAL, zero, kiln_k_const_i64(k, w->strip), conv->lanes);
    uint32_t inner = kiln_lower_mark(conv->lower);
    place.from = kiln_k_binary(k, KILN_K_add, at, lane);
    place.feature = kiln_k_binary(k, KILN_K_add, feature, lane);
    finish_tile(w, &place);
    kiln_lower_cut(conv->lower, inner);
    kiln_k_end(k);
    kiln_lower_cut(conv->lower, outer);
    kiln_k_end(k);
}

/* A row of Winograd tiles with `height` rows of pixels, when it is among first … end. */
static void finish_row(kiln_winograd *w, result_place place, kiln_kv feature)
{
    int64_t whole = w->width / w->rule->side;
    place.width = w->rule->side;
    if (whole > 0) finish_columns(w, place, 0, whole, feature);
    place.width = w->width - whole * w->rule->side;
    if (place.width) finish_columns(w, place, whole, whole + 1, feature);
}

static void finish_rows(kiln_winograd *w, kiln_kv feature)
{
    kiln_conv *conv = w->conv;
    kiln_kernel *k = conv->lower->kernel;
    int64_t whole = w->height / w->rule->side, rest = w->height % w->rule->side;
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, w->first_row, w->end_row, 1);
    uint32_t mark = kiln_lower_mark(conv->lower);
    kiln_kv down = kiln_winograd_enter_row(w, row), next = kiln_k_add_imm(k, down, 1);
    kiln_kv split = kiln_k_const_i64(k, whole),
            before = kiln_k_binary(k, KILN_K_sub, row, w->first_row);
    result_place place = {.from = kiln_k_mul_imm(k, before, w->n_columns)};
    for (int64_t part = 0; part < 2; part++) { /* one trip or none */
        place.height = part ? rest : w->rule->side;
        if (part ? !rest : !whole) continue;
        kiln_kv begin = part ? kiln_k_max(k, down, split) : down;
        kiln_kv end = part ? next : kiln_k_min(k, next, split);
        place.down = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
        uint32_t inner = kiln_lower_mark(conv->lower);
        finish_row(w, place, feature);
        kiln_lower_cut(conv->lower, inner);
        kiln_k_end(k);
    }
    kiln_lower_cut(conv->lower, mark);
    kiln_k_end(k);
}

static void emit_tile(void *user, kiln_kv number)
{
    kiln_winograd *w = user;
    kiln_conv *conv = w->conv;
    kiln_lower *lower = conv->lower;
    kiln_kernel *k = lower->kernel;
    int64_t total = conv->batch * w->n_rows;
    kiln_kv block = kiln_lower_op_imm(lower, KILN_K_rem, number, w->n_feature_blocks);
    kiln_kv rows = kiln_lower_op_imm(lower, KILN_K_div, number, w->n_feature_blocks);
    conv->depth = conv->feature = kiln_k_const_i64(k, 0);
    w->first_row = kiln_k_mul_imm(k, rows, w->block_rows);
    w->end_row =
        kiln_k_min(k, kiln_k_add_imm(k, w->first_row, w->block_rows), kiln_k_const_i64(k, total));
    kiln_kv n_rows = kiln_k_binary(k, KILN_K_sub, w->end_row, w->first_row);
    w->n_tiles = kiln_k_mul_imm(k, n_rows, w->n_columns);
    kiln_winograd_transform(w);
    if (total % w->block_rows || w->block_rows * w->n_columns % w->rows) clear_rest(w);
    kiln_kv first = kiln_k_mul_imm(k, block, w->block_features);
    kiln_kv end = kiln_k_add_imm(k, first, w->block_features);
    kiln_kv feature = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, w->strip);
    uint32_t mark = kiln_lower_mark(lower);
    multiply_points(w, feature);
    finish_rows(w, feature);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* Choices. */

/* Rows and vectors of register tiles for n Winograd tiles, vectors dividing the features; cycles of
 * one point for all features. */
static double choose_registers(kiln_winograd *w, int64_t n)
{
    const kiln_conv *conv = w->conv;
    const kiln_machine *machine = conv->lower->machine;
    uint32_t unit = KILN_PANEL / conv->lanes;
    double best = -1;
    for (uint32_t vectors = unit; vectors <= KILN_TILE_VECTORS; vectors += unit) {
        int64_t strip = (int64_t)vectors * conv->lanes;
        if (conv->out_features % strip) continue;
        for (uint32_t rows = 1; rows <= KILN_TILE_ROWS && rows <= n; rows++) {
            bool fits = rows * vectors + vectors + 1 <= machine->n_vector_registers ||
                        (rows <= 2 && vectors == unit);
            if (!fits || rows * vectors > KILN_TILE_SUMS) continue;
            double cycles = kiln_tile_cycles(machine, rows, vectors, conv->in_features) *
                            (double)(kiln_ceil_div(n, rows) * (conv->out_features / strip));
            if (best >= 0 && cycles >= best) continue;
            best = cycles;
            w->rows = rows;
            w->vectors = vectors;
            w->strip = strip;
        }
    }
    return best;
}

/* Distances between neighbours that do not all fall into one set of the first cache. */
static int64_t spread(int64_t elements, int64_t bytes_each)
{
    return elements * bytes_each % 4096 ? elements : elements + KILN_PANEL;
}

static void size_locals(kiln_winograd *w, int64_t *out_data, int64_t *out_sums)
{
    const kiln_conv *conv = w->conv;
    int64_t bytes = (int64_t)kiln_dtype_bytes(conv->dtype);
    int64_t n = kiln_round_up(w->block_rows * w->n_columns, w->rows);
    w->data_pitch = spread(conv->in_features, bytes);
    w->data_point = spread(n * w->data_pitch, bytes);
    w->sums_point = spread(n * w->strip, bytes);
    *out_data = w->points * w->data_point;
    *out_sums = w->points * w->sums_point;
}

/* Cycles of all threads' longest share with blocks of w->block_rows and n blocks of features. */
static double block_cycles(kiln_winograd *w, double point_cycles, int64_t n_feature_blocks)
{
    const kiln_conv *conv = w->conv;
    const kiln_machine *machine = conv->lower->machine;
    double tiles = (double)(w->block_rows * w->n_columns), points = (double)w->points;
    double in = (double)conv->in_features, lanes = conv->lanes;
    double out = (double)(conv->out_features / n_feature_blocks);
    double transforms = tiles * (in + out) / lanes * points * CYCLES_PER_POINT;
    double weight_bytes = points * in * out * 4,
           all_bytes = weight_bytes * (double)n_feature_blocks;
    bool is_near = all_bytes < (double)machine->l2_bytes / 2;
    double rate = is_near ? 32 : WEIGHT_BYTES_PER_CYCLE;
    double product = points * point_cycles / (double)n_feature_blocks;
    int64_t n_blocks = kiln_ceil_div(conv->batch * w->n_rows, w->block_rows) * n_feature_blocks;
    int64_t threads = kiln_max_i64(1, conv->lower->schedule->n_threads);
    double one = transforms + product + weight_bytes / rate / 2 + CYCLES_PER_TILE;
    return one * (double)kiln_ceil_div(n_blocks, threads);
}

static void choose_blocks(kiln_winograd *w)
{
    const kiln_conv *conv = w->conv;
    double room = (double)conv->lower->machine->l2_bytes * SCRATCH_SHARE / 4, best = -1;
    int64_t total = conv->batch * w->n_rows;
    kiln_winograd chosen = *w;
    for (int64_t rows = 1; rows <= kiln_min_i64(total, MOST_ROWS); rows++) {
        int64_t data, sums;
        w->block_rows = rows;
        double cycles = choose_registers(w, rows * w->n_columns);
        size_locals(w, &data, &sums);
        if (rows > 1 && (double)(data + sums) > room) break;
        int64_t strips = conv->out_features / w->strip;
        for (int64_t n = 1; n <= strips; n++) {
            if (strips % n) continue;
            double all = block_cycles(w, cycles, n);
            if (best >= 0 && all >= best) continue;
            best = all;
            w->n_feature_blocks = n;
            w->block_features = conv->out_features / n;
            chosen = *w;
        }
    }
    *w = chosen;
    w->n_row_blocks = kiln_ceil_div(total, w->block_rows);
}

static bool find_kernel(kiln_winograd *w)
{
    kiln_lower *lower = w->conv->lower;
    kiln_value value = w->conv->node->inputs[1];
    for (uint32_t i = 0; i < lower->group->n_inputs; i++) {
        const kiln_operand *operand = &lower->group->inputs[i];
        if (operand->value.id != value.id || operand->format != KILN_FORMAT_WINOGRAD_N16) continue;
        w->kernel = (kiln_tile_source){lower->buffer_of[i], w->conv->kernel->dtype};
        return true;
    }
    return false;
}

static void add_locals(kiln_winograd *w)
{
    kiln_conv *conv = w->conv;
    int64_t data, sums;
    kiln_winograd_find_input(w);
    size_locals(w, &data, &sums);
    w->data = kiln_kernel_add_local(conv->lower->kernel, conv->dtype, data);
    w->sums = kiln_kernel_add_local(conv->lower->kernel, conv->dtype, sums);
}

bool kiln_conv_lower_winograd(kiln_conv *conv)
{
    kiln_winograd w = {.conv = conv};
    if (!conv->node->attrs->conv.winograd || !find_kernel(&w)) return false;
    w.rule = kiln_winograd_find(conv->node->attrs->conv.winograd);
    w.reach = w.rule->side + 2;
    w.points = w.reach * w.reach;
    w.height = conv->axis[KILN_CONV_H].out;
    w.width = conv->axis[KILN_CONV_W].out;
    w.n_rows = kiln_ceil_div(w.height, w.rule->side);
    w.n_columns = kiln_ceil_div(w.width, w.rule->side);
    choose_blocks(&w);
    add_locals(&w);
    int64_t sizes[] = {w.n_row_blocks, w.n_feature_blocks};
    kiln_conv_lower_tiles(conv, (kiln_ints){2, sizes}, emit_tile, &w);
    return true;
}
