/* Horizontal groups. In: the groups in their order. Out: small ones that do not wait for each other
 * as one kernel:
 *
 *     pointwise %a, dot %c, pointwise %b   ->   dot %c, horizontal %a and %b
 *
 * which saves a launch each, and the wait before each where workers share a region. A small group
 * waits until another reads what it stores, until what it reads would have left the second cache,
 * or until so many wait that one kernel of them would be long. */
#include <math.h>

#include "kiln/program.h"
#include "passes/fuse.h"
#include "passes/members.h"

#define MOST_MEMBERS 16
#define MOST_INSTRS 1000 /* by the cost model: they compile in a few hundredths of a second */
#define MOST_OPERANDS 128
/* Time of a small group, in launches. On one thread a step costs 7 to 10 ns, nothing beside more
 * than a quarter of a launch; where threads share steps, each has its price for all of them. */
#define SMALL_ALONE 0.25
#define SMALL_SHARED 5
#define KEPT_SHARE 4 /* of the second cache: a value stays in it until so many bytes are moved */
#define HELD_SHARE 8 /* of the second cache: intermediate values that wait to be read */

typedef struct collector {
    kiln_fusion *fusion;
    kiln_vec(kiln_group) out, waiting;
    double instrs, leave_at;       /* of those that wait */
    uint32_t n_operands, first_at; /* where in `out` the first of them stood */
    int64_t held;
    uint32_t *waits_in; /* by value: the last round in which what makes it, or a part, waits */
    uint32_t round;     /* from 1 on; the next begins when those that wait have left */
    uint32_t *holder;   /* by value: the assembled one that it is stored inside, or 0 */
    double *made_at;    /* by value: bytes that groups had moved then */
    double moved;
} collector;

static bool is_kind(const kiln_group *group)
{
    return group->kind == KILN_GROUP_POINTWISE || group->kind == KILN_GROUP_ROW ||
           group->kind == KILN_GROUP_COLUMN;
}

/* What a group that waits makes, and what that is stored inside. */
static void mark_outputs(collector *all, const kiln_group *group)
{
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        uint32_t id = group->outputs[i].value.id;
        all->waits_in[id] = all->waits_in[all->holder[id]] = all->round;
    }
}

static void find_holders(collector *all)
{
    const kiln_schedule *schedule = all->fusion->schedule;
    for (uint32_t i = 0; i < schedule->assembled.n; i++) {
        kiln_value value = schedule->assembled.at[i];
        const kiln_node *node = kiln_graph_node(schedule->graph, value);
        for (uint32_t j = 0; j < node->n_inputs; j++) all->holder[node->inputs[j].id] = value.id;
    }
}

/* "%a, %b and 3 more", by the members' labels. */
static const char *label_of(kiln_arena *arena, const kiln_group *members, uint32_t n)
{
    const char *first = members[0].label, *second = members[1].label;
    if (n == 2) return kiln_arena_format(arena, "%s, %s", first, second);
    return kiln_arena_format(arena, "%s, %s and %u more", first, second, n - 2);
}

static kiln_group join(collector *all)
{
    kiln_arena *arena = all->fusion->arena;
    uint32_t n = all->waiting.n;
    kiln_vec(kiln_operand) outputs = {0};
    kiln_group group = {.kind = KILN_GROUP_HORIZONTAL, .n_members = n};
    kiln_group *members = kiln_new_array(arena, kiln_group, n);
    for (uint32_t i = 0; i < n; i++) {
        members[i] = all->waiting.at[i];
        group.flops += members[i].flops;
        group.bytes += members[i].bytes;
        group.ns += members[i].ns;
        for (uint32_t j = 0; j < members[i].n_outputs; j++)
            kiln_vec_push(&outputs, arena, members[i].outputs[j]);
    }
    group.members = members;
    group.n_outputs = outputs.n;
    group.outputs = outputs.at;
    group.label = label_of(arena, members, n);
    kiln_group_join_members(arena, &group);
    return group;
}

/* Back where it stood. */
static void put_back(collector *all, const kiln_group *group)
{
    kiln_vec_push(&all->out, all->fusion->arena, *group);
    for (uint32_t i = all->out.n - 1; i > all->first_at; i--) all->out.at[i] = all->out.at[i - 1];
    all->out.at[all->first_at] = *group;
}

/* What waits runs now; one alone has nothing to wait for. */
static void flush(collector *all)
{
    if (!all->waiting.n) return;
    kiln_group group = all->waiting.n > 1 ? join(all) : all->waiting.at[0];
    if (all->waiting.n > 1)
        kiln_vec_push(&all->out, all->fusion->arena, group);
    else
        put_back(all, &group);
    all->waiting.n = 0;
    all->round++;
    all->instrs = 0;
    all->n_operands = 0;
    all->held = 0;
    all->leave_at = INFINITY;
}

