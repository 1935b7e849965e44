/* The statements of a kernel in C, shared by the C and CUDA printers. Each operation is a template
 * in which $a $b $c are the operands at lane l, $T the result's type, $U an unsigned type in which
 * integer arithmetic wraps, $N the unsigned type of the operand's width, $S and $R the operand's
 * and the result's dtype, $Z the bits by which the operand is narrower than 64. */
#include "codegen/c/print_c.h"

typedef struct printer {
    const kiln_kernel *k;
    const kiln_c_dialect *dialect;
    kiln_text *text;
    int depth;
} printer;

/* Bytes of words, by their signs. */
#define DOT4(a, b)                                                                                 \
    "(kiln_i32)((kiln_u32)$c + (kiln_u32)((kiln_" a ")$a * (kiln_" b ")$b) + "                     \
    "(kiln_u32)((kiln_" a ")($a >> 8) * (kiln_" b ")($b >> 8)) + "                                 \
    "(kiln_u32)((kiln_" a ")($a >> 16) * (kiln_" b ")($b >> 16)) + "                               \
    "(kiln_u32)((kiln_" a ")($a >> 24) * (kiln_" b ")($b >> 24)))"

#define DOT2(shift, c)                                                                             \
    "kiln_flush(kiln_fma_f32(kiln_upper(kiln_bits_f32($a)" shift                                   \
    "), kiln_upper(kiln_bits_f32($b)" shift "), " c "))"

static const struct {
    const char *floats, *ints;
} templates[KILN_N_INSTRS] = {
    [KILN_K_add] = {"$a + $b", "($T)(($U)$a + ($U)$b)"},
    [KILN_K_sub] = {"$a - $b", "($T)(($U)$a - ($U)$b)"},
    [KILN_K_mul] = {"$a * $b", "($T)(($U)$a * ($U)$b)"},
    [KILN_K_div] = {"kiln_div_$S($a, $b)", "($T)($a / $b)"},
    [KILN_K_rem] = {NULL, "($T)($a % $b)"},
    [KILN_K_neg] = {"kiln_neg_$S($a)", "($T)(0u - ($U)$a)"},
    [KILN_K_abs] = {"kiln_abs_$S($a)", NULL},
    [KILN_K_copysign] = {"kiln_copysign_$S($a, $b)", NULL},
    [KILN_K_fma] = {"kiln_fma_$S($a, $b, $c)", NULL},
    [KILN_K_sqrt] = {"kiln_sqrt_$S($a)", NULL},
    [KILN_K_floor] = {"kiln_floor_$S($a)", NULL},
    [KILN_K_ceil] = {"kiln_ceil_$S($a)", NULL},
    [KILN_K_trunc] = {"kiln_trunc_$S($a)", NULL},
    [KILN_K_round_even] = {"kiln_round_even_$S($a)", NULL},
    [KILN_K_scale] = {"kiln_scale_$S($a, $b)", NULL},
    [KILN_K_max] = {"kiln_max_$S($a, $b)", "$a > $b ? $a : $b"},
    [KILN_K_min] = {"kiln_min_$S($a, $b)", "$a < $b ? $a : $b"},
    [KILN_K_max_fast] = {"$a > $b ? $a : $b", "$a > $b ? $a : $b"},
    [KILN_K_min_fast] = {"$a < $b ? $a : $b", "$a < $b ? $a : $b"},
    [KILN_K_eq] = {"$a == $b", "$a == $b"},
    [KILN_K_ne] = {"$a != $b", "$a != $b"},
    [KILN_K_lt] = {"$a < $b", "$a < $b"},
    [KILN_K_le] = {"$a <= $b", "$a <= $b"},
    [KILN_K_gt] = {"$a > $b", "$a > $b"},
    [KILN_K_ge] = {"$a >= $b", "$a >= $b"},
    [KILN_K_and] = {NULL, "($T)($a & $b)"},
    [KILN_K_or] = {NULL, "($T)($a | $b)"},
    [KILN_K_xor] = {NULL, "($T)($a ^ $b)"},
    [KILN_K_not] = {NULL, "($T)~$a"},
    [KILN_K_shl] = {NULL, "($T)(($U)$a << $b)"},
    [KILN_K_shr] = {NULL, "($T)($a >> $b)"},
    [KILN_K_popcnt] = {NULL, "($T)kiln_popcnt(($N)$a)"},
    [KILN_K_clz] = {NULL, "($T)(kiln_clz(($N)$a) - $Z)"},
    [KILN_K_select] = {"$a ? $b : $c", "$a ? $b : $c"},
    [KILN_K_dot4_i8] = {NULL, DOT4("i8", "i8")},
    [KILN_K_dot4_u8i8] = {NULL, DOT4("u8", "i8")},
    [KILN_K_dot4_i8u8] = {NULL, DOT4("i8", "u8")},
    [KILN_K_dot4_u8] = {NULL, DOT4("u8", "u8")},
    [KILN_K_dot2_bf16] = {DOT2(" << 16", DOT2("", "kiln_flush($c)")), NULL},
    [KILN_K_splat] = {"$a", "$a"},
};

