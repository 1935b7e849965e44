/* An ONNX file -> a kiln graph: scan and unpack (prescan.c, unpack.c), then operator sets, inputs,
 * initializers, nodes in order, outputs. Nodes that cannot be imported taint what they make, the
 * rest goes on, and all of them are reported together. */
#include "graph/io/onnx_extent.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/context.h"

static void opsets_check(kiln_onnx *onnx)
{
    onnx->opset = kiln_onnx_opset(onnx, NULL, "");
    if (onnx->model->n_opset_import == 0)
        kiln_fail(onnx->scope, KILN_MODEL, "%s: no opset_import; expected operator set %d to %d",
                  onnx->source->where, KILN_ONNX_MIN_OPSET, KILN_ONNX_MAX_OPSET);
    if (onnx->opset && (onnx->opset < KILN_ONNX_MIN_OPSET || onnx->opset > KILN_ONNX_MAX_OPSET))
        kiln_fail(onnx->scope, KILN_UNSUPPORTED, "%s: opset %" PRId64 "; expected %d to %d",
                  onnx->source->where, onnx->opset, KILN_ONNX_MIN_OPSET, KILN_ONNX_MAX_OPSET);
}

/* Inputs */

static const kiln_shape_binding *shape_bound(const kiln_onnx *onnx, const char *input)
{
    const kiln_import_options *options = onnx->options;
    for (uint32_t i = 0; options && i < options->n_shapes; i++) {
        if (!strcmp(options->shapes[i].input, input)) return &options->shapes[i];
    }
    return NULL;
}

static int64_t dim_bound(kiln_onnx *onnx, const char *name)
{
    const kiln_import_options *options = onnx->options;
    for (uint32_t i = 0; options && i < options->n_dims; i++) {
        if (strcmp(options->dims[i].name, name)) continue;
        onnx->is_dim_used[i] = true;
        return options->dims[i].size;
    }
    return -1;
}

/* A dim of an input: the file's number or what binds it, the input's shape, its name or
 * "INPUT:AXIS", which must agree; -1 when there is none. */
static int64_t dim_resolve(kiln_onnx *onnx, const char *input, uint32_t axis,
                           const Kiln__Onnx__Dim *dim)
{
    const kiln_shape_binding *shape = shape_bound(onnx, input);
    const char *place = kiln_arena_format(&onnx->scope->arena, "%s:%u", input, axis);
    int64_t sizes[] = {
        dim->has_value ? dim->value : -1,
        shape ? shape->dims[axis] : -1,
        dim->param && *dim->param ? dim_bound(onnx, dim->param) : -1,
        dim_bound(onnx, place),
    };
    int64_t found = -1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (sizes[i] < 0) continue;
        if (found >= 0 && sizes[i] != found)
            kiln_fail(onnx->scope, KILN_INVALID,
                      "input %s: dim %u is bound to %" PRId64 "; expected %" PRId64,
                      kiln_onnx_quote(&onnx->scope->arena, input), axis, sizes[i], found);
        found = sizes[i];
    }
    return found;
}

static const char *dim_name(kiln_onnx *onnx, const char *input, uint32_t axis,
                            const Kiln__Onnx__Dim *dim)
{
    if (dim->param && *dim->param && strcmp(dim->param, "?")) return dim->param;
    return kiln_arena_format(&onnx->scope->arena, "%s:%u", input, axis);
}

static const Kiln__Onnx__TensorType *tensor_type(kiln_onnx *onnx, const Kiln__Onnx__Value *value,
                                                 const char *kind)
{
    const char *name = kiln_onnx_quote(&onnx->scope->arena, value->name ? value->name : "");
    if (!value->type || !value->type->tensor)
        kiln_fail(onnx->scope, value->type ? KILN_UNSUPPORTED : KILN_MODEL,
                  "%s: %s %s has no tensor type; expected a tensor", onnx->source->where, kind,
                  name);
    return value->type->tensor;
}

