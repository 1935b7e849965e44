/* The kernel struct: instructions in, a list of them out. Values from nowhere (constants, lane
 * numbers, tile bounds) are interned in a small open-addressing table, so a kernel holds each once.
 */
#include "codegen/kernel.h"

#include "base/checked.h"
#include "base/hash.h"

#define BUFFER_LIMIT ((int64_t)1 << 56) /* elements of a buffer: offsets in bytes stay in i64 */

typedef struct instr_row {
    const char *name;
    uint8_t n_args, rule;
} instr_row;

static const instr_row instr_rows[KILN_N_INSTRS] = {
    [KILN_K_none] = {"none", 0, KILN_RULE_LOOP},
#define KILN_INSTR(name, n_args, rule, meaning) [KILN_K_##name] = {#name, n_args, KILN_RULE_##rule},
#include "codegen/kernel.def"
#undef KILN_INSTR
};

struct kiln_kernel_consts {
    kiln_kv *slots; /* 0: empty */
    uint32_t n, capacity;
};

const char *kiln_instr_name(kiln_instr_op op)
{
    return (unsigned)op < KILN_N_INSTRS ? instr_rows[op].name : "?";
}

uint32_t kiln_instr_n_args(kiln_instr_op op)
{
    return (unsigned)op < KILN_N_INSTRS ? instr_rows[op].n_args : 0;
}

kiln_instr_rule kiln_instr_rule_of(kiln_instr_op op)
{
    return (unsigned)op < KILN_N_INSTRS ? instr_rows[op].rule : KILN_RULE_LOOP;
}

bool kiln_dtype_is_float(kiln_dtype dtype)
{
    return dtype == KILN_f32 || dtype == KILN_f64;
}

bool kiln_dtype_is_int(kiln_dtype dtype)
{
    return dtype >= KILN_i8 && dtype <= KILN_u64;
}

bool kiln_dtype_is_signed(kiln_dtype dtype)
{
    return dtype == KILN_i8 || dtype == KILN_i16 || dtype == KILN_i32 || dtype == KILN_i64;
}

kiln_kernel *kiln_kernel_create(kiln_scope *scope, const kiln_machine *machine, const char *label)
{
    kiln_kernel *kernel = kiln_new(&scope->arena, kiln_kernel);
    kernel->scope = scope;
    kernel->machine = machine;
    kernel->label = label;
    kernel->consts = kiln_new(&scope->arena, struct kiln_kernel_consts);
    kiln_vec_push(&kernel->instrs, &scope->arena, (kiln_instr){.op = KILN_K_none});
    return kernel;
}

static void check_elements(const kiln_kernel *kernel, kiln_dtype dtype, int64_t n_elements)
{
    if (!kiln_dtype_bytes(dtype))
        kiln_fail(kernel->scope, KILN_INTERNAL, "kernel %s: buffer has dtype %d; expected a dtype",
                  kernel->label, (int)dtype);
    if (n_elements < 0 || n_elements > BUFFER_LIMIT)
        kiln_fail(kernel->scope, KILN_LIMIT,
                  "kernel %s: buffer has %lld elements; expected at most 2^56", kernel->label,
                  (long long)n_elements);
}

uint32_t kiln_kernel_add_param(kiln_kernel *kernel, const kiln_param *param)
{
    check_elements(kernel, param->dtype, param->n_elements);
    if (kernel->params.n == KILN_LOCAL_FIRST)
        kiln_fail(kernel->scope, KILN_LIMIT, "kernel %s: more than %d parameters", kernel->label,
                  KILN_LOCAL_FIRST);
    kiln_vec_push(&kernel->params, &kernel->scope->arena, *param);
    return kernel->params.n - 1;
}

uint32_t kiln_kernel_add_local(kiln_kernel *kernel, kiln_dtype dtype, int64_t n_elements)
{
    check_elements(kernel, dtype, n_elements);
    kiln_local local = {.dtype = dtype, .n_elements = n_elements, .offset = kernel->scratch_bytes};
    int64_t bytes = n_elements * (int64_t)kiln_dtype_bytes(dtype);
    if (!kiln_checked_add(bytes, kernel->scratch_bytes, &bytes) ||
        !kiln_checked_align(bytes, 64, &kernel->scratch_bytes))
        kiln_fail(kernel->scope, KILN_LIMIT, "kernel %s: scratch overflows", kernel->label);
    kiln_vec_push(&kernel->locals, &kernel->scope->arena, local);
    return KILN_LOCAL_FIRST + kernel->locals.n - 1;
}

