/* Executables: adoption of a verified program, counts, and what can be asked of it. */
#include "runtime/executable.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "runtime/batch.h"
#include "runtime/cpu.h"
#include "runtime/custom.h"

/* Every function that the program calls is there. */
static kiln_status check_customs(kiln_context *context, const kiln_program *program,
                                 kiln_error *error)
{
    kiln_status status = KILN_OK;
    for (uint32_t i = 0; i < program->n_steps && !status; i++) {
        const kiln_step_row *step = &program->steps[i];
        const kiln_custom_entry *entry = NULL;
        if (step->kind != KILN_STEP_LIBRARY) continue;
        status = kiln_custom_find(context, program->strings[step->target], &entry, error);
    }
    return status;
}

kiln_status kiln_executable_adopt(kiln_context *context, const kiln_program *program, void *owner,
                                  kiln_release_fn *release, kiln_executable **out_executable)
{
    kiln_error error = {0};
    kiln_status status =
        kiln_program_verify(program, context->cpu_features, context->max_bytes, &error);
    if (!status) status = check_customs(context, program, &error);
    if (status) return kiln_context_fail(context, status, "%s", error.message);
    if (!kiln_cpu_enable(program->cpu_features)) {
        return kiln_context_fail(context, KILN_UNSUPPORTED,
                                 "program: the system refuses the use of amx tiles");
    }
    kiln_executable *executable = calloc(1, sizeof *executable);
    if (!executable) return kiln_context_fail(context, KILN_NO_MEMORY, "executable: no memory");
    atomic_init(&executable->refs, 1);
    executable->context = kiln_context_retain(context);
    executable->program = program;
    executable->owner = owner;
    executable->release = release;
    *out_executable = executable;
    return KILN_OK;
}

kiln_status kiln_executable_create(kiln_context *context, const kiln_program *program,
                                   kiln_executable **out_executable)
{
    if (!context) return KILN_INVALID;
    if (!program || !out_executable) {
        return kiln_context_fail(context, KILN_INVALID,
                                 "executable: a pointer is NULL; expected a program and a result");
    }
    return kiln_executable_adopt(context, program, NULL, NULL, out_executable);
}

kiln_executable *kiln_executable_retain(kiln_executable *executable)
{
    atomic_fetch_add_explicit(&executable->refs, 1, memory_order_relaxed);
    return executable;
}

void kiln_executable_destroy(kiln_executable *executable)
{
    if (!executable) return;
    if (atomic_fetch_sub_explicit(&executable->refs, 1, memory_order_acq_rel) != 1) return;
    if (executable->release) executable->release(executable->owner);
    kiln_context_destroy(executable->context);
    free(executable);
}

void *kiln_executable_owner(const kiln_executable *executable, kiln_release_fn *release)
{
    return executable->release == release ? executable->owner : NULL;
}

const kiln_program *kiln_executable_program(const kiln_executable *executable)
{
    return executable ? executable->program : NULL;
}

static int32_t port_find(const kiln_port_row *ports, uint32_t n, const char *name)
{
    for (uint32_t i = 0; name && i < n; i++) {
        if (strcmp(ports[i].name, name) == 0) return (int32_t)i;
    }
    return -1;
}

int32_t kiln_executable_find_input(const kiln_executable *executable, const char *name)
{
    if (!executable) return -1;
    return port_find(executable->program->inputs, executable->program->n_inputs, name);
}

int32_t kiln_executable_find_output(const kiln_executable *executable, const char *name)
{
    if (!executable) return -1;
    return port_find(executable->program->outputs, executable->program->n_outputs, name);
}

kiln_status kiln_executable_output_dims(const kiln_executable *executable, uint32_t output,
                                        const kiln_tensor *outputs, int64_t out_dims[KILN_MAX_RANK])
{
    if (!executable || !outputs || !out_dims || output >= executable->program->n_outputs)
        return KILN_INVALID;
    const kiln_port_row *port = &executable->program->outputs[output];
    for (uint32_t i = 0; i < port->rank; i++) out_dims[i] = port->dims[i];
    const kiln_program *program = executable->program;
    bool is_open = kiln_program_is_open(program) && program->is_batched[program->n_inputs + output];
    if (is_open && (outputs[output].rank != port->rank || !outputs[output].dims))
        return KILN_INVALID;
    if (is_open) out_dims[0] = outputs[output].dims[0];
    if (port->donated_to == KILN_NONE) return KILN_OK;
    const kiln_tensor *counter = &outputs[port->donated_to];
    if (counter->dtype != KILN_i64 || counter->rank || !counter->data) return KILN_INVALID;
    int64_t count, bound = port->dims[port->counted_axis];
    memcpy(&count, counter->data, sizeof count);
    out_dims[port->counted_axis] = count < 0 ? 0 : count < bound ? count : bound;
    return KILN_OK;
}

int64_t kiln_program_arena_bytes(const kiln_program *program)
{
    int64_t most = program->arena_bytes;
    for (uint32_t i = 1; i < kiln_program_n_sizes(program); i++)
        most = kiln_max_i64(most, program->larger[i - 1]->arena_bytes);
    return kiln_round_up(most, 64);
}

int64_t kiln_program_scratch_bytes(const kiln_program *program)
{
    int64_t most = program->scratch_bytes;
    for (uint32_t i = 1; i < kiln_program_n_sizes(program); i++)
        most = kiln_max_i64(most, program->larger[i - 1]->scratch_bytes);
    return kiln_round_up(most, 64);
}

int64_t kiln_executable_peak_bytes(const kiln_executable *executable, uint32_t threads)
{
    if (!executable) return 0;
    if (threads == 0) threads = executable->context->threads;
    return kiln_program_arena_bytes(executable->program) +
           kiln_program_scratch_bytes(executable->program) * threads;
}
