/* Constants of a program: one block, each constant at a 64-byte boundary in the format its consumer
 * reads: dense, or packed in panels once and for all. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "codegen/compile.h"
#include "codegen/pack.h"

static bool is_stored(const kiln_place *place)
{
    return place->kind == KILN_PLACE_CONSTANT && place->inside == KILN_NONE;
}

int64_t kiln_bound_constants(const kiln_schedule *schedule, int64_t start)
{
    int64_t total = start;
    for (uint32_t i = 0; i < schedule->places.n; i++) {
        const kiln_place *place = &schedule->places.at[i];
        int64_t end;
        if (!is_stored(place)) continue;
        if (!kiln_checked_add(total, place->bytes, &end) || !kiln_checked_align(end, 64, &total)) {
            kiln_fail(schedule->scope, KILN_LIMIT, "constants: more than 2^63 bytes");
        }
    }
    return total;
}

static void fill_constant(kiln_scope *scope, const kiln_graph *graph, const kiln_place *place,
                          char *memory)
{
    kiln_value value = place->operand.value;
    if (place->operand.format == KILN_FORMAT_DENSE) {
        kiln_constant_read(scope, graph, value, memory);
        return;
    }
    if (place->operand.format == KILN_FORMAT_TABLE16) {
        kiln_pack_table(scope, graph, place->operand, memory);
        return;
    }
    int64_t bytes = kiln_graph_type(graph, value)->bytes;
    void *dense = malloc((size_t)bytes + 1);
    if (!dense) kiln_fail(scope, KILN_NO_MEMORY, "constants: %lld bytes", (long long)bytes);
    kiln_scope_defer(scope, free, dense);
    kiln_constant_read(scope, graph, value, dense);
    kiln_pack_operand(scope, graph, place->operand, dense, memory);
}

/* In a scope of its own, so that what a constant was read into goes when it is in its place: beside
 * the block never more than the largest one is held. */
static void fill_alone(kiln_scope *scope, const kiln_graph *graph, const kiln_place *place,
                       char *memory)
{
    kiln_error error = {0};
    kiln_scope inner;
    kiln_scope_open(&inner, &error);
    if (kiln_scope_try(&inner)) fill_constant(&inner, graph, place, memory);
    if (kiln_scope_close(&inner) != KILN_OK) kiln_fail_with(scope, &error);
}

/* Where a former size has the same bytes, or -1. */
static int64_t find_same(const kiln_constant_block *block, const char *data, int64_t bytes)
{
    for (uint32_t i = 0; i < block->n_former; i++) {
        const kiln_stretch *kept = &block->kept.at[i];
        if (kept->bytes == bytes && memcmp(block->memory + kept->offset, data, (size_t)bytes) == 0)
            return kept->offset;
    }
    return -1;
}

void kiln_fill_constants(kiln_scope *scope, const kiln_schedule *schedule,
                         kiln_constant_block *block, int64_t *offsets)
{
    for (uint32_t i = 0; i < schedule->places.n; i++) {
        const kiln_place *place = &schedule->places.at[i];
        if (!is_stored(place)) continue;
        char *memory = block->memory + block->end;
        int64_t padded = kiln_round_up(place->bytes, 64);
        memset(memory, 0, (size_t)padded);
        fill_alone(scope, schedule->graph, place, memory);
        offsets[i] = find_same(block, memory, place->bytes);
        if (offsets[i] >= 0) continue;
        offsets[i] = block->end;
        kiln_stretch kept = {block->end, place->bytes};
        kiln_vec_push(&block->kept, &scope->arena, kept);
        block->end += padded;
    }
}
