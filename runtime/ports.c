/* What the caller passes to a run: each tensor against its port, then all memory against overlaps.
 * A run with the addresses of the last one skips the second part. Overlaps are found by sorting the
 * spans and sweeping over them, so training steps with hundreds of ports stay cheap. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/batch.h"
#include "runtime/workspace.h"

#define NAME_BYTES 80
#define DIMS_BYTES 400

/* A name as it may appear in a sentence: in quotes, control bytes as dots, cut. */
static const char *name_quote(const char *name, char *text)
{
    size_t n = 0;
    text[n++] = '"';
    for (; *name && n < NAME_BYTES - 5; name++) {
        unsigned char c = (unsigned char)*name;
        text[n++] = c < 0x20 || c == 0x7f || c == '"' ? '.' : (char)c;
    }
    memcpy(text + n, *name ? "...\"" : "\"", *name ? 5 : 2);
    return text;
}

static const char *dims_text(const int64_t *dims, uint32_t rank, char *text)
{
    size_t n = 0;
    text[n++] = '[';
    for (uint32_t i = 0; i < rank; i++) {
        n += (size_t)snprintf(text + n, DIMS_BYTES - n, "%s%" PRId64, i ? "," : "", dims[i]);
    }
    text[n++] = ']';
    text[n] = 0;
    return text;
}

static const char *port_kind(const kiln_program *program, uint32_t port)
{
    return port < program->n_inputs ? "input" : "output";
}

static bool dims_are_equal(const int64_t *a, const int64_t *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (a[i] != b[i]) return false;
    }
    return true;
}

static bool tensor_is_right(const kiln_tensor *tensor, const kiln_port_row *row)
{
    if ((uint32_t)tensor->dtype != row->dtype || tensor->rank != row->rank) return false;
    if (tensor->bytes != (size_t)row->bytes) return false;
    if (tensor->rank && !tensor->dims) return false;
    if (!tensor->data && tensor->bytes) return false;
    if ((uintptr_t)tensor->data % kiln_dtype_bytes(tensor->dtype)) return false;
    return dims_are_equal(tensor->dims, row->dims, row->rank);
}

/* Says what is wrong with a tensor that tensor_is_right refused. */
static kiln_status tensor_refuse(kiln_workspace *workspace, uint32_t port, const kiln_port_row *row,
                                 const kiln_tensor *tensor)
{
    const kiln_program *program = workspace->executable->program;
    kiln_error *error = &workspace->error;
    char name[NAME_BYTES], found[DIMS_BYTES], expected[DIMS_BYTES];
    const char *kind = port_kind(program, port);
    name_quote(row->name, name);
    if ((uint32_t)tensor->dtype != row->dtype) {
        return kiln_error_set(error, KILN_INVALID, "%s %s: dtype is %s; expected %s", kind, name,
                              kiln_dtype_name(tensor->dtype),
                              kiln_dtype_name((kiln_dtype)row->dtype));
    }
    if (tensor->rank != row->rank) {
        return kiln_error_set(error, KILN_INVALID, "%s %s: rank is %" PRIu32 "; expected %" PRIu32,
                              kind, name, tensor->rank, row->rank);
    }
    if (tensor->rank && !tensor->dims) {
        return kiln_error_set(error, KILN_INVALID, "%s %s: dims is NULL; expected %s", kind, name,
                              dims_text(row->dims, row->rank, expected));
    }
    if (!dims_are_equal(tensor->dims, row->dims, row->rank)) {
        return kiln_error_set(error, KILN_INVALID, "%s %s: dims are %s; expected %s", kind, name,
                              dims_text(tensor->dims, tensor->rank, found),
                              dims_text(row->dims, row->rank, expected));
    }
    if (tensor->bytes != (size_t)row->bytes) {
        return kiln_error_set(error, KILN_INVALID, "%s %s: bytes is %zu; expected %" PRId64, kind,
                              name, tensor->bytes, row->bytes);
    }
    if (!tensor->data) {
        return kiln_error_set(error, KILN_INVALID,
                              "%s %s: data is NULL; expected %" PRId64 " bytes", kind, name,
                              row->bytes);
    }
    return kiln_error_set(error, KILN_INVALID,
                          "%s %s: data is misaligned; expected a multiple of %zu bytes", kind, name,
                          kiln_dtype_bytes(tensor->dtype));
}

