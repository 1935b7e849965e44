/* From sums to outputs: the contraction is bound to a vector of sums, and the group's outputs are
 * evaluated at its index. Short epilogues are unrolled over the tile; long ones go through a local
 * buffer and a loop over rows, very long ones over the vectors of a row too, so that their code
 * stands once in a tile. */
#include "codegen/gemm.h"
#include "codegen/math.h"

#define UNROLLED_WORK 300 /* instructions */
#define BESIDE_SHARE 4    /* of the second cache: a longer operand has left it */

/* Rough instructions of one vector of what follows the contraction. */
static uint32_t epilogue_work(const kiln_lower *lower, kiln_value node)
{
    uint32_t work = 0;
    for (uint32_t i = 0; i < lower->group->n_nodes; i++) {
        const kiln_node *at = kiln_graph_node(lower->graph, lower->group->nodes[i]);
        if (lower->group->nodes[i].id <= node.id || kiln_node_row(at)->class_ != KILN_ELEMENTWISE)
            continue;
        bool is_long =
            at->op >= KILN_OP_exp && at->op <= KILN_OP_logistic && at->op != KILN_OP_sqrt;
        work += is_long || at->op == KILN_OP_pow || at->op == KILN_OP_atan2 ? 30 : 1;
    }
    return work;
}

kiln_epilogue kiln_epilogue_plain(kiln_lower *lower, kiln_value node, kiln_dtype from)
{
    return (kiln_epilogue){.lower = lower,
                           .node = node,
                           .from = from,
                           .to = kiln_graph_type(lower->graph, node)->dtype,
                           .work = epilogue_work(lower, node)};
}

kiln_epilogue kiln_epilogue_create(kiln_lower *lower, kiln_value node, kiln_dtype from)
{
    kiln_epilogue epilogue = kiln_epilogue_plain(lower, node, from);
    if (epilogue.work * KILN_TILE_SUMS > UNROLLED_WORK) {
        int64_t elements = (int64_t)KILN_TILE_SUMS * lower->lanes;
        epilogue.local = kiln_kernel_add_local(lower->kernel, kiln_compute_dtype(from), elements);
    }
    return epilogue;
}

/* The index of an output at the node's index: outputs may be transposes of the result. */
static kiln_index output_index(const kiln_epilogue *epilogue, kiln_value output,
                               const kiln_index *index)
{
    const kiln_node *node = kiln_graph_node(epilogue->lower->graph, output);
    kiln_vec(const kiln_node *) chain = {0};
    while (output.id != epilogue->node.id && node->op == KILN_OP_transpose) {
        kiln_vec_push(&chain, &epilogue->lower->scope->arena, node);
        output = node->inputs[0];
        node = kiln_graph_node(epilogue->lower->graph, output);
    }
    kiln_index at = *index;
    while (chain.n > 0) {
        const kiln_index from = at;
        kiln_ints permutation = chain.at[--chain.n]->attrs->permutation.permutation;
        for (uint32_t i = 0; i < at.rank; i++) at.axis[i] = from.axis[permutation.at[i]];
    }
    return at;
}

/* A result of one column has the same index in all lanes: only the first lane of its sums
 * counts. */
static bool has_one_column(const kiln_index *index)
{
    for (uint32_t i = 0; i < index->rank; i++)
        if (!kiln_axis_is_uniform(&index->axis[i])) return false;
    return true;
}

/* Sets the lanes and mask of vector `v`. */
static void enter_vector(kiln_lower *lower, uint32_t lanes, const kiln_index *index, kiln_kv mask)
{
    bool is_scalar = has_one_column(index);
    lower->lanes = is_scalar ? 1 : lanes;
    lower->mask = is_scalar ? 0 : mask;
}

