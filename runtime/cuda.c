/* A program on a device: every buffer has device memory, steps are launches on the default stream.
 */
#include "runtime/cuda.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/copy.h"
#include "runtime/cuda_driver.h"

#define STATIC_SHARED_BYTES 49152 /* more must be asked for */

struct kiln_cuda {
    kiln_cuda_driver driver;
    const kiln_program *program;
    int device;
    void *context;               /* retained when not NULL */
    void **modules, **functions; /* by kernel */
    kiln_cuda_memory constants, arena;
    kiln_cuda_memory *ports;    /* inputs, then outputs */
    kiln_cuda_memory *operands; /* by operand of the program */
    void **params;              /* of one launch: addresses of operands */
    kiln_error *error;          /* of the call at work */
};

static kiln_status check(const kiln_cuda *cuda, int code, const char *what)
{
    return kiln_cuda_check(&cuda->driver, code, what, cuda->error);
}

kiln_status kiln_cuda_probe(int *out_capability, kiln_error *error)
{
    kiln_cuda_driver driver;
    int device = 0, major = 0, minor = 0;
    kiln_status status = kiln_cuda_driver_open(&driver, error);
    if (status) return status;
    int code = driver.device(&device, 0);
    if (!code) code = driver.attribute(&major, KILN_CUDA_CAPABILITY_MAJOR, device);
    if (!code) code = driver.attribute(&minor, KILN_CUDA_CAPABILITY_MINOR, device);
    status = kiln_cuda_check(&driver, code, "the device does not say what it is", error);
    kiln_cuda_driver_close(&driver);
    if (!status) *out_capability = 10 * major + minor;
    return status;
}

static kiln_status load_kernel(kiln_cuda *cuda, uint32_t number)
{
    const kiln_device_kernel *kernel = &cuda->program->device_kernels[number];
    kiln_status status = check(cuda, cuda->driver.load(&cuda->modules[number], kernel->image),
                               "a kernel does not load");
    if (status) return status;
    int code =
        cuda->driver.function(&cuda->functions[number], cuda->modules[number], kernel->symbol);
    if (!code && kernel->shared_bytes > STATIC_SHARED_BYTES)
        code = cuda->driver.set(cuda->functions[number], KILN_CUDA_MAX_DYNAMIC_SHARED,
                                (int)kernel->shared_bytes);
    return check(cuda, code, kernel->symbol);
}

static kiln_status allocate(kiln_cuda *cuda, kiln_cuda_memory *out, int64_t bytes)
{
    return bytes ? check(cuda, cuda->driver.allocate(out, (size_t)bytes), "device memory")
                 : KILN_OK;
}

static kiln_status allocate_memory(kiln_cuda *cuda)
{
    const kiln_program *program = cuda->program;
    kiln_status status = allocate(cuda, &cuda->arena, program->arena_bytes);
    if (!status) status = allocate(cuda, &cuda->constants, program->constant_bytes);
    for (uint32_t i = 0; i < program->n_inputs && !status; i++)
        status = allocate(cuda, &cuda->ports[i], program->inputs[i].bytes);
    for (uint32_t i = 0; i < program->n_outputs && !status; i++)
        status = allocate(cuda, &cuda->ports[program->n_inputs + i], program->outputs[i].bytes);
    if (status || !program->constant_bytes) return status;
    int code = cuda->driver.to_device(cuda->constants, program->constants,
                                      (size_t)program->constant_bytes);
    return check(cuda, code, "constants");
}

static kiln_cuda_memory buffer_memory(const kiln_cuda *cuda, const kiln_buffer_row *row)
{
    switch ((kiln_buffer_kind)row->kind) {
    case KILN_BUFFER_INPUT:
        return cuda->ports[row->index];
    case KILN_BUFFER_OUTPUT:
        return cuda->ports[cuda->program->n_inputs + row->index];
    case KILN_BUFFER_CONSTANT:
        return cuda->constants + (uint64_t)row->offset;
    case KILN_BUFFER_ARENA:
        return cuda->arena + (uint64_t)row->offset;
    }
    return 0;
}

