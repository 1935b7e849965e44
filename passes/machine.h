/* What passes and lowerings may know about a target: numbers only. Models are named and fixed, so
 * that the same name gives the same code everywhere; detection only picks a name and a thread
 * count. */
#ifndef KILN_PASSES_MACHINE_H
#define KILN_PASSES_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum kiln_machine_kind { KILN_MACHINE_CPU, KILN_MACHINE_GPU } kiln_machine_kind;

typedef struct kiln_machine {
    const char *name; /* "x86-64", "x86-64-v3", "x86-64-v3-vnni", "x86-64-v4", "x86-64-vnni",
                         "x86-64-bf16", "x86-64-amx", "sm_80", "sm_90a" */
    kiln_machine_kind kind;
    const char *llvm_cpu;   /* "x86-64-v4" */
    const char *llvm_features;
    uint64_t cpu_features;  /* KILN_CPU_ bits that code for it needs */
    const char *plain;     /* the model under it, for kernels without its special instructions */
    uint32_t vector_bytes;  /* 16, 32, 64; GPU: 16 per thread */
    uint32_t n_vector_registers;
    bool has_fma;           /* else fma is expanded to mul + add */
    bool has_round;         /* floor, ceil, trunc, round_even as instructions */
    bool has_scale;         /* a * 2^b as an instruction */
    bool has_f16;           /* exact f16 <-> f32 conversion instructions */
    bool has_bf16_dot, has_vnni, has_amx;
    int64_t l1_bytes, l2_bytes, l3_bytes; /* per core, l3 shared */
    double flops_per_ns;    /* f32, one core; GPU: the whole device, which counts as one core */
    double l2_bytes_per_ns, l3_bytes_per_ns; /* one core */
    double bytes_per_ns;    /* memory, one core; all cores share memory_bytes_per_ns */
    double memory_bytes_per_ns;
    double launch_ns;       /* cost of one more step */
} kiln_machine;

/* The model of that name, or NULL. */
const kiln_machine *kiln_machine_find(const char *name);

/* All models, for messages and tests; ends with a NULL name. */
extern const kiln_machine kiln_machines[];

/* The best CPU model whose features are all in `cpu_features`. */
const kiln_machine *kiln_machine_best(uint64_t cpu_features);
#endif
