/* Relocatable x86-64 ELF objects: checking that they stand alone, and loading them into this
 * process. A loader of our own, because ours are the simplest objects there are (code and
 * constants, no data, no imports): some microseconds an object, no LLVM in a run from the cache.
 * Memory is written, then made executable, never both. */
#ifndef KILN_CODEGEN_OBJECT_H
#define KILN_CODEGEN_OBJECT_H

#include "codegen/backend.h"

/* KILN_OK when `object` is well formed, defines its symbol and needs none; CORRUPT or INTERNAL. */
kiln_status kiln_object_check(const kiln_object *object, kiln_error *error);

/* Loads all objects into one stretch of memory; functions[i] is object i's symbol. The code is the
 * caller's until kiln_code_unload, also when the scope closes. With $KILN_PERF_MAP set, symbols are
 * appended to /tmp/perf-PID.map for perf. */
void kiln_code_load(kiln_scope *scope, const kiln_object *objects, uint32_t n,
                    kiln_code **out_code);
kiln_kernel_fn *kiln_code_function(const kiln_code *code, uint32_t number);
void kiln_code_unload(kiln_code *code);
#endif
