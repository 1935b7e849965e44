/* A composite of one operand as a compiled graph over tiles of values. Exits where that fails. */
#ifndef KILN_TESTS_COMPOSITE_H
#define KILN_TESTS_COMPOSITE_H

#include "graph/graph.h"
#include "kiln/kiln.h"

#define COMPOSITE_TILE 4096

typedef struct composite {
    kiln_context *context;
    kiln_executable *executable;
} composite;

composite composite_open(kiln_op op, kiln_dtype dtype, const char *machine);
void composite_close(composite *code);
/* One for each thread; NULL for NULL. */
kiln_workspace *composite_workspace(kiln_executable *executable);
/* out = f(in), COMPOSITE_TILE elements each. */
void composite_run(kiln_workspace *workspace, kiln_dtype dtype, void *in, void *out);
#endif
