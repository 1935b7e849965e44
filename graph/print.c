/* Graph to text (grammar in docs/ir.md): one node a line, numbered in order, inputs by name; a
 * region stands inside its node's line. Every number prints so that reading it gives the same bits,
 * in any locale. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "graph/attrs.h"
#include "graph/describe.h"
#include "graph/element.h"

/* Names */

static bool is_bare(const char *name)
{
    if (name[0] == 0 || (name[0] >= '0' && name[0] <= '9')) return false;
    for (const char *at = name; *at; at++) {
        bool is_letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z');
        if (!is_letter && !(*at >= '0' && *at <= '9') && *at != '_' && *at != '.') return false;
    }
    return true;
}

static void print_name(kiln_text *text, const char *name)
{
    if (is_bare(name)) {
        kiln_text_append(text, name);
    } else {
        kiln_text_quoted(text, name, strlen(name));
    }
}

/* Nodes other than inputs are numbered from 0 in order, so that a graph that is read back, where
 * inputs come first, prints the same. */
static uint32_t node_number(const kiln_graph *graph, uint32_t id)
{
    uint32_t low = 0, high = graph->inputs.n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (graph->inputs.at[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return id - 1 - low;
}

void kiln_value_print(kiln_text *text, const kiln_graph *graph, kiln_value value)
{
    const kiln_node *node =
        value.id && value.id < graph->nodes.n ? kiln_graph_node(graph, value) : NULL;
    if (node && node->op == KILN_OP_input) {
        kiln_text_append(text, "%");
        print_name(text, node->label ? node->label : "");
    } else if (node) {
        kiln_text_printf(text, "%%%u", node_number(graph, value.id));
    } else {
        kiln_text_append(text, "%none");
    }
}

/* Numbers */

/* Exact hexadecimal: 0x1.8p-3. `%a` would use the locale's point. */
static void print_hex_float(kiln_text *text, double value)
{
    int exponent;
    double fraction = frexp(fabs(value), &exponent); /* in [0.5, 1) */
    uint64_t bits = (uint64_t)ldexp(fraction, 53);   /* 53 bits, the top one set */
    char digits[16];
    int n = 0;
    for (uint64_t rest = bits << 12; rest; rest <<= 4) digits[n++] = "0123456789abcdef"[rest >> 60];
    digits[n] = 0;
    kiln_text_printf(text, "%s0x1%s%sp%d", value < 0 ? "-" : "", n ? "." : "", digits,
                     exponent - 1);
}

/* Numbers with at most ten binary places print as exact decimals, for people; others in hex. */
static void print_float(kiln_text *text, double value)
{
    double size = fabs(value), scaled = size * 1024;
    const char *sign = signbit(value) ? "-" : "";
    if (isinf(value)) {
        kiln_text_printf(text, "%sinf", sign);
    } else if (size < 0x1p40 && scaled == floor(scaled)) {
        uint64_t whole = (uint64_t)size, part = (uint64_t)((size - (double)whole) * 1024);
        kiln_text_printf(text, "%s%" PRIu64, sign, whole);
        for (const char *point = "."; part; part &= 1023, point = "") {
            part *= 10;
            kiln_text_printf(text, "%s%u", point, (unsigned)(part >> 10));
        }
    } else {
        print_hex_float(text, value);
    }
}

static void print_nan(kiln_text *text, const void *element, size_t bytes)
{
    uint64_t bits = 0;
    memcpy(&bits, element, bytes);
    kiln_text_printf(text, "nan(0x%" PRIx64 ")", bits);
}

static void print_float_element(kiln_text *text, kiln_dtype dtype, const void *element)
{
    double value = kiln_element_to_double(dtype, element);
    if (isnan(value)) {
        print_nan(text, element, kiln_dtype_bytes(dtype));
    } else {
        print_float(text, value);
    }
}

static void print_complex(kiln_text *text, kiln_dtype part, const void *element)
{
    kiln_text_append(text, "(");
    print_float_element(text, part, element);
    kiln_text_append(text, ", ");
    print_float_element(text, part, (const char *)element + kiln_dtype_bytes(part));
    kiln_text_append(text, ")");
}

static void print_element(kiln_text *text, kiln_dtype dtype, const void *element)
{
    uint64_t bits = 0;
    if (kiln_dtype_bytes(dtype) <= sizeof bits) memcpy(&bits, element, kiln_dtype_bytes(dtype));
    switch (kiln_dtype_kind_of(dtype)) {
    case KILN_DTYPE_KIND_NONE:
        return;
    case KILN_DTYPE_KIND_BOOL:
        kiln_text_append(text, bits ? "true" : "false");
        return;
    case KILN_DTYPE_KIND_UINT:
        kiln_text_printf(text, "%" PRIu64, bits);
        return;
    case KILN_DTYPE_KIND_INT: {
        int unused = 64 - (int)kiln_dtype_bits(dtype);
        kiln_text_printf(text, "%" PRId64, (int64_t)(bits << unused) >> unused);
        return;
    }
    case KILN_DTYPE_KIND_FLOAT:
        print_float_element(text, dtype, element);
        return;
    case KILN_DTYPE_KIND_COMPLEX:
        print_complex(text, kiln_dtype_part(dtype), element);
        return;
    }
}

/* Attributes */

static void print_hex_bytes(kiln_text *text, const unsigned char *bytes, int64_t n)
{
    char line[128];
    for (int64_t done = 0; done < n;) {
        int used = 0;
        for (; done < n && used < 128; done++) {
            line[used++] = "0123456789abcdef"[bytes[done] >> 4];
            line[used++] = "0123456789abcdef"[bytes[done] & 15];
        }
        kiln_text_append_n(text, line, (size_t)used);
    }
}

static void print_literal(kiln_text *text, const kiln_type *type, const kiln_literal *literal,
                          bool is_brief)
{
    char element[KILN_ELEMENT_BYTES_MAX] = {0};
    switch (literal->kind) {
    case KILN_LITERAL_SPLAT:
        kiln_text_append(text, "splat ");
        print_element(text, type->dtype, literal->data);
        return;
    case KILN_LITERAL_BYTES:
        kiln_text_append(text, "[");
        for (int64_t i = 0; i < type->n_elements; i++) {
            if (i) kiln_text_append(text, ", ");
            kiln_element_copy(type->dtype, element, 0, literal->data, i);
            print_element(text, type->dtype, element);
        }
        kiln_text_append(text, "]");
        return;
    case KILN_LITERAL_BLOB:
        kiln_text_append(text, "blob hex \"");
        if (is_brief) {
            kiln_text_printf(text, "%" PRId64 " bytes", literal->bytes);
        } else {
            print_hex_bytes(text, literal->data, literal->bytes);
        }
        kiln_text_append(text, "\"");
        return;
    case KILN_LITERAL_FILE:
        kiln_text_append(text, "blob ");
        kiln_text_quoted(text, literal->file, strlen(literal->file));
        kiln_text_printf(text, " %" PRId64 " %" PRId64, literal->offset, literal->bytes);
        return;
    }
}

static void print_field(kiln_text *text, const kiln_node *node, const kiln_field_row *field,
                        bool is_brief)
{
    const void *at = kiln_attrs_field(node->attrs, field);
    kiln_text_printf(text, "%s = ", field->name);
    switch (field->kind) {
    case KILN_FIELD_KIND_INT:
    case KILN_FIELD_KIND_CHOICE:
        kiln_text_printf(text, "%" PRId64, *(const int64_t *)at);
        return;
    case KILN_FIELD_KIND_INTS:
        kiln_text_ints(text, ((const kiln_ints *)at)->at, ((const kiln_ints *)at)->n);
        return;
    case KILN_FIELD_KIND_FLOAT:
        print_element(text, KILN_f64, at);
        return;
    case KILN_FIELD_KIND_BOOL:
        kiln_text_append(text, *(const bool *)at ? "true" : "false");
        return;
    case KILN_FIELD_KIND_DTYPE:
        kiln_text_append(text, kiln_dtype_name(*(const kiln_dtype *)at));
        return;
    case KILN_FIELD_KIND_LITERAL:
        print_literal(text, node->type, at, is_brief);
        return;
    case KILN_FIELD_KIND_STRING: {
        const char *string = *(const char *const *)at;
        kiln_text_quoted(text, string, strlen(string));
        return;
    }
    case KILN_FIELD_KIND_REGIONS:
        kiln_text_append(text, "[");
        return; /* the graphs follow */
    }
}

static bool is_left_out(const kiln_node *node, const kiln_field_row *field)
{
    const void *at = kiln_attrs_field(node->attrs, field);
    return field->kind == KILN_FIELD_KIND_CHOICE && *(const int64_t *)at == 0;
}

/* Nodes and graphs */

static void print_typed(kiln_text *text, const kiln_graph *graph, kiln_value value)
{
    kiln_value_print(text, graph, value);
    kiln_text_append(text, ": ");
    kiln_type_print(text, kiln_graph_type(graph, value));
}

/* Where printing a node stands: its next field, and inside a list of regions the next of them. */
typedef struct node_print {
    const kiln_node *node;
    uint32_t field, region;
} node_print;

/* Prints fields up to the end (true), or up to the regions of one. */
static bool print_fields(kiln_text *text, node_print *at, bool is_brief)
{
    const kiln_node *node = at->node;
    const kiln_family_row *family = kiln_family_fields(kiln_node_row(node)->attrs);
    while (node->attrs && at->field < family->n_fields) {
        const kiln_field_row *field = &family->fields[at->field];
        if (is_left_out(node, field)) {
            at->field++;
            continue;
        }
        kiln_text_append(text, at->field++ ? ", " : " {");
        print_field(text, node, field, is_brief);
        if (field->kind == KILN_FIELD_KIND_REGIONS) return false;
    }
    if (node->attrs && family->n_fields) kiln_text_append(text, "}");
    if (node->label) {
        kiln_text_append(text, " ");
        kiln_text_quoted(text, node->label, strlen(node->label));
    }
    return true;
}

/* The line up to the fields. */
static void print_node(kiln_text *text, const kiln_graph *graph, kiln_value value)
{
    const kiln_node *node = kiln_graph_node(graph, value);
    print_typed(text, graph, value);
    kiln_text_printf(text, " = %s", kiln_node_row(node)->name);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_text_append(text, i ? ", " : " ");
        kiln_value_print(text, graph, node->inputs[i]);
    }
}

static void print_indent(kiln_text *text, uint32_t depth)
{
    for (uint32_t i = 0; i < depth; i++) kiln_text_append(text, "  ");
}

static void print_header(kiln_text *text, const kiln_graph *graph)
{
    kiln_text_append(text, "graph ");
    print_name(text, graph->name);
    kiln_text_append(text, "(");
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        if (i) kiln_text_append(text, ", ");
        print_typed(text, graph, graph->inputs.at[i]);
        if (kiln_graph_node(graph, graph->inputs.at[i])->attrs->input.donated) {
            kiln_text_append(text, " donated");
        }
    }
    kiln_text_append(text, ") {\n");
}

