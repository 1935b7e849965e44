/* The tables behind the graph: rows of ops.def, fields of attrs.def, and the loops over them that
 * compare, hash and copy attributes. */
#include <string.h>

#include "base/hash.h"
#include "graph/attrs.h"

#define VARIADIC 1, 255
#define OPTIONAL_1 1, 2
#define OPTIONAL_2 2, 3
#define OPTIONAL_3 3, 4
#define OPTIONAL_4 4, 5
/* A plain number n of inputs becomes "n, n": the pair of a row whose n_inputs has no comma. */
#define PICK_PAIR(a, b, ...) a, b
#define INPUT_RANGE(...) PICK_PAIR(__VA_ARGS__, __VA_ARGS__)

const kiln_op_row kiln_op_rows[KILN_N_OPS] = {
    [KILN_OP_none] = {"none", KILN_SOURCE, 0, 0, KILN_TYPES_ANY, KILN_RESULT_GIVEN,
                      KILN_FAMILY_none, "no operation"},
#define KILN_OP(name, class_, n_inputs, types, result, attrs, meaning)                             \
    [KILN_OP_##name] = {#name,                                                                     \
                        KILN_##class_,                                                             \
                        INPUT_RANGE(n_inputs),                                                     \
                        KILN_TYPES_##types,                                                        \
                        KILN_RESULT_##result,                                                      \
                        KILN_FAMILY_##attrs,                                                       \
                        meaning},
#include "kiln/ops.def"
#undef KILN_OP
};

kiln_op kiln_op_find(const char *name, size_t n)
{
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        const char *row = kiln_op_rows[op].name;
        if (n && row[0] == name[0] && strncmp(row, name, n) == 0 && row[n] == 0) return (kiln_op)op;
    }
    return KILN_OP_none;
}

