/* Which contractions matrix tiles multiply (vectors of the same layout where there are no tiles: of
 * bytes always, of bf16 where the machine has dots of pairs), decided by the machine, the dtypes,
 * the precision that was asked for and the shape alone. The decision stands in the schedule as the
 * format of the second operand: it names the algorithm, so it decides the bits of the result. */
#include "kiln/compile.h"
#include "passes/fuse.h"

bool kiln_fusion_is_readable(const kiln_fusion *fusion, uint32_t id)
{
    const kiln_graph *graph = fusion->graph;
    const kiln_node *node = kiln_fusion_node(fusion, id);
    kiln_value input = node->inputs[0];
    if (node->op != KILN_OP_convolution ||
        kiln_node_row(kiln_graph_node(graph, input))->class_ != KILN_VIEW)
        return true;
    kiln_view_strides at;
    int64_t features = node->attrs->conv.input_axes.at[1];
    if (!kiln_view_is_strided(graph, input, kiln_view_base(graph, input), &at)) return false;
    return at.strides[features] == 1 || kiln_graph_type(graph, input)->dims[features] == 1;
}

kiln_format kiln_fusion_tile_format(kiln_fusion *fusion, uint32_t id)
{
    const kiln_graph *graph = fusion->graph;
    const kiln_node *node = kiln_fusion_node(fusion, id);
    bool is_dot = node->op == KILN_OP_dot_general;
    kiln_dtype dtype = kiln_graph_type(graph, node->inputs[0])->dtype;
    kiln_dtype sum = is_dot ? node->attrs->dot.accumulate : node->attrs->conv.accumulate;
    bool is_byte = kiln_dtype_bytes(dtype) == 1 && (sum == KILN_i32 || sum == KILN_u32);
    bool has_vectors = fusion->machine->kind == KILN_MACHINE_CPU && fusion->machine->has_fma;
    bool has_bf16 = fusion->machine->has_amx || fusion->machine->has_bf16_dot;
    if (is_byte ? !has_vectors : !has_bf16 || sum != KILN_f32) return KILN_FORMAT_DENSE;
    kiln_format format = is_byte ? KILN_FORMAT_I8_K4N16 : KILN_FORMAT_DENSE;
    int precision = fusion->pipeline->precision;
    if (dtype == KILN_bf16) format = KILN_FORMAT_BF16_K2N16;
    if (dtype == KILN_f32 && is_dot && precision == KILN_PRECISION_X6)
        format = KILN_FORMAT_BF16X3_K2N16;
    if (format == KILN_FORMAT_DENSE) return format;
    bool is_right = kiln_contraction_fits_tiles(fusion->arena, graph, kiln_fusion_value(fusion, id),
                                                kiln_format_parts(format));
    return is_right ? format : KILN_FORMAT_DENSE;
}
