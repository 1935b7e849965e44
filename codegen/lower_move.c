/* MOVE nodes while lowering. A read that may fall outside its operand is made safe in one of two
 * ways: where the index is the same in all lanes it is clamped, where it differs the lanes outside
 * are switched off by a guard; either way the condition then selects what the result is there. */
#include "codegen/lower_value.h"

#include "codegen/math.h"
#include "kiln/program.h"

/* Collected while axes are tested: `condition` is the whole test, `guard` the part that differs by
 * lane; none is true. */
typedef struct axis_test {
    kiln_kv condition, guard;
} axis_test;

typedef struct axis_range {
    int64_t n; /* inside is 0 … n - 1 */
    bool may_be_below, may_be_above;
} axis_range;

static kiln_kv active_lanes(kiln_lower *lower, uint32_t lanes, kiln_kv n)
{
    kiln_memo_key key = {3ull << 32, n, lanes};
    kiln_kv value = kiln_memo_find(lower->memo, key);
    if (value) return value;
    value = kiln_k_active(lower->kernel, lanes, n);
    if (!value) value = kiln_k_const_int(lower->kernel, KILN_bool, lanes, 1);
    kiln_memo_add(lower->memo, key, value);
    return value;
}

kiln_kv kiln_axis_below(kiln_lower *lower, const kiln_axis_index *axis, kiln_kv n)
{
    kiln_kernel *k = lower->kernel;
    if (kiln_axis_is_uniform(axis)) return kiln_lower_op(lower, KILN_K_lt, axis->base, n);
    uint32_t lanes = lower->lanes;
    if (!axis->lanes && axis->step == 1)
        return active_lanes(lower, lanes, kiln_lower_op(lower, KILN_K_sub, n, axis->base));
    return kiln_lower_op(lower, KILN_K_lt, kiln_axis_lanes(lower, axis, lanes),
                         kiln_k_splat(k, n, lanes));
}

static kiln_kv axis_not_negative(kiln_lower *lower, const kiln_axis_index *axis)
{
    kiln_kv below = kiln_axis_below(lower, axis, kiln_lower_i64(lower, 0));
    return kiln_lower_op(lower, KILN_K_not, below, 0);
}

static kiln_axis_index axis_keep_inside(kiln_lower *lower, const kiln_axis_index *axis,
                                        axis_range range, axis_test *test)
{
    kiln_axis_index out = kiln_axis_plain(lower, axis);
    kiln_kv condition = 0;
    if (range.may_be_below) condition = axis_not_negative(lower, &out);
    if (range.may_be_above)
        condition = kiln_lower_and(lower, condition,
                                   kiln_axis_below(lower, &out, kiln_lower_i64(lower, range.n)));
    out.extent = range.n;
    if (!condition) return out;
    test->condition = kiln_lower_and(lower, test->condition, condition);
    if (kiln_axis_is_uniform(&out)) {
        out.base = kiln_lower_op_imm(lower, KILN_K_max, out.base, 0);
        out.base = kiln_lower_op_imm(lower, KILN_K_min, out.base, range.n - 1);
        out.multiple = 1;
    } else {
        test->guard = kiln_lower_and(lower, test->guard, condition);
        out.is_guarded = true;
    }
    return out;
}

/* Between elements of an interior padding of `gap`: keeps the lanes that hold one, and divides. */
static kiln_axis_index axis_skip_gaps(kiln_lower *lower, const kiln_axis_index *axis, int64_t gap,
                                      axis_test *test)
{
    kiln_kernel *k = lower->kernel;
    kiln_axis_index rest = *axis, whole = *axis;
    rest.modulo = gap + 1;
    whole.divide = gap + 1;
    rest = kiln_axis_plain(lower, &rest);
    whole = kiln_axis_plain(lower, &whole);
    kiln_kv lanes = kiln_axis_lanes(lower, &rest, kiln_axis_is_uniform(&rest) ? 1 : lower->lanes);
    kiln_kv zero = kiln_k_const_int(k, KILN_i64, kiln_kernel_at(k, lanes)->lanes, 0);
    kiln_kv condition = kiln_lower_op(lower, KILN_K_eq, lanes, zero);
    test->condition = kiln_lower_and(lower, test->condition, condition);
    bool is_uniform = kiln_axis_is_uniform(&whole);
    if (!is_uniform) test->guard = kiln_lower_and(lower, test->guard, condition);
    whole.is_guarded = !is_uniform;
    return whole;
}

