/* kiln_function: signatures and the executables kept for them. A call finds its entry by comparing
 * dims (there are few), takes an idle workspace or a new one, runs without the lock and gives both
 * back. Entries beyond the bounds go in the order of their last use. */
#include "codegen/function.h"

#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "runtime/context.h"

static bool is_same_input(const kiln_function *function, const kiln_signature_input *kept,
                          const kiln_tensor *given, uint32_t number)
{
    bool is_same = kept->dtype == given->dtype && kept->rank == given->rank;
    for (uint32_t i = 0; is_same && i < kept->rank; i++) is_same = kept->dims[i] == given->dims[i];
    bool is_value = function->is_value && number < function->n_inputs && function->is_value[number];
    if (!is_same || !is_value) return is_same;
    return kept->value_bytes == given->bytes &&
           (given->bytes == 0 || memcmp(kept->value, given->data, given->bytes) == 0);
}

static kiln_entry *find_entry(kiln_function *function, const kiln_tensor *inputs, uint32_t n_inputs)
{
    for (kiln_entry *entry = function->entries; entry; entry = entry->next) {
        bool is_same = entry->n_inputs == n_inputs;
        for (uint32_t i = 0; is_same && i < n_inputs; i++)
            is_same = is_same_input(function, &entry->inputs[i], &inputs[i], i);
        if (is_same) return entry;
    }
    return NULL;
}

static int64_t entry_bytes(const kiln_entry *entry)
{
    if (!entry->executable) return 0;
    int64_t constants = kiln_executable_program(entry->executable)->constant_bytes;
    return constants + entry->n_workspaces * kiln_executable_peak_bytes(entry->executable, 0);
}

static void entry_free(kiln_entry *entry)
{
    while (entry->idle) {
        kiln_idle_workspace *idle = entry->idle;
        entry->idle = idle->next;
        kiln_workspace_destroy(idle->workspace);
        free(idle);
    }
    kiln_executable_destroy(entry->executable);
    kiln_arena_fini(&entry->arena);
    free(entry);
}

/* Takes an entry off the list; the caller frees it, without the lock, when this returns it. */
static kiln_entry *unlist(kiln_function *function, kiln_entry *entry)
{
    kiln_entry **at = &function->entries;
    while (*at != entry) at = &(*at)->next;
    *at = entry->next;
    entry->is_listed = false;
    return --entry->n_holders == 0 ? entry : NULL;
}

/* The entry used longest ago, of those with or without an executable; not `kept`. */
static kiln_entry *find_oldest(const kiln_function *function, const kiln_entry *kept,
                               bool has_executable)
{
    kiln_entry *oldest = NULL;
    for (kiln_entry *entry = function->entries; entry; entry = entry->next) {
        bool is_candidate = entry != kept && entry->state == KILN_ENTRY_READY &&
                            (entry->executable != NULL) == has_executable;
        if (is_candidate && (!oldest || entry->used < oldest->used)) oldest = entry;
    }
    return oldest;
}

/* One entry over the bounds, off the list, or NULL; under the lock. */
static kiln_entry *pick_surplus(kiln_function *function, const kiln_entry *kept)
{
    uint32_t n = 0, n_plans = 0;
    int64_t bytes = 0;
    for (const kiln_entry *entry = function->entries; entry; entry = entry->next) {
        if (entry->state != KILN_ENTRY_READY) continue;
        n += entry->executable != NULL;
        n_plans += entry->executable == NULL;
        bytes += entry_bytes(entry);
    }
    function->report.n_executables = n;
    function->report.bytes = bytes;
    if (n_plans > KILN_MAX_SIGNATURES) return find_oldest(function, kept, false);
    if (n > function->max_executables || bytes > function->max_bytes)
        return find_oldest(function, kept, true);
    return NULL;
}

/* Gives up what is over the bounds. Called with the lock, which it lets go of while it frees. */
static void trim(kiln_function *function, const kiln_entry *kept)
{
    for (kiln_entry *entry; (entry = pick_surplus(function, kept)) != NULL;) {
        function->report.n_evicted += entry->executable != NULL;
        kiln_entry *unused = unlist(function, entry);
        if (!unused) continue;
        pthread_mutex_unlock(&function->lock);
        entry_free(unused);
        pthread_mutex_lock(&function->lock);
    }
}

static void copy_signature(const kiln_function *function, kiln_entry *entry,
                           const kiln_tensor *inputs)
{
    uint32_t n = entry->n_inputs;
    entry->inputs = kiln_new_array(&entry->arena, kiln_signature_input, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        kiln_signature_input *input = &entry->inputs[i];
        *input = (kiln_signature_input){.dtype = inputs[i].dtype, .rank = inputs[i].rank};
        if (input->rank) memcpy(input->dims, inputs[i].dims, input->rank * sizeof *input->dims);
        bool is_value = function->is_value && i < function->n_inputs && function->is_value[i];
        if (!is_value) continue;
        input->value_bytes = inputs[i].bytes;
        input->value = kiln_arena_copy(&entry->arena, inputs[i].data, inputs[i].bytes);
    }
}

