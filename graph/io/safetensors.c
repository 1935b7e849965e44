/* SafeTensors in: a file -> a checked table of tensors -> constants that are stretches of it. The
 * tensors' bytes must cover the data exactly, so that no byte of the file is unaccounted for. */
#include "graph/io/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/context.h"
#include "graph/builder.h"
#include "graph/describe.h"

static const struct {
    const char *word;
    kiln_dtype dtype;
} words[] = {
    {"BOOL", KILN_bool},      {"I8", KILN_i8},     {"U8", KILN_u8},
    {"I16", KILN_i16},        {"U16", KILN_u16},   {"I32", KILN_i32},
    {"U32", KILN_u32},        {"I64", KILN_i64},   {"U64", KILN_u64},
    {"F16", KILN_f16},        {"BF16", KILN_bf16}, {"F32", KILN_f32},
    {"F64", KILN_f64},        {"C64", KILN_c64},   {"F8_E4M3", KILN_f8e4m3fn},
    {"F8_E5M2", KILN_f8e5m2}, {"F8_E8M0", 0},      {"F4", 0},
    {"F6_E2M3", 0},           {"F6_E3M2", 0},
};

const char *kiln_safetensors_word(kiln_dtype dtype)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (words[i].dtype == dtype && dtype != KILN_NO_DTYPE) return words[i].word;
    }
    return NULL;
}

kiln_dtype kiln_safetensors_dtype(const char *word, bool *out_is_known)
{
    *out_is_known = false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i].word, word)) continue;
        *out_is_known = true;
        return words[i].dtype;
    }
    return KILN_NO_DTYPE;
}

int64_t kiln_safetensors_index(const kiln_safetensors *file, const char *name)
{
    uint64_t hash = kiln_name_hash(name);
    for (uint32_t at = kiln_slots_first(&file->slots, hash), i;
         (i = kiln_slots_next(&file->slots, hash, &at));) {
        if (strcmp(file->tensors[i - 1].name, name) == 0) return i - 1;
    }
    return -1;
}

/* Opening */

static int places_ascend(const void *a, const void *b)
{
    const kiln_safetensor *x = *(const kiln_safetensor *const *)a,
                          *y = *(const kiln_safetensor *const *)b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return x < y ? -1 : x > y;
}

static const char *range_string(kiln_scope *scope, const kiln_safetensor *tensor)
{
    const char *name = kiln_quoted(&scope->arena, tensor->name);
    if (strlen(name) > 96) name = kiln_arena_format(&scope->arena, "%.90s…\"", name);
    return kiln_arena_format(&scope->arena, "tensor %s at %" PRId64 " to %" PRId64, name,
                             tensor->offset, tensor->offset + tensor->bytes);
}

/* Tensors in order of their place follow each other from 0 to the end of the data. */
static void check_places(kiln_safetensors *file, kiln_safetensor **order, int64_t data_bytes)
{
    kiln_scope *scope = file->source.scope;
    const char *where = file->source.where, *expected = "expected data without gaps or overlaps";
    int64_t end = 0;
    for (uint32_t i = 0; i < file->n; i++) {
        const kiln_safetensor *tensor = order[i], *before = i ? order[i - 1] : NULL;
        if (tensor->offset < end)
            kiln_fail(scope, KILN_MODEL, "%s: %s overlaps %s; %s", where,
                      range_string(scope, tensor), range_string(scope, before), expected);
        if (tensor->offset > end)
            kiln_fail(scope, KILN_MODEL, "%s: a hole before %s, after %s; %s", where,
                      range_string(scope, tensor),
                      before ? range_string(scope, before) : "the header", expected);
        end = tensor->offset + tensor->bytes;
    }
    if (end > data_bytes)
        kiln_fail(scope, KILN_MODEL, "%s: %s, but the data has %" PRId64 " bytes; %s", where,
                  range_string(scope, order[file->n - 1]), data_bytes, "expected a complete file");
    if (end < data_bytes)
        kiln_fail(scope, KILN_MODEL,
                  "%s: %" PRId64 " bytes after the last tensor, which ends at %" PRId64 "; %s",
                  where, data_bytes - end, end, expected);
}

