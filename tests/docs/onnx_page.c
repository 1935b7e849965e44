/* docs/onnx.md is made from the importer's rows: this prints the page and compares it with the file
 * given, or writes the file when KILN_BLESS=1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/io/onnx.h"

static void append_row(kiln_text *page, const kiln_onnx_row *row)
{
    kiln_text_printf(page, "| %s | %u", row->op, row->since);
    if (row->until == KILN_ONNX_NEWEST) {
        kiln_text_append(page, " and newer | ");
    } else {
        kiln_text_printf(page, " to %u | ", row->until);
    }
    if (row->max_inputs == KILN_ONNX_ANY) {
        kiln_text_printf(page, "%u or more |\n", row->min_inputs);
    } else if (row->max_inputs == row->min_inputs) {
        kiln_text_printf(page, "%u |\n", row->min_inputs);
    } else {
        kiln_text_printf(page, "%u to %u |\n", row->min_inputs, row->max_inputs);
    }
}

static void append_page(kiln_text *page)
{
    uint32_t n;
    const kiln_onnx_family *families = kiln_onnx_families(&n);
    kiln_text_printf(page,
                     "# ONNX operators\n\n"
                     "Made from the tables in `graph/io/onnx_*.c`; `KILN_BLESS=1` rewrites it. "
                     "Operator sets %d to %d of\n"
                     "`ai.onnx` import, and these operators of `com.microsoft`. Element types: "
                     "bool, i8 to i64, u8 to u64,\n"
                     "f16, bf16, f32, f64, i2, u2, i4, u4, f4e2m1, f8, c64, c128. Shapes, axes, "
                     "counts and trip\n"
                     "counts must be known at import: from the file,\n"
                     "computed from shapes, or fixed by `kiln_import_options.values`. What does "
                     "not import is refused with\n"
                     "`UNSUPPORTED` and one line for every node.\n"
                     "float8e8m0 stands as its pattern, u8, at ports and in `Cast` and "
                     "`CastLike`.\n\n"
                     "Results whose size depends on the data (`NonZero`, `Compress`, `Unique`, "
                     "`NonMaxSuppression`, rows of a\n"
                     "`Loop` that may end early) have the dims of their bound. What reads them "
                     "keeps the size where it treats\n"
                     "the entries one by one, along other axes, or by a reduction; other "
                     "operators are refused. An output of\n"
                     "that kind is followed, behind all outputs of the model, by an i64 output "
                     "`NAME.count`, and\n"
                     "`kiln_executable_output_dims` gives the size of a run.\n",
                     KILN_ONNX_MIN_OPSET, KILN_ONNX_MAX_OPSET);
    for (uint32_t i = 0; i < n; i++) {
        kiln_text_printf(
            page, "\n## %s%s%s\n\n| operator | operator set | operands |\n| --- | --- | --- |\n",
            families[i].title, *families[i].domain ? ", " : "", families[i].domain);
        for (const kiln_onnx_row *row = families[i].rows; row->op; row++) append_row(page, row);
    }
}

static int page_compare(const char *path, const kiln_text *page)
{
    const char *bless = getenv("KILN_BLESS");
    bool is_blessed = bless && !strcmp(bless, "1");
    FILE *file = fopen(path, is_blessed ? "wb" : "rb");
    if (!file) return 2;
    if (is_blessed) {
        size_t n = fwrite(kiln_text_string(page), 1, page->n, file);
        return fclose(file) || n != page->n;
    }
    char *found = malloc(page->n + 2);
    size_t n = fread(found, 1, page->n + 1, file);
    bool is_same = n == page->n && !memcmp(found, kiln_text_string(page), n);
    fclose(file);
    free(found);
    if (!is_same)
        fprintf(stderr, "%s is not what the tables say; KILN_BLESS=1 rewrites it\n", path);
    return !is_same;
}

int main(int argc, char **argv)
{
    kiln_error error = {0};
    kiln_scope scope;
    volatile int failed = 2;
    if (argc != 2) return 2;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_text page = {.arena = &scope.arena};
        append_page(&page);
        failed = page_compare(argv[1], &page);
    }
    return kiln_scope_close(&scope) ? 2 : failed;
}
