/* Cases of differentiation: views and moves. */
#include "tests/unit/gradient_cases.h"

static kiln_value x23(gradient_bench *b)
{
    return bench_draw(b, -2, 2, DIMS(2, 3));
}

BUILD(broadcast, kiln_broadcast(g, bench_draw(b, -2, 2, DIMS(2, 1)), DIMS(3, 2, 4), INTS{1, 2}))
BUILD(broadcast_scalar, kiln_broadcast(g, bench_draw(b, -2, 2, 0, NULL), DIMS(2, 2), NULL))
BUILD(broadcast_add, kiln_mul(g, x23(b), bench_draw(b, -2, 2, DIMS(3))))
BUILD(reshape, kiln_reshape(g, x23(b), DIMS(3, 2)))
BUILD(transpose, kiln_transpose(g, bench_draw(b, -2, 2, DIMS(2, 3, 2)), INTS{1, 2, 0}))
BUILD(slice, kiln_slice(g, bench_draw(b, -2, 2, DIMS(3, 7)),
                        &(kiln_slice_options){INTS{1, 1}, INTS{3, 6}, INTS{1, 2}}))
BUILD(slice_one, kiln_slice(g, bench_draw(b, -2, 2, DIMS(7)),
                            &(kiln_slice_options){INTS{2}, INTS{4}, INTS{5}}))
BUILD(slice_empty, kiln_slice(g, x23(b), &(kiln_slice_options){INTS{1, 1}, INTS{1, 3}, NULL}))
BUILD(reverse, kiln_reverse(g, x23(b), 1, INTS{1}))
BUILD(pad, kiln_pad(g, x23(b), bench_draw(b, -2, 2, 0, NULL),
                    &(kiln_pad_options){INTS{1, 0}, INTS{0, 2}, INTS{1, 2}}))
BUILD(pad_crop, kiln_pad(g, bench_draw(b, -2, 2, DIMS(4, 3)), bench_draw(b, -2, 2, 0, NULL),
                         &(kiln_pad_options){INTS{-2, 1}, INTS{1, -1}, INTS{2, 0}}))
BUILD(concat,
      kiln_concat(g, 3, (kiln_value[]){x23(b), bench_draw(b, -2, 2, DIMS(2, 1)), x23(b)}, 1))
BUILD(dynamic_slice,
      kiln_dynamic_slice(g, bench_draw(b, -2, 2, DIMS(3, 4)),
                         kiln_constant(g, KILN_i64, DIMS(2), INTS{1, 7}), INTS{2, 2}))
BUILD(dynamic_update, kiln_dynamic_update(g, bench_draw(b, -2, 2, DIMS(3, 4)), x23(b),
                                          kiln_constant(g, KILN_i64, DIMS(2), INTS{-1, 1})))

#define ROW(op, name) {KILN_OP_##op, #name, build_##name},
const gradient_case move_cases[] = {
    ROW(broadcast, broadcast) ROW(broadcast, broadcast_scalar) ROW(broadcast, broadcast_add)
        ROW(reshape, reshape) ROW(transpose, transpose) ROW(slice, slice) ROW(slice, slice_one)
            ROW(slice, slice_empty) ROW(reverse, reverse) ROW(pad, pad) ROW(pad, pad_crop)
                ROW(concat, concat) ROW(dynamic_slice, dynamic_slice)
                    ROW(dynamic_update, dynamic_update){0},
};
