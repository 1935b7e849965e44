/* The scanner of the text form: words, strings, numbers, elements, literals. It works on bytes,
 * knows no locale and reads nothing past the end. */
#define _GNU_SOURCE /* strtod_l */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "graph/describe.h"
#include "graph/element.h"
#include "graph/io/sink.h"
#include "graph/parse.h"

#define NUMBER_BYTES 400 /* longer than any number that prints */
#define STRING_BYTES (1 << 20)

void kiln_parse_fail(kiln_parser *parser, const char *format, ...)
{
    char sentence[KILN_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    kiln_fail(parser->scope, KILN_MODEL, "%s", sentence);
}

static bool is_word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
}

void kiln_parse_space(kiln_parser *parser)
{
    for (; parser->at < parser->end; parser->at++) {
        char c = *parser->at;
        if (c == '#') {
            while (parser->at + 1 < parser->end && parser->at[1] != '\n') parser->at++;
        } else if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
            break;
        }
    }
    parser->place = parser->at;
}

char kiln_parse_peek(kiln_parser *parser)
{
    kiln_parse_space(parser);
    return parser->at < parser->end ? *parser->at : 0;
}

/* What stands at the place, for sentences: a few printable bytes. */
static const char *found(kiln_parser *parser)
{
    kiln_text text = {.arena = &parser->scope->arena};
    const char *at = parser->place;
    size_t n = 0;
    if (at == parser->end) return "the end of the text";
    while (at + n < parser->end && n < 24 && is_word_byte(at[n])) n++;
    kiln_text_quoted(&text, at, n ? n : 1);
    return kiln_text_string(&text);
}

bool kiln_parse_accept(kiln_parser *parser, const char *word)
{
    size_t n = strlen(word);
    kiln_parse_space(parser);
    if ((size_t)(parser->end - parser->at) < n || memcmp(parser->at, word, n) != 0) return false;
    bool goes_on = (size_t)(parser->end - parser->at) > n && is_word_byte(parser->at[n]);
    if (is_word_byte(word[n - 1]) && goes_on) return false;
    parser->at += n;
    return true;
}

void kiln_parse_expect(kiln_parser *parser, const char *word)
{
    if (!kiln_parse_accept(parser, word)) {
        kiln_parse_fail(parser, "found %s; expected %s", found(parser), word);
    }
}