static void print_ends(kiln_text *text, const kiln_graph *graph, uint32_t depth)
{
    for (uint32_t i = 0; i < graph->checks.n; i++) {
        const kiln_graph_check *check = &graph->checks.at[i];
        print_indent(text, depth);
        kiln_text_append(text, "  check ");
        kiln_value_print(text, graph, check->value);
        kiln_text_append(text, " ");
        kiln_text_quoted(text, check->sentence, strlen(check->sentence));
        kiln_text_append(text, "\n");
    }
    print_indent(text, depth);
    kiln_text_append(text, "  return");
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_graph_output *output = &graph->outputs.at[i];
        char standard[KILN_OUTPUT_NAME_BYTES];
        kiln_output_name(standard, i);
        kiln_text_append(text, i ? ", " : " ");
        kiln_value_print(text, graph, output->value);
        if (strcmp(output->name, standard) != 0) {
            kiln_text_append(text, " as ");
            kiln_text_quoted(text, output->name, strlen(output->name));
        }
        if (output->counted_by != KILN_NOT_COUNTED)
            kiln_text_printf(text, " counted %u by %u", output->counted_axis, output->counted_by);
    }
    kiln_text_append(text, "\n");
    print_indent(text, depth);
    kiln_text_append(text, "}");
}

/* A graph that is being printed; the first is the whole, the next a region of its node, and so
 * on. */
