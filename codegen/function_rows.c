/* Open batches: the proof for each number of rows, chunks of the compiled sizes, and their runs.
 *
 *     37 rows, sizes 1, 8, 64:   0…7  8…15  16…23  24…31  29…36
 *
 * The last chunk reaches back over rows that are done: they come out the same again. */
#include "codegen/function.h"

#include <string.h>

#include "base/checked.h"
#include "base/context.h"
#include "codegen/compile.h"
#include "passes/rows.h"
#include "runtime/context.h"

static bool is_batched(const kiln_function *function, uint32_t input)
{
    return function->is_batched && input < function->n_inputs && function->is_batched[input];
}

kiln_status kiln_rows_count(const kiln_function *function, const kiln_tensor *inputs,
                            uint32_t n_inputs, int64_t *out_rows)
{
    int64_t rows = -1;
    *out_rows = 0;
    if (!function->is_batched) return KILN_OK;
    for (uint32_t i = 0; i < n_inputs; i++) {
        if (!is_batched(function, i)) continue;
        if (inputs[i].rank == 0)
            return kiln_context_fail(function->context, KILN_INVALID,
                                     "rows: input %u is a scalar; expected a batch", i);
        if (rows >= 0 && inputs[i].dims[0] != rows)
            return kiln_context_fail(function->context, KILN_INVALID,
                                     "rows: input %u has %lld rows; expected %lld as those before",
                                     i, (long long)inputs[i].dims[0], (long long)rows);
        rows = inputs[i].dims[0];
    }
    *out_rows = rows > 0 ? rows : 0;
    return KILN_OK;
}

kiln_status kiln_rows_prove(const kiln_function *function, const kiln_graph *graph, int64_t n,
                            unsigned char out_form[KILN_SHA256_BYTES])
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_compilation *compilation =
            kiln_compilation_open(&scope, graph, &function->compile, true);
        bool *batched = kiln_new_array(&scope.arena, bool, graph->inputs.n + 1);
        for (uint32_t i = 0; i < graph->inputs.n; i++) batched[i] = is_batched(function, i);
        kiln_rows_spec spec = {.n = n, .is_batched = batched};
        const char *form = kiln_rows_form(&compilation->pipeline, graph, &spec);
        kiln_sha256_of(form, strlen(form), out_form);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status) kiln_graph_set_message(graph, &error);
    return status;
}

/* Tensors that show some of the rows of others, and their dims. */
typedef struct row_view {
    kiln_tensor *tensors;
    int64_t (*dims)[KILN_MAX_RANK];
} row_view;

static void view_rows(kiln_tensor *tensor, int64_t *dims, int64_t of, const kiln_chunks *chunk)
{
    int64_t row_bytes = (int64_t)tensor->bytes / of;
    memcpy(dims, tensor->dims, tensor->rank * sizeof *dims);
    dims[0] = dims[0] / of * chunk->rows;
    tensor->dims = dims;
    tensor->bytes = (size_t)(row_bytes * chunk->rows);
    if (tensor->data) tensor->data = (char *)tensor->data + row_bytes * chunk->first;
}

static row_view view_open(kiln_scope *scope, uint32_t n)
{
    row_view view;
    view.tensors = kiln_new_array(&scope->arena, kiln_tensor, n + 1);
    view.dims =
        (int64_t(*)[KILN_MAX_RANK])kiln_new_array(&scope->arena, int64_t, (n + 1) * KILN_MAX_RANK);
    return view;
}

static void view_inputs(const kiln_function *function, const kiln_entry *entry, row_view *view,
                        const kiln_tensor *inputs, const kiln_chunks *chunk)
{
    for (uint32_t i = 0; i < entry->n_inputs; i++) {
        view->tensors[i] = inputs[i];
        if (is_batched(function, i))
            view_rows(&view->tensors[i], view->dims[i], entry->rows, chunk);
    }
}

/* Rows of 4-bit elements may share a byte: such a batch is not cut. */
static bool is_cuttable(const kiln_entry *entry)
{
    for (uint32_t i = 0; i < entry->n_inputs; i++)
        if (kiln_dtype_bits(entry->inputs[i].dtype) < 8) return false;
    for (uint32_t i = 0; i < entry->n_outputs; i++)
        if (kiln_dtype_bits(entry->outputs[i].dtype) < 8) return false;
    return true;
}

