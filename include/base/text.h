/* A text under construction, in an arena. Numbers print the same in every locale. */
#ifndef KILN_BASE_TEXT_H
#define KILN_BASE_TEXT_H

#include <stdint.h>

#include "base/arena.h"
#include "kiln/types.h"

typedef struct kiln_text {
    kiln_arena *arena;
    char *at; /* NUL-terminated; NULL while empty: read it through kiln_text_string */
    size_t n, capacity;
} kiln_text;

void kiln_text_append(kiln_text *text, const char *string);
void kiln_text_append_n(kiln_text *text, const char *bytes, size_t n);
void kiln_text_printf(kiln_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "[1, 2, 3]" */
void kiln_text_ints(kiln_text *text, const int64_t *values, uint32_t n);

/* "f32[2, 3]" as "f32[2,3]"; a scalar is "f32[]" */
void kiln_text_type(kiln_text *text, kiln_dtype dtype, uint32_t rank, const int64_t *dims);

/* Quoted, with escapes for everything outside printable ASCII: safe for messages and dumps. */
void kiln_text_quoted(kiln_text *text, const char *bytes, size_t n);

/* The text so far, never NULL; lives as long as the arena. */
const char *kiln_text_string(const kiln_text *text);
#endif
