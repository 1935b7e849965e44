/* The verifier of kernels: a kernel in, KILN_OK or the first broken invariant out. Types are
 * checked instruction by instruction (kiln_instr_check, which the builders use too); then one pass
 * over the list, with the stack of open loops, checks order, visibility and the shape of loops. */
#include "codegen/kernel.h"

#include <stdlib.h>

#define FAIL(...) kiln_error_set(error, KILN_INTERNAL, __VA_ARGS__)

static const kiln_instr *at(const kiln_kernel *k, kiln_kv value)
{
    return kiln_kernel_at(k, value);
}

static bool is_number(kiln_dtype dtype)
{
    return kiln_dtype_is_float(dtype) || kiln_dtype_is_int(dtype);
}

static bool dtype_fits_rule(kiln_instr_rule rule, kiln_dtype dtype)
{
    switch ((int)rule) {
    case KILN_RULE_NUMBER:
        return is_number(dtype);
    case KILN_RULE_FLOAT:
        return kiln_dtype_is_float(dtype);
    case KILN_RULE_INTEGER:
        return kiln_dtype_is_int(dtype);
    case KILN_RULE_BITS:
        return kiln_dtype_is_int(dtype) || dtype == KILN_bool;
    default:
        return kiln_dtype_bytes(dtype) != 0;
    }
}

static bool is_i64(const kiln_kernel *k, kiln_kv value)
{
    return at(k, value)->dtype == KILN_i64 && at(k, value)->lanes == 1;
}

static bool is_like(const kiln_kernel *k, kiln_kv value, uint32_t dtype, uint32_t lanes)
{
    return at(k, value)->dtype == dtype && at(k, value)->lanes == lanes;
}

static kiln_status type_error(const kiln_kernel *k, const kiln_instr *instr, uint32_t number,
                              kiln_error *error)
{
    const kiln_instr *operand = at(k, instr->args[number]);
    return FAIL("%s of %sx%u: operand %u is %s %sx%u; expected the type the rule asks for",
                kiln_instr_name(instr->op), kiln_dtype_name(instr->dtype), instr->lanes, number,
                kiln_instr_name(operand->op), kiln_dtype_name(operand->dtype), operand->lanes);
}

/* Operands of the result's type; COMPARE: of one type among themselves. */
static kiln_status check_alike(const kiln_kernel *k, const kiln_instr *instr, kiln_error *error)
{
    kiln_instr_rule rule = kiln_instr_rule_of(instr->op);
    uint32_t dtype = instr->dtype;
    if (rule == KILN_RULE_COMPARE) {
        dtype = at(k, instr->args[0])->dtype;
        bool is_bits = dtype == KILN_bool && (instr->op == KILN_K_eq || instr->op == KILN_K_ne);
        if (instr->dtype != KILN_bool || !(is_number(dtype) || is_bits))
            return FAIL("%s: compares %s to %s", kiln_instr_name(instr->op), kiln_dtype_name(dtype),
                        kiln_dtype_name(instr->dtype));
    } else if (!dtype_fits_rule(rule, dtype)) {
        return FAIL("%s: dtype is %s, which it is not for", kiln_instr_name(instr->op),
                    kiln_dtype_name(dtype));
    }
    for (uint32_t i = 0; i < kiln_instr_n_args(instr->op); i++) {
        if (!is_like(k, instr->args[i], dtype, instr->lanes)) return type_error(k, instr, i, error);
    }
    bool is_scale = instr->op == KILN_K_scale;
    bool is_rounding = instr->op >= KILN_K_floor && instr->op <= KILN_K_round_even;
    if ((instr->op == KILN_K_fma && !k->machine->has_fma) ||
        (is_scale && (!k->machine->has_scale || instr->dtype != KILN_f32)) ||
        (is_rounding && !k->machine->has_round))
        return FAIL("%s: machine %s lacks it", kiln_instr_name(instr->op), k->machine->name);
    return KILN_OK;
}

