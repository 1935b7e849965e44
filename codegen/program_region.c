/* What stands around the parts of a region: the steps that choose, repeat and hand values over. A
 * loop goes like this, where a copy is left out that would copy onto itself:
 *
 *     copy operands -> items; zero -> trip
 *     again: condition; branch stop -> end; check over
 *            body; copy results -> items; copy row -> stack [trip]
 *            copy next -> trip; jump again
 *     end: */
#include <stdio.h>

#include "codegen/tables.h"
#include "graph/attrs.h"
#include "graph/describe.h"

static const kiln_node *region_node(const kiln_tables *tables, uint32_t part, uint32_t g)
{
    const kiln_part *at = &tables->compilation->parts.at[part];
    return kiln_graph_node(at->graph, at->schedule->groups.at[g].anchor);
}

static uint32_t scratch_row(kiln_tables *tables, uint32_t part, uint32_t g, int64_t offset,
                            int64_t bytes)
{
    const kiln_group *group = &tables->compilation->parts.at[part].schedule->groups.at[g];
    kiln_buffer_row row = {.kind = KILN_BUFFER_ARENA, .index = KILN_NONE, .bytes = bytes};
    row.offset = tables->parts[part].arena_base + group->scratch_offset + offset;
    return kiln_tables_row(tables, row);
}

/* Rows of the items: where the part stores them, or scratch for those nobody reads. */
static void fill_items(kiln_tables *tables, uint32_t part, uint32_t g, kiln_region_rows *rows)
{
    const kiln_part *at = &tables->compilation->parts.at[part];
    const kiln_group *group = &at->schedule->groups.at[g];
    const kiln_type *tuple = region_node(tables, part, g)->type;
    rows->items = kiln_new_array(tables->arena, uint32_t, tuple->n_items);
    for (uint32_t i = 0; i < tuple->n_items; i++) {
        int64_t offset = at->layouts[g].items[i];
        rows->items[i] = offset < 0 ? KILN_NONE
                                    : scratch_row(tables, part, g, offset, tuple->items[i]->bytes);
    }
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        const kiln_node *item = kiln_graph_node(at->graph, group->outputs[i].value);
        rows->items[item->attrs->item.index] =
            kiln_tables_value(tables, part, group->outputs[i].value);
    }
}

static void fill_loop(kiln_tables *tables, uint32_t part, uint32_t g, kiln_region_rows *rows)
{
    const kiln_part *at = &tables->compilation->parts.at[part];
    const kiln_region_layout *layout = &at->layouts[g];
    const kiln_node *node = region_node(tables, part, g);
    const kiln_part *body = &tables->compilation->parts.at[at->first_child[node->id] + 1];
    rows->trip = scratch_row(tables, part, g, layout->trip, 8);
    rows->next = scratch_row(tables, part, g, layout->next, 8);
    rows->stop = scratch_row(tables, part, g, layout->stop, 1);
    rows->over = scratch_row(tables, part, g, layout->over, 8);
    rows->results = kiln_new_array(tables->arena, uint32_t, body->graph->outputs.n + 1);
    for (uint32_t i = 0; i < body->graph->outputs.n; i++) {
        int64_t bytes = kiln_graph_type(body->graph, body->graph->outputs.at[i].value)->bytes;
        rows->results[i] = layout->results[i] < 0
                               ? rows->items[i]
                               : scratch_row(tables, part, g, layout->results[i], bytes);
    }
}

static void fill_flags(kiln_tables *tables, uint32_t part, uint32_t g, kiln_region_rows *rows)
{
    const kiln_region_layout *layout = &tables->compilation->parts.at[part].layouts[g];
    uint32_t n = kiln_attrs_regions(region_node(tables, part, g)->attrs).n;
    rows->flags = kiln_new_array(tables->arena, uint32_t, n);
    for (uint32_t i = 0; i < n; i++)
        rows->flags[i] = scratch_row(tables, part, g, layout->flags[i], 1);
}

void kiln_region_fill_rows(kiln_tables *tables, uint32_t part)
{
    const kiln_schedule *schedule = tables->compilation->parts.at[part].schedule;
    kiln_region_rows *all = kiln_new_array(tables->arena, kiln_region_rows, schedule->groups.n + 1);
    tables->parts[part].regions = all;
    for (uint32_t g = 0; g < schedule->groups.n; g++) {
        if (schedule->groups.at[g].kind != KILN_GROUP_REGION) continue;
        const kiln_node *node = region_node(tables, part, g);
        fill_items(tables, part, g, &all[g]);
        if (node->op == KILN_OP_case) fill_flags(tables, part, g, &all[g]);
        if (node->op == KILN_OP_while || node->op == KILN_OP_scan)
            fill_loop(tables, part, g, &all[g]);
    }
}

/* A part seen from its region. */
typedef struct inner_part {
    const kiln_part *part;
    const kiln_node *node;
    const kiln_region_rows *rows;
} inner_part;