uint32_t kiln_kernel_add_table(kiln_kernel *kernel, kiln_dtype dtype, uint32_t n, const void *data)
{
    kiln_arena *arena = &kernel->scope->arena;
    size_t bytes = n * kiln_dtype_bytes(dtype);
    for (uint32_t i = 0; i < kernel->tables.n; i++) {
        const kiln_table *table = &kernel->tables.at[i];
        if (table->dtype == dtype && table->n == n && memcmp(table->data, data, bytes) == 0)
            return i;
    }
    if (n == 0 || n > KILN_K_MAX_TABLE)
        kiln_fail(kernel->scope, KILN_INTERNAL, "kernel %s: table has %u entries; expected 1 to %d",
                  kernel->label, n, KILN_K_MAX_TABLE);
    kiln_table table = {.dtype = dtype, .n = n, .data = kiln_arena_copy(arena, data, bytes)};
    kiln_vec_push(&kernel->tables, arena, table);
    return kernel->tables.n - 1;
}

static void check_buffer(const kiln_kernel *kernel, uint32_t buffer)
{
    bool is_known = buffer >= KILN_LOCAL_FIRST ? buffer - KILN_LOCAL_FIRST < kernel->locals.n
                                               : buffer < kernel->params.n;
    if (!is_known)
        kiln_fail(kernel->scope, KILN_INTERNAL, "kernel %s: buffer %u is not declared",
                  kernel->label, buffer);
}

kiln_dtype kiln_kernel_buffer_dtype(const kiln_kernel *kernel, uint32_t buffer)
{
    check_buffer(kernel, buffer);
    return buffer >= KILN_LOCAL_FIRST ? kernel->locals.at[buffer - KILN_LOCAL_FIRST].dtype
                                      : kernel->params.at[buffer].dtype;
}

int64_t kiln_kernel_buffer_elements(const kiln_kernel *kernel, uint32_t buffer)
{
    check_buffer(kernel, buffer);
    return buffer >= KILN_LOCAL_FIRST ? kernel->locals.at[buffer - KILN_LOCAL_FIRST].n_elements
                                      : kernel->params.at[buffer].n_elements;
}

bool kiln_kernel_is_const(const kiln_kernel *kernel, kiln_kv value, int64_t *out_value)
{
    const kiln_instr *instr = kiln_kernel_at(kernel, value);
    if (instr->op != KILN_K_const || kiln_dtype_is_float(instr->dtype)) return false;
    uint32_t shift = 64 - 8 * (uint32_t)kiln_dtype_bytes(instr->dtype);
    uint64_t bits = (uint64_t)instr->imm << shift;
    *out_value =
        kiln_dtype_is_signed(instr->dtype) ? (int64_t)bits >> shift : (int64_t)(bits >> shift);
    return true;
}

static uint64_t consts_hash(const kiln_instr *instr)
{
    uint64_t head = (uint64_t)instr->op << 32 | (uint64_t)instr->dtype << 16 | instr->lanes;
    return kiln_hash_u64(kiln_hash_u64(KILN_HASH_SEED, head), (uint64_t)instr->imm);
}

static kiln_kv *consts_slot(const kiln_kernel *kernel, const kiln_instr *instr)
{
    const struct kiln_kernel_consts *consts = kernel->consts;
    for (uint64_t at = consts_hash(instr);; at++) {
        kiln_kv *slot = &consts->slots[at & (consts->capacity - 1)];
        const kiln_instr *old = kiln_kernel_at(kernel, *slot);
        bool is_same = old->op == instr->op && old->dtype == instr->dtype &&
                       old->lanes == instr->lanes && old->imm == instr->imm;
        if (!*slot || is_same) return slot;
    }
}

static void consts_grow(kiln_kernel *kernel)
{
    struct kiln_kernel_consts *consts = kernel->consts, old = *consts;
    consts->capacity = old.capacity ? old.capacity * 2 : 64;
    consts->slots = kiln_new_array(&kernel->scope->arena, kiln_kv, consts->capacity);
    for (uint32_t i = 0; i < old.capacity; i++) {
        if (old.slots[i]) *consts_slot(kernel, kiln_kernel_at(kernel, old.slots[i])) = old.slots[i];
    }
}

kiln_kv kiln_kernel_push(kiln_kernel *kernel, const kiln_instr *instr)
{
    kiln_error error = {0};
    if (kiln_instr_check(kernel, instr, &error))
        kiln_fail(kernel->scope, KILN_INTERNAL, "kernel %s: %s", kernel->label, error.message);
    kiln_kv *slot = NULL;
    if (kiln_instr_rule_of(instr->op) == KILN_RULE_VALUE) {
        if (kernel->consts->n * 2 >= kernel->consts->capacity) consts_grow(kernel);
        slot = consts_slot(kernel, instr);
        if (*slot) return *slot;
        *slot = kernel->instrs.n;
        kernel->consts->n++;
    }
    kiln_vec_push(&kernel->instrs, &kernel->scope->arena, *instr);
    return kernel->instrs.n - 1;
}
