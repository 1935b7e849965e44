/* The messages of graph.proto -> graphs, through the builder's own checks: operands are ids below
 * the node's own and regions places below the graph's, so that neither can form a cycle, and every
 * type is what the op's rule gives. */
#include <inttypes.h>

#include "base/context.h"
#include "graph/attrs.h"
#include "graph/describe.h"
#include "graph/io/binary.h"
#include "graph/io/graph.pb-c.h"
#include "graph/io/prescan_format.h"
#include "graph/io/sink.h"
#include "kiln/model.h"

typedef struct binary_reader {
    kiln_scope *scope; /* of the node at work */
    kiln_source source;
    const Kiln__Graph__File *file;
    kiln_graph **graphs; /* read so far, all closed */
    uint32_t n_graphs;
    kiln_graph *graph; /* at work */
    kiln_value *map;   /* id in the file -> value */
    const Kiln__Graph__Node *node;
    uint32_t id; /* of the node in the file, from 1 */
} binary_reader;

_Noreturn static void fail_in(const binary_reader *reader, kiln_status status, const char *found)
{
    kiln_fail(reader->scope, status, "%s: graph %u, node %u: %s", reader->source.where,
              reader->n_graphs, reader->id, found);
}

#define FAIL(reader, status, ...)                                                                  \
    fail_in(reader, status, kiln_arena_format(&(reader)->scope->arena, __VA_ARGS__))

static const char *quote(const binary_reader *reader, const char *text)
{
    return kiln_quoted(&reader->scope->arena, text ? text : "");
}

static const kiln_type *tensor_read(const binary_reader *reader, const Kiln__Graph__Type *type)
{
    kiln_dtype dtype = kiln_dtype_parse(type->dtype);
    if (dtype == KILN_NO_DTYPE)
        FAIL(reader, KILN_MODEL, "dtype %s; expected one that this version knows",
             quote(reader, type->dtype));
    if (type->n_dims > KILN_MAX_RANK)
        FAIL(reader, KILN_LIMIT, "rank %zu; expected at most %d", type->n_dims, KILN_MAX_RANK);
    return kiln_graph_tensor(reader->graph, dtype, (uint32_t)type->n_dims, type->dims);
}

static const kiln_type *type_read(const binary_reader *reader)
{
    const Kiln__Graph__Type *type = reader->node->type;
    if (!type) FAIL(reader, KILN_MODEL, "no type; expected one");
    if (!type->n_item) return tensor_read(reader, type);
    const kiln_type **items =
        kiln_new_array(&reader->scope->arena, const kiln_type *, type->n_item);
    for (size_t i = 0; i < type->n_item; i++) items[i] = tensor_read(reader, type->item[i]);
    return kiln_graph_tuple(reader->graph, (uint32_t)type->n_item, items);
}

/* Literals */

static void elements_read(const binary_reader *reader, const Kiln__Graph__Literal *literal,
                          const kiln_type *type, kiln_literal *out)
{
    bool is_splat = !strcmp(literal->kind, "splat");
    if (!is_splat && strcmp(literal->kind, "bytes"))
        FAIL(reader, KILN_MODEL, "a literal of kind %s; expected splat, bytes or blob",
             quote(reader, literal->kind));
    *out = (kiln_literal){is_splat ? KILN_LITERAL_SPLAT : KILN_LITERAL_BYTES,
                          literal->elements.data, (int64_t)literal->elements.len};
    int64_t wanted = is_splat ? (int64_t)kiln_dtype_bytes(type->dtype) : type->bytes;
    if (out->bytes != wanted || out->bytes > KILN_LITERAL_BYTES_MAX)
        FAIL(reader, KILN_MODEL, "%" PRId64 " bytes of elements; expected %" PRId64 ", at most %d",
             out->bytes, wanted, KILN_LITERAL_BYTES_MAX);
    uint8_t *at = kiln_arena_copy(&reader->scope->arena, out->data, (size_t)out->bytes);
    for (int64_t i = 0; type->dtype == KILN_bool && i < out->bytes; i++) at[i] = at[i] != 0;
    out->data = at;
}

