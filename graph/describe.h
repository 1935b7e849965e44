/* Types, shapes and names as error sentences spell them; strings live as long as the arena. */
#ifndef KILN_GRAPH_DESCRIBE_H
#define KILN_GRAPH_DESCRIBE_H

#include "graph/graph.h"

/* "f32[2,3]"; a tuple is "(f32[2,3], i64[])". */
void kiln_type_print(kiln_text *text, const kiln_type *type);
const char *kiln_type_string(kiln_arena *arena, const kiln_type *type);
const char *kiln_dims_string(kiln_arena *arena, kiln_dtype dtype, uint32_t rank,
                             const int64_t *dims);
const char *kiln_ints_string(kiln_arena *arena, kiln_ints ints);
const char *kiln_quoted(kiln_arena *arena, const char *name);

/* "f32[2,3]", "f32[2,3] and f32[3]", "a, b and c"; more than eight end in "…". */
const char *kiln_types_string(kiln_arena *arena, const kiln_type *const *types, uint32_t n);

/* "name(f32[2,3], i64[]) -> (f32[2])" of a custom call, from the types of its operands. */
const char *kiln_signature_string(kiln_arena *arena, const kiln_node *node,
                                  const kiln_type *const *types);
#endif
