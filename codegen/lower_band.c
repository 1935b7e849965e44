/* Bands: a tile is a stretch of rows of the last member's result. For a few of these rows at a
 * time, every member makes the rows of its own result that are wanted now and were not made before;
 * they stay in a local that holds the last ones (a ring), whose lines do not leave the second
 * cache:
 *
 *     for rows of the tile:  rows of %a -> ring;  rows of %b -> ring;  rows of %c -> memory
 *
 * Members are emitted by the files of their kind, as groups whose operand is a ring. */
#include "base/checked.h"
#include "codegen/lower.h"
#include "passes/band.h"

typedef struct band_member {
    kiln_lower lower;
    kiln_band_rows rows;
    kiln_row_maker maker;
} band_member;

typedef struct band {
    kiln_lower *lower;
    const kiln_group *group;
    kiln_band_cut cut;
    band_member members[KILN_MAX_BAND];
} band;

static bool is_pool(const band *b, uint32_t i)
{
    return b->group->members[i].kind == KILN_GROUP_WINDOW;
}

/* The place of a result in its ring, dense but for the image, which is that of the tile. */
static const kiln_place *ring_place(const band *b, uint32_t i)
{
    kiln_arena *arena = &b->lower->scope->arena;
    kiln_operand operand = b->group->members[i].outputs[0];
    const kiln_type *type = kiln_graph_type(b->lower->graph, operand.value);
    int64_t *strides = kiln_new_array(arena, int64_t, type->rank);
    strides[3] = 1;
    strides[2] = type->dims[3];
    strides[1] = strides[2] * type->dims[2];
    kiln_place *place = kiln_new(arena, kiln_place);
    *place = (kiln_place){.operand = operand, .kind = KILN_PLACE_ARENA, .strides = strides};
    place->bytes = b->cut.window[i] * strides[1] * (int64_t)kiln_dtype_bytes(type->dtype);
    return place;
}

static uint32_t add_ring(const band *b, uint32_t i)
{
    const kiln_type *type = kiln_graph_type(b->lower->graph, b->group->members[i].outputs[0].value);
    int64_t n, dims[] = {b->cut.window[i], type->dims[2], type->dims[3]};
    if (!kiln_checked_product(dims, 3, &n))
        kiln_fail(b->lower->scope, KILN_LIMIT, "group %s: the rows of a band overflow",
                  b->group->label);
    return kiln_kernel_add_local(b->lower->kernel, type->dtype, n);
}

/* Position of an operand of the band among its inputs. */
static uint32_t find_input(const band *b, kiln_operand operand)
{
    for (uint32_t i = 0; i < b->group->n_inputs; i++)
        if (kiln_operand_compare(b->group->inputs[i], operand) == 0) return i;
    kiln_fail(b->lower->scope, KILN_INTERNAL, "group %s: a member reads what is no input",
              b->group->label);
}

/* The operands of member `i`: those of the band, and the rings before and after it. */
static void open_member(band *b, uint32_t i)
{
    const kiln_group *group = &b->group->members[i];
    kiln_arena *arena = &b->lower->scope->arena;
    uint32_t n = group->n_inputs + 1;
    uint32_t *buffers = kiln_new_array(arena, uint32_t, n);
    kiln_ring *rings = kiln_new_array(arena, kiln_ring, n);
    const kiln_place **places = kiln_arena_array(arena, n, sizeof *places);
    for (uint32_t j = 0; j < group->n_inputs; j++) {
        const kiln_lower *before = i ? &b->members[i - 1].lower : NULL;
        bool is_ring = i && group->inputs[j].value.id == before->group->outputs[0].value.id;
        const kiln_lower *from = is_ring ? before : b->lower;
        uint32_t at = is_ring ? before->group->n_inputs : find_input(b, group->inputs[j]);
        buffers[j] = from->buffer_of[at];
        places[j] = from->place_of[at];
        if (is_ring) rings[j] = from->ring_of[at];
    }
    bool is_last = i + 1 == b->group->n_members;
    buffers[n - 1] = is_last ? b->lower->buffer_of[b->group->n_inputs] : add_ring(b, i);
    places[n - 1] = is_last ? b->lower->place_of[b->group->n_inputs] : ring_place(b, i);
    if (!is_last) rings[n - 1] = (kiln_ring){.axis = 1, .rows = b->cut.window[i]};
    kiln_lower *lower = &b->members[i].lower;
    *lower = *b->lower;
    lower->group = group;
    lower->buffer_of = buffers;
    lower->place_of = places;
    lower->ring_of = rings;
    lower->memo = kiln_memo_create(lower->scope);
    lower->sites = NULL;
    lower->lanes = kiln_lower_group_lanes(lower);
    b->members[i].rows = kiln_band_rows_of(lower->graph, group->anchor);
    b->members[i].maker =
        is_pool(b, i) ? kiln_window_row_maker(lower) : kiln_conv_row_maker(lower, b->cut.window[i]);
}