/* One function a family, because only inside it can the struct of the family have a fixed name. */
#define FIELD(kind_, name_)                                                                        \
    {#name_, KILN_FIELD_KIND_##kind_, offsetof(kiln_attrs, input) + offsetof(here, name_)},
#define KILN_ATTRS(family_, fields_)                                                               \
    static const kiln_family_row *fields_of_##family_(void)                                        \
    {                                                                                              \
        typedef __typeof__(((kiln_attrs *)0)->family_) here;                                       \
        static const kiln_field_row fields[] = {fields_};                                          \
        static const kiln_family_row row = {#family_, sizeof fields / sizeof *fields, fields};     \
        return &row;                                                                               \
    }
#include "graph/attrs.def"
#undef KILN_ATTRS
#undef FIELD

static const kiln_family_row *fields_of_none(void)
{
    static const kiln_family_row row = {"none", 0, NULL};
    return &row;
}

const kiln_family_row *kiln_family_fields(kiln_family family)
{
    static const kiln_family_row *(*const families[KILN_N_FAMILIES])(void) = {
        [KILN_FAMILY_none] = fields_of_none,
#define KILN_ATTRS(family_, fields_) [KILN_FAMILY_##family_] = fields_of_##family_,
#include "graph/attrs.def"
#undef KILN_ATTRS
    };
    return (unsigned)family < KILN_N_FAMILIES ? families[family]() : fields_of_none();
}

static bool is_stored_by_content(const kiln_literal *literal)
{
    return literal->kind == KILN_LITERAL_SPLAT || literal->kind == KILN_LITERAL_BYTES;
}

static bool literals_equal(const kiln_literal *a, const kiln_literal *b)
{
    if (a->kind != b->kind || a->bytes != b->bytes) return false;
    if (!is_stored_by_content(a)) return a->origin == b->origin;
    return a->bytes == 0 || memcmp(a->data, b->data, (size_t)a->bytes) == 0;
}

static bool fields_equal(kiln_field_kind kind, const void *a, const void *b)
{
    switch (kind) {
    case KILN_FIELD_KIND_INT:
    case KILN_FIELD_KIND_CHOICE:
    case KILN_FIELD_KIND_FLOAT:
        return memcmp(a, b, 8) == 0;
    case KILN_FIELD_KIND_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case KILN_FIELD_KIND_DTYPE:
        return *(const kiln_dtype *)a == *(const kiln_dtype *)b;
    case KILN_FIELD_KIND_INTS: {
        const kiln_ints *x = a, *y = b;
        return x->n == y->n && (x->n == 0 || memcmp(x->at, y->at, x->n * sizeof *x->at) == 0);
    }
    case KILN_FIELD_KIND_LITERAL:
        return literals_equal(a, b);
    case KILN_FIELD_KIND_STRING:
        return strcmp(*(const char *const *)a, *(const char *const *)b) == 0;
    case KILN_FIELD_KIND_REGIONS:
        return kiln_regions_equal(*(const kiln_regions *)a, *(const kiln_regions *)b);
    }
    return false;
}

bool kiln_attrs_equal(const kiln_attrs *a, const kiln_attrs *b)
{
    if (!a || !b) return a == b;
    if (a->family != b->family) return false;
    const kiln_family_row *row = kiln_family_fields(a->family);
    for (uint32_t i = 0; i < row->n_fields; i++) {
        const kiln_field_row *field = &row->fields[i];
        if (!fields_equal(field->kind, kiln_attrs_field(a, field), kiln_attrs_field(b, field))) {
            return false;
        }
    }
    return true;
}

static uint64_t hash_literal(uint64_t hash, const kiln_literal *literal)
{
    hash = kiln_hash_u64(kiln_hash_u64(hash, literal->kind), (uint64_t)literal->bytes);
    if (!is_stored_by_content(literal)) return kiln_hash_u64(hash, literal->origin);
    return kiln_hash_bytes(hash, literal->data, (size_t)literal->bytes);
}

static uint64_t hash_field(uint64_t hash, kiln_field_kind kind, const void *at)
{
    switch (kind) {
    case KILN_FIELD_KIND_INT:
    case KILN_FIELD_KIND_CHOICE:
    case KILN_FIELD_KIND_FLOAT:
        return kiln_hash_bytes(hash, at, 8);
    case KILN_FIELD_KIND_BOOL:
        return kiln_hash_u64(hash, *(const bool *)at);
    case KILN_FIELD_KIND_DTYPE:
        return kiln_hash_u64(hash, *(const kiln_dtype *)at);
    case KILN_FIELD_KIND_INTS: {
        const kiln_ints *ints = at;
        return kiln_hash_bytes(hash, ints->at, ints->n * sizeof *ints->at);
    }
    case KILN_FIELD_KIND_LITERAL:
        return hash_literal(hash, at);
    case KILN_FIELD_KIND_STRING: {
        const char *string = *(const char *const *)at;
        return kiln_hash_bytes(hash, string, strlen(string));
    }
    case KILN_FIELD_KIND_REGIONS: {
        const kiln_regions *regions = at;
        for (uint32_t i = 0; i < regions->n; i++)
            hash = kiln_hash_u64(hash, regions->at[i]->region_hash);
        return hash;
    }
    }
    return hash;
}

uint64_t kiln_attrs_hash(uint64_t hash, const kiln_attrs *attrs)
{
    if (!attrs) return hash;
    const kiln_family_row *row = kiln_family_fields(attrs->family);
    for (uint32_t i = 0; i < row->n_fields; i++) {
        hash = hash_field(hash, row->fields[i].kind, kiln_attrs_field(attrs, &row->fields[i]));
    }
    return hash;
}

static void copy_field(kiln_arena *arena, kiln_field_kind kind, void *at)
{
    if (kind == KILN_FIELD_KIND_INTS) {
        kiln_ints *ints = at;
        ints->at = kiln_arena_copy(arena, ints->at, ints->n * sizeof *ints->at);
    } else if (kind == KILN_FIELD_KIND_LITERAL) {
        kiln_literal *literal = at;
        if (is_stored_by_content(literal)) {
            literal->data = kiln_arena_copy(arena, literal->data, (size_t)literal->bytes);
        }
        if (literal->file) literal->file = kiln_arena_string(arena, literal->file);
    } else if (kind == KILN_FIELD_KIND_STRING) {
        const char **string = at;
        *string = kiln_arena_string(arena, *string);
    } else if (kind == KILN_FIELD_KIND_REGIONS) {
        kiln_regions *regions = at;
        regions->at = kiln_arena_copy(arena, regions->at, regions->n * sizeof *regions->at);
    }
}

const kiln_attrs *kiln_attrs_copy(kiln_arena *arena, const kiln_attrs *attrs)
{
    if (!attrs) return NULL;
    kiln_attrs *copy = kiln_arena_copy(arena, attrs, sizeof *attrs);
    const kiln_family_row *row = kiln_family_fields(attrs->family);
    for (uint32_t i = 0; i < row->n_fields; i++) {
        copy_field(arena, row->fields[i].kind, (char *)copy + row->fields[i].offset);
    }
    return copy;
}

kiln_regions kiln_attrs_regions(const kiln_attrs *attrs)
{
    const kiln_family_row *row = kiln_family_fields(attrs ? attrs->family : KILN_FAMILY_none);
    for (uint32_t i = 0; i < row->n_fields; i++) {
        if (row->fields[i].kind != KILN_FIELD_KIND_REGIONS) continue;
        return *(const kiln_regions *)kiln_attrs_field(attrs, &row->fields[i]);
    }
    return (kiln_regions){0};
}

void kiln_attrs_set_regions(kiln_attrs *attrs, kiln_regions regions)
{
    const kiln_family_row *row = kiln_family_fields(attrs->family);
    for (uint32_t i = 0; i < row->n_fields; i++) {
        if (row->fields[i].kind != KILN_FIELD_KIND_REGIONS) continue;
        *(kiln_regions *)((char *)attrs + row->fields[i].offset) = regions;
    }
}