/* Sizes of the same form, descending; *out_n of them. */
static kiln_status find_sizes(kiln_function *function, kiln_entry *entry, row_view *view,
                              const kiln_tensor *inputs, kiln_chunks *sizes)
{
    for (uint32_t i = function->n_row_sizes; i-- > 0;) {
        kiln_chunks chunk = {.rows = function->row_sizes[i]};
        if (chunk.rows > entry->rows) continue;
        kiln_entry *other = NULL;
        bool is_new = false;
        view_inputs(function, entry, view, inputs, &chunk);
        kiln_status status =
            kiln_entry_acquire(function, view->tensors, entry->n_inputs, &other, &is_new);
        if (status) return status;
        entry->is_compiled |= is_new;
        bool is_same = memcmp(other->form, entry->form, sizeof entry->form) == 0;
        kiln_entry_release(function, other);
        if (is_same) (sizes++)->rows = chunk.rows;
    }
    return KILN_OK;
}

static void push_chunks(kiln_entry *entry, int64_t first, int64_t rows, int64_t count)
{
    kiln_chunks chunks = {first, rows, count};
    if (count) kiln_vec_push(&entry->chunks, &entry->arena, chunks);
}

/* Whole chunks of each size; of a rest, one chunk that reaches back where it is more than half of
 * the size, or no smaller size is left. `sizes` ends with 0 rows. */
static void cut_rows(kiln_entry *entry, const kiln_chunks *sizes)
{
    int64_t at = 0, n = entry->rows;
    for (; sizes->rows && at < n; sizes++) {
        int64_t count = (n - at) / sizes->rows;
        push_chunks(entry, at, sizes->rows, count);
        at += count * sizes->rows;
        int64_t rest = n - at;
        if (rest && (rest > sizes->rows / 2 || !sizes[1].rows)) {
            push_chunks(entry, n - sizes->rows, sizes->rows, 1);
            at = n;
        }
    }
}

kiln_status kiln_rows_plan(kiln_function *function, kiln_entry *entry, const kiln_tensor *inputs)
{
    if (!is_cuttable(entry)) return KILN_OK;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_chunks sizes[KILN_MAX_ROW_SIZES + 1] = {{0}};
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        row_view view = view_open(&scope, entry->n_inputs);
        kiln_status status = find_sizes(function, entry, &view, inputs, sizes);
        if (status) kiln_fail(&scope, status, "%s", kiln_context_message(function->context));
        entry->arena.scope = &scope;
        cut_rows(entry, sizes);
    }
    kiln_status status = kiln_scope_close(&scope);
    entry->arena.scope = NULL;
    return status ? kiln_context_fail(function->context, status, "%s", error.message) : KILN_OK;
}

/* Runs */

static kiln_status refuse(const kiln_function *function, const char *kind, uint32_t number,
                          const char *fault)
{
    return kiln_context_fail(function->context, KILN_INVALID, "%s %u: %s", kind, number, fault);
}

/* What kiln_run checks of a port, for the whole batch: chunks only see their rows. */
static kiln_status check_output(const kiln_function *function, const kiln_output_type *type,
                                const kiln_tensor *output, uint32_t number)
{
    if (output->dtype != type->dtype) return refuse(function, "output", number, "another dtype");
    if (output->rank != type->rank) return refuse(function, "output", number, "another rank");
    bool is_same = output->dims != NULL;
    for (uint32_t i = 0; is_same && i < type->rank; i++) is_same = output->dims[i] == type->dims[i];
    if (!is_same)
        return refuse(function, "output", number,
                      "other dims; expected those of kiln_function_prepare");
    if (output->bytes != type->bytes) return refuse(function, "output", number, "bytes are wrong");
    if (output->bytes && !output->data) return refuse(function, "output", number, "data is NULL");
    return KILN_OK;
}