static kiln_kv clip(kiln_kernel *k, kiln_kv row, int64_t rows)
{
    row = kiln_k_max(k, row, kiln_k_const_i64(k, 0));
    return kiln_k_min(k, row, kiln_k_const_i64(k, rows));
}

/* By member: the first row that the last one's row `last` needs, itself or through others; where
 * `last` is an end, the end of the rows that those before it need. */
static void find_rows(const band *b, kiln_kv last, bool is_end, kiln_kv *out_rows)
{
    kiln_kernel *k = b->lower->kernel;
    uint32_t n = b->group->n_members;
    out_rows[n - 1] = last;
    for (uint32_t i = n - 1; i-- > 0;) {
        const kiln_band_rows *next = &b->members[i + 1].rows;
        int64_t beyond = is_end ? next->extent - next->stride : 0;
        kiln_kv at = kiln_k_mul_imm(k, out_rows[i + 1], next->stride);
        out_rows[i] = clip(k, kiln_k_add_imm(k, at, beyond - next->low), next->in);
    }
}

/* Rows `first` … of the last member of an image, a step of them at a time. */
static void emit_rows(band *b, kiln_kv image, kiln_kv first, kiln_kv end)
{
    kiln_kernel *k = b->lower->kernel;
    kiln_kv starts[KILN_MAX_BAND], ends[KILN_MAX_BAND], before[KILN_MAX_BAND];
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, b->cut.step);
    find_rows(b, row, false, starts);
    find_rows(b, row, true, before);
    kiln_kv row_end = kiln_k_min(k, kiln_k_add_imm(k, row, b->cut.step), end);
    find_rows(b, row_end, true, ends);
    kiln_kv is_first = kiln_k_binary(k, KILN_K_eq, row, first);
    for (uint32_t i = 0; i < b->group->n_members; i++) {
        band_member *member = &b->members[i];
        /* past what was made, and past rows that a stride longer than its window skips */
        kiln_kv next = kiln_k_max(k, before[i], starts[i]);
        kiln_kv begin = kiln_k_select(k, is_first, starts[i], next);
        uint32_t mark = kiln_lower_mark(&member->lower);
        member->maker.emit(member->maker.user, image, begin, ends[i]);
        kiln_lower_cut(&member->lower, mark);
    }
    kiln_k_end(k);
}

void kiln_lower_band(kiln_lower *lower)
{
    kiln_kernel *k = lower->kernel;
    const kiln_group *group = lower->group;
    band *b = kiln_new(&lower->scope->arena, band);
    b->lower = lower;
    b->group = group;
    b->cut = kiln_band_choose(lower->schedule, group->members, group->n_members);
    for (uint32_t i = 0; i < group->n_members; i++) open_member(b, i);
    const kiln_type *type = kiln_graph_type(lower->graph, group->anchor);
    int64_t n, counts[] = {type->dims[0], b->cut.n_blocks};
    if (!kiln_checked_product(counts, 2, &n) || n > UINT32_MAX)
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: more than 2^32 - 1 tiles; expected fewer",
                  group->label);
    k->n_tiles = (uint32_t)n;
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv number = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    kiln_kv image = kiln_k_div_imm(k, number, b->cut.n_blocks);
    kiln_kv block = kiln_k_rem_imm(k, number, b->cut.n_blocks);
    kiln_kv first = kiln_k_mul_imm(k, block, b->cut.rows);
    kiln_kv rows_end = kiln_k_add_imm(k, first, b->cut.rows);
    emit_rows(b, image, first, kiln_k_min(k, rows_end, kiln_k_const_i64(k, type->dims[1])));
    kiln_k_end(k);
}
