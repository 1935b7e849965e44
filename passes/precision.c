/* precision: the contractions that a compile in bf16 rounds say so in the graph: operands are
 * converted (where they are computed, once for all who read them; constants here), the result keeps
 * the dtype of the sums. Decided by shapes alone.
 *
 *                                              %1: bf16[8,32] = convert %x
 *     %1: f32[8,16] = dot_general %x, %w  =>   %2: bf16[32,16] = constant {…}
 *                                              %3: f32[8,16] = dot_general %1, %2 {… wide = 1} */
#include "base/checked.h"
#include "graph/element.h"
#include "kiln/compile.h"
#include "passes/rewrite.h"

static const kiln_value none = {0, 0};

static bool is_on_constant(const kiln_graph *graph, kiln_value value)
{
    return kiln_graph_node(graph, kiln_view_base(graph, value))->op == KILN_OP_constant;
}

/* A convolution as a product: pixels by taps and features. */
static void conv_roles(const kiln_graph *graph, const kiln_node *node, kiln_matmul_roles *out_roles)
{
    const kiln_type *kernel = kiln_graph_type(graph, node->inputs[1]);
    int64_t features = kernel->dims[node->attrs->conv.kernel_axes.at[0]];
    int64_t pixels = node->type->n_elements / kiln_max_i64(1, features);
    out_roles->n_size = features / node->attrs->conv.groups;
    out_roles->k_size = kernel->n_elements / kiln_max_i64(1, features);
    out_roles->m_size = pixels;
    out_roles->batch_size = node->attrs->conv.groups;
}

static bool is_rounded(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (kiln_node_row(node)->class_ != KILN_CONTRACT || node->type->n_elements == 0) return false;
    const kiln_graph *source = rewrite->source;
    bool is_dot = node->op == KILN_OP_dot_general;
    kiln_dtype sum = is_dot ? node->attrs->dot.accumulate : node->attrs->conv.accumulate;
    kiln_dtype dtype = kiln_graph_type(source, node->inputs[0])->dtype;
    if (dtype != KILN_f32 || sum != KILN_f32) return false;
    kiln_matmul_roles roles = {0};
    kiln_scope *scope = rewrite->pipeline->scope;
    if (is_dot)
        kiln_dot_roles(&scope->arena, source, (kiln_value){node->id, source->id}, &roles);
    else
        conv_roles(source, node, &roles);
    return kiln_fits_tiles(&roles, 1, is_on_constant(source, node->inputs[1]));
}

/* Writes the rounded elements of a constant, or of views of one. */
static kiln_status read_rounded(const kiln_graph *graph, kiln_value value, uint16_t *out,
                                kiln_error *error)
{
    const kiln_type *type = kiln_graph_type(graph, value);
    kiln_scope scope;
    kiln_scope_open(&scope, error);
    if (kiln_scope_try(&scope)) {
        float *dense = kiln_arena_alloc(&scope.arena, (size_t)type->bytes);
        kiln_constant_read(&scope, graph, value, dense);
        for (int64_t i = 0; i < type->n_elements; i++)
            out[i] = (uint16_t)(kiln_bf16_pattern(dense[i]) >> 16);
    }
    return kiln_scope_close(&scope);
}

static kiln_value round_constant(kiln_rewrite *rewrite, kiln_value value)
{
    const kiln_type *type = kiln_graph_type(rewrite->source, value);
    kiln_graph *target = rewrite->target;
    kiln_error error = {0};
    type = kiln_graph_tensor(target, KILN_bf16, type->rank, type->dims);
    uint16_t *data = kiln_arena_alloc(&target->arena, (size_t)type->bytes);
    if (read_rounded(rewrite->source, value, data, &error))
        kiln_fail_with(rewrite->pipeline->scope, &error);
    if (type->bytes <= KILN_LITERAL_BYTES_MAX) return kiln_add_constant(target, type, data);
    kiln_literal literal = {KILN_LITERAL_BLOB, data, type->bytes};
    return kiln_add_literal(target, type, &literal);
}

static kiln_value round_contraction(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (!is_rounded(rewrite, node)) return none;
    kiln_value inputs[2];
    kiln_attrs attrs = *node->attrs;
    for (uint32_t i = 0; i < 2; i++) {
        kiln_value from = node->inputs[i];
        inputs[i] = is_on_constant(rewrite->source, from)
                        ? round_constant(rewrite, from)
                        : kiln_add_convert(rewrite->target, kiln_mapped(rewrite, from), KILN_bf16);
    }
    if (node->op == KILN_OP_dot_general)
        attrs.dot.wide = 1;
    else
        attrs.conv.wide = 1;
    return kiln_rewrite_with(rewrite, node, inputs, &attrs);
}

kiln_graph *kiln_pass_precision(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    bool is_on = pipeline->precision == KILN_PRECISION_BF16;
    return kiln_rewrite_sweep(pipeline, graph, is_on ? round_contraction : NULL, NULL, NULL);
}