static inner_part find_inner(const kiln_tables *tables, uint32_t number)
{
    const kiln_part *part = &tables->compilation->parts.at[number];
    const kiln_part *outer = &tables->compilation->parts.at[part->parent];
    uint32_t g = outer->group_of[part->node];
    return (inner_part){part, outer->graph->nodes.at[part->node],
                        &tables->parts[part->parent].regions[g]};
}

uint32_t kiln_region_input_row(const kiln_tables *tables, uint32_t number, uint32_t port)
{
    inner_part at = find_inner(tables, number);
    const kiln_node *node = at.node;
    bool is_choice = node->op == KILN_OP_if || node->op == KILN_OP_case;
    bool is_chooser = node->op == KILN_OP_case && at.part->number == 0;
    bool is_clock = node->op == KILN_OP_scan && at.part->number == 0;
    if (is_choice && !is_chooser) port++;
    if (is_clock || port == node->n_inputs) return at.rows->trip;
    if (port < kiln_region_n_carried(node)) return at.rows->items[port];
    return kiln_tables_value(tables, at.part->parent, node->inputs[port]);
}

/* The item that a result of a part is, of those from `first` on: parts leave out results that
 * nobody reads. */
static uint32_t item_of_port(const bool *is_read, uint32_t n_items, uint32_t first, uint32_t port)
{
    uint32_t item = first, n_before = first;
    for (; item < n_items; item++) {
        if (is_read[item] && n_before++ == port) break;
    }
    return item;
}

uint32_t kiln_region_output_row(const kiln_tables *tables, uint32_t number, uint32_t port)
{
    inner_part at = find_inner(tables, number);
    const kiln_node *node = at.node;
    const uint32_t loop_rows[] = {at.rows->stop, at.rows->over, at.rows->next};
    const uint32_t clock_rows[] = {at.rows->stop, at.rows->next};
    bool is_first = at.part->number == 0;
    if (node->op == KILN_OP_while) return is_first ? loop_rows[port] : at.rows->results[port];
    if (node->op == KILN_OP_scan) return is_first ? clock_rows[port] : at.rows->results[port];
    if (node->op == KILN_OP_case && is_first) return at.rows->flags[port];
    const bool *is_read = tables->compilation->parts.at[at.part->parent].is_read[node->id];
    return at.rows->items[item_of_port(is_read, node->type->n_items, 0, port)];
}

/* Steps */

typedef struct step_list {
    kiln_tables *tables;
    uint32_t part, g;
    const kiln_part *at;
    const kiln_node *node;
    const kiln_region_rows *rows;
    kiln_part_tables *own;
} step_list;

/* Appends a step with up to three operands; returns its number. */
static uint32_t push_step(step_list *list, uint32_t kind, uint32_t n, const uint32_t *rows)
{
    kiln_tables *tables = list->tables;
    kiln_step_row step = {
        .kind = kind,
        .first_operand = tables->operands.n,
        .n_operands = n,
        .region = kind == KILN_STEP_COPY,
        .label = KILN_NONE,
    };
    for (uint32_t i = 0; i < n; i++) kiln_vec_push(&tables->operands, tables->arena, rows[i]);
    kiln_vec_push(&list->own->steps, tables->arena, step);
    return list->own->steps.n - 1;
}

static void push_copy(step_list *list, uint32_t from, uint32_t to)
{
    const kiln_buffer_row *a = &list->tables->rows.at[from], *b = &list->tables->rows.at[to];
    bool is_same = a->kind == b->kind && a->index == b->index && a->offset == b->offset;
    if (is_same || b->bytes == 0) return;
    push_step(list, KILN_STEP_COPY, 2, (uint32_t[]){from, to});
}

static void aim(step_list *list, uint32_t step, uint32_t target)
{
    list->own->steps.at[step].target = target;
}

/* Here is where a jump goes that was pushed before. */
static void land(step_list *list, uint32_t step)
{
    aim(list, step, list->own->steps.n);
}

static void push_part(step_list *list, uint32_t number)
{
    uint32_t child = list->at->first_child[list->node->id] + number;
    uint32_t start = list->own->steps.n;
    const kiln_part_tables *inner = &list->tables->parts[child];
    for (uint32_t i = 0; i < inner->steps.n; i++) {
        kiln_step_row step = inner->steps.at[i];
        if (step.kind == KILN_STEP_BRANCH || step.kind == KILN_STEP_JUMP) step.target += start;
        kiln_vec_push(&list->own->steps, list->tables->arena, step);
    }
}

static void push_if(step_list *list)
{
    uint32_t flag = kiln_tables_value(list->tables, list->part, list->node->inputs[0]);
    uint32_t branch = push_step(list, KILN_STEP_BRANCH, 1, &flag);
    push_part(list, 1);
    uint32_t jump = push_step(list, KILN_STEP_JUMP, 0, NULL);
    land(list, branch);
    push_part(list, 0);
    land(list, jump);
}

