/* NumPy's .npy files: kiln_tensor <-> file, versions 1 to 3. Reading is strict: the header's dict
 * has exactly its three keys, and the data has exactly the bytes that shape and dtype say. Writing
 * goes to a temporary file beside the target, which is renamed over it when it is complete. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/context.h"
#include "base/text.h"
#include "graph/io/prescan.h"
#include "graph/io/sink.h"
#include "kiln/model.h"

#define HEADER_MAX 65536
#define DIMS_BYTES ((int64_t)((KILN_MAX_RANK * sizeof(int64_t) + 63) / 64 * 64))

/* Spellings of descr; the first of a dtype is the one that is written. */
static const struct {
    const char *descr;
    kiln_dtype dtype;
} descrs[] = {
    {"|b1", KILN_bool}, {"|i1", KILN_i8},    {"|u1", KILN_u8},   {"<i2", KILN_i16},
    {"<u2", KILN_u16},  {"<i4", KILN_i32},   {"<u4", KILN_u32},  {"<i8", KILN_i64},
    {"<u8", KILN_u64},  {"<f2", KILN_f16},   {"<f4", KILN_f32},  {"<f8", KILN_f64},
    {"<c8", KILN_c64},  {"<c16", KILN_c128}, {"|V2", KILN_bf16}, {"<V2", KILN_bf16},
    {"?", KILN_bool},   {"<i1", KILN_i8},    {"<u1", KILN_u8},   {"<b1", KILN_bool},
    {"<f1", KILN_u8}, /* what ml_dtypes calls its float8_e5m2 */
};

/* Dtypes that NumPy lacks are written as raw bytes, |V1 unless the table says otherwise, and packed
 * ones as a list of them. Raw bytes are read as unsigned integers. */
#define RAW_DESCR "|V1"

typedef struct npy_reader {
    kiln_source source;
    char *header; /* NUL-terminated */
    const char *at;
    int64_t header_from; /* of the dict, in the file */
} npy_reader;

_Noreturn static void header_fail(npy_reader *reader, const char *expected)
{
    kiln_text found = {.arena = &reader->source.scope->arena};
    size_t left = strlen(reader->at);
    kiln_text_quoted(&found, reader->at, left < 24 ? left : 24);
    kiln_fail(reader->source.scope, KILN_MODEL,
              "%s: byte %" PRId64 ": header reads %s; expected %s", reader->source.where,
              reader->header_from + (reader->at - reader->header), kiln_text_string(&found),
              expected);
}

static void skip_space(npy_reader *reader)
{
    while (*reader->at == ' ' || *reader->at == '\n') reader->at++;
}

static bool accept(npy_reader *reader, const char *token)
{
    skip_space(reader);
    size_t n = strlen(token);
    if (strncmp(reader->at, token, n)) return false;
    reader->at += n;
    return true;
}

static void expect(npy_reader *reader, const char *token)
{
    if (!accept(reader, token)) {
        header_fail(reader, kiln_arena_format(&reader->source.scope->arena, "`%s`", token));
    }
}

static kiln_dtype read_descr(npy_reader *reader)
{
    skip_space(reader);
    const char *from = reader->at;
    char quote = *from;
    if (quote != '\'' && quote != '"') header_fail(reader, "a quoted type");
    const char *end = strchr(from + 1, quote);
    if (!end) header_fail(reader, "a quoted type");
    size_t n = (size_t)(end - from - 1);
    for (size_t i = 0; i < sizeof descrs / sizeof *descrs; i++) {
        if (strlen(descrs[i].descr) != n || memcmp(descrs[i].descr, from + 1, n)) continue;
        reader->at = end + 1;
        return descrs[i].dtype == KILN_bf16 ? KILN_u16 : descrs[i].dtype;
    }
    if (n == strlen(RAW_DESCR) && memcmp(&RAW_DESCR[1], from + 2, n - 1) == 0) {
        reader->at = end + 1;
        return KILN_u8;
    }
    kiln_text found = {.arena = &reader->source.scope->arena};
    kiln_text_quoted(&found, from + 1, n < 64 ? n : 64);
    kiln_fail(reader->source.scope, KILN_UNSUPPORTED,
              "%s: type is %s; expected a little-endian number or bool", reader->source.where,
              kiln_text_string(&found));
}

static uint32_t read_shape(npy_reader *reader, int64_t *dims)
{
    uint32_t rank = 0;
    expect(reader, "(");
    while (!accept(reader, ")")) {
        if (rank == KILN_MAX_RANK) header_fail(reader, "at most 16 dims");
        int64_t dim = 0;
        skip_space(reader);
        if (*reader->at < '0' || *reader->at > '9') header_fail(reader, "a dim of 0 or more");
        for (; *reader->at >= '0' && *reader->at <= '9'; reader->at++) {
            if (!kiln_checked_mul(dim, 10, &dim) || !kiln_checked_add(dim, *reader->at - '0', &dim))
                header_fail(reader, "a dim below 2^63");
        }
        dims[rank++] = dim;
        if (accept(reader, ")")) return rank;
        expect(reader, ",");
    }
    return rank;
}

