/* The inputs of an ONNX file: name, dtype and the dims as far as the file has them; what it leaves
 * open is -1 and goes by its name. */
#include "graph/io/onnx_ports.h"

#include <string.h>

#include "graph/io/onnx_op.h"

static bool is_initializer(const Kiln__Onnx__Graph *graph, const char *name)
{
    for (size_t i = 0; i < graph->n_initializer; i++) {
        if (graph->initializer[i]->name && !strcmp(graph->initializer[i]->name, name)) return true;
    }
    return false;
}

static void read_dim(kiln_arena *arena, const Kiln__Onnx__Dim *dim, kiln_function_input *input,
                     uint32_t axis)
{
    bool is_fixed = dim->has_value && dim->value >= 0;
    bool is_named = dim->param && *dim->param && strcmp(dim->param, "?") != 0;
    input->dims[axis] = is_fixed ? dim->value : -1;
    input->dim_names[axis] = is_named ? kiln_arena_string(arena, dim->param)
                                      : kiln_arena_format(arena, "%s:%u", input->name, axis);
}

static void read_input(kiln_onnx *onnx, const Kiln__Onnx__Value *value, kiln_function_input *input)
{
    kiln_arena *arena = &onnx->scope->arena;
    const char *name = value->name ? value->name : "";
    const char *where =
        kiln_arena_format(arena, "%s: input %s", onnx->source->where, kiln_onnx_quote(arena, name));
    if (!value->type || !value->type->tensor)
        kiln_fail(onnx->scope, value->type ? KILN_UNSUPPORTED : KILN_MODEL,
                  "%s has no tensor type; expected a tensor", where);
    const Kiln__Onnx__TensorType *type = value->type->tensor;
    input->name = kiln_arena_string(arena, name);
    input->dtype = kiln_onnx_dtype(onnx, type->elem_type, where);
    input->rank = type->shape ? (uint32_t)type->shape->n_dim : KILN_NONE;
    if (type->shape && type->shape->n_dim > KILN_MAX_RANK)
        kiln_fail(onnx->scope, KILN_LIMIT, "%s: rank %zu; expected at most %d", where,
                  type->shape->n_dim, KILN_MAX_RANK);
    for (uint32_t i = 0; type->shape && i < input->rank; i++)
        read_dim(arena, type->shape->dim[i], input, i);
}

kiln_function_input *kiln_onnx_list_inputs(kiln_scope *scope, const char *path, uint32_t *out_n)
{
    kiln_onnx *onnx = kiln_new(&scope->arena, kiln_onnx);
    kiln_source *source = kiln_new(&scope->arena, kiln_source);
    onnx->scope = scope;
    onnx->source = source;
    kiln_source_open(source, scope, path);
    onnx->model = kiln_onnx_unpack(source);
    const Kiln__Onnx__Graph *graph = onnx->model->graph;
    if (!graph)
        kiln_fail(scope, KILN_MODEL, "%s: no graph in the file; expected an ONNX model",
                  source->where);
    kiln_function_input *inputs =
        kiln_new_array(&scope->arena, kiln_function_input, graph->n_input + 1);
    for (size_t i = 0; i < graph->n_input; i++) {
        const char *name = graph->input[i]->name ? graph->input[i]->name : "";
        if (!is_initializer(graph, name)) read_input(onnx, graph->input[i], &inputs[(*out_n)++]);
    }
    return inputs;
}
