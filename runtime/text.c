/* Text building. */
#include "base/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void kiln_text_append_n(kiln_text *text, const char *bytes, size_t n)
{
    if (text->capacity - text->n < n + 1) {
        size_t grown = text->capacity ? text->capacity * 2 : 256;
        while (grown - text->n < n + 1) grown *= 2;
        char *at = kiln_arena_alloc(text->arena, grown);
        if (text->n) memcpy(at, text->at, text->n);
        text->at = at;
        text->capacity = grown;
    }
    if (n) memcpy(text->at + text->n, bytes, n);
    text->n += n;
    text->at[text->n] = 0;
}

void kiln_text_append(kiln_text *text, const char *string)
{
    kiln_text_append_n(text, string, strlen(string));
}

void kiln_text_printf(kiln_text *text, const char *format, ...)
{
    char small[256];
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof small) {
        kiln_text_append_n(text, small, (size_t)n);
    } else if (n >= 0) {
        char *large = kiln_arena_alloc(text->arena, (size_t)n + 1);
        vsnprintf(large, (size_t)n + 1, format, again);
        kiln_text_append_n(text, large, (size_t)n);
    }
    va_end(again);
}

void kiln_text_ints(kiln_text *text, const int64_t *values, uint32_t n)
{
    kiln_text_append(text, "[");
    for (uint32_t i = 0; i < n; i++) {
        kiln_text_printf(text, "%s%" PRId64, i ? ", " : "", values[i]);
    }
    kiln_text_append(text, "]");
}

void kiln_text_type(kiln_text *text, kiln_dtype dtype, uint32_t rank, const int64_t *dims)
{
    kiln_text_printf(text, "%s[", kiln_dtype_name(dtype));
    for (uint32_t i = 0; i < rank; i++) {
        kiln_text_printf(text, "%s%" PRId64, i ? "," : "", dims[i]);
    }
    kiln_text_append(text, "]");
}

void kiln_text_quoted(kiln_text *text, const char *bytes, size_t n)
{
    kiln_text_append(text, "\"");
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '"' || c == '\\') {
            kiln_text_printf(text, "\\%c", c);
        } else if (c < 0x20 || c > 0x7e) {
            kiln_text_printf(text, "\\x%02x", c);
        } else {
            kiln_text_append_n(text, (const char *)&bytes[i], 1);
        }
    }
    kiln_text_append(text, "\"");
}

const char *kiln_text_string(const kiln_text *text)
{
    return text->at ? text->at : "";
}
