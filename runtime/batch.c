/* Runs of an open batch: tensors of n rows are checked against the ports of one row, then every
 * chunk gets its stretch of them and runs as a program of its own size does. Allocates nothing. */
#include "runtime/batch.h"

#include <limits.h>

#include "base/checked.h"
#include "runtime/workspace.h"

/* The rows of the first batched input; others must have as many. */
static int64_t count_rows(const kiln_program *program, const kiln_tensor *inputs)
{
    for (uint32_t i = 0; i < program->n_inputs; i++) {
        if (!program->is_batched[i]) continue;
        bool has_rows = inputs[i].rank > 0 && inputs[i].dims && inputs[i].dims[0] > 0;
        return has_rows ? inputs[i].dims[0] : 0;
    }
    return 0;
}

static kiln_status check_port(kiln_workspace *workspace, uint32_t port, int64_t rows,
                              const kiln_tensor *tensor)
{
    const kiln_program *program = workspace->executable->program;
    kiln_port_row row = *kiln_program_port(program, port);
    int64_t dims[KILN_MAX_RANK];
    if (program->is_batched[port]) {
        for (uint32_t i = 0; i < row.rank; i++) dims[i] = row.dims[i];
        row.dims = dims;
        bool is_right = kiln_checked_mul(dims[0] / program->rows, rows, &dims[0]) &&
                        kiln_checked_mul(row.bytes / program->rows, rows, &row.bytes);
        if (!is_right) row.bytes = dims[0] = INT64_MAX; /* no tensor has that many */
    }
    return kiln_port_check(workspace, port, &row, tensor);
}

kiln_status kiln_batch_bind(kiln_workspace *workspace, const kiln_tensor *inputs,
                            const kiln_tensor *outputs)
{
    const kiln_program *program = workspace->executable->program;
    uint32_t n_inputs = program->n_inputs, n_ports = n_inputs + program->n_outputs;
    int64_t rows = count_rows(program, inputs);
    bool is_same = workspace->is_checked && workspace->rows == rows;
    for (uint32_t p = 0; p < n_ports; p++) {
        const kiln_tensor *tensor = p < n_inputs ? &inputs[p] : &outputs[p - n_inputs];
        kiln_status status = check_port(workspace, p, rows, tensor);
        if (status) return status;
        is_same = is_same && tensor->data == workspace->bases[p];
    }
    if (is_same) return KILN_OK;
    workspace->is_checked = false;
    kiln_status status = kiln_ports_check_overlaps(workspace, inputs, outputs);
    if (status) return status;
    for (uint32_t p = 0; p < n_ports; p++)
        workspace->bases[p] = p < n_inputs ? inputs[p].data : outputs[p - n_inputs].data;
    workspace->rows = rows;
    workspace->is_checked = true;
    return KILN_OK;
}

/* Points every operand that is a port at its rows from `first` on. */
static void point_ports(kiln_workspace *workspace, int64_t first)
{
    const kiln_program *program = workspace->executable->program;
    uint32_t n_ports = program->n_inputs + program->n_outputs;
    for (uint32_t p = 0; p < n_ports; p++) {
        char *data = workspace->bases[p];
        if (data && program->is_batched[p]) data += first * kiln_batch_row_bytes(program, p);
        kiln_port_point(workspace, p, data);
    }
}

/* Fewer rows than the smallest size has: run in places of their own, at the end of its arena. */
static kiln_status run_padded(kiln_workspace *workspace)
{
    const kiln_program *program = workspace->executable->program;
    uint32_t n_ports = program->n_inputs + program->n_outputs;
    workspace->now = workspace->sizes[0];
    for (uint32_t p = 0; p < n_ports; p++) {
        char *place = workspace->bases[p];
        if (program->is_batched[p]) {
            place = kiln_batch_pad(program, p, workspace->memory);
            if (p < program->n_inputs)
                kiln_batch_fill(program, p, workspace->rows, workspace->bases[p], place);
        }
        kiln_port_point(workspace, p, place);
    }
    kiln_status status = kiln_program_run(workspace);
    for (uint32_t p = program->n_inputs; p < n_ports && !status; p++) {
        size_t bytes = (size_t)(workspace->rows * kiln_batch_row_bytes(program, p));
        if (bytes) memcpy(workspace->bases[p], workspace->port_data[p], bytes);
    }
    return status;
}

kiln_status kiln_batch_run(kiln_workspace *workspace)
{
    const kiln_program *program = workspace->executable->program;
    if (workspace->rows && workspace->rows < program->rows) return run_padded(workspace);
    for (int64_t done = 0; done < workspace->rows;) {
        int64_t first;
        uint32_t size = kiln_batch_next(program, workspace->rows, done, &first);
        if (workspace->now.program != workspace->sizes[size].program)
            workspace->now = workspace->sizes[size];
        point_ports(workspace, first);
        kiln_status status = kiln_program_run(workspace);
        if (status) return status;
        if (kiln_run_should_stop(workspace)) return KILN_OK;
        done = first + workspace->now.program->rows;
    }
    return KILN_OK;
}