static kiln_status check_select(const kiln_kernel *k, const kiln_instr *instr, kiln_error *error)
{
    if (!is_like(k, instr->args[0], KILN_bool, instr->lanes)) return type_error(k, instr, 0, error);
    for (uint32_t i = 1; i < 3; i++) {
        if (!is_like(k, instr->args[i], instr->dtype, instr->lanes))
            return type_error(k, instr, i, error);
    }
    return KILN_OK;
}

static bool is_convertible(const kiln_kernel *k, uint32_t from, uint32_t to)
{
    if (from == to || from == KILN_bf16) return false;
    if (to == KILN_bf16) return k->machine->has_bf16_dot && from == KILN_f32;
    bool is_f16 = from == KILN_f16 || to == KILN_f16;
    return !is_f16 || (k->machine->has_f16 && (from == KILN_f32 || to == KILN_f32));
}

static kiln_status check_change(const kiln_kernel *k, const kiln_instr *instr, kiln_error *error)
{
    const kiln_instr *from = at(k, instr->args[0]);
    uint32_t lanes = instr->op == KILN_K_splat ? 1 : instr->lanes;
    if (from->lanes != lanes) return type_error(k, instr, 0, error);
    bool is_right = true;
    if (instr->op == KILN_K_convert) is_right = is_convertible(k, from->dtype, instr->dtype);
    if (instr->op == KILN_K_splat) is_right = from->dtype == instr->dtype;
    if (instr->op == KILN_K_bitcast)
        is_right = from->dtype != KILN_bool && instr->dtype != KILN_bool &&
                   kiln_dtype_bytes(from->dtype) == kiln_dtype_bytes(instr->dtype);
    return is_right ? KILN_OK : type_error(k, instr, 0, error);
}

static kiln_status check_shuffle(const kiln_kernel *k, const kiln_instr *instr, kiln_error *error)
{
    const kiln_instr *a = at(k, instr->args[0]), *b = at(k, instr->args[1]);
    bool is_pair = instr->args[1] != 0;
    if (a->dtype != instr->dtype) return type_error(k, instr, 0, error);
    if (is_pair && (b->dtype != a->dtype || b->lanes != a->lanes))
        return type_error(k, instr, 1, error);
    int64_t lanes = is_pair ? 2 * (int64_t)a->lanes : a->lanes;
    if (instr->imm < 0 || instr->imm + instr->lanes > k->ints.n)
        return FAIL("shuffle: list at %lld of %u; list has %u", (long long)instr->imm, instr->lanes,
                    k->ints.n);
    for (uint32_t i = 0; i < instr->lanes; i++) {
        int64_t from = k->ints.at[instr->imm + i];
        if (from < 0 || from >= lanes)
            return FAIL("shuffle: lane %u is from %lld; operands have %lld", i, (long long)from,
                        (long long)lanes);
    }
    return KILN_OK;
}

static kiln_status check_lookup(const kiln_kernel *k, const kiln_instr *instr, kiln_error *error)
{
    if (instr->imm < 0 || instr->imm >= k->tables.n)
        return FAIL("lookup: table %lld is not declared", (long long)instr->imm);
    if (instr->dtype != k->tables.at[instr->imm].dtype)
        return FAIL("lookup: result is %s; table %lld is %s", kiln_dtype_name(instr->dtype),
                    (long long)instr->imm, kiln_dtype_name(k->tables.at[instr->imm].dtype));
    return is_like(k, instr->args[0], KILN_i32, instr->lanes) ? KILN_OK
                                                              : type_error(k, instr, 0, error);
}

/* Buffer declared, dtypes alike, permitted. */
static kiln_status check_access(const kiln_kernel *k, const kiln_instr *instr, kiln_error *error)
{
    bool is_local = instr->imm >= KILN_LOCAL_FIRST;
    int64_t number = is_local ? instr->imm - KILN_LOCAL_FIRST : instr->imm;
    if (number < 0 || number >= (is_local ? k->locals.n : k->params.n))
        return FAIL("%s: buffer %lld is not declared", kiln_instr_name(instr->op),
                    (long long)instr->imm);
    kiln_dtype dtype = kiln_kernel_buffer_dtype(k, (uint32_t)instr->imm);
    if (dtype != instr->dtype)
        return FAIL("%s: value is %s; buffer %lld is %s", kiln_instr_name(instr->op),
                    kiln_dtype_name(instr->dtype), (long long)instr->imm, kiln_dtype_name(dtype));
    if (is_local || instr->op == KILN_K_prefetch) return KILN_OK;
    const kiln_param *param = &k->params.at[number];
    bool is_write = instr->op == KILN_K_store || instr->op == KILN_K_scatter;
    if (is_write ? param->is_written : param->is_read) return KILN_OK;
    return FAIL("%s: buffer %lld is not declared %s", kiln_instr_name(instr->op),
                (long long)instr->imm, is_write ? "written" : "read");
}

