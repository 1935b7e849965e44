/* Graph -> the messages of graph.proto. Regions come before the graphs that use them, each once.
 * Large constants are streamed into the file, or stand in a SafeTensors file beside it. */
#include <inttypes.h>

#include "graph/attrs.h"
#include "graph/io/binary.h"
#include "graph/io/write.h"

typedef struct binary_writer {
    kiln_arena *arena;
    const kiln_weights_plan *plan;
    kiln_vec(const kiln_graph *) graphs; /* in the order of the file */
} binary_writer;

static int64_t graph_place(const binary_writer *writer, const kiln_graph *graph)
{
    for (uint32_t i = 0; i < writer->graphs.n; i++) {
        if (writer->graphs.at[i] == graph) return i;
    }
    return -1;
}

/* Comes back here for regions of regions: at most KILN_MAX_NESTING deep. */
static void graphs_collect(binary_writer *writer, const kiln_graph *graph)
{
    if (graph_place(writer, graph) >= 0) return;
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        kiln_regions regions = kiln_attrs_regions(graph->nodes.at[id]->attrs);
        for (uint32_t i = 0; i < regions.n; i++) graphs_collect(writer, regions.at[i]);
    }
    kiln_vec_push(&writer->graphs, writer->arena, graph);
}

static kiln_wire type_make(const binary_writer *writer, const kiln_type *type)
{
    kiln_wire wire = kiln_wire_new(writer->arena);
    for (uint32_t i = 0; i < type->n_items; i++) {
        kiln_wire item = kiln_wire_new(writer->arena);
        kiln_wire_string(&item, 1, kiln_dtype_name(type->items[i]->dtype));
        kiln_wire_ints(&item, 2, type->items[i]->rank, type->items[i]->dims);
        kiln_wire_message(&wire, 3, &item);
    }
    if (type->n_items) return wire;
    kiln_wire_string(&wire, 1, kiln_dtype_name(type->dtype));
    kiln_wire_ints(&wire, 2, type->rank, type->dims);
    return wire;
}

static kiln_wire literal_make(const binary_writer *writer, const kiln_node *node, int64_t place)
{
    const kiln_literal *literal = &node->attrs->literal.value;
    kiln_wire wire = kiln_wire_new(writer->arena);
    bool is_splat = literal->kind == KILN_LITERAL_SPLAT;
    if (is_splat || literal->kind == KILN_LITERAL_BYTES) {
        kiln_wire_string(&wire, 1, is_splat ? "splat" : "bytes");
        kiln_wire_bytes(&wire, 2, literal->data, (size_t)literal->bytes);
        return wire;
    }
    kiln_wire_string(&wire, 1, "blob");
    if (place) {
        kiln_wire_string(&wire, 4, writer->plan->name);
        kiln_wire_int(&wire, 5, place);
        kiln_wire_int(&wire, 6, node->type->bytes);
    } else {
        kiln_wire_literal(&wire, 3, node->type, literal);
    }
    return wire;
}

static kiln_wire field_make(const binary_writer *writer, const kiln_node *node,
                            const kiln_field_row *row, int64_t place)
{
    const void *at = kiln_attrs_field(node->attrs, row);
    kiln_wire wire = kiln_wire_new(writer->arena), literal;
    uint64_t bits;
    kiln_wire_string(&wire, 1, row->name);
    switch (row->kind) {
    case KILN_FIELD_KIND_INT:
    case KILN_FIELD_KIND_CHOICE:
        kiln_wire_int(&wire, 2, *(const int64_t *)at);
        break;
    case KILN_FIELD_KIND_BOOL:
        kiln_wire_int(&wire, 2, *(const bool *)at);
        break;
    case KILN_FIELD_KIND_INTS:
        kiln_wire_ints(&wire, 3, ((const kiln_ints *)at)->n, ((const kiln_ints *)at)->at);
        break;
    case KILN_FIELD_KIND_FLOAT:
        memcpy(&bits, at, sizeof bits);
        kiln_wire_fixed64(&wire, 4, bits);
        break;
    case KILN_FIELD_KIND_DTYPE:
        kiln_wire_string(&wire, 5, kiln_dtype_name(*(const kiln_dtype *)at));
        break;
    case KILN_FIELD_KIND_STRING:
        kiln_wire_string(&wire, 5, *(const char *const *)at);
        break;
    case KILN_FIELD_KIND_LITERAL:
        literal = literal_make(writer, node, place);
        kiln_wire_message(&wire, 6, &literal);
        break;
    case KILN_FIELD_KIND_REGIONS: {
        const kiln_regions *regions = at;
        int64_t *places = kiln_new_array(writer->arena, int64_t, regions->n + 1u);
        for (uint32_t i = 0; i < regions->n; i++) places[i] = graph_place(writer, regions->at[i]);
        kiln_wire_ints(&wire, 7, regions->n, places);
        break;
    }
    }
    return wire;
}

