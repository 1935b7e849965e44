/* Writing a file: buffered bytes and constants read in pieces -> a temporary file -> its target. */
#include "graph/io/sink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"

#define BUFFER_BYTES ((size_t)1 << 20)

static void sink_release(void *object)
{
    kiln_sink *sink = object;
    if (sink->file >= 0) close(sink->file);
    if (sink->temporary) unlink(sink->temporary);
    free(sink->buffer);
}

_Noreturn static void sink_fail(const kiln_sink *sink, const char *expected)
{
    kiln_fail(sink->scope, KILN_IO, "%s: %s; expected %s", sink->path, strerror(errno), expected);
}

kiln_sink *kiln_sink_open(kiln_scope *scope, const char *path)
{
    kiln_sink *sink = kiln_new(&scope->arena, kiln_sink);
    char *name = kiln_arena_format(&scope->arena, "%s.XXXXXX", path);
    *sink = (kiln_sink){.scope = scope, .path = kiln_arena_string(&scope->arena, path), .file = -1};
    kiln_scope_defer(scope, sink_release, sink);
    sink->file = mkstemp(name);
    if (sink->file < 0) sink_fail(sink, "a writable folder");
    sink->temporary = name;
    fchmod(sink->file, 0644);
    sink->buffer = malloc(BUFFER_BYTES);
    if (!sink->buffer)
        kiln_fail(scope, KILN_NO_MEMORY, "%s: no memory for a buffer of 1 MiB", path);
    return sink;
}

static void sink_flush(kiln_sink *sink)
{
    for (size_t done = 0; done < sink->n_buffered;) {
        ssize_t n = write(sink->file, sink->buffer + done, sink->n_buffered - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) sink_fail(sink, "to write the file");
        done += (size_t)n;
    }
    sink->n_buffered = 0;
}

void kiln_sink_write(kiln_sink *sink, const void *data, size_t n)
{
    const char *at = data;
    sink->bytes += (int64_t)n;
    while (n) {
        size_t room = BUFFER_BYTES - sink->n_buffered, part = n < room ? n : room;
        memcpy(sink->buffer + sink->n_buffered, at, part);
        sink->n_buffered += part;
        at += part;
        n -= part;
        if (sink->n_buffered == BUFFER_BYTES) sink_flush(sink);
    }
}

void kiln_sink_literal(kiln_sink *sink, const kiln_type *type, const kiln_literal *literal)
{
    sink_flush(sink);
    for (int64_t done = 0; done < type->bytes;) {
        int64_t part = kiln_min_i64(type->bytes - done, (int64_t)BUFFER_BYTES);
        kiln_literal_read_part(sink->scope, type, literal, (kiln_stretch){done, part},
                               sink->buffer);
        sink->n_buffered = (size_t)part;
        sink_flush(sink);
        done += part;
    }
    sink->bytes += type->bytes;
}

void kiln_sink_commit(kiln_sink *sink)
{
    sink_flush(sink);
    int file = sink->file;
    sink->file = -1;
    if (close(file)) sink_fail(sink, "to write the file");
    if (rename(sink->temporary, sink->path)) sink_fail(sink, "to write the file");
    sink->temporary = NULL;
}

bool kiln_path_is_inside(const char *path)
{
    if (*path == '/' || strchr(path, '\\') || strchr(path, ':') || *path == 0) return false;
    for (const char *at = path; at; at = strchr(at, '/')) {
        if (*at == '/') at++;
        if (!strncmp(at, "..", 2) && (at[2] == '/' || at[2] == 0)) return false;
    }
    return true;
}
