/* What a graph knows to find its nodes and types again: open-addressing tables of numbers by hash.
 * Private to
 * graph.c and the type rules. */
#ifndef KILN_GRAPH_TABLE_H
#define KILN_GRAPH_TABLE_H

#include "graph/graph.h"

/* Numbers > 0 by hash; at most half full, linear probing. Never iterated: order cannot leak. */
typedef struct kiln_slot {
    uint32_t hash, number;
} kiln_slot;

typedef struct kiln_slots {
    kiln_slot *at;
    uint32_t n, capacity; /* a power of two, or 0 */
} kiln_slots;

struct kiln_graph_table {
    kiln_slots nodes, types, input_names, output_names;
    kiln_vec(const kiln_type *) type_list; /* types: number - 1 */
    kiln_vec(const char *) names;          /* names: number - 1 */
    kiln_graph *scratch; /* where composites are expanded to learn their type; made on demand */
};

/* The interned type, or NULL. */
const kiln_type *kiln_graph_find_type(const kiln_graph *graph, kiln_dtype dtype, uint32_t rank,
                                      const int64_t *dims);

const kiln_type *kiln_graph_find_tuple(const kiln_graph *graph, uint32_t n,
                                       const kiln_type *const *items);

uint64_t kiln_name_hash(const char *name);

/* The node of that type: the one that is there, or a new one. Checks nothing. */
kiln_value kiln_graph_intern(kiln_graph *graph, const kiln_node_spec *spec, const kiln_type *type);

/* Makes room for one more, failing before anything has changed. */
void kiln_slots_reserve(kiln_slots *slots, kiln_arena *arena);
void kiln_slots_insert(kiln_slots *slots, uint64_t hash, uint32_t number);

static inline uint32_t kiln_slots_first(const kiln_slots *slots, uint64_t hash)
{
    return slots->capacity ? (uint32_t)hash & (slots->capacity - 1) : 0;
}

/* The next number of that hash from *at on, which moves past it; 0 at the end. */
static inline uint32_t kiln_slots_next(const kiln_slots *slots, uint64_t hash, uint32_t *at)
{
    while (slots->capacity && slots->at[*at].number) {
        const kiln_slot *slot = &slots->at[*at];
        *at = (*at + 1) & (slots->capacity - 1);
        if (slot->hash == (uint32_t)hash) return slot->number;
    }
    return 0;
}
#endif
