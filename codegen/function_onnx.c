/* Functions over ONNX files: the build function binds the dims of every input to those of the call
 * and imports the model. */
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/text.h"
#include "codegen/function.h"
#include "graph/io/onnx_ports.h"

/* In the function's arena. */
typedef struct onnx_model {
    const char *path;
    kiln_function *function;
    void (*report)(void *user, const char *line);
    void *report_user;
    kiln_dim_binding *dims; /* of the caller's, without those that inputs have */
    uint32_t n_dims;
} onnx_model;

static bool is_value(const kiln_function *function, uint32_t input)
{
    return function->is_value && function->is_value[input];
}

static kiln_status build_onnx(void *user, kiln_context *context, const kiln_tensor *inputs,
                              uint32_t n_inputs, kiln_graph **out_graph)
{
    const onnx_model *model = user;
    kiln_shape_binding *shapes = calloc(n_inputs + 1, sizeof *shapes);
    kiln_value_binding *values = calloc(n_inputs + 1, sizeof *values);
    kiln_import_options options = {
        .struct_bytes = sizeof options,
        .dims = model->dims,
        .n_dims = model->n_dims,
        .shapes = shapes,
        .n_shapes = n_inputs,
        .report = model->report,
        .report_user = model->report_user,
        .values = values,
    };
    kiln_status status = KILN_NO_MEMORY;
    if (shapes && values) {
        for (uint32_t i = 0; i < n_inputs; i++) {
            const char *name = model->function->listed[i].name;
            shapes[i] = (kiln_shape_binding){name, inputs[i].rank, inputs[i].dims};
            if (is_value(model->function, i))
                values[options.n_values++] = (kiln_value_binding){name, inputs[i]};
        }
        status = kiln_import_onnx(context, model->path, &options, out_graph);
    } else {
        kiln_context_fail(context, status, "%s: no memory", model->path);
    }
    free(shapes);
    free(values);
    return status;
}

/* What a batch may be called: the open dims that stand first in an input. */
static const char *list_open(kiln_scope *scope, const kiln_function *function)
{
    kiln_text text = {.arena = &scope->arena};
    for (uint32_t i = 0; i < function->n_listed; i++) {
        const kiln_function_input *input = &function->listed[i];
        if (input->rank == KILN_NONE || !input->rank || input->dims[0] >= 0) continue;
        kiln_text_printf(&text, "%s%s", text.n ? " or " : "", input->dim_names[0]);
    }
    return text.n ? kiln_text_string(&text) : "an input whose first dim is open";
}

/* Which inputs have the open dim, all of them as their first. */
static void find_batched(kiln_scope *scope, kiln_function *function, const char *open_dim)
{
    unsigned char *batched =
        kiln_new_array(&function->arena, unsigned char, function->n_listed + 1);
    bool is_found = false;
    for (uint32_t i = 0; i < function->n_listed; i++) {
        kiln_function_input *input = &function->listed[i];
        for (uint32_t k = 0; input->rank != KILN_NONE && k < input->rank; k++) {
            if (input->dims[k] >= 0 || strcmp(input->dim_names[k], open_dim) != 0) continue;
            if (k > 0)
                kiln_fail(scope, KILN_UNSUPPORTED,
                          "rows: dim %s is dim %u of input %s; expected the first one", open_dim, k,
                          input->name);
            batched[i] = 1;
            input->is_batched = is_found = true;
        }
    }
    if (!is_found)
        kiln_fail(scope, KILN_INVALID, "rows: no input has an open dim %s; expected %s", open_dim,
                  list_open(scope, function));
    function->is_batched = batched;
}

static void find_values(kiln_scope *scope, kiln_function *function,
                        const kiln_function_options *options)
{
    bool *is_value = kiln_new_array(&function->arena, bool, function->n_listed + 1);
    for (uint32_t v = 0; v < options->n_values; v++) {
        const char *name = options->values[v];
        uint32_t i = 0;
        while (i < function->n_listed && (!name || strcmp(function->listed[i].name, name))) i++;
        if (i == function->n_listed)
            kiln_fail(scope, KILN_INVALID, "function options: there is no input %s",
                      name ? name : "NULL");
        is_value[i] = true;
    }
    function->is_value = options->n_values ? is_value : NULL;
}

static void copy_inputs(kiln_scope *scope, kiln_function *function, const char *path)
{
    kiln_arena *arena = &function->arena;
    const kiln_function_input *found = kiln_onnx_list_inputs(scope, path, &function->n_listed);
    function->listed = kiln_new_array(arena, kiln_function_input, function->n_listed + 1);
    for (uint32_t i = 0; i < function->n_listed; i++) {
        kiln_function_input *input = &function->listed[i];
        *input = found[i];
        input->name = kiln_arena_string(arena, found[i].name);
        for (uint32_t k = 0; input->rank != KILN_NONE && k < input->rank; k++)
            input->dim_names[k] = kiln_arena_string(arena, found[i].dim_names[k]);
    }
    function->n_inputs = function->n_listed;
}

static void copy_import(onnx_model *model, const kiln_import_options *import)
{
    kiln_arena *arena = &model->function->arena;
    if (!import || import->struct_bytes < offsetof(kiln_import_options, report)) return;
    model->dims = kiln_new_array(arena, kiln_dim_binding, import->n_dims + 1);
    for (uint32_t i = 0; i < import->n_dims; i++) {
        model->dims[i] = import->dims[i];
        const char *name = import->dims[i].name;
        model->dims[i].name = name ? kiln_arena_string(arena, name) : NULL; /* the import refuses */
    }
    model->n_dims = import->n_dims;
    if (import->struct_bytes < offsetof(kiln_import_options, values)) return;
    model->report = import->report;
    model->report_user = import->report_user;
}

static kiln_function *open_model(kiln_scope *scope, kiln_context *context, const char *path,
                                 const kiln_import_options *import,
                                 const kiln_function_options *options)
{
    kiln_function *function = kiln_function_make(scope, context, options);
    kiln_function_options own = {0};
    if (options) memcpy(&own, options, options->struct_bytes);
    onnx_model *model = kiln_new(&function->arena, onnx_model);
    model->path = kiln_arena_string(&function->arena, path);
    model->function = function;
    copy_inputs(scope, function, path);
    copy_import(model, import);
    if (own.is_batched)
        kiln_fail(scope, KILN_INVALID,
                  "function options: is_batched is for graphs that are built; expected open_dim");
    if (own.open_dim) find_batched(scope, function, own.open_dim);
    find_values(scope, function, &own);
    function->build = build_onnx;
    function->user = model;
    return function;
}

kiln_status kiln_function_open_onnx(kiln_context *context, const char *path,
                                    const kiln_import_options *import,
                                    const kiln_function_options *options,
                                    kiln_function **out_function)
{
    if (!context) return KILN_INVALID;
    kiln_error error = {0};
    kiln_function *volatile function = NULL;
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        if (!path || !out_function)
            kiln_fail(&scope, KILN_INVALID,
                      "kiln_function_open_onnx: path or out_function is NULL");
        kiln_function *made = open_model(&scope, context, path, import, options);
        kiln_scope_keep(&scope, made);
        function = made;
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status) return kiln_context_fail(context, status, "%s", error.message);
    *out_function = kiln_function_start(function);
    return KILN_OK;
}
