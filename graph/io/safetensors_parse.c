/* The header of a SafeTensors file: JSON of one fixed shape, an object of tensors with three fields
 * each and maybe an object of texts. So the reader is a scanner that expects that shape: nothing
 * nests, nothing recurses, and whatever else the bytes hold is named with its place. */
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "base/text.h"
#include "graph/io/safetensors.h"

#define NUMBER_MAX ((int64_t)1 << 53)

typedef struct header_scan {
    kiln_safetensors *file;
    kiln_scope *scope;
    const uint8_t *text;
    int64_t n, at;
    kiln_vec(kiln_safetensor) tensors;
    kiln_vec(kiln_safetensors_text) metadata;
    bool has_metadata;
} header_scan;

_Noreturn static void fail_at(header_scan *scan, int64_t at, kiln_status status, const char *found)
{
    kiln_fail(scan->scope, status, "%s: byte %" PRId64 ": %s", scan->file->source.where, at + 8,
              found);
}

_Noreturn static void fail_here(header_scan *scan, const char *expected)
{
    kiln_text found = {.arena = &scan->scope->arena};
    kiln_text_append(&found, "the header reads ");
    kiln_text_quoted(&found, (const char *)scan->text + scan->at,
                     (size_t)kiln_min_i64(scan->n - scan->at, 24));
    kiln_text_printf(&found, "; expected %s", expected);
    fail_at(scan, scan->at, KILN_MODEL, kiln_text_string(&found));
}

static const char *quote(header_scan *scan, const char *name)
{
    kiln_text text = {.arena = &scan->scope->arena};
    size_t n = strlen(name);
    kiln_text_quoted(&text, name, n < 64 ? n : 64);
    return kiln_text_string(&text);
}

static int peek(const header_scan *scan)
{
    return scan->at < scan->n ? scan->text[scan->at] : -1;
}

static void skip_space(header_scan *scan)
{
    while (scan->at < scan->n && memchr(" \t\n\r", scan->text[scan->at], 4)) scan->at++;
}

static bool accept(header_scan *scan, char mark)
{
    skip_space(scan);
    if (peek(scan) != mark) return false;
    scan->at++;
    return true;
}

static void expect(header_scan *scan, char mark)
{
    if (accept(scan, mark)) return;
    fail_here(scan, kiln_arena_format(&scan->scope->arena, "`%c`", mark));
}

/* Strings */

static uint32_t read_hex(header_scan *scan)
{
    uint32_t code = 0;
    for (int i = 0; i < 4; i++) {
        int c = peek(scan);
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) fail_here(scan, "four hex digits");
        code = code * 16 + (uint32_t)digit;
        scan->at++;
    }
    return code;
}

/* After \u: one UTF-16 unit or a pair of them, as UTF-8. */
static char *read_unicode(header_scan *scan, char *out)
{
    int64_t from = scan->at;
    uint32_t code = read_hex(scan);
    if (code >= 0xd800 && code < 0xdc00 && peek(scan) == '\\' && scan->at + 1 < scan->n &&
        scan->text[scan->at + 1] == 'u') {
        scan->at += 2;
        uint32_t low = read_hex(scan);
        if (low >= 0xdc00 && low < 0xe000) code = 0x10000 + ((code - 0xd800) << 10) + low - 0xdc00;
    }
    if (code == 0 || (code >= 0xd800 && code < 0xe000)) {
        scan->at = from;
        fail_here(scan, "a character of text other than NUL");
    }
    int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const uint8_t heads[4] = {0, 0xc0, 0xe0, 0xf0};
    *out++ = (char)(heads[more] | code >> 6 * more);
    while (more--) *out++ = (char)(0x80 | (code >> 6 * more & 0x3f));
    return out;
}

