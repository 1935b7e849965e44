/* The verifier of open batches: the sizes ascend, share kernels and constants, and
 * have the same ports but for the rows of those that are batched. */
#include <inttypes.h>

#include "base/checked.h"
#include "runtime/batch.h"
#include "runtime/executable.h"

/* A port of whole bytes a row that shares no memory and is counted by none. */
static bool port_is_open(const kiln_program *program, uint32_t port)
{
    const kiln_port_row *row = kiln_program_port(program, port);
    if (row->donated_to != KILN_NONE) return false;
    if (!program->is_batched[port]) return port < program->n_inputs;
    bool is_input = port < program->n_inputs;
    return row->rank > 0 && kiln_dtype_bits((kiln_dtype)row->dtype) >= 8 &&
           row->dims[0] % program->rows == 0 && (!is_input || row->dims[0] == program->rows);
}

static bool port_fits(const kiln_program *program, const kiln_program *larger, uint32_t port)
{
    const kiln_port_row *one = kiln_program_port(program, port);
    const kiln_port_row *row = kiln_program_port(larger, port);
    int64_t first;
    if (one->dtype != row->dtype || one->rank != row->rank || row->donated_to != KILN_NONE)
        return false;
    if (one->rank == 0) return true;
    if (!row->dims || !kiln_checked_mul(one->dims[0] / program->rows, larger->rows, &first))
        return false;
    bool is_same = row->dims[0] == (program->is_batched[port] ? first : one->dims[0]);
    for (uint32_t i = 1; is_same && i < one->rank; i++) is_same = one->dims[i] == row->dims[i];
    return is_same;
}

static bool has_calls(const kiln_program *program)
{
    for (uint32_t i = 0; i < program->n_steps; i++) {
        if (program->steps[i].kind == KILN_STEP_LIBRARY) return true;
    }
    return false;
}

/* Of a size, what is read before its own tables are verified. */
static bool size_is_right(const kiln_program *program, const kiln_program *larger, int64_t before)
{
    bool is_one = larger && larger->abi == program->abi && larger->struct_bytes >= sizeof *larger;
    if (!is_one || larger->rows <= before || larger->n_larger) return false;
    bool has_ports = (larger->n_inputs == 0 || larger->inputs) &&
                     (larger->n_outputs == 0 || larger->outputs);
    return has_ports && larger->n_inputs == program->n_inputs &&
           larger->n_outputs == program->n_outputs && larger->n_kernels == program->n_kernels &&
           larger->kernels == program->kernels && larger->flags == program->flags &&
           larger->device_kernels == program->device_kernels &&
           larger->constant_bytes == program->constant_bytes &&
           larger->constants == program->constants;
}

static kiln_status verify_sizes(const kiln_program *program, kiln_error *error)
{
    int64_t before = program->rows;
    uint32_t n_ports = program->n_inputs + program->n_outputs;
    if (program->n_larger > KILN_MAX_LARGER || (program->n_larger && !program->larger))
        return kiln_error_set(error, KILN_CORRUPT,
                              "program: %" PRIu32 " larger batches; expected a table of up to %u",
                              program->n_larger, KILN_MAX_LARGER);
    for (uint32_t i = 0; i < program->n_larger; i++) {
        const kiln_program *larger = program->larger[i];
        bool is_right = size_is_right(program, larger, before);
        for (uint32_t p = 0; is_right && p < n_ports; p++)
            is_right = port_fits(program, larger, p);
        if (!is_right || has_calls(larger))
            return kiln_error_set(error, KILN_CORRUPT,
                                  "program: batch %" PRIu32 " does not fit the smallest one", i);
        before = larger->rows;
    }
    return KILN_OK;
}

kiln_status kiln_program_verify_batch(const kiln_program *program, kiln_error *error)
{
    bool has_rows = false;
    uint32_t n_ports = program->n_inputs + program->n_outputs;
    if (program->rows == 0 && program->n_larger == 0) return KILN_OK;
    if (program->rows < 1 || !program->is_batched || has_calls(program) ||
        (program->rows > 1 && program->device_kernels))
        return kiln_error_set(error, KILN_CORRUPT,
                              "program: an open batch of %" PRId64 " rows; expected 1 or more, a "
                              "table of batched ports and no custom calls",
                              program->rows);
    for (uint32_t p = 0; p < n_ports; p++) {
        has_rows |= program->is_batched[p] && p < program->n_inputs;
        if (!port_is_open(program, p))
            return kiln_error_set(error, KILN_CORRUPT,
                                  "program: port %" PRIu32 " of an open batch; expected rows of "
                                  "whole bytes along its first axis, of its own memory",
                                  p);
    }
    if (program->arena_bytes < kiln_batch_pad_bytes(program, n_ports))
        return kiln_error_set(error, KILN_CORRUPT,
                              "program: an arena of %" PRId64 " bytes has no place for padded rows",
                              program->arena_bytes);
    if (!has_rows)
        return kiln_error_set(error, KILN_CORRUPT,
                              "program: an open batch without a batched input");
    return verify_sizes(program, error);
}