static const kiln_instr *at(const printer *p, kiln_kv value)
{
    return kiln_kernel_at(p->k, value);
}

static const char *unsigned_name(size_t bytes)
{
    static const char *const names[] = {
        [1] = "kiln_u8", [2] = "kiln_u16", [4] = "kiln_u32", [8] = "kiln_u64"};
    return names[bytes];
}

static void print_const(const printer *p, const kiln_instr *instr)
{
    int64_t value;
    if (kiln_dtype_is_float(instr->dtype)) {
        kiln_text_printf(p->text, "kiln_from_%s(0x%llx%s)", kiln_dtype_name(instr->dtype),
                         (unsigned long long)instr->imm, instr->dtype == KILN_f32 ? "u" : "ull");
        return;
    }
    kiln_kernel_is_const(p->k, (kiln_kv)(instr - p->k->instrs.at), &value);
    bool is_wide = kiln_dtype_bytes(instr->dtype) == 8;
    if (instr->dtype == KILN_i64 && value >= INT32_MIN && value <= INT32_MAX) {
        kiln_text_printf(p->text, "((kiln_i64)%lld)", (long long)value);
    } else {
        kiln_text_printf(p->text, "((kiln_%s)%llu%s)", kiln_dtype_name(instr->dtype),
                         (unsigned long long)instr->imm, is_wide ? "ull" : "u");
    }
}

/* The operand at lane `l` (a scalar for every lane). */
static void print_lane(const printer *p, kiln_kv value, const char *lane)
{
    const kiln_instr *instr = at(p, value);
    if (instr->op == KILN_K_const) {
        print_const(p, instr);
    } else if (instr->op == KILN_K_lanes) {
        kiln_text_printf(p->text, "((kiln_%s)%s)", kiln_dtype_name(instr->dtype), lane);
    } else if (instr->op == KILN_K_tile_begin || instr->op == KILN_K_tile_end) {
        kiln_text_printf(p->text, "((kiln_i64)%s)", kiln_instr_name(instr->op));
    } else if (instr->op == KILN_K_address) {
        kiln_text_printf(p->text, "((kiln_i64)(unsigned long long)p%lld)", (long long)instr->imm);
    } else if (instr->lanes == 1) {
        kiln_text_printf(p->text, "v%u", value);
    } else {
        kiln_text_printf(p->text, "v%u[%s]", value, lane);
    }
}

static void print_template(const printer *p, const kiln_instr *instr, const char *template)
{
    kiln_dtype operand = at(p, instr->args[0])->dtype, result = instr->dtype;
    size_t bytes = kiln_dtype_bytes(operand);
    for (const char *c = template; *c; c++) {
        if (*c != '$') {
            kiln_text_append_n(p->text, c, 1);
            continue;
        }
        switch (*++c) {
        case 'T':
            kiln_text_printf(p->text, "kiln_%s", kiln_dtype_name(result));
            break;
        case 'U':
            kiln_text_append(p->text, unsigned_name(kiln_dtype_bytes(result) == 8 ? 8 : 4));
            break;
        case 'N':
            kiln_text_append(p->text, unsigned_name(bytes));
            break;
        case 'S':
            kiln_text_append(p->text, kiln_dtype_name(operand));
            break;
        case 'R':
            kiln_text_append(p->text, kiln_dtype_name(result));
            break;
        case 'Z':
            kiln_text_printf(p->text, "%u", 64 - 8 * (unsigned)bytes);
            break;
        default:
            print_lane(p, instr->args[*c - 'a'], "l");
            break;
        }
    }
}