/* Notes the value that the caller fixed for this input, if any. */
static void value_bind(kiln_onnx *onnx, const char *name, kiln_value input)
{
    const kiln_type *type = kiln_graph_type(onnx->graph, input);
    for (uint32_t i = 0; i < onnx->options->n_values; i++) {
        const kiln_value_binding *given = &onnx->options->values[i];
        if (strcmp(given->input, name)) continue;
        bool is_same = given->value.dtype == type->dtype && given->value.rank == type->rank &&
                       (int64_t)given->value.bytes == type->bytes && given->value.data;
        for (uint32_t k = 0; is_same && k < type->rank; k++)
            is_same = given->value.dims[k] == type->dims[k];
        if (!is_same)
            kiln_fail(onnx->scope, KILN_INVALID,
                      "input %s: bound to a value of another type; expected that of the input",
                      kiln_onnx_quote(&onnx->scope->arena, name));
        onnx->bound[i].id = input.id;
        onnx->bound[i].data =
            kiln_arena_copy(&onnx->scope->arena, given->value.data, given->value.bytes);
    }
}

static void input_import(kiln_onnx *onnx, kiln_onnx_frame *frame, uint32_t index,
                         kiln_text *unbound)
{
    const Kiln__Onnx__Value *value = onnx->model->graph->input[index];
    const char *name = value->name ? value->name : "";
    const Kiln__Onnx__TensorType *given = tensor_type(onnx, value, "input");
    kiln_arena *arena = &onnx->scope->arena;
    const char *where =
        kiln_arena_format(arena, "%s: input %s", onnx->source->where, kiln_onnx_quote(arena, name));
    bool is_scale = given->elem_type == KILN_ONNX_E8M0;
    kiln_dtype dtype = is_scale ? KILN_u8 : kiln_onnx_dtype(onnx, given->elem_type, where);
    const kiln_shape_binding *shape = shape_bound(onnx, name);
    size_t rank = given->shape ? given->shape->n_dim : shape ? shape->rank : 0;
    if (!given->shape && !shape)
        kiln_fail(onnx->scope, KILN_INVALID, "%s: no shape in the file; expected one that is bound",
                  where);
    if (rank > KILN_MAX_RANK)
        kiln_fail(onnx->scope, KILN_LIMIT, "%s: rank %zu; expected at most %d", where, rank,
                  KILN_MAX_RANK);
    if (shape && shape->rank != rank)
        kiln_fail(onnx->scope, KILN_INVALID, "%s: bound to rank %u; expected rank %zu", where,
                  shape->rank, rank);
    int64_t dims[KILN_MAX_RANK];
    bool is_bound = true;
    for (uint32_t axis = 0; axis < rank; axis++) {
        Kiln__Onnx__Dim open = KILN__ONNX__DIM__INIT;
        const Kiln__Onnx__Dim *dim = given->shape ? given->shape->dim[axis] : &open;
        dims[axis] = dim_resolve(onnx, name, axis, dim);
        if (dims[axis] >= 0) continue;
        is_bound = false;
        kiln_text_printf(unbound, "%s%s of input %s", unbound->n ? ", " : "",
                         kiln_onnx_quote(arena, dim_name(onnx, name, axis, dim)),
                         kiln_onnx_quote(arena, name));
    }
    if (!is_bound) return;
    int64_t count;
    if (!*name || !kiln_checked_product(dims, (uint32_t)rank, &count) || count > KILN_MAX_ELEMENTS)
        kiln_fail(onnx->scope, KILN_MODEL,
                  "%s: no name, or an element count that overflows; expected both in range", where);
    kiln_onnx_name *made =
        kiln_onnx_name_add(onnx, frame, &(kiln_onnx_name){.name = name, .index = index});
    const kiln_type *type = kiln_graph_tensor(onnx->graph, dtype, (uint32_t)rank, dims);
    made->value = kiln_add_input(onnx->graph, type, name, false);
    if (is_scale) kiln_onnx_scale_note(onnx, made->value);
    value_bind(onnx, name, made->value);
}

static void inputs_import(kiln_onnx *onnx, kiln_onnx_frame *frame)
{
    const Kiln__Onnx__Graph *graph = onnx->model->graph;
    kiln_text unbound = {.arena = &onnx->scope->arena};
    for (size_t i = 0; i < graph->n_input; i++) {
        const char *name = graph->input[i]->name ? graph->input[i]->name : "";
        kiln_onnx_name *found = kiln_onnx_name_find(frame, name);
        /* before IR version 4 every initializer is an input too */
        if (found && found->origin == KILN_ONNX_INITIALIZER) continue;
        input_import(onnx, frame, (uint32_t)i, &unbound);
    }
    if (unbound.n)
        kiln_fail(onnx->scope, KILN_INVALID,
                  "%s: unbound dims: %s; expected a size for each "
                  "(--dim NAME=SIZE)",
                  onnx->source->where, kiln_text_string(&unbound));
    for (uint32_t i = 0; i < onnx->options->n_dims; i++) {
        if (onnx->is_dim_used[i]) continue;
        kiln_fail(onnx->scope, KILN_INVALID, "%s: dim %s is bound; no input has one of that name",
                  onnx->source->where,
                  kiln_onnx_quote(&onnx->scope->arena, onnx->options->dims[i].name));
    }
}