static kiln_status fill(kiln_cuda *cuda)
{
    const kiln_program *program = cuda->program;
    cuda->modules = calloc(program->n_kernels + 1, sizeof *cuda->modules);
    cuda->functions = calloc(program->n_kernels + 1, sizeof *cuda->functions);
    cuda->ports = calloc((size_t)program->n_inputs + program->n_outputs + 1, sizeof *cuda->ports);
    cuda->operands = calloc(program->n_operands + 1, sizeof *cuda->operands);
    cuda->params = calloc(program->n_operands + 1, sizeof *cuda->params);
    if (!cuda->modules || !cuda->functions || !cuda->ports || !cuda->operands || !cuda->params)
        return kiln_error_set(cuda->error, KILN_NO_MEMORY, "cuda: no memory for tables");
    kiln_status status = allocate_memory(cuda);
    for (uint32_t i = 0; i < program->n_kernels && !status; i++) status = load_kernel(cuda, i);
    for (uint32_t i = 0; i < program->n_operands; i++) {
        cuda->operands[i] = buffer_memory(cuda, &program->buffers[program->operands[i]]);
        cuda->params[i] = &cuda->operands[i];
    }
    return status;
}

kiln_status kiln_cuda_open(const kiln_program *program, kiln_cuda **out_cuda, kiln_error *error)
{
    kiln_cuda *cuda = calloc(1, sizeof *cuda);
    if (!cuda) return kiln_error_set(error, KILN_NO_MEMORY, "cuda: no memory");
    cuda->program = program;
    cuda->error = error;
    kiln_status status = kiln_cuda_driver_open(&cuda->driver, error);
    if (!status) status = check(cuda, cuda->driver.device(&cuda->device, 0), "the first device");
    if (!status)
        status =
            check(cuda, cuda->driver.retain(&cuda->context, cuda->device), "the device's context");
    if (!status) status = check(cuda, cuda->driver.push(cuda->context), "the device's context");
    if (!status) {
        void *popped;
        status = fill(cuda);
        cuda->driver.pop(&popped);
    }
    if (status) {
        kiln_cuda_close(cuda);
        return status;
    }
    *out_cuda = cuda;
    return KILN_OK;
}

static void release_device(kiln_cuda *cuda)
{
    const kiln_program *program = cuda->program;
    void *popped;
    if (cuda->driver.push(cuda->context)) return;
    uint32_t n_ports = cuda->ports ? program->n_inputs + program->n_outputs : 0;
    for (uint32_t i = 0; i < n_ports; i++) {
        if (cuda->ports[i]) cuda->driver.free(cuda->ports[i]);
    }
    if (cuda->arena) cuda->driver.free(cuda->arena);
    if (cuda->constants) cuda->driver.free(cuda->constants);
    for (uint32_t i = 0; cuda->modules && i < program->n_kernels; i++) {
        if (cuda->modules[i]) cuda->driver.unload(cuda->modules[i]);
    }
    cuda->driver.pop(&popped);
}

void kiln_cuda_close(kiln_cuda *cuda)
{
    if (!cuda) return;
    if (cuda->context) {
        release_device(cuda);
        cuda->driver.release(cuda->device);
    }
    kiln_cuda_driver_close(&cuda->driver);
    free(cuda->modules);
    free(cuda->functions);
    free(cuda->ports);
    free(cuda->operands);
    free(cuda->params);
    free(cuda);
}

static kiln_status run_kernel(kiln_cuda *cuda, const kiln_step_row *step)
{
    const kiln_device_kernel *kernel = &cuda->program->device_kernels[step->target];
    if (!step->n_tiles) return KILN_OK;
    int code = cuda->driver.launch(cuda->functions[step->target], step->n_tiles, 1, 1,
                                   kernel->block_threads, 1, 1, kernel->shared_bytes, NULL,
                                   cuda->params + step->first_operand, NULL);
    return check(cuda, code, kernel->symbol);
}