#define FLUSHED "kiln_bits_f32(kiln_flush($a))"
#define TO_BF16                                                                                    \
    "(kiln_bf16)(($a != $a ? " FLUSHED " | 0x400000 : " FLUSHED " + 0x7fff + (" FLUSHED            \
    " >> 16 & 1)) >> 16)"

static const char *convert_template(kiln_dtype from, kiln_dtype to)
{
    bool is_half = from == KILN_f16 || to == KILN_f16;
    if (to == KILN_bf16) return TO_BF16;
    if (to == KILN_bool) return "$a != 0";
    if (is_half || (kiln_dtype_is_float(from) && kiln_dtype_is_int(to))) return "kiln_$S_to_$R($a)";
    return "($T)$a";
}

static const char *bitcast_template(kiln_dtype from, kiln_dtype to)
{
    if (kiln_dtype_is_float(from)) return "($T)kiln_bits_$S($a)";
    return kiln_dtype_is_float(to) ? "kiln_from_$R(($N)$a)" : "($T)$a";
}

static const char *template_of(const printer *p, const kiln_instr *instr)
{
    kiln_dtype from = at(p, instr->args[0])->dtype;
    if (instr->op == KILN_K_convert) return convert_template(from, instr->dtype);
    if (instr->op == KILN_K_bitcast) return bitcast_template(from, instr->dtype);
    if (instr->op == KILN_K_not && instr->dtype == KILN_bool) return "!$a";
    return kiln_dtype_is_float(from) ? templates[instr->op].floats : templates[instr->op].ints;
}

static void print_indent(const printer *p)
{
    kiln_text_printf(p->text, "%*s", 4 * p->depth, "");
}

/* "kiln_f32 v7 = " or "kiln_f32 v7[8]; for … v7[l] = ". */
static void open_value(const printer *p, kiln_kv number, const kiln_instr *instr)
{
    print_indent(p);
    if (p->dialect->is_device && instr->lanes > 1) kiln_text_append(p->text, "KILN_WIDE ");
    kiln_text_printf(p->text, "kiln_%s v%u", kiln_dtype_name(instr->dtype), number);
    if (instr->lanes > 1) {
        kiln_text_printf(p->text, "[%u]; KILN_UNROLL for (int l = 0; l < %u; l++) v%u[l]",
                         instr->lanes, instr->lanes, number);
    }
    kiln_text_append(p->text, " = ");
}

/* "" or "for … " before a statement over the lanes of an access. */
static void open_lanes(const printer *p, const kiln_instr *instr)
{
    print_indent(p);
    if (instr->lanes > 1)
        kiln_text_printf(p->text, "KILN_UNROLL for (int l = 0; l < %u; l++) ", instr->lanes);
}

static void print_shuffle(const printer *p, kiln_kv number, const kiln_instr *instr)
{
    int64_t lanes = at(p, instr->args[0])->lanes;
    print_indent(p);
    if (p->dialect->is_device && instr->lanes > 1) kiln_text_append(p->text, "KILN_WIDE ");
    kiln_text_printf(p->text, "kiln_%s v%u", kiln_dtype_name(instr->dtype), number);
    kiln_text_append(p->text, instr->lanes > 1 ? "[] = {" : " = ");
    for (uint32_t i = 0; i < instr->lanes; i++) {
        int64_t from = p->k->ints.at[instr->imm + i];
        const char *lane = kiln_arena_format(p->text->arena, "%lld", (long long)(from % lanes));
        if (i) kiln_text_append(p->text, ", ");
        print_lane(p, instr->args[from >= lanes], lane);
    }
    kiln_text_append(p->text, instr->lanes > 1 ? "};\n" : ";\n");
}