/* One row: values of all vectors and outputs, then their stores. */
static void emit_row(kiln_epilogue *epilogue, const kiln_kv *sums, uint32_t n,
                     const kiln_index *indices, const kiln_kv *masks)
{
    kiln_lower *lower = epilogue->lower;
    kiln_vec(kiln_kv) values = {0};
    uint32_t n_outputs = lower->group->n_outputs, lanes = lower->lanes;
    for (uint32_t v = 0; v < n; v++) {
        enter_vector(lower, lanes, &indices[v], masks[v]);
        kiln_kv sum =
            kiln_math_op(lower->kernel, KILN_OP_convert, epilogue->from, epilogue->to, &sums[v]);
        if (lower->lanes < lanes) sum = kiln_k_extract(lower->kernel, sum, 0);
        kiln_lower_bind(lower, epilogue->node, sum);
        for (uint32_t i = 0; i < n_outputs; i++) {
            kiln_value output = lower->group->outputs[i].value;
            kiln_index index = output_index(epilogue, output, &indices[v]);
            kiln_vec_push(&values, &lower->scope->arena, kiln_lower_value(lower, output, &index));
        }
        kiln_lower_unbind(lower, 1);
    }
    for (uint32_t v = 0; v < n; v++) {
        enter_vector(lower, lanes, &indices[v], masks[v]);
        for (uint32_t i = 0; i < n_outputs; i++) {
            kiln_index index = output_index(epilogue, lower->group->outputs[i].value, &indices[v]);
            kiln_lower_store(lower, i, &index, values.at[v * n_outputs + i]);
        }
    }
    lower->lanes = lanes;
    lower->mask = 0;
}

static void row_indices(kiln_epilogue *epilogue, const kiln_tile *tile, kiln_kv row,
                        kiln_axis_index column, kiln_index *out_indices)
{
    for (uint32_t v = 0; v < tile->vectors; v++) {
        kiln_axis_index at =
            kiln_axis_affine(epilogue->lower, &column, 1, (int64_t)v * tile->lanes);
        epilogue->index(epilogue->user, row, at, &out_indices[v]);
    }
}

static kiln_kv load_sums(kiln_epilogue *epilogue, const kiln_tile *tile, kiln_kv at)
{
    return kiln_k_load(epilogue->lower->kernel, epilogue->local, at, tile->lanes, 0,
                       KILN_MEM_ALIGNED);
}

/* A row of a tile in a loop: its sums in the local buffer, its place in the result. */
typedef struct looped_row {
    kiln_kv first, row;
    kiln_axis_index column;
} looped_row;

static void emit_vectors(kiln_epilogue *epilogue, const kiln_tile *tile, const looped_row *at,
                         const kiln_kv *masks)
{
    kiln_kernel *k = epilogue->lower->kernel;
    kiln_kv sums[KILN_TILE_VECTORS];
    kiln_index indices[KILN_TILE_VECTORS];
    for (uint32_t v = 0; v < tile->vectors; v++)
        sums[v] = load_sums(epilogue, tile, kiln_k_add_imm(k, at->first, (int64_t)v * tile->lanes));
    row_indices(epilogue, tile, at->row, at->column, indices);
    emit_row(epilogue, sums, tile->vectors, indices, masks);
}

/* The vectors in a loop; only the last may have a mask. */
static void emit_vector_loop(kiln_epilogue *epilogue, const kiln_tile *tile, const looped_row *at,
                             kiln_kv mask)
{
    kiln_lower *lower = epilogue->lower;
    kiln_kernel *k = lower->kernel;
    int64_t width = (int64_t)tile->vectors * tile->lanes;
    kiln_kv end = kiln_k_const_i64(k, width);
    kiln_kv shift = kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_k_const_i64(k, 0), end, tile->lanes);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_axis_index by = kiln_axis_scalar(shift, tile->lanes);
    kiln_axis_index column = kiln_axis_add(lower, &at->column, &by);
    kiln_kv sum = load_sums(epilogue, tile, kiln_k_binary(k, KILN_K_add, at->first, shift));
    if (mask) {
        kiln_kv last = kiln_k_const_i64(k, width - tile->lanes);
        kiln_kv is_whole = kiln_k_binary(k, KILN_K_lt, shift, last);
        mask = kiln_k_binary(k, KILN_K_or, mask, kiln_k_splat(k, is_whole, tile->lanes));
    }
    kiln_index index;
    epilogue->index(epilogue->user, at->row, column, &index);
    emit_row(epilogue, &sum, 1, &index, &mask);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

static bool has_long_rows(const kiln_epilogue *epilogue, const kiln_tile *tile,
                          const kiln_kv *masks)
{
    for (uint32_t v = 0; v + 1 < tile->vectors; v++)
        if (masks[v]) return false;
    return tile->vectors > 1 && epilogue->work * tile->vectors > KILN_EPILOGUE_WORK;
}