/* Checks places, puts the tensors in their order and counts offsets from the file's start. */
static void settle_places(kiln_safetensors *file, int64_t data_from)
{
    kiln_arena *arena = &file->source.scope->arena;
    kiln_safetensor **order = kiln_new_array(arena, kiln_safetensor *, file->n + 1);
    for (uint32_t i = 0; i < file->n; i++) order[i] = &file->tensors[i];
    if (file->n) qsort(order, file->n, sizeof *order, places_ascend);
    check_places(file, order, file->source.bytes - data_from);
    kiln_safetensor *sorted = kiln_new_array(&file->arena, kiln_safetensor, file->n + 1);
    file->slots = (kiln_slots){0};
    for (uint32_t i = 0; i < file->n; i++) {
        sorted[i] = *order[i];
        sorted[i].offset += data_from;
        kiln_slots_reserve(&file->slots, &file->arena);
        kiln_slots_insert(&file->slots, kiln_name_hash(sorted[i].name), i + 1);
    }
    file->tensors = sorted;
}

static void read_header(kiln_safetensors *file)
{
    kiln_source *source = &file->source;
    uint8_t head[8];
    uint64_t length = 0;
    if (source->bytes < 8)
        kiln_fail(source->scope, KILN_MODEL,
                  "%s: a file of %" PRId64 " bytes; expected the 8 bytes of a header length",
                  source->where, source->bytes);
    kiln_source_read(source, 0, 8, head);
    for (int i = 0; i < 8; i++) length |= (uint64_t)head[i] << 8 * i;
    if (length > (uint64_t)(source->bytes - 8))
        kiln_fail(source->scope, KILN_MODEL,
                  "%s: header length %" PRIu64 ", file %" PRId64
                  " bytes; expected the header within the file",
                  source->where, length, source->bytes);
    if (length > KILN_SAFETENSORS_MAX_HEADER)
        kiln_fail(source->scope, KILN_LIMIT,
                  "%s: header length %" PRIu64 "; expected at most %d bytes", source->where, length,
                  KILN_SAFETENSORS_MAX_HEADER);
    char *header = malloc((size_t)length + 1);
    if (!header)
        kiln_fail(source->scope, KILN_NO_MEMORY, "%s: %" PRIu64 " bytes were not available",
                  source->where, length);
    kiln_scope_defer(source->scope, free, header);
    kiln_source_read(source, 8, (int64_t)length, header);
    kiln_safetensors_parse(file, header, (int64_t)length);
    settle_places(file, (int64_t)length + 8);
}

static void file_free(void *object)
{
    kiln_safetensors *file = object;
    kiln_arena_fini(&file->arena);
    free(file);
}

static kiln_safetensors *file_open(kiln_scope *scope, kiln_context *context, const char *path)
{
    kiln_safetensors *file = calloc(1, sizeof *file);
    if (!file) kiln_fail(scope, KILN_NO_MEMORY, "%s: no memory for a table", path);
    file->context = context;
    kiln_arena_init(&file->arena, scope);
    kiln_scope_defer(scope, file_free, file);
    const char *where = kiln_arena_string(&file->arena, path);
    kiln_source_open(&file->source, scope, where);
    file->path = kiln_arena_string(&file->arena, file->source.path);
    read_header(file);
    /* the scope's descriptor closes with it; the file keeps one of its own */
    int own = dup(file->source.file);
    if (own < 0) kiln_fail(scope, KILN_IO, "%s: no descriptor is left", path);
    file->source.file = own;
    file->source.path = file->path;
    file->source.scope = file->arena.scope = NULL;
    kiln_scope_keep(scope, file);
    return file;
}

kiln_status kiln_safetensors_open(kiln_context *context, const char *path,
                                  kiln_safetensors **out_file)
{
    if (!context) return KILN_INVALID;
    kiln_error error = {0};
    kiln_safetensors *volatile file = NULL;
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        if (!path || !out_file)
            kiln_fail(&scope, KILN_INVALID,
                      "kiln_safetensors_open: NULL argument; expected path and out_file");
        file = file_open(&scope, context, path);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status != KILN_OK) return kiln_context_fail(context, status, "%s", error.message);
    *out_file = file;
    return KILN_OK;
}

void kiln_safetensors_close(kiln_safetensors *file)
{
    if (!file) return;
    close(file->source.file);
    file_free(file);
}

/* Looking */

uint32_t kiln_safetensors_count(const kiln_safetensors *file)
{
    return file ? file->n : 0;
}

const kiln_safetensor *kiln_safetensors_at(const kiln_safetensors *file, uint32_t index)
{
    return file && index < file->n ? &file->tensors[index] : NULL;
}

