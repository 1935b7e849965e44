/* What an operator's function sees of its node: operands, attributes, axes, and sentences that the
 * importer completes with the node's name. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "graph/io/onnx_op.h"

const char *kiln_onnx_quote(kiln_arena *arena, const char *name)
{
    kiln_text text = {.arena = arena}, quoted = {.arena = arena};
    size_t n = strlen(name);
    kiln_text_quoted(&quoted, name, n < 80 ? n : 80);
    const char *inner = kiln_text_string(&quoted);
    kiln_text_append(&text, "'");
    kiln_text_append_n(&text, inner + 1, quoted.n - 2);
    kiln_text_append(&text, n < 80 ? "'" : "…'");
    return kiln_text_string(&text);
}

static const char *sentence(kiln_onnx_call *call, const char *format, va_list args)
{
    char *text = kiln_arena_alloc(&call->scope->arena, KILN_MESSAGE_BYTES);
    vsnprintf(text, KILN_MESSAGE_BYTES, format, args);
    return text;
}

void kiln_onnx_fail(kiln_onnx_call *call, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *text = sentence(call, format, args);
    va_end(args);
    kiln_fail(call->scope, KILN_MODEL, "%s", text);
}

void kiln_onnx_refuse(kiln_onnx_call *call, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *text = sentence(call, format, args);
    va_end(args);
    kiln_fail(call->scope, KILN_UNSUPPORTED, "%s", text);
}

void kiln_onnx_count(kiln_onnx_call *call)
{
    if (++call->onnx->n_imported > KILN_ONNX_MAX_NODES)
        kiln_fail(call->scope, KILN_LIMIT, "over %d nodes with unrolled bodies; expected less",
                  KILN_ONNX_MAX_NODES);
}

kiln_value kiln_onnx_operand(kiln_onnx_call *call, uint32_t i)
{
    if (!kiln_onnx_has(call, i))
        kiln_onnx_fail(call, "operand %u is left out; expected a value", i);
    return call->inputs[i];
}

const kiln_type *kiln_onnx_type(kiln_onnx_call *call, uint32_t i)
{
    return kiln_graph_type(call->graph, kiln_onnx_operand(call, i));
}

const kiln_type *kiln_onnx_ranked(kiln_onnx_call *call, uint32_t i, uint32_t least)
{
    const kiln_type *type = kiln_onnx_type(call, i);
    if (type->rank < least)
        kiln_onnx_fail(call, "operand %u has rank %u; expected at least %u", i, type->rank, least);
    return type;
}

bool kiln_onnx_wants(const kiln_onnx_call *call, uint32_t output)
{
    return output < call->node->n_output && call->node->output[output][0];
}

void kiln_onnx_result(kiln_onnx_call *call, uint32_t output, kiln_value value)
{
    if (output < call->n_outputs) call->outputs[output] = value;
}

/* Numbers of AttributeProto.type. */
enum {
    HAS_FLOAT = 1,
    HAS_INT,
    HAS_STRING,
    HAS_TENSOR,
    HAS_GRAPH,
    HAS_FLOATS,
    HAS_INTS,
    HAS_STRINGS
};

static const char *const attribute_types[] = {"none",  "FLOAT",  "INT",  "STRING", "TENSOR",
                                              "GRAPH", "FLOATS", "INTS", "STRINGS"};

static bool is_present(const Kiln__Onnx__Attribute *attribute, int type)
{
    switch (type) {
    case HAS_FLOAT:
        return attribute->has_f;
    case HAS_INT:
        return attribute->has_i;
    case HAS_STRING:
        return attribute->has_s;
    case HAS_TENSOR:
        return attribute->t != NULL;
    case HAS_GRAPH:
        return attribute->g != NULL;
    default:
        return true;
    }
}

static const Kiln__Onnx__Attribute *lookup(const Kiln__Onnx__Node *node, const char *name,
                                           size_t *out_at)
{
    for (size_t i = 0; i < node->n_attribute; i++) {
        if (!node->attribute[i]->name || strcmp(node->attribute[i]->name, name)) continue;
        *out_at = i;
        return node->attribute[i];
    }
    return NULL;
}

/* The attribute, or the one that the caller of this function body gave in its place. */
static const Kiln__Onnx__Attribute *resolve(kiln_onnx_call *call, const char *name)
{
    size_t at;
    const Kiln__Onnx__Attribute *found = lookup(call->node, name, &at);
    if (found) call->read |= (uint64_t)1 << at;
    const kiln_onnx_frame *frame = call->frame;
    while (found && found->ref_attr_name && *found->ref_attr_name) {
        while (frame && !frame->function) frame = frame->parent;
        if (!frame)
            kiln_onnx_fail(call, "attribute '%s' refers to one of a function; expected a value",
                           name);
        const char *outer = found->ref_attr_name;
        found = lookup(frame->function->node, outer, &at);
        for (size_t i = 0; !found && i < frame->body->n_attribute_proto; i++) {
            const Kiln__Onnx__Attribute *fallback = frame->body->attribute_proto[i];
            if (fallback->name && !strcmp(fallback->name, outer)) found = fallback;
        }
        frame = frame->function->frame;
    }
    return found;
}

