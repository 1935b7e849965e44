/* Memory of a schedule, checked: live ranges come from the groups again, not from the places. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/checked.h"
#include "kiln/program.h"
#include "passes/members.h"
#include "passes/verify.h"

typedef struct stretch {
    uint32_t place; /* KILN_NONE: the scratch of a region's group */
    uint32_t first, last;
    int64_t begin, end;
} stretch;

static kiln_status fail_place(kiln_check_state *check, const kiln_place *place,
                              const char *sentence)
{
    return kiln_error_set(check->error, KILN_INTERNAL, "%s: place of %%%u at %" PRId64 ": %s",
                          check->where, place->operand.value.id, place->offset, sentence);
}

/* An assembled concat lives while any of its parts does, and they while it does. */
static void find_assembled_ranges(const kiln_schedule *schedule, uint32_t *first, uint32_t *last)
{
    for (uint32_t i = 0; i < schedule->assembled.n; i++) {
        kiln_value value = schedule->assembled.at[i];
        const kiln_node *node = kiln_graph_node(schedule->graph, value);
        uint32_t host = kiln_schedule_find_place(schedule, (kiln_operand){.value = value});
        for (uint32_t j = 0; host != KILN_NONE && j < node->n_inputs; j++) {
            kiln_operand operand = {.value = node->inputs[j]};
            uint32_t part = kiln_schedule_find_place(schedule, operand);
            if (part == KILN_NONE) continue;
            if (first[part] < first[host]) first[host] = first[part];
            if (last[part] > last[host]) last[host] = last[part];
        }
    }
}

/* Ranges of all operands, from where they are stored and read. */
static kiln_status find_ranges(kiln_check_state *check, uint32_t *first, uint32_t *last)
{
    const kiln_schedule *schedule = check->schedule;
    for (uint32_t i = 0; i < schedule->places.n; i++) first[i] = KILN_NONE;
    for (uint32_t g = 0; g < schedule->groups.n; g++) {
        const kiln_group *group = &schedule->groups.at[g];
        for (uint32_t i = 0; i < group->n_inputs + group->n_outputs; i++) {
            bool is_input = i < group->n_inputs;
            kiln_operand operand =
                is_input ? group->inputs[i] : group->outputs[i - group->n_inputs];
            uint32_t place = kiln_schedule_find_place(schedule, operand);
            if (place == KILN_NONE) return kiln_check_fail(check, g, "an operand has no place");
            if (first[place] == KILN_NONE) first[place] = g;
            last[place] = g;
        }
    }
    find_assembled_ranges(schedule, first, last);
    for (uint32_t i = 0; i < schedule->graph->checks.n; i++) {
        kiln_value value = kiln_stored_value(schedule->graph, schedule->graph->checks.at[i].value);
        uint32_t place = kiln_schedule_find_place(schedule, (kiln_operand){.value = value});
        if (place != KILN_NONE) last[place] = schedule->groups.n;
    }
    return KILN_OK;
}

static bool is_in_order(const kiln_schedule *schedule, uint32_t i)
{
    return !i || kiln_operand_compare(schedule->places.at[i - 1].operand,
                                      schedule->places.at[i].operand) < 0;
}

/* A part lies in its host's buffer, at the host's strides, behind the parts before it. */
static kiln_status check_part(kiln_check_state *check, const kiln_place *part)
{
    const kiln_schedule *schedule = check->schedule;
    if (part->inside >= schedule->places.n) return fail_place(check, part, "it lies in no place");
    const kiln_place *host = &schedule->places.at[part->inside];
    const kiln_node *node = kiln_graph_node(schedule->graph, host->operand.value);
    bool is_same = host->kind == part->kind && host->index == part->index &&
                   host->offset == part->offset && host->bytes == part->bytes;
    if (!is_same || !kiln_schedule_is_assembled(schedule, host->operand.value)) {
        return fail_place(check, part, "it does not lie in its concat's buffer");
    }
    int64_t axis = node->attrs->axis.axis, start = 0, stride = 1;
    for (uint32_t i = (uint32_t)axis + 1; i < node->type->rank; i++) stride *= node->type->dims[i];
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        if (node->inputs[i].id == part->operand.value.id) {
            bool is_right = part->origin == start * stride;
            for (uint32_t d = 0; d < node->type->rank; d++) {
                is_right = is_right && part->strides[d] == host->strides[d];
            }
            return is_right ? KILN_OK : fail_place(check, part, "it is not its part of the concat");
        }
        start += kiln_graph_type(schedule->graph, node->inputs[i])->dims[axis];
    }
    return fail_place(check, part, "it is no part of the concat");
}

