/* What a schedule does, as a table for people: each group with its work, estimated time and share
 * of the machine's limit; what fusion saves against one kernel per node; each edge that was not
 * fused. */
#include <inttypes.h>

#include "kiln/program.h"
#include "passes/row_move.h"

/* Bytes that one kernel per computing node would move: operands read and the result written. */
static int64_t unfused_bytes(const kiln_graph *graph, const kiln_group *group)
{
    int64_t bytes = 0;
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(graph, group->nodes[i]);
        kiln_class class_ = kiln_node_row(node)->class_;
        if (class_ == KILN_SOURCE || class_ == KILN_VIEW) continue;
        bytes += node->type->bytes;
        for (uint32_t j = 0; j < node->n_inputs; j++) {
            const kiln_node *from = kiln_graph_node(graph, node->inputs[j]);
            bool is_splat = from->op == KILN_OP_constant &&
                            from->attrs->literal.value.kind == KILN_LITERAL_SPLAT;
            kiln_value base = kiln_view_base(graph, node->inputs[j]);
            int64_t held = kiln_graph_type(graph, base)->bytes;
            if (!is_splat) bytes += held < from->type->bytes ? held : from->type->bytes;
        }
    }
    return bytes;
}

static uint32_t computing_nodes(const kiln_graph *graph, const kiln_group *group)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        kiln_class class_ = kiln_node_row(kiln_graph_node(graph, group->nodes[i]))->class_;
        n += class_ != KILN_SOURCE && class_ != KILN_VIEW;
    }
    return n;
}

/* Share of the estimated time that memory or arithmetic at full speed would take. */
static const char *limit_of(const kiln_schedule *schedule, const kiln_group *group,
                            double *out_share)
{
    const kiln_machine *machine = schedule->machine;
    double memory = (double)group->bytes / machine->bytes_per_ns;
    double work = (double)group->flops / machine->flops_per_ns;
    double limit = memory > work ? memory : work;
    *out_share = group->ns > 0 ? 100 * limit / group->ns : 0;
    return memory > work ? "memory" : "arithmetic";
}

/* The move of a product's group that says where the rows of its first operand stand, or NULL. */
static const kiln_node *row_move(const kiln_schedule *schedule, const kiln_group *group)
{
    if (group->kind != KILN_GROUP_DOT) return NULL;
    kiln_arena *arena = &schedule->scope->arena;
    kiln_value move = kiln_dot_row_move(arena, schedule->graph, group->anchor);
    for (uint32_t i = 0; move.id && i < group->n_nodes; i++) {
        if (group->nodes[i].id == move.id) return kiln_graph_node(schedule->graph, move);
    }
    return NULL;
}

static void explain_group(const kiln_schedule *schedule, uint32_t number, kiln_text *text)
{
    const kiln_group *group = &schedule->groups.at[number];
    double share;
    const char *limit = limit_of(schedule, group, &share);
    int64_t saved = unfused_bytes(schedule->graph, group) - group->bytes;
    bool is_pack = group->kind == KILN_GROUP_PACK;
    kiln_text_printf(text, "%4u  %-10s %4u  %11.1f  %11.1f  %11.1f  %9.2f  ", number,
                     kiln_group_kind_name(group->kind), computing_nodes(schedule->graph, group),
                     (double)group->flops / 1e3, (double)group->bytes / 1e3,
                     saved > 0 && !is_pack ? (double)saved / 1e3 : 0.0, group->ns / 1e3);
    if (share > 100) share = 100;
    kiln_text_printf(text, "%3.0f%% of %-10s  %s", share, limit, group->label);
    const kiln_node *move = row_move(schedule, group);
    if (move) kiln_text_printf(text, ", rows read by %s", kiln_node_row(move)->name);
    kiln_text_append(text, "\n");
}

static void explain_totals(const kiln_schedule *schedule, kiln_text *text)
{
    int64_t flops = 0, bytes = 0, apart = 0;
    double ns = 0;
    uint32_t n_nodes = 0;
    for (uint32_t i = 0; i < schedule->groups.n; i++) {
        const kiln_group *group = &schedule->groups.at[i];
        flops += group->flops;
        bytes += group->bytes;
        ns += group->ns;
        n_nodes += computing_nodes(schedule->graph, group);
        apart +=
            group->kind == KILN_GROUP_PACK ? group->bytes : unfused_bytes(schedule->graph, group);
    }
    kiln_text_printf(text,
                     "%u nodes in %u groups; %.1f kflop, %.1f kB moved, %.1f kB if every node were "
                     "a kernel; about %.2f us on one core\n",
                     n_nodes, schedule->groups.n, (double)flops / 1e3, (double)bytes / 1e3,
                     (double)apart / 1e3, ns / 1e3);
    int64_t arena = schedule->arena_bytes, bound = schedule->lower_bound_bytes;
    kiln_text_printf(text,
                     "arena %" PRId64 " bytes; lower bound (most alive at once) %" PRId64
                     " bytes; ratio %.3f\n",
                     arena, bound, bound ? (double)arena / (double)bound : 1.0);
}

void kiln_schedule_explain(const kiln_schedule *schedule, kiln_text *text)
{
    kiln_text_printf(text, "%s schedule for %s, %u threads\n",
                     schedule->is_unfused ? "unfused" : "fused", schedule->machine->name,
                     schedule->n_threads);
    kiln_text_append(text,
                     "group kind      nodes        kflop           kB     saved kB         us  "
                     "limit              label\n");
    for (uint32_t i = 0; i < schedule->groups.n; i++) explain_group(schedule, i, text);
    explain_totals(schedule, text);
    if (schedule->refusals.n) kiln_text_append(text, "not fused:\n");
    for (uint32_t i = 0; i < schedule->refusals.n; i++) {
        kiln_text_printf(text, "  %s\n", schedule->refusals.at[i]);
    }
}
