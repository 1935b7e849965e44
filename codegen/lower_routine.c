/* Routine groups: the table of their lowerings, and loops that they share. */
#include "codegen/lower_routine.h"

#include "base/checked.h"

kiln_kv kiln_nest_tiles(kiln_nest *nest, int64_t n_tiles)
{
    kiln_lower *lower = nest->lower;
    kiln_kernel *k = lower->kernel;
    if (n_tiles > UINT32_MAX)
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: %lld tiles; expected at most 2^32 - 1",
                  lower->group->label, (long long)n_tiles);
    k->n_tiles = (uint32_t)n_tiles;
    kiln_kv tile = kiln_k_loop(k, KILN_LOOP_TILES, kiln_k_tile_begin(k), kiln_k_tile_end(k), 1);
    nest->marks[nest->n++] = kiln_lower_mark(lower);
    return tile;
}

kiln_kv kiln_nest_loop(kiln_nest *nest, kiln_kv begin, kiln_kv end, int64_t step)
{
    kiln_kv at = kiln_k_loop(nest->lower->kernel, KILN_LOOP_SERIAL, begin, end, step);
    nest->marks[nest->n++] = kiln_lower_mark(nest->lower);
    return at;
}

void kiln_nest_close(kiln_nest *nest, uint32_t n)
{
    while (nest->n > n) {
        kiln_lower_cut(nest->lower, nest->marks[--nest->n]);
        kiln_k_end(nest->lower->kernel);
    }
}

static void emit_body(kiln_lower *lower, const kiln_lanes_loop *loop, kiln_axis_index at)
{
    uint32_t mark = kiln_lower_mark(lower);
    loop->body(lower, loop->state, at);
    kiln_lower_cut(lower, mark);
    kiln_k_end(lower->kernel);
}

void kiln_nest_lanes(kiln_lower *lower, const kiln_lanes_loop *loop)
{
    kiln_kernel *k = lower->kernel;
    int64_t first = 1, known;
    bool is_zero = kiln_kernel_is_const(k, loop->begin, &first) && first == 0;
    lower->lanes = loop->lanes;
    if (loop->lanes == 1) {
        kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, loop->begin, loop->end, 1);
        emit_body(lower, loop, kiln_axis_scalar(at, 1));
        return;
    }
    kiln_kv count = kiln_lower_op(lower, KILN_K_sub, loop->end, loop->begin);
    count = kiln_lower_op_imm(lower, KILN_K_max, count, 0);
    kiln_kv whole = kiln_lower_op_imm(lower, KILN_K_div, count, loop->lanes);
    whole = kiln_lower_op_imm(lower, KILN_K_mul, whole, loop->lanes);
    kiln_kv middle = kiln_lower_op(lower, KILN_K_add, loop->begin, whole);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, loop->begin, middle, loop->lanes);
    emit_body(lower, loop, kiln_axis_vector(at, is_zero ? loop->lanes : 1));
    bool is_whole = kiln_kernel_is_const(k, count, &known) && known % loop->lanes == 0;
    if (!is_whole) {
        at = kiln_k_loop(k, KILN_LOOP_SERIAL, middle, loop->end, loop->lanes);
        kiln_kv left = kiln_k_binary(k, KILN_K_sub, loop->end, at);
        lower->mask = kiln_k_active(k, loop->lanes, left);
        emit_body(lower, loop, kiln_axis_vector(at, 1));
        lower->mask = 0;
    }
    lower->lanes = 1;
}

uint32_t kiln_routine_lanes(const kiln_lower *lower, int64_t n)
{
    uint32_t lanes = 1, most = kiln_lower_group_lanes(lower);
    while (lanes < most && lanes < n) lanes *= 2;
    return lanes;
}

kiln_kv kiln_routine_result(kiln_lower *lower, const kiln_index *index)
{
    uint32_t position = lower->group->n_inputs;
    const kiln_place *place = lower->place_of[position];
    const kiln_type *type = kiln_graph_type(lower->graph, place->operand.value);
    kiln_access access = {.buffer = lower->buffer_of[position],
                          .dtype = type->dtype,
                          .lanes = lower->lanes,
                          .mask = lower->mask,
                          .offset = kiln_lower_offset(lower, place, index)};
    return kiln_lower_load_at(lower, &access);
}

static kiln_routine_fn *const rows[KILN_N_OPS] = {
    [KILN_OP_barrier] = kiln_lower_pointwise, /* a copy */
    [KILN_OP_cholesky] = kiln_lower_cholesky,
    [KILN_OP_forward_solve] = kiln_lower_forward_solve,
    [KILN_OP_argsort] = kiln_lower_argsort,
    [KILN_OP_cumulative_sum] = kiln_lower_cumulative,
    [KILN_OP_cumulative_prod] = kiln_lower_cumulative,
    [KILN_OP_cumulative_max] = kiln_lower_cumulative,
    [KILN_OP_cumulative_min] = kiln_lower_cumulative,
    [KILN_OP_scatter] = kiln_lower_scatter,     [KILN_OP_scatter_add] = kiln_lower_scatter,
    [KILN_OP_scatter_mul] = kiln_lower_scatter, [KILN_OP_scatter_max] = kiln_lower_scatter,
    [KILN_OP_scatter_min] = kiln_lower_scatter,
};

const kiln_node *kiln_routine_node(const kiln_lower *lower)
{
    return kiln_graph_node(lower->graph, lower->group->outputs[0].value);
}

void kiln_lower_routine(kiln_lower *lower)
{
    kiln_routine_fn *run = rows[kiln_routine_node(lower)->op];
    if (!run)
        kiln_fail(lower->scope, KILN_INTERNAL, "lower %s: %s has no routine", lower->group->label,
                  kiln_node_row(kiln_routine_node(lower))->name);
    run(lower);
}

void kiln_lower_gpu_routine(kiln_lower *lower)
{
    if (kiln_routine_node(lower)->op != KILN_OP_barrier)
        kiln_fail(lower->scope, KILN_UNSUPPORTED,
                  "group %s: %s has no kernel on %s; expected a CPU target", lower->group->label,
                  kiln_node_row(kiln_routine_node(lower))->name, lower->machine->name);
    kiln_lower_gpu_pointwise(lower);
}