static kiln_status check_place(kiln_check_state *check, uint32_t number)
{
    const kiln_schedule *schedule = check->schedule;
    const kiln_graph *graph = schedule->graph;
    const kiln_place *place = &schedule->places.at[number];
    if (!is_in_order(schedule, number)) return fail_place(check, place, "places are not in order");
    if (place->bytes < kiln_operand_bytes(graph, place->operand)) {
        return fail_place(check, place, "it is too small for its value");
    }
    uint32_t maker = kiln_check_maker(check, place->operand);
    if (place->inside != KILN_NONE) return check_part(check, place);
    if (place->kind == KILN_PLACE_OUTPUT) {
        bool is_port = place->index < graph->outputs.n;
        kiln_value value = is_port ? kiln_stored_value(graph, graph->outputs.at[place->index].value)
                                   : (kiln_value){0};
        if (value.id != place->operand.value.id)
            return fail_place(check, place, "it is not that output");
    }
    bool is_stored = place->kind == KILN_PLACE_ARENA || place->kind == KILN_PLACE_OUTPUT;
    if (is_stored != (maker != KILN_NONE)) return fail_place(check, place, "its kind is wrong");
    if (place->kind != KILN_PLACE_ARENA) return KILN_OK;
    int64_t end;
    bool is_sound = place->offset >= 0 && place->offset % 64 == 0 &&
                    kiln_checked_add(place->offset, place->bytes, &end) &&
                    end <= schedule->arena_bytes;
    return is_sound ? KILN_OK : fail_place(check, place, "it is not aligned, or leaves the arena");
}

/* Whether `to` is the item of a loop that `from`, which the loop reads only so, starts with. */
static bool is_carried_over(const kiln_schedule *schedule, const kiln_group *group,
                            const kiln_place *from, const kiln_place *to)
{
    const kiln_graph *graph = schedule->graph;
    if (group->kind != KILN_GROUP_REGION) return false;
    const kiln_node *loop = kiln_graph_node(graph, group->anchor);
    const kiln_node *item = kiln_graph_node(graph, to->operand.value);
    int64_t index = item->op == KILN_OP_item ? item->attrs->item.index : INT64_MAX;
    if (index >= kiln_region_n_carried(loop)) return false;
    for (uint32_t i = 0; i < loop->n_inputs; i++) {
        bool is_it = kiln_stored_value(graph, loop->inputs[i]).id == from->operand.value.id;
        if (is_it != (i == index)) return false;
    }
    return true;
}

/* Whether `b` takes over the bytes of `a` as the schedule declares and the rules allow. */
static bool is_taken_over(const kiln_schedule *schedule, const stretch *a, const stretch *b)
{
    if (a->place == KILN_NONE || b->place == KILN_NONE) return false;
    const kiln_place *from = &schedule->places.at[a->place], *to = &schedule->places.at[b->place];
    if (to->shares != a->place || a->last != b->first || from->offset != to->offset) return false;
    const kiln_group *group = &schedule->groups.at[b->first];
    if (group->kind == KILN_GROUP_HORIZONTAL)
        group = kiln_group_own_member(group, to->operand.value, from->operand.value);
    if (!group) return false;
    bool is_single = group->kind == KILN_GROUP_ROW && group->n_outputs == 1;
    bool may_take = is_single || group->kind == KILN_GROUP_POINTWISE ||
                    is_carried_over(schedule, group, from, to);
    return may_take && from->bytes == to->bytes;
}