/* The name stays with a weight, into profiles and the files that the graph is written to. */
static void weight_label(kiln_onnx *onnx, kiln_value value, const char *name)
{
    kiln_node *node = onnx->graph->nodes.at[value.id];
    bool is_weight = node->op == KILN_OP_constant &&
                     node->attrs->literal.value.kind != KILN_LITERAL_SPLAT;
    if (is_weight && !node->label && *name)
        node->label = kiln_arena_string(&onnx->graph->arena, name);
}

void kiln_onnx_initializers(kiln_onnx *onnx, kiln_onnx_frame *frame, const Kiln__Onnx__Graph *graph)
{
    kiln_arena *arena = &onnx->scope->arena;
    if (graph->n_sparse_initializer)
        kiln_fail(onnx->graph->scope, KILN_UNSUPPORTED,
                  "%s: sparse initializers; expected dense ones", onnx->source->where);
    for (size_t i = 0; i < graph->n_initializer; i++) {
        const Kiln__Onnx__Tensor *tensor = graph->initializer[i];
        const char *name = tensor->name ? tensor->name : "";
        const char *where = kiln_arena_format(arena, "%s: initializer %s", onnx->source->where,
                                              kiln_onnx_quote(arena, name));
        kiln_value value = kiln_onnx_tensor(onnx, tensor, where);
        weight_label(onnx, value, name);
        kiln_onnx_name_add(
            onnx, frame, &(kiln_onnx_name){name, KILN_ONNX_INITIALIZER, (uint32_t)i, value, false});
    }
}

/* Outputs */

static bool is_declared_type(const kiln_type *type, const Kiln__Onnx__TensorType *given,
                             kiln_dtype dtype, const kiln_onnx_extent *extent)
{
    if (type->dtype != dtype) return false;
    if (!given->shape) return true;
    if (given->shape->n_dim != type->rank) return false;
    for (uint32_t i = 0; i < type->rank; i++) {
        const Kiln__Onnx__Dim *dim = given->shape->dim[i];
        if (!dim->has_value || dim->value < 0 || dim->value == type->dims[i]) continue;
        bool is_within = extent && extent->axis == i && dim->value < type->dims[i];
        if (!is_within) return false;
    }
    return true;
}

static void output_import(kiln_onnx *onnx, kiln_onnx_frame *frame, kiln_onnx_frame *outputs,
                          uint32_t index)
{
    kiln_arena *arena = &onnx->scope->arena;
    const Kiln__Onnx__Value *value = onnx->model->graph->output[index];
    const char *name = value->name ? value->name : "";
    const char *where = kiln_arena_format(arena, "%s: output %s", onnx->source->where,
                                          kiln_onnx_quote(arena, name));
    const kiln_onnx_name *found = kiln_onnx_name_find(frame, name);
    if (!found)
        kiln_fail(onnx->scope, KILN_MODEL, "%s: is not defined; expected a node's output", where);
    kiln_onnx_name_add(onnx, outputs,
                       &(kiln_onnx_name){.name = name, .origin = KILN_ONNX_OUTPUT, .index = index});
    if (found->is_tainted) return;
    if (found->value.graph == KILN_ONNX_SEQUENCE)
        kiln_fail(onnx->scope, KILN_UNSUPPORTED, "%s: is a sequence; expected a tensor", where);
    if (value->type && value->type->tensor && value->type->tensor->elem_type) {
        const Kiln__Onnx__TensorType *given = value->type->tensor;
        const kiln_type *type = kiln_graph_type(onnx->graph, found->value);
        kiln_onnx_call call = {.onnx = onnx, .graph = onnx->graph, .scope = onnx->scope};
        const kiln_onnx_extent *extent = kiln_onnx_extent_find(&call, found->value);
        bool is_scale = given->elem_type == KILN_ONNX_E8M0;
        kiln_dtype dtype = is_scale ? KILN_u8 : kiln_onnx_dtype(onnx, given->elem_type, where);
        if (is_scale != kiln_onnx_is_scale(onnx, found->value) ||
            !is_declared_type(type, given, dtype, extent)) {
            kiln_text text = {.arena = arena};
            kiln_text_type(&text, type->dtype, type->rank, type->dims);
            kiln_fail(onnx->scope, KILN_MODEL, "%s: is %s; expected the declared shape and dtype",
                      where, kiln_text_string(&text));
        }
    }
    kiln_add_output(onnx->graph, found->value, name);
}

