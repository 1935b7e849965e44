/* What layers above the runtime may do with a context: leave a sentence on it. */
#ifndef KILN_BASE_CONTEXT_H
#define KILN_BASE_CONTEXT_H

#include "base/scope.h"

struct kiln_context;
struct kiln_custom_call_args;

/* Keeps the sentence and returns `status`. */
kiln_status kiln_context_fail(struct kiln_context *context, kiln_status status, const char *format,
                              ...) __attribute__((format(printf, 3, 4)));

/* Runs the function that is registered for the call's signature. */
kiln_status kiln_context_call(struct kiln_context *context,
                              const struct kiln_custom_call_args *call, kiln_error *error);
#endif
