/* The builders of kernel.h: types follow from operands, and what constants decide is decided here,
 * so that lowerings may write general index arithmetic and short kernels come out. */
#include "codegen/kernel.h"

static const kiln_instr *at(const kiln_kernel *k, kiln_kv value)
{
    return kiln_kernel_at(k, value);
}

static kiln_kv push(kiln_kernel *k, kiln_instr_op op, const kiln_instr *like, kiln_kv a, kiln_kv b)
{
    kiln_instr instr = {
        .op = (uint8_t)op, .dtype = like->dtype, .lanes = like->lanes, .args = {a, b}};
    return kiln_kernel_push(k, &instr);
}

kiln_kv kiln_k_const_bits(kiln_kernel *k, kiln_dtype dtype, uint32_t lanes, uint64_t bits)
{
    uint32_t unused = 64 - 8 * (uint32_t)kiln_dtype_bytes(dtype);
    if (unused < 64) bits = bits << unused >> unused;
    if (dtype == KILN_bool) bits = bits != 0;
    kiln_instr instr = {.op = KILN_K_const,
                        .dtype = (uint8_t)dtype,
                        .lanes = (uint16_t)lanes,
                        .imm = (int64_t)bits};
    return kiln_kernel_push(k, &instr);
}

kiln_kv kiln_k_const_i64(kiln_kernel *k, int64_t value)
{
    return kiln_k_const_bits(k, KILN_i64, 1, (uint64_t)value);
}

kiln_kv kiln_k_const_int(kiln_kernel *k, kiln_dtype dtype, uint32_t lanes, int64_t value)
{
    return kiln_k_const_bits(k, dtype, lanes, (uint64_t)value);
}

kiln_kv kiln_k_const_float(kiln_kernel *k, kiln_dtype dtype, uint32_t lanes, double value)
{
    uint64_t bits = 0;
    float narrow = (float)value;
    if (dtype == KILN_f32) {
        memcpy(&bits, &narrow, sizeof narrow);
    } else {
        memcpy(&bits, &value, sizeof value);
    }
    if (!kiln_dtype_is_float(dtype))
        kiln_fail(k->scope, KILN_INTERNAL, "kernel %s: float constant is %s; expected f32 or f64",
                  k->label, kiln_dtype_name(dtype));
    return kiln_k_const_bits(k, dtype, lanes, bits);
}

kiln_kv kiln_k_lanes(kiln_kernel *k, kiln_dtype dtype, uint32_t lanes)
{
    if (lanes == 1) return kiln_k_const_int(k, dtype, 1, 0);
    kiln_instr instr = {.op = KILN_K_lanes, .dtype = (uint8_t)dtype, .lanes = (uint16_t)lanes};
    return kiln_kernel_push(k, &instr);
}

kiln_kv kiln_k_tile_begin(kiln_kernel *k)
{
    return push(k, KILN_K_tile_begin, &(kiln_instr){.dtype = KILN_i64, .lanes = 1}, 0, 0);
}

kiln_kv kiln_k_tile_end(kiln_kernel *k)
{
    return push(k, KILN_K_tile_end, &(kiln_instr){.dtype = KILN_i64, .lanes = 1}, 0, 0);
}

kiln_kv kiln_k_address(kiln_kernel *k, uint32_t param)
{
    kiln_instr instr = {.op = KILN_K_address, .dtype = KILN_i64, .lanes = 1, .imm = param};
    return kiln_kernel_push(k, &instr);
}

/* The value of an integer operation on constants, or false when it must not be folded. Compares of
 * unsigned values are done after a flip of the sign bit, which keeps their order in int64. */
static bool fold_order(kiln_instr_op op, int64_t a, int64_t b, int64_t *out)
{
    switch ((int)op) {
    case KILN_K_eq:
        *out = a == b;
        return true;
    case KILN_K_ne:
        *out = a != b;
        return true;
    case KILN_K_lt:
        *out = a < b;
        return true;
    case KILN_K_le:
        *out = a <= b;
        return true;
    case KILN_K_gt:
        *out = a > b;
        return true;
    case KILN_K_ge:
        *out = a >= b;
        return true;
    default:
        return false;
    }
}

