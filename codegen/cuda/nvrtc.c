/* NVRTC by hand: the few entry points with their types, as NVIDIA documents them. */
#include "codegen/cuda/nvrtc.h"

#include <dlfcn.h>
#include <string.h>

typedef struct nvrtc_program nvrtc_program;

typedef struct nvrtc {
    int (*version)(int *major, int *minor);
    int (*create)(nvrtc_program **program, const char *text, const char *name, int n_headers,
                  const char *const *headers, const char *const *names);
    int (*compile)(nvrtc_program *program, int n_options, const char *const *options);
    int (*log_size)(nvrtc_program *program, size_t *bytes);
    int (*log)(nvrtc_program *program, char *text);
    int (*cubin_size)(nvrtc_program *program, size_t *bytes);
    int (*cubin)(nvrtc_program *program, char *data);
    int (*destroy)(nvrtc_program **program);
} nvrtc;

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
    {"nvrtcVersion", offsetof(nvrtc, version)},
    {"nvrtcCreateProgram", offsetof(nvrtc, create)},
    {"nvrtcCompileProgram", offsetof(nvrtc, compile)},
    {"nvrtcGetProgramLogSize", offsetof(nvrtc, log_size)},
    {"nvrtcGetProgramLog", offsetof(nvrtc, log)},
    {"nvrtcGetCUBINSize", offsetof(nvrtc, cubin_size)},
    {"nvrtcGetCUBIN", offsetof(nvrtc, cubin)},
    {"nvrtcDestroyProgram", offsetof(nvrtc, destroy)},
};

static const char *const libraries[] = {
    "libnvrtc.so.13",
    "libnvrtc.so.12",
    "libnvrtc.so",
    "/usr/local/cuda/lib64/libnvrtc.so",
    "/usr/local/cuda/lib/libnvrtc.so",
};

/* A compile at work: what to give back when the scope closes. */
typedef struct job {
    nvrtc api;
    nvrtc_program *program;
} job;

static void release_library(void *library)
{
    dlclose(library);
}

static void release_program(void *object)
{
    job *at = object;
    if (at->program) at->api.destroy(&at->program);
}

static void open_library(kiln_scope *scope, nvrtc *api)
{
    void *library = NULL;
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries && !library; i++)
        library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        kiln_fail(scope, KILN_UNSUPPORTED,
                  "cuda: NVRTC is not installed; expected libnvrtc.so.13 or .12 in the "
                  "library path or in /usr/local/cuda");
    kiln_scope_defer(scope, release_library, library);
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *symbol = dlsym(library, symbols[i].name);
        if (!symbol)
            kiln_fail(scope, KILN_UNSUPPORTED, "cuda: NVRTC lacks %s; expected version 12 or later",
                      symbols[i].name);
        memcpy((char *)api + symbols[i].offset, &symbol, sizeof symbol);
    }
}

static const char *log_text(kiln_scope *scope, job *at)
{
    size_t bytes = 0;
    if (at->api.log_size(at->program, &bytes) || bytes < 2) return "no log";
    char *text = kiln_arena_alloc(&scope->arena, bytes + 1);
    at->api.log(at->program, text);
    for (char *c = text; *c; c++) {
        if (*c == '\n') *c = ' ';
    }
    return text;
}

void kiln_nvrtc_compile(kiln_scope *scope, const char *text, const char *arch,
                        kiln_cubin *out_cubin)
{
    job *at = kiln_new(&scope->arena, job);
    const char *options[] = {
        kiln_arena_format(&scope->arena, "--gpu-architecture=%s", arch),
        "--fmad=false",
        "--ftz=false",
        "--prec-div=true",
        "--prec-sqrt=true",
        "--std=c++17",
        "--no-source-include",
    };
    kiln_cubin cubin = {0};
    open_library(scope, &at->api);
    kiln_scope_defer(scope, release_program, at);
    at->api.version(&cubin.major, &cubin.minor);
    if (at->api.create(&at->program, text, "kiln.cu", 0, NULL, NULL))
        kiln_fail(scope, KILN_INTERNAL, "cuda: NVRTC cannot make a program");
    if (at->api.compile(at->program, (int)(sizeof options / sizeof *options), options))
        kiln_fail(scope, KILN_INTERNAL, "cuda: NVRTC refuses the text for %s: %.600s", arch,
                  log_text(scope, at));
    if (at->api.cubin_size(at->program, &cubin.bytes) || !cubin.bytes)
        kiln_fail(scope, KILN_INTERNAL, "cuda: NVRTC made no cubin for %s", arch);
    char *data = kiln_arena_alloc(&scope->arena, cubin.bytes);
    if (at->api.cubin(at->program, data))
        kiln_fail(scope, KILN_INTERNAL, "cuda: NVRTC made no cubin for %s", arch);
    cubin.data = data;
    *out_cubin = cubin;
}
