/* The verifier of programs: what a damaged or foreign table could make the runtime do wrong is
 * refused here, once, so that a run checks only the caller's tensors. Kernels are trusted. */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/checked.h"
#include "runtime/batch.h"
#include "runtime/cpu.h"
#include "runtime/executable.h"

typedef struct verifier {
    const kiln_program *program;
    kiln_error *error;
} verifier;

kiln_status kiln_program_verify_abi(const kiln_program *program, kiln_error *error)
{
    if (program->abi == 0 || program->abi > KILN_PROGRAM_ABI) {
        return kiln_error_set(error, KILN_ABI, "program: abi is %" PRIu32 "; expected 1 to %u",
                              program->abi, KILN_PROGRAM_ABI);
    }
    size_t least = program->abi < 2 ? offsetof(kiln_program, rows) : sizeof *program;
    if (program->struct_bytes < least) {
        return kiln_error_set(error, KILN_ABI,
                              "program: its table has %" PRIu32 " bytes; expected at least %zu",
                              program->struct_bytes, least);
    }
    return KILN_OK;
}

static kiln_status verify_port(const verifier *at, const char *kind, uint32_t number,
                               const kiln_port_row *port)
{
    if (!port->name || (port->rank && !port->dims) || port->rank > KILN_MAX_RANK) {
        return kiln_error_set(at->error, KILN_CORRUPT,
                              "program: %s %" PRIu32 " lacks a name or dims", kind, number);
    }
    int64_t bytes = 0;
    bool is_right = kiln_dtype_bytes((kiln_dtype)port->dtype) > 0;
    for (uint32_t i = 0; i < port->rank; i++) is_right = is_right && port->dims[i] >= 0;
    is_right = is_right && kiln_checked_product(port->dims, port->rank, &bytes);
    is_right = is_right &&
               kiln_checked_bytes(bytes, kiln_dtype_bits((kiln_dtype)port->dtype), &bytes);
    if (!is_right || bytes != port->bytes) {
        return kiln_error_set(at->error, KILN_CORRUPT,
                              "program: %s %" PRIu32 " has %" PRId64
                              " bytes; its dims and dtype say otherwise",
                              kind, number, port->bytes);
    }
    return KILN_OK;
}

/* An output has at most one donor: kiln_run's check of overlaps counts on it. */
static kiln_status verify_donation(const verifier *at, uint32_t number)
{
    const kiln_program *program = at->program;
    uint32_t output = program->inputs[number].donated_to;
    if (output == KILN_NONE) return KILN_OK;
    bool is_right = output < program->n_outputs &&
                    program->outputs[output].bytes == program->inputs[number].bytes;
    for (uint32_t i = 0; is_right && i < number; i++) {
        is_right = program->inputs[i].donated_to != output;
    }
    if (is_right) return KILN_OK;
    return kiln_error_set(at->error, KILN_CORRUPT,
                          "program: input %" PRIu32 " is donated to output %" PRIu32
                          "; expected one output of the same bytes",
                          number, output);
}

/* What counts an output is an i64 scalar among them. */
static kiln_status verify_count(const verifier *at, uint32_t number)
{
    const kiln_program *program = at->program;
    const kiln_port_row *port = &program->outputs[number];
    uint32_t by = port->donated_to;
    if (by == KILN_NONE) return KILN_OK;
    if (by < program->n_outputs && port->counted_axis < port->rank) {
        const kiln_port_row *counter = &program->outputs[by];
        if (counter->rank == 0 && counter->dtype == KILN_i64) return KILN_OK;
    }
    return kiln_error_set(at->error, KILN_CORRUPT,
                          "program: output %" PRIu32 " is counted by output %" PRIu32
                          "; expected an axis that it has and an output of i64[]",
                          number, by);
}

static kiln_status verify_ports(const verifier *at)
{
    const kiln_program *program = at->program;
    for (uint32_t i = 0; i < program->n_outputs; i++) {
        kiln_status status = verify_port(at, "output", i, &program->outputs[i]);
        if (!status) status = verify_count(at, i);
        if (status) return status;
    }
    for (uint32_t i = 0; i < program->n_inputs; i++) {
        kiln_status status = verify_port(at, "input", i, &program->inputs[i]);
        if (!status) status = verify_donation(at, i);
        if (status) return status;
    }
    return KILN_OK;
}

static bool stretch_is_inside(const kiln_buffer_row *row, int64_t limit)
{
    int64_t end;
    if (row->offset < 0 || row->bytes < 0 || row->offset % 64) return false;
    return kiln_checked_add(row->offset, row->bytes, &end) && end <= limit;
}