static int compare_first(const void *a, const void *b)
{
    const stretch *x = a, *y = b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place ? 1 : 0;
}

static uint32_t stretch_value(const kiln_schedule *schedule, const stretch *at)
{
    return at->place == KILN_NONE ? schedule->groups.at[at->first].anchor.id
                                  : schedule->places.at[at->place].operand.value.id;
}

static kiln_status check_overlaps(kiln_check_state *check, const stretch *stretches, uint32_t n)
{
    const kiln_schedule *schedule = check->schedule;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = i + 1; j < n && stretches[j].first <= stretches[i].last; j++) {
            const stretch *a = &stretches[i], *b = &stretches[j];
            if (a->end <= b->begin || b->end <= a->begin) continue;
            if (is_taken_over(schedule, a, b) || is_taken_over(schedule, b, a)) continue;
            return kiln_error_set(
                check->error, KILN_INTERNAL,
                "%s: %%%u and %%%u overlap in the arena and both live at group %u", check->where,
                stretch_value(schedule, a), stretch_value(schedule, b), b->first);
        }
    }
    return KILN_OK;
}

/* A donated input is read for the last time before its output is written, or by the same group. */
static kiln_status check_donations(kiln_check_state *check, const uint32_t *first,
                                   const uint32_t *last)
{
    const kiln_schedule *schedule = check->schedule;
    const kiln_graph *graph = schedule->graph;
    for (uint32_t i = 0; i < schedule->donations.n; i++) {
        uint32_t port = schedule->donations.at[i];
        if (port == KILN_NONE) continue;
        kiln_operand to = {.value = kiln_stored_value(graph, graph->outputs.at[port].value)};
        uint32_t input =
            kiln_schedule_find_place(schedule, (kiln_operand){.value = graph->inputs.at[i]});
        uint32_t output = kiln_schedule_find_place(schedule, to);
        bool is_read = input != KILN_NONE && first[input] != KILN_NONE;
        if (!is_read || (output != KILN_NONE && last[input] <= first[output])) continue;
        return fail_place(check, &schedule->places.at[input], "it is read after its donation");
    }
    return KILN_OK;
}

kiln_status kiln_check_memory(kiln_check_state *check)
{
    const kiln_schedule *schedule = check->schedule;
    uint32_t n_places = schedule->places.n, n = 0;
    uint32_t *first = kiln_new_array(check->arena, uint32_t, n_places + 1);
    uint32_t *last = kiln_new_array(check->arena, uint32_t, n_places + 1);
    stretch *stretches = kiln_new_array(check->arena, stretch, n_places + schedule->groups.n + 1);
    kiln_status status = KILN_OK;
    for (uint32_t i = 0; !status && i < n_places; i++) status = check_place(check, i);
    if (!status) status = find_ranges(check, first, last);
    for (uint32_t i = 0; !status && i < n_places; i++) {
        const kiln_place *place = &schedule->places.at[i];
        if (place->kind != KILN_PLACE_ARENA || first[i] == KILN_NONE || !place->bytes) continue;
        if (place->inside != KILN_NONE) continue; /* its host stands for it */
        stretches[n++] =
            (stretch){i, first[i], last[i], place->offset, place->offset + place->bytes};
    }
    for (uint32_t g = 0; g < schedule->groups.n; g++) {
        const kiln_group *group = &schedule->groups.at[g];
        int64_t begin = group->scratch_offset, end = begin + group->scratch_bytes;
        if (!group->scratch_bytes) continue;
        if (begin < 0 || begin % 64 || end > schedule->arena_bytes)
            return kiln_check_fail(check, g, "its scratch is not aligned, or leaves the arena");
        stretches[n++] = (stretch){KILN_NONE, g, g, begin, end};
    }
    qsort(stretches, n, sizeof *stretches, compare_first);
    if (!status) status = check_donations(check, first, last);
    return status ? status : check_overlaps(check, stretches, n);
}