static kiln_status run_copy(kiln_cuda *cuda, const kiln_step_row *step)
{
    kiln_cuda_memory from = cuda->operands[step->first_operand],
                     to = cuda->operands[step->first_operand + 1];
    const uint32_t *operands = &cuda->program->operands[step->first_operand];
    int64_t bytes = cuda->program->buffers[operands[0]].bytes;
    if (step->n_operands == 3) {
        int64_t number = 0;
        int code = cuda->driver.to_host(&number, cuda->operands[step->first_operand + 2], 8);
        kiln_status status = check(cuda, code, "the number of a copy");
        int64_t all = cuda->program->buffers[operands[1]].bytes;
        int64_t start = kiln_copy_stretch(number, bytes, all);
        if (status || start < 0) return status;
        to += (kiln_cuda_memory)start;
    }
    if (from == to || !bytes) return KILN_OK;
    return check(cuda, cuda->driver.copy(to, from, (size_t)bytes), "a copy");
}

/* Steps that look at data: their operand comes to the host. Sets *next. */
static kiln_status run_control(kiln_cuda *cuda, const kiln_step_row *step, uint32_t *next)
{
    int64_t value = 0;
    if (step->kind == KILN_STEP_JUMP) {
        *next = step->target;
        return KILN_OK;
    }
    size_t bytes = step->kind == KILN_STEP_BRANCH ? 1 : 8;
    int code = cuda->driver.to_host(&value, cuda->operands[step->first_operand], bytes);
    kiln_status status = check(cuda, code, "a condition");
    if (status || !value) return status;
    if (step->kind == KILN_STEP_BRANCH) {
        *next = step->target;
        return KILN_OK;
    }
    return kiln_error_set(cuda->error, KILN_RANGE, "%s", cuda->program->strings[step->target]);
}

static kiln_status run_steps(kiln_cuda *cuda, const kiln_cuda_run_args *args)
{
    const kiln_program *program = cuda->program;
    kiln_status status = KILN_OK;
    for (uint32_t at = 0; at < program->n_steps && !status;) {
        const kiln_step_row *step = &program->steps[at++];
        if (args->should_stop(args->user)) break;
        bool is_kernel = step->kind == KILN_STEP_KERNEL || step->kind == KILN_STEP_PACK;
        if (is_kernel)
            status = run_kernel(cuda, step);
        else if (step->kind == KILN_STEP_COPY)
            status = run_copy(cuda, step);
        else
            status = run_control(cuda, step, &at);
    }
    return status;
}

static kiln_status run_pushed(kiln_cuda *cuda, const kiln_cuda_run_args *args)
{
    const kiln_program *program = cuda->program;
    kiln_status status = KILN_OK;
    for (uint32_t i = 0; i < program->n_inputs && !status; i++) {
        size_t bytes = (size_t)program->inputs[i].bytes;
        if (bytes)
            status = check(cuda, cuda->driver.to_device(cuda->ports[i], args->ports[i], bytes),
                           "an input");
    }
    if (!status) status = run_steps(cuda, args);
    if (!status) status = check(cuda, cuda->driver.synchronize(), "the kernels");
    for (uint32_t i = 0; i < program->n_outputs && !status; i++) {
        uint32_t port = program->n_inputs + i;
        size_t bytes = (size_t)program->outputs[i].bytes;
        if (bytes)
            status = check(cuda, cuda->driver.to_host(args->ports[port], cuda->ports[port], bytes),
                           "an output");
    }
    return status;
}

kiln_status kiln_cuda_run(kiln_cuda *cuda, const kiln_cuda_run_args *args)
{
    void *popped;
    cuda->error = args->error;
    kiln_status status = check(cuda, cuda->driver.push(cuda->context), "the device's context");
    if (status) return status;
    status = run_pushed(cuda, args);
    cuda->driver.pop(&popped);
    return status;
}
