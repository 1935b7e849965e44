/* The formats that the pre-scan knows, ONNX and Kiln's own graphs: which fields are read, what may
 * stand in them, and what each message costs once protobuf-c has unpacked it. */
#include "graph/io/prescan_format.h"
#include "graph/io/graph.pb-c.h"
#include "graph/io/onnx.pb-c.h"

/* short names for the tables */
enum {
    VARINT = KILN_SCAN_VARINT,
    FIXED32 = KILN_SCAN_FIXED32,
    FIXED64 = KILN_SCAN_FIXED64,
    NAME = KILN_SCAN_NAME,
    WORD = KILN_SCAN_WORD,
    BLOB = KILN_SCAN_BLOB,
    INTS = KILN_SCAN_INTS,
    FLOATS = KILN_SCAN_FLOATS,
    DOUBLES = KILN_SCAN_DOUBLES,
    LIFT = KILN_SCAN_LIFT,
    MESSAGE = KILN_SCAN_MESSAGE,
};

/* ONNX */

enum {
    ENTRY,
    TENSOR,
    SPARSE,
    ATTRIBUTE,
    NODE,
    DIM,
    SHAPE,
    TENSOR_TYPE,
    TYPE,
    VALUE,
    GRAPH,
    OPSET,
    FUNCTION,
    MODEL,
    N_MESSAGES
};

static const kiln_scan_rule onnx_rules[] = {
    {ENTRY, 1, NAME, 0, "key"},
    {ENTRY, 2, NAME, 0, "value"},
    {TENSOR, 1, INTS, 0, "dims"},
    {TENSOR, 2, VARINT, 0, "data_type"},
    {TENSOR, 3, BLOB, 0, "segment"},
    {TENSOR, 4, FLOATS, 0, "float_data"},
    {TENSOR, 5, INTS, 0, "int32_data"},
    {TENSOR, 6, BLOB, 0, "string_data"},
    {TENSOR, 7, INTS, 0, "int64_data"},
    {TENSOR, 8, NAME, 0, "name"},
    {TENSOR, 9, LIFT, 0, "raw_data"},
    {TENSOR, 10, DOUBLES, 0, "double_data"},
    {TENSOR, 11, INTS, 0, "uint64_data"},
    {TENSOR, 13, MESSAGE, ENTRY, "external_data"},
    {TENSOR, 14, VARINT, 0, "data_location"},
    {SPARSE, 1, MESSAGE, TENSOR, "values"},
    {ATTRIBUTE, 1, NAME, 0, "name"},
    {ATTRIBUTE, 2, FIXED32, 0, "f"},
    {ATTRIBUTE, 3, VARINT, 0, "i"},
    {ATTRIBUTE, 4, BLOB, 0, "s"},
    {ATTRIBUTE, 5, MESSAGE, TENSOR, "t"},
    {ATTRIBUTE, 6, MESSAGE, GRAPH, "g"},
    {ATTRIBUTE, 7, FLOATS, 0, "floats"},
    {ATTRIBUTE, 8, INTS, 0, "ints"},
    {ATTRIBUTE, 9, BLOB, 0, "strings"},
    {ATTRIBUTE, 10, MESSAGE, TENSOR, "tensors"},
    {ATTRIBUTE, 11, MESSAGE, GRAPH, "graphs"},
    {ATTRIBUTE, 20, VARINT, 0, "type"},
    {ATTRIBUTE, 21, NAME, 0, "ref_attr_name"},
    {ATTRIBUTE, 22, MESSAGE, SPARSE, "sparse_tensor"},
    {NODE, 1, NAME, 0, "input"},
    {NODE, 2, NAME, 0, "output"},
    {NODE, 3, NAME, 0, "name"},
    {NODE, 4, WORD, 0, "op_type"},
    {NODE, 5, MESSAGE, ATTRIBUTE, "attribute"},
    {NODE, 7, WORD, 0, "domain"},
    {DIM, 1, VARINT, 0, "dim_value"},
    {DIM, 2, NAME, 0, "dim_param"},
    {SHAPE, 1, MESSAGE, DIM, "dim"},
    {TENSOR_TYPE, 1, VARINT, 0, "elem_type"},
    {TENSOR_TYPE, 2, MESSAGE, SHAPE, "shape"},
    {TYPE, 1, MESSAGE, TENSOR_TYPE, "tensor_type"},
    {VALUE, 1, NAME, 0, "name"},
    {VALUE, 2, MESSAGE, TYPE, "type"},
    {GRAPH, 1, MESSAGE, NODE, "node"},
    {GRAPH, 2, NAME, 0, "name"},
    {GRAPH, 5, MESSAGE, TENSOR, "initializer"},
    {GRAPH, 11, MESSAGE, VALUE, "input"},
    {GRAPH, 12, MESSAGE, VALUE, "output"},
    {GRAPH, 15, MESSAGE, SPARSE, "sparse_initializer"},
    {OPSET, 1, WORD, 0, "domain"},
    {OPSET, 2, VARINT, 0, "version"},
    {FUNCTION, 1, WORD, 0, "name"},
    {FUNCTION, 4, NAME, 0, "input"},
    {FUNCTION, 5, NAME, 0, "output"},
    {FUNCTION, 6, NAME, 0, "attribute"},
    {FUNCTION, 7, MESSAGE, NODE, "node"},
    {FUNCTION, 9, MESSAGE, OPSET, "opset_import"},
    {FUNCTION, 10, WORD, 0, "domain"},
    {FUNCTION, 11, MESSAGE, ATTRIBUTE, "attribute_proto"},
    {MODEL, 1, VARINT, 0, "ir_version"},
    {MODEL, 7, MESSAGE, GRAPH, "graph"},
    {MODEL, 8, MESSAGE, OPSET, "opset_import"},
    {MODEL, 25, MESSAGE, FUNCTION, "functions"},
    {0},
};

