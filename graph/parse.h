/* Reading the text form: a scanner over bytes with a position, and what it can read. Private to
 * parse*.c. Every read function fails with MODEL at the place of the text it did not like. */
#ifndef KILN_GRAPH_PARSE_H
#define KILN_GRAPH_PARSE_H

#include <locale.h>

#include "graph/graph.h"

typedef struct kiln_parser {
    kiln_scope *scope;  /* fails; positions are put before the sentence by kiln_graph_parse */
    const char *at, *end;
    const char *start;  /* of the text */
    const char *place;  /* where the sentence points: the last thing read */
    locale_t locale;    /* "C", whatever the process uses */
} kiln_parser;

_Noreturn void kiln_parse_fail(kiln_parser *parser, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Skips blanks and comments. */
void kiln_parse_space(kiln_parser *parser);
/* Takes `word` if it comes next: a mark ("(", ":"), or a word that ends there. */
bool kiln_parse_accept(kiln_parser *parser, const char *word);
void kiln_parse_expect(kiln_parser *parser, const char *word);
/* The next byte after blanks, or 0 at the end; nothing is taken. */
char kiln_parse_peek(kiln_parser *parser);

/* A word of letters, digits, _ and . ; *out_n its length. Not NUL-terminated. */
const char *kiln_parse_word(kiln_parser *parser, const char *what, size_t *out_n);
/* A quoted string, unescaped, in the scope's arena; without NUL bytes. */
const char *kiln_parse_string(kiln_parser *parser, const char *what);
int64_t kiln_parse_int(kiln_parser *parser);
bool kiln_parse_bool(kiln_parser *parser);
kiln_dtype kiln_parse_dtype(kiln_parser *parser);
/* One element of that dtype, in memory order. */
void kiln_parse_element(kiln_parser *parser, kiln_dtype dtype, void *out);
/* "[1, 2]" */
kiln_ints kiln_parse_ints(kiln_parser *parser);
/* What a constant of that type holds. */
void kiln_parse_literal(kiln_parser *parser, const kiln_type *type, kiln_literal *out);
#endif