static void push_case(step_list *list)
{
    kiln_arena *arena = list->tables->arena;
    uint32_t n = kiln_attrs_regions(list->node->attrs).n;
    uint32_t *branches = kiln_new_array(arena, uint32_t, n);
    uint32_t *jumps = kiln_new_array(arena, uint32_t, n);
    push_part(list, 0);
    for (uint32_t i = 0; i + 1 < n; i++)
        branches[i] = push_step(list, KILN_STEP_BRANCH, 1, &list->rows->flags[i]);
    for (uint32_t i = n; i-- > 0;) { /* the last one follows the branches */
        if (i + 1 < n) land(list, branches[i]);
        push_part(list, i + 1);
        jumps[i] = push_step(list, KILN_STEP_JUMP, 0, NULL);
    }
    for (uint32_t i = 0; i < n; i++) land(list, jumps[i]);
}

static void push_check(step_list *list)
{
    char sentence[KILN_MESSAGE_BYTES];
    snprintf(sentence, sizeof sentence, KILN_TRIPS_SENTENCE,
             (long long)list->node->attrs->loop.limit);
    uint32_t check = push_step(list, KILN_STEP_CHECK, 1, &list->rows->over);
    aim(list, check, kiln_tables_string(list->tables, sentence));
}

/* What the body has made, to where the next trip and the stacks have it. */
static void push_results(step_list *list)
{
    const kiln_region_rows *rows = list->rows;
    uint32_t n_carried = kiln_region_n_carried(list->node), n_items = list->node->type->n_items;
    const bool *is_read = list->at->is_read[list->node->id];
    for (uint32_t i = 0; i < n_carried; i++) push_copy(list, rows->results[i], rows->items[i]);
    for (uint32_t item = n_carried, port = n_carried; item < n_items; item++) {
        if (!is_read[item]) continue;
        uint32_t from = rows->results[port++], to = rows->items[item];
        if (list->tables->rows.at[from].bytes == 0) continue;
        push_step(list, KILN_STEP_COPY, 3, (uint32_t[]){from, to, rows->trip});
    }
}

static void push_loop(step_list *list)
{
    const kiln_region_rows *rows = list->rows;
    for (uint32_t i = 0; i < kiln_region_n_carried(list->node); i++) {
        uint32_t from = kiln_tables_value(list->tables, list->part, list->node->inputs[i]);
        push_copy(list, from, rows->items[i]);
    }
    push_copy(list, list->tables->zero_row, rows->trip);
    uint32_t again = list->own->steps.n;
    push_part(list, 0);
    uint32_t branch = push_step(list, KILN_STEP_BRANCH, 1, &rows->stop);
    if (list->node->op == KILN_OP_while) push_check(list);
    push_part(list, 1);
    push_results(list);
    push_copy(list, rows->next, rows->trip);
    aim(list, push_step(list, KILN_STEP_JUMP, 0, NULL), again);
    land(list, branch);
}

/* Operands, then all results. */
static void push_custom(step_list *list)
{
    kiln_tables *tables = list->tables;
    const kiln_node *node = list->node;
    uint32_t n_inputs = node->n_inputs, n_items = node->type->n_items;
    uint32_t *rows = kiln_new_array(tables->arena, uint32_t, n_inputs + n_items);
    const kiln_type **types = kiln_new_array(tables->arena, const kiln_type *, n_inputs + 1);
    for (uint32_t i = 0; i < n_inputs; i++) {
        rows[i] = kiln_tables_value(tables, list->part, node->inputs[i]);
        types[i] = kiln_graph_type(list->at->graph, node->inputs[i]);
    }
    for (uint32_t i = 0; i < n_items; i++) rows[n_inputs + i] = list->rows->items[i];
    uint32_t step = push_step(list, KILN_STEP_LIBRARY, n_inputs + n_items, rows);
    const char *signature = kiln_signature_string(tables->arena, node, types);
    list->own->steps.at[step].n_tiles = n_inputs;
    aim(list, step, kiln_tables_string(tables, signature));
}

void kiln_region_fill_steps(kiln_tables *tables, uint32_t part, uint32_t g)
{
    step_list list = {
        .tables = tables,
        .part = part,
        .g = g,
        .at = &tables->compilation->parts.at[part],
        .node = region_node(tables, part, g),
        .rows = &tables->parts[part].regions[g],
        .own = &tables->parts[part],
    };
    switch (list.node->op) {
    case KILN_OP_if:
        push_if(&list);
        break;
    case KILN_OP_case:
        push_case(&list);
        break;
    case KILN_OP_while:
    case KILN_OP_scan:
        push_loop(&list);
        break;
    case KILN_OP_custom_call:
        push_custom(&list);
        break;
    default:
        push_part(&list, 0);
        break;
    }
}
