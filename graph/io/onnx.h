/* ONNX import: a checked Kiln__Onnx__Model becomes a kiln graph. One kiln_onnx is one import, one
 * kiln_onnx_frame a graph of the model (its names), one kiln_onnx_call a node at work. Operators
 * are rows of tables by family, each over one small function that builds the node's meaning.
 *
 * Invariants: a value of the model is a value of the kiln graph, or tainted when the node that
 * makes it cannot be imported (its users are then skipped, so that one import reports every such
 * node). A call's scope is graph->scope while it runs; its INVALID becomes MODEL with the node's
 * name. */
#ifndef KILN_GRAPH_IO_ONNX_H
#define KILN_GRAPH_IO_ONNX_H

#include "graph/element.h"
#include "graph/graph.h"
#include "graph/io/prescan.h"
#include "kiln/model.h"

#define KILN_ONNX_MIN_OPSET 1
#define KILN_ONNX_MAX_OPSET 28
#define KILN_ONNX_NEWEST 9999 /* rows: to the newest operator set */
#define KILN_ONNX_TRAINING "ai.onnx.preview.training"
#define KILN_ONNX_E8M0 24     /* ONNX's number of float8e8m0 */
#define KILN_ONNX_ANY 255     /* rows: any number of operands */

typedef struct kiln_onnx kiln_onnx;
typedef struct kiln_onnx_call kiln_onnx_call;

/* Builds the node and returns its first output; further ones are set by kiln_onnx_result. */
typedef kiln_value kiln_onnx_fn(kiln_onnx_call *call);

typedef struct kiln_onnx_row {
    const char *op;
    uint16_t since, until; /* operator sets that the function serves */
    uint8_t min_inputs, max_inputs;
    kiln_onnx_fn *import;
    kiln_op kiln; /* what functions that serve many rows build; else KILN_OP_none */
    bool takes_sequences;
} kiln_onnx_row;

/* Tables by family; each ends with a row without name. Domain "" is ai.onnx. */
typedef struct kiln_onnx_family {
    const char *domain;
    const kiln_onnx_row *rows;
    const char *title; /* in docs/onnx.md */
} kiln_onnx_family;

const kiln_onnx_family *kiln_onnx_families(uint32_t *out_n);

extern const kiln_onnx_row kiln_onnx_math_rows[], kiln_onnx_activation_rows[],
    kiln_onnx_shape_rows[], kiln_onnx_slice_rows[], kiln_onnx_index_rows[], kiln_onnx_reduce_rows[],
    kiln_onnx_linear_rows[], kiln_onnx_conv_rows[], kiln_onnx_pool_rows[], kiln_onnx_norm_rows[],
    kiln_onnx_resize_rows[], kiln_onnx_source_rows[], kiln_onnx_flow_rows[],
    kiln_onnx_recurrent_rows[], kiln_onnx_quant_rows[], kiln_onnx_attention_rows[],
    kiln_onnx_einsum_rows[], kiln_onnx_loss_rows[], kiln_onnx_vision_rows[],
    kiln_onnx_scatter_rows[], kiln_onnx_state_rows[], kiln_onnx_preview_rows[],
    kiln_onnx_signal_rows[], kiln_onnx_random_rows[], kiln_onnx_train_rows[],
    kiln_onnx_gradient_rows[],
    kiln_onnx_patch_rows[], kiln_onnx_matrix_rows[], kiln_onnx_ml_rows[], kiln_onnx_deform_rows[],
    kiln_onnx_contrib_rows[], kiln_onnx_contrib_default_rows[], kiln_onnx_dynamic_rows[],
    kiln_onnx_sequence_rows[];

/* The row of that operator and operator set, or NULL. */
const kiln_onnx_row *kiln_onnx_row_find(const char *domain, const char *op, int64_t opset);

/* Where a name of the model stands. */
typedef enum kiln_onnx_origin {
    KILN_ONNX_INPUT,
    KILN_ONNX_INITIALIZER,
    KILN_ONNX_NODE,
    KILN_ONNX_OUTPUT,
} kiln_onnx_origin;

typedef struct kiln_onnx_name {
    const char *name;
    kiln_onnx_origin origin;
    uint32_t index; /* of the input, initializer or node */
    kiln_value value;
    bool is_tainted;
} kiln_onnx_name;

/* The names of one graph of the model, by hash; lookups go on in the parent. */
typedef struct kiln_onnx_frame {
    struct kiln_onnx_frame *parent;
    kiln_arena *arena;
    kiln_vec(kiln_onnx_name) names;
    uint32_t *slots; /* index in names + 1; a power of two of them */
    uint32_t n_slots;
    Kiln__Onnx__Node *const *nodes;
    uint32_t n_nodes;
    /* a function's body sees no names outside: the call that it serves, or NULL */
    const struct kiln_onnx_call *function;
    const Kiln__Onnx__Function *body;
} kiln_onnx_frame;

/* Finds a name here or in the parents; NULL when it is not there. */
kiln_onnx_name *kiln_onnx_name_find(kiln_onnx_frame *frame, const char *name);
/* Adds a name; fails with MODEL naming both places when it is taken in this frame. */
kiln_onnx_name *kiln_onnx_name_add(kiln_onnx *onnx, kiln_onnx_frame *frame,
                                   const kiln_onnx_name *name);
/* An order in which every node follows those it needs (the file's own where it is one). MODEL on a
 * cycle. n_nodes indices in the import's arena. */
const uint32_t *kiln_onnx_order(kiln_onnx *onnx, kiln_onnx_frame *frame);

/* An input whose value the caller fixed. */
typedef struct kiln_onnx_bound {
    uint32_t id;
    const void *data;
    bool is_used; /* the graph was built for this value: a run must check it */
} kiln_onnx_bound;

