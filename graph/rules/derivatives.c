/* The table of derivatives, made from derivatives.def. An op of ops.def without a row there, or
 * with two, does not compile. */
#include "graph/rules/derive.h"

#define KILN_DERIVATIVE(name, kind, what)                                                          \
    [KILN_OP_##name] = {KILN_DERIVATIVE_##kind, KILN_DERIVE_##kind(name), what},
#define KILN_DERIVE_RULE(name) kiln_derive_##name
#define KILN_DERIVE_EXPANSION(name) NULL
#define KILN_DERIVE_CONSTANT(name) NULL
#define KILN_DERIVE_REFUSED(name) NULL
const kiln_derivative_row kiln_derivative_rows[KILN_N_OPS] = {
#include "graph/rules/derivatives.def"
};
#undef KILN_DERIVATIVE

/* Every op is named once: as many rows as ops, and one name twice is an enumerator twice. */
enum {
#define KILN_DERIVATIVE(name, kind, what) HAS_##name,
#include "graph/rules/derivatives.def"
#undef KILN_DERIVATIVE
    N_DERIVATIVES
};
_Static_assert(N_DERIVATIVES == KILN_N_OPS - 1,
               "an op of ops.def has no row in graph/rules/derivatives.def");
