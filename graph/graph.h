/* The graph: what is computed. Nodes are immutable and hash-consed: asking for a node that exists
 * returns it, so common subexpressions never arise. Ids ascend in topological order; id 0 is no
 * value. A pass reads a const graph and builds the next one; what it does not copy is dead.
 *
 * Invariants (checked by graph/verify.c after every pass):
 *   every input id is smaller than the node's own id; the type is what the op's rule infers;
 *   attributes are of the row's family and within range; byte sizes fit int64 and the limits.
 *
 * Functions here fail by kiln_fail on graph->scope (set by KILN_GRAPH_ENTER of the public entry or
 * by the compile); only the public builder in include/kiln/graph.h is sticky. */
#ifndef KILN_GRAPH_GRAPH_H
#define KILN_GRAPH_GRAPH_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/scope.h"
#include "base/text.h"
#include "base/vec.h"
#include "kiln/graph.h"

typedef enum kiln_op {
    KILN_OP_none = 0,
#define KILN_OP(name, class_, n_inputs, types, result, attrs, meaning) KILN_OP_##name,
#include "kiln/ops.def"
#undef KILN_OP
    KILN_N_OPS
} kiln_op;

typedef enum kiln_class {
    KILN_SOURCE,
    KILN_ELEMENTWISE,
    KILN_REDUCE,
    KILN_WINDOW,
    KILN_VIEW,
    KILN_MOVE,
    KILN_CONTRACT,
    KILN_ROUTINE,
    KILN_REGION,
    KILN_COMPOSITE,
} kiln_class;

typedef enum kiln_dtype_set {
    KILN_TYPES_FLOAT,
    KILN_TYPES_INTEGER,
    KILN_TYPES_NUMBER,
    KILN_TYPES_BITS,
    KILN_TYPES_BOOL,
    KILN_TYPES_ANY,
    KILN_TYPES_ORDERED,
    KILN_TYPES_FIELD,
    KILN_TYPES_ARITHMETIC,
    KILN_TYPES_COMPLEX,
} kiln_dtype_set;

typedef enum kiln_result_rule {
    KILN_RESULT_SAME,
    KILN_RESULT_BOOL,
    KILN_RESULT_GIVEN,
    KILN_RESULT_RULE,
    KILN_RESULT_EXPANSION,
} kiln_result_rule;

typedef enum kiln_family {
    KILN_FAMILY_none = 0,
#define KILN_ATTRS(family, fields) KILN_FAMILY_##family,
#include "graph/attrs.def"
#undef KILN_ATTRS
    KILN_N_FAMILIES
} kiln_family;

/* One row of ops.def. */
typedef struct kiln_op_row {
    const char *name;
    kiln_class class_;
    uint8_t min_inputs, max_inputs; /* max 255: any number */
    kiln_dtype_set types;
    kiln_result_rule result;
    kiln_family attrs;
    const char *meaning;
} kiln_op_row;

extern const kiln_op_row kiln_op_rows[KILN_N_OPS];

/* The op of that name, or KILN_OP_none. */
kiln_op kiln_op_find(const char *name, size_t n);

/* A tensor type, interned per graph: equal types are the same pointer. A tuple (only on REGION
 * nodes, read by `item` nodes) has n_items > 0 and no dtype; its elements count its items, its
 * bytes are those of the items, each at a multiple of KILN_ITEM_ALIGN. */
typedef struct kiln_type {
    kiln_dtype dtype;
    uint32_t rank;
    const int64_t *dims;
    int64_t n_elements; /* product of dims */
    int64_t bytes;
    uint32_t n_items;
    const struct kiln_type *const *items;
} kiln_type;

#define KILN_ITEM_ALIGN 64

typedef struct kiln_ints {
    uint32_t n;
    const int64_t *at;
} kiln_ints;

/* Closed graphs: the inputs are the parameters, the outputs the results. */
typedef struct kiln_regions {
    uint32_t n;
    const kiln_graph *const *at;
} kiln_regions;

