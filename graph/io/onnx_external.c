/* External data: entries of a tensor -> a stretch of a file below the model's folder. The path is
 * resolved by the kernel beneath that folder, without symbolic links, and the file must be a
 * regular one with one name, so that a model cannot read what its folder does not hold. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/checked.h"
#include "graph/io/onnx.h"
#include "graph/io/sink.h"

typedef struct external_place {
    kiln_onnx *onnx;
    kiln_scope *scope;
    const char *where;
    const char *location;
    int64_t offset, length; /* -1: not given */
} external_place;

static int64_t number_read(const external_place *place, const Kiln__Onnx__Entry *entry)
{
    const char *at = entry->value ? entry->value : "";
    int64_t number = 0;
    bool is_good = *at != 0;
    for (; is_good && *at; at++) {
        is_good = *at >= '0' && *at <= '9' && kiln_checked_mul(number, 10, &number) &&
                  kiln_checked_add(number, *at - '0', &number);
    }
    if (is_good) return number;
    kiln_fail(place->scope, KILN_MODEL, "%s: external %s is %s; expected a number of 0 or more",
              place->where, entry->key,
              kiln_onnx_quote(&place->scope->arena, entry->value ? entry->value : ""));
}

static void entry_read(external_place *place, const Kiln__Onnx__Entry *entry)
{
    const char *key = entry->key ? entry->key : "";
    bool is_again = false;
    if (!strcmp(key, "location")) {
        is_again = place->location != NULL;
        place->location = entry->value ? entry->value : "";
    } else if (!strcmp(key, "offset")) {
        is_again = place->offset >= 0;
        place->offset = number_read(place, entry);
    } else if (!strcmp(key, "length")) {
        is_again = place->length >= 0;
        place->length = number_read(place, entry);
    } else if (strcmp(key, "checksum") && strcmp(key, "basepath")) {
        kiln_fail(place->scope, KILN_MODEL,
                  "%s: unknown external key %s; expected location, offset, "
                  "length or checksum",
                  place->where, kiln_onnx_quote(&place->scope->arena, key));
    }
    if (is_again)
        kiln_fail(place->scope, KILN_MODEL, "%s: external key '%s' stands twice; expected it once",
                  place->where, key);
}

/* openat2 where the kernel has it; elsewhere one openat a component, none of them through a link.
 */
static int open_beneath(kiln_arena *arena, int folder, const char *path)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                           .resolve =
                               RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long opened = syscall(SYS_openat2, folder, path, &how, sizeof how);
    if (opened >= 0 || (errno != ENOSYS && errno != EPERM)) return (int)opened;
    int at = dup(folder);
    char *part = kiln_arena_string(arena, path);
    while (at >= 0 && part) {
        char *next = strchr(part, '/');
        if (next) *next++ = 0;
        int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (next ? O_DIRECTORY : 0);
        int inner = *part ? openat(at, part, flags) : dup(at);
        close(at);
        at = inner;
        part = next;
    }
    return at;
}

static struct stat file_check(external_place *place)
{
    const char *name = kiln_onnx_quote(&place->scope->arena, place->location);
    int file = open_beneath(&place->scope->arena, place->onnx->folder, place->location);
    if (file < 0 && (errno == ELOOP || errno == EXDEV))
        kiln_fail(place->scope, KILN_MODEL,
                  "%s: external path %s leaves the model directory or goes "
                  "through a link; expected a plain file in it",
                  place->where, name);
    if (file < 0)
        kiln_fail(place->scope, KILN_IO, "%s: external file %s: %s; expected a readable file",
                  place->where, name, strerror(errno));
    struct stat status;
    int failed = fstat(file, &status);
    close(file);
    if (failed || !S_ISREG(status.st_mode) || status.st_nlink != 1)
        kiln_fail(place->scope, KILN_MODEL,
                  "%s: external file %s is not a regular file with one name; "
                  "expected one in the model directory",
                  place->where, name);
    return status;
}

void kiln_onnx_external(kiln_onnx *onnx, const Kiln__Onnx__Tensor *tensor, const char *where,
                        kiln_literal *out_literal)
{
    external_place place = {onnx, onnx->graph->scope, where, NULL, -1, -1};
    for (size_t i = 0; i < tensor->n_external_data; i++)
        entry_read(&place, tensor->external_data[i]);
    if (!place.location)
        kiln_fail(place.scope, KILN_MODEL, "%s: external data without location; expected a file",
                  where);
    if (onnx->folder < 0)
        kiln_fail(place.scope, KILN_UNSUPPORTED,
                  "%s: external data of a model in memory; expected a "
                  "model file",
                  where);
    if (!kiln_path_is_inside(place.location))
        kiln_fail(place.scope, KILN_MODEL,
                  "%s: external path %s leaves the model directory; expected a "
                  "relative path in it",
                  where, kiln_onnx_quote(&place.scope->arena, place.location));
    struct stat about = file_check(&place);
    int64_t size = about.st_size, end;
    int64_t offset = place.offset < 0 ? 0 : place.offset;
    int64_t length = place.length < 0 ? kiln_max_i64(size - offset, 0) : place.length;
    if (!kiln_checked_add(offset, length, &end) || end > size)
        kiln_fail(place.scope, KILN_MODEL,
                  "%s: external data: offset %" PRId64 " + %" PRId64 " > %" PRId64
                  "; expected to stay within the file",
                  where, offset, length, size);
    *out_literal = (kiln_literal){.bytes = length, .offset = offset};
    out_literal->stamp = kiln_file_stamp(&about);
    out_literal->file =
        kiln_arena_format(&onnx->graph->arena, "%s/%s", onnx->folder_path, place.location);
}
