/* Elements of constants: a splat repeated, memory copied, or a stretch of a file read by pread into
 * the place where it is wanted. A file is never mapped, because a mapped file that shrinks kills
 * the process; a stamp taken when it was checked tells whether it is still the same. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "graph/describe.h"

uint64_t kiln_file_stamp(const struct stat *about)
{
    uint64_t hash = kiln_hash_u64(KILN_HASH_SEED, (uint64_t)about->st_dev);
    hash = kiln_hash_u64(hash, (uint64_t)about->st_ino);
    hash = kiln_hash_u64(hash, (uint64_t)about->st_size);
    hash = kiln_hash_u64(hash, (uint64_t)about->st_mtim.tv_sec);
    return kiln_hash_u64(hash, (uint64_t)about->st_mtim.tv_nsec) | 1;
}

static void close_file(void *fd)
{
    close(*(int *)fd);
}

static int *open_file(kiln_scope *scope, const kiln_literal *literal)
{
    int *fd = kiln_new(&scope->arena, int);
    *fd = open(literal->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const char *name = kiln_quoted(&scope->arena, literal->file);
    if (*fd < 0) kiln_fail(scope, KILN_IO, "constant: %s: %s", name, strerror(errno));
    kiln_scope_defer(scope, close_file, fd);
    struct stat about;
    if (fstat(*fd, &about) || !S_ISREG(about.st_mode)) {
        kiln_fail(scope, KILN_IO, "constant: %s is no regular file", name);
    }
    if (literal->stamp && literal->stamp != kiln_file_stamp(&about)) {
        kiln_fail(scope, KILN_IO,
                  "constant: %s has changed since the graph was built; expected the same file",
                  name);
    }
    return fd;
}

static void read_file(kiln_scope *scope, const kiln_literal *literal, kiln_stretch part, char *out)
{
    int *fd = open_file(scope, literal);
    int64_t from = literal->offset + part.offset;
    for (int64_t done = 0; done < part.bytes;) {
        ssize_t n = pread(*fd, out + done, (size_t)(part.bytes - done), from + done);
        if (n < 0 && errno == EINTR) continue;
        if (n > 0) {
            done += n;
            continue;
        }
        const char *name = kiln_quoted(&scope->arena, literal->file);
        if (n < 0) kiln_fail(scope, KILN_IO, "constant: %s: %s", name, strerror(errno));
        kiln_fail(scope, KILN_IO, "constant: %s ends at byte %lld; expected %lld more", name,
                  (long long)(from + done), (long long)(part.bytes - done));
    }
    kiln_scope_keep(scope, fd);
    close(*fd);
}

/* All elements of a byte of a packed splat; behind the last one of the tensor zeros. */
static void fill_bytes(const kiln_type *type, kiln_stretch part, uint8_t *bytes)
{
    int64_t bits = (int64_t)kiln_dtype_bits(type->dtype), rest = type->n_elements % (8 / bits);
    for (int64_t i = 0; i < part.bytes; i++) {
        for (int64_t done = bits; done < 8; done *= 2) bytes[i] |= (uint8_t)(bytes[i] << done);
    }
    if (rest && part.offset + part.bytes == type->bytes)
        bytes[part.bytes - 1] &= (uint8_t)((1 << rest * bits) - 1);
}

void kiln_literal_read_part(kiln_scope *scope, const kiln_type *type, const kiln_literal *literal,
                            kiln_stretch part, void *out)
{
    size_t element_bytes = (size_t)literal->bytes;
    char *at = out;
    if (part.bytes == 0) return;
    switch (literal->kind) {
    case KILN_LITERAL_SPLAT:
        for (int64_t i = 0; i < part.bytes; i += literal->bytes) {
            memcpy(at + i, literal->data, element_bytes);
        }
        if (kiln_dtype_bits(type->dtype) < 8) fill_bytes(type, part, out);
        return;
    case KILN_LITERAL_BYTES:
    case KILN_LITERAL_BLOB:
        memcpy(out, (const char *)literal->data + part.offset, (size_t)part.bytes);
        return;
    case KILN_LITERAL_FILE:
        read_file(scope, literal, part, out);
        for (int64_t i = 0; type->dtype == KILN_bool && i < part.bytes; i++) at[i] = at[i] != 0;
        return;
    }
}

void kiln_literal_read(kiln_scope *scope, const kiln_type *type, const kiln_literal *literal,
                       void *out)
{
    kiln_literal_read_part(scope, type, literal, (kiln_stretch){0, type->bytes}, out);
}
