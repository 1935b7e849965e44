/* Text to graph (grammar in docs/ir.md): one pass, no recursion (a level for each region that is
 * open), names looked up by hash. A mistake is MODEL with line and column, also one that the type
 * rules find. */
#include "graph/parse.h"

#include <string.h>

#include "base/hash.h"
#include "graph/attrs.h"
#include "graph/describe.h"
#include "graph/table.h"

#define CARET_BYTES 80 /* of the text's line that a message shows */

/* A value that text has named: an input by its name, a node by its number. */
typedef struct named {
    const char *name; /* NULL for a node */
    uint64_t number;
    kiln_value value;
} named;

/* A line whose attributes are being read. */
typedef struct pending_node {
    named key;
    kiln_op op;
    const kiln_type *type;
    const char *place;
    kiln_vec(kiln_value) inputs;
    kiln_attrs attrs;
    uint32_t seen, n_seen; /* fields: a set, and how many */
    bool is_in_regions;    /* inside the list of field `regions` */
    kiln_regions *field;
    kiln_vec(const kiln_graph *) regions;
} pending_node;

/* A graph that is being read: the text's own, or a region inside a node of the level before. */
typedef struct level {
    kiln_graph *graph;
    kiln_slots slots;
    kiln_vec(named) values;
    pending_node node;
} level;

typedef struct graph_parser {
    kiln_parser scan;
    kiln_graph *graph; /* of the innermost level */
    level levels[KILN_MAX_NESTING + 1], *level;
} graph_parser;

static uint64_t named_hash(const named *key)
{
    return key->name ? kiln_name_hash(key->name) : kiln_hash_u64(KILN_HASH_SEED, key->number);
}

static const named *named_find(const graph_parser *parser, const named *key)
{
    uint64_t hash = named_hash(key);
    for (uint32_t at = kiln_slots_first(&parser->level->slots, hash), i;
         (i = kiln_slots_next(&parser->level->slots, hash, &at));) {
        const named *other = &parser->level->values.at[i - 1];
        bool is_same = key->name ? other->name && strcmp(key->name, other->name) == 0
                                 : !other->name && key->number == other->number;
        if (is_same) return other;
    }
    return NULL;
}

static void named_add(graph_parser *parser, const named *key, kiln_value value)
{
    kiln_arena *arena = &parser->scan.scope->arena;
    named item = {key->name, key->number, value};
    kiln_slots_reserve(&parser->level->slots, arena);
    kiln_vec_push(&parser->level->values, arena, item);
    kiln_slots_insert(&parser->level->slots, named_hash(key), parser->level->values.n);
}

static const char *named_string(graph_parser *parser, const named *key)
{
    kiln_arena *arena = &parser->scan.scope->arena;
    return key->name ? kiln_arena_format(arena, "%%%s", kiln_quoted(arena, key->name))
                     : kiln_arena_format(arena, "%%%llu", (unsigned long long)key->number);
}

/* %name, %"any name" or %12 */
static named parse_name(graph_parser *parser)
{
    kiln_parser *scan = &parser->scan;
    named key = {0};
    kiln_parse_expect(scan, "%");
    const char *place = scan->place;
    if (scan->at < scan->end && *scan->at == '"') {
        key.name = kiln_parse_string(scan, "a name");
    } else {
        size_t n;
        const char *word = kiln_parse_word(scan, "a name or a number", &n);
        bool is_number = word[0] >= '0' && word[0] <= '9';
        for (size_t i = 0; is_number && i < n; i++) {
            if (word[i] < '0' || word[i] > '9' || n > 18) {
                kiln_parse_fail(scan,
                                "a name that begins with a digit; expected a number or quotes");
            }
            key.number = key.number * 10 + (uint64_t)(word[i] - '0');
        }
        if (!is_number) {
            char *name = kiln_arena_alloc(&scan->scope->arena, n + 1);
            memcpy(name, word, n);
            key.name = name;
        }
    }
    scan->place = place;
    return key;
}