static bool fold_arithmetic(kiln_instr_op op, int64_t a, int64_t b, int64_t *out)
{
    uint64_t x = (uint64_t)a, y = (uint64_t)b;
    switch ((int)op) {
    case KILN_K_add:
        *out = (int64_t)(x + y);
        return true;
    case KILN_K_sub:
        *out = (int64_t)(x - y);
        return true;
    case KILN_K_mul:
        *out = (int64_t)(x * y);
        return true;
    case KILN_K_and:
        *out = a & b;
        return true;
    case KILN_K_or:
        *out = a | b;
        return true;
    case KILN_K_xor:
        *out = a ^ b;
        return true;
    default:
        return false;
    }
}

/* Operations whose result depends on signedness. */
static bool fold_signed(kiln_instr_op op, bool is_signed, int64_t a, int64_t b, int64_t *out)
{
    uint64_t x = (uint64_t)a, y = (uint64_t)b;
    bool is_less = is_signed ? a < b : x < y;
    bool is_divisible = b != 0 && !(is_signed && b == -1);
    switch ((int)op) {
    case KILN_K_max:
    case KILN_K_max_fast:
        *out = is_less ? b : a;
        return true;
    case KILN_K_min:
    case KILN_K_min_fast:
        *out = is_less ? a : b;
        return true;
    case KILN_K_div:
        if (is_divisible) *out = is_signed ? a / b : (int64_t)(x / y);
        return is_divisible;
    case KILN_K_rem:
        if (is_divisible) *out = is_signed ? a % b : (int64_t)(x % y);
        return is_divisible;
    case KILN_K_shl:
        if (y < 64) *out = (int64_t)(x << y);
        return y < 64;
    case KILN_K_shr:
        if (y < 64) *out = is_signed ? a >> y : (int64_t)(x >> y);
        return y < 64;
    default:
        return false;
    }
}

static kiln_kv fold_constants(kiln_kernel *k, kiln_instr_op op, const kiln_instr *like, int64_t a,
                              int64_t b)
{
    int64_t value, flip = like->dtype == KILN_u64 ? INT64_MIN : 0;
    if (fold_order(op, a ^ flip, b ^ flip, &value))
        return kiln_k_const_int(k, KILN_bool, like->lanes, value);
    bool is_signed = kiln_dtype_is_signed(like->dtype);
    if (fold_arithmetic(op, a, b, &value) || fold_signed(op, is_signed, a, b, &value))
        return kiln_k_const_int(k, like->dtype, like->lanes, value);
    return 0;
}

/* a op constant, for integers: 0 when there is nothing to fold. */
static kiln_kv fold_right(kiln_kernel *k, kiln_instr_op op, kiln_kv a, int64_t b)
{
    const kiln_instr like = *at(k, a);
    bool is_neutral = b == 0 && (op == KILN_K_add || op == KILN_K_sub || op == KILN_K_or ||
                                 op == KILN_K_xor || op == KILN_K_shl || op == KILN_K_shr);
    if (is_neutral || (b == 1 && (op == KILN_K_mul || op == KILN_K_div))) return a;
    if ((b == 0 && (op == KILN_K_mul || op == KILN_K_and)) || (b == 1 && op == KILN_K_rem))
        return kiln_k_const_int(k, like.dtype, like.lanes, 0);
    if (like.dtype == KILN_bool && op == KILN_K_and) return a; /* and true */
    if (like.dtype == KILN_bool && op == KILN_K_or)
        return kiln_k_const_int(k, KILN_bool, like.lanes, 1);
    int64_t inner;
    if ((op == KILN_K_add || op == KILN_K_mul) && like.op == op &&
        kiln_kernel_is_const(k, like.args[1], &inner)) {
        uint64_t sum = (uint64_t)inner + (uint64_t)b, product = (uint64_t)inner * (uint64_t)b;
        kiln_kv folded =
            kiln_k_const_bits(k, like.dtype, like.lanes, op == KILN_K_add ? sum : product);
        return kiln_k_binary(k, op, like.args[0], folded);
    }
    return 0;
}