/* Outputs whose size depends on the data are packed, and counted by further outputs: "NAME.count",
 * one for all that have the same count. */
static void outputs_count(kiln_onnx *onnx)
{
    kiln_graph *graph = onnx->graph;
    kiln_arena *arena = &onnx->scope->arena;
    kiln_onnx_call call = {.onnx = onnx, .graph = graph, .scope = onnx->scope};
    uint32_t n = graph->outputs.n;
    for (uint32_t i = 0; i < n; i++) {
        const kiln_onnx_extent *found = kiln_onnx_extent_find(&call, graph->outputs.at[i].value);
        if (!found) continue;
        kiln_onnx_extent extent = *found;
        uint32_t by = n;
        while (by < graph->outputs.n && graph->outputs.at[by].value.id != extent.count.id) by++;
        if (by == graph->outputs.n) {
            const char *name = kiln_arena_format(arena, "%s.count", graph->outputs.at[i].name);
            kiln_add_output(graph, extent.count, name);
        }
        graph->outputs.at[i].value = kiln_onnx_extent_pack(&call, graph->outputs.at[i].value);
        kiln_count_output(graph, i, extent.axis, by);
    }
}

_Noreturn static void unsupported_fail(kiln_onnx *onnx)
{
    kiln_text text = {.arena = &onnx->scope->arena};
    const kiln_import_options *options = onnx->options;
    uint32_t n_shown = 0;
    for (uint32_t i = 0; i < onnx->unsupported.n; i++) {
        const char *line = onnx->unsupported.at[i];
        if (options && options->report) options->report(options->report_user, line);
        if (text.n + strlen(line) > KILN_MESSAGE_BYTES - 200) continue;
        kiln_text_printf(&text, "\n%s", line);
        n_shown++;
    }
    if (n_shown < onnx->unsupported.n)
        kiln_text_printf(&text, "\nand %u more", onnx->unsupported.n - n_shown);
    kiln_fail(onnx->scope, KILN_UNSUPPORTED, "%s: %u nodes cannot be imported:%s",
              onnx->source->where, onnx->unsupported.n, kiln_text_string(&text));
}

static void model_import(kiln_onnx *onnx)
{
    const Kiln__Onnx__Graph *graph = onnx->model->graph;
    if (!graph)
        kiln_fail(onnx->scope, KILN_MODEL, "%s: no graph in the file; expected an ONNX model",
                  onnx->source->where);
    opsets_check(onnx);
    kiln_onnx_frame *frame = kiln_new(&onnx->scope->arena, kiln_onnx_frame);
    frame->arena = &onnx->scope->arena;
    frame->nodes = graph->node;
    frame->n_nodes = (uint32_t)graph->n_node;
    kiln_onnx_initializers(onnx, frame, graph);
    inputs_import(onnx, frame);
    kiln_onnx_nodes(onnx, frame);
    if (graph->n_output == 0)
        kiln_fail(onnx->scope, KILN_MODEL, "%s: the graph has no outputs; expected at least one",
                  onnx->source->where);
    kiln_onnx_frame *outputs = kiln_new(&onnx->scope->arena, kiln_onnx_frame);
    outputs->arena = &onnx->scope->arena;
    for (uint32_t i = 0; i < graph->n_output; i++) output_import(onnx, frame, outputs, i);
    if (onnx->unsupported.n) unsupported_fail(onnx);
    outputs_count(onnx);
    kiln_onnx_bound_check(onnx);
}

/* Entries */

static void folder_close(void *object)
{
    close(((kiln_onnx *)object)->folder);
}