/* A stretch of this file, or of one beside it. */
static void blob_read(const binary_reader *reader, const Kiln__Graph__Literal *literal,
                      const kiln_type *type, kiln_literal *out)
{
    *out = (kiln_literal){.kind = KILN_LITERAL_FILE, .file = reader->source.path};
    if (literal->has_blob_bytes) {
        out->offset = (int64_t)literal->blob_offset;
        out->bytes = (int64_t)literal->blob_bytes;
        out->stamp = reader->source.stamp;
    } else {
        const char *name = literal->file ? literal->file : "";
        if (!kiln_path_is_inside(name))
            FAIL(reader, KILN_MODEL,
                 "file %s leaves the folder of the graph; expected a relative "
                 "path in it",
                 quote(reader, name));
        const char *slash = strrchr(reader->source.path, '/');
        kiln_source beside;
        out->file =
            kiln_arena_format(&reader->graph->arena, "%.*s/%s", (int)(slash - reader->source.path),
                              reader->source.path, name);
        kiln_source_open(&beside, reader->scope, out->file);
        out->offset = literal->offset;
        out->bytes = literal->size;
        out->stamp = beside.stamp;
        if (out->offset < 0 || out->bytes < 0 || out->offset > beside.bytes - out->bytes)
            FAIL(reader, KILN_MODEL,
                 "file %s: offset %" PRId64 " + %" PRId64 " > %" PRId64
                 "; expected to stay within it",
                 quote(reader, name), out->offset, out->bytes, beside.bytes);
    }
    if (out->bytes != type->bytes)
        FAIL(reader, KILN_MODEL, "a blob of %" PRId64 " bytes; expected %" PRId64, out->bytes,
             type->bytes);
}

/* Fields */

static kiln_regions regions_read(const binary_reader *reader, const Kiln__Graph__Field *field)
{
    const kiln_graph **regions =
        kiln_new_array(&reader->scope->arena, const kiln_graph *, field->n_regions + 1);
    for (size_t i = 0; i < field->n_regions; i++) {
        if (field->regions[i] < 0 || field->regions[i] >= reader->n_graphs)
            FAIL(reader, KILN_MODEL, "region %" PRId64 "; expected a graph before this one",
                 field->regions[i]);
        regions[i] = reader->graphs[field->regions[i]];
    }
    return (kiln_regions){(uint32_t)field->n_regions, regions};
}

static void field_read(const binary_reader *reader, const Kiln__Graph__Field *field,
                       const kiln_field_row *row, kiln_attrs *attrs)
{
    void *at = (char *)attrs + row->offset;
    bool is_there = true;
    switch (row->kind) {
    case KILN_FIELD_KIND_INT:
    case KILN_FIELD_KIND_CHOICE:
        is_there = field->has_number;
        *(int64_t *)at = field->number;
        break;
    case KILN_FIELD_KIND_BOOL:
        is_there = field->has_number;
        *(bool *)at = field->number != 0;
        break;
    case KILN_FIELD_KIND_INTS:
        *(kiln_ints *)at = (kiln_ints){(uint32_t)field->n_numbers, field->numbers};
        break;
    case KILN_FIELD_KIND_FLOAT:
        is_there = field->has_bits;
        memcpy(at, &field->bits, sizeof field->bits);
        break;
    case KILN_FIELD_KIND_DTYPE:
        *(kiln_dtype *)at = kiln_dtype_parse(field->dtype);
        is_there = *(kiln_dtype *)at != KILN_NO_DTYPE;
        break;
    case KILN_FIELD_KIND_STRING:
        *(const char **)at = field->dtype;
        is_there = field->dtype != NULL;
        break;
    case KILN_FIELD_KIND_LITERAL:
        is_there = field->literal && field->literal->kind;
        if (!is_there) break;
        if (strcmp(field->literal->kind, "blob")) {
            elements_read(reader, field->literal, type_read(reader), at);
        } else {
            blob_read(reader, field->literal, type_read(reader), at);
        }
        break;
    case KILN_FIELD_KIND_REGIONS:
        *(kiln_regions *)at = regions_read(reader, field);
        break;
    }
    if (!is_there) FAIL(reader, KILN_MODEL, "field %s has no value", quote(reader, field->name));
}

