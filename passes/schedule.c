/* The schedule as text, and the lookups that lowerings share: places and operand sizes. */
#include "passes/schedule.h"

#include <inttypes.h>

#include "base/checked.h"
#include "kiln/program.h"
#include "passes/weights.h"

const char *kiln_group_kind_name(kiln_group_kind kind)
{
    static const char *const names[] = {
        [KILN_GROUP_POINTWISE] = "pointwise",
        [KILN_GROUP_ROW] = "row",
        [KILN_GROUP_COLUMN] = "column",
        [KILN_GROUP_WINDOW] = "window",
        [KILN_GROUP_DOT] = "dot",
        [KILN_GROUP_CONV] = "conv",
        [KILN_GROUP_BAND] = "band",
        [KILN_GROUP_HORIZONTAL] = "horizontal",
        [KILN_GROUP_PACK] = "pack",
        [KILN_GROUP_ATTENTION] = "attention",
        [KILN_GROUP_ROUTINE] = "routine",
        [KILN_GROUP_REGION] = "region",
    };
    return (size_t)kind < sizeof names / sizeof *names ? names[kind] : "?";
}

uint32_t kiln_region_n_carried(const kiln_node *node)
{
    if (node->op == KILN_OP_while) return (uint32_t)node->attrs->loop.n_carried;
    return node->op == KILN_OP_scan ? (uint32_t)node->attrs->scan.n_carried : 0;
}

int kiln_operand_compare(kiln_operand a, kiln_operand b)
{
    if (a.value.id != b.value.id) return a.value.id < b.value.id ? -1 : 1;
    if (a.format != b.format) return a.format < b.format ? -1 : 1;
    if (a.format == KILN_FORMAT_DENSE || a.consumer.id == b.consumer.id) return 0;
    return a.consumer.id < b.consumer.id ? -1 : 1;
}

bool kiln_schedule_is_assembled(const kiln_schedule *schedule, kiln_value value)
{
    for (uint32_t i = 0; i < schedule->assembled.n; i++) {
        if (schedule->assembled.at[i].id == value.id) return true;
    }
    return false;
}

uint32_t kiln_schedule_find_place(const kiln_schedule *schedule, kiln_operand operand)
{
    uint32_t low = 0, high = schedule->places.n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = kiln_operand_compare(schedule->places.at[middle].operand, operand);
        if (order == 0) return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return KILN_NONE;
}

const kiln_place *kiln_schedule_place(const kiln_schedule *schedule, kiln_operand operand)
{
    uint32_t number = kiln_schedule_find_place(schedule, operand);
    if (number == KILN_NONE) {
        kiln_fail(schedule->scope, KILN_INTERNAL, "schedule: %s (format %d) has no place",
                  kiln_node_string(&schedule->scope->arena, schedule->graph, operand.value),
                  (int)operand.format);
    }
    return &schedule->places.at[number];
}

/* Roles of a packed operand's axes as sizes: panels hold n columns of k elements, `batch` times. */
static void panel_sizes(const kiln_graph *graph, kiln_operand operand, int64_t *batch, int64_t *n,
                        int64_t *k)
{
    const kiln_type *type = kiln_graph_type(graph, operand.value);
    const kiln_node *consumer = kiln_graph_node(graph, operand.consumer);
    *batch = *n = *k = 1;
    if (consumer->op == KILN_OP_convolution) {
        int64_t groups = consumer->attrs->conv.groups;
        const kiln_ints *axes = &consumer->attrs->conv.kernel_axes;
        *batch = groups;
        *n = groups ? type->dims[axes->at[0]] / groups : 0;
        for (uint32_t i = 1; i < axes->n; i++) *k *= type->dims[axes->at[i]];
        int64_t reach = consumer->attrs->conv.winograd + 2;
        if (operand.format == KILN_FORMAT_WINOGRAD_N16)
            *k = reach * reach * type->dims[axes->at[1]];
        return;
    }
    kiln_ints batches = consumer->attrs->dot.rhs_batch,
              contract = consumer->attrs->dot.rhs_contract;
    int64_t rest = 1;
    for (uint32_t i = 0; i < batches.n; i++) *batch *= type->dims[batches.at[i]];
    for (uint32_t i = 0; i < contract.n; i++) *k *= type->dims[contract.at[i]];
    for (uint32_t axis = 0; axis < type->rank; axis++) {
        bool is_free = true;
        for (uint32_t i = 0; i < batches.n; i++) is_free &= batches.at[i] != axis;
        for (uint32_t i = 0; i < contract.n; i++) is_free &= contract.at[i] != axis;
        if (is_free) rest *= type->dims[axis];
    }
    *n = rest;
}