static bool reads_waiting(const collector *all, const kiln_group *group)
{
    for (uint32_t i = 0; i < group->n_inputs; i++)
        if (all->waits_in[group->inputs[i].value.id] == all->round) return true;
    return false;
}

/* When the first of the values that a group reads leaves the second cache: never, for those that
 * are not in it. */
static double leave_time(const collector *all, const kiln_group *group)
{
    double kept = (double)all->fusion->machine->l2_bytes / KEPT_SHARE, first = INFINITY;
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        double made = all->made_at[group->inputs[i].value.id];
        if (made >= 0 && made + kept > all->moved) first = fmin(first, made + kept);
    }
    return first;
}

/* Bytes of intermediate values that live on while the group waits. */
static int64_t held_bytes(const collector *all, const kiln_group *group)
{
    int64_t bytes = 0;
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        bool is_made = all->made_at[group->inputs[i].value.id] >= 0;
        if (is_made) bytes += kiln_operand_bytes(all->fusion->graph, group->inputs[i]);
    }
    return bytes;
}

static bool is_small(const kiln_fusion *fusion, const kiln_group *group, const kiln_cost *cost)
{
    double small = fusion->pipeline->n_threads > 1 ? SMALL_SHARED : SMALL_ALONE;
    bool is_short = cost->one_core_ns <= small * fusion->machine->launch_ns;
    return is_short && cost->instrs <= MOST_INSTRS / 2 &&
           group->n_inputs + group->n_outputs <= MOST_OPERANDS / 2;
}

/* Adds the group to those that wait; false when it is none to wait. */
static bool add(collector *all, const kiln_group *group)
{
    kiln_fusion *fusion = all->fusion;
    if (!is_kind(group)) return false;
    uint32_t cluster = fusion->cluster_of[group->outputs[0].value.id];
    if (cluster == KILN_NONE) return false;
    kiln_cost cost = kiln_fusion_cost(fusion, cluster, KILN_NONE);
    if (!is_small(fusion, group, &cost)) return false;
    uint32_t n_operands = group->n_inputs + group->n_outputs;
    int64_t held = held_bytes(all, group);
    bool is_full = all->waiting.n == MOST_MEMBERS || all->instrs + cost.instrs > MOST_INSTRS ||
                   all->n_operands + n_operands > MOST_OPERANDS ||
                   all->held + held > fusion->machine->l2_bytes / HELD_SHARE;
    if (is_full) flush(all);
    if (!all->waiting.n) all->first_at = all->out.n;
    kiln_vec_push(&all->waiting, fusion->arena, *group);
    mark_outputs(all, group);
    all->instrs += cost.instrs;
    all->n_operands += n_operands;
    all->held += held;
    all->leave_at = fmin(all->leave_at, leave_time(all, group));
    return true;
}

static void visit(collector *all, const kiln_group *group)
{
    bool is_late = all->moved + (double)group->bytes > all->leave_at;
    if (is_late || reads_waiting(all, group)) flush(all);
    if (!add(all, group)) kiln_vec_push(&all->out, all->fusion->arena, *group);
    all->moved += (double)group->bytes;
    for (uint32_t i = 0; i < group->n_outputs; i++)
        all->made_at[group->outputs[i].value.id] = all->moved;
}

void kiln_fuse_horizontal(kiln_fusion *fusion)
{
    kiln_schedule *schedule = fusion->schedule;
    if (schedule->is_unfused || fusion->machine->kind != KILN_MACHINE_CPU) return;
    collector all = {
        .fusion = fusion,
        .leave_at = INFINITY,
        .round = 1,
        .waits_in = kiln_new_array(fusion->arena, uint32_t, fusion->n_nodes + 1),
        .holder = kiln_new_array(fusion->arena, uint32_t, fusion->n_nodes + 1),
        .made_at = kiln_new_array(fusion->arena, double, fusion->n_nodes + 1),
    };
    for (uint32_t id = 0; id < fusion->n_nodes; id++) all.made_at[id] = -1;
    find_holders(&all);
    for (uint32_t g = 0; g < schedule->groups.n; g++) visit(&all, &schedule->groups.at[g]);
    flush(&all);
    schedule->groups.n = 0;
    for (uint32_t g = 0; g < all.out.n; g++)
        kiln_vec_push(&schedule->groups, fusion->arena, all.out.at[g]);
}