static kiln_kv select_spread(kiln_lower *lower, kiln_kv condition, kiln_kv a, kiln_kv b)
{
    if (!condition) return a;
    uint32_t lanes = kiln_kernel_at(lower->kernel, a)->lanes;
    return kiln_k_select(lower->kernel, kiln_k_splat(lower->kernel, condition, lanes), a, b);
}

static kiln_kv move_pad(kiln_lower *lower, kiln_frame *frame)
{
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    const kiln_type *operand = kiln_graph_type(lower->graph, node->inputs[0]);
    const kiln_site site = *kiln_frame_site(lower, frame);
    kiln_index index = {.rank = 0};
    if (operand->n_elements == 0) {
        if (frame->phase > 0) return kiln_frame_sub(lower, frame, 0);
        kiln_frame_ask(lower, frame, node->inputs[1], &index, 0);
        return 0;
    }
    if (frame->phase > 0)
        return select_spread(lower, frame->conditions.at[0], kiln_frame_sub(lower, frame, 1),
                             kiln_frame_sub(lower, frame, 0));
    kiln_frame_ask(lower, frame, node->inputs[1], &index, 0);
    index.rank = operand->rank;
    axis_test test = {.guard = site.guard};
    for (uint32_t i = 0; i < index.rank; i++) {
        int64_t low = node->attrs->pad.low.at[i], high = node->attrs->pad.high.at[i];
        int64_t gap = node->attrs->pad.interior.at[i], n = operand->dims[i];
        kiln_axis_index axis = kiln_axis_affine(lower, &site.index.axis[i], 1, -low);
        axis_range range = {n + (n - 1) * gap, low > 0, high > 0};
        axis = axis_keep_inside(lower, &axis, range, &test);
        index.axis[i] = gap ? axis_skip_gaps(lower, &axis, gap, &test) : axis;
        index.axis[i].extent = n;
    }
    kiln_vec_push(&frame->conditions, &lower->scope->arena, test.condition);
    kiln_frame_ask(lower, frame, node->inputs[0], &index, test.guard);
    return 0;
}

/* conditions.at[i]: the index is before the end of operand i; subs are the operands that have
 * elements, in order. */
static kiln_kv concat_select(kiln_lower *lower, kiln_frame *frame)
{
    if (frame->subs.n == 0) { /* no operand has elements: nobody reads this */
        kiln_dtype dtype = kiln_graph_type(lower->graph, frame->node)->dtype;
        return kiln_k_const_bits(lower->kernel, kiln_compute_dtype(dtype), 1, 0);
    }
    kiln_kv value = kiln_frame_sub(lower, frame, frame->subs.n - 1);
    for (uint32_t i = frame->subs.n - 1; i-- > 0;)
        value =
            select_spread(lower, frame->conditions.at[i], kiln_frame_sub(lower, frame, i), value);
    return value;
}

static kiln_kv move_concat(kiln_lower *lower, kiln_frame *frame)
{
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    const kiln_site site = *kiln_frame_site(lower, frame);
    uint32_t along = (uint32_t)node->attrs->axis.axis;
    if (frame->phase > 0) return concat_select(lower, frame);
    const kiln_axis_index axis = kiln_axis_plain(lower, &site.index.axis[along]);
    int64_t start = 0, total = node->type->dims[along];
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        int64_t n = kiln_graph_type(lower->graph, node->inputs[i])->dims[along];
        if (n == 0) continue;
        axis_test test = {.guard = site.guard};
        kiln_index index = site.index;
        index.axis[along] = kiln_axis_affine(lower, &axis, 1, -start);
        axis_range range = {n, start > 0, start + n < total};
        index.axis[along] = axis_keep_inside(lower, &index.axis[along], range, &test);
        kiln_frame_ask(lower, frame, node->inputs[i], &index, test.guard);
        start += n;
        kiln_kv end = kiln_lower_i64(lower, start);
        kiln_vec_push(&frame->conditions, &lower->scope->arena, kiln_axis_below(lower, &axis, end));
    }
    return 0;
}

