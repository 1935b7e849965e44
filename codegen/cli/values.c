/* Elements of tensors as the command needs them: random ones, and any of them as a number. */
#include "codegen/cli/cli.h"

/* A counter through a 64-bit mixer: element i of input n is the same whatever the order of
 * filling. */
static uint64_t random_bits(uint64_t seed, uint64_t number)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + number * 0xbf58476d1ce4e5b9u + 0x94d049bb133111ebu;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

bool cli_is_whole(kiln_dtype dtype)
{
    static const bool is_whole[] = {
#define KILN_IS_BOOL true
#define KILN_IS_INT true
#define KILN_IS_UINT true
#define KILN_IS_FLOAT false
#define KILN_IS_COMPLEX false
#define KILN_DTYPE(name, number, bits, kind) [number] = KILN_IS_##kind,
#include "kiln/dtypes.def"
#undef KILN_DTYPE
    };
    return is_whole[dtype];
}

/* The dtype of what is counted: complex elements are two numbers. */
static kiln_dtype part_dtype(kiln_dtype dtype)
{
    if (dtype == KILN_c128) return KILN_f64;
    return dtype == KILN_c64 ? KILN_f32 : dtype;
}

size_t cli_count(const kiln_tensor *tensor)
{
    size_t n = part_dtype(tensor->dtype) == tensor->dtype ? 1 : 2;
    for (uint32_t i = 0; i < tensor->rank; i++) n *= (size_t)tensor->dims[i];
    return n;
}

double cli_element(const kiln_tensor *tensor, size_t i)
{
    kiln_tensor parts = *tensor;
    parts.dtype = part_dtype(tensor->dtype);
    return kiln_tensor_get(&parts, (int64_t)i);
}

void cli_fill_random(kiln_tensor *tensor, uint64_t seed)
{
    size_t n = cli_count(tensor);
    bool is_whole = cli_is_whole(tensor->dtype);
    kiln_tensor parts = *tensor;
    parts.dtype = part_dtype(tensor->dtype);
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = random_bits(seed, i);
        float value = (float)((double)(int64_t)bits * 0x1p-63);
        kiln_tensor_set(&parts, (int64_t)i, is_whole ? (double)(bits & 1) : (double)value);
    }
}

void cli_type_string(const kiln_tensor *tensor, char *out, size_t bytes)
{
    size_t n = (size_t)snprintf(out, bytes, "%s[", kiln_dtype_name(tensor->dtype));
    for (uint32_t i = 0; i < tensor->rank && n < bytes; i++) {
        n += (size_t)snprintf(out + n, bytes - n, "%s%lld", i ? "," : "",
                              (long long)tensor->dims[i]);
    }
    if (n < bytes) snprintf(out + n, bytes - n, "]");
}
