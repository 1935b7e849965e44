/* libnvrtc.so.13 for tests: compiles CUDA text as C through the shim; the "cubin" is a shared
 * object for fake_driver.c. Built with SOURCE_ROOT, where codegen/cuda/shim.h is. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct program {
    char *text, *cubin;
    size_t bytes;
} program;

#define ENTRY(name, ...)                                                                           \
    int name(__VA_ARGS__);                                                                         \
    int name(__VA_ARGS__)

ENTRY(nvrtcVersion, int *major, int *minor)
{
    *major = 13;
    *minor = 0;
    return 0;
}

ENTRY(nvrtcCreateProgram, program **out, const char *text, const char *name, int n,
      const char *const *headers, const char *const *names)
{
    program *p = calloc(1, sizeof *p);
    if (!name || n || headers || names) return 1;
    p->text = strdup(text);
    *out = p;
    return 0;
}

static int read_file(program *p, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) return 1;
    fseek(file, 0, SEEK_END);
    p->bytes = (size_t)ftell(file);
    rewind(file);
    p->cubin = malloc(p->bytes);
    size_t n = fread(p->cubin, 1, p->bytes, file);
    fclose(file);
    return n != p->bytes;
}

ENTRY(nvrtcCompileProgram, program *p, int n, const char *const *options)
{
    char folder[] = "/tmp/kiln-fake-nvrtc-XXXXXX", source[64], library[64], command[1024];
    int is_exact = 0;
    for (int i = 0; i < n; i++) is_exact |= strcmp(options[i], "--fmad=false") == 0;
    if (!is_exact || !mkdtemp(folder)) return 6;
    snprintf(source, sizeof source, "%s/k.c", folder);
    snprintf(library, sizeof library, "%s/k.so", folder);
    FILE *file = fopen(source, "w");
    fprintf(file, "#include \"codegen/cuda/shim.h\"\n%s", p->text);
    fclose(file);
    snprintf(command, sizeof command,
             "cc -I'%s' -std=gnu11 -O0 -fPIC -shared -s -ffp-contract=off %s -o %s -lm",
             SOURCE_ROOT, source, library);
    int failure = system(command) || read_file(p, library);
    unlink(source);
    unlink(library);
    rmdir(folder);
    return failure ? 6 : 0;
}

ENTRY(nvrtcGetProgramLogSize, program *p, size_t *bytes)
{
    *bytes = p ? 5 : 0;
    return 0;
}

ENTRY(nvrtcGetProgramLog, program *p, char *text)
{
    strcpy(text, "fake");
    return !p;
}

ENTRY(nvrtcGetCUBINSize, program *p, size_t *bytes)
{
    *bytes = p->bytes;
    return 0;
}

ENTRY(nvrtcGetCUBIN, program *p, char *data)
{
    memcpy(data, p->cubin, p->bytes);
    return 0;
}

ENTRY(nvrtcDestroyProgram, program **p)
{
    free((*p)->text);
    free((*p)->cubin);
    free(*p);
    *p = NULL;
    return 0;
}
