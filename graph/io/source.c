/* The bytes of a file from outside, read by pread: never mapped, because a mapped file that shrinks
 * kills the process. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "graph/graph.h"
#include "graph/io/prescan.h"

static void file_close(void *object)
{
    close((int)(intptr_t)object - 1);
}

void kiln_source_open(kiln_source *source, kiln_scope *scope, const char *path)
{
    *source = (kiln_source){.scope = scope, .where = path, .file = -1};
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        kiln_fail(scope, KILN_IO, "%s: %s; expected a readable file", path, strerror(errno));
    /* descriptor + 1, so that a deferred descriptor 0 is not the object NULL */
    kiln_scope_defer(scope, file_close, (void *)(intptr_t)(file + 1));
    struct stat status;
    if (fstat(file, &status) || !S_ISREG(status.st_mode))
        kiln_fail(scope, KILN_IO, "%s: not a regular file; expected a model", path);
    char *full = realpath(path, NULL);
    if (!full) kiln_fail(scope, KILN_IO, "%s: %s; expected a readable file", path, strerror(errno));
    kiln_scope_defer(scope, free, full);
    source->path = full;
    source->file = file;
    source->bytes = status.st_size;
    source->stamp = kiln_file_stamp(&status);
}

void kiln_source_read(const kiln_source *source, int64_t offset, int64_t bytes, void *out)
{
    if (source->memory) {
        if (bytes) memcpy(out, source->memory + offset, (size_t)bytes);
        return;
    }
    for (int64_t done = 0; done < bytes;) {
        ssize_t n = pread(source->file, (char *)out + done, (size_t)(bytes - done), offset + done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            kiln_fail(source->scope, KILN_IO,
                      "%s: byte %" PRId64 ": %s; expected %" PRId64 " bytes more", source->where,
                      offset + done, n ? strerror(errno) : "the file became shorter", bytes - done);
        }
        done += n;
    }
}

size_t kiln_utf8_length(const uint8_t *at, size_t left)
{
    static const uint32_t least[5] = {0, 1, 0x80, 0x800, 0x10000};
    uint8_t c = at[0];
    size_t n = c < 0x80                ? 1
               : c >= 0xc2 && c < 0xe0 ? 2
               : (c & 0xf0) == 0xe0    ? 3
               : c >= 0xf0 && c < 0xf5 ? 4
                                       : 0;
    if (n == 0 || n > left) return 0;
    uint32_t code = n == 1 ? c : c & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (at[i] & 0x3f);
    }
    return code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : n;
}