#define KILN_MAX_REGIONS 4096

typedef enum kiln_literal_kind {
    KILN_LITERAL_SPLAT, /* `data` holds one element */
    KILN_LITERAL_BYTES, /* all elements, at most KILN_LITERAL_BYTES_MAX; compared by content */
    KILN_LITERAL_BLOB,  /* all elements, owned or borrowed memory; compared by origin */
    KILN_LITERAL_FILE,  /* a stretch of a file, read when it is needed; compared by origin */
} kiln_literal_kind;

#define KILN_LITERAL_BYTES_MAX 65536

typedef struct kiln_literal {
    kiln_literal_kind kind;
    const void *data; /* NULL for FILE */
    int64_t bytes;
    const char *file; /* FILE: path; BLOB: the origin's name, or NULL */
    int64_t offset;
    uint64_t origin;  /* BLOB and FILE: unique per blob and process */
    uint64_t stamp;   /* FILE: kiln_file_stamp when it was checked, or 0 */
} kiln_literal;

/* A stretch of bytes. */
typedef struct kiln_stretch {
    int64_t offset, bytes;
} kiln_stretch;

#define KILN_FIELD_INT int64_t
#define KILN_FIELD_INTS kiln_ints
#define KILN_FIELD_FLOAT double
#define KILN_FIELD_BOOL bool
#define KILN_FIELD_DTYPE kiln_dtype
#define KILN_FIELD_LITERAL kiln_literal
#define KILN_FIELD_REGIONS kiln_regions
#define KILN_FIELD_STRING const char *
#define KILN_FIELD_CHOICE int64_t

/* Attributes of a node: family says which member of the union is meant. */
typedef struct kiln_attrs {
    kiln_family family;
    union {
#define FIELD(kind, name) KILN_FIELD_##kind name;
#define KILN_ATTRS(family, fields)                                                                 \
    struct {                                                                                       \
        fields                                                                                     \
    } family;
#include "graph/attrs.def"
#undef KILN_ATTRS
#undef FIELD
    };
} kiln_attrs;

typedef struct kiln_node {
    uint16_t op; /* kiln_op */
    uint32_t n_inputs;
    const kiln_type *type;
    const kiln_value *inputs;
    const kiln_attrs *attrs; /* NULL unless the row names a family */
    const char *label;       /* the user's name or NULL; survives passes; not part of identity */
    uint32_t id;             /* its own place in graph->nodes */
} kiln_node;

/* An output whose size depends on the data has the dims of its bound, and an i64 output that
 * counts: of axis `counted_axis` only as many entries are there, and the elements of the shape that
 * has them stand dense at the front. */
typedef struct kiln_graph_output {
    kiln_value value;
    const char *name;
    uint32_t counted_by; /* which output, or KILN_NOT_COUNTED */
    uint32_t counted_axis;
} kiln_graph_output;

#define KILN_NOT_COUNTED UINT32_MAX

/* A condition on the data: value is an i64 scalar counting failures; a run in which it is not 0
 * returns RANGE with the sentence. */
typedef struct kiln_graph_check {
    kiln_value value;
    const char *sentence;
} kiln_graph_check;

struct stat;
typedef struct kiln_graph_table kiln_graph_table; /* interned nodes and types; graph.c */

