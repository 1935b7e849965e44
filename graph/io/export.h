/* ONNX export: a graph becomes an ONNX model. Every operation has a row of kiln_export_rows: an
 * operator of the same meaning, or a small function that builds one from several. Composites with a
 * row that fits keep their operator, others are expanded first.
 *
 * A value of the graph is a name in the model. A broadcast (and a splat, and an iota) stays small,
 * as a value that ONNX's own broadcasting stretches, until somebody needs it at full size. */
#ifndef KILN_GRAPH_IO_EXPORT_H
#define KILN_GRAPH_IO_EXPORT_H

#include "graph/element.h"
#include "graph/graph.h"
#include "graph/io/export_model.h"
#include "graph/table.h"

#define KILN_EXPORT_OPSET 18 /* the least; rows may ask for more */

typedef struct kiln_export_value {
    const char *full, *small; /* NULL: not made yet */
    const char *const *items; /* of a tuple */
    uint32_t rank;            /* of the small one */
    const int64_t *dims;
} kiln_export_value;

typedef struct kiln_export {
    kiln_scope *scope;
    kiln_arena *arena;
    const kiln_graph *graph;
    kiln_wire nodes, initializers; /* fields of GraphProto */
    kiln_export_value *values;     /* by id */
    int64_t *external;             /* by id: where the constant stands in the weights file, or 0 */
    const char *weights;           /* the name of that file, or NULL */
    kiln_vec(const char *) names;
    kiln_slots slots; /* of names */
    uint32_t n_names;
    int64_t opset;
    kiln_vec(const char *) refused; /* one line a node */
    kiln_scope *region_scope;       /* of the whole export: owns expanded regions */
} kiln_export;

/* A node at work. Where ONNX lacks its dtype, operands of dtype `own` come as `dtype`, and what the
 * function returns is brought back. */
typedef struct kiln_export_call {
    kiln_export *export;
    const kiln_node *node;
    const kiln_type *type;
    const struct kiln_export_row *row;
    kiln_dtype own, dtype;
} kiln_export_call;

/* Emits the node and returns the name of its value, or NULL when it set the value itself. */
typedef const char *kiln_export_fn(kiln_export_call *call);

typedef struct kiln_export_row {
    const char *onnx; /* operator, where one serves */
    kiln_export_fn *export;
    uint8_t opset; /* that the operator needs beyond KILN_EXPORT_OPSET, else 0 */
    uint16_t wide; /* dtypes that are computed in a wider one: KILN_EXPORT_* */
    bool (*fits)(const kiln_graph *graph, const kiln_node *node); /* composites; NULL: always */
} kiln_export_row;

/* Which dtypes an operator of ONNX (or every known runtime) lacks: they go through a wider one. */
enum {
    KILN_EXPORT_BOOL = 1,       /* as i32 */
    KILN_EXPORT_SMALL = 2,      /* integers below 32 bits, as i32 */
    KILN_EXPORT_U32 = 4,        /* as i64 */
    KILN_EXPORT_U64 = 8,        /* as i64, for operators that wrap alike */
    KILN_EXPORT_NARROW = 16,    /* bf16 and eight bits as f32; rows of arithmetic have it */
    KILN_EXPORT_F16 = 32,       /* as f32 */
    KILN_EXPORT_U64_ORDER = 64, /* as i64 with the top bit flipped, for operators that compare */
    KILN_EXPORT_INTEGERS = KILN_EXPORT_SMALL | KILN_EXPORT_U32 | KILN_EXPORT_U64,
};

extern const kiln_export_row kiln_export_rows[KILN_N_OPS];

/* Refuses the node: UNSUPPORTED once all nodes were tried. */
_Noreturn void kiln_export_refuse(kiln_export_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Operands by name, in the call's dtype: at full size, or as small as broadcasting allows. */
const char *kiln_export_operand(kiln_export_call *call, uint32_t i);
const char *kiln_export_small(kiln_export_call *call, uint32_t i);
/* At full size in its own dtype: indices are never widened with what they point at. */
const char *kiln_export_plain(kiln_export_call *call, uint32_t i);
const kiln_type *kiln_export_type(const kiln_export_call *call, uint32_t i);
/* What the call computes in, by its row; and a result in that brought back to the node's dtype. */
kiln_dtype kiln_export_wide_dtype(const kiln_export_call *call);
const char *kiln_export_bring_back(kiln_export_call *call, const char *name);
/* The call's value is `name`, of these dims, broadcast to the type. */
void kiln_export_set_small(kiln_export_call *call, const char *name, uint32_t rank,
                           const int64_t *dims);

/* Attributes of a node about to be emitted. */
kiln_wire kiln_export_attrs(kiln_export_call *call);
void kiln_export_attr_int(kiln_wire *attrs, const char *name, int64_t value);
void kiln_export_attr_float(kiln_wire *attrs, const char *name, double value);
void kiln_export_attr_string(kiln_wire *attrs, const char *name, const char *value);
void kiln_export_attr_ints(kiln_wire *attrs, const char *name, kiln_ints values);

/* A node with a fresh output, whose name is returned; attrs may be NULL, an input "" is left out.
 */
const char *kiln_export_emit_list(kiln_export_call *call, const char *op, const kiln_wire *attrs,
                                  uint32_t n, const char *const *inputs);
/* The same with two outputs of two inputs; the first is returned. */
const char *kiln_export_emit_two(kiln_export_call *call, const char *op, const kiln_wire *attrs,
                                 const char *const inputs[2], const char **out_second);
#define kiln_export_emit(call, op, attrs, ...)                                                     \
    kiln_export_emit_list(call, op, attrs,                                                         \
                          sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *),            \
                          (const char *[]){__VA_ARGS__})

