/* SafeTensors out: tensors of the caller or constants of a graph -> header and bytes, streamed from
 * where they are. Larger elements come first, so that each tensor is aligned to its own. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/context.h"
#include "graph/describe.h"
#include "graph/io/safetensors.h"
#include "graph/io/write.h"

static int weights_compare(const void *a, const void *b)
{
    const kiln_weight *x = a, *y = b;
    size_t wide = kiln_dtype_bytes(x->type->dtype), other = kiln_dtype_bytes(y->type->dtype);
    return wide != other ? (wide > other ? -1 : 1) : strcmp(x->name, y->name);
}

/* A JSON string: UTF-8 stays, what JSON wants escaped is. */
static void put_string(kiln_text *text, const char *string)
{
    kiln_text_append(text, "\"");
    for (; *string; string++) {
        unsigned char c = (unsigned char)*string;
        if (c < 0x20 || c == '"' || c == '\\') {
            kiln_text_printf(text, "\\u%04x", c);
        } else {
            kiln_text_append_n(text, string, 1);
        }
    }
    kiln_text_append(text, "\"");
}

static void check_weight(kiln_scope *scope, const kiln_weight *weight, const kiln_weight *before)
{
    size_t n = strlen(weight->name);
    for (size_t at = 0; at < n;) {
        size_t length = kiln_utf8_length((const uint8_t *)weight->name + at, n - at);
        if (length == 0)
            kiln_fail(scope, KILN_INVALID, "tensor %s: its name is no UTF-8 text; expected it",
                      kiln_quoted(&scope->arena, weight->name));
        at += length;
    }
    if (n == 0 || strcmp(weight->name, "__metadata__") == 0 ||
        (before && strcmp(weight->name, before->name) == 0))
        kiln_fail(scope, KILN_INVALID,
                  "tensor %s: its name is taken or empty; expected distinct names",
                  kiln_quoted(&scope->arena, weight->name));
    if (!kiln_safetensors_word(weight->type->dtype))
        kiln_fail(scope, KILN_UNSUPPORTED, "tensor %s is %s; expected a dtype of SafeTensors",
                  kiln_quoted(&scope->arena, weight->name),
                  kiln_type_string(&scope->arena, weight->type));
}

static int names_ascend(const void *a, const void *b)
{
    return strcmp((*(const kiln_weight *const *)a)->name, (*(const kiln_weight *const *)b)->name);
}

static void check_weights(kiln_scope *scope, const kiln_weight *weights, uint32_t n)
{
    const kiln_weight **order = kiln_new_array(&scope->arena, const kiln_weight *, n + 1);
    for (uint32_t i = 0; i < n; i++) order[i] = &weights[i];
    if (n) qsort(order, n, sizeof *order, names_ascend);
    for (uint32_t i = 0; i < n; i++) check_weight(scope, order[i], i ? order[i - 1] : NULL);
}