static bool is_commutative(kiln_instr_op op)
{
    return op == KILN_K_add || op == KILN_K_mul || op == KILN_K_and || op == KILN_K_or ||
           op == KILN_K_xor || op == KILN_K_max || op == KILN_K_min || op == KILN_K_eq ||
           op == KILN_K_ne;
}

/* Operands have one type: the check of the push is not reached when folding, so it stands here too.
 */
static bool is_same_type(const kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    return at(k, a)->dtype == at(k, b)->dtype && at(k, a)->lanes == at(k, b)->lanes;
}

kiln_kv kiln_k_binary(kiln_kernel *k, kiln_instr_op op, kiln_kv a, kiln_kv b)
{
    const kiln_instr like = *at(k, a);
    int64_t left, right;
    bool is_foldable = a && b && is_same_type(k, a, b) && !kiln_dtype_is_float(like.dtype) &&
                       kiln_instr_n_args(op) == 2;
    if (is_foldable && kiln_kernel_is_const(k, a, &left)) {
        kiln_kv folded = 0;
        if (kiln_kernel_is_const(k, b, &right)) folded = fold_constants(k, op, &like, left, right);
        if (folded) return folded;
        if (!kiln_kernel_is_const(k, b, &right) && is_commutative(op))
            return kiln_k_binary(k, op, b, a);
    }
    if (is_foldable && kiln_kernel_is_const(k, b, &right)) {
        kiln_kv folded = fold_right(k, op, a, right);
        if (folded) return folded;
    }
    if (is_foldable && a == b &&
        (op == KILN_K_max || op == KILN_K_min || op == KILN_K_and || op == KILN_K_or))
        return a;
    kiln_instr shape = like;
    if (kiln_instr_rule_of(op) == KILN_RULE_COMPARE) shape.dtype = KILN_bool;
    return push(k, op, &shape, a, b);
}

kiln_kv kiln_k_unary(kiln_kernel *k, kiln_instr_op op, kiln_kv a)
{
    const kiln_instr like = *at(k, a);
    int64_t value;
    bool is_foldable = kiln_kernel_is_const(k, a, &value);
    if (is_foldable && op == KILN_K_neg)
        return kiln_k_const_int(k, like.dtype, like.lanes, (int64_t)(0 - (uint64_t)value));
    if (is_foldable && op == KILN_K_not) {
        int64_t flipped = like.dtype == KILN_bool ? !value : ~value;
        return kiln_k_const_int(k, like.dtype, like.lanes, flipped);
    }
    return push(k, op, &like, a, 0);
}

kiln_kv kiln_k_fma(kiln_kernel *k, kiln_kv a, kiln_kv b, kiln_kv c)
{
    if (!k->machine->has_fma)
        return kiln_k_binary(k, KILN_K_add, kiln_k_binary(k, KILN_K_mul, a, b), c);
    const kiln_instr *like = at(k, a);
    kiln_instr instr = {
        .op = KILN_K_fma, .dtype = like->dtype, .lanes = like->lanes, .args = {a, b, c}};
    return kiln_kernel_push(k, &instr);
}

kiln_kv kiln_k_dot4(kiln_kernel *k, kiln_instr_op op, kiln_kv a, kiln_kv b, kiln_kv c)
{
    if (op >= KILN_K_tile_dot_i8 && op <= KILN_K_tile_dot_u8)
        op = (kiln_instr_op)(op - KILN_K_tile_dot_i8 + KILN_K_dot4_i8);
    kiln_instr instr = {
        .op = (uint8_t)op, .dtype = KILN_i32, .lanes = at(k, c)->lanes, .args = {a, b, c}};
    return kiln_kernel_push(k, &instr);
}

kiln_kv kiln_k_dot2(kiln_kernel *k, kiln_kv a, kiln_kv b, kiln_kv c)
{
    kiln_instr instr = {
        .op = KILN_K_dot2_bf16, .dtype = KILN_f32, .lanes = at(k, c)->lanes, .args = {a, b, c}};
    return kiln_kernel_push(k, &instr);
}

