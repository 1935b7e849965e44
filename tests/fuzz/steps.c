/* One random node of each class. */
#include <string.h>

#include "fuzz/generate.h"

/* Rows of keys: their operands have shapes of their own. */
static bool is_random(uint32_t op)
{
    return op == KILN_OP_threefry2x32 || op == KILN_OP_philox4x32;
}

kiln_op fuzz_pick_op(fuzz_graph *g, kiln_class class_, uint32_t n_inputs, kiln_dtype dtype)
{
    kiln_op fitting[KILN_N_OPS];
    uint32_t n = 0;
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        const kiln_op_row *row = &kiln_op_rows[op];
        bool has_own_step = row->result == KILN_RESULT_GIVEN || op == KILN_OP_select;
        if (op == KILN_OP_complex && dtype != KILN_f32 && dtype != KILN_f64) continue;
        if (class_ == KILN_COMPOSITE && op == KILN_OP_linear) continue;
        if (op == KILN_OP_next_after && kiln_dtype_bits(dtype) < 16) continue;
        if (row->class_ != class_ || has_own_step || row->min_inputs != n_inputs) continue;
        if (class_ == KILN_COMPOSITE && (row->attrs || is_random(op))) continue;
        if (g->is_scalar && (op == KILN_OP_complex || dtype == KILN_c64)) continue;
        if (kiln_dtype_in(dtype, row->types)) fitting[n++] = (kiln_op)op;
    }
    return n ? fitting[fuzz_below(g, n)] : KILN_OP_none;
}

bool fuzz_step_elementwise(fuzz_graph *g)
{
    kiln_value in[3] = {fuzz_pick(g)};
    const kiln_type *type = fuzz_type(g, in[0]);
    uint32_t n_inputs = fuzz_chance(g, 45) ? 1 : fuzz_chance(g, 95) ? 2 : 3;
    kiln_op op = fuzz_pick_op(g, KILN_ELEMENTWISE, n_inputs, type->dtype);
    /* Arithmetic keeps values apart and bounds finite: half of the binary ops. */
    if (n_inputs == 2 && fuzz_chance(g, 50) && kiln_dtype_in(type->dtype, KILN_TYPES_NUMBER)) {
        op = (kiln_op[]){KILN_OP_add, KILN_OP_sub, KILN_OP_mul, KILN_OP_max}[fuzz_below(g, 4)];
    }
    if (op == KILN_OP_none) return false;
    for (uint32_t i = 1; i < n_inputs; i++) in[i] = fuzz_operand(g, type);
    if (n_inputs == 2 && fuzz_chance(g, 20)) {
        kiln_value first = in[0];
        in[0] = in[1];
        in[1] = first;
    }
    fuzz_node(g, op, n_inputs, in, NULL);
    return true;
}

/* To a dtype of the same size, with or without the bits. */
static bool add_bitcast(fuzz_graph *g, kiln_value value)
{
    const kiln_type *type = fuzz_type(g, value);
    kiln_dtype dtype = fuzz_dtype(g);
    for (int tries = 0; kiln_dtype_bits(dtype) != kiln_dtype_bits(type->dtype); tries++) {
        if (tries == 20) return false;
        dtype = fuzz_dtype(g);
    }
    if (!kiln_dtype_in(dtype, KILN_TYPES_NUMBER)) return false;
    if (!kiln_dtype_in(type->dtype, KILN_TYPES_NUMBER)) return false;
    const kiln_type *given = kiln_graph_tensor(g->batch.graph, dtype, type->rank, type->dims);
    fuzz_note_use(g, value);
    fuzz_note(g, op_node_given(&g->batch, KILN_OP_bitcast, given, value, NULL));
    return true;
}

