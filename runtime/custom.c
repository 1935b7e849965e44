/* Custom calls: functions of the caller, registered on a context by name and found by programs with
 * LIBRARY steps. Entries are never removed before the context goes, so that workspaces keep
 * them. */
#include "runtime/custom.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/context.h"

struct kiln_custom_entry {
    struct kiln_custom_entry *next;
    kiln_custom_fn *run;
    void *user;
    const char *signature; /* behind the name; NULL: any */
    char name[];
};

/* The length of a signature's name. */
static size_t name_bytes(const char *signature)
{
    return strcspn(signature, "(");
}

kiln_status kiln_context_register(kiln_context *context, const char *name, const char *signature,
                                  kiln_custom_fn *run, void *user)
{
    if (!context) return KILN_INVALID;
    if (!name || !*name || name[name_bytes(name)] || !run) {
        return kiln_context_fail(context, KILN_INVALID,
                                 "custom call: the name %s; expected one without (, and a function",
                                 name ? name : "is NULL");
    }
    size_t n = strlen(name) + 1, m = signature ? strlen(signature) + 1 : 0;
    struct kiln_custom_entry *entry = malloc(sizeof *entry + n + m);
    if (!entry) return kiln_context_fail(context, KILN_NO_MEMORY, "custom call: no memory");
    memcpy(entry->name, name, n);
    if (signature) memcpy(entry->name + n, signature, m);
    entry->run = run;
    entry->user = user;
    entry->signature = signature ? entry->name + n : NULL;
    pthread_mutex_lock(&context->lock);
    entry->next = context->customs; /* the last one of a name counts */
    context->customs = entry;
    pthread_mutex_unlock(&context->lock);
    return KILN_OK;
}

void kiln_customs_free(kiln_custom_entry *entry)
{
    while (entry) {
        struct kiln_custom_entry *next = entry->next;
        free(entry);
        entry = next;
    }
}

kiln_status kiln_custom_find(kiln_context *context, const char *signature,
                             const kiln_custom_entry **out_entry, kiln_error *error)
{
    size_t n = name_bytes(signature);
    const kiln_custom_entry *entry = NULL;
    if (context) {
        pthread_mutex_lock(&context->lock);
        entry = context->customs;
        pthread_mutex_unlock(&context->lock);
    }
    while (entry && (strlen(entry->name) != n || memcmp(entry->name, signature, n) != 0))
        entry = entry->next;
    if (!entry) {
        return kiln_error_set(error, KILN_UNSUPPORTED,
                              "custom call %.200s: the context has no such function; expected one "
                              "by kiln_context_register",
                              signature);
    }
    if (entry->signature && strcmp(entry->signature, signature + n) != 0) {
        return kiln_error_set(error, KILN_INVALID,
                              "custom call %.200s: the function is registered for %.200s%.200s",
                              signature, entry->name, entry->signature);
    }
    *out_entry = entry;
    return KILN_OK;
}

kiln_status kiln_custom_run(const kiln_custom_entry *entry, const kiln_custom_call_args *call,
                            kiln_error *error)
{
    kiln_status status = entry->run(entry->user, call);
    if (status == KILN_OK) return KILN_OK;
    const char *name = kiln_status_name(status);
    bool is_known = name && status > KILN_OK && status <= KILN_INTERNAL;
    return kiln_error_set(error, is_known ? status : KILN_INVALID,
                          "custom call %.200s: the function returned %s", call->signature,
                          is_known ? name : "an unknown status");
}

kiln_status kiln_context_call(kiln_context *context, const kiln_custom_call_args *call,
                              kiln_error *error)
{
    const kiln_custom_entry *entry = NULL;
    kiln_status status = kiln_custom_find(context, call->signature, &entry, error);
    return status ? status : kiln_custom_run(entry, call, error);
}
