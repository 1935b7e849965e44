/* Row bands. In: the groups in their order. Out: chains of convolutions, perhaps with a pool at the
 * end, as one group each where that is faster:
 *
 *     conv %a, conv %b (depthwise), conv %c   ->   band %c with members %a, %b, %c
 *
 * A tile runs down its rows of %c and computes just the rows of %a and %b that the next one needs,
 * so they are read from the first two caches; the price is rows that two tiles compute. A longest
 * chain is cut where the sum of the estimated times is least. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "kiln/program.h"
#include "passes/band.h"
#include "passes/fuse.h"
#include "passes/members.h"

#define WORTH 0.95     /* of the time of separate groups */
#define L2_SHARE 2     /* of the second cache for what passes between groups: the rest is theirs */
#define STREAMED 1.5   /* of the third cache's bandwidth when rows come one after the other */
#define UNHIDDEN 0.25  /* of the time to move bytes that arithmetic does not cover */
#define WEIGHT_SHARE 4 /* of the second cache for the kernels of a band, read for every step */
#define RING_SHARE 2   /* of the second cache for the rows kept */

typedef struct band_search {
    kiln_fusion *fusion;
    uint32_t *n_readers, *reader; /* by value: groups that read it, the last of them */
    kiln_group *groups;           /* copies; kind and members change */
    bool *is_gone;                /* a member of a band elsewhere */
    kiln_cost *costs;             /* of single groups that are in a chain */
} band_search;

static void count_readers(band_search *search)
{
    const kiln_schedule *schedule = search->fusion->schedule;
    for (uint32_t g = 0; g < schedule->groups.n; g++) {
        const kiln_group *group = &schedule->groups.at[g];
        for (uint32_t i = 0; i < group->n_inputs; i++) {
            search->n_readers[group->inputs[i].value.id]++;
            search->reader[group->inputs[i].value.id] = g;
        }
    }
}

/* The group that can follow group `g`, or KILN_NONE. */
static uint32_t next_member(const band_search *search, uint32_t g)
{
    const kiln_fusion *fusion = search->fusion;
    uint32_t made = search->groups[g].outputs[0].value.id;
    if (search->n_readers[made] != 1 || fusion->is_kept[made] || fusion->is_part[made])
        return KILN_NONE;
    uint32_t next = search->reader[made];
    const kiln_group *groups = search->groups;
    const kiln_machine *machine = fusion->machine;
    bool is_right = kiln_band_may_follow(fusion->graph, &groups[g], &groups[next], machine);
    return is_right ? next : KILN_NONE;
}

/* Measured on the layers of MobileNetV2, each alone and in bands, within a tenth: 16 to 96 features
 * at 112 x 112 move 5.6 MB in 154 us beside 130 of arithmetic, depthwise steps 60 bytes a ns on two
 * cores. */
static double time_of(const kiln_fusion *fusion, double slots, double bytes, double threads)
{
    double rate = kiln_fusion_bandwidth(fusion, bytes * L2_SHARE);
    if (rate <= fusion->machine->l3_bytes_per_ns) rate *= STREAMED;
    double memory = bytes / rate, work = slots / fusion->machine->flops_per_ns;
    double both = work + memory * UNHIDDEN;
    return (memory > both ? memory : both) / threads + fusion->machine->launch_ns;
}

static double single_ns(const band_search *search, uint32_t g)
{
    kiln_fusion *fusion = search->fusion;
    kiln_cost *cost = &search->costs[g];
    uint32_t cluster = fusion->cluster_of[search->groups[g].anchor.id];
    if (!cost->threads) *cost = kiln_fusion_cost(fusion, cluster, KILN_NONE);
    return time_of(fusion, cost->slots, cost->bytes, cost->threads);
}

static int64_t kernel_bytes(const kiln_graph *graph, const kiln_group *group)
{
    const kiln_node *node = kiln_graph_node(graph, group->anchor);
    return node->op == KILN_OP_convolution ? kiln_graph_type(graph, node->inputs[1])->bytes : 0;
}

/* Estimated time of `n` groups of a chain as one; negative when their rows and kernels do not fit
 * in the second cache. */
