/* Which function serves which operator: the families of rows, looked up by domain, name and
 * operator set. */
#include <string.h>

#include "graph/io/onnx.h"

static const kiln_onnx_family families[] = {
    {"", kiln_onnx_math_rows, "Arithmetic"},
    {"", kiln_onnx_activation_rows, "Activations"},
    {"", kiln_onnx_shape_rows, "Shapes and casts"},
    {"", kiln_onnx_slice_rows, "Parts"},
    {"", kiln_onnx_index_rows, "Indices"},
    {"", kiln_onnx_dynamic_rows, "Sizes that depend on the data"},
    {"", kiln_onnx_reduce_rows, "Reductions"},
    {"", kiln_onnx_linear_rows, "Products"},
    {"", kiln_onnx_conv_rows, "Convolutions"},
    {"", kiln_onnx_pool_rows, "Pooling"},
    {"", kiln_onnx_norm_rows, "Normalisation"},
    {"", kiln_onnx_resize_rows, "Resizing"},
    {"", kiln_onnx_source_rows, "Constants"},
    {"", kiln_onnx_flow_rows, "Control flow"},
    {"", kiln_onnx_sequence_rows, "Sequences"},
    {"", kiln_onnx_recurrent_rows, "Recurrent networks"},
    {"", kiln_onnx_quant_rows, "Quantisation"},
    {"", kiln_onnx_attention_rows, "Attention"},
    {"", kiln_onnx_einsum_rows, "Einsum"},
    {"", kiln_onnx_loss_rows, "Losses"},
    {"", kiln_onnx_scatter_rows, "Orders and scatters"},
    {"", kiln_onnx_vision_rows, "Grids and crops"},
    {"", kiln_onnx_patch_rows, "Patches"},
    {"", kiln_onnx_deform_rows, "Sampled convolutions"},
    {"", kiln_onnx_matrix_rows, "Matrices"},
    {"ai.onnx.ml", kiln_onnx_ml_rows, "Classical machine learning"},
    {"", kiln_onnx_signal_rows, "Spectra and texts"},
    {"", kiln_onnx_random_rows, "Random numbers"},
    {"", kiln_onnx_state_rows, "Models with a state"},
    {"ai.onnx.preview", kiln_onnx_preview_rows, "Previews"},
    {KILN_ONNX_TRAINING, kiln_onnx_train_rows, "Training"},
    {KILN_ONNX_TRAINING, kiln_onnx_gradient_rows, "Gradients"},
    {"com.microsoft", kiln_onnx_contrib_rows, "Fused operators"},
    {"", kiln_onnx_contrib_default_rows, "Fused operators in the default domain"},
};

const kiln_onnx_family *kiln_onnx_families(uint32_t *out_n)
{
    *out_n = sizeof families / sizeof *families;
    return families;
}

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
