/* Which function serves which operator: the families of rows, looked up by domain, name and
 * operator set. */
#include <string.h>

#include "graph/io/onnx.h"

static const kiln_onnx_family families[] = {
    {"", kiln_onnx_math_rows},
    {"", kiln_onnx_activation_rows},
    {"", kiln_onnx_shape_rows},
    {"", kiln_onnx_slice_rows},
    {"", kiln_onnx_index_rows},
    {"", kiln_onnx_reduce_rows},
    {"", kiln_onnx_linear_rows},
    {"", kiln_onnx_conv_rows},
    {"", kiln_onnx_pool_rows},
    {"", kiln_onnx_norm_rows},
    {"", kiln_onnx_resize_rows},
    {"", kiln_onnx_source_rows},
    {"", kiln_onnx_flow_rows},
    {"", kiln_onnx_recurrent_rows},
    {"", kiln_onnx_quant_rows},
    {"", kiln_onnx_attention_rows},
    {"", kiln_onnx_einsum_rows},
    {"", kiln_onnx_loss_rows},
    {"", kiln_onnx_scatter_rows},
    {"com.microsoft", kiln_onnx_contrib_rows},
    {"", kiln_onnx_contrib_default_rows},
};

const kiln_onnx_row *kiln_onnx_row_find(const char *domain, const char *op, int64_t opset)
{
    if (!strcmp(domain, "ai.onnx")) domain = "";
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (strcmp(families[i].domain, domain)) continue;
        for (const kiln_onnx_row *row = families[i].rows; row->op; row++) {
            if (!strcmp(row->op, op) && opset >= row->since && opset <= row->until) return row;
        }
    }
    return NULL;
}