static kiln_status check_memory(const kiln_kernel *k, const kiln_instr *instr, kiln_error *error)
{
    kiln_status status = check_access(k, instr, error);
    if (status) return status;
    bool is_spread = instr->op == KILN_K_gather || instr->op == KILN_K_scatter;
    bool is_write = instr->op == KILN_K_store || instr->op == KILN_K_scatter;
    const kiln_instr *offset = at(k, instr->args[0]);
    bool is_index = offset->dtype == KILN_i64 || (is_spread && offset->dtype == KILN_i32);
    if (!is_index || offset->lanes != (is_spread ? instr->lanes : 1))
        return type_error(k, instr, 0, error);
    if (is_write && !is_like(k, instr->args[1], instr->dtype, instr->lanes))
        return type_error(k, instr, 1, error);
    uint32_t mask = is_write ? 2 : 1;
    if (instr->args[mask] && !is_like(k, instr->args[mask], KILN_bool, instr->lanes))
        return type_error(k, instr, mask, error);
    uint32_t known =
        instr->op == KILN_K_prefetch ? KILN_MEM_FAR : KILN_MEM_ALIGNED | KILN_MEM_STREAM;
    if (instr->flags & ~known)
        return FAIL("%s: flags are %u", kiln_instr_name(instr->op), instr->flags);
    int64_t first, n = kiln_kernel_buffer_elements(k, (uint32_t)instr->imm);
    bool is_checked = !is_spread && instr->op != KILN_K_prefetch && !instr->args[mask] &&
                      kiln_kernel_is_const(k, instr->args[0], &first);
    if (is_checked && (first < 0 || first > n - instr->lanes))
        return FAIL("%s: %u lanes at %lld; buffer %lld has %lld elements",
                    kiln_instr_name(instr->op), instr->lanes, (long long)first,
                    (long long)instr->imm, (long long)n);
    return KILN_OK;
}

static kiln_status check_loop(const kiln_kernel *k, const kiln_instr *instr, kiln_error *error)
{
    const kiln_instr *a = at(k, instr->args[0]);
    switch ((int)instr->op) {
    case KILN_K_loop:
        if (!is_i64(k, instr->args[0])) return type_error(k, instr, 0, error);
        if (!is_i64(k, instr->args[1])) return type_error(k, instr, 1, error);
        if (instr->imm <= 0 || instr->flags > KILN_LOOP_UNROLL)
            return FAIL("loop: step is %lld, kind %u", (long long)instr->imm, instr->flags);
        return KILN_OK;
    case KILN_K_carry:
        return is_like(k, instr->args[0], instr->dtype, instr->lanes)
                   ? KILN_OK
                   : type_error(k, instr, 0, error);
    case KILN_K_next:
        if (a->op != KILN_K_carry)
            return FAIL("next: of %s; expected a carry", kiln_instr_name(a->op));
        return is_like(k, instr->args[1], a->dtype, a->lanes) ? KILN_OK
                                                              : type_error(k, instr, 1, error);
    case KILN_K_last:
        if (a->op != KILN_K_carry)
            return FAIL("last: of %s; expected a carry", kiln_instr_name(a->op));
        return is_like(k, instr->args[0], instr->dtype, instr->lanes)
                   ? KILN_OK
                   : type_error(k, instr, 0, error);
    default:
        return KILN_OK;
    }
}