typedef struct print_level {
    const kiln_graph *graph;
    uint32_t id; /* the next node */
    node_print at;
} print_level;

typedef struct graph_print {
    kiln_text *text;
    bool is_brief;
    uint32_t depth;
    print_level levels[KILN_MAX_NESTING + 1];
} graph_print;

static void open_level(graph_print *print, const kiln_graph *graph)
{
    print->levels[print->depth] = (print_level){graph, 1, {0}};
    print_header(print->text, graph);
}

/* The next region of the node at hand, or what follows them. */
static void go_on(graph_print *print, print_level *level)
{
    kiln_regions regions = kiln_attrs_regions(level->at.node->attrs);
    if (level->at.region < regions.n && print->depth < KILN_MAX_NESTING) {
        kiln_text_append(print->text, level->at.region ? ", " : "");
        print->depth++;
        open_level(print, regions.at[level->at.region++]);
        return;
    }
    kiln_text_append(print->text, "]");
    if (!print_fields(print->text, &level->at, print->is_brief)) return;
    level->at.node = NULL;
    kiln_text_append(print->text, "\n");
}

static void print_next(graph_print *print, print_level *level)
{
    kiln_value value = {level->id++, level->graph->id};
    const kiln_node *node = kiln_graph_node(level->graph, value);
    if (node->op == KILN_OP_input) return;
    print_indent(print->text, print->depth + 1);
    print_node(print->text, level->graph, value);
    level->at = (node_print){.node = node};
    if (!print_fields(print->text, &level->at, print->is_brief)) return;
    level->at.node = NULL;
    kiln_text_append(print->text, "\n");
}

