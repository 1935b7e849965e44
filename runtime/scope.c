/* Scopes and errors: the jump home, and what is released on the way. */
#include "base/scope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kiln_release {
    kiln_release *next;
    void (*release)(void *object);
    void *object;
};

void kiln_scope_open(kiln_scope *scope, kiln_error *error)
{
    kiln_arena_init(&scope->arena, scope);
    scope->releases = NULL;
    scope->error = error;
    scope->status = KILN_OK;
}

kiln_status kiln_scope_close(kiln_scope *scope)
{
    while (scope->releases) {
        kiln_release *at = scope->releases;
        scope->releases = at->next;
        if (at->release) at->release(at->object);
    }
    kiln_arena_fini(&scope->arena);
    return scope->status;
}

void kiln_scope_defer(kiln_scope *scope, void (*release)(void *object), void *object)
{
    kiln_release *at = kiln_new(&scope->arena, kiln_release);
    at->next = scope->releases;
    at->release = release;
    at->object = object;
    scope->releases = at;
}

void kiln_scope_keep(kiln_scope *scope, void *object)
{
    for (kiln_release *at = scope->releases; at; at = at->next) {
        if (at->object == object) at->release = NULL;
    }
}

kiln_status kiln_error_set_va(kiln_error *error, kiln_status status, const char *format,
                              va_list args)
{
    if (error) {
        error->status = status;
        vsnprintf(error->message, sizeof error->message, format, args);
    }
    return status;
}

kiln_status kiln_error_set(kiln_error *error, kiln_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    kiln_error_set_va(error, status, format, args);
    va_end(args);
    return status;
}

void kiln_fail(kiln_scope *scope, kiln_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    kiln_error_set_va(scope->error, status, format, args);
    va_end(args);
    scope->status = status;
    longjmp(scope->jump, 1);
}

void kiln_fail_with(kiln_scope *scope, const kiln_error *error)
{
    if (scope->error && scope->error != error) *scope->error = *error;
    scope->status = error->status;
    longjmp(scope->jump, 1);
}