static kiln_value parse_operand(graph_parser *parser)
{
    named key = parse_name(parser);
    const named *value = named_find(parser, &key);
    if (!value)
        kiln_parse_fail(&parser->scan, "%s is not defined above", named_string(parser, &key));
    return value->value;
}

static named parse_definition(graph_parser *parser)
{
    named key = parse_name(parser);
    if (named_find(parser, &key)) {
        kiln_parse_fail(&parser->scan, "%s is defined twice", named_string(parser, &key));
    }
    return key;
}

static const kiln_type *parse_tensor(graph_parser *parser)
{
    kiln_dtype dtype = kiln_parse_dtype(&parser->scan);
    const char *place = parser->scan.place;
    kiln_ints dims = kiln_parse_ints(&parser->scan);
    parser->scan.place = place;
    return kiln_graph_tensor(parser->graph, dtype, dims.n, dims.at);
}

static const kiln_type *parse_tuple(graph_parser *parser)
{
    kiln_vec(const kiln_type *) items = {0};
    do {
        kiln_vec_push(&items, &parser->scan.scope->arena, parse_tensor(parser));
    } while (kiln_parse_accept(&parser->scan, ","));
    kiln_parse_expect(&parser->scan, ")");
    return kiln_graph_tuple(parser->graph, items.n, items.at);
}

static const kiln_type *parse_type(graph_parser *parser)
{
    kiln_parse_expect(&parser->scan, ":");
    return kiln_parse_accept(&parser->scan, "(") ? parse_tuple(parser) : parse_tensor(parser);
}

/* Attributes */

static void parse_field(graph_parser *parser, const kiln_field_row *field, const kiln_type *type,
                        void *at)
{
    kiln_parser *scan = &parser->scan;
    switch (field->kind) {
    case KILN_FIELD_KIND_INT:
    case KILN_FIELD_KIND_CHOICE:
        *(int64_t *)at = kiln_parse_int(scan);
        return;
    case KILN_FIELD_KIND_INTS:
        *(kiln_ints *)at = kiln_parse_ints(scan);
        return;
    case KILN_FIELD_KIND_FLOAT:
        kiln_parse_element(scan, KILN_f64, at);
        return;
    case KILN_FIELD_KIND_BOOL:
        *(bool *)at = kiln_parse_bool(scan);
        return;
    case KILN_FIELD_KIND_DTYPE:
        *(kiln_dtype *)at = kiln_parse_dtype(scan);
        return;
    case KILN_FIELD_KIND_LITERAL:
        kiln_parse_literal(scan, type, at);
        return;
    case KILN_FIELD_KIND_STRING:
        *(const char **)at = kiln_parse_string(scan, "a string");
        return;
    case KILN_FIELD_KIND_REGIONS:
        parser->level->node.is_in_regions = true;
        parser->level->node.field = at;
        return;
    }
}

static uint32_t find_field(graph_parser *parser, const kiln_family_row *family)
{
    size_t n;
    const char *word = kiln_parse_word(&parser->scan, "an attribute's name", &n);
    for (uint32_t i = 0; i < family->n_fields; i++) {
        const char *name = family->fields[i].name;
        if (strlen(name) == n && memcmp(name, word, n) == 0) return i;
    }
    kiln_text names = {.arena = &parser->scan.scope->arena};
    for (uint32_t i = 0; i < family->n_fields; i++)
        kiln_text_printf(&names, "%s%s", i ? ", " : "", family->fields[i].name);
    kiln_parse_fail(&parser->scan, "an attribute %.*s; expected %s%s", (int)(n < 64 ? n : 64), word,
                    family->n_fields > 1 ? "one of " : "", kiln_text_string(&names));
}

/* Only fields that text may leave out are missing. */
static bool is_complete(const kiln_family_row *family, uint32_t seen)
{
    for (uint32_t i = 0; i < family->n_fields; i++)
        if (family->fields[i].kind != KILN_FIELD_KIND_CHOICE && !(seen >> i & 1)) return false;
    return true;
}

