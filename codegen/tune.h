/* Timing while compiling, where it was asked for: which register tile and how many blocks a
 * product's kernel gets. Candidates are what the cost model chooses from; none of them changes a
 * bit of the result. */
#ifndef KILN_CODEGEN_TUNE_H
#define KILN_CODEGEN_TUNE_H

#include "codegen/compile.h"

/* Times the products of a planned part on this machine and writes the fastest choice to
 * group->tuned. Equal products are timed once. */
void kiln_tune_part(kiln_compilation *compilation, const kiln_part *part);
#endif
