/* From the sums of a block of tiles to the group's outputs, row by row. Outputs that only the
 * caller reads and that leave the caches anyway are written past them: fetching their lines first
 * costs a sixth of a bf16 product of 2,048. */
#include "base/checked.h"
#include "codegen/amx.h"
#include "codegen/math.h"

/* Whether every output is large, a port, and memory of its own. */
static bool is_streamed(const kiln_lower *lower)
{
    for (uint32_t i = 0; i < lower->group->n_outputs; i++) {
        const kiln_place *place = lower->place_of[lower->group->n_inputs + i];
        uint32_t buffer = lower->buffer_of[lower->group->n_inputs + i];
        if (place->kind != KILN_PLACE_OUTPUT || place->origin != 0) return false;
        if (lower->kernel->params.at[buffer].may_overlap) return false;
        if (place->bytes < 2 * lower->machine->l2_bytes) return false;
    }
    return true;
}

void kiln_amx_find_streams(kiln_amx *amx)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    amx->is_aligned = 0;
    if (!is_streamed(lower)) return;
    kiln_kv low = kiln_k_const_i64(k, 0);
    for (uint32_t i = 0; i < lower->group->n_outputs; i++) {
        kiln_kv address = kiln_k_address(k, lower->buffer_of[lower->group->n_inputs + i]);
        low = kiln_k_binary(k, KILN_K_or, low, address);
    }
    low = kiln_k_binary(k, KILN_K_and, low, kiln_k_const_i64(k, 63));
    kiln_kv one = kiln_k_const_i64(k, 1);
    amx->is_aligned = kiln_k_binary(k, KILN_K_sub, one, kiln_k_min(k, low, one));
}

/* 16-bit outputs take both panels in one vector, a line of them. */
static bool is_wide(const kiln_lower *lower)
{
    for (uint32_t i = 0; i < lower->group->n_outputs; i++) {
        kiln_value output = lower->group->outputs[i].value;
        if (kiln_dtype_bytes(kiln_graph_type(lower->graph, output)->dtype) > 2) return false;
    }
    return true;
}

/* A vector of sums, `at` elements from those of the result's first row. */
static kiln_kv load_sums(const kiln_amx *amx, const kiln_amx_result *result, kiln_kv at,
                         uint32_t lanes)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_kv fresh = 0;
    if (amx->is_fresh) {
        fresh = kiln_k_binary(k, KILN_K_add, result->fresh, at);
        fresh = kiln_k_load(k, amx->scratch, fresh, lanes, 0, 0);
        if (result->is_alone) return fresh;
    }
    at = kiln_k_binary(k, KILN_K_add, result->sums, at);
    kiln_kv sums = kiln_k_load(k, amx->sums, at, lanes, 0, 0);
    return fresh ? kiln_k_binary(k, KILN_K_add, sums, fresh) : sums;
}

/* Whether the operand at `place` is as large as the result, row by row, and leaves the cache. */
static bool is_far(const kiln_amx *amx, kiln_value value, const kiln_place *place)
{
    const kiln_lower *lower = amx->dot.lower;
    const kiln_matmul_roles *roles = &amx->dot.roles;
    const kiln_type *type = kiln_graph_type(lower->graph, value);
    int64_t n, sizes[] = {roles->batch_size, roles->m_size, roles->n_size};
    if (!kiln_checked_product(sizes, 3, &n) || type->n_elements != n || !type->rank) return false;
    bool is_dense = place->strides && place->strides[type->rank - 1] == 1 && place->origin == 0;
    return is_dense && (uint64_t)type->bytes >= (uint64_t)lower->machine->l2_bytes;
}

/* Asks for what the epilogue of the same rows of the next work tile meets in memory. */
static void fetch_next(kiln_amx *amx, kiln_kv row, kiln_kv column)
{
    const kiln_dot *dot = &amx->dot;
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    const kiln_group *group = lower->group;
    kiln_kv at = kiln_k_mul_imm(k, dot->batch, dot->roles.m_size);
    at = kiln_k_binary(k, KILN_K_add, at, kiln_k_add_imm(k, row, dot->block_rows));
    at = kiln_k_binary(k, KILN_K_add, kiln_k_mul_imm(k, at, dot->roles.n_size), column);
    for (uint32_t i = 0; i < group->n_inputs + group->n_outputs; i++) {
        bool is_output = i >= group->n_inputs;
        kiln_operand operand = is_output ? group->outputs[i - group->n_inputs] : group->inputs[i];
        bool is_factor = !is_output && operand.consumer.id == group->anchor.id;
        if (is_factor || !is_far(amx, operand.value, lower->place_of[i])) continue;
        kiln_k_prefetch_far(k, lower->buffer_of[i], at);
    }
}