/* Shorthands. */
const char *kiln_export_cast(kiln_export_call *call, const char *name, kiln_dtype dtype);
const char *kiln_export_reshape(kiln_export_call *call, const char *name, uint32_t rank,
                                const int64_t *dims);
const char *kiln_export_transpose(kiln_export_call *call, const char *name, kiln_ints permutation);
/* Constants: i64 lists, and a scalar. */
const char *kiln_export_ints(kiln_export_call *call, kiln_ints values);
const char *kiln_export_scalar(kiln_export_call *call, kiln_dtype dtype, double value);
const char *kiln_export_constant(kiln_export_call *call, const kiln_type *type, const void *data);
/* Pads, crops and dilates `name` of type `type`; `value` is a scalar's name. */
typedef struct kiln_export_padding {
    kiln_ints low, high, interior;
} kiln_export_padding;
const char *kiln_export_pad(kiln_export_call *call, const char *name, const kiln_type *type,
                            const kiln_export_padding *padding, const char *value);
/* What nothing reduces to: its value, which saturates in the call's own dtype, and a scalar in that
 * which the call computes in. */
double kiln_export_identity(const kiln_export_call *call);
const char *kiln_export_identity_scalar(kiln_export_call *call);
/* What a region computes from values of these names: its nodes go to `nodes`, the names of its
 * results are returned. */
const char **kiln_export_region(kiln_export_call *call, const kiln_graph *region,
                                const char *const *args, kiln_wire *nodes);
/* A node with as many outputs as the call's tuple has items. */
const char **kiln_export_emit_many(kiln_export_call *call, const char *op, const kiln_wire *attrs,
                                   uint32_t n, const char *const *inputs);
const char *kiln_export_fresh(kiln_export *export);
kiln_wire kiln_export_port(kiln_export *export, const char *name, const kiln_type *type);
/* An array of n int64 in the arena, filled with `value`. */
int64_t *kiln_export_filled(kiln_export_call *call, uint32_t n, int64_t value);

/* For operations without a form in ONNX. */
kiln_export_fn kiln_export_none;
kiln_export_fn kiln_export_nary, kiln_export_trunc, kiln_export_expm1, kiln_export_log1p,
    kiln_export_rsqrt, kiln_export_is_finite, kiln_export_not, kiln_export_popcnt, kiln_export_clz,
    kiln_export_convert, kiln_export_bitcast, kiln_export_atan2, kiln_export_logical,
    kiln_export_shift, kiln_export_shift_arithmetic, kiln_export_ne, kiln_export_select,
    kiln_export_clamp, kiln_export_extreme, kiln_export_fmod, kiln_export_pow;
kiln_export_fn kiln_export_constant_node, kiln_export_iota, kiln_export_reduce, kiln_export_arg,
    kiln_export_window;
kiln_export_fn kiln_export_broadcast, kiln_export_reshape_node, kiln_export_transpose_node,
    kiln_export_slice, kiln_export_reverse, kiln_export_pad_node, kiln_export_concat,
    kiln_export_take, kiln_export_gather, kiln_export_scatter, kiln_export_dynamic_slice,
    kiln_export_dynamic_update;
kiln_export_fn kiln_export_dot, kiln_export_convolution, kiln_export_linear;
kiln_export_fn kiln_export_square, kiln_export_slope, kiln_export_gelu, kiln_export_affine,
    kiln_export_axis, kiln_export_layer_norm, kiln_export_batch_norm;

kiln_export_fn kiln_export_item, kiln_export_call_region, kiln_export_if, kiln_export_while,
    kiln_export_scan;
kiln_export_fn kiln_export_argsort, kiln_export_cumulative, kiln_export_cumulative_sum;

/* Which composites keep their operator: by dtype and by what ONNX fixes. */
bool kiln_export_fits_float(const kiln_graph *graph, const kiln_node *node);
bool kiln_export_fits_norm(const kiln_graph *graph, const kiln_node *node);
bool kiln_export_fits_batch_norm(const kiln_graph *graph, const kiln_node *node);
#endif
