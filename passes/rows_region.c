/* Rows through regions: the graph of a region is walked with what is known of its operands. What a
 * loop carries is known when another trip adds nothing to it; a value without rows that is the same
 * for all of them may become one with rows on the way, as a recurrent network's first state does.
 * Regions nest at most KILN_MAX_NESTING deep, and so do the calls here. */
#include "graph/attrs.h"
#include "passes/rows_rules.h"
#include "passes/schedule.h"

static const kiln_row_state unknown = {.kind = KILN_ROW_MIXED};

static kiln_row_state refuse(const kiln_node *node, const char *why)
{
    return (kiln_row_state){.kind = KILN_ROW_MIXED, .at = node->id, .why = why};
}

static bool is_same(const kiln_row_state *a, const kiln_row_state *b)
{
    if (a->kind != b->kind) return false;
    if (a->kind == KILN_ROW_FIXED) return a->varies == b->varies;
    return a->kind != KILN_ROW_EACH || (a->axis == b->axis && a->each == b->each);
}

/* One value that is either. */
static kiln_row_state merge(const kiln_row_state *a, const kiln_row_state *b)
{
    bool is_fixed = a->kind == KILN_ROW_FIXED && b->kind == KILN_ROW_FIXED;
    if (is_fixed) return (kiln_row_state){.kind = KILN_ROW_FIXED, .varies = a->varies | b->varies};
    const kiln_row_state *each = a->kind == KILN_ROW_EACH ? a : b;
    const kiln_row_state *other = each == a ? b : a;
    if (each->kind != KILN_ROW_EACH) return unknown;
    bool is_uniform = other->kind == KILN_ROW_FIXED && !(other->varies >> each->axis & 1);
    return is_uniform || is_same(a, b) ? *each : unknown;
}

/* Walks region `number` with those parameters; false where a check in it depends on several rows,
 * or loops are too deep in one another to tell. */
static bool walk(const kiln_rows *rows, const kiln_node *node, uint32_t number,
                 const kiln_row_state *parameters)
{
    const kiln_rows *inner = rows->inner[node->id][number];
    const kiln_graph *graph = inner->graph;
    if (++*rows->n_walks > KILN_MAX_ROW_WALKS) return false;
    for (uint32_t i = 0; i < graph->inputs.n; i++)
        inner->states[graph->inputs.at[i].id] = parameters[i];
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *at = graph->nodes.at[id];
        if (at->op != KILN_OP_input) inner->states[id] = kiln_row_visit(inner, at);
    }
    for (uint32_t i = 0; i < graph->checks.n; i++) {
        if (inner->states[graph->checks.at[i].value.id].kind == KILN_ROW_MIXED) return false;
    }
    return true;
}

static const kiln_row_state *result(const kiln_rows *rows, const kiln_node *node, uint32_t number,
                                    uint32_t output)
{
    const kiln_rows *inner = rows->inner[node->id][number];
    return &inner->states[inner->graph->outputs.at[output].value.id];
}

/* if, case, call: what any of the regions gives. */
static kiln_row_state visit_choice(const kiln_rows *rows, const kiln_node *node,
                                   const kiln_row_state *operands, kiln_row_state *items)
{
    uint32_t n = kiln_attrs_regions(node->attrs).n;
    bool has_chooser = node->op != KILN_OP_call;
    if (has_chooser && operands[0].kind != KILN_ROW_FIXED)
        return refuse(node, "the choice depends on rows");
    for (uint32_t r = 0; r < n; r++) {
        if (!walk(rows, node, r, operands + has_chooser))
            return refuse(node, "a check in it depends on several rows");
        for (uint32_t i = 0; i < node->type->n_items; i++) {
            const kiln_row_state *given = result(rows, node, r, i);
            items[i] = r ? merge(&items[i], given) : *given;
        }
    }
    return (kiln_row_state){.kind = KILN_ROW_FIXED};
}

/* Merges what a trip gives into what is carried; whether that changed anything. */
static bool merge_trip(const kiln_rows *rows, const kiln_node *node, uint32_t body,
                       kiln_row_state *carried)
{
    bool is_changed = false;
    for (uint32_t i = 0; i < kiln_region_n_carried(node); i++) {
        kiln_row_state merged = merge(&carried[i], result(rows, node, body, i));
        is_changed |= !is_same(&merged, &carried[i]);
        carried[i] = merged;
    }
    return is_changed;
}

