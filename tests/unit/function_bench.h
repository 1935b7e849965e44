/* Functions over text graphs: a template in which "$3" stands for three times the rows of the first
 * input, and tensors to call them with. */
#ifndef TESTS_UNIT_FUNCTION_BENCH_H
#define TESTS_UNIT_FUNCTION_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"

static inline kiln_context *bench_context(uint32_t threads)
{
    kiln_context *context = NULL;
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = threads};
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    return context;
}

/* A kiln_build_fn; `user` is the template. */
static inline kiln_status bench_build(void *user, kiln_context *context, const kiln_tensor *inputs,
                                      uint32_t n_inputs, kiln_graph **out_graph)
{
    char text[4096];
    size_t n = 0;
    const char *at = user;
    if (n_inputs == 0) return KILN_INVALID;
    while (*at && n < sizeof text - 32) {
        if (*at != '$') {
            text[n++] = *at++;
            continue;
        }
        char *end;
        long long times = strtoll(at + 1, &end, 10);
        n += (size_t)sprintf(text + n, "%lld", times * (long long)inputs[0].dims[0]);
        at = end;
    }
    return kiln_parse_text(context, text, n, out_graph);
}

/* Ports of a call, with memory of their own. */
typedef struct bench_call {
    kiln_tensor inputs[8], outputs[8];
    kiln_output_type types[8];
    uint32_t n_inputs, n_outputs;
} bench_call;

static inline void bench_add(bench_call *call, kiln_dtype dtype, uint32_t rank, const int64_t *dims)
{
    kiln_tensor *tensor = &call->inputs[call->n_inputs];
    int64_t *copy = malloc((rank + 1) * sizeof *copy), count = 1;
    for (uint32_t i = 0; i < rank; i++) count *= copy[i] = dims[i];
    size_t bytes = (size_t)count * kiln_dtype_bytes(dtype);
    *tensor = (kiln_tensor){dtype, rank, copy, malloc(bytes + 1), bytes};
    uint32_t state = 12345u + 77u * call->n_inputs;
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        int whole = dtype != KILN_f32;
        double value =
            whole ? (double)(state >> 16) / 65536 * 4 : (double)(state >> 8) / (1 << 23) - 1;
        kiln_tensor_set(tensor, i, whole ? (double)(int)value : value);
    }
    call->n_inputs++;
}

/* Asks for the types of the outputs and makes room for them. */
static inline kiln_status bench_prepare(kiln_function *function, bench_call *call)
{
    call->n_outputs = 8;
    kiln_status status = kiln_function_prepare(function, call->inputs, call->n_inputs, call->types,
                                               &call->n_outputs);
    if (status) call->n_outputs = 0;
    for (uint32_t i = 0; i < call->n_outputs; i++) {
        const kiln_output_type *type = &call->types[i];
        call->outputs[i] = (kiln_tensor){type->dtype, type->rank, type->dims,
                                         calloc(1, type->bytes + 1), type->bytes};
    }
    return status;
}

static inline kiln_status bench_run(kiln_function *function, bench_call *call)
{
    return kiln_function_run(function, call->inputs, call->n_inputs, call->outputs,
                             call->n_outputs);
}

static inline void bench_close(bench_call *call)
{
    for (uint32_t i = 0; i < call->n_inputs; i++) {
        free((void *)(uintptr_t)call->inputs[i].dims);
        free(call->inputs[i].data);
    }
    for (uint32_t i = 0; i < call->n_outputs; i++) free(call->outputs[i].data);
}
#endif