typedef struct format_row {
    const char *name; /* after the dtype's, in dumps */
    uint32_t n_parts, step;
} format_row;

static const format_row format_rows[] = {
    [KILN_FORMAT_DENSE] = {"", 0, 1},
    [KILN_FORMAT_PANEL16] = {"_n16", 0, 1},
    [KILN_FORMAT_BF16_K2N16] = {" as bf16_k2n16", 1, 32},
    [KILN_FORMAT_BF16X3_K2N16] = {" as bf16x3_k2n16", 3, 32},
    [KILN_FORMAT_I8_K4N16] = {"_k4n16", 1, 64},
    [KILN_FORMAT_WINOGRAD_N16] = {" as winograd_n16", 0, 1},
    [KILN_FORMAT_NIBBLE16] = {" as nibble_k2n16", 0, 1},
    [KILN_FORMAT_TABLE16] = {" as table_n16", 0, 1},
};

uint32_t kiln_format_parts(kiln_format format)
{
    return format_rows[format].n_parts;
}

int64_t kiln_format_step(kiln_format format)
{
    return format_rows[format].step;
}

kiln_dtype kiln_format_dtype(kiln_format format, kiln_dtype dtype)
{
    if (format == KILN_FORMAT_NIBBLE16) return KILN_u8;
    return kiln_format_parts(format) ? KILN_u32 : dtype;
}

int64_t kiln_operand_bytes(const kiln_graph *graph, kiln_operand operand)
{
    const kiln_type *type = kiln_graph_type(graph, operand.value);
    if (operand.format == KILN_FORMAT_DENSE) return type->bytes;
    int64_t batch, n, k, bytes;
    panel_sizes(graph, operand, &batch, &n, &k);
    int64_t bytes_each = (int64_t)kiln_dtype_bytes(type->dtype);
    if (kiln_format_parts(operand.format)) {
        int64_t step = kiln_format_step(operand.format);
        if (k > INT64_MAX - step) return INT64_MAX;
        k = kiln_round_up(k, step);
        bytes_each = 64 / step * (int64_t)kiln_format_parts(operand.format);
    }
    if (operand.format == KILN_FORMAT_NIBBLE16) k = k / 2 + k % 2;
    if (operand.format == KILN_FORMAT_TABLE16)
        k = kiln_ceil_div(k, kiln_max_i64(1, kiln_repeat_block(graph, operand)));
    int64_t dims[] = {batch, kiln_ceil_div(n, 16), k, 16, bytes_each};
    if (!kiln_checked_product(dims, 5, &bytes)) return INT64_MAX;
    return bytes;
}

static void print_operand(const kiln_schedule *schedule, kiln_operand operand, kiln_text *text)
{
    const kiln_type *type = kiln_graph_type(schedule->graph, operand.value);
    kiln_text_append(text, " ");
    kiln_value_print(text, schedule->graph, operand.value);
    kiln_text_append(text, ": ");
    kiln_text_type(text, type->dtype, type->rank, type->dims);
    if (operand.format != KILN_FORMAT_DENSE) {
        kiln_text_printf(text, " %s%s for ", kiln_dtype_name(type->dtype),
                         format_rows[operand.format].name);
        kiln_value_print(text, schedule->graph, operand.consumer);
    }
}

static void print_operands(const kiln_schedule *schedule, const char *title,
                           const kiln_operand *operands, uint32_t n, kiln_text *text)
{
    kiln_text_printf(text, "  %s", title);
    for (uint32_t i = 0; i < n; i++) {
        if (i) kiln_text_append(text, ",");
        print_operand(schedule, operands[i], text);
    }
    kiln_text_append(text, "\n");
}

/* A member of a horizontal group: its kind and what it stores. */
static void print_part(const kiln_schedule *schedule, const kiln_group *member, kiln_text *text)
{
    const char *title =
        kiln_arena_format(text->arena, "part %s", kiln_group_kind_name(member->kind));
    print_operands(schedule, title, member->outputs, member->n_outputs, text);
}