static void attrs_read(const binary_reader *reader, kiln_attrs *attrs)
{
    const kiln_family_row *family = kiln_family_fields(attrs->family);
    uint32_t seen = 0;
    for (size_t i = 0; i < reader->node->n_fields; i++) {
        const Kiln__Graph__Field *field = reader->node->fields[i];
        uint32_t k = 0;
        while (k < family->n_fields &&
               (!field->name || strcmp(field->name, family->fields[k].name)))
            k++;
        if (k == family->n_fields || seen >> k & 1)
            FAIL(reader, KILN_MODEL, "field %s; expected those of family %s once each",
                 quote(reader, field->name), family->name);
        seen |= 1u << k;
        field_read(reader, field, &family->fields[k], attrs);
    }
    for (uint32_t k = 0; k < family->n_fields; k++) {
        if (seen >> k & 1 || family->fields[k].kind == KILN_FIELD_KIND_CHOICE) continue;
        FAIL(reader, KILN_MODEL, "no field %s; expected one", family->fields[k].name);
    }
}

/* Nodes */

static kiln_value node_add(const binary_reader *reader, kiln_op op, const kiln_type *type)
{
    const Kiln__Graph__Node *node = reader->node;
    kiln_attrs attrs = {kiln_op_rows[op].attrs};
    kiln_value *inputs = kiln_new_array(&reader->scope->arena, kiln_value, node->n_operands + 1);
    for (size_t i = 0; i < node->n_operands; i++) {
        if (node->operands[i] < 1 || node->operands[i] >= reader->id)
            FAIL(reader, KILN_MODEL, "operand %zu is node %" PRId64 "; expected one from 1 to %u",
                 i, node->operands[i], reader->id - 1);
        inputs[i] = reader->map[node->operands[i]];
    }
    attrs_read(reader, &attrs);
    if (op == KILN_OP_input)
        return kiln_add_input(reader->graph, type, node->label ? node->label : "",
                              attrs.input.donated);
    if (op == KILN_OP_constant) return kiln_add_literal(reader->graph, type, &attrs.literal.value);
    kiln_node_spec spec = {.op = op, .inputs = inputs, .n_inputs = (uint32_t)node->n_operands};
    if (attrs.family) spec.attrs = &attrs;
    if (kiln_op_rows[op].result == KILN_RESULT_GIVEN) spec.given = type;
    return kiln_graph_add(reader->graph, &spec);
}

static void node_read(binary_reader *reader)
{
    const char *name = reader->node->op ? reader->node->op : "";
    kiln_op op = kiln_op_find(name, strlen(name));
    if (op == KILN_OP_none)
        FAIL(reader, KILN_UNSUPPORTED, "operation %s; expected one that this version knows",
             quote(reader, name));
    const kiln_type *type = type_read(reader);
    kiln_value value = node_add(reader, op, type);
    kiln_node *made = reader->graph->nodes.at[value.id];
    if (made->type != type)
        FAIL(reader, KILN_MODEL, "%s gives %s; the file says %s", name,
             kiln_type_string(&reader->scope->arena, made->type),
             kiln_type_string(&reader->scope->arena, type));
    if (reader->node->label && !made->label)
        made->label = kiln_arena_string(&reader->graph->arena, reader->node->label);
    reader->map[reader->id] = value;
}

static kiln_value port_read(const binary_reader *reader, int64_t id, size_t n)
{
    if (id < 1 || (size_t)id > n)
        FAIL(reader, KILN_MODEL,
             "an output or check of node %" PRId64 "; expected one from 1 to "
             "%zu",
             id, n);
    return reader->map[id];
}

static void count_read(binary_reader *reader, const Kiln__Graph__Output *output, uint32_t at,
                       uint32_t n)
{
    if (!output->has_counted_by) return;
    uint32_t rank = kiln_graph_type(reader->graph, reader->graph->outputs.at[at].value)->rank;
    if (output->counted_by < 0 || output->counted_by >= n || output->counted_axis < 0 ||
        output->counted_axis >= rank)
        FAIL(reader, KILN_MODEL,
             "output %u is counted along axis %lld by output %lld; expected an axis and an output",
             at, (long long)output->counted_axis, (long long)output->counted_by);
    kiln_count_output(reader->graph, at, (uint32_t)output->counted_axis,
                      (uint32_t)output->counted_by);
}

