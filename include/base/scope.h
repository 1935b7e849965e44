/* Scopes: how the compiler fails. An API entry or a compile job opens a scope, work below it calls
 * kiln_fail on the first error, and control returns to the entry, which closes the scope; closing
 * runs the registered releases (latest first) and frees the scope's arena. No jump crosses a
 * thread, a callback or foreign frames: callbacks return status. Locals changed between opening and
 * a jump are volatile or live in the scope's arena.
 *
 *     kiln_scope scope;
 *     kiln_scope_open(&scope, &graph->error);
 *     if (kiln_scope_try(&scope)) {
 *         ... kiln_fail(&scope, KILN_INVALID, "input %u: rank is %u; expected 2", i, rank);
 *     }
 *     return kiln_scope_close(&scope); */
#ifndef KILN_BASE_SCOPE_H
#define KILN_BASE_SCOPE_H

#include <setjmp.h>
#include <stdarg.h>

#include "base/arena.h"
#include "kiln/status.h"

#define KILN_MESSAGE_BYTES 1024

/* The last failure of an object. An error starts zeroed: KILN_OK and an empty sentence. */
typedef struct kiln_error {
    kiln_status status;
    char message[KILN_MESSAGE_BYTES];
} kiln_error;

typedef struct kiln_release kiln_release;

typedef struct kiln_scope {
    jmp_buf jump;
    kiln_arena arena;       /* scratch of this entry; freed by kiln_scope_close */
    kiln_release *releases; /* latest first */
    kiln_error *error;      /* where the sentence goes; borrowed */
    kiln_status status;
} kiln_scope;

/* Prepares a scope. `error` is borrowed until the close. */
void kiln_scope_open(kiln_scope *scope, kiln_error *error);

/* True on the way in, false when kiln_fail came back. A macro because setjmp must stay in the
 * frame. */
#define kiln_scope_try(scope) (_setjmp((scope)->jump) == 0)

/* Releases everything and returns what happened (KILN_OK when nothing failed). */
kiln_status kiln_scope_close(kiln_scope *scope);

/* Runs `release(object)` when the scope closes, on success and failure alike. */
void kiln_scope_defer(kiln_scope *scope, void (*release)(void *object), void *object);

/* Takes back the deferral of `object`: it has found another owner. */
void kiln_scope_keep(kiln_scope *scope, void *object);

/* Records status and sentence and jumps to the scope. Form of the sentence: "where: what was found;
 * what was expected", lower case, no period. */
_Noreturn void kiln_fail(kiln_scope *scope, kiln_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Jumps with an error that another object already holds. */
_Noreturn void kiln_fail_with(kiln_scope *scope, const kiln_error *error);

/* The plain-status form, for code that has no scope: fills `error` and returns `status`. */
kiln_status kiln_error_set(kiln_error *error, kiln_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
kiln_status kiln_error_set_va(kiln_error *error, kiln_status status, const char *format,
                              va_list args) __attribute__((format(printf, 3, 0)));
#endif
