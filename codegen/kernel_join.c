/* Several kernels as one: the tiles of the second come after those of the first, and so on. Each
 * part keeps its own loop over tiles, cut to those of the call:
 *
 *     tiles 0 … 3 of a, 0 … 1 of b   ->   loop 0 … 3: a's body;  loop 4 … 5: b's body, tile - 4 */
#include "codegen/kernel_join.h"

typedef struct joint {
    kiln_kernel *k;
    const kiln_kernel_part *part;
    kiln_kv *now;         /* by instruction of the part: the value here */
    uint32_t *tables;     /* by table of the part */
    uint32_t first_local; /* of the part, here */
    uint32_t first_int;
    kiln_kv begin, end; /* tiles of the part that this call runs, by the whole's numbers */
} joint;

static int64_t moved_buffer(const joint *j, int64_t buffer)
{
    if (buffer < KILN_LOCAL_FIRST) return j->part->params[buffer];
    return buffer + j->first_local;
}

/* A tile number of the part from one of the whole. */
static kiln_kv own_tile(const joint *j, kiln_kv tile)
{
    return kiln_k_binary(j->k, KILN_K_sub, tile, kiln_k_const_i64(j->k, j->part->first_tile));
}

static kiln_kv copy_loop(joint *j, const kiln_instr *instr)
{
    bool is_tiles = instr->flags == KILN_LOOP_TILES;
    kiln_kv begin = is_tiles ? j->begin : j->now[instr->args[0]];
    kiln_kv end = is_tiles ? j->end : j->now[instr->args[1]];
    return kiln_k_loop(j->k, (kiln_loop_kind)instr->flags, begin, end, instr->imm);
}

static kiln_kv copy_plain(joint *j, const kiln_instr *instr)
{
    kiln_instr copy = *instr;
    for (uint32_t i = 0; i < 3; i++) copy.args[i] = instr->args[i] ? j->now[instr->args[i]] : 0;
    kiln_instr_rule rule = kiln_instr_rule_of((kiln_instr_op)instr->op);
    if (rule == KILN_RULE_MEMORY || instr->op == KILN_K_address)
        copy.imm = moved_buffer(j, instr->imm);
    else if (rule == KILN_RULE_LOOKUP)
        copy.imm = j->tables[instr->imm];
    else if (rule == KILN_RULE_SHUFFLE)
        copy.imm += j->first_int;
    return kiln_kernel_push(j->k, &copy);
}

static void copy_instr(joint *j, kiln_kv number)
{
    const kiln_instr *instr = kiln_kernel_at(j->part->kernel, number);
    kiln_kv *now = &j->now[number];
    switch ((int)instr->op) {
    case KILN_K_tile_begin:
        *now = own_tile(j, j->begin);
        return;
    case KILN_K_tile_end:
        *now = own_tile(j, j->end);
        return;
    case KILN_K_loop:
        *now = copy_loop(j, instr);
        if (instr->flags == KILN_LOOP_TILES) *now = own_tile(j, *now);
        return;
    case KILN_K_end:
        kiln_k_end(j->k);
        return;
    default:
        *now = copy_plain(j, instr);
    }
}

/* Copies what the instructions refer to by number. */
static void copy_lists(joint *j)
{
    const kiln_kernel *from = j->part->kernel;
    kiln_arena *arena = &j->k->scope->arena;
    j->first_local = j->k->locals.n;
    for (uint32_t i = 0; i < from->locals.n; i++)
        kiln_kernel_add_local(j->k, from->locals.at[i].dtype, from->locals.at[i].n_elements);
    j->tables = kiln_new_array(arena, uint32_t, from->tables.n + 1);
    for (uint32_t i = 0; i < from->tables.n; i++) {
        const kiln_table *table = &from->tables.at[i];
        j->tables[i] = kiln_kernel_add_table(j->k, table->dtype, table->n, table->data);
    }
    j->first_int = j->k->ints.n;
    for (uint32_t i = 0; i < from->ints.n; i++) kiln_vec_push(&j->k->ints, arena, from->ints.at[i]);
}

void kiln_kernel_join(kiln_kernel *k, const kiln_kernel_part *part)
{
    joint j = {.k = k, .part = part};
    j.now = kiln_new_array(&k->scope->arena, kiln_kv, part->kernel->instrs.n);
    copy_lists(&j);
    int64_t first = part->first_tile, end = first + part->kernel->n_tiles;
    kiln_kv begin = kiln_k_tile_begin(k);
    j.begin = kiln_k_max(k, begin, kiln_k_const_i64(k, first));
    kiln_kv tiles_end = kiln_k_tile_end(k);
    j.end = kiln_k_min(k, tiles_end, kiln_k_const_i64(k, end));
    for (kiln_kv v = 1; v < part->kernel->instrs.n; v++) copy_instr(&j, v);
}
