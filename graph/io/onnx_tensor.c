/* ONNX tensors -> constants. Data is in raw_data (lifted by the pre-scan: a place in the file), in
 * a typed field, or external. Large raw data stays a stretch of the file; the rest is copied. */
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "graph/element.h"
#include "graph/io/export_model.h"
#include "graph/io/onnx.h"

static const kiln_dtype dtypes[] = {
    [1] = KILN_f32,         [2] = KILN_u8,      [3] = KILN_i8,          [4] = KILN_u16,
    [5] = KILN_i16,         [6] = KILN_i32,     [7] = KILN_i64,         [9] = KILN_bool,
    [10] = KILN_f16,        [11] = KILN_f64,    [12] = KILN_u32,        [13] = KILN_u64,
    [14] = KILN_c64,        [15] = KILN_c128,   [16] = KILN_bf16,       [17] = KILN_f8e4m3fn,
    [18] = KILN_f8e4m3fnuz, [19] = KILN_f8e5m2, [20] = KILN_f8e5m2fnuz, [21] = KILN_u4,
    [22] = KILN_i4,         [23] = KILN_f4e2m1, [25] = KILN_u2,         [26] = KILN_i2,
};

static const char *const unserved[] = {
    [8] = "string",
    [24] = "float8e8m0",
};

kiln_dtype kiln_onnx_dtype(kiln_onnx *onnx, int64_t number, const char *where)
{
    kiln_scope *scope = onnx->graph ? onnx->graph->scope : onnx->scope; /* none: only listed */
    if (number > 0 && number < (int64_t)(sizeof dtypes / sizeof *dtypes) && dtypes[number])
        return dtypes[number];
    if (number > 0 && number < (int64_t)(sizeof unserved / sizeof *unserved) && unserved[number])
        kiln_fail(scope, KILN_UNSUPPORTED,
                  "%s: dtype %s; expected bool, an integer of 2 to 64 bits, "
                  "a float of 4 to 64 bits or a complex number",
                  where, unserved[number]);
    kiln_fail(scope, KILN_MODEL, "%s: unknown dtype %" PRId64 "; expected an ONNX data type", where,
              number);
}

int64_t kiln_onnx_number(kiln_dtype dtype)
{
    for (size_t i = 1; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (dtypes[i] == dtype) return (int64_t)i;
    }
    return 0;
}

typedef struct tensor_reader {
    kiln_onnx *onnx;
    kiln_scope *scope;
    const Kiln__Onnx__Tensor *tensor;
    const char *where;
    const kiln_type *type;
} tensor_reader;

static void type_read(tensor_reader *reader)
{
    const Kiln__Onnx__Tensor *tensor = reader->tensor;
    int64_t count;
    kiln_dtype dtype =
        kiln_onnx_dtype(reader->onnx, tensor->has_data_type ? tensor->data_type : 0, reader->where);
    if (tensor->n_dims > KILN_MAX_RANK)
        kiln_fail(reader->scope, KILN_LIMIT, "%s: rank %zu; expected at most %d", reader->where,
                  tensor->n_dims, KILN_MAX_RANK);
    for (size_t i = 0; i < tensor->n_dims; i++) {
        if (tensor->dims[i] < 0)
            kiln_fail(reader->scope, KILN_MODEL, "%s: dim %zu is %" PRId64 "; expected 0 or more",
                      reader->where, i, tensor->dims[i]);
    }
    if (!kiln_checked_product(tensor->dims, (uint32_t)tensor->n_dims, &count) ||
        count > KILN_MAX_ELEMENTS)
        kiln_fail(reader->scope, KILN_MODEL,
                  "%s: the element count overflows; expected at most 2^48", reader->where);
    reader->type =
        kiln_graph_tensor(reader->onnx->graph, dtype, (uint32_t)tensor->n_dims, tensor->dims);
}

static void bools_clean(const kiln_type *type, uint8_t *data)
{
    if (type->dtype != KILN_bool) return;
    for (int64_t i = 0; i < type->bytes; i++) data[i] = data[i] != 0;
}