/* Reads attributes up to their end (true) or to a list of regions, whose graphs come first. */
static bool parse_attrs(graph_parser *parser)
{
    pending_node *node = &parser->level->node;
    const kiln_family_row *family = kiln_family_fields(node->attrs.family);
    if (!family->n_fields) return true;
    if (!node->n_seen) kiln_parse_expect(&parser->scan, "{");
    while (node->n_seen < family->n_fields) {
        if (is_complete(family, node->seen) && kiln_parse_peek(&parser->scan) != ',') break;
        if (node->n_seen) kiln_parse_expect(&parser->scan, ",");
        uint32_t i = find_field(parser, family);
        if (node->seen >> i & 1)
            kiln_parse_fail(&parser->scan, "%s is given twice", family->fields[i].name);
        node->seen |= 1u << i;
        node->n_seen++;
        kiln_parse_expect(&parser->scan, "=");
        void *at = (char *)&node->attrs + family->fields[i].offset;
        parse_field(parser, &family->fields[i], node->type, at);
        if (!node->is_in_regions) continue;
        kiln_parse_expect(&parser->scan, "[");
        return false;
    }
    kiln_parse_expect(&parser->scan, "}");
    return true;
}

/* Lines */

static kiln_op parse_op(graph_parser *parser)
{
    size_t n;
    const char *word = kiln_parse_word(&parser->scan, "an operation", &n);
    kiln_op op = kiln_op_find(word, n);
    if (op == KILN_OP_none || op == KILN_OP_input) {
        kiln_parse_fail(&parser->scan, "operation %.*s; expected one of ops.def%s",
                        (int)(n < 64 ? n : 64), word, op ? ", inputs in the header" : "");
    }
    return op;
}

static void finish_node(graph_parser *parser)
{
    kiln_parser *scan = &parser->scan;
    pending_node *node = &parser->level->node;
    kiln_graph *graph = parser->graph;
    kiln_node_spec spec = {.op = node->op, .inputs = node->inputs.at, .n_inputs = node->inputs.n};
    if (node->attrs.family) spec.attrs = &node->attrs;
    if (kiln_parse_peek(scan) == '"') spec.label = kiln_parse_string(scan, "a label");
    if (kiln_op_rows[node->op].result == KILN_RESULT_GIVEN) spec.given = node->type;
    scan->place = node->place;
    kiln_literal *literal = &node->attrs.literal.value;
    if (node->op == KILN_OP_constant && literal->kind == KILN_LITERAL_BLOB)
        literal->data = kiln_arena_copy(&graph->arena, literal->data, (size_t)literal->bytes);
    kiln_value value = node->op == KILN_OP_constant ? kiln_add_literal(graph, node->type, literal)
                                                    : kiln_graph_add(graph, &spec);
    if (node->op == KILN_OP_constant && spec.label)
        graph->nodes.at[value.id]->label = kiln_arena_string(&graph->arena, spec.label);
    if (kiln_graph_type(graph, value) != node->type) {
        kiln_arena *arena = &scan->scope->arena;
        kiln_parse_fail(scan, "%s gives %s; the text says %s", kiln_op_rows[node->op].name,
                        kiln_type_string(arena, kiln_graph_type(graph, value)),
                        kiln_type_string(arena, node->type));
    }
    named_add(parser, &node->key, value);
}

static void parse_node(graph_parser *parser)
{
    kiln_parser *scan = &parser->scan;
    pending_node *node = &parser->level->node;
    *node = (pending_node){.key = parse_definition(parser)};
    node->type = parse_type(parser);
    kiln_parse_expect(scan, "=");
    node->op = parse_op(parser);
    node->place = scan->place;
    if (kiln_parse_peek(scan) == '%') {
        do {
            kiln_vec_push(&node->inputs, &scan->scope->arena, parse_operand(parser));
        } while (kiln_parse_accept(scan, ","));
    }
    node->attrs.family = kiln_op_rows[node->op].attrs;
    if (parse_attrs(parser)) finish_node(parser);
}

