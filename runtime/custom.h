/* Functions that programs call: how a LIBRARY step finds and runs its own. A signature is
 * "name(f32[2,3], i64[]) -> (f32[2])". */
#ifndef KILN_RUNTIME_CUSTOM_H
#define KILN_RUNTIME_CUSTOM_H

#include "base/scope.h"
#include "kiln/runtime.h"

typedef struct kiln_custom_entry kiln_custom_entry;

/* The function of that name; UNSUPPORTED without one, INVALID when it is for other types. */
kiln_status kiln_custom_find(kiln_context *context, const char *signature,
                             const kiln_custom_entry **out_entry, kiln_error *error);
/* Calls it; its status, with a sentence when it is not OK. */
kiln_status kiln_custom_run(const kiln_custom_entry *entry, const kiln_custom_call_args *call,
                            kiln_error *error);
void kiln_customs_free(kiln_custom_entry *entry);
#endif