/* A value of a graph outside, and the parameter or constant that stands for it inside. */
typedef struct kiln_onnx_capture {
    kiln_value outer, inner;
} kiln_onnx_capture;

/* Of one axis of a value only the first `count` entries, an i64 scalar, are there; see
 * onnx_extent.h. */
typedef struct kiln_onnx_extent {
    uint32_t axis;
    kiln_value count; /* id 0: all of them */
} kiln_onnx_extent;

/* A graph that is being built: the model's own, or a region inside it. A region sees nothing
 * outside; what its nodes read there is captured, level by level. */
typedef struct kiln_onnx_level {
    struct kiln_onnx_level *outer;
    kiln_graph *graph;
    kiln_vec(kiln_onnx_capture) captures; /* constants among them */
    kiln_vec(kiln_value) fixed;           /* of the outer graph: those that became parameters */
    /* what is known of values without running the model; see onnx_known.c */
    kiln_vec(uint8_t) constness;
    kiln_vec(const void *) known;
    kiln_vec(kiln_value) copies;
    kiln_vec(uint32_t) seen;
    kiln_vec(kiln_onnx_extent) extents; /* by id, once has_extents */
    bool has_extents;
} kiln_onnx_level;

/* A sequence of tensors. The value that stands for one has this graph number, and 1 + its place in
 * kiln_onnx.sequences as id. */
#define KILN_ONNX_SEQUENCE UINT32_MAX
typedef struct kiln_onnx_sequence {
    uint32_t n;
    const kiln_value *at;
} kiln_onnx_sequence;

struct kiln_onnx {
    kiln_scope *scope; /* of the import; scopes of calls come and go */
    kiln_graph *graph; /* of the innermost level */
    kiln_onnx_level *level;
    const kiln_source *source;
    const Kiln__Onnx__Model *model;
    const kiln_import_options *options;
    int64_t opset; /* of ai.onnx */
    int folder;    /* directory of the model, opened for external data, or -1 */
    const char *folder_path;
    kiln_vec(const char *) unsupported; /* one line a node */
    uint32_t depth;                     /* of nested graphs and functions */
    uint32_t n_imported;                /* nodes so far, those of bodies each time */
    kiln_onnx_bound *bound;             /* of options->values */
    bool *is_dim_used;                  /* of options->dims */
    uint32_t n_stamps; /* of searches in onnx_known.c */
    kiln_vec(kiln_onnx_sequence) sequences;
    uint64_t n_listed; /* tensors of all of them */
    kiln_vec(kiln_value) scales; /* float8e8m0 values, of all graphs; onnx_scale.c */
};

struct kiln_onnx_call {
    kiln_onnx *onnx;
    kiln_graph *graph;
    kiln_scope *scope;
    kiln_onnx_frame *frame;
    const Kiln__Onnx__Node *node;
    const kiln_onnx_row *row;
    int64_t opset; /* of the node's domain */
    uint32_t n_inputs, n_outputs;
    kiln_value *inputs;  /* id 0: left out */
    kiln_value *outputs; /* id 0: not asked for, or not made yet */
    uint64_t read;       /* attributes that were looked at */
    bool is_tainted;     /* an operand or the result comes from a node that cannot be imported */
    bool is_extent_read; /* the function has served an operand whose size depends on the data */
};

/* 'name', escaped and cut for a sentence. */
const char *kiln_onnx_quote(kiln_arena *arena, const char *name);
/* MODEL and UNSUPPORTED with a sentence that needs no "where": the node is put before it. */
_Noreturn void kiln_onnx_fail(kiln_onnx_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
_Noreturn void kiln_onnx_refuse(kiln_onnx_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The operator set of a domain, 0 for none: within a function's body the function's own. */
int64_t kiln_onnx_opset(const kiln_onnx *onnx, const kiln_onnx_frame *frame, const char *domain);
/* Imports all nodes of a frame in order. */
void kiln_onnx_nodes(kiln_onnx *onnx, kiln_onnx_frame *frame);
/* Adds the initializers of a graph to its frame. */
void kiln_onnx_initializers(kiln_onnx *onnx, kiln_onnx_frame *frame,
                            const Kiln__Onnx__Graph *graph);
/* The model's own function of that name, or NULL; importing a call of it sets the call's outputs.
 */
const Kiln__Onnx__Function *kiln_onnx_function_find(const kiln_onnx *onnx, const char *domain,
                                                    const char *op);
void kiln_onnx_function(kiln_onnx_call *call, const Kiln__Onnx__Function *function);

/* onnx_region.c: a new innermost level, and back to the one around it. */
kiln_onnx_level *kiln_onnx_level_enter(kiln_onnx_call *call, const char *name);
void kiln_onnx_level_leave(kiln_onnx *onnx, kiln_onnx_level *outer);
/* The value in the innermost graph. */
kiln_value kiln_onnx_capture_value(kiln_onnx_call *call, kiln_value value);

/* Tensors: a constant of the graph; FILE literals beyond KILN_LITERAL_BYTES_MAX. */
kiln_value kiln_onnx_tensor(kiln_onnx *onnx, const Kiln__Onnx__Tensor *tensor, const char *where);
/* The dtype of an ONNX type number; UNSUPPORTED or MODEL when there is none. */
kiln_dtype kiln_onnx_dtype(kiln_onnx *onnx, int64_t number, const char *where);
/* Opens external data below the model's folder and returns its place as a literal. */
void kiln_onnx_external(kiln_onnx *onnx, const Kiln__Onnx__Tensor *tensor, const char *where,
                        kiln_literal *out_literal);
#endif
