/* Finding and opening the backend module, which stays in the process: LLVM does not survive being
 * unloaded. Its symbols stay local, so another LLVM in the process is not disturbed. */
#define _GNU_SOURCE
#include "codegen/backend.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

/* Where modules stand, seen from the library (installed, build tree) or from a program that has the
 * library inside (tests and tools of the build tree). */
static const char *const places[] = {
    "", "/kiln", "/llvm", "/../codegen/llvm", "/../../codegen/llvm", "/../lib/kiln",
};

#define N_PLACES (sizeof places / sizeof *places)

/* The folder of the object this code is in. */
static const char *own_folder(kiln_arena *arena)
{
    Dl_info info;
    if (!dladdr((void *)(uintptr_t)kiln_backend_open, &info) || !info.dli_fname) return ".";
    char *path = kiln_arena_string(arena, info.dli_fname);
    char *slash = strrchr(path, '/');
    if (!slash) return ".";
    *slash = '\0';
    return path;
}

const char *kiln_backend_path(kiln_arena *arena, const char *name)
{
    const char *chosen = getenv("KILN_LIBDIR"), *folder = own_folder(arena);
    if (chosen) {
        const char *path = kiln_arena_format(arena, "%s/kiln-%s.so", chosen, name);
        if (access(path, R_OK) == 0) return path;
    }
    for (size_t i = 0; i < N_PLACES; i++) {
        const char *path = kiln_arena_format(arena, "%s%s/kiln-%s.so", folder, places[i], name);
        if (access(path, R_OK) == 0) return path;
    }
    return NULL;
}

const kiln_backend *kiln_backend_open(kiln_scope *scope, const char *name)
{
    const char *path = kiln_backend_path(&scope->arena, name);
    if (!path)
        kiln_fail(scope, KILN_UNSUPPORTED,
                  "backend %s: kiln-%s.so is not beside the library, in its kiln folder or in "
                  "$KILN_LIBDIR; expected it to be installed",
                  name, name);
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!module) kiln_fail(scope, KILN_UNSUPPORTED, "backend %s: %s", name, dlerror());
    kiln_backend_entry *entry = NULL;
    void *symbol = dlsym(module, kiln_arena_format(&scope->arena, "kiln_backend_%s", name));
    memcpy(&entry, &symbol, sizeof entry);
    const kiln_backend *backend = entry ? entry() : NULL;
    dlclose(module); /* the code stays: NODELETE */
    if (!backend || backend->struct_bytes != sizeof *backend)
        kiln_fail(scope, KILN_ABI, "backend %s: %s is of another version", name, path);
    return backend;
}
