/* From texts and objects to files: a folder beside the target holds everything on the way, cc links
 * there, and a rename publishes. No shell, no environment; the folder goes whatever happens. */
#define _GNU_SOURCE
#include "codegen/library.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/aot.h"

extern char **environ;

typedef struct workshop {
    kiln_scope *scope;
    const char *folder;
    kiln_vec(const char *) files; /* to remove */
} workshop;

static void release_workshop(void *object)
{
    const workshop *shop = object;
    for (uint32_t i = 0; i < shop->files.n; i++) unlink(shop->files.at[i]);
    rmdir(shop->folder);
}

static const char *folder_of(kiln_arena *arena, const char *path)
{
    char *folder = kiln_arena_string(arena, path);
    char *slash = strrchr(folder, '/');
    if (!slash) return ".";
    slash[slash == folder] = '\0';
    /* a driver would take "-x" for an option and "@x" for a list of them */
    return folder[0] == '/' ? folder : kiln_arena_format(arena, "./%s", folder);
}

static workshop *workshop_open(kiln_scope *scope, const char *path)
{
    workshop *shop = kiln_new(&scope->arena, workshop);
    char *folder =
        kiln_arena_format(&scope->arena, "%s/.kiln-XXXXXX", folder_of(&scope->arena, path));
    if (!mkdtemp(folder))
        kiln_fail(scope, KILN_IO, "%s: cannot write in its folder: %s", path, strerror(errno));
    shop->scope = scope;
    shop->folder = folder;
    kiln_scope_defer(scope, release_workshop, shop);
    return shop;
}

static const char *shop_path(workshop *shop, const char *name)
{
    const char *path = kiln_arena_format(&shop->scope->arena, "%s/%s", shop->folder, name);
    kiln_vec_push(&shop->files, &shop->scope->arena, path);
    return path;
}

static void write_all(kiln_scope *scope, int file, const char *path, const void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(file, (const char *)data + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        int reason = errno;
        close(file);
        kiln_fail(scope, KILN_IO, "%s: cannot write: %s", path, strerror(reason));
    }
    if (close(file)) kiln_fail(scope, KILN_IO, "%s: cannot write: %s", path, strerror(errno));
}

static const char *shop_write(workshop *shop, const char *name, const void *data, size_t bytes)
{
    const char *path = shop_path(shop, name);
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) kiln_fail(shop->scope, KILN_IO, "%s: cannot create: %s", path, strerror(errno));
    write_all(shop->scope, file, path, data, bytes);
    return path;
}

static const char *shop_write_text(workshop *shop, const char *name, const kiln_text *text)
{
    return shop_write(shop, name, kiln_text_string(text), text->n);
}

/* The end of what the compiler driver said, on one line. */
static const char *complaint(kiln_scope *scope, const char *path)
{
    char *said = kiln_arena_alloc(&scope->arena, 513);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return "it said nothing";
    ssize_t n = pread(file, said, 512, 0);
    close(file);
    for (ssize_t i = 0; i < n; i++) {
        if (said[i] == '\n' || said[i] == '\r') said[i] = ' ';
    }
    return n > 0 ? said : "it said nothing";
}

static int spawn(const char *program, char *const *args, const char *log, pid_t *out_pid)
{
    posix_spawn_file_actions_t actions;
    int failure = posix_spawn_file_actions_init(&actions);
    if (failure) return failure;
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    failure = posix_spawnp(out_pid, program, &actions, NULL, args, environ);
    posix_spawn_file_actions_destroy(&actions);
    return failure;
}

/* Runs the first compiler driver there is. */
static void run_driver(workshop *shop, char **args)
{
    static const char *const drivers[] = {"cc", "gcc", "clang"};
    kiln_scope *scope = shop->scope;
    const char *log = shop_path(shop, "log");
    pid_t pid = 0;
    int failure = ENOENT, status = 0;
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers && failure == ENOENT; i++) {
        args[0] = kiln_arena_string(&scope->arena, drivers[i]);
        failure = spawn(drivers[i], args, log, &pid);
    }
    if (failure == ENOENT)
        kiln_fail(scope, KILN_UNSUPPORTED,
                  "compile_library: no C compiler driver; expected cc, gcc or clang "
                  "on PATH to link the shared object");
    if (failure)
        kiln_fail(scope, KILN_IO, "compile_library: cannot start %s: %s", args[0],
                  strerror(failure));
    while (waitpid(pid, &status, 0) < 0) {
        if (errno == EINTR) continue;
        status = 0; /* the host reaps its children itself: the missing file will tell */
        break;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        kiln_fail(scope, KILN_IO, "compile_library: %s failed: %s", args[0], complaint(scope, log));
}