static void emit_looped(kiln_epilogue *epilogue, const kiln_tile *tile, kiln_kv row,
                        kiln_axis_index column, const kiln_kv *masks)
{
    kiln_lower *lower = epilogue->lower;
    kiln_kernel *k = lower->kernel;
    for (uint32_t i = 0; i < tile->rows * tile->vectors; i++)
        kiln_k_store(k, epilogue->local, kiln_k_const_i64(k, (int64_t)i * tile->lanes),
                     tile->sums[i], 0, KILN_MEM_ALIGNED);
    kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, tile->rows);
    kiln_kv r = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    looped_row at = {.first = kiln_k_mul_imm(k, r, (int64_t)tile->vectors * tile->lanes),
                     .row = kiln_k_binary(k, KILN_K_add, row, r),
                     .column = column};
    if (has_long_rows(epilogue, tile, masks))
        emit_vector_loop(epilogue, tile, &at, masks[tile->vectors - 1]);
    else
        emit_vectors(epilogue, tile, &at, masks);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

void kiln_epilogue_emit(kiln_epilogue *epilogue, const kiln_tile *tile, kiln_kv row,
                        kiln_axis_index column, uint32_t last)
{
    kiln_lower *lower = epilogue->lower;
    kiln_kernel *k = lower->kernel;
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv masks[KILN_TILE_VECTORS];
    memcpy(masks, tile->masks, sizeof masks);
    lower->lanes = tile->lanes;
    if (last < tile->lanes)
        masks[tile->vectors - 1] = kiln_k_active(k, tile->lanes, kiln_k_const_i64(k, last));
    if (epilogue->local) {
        emit_looped(epilogue, tile, row, column, masks);
        kiln_lower_cut(lower, mark);
        return;
    }
    kiln_index indices[KILN_TILE_VECTORS];
    for (uint32_t r = 0; r < tile->rows; r++) {
        row_indices(epilogue, tile, kiln_k_add_imm(k, row, r), column, indices);
        emit_row(epilogue, tile->sums + r * tile->vectors, tile->vectors, indices, masks);
    }
    kiln_lower_cut(lower, mark);
}

/* Whether an operand of the group is read or written at the index of the result, row after row,
 * and is long enough to have left the second cache. */
static bool is_beside(const kiln_epilogue *epilogue, uint32_t position)
{
    const kiln_lower *lower = epilogue->lower;
    const kiln_place *place = lower->place_of[position];
    const kiln_type *result = kiln_graph_type(lower->graph, epilogue->node);
    const kiln_type *type = kiln_graph_type(lower->graph, place->operand.value);
    const kiln_node *node = kiln_graph_node(lower->graph, epilogue->node);
    if (place->operand.consumer.id || place->operand.value.id == node->inputs[0].id) return false;
    if (type->rank != result->rank || type->rank < 2) return false;
    if (type->bytes <= lower->machine->l2_bytes / BESIDE_SHARE) return false;
    int64_t stride = 1;
    for (uint32_t i = type->rank; i-- > 0;) {
        if (type->dims[i] != result->dims[i] || place->strides[i] != stride) return false;
        stride *= type->dims[i];
    }
    return true;
}

void kiln_epilogue_follow(kiln_epilogue *epilogue, kiln_tile *tile, kiln_kv row,
                          kiln_axis_index column)
{
    kiln_lower *lower = epilogue->lower;
    uint32_t mark = kiln_lower_mark(lower);
    if (epilogue->local) return; /* its lines come while it computes */
    column.step = 0;
    uint32_t n = lower->group->n_inputs + lower->group->n_outputs;
    for (uint32_t i = 0; i < n && tile->n_beside < KILN_TILE_BESIDE; i++) {
        kiln_index index;
        if (!is_beside(epilogue, i)) continue;
        epilogue->index(epilogue->user, row, column, &index);
        const kiln_place *place = lower->place_of[i];
        uint32_t rank = kiln_graph_type(lower->graph, place->operand.value)->rank;
        tile->beside[tile->n_beside++] =
            (kiln_tile_beside){.buffer = lower->buffer_of[i],
                               .at = kiln_lower_offset(lower, place, &index).base,
                               .stride = place->strides[rank - 2]};
    }
    kiln_lower_cut(lower, mark);
}