/* Indices of i32 are clamped as they are: a vector of them is half of one of i64. */
kiln_kv kiln_lower_clamp_index(kiln_lower *lower, kiln_kv value, int64_t last)
{
    kiln_kernel *k = lower->kernel;
    kiln_dtype dtype = kiln_kernel_at(k, value)->dtype;
    uint32_t lanes = kiln_kernel_at(k, value)->lanes;
    if (dtype == KILN_u64) {
        value = kiln_k_min(k, value, kiln_k_const_int(k, dtype, lanes, last));
        value = kiln_k_convert(k, value, KILN_i64);
    } else if (dtype != KILN_i32 || last > INT32_MAX) {
        value = kiln_k_convert(k, value, KILN_i64);
    }
    dtype = kiln_kernel_at(k, value)->dtype;
    value = kiln_k_max(k, value, kiln_k_const_int(k, dtype, lanes, 0));
    value = kiln_k_min(k, value, kiln_k_const_int(k, dtype, lanes, last));
    return kiln_k_convert(k, value, KILN_i64);
}

kiln_kv kiln_lower_zero(kiln_lower *lower, const kiln_frame *frame)
{
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    kiln_dtype compute = kiln_compute_dtype(node->type->dtype);
    return kiln_k_const_bits(lower->kernel, compute, kiln_frame_site(lower, frame)->lanes, 0);
}

static kiln_kv move_take(kiln_lower *lower, kiln_frame *frame)
{
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    const kiln_type *operand = kiln_graph_type(lower->graph, node->inputs[0]);
    const kiln_type *indices = kiln_graph_type(lower->graph, node->inputs[1]);
    const kiln_site site = *kiln_frame_site(lower, frame);
    uint32_t along = (uint32_t)node->attrs->axis.axis;
    kiln_index index = {.rank = indices->rank};
    if (operand->n_elements == 0) return kiln_lower_zero(lower, frame);
    if (frame->phase == 0) {
        for (uint32_t i = 0; i < indices->rank; i++) index.axis[i] = site.index.axis[along + i];
        kiln_frame_ask(lower, frame, node->inputs[1], &index, site.guard);
        return 0;
    }
    if (frame->phase > 1) return kiln_frame_sub(lower, frame, 1);
    kiln_kv raw = kiln_frame_raw(lower, frame, 0);
    kiln_kv at = kiln_lower_clamp_index(lower, raw, operand->dims[along] - 1);
    bool is_scalar = kiln_kernel_at(lower->kernel, at)->lanes == 1;
    index.rank = operand->rank;
    for (uint32_t i = 0; i < along; i++) index.axis[i] = site.index.axis[i];
    for (uint32_t i = along + 1; i < operand->rank; i++)
        index.axis[i] = site.index.axis[i + indices->rank - 1];
    index.axis[along] = is_scalar ? kiln_axis_scalar(at, 1) : (kiln_axis_index){.lanes = at};
    index.axis[along].extent = operand->dims[along];
    kiln_frame_ask(lower, frame, node->inputs[0], &index, site.guard);
    return 0;
}

/* Asks for the start index of every axis; subs 0 … rank - 1. */
static void ask_starts(kiln_lower *lower, kiln_frame *frame, kiln_value starts, uint32_t rank)
{
    for (uint32_t i = 0; i < rank; i++) {
        kiln_index index = {.rank = 1};
        index.axis[0] = kiln_axis_scalar(kiln_lower_i64(lower, i), i);
        kiln_frame_ask(lower, frame, starts, &index, 0);
    }
}

