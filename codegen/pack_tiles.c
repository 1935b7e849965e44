/* Host packing in the tile formats: bf16 parts of constants, pairs of k by 16 columns, or bytes,
 * fours of k by 16 columns, zeros past k and n. The same numbers as bf16_parts.c gives at run time.
 */
#include <string.h>

#include "base/checked.h"
#include "codegen/pack.h"
#include "graph/element.h"

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void split(float value, uint32_t n_parts, uint16_t *out_parts)
{
    if (n_parts == 1) {
        out_parts[0] = (uint16_t)(kiln_bf16_pattern(value) >> 16);
        return;
    }
    uint32_t bits = to_bits(value), size = bits & 0x7fffffff;
    uint32_t first = (size < KILN_BF16_CUT ? bits + 0x8000 : bits) & 0xffff0000;
    float rest = size == 0x7f800000 ? 0 : value - from_bits(first);
    uint32_t second = (to_bits(rest) + 0x8000) & 0xffff0000;
    out_parts[0] = (uint16_t)(first >> 16);
    out_parts[1] = (uint16_t)(second >> 16);
    out_parts[2] = (uint16_t)((to_bits(rest - from_bits(second)) + 0x8000) >> 16);
}

/* One step of k of one panel, all parts. */
typedef struct step_place {
    bool is_short; /* the elements are bf16 already */
    uint32_t n_parts;
    int64_t batch, panel, k;
    uint16_t *to; /* part 0 */
    int64_t part; /* elements from a part to the next */
} step_place;

static void pack_step(const kiln_pack_offsets *at, const void *dense, const step_place *place)
{
    for (int64_t i = 0; i < KILN_TILE_K && place->k + i < at->n_k; i++) {
        int64_t row = at->batch[place->batch] + at->k[place->k + i];
        for (int64_t n = 0; n < 16 && place->panel + n < at->n_n; n++) {
            int64_t from = row + at->n[place->panel + n];
            uint16_t parts[3], *to = place->to + i / 2 * 32 + 2 * n + i % 2;
            if (place->is_short)
                parts[0] = ((const uint16_t *)dense)[from];
            else
                split(((const float *)dense)[from], place->n_parts, parts);
            for (uint32_t p = 0; p < place->n_parts; p++) to[p * place->part] = parts[p];
        }
    }
}

/* A step of bytes. */
static void pack_bytes(const kiln_pack_offsets *at, const void *dense, const step_place *place)
{
    int64_t columns = kiln_min_i64(16, at->n_n - place->panel);
    for (int64_t i = 0; i < 64 && place->k + i < at->n_k; i++) {
        const uint8_t *from = (const uint8_t *)dense + at->batch[place->batch];
        uint8_t *to = (uint8_t *)place->to + i / 4 * 64 + i % 4;
        from += at->k[place->k + i];
        for (int64_t n = 0; n < columns; n++) to[4 * n] = from[at->n[place->panel + n]];
    }
}

void kiln_pack_tiles(kiln_scope *scope, const kiln_graph *graph, kiln_operand operand,
                     const void *dense, void *out)
{
    kiln_pack_offsets offsets;
    kiln_pack_find_offsets(&scope->arena, graph, operand, &offsets);
    kiln_dtype dtype = kiln_graph_type(graph, operand.value)->dtype;
    uint32_t n_parts = kiln_format_parts(operand.format);
    bool is_bytes = operand.format == KILN_FORMAT_I8_K4N16;
    bool is_known = is_bytes ? kiln_dtype_bytes(dtype) == 1
                             : dtype == KILN_f32 || (dtype == KILN_bf16 && n_parts == 1);
    if (!is_known)
        kiln_fail(scope, KILN_INTERNAL, "packing: %s in %u parts", kiln_dtype_name(dtype), n_parts);
    int64_t step = kiln_format_step(operand.format), k_padded = kiln_round_up(offsets.n_k, step);
    step_place place = {.is_short = dtype == KILN_bf16,
                        .n_parts = n_parts,
                        .to = out,
                        .part = k_padded / step * 512};
    memset(out, 0, (size_t)kiln_operand_bytes(graph, operand));
    for (place.batch = 0; place.batch < offsets.n_batch; place.batch++) {
        for (place.panel = 0; place.panel < offsets.n_n; place.panel += 16) {
            uint16_t *panel = place.to;
            for (place.k = 0; place.k < offsets.n_k; place.k += step) {
                place.to = panel + place.k / step * 512;
                if (is_bytes)
                    pack_bytes(&offsets, dense, &place);
                else
                    pack_step(&offsets, dense, &place);
            }
            place.to = panel + n_parts * place.part;
        }
    }
}
