/* The machine models: fixed numbers under fixed names. LLVM's features are spelled out, so that
 * code does not change with what a compiler release files under a processor name. Rates are round
 * figures of one core near 3 GHz (CPU) or of a whole device (GPU); the cost model only compares
 * with them. */
#include "passes/machine.h"

#include <string.h>

#include "kiln/program.h"

#define FEATURES_V1 "+cmov,+cx8,+fxsr,+mmx,+sse,+sse2"
#define FEATURES_V3                                                                                \
    FEATURES_V1 ",+cx16,+sahf,+popcnt,+sse3,+ssse3,+sse4.1,+sse4.2,+crc32,+xsave,+avx,+avx2,"      \
                "+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe"
#define FEATURES_V4                                                                                \
    FEATURES_V3 ",+evex512,+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl,-prefer-256-bit"
#define FEATURES_BF16 FEATURES_V4 ",+avx512vnni,+avx512bf16"
#define FEATURES_AMX FEATURES_BF16 ",+amx-tile,+amx-bf16,+amx-int8"

#define CPU_V3                                                                                     \
    (KILN_CPU_SSE41 | KILN_CPU_AVX | KILN_CPU_AVX2 | KILN_CPU_FMA | KILN_CPU_F16C | KILN_CPU_BMI2)
#define CPU_V4 (CPU_V3 | KILN_CPU_AVX512)
#define CPU_BF16 (CPU_V4 | KILN_CPU_AVX512_VNNI | KILN_CPU_AVX512_BF16)
#define CPU_AMX (CPU_BF16 | KILN_CPU_AMX_BF16 | KILN_CPU_AMX_INT8)

#define KIB 1024
#define MIB (1024 * 1024)

/* Rows of the table are a model and what they add to it. */
#define CPU_MODEL                                                                                  \
    .kind = KILN_MACHINE_CPU, .l1_bytes = 48 * KIB, .l2_bytes = 2 * MIB, .l3_bytes = 32 * MIB,     \
    .bytes_per_ns = 15, .memory_bytes_per_ns = 58, .launch_ns = 400
#define MODEL_V3                                                                                   \
    CPU_MODEL, .llvm_cpu = "x86-64-v3", .vector_bytes = 32, .n_vector_registers = 16,              \
               .has_fma = true, .has_round = true, .has_f16 = true, .l2_bytes_per_ns = 50,         \
               .l3_bytes_per_ns = 20, .flops_per_ns = 92
#define MODEL_V4                                                                                   \
    CPU_MODEL, .llvm_cpu = "x86-64-v4", .vector_bytes = 64, .n_vector_registers = 32,              \
               .has_fma = true, .has_round = true, .has_f16 = true, .has_scale = true,             \
               .l2_bytes_per_ns = 70, .l3_bytes_per_ns = 20, .flops_per_ns = 190
#define GPU_MODEL                                                                                  \
    .kind = KILN_MACHINE_GPU, .llvm_features = "", .vector_bytes = 16, .n_vector_registers = 64,   \
    .has_fma = true, .has_round = true, .has_f16 = true

const kiln_machine kiln_machines[] = {
    {.name = "x86-64",
     CPU_MODEL,
     .llvm_cpu = "x86-64",
     .llvm_features = FEATURES_V1,
     .vector_bytes = 16,
     .n_vector_registers = 16,
     .l2_bytes_per_ns = 30,
     .l3_bytes_per_ns = 18,
     .flops_per_ns = 22},
    {.name = "x86-64-v3", MODEL_V3, .llvm_features = FEATURES_V3, .cpu_features = CPU_V3},
    {.name = "x86-64-v3-vnni",
     MODEL_V3,
     .llvm_features = FEATURES_V3 ",+avxvnni",
     .cpu_features = CPU_V3 | KILN_CPU_AVX_VNNI,
     .plain = "x86-64-v3",
     .has_vnni = true},
    {.name = "x86-64-v4", MODEL_V4, .llvm_features = FEATURES_V4, .cpu_features = CPU_V4},
    {.name = "x86-64-vnni",
     MODEL_V4,
     .llvm_features = FEATURES_V4 ",+avx512vnni",
     .cpu_features = CPU_V4 | KILN_CPU_AVX512_VNNI,
     .plain = "x86-64-v4",
     .has_vnni = true},
    {.name = "x86-64-bf16",
     MODEL_V4,
     .llvm_features = FEATURES_BF16,
     .cpu_features = CPU_BF16,
     .plain = "x86-64-vnni",
     .has_bf16_dot = true,
     .has_vnni = true},
    {.name = "x86-64-amx",
     MODEL_V4,
     .llvm_features = FEATURES_AMX,
     .cpu_features = CPU_AMX,
     .plain = "x86-64-v4",
     .has_bf16_dot = true,
     .has_vnni = true,
     .has_amx = true},
    {.name = "sm_80",
     GPU_MODEL,
     .llvm_cpu = "sm_80",
     .l1_bytes = 163 * KIB,
     .l2_bytes = 40 * MIB,
     .l3_bytes = 40 * MIB,
     .l2_bytes_per_ns = 4000,
     .l3_bytes_per_ns = 4000,
     .bytes_per_ns = 1500,
     .memory_bytes_per_ns = 1500,
     .flops_per_ns = 19500,
     .launch_ns = 2000},
    {.name = "sm_90a",
     GPU_MODEL,
     .llvm_cpu = "sm_90a",
     .l1_bytes = 227 * KIB,
     .l2_bytes = 50 * MIB,
     .l3_bytes = 50 * MIB,
     .l2_bytes_per_ns = 7000,
     .l3_bytes_per_ns = 7000,
     .bytes_per_ns = 4000,
     .memory_bytes_per_ns = 4000,
     .flops_per_ns = 60000,
     .launch_ns = 1500},
    {0},
};

const kiln_machine *kiln_machine_find(const char *name)
{
    for (const kiln_machine *machine = kiln_machines; machine->name; machine++) {
        if (strcmp(machine->name, name) == 0) return machine;
    }
    return NULL;
}

const kiln_machine *kiln_machine_best(uint64_t cpu_features)
{
    const kiln_machine *best = &kiln_machines[0];
    for (const kiln_machine *machine = kiln_machines; machine->name; machine++) {
        if (machine->kind != KILN_MACHINE_CPU) continue;
        if ((machine->cpu_features & ~cpu_features) == 0) best = machine;
    }
    return best;
}
