/* The value of a node at an index. A site is an index with its lanes and masks, interned; a value
 * is remembered by (node, site). A stack of frames walks the operands: a frame asks for the values
 * that it needs (subs), runs again when they are at hand, and may then ask for more (a take needs
 * its indices before it knows where to read). An index that is the same in every lane is evaluated
 * once as a scalar and splatted where it meets vectors. */
#include "codegen/lower_value.h"

#include "base/hash.h"
#include "codegen/lower_stage.h"
#include "codegen/math.h"
#include "kiln/program.h"

#define SITE_BUCKETS 256u

struct kiln_sites {
    kiln_vec(kiln_site) all;
    kiln_vec(uint32_t) next; /* 1 + number of the next older site of the bucket */
    uint32_t heads[SITE_BUCKETS];
};

static uint64_t site_hash(const kiln_site *site)
{
    uint64_t hash = kiln_hash_u64(KILN_HASH_SEED, site->lanes | (uint64_t)site->mask << 32);
    if (site->is_address) hash = kiln_hash_u64(hash, 1);
    hash = kiln_hash_u64(hash, site->guard | (uint64_t)site->index.rank << 32);
    for (uint32_t i = 0; i < site->index.rank; i++) {
        const kiln_axis_index *axis = &site->index.axis[i];
        hash = kiln_hash_u64(hash, axis->base | (uint64_t)axis->lanes << 32);
        hash = kiln_hash_u64(hash, (uint64_t)axis->step ^ (uint64_t)axis->divide << 16);
        hash = kiln_hash_u64(hash, (uint64_t)axis->modulo);
    }
    return hash;
}

static bool is_same_axis(const kiln_axis_index *a, const kiln_axis_index *b)
{
    return a->base == b->base && a->lanes == b->lanes && a->step == b->step &&
           a->spread == b->spread && a->divide == b->divide && a->modulo == b->modulo &&
           a->is_guarded == b->is_guarded;
}

static bool is_same_site(const kiln_site *a, const kiln_site *b)
{
    if (a->lanes != b->lanes || a->mask != b->mask || a->guard != b->guard) return false;
    if (a->is_address != b->is_address) return false;
    if (a->index.rank != b->index.rank) return false;
    for (uint32_t i = 0; i < a->index.rank; i++)
        if (!is_same_axis(&a->index.axis[i], &b->index.axis[i])) return false;
    return true;
}

static uint32_t site_intern(kiln_lower *lower, const kiln_site *site)
{
    kiln_arena *arena = &lower->scope->arena;
    if (!lower->sites) lower->sites = kiln_new(arena, kiln_sites);
    kiln_sites *sites = lower->sites;
    uint32_t bucket = (uint32_t)(site_hash(site) % SITE_BUCKETS);
    for (uint32_t at = sites->heads[bucket]; at; at = sites->next.at[at - 1])
        if (is_same_site(&sites->all.at[at - 1], site)) return at - 1;
    kiln_vec_push(&sites->all, arena, *site);
    kiln_vec_push(&sites->next, arena, sites->heads[bucket]);
    sites->heads[bucket] = sites->all.n;
    return sites->all.n - 1;
}

const kiln_site *kiln_frame_site(const kiln_lower *lower, const kiln_frame *frame)
{
    return &lower->sites->all.at[frame->site];
}

/* With one lane a step means nothing; without guard, an index that all lanes share is a scalar. */
static uint32_t site_of(kiln_lower *lower, const kiln_index *index, kiln_kv guard)
{
    kiln_site site = {.lanes = lower->lanes, .mask = lower->mask, .guard = guard, .index = *index};
    bool is_uniform = guard == 0;
    for (uint32_t i = 0; i < index->rank; i++) {
        kiln_axis_index *axis = &site.index.axis[i];
        if (lower->lanes == 1 && axis->lanes) *axis = kiln_axis_scalar(axis->lanes, 1);
        if (lower->lanes == 1) axis->step = 0;
        if (lower->lanes == 1) axis->spread = NULL;
        is_uniform = is_uniform && kiln_axis_is_uniform(axis);
    }
    if (is_uniform && lower->lanes > 1) {
        site.lanes = 1;
        site.mask = 0;
    }
    return site_intern(lower, &site);
}

/* The place of operand 0 of a view or move is wanted where its result's is; indices are values. */
static uint32_t address_site(kiln_lower *lower, uint32_t site)
{
    kiln_site at = lower->sites->all.at[site];
    at.is_address = true;
    return site_intern(lower, &at);
}

static kiln_memo_key value_key(kiln_value node, uint32_t site)
{
    return (kiln_memo_key){1ull << 32, node.id, site};
}

static kiln_kv value_find(const kiln_lower *lower, kiln_value node, uint32_t site)
{
    for (uint32_t i = lower->bindings.n; i-- > 0;) {
        const kiln_binding *binding = &lower->bindings.at[i];
        if (binding->node.id == node.id && !binding->place) return binding->value;
    }
    return kiln_memo_find(lower->memo, value_key(node, site));
}