static char *read_escape(header_scan *scan, char *out)
{
    static const char marks[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    int c = peek(scan);
    if (c == 'u') {
        scan->at++;
        return read_unicode(scan, out);
    }
    const char *mark = c > 0 ? strchr(marks, c) : NULL;
    if (!mark) fail_here(scan, "an escape of JSON");
    scan->at++;
    *out++ = means[mark - marks];
    return out;
}

/* Unescaped, in the file's arena; never longer than what is read. */
static const char *read_string(header_scan *scan, const char *what)
{
    skip_space(scan);
    if (peek(scan) != '"') fail_here(scan, what);
    int64_t from = ++scan->at, end = from;
    while (end < scan->n && scan->text[end] != '"') end += scan->text[end] == '\\' ? 2 : 1;
    if (end >= scan->n) fail_here(scan, "a string that ends");
    char *string = kiln_arena_alloc(&scan->file->arena, (size_t)(end - from) + 1), *out = string;
    while (scan->at < end) {
        if (scan->text[scan->at] == '\\') {
            scan->at++;
            out = read_escape(scan, out);
            continue;
        }
        size_t n = kiln_utf8_length(scan->text + scan->at, (size_t)(end - scan->at));
        if (n == 0 || scan->text[scan->at] < 0x20) fail_here(scan, "UTF-8 text");
        memcpy(out, scan->text + scan->at, n);
        out += n;
        scan->at += (int64_t)n;
    }
    scan->at = end + 1;
    return string;
}

static int64_t read_number(header_scan *scan)
{
    int64_t value = 0, from;
    skip_space(scan);
    from = scan->at;
    while (peek(scan) >= '0' && peek(scan) <= '9' && value <= NUMBER_MAX)
        value = value * 10 + (scan->text[scan->at++] - '0');
    int next = peek(scan);
    bool has_zero = scan->at - from > 1 && scan->text[from] == '0';
    if (scan->at > from && value <= NUMBER_MAX && !has_zero && next != '.' && (next | 32) != 'e')
        return value;
    scan->at = from;
    fail_here(scan, "a whole number from 0 to 2^53");
}

/* Tensors */

static void read_shape(header_scan *scan, kiln_safetensor *tensor)
{
    int64_t dims[KILN_MAX_RANK];
    expect(scan, '[');
    if (!accept(scan, ']')) {
        do {
            if (tensor->rank == KILN_MAX_RANK)
                fail_at(scan, scan->at, KILN_LIMIT,
                        kiln_arena_format(&scan->scope->arena,
                                          "tensor %s has a rank over %d; expected at most %d",
                                          quote(scan, tensor->name), KILN_MAX_RANK, KILN_MAX_RANK));
            dims[tensor->rank++] = read_number(scan);
        } while (accept(scan, ','));
        expect(scan, ']');
    }
    tensor->dims = kiln_arena_copy(&scan->file->arena, dims, tensor->rank * sizeof *dims);
}

static void read_dtype(header_scan *scan, kiln_safetensor *tensor)
{
    bool is_known;
    skip_space(scan);
    int64_t from = scan->at;
    const char *word = read_string(scan, "a dtype");
    tensor->dtype = kiln_safetensors_dtype(word, &is_known);
    if (tensor->dtype != KILN_NO_DTYPE) return;
    fail_at(scan, from, KILN_UNSUPPORTED,
            kiln_arena_format(&scan->scope->arena, "tensor %s has %s dtype %s; expected one of %s",
                              quote(scan, tensor->name), is_known ? "the" : "an unknown",
                              quote(scan, word),
                              "BOOL, U8 to F64, BF16, F8_E4M3, F8_E5M2 and C64"));
}

/* Makes bytes of begin and end; what is between must be what dtype and dims say. */
static void check_size(header_scan *scan, kiln_safetensor *tensor, int64_t begin, int64_t end)
{
    int64_t count, bytes;
    kiln_arena *arena = &scan->scope->arena;
    kiln_text type = {.arena = arena};
    tensor->offset = begin;
    tensor->bytes = end - begin;
    if (!kiln_checked_product(tensor->dims, tensor->rank, &count) ||
        !kiln_checked_mul(count, (int64_t)kiln_dtype_bytes(tensor->dtype), &bytes))
        fail_at(scan, scan->at, KILN_MODEL,
                kiln_arena_format(arena, "tensor %s: shape's size overflows; expected below 2^63",
                                  quote(scan, tensor->name)));
    kiln_text_type(&type, tensor->dtype, tensor->rank, tensor->dims);
    if (begin > end)
        fail_at(scan, scan->at, KILN_MODEL,
                kiln_arena_format(arena,
                                  "tensor %s: data from %" PRId64 " to %" PRId64
                                  "; expected its begin before its end",
                                  quote(scan, tensor->name), begin, end));
    if (bytes != tensor->bytes)
        fail_at(scan, scan->at, KILN_MODEL,
                kiln_arena_format(arena,
                                  "tensor %s: %s needs %" PRId64 " bytes, has %" PRId64
                                  "; expected data as long as shape and dtype say",
                                  quote(scan, tensor->name), kiln_text_string(&type), bytes,
                                  tensor->bytes));
}

static void read_tensor(header_scan *scan, kiln_safetensor *tensor)
{
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    int64_t begin = 0, end = 0;
    uint32_t seen = 0, field;
    expect(scan, '{');
    do {
        skip_space(scan);
        int64_t from = scan->at;
        const char *key = read_string(scan, "a field");
        for (field = 0; field < 3 && strcmp(key, fields[field]); field++) continue;
        if (field == 3 || seen >> field & 1)
            fail_at(scan, from, KILN_MODEL,
                    kiln_arena_format(&scan->scope->arena,
                                      "tensor %s: %s field %s; expected dtype, shape and "
                                      "data_offsets once each",
                                      quote(scan, tensor->name),
                                      field == 3 ? "unknown" : "duplicate", quote(scan, key)));
        seen |= 1u << field;
        expect(scan, ':');
        if (field == 0) {
            read_dtype(scan, tensor);
        } else if (field == 1) {
            read_shape(scan, tensor);
        } else {
            expect(scan, '[');
            begin = read_number(scan);
            expect(scan, ',');
            end = read_number(scan);
            expect(scan, ']');
        }
    } while (accept(scan, ','));
    expect(scan, '}');
    if (seen != 7) {
        field = !(seen & 1) ? 0 : !(seen & 2) ? 1 : 2;
        fail_at(scan, scan->at, KILN_MODEL,
                kiln_arena_format(&scan->scope->arena, "tensor %s has no %s; expected one",
                                  quote(scan, tensor->name), fields[field]));
    }
    check_size(scan, tensor, begin, end);
}

static void read_metadata(header_scan *scan)
{
    scan->has_metadata = true;
    expect(scan, '{');
    if (accept(scan, '}')) return;
    do {
        kiln_safetensors_text text;
        text.key = read_string(scan, "a key of metadata");
        expect(scan, ':');
        text.value = read_string(scan, "a text as metadata");
        kiln_vec_push(&scan->metadata, &scan->file->arena, text);
    } while (accept(scan, ','));
    expect(scan, '}');
}

static void fail_duplicate(header_scan *scan, int64_t from, const char *name)
{
    fail_at(scan, from, KILN_MODEL,
            kiln_arena_format(&scan->scope->arena, "duplicate %s; expected distinct names",
                              quote(scan, name)));
}

static void read_entry(header_scan *scan)
{
    kiln_safetensors *file = scan->file;
    skip_space(scan);
    int64_t from = scan->at;
    kiln_safetensor tensor = {.name = read_string(scan, "a name")};
    expect(scan, ':');
    if (!strcmp(tensor.name, "__metadata__")) {
        if (scan->has_metadata) fail_duplicate(scan, from, tensor.name);
        read_metadata(scan);
        return;
    }
    file->tensors = scan->tensors.at;
    if (kiln_safetensors_index(file, tensor.name) >= 0) fail_duplicate(scan, from, tensor.name);
    read_tensor(scan, &tensor);
    kiln_slots_reserve(&file->slots, &file->arena);
    kiln_vec_push(&scan->tensors, &file->arena, tensor);
    kiln_slots_insert(&file->slots, kiln_name_hash(tensor.name), scan->tensors.n);
}

void kiln_safetensors_parse(kiln_safetensors *file, const char *header, int64_t bytes)
{
    header_scan scan = {file, file->source.scope, (const uint8_t *)header, bytes, 0};
    if (peek(&scan) != '{') fail_here(&scan, "`{`");
    scan.at++;
    if (!accept(&scan, '}')) {
        do {
            read_entry(&scan);
        } while (accept(&scan, ','));
        expect(&scan, '}');
    }
    while (peek(&scan) == ' ') scan.at++;
    if (scan.at < scan.n) fail_here(&scan, "blanks up to the end of the header");
    file->tensors = scan.tensors.at;
    file->n = scan.tensors.n;
    file->metadata = scan.metadata.at;
    file->n_metadata = scan.metadata.n;
}
