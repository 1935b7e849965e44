/* Writing a compiled model as a shared object with a C header. The tables of the program become an
 * assembly text with the constants by `.incbin`; the system's C compiler driver assembles and links
 * it with the kernels' objects and the small runtime that libkiln carries (runtime/aot.h). */
#ifndef KILN_CODEGEN_LIBRARY_H
#define KILN_CODEGEN_LIBRARY_H

#include "codegen/backend.h"

typedef struct kiln_library_spec {
    const char *path;            /* of the shared object */
    const char *header;          /* path, or NULL: none */
    const char *prefix;          /* [a-z][a-z0-9_]{0,30}; NULL: "model" */
    const kiln_program *program; /* complete but for `kernels`, which is not read */
    const kiln_object *objects;  /* program->n_kernels of them: kernel i is objects[i].symbol; an
                                    object may come several times, symbols of others differ */
} kiln_library_spec;

/* Writes both files whole or not at all. The object needs libc only and exports PREFIX_program,
 * PREFIX_run, PREFIX_arena_bytes, PREFIX_inputs and PREFIX_outputs, with LIBRARY steps PREFIX_call
 * too, with an open batch PREFIX_run_rows. The same spec gives the same bytes with the same
 * compiler driver. INVALID (prefix), IO, or UNSUPPORTED when there is no cc. */
void kiln_library_write(kiln_scope *scope, const kiln_library_spec *spec);

/* Whether the program has LIBRARY steps. */
bool kiln_library_has_calls(const kiln_program *program);
/* The two texts, for tests and dumps. `constants` is the file of the constants' bytes. */
void kiln_library_print_assembly(const kiln_library_spec *spec, const char *constants,
                                 kiln_text *text);
void kiln_library_print_header(const kiln_library_spec *spec, kiln_text *text);
#endif