void kiln_frame_ask(kiln_lower *lower, kiln_frame *frame, kiln_value node, const kiln_index *index,
                    kiln_kv guard)
{
    kiln_lower_sub sub = {node, site_of(lower, index, guard)};
    const kiln_node *asks = kiln_graph_node(lower->graph, frame->node);
    bool is_moved = kiln_frame_site(lower, frame)->is_address && asks->inputs[0].id == node.id;
    if (is_moved) sub.site = address_site(lower, sub.site);
    kiln_vec_push(&frame->subs, &lower->scope->arena, sub);
}

kiln_kv kiln_frame_raw(const kiln_lower *lower, const kiln_frame *frame, uint32_t number)
{
    return value_find(lower, frame->subs.at[number].node, frame->subs.at[number].site);
}

static kiln_kv value_spread(kiln_lower *lower, kiln_kv value, uint32_t lanes)
{
    uint32_t has = kiln_kernel_at(lower->kernel, value)->lanes;
    if (has == lanes) return value;
    if (has != 1)
        kiln_fail(lower->scope, KILN_INTERNAL, "lower %s: a value has %u lanes; expected 1 or %u",
                  lower->group->label, has, lanes);
    kiln_memo_key key = {2ull << 32, value, lanes};
    kiln_kv splat = kiln_memo_find(lower->memo, key);
    if (splat) return splat;
    splat = kiln_k_splat(lower->kernel, value, lanes);
    kiln_memo_add(lower->memo, key, splat);
    return splat;
}

kiln_kv kiln_frame_sub(kiln_lower *lower, const kiln_frame *frame, uint32_t number)
{
    return value_spread(lower, kiln_frame_raw(lower, frame, number),
                        kiln_frame_site(lower, frame)->lanes);
}

kiln_kv kiln_lower_and(kiln_lower *lower, kiln_kv a, kiln_kv b)
{
    if (!a || !b) return a ? a : b;
    uint32_t a_lanes = kiln_kernel_at(lower->kernel, a)->lanes;
    uint32_t b_lanes = kiln_kernel_at(lower->kernel, b)->lanes;
    uint32_t lanes = a_lanes > b_lanes ? a_lanes : b_lanes;
    return kiln_lower_op(lower, KILN_K_and, value_spread(lower, a, lanes),
                         value_spread(lower, b, lanes));
}

/* Reads the node at the frame's site from a place. */
static kiln_kv load_place(kiln_lower *lower, const kiln_frame *frame, const kiln_binding *at)
{
    const kiln_place *place = at->place;
    const kiln_site site = *kiln_frame_site(lower, frame);
    const kiln_type *type = kiln_graph_type(lower->graph, frame->node);
    if (!place->strides)
        kiln_fail(lower->scope, KILN_INTERNAL, "lower %s: %s is packed; expected strides",
                  lower->group->label,
                  kiln_node_string(&lower->scope->arena, lower->graph, frame->node));
    bool is_local = at->buffer >= KILN_LOCAL_FIRST;
    kiln_kv mask = kiln_lower_and(lower, site.mask, site.guard);
    kiln_access access = {.buffer = at->buffer,
                          .dtype = is_local ? KILN_NO_DTYPE : type->dtype,
                          .lanes = site.lanes,
                          /* a guard is one lane where all lanes share what it asks */
                          .mask = mask ? value_spread(lower, mask, site.lanes) : 0,
                          .is_guarded = site.guard != 0};
    if (at->is_operand)
        access.offset = kiln_lower_operand_offset(lower, at->position, &site.index);
    else
        access.offset = kiln_lower_offset(lower, place, &site.index);
    if (at->base) {
        kiln_axis_index base = kiln_axis_scalar(at->base, 1);
        access.offset = kiln_axis_add(lower, &access.offset, &base);
    }
    return kiln_lower_load_at(lower, &access);
}

/* A node that stands in memory: bound to a local, or an input of the group. */
static kiln_kv value_load(kiln_lower *lower, const kiln_frame *frame)
{
    for (uint32_t i = lower->bindings.n; i-- > 0;) {
        const kiln_binding *binding = &lower->bindings.at[i];
        if (binding->node.id == frame->node.id) return load_place(lower, frame, binding);
    }
    uint32_t input = kiln_lower_input(lower, frame->node);
    if (input == KILN_NONE) return 0;
    const kiln_site site = *kiln_frame_site(lower, frame);
    if (site.is_address) {
        kiln_axis_index offset = kiln_lower_operand_offset(lower, input, &site.index);
        return kiln_axis_plain(lower, &offset).base;
    }
    kiln_binding at = {.place = lower->place_of[input],
                       .buffer = lower->buffer_of[input],
                       .is_operand = true,
                       .position = input};
    return load_place(lower, frame, &at);
}

