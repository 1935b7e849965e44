/* What generated code looks like: the kernel and program ABI. Standalone: needs <stdint.h> only.
 *
 * A program is constant data: kernels (code), buffers (where values live) and steps (what to run
 * in which order). The just-in-time compiler fills one in memory; a compiled shared object exports
 * one as PREFIX_program. Fields are appended, never reordered; a reader refuses a newer abi.
 *
 * Law of a kernel: it allocates nothing, cannot fail, touches only its buffers and its scratch, has
 * no globals and calls nothing. Tiles are independent: any order, any thread, any split. */
#ifndef KILN_PROGRAM_H
#define KILN_PROGRAM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KILN_PROGRAM_ABI 2u /* 1: up to device_kernels */
#define KILN_NONE 0xffffffffu

typedef struct kiln_kernel_args {
    void *const *buffers;  /* one pointer per operand of the step, in the kernel's order */
    const int64_t *sizes;  /* reserved for kernels with run-time sizes; may be NULL */
    void *scratch;         /* this worker's scratch: program->scratch_bytes, 64-byte aligned */
} kiln_kernel_args;

/* Runs tiles tile_begin … tile_end - 1 of the step. */
typedef void kiln_kernel_fn(const kiln_kernel_args *args, uint32_t tile_begin, uint32_t tile_end);

/* Features of x86-64 that code may need; kiln_program.cpu_features is a set of these. */
#define KILN_CPU_SSE41 0x1ull
#define KILN_CPU_AVX 0x2ull
#define KILN_CPU_AVX2 0x4ull
#define KILN_CPU_FMA 0x8ull
#define KILN_CPU_F16C 0x10ull
#define KILN_CPU_BMI2 0x20ull
#define KILN_CPU_AVX512 0x40ull /* F, BW, DQ, VL and CD together */
#define KILN_CPU_AVX512_VNNI 0x80ull
#define KILN_CPU_AVX512_BF16 0x100ull
#define KILN_CPU_AVX512_FP16 0x200ull
#define KILN_CPU_AMX_BF16 0x400ull
#define KILN_CPU_AMX_INT8 0x800ull
#define KILN_CPU_AVX_VNNI 0x1000ull /* of 256 bits, without AVX-512 */

typedef enum kiln_buffer_kind {
    KILN_BUFFER_INPUT = 1,    /* the caller's; index = input number */
    KILN_BUFFER_OUTPUT = 2,   /* the caller's; index = output number */
    KILN_BUFFER_CONSTANT = 3, /* offset into constants */
    KILN_BUFFER_ARENA = 4,    /* offset into the arena of the workspace */
} kiln_buffer_kind;

typedef struct kiln_buffer_row {
    uint32_t kind;   /* kiln_buffer_kind */
    uint32_t index;  /* INPUT and OUTPUT: which one; else KILN_NONE */
    int64_t offset;  /* CONSTANT and ARENA: bytes, a multiple of 64 */
    int64_t bytes;   /* what a kernel may touch */
} kiln_buffer_row;

/* An input or output of the program, dense and row-major. */
typedef struct kiln_port_row {
    const char *name;
    uint32_t dtype;      /* kiln_dtype */
    uint32_t rank;
    const int64_t *dims;
    int64_t bytes;
    uint32_t donated_to; /* input: the output that may share its memory; output whose size depends
                            on the data: the i64 output that counts it; else KILN_NONE */
    uint32_t counted_axis; /* of such an output, else 0; `dims` are its bound, and the elements of
                              the shape that has the count there stand dense at the front */
} kiln_port_row;

typedef enum kiln_step_kind {
    KILN_STEP_KERNEL = 1,  /* target: kernel */
    KILN_STEP_PACK = 2,    /* a kernel that packs an operand; told apart in profiles */
    KILN_STEP_COPY = 3,    /* operand 0 to operand 1, whole buffers of equal bytes; with an operand
                              2, an i64 k: to stretch k of operand 1, of which there are several of
                              operand 0's bytes; nowhere when there is no such stretch */
    KILN_STEP_LIBRARY = 4, /* a function of the context's; target: its signature in strings; n_tiles
                              operands are inputs, the others outputs */
    KILN_STEP_BRANCH = 5,  /* operand 0 is bool: 0 continues, else jumps to step `target` */
    KILN_STEP_JUMP = 6,    /* target: step */
    KILN_STEP_CHECK = 7,   /* operand 0 is i64: not 0 ends the run with RANGE, sentence `target` */
} kiln_step_kind;