static kiln_kv move_dynamic_slice(kiln_lower *lower, kiln_frame *frame)
{
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    const kiln_type *operand = kiln_graph_type(lower->graph, node->inputs[0]);
    uint32_t rank = operand->rank;
    if (operand->n_elements == 0) return kiln_lower_zero(lower, frame);
    if (frame->phase == 0 && rank > 0) {
        ask_starts(lower, frame, node->inputs[1], rank);
        return 0;
    }
    if (frame->subs.n > rank) return kiln_frame_sub(lower, frame, rank);
    const kiln_site site = *kiln_frame_site(lower, frame);
    kiln_index index = {.rank = rank};
    for (uint32_t i = 0; i < rank; i++) {
        int64_t last = operand->dims[i] - node->type->dims[i];
        kiln_kv start = kiln_lower_clamp_index(lower, kiln_frame_raw(lower, frame, i), last);
        kiln_axis_index shift = last == 0 ? kiln_axis_zero(lower) : kiln_axis_scalar(start, 1);
        index.axis[i] = kiln_axis_add(lower, &site.index.axis[i], &shift);
        index.axis[i].extent = operand->dims[i];
    }
    kiln_frame_ask(lower, frame, node->inputs[0], &index, site.guard);
    return 0;
}

static kiln_kv move_dynamic_update(kiln_lower *lower, kiln_frame *frame)
{
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    const kiln_type *block = kiln_graph_type(lower->graph, node->inputs[1]);
    uint32_t rank = block->rank;
    const kiln_site site = *kiln_frame_site(lower, frame);
    if (frame->subs.n > rank && block->n_elements == 0) return kiln_frame_sub(lower, frame, rank);
    if (frame->subs.n > rank)
        return select_spread(lower, frame->conditions.at[0], kiln_frame_sub(lower, frame, rank + 1),
                             kiln_frame_sub(lower, frame, rank));
    if (frame->phase == 0 && rank > 0) {
        ask_starts(lower, frame, node->inputs[2], rank);
        return 0;
    }
    kiln_frame_ask(lower, frame, node->inputs[0], &site.index, site.guard);
    if (block->n_elements == 0) return 0;
    axis_test test = {.guard = site.guard};
    kiln_index index = {.rank = rank};
    for (uint32_t i = 0; i < rank; i++) {
        int64_t last = node->type->dims[i] - block->dims[i];
        kiln_kv start = kiln_lower_clamp_index(lower, kiln_frame_raw(lower, frame, i), last);
        kiln_axis_index shift = kiln_axis_scalar(kiln_lower_op(lower, KILN_K_neg, start, 0), 1);
        if (last == 0) shift = kiln_axis_zero(lower);
        index.axis[i] = kiln_axis_add(lower, &site.index.axis[i], &shift);
        axis_range range = {block->dims[i], last > 0, last > 0};
        index.axis[i] = axis_keep_inside(lower, &index.axis[i], range, &test);
    }
    kiln_vec_push(&frame->conditions, &lower->scope->arena, test.condition);
    kiln_frame_ask(lower, frame, node->inputs[1], &index, test.guard);
    return 0;
}

typedef kiln_kv move_fn(kiln_lower *lower, kiln_frame *frame);

static move_fn *const move_rows[KILN_N_OPS] = {
    [KILN_OP_pad] = move_pad,
    [KILN_OP_concat] = move_concat,
    [KILN_OP_take] = move_take,
    [KILN_OP_dynamic_slice] = move_dynamic_slice,
    [KILN_OP_dynamic_update] = move_dynamic_update,
    [KILN_OP_gather] = kiln_lower_gather,
};

kiln_kv kiln_lower_move(kiln_lower *lower, kiln_frame *frame)
{
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    if (!move_rows[node->op])
        kiln_fail(lower->scope, KILN_INTERNAL,
                  "lower %s: %s cannot be lowered; expected a known move", lower->group->label,
                  kiln_node_row(node)->name);
    return move_rows[node->op](lower, frame);
}