static void print_group(const kiln_schedule *schedule, uint32_t number, kiln_text *text)
{
    const kiln_group *group = &schedule->groups.at[number];
    kiln_text_printf(text, "group %u: %s", number, kiln_group_kind_name(group->kind));
    if (group->anchor.id) {
        kiln_text_append(text, " ");
        kiln_value_print(text, schedule->graph, group->anchor);
    }
    kiln_text_append(text, "\n");
    print_operands(schedule, "in ", group->inputs, group->n_inputs, text);
    if (group->n_nodes) {
        kiln_text_append(text, "  run");
        for (uint32_t i = 0; i < group->n_nodes; i++) {
            const kiln_node *node = kiln_graph_node(schedule->graph, group->nodes[i]);
            kiln_text_append(text, " ");
            kiln_value_print(text, schedule->graph, group->nodes[i]);
            kiln_text_printf(text, "=%s", kiln_node_row(node)->name);
        }
        kiln_text_append(text, "\n");
    }
    for (uint32_t i = 0; group->kind == KILN_GROUP_BAND && i + 1 < group->n_members; i++)
        print_operands(schedule, "row", group->members[i].outputs, 1, text);
    for (uint32_t i = 0; group->kind == KILN_GROUP_HORIZONTAL && i < group->n_members; i++)
        print_part(schedule, &group->members[i], text);
    print_operands(schedule, "out", group->outputs, group->n_outputs, text);
}

static void print_place(const kiln_schedule *schedule, const kiln_place *place, kiln_text *text)
{
    static const char *const names[] = {
        [KILN_PLACE_INPUT] = "input",
        [KILN_PLACE_OUTPUT] = "output",
        [KILN_PLACE_CONSTANT] = "constant",
        [KILN_PLACE_ARENA] = "arena",
    };
    kiln_text_append(text, "place");
    print_operand(schedule, place->operand, text);
    kiln_text_printf(text, ": %s", names[place->kind]);
    if (place->kind == KILN_PLACE_ARENA) {
        kiln_text_printf(text, " %" PRId64 " + %" PRId64, place->offset, place->bytes);
    } else {
        kiln_text_printf(text, " %u", place->index);
    }
    if (place->inside != KILN_NONE) {
        kiln_text_append(text, ", inside ");
        kiln_value_print(text, schedule->graph, schedule->places.at[place->inside].operand.value);
        kiln_text_printf(text, " from %" PRId64 " by ", place->origin);
        const kiln_type *type = kiln_graph_type(schedule->graph, place->operand.value);
        kiln_text_ints(text, place->strides, type->rank);
    }
    if (place->shares != KILN_NONE) {
        kiln_text_append(text, ", over ");
        kiln_value_print(text, schedule->graph, schedule->places.at[place->shares].operand.value);
    }
    if (place->kind == KILN_PLACE_ARENA) {
        kiln_text_printf(text, ", groups %u to %u", place->first_step, place->last_step);
    }
    kiln_text_append(text, "\n");
}

static void print_assembled(const kiln_schedule *schedule, uint32_t number, kiln_text *text)
{
    kiln_value value = schedule->assembled.at[number];
    const kiln_node *node = kiln_graph_node(schedule->graph, value);
    kiln_text_append(text, "assembled ");
    kiln_value_print(text, schedule->graph, value);
    kiln_text_append(text, " of");
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_text_append(text, i ? ", " : " ");
        kiln_value_print(text, schedule->graph, node->inputs[i]);
    }
    kiln_text_append(text, "\n");
}

void kiln_schedule_print(const kiln_schedule *schedule, kiln_text *text)
{
    kiln_text_printf(text, "schedule %s for %s\n", schedule->is_unfused ? "unfused" : "fused",
                     schedule->machine->name);
    for (uint32_t i = 0; i < schedule->groups.n; i++) print_group(schedule, i, text);
    for (uint32_t i = 0; i < schedule->assembled.n; i++) print_assembled(schedule, i, text);
    for (uint32_t i = 0; i < schedule->places.n; i++)
        print_place(schedule, &schedule->places.at[i], text);
    for (uint32_t i = 0; i < schedule->copies.n; i++) {
        const kiln_place *from = &schedule->places.at[schedule->copies.at[i].from];
        kiln_text_append(text, "copy ");
        kiln_value_print(text, schedule->graph, from->operand.value);
        kiln_text_printf(text, " to output %u\n", schedule->copies.at[i].port);
    }
    for (uint32_t i = 0; i < schedule->donations.n; i++) {
        if (schedule->donations.at[i] == KILN_NONE) continue;
        kiln_text_append(text, "donate ");
        kiln_value_print(text, schedule->graph, schedule->graph->inputs.at[i]);
        kiln_text_printf(text, " to output %u\n", schedule->donations.at[i]);
    }
    if (schedule->places.n) {
        kiln_text_printf(text, "arena %" PRId64 " bytes, bound %" PRId64 "\n",
                         schedule->arena_bytes, schedule->lower_bound_bytes);
    }
}
