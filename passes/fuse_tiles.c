/* Which contractions matrix tiles multiply, decided by the machine, the dtypes, the precision that
 * was asked for and the shape alone. The decision stands in the schedule as the format of the
 * second operand: it names the algorithm, so it decides the bits of the result. */
#include "kiln/compile.h"
#include "passes/fuse.h"

kiln_format kiln_fusion_tile_format(kiln_fusion *fusion, uint32_t id)
{
    const kiln_graph *graph = fusion->graph;
    const kiln_node *node = kiln_fusion_node(fusion, id);
    if (!fusion->machine->has_amx || node->op != KILN_OP_dot_general) return KILN_FORMAT_DENSE;
    kiln_dtype dtype = kiln_graph_type(graph, node->inputs[0])->dtype;
    if (node->attrs->dot.accumulate != KILN_f32) return KILN_FORMAT_DENSE;
    kiln_format format = KILN_FORMAT_DENSE;
    int precision = fusion->pipeline->precision;
    if (dtype == KILN_bf16) format = KILN_FORMAT_BF16_K2N16;
    if (dtype == KILN_f32 && precision == KILN_PRECISION_X6) format = KILN_FORMAT_BF16X3_K2N16;
    if (format == KILN_FORMAT_DENSE) return format;
    kiln_matmul_roles roles;
    kiln_dot_roles(fusion->arena, graph, kiln_fusion_value(fusion, id), &roles);
    kiln_value base = kiln_view_base(graph, node->inputs[1]);
    bool is_constant = kiln_graph_node(graph, base)->op == KILN_OP_constant;
    bool is_right = kiln_fits_tiles(&roles, kiln_format_parts(format), is_constant);
    return is_right ? format : KILN_FORMAT_DENSE;
}