/* Memory. */

static void print_place(const printer *p, const kiln_instr *instr)
{
    bool is_local = instr->imm >= KILN_LOCAL_FIRST;
    bool is_spread = instr->op == KILN_K_gather || instr->op == KILN_K_scatter;
    kiln_text_printf(p->text, "%c%lld[", is_local ? 'l' : 'p',
                     (long long)(is_local ? instr->imm - KILN_LOCAL_FIRST : instr->imm));
    print_lane(p, instr->args[0], "l");
    kiln_text_append(p->text, is_spread || instr->lanes == 1 ? "]" : " + l]");
}

/* On a device, aligned accesses of 8 or 16 bytes are one transaction. */
static bool is_wide_access(const printer *p, const kiln_instr *instr, kiln_kv mask)
{
    size_t bytes = kiln_dtype_bytes(instr->dtype) * instr->lanes;
    bool is_aligned = instr->flags & (KILN_MEM_ALIGNED | KILN_MEM_STREAM);
    return p->dialect->is_device && is_aligned && !mask && instr->dtype != KILN_bool &&
           (bytes == 8 || bytes == 16);
}

static void print_wide_place(const printer *p, const kiln_instr *instr)
{
    bool is_local = instr->imm >= KILN_LOCAL_FIRST;
    kiln_text_printf(p->text, "&%c%lld[", is_local ? 'l' : 'p',
                     (long long)(is_local ? instr->imm - KILN_LOCAL_FIRST : instr->imm));
    print_lane(p, instr->args[0], "0");
    kiln_text_append(p->text, "]");
}

static void print_load(const printer *p, kiln_kv number, const kiln_instr *instr)
{
    if (is_wide_access(p, instr, instr->args[1]) && instr->lanes > 1) {
        print_indent(p);
        kiln_text_printf(p->text, "KILN_WIDE kiln_%s v%u[%u]; kiln_copy%zu(v%u, ",
                         kiln_dtype_name(instr->dtype), number, instr->lanes,
                         kiln_dtype_bytes(instr->dtype) * instr->lanes, number);
        print_wide_place(p, instr);
        kiln_text_append(p->text, ");\n");
        return;
    }
    open_value(p, number, instr);
    if (instr->args[1]) {
        print_lane(p, instr->args[1], "l");
        kiln_text_append(p->text, " ? ");
    }
    print_place(p, instr);
    if (instr->dtype == KILN_bool) kiln_text_append(p->text, " != 0");
    kiln_text_append(p->text, instr->args[1] ? " : 0;\n" : ";\n");
}

static void print_store(const printer *p, const kiln_instr *instr)
{
    bool is_array =
        kiln_instr_rule_of(at(p, instr->args[1])->op) != KILN_RULE_VALUE && instr->lanes > 1;
    if (is_wide_access(p, instr, instr->args[2]) && is_array) {
        print_indent(p);
        kiln_text_printf(p->text, "kiln_copy%zu(", kiln_dtype_bytes(instr->dtype) * instr->lanes);
        print_wide_place(p, instr);
        kiln_text_printf(p->text, ", v%u);\n", instr->args[1]);
        return;
    }
    open_lanes(p, instr);
    if (instr->args[2]) {
        kiln_text_append(p->text, "if (");
        print_lane(p, instr->args[2], "l");
        kiln_text_append(p->text, ") ");
    }
    print_place(p, instr);
    kiln_text_append(p->text, " = ");
    print_lane(p, instr->args[1], "l");
    kiln_text_append(p->text, ";\n");
}

static void print_memory(const printer *p, kiln_kv number, const kiln_instr *instr)
{
    if (instr->op == KILN_K_load || instr->op == KILN_K_gather) {
        print_load(p, number, instr);
    } else if (instr->op != KILN_K_prefetch) {
        print_store(p, instr);
    } else if (!p->dialect->is_device) {
        print_indent(p);
        kiln_text_append(p->text, "__builtin_prefetch(&");
        print_place(p, instr);
        kiln_text_append(p->text, ");\n");
    }
}