static void read_dict(npy_reader *reader, kiln_tensor *tensor, int64_t *dims)
{
    bool has_descr = false, has_order = false, has_shape = false, is_fortran = false;
    expect(reader, "{");
    while (!accept(reader, "}")) {
        if (!has_descr && accept(reader, "'descr':")) {
            has_descr = true;
            tensor->dtype = read_descr(reader);
        } else if (!has_order && accept(reader, "'fortran_order':")) {
            has_order = true;
            is_fortran = accept(reader, "True");
            if (!is_fortran) expect(reader, "False");
        } else if (!has_shape && accept(reader, "'shape':")) {
            has_shape = true;
            tensor->rank = read_shape(reader, dims);
        } else {
            header_fail(reader, "one each of 'descr', 'fortran_order' and 'shape'");
        }
        if (!accept(reader, ",")) {
            expect(reader, "}");
            break;
        }
    }
    skip_space(reader);
    if (*reader->at || !has_descr || !has_order || !has_shape)
        header_fail(reader, "one each of 'descr', 'fortran_order' and 'shape'");
    if (is_fortran && tensor->rank > 1)
        kiln_fail(reader->source.scope, KILN_UNSUPPORTED,
                  "%s: column-major order; expected row-major", reader->source.where);
}

/* Reads magic, version and dict; returns where the data begins. */
static int64_t read_header(npy_reader *reader, kiln_tensor *tensor, int64_t *dims)
{
    kiln_scope *scope = reader->source.scope;
    const char *where = reader->source.where;
    uint8_t head[12] = {0};
    int64_t bytes = reader->source.bytes;
    kiln_source_read(&reader->source, 0, kiln_min_i64(bytes, 12), head);
    if (bytes < 10 || memcmp(head, "\x93NUMPY", 6))
        kiln_fail(scope, KILN_MODEL, "%s: byte 0: not an .npy file; expected its magic", where);
    if (head[6] < 1 || head[6] > 3 || head[7] != 0)
        kiln_fail(scope, KILN_UNSUPPORTED, "%s: .npy version %d.%d; expected 1.0, 2.0 or 3.0",
                  where, head[6], head[7]);
    reader->header_from = head[6] == 1 ? 10 : 12;
    int64_t length = head[8] | head[9] << 8;
    if (head[6] > 1) length |= (int64_t)head[10] << 16 | (int64_t)head[11] << 24;
    if (length > HEADER_MAX)
        kiln_fail(scope, KILN_LIMIT, "%s: header of %" PRId64 " bytes; expected at most %d", where,
                  length, HEADER_MAX);
    if (length > bytes - reader->header_from)
        kiln_fail(scope, KILN_MODEL,
                  "%s: truncated at byte %" PRId64 ": header of %" PRId64 " bytes; "
                  "expected a complete one",
                  where, bytes, length);
    reader->header = kiln_arena_alloc(&scope->arena, (size_t)length + 1);
    kiln_source_read(&reader->source, reader->header_from, length, reader->header);
    reader->at = reader->header;
    read_dict(reader, tensor, dims);
    return reader->header_from + length;
}

static void read_tensor(kiln_scope *scope, const char *path, kiln_tensor *tensor)
{
    npy_reader reader;
    int64_t dims[KILN_MAX_RANK], count, bytes;
    kiln_source_open(&reader.source, scope, path);
    int64_t from = read_header(&reader, tensor, dims);
    if (!kiln_checked_product(dims, tensor->rank, &count) ||
        !kiln_checked_mul(count, (int64_t)kiln_dtype_bytes(tensor->dtype), &bytes) ||
        bytes > INT64_MAX - DIMS_BYTES - 64)
        kiln_fail(scope, KILN_MODEL, "%s: shape's size overflows; expected less than 2^63 bytes",
                  path);
    if (bytes != reader.source.bytes - from)
        kiln_fail(scope, KILN_MODEL, "%s: data has %" PRId64 " bytes; expected %" PRId64, path,
                  reader.source.bytes - from, bytes);
    char *block = aligned_alloc(64, (size_t)kiln_round_up(DIMS_BYTES + bytes, 64));
    if (!block)
        kiln_fail(scope, KILN_NO_MEMORY, "%s: %" PRId64 " bytes were not available", path, bytes);
    kiln_scope_defer(scope, free, block);
    memcpy(block, dims, sizeof dims);
    tensor->dims = (const int64_t *)block;
    tensor->data = block + DIMS_BYTES;
    tensor->bytes = (size_t)bytes;
    kiln_source_read(&reader.source, from, bytes, tensor->data);
    kiln_scope_keep(scope, block);
}