static kiln_status check_value(const kiln_kernel *k, const kiln_instr *instr, kiln_error *error)
{
    bool is_tile = instr->op == KILN_K_tile_begin || instr->op == KILN_K_tile_end ||
                   instr->op == KILN_K_address;
    if (instr->op == KILN_K_address && (uint64_t)instr->imm >= k->params.n)
        return FAIL("address: parameter %lld does not exist", (long long)instr->imm);
    if (is_tile && (instr->dtype != KILN_i64 || instr->lanes != 1))
        return FAIL("%s: type is not i64", kiln_instr_name(instr->op));
    if (instr->op == KILN_K_lanes && !kiln_dtype_is_int(instr->dtype))
        return FAIL("lanes: dtype is %s; expected an integer", kiln_dtype_name(instr->dtype));
    return KILN_OK;
}

kiln_status kiln_instr_check(const kiln_kernel *k, const kiln_instr *instr, kiln_error *error)
{
    bool is_typed = instr->op != KILN_K_end && instr->op != KILN_K_barrier &&
                    instr->op != KILN_K_next && kiln_instr_rule_of(instr->op) != KILN_RULE_TILE;
    if (instr->op == KILN_K_none || instr->op >= KILN_N_INSTRS)
        return FAIL("instruction %d is unknown", instr->op);
    if (is_typed &&
        (instr->lanes == 0 || instr->lanes > KILN_K_MAX_LANES || !kiln_dtype_bytes(instr->dtype)))
        return FAIL("%s: type is %sx%u; expected 1 to %d lanes", kiln_instr_name(instr->op),
                    kiln_dtype_name(instr->dtype), instr->lanes, KILN_K_MAX_LANES);
    for (uint32_t i = 0; i < 3; i++) {
        if (instr->args[i] >= k->instrs.n)
            return FAIL("%s: operand %u is not defined", kiln_instr_name(instr->op), i);
    }
    bool is_dot4 = instr->op >= KILN_K_dot4_i8 && instr->op <= KILN_K_dot4_u8;
    if (is_dot4 && instr->dtype != KILN_i32)
        return FAIL("%s: dtype is %s; expected i32", kiln_instr_name(instr->op),
                    kiln_dtype_name(instr->dtype));
    bool is_dot2 = instr->op == KILN_K_dot2_bf16;
    if (is_dot2 && instr->dtype != KILN_f32)
        return FAIL("dot2_bf16: dtype is %s; expected f32", kiln_dtype_name(instr->dtype));
    if (is_dot2 && !k->machine->has_bf16_dot)
        return FAIL("dot2_bf16: machine %s lacks it", k->machine->name);
    switch (kiln_instr_rule_of(instr->op)) {
    case KILN_RULE_VALUE:
        return check_value(k, instr, error);
    case KILN_RULE_NUMBER:
    case KILN_RULE_FLOAT:
    case KILN_RULE_INTEGER:
    case KILN_RULE_BITS:
    case KILN_RULE_COMPARE:
        return check_alike(k, instr, error);
    case KILN_RULE_SELECT:
        return check_select(k, instr, error);
    case KILN_RULE_CONVERT:
    case KILN_RULE_BITCAST:
    case KILN_RULE_SPLAT:
        return check_change(k, instr, error);
    case KILN_RULE_SHUFFLE:
        return check_shuffle(k, instr, error);
    case KILN_RULE_LOOKUP:
        return check_lookup(k, instr, error);
    case KILN_RULE_MEMORY:
        return check_memory(k, instr, error);
    case KILN_RULE_TILE:
        return kiln_tile_check(k, instr, error);
    case KILN_RULE_LOOP:
        return check_loop(k, instr, error);
    }
    return KILN_OK;
}

/* What the walk over the list knows. */
typedef struct walk {
    const kiln_kernel *k;
    kiln_error *error;
    kiln_kv *home;  /* innermost loop around the instruction */
    bool *is_open;  /* of loops */
    bool *has_next; /* of carries */
    kiln_kv *loops; /* open ones, outermost first */
    uint32_t n_loops, n_tiles_loops;
    int64_t end_tile; /* of the parts so far */
    bool is_whole;    /* a loop over all tiles is there */
} walk;

static kiln_kv walk_loop(const walk *w)
{
    return w->n_loops ? w->loops[w->n_loops - 1] : 0;
}