static kiln_value raw_read(tensor_reader *reader)
{
    const kiln_source *source = reader->onnx->source;
    int64_t offset = (int64_t)reader->tensor->raw_offset,
            bytes = (int64_t)reader->tensor->raw_bytes;
    if (bytes != reader->type->bytes)
        kiln_fail(reader->scope, KILN_MODEL,
                  "%s: needs %" PRId64 " bytes, has %" PRId64
                  "; expected raw_data as long as dims say",
                  reader->where, reader->type->bytes, bytes);
    if (source->path && bytes > KILN_LITERAL_BYTES_MAX) {
        kiln_literal literal = {.kind = KILN_LITERAL_FILE, .bytes = bytes, .offset = offset};
        literal.stamp = source->stamp;
        literal.file = kiln_arena_string(&reader->onnx->graph->arena, source->path);
        return kiln_add_literal(reader->onnx->graph, reader->type, &literal);
    }
    uint8_t *data = kiln_arena_alloc(&reader->scope->arena, (size_t)bytes + 8);
    kiln_source_read(source, offset, bytes, data);
    bools_clean(reader->type, data);
    return kiln_add_constant(reader->onnx->graph, reader->type, data);
}

typedef struct typed_field {
    const void *data;
    size_t n, width; /* elements and their size in the field */
} typed_field;

/* The field that carries a dtype. int32_data has every dtype of up to 32 bits but f32 and u32; the
 * low bits are the element, or two packed ones. Complex elements are two entries. */
static typed_field field_of(const Kiln__Onnx__Tensor *tensor, kiln_dtype dtype)
{
    switch (dtype) {
    case KILN_f32:
    case KILN_c64:
        return (typed_field){tensor->float_data, tensor->n_float_data, 4};
    case KILN_f64:
    case KILN_c128:
        return (typed_field){tensor->double_data, tensor->n_double_data, 8};
    case KILN_i64:
        return (typed_field){tensor->int64_data, tensor->n_int64_data, 8};
    case KILN_u32:
    case KILN_u64:
        return (typed_field){tensor->uint64_data, tensor->n_uint64_data, 8};
    default:
        return (typed_field){tensor->int32_data, tensor->n_int32_data, 4};
    }
}

static kiln_value typed_read(tensor_reader *reader)
{
    typed_field field = field_of(reader->tensor, reader->type->dtype);
    size_t width = kiln_dtype_bytes(kiln_dtype_part(reader->type->dtype));
    int64_t n = reader->type->bytes / (int64_t)width;
    if ((int64_t)field.n != n)
        kiln_fail(reader->scope, KILN_MODEL,
                  "%s: needs %" PRId64 " elements, has %zu; expected data as "
                  "long as dims say",
                  reader->where, n, field.n);
    uint8_t *data = kiln_arena_alloc(&reader->scope->arena, (size_t)reader->type->bytes + 8);
    for (size_t i = 0; i < field.n; i++) {
        memcpy(data + i * width, (const char *)field.data + i * field.width, width);
    }
    bools_clean(reader->type, data);
    return kiln_add_constant(reader->onnx->graph, reader->type, data);
}

static kiln_value external_read(tensor_reader *reader)
{
    kiln_literal literal = {0};
    kiln_onnx_external(reader->onnx, reader->tensor, reader->where, &literal);
    if (literal.bytes != reader->type->bytes)
        kiln_fail(reader->scope, KILN_MODEL,
                  "%s: needs %" PRId64 " bytes, has %" PRId64
                  "; expected external data as long as dims say",
                  reader->where, reader->type->bytes, literal.bytes);
    literal.kind = KILN_LITERAL_FILE;
    if (literal.bytes > KILN_LITERAL_BYTES_MAX)
        return kiln_add_literal(reader->onnx->graph, reader->type, &literal);
    uint8_t *data = kiln_arena_alloc(&reader->scope->arena, (size_t)literal.bytes + 8);
    kiln_literal_read(reader->scope, reader->type, &literal, data);
    return kiln_add_constant(reader->onnx->graph, reader->type, data);
}

kiln_value kiln_onnx_tensor(kiln_onnx *onnx, const Kiln__Onnx__Tensor *tensor, const char *where)
{
    tensor_reader reader = {onnx, onnx->graph->scope, tensor, where, NULL};
    if (tensor->has_segment)
        kiln_fail(reader.scope, KILN_UNSUPPORTED, "%s: a segmented tensor; expected a whole one",
                  where);
    type_read(&reader);
    bool is_external = tensor->has_data_location && tensor->data_location == 1;
    bool has_typed = tensor->n_float_data || tensor->n_double_data || tensor->n_int64_data ||
                     tensor->n_uint64_data || tensor->n_int32_data || tensor->n_string_data;
    if (is_external && (tensor->has_raw_bytes || has_typed))
        kiln_fail(reader.scope, KILN_MODEL, "%s: external data and data in the file; expected one",
                  where);
    if (tensor->has_raw_bytes && has_typed)
        kiln_fail(reader.scope, KILN_MODEL, "%s: raw_data and a typed field; expected one", where);
    if (is_external) return external_read(&reader);
    return tensor->has_raw_bytes ? raw_read(&reader) : typed_read(&reader);
}
