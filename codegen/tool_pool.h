/* A backend's tools, kept by the context between compiles and lent to one compile at a time, so
 * that compiles side by side have some each. */
#ifndef KILN_CODEGEN_TOOL_POOL_H
#define KILN_CODEGEN_TOOL_POOL_H

#include "codegen/backend.h"

/* Tools for compiles in this scope, which gives them back at its end. With a NULL context they are
 * closed there. */
kiln_tools *kiln_tools_borrow(kiln_scope *scope, kiln_context *context,
                              const kiln_backend *backend);
#endif