static void check_prefix(kiln_scope *scope, const char *prefix)
{
    size_t n = strspn(prefix, "abcdefghijklmnopqrstuvwxyz0123456789_");
    if (prefix[n] || n == 0 || n > 31 || prefix[0] < 'a' || prefix[0] > 'z')
        kiln_fail(scope, KILN_INVALID,
                  "compile_library: prefix is '%.40s'; expected [a-z][a-z0-9_]{0,30}", prefix);
}

typedef kiln_vec(char *) arguments;

static void push(kiln_scope *scope, arguments *args, const char *word)
{
    kiln_vec_push(args, &scope->arena, kiln_arena_string(&scope->arena, word));
}

/* Objects of one symbol are one object. */
static bool is_repeated(const kiln_library_spec *spec, uint32_t number)
{
    for (uint32_t i = 0; i < number; i++) {
        if (strcmp(spec->objects[i].symbol, spec->objects[number].symbol) == 0) return true;
    }
    return false;
}

static void write_inputs(workshop *shop, const kiln_library_spec *spec, arguments *args)
{
    kiln_scope *scope = shop->scope;
    kiln_text assembly = {.arena = &scope->arena};
    const kiln_program *program = spec->program;
    const char *constants =
        shop_write(shop, "constants", program->constants, (size_t)program->constant_bytes);
    kiln_library_print_assembly(spec, constants, &assembly);
    push(scope, args, shop_write_text(shop, "tables.s", &assembly));
    for (uint32_t i = 0; i < program->n_kernels; i++) {
        const kiln_object *object = &spec->objects[i];
        if (is_repeated(spec, i)) continue;
        const char *name = kiln_arena_format(&scope->arena, "kernel%u.o", i);
        push(scope, args, shop_write(shop, name, object->data, object->bytes));
    }
    push(scope, args,
         shop_write(shop, "runtime.o", kiln_aot_object, (size_t)kiln_aot_object_bytes));
}

static const char *write_exports(workshop *shop, const char *prefix, const kiln_program *program)
{
    kiln_text text = {.arena = &shop->scope->arena};
    kiln_text_printf(&text,
                     "{ global: %s_program; %s_run; %s_arena_bytes; %s_inputs; %s_outputs; ",
                     prefix, prefix, prefix, prefix, prefix);
    if (kiln_library_has_calls(program)) kiln_text_printf(&text, "%s_call; ", prefix);
    if (program->rows) kiln_text_printf(&text, "%s_run_rows; ", prefix);
    kiln_text_append(&text, "local: *; };\n");
    return shop_write_text(shop, "exports", &text);
}

static const char *link_library(workshop *shop, const kiln_library_spec *spec, const char *prefix)
{
    static const char *const flags[] = {
        "-shared",
        "-nostartfiles",
        "-static-libgcc",
        "-s",
        "-Wl,--exclude-libs,ALL",
        "-Wl,--build-id=none",
        "-Wl,-z,noexecstack",
        "-Wl,-z,relro",
        "-Wl,-z,now",
        "-Wl,--no-undefined",
        "-Wl,--as-needed",
    };
    kiln_scope *scope = shop->scope;
    arguments args = {0};
    const char *exports = write_exports(shop, prefix, spec->program);
    const char *out = shop_path(shop, "library.so");
    push(scope, &args, "cc");
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) push(scope, &args, flags[i]);
    push(scope, &args, "-Xlinker"); /* -Wl would split the path at commas */
    push(scope, &args,
         kiln_arena_format(&scope->arena, "--version-script=%s", exports));
    push(scope, &args, "-o");
    push(scope, &args, out);
    write_inputs(shop, spec, &args);
    push(scope, &args, "-lm");
    kiln_vec_push(&args, &scope->arena, NULL);
    run_driver(shop, args.at);
    return out;
}

static void publish(kiln_scope *scope, const char *from, const char *path)
{
    if (rename(from, path))
        kiln_fail(scope, KILN_IO, "%s: cannot write: %s", path, strerror(errno));
}

void kiln_library_write(kiln_scope *scope, const kiln_library_spec *spec)
{
    const char *prefix = spec->prefix ? spec->prefix : "model", *header = NULL;
    check_prefix(scope, prefix);
    workshop *shop = workshop_open(scope, spec->path);
    const char *library = link_library(shop, spec, prefix);
    if (spec->header) {
        kiln_text text = {.arena = &scope->arena};
        workshop *other = workshop_open(scope, spec->header);
        kiln_library_print_header(spec, &text);
        header = shop_write_text(other, "header.h", &text);
    }
    publish(scope, library, spec->path);
    if (header) publish(scope, header, spec->header);
}