bool fuzz_step_convert(fuzz_graph *g)
{
    static const kiln_dtype to[] = {KILN_f32, KILN_f32, KILN_f64, KILN_bf16, KILN_f16,
                                    KILN_i32, KILN_i64, KILN_i8,  KILN_u8,   KILN_bool};
    kiln_value value = fuzz_pick(g);
    if (fuzz_chance(g, 15)) return add_bitcast(g, value);
    kiln_dtype dtype =
        fuzz_chance(g, 90) ? to[fuzz_below(g, sizeof to / sizeof *to)] : fuzz_dtype(g);
    if (g->is_scalar && (kiln_dtype_bits(dtype) < 8 || dtype == KILN_c64)) return false;
    fuzz_note_use(g, value);
    fuzz_note(g, kiln_add_convert(g->batch.graph, value, dtype));
    return true;
}

bool fuzz_step_iota(fuzz_graph *g)
{
    static const kiln_dtype dtypes[] = {KILN_i32, KILN_i64, KILN_f32, KILN_u8, KILN_f64, KILN_bf16};
    int64_t dims[3];
    uint32_t rank = 1 + (uint32_t)fuzz_below(g, 3);
    for (uint32_t i = 0; i < rank; i++) dims[i] = fuzz_size(g);
    if (!fuzz_fits(g, rank, dims)) return false;
    kiln_dtype dtype = dtypes[fuzz_below(g, sizeof dtypes / sizeof *dtypes)];
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {(int64_t)fuzz_below(g, rank)}};
    const kiln_type *type = kiln_graph_tensor(g->batch.graph, dtype, rank, dims);
    fuzz_note(g, op_node_given(&g->batch, KILN_OP_iota, type, (kiln_value){0}, &attrs));
    return true;
}

bool fuzz_step_select(fuzz_graph *g)
{
    kiln_value yes = fuzz_pick(g);
    const kiln_type *type = fuzz_type(g, yes);
    kiln_value no = fuzz_operand(g, type), condition;
    if (fuzz_chance(g, 60)) {
        kiln_value pair[] = {yes, no};
        bool is_ordered = kiln_dtype_in(type->dtype, KILN_TYPES_ORDERED);
        kiln_op op = (kiln_op[]){KILN_OP_eq, KILN_OP_ne, KILN_OP_lt,
                                 KILN_OP_ge}[fuzz_below(g, is_ordered ? 4 : 2)];
        condition = fuzz_node(g, op, 2, pair, NULL);
    } else {
        condition =
            fuzz_operand(g, kiln_graph_tensor(g->batch.graph, KILN_bool, type->rank, type->dims));
    }
    kiln_value in[] = {condition, yes, no};
    fuzz_node(g, KILN_OP_select, 3, in, NULL);
    return true;
}

uint32_t fuzz_axes(fuzz_graph *g, uint32_t rank, int64_t *out)
{
    uint32_t n = 0;
    uint64_t set = 1 + fuzz_below(g, ((uint64_t)1 << rank) - 1);
    if (fuzz_chance(g, 50)) set = (uint64_t)1 << (rank - 1);
    for (uint32_t i = 0; i < rank; i++) {
        if (set >> i & 1) out[n++] = i;
    }
    return n;
}

bool fuzz_step_reduce(fuzz_graph *g)
{
    kiln_value value = fuzz_pick(g);
    const kiln_type *type = fuzz_type(g, value);
    if (type->rank == 0) return false;
    int64_t axes[KILN_MAX_RANK];
    uint32_t n_axes = fuzz_axes(g, type->rank, axes);
    kiln_op op = fuzz_pick_op(g, KILN_REDUCE, 1, type->dtype);
    if (op == KILN_OP_none) return false;
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {{n_axes, axes}}};
    if (op == KILN_OP_argmax || op == KILN_OP_argmin) {
        if (type->dims[axes[0]] == 0) return false;
        n_axes = 1;
        attrs = (kiln_attrs){KILN_FAMILY_arg, .arg = {axes[0], fuzz_chance(g, 50)}};
    }
    kiln_value result = fuzz_node(g, op, 1, &value, &attrs);
    if (!fuzz_chance(g, 50) || fuzz_type(g, result)->dtype != type->dtype) return true;
    /* The row pattern: put the axes back and combine with the operand. */
    kiln_value back = kiln_add_unreduce(g->batch.graph, result, value, n_axes, axes);
    bool is_number = kiln_dtype_in(type->dtype, KILN_TYPES_NUMBER);
    op = type->dtype == KILN_bool          ? KILN_OP_and
         : is_number && fuzz_chance(g, 50) ? KILN_OP_max
                                           : KILN_OP_sub;
    fuzz_node(g, op, 2, (kiln_value[]){value, back}, NULL);
    return true;
}

