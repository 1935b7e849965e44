/* Names and sizes of statuses and dtypes, read from their tables. */
#include "kiln/types.h"

#include <string.h>

const char *kiln_status_name(kiln_status status)
{
    static const char *const names[] = {
#define KILN_STATUS(name, number, meaning) [number] = #name,
#include "kiln/status.def"
#undef KILN_STATUS
    };
    return (unsigned)status < sizeof names / sizeof *names ? names[status] : "?";
}

const char *kiln_status_meaning(kiln_status status)
{
    static const char *const meanings[] = {
#define KILN_STATUS(name, number, meaning) [number] = meaning,
#include "kiln/status.def"
#undef KILN_STATUS
    };
    return (unsigned)status < sizeof meanings / sizeof *meanings ? meanings[status] : "?";
}

static const struct {
    const char *name;
    size_t bits;
} dtypes[] = {
#define KILN_DTYPE(name, number, bits, kind) [number] = {#name, bits},
#include "kiln/dtypes.def"
#undef KILN_DTYPE
};

#define N_DTYPES (sizeof dtypes / sizeof *dtypes)

size_t kiln_dtype_bits(kiln_dtype dtype)
{
    return (unsigned)dtype < N_DTYPES ? dtypes[dtype].bits : 0;
}

size_t kiln_dtype_bytes(kiln_dtype dtype)
{
    return (kiln_dtype_bits(dtype) + 7) / 8;
}

const char *kiln_dtype_name(kiln_dtype dtype)
{
    return (unsigned)dtype < N_DTYPES && dtypes[dtype].name ? dtypes[dtype].name : "?";
}

kiln_dtype kiln_dtype_parse(const char *name)
{
    for (size_t i = 1; name && i < N_DTYPES; i++) {
        if (dtypes[i].name && strcmp(dtypes[i].name, name) == 0) return (kiln_dtype)i;
    }
    return KILN_NO_DTYPE;
}
