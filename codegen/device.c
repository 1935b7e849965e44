/* What compiling for a device adds to compile.c: which machine model it is, and how its kernels
 * stand in the program. */
#include "codegen/compile.h"

#include <string.h>

#include "runtime/cuda.h"

/* Code with an "a" runs on exactly that generation. */
static const struct {
    int capability;
    const char *machine;
} generations[] = {{80, "sm_80"}, {86, "sm_80"}, {87, "sm_80"}, {89, "sm_80"}, {90, "sm_90a"}};

static const char *probe_device(kiln_scope *scope)
{
    int capability = 0;
    kiln_error error = {0};
    if (kiln_cuda_probe(&capability, &error)) kiln_fail_with(scope, &error);
    for (size_t i = 0; i < sizeof generations / sizeof *generations; i++) {
        if (generations[i].capability == capability) return generations[i].machine;
    }
    kiln_fail(scope, KILN_UNSUPPORTED,
              "target cuda: the device has compute capability %d.%d; expected 8.x or 9.0",
              capability / 10, capability % 10);
}

const kiln_machine *kiln_find_device(kiln_scope *scope, const kiln_compile_options *options,
                                     bool is_run_here)
{
    const char *name = options->target_cpu ? options->target_cpu : "host";
    bool is_host = strcmp(name, "host") == 0;
    const char *found = is_run_here || is_host ? probe_device(scope) : name;
    const kiln_machine *machine = kiln_machine_find(is_host ? found : name);
    if (!machine || machine->kind != KILN_MACHINE_GPU)
        kiln_fail(scope, KILN_INVALID,
                  "target cuda: processor \"%s\" is unknown; expected host, sm_80 or sm_90a", name);
    if (is_run_here && strcmp(found, machine->name) != 0)
        kiln_fail(scope, KILN_UNSUPPORTED,
                  "target cuda: code for %s does not run on the device, which needs %s",
                  machine->name, found);
    return machine;
}

void kiln_fill_device_kernels(const kiln_compilation *compilation, kiln_artifact *artifact)
{
    uint32_t n = artifact->program.n_kernels;
    kiln_device_kernel *kernels = kiln_new_array(&artifact->arena, kiln_device_kernel, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        const kiln_kernel *kernel = compilation->units.at[i].kernel;
        kernels[i] = (kiln_device_kernel){
            .image = artifact->objects[i].data,
            .image_bytes = (int64_t)artifact->objects[i].bytes,
            .symbol = artifact->objects[i].symbol,
            .block_threads = kernel->block_threads,
            .shared_bytes = (uint32_t)kernel->scratch_bytes,
        };
    }
    artifact->program.device_kernels = kernels;
    artifact->program.scratch_bytes = 0; /* is shared memory there */
    for (uint32_t i = 0; i < artifact->program.n_larger; i++)
        artifact->larger[i]->scratch_bytes = 0;
    kiln_artifact_share(artifact);
}