const char *kiln_parse_word(kiln_parser *parser, const char *what, size_t *out_n)
{
    kiln_parse_space(parser);
    const char *word = parser->at;
    while (parser->at < parser->end && is_word_byte(*parser->at)) parser->at++;
    *out_n = (size_t)(parser->at - word);
    if (*out_n == 0) kiln_parse_fail(parser, "found %s; expected %s", found(parser), what);
    return word;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* One byte of a string; the parser stands after the backslash of an escape. */
static char string_escape(kiln_parser *parser)
{
    const char *at = parser->at;
    int64_t left = parser->end - at;
    if (left >= 1 && (*at == '"' || *at == '\\')) {
        parser->at++;
        return *at;
    }
    int high = left >= 3 && *at == 'x' ? hex_digit(at[1]) : -1,
        low = high >= 0 ? hex_digit(at[2]) : -1;
    if (low < 0 || high * 16 + low == 0) {
        kiln_parse_fail(parser, "a bad escape in a string; expected \\\", \\\\ or \\x01 to \\xff");
    }
    parser->at += 3;
    return (char)(high * 16 + low);
}

const char *kiln_parse_string(kiln_parser *parser, const char *what)
{
    if (kiln_parse_peek(parser) != '"') {
        kiln_parse_fail(parser, "found %s; expected %s in quotes", found(parser), what);
    }
    parser->at++;
    kiln_text text = {.arena = &parser->scope->arena};
    while (parser->at < parser->end && *parser->at != '"' && *parser->at != '\n' && *parser->at) {
        char c = *parser->at++;
        if (c == '\\') c = string_escape(parser);
        kiln_text_append_n(&text, &c, 1);
        if (text.n > STRING_BYTES)
            kiln_parse_fail(parser, "a string of over %d bytes", STRING_BYTES);
    }
    if (parser->at == parser->end || *parser->at != '"') {
        kiln_parse_fail(parser, "a string without an end; expected a closing quote on its line");
    }
    parser->at++;
    return kiln_text_string(&text);
}

/* Numbers */

/* Takes a number's bytes into `out`; signs inside only after an exponent's letter. */
static void number_token(kiln_parser *parser, char *out)
{
    size_t n = 0;
    kiln_parse_space(parser);
    const char *at = parser->at;
    bool is_hex = false;
    for (; at < parser->end; at++) {
        bool is_exponent = n && (out[n - 1] == 'p' || out[n - 1] == 'P' ||
                                 (!is_hex && (out[n - 1] == 'e' || out[n - 1] == 'E')));
        if (!is_word_byte(*at) && !((*at == '-' || *at == '+') && (n == 0 || is_exponent))) break;
        if (n == NUMBER_BYTES) kiln_parse_fail(parser, "a number of over %d bytes", NUMBER_BYTES);
        if (*at == 'x' || *at == 'X') is_hex = true;
        out[n++] = *at;
    }
    out[n] = 0;
    if (n == 0) kiln_parse_fail(parser, "found %s; expected a number", found(parser));
    parser->at = at;
}

/* Sign and size of a whole number; fails beyond 64 bits. */
static uint64_t whole_number(kiln_parser *parser, bool *is_negative)
{
    char token[NUMBER_BYTES + 1];
    number_token(parser, token);
    const char *at = token;
    uint64_t size = 0;
    *is_negative = *at == '-';
    if (*at == '-') at++;
    if (!*at) kiln_parse_fail(parser, "found \"-\"; expected a whole number");
    for (; *at; at++) {
        if (*at < '0' || *at > '9') {
            kiln_parse_fail(parser, "found %s; expected a whole number",
                            kiln_quoted(&parser->scope->arena, token));
        }
        if (__builtin_mul_overflow(size, 10u, &size) ||
            __builtin_add_overflow(size, (uint64_t)(*at - '0'), &size)) {
            kiln_parse_fail(parser, "%s is out of range; expected 64 bits", token);
        }
    }
    return size;
}

int64_t kiln_parse_int(kiln_parser *parser)
{
    bool is_negative;
    uint64_t size = whole_number(parser, &is_negative);
    if (size > (uint64_t)INT64_MAX + is_negative) {
        kiln_parse_fail(parser, "a number out of range; expected a signed 64-bit number");
    }
    return is_negative ? (int64_t)(0 - size) : (int64_t)size;
}

bool kiln_parse_bool(kiln_parser *parser)
{
    if (kiln_parse_accept(parser, "true")) return true;
    if (kiln_parse_accept(parser, "false")) return false;
    kiln_parse_fail(parser, "found %s; expected true or false", found(parser));
}

kiln_dtype kiln_parse_dtype(kiln_parser *parser)
{
    size_t n;
    char name[16] = {0};
    const char *word = kiln_parse_word(parser, "a dtype", &n);
    if (n < sizeof name) memcpy(name, word, n);
    kiln_dtype dtype = kiln_dtype_parse(name);
    if (!dtype) kiln_parse_fail(parser, "found %s; expected a dtype such as f32", found(parser));
    return dtype;
}

static void whole_element(kiln_parser *parser, kiln_dtype dtype, void *out)
{
    bool is_negative, is_signed = kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_INT;
    int bits = (int)kiln_dtype_bits(dtype);
    uint64_t size = whole_number(parser, &is_negative);
    uint64_t top =
        is_signed ? (UINT64_MAX >> (65 - bits)) + is_negative : UINT64_MAX >> (64 - bits);
    if (size > top || (is_negative && !is_signed && size)) {
        kiln_parse_fail(parser, "a number out of range for %s", kiln_dtype_name(dtype));
    }
    uint64_t value = (is_negative ? 0 - size : size) & UINT64_MAX >> (64 - bits);
    memcpy(out, &value, kiln_dtype_bytes(dtype));
}

/* nan(0x7fc00000): the bits of the element. */
static void nan_element(kiln_parser *parser, kiln_dtype dtype, void *out)
{
    const char *place = parser->place;
    size_t n, bytes = kiln_dtype_bytes(dtype);
    uint64_t bits = 0;
    kiln_parse_expect(parser, "(");
    const char *word = kiln_parse_word(parser, "the bits of a NaN", &n);
    bool is_good = n > 2 && n <= 2 + 2 * bytes && word[0] == '0' && word[1] == 'x';
    for (size_t i = 2; is_good && i < n; i++) {
        is_good = hex_digit(word[i]) >= 0;
        bits = bits << 4 | (uint64_t)(hex_digit(word[i]) & 15);
    }
    kiln_parse_expect(parser, ")");
    memcpy(out, &bits, bytes);
    if (is_good && isnan(kiln_element_to_double(dtype, out))) return;
    parser->place = place;
    kiln_parse_fail(parser, "nan with other bits; expected those of a NaN of %s",
                    kiln_dtype_name(dtype));
}

static void float_element(kiln_parser *parser, kiln_dtype dtype, void *out)
{
    if (kiln_parse_accept(parser, "nan")) {
        nan_element(parser, dtype, out);
        return;
    }
    char token[NUMBER_BYTES + 1], *rest;
    number_token(parser, token);
    bool is_negative = token[0] == '-';
    if (strcmp(token + is_negative, "inf") == 0) {
        kiln_element_from_double(dtype, is_negative ? -(double)INFINITY : (double)INFINITY, out);
        return;
    }
    bool is_number = token[is_negative] >= '0' && token[is_negative] <= '9';
    double value = is_number ? strtod_l(token, &rest, parser->locale) : 0;
    if (!is_number || *rest) {
        kiln_parse_fail(parser, "found %s; expected a number",
                        kiln_quoted(&parser->scope->arena, token));
    }
    kiln_element_from_double(dtype, value, out);
    if (!isfinite(kiln_element_to_double(dtype, out))) {
        kiln_parse_fail(parser, "%.40s is out of range for %s", token, kiln_dtype_name(dtype));
    }
}

static void complex_element(kiln_parser *parser, kiln_dtype part, char *out)
{
    kiln_parse_expect(parser, "(");
    float_element(parser, part, out);
    kiln_parse_expect(parser, ",");
    float_element(parser, part, out + kiln_dtype_bytes(part));
    kiln_parse_expect(parser, ")");
}

void kiln_parse_element(kiln_parser *parser, kiln_dtype dtype, void *out)
{
    switch (kiln_dtype_kind_of(dtype)) {
    case KILN_DTYPE_KIND_BOOL:
        *(uint8_t *)out = kiln_parse_bool(parser);
        return;
    case KILN_DTYPE_KIND_FLOAT:
        float_element(parser, dtype, out);
        return;
    case KILN_DTYPE_KIND_INT:
    case KILN_DTYPE_KIND_UINT:
        whole_element(parser, dtype, out);
        return;
    case KILN_DTYPE_KIND_COMPLEX:
        complex_element(parser, kiln_dtype_part(dtype), out);
        return;
    case KILN_DTYPE_KIND_NONE:
        return;
    }
}

/* Lists */

kiln_ints kiln_parse_ints(kiln_parser *parser)
{
    kiln_vec(int64_t) list = {0};
    kiln_parse_expect(parser, "[");
    while (kiln_parse_peek(parser) != ']') {
        if (list.n) kiln_parse_expect(parser, ",");
        kiln_vec_push(&list, &parser->scope->arena, kiln_parse_int(parser));
        if (list.n > 2 * KILN_MAX_RANK) {
            kiln_parse_fail(parser, "a list of over %d entries", 2 * KILN_MAX_RANK);
        }
    }
    kiln_parse_expect(parser, "]");
    return (kiln_ints){list.n, list.at};
}

static void parse_elements(kiln_parser *parser, const kiln_type *type, kiln_literal *out)
{
    char element[KILN_ELEMENT_BYTES_MAX] = {0};
    if (type->bytes > KILN_LITERAL_BYTES_MAX) {
        kiln_parse_fail(parser, "a list for %s; expected a blob beyond %d bytes",
                        kiln_type_string(&parser->scope->arena, type), KILN_LITERAL_BYTES_MAX);
    }
    char *data = kiln_arena_alloc(&parser->scope->arena, (size_t)type->bytes);
    kiln_parse_expect(parser, "[");
    for (int64_t i = 0; i < type->n_elements; i++) {
        if (i) kiln_parse_expect(parser, ",");
        kiln_parse_element(parser, type->dtype, element);
        kiln_element_copy(type->dtype, data, i, element, 0);
    }
    kiln_parse_expect(parser, "]");
    *out = (kiln_literal){KILN_LITERAL_BYTES, data, type->bytes};
}

static void parse_hex(kiln_parser *parser, const kiln_type *type, kiln_literal *out)
{
    kiln_parse_expect(parser, "\"");
    int64_t n = 0, left = parser->end - parser->at;
    while (n < left && hex_digit(parser->at[n]) >= 0) n++;
    if (n % 2 || n / 2 != type->bytes) {
        kiln_parse_fail(parser, "%lld hex digits for %s; expected two for each of %lld bytes",
                        (long long)n, kiln_type_string(&parser->scope->arena, type),
                        (long long)type->bytes);
    }
    unsigned char *data = kiln_arena_alloc(&parser->scope->arena, (size_t)type->bytes);
    for (int64_t i = 0; i < type->bytes; i++) {
        data[i] =
            (unsigned char)(hex_digit(parser->at[2 * i]) * 16 + hex_digit(parser->at[2 * i + 1]));
    }
    parser->at += n;
    kiln_parse_expect(parser, "\"");
    *out = (kiln_literal){KILN_LITERAL_BLOB, data, type->bytes};
}

void kiln_parse_literal(kiln_parser *parser, const kiln_type *type, kiln_literal *out)
{
    if (kiln_parse_accept(parser, "splat")) {
        void *element = kiln_arena_alloc(&parser->scope->arena, KILN_ELEMENT_BYTES_MAX);
        kiln_parse_element(parser, type->dtype, element);
        *out = (kiln_literal){KILN_LITERAL_SPLAT, element, (int64_t)kiln_dtype_bytes(type->dtype)};
    } else if (!kiln_parse_accept(parser, "blob")) {
        parse_elements(parser, type, out);
    } else if (kiln_parse_accept(parser, "hex")) {
        parse_hex(parser, type, out);
    } else {
        const char *file = kiln_parse_string(parser, "a file name");
        if (!kiln_path_is_inside(file)) {
            kiln_parse_fail(parser, "file %s; expected a relative path without ..",
                            kiln_quoted(&parser->scope->arena, file));
        }
        *out = (kiln_literal){KILN_LITERAL_FILE, .file = file};
        out->offset = kiln_parse_int(parser);
        out->bytes = kiln_parse_int(parser);
    }
}