static kiln_status check_input(const kiln_function *function, const kiln_tensor *input,
                               uint32_t number)
{
    int64_t count, bytes;
    if (!kiln_checked_product(input->dims, input->rank, &count) ||
        !kiln_checked_bytes(count, kiln_dtype_bits(input->dtype), &bytes) ||
        (int64_t)input->bytes != bytes)
        return refuse(function, "input", number, "bytes are wrong");
    if (bytes && !input->data) return refuse(function, "input", number, "data is NULL");
    return KILN_OK;
}

static bool overlaps(const kiln_tensor *a, const kiln_tensor *b)
{
    const char *x = a->data, *y = b->data;
    return a->bytes && b->bytes && x < y + b->bytes && y < x + a->bytes;
}

static kiln_status check_tensors(const kiln_function *function, const kiln_entry *entry,
                                 const kiln_tensor *inputs, const kiln_tensor *outputs,
                                 uint32_t n_outputs)
{
    kiln_status status = KILN_OK;
    if (n_outputs != entry->n_outputs || (n_outputs && !outputs))
        return kiln_context_fail(function->context, KILN_INVALID,
                                 "outputs: %u were given; expected %u", outputs ? n_outputs : 0,
                                 entry->n_outputs);
    for (uint32_t i = 0; i < entry->n_inputs && !status; i++)
        status = check_input(function, &inputs[i], i);
    for (uint32_t i = 0; i < n_outputs && !status; i++)
        status = check_output(function, &entry->outputs[i], &outputs[i], i);
    for (uint32_t i = 0; i < n_outputs && !status; i++) {
        bool is_shared = false;
        for (uint32_t j = 0; j < entry->n_inputs; j++)
            is_shared |= overlaps(&outputs[i], &inputs[j]);
        for (uint32_t j = 0; j < i; j++) is_shared |= overlaps(&outputs[i], &outputs[j]);
        if (is_shared)
            status = refuse(function, "output", i,
                            "its memory overlaps another tensor's; expected its own");
    }
    return status;
}

/* The chunks of one size. */
static kiln_status run_chunks(kiln_function *function, const kiln_entry *entry, row_view views[2],
                              const kiln_tensor *tensors[2], const kiln_chunks *chunks)
{
    kiln_entry *other = NULL;
    bool is_new = false;
    kiln_status status = KILN_OK;
    for (int64_t k = 0; k < chunks->count && !status; k++) {
        kiln_chunks chunk = {chunks->first + k * chunks->rows, chunks->rows, 1};
        view_inputs(function, entry, &views[0], tensors[0], &chunk);
        for (uint32_t i = 0; i < entry->n_outputs; i++) {
            views[1].tensors[i] = tensors[1][i];
            view_rows(&views[1].tensors[i], views[1].dims[i], entry->rows, &chunk);
        }
        if (!other)
            status =
                kiln_entry_acquire(function, views[0].tensors, entry->n_inputs, &other, &is_new);
        if (!status)
            status = kiln_entry_run(function, other, views[0].tensors, views[1].tensors,
                                    entry->n_outputs);
    }
    if (other) kiln_entry_release(function, other);
    return status;
}

kiln_status kiln_rows_run(kiln_function *function, const kiln_entry *entry,
                          const kiln_tensor *inputs, const kiln_tensor *outputs, uint32_t n_outputs)
{
    kiln_status status = check_tensors(function, entry, inputs, outputs, n_outputs);
    if (status) return status;
    kiln_error error = {0};
    kiln_scope scope;
    const kiln_tensor *tensors[2] = {inputs, outputs};
    int64_t n_chunks = 0;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        row_view views[2] = {view_open(&scope, entry->n_inputs), view_open(&scope, n_outputs)};
        for (uint32_t i = 0; i < entry->chunks.n; i++) {
            status = run_chunks(function, entry, views, tensors, &entry->chunks.at[i]);
            if (status) kiln_fail(&scope, status, "%s", kiln_context_message(function->context));
        }
    }
    status = kiln_scope_close(&scope);
    if (status) return kiln_context_fail(function->context, status, "%s", error.message);
    for (uint32_t i = 0; i < entry->chunks.n; i++) n_chunks += entry->chunks.at[i].count;
    pthread_mutex_lock(&function->lock);
    function->report.n_chunks += (uint64_t)n_chunks;
    pthread_mutex_unlock(&function->lock);
    return KILN_OK;
}