static kiln_status walk_operands(walk *w, kiln_kv number)
{
    kiln_error *error = w->error;
    const kiln_instr *instr = at(w->k, number);
    for (uint32_t i = 0; i < 3; i++) {
        kiln_kv value = instr->args[i];
        if (value >= number) return FAIL("%%%u: operand %%%u is not yet defined", number, value);
        if (!value || kiln_instr_rule_of(at(w->k, value)->op) == KILN_RULE_VALUE) continue;
        bool is_result = at(w->k, value)->dtype && at(w->k, value)->op != KILN_K_store &&
                         at(w->k, value)->op != KILN_K_scatter &&
                         at(w->k, value)->op != KILN_K_prefetch &&
                         kiln_instr_rule_of(at(w->k, value)->op) != KILN_RULE_TILE;
        if (!is_result) return FAIL("%%%u: operand %%%u has no value", number, value);
        kiln_kv home = at(w->k, value)->op == KILN_K_loop ? value : w->home[value];
        if (instr->op == KILN_K_last) {
            kiln_kv parent = w->home[home];
            if (w->is_open[home] || (parent && !w->is_open[parent]))
                return FAIL("%%%u: last of %%%u, whose loop is not one just closed here", number,
                            value);
        } else if (home && !w->is_open[home]) {
            return FAIL("%%%u: operand %%%u is inside a loop that is closed", number, value);
        }
    }
    return KILN_OK;
}

/* Reads `op`(bound, constant), bound being `source`. */
static bool read_bound(const walk *w, kiln_kv value, kiln_instr_op op, kiln_instr_op source,
                       int64_t *out_tile)
{
    const kiln_instr *instr = at(w->k, value);
    return instr->op == op && at(w->k, instr->args[0])->op == source &&
           kiln_kernel_is_const(w->k, instr->args[1], out_tile);
}

/* Over all tiles of the call, or over those of a part that comes behind the parts before. */
static bool walk_tiles(walk *w, const kiln_instr *instr)
{
    int64_t first, end;
    if (w->n_loops || w->is_whole || instr->imm != 1) return false;
    w->is_whole = at(w->k, instr->args[0])->op == KILN_K_tile_begin &&
                  at(w->k, instr->args[1])->op == KILN_K_tile_end;
    if (w->is_whole) return w->n_tiles_loops++ == 0;
    bool is_part = read_bound(w, instr->args[0], KILN_K_max, KILN_K_tile_begin, &first) &&
                   read_bound(w, instr->args[1], KILN_K_min, KILN_K_tile_end, &end);
    if (!is_part || first < w->end_tile || end < first) return false;
    w->end_tile = end;
    w->n_tiles_loops++;
    return true;
}

static kiln_status walk_open(walk *w, kiln_kv number)
{
    kiln_error *error = w->error;
    const kiln_instr *instr = at(w->k, number);
    if (instr->flags == KILN_LOOP_TILES && !walk_tiles(w, instr))
        return FAIL("%%%u: tiles loop is not the one outermost loop over all tiles", number);
    if (instr->flags == KILN_LOOP_THREADS && w->k->machine->kind != KILN_MACHINE_GPU)
        return FAIL("%%%u: threads loop on machine %s", number, w->k->machine->name);
    w->is_open[number] = true;
    w->loops[w->n_loops++] = number;
    return KILN_OK;
}

static kiln_status walk_close(walk *w, kiln_kv number)
{
    kiln_error *error = w->error;
    kiln_kv loop = walk_loop(w);
    if (!loop || at(w->k, number)->imm != (int64_t)loop)
        return FAIL("%%%u: end of loop %lld; the open one is %u", number,
                    (long long)at(w->k, number)->imm, loop);
    for (kiln_kv v = loop + 1; v < number; v++) {
        if (at(w->k, v)->op == KILN_K_carry && w->home[v] == loop && !w->has_next[v])
            return FAIL("%%%u: carry %%%u has no next", number, v);
    }
    w->is_open[loop] = false;
    w->n_loops--;
    return KILN_OK;
}

