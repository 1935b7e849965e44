/* Features of the processor, from cpuid, and of the operating system, from xgetbv: a wide register
 * that the system does not save may not be used. AMX state also needs the kernel's permission. */
#include "runtime/cpu.h"

#include <cpuid.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kiln/program.h"

#define ARCH_GET_XCOMP_SUPP 0x1021
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XTILEDATA 18

#define FEATURES_ARE_KNOWN (1ull << 63)

/* State components in XCR0: SSE and AVX; with opmask and the two halves of ZMM; AMX tiles. */
#define XCR0_AVX 0x6u
#define XCR0_AVX512 0xe6u
#define XCR0_AMX 0x60000u

enum { LEAF_1_ECX, LEAF_7_EBX, LEAF_7_ECX, LEAF_7_EDX, LEAF_7_1_EAX, N_WORDS };

typedef struct feature_row {
    const char *name;
    uint64_t feature;
    uint32_t word, bits;
    uint32_t xcr0;
} feature_row;

static const feature_row features_table[] = {
    {"sse4.1", KILN_CPU_SSE41, LEAF_1_ECX, 1u << 19, 0},
    {"avx", KILN_CPU_AVX, LEAF_1_ECX, 1u << 28, XCR0_AVX},
    {"avx2", KILN_CPU_AVX2, LEAF_7_EBX, 1u << 5, XCR0_AVX},
    {"fma", KILN_CPU_FMA, LEAF_1_ECX, 1u << 12, XCR0_AVX},
    {"f16c", KILN_CPU_F16C, LEAF_1_ECX, 1u << 29, XCR0_AVX},
    {"bmi2", KILN_CPU_BMI2, LEAF_7_EBX, 1u << 8, 0},
    {"avx512 f/bw/dq/vl/cd", KILN_CPU_AVX512, LEAF_7_EBX,
     1u << 16 | 1u << 30 | 1u << 17 | 1u << 31 | 1u << 28, XCR0_AVX512},
    {"avx512-vnni", KILN_CPU_AVX512_VNNI, LEAF_7_ECX, 1u << 11, XCR0_AVX512},
    {"avx512-bf16", KILN_CPU_AVX512_BF16, LEAF_7_1_EAX, 1u << 5, XCR0_AVX512},
    {"avx-vnni", KILN_CPU_AVX_VNNI, LEAF_7_1_EAX, 1u << 4, XCR0_AVX},
    {"avx512-fp16", KILN_CPU_AVX512_FP16, LEAF_7_EDX, 1u << 23, XCR0_AVX512},
    {"amx-bf16", KILN_CPU_AMX_BF16, LEAF_7_EDX, 1u << 22 | 1u << 24, XCR0_AMX},
    {"amx-int8", KILN_CPU_AMX_INT8, LEAF_7_EDX, 1u << 25 | 1u << 24, XCR0_AMX},
};

#define N_FEATURES (sizeof features_table / sizeof *features_table)

static uint32_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool amx_is_supported(void)
{
    uint64_t supported = 0;
    long result = syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &supported);
    return result == 0 && supported >> XTILEDATA & 1;
}

static uint64_t ask_processor(void)
{
    uint32_t words[N_WORDS] = {0}, a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    words[LEAF_1_ECX] = c;
    bool has_xsave = c >> 27 & 1; /* OSXSAVE: the system uses xsave and xgetbv is allowed */
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        words[LEAF_7_EBX] = b;
        words[LEAF_7_ECX] = c;
        words[LEAF_7_EDX] = d;
        if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) words[LEAF_7_1_EAX] = a;
    }
    uint32_t xcr0 = has_xsave ? read_xcr0() : 0;
    if ((xcr0 & XCR0_AMX) && !amx_is_supported()) xcr0 &= ~XCR0_AMX;
    uint64_t found = 0;
    for (size_t i = 0; i < N_FEATURES; i++) {
        const feature_row *row = &features_table[i];
        bool has_bits = (words[row->word] & row->bits) == row->bits;
        if (has_bits && (xcr0 & row->xcr0) == row->xcr0) found |= row->feature;
    }
    return found;
}

/* The only mutable global, and whoever writes it writes the same. */
uint64_t kiln_cpu_detect(void)
{
    static _Atomic uint64_t known;
    uint64_t features = atomic_load_explicit(&known, memory_order_relaxed);
    if (!features) {
        features = ask_processor() | FEATURES_ARE_KNOWN;
        atomic_store_explicit(&known, features, memory_order_relaxed);
    }
    return features & ~FEATURES_ARE_KNOWN;
}

uint64_t kiln_cpu_worthwhile(uint64_t features)
{
    uint32_t a, b, c, d;
    if (features & KILN_CPU_AMX_BF16) return features; /* tiles take its place */
    bool is_intel = __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx;
    return is_intel ? features & ~KILN_CPU_AVX512_BF16 : features;
}

bool kiln_cpu_enable(uint64_t features)
{
    if (!(features & (KILN_CPU_AMX_BF16 | KILN_CPU_AMX_INT8))) return true;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0;
}

void kiln_cpu_names(uint64_t features, char *out_text, size_t bytes)
{
    size_t n = 0;
    if (bytes) out_text[0] = 0;
    for (size_t i = 0; i < N_FEATURES; i++) {
        if (!(features & features_table[i].feature)) continue;
        const char *name = features_table[i].name;
        size_t length = strlen(name), comma = n ? 2 : 0;
        if (n + comma + length + 1 > bytes) return;
        memcpy(out_text + n, ", ", comma);
        memcpy(out_text + n + comma, name, length + 1);
        n += comma + length;
        features &= ~features_table[i].feature;
    }
    if (features && n + 19 < bytes) strcpy(out_text + n, n ? ", a newer one" : "a newer one");
}
