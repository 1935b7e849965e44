/* float8e8m0, the scales of block formats: powers of two from 2^-127 on, without sign, zero or
 * infinity. No dtype of the graph is that: a value stands as its pattern, u8, is known to the
 * importer as one, and is read by Cast and CastLike alone. */
#include <string.h>

#include "graph/io/onnx_op.h"

bool kiln_onnx_is_scale(const kiln_onnx *onnx, kiln_value value)
{
    for (uint32_t i = 0; i < onnx->scales.n; i++) {
        kiln_value known = onnx->scales.at[i];
        if (known.id == value.id && known.graph == value.graph) return true;
    }
    return false;
}

kiln_value kiln_onnx_scale_note(kiln_onnx *onnx, kiln_value value)
{
    if (!kiln_onnx_is_scale(onnx, value)) kiln_vec_push(&onnx->scales, &onnx->scope->arena, value);
    return value;
}

static kiln_value bits_as(kiln_onnx_call *call, kiln_value a, kiln_dtype dtype)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    type = kiln_graph_tensor(call->graph, dtype, type->rank, type->dims);
    kiln_node_spec spec = {.op = KILN_OP_bitcast, .given = type, .inputs = &a, .n_inputs = 1};
    return kiln_graph_add(call->graph, &spec);
}

kiln_value kiln_onnx_scale_decode(kiln_onnx_call *call, kiln_value a, kiln_dtype dtype)
{
    kiln_graph *graph = call->graph;
    a = kiln_add_convert(graph, a, KILN_u32);
    kiln_value bits = kiln_onnx_with(call, KILN_OP_shift_left, a, 23);
    bits = kiln_onnx_select(call, kiln_onnx_with(call, KILN_OP_eq, a, 0),
                            kiln_add_splat_like(graph, a, 0x400000), bits);
    bits = kiln_onnx_select(call, kiln_onnx_with(call, KILN_OP_eq, a, 255),
                            kiln_add_splat_like(graph, a, 0x7fc00000), bits);
    return kiln_add_convert(graph, bits_as(call, bits, KILN_f32), dtype);
}

/* Whether the exponent goes up by one, as the attribute round_mode says. */
static kiln_value goes_up(kiln_onnx_call *call, kiln_value fraction, kiln_value exponent)
{
    const char *mode = kiln_onnx_string(call, "round_mode", "up");
    kiln_graph *graph = call->graph;
    if (!strcmp(mode, "up")) return kiln_onnx_with(call, KILN_OP_ne, fraction, 0);
    if (!strcmp(mode, "down")) return kiln_onnx_with(call, KILN_OP_lt, fraction, 0);
    if (strcmp(mode, "nearest"))
        kiln_onnx_fail(call, "attr 'round_mode' is %s; expected up, down or nearest",
                       kiln_onnx_quote(&call->scope->arena, mode));
    kiln_value is_half = kiln_onnx_with(call, KILN_OP_eq, fraction, 0x400000);
    kiln_value is_least = kiln_onnx_with(call, KILN_OP_eq, exponent, 0);
    kiln_value stays = kiln_add_binary(graph, KILN_OP_and, is_half, is_least);
    return kiln_add_binary(graph, KILN_OP_and, kiln_onnx_with(call, KILN_OP_ge, fraction, 0x400000),
                           kiln_add_unary(graph, KILN_OP_not, stays));
}

kiln_value kiln_onnx_scale_encode(kiln_onnx_call *call, kiln_value a, bool is_saturating)
{
    kiln_graph *graph = call->graph;
    kiln_value bits = bits_as(call, kiln_add_convert(graph, a, KILN_f32), KILN_u32);
    kiln_value exponent = kiln_onnx_with(
        call, KILN_OP_and, kiln_onnx_with(call, KILN_OP_shift_right_logical, bits, 23), 255);
    kiln_value fraction = kiln_onnx_with(call, KILN_OP_and, bits, 0x7fffff);
    kiln_value is_low = kiln_onnx_with(call, KILN_OP_lt, exponent, is_saturating ? 254 : 255);
    kiln_value up = kiln_add_binary(graph, KILN_OP_and, goes_up(call, fraction, exponent), is_low);
    exponent = kiln_add_binary(graph, KILN_OP_add, exponent, kiln_add_convert(graph, up, KILN_u32));
    return kiln_onnx_scale_note(call->onnx, kiln_add_convert(graph, exponent, KILN_u8));
}