typedef struct kiln_step_row {
    uint32_t kind;          /* kiln_step_kind */
    uint32_t target;        /* by kind, above */
    uint32_t first_operand; /* in kiln_program.operands */
    uint32_t n_operands;
    uint32_t n_tiles;       /* KERNEL and PACK: 0 runs nothing; LIBRARY: inputs */
    uint32_t region;        /* neighbours of one number > 0 may share a parallel region */
    uint64_t cost;          /* estimated nanoseconds of all tiles on one thread */
    uint32_t label;         /* in strings: what profiles call the step, or KILN_NONE */
    uint32_t n_written;     /* KERNEL and PACK: the last n_written operands are written, the others
                               only read; 0: not known, nothing runs beside the step */
} kiln_step_row;

/* A kernel for a device: code that its driver loads. */
typedef struct kiln_device_kernel {
    const void *image;     /* cubin */
    int64_t image_bytes;
    const char *symbol;
    uint32_t block_threads;
    uint32_t shared_bytes; /* dynamic shared memory of a block */
} kiln_device_kernel;

typedef struct kiln_program {
    uint32_t abi;          /* KILN_PROGRAM_ABI */
    uint32_t struct_bytes; /* sizeof(kiln_program) where it was made */
    const char *name;
    const char *target;    /* machine model: "x86-64-v4", "sm_90a" */
    const char *producer;  /* "kiln 0.1.0" */
    uint64_t cpu_features; /* all of them must be present */

    const kiln_port_row *inputs;
    const kiln_port_row *outputs;
    const kiln_buffer_row *buffers;
    const uint32_t *operands;        /* buffer numbers; steps own stretches of it */
    const kiln_step_row *steps;
    kiln_kernel_fn *const *kernels;
    const char *const *kernel_names;
    const char *const *strings;      /* sentences of checks, labels of steps */
    uint32_t n_inputs, n_outputs, n_buffers, n_operands, n_steps, n_kernels, n_strings;
    uint32_t flags;                  /* KILN_PROGRAM_FLUSH_DENORMALS */

    const void *constants;           /* 64-byte aligned */
    int64_t constant_bytes;
    int64_t arena_bytes;             /* per workspace */
    int64_t scratch_bytes;           /* per worker */

    const kiln_device_kernel *device_kernels; /* for a device: n_kernels of them, and `kernels` is
                                                 NULL; tiles are blocks. Else NULL */

    /* An open batch: this program runs the fewest rows, those of `larger` run more at once, in
     * ascending order, over the same kernels and constants. Any number of rows is run in chunks of
     * these sizes, the last one reaching back over rows that are done; fewer than `rows` are padded
     * in copies of the batched ports at the end of this program's arena. */
    int64_t rows;                             /* of one run; 0: the batch is not open */
    const unsigned char *is_batched;          /* by port, inputs then outputs: whether the first
                                                 dim grows with the rows */
    const struct kiln_program *const *larger; /* of abi 2, without `larger` of their own */
    uint32_t n_larger;
    uint32_t reserved;                        /* 0 */
} kiln_program;

#define KILN_PROGRAM_FLUSH_DENORMALS 0x1u

/* What a LIBRARY step hands to its function: dense tensors in the order and of the types of the
 * signature, "name(f32[2,3], i64[]) -> (f32[2])". */
typedef struct kiln_custom_call_args {
    const char *signature;
    uint32_t n_inputs, n_outputs;
    const void *const *inputs;
    void *const *outputs;
} kiln_custom_call_args;

/* The functions that PREFIX_call of a compiled model runs: `run` returns a kiln_status, 0 for
 * ok. */
typedef struct kiln_custom_function {
    const char *name;
    int (*run)(void *user, const kiln_custom_call_args *args);
    void *user;
} kiln_custom_function;

typedef struct kiln_custom_functions {
    uint32_t n;
    uint32_t reserved; /* 0 */
    const kiln_custom_function *at;
} kiln_custom_functions;

#ifdef __cplusplus
}
#endif
#endif