bool fuzz_pick_window(fuzz_graph *g, const kiln_type *type, fuzz_window *out)
{
    int64_t n_window = 1;
    if (type->rank == 0) return false;
    for (uint32_t i = 0; i < type->rank; i++) {
        int64_t size = 1 + (int64_t)fuzz_below(g, fuzz_chance(g, 50) ? 1 : 4);
        out->sizes[i] = size;
        out->strides[i] = 1 + (int64_t)fuzz_below(g, 3);
        out->low[i] = (int64_t)fuzz_below(g, (uint64_t)size + 1) - (fuzz_chance(g, 5) ? 1 : 0);
        out->high[i] = (int64_t)fuzz_below(g, (uint64_t)size);
        out->dilations[i] = fuzz_chance(g, 80) ? 1 : 2;
        n_window *= size;
        if (type->dims[i] + out->low[i] + out->high[i] < 0) return false;
    }
    if (n_window * type->n_elements > 100000) return false;
    out->attrs = (kiln_attrs){KILN_FAMILY_window, .window = {{type->rank, out->sizes},
                                                             {type->rank, out->strides},
                                                             {type->rank, out->low},
                                                             {type->rank, out->high},
                                                             {type->rank, out->dilations}}};
    return true;
}

bool fuzz_step_window(fuzz_graph *g)
{
    kiln_value value = fuzz_pick_in(g, KILN_TYPES_NUMBER);
    const kiln_type *type = fuzz_type(g, value);
    fuzz_window window;
    if (!fuzz_pick_window(g, type, &window)) return false;
    if (fuzz_chance(g, 15)) {
        kiln_value most = op_node(&g->batch, KILN_OP_window_max, 1, &value, &window.attrs);
        kiln_value in[] = {value, fuzz_operand(g, fuzz_type(g, most))};
        fuzz_node(g, KILN_OP_window_max_grad, 2, in, &window.attrs);
        return true;
    }
    fuzz_node(g, fuzz_pick_op(g, KILN_WINDOW, 1, type->dtype), 1, &value, &window.attrs);
    return true;
}

static bool add_reshape(fuzz_graph *g, kiln_value value)
{
    const kiln_type *type = fuzz_type(g, value);
    int64_t dims[KILN_MAX_RANK];
    uint32_t rank = 0, at = 0;
    while (at < type->rank) {
        int64_t dim = type->dims[at++];
        if (at < type->rank && fuzz_chance(g, 50)) {
            dim *= type->dims[at++];
        } else if (dim % 2 == 0 && dim > 0 && fuzz_chance(g, 40)) {
            dims[rank++] = 2;
            dim /= 2;
        }
        dims[rank++] = dim;
        if (rank < 5 && fuzz_chance(g, 10)) dims[rank++] = 1;
    }
    if (rank > 6) return false;
    fuzz_note_use(g, value);
    fuzz_note(g, kiln_add_reshape(g->batch.graph, value, rank, dims));
    return true;
}

