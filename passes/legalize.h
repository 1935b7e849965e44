/* Inside the pass legalize: what stands for a value of a dtype that kernels do not have.
 *
 *   i2, i4, u2, u4           i8, u8 of the same value
 *   f4e2m1, f8…              u8, the pattern; arithmetic decodes to f32 and encodes again
 *   c64, c128                two values of f32, f64: the parts
 *
 * At ports and in large constants elements of 4 and 2 bits are packed, u8[ceil(n / 2)] and
 * u8[ceil(n / 4)], and complex ones are pairs, f32[…, 2]. */
#ifndef KILN_PASSES_LEGALIZE_H
#define KILN_PASSES_LEGALIZE_H

#include "graph/element.h"
#include "passes/pass.h"

typedef struct kiln_legal {
    kiln_pipeline *pipeline;
    const kiln_graph *source;
    kiln_graph *target;
    bool is_region;        /* its parameters and results are not packed */
    kiln_value *values;    /* by source id: what stands for it, of a complex value its real part */
    kiln_value *imaginary; /* by source id: of complex values */
} kiln_legal;

typedef struct kiln_parts {
    kiln_value re, im;
} kiln_parts;

/* How kernels have it. */
kiln_dtype kiln_legal_dtype(kiln_dtype dtype);
bool kiln_dtype_is_legal(kiln_dtype dtype);
bool kiln_dtype_is_packed(kiln_dtype dtype);       /* 4 or 2 bits */
bool kiln_dtype_is_narrow_float(kiln_dtype dtype); /* 8 or 4 bits */

static inline const kiln_type *kiln_legal_operand(const kiln_legal *legal, const kiln_node *node,
                                                  uint32_t operand)
{
    return legal->source->nodes.at[node->inputs[operand].id]->type;
}

/* The node over other operands, with a result of `dtype` where its type is given. */
kiln_value kiln_legal_node(kiln_legal *legal, const kiln_node *node, const kiln_value *inputs,
                           kiln_dtype dtype);

/* Nodes that only move elements. */
bool kiln_legal_is_move(const kiln_node *node);
/* The op convert between real dtypes, of what stands for a value. */
kiln_value kiln_legal_number(kiln_graph *graph, kiln_value a, kiln_dtype from, kiln_dtype to);

/* a op value, with a splat like `a`. */
kiln_value kiln_legal_with(kiln_graph *graph, kiln_op op, kiln_value a, double value);
kiln_value kiln_legal_bitcast(kiln_graph *graph, kiln_value a, kiln_dtype dtype);
/* Elements starts … limits - 1 of every axis. */
kiln_value kiln_legal_slice(kiln_graph *graph, kiln_value a, const int64_t *starts,
                            const int64_t *limits);
kiln_value kiln_legal_select(kiln_graph *graph, kiln_value condition, kiln_value a, kiln_value b);

/* Narrow floats (legalize_float.c): u8 pattern to f32, exact; f32 or f64 to the nearest pattern. */
kiln_value kiln_float_decode(kiln_graph *graph, kiln_value pattern, kiln_dtype dtype);
kiln_value kiln_float_encode(kiln_graph *graph, kiln_value a, kiln_dtype dtype);

/* Packed elements (legalize_int.c). Bytes are u8[m]; values are i8 for i4 and i2, else u8. */
kiln_value kiln_packed_unpack(kiln_graph *graph, kiln_value bytes, const kiln_type *type);
kiln_value kiln_packed_pack(kiln_graph *graph, kiln_value a, kiln_dtype dtype);
/* The integer of that dtype that the low bits are. */
kiln_value kiln_packed_wrap(kiln_graph *graph, kiln_value a, kiln_dtype dtype);
/* `a` within the range of that dtype. */
kiln_value kiln_packed_clamp(kiln_graph *graph, kiln_value a, kiln_dtype dtype);
/* A node that computes, with packed integers as operands or result; convert and bitcast apart. */
kiln_value kiln_legal_int_node(kiln_legal *legal, const kiln_node *node);

/* Complex values (legalize_parts.c); `im` of a result that is not complex is none. */
kiln_parts kiln_legal_parts(const kiln_legal *legal, kiln_value source);
kiln_parts kiln_legal_complex_node(kiln_legal *legal, const kiln_node *node);
kiln_parts kiln_parts_split(kiln_graph *graph, kiln_value port);
kiln_value kiln_parts_join(kiln_graph *graph, kiln_parts parts);

/* legalize_solve.c */
kiln_parts kiln_parts_cholesky(kiln_legal *legal, const kiln_node *node);
kiln_parts kiln_parts_forward_solve(kiln_legal *legal, const kiln_node *node);

/* Regions (legalize_region.c). The graph in dtypes that kernels have. */
kiln_graph *kiln_legalize_graph(kiln_pipeline *pipeline, const kiln_graph *graph, bool is_region);
/* Whether a region of the node has a dtype that kernels lack. */
bool kiln_legal_has_regions(const kiln_node *node);
kiln_parts kiln_legal_region_node(kiln_legal *legal, const kiln_node *node);
/* scatter_add and scatter_mul of narrow floats: each step rounds, so their region does. */
kiln_value kiln_legal_scatter(kiln_legal *legal, const kiln_node *node);
/* What stands for a value, a complex one in one piece. */
kiln_value kiln_legal_whole(kiln_legal *legal, kiln_value source);

/* Elementwise ops on parts (legalize_complex.c). */
typedef struct kiln_parts_row {
    kiln_parts (*unary)(kiln_graph *graph, kiln_parts a);
    kiln_parts (*binary)(kiln_graph *graph, kiln_parts a, kiln_parts b);
} kiln_parts_row;
extern const kiln_parts_row kiln_parts_rows[KILN_N_OPS];
#endif