static const Kiln__Onnx__Attribute *find(kiln_onnx_call *call, const char *name, int type)
{
    const Kiln__Onnx__Attribute *found = resolve(call, name);
    if (!found) return NULL;
    int given = found->has_type ? found->type : type;
    if (given != type || !is_present(found, type))
        kiln_onnx_fail(call, "attr '%s' is of type %s; expected %s", name,
                       given > 0 && given < 9 ? attribute_types[given] : "unknown",
                       attribute_types[type]);
    return found;
}

bool kiln_onnx_has_attribute(kiln_onnx_call *call, const char *name)
{
    return resolve(call, name) != NULL;
}

void kiln_onnx_ignore(kiln_onnx_call *call, const char *name)
{
    resolve(call, name);
}

int64_t kiln_onnx_int(kiln_onnx_call *call, const char *name, int64_t fallback)
{
    const Kiln__Onnx__Attribute *found = find(call, name, HAS_INT);
    return found ? found->i : fallback;
}

bool kiln_onnx_flag(kiln_onnx_call *call, const char *name, bool fallback)
{
    int64_t value = kiln_onnx_int(call, name, fallback);
    if (value != 0 && value != 1)
        kiln_onnx_fail(call, "attr '%s' is %" PRId64 "; expected 0 or 1", name, value);
    return value;
}

double kiln_onnx_float(kiln_onnx_call *call, const char *name, double fallback)
{
    const Kiln__Onnx__Attribute *found = find(call, name, HAS_FLOAT);
    return found ? (double)found->f : fallback;
}

static const char *text_of(kiln_onnx_call *call, const ProtobufCBinaryData *data)
{
    char *text = kiln_arena_alloc(&call->scope->arena, data->len + 1);
    if (data->len) memcpy(text, data->data, data->len);
    return text;
}

const char *kiln_onnx_string(kiln_onnx_call *call, const char *name, const char *fallback)
{
    const Kiln__Onnx__Attribute *found = find(call, name, HAS_STRING);
    return found ? text_of(call, &found->s) : fallback;
}

uint32_t kiln_onnx_strings(kiln_onnx_call *call, const char *name, const char **out, uint32_t at)
{
    const Kiln__Onnx__Attribute *found = find(call, name, HAS_STRINGS);
    if (found && out && at < found->n_strings) *out = text_of(call, &found->strings[at]);
    return found ? (uint32_t)found->n_strings : 0;
}

bool kiln_onnx_ints(kiln_onnx_call *call, const char *name, kiln_ints *out_ints)
{
    const Kiln__Onnx__Attribute *found = find(call, name, HAS_INTS);
    *out_ints = (kiln_ints){0};
    if (found) *out_ints = (kiln_ints){(uint32_t)found->n_ints, found->ints};
    return found != NULL;
}

bool kiln_onnx_floats(kiln_onnx_call *call, const char *name, uint32_t *out_n, const float **out)
{
    const Kiln__Onnx__Attribute *found = find(call, name, HAS_FLOATS);
    if (!found) return false;
    *out_n = (uint32_t)found->n_floats;
    *out = found->floats;
    return true;
}

const Kiln__Onnx__Tensor *kiln_onnx_tensor_attribute(kiln_onnx_call *call, const char *name)
{
    const Kiln__Onnx__Attribute *found = find(call, name, HAS_TENSOR);
    return found ? found->t : NULL;
}

const Kiln__Onnx__Graph *kiln_onnx_graph_attribute(kiln_onnx_call *call, const char *name)
{
    const Kiln__Onnx__Attribute *found = find(call, name, HAS_GRAPH);
    return found ? found->g : NULL;
}

uint32_t kiln_onnx_axis(kiln_onnx_call *call, int64_t axis, uint32_t rank)
{
    if (axis < -(int64_t)rank || axis >= (int64_t)rank)
        kiln_onnx_fail(call, "axis %" PRId64 " of rank %u; expected one in [-%u, %u)", axis, rank,
                       rank, rank);
    return (uint32_t)(axis < 0 ? axis + rank : axis);
}

kiln_ints kiln_onnx_axes(kiln_onnx_call *call, kiln_ints axes, uint32_t rank)
{
    bool has[KILN_MAX_RANK * 2] = {0};
    int64_t *sorted = kiln_onnx_dims(call, axes.n);
    uint32_t n = 0;
    for (uint32_t i = 0; i < axes.n; i++) {
        uint32_t axis = kiln_onnx_axis(call, axes.at[i], rank);
        if (has[axis]) kiln_onnx_fail(call, "axis %u stands twice; expected distinct axes", axis);
        has[axis] = true;
    }
    for (uint32_t axis = 0; axis < rank; axis++) {
        if (has[axis]) sorted[n++] = axis;
    }
    return (kiln_ints){n, sorted};
}