/* Outputs that begin anywhere in a line are not written past the caches; where nobody works on the
 * results while tiles multiply, their lines are asked for before. The lines of `width` elements
 * from element `at` of an output on, wherever lines begin. */
static void fetch_stretch(kiln_amx *amx, uint32_t output, kiln_kv at, int64_t width)
{
    kiln_lower *lower = amx->dot.lower;
    uint32_t number = lower->group->n_inputs + output;
    kiln_value value = lower->group->outputs[output].value;
    int64_t line = 64 / (int64_t)kiln_dtype_bytes(kiln_graph_type(lower->graph, value)->dtype);
    if (!is_far(amx, value, lower->place_of[number])) return;
    for (int64_t i = 0; i < width + line - 1; i += line) {
        kiln_kv place = kiln_k_add_imm(lower->kernel, at, kiln_min_i64(i, width - 1));
        kiln_k_prefetch_far(lower->kernel, lower->buffer_of[number], place);
    }
}

void kiln_amx_fetch_lines(kiln_amx *amx, const kiln_amx_result *result, kiln_kv row, uint32_t n)
{
    const kiln_dot *dot = &amx->dot;
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    if (!amx->is_aligned || amx->result_row) return;
    kiln_kv one = kiln_k_const_i64(k, 1);
    kiln_k_loop(k, KILN_LOOP_SERIAL, amx->is_aligned, one, 1);
    row = kiln_k_binary(k, KILN_K_add, kiln_k_mul_imm(k, dot->batch, dot->roles.m_size), row);
    kiln_kv at = kiln_k_mul_imm(k, row, dot->roles.n_size);
    at = kiln_k_binary(k, KILN_K_add, at, result->column);
    for (uint32_t i = 0; i < n; i++) {
        kiln_kv first = kiln_k_add_imm(k, at, i * dot->roles.n_size);
        for (uint32_t output = 0; output < lower->group->n_outputs; output++)
            fetch_stretch(amx, output, first, result->vectors * KILN_TILE_SIDE);
    }
    kiln_k_end(k);
}

static void store_rows(kiln_amx *amx, const kiln_amx_result *result, const kiln_kv range[2],
                       uint32_t step)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    int64_t width = amx->dot.vectors * KILN_TILE_SIDE;
    uint32_t last = result->last;
    kiln_tile tile = {.lower = lower,
                      .dtype = amx->dot.dtype,
                      .lanes = KILN_TILE_SIDE,
                      .rows = step,
                      .vectors = result->vectors};
    if (result->vectors == 2 && is_wide(lower)) {
        tile.lanes = 2 * KILN_TILE_SIDE;
        tile.vectors = 1;
        last += KILN_TILE_SIDE;
    }
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, range[0], range[1], step);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv row = kiln_k_binary(k, KILN_K_add, result->row, at), exists = 0;
    if (amx->result_row) {
        row = amx->result_row(amx, row, &exists);
        kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_k_const_i64(k, 0), exists, 1);
    }
    kiln_kv base = kiln_k_mul_imm(k, at, width);
    for (uint32_t i = 0; amx->is_near && i < step; i++)
        fetch_next(amx, kiln_k_add_imm(k, row, i), result->column);
    for (uint32_t i = 0; i < step * tile.vectors; i++) {
        int64_t offset = i / tile.vectors * width + i % tile.vectors * tile.lanes;
        tile.sums[i] = load_sums(amx, result, kiln_k_add_imm(k, base, offset), tile.lanes);
    }
    kiln_axis_index column = kiln_axis_vector(result->column, tile.lanes);
    kiln_epilogue_emit(&amx->dot.epilogue, &tile, row, column, last);
    kiln_lower_cut(lower, mark);
    if (exists) kiln_k_end(k);
    kiln_k_end(k);
}

void kiln_amx_store(kiln_amx *amx, const kiln_amx_result *result, const kiln_kv range[2],
                    uint32_t step)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv rest[2] = {range[0], range[1]};
    bool is_long = amx->dot.epilogue.work * step * result->vectors > KILN_EPILOGUE_WORK;
    if (amx->result_row || is_long) step = 1;
    if (amx->is_aligned) {
        kiln_kv n = kiln_k_binary(k, KILN_K_sub, range[1], range[0]);
        n = kiln_k_binary(k, KILN_K_mul, n, amx->is_aligned);
        kiln_kv streamed[2] = {range[0], kiln_k_binary(k, KILN_K_add, range[0], n)};
        rest[0] = streamed[1];
        lower->store_flags = KILN_MEM_STREAM;
        store_rows(amx, result, streamed, step);
        lower->store_flags = 0;
    }
    store_rows(amx, result, rest, step);
}