/* An entry for the signature; NULL without memory. */
static kiln_entry *entry_open(const kiln_function *function, const kiln_tensor *inputs,
                              uint32_t n_inputs)
{
    kiln_entry *volatile entry = calloc(1, sizeof *entry);
    kiln_error error = {0};
    kiln_scope scope;
    if (!entry) return NULL;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_arena_init(&entry->arena, &scope);
        entry->n_inputs = n_inputs;
        copy_signature(function, entry, inputs);
    }
    if (kiln_scope_close(&scope) == KILN_OK) return entry;
    entry_free(entry);
    return NULL;
}

/* Lists a new entry in the state MAKING, held by the list and by the caller. */
static kiln_entry *entry_list(kiln_function *function, const kiln_tensor *inputs, uint32_t n_inputs)
{
    kiln_entry *entry = entry_open(function, inputs, n_inputs);
    if (!entry) return NULL;
    entry->n_holders = 2;
    entry->is_listed = true;
    entry->next = function->entries;
    function->entries = entry;
    return entry;
}

/* Made: tells the waiting ones. A failed entry leaves the list at once, so that the next call tries
 * again. */
static void entry_publish(kiln_function *function, kiln_entry *entry, kiln_status status)
{
    if (status) {
        entry->status = status;
        strncpy(entry->sentence, kiln_context_message(function->context),
                sizeof entry->sentence - 1);
    }
    pthread_mutex_lock(&function->lock);
    entry->state = status ? KILN_ENTRY_FAILED : KILN_ENTRY_READY;
    entry->used = ++function->clock;
    if (status) {
        unlist(function, entry); /* the caller still holds it */
    } else if (entry->executable) {
        function->report.n_misses++;
        function->report.compile_seconds += entry->seconds;
    }
    trim(function, entry);
    pthread_cond_broadcast(&function->made);
    pthread_mutex_unlock(&function->lock);
}

kiln_status kiln_entry_acquire(kiln_function *function, const kiln_tensor *inputs,
                               uint32_t n_inputs, kiln_entry **out_entry, bool *is_new)
{
    pthread_mutex_lock(&function->lock);
    kiln_entry *entry = find_entry(function, inputs, n_inputs);
    bool is_mine = !entry;
    if (is_mine) {
        entry = entry_list(function, inputs, n_inputs);
    } else {
        entry->n_holders++;
        *is_new |= entry->state == KILN_ENTRY_MAKING;
        while (entry->state == KILN_ENTRY_MAKING)
            pthread_cond_wait(&function->made, &function->lock);
        entry->used = ++function->clock;
    }
    pthread_mutex_unlock(&function->lock);
    if (!entry) return kiln_context_fail(function->context, KILN_NO_MEMORY, "function: no memory");
    if (is_mine) {
        entry_publish(function, entry, kiln_entry_make(function, entry, inputs));
        *is_new |= entry->status || entry->is_compiled;
    }
    kiln_status status = entry->status;
    if (!status) {
        *out_entry = entry;
        return KILN_OK;
    }
    kiln_context_fail(function->context, status, "%s", entry->sentence);
    kiln_entry_release(function, entry);
    return status;
}

void kiln_entry_release(kiln_function *function, kiln_entry *entry)
{
    pthread_mutex_lock(&function->lock);
    bool is_last = --entry->n_holders == 0;
    pthread_mutex_unlock(&function->lock);
    if (is_last) entry_free(entry);
}

/* An idle workspace of the entry's, or a new one. */
static kiln_status take_workspace(kiln_function *function, kiln_entry *entry,
                                  kiln_idle_workspace **out_idle)
{
    pthread_mutex_lock(&function->lock);
    kiln_idle_workspace *idle = entry->idle;
    if (idle) entry->idle = idle->next;
    entry->n_workspaces += !idle;
    if (!idle) trim(function, entry);
    pthread_mutex_unlock(&function->lock);
    *out_idle = idle;
    if (idle) return KILN_OK;
    idle = calloc(1, sizeof *idle);
    kiln_status status =
        idle ? kiln_workspace_create(entry->executable, &idle->workspace)
             : kiln_context_fail(function->context, KILN_NO_MEMORY, "function: no memory");
    if (status) {
        free(idle);
        pthread_mutex_lock(&function->lock);
        entry->n_workspaces--;
        pthread_mutex_unlock(&function->lock);
        return status;
    }
    *out_idle = idle;
    return KILN_OK;
}