static void folder_open(kiln_onnx *onnx)
{
    onnx->folder = -1;
    if (!onnx->source->path) return;
    char *path = kiln_arena_string(&onnx->scope->arena, onnx->source->path);
    char *slash = strrchr(path, '/');
    if (slash) *slash = 0;
    onnx->folder_path = path;
    onnx->folder = open(*path ? path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (onnx->folder >= 0) kiln_scope_defer(onnx->scope, folder_close, onnx);
}

static void options_check(kiln_scope *scope, const kiln_import_options *options)
{
    for (uint32_t i = 0; options && i < options->n_dims; i++) {
        const kiln_dim_binding *dim = &options->dims[i];
        if (!dim->name || dim->size < 0)
            kiln_fail(scope, KILN_INVALID,
                      "import options: dim %u has no name or a size below 0; "
                      "expected both",
                      i);
    }
    for (uint32_t i = 0; options && i < options->n_values; i++) {
        if (!options->values[i].input)
            kiln_fail(scope, KILN_INVALID, "import options: value %u has no input name", i);
    }
    for (uint32_t i = 0; options && i < options->n_shapes; i++) {
        const kiln_shape_binding *shape = &options->shapes[i];
        if (!shape->input || shape->rank > KILN_MAX_RANK || (shape->rank && !shape->dims))
            kiln_fail(scope, KILN_INVALID,
                      "import options: shape %u has no input name or a rank over "
                      "%d; expected both in range",
                      i, KILN_MAX_RANK);
        for (uint32_t k = 0; k < shape->rank; k++) {
            if (shape->dims[k] < 0)
                kiln_fail(scope, KILN_INVALID,
                          "import options: shape %u: dim %u is %" PRId64 "; expected 0 or more", i,
                          k, shape->dims[k]);
        }
    }
}

/* Copies the caller's options over defaults, as far as the caller's struct goes. */
static const kiln_import_options *options_take(kiln_scope *scope,
                                               const kiln_import_options *options)
{
    kiln_import_options *own = kiln_new(&scope->arena, kiln_import_options);
    if (!options) return own;
    if (options->struct_bytes < offsetof(kiln_import_options, report) ||
        options->struct_bytes > sizeof *own)
        kiln_fail(scope, KILN_INVALID, "import options: struct_bytes is %zu; expected at most %zu",
                  options->struct_bytes, sizeof *own);
    memcpy(own, options, options->struct_bytes);
    options_check(scope, own);
    return own;
}

typedef struct import_request {
    kiln_context *context;
    const char *path; /* or NULL */
    const void *data;
    size_t bytes;
    const kiln_import_options *options;
} import_request;

static kiln_graph *import_run(kiln_scope *scope, const import_request *request)
{
    kiln_onnx *onnx = kiln_new(&scope->arena, kiln_onnx);
    kiln_source *source = kiln_new(&scope->arena, kiln_source);
    onnx->scope = scope;
    onnx->options = options_take(scope, request->options);
    onnx->bound = kiln_new_array(&scope->arena, kiln_onnx_bound, onnx->options->n_values + 1);
    onnx->is_dim_used = kiln_new_array(&scope->arena, bool, onnx->options->n_dims + 1);
    if (request->path) {
        kiln_source_open(source, scope, request->path);
    } else {
        *source = (kiln_source){scope, "model", NULL, request->data, -1, (int64_t)request->bytes};
    }
    onnx->source = source;
    onnx->model = kiln_onnx_unpack(source);
    onnx->graph = kiln_graph_open(
        scope, request->context,
        onnx->model->graph && onnx->model->graph->name ? onnx->model->graph->name : "model");
    onnx->level = kiln_new(&scope->arena, kiln_onnx_level);
    onnx->level->graph = onnx->graph;
    folder_open(onnx);
    model_import(onnx);
    return onnx->graph;
}

static kiln_status import_entry(const import_request *request, kiln_graph **out_graph)
{
    if (!request->context) return KILN_INVALID;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_graph *volatile graph = NULL;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        if (!out_graph || (!request->path && !request->data))
            kiln_fail(&scope, KILN_INVALID,
                      "kiln_import_onnx: NULL argument; expected model and out_graph");
        graph = import_run(&scope, request);
        kiln_scope_keep(&scope, graph);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status != KILN_OK) return kiln_context_fail(request->context, status, "%s", error.message);
    kiln_graph_attach(graph, NULL);
    *out_graph = graph;
    return KILN_OK;
}

kiln_status kiln_import_onnx(kiln_context *context, const char *path,
                             const kiln_import_options *options, kiln_graph **out_graph)
{
    import_request request = {context, path, NULL, 0, options};
    return import_entry(&request, out_graph);
}

kiln_status kiln_import_onnx_memory(kiln_context *context, const void *data, size_t bytes,
                                    const kiln_import_options *options, kiln_graph **out_graph)
{
    import_request request = {context, NULL, data, bytes, options};
    return import_entry(&request, out_graph);
}