static bool port_buffer_is_right(const kiln_buffer_row *row, const kiln_port_row *ports, uint32_t n)
{
    return row->index < n && row->bytes >= 0 && row->bytes <= ports[row->index].bytes;
}

static kiln_status verify_buffers(const verifier *at)
{
    const kiln_program *program = at->program;
    for (uint32_t i = 0; i < program->n_buffers; i++) {
        const kiln_buffer_row *row = &program->buffers[i];
        bool is_right = false;
        switch (row->kind) {
        case KILN_BUFFER_INPUT:
            is_right = port_buffer_is_right(row, program->inputs, program->n_inputs);
            break;
        case KILN_BUFFER_OUTPUT:
            is_right = port_buffer_is_right(row, program->outputs, program->n_outputs);
            break;
        case KILN_BUFFER_CONSTANT:
            is_right = stretch_is_inside(row, program->constant_bytes);
            break;
        case KILN_BUFFER_ARENA:
            is_right = stretch_is_inside(row, program->arena_bytes);
            break;
        }
        if (!is_right) {
            return kiln_error_set(at->error, KILN_CORRUPT,
                                  "program: buffer %" PRIu32 " (kind %" PRIu32 ", offset %" PRId64
                                  ", bytes %" PRId64 ") does not fit where it lies",
                                  i, row->kind, row->offset, row->bytes);
        }
    }
    for (uint32_t i = 0; i < program->n_operands; i++) {
        if (program->operands[i] < program->n_buffers) continue;
        return kiln_error_set(at->error, KILN_CORRUPT,
                              "program: operand %" PRIu32 " is buffer %" PRIu32
                              "; expected below %" PRIu32,
                              i, program->operands[i], program->n_buffers);
    }
    return KILN_OK;
}

static const kiln_buffer_row *operand_row(const kiln_program *program, const kiln_step_row *step,
                                          uint32_t number)
{
    return &program->buffers[program->operands[step->first_operand + number]];
}

/* Whole buffers of equal bytes, into memory that may be written, and no partial overlap. */
static bool copy_is_right(const kiln_program *program, const kiln_step_row *step)
{
    if (step->n_operands != 2 && step->n_operands != 3) return false;
    const kiln_buffer_row *from = operand_row(program, step, 0);
    const kiln_buffer_row *to = operand_row(program, step, 1);
    if (step->n_operands == 3) {
        if (operand_row(program, step, 2)->bytes < 8) return false;
        if (from->bytes == 0 || to->bytes % from->bytes) return false;
    } else if (from->bytes != to->bytes) {
        return false;
    }
    if (to->kind != KILN_BUFFER_ARENA && to->kind != KILN_BUFFER_OUTPUT) return false;
    if (from->kind != KILN_BUFFER_ARENA || to->kind != KILN_BUFFER_ARENA) return true;
    int64_t distance = from->offset - to->offset;
    bool is_apart = distance >= to->bytes || -distance >= from->bytes;
    return is_apart || (distance == 0 && step->n_operands == 2);
}

static bool kernel_is_right(const kiln_program *program, const kiln_step_row *step)
{
    if (step->target >= program->n_kernels || step->n_written > step->n_operands) return false;
    if (!program->device_kernels) return program->kernels[step->target] != NULL;
    const kiln_device_kernel *kernel = &program->device_kernels[step->target];
    return kernel->image && kernel->symbol && kernel->block_threads >= 1 &&
           kernel->block_threads <= 1024 && step->n_tiles <= INT32_MAX;
}

static bool step_is_right(const kiln_program *program, const kiln_step_row *step)
{
    int64_t end = (int64_t)step->first_operand + step->n_operands;
    if (end > program->n_operands) return false;
    if (step->label != KILN_NONE && step->label >= program->n_strings) return false;
    switch (step->kind) {
    case KILN_STEP_KERNEL:
    case KILN_STEP_PACK:
        return kernel_is_right(program, step);
    case KILN_STEP_COPY:
        return copy_is_right(program, step);
    case KILN_STEP_BRANCH:
        return step->n_operands == 1 && operand_row(program, step, 0)->bytes >= 1 &&
               step->target <= program->n_steps;
    case KILN_STEP_JUMP:
        return step->n_operands == 0 && step->target <= program->n_steps;
    case KILN_STEP_LIBRARY:
        return step->target < program->n_strings && step->n_tiles <= step->n_operands;
    case KILN_STEP_CHECK:
        return step->n_operands == 1 && operand_row(program, step, 0)->bytes >= 8 &&
               step->target < program->n_strings;
    }
    return false;
}