kiln_status kiln_read_npy(kiln_context *context, const char *path, kiln_tensor *out_tensor)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_tensor *tensor = NULL;
    kiln_tensor read = {0};
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        if (!path || !out_tensor)
            kiln_fail(&scope, KILN_INVALID,
                      "kiln_read_npy: NULL argument; expected path and tensor");
        tensor = kiln_new(&scope.arena, kiln_tensor);
        read_tensor(&scope, path, tensor);
        read = *tensor;
        *out_tensor = read;
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status != KILN_OK && context) kiln_context_fail(context, status, "%s", error.message);
    return status;
}

void kiln_tensor_free(kiln_tensor *tensor)
{
    if (!tensor) return;
    free((void *)(uintptr_t)tensor->dims);
    *tensor = (kiln_tensor){0};
}

static void check_tensor(kiln_scope *scope, const kiln_tensor *tensor)
{
    int64_t count, bytes;
    size_t bits = kiln_dtype_bits(tensor->dtype);
    if (bits == 0 || tensor->rank > KILN_MAX_RANK || (tensor->rank && !tensor->dims))
        kiln_fail(scope, KILN_INVALID,
                  "kiln_write_npy: rank %u, dtype %d; expected a tensor of rank "
                  "0 to 16",
                  tensor->rank, (int)tensor->dtype);
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (tensor->dims[i] < 0)
            kiln_fail(scope, KILN_INVALID,
                      "kiln_write_npy: dim %u is %" PRId64 "; expected 0 or more", i,
                      tensor->dims[i]);
    }
    if (!kiln_checked_product(tensor->dims, tensor->rank, &count) ||
        !kiln_checked_bytes(count, bits, &bytes) || (size_t)bytes != tensor->bytes ||
        (bytes && !tensor->data))
        kiln_fail(scope, KILN_INVALID,
                  "kiln_write_npy: %zu bytes of data; expected dims times element "
                  "size",
                  tensor->bytes);
}

/* Magic, version 1, dict padded with spaces to a multiple of 64 and a newline. */
static const char *header_make(kiln_scope *scope, const kiln_tensor *tensor, size_t *out_bytes)
{
    kiln_text dict = {.arena = &scope->arena}, text = {.arena = &scope->arena};
    const char *descr = RAW_DESCR;
    for (size_t i = 0; i < sizeof descrs / sizeof *descrs; i++) {
        if (descrs[i].dtype != tensor->dtype) continue;
        descr = descrs[i].descr;
        break;
    }
    kiln_text_printf(&dict, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    bool is_packed = kiln_dtype_bits(tensor->dtype) < 8;
    uint32_t rank = is_packed ? 1 : tensor->rank;
    for (uint32_t i = 0; i < rank; i++) {
        kiln_text_printf(&dict, "%s%" PRId64 "%s", i ? " " : "",
                         is_packed ? (int64_t)tensor->bytes : tensor->dims[i],
                         i + 1 < rank || i == 0 ? "," : "");
    }
    kiln_text_append(&dict, "), }");
    while ((10 + dict.n + 1) % 64) kiln_text_append(&dict, " ");
    kiln_text_append(&dict, "\n");
    char head[10] = "\x93NUMPY\x01";
    head[7] = 0;
    head[8] = (char)(dict.n & 255);
    head[9] = (char)(dict.n >> 8);
    kiln_text_append_n(&text, head, 10);
    kiln_text_append_n(&text, kiln_text_string(&dict), dict.n);
    *out_bytes = text.n;
    return kiln_text_string(&text);
}

static void write_tensor(kiln_scope *scope, const char *path, const kiln_tensor *tensor)
{
    size_t bytes;
    const char *header = header_make(scope, tensor, &bytes);
    kiln_sink *sink = kiln_sink_open(scope, path);
    kiln_sink_write(sink, header, bytes);
    kiln_sink_write(sink, tensor->data, tensor->bytes);
    kiln_sink_commit(sink);
}

kiln_status kiln_write_npy(kiln_context *context, const char *path, const kiln_tensor *tensor)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        if (!path || !tensor)
            kiln_fail(&scope, KILN_INVALID,
                      "kiln_write_npy: NULL argument; expected path and tensor");
        check_tensor(&scope, tensor);
        write_tensor(&scope, path, tensor);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status != KILN_OK && context) kiln_context_fail(context, status, "%s", error.message);
    return status;
}