struct kiln_graph {
    uint32_t id;         /* distinguishes handles of different graphs; never 0 */
    kiln_context *context;
    kiln_arena arena;
    kiln_scope *scope;   /* of the entry at work */
    kiln_error error;    /* sticky while building */
    kiln_error report;   /* of the last call that read the graph and failed (compile, evaluate) */
    const char *name;
    kiln_vec(kiln_node *) nodes; /* nodes.at[id]; at[0] is NULL */
    kiln_vec(kiln_value) inputs; /* in declaration order; node label = name */
    kiln_vec(kiln_graph_output) outputs;
    kiln_vec(kiln_graph_check) checks;
    kiln_graph_table *table;
    uint32_t n_serials;
    /* Provenance, for schedules that keep one kernel per node the user wrote: origins.at[id] is the
     * id that node had in the graph the user built. kiln_graph_add pushes current_origin for each
     * new node, or the node's own id while current_origin is 0. A pass sets current_origin to
     * source->origins.at[id] before it rewrites node id of its source; kiln_graph_copy does so
     * itself for the time of its call. Not part of identity; text does not show it. */
    kiln_vec(uint32_t) origins;
    uint32_t current_origin;
    /* Regions: graph/region.c. */
    _Atomic uint32_t n_holders; /* the owner, and one for each node with this region */
    kiln_vec(kiln_graph *) regions; /* held by nodes of this graph */
    uint32_t depth;                 /* of regions within this graph; 0: none */
    bool is_closed;                 /* a region: nothing may be added any more */
    uint64_t region_hash;           /* of a closed graph, by structure */
};

/* Lets the graph fail through, and allocate on behalf of, the scope of the entry at work. */
static inline void kiln_graph_attach(kiln_graph *graph, kiln_scope *scope)
{
    graph->scope = scope;
    graph->arena.scope = scope;
}

/* Keeps the sentence of a failed call that only read the graph; the builder's own is untouched. */
void kiln_graph_set_message(const kiln_graph *graph, const kiln_error *error);

/* Gives the graph back: it is freed when no region refers to it either; NULL is allowed. */
void kiln_graph_free(kiln_graph *graph);

/* An empty graph in the same context, failing through `scope`, owned by it (freed at its close
 * unless kept). What passes write into. */
kiln_graph *kiln_graph_open(kiln_scope *scope, kiln_context *context, const char *name);

static inline const kiln_node *kiln_graph_node(const kiln_graph *graph, kiln_value value)
{
    return graph->nodes.at[value.id];
}

static inline const kiln_type *kiln_graph_type(const kiln_graph *graph, kiln_value value)
{
    return graph->nodes.at[value.id]->type;
}

static inline const kiln_op_row *kiln_node_row(const kiln_node *node)
{
    return &kiln_op_rows[node->op];
}

#define KILN_MAX_DIM ((int64_t)1 << 40)
#define KILN_MAX_ELEMENTS ((int64_t)1 << 48)
#define KILN_MAX_NODES (1u << 24)

/* Interns a tensor type. INVALID on a dim < 0, rank > 16 or an overflowing size, LIMIT beyond the
 * numbers above. */
const kiln_type *kiln_graph_tensor(kiln_graph *graph, kiln_dtype dtype, uint32_t rank,
                                   const int64_t *dims);

/* Interns a tuple of types of this graph; at least one. */
const kiln_type *kiln_graph_tuple(kiln_graph *graph, uint32_t n, const kiln_type *const *items);
/* A type of another graph, tensor or tuple, in this one. */
const kiln_type *kiln_graph_retype(kiln_graph *graph, const kiln_type *type);
/* By content; the types may belong to different graphs. */
bool kiln_type_equal(const kiln_type *a, const kiln_type *b);
/* Where item `index` begins in the bytes of a tuple. */
int64_t kiln_type_item_offset(const kiln_type *tuple, uint32_t index);

#define KILN_MAX_NESTING 64
#define KILN_TRIPS_SENTENCE "while: over %lld trips; expected its condition to end it before"

/* Makes `region` a region: it gets its hash, and nothing may be added to it any more. INVALID when
 * it has no outputs or holds its builder's error. */
void kiln_region_close(kiln_scope *scope, kiln_graph *region);
/* By structure: nodes in order, outputs and checks; names do not count. */
bool kiln_regions_equal(kiln_regions a, kiln_regions b);
/* What `source` computes from `args`, one value of `graph` per input, in the user's order. Its
 * checks join those of the graph. Writes source->outputs.n values. */
void kiln_graph_inline(kiln_graph *graph, const kiln_graph *source, const kiln_value *args,
                       kiln_value *out_results);