static void print_graph(kiln_text *text, const kiln_graph *whole, bool is_brief)
{
    graph_print print = {.text = text, .is_brief = is_brief};
    kiln_text_append(text, "kiln 1\n");
    open_level(&print, whole);
    for (bool is_open = true; is_open;) {
        print_level *level = &print.levels[print.depth];
        if (level->at.node) {
            go_on(&print, level);
        } else if (level->id < level->graph->nodes.n) {
            print_next(&print, level);
        } else {
            print_ends(text, level->graph, print.depth);
            is_open = print.depth > 0;
            print.depth -= is_open;
        }
    }
    kiln_text_append(text, "\n");
}

void kiln_graph_print(const kiln_graph *graph, kiln_text *text)
{
    print_graph(text, graph, false);
}

void kiln_graph_print_brief(const kiln_graph *graph, kiln_text *text)
{
    print_graph(text, graph, true);
}

const char *kiln_node_string(kiln_arena *arena, const kiln_graph *graph, kiln_value value)
{
    kiln_text text = {.arena = arena};
    if (!value.id || value.id >= graph->nodes.n) {
        kiln_value_print(&text, graph, value);
        return kiln_text_string(&text);
    }
    print_node(&text, graph, value);
    node_print at = {.node = kiln_graph_node(graph, value)};
    while (at.node->op != KILN_OP_input && !print_fields(&text, &at, true))
        kiln_text_printf(&text, "%u]", kiln_attrs_regions(at.node->attrs).n);
    return kiln_text_string(&text);
}