const char *kiln_weights_layout(kiln_scope *scope, kiln_weight *weights, uint32_t n,
                                size_t *out_bytes)
{
    kiln_text text = {.arena = &scope->arena}, whole = {.arena = &scope->arena};
    int64_t at = 0, end;
    check_weights(scope, weights, n);
    if (n) qsort(weights, n, sizeof *weights, weights_compare);
    kiln_text_append(&text, "{");
    for (uint32_t i = 0; i < n; i++) {
        kiln_weight *weight = &weights[i];
        if (!kiln_checked_add(at, weight->type->bytes, &end))
            kiln_fail(scope, KILN_LIMIT, "weights: over 2^63 bytes; expected less");
        if (i) kiln_text_append(&text, ",");
        put_string(&text, weight->name);
        kiln_text_printf(&text, ":{\"dtype\":\"%s\",\"shape\":[",
                         kiln_safetensors_word(weight->type->dtype));
        for (uint32_t k = 0; k < weight->type->rank; k++)
            kiln_text_printf(&text, "%s%" PRId64, k ? "," : "", weight->type->dims[k]);
        kiln_text_printf(&text, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", at, end);
        weight->offset = at;
        at = end;
    }
    kiln_text_append(&text, "}");
    while (text.n % 8) kiln_text_append(&text, " ");
    if (text.n > KILN_SAFETENSORS_MAX_HEADER)
        kiln_fail(scope, KILN_LIMIT, "weights: a header of %zu bytes; expected at most %d", text.n,
                  KILN_SAFETENSORS_MAX_HEADER);
    for (uint32_t i = 0; i < n; i++) weights[i].offset += (int64_t)text.n + 8;
    char head[8];
    for (int i = 0; i < 8; i++) head[i] = (char)((uint64_t)text.n >> 8 * i);
    kiln_text_append_n(&whole, head, 8);
    kiln_text_append_n(&whole, kiln_text_string(&text), text.n);
    *out_bytes = whole.n;
    return kiln_text_string(&whole);
}

kiln_sink *kiln_weights_write(kiln_scope *scope, const char *path, kiln_weight *weights, uint32_t n)
{
    size_t bytes;
    const char *header = kiln_weights_layout(scope, weights, n, &bytes);
    kiln_sink *sink = kiln_sink_open(scope, path);
    kiln_sink_write(sink, header, bytes);
    for (uint32_t i = 0; i < n; i++) kiln_sink_literal(sink, weights[i].type, weights[i].literal);
    return sink;
}

/* Tensors of the caller */

static void take_tensor(kiln_scope *scope, const kiln_named_tensor *named, kiln_weight *weight)
{
    const kiln_tensor *tensor = &named->tensor;
    kiln_type *type = kiln_new(&scope->arena, kiln_type);
    kiln_literal *literal = kiln_new(&scope->arena, kiln_literal);
    int64_t count = 0, bytes = 0;
    const char *name = named->name ? kiln_quoted(&scope->arena, named->name) : "NULL";
    size_t width = kiln_dtype_bytes(tensor->dtype);
    bool is_good = named->name && width && tensor->rank <= KILN_MAX_RANK;
    for (uint32_t i = 0; is_good && i < tensor->rank; i++)
        is_good = tensor->dims && tensor->dims[i] >= 0;
    is_good = is_good && kiln_checked_product(tensor->dims, tensor->rank, &count) &&
              kiln_checked_mul(count, (int64_t)width, &bytes) && (size_t)bytes == tensor->bytes &&
              (bytes == 0 || tensor->data);
    if (!is_good)
        kiln_fail(scope, KILN_INVALID,
                  "tensor %s: dtype %d, rank %u, %zu bytes; expected a name, dims of 0 or more and "
                  "as many bytes as they say",
                  name, (int)tensor->dtype, tensor->rank, tensor->bytes);
    *type = (kiln_type){tensor->dtype, tensor->rank, tensor->dims, count, bytes, 0, NULL};
    *literal = (kiln_literal){KILN_LITERAL_BLOB, tensor->data, bytes};
    *weight = (kiln_weight){named->name, type, literal, 0, 0};
}

kiln_status kiln_write_safetensors(kiln_context *context, const char *path, uint32_t n_tensors,
                                   const kiln_named_tensor *tensors)
{
    if (!context) return KILN_INVALID;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        if (!path || (n_tensors && !tensors))
            kiln_fail(&scope, KILN_INVALID,
                      "kiln_write_safetensors: NULL argument; expected path and tensors");
        kiln_weight *weights = kiln_new_array(&scope.arena, kiln_weight, n_tensors + 1u);
        for (uint32_t i = 0; i < n_tensors; i++) take_tensor(&scope, &tensors[i], &weights[i]);
        kiln_sink_commit(kiln_weights_write(&scope, path, weights, n_tensors));
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status != KILN_OK) kiln_context_fail(context, status, "%s", error.message);
    return status;
}

/* Constants of a graph */

static bool is_taken(const kiln_weight *weights, const kiln_slots *slots, const char *name)
{
    uint64_t hash = kiln_name_hash(name);
    for (uint32_t at = kiln_slots_first(slots, hash), i; (i = kiln_slots_next(slots, hash, &at));) {
        if (strcmp(weights[i - 1].name, name) == 0) return true;
    }
    return strcmp(name, "__metadata__") == 0 || *name == 0;
}

static bool is_text(const char *name)
{
    size_t n = strlen(name), length = 1;
    for (size_t at = 0; at < n && length; at += length)
        length = kiln_utf8_length((const uint8_t *)name + at, n - at);
    return length != 0;
}

uint32_t kiln_weights_collect(kiln_scope *scope, const kiln_graph *graph, int64_t least,
                              kiln_weight **out_weights)
{
    kiln_arena *arena = &scope->arena;
    kiln_weight *weights = kiln_new_array(arena, kiln_weight, graph->nodes.n);
    kiln_slots slots = {0};
    uint32_t n = 0;
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        if (node->op != KILN_OP_constant) continue;
        const kiln_literal *literal = &node->attrs->literal.value;
        bool is_wanted = literal->kind != KILN_LITERAL_SPLAT && node->type->bytes >= least &&
                         kiln_safetensors_word(node->type->dtype);
        if (!is_wanted) continue;
        const char *name = node->label && is_text(node->label)
                               ? node->label
                               : kiln_arena_format(arena, "constant_%u", id);
        while (is_taken(weights, &slots, name)) name = kiln_arena_format(arena, "%s_%u", name, id);
        kiln_slots_reserve(&slots, arena);
        weights[n] = (kiln_weight){name, node->type, literal, 0, id};
        kiln_slots_insert(&slots, kiln_name_hash(name), ++n);
    }
    *out_weights = weights;
    return n;
}

static void write_weights(kiln_weights_plan *plan, const kiln_graph *graph)
{
    kiln_weight *weights;
    uint32_t n = kiln_weights_collect(plan->scope, graph, 0, &weights);
    kiln_sink_commit(kiln_weights_write(plan->scope, plan->path, weights, n));
}

kiln_status kiln_write_weights(const kiln_graph *graph, const char *path)
{
    return kiln_write_model(graph, path, NULL, write_weights);
}
