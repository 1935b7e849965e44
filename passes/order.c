/* The order of groups: a topological order with a low peak of live bytes. Several are made (the
 * user's own; the one that always runs what frees most; depth first from the outputs) and the best
 * is kept, the user's among equals. */
#include "kiln/program.h"
#include "passes/fuse.h"

typedef struct order_state {
    kiln_arena *arena;
    const kiln_schedule *schedule;
    const kiln_graph *graph;
    const kiln_group *groups;
    uint32_t n;
    uint32_t *producer;           /* by value id: the group that stores it, dense; KILN_NONE */
    uint32_t *packer;             /* by contraction id: the group that packs for it */
    uint32_t *first_read, *reads; /* groups whose values group i reads, each once */
    uint32_t *first_user, *users; /* groups that read what group i stores, each once */
    uint32_t *n_waits;            /* groups that group i waits for */
    uint32_t *n_reads;            /* by group: readers that have not run */
    int64_t *stored;              /* bytes that group i stores in the arena */
    uint64_t *key;                /* the user's order */
} order_state;

static void index_outputs(order_state *state)
{
    uint32_t n_nodes = state->graph->nodes.n;
    state->producer = kiln_new_array(state->arena, uint32_t, n_nodes);
    state->packer = kiln_new_array(state->arena, uint32_t, n_nodes);
    for (uint32_t id = 0; id < n_nodes; id++) state->producer[id] = state->packer[id] = KILN_NONE;
    for (uint32_t g = 0; g < state->n; g++) {
        const kiln_group *group = &state->groups[g];
        state->key[g] = group->anchor.id;
        for (uint32_t i = 0; i < group->n_outputs; i++) {
            kiln_operand output = group->outputs[i];
            bool is_dense = output.format == KILN_FORMAT_DENSE;
            if (is_dense)
                state->producer[output.value.id] = g;
            else
                state->packer[output.consumer.id] = g;
            state->stored[g] += kiln_operand_bytes(state->graph, output);
            if (output.value.id > state->key[g]) state->key[g] = output.value.id;
        }
        bool is_pack = group->kind == KILN_GROUP_PACK;
        state->key[g] = state->key[g] * 2 + !is_pack;
    }
    for (uint32_t i = 0; i < state->graph->outputs.n; i++) {
        kiln_value value = kiln_stored_value(state->graph, state->graph->outputs.at[i].value);
        uint32_t g = state->producer[value.id];
        if (g != KILN_NONE) state->stored[g] -= kiln_graph_type(state->graph, value)->bytes;
    }
}

/* Adds the group that stores a value to those that `g` reads. */
static void add_read(order_state *state, kiln_ids *reads, uint32_t g, uint32_t from)
{
    if (from == KILN_NONE || from == g) return;
    for (uint32_t i = state->first_read[g]; i < reads->n; i++) {
        if (reads->at[i] == from) return;
    }
    kiln_vec_push(reads, state->arena, from);
}

/* An assembled value comes from the groups that store its parts. */
static void add_operand_reads(order_state *state, kiln_ids *reads, uint32_t g, kiln_operand operand)
{
    if (operand.format != KILN_FORMAT_DENSE) {
        add_read(state, reads, g, state->packer[operand.consumer.id]);
        return;
    }
    add_read(state, reads, g, state->producer[operand.value.id]);
    if (!kiln_schedule_is_assembled(state->schedule, operand.value)) return;
    const kiln_node *node = kiln_graph_node(state->graph, operand.value);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        add_read(state, reads, g, state->producer[node->inputs[i].id]);
    }
}

static void index_edges(order_state *state)
{
    kiln_ids reads = {0};
    uint32_t n = state->n;
    for (uint32_t g = 0; g < n; g++) {
        const kiln_group *group = &state->groups[g];
        state->first_read[g] = reads.n;
        for (uint32_t i = 0; i < group->n_inputs; i++)
            add_operand_reads(state, &reads, g, group->inputs[i]);
    }
    state->first_read[n] = reads.n;
    state->reads = reads.at;
    for (uint32_t i = 0; i < reads.n; i++) state->first_user[reads.at[i] + 2]++;
    for (uint32_t g = 0; g < n; g++) state->first_user[g + 2] += state->first_user[g + 1];
    state->users = kiln_new_array(state->arena, uint32_t, reads.n + 1);
    for (uint32_t g = 0; g < n; g++) {
        for (uint32_t i = state->first_read[g]; i < state->first_read[g + 1]; i++) {
            state->users[state->first_user[reads.at[i] + 1]++] = g;
        }
    }
}