kiln_status kiln_port_check(kiln_workspace *workspace, uint32_t port, const kiln_port_row *row,
                            const kiln_tensor *tensor)
{
    return tensor_is_right(tensor, row) ? KILN_OK : tensor_refuse(workspace, port, row, tensor);
}

/* Shell sort: in place, and quick on the nearly sorted order of the run before. */
static void spans_sort(kiln_span *spans, uint32_t n)
{
    static const uint32_t gaps[] = {29524, 9841, 3280, 1093, 364, 121, 40, 13, 4, 1};
    for (size_t g = 0; g < sizeof gaps / sizeof *gaps; g++) {
        uint32_t gap = gaps[g];
        for (uint32_t i = gap; i < n; i++) {
            kiln_span span = spans[i];
            uint32_t at = i;
            for (; at >= gap && spans[at - gap].begin > span.begin; at -= gap) {
                spans[at] = spans[at - gap];
            }
            spans[at] = span;
        }
    }
}

/* The one allowed overlap: an output in exactly the memory of the input donated to it. */
static bool is_donation(const kiln_program *program, const kiln_span *a, const kiln_span *b)
{
    if (a->begin != b->begin || a->end != b->end) return false;
    const kiln_span *input = a->port < program->n_inputs ? a : b;
    const kiln_span *output = input == a ? b : a;
    if (input->port >= program->n_inputs || output->port < program->n_inputs) return false;
    return program->inputs[input->port].donated_to == output->port - program->n_inputs;
}

/* The input donated to an output, or KILN_NONE. */
static uint32_t donor_find(const kiln_program *program, uint32_t output)
{
    for (uint32_t i = 0; i < program->n_inputs; i++) {
        if (program->inputs[i].donated_to == output) return i;
    }
    return KILN_NONE;
}

static kiln_status overlap_refuse(kiln_workspace *workspace, const kiln_span *a, const kiln_span *b)
{
    const kiln_program *program = workspace->executable->program;
    const kiln_span *output = a->port >= program->n_inputs ? a : b;
    const kiln_span *other = output == a ? b : a;
    char name[NAME_BYTES], other_name[NAME_BYTES];
    name_quote(kiln_program_port(program, output->port)->name, name);
    name_quote(kiln_program_port(program, other->port)->name, other_name);
    char donor[NAME_BYTES] = "";
    uint32_t by = donor_find(program, output->port - program->n_inputs);
    if (by != KILN_NONE) name_quote(program->inputs[by].name, donor);
    return kiln_error_set(&workspace->error, KILN_INVALID,
                          "output %s: its memory overlaps %s %s; expected memory of its own%s%s%s",
                          name, port_kind(program, other->port), other_name,
                          *donor ? ", or exactly that of input " : ": no input is donated to it",
                          donor, *donor ? ", which is donated to it" : "");
}

/* Sweeps over the spans by address and keeps the two that reach farthest: an output may coincide
 * with one donor at most, so the second one shows an overlap behind the donor. */
static kiln_status overlaps_check(kiln_workspace *workspace, uint32_t n)
{
    const kiln_program *program = workspace->executable->program;
    const kiln_span *spans = workspace->spans, *farthest[2] = {NULL, NULL}, *farthest_output = NULL;
    for (uint32_t i = 0; i < n; i++) {
        const kiln_span *span = &spans[i];
        bool is_output = span->port >= program->n_inputs;
        for (int f = 0; f < 2; f++) {
            const kiln_span *other = is_output ? farthest[f] : farthest_output;
            if (!other || other->end <= span->begin || is_donation(program, other, span)) continue;
            return overlap_refuse(workspace, other, span);
        }
        if (is_output && (!farthest_output || span->end > farthest_output->end)) {
            farthest_output = span;
        }
        if (!farthest[0] || span->end > farthest[0]->end) {
            farthest[1] = farthest[0];
            farthest[0] = span;
        } else if (!farthest[1] || span->end > farthest[1]->end) {
            farthest[1] = span;
        }
    }
    return KILN_OK;
}