static bool add_transpose(fuzz_graph *g, kiln_value value)
{
    uint32_t rank = fuzz_type(g, value)->rank;
    int64_t permutation[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) permutation[i] = i;
    for (uint32_t i = rank; i > 1; i--) {
        uint64_t other = fuzz_below(g, i);
        int64_t swapped = permutation[i - 1];
        permutation[i - 1] = permutation[other];
        permutation[other] = swapped;
    }
    kiln_attrs attrs = {KILN_FAMILY_permutation, .permutation = {{rank, permutation}}};
    fuzz_node(g, KILN_OP_transpose, 1, &value, &attrs);
    return true;
}

static bool add_slice(fuzz_graph *g, kiln_value value)
{
    const kiln_type *type = fuzz_type(g, value);
    int64_t starts[KILN_MAX_RANK], limits[KILN_MAX_RANK], strides[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        uint64_t dim = (uint64_t)type->dims[i];
        starts[i] = fuzz_chance(g, 50) ? 0 : (int64_t)fuzz_below(g, dim / 2 + 1);
        limits[i] = fuzz_chance(g, 50) ? (int64_t)dim : (int64_t)(dim - fuzz_below(g, dim / 3 + 1));
        if (limits[i] < starts[i]) limits[i] = starts[i];
        strides[i] = fuzz_chance(g, 75) ? 1 : 1 + (int64_t)fuzz_below(g, 4);
    }
    kiln_attrs attrs = {
        KILN_FAMILY_slice,
        .slice = {{type->rank, starts}, {type->rank, limits}, {type->rank, strides}}};
    fuzz_node(g, KILN_OP_slice, 1, &value, &attrs);
    return true;
}

/* A new axis, and dims of 1 stretched. */
static bool add_broadcast(fuzz_graph *g, kiln_value value)
{
    const kiln_type *type = fuzz_type(g, value);
    int64_t dims[KILN_MAX_RANK], axes[KILN_MAX_RANK];
    uint64_t place = fuzz_below(g, type->rank + 1);
    for (uint32_t i = 0; i < type->rank; i++) {
        axes[i] = i + (i >= place);
        dims[axes[i]] = type->dims[i] == 1 && fuzz_chance(g, 50) ? 1 + (int64_t)fuzz_below(g, 17)
                                                                 : type->dims[i];
    }
    dims[place] = 1 + (int64_t)fuzz_below(g, 9);
    if (!fuzz_fits(g, type->rank + 1, dims)) return false;
    fuzz_note_use(g, value);
    fuzz_note(g, kiln_add_broadcast(g->batch.graph, value, type->rank + 1, dims, axes));
    return true;
}

bool fuzz_step_view(fuzz_graph *g)
{
    kiln_value value = fuzz_pick(g);
    const kiln_type *type = fuzz_type(g, value);
    uint64_t kind = fuzz_below(g, 5);
    if (kind == 0) return add_broadcast(g, value);
    if (type->rank == 0) return false;
    if (kind == 1) return add_reshape(g, value);
    if (kind == 2) return add_transpose(g, value);
    if (kind == 3) return add_slice(g, value);
    int64_t axes[KILN_MAX_RANK];
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {{fuzz_axes(g, type->rank, axes), axes}}};
    fuzz_node(g, KILN_OP_reverse, 1, &value, &attrs);
    return true;
}

static bool add_pad(fuzz_graph *g, kiln_value value)
{
    const kiln_type *type = fuzz_type(g, value);
    int64_t low[KILN_MAX_RANK], high[KILN_MAX_RANK], interior[KILN_MAX_RANK], dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        int64_t dim = type->dims[i], crop = dim > 4 && fuzz_chance(g, 20) ? 2 : 0;
        low[i] = (int64_t)fuzz_below(g, 3) - crop;
        high[i] = (int64_t)fuzz_below(g, 3) - (crop && fuzz_chance(g, 50) ? 2 : 0);
        interior[i] = fuzz_chance(g, 85) ? 0 : (int64_t)fuzz_below(g, 3);
        dims[i] = low[i] + high[i] + (dim ? (dim - 1) * (interior[i] + 1) + 1 : 0);
        if (dims[i] < 0) return false;
    }
    if (!fuzz_fits(g, type->rank, dims)) return false;
    kiln_attrs attrs = {KILN_FAMILY_pad,
                        .pad = {{type->rank, low}, {type->rank, high}, {type->rank, interior}}};
    kiln_value in[] = {value,
                       fuzz_operand(g, kiln_graph_tensor(g->batch.graph, type->dtype, 0, NULL))};
    fuzz_node(g, KILN_OP_pad, 2, in, &attrs);
    return true;
}

