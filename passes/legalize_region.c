/* Regions over dtypes that kernels do not have: parameters and results become what stands for them,
 * complex ones as pairs on a last axis, so that a sequence still runs along its first. */
#include "graph/attrs.h"
#include "passes/legalize.h"

static bool is_complex(const kiln_type *type)
{
    return kiln_dtype_in(type->dtype, KILN_TYPES_COMPLEX);
}

/* Regions nest no deeper than KILN_MAX_NESTING. */
static bool is_legal(const kiln_graph *graph)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        if (!kiln_dtype_is_legal(node->type->dtype)) return false;
        kiln_regions regions = kiln_attrs_regions(node->attrs);
        for (uint32_t i = 0; i < regions.n; i++)
            if (!is_legal(regions.at[i])) return false;
    }
    return true;
}

bool kiln_legal_has_regions(const kiln_node *node)
{
    kiln_regions regions = kiln_attrs_regions(node->attrs);
    for (uint32_t i = 0; i < regions.n; i++)
        if (!is_legal(regions.at[i])) return true;
    return false;
}

kiln_value kiln_legal_whole(kiln_legal *legal, kiln_value source)
{
    if (!is_complex(kiln_graph_type(legal->source, source))) return legal->values[source.id];
    return kiln_parts_join(legal->target, kiln_legal_parts(legal, source));
}

static kiln_parts legal_item(kiln_legal *legal, const kiln_node *node)
{
    kiln_value tuple = legal->values[node->inputs[0].id];
    kiln_parts parts = {.re =
                            kiln_add_item(legal->target, tuple, (uint32_t)node->attrs->item.index)};
    return is_complex(node->type) ? kiln_parts_split(legal->target, parts.re) : parts;
}

kiln_parts kiln_legal_region_node(kiln_legal *legal, const kiln_node *node)
{
    if (node->op == KILN_OP_item) return legal_item(legal, node);
    kiln_scope *scope = legal->pipeline->scope;
    kiln_regions regions = kiln_attrs_regions(node->attrs);
    const kiln_graph **graphs = kiln_new_array(&scope->arena, const kiln_graph *, regions.n);
    for (uint32_t i = 0; i < regions.n; i++) {
        kiln_graph *expanded = kiln_pass_expand(legal->pipeline, regions.at[i]);
        kiln_graph *region = kiln_legalize_graph(legal->pipeline, expanded, true);
        kiln_region_close(scope, region);
        graphs[i] = region;
    }
    kiln_value *inputs = kiln_new_array(&scope->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++)
        inputs[i] = kiln_legal_whole(legal, node->inputs[i]);
    kiln_attrs attrs = *node->attrs;
    kiln_attrs_set_regions(&attrs, (kiln_regions){regions.n, graphs});
    kiln_node_spec spec = {(kiln_op)node->op, NULL, inputs, node->n_inputs, &attrs, node->label};
    return (kiln_parts){.re = kiln_graph_add(legal->target, &spec)};
}

/* (there, update) -> their sum or product, rounded; patterns of narrow floats. */
static kiln_graph *combine_region(kiln_legal *legal, kiln_op op, kiln_dtype dtype)
{
    kiln_graph *region = kiln_graph_open(legal->pipeline->scope, legal->target->context, "combine");
    const kiln_type *pattern = kiln_graph_tensor(region, KILN_u8, 0, NULL);
    kiln_value there = kiln_add_input(region, pattern, "there", false);
    kiln_value update = kiln_add_input(region, pattern, "update", false);
    there = kiln_float_decode(region, there, dtype);
    update = kiln_float_decode(region, update, dtype);
    kiln_value both = kiln_add_binary(region, op, there, update);
    kiln_add_output(region, kiln_float_encode(region, both, dtype), NULL);
    kiln_region_close(legal->pipeline->scope, region);
    return region;
}

kiln_value kiln_legal_scatter(kiln_legal *legal, const kiln_node *node)
{
    bool is_sum = node->op == KILN_OP_scatter_add;
    const kiln_graph *region =
        combine_region(legal, is_sum ? KILN_OP_add : KILN_OP_mul, node->type->dtype);
    kiln_attrs attrs = kiln_attrs_scatter_with(node->attrs, (kiln_regions){1, &region});
    kiln_value inputs[3];
    for (uint32_t i = 0; i < 3; i++) inputs[i] = legal->values[node->inputs[i].id];
    kiln_node_spec spec = {KILN_OP_scatter_with, NULL, inputs, 3, &attrs, node->label};
    return kiln_add_item(legal->target, kiln_graph_add(legal->target, &spec), 0);
}
