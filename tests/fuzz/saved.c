/* Text out and in; inputs of equal elements are written once. */
#include "fuzz/saved.h"

#include <stdio.h>
#include <string.h>

static size_t splat_bytes(const kiln_tensor *tensor)
{
    size_t bits = kiln_dtype_bits(tensor->dtype), n = bits < 8 ? 1 : bits / 8;
    const char *data = tensor->data;
    for (size_t at = n; at < tensor->bytes; at += n) {
        if (memcmp(data, data + at, n) != 0) return 0;
    }
    return tensor->bytes > n ? n : 0;
}

bool fuzz_save(kiln_scope *scope, const char *path, const fuzz_case *c, const char *sentence)
{
    kiln_text text = {.arena = &scope->arena};
    kiln_text_printf(&text, "# run: fuzz\n# %.*s\n", (int)strcspn(sentence, "\n"), sentence);
    kiln_graph_print(c->graph, &text);
    for (uint32_t i = 0; i < c->graph->inputs.n; i++) {
        const kiln_tensor *tensor = &c->inputs[i];
        size_t same = splat_bytes(tensor), n = same ? same : tensor->bytes;
        kiln_text_append(&text, same ? "# input splat " : "# input ");
        for (size_t at = 0; at < n; at++)
            kiln_text_printf(&text, "%02x", ((const unsigned char *)tensor->data)[at]);
        kiln_text_append(&text, "\n");
    }
    FILE *file = fopen(path, "wb");
    if (!file) return false;
    size_t written = fwrite(kiln_text_string(&text), 1, text.n, file);
    return fclose(file) == 0 && written == text.n;
}

static char *read_file(kiln_scope *scope, const char *path, size_t *out_n)
{
    FILE *file = fopen(path, "rb");
    if (!file) kiln_fail(scope, KILN_IO, "%s: cannot be read", path);
    fseek(file, 0, SEEK_END);
    long n = ftell(file);
    char *text = kiln_arena_alloc(&scope->arena, (size_t)n + 1);
    rewind(file);
    *out_n = fread(text, 1, (size_t)n, file);
    fclose(file);
    return text;
}

static unsigned digit(char c)
{
    return c >= '0' && c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a') + 10;
}

/* Fills the tensor from its line; false when the line is too short. */
static bool read_input(const char *at, kiln_tensor *tensor)
{
    bool is_splat = strncmp(at, "splat ", 6) == 0;
    at += is_splat ? 6 : 0;
    size_t n = strspn(at, "0123456789abcdef") / 2;
    unsigned char *data = tensor->data;
    if (tensor->bytes && (n == 0 || (!is_splat && n < tensor->bytes))) return false;
    for (size_t i = 0; i < tensor->bytes; i++) {
        const char *pair = at + 2 * (i % n);
        data[i] = (unsigned char)(digit(pair[0]) << 4 | digit(pair[1]));
    }
    return true;
}

fuzz_case fuzz_load(kiln_scope *scope, kiln_context *context, const char *path)
{
    size_t n;
    const char *text = read_file(scope, path, &n), *at = text;
    kiln_graph *graph = kiln_graph_parse(scope, context, text, n);
    kiln_tensor *inputs = kiln_new_array(&scope->arena, kiln_tensor, graph->inputs.n + 1);
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        const kiln_type *type = kiln_graph_type(graph, graph->inputs.at[i]);
        void *data = kiln_arena_alloc(&scope->arena, (size_t)type->bytes + 16);
        inputs[i] = (kiln_tensor){type->dtype, type->rank, type->dims, data, (size_t)type->bytes};
        at = strstr(at, "\n# input ");
        if (!at || !read_input(at + 9, &inputs[i]))
            kiln_fail(scope, KILN_MODEL, "%s: input %u has no line of its bytes", path, i);
        at++;
    }
    return (fuzz_case){graph, inputs};
}