static kiln_status verify_steps(const verifier *at)
{
    const kiln_program *program = at->program;
    for (uint32_t i = 0; i < program->n_strings; i++) {
        if (program->strings[i]) continue;
        return kiln_error_set(at->error, KILN_CORRUPT, "program: string %" PRIu32 " is NULL", i);
    }
    for (uint32_t i = 0; i < program->n_steps; i++) {
        const kiln_step_row *step = &program->steps[i];
        if (step->kind == KILN_STEP_LIBRARY && program->device_kernels) {
            return kiln_error_set(at->error, KILN_UNSUPPORTED,
                                  "program: step %" PRIu32 " is a custom call, which devices "
                                  "do not run",
                                  i);
        }
        if (step_is_right(program, step)) continue;
        return kiln_error_set(at->error, KILN_CORRUPT,
                              "program: step %" PRIu32 " (kind %" PRIu32 ", target %" PRIu32
                              ", %" PRIu32 " operands) does not fit the tables",
                              i, step->kind, step->target, step->n_operands);
    }
    return KILN_OK;
}

static kiln_status verify_tables(const verifier *at)
{
    const kiln_program *program = at->program;
    const void *kernels = program->kernels;
    if (program->device_kernels) kernels = program->device_kernels;
    const struct {
        const char *name;
        const void *table;
        uint32_t n;
    } tables[] = {
        {"inputs", program->inputs, program->n_inputs},
        {"outputs", program->outputs, program->n_outputs},
        {"buffers", program->buffers, program->n_buffers},
        {"operands", program->operands, program->n_operands},
        {"steps", program->steps, program->n_steps},
        {"kernels", kernels, program->n_kernels},
        {"strings", program->strings, program->n_strings},
    };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        if (tables[i].table || tables[i].n == 0) continue;
        return kiln_error_set(at->error, KILN_CORRUPT, "program: %" PRIu32 " %s, but no table",
                              tables[i].n, tables[i].name);
    }
    bool has_constants = program->constants && (uintptr_t)program->constants % 64 == 0;
    if (program->constant_bytes < 0 || (program->constant_bytes && !has_constants)) {
        return kiln_error_set(at->error, KILN_CORRUPT,
                              "program: %" PRId64 " bytes of constants at %s address",
                              program->constant_bytes, program->constants ? "a misaligned" : "no");
    }
    return KILN_OK;
}

static kiln_status verify_sizes(const verifier *at, int64_t max_bytes)
{
    const kiln_program *program = at->program;
    int64_t scratch = program->scratch_bytes, arena = program->arena_bytes, all;
    bool is_right = arena >= 0 && scratch >= 0 && arena < INT64_MAX - 64 &&
                    kiln_checked_mul(scratch, KILN_MAX_THREADS, &all) &&
                    kiln_checked_add(all, arena, &all) && all < INT64_MAX - 64 * KILN_MAX_THREADS;
    if (!is_right) {
        return kiln_error_set(at->error, KILN_CORRUPT,
                              "program: arena of %" PRId64 " bytes, scratch of %" PRId64, arena,
                              scratch);
    }
    if (arena > max_bytes) {
        return kiln_error_set(at->error, KILN_LIMIT,
                              "program: its arena has %" PRId64
                              " bytes; the context's max_bytes is %" PRId64,
                              arena, max_bytes);
    }
    return KILN_OK;
}

static kiln_status verify_features(const verifier *at, uint64_t cpu_features)
{
    uint64_t missing = at->program->cpu_features & ~cpu_features;
    if (!missing) return KILN_OK;
    char names[256];
    kiln_cpu_names(missing, names, sizeof names);
    const char *target = at->program->target ? at->program->target : "?";
    return kiln_error_set(at->error, KILN_UNSUPPORTED,
                          "program: compiled for %.64s; this machine lacks %s", target, names);
}

static kiln_status verify_one(const verifier *at, uint64_t cpu_features, int64_t max_bytes)
{
    kiln_status status = verify_features(at, cpu_features);
    if (!status) status = verify_tables(at);
    if (!status) status = verify_ports(at);
    if (!status) status = verify_buffers(at);
    if (!status) status = verify_steps(at);
    if (!status) status = verify_sizes(at, max_bytes);
    return status;
}

kiln_status kiln_program_verify(const kiln_program *program, uint64_t cpu_features,
                                int64_t max_bytes, kiln_error *error)
{
    verifier at = {program, error};
    kiln_status status = kiln_program_verify_abi(program, error);
    if (!status) status = verify_one(&at, cpu_features, max_bytes);
    if (status || program->abi < 2) return status;
    status = kiln_program_verify_batch(program, error);
    for (uint32_t i = 1; i < kiln_program_n_sizes(program) && !status; i++) {
        at.program = kiln_program_size(program, i);
        status = verify_one(&at, cpu_features, max_bytes);
    }
    return status;
}