static void print_tile(const printer *p, const kiln_instr *instr)
{
    bool is_access = instr->op == KILN_K_tile_load || instr->op == KILN_K_tile_store;
    print_indent(p);
    kiln_text_printf(p->text, "kiln_%s(&tiles[%u]", kiln_instr_name(instr->op),
                     instr->flags & 0xff);
    if (is_access) {
        kiln_text_append(p->text, ", &");
        print_place(p, instr);
        kiln_text_append(p->text, ", ");
        print_lane(p, instr->args[1], "0");
        kiln_text_printf(p->text, " * %zu", kiln_dtype_bytes(instr->dtype));
    } else if (instr->op != KILN_K_tile_zero) {
        kiln_text_printf(p->text, ", &tiles[%u], &tiles[%u]", instr->flags >> 8 & 0xff,
                         instr->flags >> 16 & 0xff);
    }
    kiln_text_append(p->text, ");\n");
}

static void print_lookup(const printer *p, kiln_kv number, const kiln_instr *instr)
{
    bool is_float = kiln_dtype_is_float(instr->dtype);
    open_value(p, number, instr);
    if (is_float) kiln_text_printf(p->text, "kiln_from_%s(", kiln_dtype_name(instr->dtype));
    kiln_text_printf(p->text, "t%lld[", (long long)instr->imm);
    print_lane(p, instr->args[0], "l");
    kiln_text_append(p->text, is_float ? "]);\n" : "];\n");
}

/* Loops. The carries' variables stand before the loop; all nexts take effect at its end. */

static void copy_value(const printer *p, const char *to, kiln_kv number, kiln_kv from)
{
    uint32_t lanes = at(p, from)->lanes;
    const char *place =
        kiln_arena_format(p->text->arena, lanes > 1 ? "%s%u[l] = " : "%s%u = ", to, number);
    print_indent(p);
    if (lanes > 1) kiln_text_printf(p->text, "KILN_UNROLL for (int l = 0; l < %u; l++) ", lanes);
    kiln_text_append(p->text, place);
    print_lane(p, from, "l");
    kiln_text_append(p->text, ";\n");
}

static void declare(const printer *p, const char *name, kiln_kv number)
{
    const kiln_instr *instr = at(p, number);
    print_indent(p);
    if (p->dialect->is_device && instr->lanes > 1) kiln_text_append(p->text, "KILN_WIDE ");
    kiln_text_printf(p->text, "kiln_%s %s%u", kiln_dtype_name(instr->dtype), name, number);
    if (instr->lanes > 1) kiln_text_printf(p->text, "[%u]", instr->lanes);
    kiln_text_append(p->text, ";\n");
}

static kiln_kv carry_after(const printer *p, kiln_kv v)
{
    for (v++; v < p->k->instrs.n; v++) {
        if (at(p, v)->op == KILN_K_carry) return v;
        if (kiln_instr_rule_of(at(p, v)->op) != KILN_RULE_VALUE) return 0;
    }
    return 0;
}

static void print_loop_head(const printer *p, kiln_kv number, const kiln_instr *instr)
{
    bool is_block = p->dialect->is_device && instr->flags == KILN_LOOP_TILES;
    print_indent(p);
    if (is_block || instr->flags == KILN_LOOP_THREADS) {
        kiln_text_printf(p->text, "{ kiln_i64 v%u = %s.x;\n", number,
                         is_block ? "blockIdx" : "threadIdx");
        return;
    }
    if (instr->flags == KILN_LOOP_UNROLL) kiln_text_append(p->text, "KILN_UNROLL ");
    kiln_text_printf(p->text, "for (kiln_i64 v%u = ", number);
    print_lane(p, instr->args[0], "0");
    kiln_text_printf(p->text, "; v%u < ", number);
    print_lane(p, instr->args[1], "0");
    kiln_text_printf(p->text, "; v%u += %lld) {\n", number, (long long)instr->imm);
}