static kiln_wire node_make(const binary_writer *writer, const kiln_node *node, int64_t place)
{
    kiln_wire wire = kiln_wire_new(writer->arena), type = type_make(writer, node->type);
    const kiln_family_row *family = kiln_family_fields(kiln_node_row(node)->attrs);
    int64_t *operands = kiln_new_array(writer->arena, int64_t, node->n_inputs + 1u);
    for (uint32_t i = 0; i < node->n_inputs; i++) operands[i] = node->inputs[i].id;
    kiln_wire_string(&wire, 1, kiln_node_row(node)->name);
    kiln_wire_message(&wire, 2, &type);
    if (node->n_inputs) kiln_wire_ints(&wire, 3, node->n_inputs, operands);
    for (uint32_t i = 0; node->attrs && i < family->n_fields; i++) {
        kiln_wire field = field_make(writer, node, &family->fields[i], place);
        kiln_wire_message(&wire, 4, &field);
    }
    if (node->label) kiln_wire_string(&wire, 5, node->label);
    return wire;
}

static kiln_wire graph_make(const binary_writer *writer, const kiln_graph *graph,
                            const int64_t *places)
{
    kiln_wire wire = kiln_wire_new(writer->arena);
    kiln_wire_string(&wire, 1, graph->name);
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        kiln_wire node = node_make(writer, graph->nodes.at[id], places ? places[id] : 0);
        kiln_wire_message(&wire, 2, &node);
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        kiln_wire output = kiln_wire_new(writer->arena);
        const kiln_graph_output *port = &graph->outputs.at[i];
        kiln_wire_int(&output, 1, port->value.id);
        kiln_wire_string(&output, 2, port->name);
        if (port->counted_by != KILN_NOT_COUNTED) {
            kiln_wire_int(&output, 3, port->counted_axis);
            kiln_wire_int(&output, 4, port->counted_by);
        }
        kiln_wire_message(&wire, 3, &output);
    }
    for (uint32_t i = 0; i < graph->checks.n; i++) {
        kiln_wire check = kiln_wire_new(writer->arena);
        kiln_wire_int(&check, 1, graph->checks.at[i].value.id);
        kiln_wire_string(&check, 2, graph->checks.at[i].sentence);
        kiln_wire_message(&wire, 4, &check);
    }
    return wire;
}

static void write_binary(kiln_weights_plan *plan, const kiln_graph *graph)
{
    binary_writer *writer = kiln_new(&plan->scope->arena, binary_writer);
    *writer = (binary_writer){.arena = &plan->scope->arena, .plan = plan};
    kiln_wire file = kiln_wire_new(writer->arena);
    kiln_sink *sink = kiln_sink_open(plan->scope, plan->path);
    plan->least = KILN_LITERAL_BYTES_MAX + 1;
    kiln_weights_place(plan, graph);
    graphs_collect(writer, graph);
    kiln_wire_string(&file, 1, KILN_BINARY_MAGIC);
    kiln_wire_int(&file, 2, KILN_BINARY_VERSION);
    kiln_wire_int(&file, 3, KILN_BINARY_OLDEST_READER);
    for (uint32_t i = 0; i < writer->graphs.n; i++) {
        const kiln_graph *one = writer->graphs.at[i];
        kiln_wire message = graph_make(writer, one, one == graph ? plan->offsets : NULL);
        kiln_wire_message(&file, 4, &message);
    }
    kiln_wire_write(&file, sink);
    kiln_weights_commit(plan);
    kiln_sink_commit(sink);
}

kiln_status kiln_write_binary(const kiln_graph *graph, const char *path,
                              const kiln_write_options *options)
{
    return kiln_write_model(graph, path, options, write_binary);
}
