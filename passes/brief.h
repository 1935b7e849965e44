/* Products that run faster than they compile; fusion and lowering must agree on them. */
#ifndef KILN_PASSES_BRIEF_H
#define KILN_PASSES_BRIEF_H

#include "passes/schedule.h"

/* Whether a contraction is a dot_general that, by its shape and dtypes, may become one short kernel
 * that reads both operands in place (codegen/dot_brief.c), so that its second operand is not to be
 * packed. */
bool kiln_dot_may_be_brief(kiln_arena *arena, const kiln_graph *graph, kiln_value contraction);
/* Whether it may become one short kernel whose tiles pack their columns of the second operand
 * themselves: that is an input of the graph, in any order in memory. */
bool kiln_dot_may_pack_briefly(kiln_arena *arena, const kiln_graph *graph, kiln_value contraction,
                               const kiln_machine *machine);
#endif