static kiln_kv value_elementwise(kiln_lower *lower, kiln_frame *frame)
{
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    if (frame->phase == 0) {
        const kiln_index index = kiln_frame_site(lower, frame)->index;
        kiln_kv guard = kiln_frame_site(lower, frame)->guard;
        for (uint32_t i = 0; i < node->n_inputs; i++)
            kiln_frame_ask(lower, frame, node->inputs[i], &index, guard);
        return 0;
    }
    kiln_kv args[3] = {0};
    for (uint32_t i = 0; i < node->n_inputs; i++) args[i] = kiln_frame_sub(lower, frame, i);
    if (node->op == KILN_OP_barrier) return args[0];
    if (node->op == KILN_OP_exp && kiln_lower_is_shifted(lower, node->inputs[0]))
        return kiln_math_round_to(lower->kernel, kiln_math_exp_down(lower->kernel, args[0]),
                                  node->type->dtype);
    kiln_value typed = node->inputs[node->op == KILN_OP_select ? 1 : 0];
    kiln_dtype dtype = kiln_graph_type(lower->graph, typed)->dtype;
    return kiln_math_op(lower->kernel, (kiln_op)node->op, dtype, node->type->dtype, args);
}

static kiln_kv value_view(kiln_lower *lower, kiln_frame *frame)
{
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    if (frame->phase > 0) return kiln_frame_sub(lower, frame, 0);
    const kiln_site site = *kiln_frame_site(lower, frame);
    kiln_index index;
    kiln_lower_view(lower, node, &site.index, &index);
    kiln_frame_ask(lower, frame, node->inputs[0], &index, site.guard);
    return 0;
}

static kiln_kv value_step(kiln_lower *lower, kiln_frame *frame)
{
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    if (frame->phase == 0) {
        kiln_kv loaded = value_load(lower, frame);
        if (loaded) return loaded;
    }
    if (kiln_lower_position(lower, frame->node) != KILN_NONE) {
        kiln_class class_ = kiln_node_row(node)->class_;
        if (class_ == KILN_ELEMENTWISE || node->op == KILN_OP_barrier)
            return value_elementwise(lower, frame);
        if (class_ == KILN_VIEW) return value_view(lower, frame);
        if (class_ == KILN_MOVE) return kiln_lower_move(lower, frame);
        if (class_ == KILN_SOURCE && node->op != KILN_OP_input)
            return kiln_lower_source(lower, frame);
    }
    kiln_fail(lower->scope, KILN_INTERNAL,
              "lower %s: %s has no value here; expected one that is bound", lower->group->label,
              kiln_node_string(&lower->scope->arena, lower->graph, frame->node));
}

/* The first sub without a value, or none. */
static const kiln_lower_sub *missing_sub(const kiln_lower *lower, const kiln_frame *frame)
{
    for (uint32_t i = 0; i < frame->subs.n; i++)
        if (!kiln_frame_raw(lower, frame, i)) return &frame->subs.at[i];
    return NULL;
}

/* What `node` is at site `root`. */
static kiln_kv value_at(kiln_lower *lower, kiln_value node, uint32_t root)
{
    kiln_vec(kiln_frame) stack = {0};
    kiln_arena *arena = &lower->scope->arena;
    kiln_kv found = value_find(lower, node, root);
    if (!found) kiln_vec_push(&stack, arena, ((kiln_frame){.node = node, .site = root}));
    while (stack.n > 0) {
        kiln_frame *top = &stack.at[stack.n - 1];
        const kiln_lower_sub *missing = missing_sub(lower, top);
        if (missing) {
            kiln_frame next = {.node = missing->node, .site = missing->site};
            kiln_vec_push(&stack, arena, next);
            continue;
        }
        found = value_step(lower, top);
        top->phase++;
        if (!found) continue;
        kiln_memo_add(lower->memo, value_key(top->node, top->site), found);
        stack.n--;
    }
    return found;
}

kiln_kv kiln_lower_value(kiln_lower *lower, kiln_value node, const kiln_index *index)
{
    return kiln_lower_value_where(lower, node, index, 0);
}

kiln_kv kiln_lower_value_where(kiln_lower *lower, kiln_value node, const kiln_index *index,
                               kiln_kv guard)
{
    kiln_kv value = value_at(lower, node, site_of(lower, index, guard));
    return value_spread(lower, value, lower->lanes);
}

kiln_kv kiln_lower_address(kiln_lower *lower, kiln_value node, const kiln_index *index)
{
    uint32_t lanes = lower->lanes;
    kiln_kv mask = lower->mask;
    lower->lanes = 1;
    lower->mask = 0;
    kiln_kv at = value_at(lower, node, address_site(lower, site_of(lower, index, 0)));
    lower->lanes = lanes;
    lower->mask = mask;
    return at;
}