kiln_status kiln_entry_run(kiln_function *function, kiln_entry *entry, const kiln_tensor *inputs,
                           const kiln_tensor *outputs, uint32_t n_outputs)
{
    kiln_idle_workspace *idle = NULL;
    kiln_status status = take_workspace(function, entry, &idle);
    if (status) return status;
    status = kiln_run(idle->workspace, inputs, entry->n_inputs, outputs, n_outputs);
    if (status)
        kiln_context_fail(function->context, status, "%s", kiln_workspace_message(idle->workspace));
    pthread_mutex_lock(&function->lock);
    idle->next = entry->idle;
    entry->idle = idle;
    pthread_mutex_unlock(&function->lock);
    return status;
}

kiln_status kiln_function_check_inputs(const kiln_function *function, const kiln_tensor *inputs,
                                       uint32_t n_inputs)
{
    if (n_inputs && !inputs)
        return kiln_context_fail(function->context, KILN_INVALID,
                                 "function: inputs is NULL; expected %u", n_inputs);
    if (function->n_listed && n_inputs != function->n_listed)
        return kiln_context_fail(function->context, KILN_INVALID,
                                 "function: %u inputs were given; expected %u", n_inputs,
                                 function->n_listed);
    for (uint32_t i = 0; i < n_inputs; i++) {
        const kiln_tensor *input = &inputs[i];
        bool is_value = function->is_value && i < function->n_inputs && function->is_value[i];
        const char *fault = NULL;
        if (!kiln_dtype_bits(input->dtype)) fault = "its dtype is unknown";
        if (input->rank > KILN_MAX_RANK) fault = "its rank is over 16";
        if (!fault && input->rank && !input->dims) fault = "dims is NULL";
        if (is_value && input->bytes && !input->data) fault = "data is NULL";
        for (uint32_t k = 0; !fault && k < input->rank; k++)
            if (input->dims[k] < 0) fault = "a dim is below 0";
        if (fault)
            return kiln_context_fail(function->context, KILN_INVALID,
                                     "function: input %u: %s; expected a tensor", i, fault);
    }
    return KILN_OK;
}

static kiln_status call_begin(kiln_function *function, const kiln_tensor *inputs, uint32_t n_inputs,
                              kiln_entry **out_entry)
{
    bool is_new = false;
    kiln_status status = kiln_function_check_inputs(function, inputs, n_inputs);
    if (status) return status;
    status = kiln_entry_acquire(function, inputs, n_inputs, out_entry, &is_new);
    pthread_mutex_lock(&function->lock);
    function->report.n_calls++;
    function->report.n_hits += !is_new;
    pthread_mutex_unlock(&function->lock);
    return status;
}

kiln_status kiln_function_prepare(kiln_function *function, const kiln_tensor *inputs,
                                  uint32_t n_inputs, kiln_output_type *out_types, uint32_t *n_types)
{
    kiln_entry *entry = NULL;
    if (!function || (out_types && !n_types)) return KILN_INVALID;
    kiln_status status = call_begin(function, inputs, n_inputs, &entry);
    if (status) return status;
    for (uint32_t i = 0; out_types && i < entry->n_outputs && i < *n_types; i++)
        out_types[i] = entry->outputs[i];
    if (n_types) *n_types = entry->n_outputs;
    kiln_entry_release(function, entry);
    return KILN_OK;
}

kiln_status kiln_function_run(kiln_function *function, const kiln_tensor *inputs, uint32_t n_inputs,
                              const kiln_tensor *outputs, uint32_t n_outputs)
{
    kiln_entry *entry = NULL;
    if (!function) return KILN_INVALID;
    kiln_status status = call_begin(function, inputs, n_inputs, &entry);
    if (status) return status;
    status = entry->executable ? kiln_entry_run(function, entry, inputs, outputs, n_outputs)
                               : kiln_rows_run(function, entry, inputs, outputs, n_outputs);
    kiln_entry_release(function, entry);
    return status;
}

void kiln_function_inspect(kiln_function *function, kiln_function_report *out_report)
{
    if (!function || !out_report) return;
    pthread_mutex_lock(&function->lock);
    trim(function, NULL); /* sets the figures of what is kept */
    *out_report = function->report;
    pthread_mutex_unlock(&function->lock);
}

const kiln_function_input *kiln_function_inputs(const kiln_function *function, uint32_t *out_n)
{
    if (out_n) *out_n = function ? function->n_listed : 0;
    return function ? function->listed : NULL;
}

void kiln_function_destroy(kiln_function *function)
{
    if (!function) return;
    while (function->entries) entry_free(unlist(function, function->entries));
    for (uint32_t i = 0; i < function->n_names; i++) free(function->names[i]);
    free(function->names);
    pthread_mutex_destroy(&function->lock);
    pthread_cond_destroy(&function->made);
    kiln_arena_fini(&function->arena);
    kiln_context_destroy(function->context);
    free(function);
}
