/* docs/ops.md is made from the op table: this prints the page and compares it with the file given,
 * or writes the file when KILN_BLESS=1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/attrs.h"
#include "graph/graph.h"

static const char *const class_names[] = {
    [KILN_SOURCE] = "Sources",
    [KILN_ELEMENTWISE] = "Elementwise",
    [KILN_REDUCE] = "Reductions",
    [KILN_WINDOW] = "Windows",
    [KILN_VIEW] = "Views",
    [KILN_MOVE] = "Moves",
    [KILN_CONTRACT] = "Contractions",
    [KILN_ROUTINE] = "Routines",
    [KILN_REGION] = "Regions",
    [KILN_COMPOSITE] = "Composites",
};
static const char *const set_names[] = {
    [KILN_TYPES_FLOAT] = "float",   [KILN_TYPES_INTEGER] = "integer",
    [KILN_TYPES_NUMBER] = "number", [KILN_TYPES_BITS] = "integer, bool",
    [KILN_TYPES_BOOL] = "bool",     [KILN_TYPES_ANY] = "any",
    [KILN_TYPES_ORDERED] = "any but complex",
    [KILN_TYPES_FIELD] = "float, complex",
    [KILN_TYPES_ARITHMETIC] = "number, complex",
    [KILN_TYPES_COMPLEX] = "complex",
};
static const char *const result_names[] = {
    [KILN_RESULT_SAME] = "that of operand 0", [KILN_RESULT_BOOL] = "bool, dims of operand 0",
    [KILN_RESULT_GIVEN] = "stated",           [KILN_RESULT_RULE] = "by the rule",
    [KILN_RESULT_EXPANSION] = "by expansion",
};

static void append_operands(kiln_text *page, const kiln_op_row *row)
{
    if (row->max_inputs == 255) {
        kiln_text_printf(page, "%u or more", row->min_inputs);
    } else if (row->max_inputs == row->min_inputs) {
        kiln_text_printf(page, "%u", row->min_inputs);
    } else {
        kiln_text_printf(page, "%u or %u", row->min_inputs, row->max_inputs);
    }
}

/* In Markdown a bar ends the cell. */
static void append_escaped(kiln_text *page, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') kiln_text_append(page, "\\");
        kiln_text_append_n(page, text, 1);
    }
}

static void append_row(kiln_text *page, const kiln_op_row *row)
{
    const kiln_family_row *family = kiln_family_fields(row->attrs);
    kiln_text_printf(page, "| `%s` | ", row->name);
    append_operands(page, row);
    kiln_text_printf(page, " | %s | %s | ", set_names[row->types], result_names[row->result]);
    for (uint32_t i = 0; i < family->n_fields; i++) {
        kiln_text_printf(page, "%s`%s`", i ? " " : "", family->fields[i].name);
    }
    kiln_text_append(page, " | ");
    append_escaped(page, row->meaning);
    kiln_text_append(page, " |\n");
}

static void append_class(kiln_text *page, kiln_class class_)
{
    bool is_open = false;
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        if (kiln_op_rows[op].class_ != class_) continue;
        if (!is_open) {
            kiln_text_printf(page, "\n## %s\n\n", class_names[class_]);
            kiln_text_append(page,
                             "| op | operands | dtypes | result type | attributes | meaning |\n"
                             "| --- | --- | --- | --- | --- | --- |\n");
        }
        is_open = true;
        append_row(page, &kiln_op_rows[op]);
    }
}

static void append_page(kiln_text *page)
{
    kiln_text_append(
        page,
        "# Operations\n\n"
        "Made from `include/kiln/ops.def` and `graph/attrs.def`; a test checks that it is current\n"
        "(`KILN_BLESS=1` rewrites it). Operands of an elementwise op have one type; the builder\n"
        "broadcasts. Every op is total: no operand gives undefined behaviour.\n\n"
        "Dtypes:");
#define KILN_DTYPE(name, number, bits, kind) kiln_text_append(page, " `" #name "`");
#include "kiln/dtypes.def"
#undef KILN_DTYPE
    kiln_text_append(page, ". *number* is integer or float; *any* includes bool.\n");
    for (int class_ = KILN_SOURCE; class_ <= KILN_COMPOSITE; class_++)
        append_class(page, (kiln_class)class_);
}

static bool is_file_equal(const char *path, const char *text)
{
    FILE *file = fopen(path, "rb");
    bool is_equal = file != NULL;
    for (; is_equal && *text; text++) is_equal = fgetc(file) == (unsigned char)*text;
    is_equal = is_equal && fgetc(file) == EOF;
    if (file) fclose(file);
    return is_equal;
}

static int check_or_write(const char *path, const char *text)
{
    if (is_file_equal(path, text)) return 0;
    if (!getenv("KILN_BLESS")) {
        fprintf(stderr, "%s is not current; run this test with KILN_BLESS=1\n", path);
        return 1;
    }
    FILE *file = fopen(path, "wb");
    if (!file) return 1;
    fputs(text, file);
    return fclose(file) != 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    kiln_error error = {0};
    kiln_scope scope;
    volatile int result = 1;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_text page = {.arena = &scope.arena};
        append_page(&page);
        result = check_or_write(argv[1], kiln_text_string(&page));
    }
    return kiln_scope_close(&scope) ? 1 : result;
}