/* Whether the node's regions are over scalars: they never stand for themselves in a program. */
bool kiln_node_is_scalar_region(const kiln_node *node);
kiln_value kiln_add_item(kiln_graph *graph, kiln_value tuple, uint32_t index);

/* What kiln_graph_add needs to know. `given` is the result type for GIVEN rows, else NULL; `attrs`
 * may live on the stack, lists included: they are copied when the node is new. */
typedef struct kiln_node_spec {
    kiln_op op;
    const kiln_type *given;
    const kiln_value *inputs;
    uint32_t n_inputs;
    const kiln_attrs *attrs;
    const char *label;
} kiln_node_spec;

/* The one way to make a node: checks operands, infers the type, interns. A new input joins
 * graph->inputs. Fails with INVALID and a sentence naming op and operand types. */
kiln_value kiln_graph_add(kiln_graph *graph, const kiln_node_spec *spec);

/* Shorthands of kiln_graph_add for rules and passes. */
kiln_value kiln_add_unary(kiln_graph *graph, kiln_op op, kiln_value a);
kiln_value kiln_add_binary(kiln_graph *graph, kiln_op op, kiln_value a, kiln_value b);
kiln_value kiln_add_convert(kiln_graph *graph, kiln_value a, kiln_dtype dtype);
kiln_value kiln_add_reshape(kiln_graph *graph, kiln_value a, uint32_t rank, const int64_t *dims);
kiln_value kiln_add_transpose(kiln_graph *graph, kiln_value a, const int64_t *permutation);
kiln_value kiln_add_reduce(kiln_graph *graph, kiln_op op, kiln_value a, uint32_t n_axes,
                           const int64_t *axes);
/* Broadcasts `a` to dims; axes[i] is the result axis of operand axis i. */
kiln_value kiln_add_broadcast(kiln_graph *graph, kiln_value a, uint32_t rank, const int64_t *dims,
                              const int64_t *axes);
/* NumPy broadcasting to dims: trailing axes line up. Returns `a` when nothing changes. */
kiln_value kiln_add_broadcast_to(kiln_graph *graph, kiln_value a, uint32_t rank,
                                 const int64_t *dims);
/* Puts reduced axes (sorted) back by broadcasting `a` to the dims of `like`. */
kiln_value kiln_add_unreduce(kiln_graph *graph, kiln_value a, kiln_value like, uint32_t n_axes,
                             const int64_t *axes);
/* Moves groups of one axis in front of another: [groups n, c] becomes [n, groups c]. They divide
 * the axis; the rank is below KILN_MAX_RANK. */
kiln_value kiln_add_move_groups(kiln_graph *graph, kiln_value a, int64_t from, int64_t to,
                                int64_t groups);
/* A constant whose elements are all `value`, converted to dtype. */
kiln_value kiln_add_splat(kiln_graph *graph, kiln_dtype dtype, uint32_t rank, const int64_t *dims,
                          double value);
/* A splat with the type of `like`. */
kiln_value kiln_add_splat_like(kiln_graph *graph, kiln_value like, double value);
/* A constant from bytes that are copied: SPLAT when all elements are the same bits, else BYTES or
 * BLOB by size. */
kiln_value kiln_add_constant(kiln_graph *graph, const kiln_type *type, const void *data);
/* Memory of a BLOB is borrowed; an origin of 0 asks for a fresh one. */
kiln_value kiln_add_literal(kiln_graph *graph, const kiln_type *type, const kiln_literal *literal);
/* A fresh input, appended to graph->inputs; its name must be new. */
kiln_value kiln_add_input(kiln_graph *graph, const kiln_type *type, const char *name, bool donated);
#define KILN_OUTPUT_NAME_BYTES 16
/* The name of an output that was given none. */
void kiln_output_name(char name[KILN_OUTPUT_NAME_BYTES], uint32_t index);
/* A NULL name is "y" for the first output, "y1" for the second, …; names must differ. */
void kiln_add_output(kiln_graph *graph, kiln_value value, const char *name);
void kiln_add_check(kiln_graph *graph, kiln_value failures, const char *sentence);
/* The output of another graph, made from `value` here: its name and what counts it. */
void kiln_copy_output(kiln_graph *graph, kiln_value value, const kiln_graph_output *output);
/* Output `output` is counted along `axis` by output `by`, which may follow later; the verifier
 * checks them. */
