/* The inputs that an ONNX file declares, without importing it. */
#ifndef KILN_GRAPH_IO_ONNX_PORTS_H
#define KILN_GRAPH_IO_ONNX_PORTS_H

#include "base/scope.h"
#include "kiln/function.h"

/* Inputs that are no initializers, in order, in the scope's arena; sets *out_n. MODEL or
 * UNSUPPORTED for what an import refuses too. */
kiln_function_input *kiln_onnx_list_inputs(kiln_scope *scope, const char *path, uint32_t *out_n);
#endif
