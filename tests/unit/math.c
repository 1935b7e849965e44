/* Every elementwise op in every dtype it takes and kernels have becomes a well-formed kernel on
 * every CPU model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codegen/math.h"

static const kiln_dtype dtypes[] = {KILN_bool, KILN_i8,  KILN_u8,  KILN_i16, KILN_u16,
                                    KILN_i32,  KILN_u32, KILN_i64, KILN_u64, KILN_bf16,
                                    KILN_f16,  KILN_f32, KILN_f64};
#define N_DTYPES (sizeof dtypes / sizeof *dtypes)

static bool is_float(kiln_dtype dtype)
{
    return dtype >= KILN_bf16;
}

static bool takes(kiln_dtype_set set, kiln_dtype dtype)
{
    switch (set) {
    case KILN_TYPES_FLOAT: return is_float(dtype);
    case KILN_TYPES_INTEGER: return !is_float(dtype) && dtype != KILN_bool;
    case KILN_TYPES_NUMBER: return dtype != KILN_bool;
    case KILN_TYPES_BITS: return !is_float(dtype);
    case KILN_TYPES_BOOL: return dtype == KILN_bool;
    case KILN_TYPES_FIELD: return is_float(dtype);
    case KILN_TYPES_ARITHMETIC: return dtype != KILN_bool;
    case KILN_TYPES_COMPLEX: return false;
    case KILN_TYPES_ORDERED:
    case KILN_TYPES_ANY: return true;
    }
    return false;
}

static kiln_kv load(kiln_kernel *k, uint32_t buffer, kiln_dtype dtype, uint32_t lanes)
{
    kiln_kv bits = kiln_k_load(k, buffer, kiln_k_const_i64(k, 0), lanes, 0, 0);
    return kiln_math_from_storage(k, bits, dtype);
}

static uint32_t add_buffer(kiln_kernel *k, kiln_dtype dtype, bool is_written)
{
    kiln_param param = {.dtype = kiln_storage_dtype(dtype),
                        .n_elements = 64,
                        .is_read = !is_written,
                        .is_written = is_written,
                        .alignment = 64};
    return kiln_kernel_add_param(k, &param);
}

static kiln_kernel *op_kernel(kiln_scope *scope, const kiln_machine *machine, kiln_op op,
                              kiln_dtype dtype, kiln_dtype result)
{
    const kiln_op_row *row = &kiln_op_rows[op];
    kiln_kernel *k = kiln_kernel_create(scope, machine, row->name);
    kiln_kv args[3], begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    uint32_t buffers[3], lanes = 8;
    for (uint32_t i = 0; i < row->min_inputs; i++) {
        bool is_condition = op == KILN_OP_select && i == 0;
        buffers[i] = add_buffer(k, is_condition ? KILN_bool : dtype, false);
    }
    uint32_t out = add_buffer(k, result, true);
    kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    for (uint32_t i = 0; i < row->min_inputs; i++) {
        bool is_condition = op == KILN_OP_select && i == 0;
        args[i] = load(k, buffers[i], is_condition ? KILN_bool : dtype, lanes);
    }
    kiln_kv value = kiln_math_op(k, op, dtype, result, args);
    assert_int_equal(kiln_kernel_at(k, value)->dtype, kiln_compute_dtype(result));
    assert_int_equal(kiln_kernel_at(k, value)->lanes, lanes);
    kiln_k_store(k, out, kiln_k_const_i64(k, 0), kiln_math_to_storage(k, value, result), 0, 0);
    kiln_k_end(k);
    k->n_tiles = 1;
    return k;
}

static void check_op(const kiln_machine *machine, kiln_op op, kiln_dtype dtype, kiln_dtype result)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_kernel *k = op_kernel(&scope, machine, op, dtype, result);
        kiln_status status = kiln_kernel_verify(k, &error);
        if (status)
            print_message("%s %s: %s\n", kiln_op_rows[op].name, kiln_dtype_name(dtype),
                          error.message);
        assert_int_equal(status, KILN_OK);
    }
    if (kiln_scope_close(&scope)) fail_msg("%s %s", kiln_op_rows[op].name, error.message);
}

static void check_machine(const kiln_machine *machine)
{
    for (int op = 1; op < KILN_N_OPS; op++) {
        const kiln_op_row *row = &kiln_op_rows[op];
        if (row->class_ != KILN_ELEMENTWISE || op == KILN_OP_complex) continue;
        for (size_t i = 0; i < N_DTYPES; i++) {
            bool changes = op == KILN_OP_convert || op == KILN_OP_bitcast;
            bool takes_it = op == KILN_OP_select || takes(row->types, dtypes[i]);
            for (size_t j = 0; takes_it && changes && j < N_DTYPES; j++) {
                bool is_same_size = kiln_dtype_bytes(dtypes[i]) == kiln_dtype_bytes(dtypes[j]);
                if (op == KILN_OP_convert || is_same_size)
                    check_op(machine, (kiln_op)op, dtypes[i], dtypes[j]);
            }
            kiln_dtype result = row->result == KILN_RESULT_BOOL ? KILN_bool : dtypes[i];
            if (takes_it && !changes) check_op(machine, (kiln_op)op, dtypes[i], result);
        }
    }
}

static void every_op_lowers(void **state)
{
    (void)state;
    for (const kiln_machine *machine = kiln_machines; machine->name; machine++) {
        if (machine->kind == KILN_MACHINE_CPU) check_machine(machine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_op_lowers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