static void parse_inputs(graph_parser *parser)
{
    kiln_parser *scan = &parser->scan;
    kiln_parse_expect(scan, "(");
    for (uint32_t n = 0; kiln_parse_peek(scan) != ')'; n++) {
        if (n) kiln_parse_expect(scan, ",");
        named key = parse_definition(parser);
        const char *place = scan->place;
        if (!key.name) kiln_parse_fail(scan, "an input with a number; expected a name");
        const kiln_type *type = parse_type(parser);
        bool is_donated = kiln_parse_accept(scan, "donated");
        scan->place = place;
        named_add(parser, &key, kiln_add_input(parser->graph, type, key.name, is_donated));
    }
    kiln_parse_expect(scan, ")");
}

/* "counted 0 by 2"; the output that counts may follow */
static void parse_count(graph_parser *parser)
{
    kiln_parser *scan = &parser->scan;
    kiln_graph *graph = parser->graph;
    uint32_t n = graph->outputs.n;
    int64_t axis = kiln_parse_int(scan);
    if (axis < 0 || axis >= kiln_graph_type(graph, graph->outputs.at[n - 1].value)->rank)
        kiln_parse_fail(scan,
                        "an output counted along an axis it does not have; expected one it has");
    if (!kiln_parse_accept(scan, "by")) kiln_parse_fail(scan, "no \"by\"; expected it");
    int64_t by = kiln_parse_int(scan);
    if (by < 0 || by >= KILN_NOT_COUNTED)
        kiln_parse_fail(scan, "an output counted by none; expected the number of an output");
    kiln_count_output(graph, n - 1, (uint32_t)axis, (uint32_t)by);
}

static void parse_outputs(graph_parser *parser)
{
    kiln_parser *scan = &parser->scan;
    while (kiln_parse_peek(scan) == '%') {
        kiln_value value = parse_operand(parser);
        const char *name = kiln_parse_accept(scan, "as") ? kiln_parse_string(scan, "a name") : NULL;
        kiln_add_output(parser->graph, value, name);
        if (kiln_parse_accept(scan, "counted")) parse_count(parser);
        if (!kiln_parse_accept(scan, ",")) break;
    }
}

/* "graph name(inputs) {" */
static void open_graph(graph_parser *parser)
{
    kiln_parser *scan = &parser->scan;
    kiln_graph *graph = parser->graph;
    kiln_parse_expect(scan, "graph");
    size_t n;
    if (kiln_parse_peek(scan) == '"') {
        graph->name = kiln_arena_string(&graph->arena, kiln_parse_string(scan, "a name"));
    } else {
        const char *word = kiln_parse_word(scan, "a name", &n);
        char *name = kiln_arena_alloc(&graph->arena, n + 1);
        memcpy(name, word, n);
        graph->name = name;
    }
    parse_inputs(parser);
    kiln_parse_expect(scan, "{");
}

/* Checks, outputs, "}" */
static void close_graph(graph_parser *parser)
{
    kiln_parser *scan = &parser->scan;
    while (kiln_parse_accept(scan, "check")) {
        kiln_value value = parse_operand(parser);
        const char *place = scan->place, *sentence = kiln_parse_string(scan, "a sentence");
        scan->place = place;
        kiln_add_check(parser->graph, value, sentence);
    }
    kiln_parse_expect(scan, "return");
    parse_outputs(parser);
    kiln_parse_expect(scan, "}");
}

static void enter_region(graph_parser *parser)
{
    kiln_parser *scan = &parser->scan;
    if (parser->level == parser->levels + KILN_MAX_NESTING) {
        kiln_fail(scan->scope, KILN_LIMIT, "regions nest deeper than %d; expected less",
                  KILN_MAX_NESTING);
    }
    if (parser->level->node.regions.n) kiln_parse_expect(scan, ",");
    *++parser->level = (level){
        .graph = kiln_graph_open(scan->scope, parser->graph->context, NULL),
    };
    parser->graph = parser->level->graph;
    open_graph(parser);
}