/* Number of the kernel's table with these elements; bool stands as bytes of 0 and 1. */
static uint32_t constant_table(kiln_lower *lower, kiln_value constant)
{
    kiln_kernel *k = lower->kernel;
    const kiln_node *node = kiln_graph_node(lower->graph, constant);
    const kiln_literal *literal = &node->attrs->literal.value;
    kiln_dtype storage = kiln_storage_dtype(node->type->dtype);
    if (storage == KILN_bool) storage = KILN_u8;
    for (uint32_t i = 0; i < k->tables.n; i++)
        if (k->tables.at[i].data == literal->data) return i;
    if (node->type->n_elements > KILN_K_MAX_TABLE || literal->kind != KILN_LITERAL_BYTES)
        kiln_fail(lower->scope, KILN_INTERNAL, "lower %s: %s stands in the code; expected an input",
                  lower->group->label,
                  kiln_node_string(&lower->scope->arena, lower->graph, constant));
    return kiln_kernel_add_table(k, storage, (uint32_t)node->type->n_elements, literal->data);
}

static kiln_kv source_constant(kiln_lower *lower, const kiln_frame *frame)
{
    kiln_kernel *k = lower->kernel;
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    const kiln_literal *literal = &node->attrs->literal.value;
    const kiln_site site = *kiln_frame_site(lower, frame);
    kiln_dtype dtype = node->type->dtype, storage = kiln_storage_dtype(dtype);
    if (node->type->n_elements == 0) return kiln_lower_zero(lower, frame);
    if (literal->kind == KILN_LITERAL_SPLAT || node->type->n_elements == 1) {
        uint64_t bits = 0;
        memcpy(&bits, literal->data, kiln_dtype_bytes(dtype));
        if (dtype == KILN_bool) bits = bits != 0;
        kiln_kv value = kiln_k_const_bits(k, storage, site.lanes, bits);
        return kiln_math_from_storage(k, value, dtype);
    }
    uint32_t table = constant_table(lower, frame->node);
    kiln_axis_index at = kiln_lower_linearize(lower, &site.index, node->type->dims);
    kiln_kv lanes = kiln_axis_lanes(lower, &at, site.lanes);
    /* lanes past a tail or outside a guard may point anywhere */
    lanes = kiln_k_max(k, lanes, kiln_k_const_int(k, KILN_i64, site.lanes, 0));
    int64_t last = node->type->n_elements - 1;
    lanes = kiln_k_min(k, lanes, kiln_k_const_int(k, KILN_i64, site.lanes, last));
    kiln_kv value = kiln_k_lookup(k, table, kiln_k_convert(k, lanes, KILN_i32));
    if (dtype == KILN_bool)
        return kiln_k_binary(k, KILN_K_ne, value, kiln_k_const_int(k, KILN_u8, site.lanes, 0));
    return kiln_math_from_storage(k, value, dtype);
}

/* Counts in i32 where the axis allows it: its conversion to float is one instruction. */
static kiln_kv source_iota(kiln_lower *lower, const kiln_frame *frame)
{
    kiln_kernel *k = lower->kernel;
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    const kiln_site site = *kiln_frame_site(lower, frame);
    uint32_t along = (uint32_t)node->attrs->axis.axis;
    kiln_dtype dtype = node->type->dtype, compute = kiln_compute_dtype(dtype);
    kiln_dtype count = node->type->dims[along] < INT32_MAX ? KILN_i32 : KILN_i64;
    if (kiln_dtype_is_int(compute)) count = compute;
    kiln_axis_index axis = kiln_axis_plain(lower, &site.index.axis[along]);
    kiln_kv value;
    if (axis.lanes || axis.spread || site.lanes == 1) {
        value = kiln_k_convert(k, kiln_axis_lanes(lower, &axis, site.lanes), count);
    } else {
        kiln_kv step = kiln_k_const_int(k, count, site.lanes, axis.step);
        value = kiln_k_splat(k, kiln_k_convert(k, axis.base, count), site.lanes);
        step = kiln_k_binary(k, KILN_K_mul, kiln_k_lanes(k, count, site.lanes), step);
        value = kiln_k_binary(k, KILN_K_add, value, step);
    }
    return kiln_math_round_to(k, kiln_k_convert(k, value, compute), dtype);
}

kiln_kv kiln_lower_source(kiln_lower *lower, kiln_frame *frame)
{
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    return node->op == KILN_OP_iota ? source_iota(lower, frame) : source_constant(lower, frame);
}