static void print_loop_end(printer *p, kiln_kv loop, kiln_kv end)
{
    const kiln_kernel *k = p->k;
    for (kiln_kv c = carry_after(p, loop); c; c = carry_after(p, c)) declare(p, "n", c);
    for (kiln_kv v = loop + 1; v < end; v++) {
        bool is_own = k->instrs.at[v].op == KILN_K_next;
        for (kiln_kv c = is_own ? carry_after(p, loop) : 0; c; c = carry_after(p, c)) {
            if (c == k->instrs.at[v].args[0]) copy_value(p, "n", c, k->instrs.at[v].args[1]);
        }
    }
    for (kiln_kv c = carry_after(p, loop); c; c = carry_after(p, c)) {
        print_indent(p);
        uint32_t lanes = at(p, c)->lanes;
        if (lanes > 1) {
            kiln_text_printf(p->text, "KILN_UNROLL for (int l = 0; l < %u; l++) v%u[l] = n%u[l];\n",
                             lanes, c, c);
        } else {
            kiln_text_printf(p->text, "v%u = n%u;\n", c, c);
        }
    }
    p->depth--;
    print_indent(p);
    kiln_text_append(p->text, "}\n");
}

static void print_flow(printer *p, kiln_kv number, const kiln_instr *instr)
{
    switch ((int)instr->op) {
    case KILN_K_loop:
        for (kiln_kv c = carry_after(p, number); c; c = carry_after(p, c)) {
            declare(p, "v", c);
            copy_value(p, "v", c, at(p, c)->args[0]);
        }
        print_loop_head(p, number, instr);
        p->depth++;
        break;
    case KILN_K_end:
        print_loop_end(p, (kiln_kv)instr->imm, number);
        break;
    case KILN_K_last:
        declare(p, "v", number);
        copy_value(p, "v", number, instr->args[0]);
        break;
    case KILN_K_barrier:
        print_indent(p);
        kiln_text_append(p->text, "__syncthreads();\n");
        break;
    default:
        break;
    }
}

void kiln_c_print_body(const kiln_kernel *kernel, const kiln_c_dialect *dialect, kiln_text *text)
{
    printer p = {.k = kernel, .dialect = dialect, .text = text, .depth = 1};
    for (kiln_kv v = 1; v < kernel->instrs.n; v++) {
        const kiln_instr *instr = kiln_kernel_at(kernel, v);
        kiln_instr_rule rule = kiln_instr_rule_of(instr->op);
        if (rule == KILN_RULE_VALUE) continue;
        if (rule == KILN_RULE_LOOP) {
            print_flow(&p, v, instr);
        } else if (rule == KILN_RULE_MEMORY) {
            print_memory(&p, v, instr);
        } else if (rule == KILN_RULE_TILE) {
            print_tile(&p, instr);
        } else if (rule == KILN_RULE_SHUFFLE) {
            print_shuffle(&p, v, instr);
        } else if (rule == KILN_RULE_LOOKUP) {
            print_lookup(&p, v, instr);
        } else {
            open_value(&p, v, instr);
            print_template(&p, instr, template_of(&p, instr));
            kiln_text_append(text, ";\n");
        }
    }
}

void kiln_c_print_tables(const kiln_kernel *kernel, const char *symbol,
                         const kiln_c_dialect *dialect, kiln_text *text)
{
    for (uint32_t i = 0; i < kernel->tables.n; i++) {
        const kiln_table *table = &kernel->tables.at[i];
        size_t bytes = kiln_dtype_bytes(table->dtype);
        kiln_text_printf(text, "%s const %s %s_t%u[] = {",
                         dialect->is_device ? "KILN_TABLE" : "static", unsigned_name(bytes), symbol,
                         i);
        for (uint32_t j = 0; j < table->n; j++) {
            uint64_t bits = 0;
            memcpy(&bits, (const char *)table->data + j * bytes, bytes);
            kiln_text_printf(text, "%s0x%llx", j ? ", " : "", (unsigned long long)bits);
            if (bytes == 8) kiln_text_append(text, "ull");
        }
        kiln_text_append(text, "};\n");
    }
}
