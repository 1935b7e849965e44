/* What graph/attrs.def says about each attribute family, as data: name, kind and place of each
 * field. Equality, hashing, copying, printing and parsing of attributes are loops over these
 * rows. */
#ifndef KILN_GRAPH_ATTRS_H
#define KILN_GRAPH_ATTRS_H

#include "graph/graph.h"

typedef enum kiln_field_kind {
    KILN_FIELD_KIND_INT,
    KILN_FIELD_KIND_INTS,
    KILN_FIELD_KIND_FLOAT,
    KILN_FIELD_KIND_BOOL,
    KILN_FIELD_KIND_DTYPE,
    KILN_FIELD_KIND_LITERAL,
    KILN_FIELD_KIND_REGIONS,
    KILN_FIELD_KIND_STRING,
    KILN_FIELD_KIND_CHOICE,
} kiln_field_kind;

typedef struct kiln_field_row {
    const char *name;
    kiln_field_kind kind;
    size_t offset; /* in kiln_attrs */
} kiln_field_row;

typedef struct kiln_family_row {
    const char *name;
    uint32_t n_fields;
    const kiln_field_row *fields;
} kiln_family_row;

/* The row of a family; `none` has no fields. */
const kiln_family_row *kiln_family_fields(kiln_family family);

static inline const void *kiln_attrs_field(const kiln_attrs *attrs, const kiln_field_row *field)
{
    return (const char *)attrs + field->offset;
}

/* By content: floats and splats by their bits, blobs and files by origin. NULL equals only NULL. */
bool kiln_attrs_equal(const kiln_attrs *a, const kiln_attrs *b);
uint64_t kiln_attrs_hash(uint64_t hash, const kiln_attrs *attrs);

/* A copy in `arena`, lists, small literals and file names included; memory of blobs is shared, and
 * so are regions. */
const kiln_attrs *kiln_attrs_copy(kiln_arena *arena, const kiln_attrs *attrs);

/* The regions of a node; none for most. */
kiln_regions kiln_attrs_regions(const kiln_attrs *attrs);
/* Puts others in their place; the family has the field. */
void kiln_attrs_set_regions(kiln_attrs *attrs, kiln_regions regions);

/* The attributes of scatter from those of scatter_with, which begin with them, and back. */
static inline kiln_attrs kiln_attrs_scatter(const kiln_attrs *with)
{
    return (kiln_attrs){KILN_FAMILY_scatter, .scatter = with->scatter};
}
static inline kiln_attrs kiln_attrs_scatter_with(const kiln_attrs *scatter, kiln_regions regions)
{
    kiln_attrs attrs = {KILN_FAMILY_scatter_with};
    attrs.scatter = scatter->scatter;
    attrs.scatter_with.regions = regions;
    return attrs;
}
#endif