/* A carry stands at the head of its loop, first made outside; a next once, at its loop's own
 * level. */
static kiln_status walk_carry(walk *w, kiln_kv number)
{
    kiln_error *error = w->error;
    const kiln_instr *instr = at(w->k, number);
    kiln_kv loop = walk_loop(w);
    if (instr->op == KILN_K_next) {
        if (w->home[instr->args[0]] != loop || w->has_next[instr->args[0]])
            return FAIL("%%%u: next of %%%u is not the one of its loop", number, instr->args[0]);
        w->has_next[instr->args[0]] = true;
        return KILN_OK;
    }
    uint32_t kind = at(w->k, loop)->flags;
    if (!loop || kind == KILN_LOOP_TILES || kind == KILN_LOOP_THREADS)
        return FAIL("%%%u: carry of no serial loop", number);
    bool is_inside = instr->args[0] >= loop &&
                     kiln_instr_rule_of(at(w->k, instr->args[0])->op) != KILN_RULE_VALUE;
    if (is_inside)
        return FAIL("%%%u: carry starts with %%%u of its own loop", number, instr->args[0]);
    for (kiln_kv v = number - 1; v > loop; v--) {
        if (at(w->k, v)->op != KILN_K_carry &&
            kiln_instr_rule_of(at(w->k, v)->op) != KILN_RULE_VALUE)
            return FAIL("%%%u: carry is not at the head of its loop", number);
    }
    return KILN_OK;
}

static kiln_status walk_instr(walk *w, kiln_kv number)
{
    kiln_error *error = w->error, inner = {0};
    const kiln_instr *instr = at(w->k, number);
    kiln_status status = kiln_instr_check(w->k, instr, &inner);
    if (status) return FAIL("%%%u: %s", number, inner.message);
    w->home[number] = walk_loop(w);
    if ((status = walk_operands(w, number))) return status;
    kiln_instr_rule rule = kiln_instr_rule_of(instr->op);
    bool is_effect =
        rule == KILN_RULE_MEMORY || rule == KILN_RULE_TILE || instr->op == KILN_K_barrier;
    if (is_effect && !w->n_tiles_loops)
        return FAIL("%%%u: %s outside the tiles loop", number, kiln_instr_name(instr->op));
    if (is_effect && !w->n_loops)
        return FAIL("%%%u: %s after the tiles loop", number, kiln_instr_name(instr->op));
    switch ((int)instr->op) {
    case KILN_K_loop:
        return walk_open(w, number);
    case KILN_K_end:
        return walk_close(w, number);
    case KILN_K_carry:
    case KILN_K_next:
        return walk_carry(w, number);
    case KILN_K_barrier:
        if (w->k->machine->kind == KILN_MACHINE_GPU) return KILN_OK;
        return FAIL("%%%u: barrier on machine %s", number, w->k->machine->name);
    default:
        return KILN_OK;
    }
}

static kiln_status walk_all(walk *w, kiln_error *error)
{
    const char *label = w->k->label ? w->k->label : "?";
    for (kiln_kv v = 1; v < w->k->instrs.n; v++) {
        kiln_error inner = {0};
        w->error = &inner;
        if (walk_instr(w, v)) return FAIL("kernel %s: %s", label, inner.message);
    }
    if (!w->n_loops) return KILN_OK;
    return FAIL("kernel %s: loop %%%u is not closed", label, walk_loop(w));
}

/* Memory of its own, not the kernel's arena: several threads verify kernels of one scope. */
kiln_status kiln_kernel_verify(const kiln_kernel *kernel, kiln_error *error)
{
    uint32_t n = kernel->instrs.n;
    kiln_kv *numbers = calloc(n, 2 * sizeof *numbers);
    bool *flags = calloc(n, 2 * sizeof *flags);
    walk w = {.k = kernel,
              .home = numbers,
              .loops = numbers + n,
              .is_open = flags,
              .has_next = flags + n};
    kiln_status status = KILN_NO_MEMORY;
    if (numbers && flags)
        status = walk_all(&w, error);
    else
        kiln_error_set(error, status, "kernel: no memory for %u instructions", n);
    free(numbers);
    free(flags);
    return status;
}