void kiln_port_point(kiln_workspace *workspace, uint32_t port, void *data)
{
    const kiln_program_plan *now = &workspace->now;
    workspace->port_data[port] = data;
    for (uint32_t u = now->first_use[port]; u < now->first_use[port + 1]; u++) {
        now->pointers[now->uses[u]] = data;
    }
}

kiln_status kiln_ports_check_overlaps(kiln_workspace *workspace, const kiln_tensor *inputs,
                                      const kiln_tensor *outputs)
{
    const kiln_program *program = workspace->executable->program;
    uint32_t n_inputs = program->n_inputs, n_ports = n_inputs + program->n_outputs, n = 0;
    for (uint32_t p = 0; p < n_ports; p++) {
        const kiln_tensor *tensor = p < n_inputs ? &inputs[p] : &outputs[p - n_inputs];
        uintptr_t begin = (uintptr_t)tensor->data;
        if (tensor->bytes) workspace->spans[n++] = (kiln_span){begin, begin + tensor->bytes, p};
    }
    spans_sort(workspace->spans, n);
    return overlaps_check(workspace, n);
}

static kiln_status counts_check(kiln_workspace *workspace, const kiln_tensor *inputs,
                                uint32_t n_inputs, const kiln_tensor *outputs, uint32_t n_outputs)
{
    const kiln_program *program = workspace->executable->program;
    if (n_inputs != program->n_inputs || (n_inputs && !inputs)) {
        return kiln_error_set(&workspace->error, KILN_INVALID,
                              "inputs: %s%" PRIu32 " were given; expected %" PRIu32,
                              n_inputs && !inputs ? "NULL for " : "", n_inputs, program->n_inputs);
    }
    if (n_outputs != program->n_outputs || (n_outputs && !outputs)) {
        return kiln_error_set(&workspace->error, KILN_INVALID,
                              "outputs: %s%" PRIu32 " were given; expected %" PRIu32,
                              n_outputs && !outputs ? "NULL for " : "", n_outputs,
                              program->n_outputs);
    }
    return KILN_OK;
}

kiln_status kiln_ports_bind(kiln_workspace *workspace, const kiln_tensor *inputs, uint32_t n_inputs,
                            const kiln_tensor *outputs, uint32_t n_outputs)
{
    const kiln_program *program = workspace->executable->program;
    kiln_status status = counts_check(workspace, inputs, n_inputs, outputs, n_outputs);
    if (status) return status;
    if (workspace->is_open) return kiln_batch_bind(workspace, inputs, outputs);
    bool is_same = workspace->is_checked;
    for (uint32_t i = 0; i < n_inputs; i++) {
        if (!tensor_is_right(&inputs[i], &program->inputs[i])) {
            return tensor_refuse(workspace, i, &program->inputs[i], &inputs[i]);
        }
        is_same = is_same && inputs[i].data == workspace->port_data[i];
    }
    for (uint32_t i = 0; i < n_outputs; i++) {
        if (!tensor_is_right(&outputs[i], &program->outputs[i])) {
            const kiln_port_row *row = &program->outputs[i];
            return tensor_refuse(workspace, n_inputs + i, row, &outputs[i]);
        }
        is_same = is_same && outputs[i].data == workspace->port_data[n_inputs + i];
    }
    if (is_same) return KILN_OK;
    status = kiln_ports_check_overlaps(workspace, inputs, outputs);
    if (status) return status;
    for (uint32_t i = 0; i < n_inputs; i++) kiln_port_point(workspace, i, inputs[i].data);
    for (uint32_t i = 0; i < n_outputs; i++)
        kiln_port_point(workspace, n_inputs + i, outputs[i].data);
    workspace->is_checked = true;
    return KILN_OK;
}