const kiln_safetensor *kiln_safetensors_find(const kiln_safetensors *file, const char *name)
{
    int64_t index = file && name ? kiln_safetensors_index(file, name) : -1;
    return index < 0 ? NULL : &file->tensors[index];
}

const char *kiln_safetensors_metadata(const kiln_safetensors *file, const char *key)
{
    for (uint32_t i = 0; file && key && i < file->n_metadata; i++) {
        if (strcmp(file->metadata[i].key, key) == 0) return file->metadata[i].value;
    }
    return NULL;
}

kiln_status kiln_safetensors_read(const kiln_safetensors *file, const kiln_safetensor *tensor,
                                  void *out, size_t bytes)
{
    if (!file) return KILN_INVALID;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        if (!tensor || (!out && bytes) || (size_t)tensor->bytes != bytes)
            kiln_fail(&scope, KILN_INVALID,
                      "kiln_safetensors_read: %zu bytes of memory; expected a tensor and as many "
                      "bytes as it has",
                      bytes);
        kiln_source source = file->source;
        source.scope = &scope;
        kiln_source_read(&source, tensor->offset, tensor->bytes, out);
        uint8_t *at = out;
        for (size_t i = 0; tensor->dtype == KILN_bool && i < bytes; i++) at[i] = at[i] != 0;
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status != KILN_OK) kiln_context_fail(file->context, status, "%s", error.message);
    return status;
}

/* Constants */

typedef struct constant_request {
    const kiln_safetensors *file;
    const char *name;
    const kiln_tensor *like;
} constant_request;

static bool is_like(const kiln_safetensor *tensor, const kiln_tensor *like)
{
    if (!like) return true;
    return tensor->dtype == like->dtype && tensor->rank == like->rank &&
           memcmp(tensor->dims, like->dims, tensor->rank * sizeof *tensor->dims) == 0;
}

static kiln_value constant_body(kiln_graph *graph, const kiln_request *request)
{
    const constant_request *wanted = request->options;
    kiln_arena *arena = &graph->scope->arena;
    if (!wanted->file || !wanted->name)
        kiln_fail(graph->scope, KILN_INVALID, "constant: no file or no name; expected both");
    const char *name = kiln_quoted(arena, wanted->name), *where = wanted->file->source.where;
    const kiln_safetensor *tensor = kiln_safetensors_find(wanted->file, wanted->name);
    const kiln_tensor *like = wanted->like;
    if (!tensor)
        kiln_fail(graph->scope, KILN_INVALID, "%s: no tensor %s; expected one of its %u tensors",
                  where, name, wanted->file->n);
    if (like && (like->rank > KILN_MAX_RANK || (like->rank && !like->dims)))
        kiln_fail(graph->scope, KILN_INVALID,
                  "%s: tensor %s: rank %u; expected dims of rank 0 to %d", where, name, like->rank,
                  KILN_MAX_RANK);
    const char *found = kiln_dims_string(arena, tensor->dtype, tensor->rank, tensor->dims);
    if (!is_like(tensor, like))
        kiln_fail(graph->scope, KILN_INVALID, "%s: tensor %s is %s; expected %s", where, name,
                  found, kiln_dims_string(arena, like->dtype, like->rank, like->dims));
    const kiln_type *type = kiln_graph_tensor(graph, tensor->dtype, tensor->rank, tensor->dims);
    kiln_literal literal = {KILN_LITERAL_FILE,         NULL,           tensor->bytes,
                            wanted->file->path,        tensor->offset, 0,
                            wanted->file->source.stamp};
    kiln_value value;
    if (tensor->bytes > KILN_LITERAL_BYTES_MAX) {
        value = kiln_add_literal(graph, type, &literal);
    } else {
        void *data = kiln_arena_alloc(arena, (size_t)tensor->bytes + 8);
        kiln_literal_read(graph->scope, type, &literal, data);
        value = kiln_add_constant(graph, type, data);
    }
    kiln_node *node = graph->nodes.at[value.id];
    if (!node->label) node->label = kiln_arena_string(&graph->arena, wanted->name);
    return value;
}

kiln_value kiln_constant_safetensor(kiln_graph *graph, const kiln_safetensors *file,
                                    const char *name, const kiln_tensor *like)
{
    constant_request wanted = {file, name, like};
    return kiln_build(graph, constant_body, &(kiln_request){KILN_OP_constant, .options = &wanted});
}