static double band_ns(const band_search *search, const uint32_t *chain, uint32_t n)
{
    const kiln_fusion *fusion = search->fusion;
    const kiln_graph *graph = fusion->graph;
    const kiln_machine *machine = fusion->machine;
    kiln_group members[KILN_MAX_BAND] = {0};
    for (uint32_t i = 0; i < n; i++) members[i] = search->groups[chain[i]];
    kiln_band_cut cut = kiln_band_choose(fusion->schedule, members, n);
    int64_t kernels = 0;
    double work = 0, bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        const kiln_type *made = kiln_graph_type(graph, members[i].outputs[0].value);
        bool is_last = i + 1 == n;
        kernels += kernel_bytes(graph, &members[i]);
        const kiln_cost *cost = &search->costs[chain[i]];
        work += cost->slots * (1 + cut.repeated[i]);
        bytes += cost->bytes - (is_last ? 0 : 2 * (double)made->bytes);
    }
    if (cut.ring_bytes > machine->l2_bytes / RING_SHARE ||
        kernels > machine->l2_bytes / WEIGHT_SHARE)
        return -1;
    return time_of(fusion, work, bytes, search->costs[chain[0]].threads);
}

static bool may_begin(const band_search *search, uint32_t g)
{
    const kiln_fusion *fusion = search->fusion;
    return kiln_band_may_begin(fusion->graph, &search->groups[g], fusion->machine);
}

/* Where to cut the chain: cuts[i] is the length of the part that begins at i. */
static void cut_chain(const band_search *search, const uint32_t *chain, uint32_t n, uint32_t *cuts)
{
    double *best = kiln_new_array(search->fusion->arena, double, n + 1);
    for (uint32_t i = n; i-- > 0;) {
        double apart = single_ns(search, chain[i]);
        best[i] = apart + best[i + 1];
        cuts[i] = 1;
        if (!may_begin(search, chain[i])) continue;
        for (uint32_t length = 2; length <= kiln_min_i64(n - i, KILN_MAX_BAND); length++) {
            apart += single_ns(search, chain[i + length - 1]);
            double as_one = band_ns(search, chain + i, length);
            if (as_one < 0 || as_one > apart * WORTH) continue;
            if (as_one + best[i + length] >= best[i]) continue;
            best[i] = as_one + best[i + length];
            cuts[i] = length;
        }
    }
}

/* Takes the place of its last member. */
static void make_band(band_search *search, const uint32_t *chain, uint32_t n)
{
    kiln_fusion *fusion = search->fusion;
    kiln_group *members = kiln_new_array(fusion->arena, kiln_group, n);
    kiln_group band = search->groups[chain[n - 1]];
    band.kind = KILN_GROUP_BAND;
    band.flops = band.bytes = 0;
    band.ns = 0;
    for (uint32_t i = 0; i < n; i++) {
        members[i] = search->groups[chain[i]];
        bool is_last = i + 1 == n;
        int64_t made = kiln_graph_type(fusion->graph, members[i].outputs[0].value)->bytes;
        band.flops += members[i].flops;
        band.bytes += members[i].bytes - (is_last ? 0 : 2 * made);
        search->is_gone[chain[i]] = !is_last;
    }
    band.n_members = n;
    band.members = members;
    band.ns = band_ns(search, chain, n) * search->costs[chain[0]].threads;
    kiln_group_join_members(fusion->arena, &band);
    search->groups[chain[n - 1]] = band;
}

static void fuse_from(band_search *search, uint32_t first, bool *is_seen)
{
    kiln_ids chain = {0};
    for (uint32_t g = first; g != KILN_NONE; g = next_member(search, g)) {
        if (is_seen[g]) break;
        is_seen[g] = true;
        kiln_vec_push(&chain, search->fusion->arena, g);
    }
    uint32_t *cuts = kiln_new_array(search->fusion->arena, uint32_t, chain.n + 1);
    cut_chain(search, chain.at, chain.n, cuts);
    for (uint32_t i = 0; i < chain.n; i += cuts[i])
        if (cuts[i] > 1) make_band(search, chain.at + i, cuts[i]);
}

void kiln_fuse_bands(kiln_fusion *fusion)
{
    kiln_schedule *schedule = fusion->schedule;
    if (schedule->is_unfused || fusion->machine->kind != KILN_MACHINE_CPU) return;
    uint32_t n = schedule->groups.n;
    band_search search = {
        .fusion = fusion,
        .n_readers = kiln_new_array(fusion->arena, uint32_t, fusion->n_nodes + 1),
        .reader = kiln_new_array(fusion->arena, uint32_t, fusion->n_nodes + 1),
        .groups = schedule->groups.at,
        .is_gone = kiln_new_array(fusion->arena, bool, n + 1),
        .costs = kiln_new_array(fusion->arena, kiln_cost, n + 1),
    };
    bool *is_seen = kiln_new_array(fusion->arena, bool, n + 1);
    count_readers(&search);
    for (uint32_t g = 0; g < n; g++) {
        if (is_seen[g] || !may_begin(&search, g)) continue;
        fuse_from(&search, g, is_seen);
    }
    schedule->groups.n = 0;
    for (uint32_t g = 0; g < n; g++)
        if (!search.is_gone[g]) schedule->groups.at[schedule->groups.n++] = search.groups[g];
}