/* A slice of a sequence along its first axis, and the way back. */
static kiln_row_state slice_of(const kiln_row_state *sequence)
{
    kiln_row_state state = *sequence;
    if (state.kind == KILN_ROW_EACH && state.axis == 0) return unknown;
    if (state.kind == KILN_ROW_EACH) state.axis--;
    if (state.kind == KILN_ROW_FIXED) state.varies >>= 1;
    return state;
}

static kiln_row_state stack_of(const kiln_row_state *slice)
{
    kiln_row_state state = *slice;
    if (state.kind == KILN_ROW_EACH) state.axis++;
    if (state.kind == KILN_ROW_FIXED) state.varies = state.varies << 1 | 1;
    return state;
}

/* while and scan; each round can only give a value rows, or take from what is known of it. */
static kiln_row_state visit_loop(const kiln_rows *rows, const kiln_node *node,
                                 kiln_row_state *parameters, kiln_row_state *items)
{
    bool is_scan = node->op == KILN_OP_scan, is_sound = true;
    uint32_t n_carried = kiln_region_n_carried(node), body = !is_scan;
    uint32_t n_slices = is_scan ? (uint32_t)node->attrs->scan.n_slices : 0;
    for (uint32_t i = 0; i < n_slices; i++)
        parameters[n_carried + i] = slice_of(&parameters[n_carried + i]);
    uint32_t most = n_carried * (KILN_MAX_RANK + 3) + 1; /* rank bits, rows, mixed */
    bool is_changed = true;
    for (uint32_t k = 0; k < most && is_changed && is_sound; k++) {
        is_sound = walk(rows, node, body, parameters);
        is_changed = merge_trip(rows, node, body, parameters);
    }
    if (is_changed || !is_sound) return refuse(node, "a check in it depends on several rows");
    if (!is_scan && !walk(rows, node, 0, parameters))
        return refuse(node, "a check in it depends on several rows");
    if (!is_scan && result(rows, node, 0, 0)->kind != KILN_ROW_FIXED)
        return refuse(node, "how often it repeats depends on rows");
    for (uint32_t i = 0; i < node->type->n_items; i++) {
        items[i] = i < n_carried ? parameters[i] : stack_of(result(rows, node, body, i));
    }
    return (kiln_row_state){.kind = KILN_ROW_FIXED};
}

/* Room for the states of the regions' nodes. */
static void open_inner(const kiln_rows *rows, const kiln_node *node)
{
    kiln_regions regions = kiln_attrs_regions(node->attrs);
    kiln_arena *arena = &rows->scope->arena;
    if (rows->inner[node->id]) return;
    rows->inner[node->id] = kiln_new_array(arena, kiln_rows *, regions.n);
    for (uint32_t i = 0; i < regions.n; i++) {
        rows->inner[node->id][i] = kiln_rows_open(rows->pipeline, regions.at[i], rows->n);
        rows->inner[node->id][i]->n_walks = rows->n_walks;
    }
    rows->items[node->id] = kiln_new_array(arena, kiln_row_state, node->type->n_items);
}

kiln_row_state kiln_row_visit_region(const kiln_rows *rows, const kiln_node *node)
{
    open_inner(rows, node);
    kiln_row_state *items = rows->items[node->id];
    kiln_row_state *operands =
        kiln_new_array(&rows->scope->arena, kiln_row_state, node->n_inputs + 1);
    for (uint32_t i = 0; i < node->n_inputs; i++) operands[i] = rows->states[node->inputs[i].id];
    bool is_loop = node->op == KILN_OP_while || node->op == KILN_OP_scan;
    kiln_row_state state = is_loop ? visit_loop(rows, node, operands, items)
                                   : visit_choice(rows, node, operands, items);
    for (uint32_t i = 0; i < node->type->n_items; i++) {
        bool is_known = items[i].kind == KILN_ROW_FIXED || items[i].kind == KILN_ROW_EACH;
        const char *why = items[i].why ? items[i].why : "rows meet in what its regions give";
        if (!is_known) items[i] = refuse(node, why);
    }
    return state;
}