static void reset(order_state *state)
{
    for (uint32_t g = 0; g < state->n; g++) {
        state->n_waits[g] = state->first_read[g + 1] - state->first_read[g];
        state->n_reads[g] = state->first_user[g + 1] - state->first_user[g];
    }
}

/* Bytes that become free when group `g` runs now: of producers whose last reader it is. */
static int64_t freed_by(const order_state *state, uint32_t g)
{
    int64_t bytes = 0;
    for (uint32_t i = state->first_read[g]; i < state->first_read[g + 1]; i++) {
        uint32_t from = state->reads[i];
        if (state->n_reads[from] == 1) bytes += state->stored[from];
    }
    return bytes;
}

typedef enum order_rule { ORDER_USER, ORDER_MEMORY, ORDER_DEPTH, N_ORDERS } order_rule;

/* Whether ready group `a` runs before ready group `b`; `age` is the step at which each became
 * ready. */
static bool runs_before(const order_state *state, order_rule rule, const uint32_t *age, uint32_t a,
                        uint32_t b)
{
    if (rule == ORDER_MEMORY) {
        int64_t grow_a = state->stored[a] - freed_by(state, a);
        int64_t grow_b = state->stored[b] - freed_by(state, b);
        if (grow_a != grow_b) return grow_a < grow_b;
    }
    if (rule == ORDER_DEPTH && age[a] != age[b]) return age[a] > age[b];
    return state->key[a] != state->key[b] ? state->key[a] < state->key[b] : a < b;
}

/* Beyond so many ready groups only the first are compared: the order stays near the user's. */
#define MAX_READY 64

static int64_t make_order(order_state *state, order_rule rule, uint32_t *out_order)
{
    kiln_ids ready = {0};
    uint32_t *age = kiln_new_array(state->arena, uint32_t, state->n + 1);
    reset(state);
    for (uint32_t g = 0; g < state->n; g++) {
        if (!state->n_waits[g]) kiln_vec_push(&ready, state->arena, g);
    }
    int64_t live = 0, peak = 0;
    for (uint32_t step = 0; step < state->n && ready.n; step++) {
        uint32_t best = 0, n_seen = rule == ORDER_USER || ready.n < MAX_READY ? ready.n : MAX_READY;
        for (uint32_t i = 1; i < n_seen; i++) {
            if (runs_before(state, rule, age, ready.at[i], ready.at[best])) best = i;
        }
        uint32_t g = ready.at[best];
        ready.at[best] = ready.at[--ready.n];
        out_order[step] = g;
        live += state->stored[g];
        if (live > peak) peak = live;
        live -= freed_by(state, g);
        for (uint32_t i = state->first_read[g]; i < state->first_read[g + 1]; i++) {
            state->n_reads[state->reads[i]]--;
        }
        for (uint32_t i = state->first_user[g]; i < state->first_user[g + 1]; i++) {
            uint32_t user = state->users[i];
            if (--state->n_waits[user]) continue;
            age[user] = step + 1;
            kiln_vec_push(&ready, state->arena, user);
        }
    }
    return peak;
}

void kiln_order_groups(const kiln_schedule *schedule, const kiln_group *groups, uint32_t n,
                       uint32_t *out_order)
{
    kiln_arena *arena = &schedule->scope->arena;
    order_state state = {
        .arena = arena, .schedule = schedule, .graph = schedule->graph, .groups = groups, .n = n};
    state.first_read = kiln_new_array(arena, uint32_t, n + 1);
    state.first_user = kiln_new_array(arena, uint32_t, n + 3);
    state.n_waits = kiln_new_array(arena, uint32_t, n + 1);
    state.n_reads = kiln_new_array(arena, uint32_t, n + 1);
    state.stored = kiln_new_array(arena, int64_t, n + 1);
    state.key = kiln_new_array(arena, uint64_t, n + 1);
    index_outputs(&state);
    index_edges(&state);
    uint32_t *order = kiln_new_array(arena, uint32_t, n + 1);
    int64_t best = 0;
    for (order_rule rule = 0; rule < N_ORDERS; rule++) {
        int64_t peak = make_order(&state, rule, order);
        if (rule && peak >= best) continue;
        best = peak;
        for (uint32_t i = 0; i < n; i++) out_order[i] = order[i];
    }
}