#define COST(type) (int64_t)(sizeof(Kiln__Onnx__##type) + 64)
static const int64_t onnx_costs[N_MESSAGES] = {
    [ENTRY] = COST(Entry),         [TENSOR] = COST(Tensor),
    [SPARSE] = COST(SparseTensor), [ATTRIBUTE] = COST(Attribute),
    [NODE] = COST(Node),           [DIM] = COST(Dim),
    [SHAPE] = COST(Shape),         [TENSOR_TYPE] = COST(TensorType),
    [TYPE] = COST(Type),           [VALUE] = COST(Value),
    [GRAPH] = COST(Graph),         [OPSET] = COST(OpsetId),
    [FUNCTION] = COST(Function),   [MODEL] = COST(Model),
};
#undef COST

const kiln_scan_format kiln_scan_onnx = {
    "an ONNX model", onnx_rules, onnx_costs, MODEL, NODE, "model", 0,
};

/* Kiln's own */

enum {
    OWN_TYPE,
    OWN_LITERAL,
    OWN_FIELD,
    OWN_NODE,
    OWN_OUTPUT,
    OWN_CHECK,
    OWN_GRAPH,
    OWN_FILE,
    N_OWN_MESSAGES
};

static const kiln_scan_rule own_rules[] = {
    {OWN_TYPE, 1, WORD, 0, "dtype"},
    {OWN_TYPE, 2, INTS, 0, "dims"},
    {OWN_TYPE, 3, MESSAGE, OWN_TYPE, "item"},
    {OWN_LITERAL, 1, WORD, 0, "kind"},
    {OWN_LITERAL, 2, BLOB, 0, "elements"},
    {OWN_LITERAL, 3, LIFT, 0, "blob"},
    {OWN_LITERAL, 4, NAME, 0, "file"},
    {OWN_LITERAL, 5, VARINT, 0, "offset"},
    {OWN_LITERAL, 6, VARINT, 0, "size"},
    {OWN_FIELD, 1, WORD, 0, "name"},
    {OWN_FIELD, 2, VARINT, 0, "number"},
    {OWN_FIELD, 3, INTS, 0, "numbers"},
    {OWN_FIELD, 4, FIXED64, 0, "bits"},
    {OWN_FIELD, 5, WORD, 0, "dtype"},
    {OWN_FIELD, 6, MESSAGE, OWN_LITERAL, "literal"},
    {OWN_FIELD, 7, INTS, 0, "regions"},
    {OWN_NODE, 1, WORD, 0, "op"},
    {OWN_NODE, 2, MESSAGE, OWN_TYPE, "type"},
    {OWN_NODE, 3, INTS, 0, "operands"},
    {OWN_NODE, 4, MESSAGE, OWN_FIELD, "fields"},
    {OWN_NODE, 5, NAME, 0, "label"},
    {OWN_OUTPUT, 1, VARINT, 0, "value"},
    {OWN_OUTPUT, 2, NAME, 0, "name"},
    {OWN_OUTPUT, 3, VARINT, 0, "counted_axis"},
    {OWN_OUTPUT, 4, VARINT, 0, "counted_by"},
    {OWN_CHECK, 1, VARINT, 0, "value"},
    {OWN_CHECK, 2, NAME, 0, "sentence"},
    {OWN_GRAPH, 1, NAME, 0, "name"},
    {OWN_GRAPH, 2, MESSAGE, OWN_NODE, "node"},
    {OWN_GRAPH, 3, MESSAGE, OWN_OUTPUT, "output"},
    {OWN_GRAPH, 4, MESSAGE, OWN_CHECK, "check"},
    {OWN_FILE, 1, WORD, 0, "magic"},
    {OWN_FILE, 2, VARINT, 0, "version"},
    {OWN_FILE, 3, VARINT, 0, "oldest_reader"},
    {OWN_FILE, 4, MESSAGE, OWN_GRAPH, "graph"},
    {0},
};

#define COST(type) (int64_t)(sizeof(Kiln__Graph__##type) + 64)
static const int64_t own_costs[N_OWN_MESSAGES] = {
    [OWN_TYPE] = COST(Type),   [OWN_LITERAL] = COST(Literal), [OWN_FIELD] = COST(Field),
    [OWN_NODE] = COST(Node),   [OWN_OUTPUT] = COST(Output),   [OWN_CHECK] = COST(Check),
    [OWN_GRAPH] = COST(Graph), [OWN_FILE] = COST(File),
};
#undef COST

const kiln_scan_format kiln_scan_own = {
    "a binary Kiln graph", own_rules, own_costs, OWN_FILE, OWN_NODE, "file", 1000,
};