static void graph_body(binary_reader *reader, const Kiln__Graph__Graph *graph)
{
    size_t n = graph->n_node;
    reader->map = kiln_new_array(&reader->scope->arena, kiln_value, n + 1);
    for (size_t i = 0; i < n; i++) {
        reader->id = (uint32_t)i + 1;
        reader->node = graph->node[i];
        node_read(reader);
    }
    for (size_t i = 0; i < graph->n_check; i++) {
        const Kiln__Graph__Check *check = graph->check[i];
        kiln_add_check(reader->graph, port_read(reader, check->value, n),
                       check->sentence ? check->sentence : "");
    }
    for (size_t i = 0; i < graph->n_output; i++) {
        const Kiln__Graph__Output *output = graph->output[i];
        kiln_add_output(reader->graph, port_read(reader, output->value, n), output->name);
        count_read(reader, output, (uint32_t)i, (uint32_t)graph->n_output);
    }
    if (graph->n_output == 0) FAIL(reader, KILN_MODEL, "no outputs; expected at least one");
}

/* A mistake that the builder finds is one of the file. */
static kiln_graph *graph_read(binary_reader *reader, kiln_scope *outer, kiln_context *context,
                              const Kiln__Graph__Graph *graph)
{
    kiln_error *error = kiln_new(&outer->arena, kiln_error);
    kiln_scope scope;
    reader->graph = kiln_graph_open(outer, context, graph->name ? graph->name : "graph");
    reader->id = 0;
    kiln_scope_open(&scope, error);
    reader->scope = &scope;
    kiln_graph_attach(reader->graph, &scope);
    if (kiln_scope_try(&scope)) graph_body(reader, graph);
    kiln_graph_attach(reader->graph, outer);
    reader->scope = outer;
    kiln_status status = kiln_scope_close(&scope);
    if (status == KILN_INVALID) FAIL(reader, KILN_MODEL, "%s", error->message);
    if (status != KILN_OK) kiln_fail_with(outer, error);
    return reader->graph;
}

static kiln_graph *file_read(kiln_scope *scope, kiln_context *context, const char *path)
{
    binary_reader *reader = kiln_new(&scope->arena, binary_reader);
    reader->scope = scope;
    kiln_source_open(&reader->source, scope, path);
    const Kiln__Graph__File *file =
        kiln_proto_unpack(&reader->source, &kiln_scan_own, &kiln__graph__file__descriptor);
    if (!file->magic || strcmp(file->magic, KILN_BINARY_MAGIC))
        kiln_fail(scope, KILN_MODEL, "%s: not a binary Kiln graph; expected its magic", path);
    if (file->oldest_reader > KILN_BINARY_VERSION || file->oldest_reader < 1)
        kiln_fail(scope, KILN_ABI,
                  "%s: version %" PRId64 " wants a reader of version %" PRId64
                  "; this one has version %d",
                  path, file->version, file->oldest_reader, KILN_BINARY_VERSION);
    if (file->n_graph == 0)
        kiln_fail(scope, KILN_MODEL, "%s: no graph in the file; expected one", path);
    reader->graphs = kiln_new_array(&scope->arena, kiln_graph *, file->n_graph);
    for (size_t i = 0; i < file->n_graph; i++) {
        kiln_graph *graph = graph_read(reader, scope, context, file->graph[i]);
        if (i + 1 < file->n_graph) kiln_region_close(scope, graph);
        reader->graphs[reader->n_graphs++] = graph;
    }
    return reader->graphs[file->n_graph - 1];
}

kiln_status kiln_read_binary(kiln_context *context, const char *path, kiln_graph **out_graph)
{
    if (!context) return KILN_INVALID;
    kiln_error error = {0};
    kiln_graph *volatile graph = NULL;
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        if (!path || !out_graph)
            kiln_fail(&scope, KILN_INVALID,
                      "kiln_read_binary: NULL argument; expected path and out_graph");
        graph = file_read(&scope, context, path);
        kiln_scope_keep(&scope, graph);
        kiln_graph_attach(graph, NULL);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status != KILN_OK) return kiln_context_fail(context, status, "%s", error.message);
    *out_graph = graph;
    return KILN_OK;
}