void kiln_count_output(kiln_graph *graph, uint32_t output, uint32_t axis, uint32_t by);

/* Copies `node` of another graph with inputs mapped: map[id of source] = value here. Labels come
 * along. The step of a pass that changes nothing about a node. */
kiln_value kiln_graph_copy(kiln_graph *graph, const kiln_graph *source, const kiln_node *node,
                           const kiln_value *map);

/* The result type the row's rule gives; fails as kiln_graph_add does. */
const kiln_type *kiln_infer(kiln_graph *graph, const kiln_node_spec *spec);

/* Checks every invariant of the graph; KILN_OK or the status with its sentence in `error`. `where`
 * opens the sentence ("after simplify"). Shares no code with infer's callers but the rules. */
kiln_status kiln_graph_verify(const kiln_graph *graph, const char *where, kiln_error *error);

/* Text form. Printing then parsing gives the same graph, bit for bit; grammar in docs/ir.md. The
 * brief form, for dumps, gives the size of blobs only and cannot be read back. */
void kiln_graph_print(const kiln_graph *graph, kiln_text *text);
void kiln_graph_print_brief(const kiln_graph *graph, kiln_text *text);
/* "%x" for an input, "%7" for a node, as the text form numbers them. */
void kiln_value_print(kiln_text *text, const kiln_graph *graph, kiln_value value);
/* MODEL with "line:column: " before the sentence, the text there and a caret after it; the graph is
 * owned by the scope. */
kiln_graph *kiln_graph_parse(kiln_scope *scope, kiln_context *context, const char *text, size_t n);
/* One node, as the text form spells it, for error sentences: "%7: f32[2,3] = add %5, %6". */
const char *kiln_node_string(kiln_arena *arena, const kiln_graph *graph, kiln_value value);

/* Reads literal element bytes into `out` (type->bytes), expanding splats and reading files. Files
 * that became shorter or changed since their stamp are IO; bool comes as 0 or 1. */
void kiln_literal_read(kiln_scope *scope, const kiln_type *type, const kiln_literal *literal,
                       void *out);
/* The same for bytes [offset, offset + bytes) of the elements, whole elements each. */
void kiln_literal_read_part(kiln_scope *scope, const kiln_type *type, const kiln_literal *literal,
                            kiln_stretch part, void *out);
/* Which file and which version of it a descriptor is: changes when it is written or replaced. */
uint64_t kiln_file_stamp(const struct stat *about);

/* The expansion of a composite: builds it over `inputs` in `graph` and returns its value. Rows live
 * in graph/rules. Fails with INVALID naming the op when attributes or operands are wrong. */
typedef kiln_value kiln_expand_fn(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                  const kiln_attrs *attrs);
extern kiln_expand_fn *const kiln_expand_rules[KILN_N_OPS]; /* NULL unless COMPOSITE */

/* The evaluator: the oracle. Naive loops, f64 accumulation, no code shared with the emitters.
 * `inputs` and `outputs` follow graph->inputs and graph->outputs; outputs' data is written. */
void kiln_eval(kiln_scope *scope, const kiln_graph *graph, const kiln_tensor *inputs,
               kiln_tensor *outputs);
/* Every node's value in one dense array each, values[id] (NULL for ids not needed); in scope's
 * arena. `needed` as bool[nodes.n] or NULL for what outputs need. */
void **kiln_eval_nodes(kiln_scope *scope, const kiln_graph *graph, const kiln_tensor *inputs);
#endif
