/* What a backend fills in. The LLVM backend is a module of its own that libkiln opens at the first
 * compile: a run of a compiled model never loads LLVM. */
#ifndef KILN_CODEGEN_BACKEND_H
#define KILN_CODEGEN_BACKEND_H

#include "codegen/kernel.h"
#include "kiln/program.h"

/* Machine code of one kernel: a relocatable object with one function `symbol` of type
 * kiln_kernel_fn and no undefined symbol. */
typedef struct kiln_object {
    const void *data; /* in the scope's arena */
    size_t bytes;
    const char *symbol;
} kiln_object;

/* Code loaded into this process; `functions[i]` is object i's. */
typedef struct kiln_code kiln_code;

/* A backend's own, between compiles; tool_pool.h lends those of a context. */
typedef struct kiln_tools kiln_tools;

typedef struct kiln_backend {
    uint32_t struct_bytes;
    const char *name;    /* "llvm" */
    const char *version; /* "19.1.7": part of every cache key */
    /* Target IR of a kernel as text, for dumps and tests. */
    void (*emit)(kiln_scope *scope, const kiln_kernel *kernel, const char *symbol, kiln_text *text);
    /* What compiles leave for later ones to be faster; NULL from a backend that keeps nothing. */
    kiln_tools *(*open_tools)(kiln_scope *scope);
    /* One kernel to an object. Safe to call from several threads, each with its own scope and tools
     * (NULL: none). The same kernel gives the same bytes, whatever the tools were used for.
     * INTERNAL when the object would need a symbol from outside. */
    void (*compile)(kiln_scope *scope, kiln_tools *tools, const kiln_kernel *kernel,
                    const char *symbol, kiln_object *out_object);
    void (*close_tools)(kiln_tools *tools);
    /* Links objects into this process. */
    void (*load)(kiln_scope *scope, const kiln_object *objects, uint32_t n, kiln_code **out_code);
    kiln_kernel_fn *(*function)(const kiln_code *code, uint32_t number);
    void (*unload)(kiln_code *code);
} kiln_backend;

/* The symbol the LLVM module exports: const kiln_backend *kiln_backend_llvm(void). */
typedef const kiln_backend *kiln_backend_entry(void);

/* Opens the module of that name ("llvm": kiln-llvm.so), once per process for good, from
 * $KILN_LIBDIR, the folder of this library, its `kiln` folder or the build tree. UNSUPPORTED,
 * naming the places, when it is not there; ABI when it is of another version. Safe from several
 * threads. */
const kiln_backend *kiln_backend_open(kiln_scope *scope, const char *name);
/* The file it would open, or NULL. */
const char *kiln_backend_path(kiln_arena *arena, const char *name);
#endif