static void leave_region(graph_parser *parser)
{
    kiln_graph *region = parser->graph;
    kiln_region_close(parser->scan.scope, region);
    parser->graph = (--parser->level)->graph;
    kiln_vec_push(&parser->level->node.regions, &parser->scan.scope->arena, region);
}

/* "]" behind the last region: the rest of the node. */
static void leave_regions(graph_parser *parser)
{
    pending_node *node = &parser->level->node;
    *node->field = (kiln_regions){node->regions.n, node->regions.at};
    node->is_in_regions = false;
    if (parse_attrs(parser)) finish_node(parser);
}

static void parse_graph(graph_parser *parser)
{
    kiln_parser *scan = &parser->scan;
    if (kiln_parse_accept(scan, "kiln") && kiln_parse_int(scan) != 1) {
        kiln_fail(scan->scope, KILN_ABI, "another version of the text form; expected kiln 1");
    }
    open_graph(parser);
    for (bool is_open = true; is_open;) {
        if (parser->level->node.is_in_regions) {
            if (kiln_parse_accept(scan, "]")) {
                leave_regions(parser);
            } else {
                enter_region(parser);
            }
        } else if (kiln_parse_peek(scan) == '%') {
            parse_node(parser);
        } else {
            close_graph(parser);
            is_open = parser->level != parser->levels;
            if (is_open) leave_region(parser);
        }
    }
    if (kiln_parse_peek(scan)) kiln_parse_fail(scan, "text after the graph; expected its end");
}

static void release_locale(void *locale)
{
    freelocale((locale_t)locale);
}

static kiln_status parse_run(graph_parser *parser, kiln_error *error)
{
    kiln_scope scope;
    kiln_scope_open(&scope, error);
    if (kiln_scope_try(&scope)) {
        parser->scan.scope = &scope;
        kiln_graph_attach(parser->graph, &scope);
        parser->scan.locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        if (!parser->scan.locale) kiln_fail(&scope, KILN_NO_MEMORY, "no memory for a locale");
        kiln_scope_defer(&scope, release_locale, parser->scan.locale);
        parse_graph(parser);
    }
    return kiln_scope_close(&scope);
}

/* Two lines: the bytes around the place, and a caret below it. */
static const char *quote_place(kiln_scope *scope, const kiln_parser *scan, const char *line_start)
{
    const char *from = scan->place - line_start < CARET_BYTES ? line_start
                                                              : scan->place - CARET_BYTES / 2;
    kiln_text text = {.arena = &scope->arena};
    kiln_text_append(&text, "\n  ");
    for (const char *at = from; at < scan->end && at < from + CARET_BYTES && *at != '\n'; at++) {
        char c = *at >= ' ' && *at <= '~' ? *at : *at == '\t' || *at == '\r' ? ' ' : '?';
        kiln_text_append_n(&text, &c, 1);
    }
    kiln_text_printf(&text, "\n  %*s", (int)(scan->place - from) + 1, "^");
    return kiln_text_string(&text);
}

kiln_graph *kiln_graph_parse(kiln_scope *scope, kiln_context *context, const char *text, size_t n)
{
    graph_parser *parser = kiln_new(&scope->arena, graph_parser);
    kiln_error *error = kiln_new(&scope->arena, kiln_error);
    kiln_graph *graph = kiln_graph_open(scope, context, NULL);
    parser->level = parser->levels;
    parser->level->graph = parser->graph = graph;
    parser->scan.start = parser->scan.at = parser->scan.place = text;
    parser->scan.end = text + n;
    kiln_status status = parse_run(parser, error);
    kiln_graph_attach(graph, scope);
    if (status == KILN_OK) return graph;
    const kiln_parser *scan = &parser->scan;
    const char *line_start = text;
    uint32_t line = 1;
    for (const char *at = text; at < scan->place; at++) {
        if (*at != '\n') continue;
        line++;
        line_start = at + 1;
    }
    kiln_fail(scope, status == KILN_INVALID ? KILN_MODEL : status, "%u:%u: %s%s", line,
              (uint32_t)(scan->place - line_start) + 1, error->message,
              quote_place(scope, scan, line_start));
}