kiln_kv kiln_k_select(kiln_kernel *k, kiln_kv condition, kiln_kv a, kiln_kv b)
{
    int64_t value;
    bool is_same = is_same_type(k, a, b) && at(k, condition)->lanes == at(k, a)->lanes;
    if (is_same && at(k, condition)->dtype == KILN_bool) {
        if (a == b) return a;
        if (kiln_kernel_is_const(k, condition, &value)) return value ? a : b;
    }
    const kiln_instr *like = at(k, a);
    kiln_instr instr = {
        .op = KILN_K_select, .dtype = like->dtype, .lanes = like->lanes, .args = {condition, a, b}};
    return kiln_kernel_push(k, &instr);
}

kiln_kv kiln_k_convert(kiln_kernel *k, kiln_kv a, kiln_dtype dtype)
{
    const kiln_instr from = *at(k, a);
    int64_t value;
    if (from.dtype == dtype) return a;
    bool is_int = kiln_dtype_is_int(dtype) || dtype == KILN_bool;
    if (is_int && kiln_kernel_is_const(k, a, &value) && from.dtype != KILN_f16 &&
        from.dtype != KILN_bf16)
        return kiln_k_const_int(k, dtype, from.lanes, value);
    if (from.op == KILN_K_lanes && kiln_dtype_is_int(dtype))
        return kiln_k_lanes(k, dtype, from.lanes);
    return push(k, KILN_K_convert, &(kiln_instr){.dtype = (uint8_t)dtype, .lanes = from.lanes}, a,
                0);
}

kiln_kv kiln_k_bitcast(kiln_kernel *k, kiln_kv a, kiln_dtype dtype)
{
    const kiln_instr from = *at(k, a);
    if (from.dtype == dtype) return a;
    bool is_same_size = kiln_dtype_bytes(from.dtype) == kiln_dtype_bytes(dtype);
    if (from.op == KILN_K_const && is_same_size && dtype != KILN_bool)
        return kiln_k_const_bits(k, dtype, from.lanes, (uint64_t)from.imm);
    return push(k, KILN_K_bitcast, &(kiln_instr){.dtype = (uint8_t)dtype, .lanes = from.lanes}, a,
                0);
}

kiln_kv kiln_k_splat(kiln_kernel *k, kiln_kv a, uint32_t lanes)
{
    const kiln_instr from = *at(k, a);
    if (from.lanes == lanes) return a;
    if (from.op == KILN_K_const && from.lanes == 1)
        return kiln_k_const_bits(k, from.dtype, lanes, (uint64_t)from.imm);
    kiln_instr shape = {.dtype = from.dtype, .lanes = (uint16_t)lanes};
    return push(k, KILN_K_splat, &shape, a, 0);
}

kiln_kv kiln_k_shuffle(kiln_kernel *k, kiln_kv a, kiln_kv b, uint32_t lanes, const int64_t *from)
{
    const kiln_instr like = *at(k, a);
    bool is_identity = lanes == like.lanes;
    for (uint32_t i = 0; i < lanes; i++) is_identity = is_identity && from[i] == (int64_t)i;
    if (is_identity) return a;
    if (like.op == KILN_K_const && !b)
        return kiln_k_const_bits(k, like.dtype, lanes, (uint64_t)like.imm);
    kiln_instr instr = {.op = KILN_K_shuffle,
                        .dtype = like.dtype,
                        .lanes = (uint16_t)lanes,
                        .args = {a, b},
                        .imm = k->ints.n};
    for (uint32_t i = 0; i < lanes; i++) kiln_vec_push(&k->ints, &k->scope->arena, from[i]);
    return kiln_kernel_push(k, &instr);
}

kiln_kv kiln_k_extract(kiln_kernel *k, kiln_kv a, uint32_t lane)
{
    return kiln_k_shuffle(k, a, 0, 1, &(int64_t){lane});
}

kiln_kv kiln_k_lookup(kiln_kernel *k, uint32_t table, kiln_kv index)
{
    kiln_dtype dtype = table < k->tables.n ? k->tables.at[table].dtype : KILN_NO_DTYPE;
    kiln_instr instr = {.op = KILN_K_lookup,
                        .dtype = (uint8_t)dtype,
                        .lanes = at(k, index)->lanes,
                        .args = {index},
                        .imm = table};
    return kiln_kernel_push(k, &instr);
}
