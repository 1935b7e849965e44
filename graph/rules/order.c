/* Composites along one axis: take_along is a gather whose other axes are batch axes; sort takes
 * along the order. */
#include "graph/rules/rules.h"

kiln_value kiln_expand_take_along(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                  const kiln_attrs *attrs)
{
    const kiln_type *type = kiln_graph_type(graph, inputs[0]);
    int64_t axis = attrs->axis.axis, others[KILN_MAX_RANK], sizes[KILN_MAX_RANK];
    uint32_t n = 0;
    kiln_rule_check_axis(graph, "take_along", inputs[0], axis);
    for (uint32_t i = 0; i < type->rank; i++) {
        if (i != axis) others[n++] = i;
        sizes[i] = type->dims[i] > 0;
    }
    kiln_attrs gather = {KILN_FAMILY_gather};
    gather.gather.collapsed_axes = gather.gather.start_map = (kiln_ints){1, &axis};
    gather.gather.operand_batch = gather.gather.indices_batch = (kiln_ints){n, others};
    gather.gather.index_axis = kiln_graph_type(graph, inputs[1])->rank;
    gather.gather.sizes = (kiln_ints){type->rank, sizes};
    return kiln_graph_add(
        graph,
        &(kiln_node_spec){.op = KILN_OP_gather, .inputs = inputs, .n_inputs = 2, .attrs = &gather});
}

kiln_value kiln_expand_sort(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                            const kiln_attrs *attrs)
{
    kiln_rule_check_axis(graph, "sort", inputs[0], attrs->sort.axis);
    kiln_value order = kiln_graph_add(
        graph,
        &(kiln_node_spec){.op = KILN_OP_argsort, .inputs = inputs, .n_inputs = 1, .attrs = attrs});
    kiln_attrs along = {KILN_FAMILY_axis, .axis = {attrs->sort.axis}};
    kiln_value pair[] = {inputs[0], order};
    return kiln_expand_take_along(graph, pair, 2, &along);
}