static bool add_concat(fuzz_graph *g, kiln_value value)
{
    const kiln_type *type = fuzz_type(g, value);
    int64_t dims[KILN_MAX_RANK], axis = (int64_t)fuzz_below(g, type->rank);
    kiln_value in[4] = {value};
    uint32_t n = 1 + (uint32_t)fuzz_below(g, 4);
    int64_t sum = type->dims[axis];
    memcpy(dims, type->dims, type->rank * sizeof *dims);
    for (uint32_t i = 1; i < n; i++) {
        dims[axis] = fuzz_chance(g, 50) ? type->dims[axis] : (int64_t)fuzz_below(g, 9);
        sum += dims[axis];
        in[i] = fuzz_operand(g, kiln_graph_tensor(g->batch.graph, type->dtype, type->rank, dims));
    }
    dims[axis] = sum;
    if (!fuzz_fits(g, type->rank, dims)) return false;
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    fuzz_node(g, KILN_OP_concat, n, in, &attrs);
    return true;
}

static bool add_take(fuzz_graph *g, kiln_value value)
{
    const kiln_type *type = fuzz_type(g, value);
    int64_t axis = (int64_t)fuzz_below(g, type->rank), dims[KILN_MAX_RANK],
            n = 1 + (int64_t)fuzz_below(g, 17);
    if (type->dims[axis] == 0) return false;
    memcpy(dims, type->dims, type->rank * sizeof *dims);
    dims[axis] = n;
    if (!fuzz_fits(g, type->rank, dims)) return false;
    kiln_dtype index = fuzz_chance(g, 50) ? KILN_i64 : KILN_i32;
    kiln_value in[] = {value, fuzz_input(g, index, fuzz_chance(g, 80), &n)};
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    fuzz_node(g, KILN_OP_take, 2, in, &attrs);
    return true;
}

static bool add_dynamic(fuzz_graph *g, kiln_value value, bool is_update)
{
    const kiln_type *type = fuzz_type(g, value);
    int64_t sizes[KILN_MAX_RANK], rank = type->rank;
    for (uint32_t i = 0; i < type->rank; i++)
        sizes[i] = (int64_t)fuzz_below(g, (uint64_t)type->dims[i] + 1);
    kiln_value start = fuzz_input(g, KILN_i64, 1, &rank);
    if (is_update) {
        const kiln_type *block = kiln_graph_tensor(g->batch.graph, type->dtype, type->rank, sizes);
        kiln_value in[] = {value, fuzz_operand(g, block), start};
        fuzz_node(g, KILN_OP_dynamic_update, 3, in, NULL);
        return true;
    }
    kiln_attrs attrs = {KILN_FAMILY_sizes, .sizes = {{type->rank, sizes}}};
    fuzz_node(g, KILN_OP_dynamic_slice, 2, (kiln_value[]){value, start}, &attrs);
    return true;
}

bool fuzz_step_move(fuzz_graph *g)
{
    kiln_value value = fuzz_pick(g);
    if (fuzz_type(g, value)->rank == 0) return false;
    switch (fuzz_below(g, 5)) {
    case 0:
        return add_pad(g, value);
    case 1:
        return add_concat(g, value);
    case 2:
        return add_take(g, value);
    case 3:
        return add_dynamic(g, value, false);
    default:
        return add_dynamic(g, value, true);
    }
}
