/* What is known of one value while rows are followed through a graph (rows.c), and the rules by op
 * class (rows_rules.c). */
#ifndef KILN_PASSES_ROWS_RULES_H
#define KILN_PASSES_ROWS_RULES_H

#include "passes/rows.h"

typedef enum kiln_row_kind {
    KILN_ROW_FIXED, /* depends on no batched input */
    KILN_ROW_EACH,  /* along `axis`, `each` neighbours per row, depends on that row, all alike */
    KILN_ROW_MIXED, /* anything else: node `at` is the first that mixes */
    KILN_ROW_COUNT, /* as MIXED, but a sum of a bool over all rows: 0 where it is 0 for each row */
} kiln_row_kind;

typedef struct kiln_row_state {
    kiln_row_kind kind;
    uint32_t axis;
    int64_t each;
    uint32_t varies; /* FIXED: set of axes along which elements may differ */
    uint32_t at;     /* MIXED: node, and what it does */
    const char *why;
} kiln_row_state;

typedef struct kiln_rows {
    kiln_pipeline *pipeline;
    kiln_scope *scope;       /* the pipeline's */
    const kiln_graph *graph; /* without composites */
    int64_t n;
    kiln_row_state *states;    /* by node id; of a tuple, MIXED or nothing */
    kiln_row_state **items;    /* by node id, of regions: by item */
    struct kiln_rows ***inner; /* by node id: the regions' own */
    uint32_t *n_walks;         /* of regions so far, over all of the graph */
} kiln_rows;

/* For one graph, expanded here; nothing known yet. */
kiln_rows *kiln_rows_open(kiln_pipeline *pipeline, const kiln_graph *graph, int64_t n);

#define KILN_MAX_ROW_WALKS 4096 /* loops in loops are walked again and again */

/* rows_region.c: if, case, call, while and scan; sets the states of the items. */
kiln_row_state kiln_row_visit_region(const kiln_rows *rows, const kiln_node *node);
/* The state of a node whose operands have theirs. */
kiln_row_state kiln_row_visit(const kiln_rows *rows, const kiln_node *node);
#endif
