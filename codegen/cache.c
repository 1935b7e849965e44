/* Entries of the cache: header, digests of the chunks, image, constants. The header's own digest
 * covers the header and the table of digests; chunks are read and checked on several threads. */
#define _GNU_SOURCE
#include "codegen/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "codegen/image.h"
#include "codegen/jobs.h"
#include "runtime/context.h"

#define CHUNK_BYTES ((uint64_t)1 << 20)
#define MAX_ENTRY_BYTES ((uint64_t)1 << 40)
#define STALE_SECONDS 3600 /* a writer that is older is dead */
#define DEFAULT_CACHE_BYTES ((int64_t)8 << 30)

typedef struct entry_header {
    char magic[16];
    unsigned char key[KILN_SHA256_BYTES];
    uint64_t image_bytes, constant_bytes;
    unsigned char digest[KILN_SHA256_BYTES]; /* of all before it and the table */
} entry_header;

static const char magic[16] = "kiln entry 1\n";

/* Two stretches, each in chunks of its own. */
typedef struct stored_entry {
    int file;
    uint64_t image_bytes, constant_bytes;
    uint32_t n_image, n_chunks;
    unsigned char (*digests)[KILN_SHA256_BYTES];
    char *image, *constants;
    atomic_int is_damaged;
} stored_entry;

static void lay_out(stored_entry *entry, uint64_t image_bytes, uint64_t constant_bytes)
{
    entry->image_bytes = image_bytes;
    entry->constant_bytes = constant_bytes;
    entry->n_image = (uint32_t)((image_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES);
    entry->n_chunks = entry->n_image + (uint32_t)((constant_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES);
}

typedef struct entry_chunk {
    char *data;
    size_t bytes;
    uint64_t offset; /* in the file */
} entry_chunk;

static entry_chunk find_chunk(const stored_entry *entry, uint32_t number)
{
    bool is_image = number < entry->n_image;
    uint64_t at = (is_image ? number : number - entry->n_image) * CHUNK_BYTES;
    uint64_t left = (is_image ? entry->image_bytes : entry->constant_bytes) - at;
    uint64_t tables = sizeof(entry_header) + (uint64_t)entry->n_chunks * KILN_SHA256_BYTES;
    return (entry_chunk){
        .data = (is_image ? entry->image : entry->constants) + at,
        .bytes = left < CHUNK_BYTES ? left : CHUNK_BYTES,
        .offset = tables + (is_image ? 0 : entry->image_bytes) + at,
    };
}

static bool read_all(int file, void *data, size_t bytes, uint64_t offset)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(file, (char *)data + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

static bool write_all(int file, const void *data, size_t bytes, uint64_t offset)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pwrite(file, (const char *)data + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

static void digest_header(const entry_header *header, const stored_entry *entry,
                          unsigned char out_digest[KILN_SHA256_BYTES])
{
    kiln_sha256 sha;
    kiln_sha256_init(&sha);
    kiln_sha256_add(&sha, header, offsetof(entry_header, digest));
    kiln_sha256_add(&sha, entry->digests, (size_t)entry->n_chunks * KILN_SHA256_BYTES);
    kiln_sha256_finish(&sha, out_digest);
}

/* Folder */

static void close_folder(void *object)
{
    kiln_cache *cache = object;
    if (cache->folder >= 0) close(cache->folder);
}

/* Makes the folder and the one it is in, so that a first run finds ~/.cache/kiln. */
static int open_folder(kiln_arena *arena, const char *path)
{
    char *parent = kiln_arena_string(arena, path);
    char *slash = strrchr(parent, '/');
    if (slash && slash != parent) {
        *slash = '\0';
        mkdir(parent, 0700);
    }
    mkdir(path, 0700);
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat found;
    if (folder < 0) return -1;
    if (fstat(folder, &found) == 0 && found.st_uid == geteuid() && !(found.st_mode & 022))
        return folder;
    close(folder);
    return -1;
}

kiln_cache *kiln_cache_open(kiln_compilation *compilation)
{
    kiln_cache *cache = kiln_new(&compilation->scope->arena, kiln_cache);
    const char *path = compilation->options->cache_dir;
    cache->folder = -1;
    if (!path || !*path || compilation->pipeline.machine->kind != KILN_MACHINE_CPU ||
        compilation->pipeline.dump_dir) {
        return cache;
    }
    cache->folder = open_folder(&compilation->scope->arena, path);
    cache->use = cache->folder < 0 ? KILN_CACHE_REFUSED : KILN_CACHE_MISS;
    if (cache->folder < 0) return cache;
    kiln_scope_defer(compilation->scope, close_folder, cache);
    kiln_cache_key(compilation, cache->key);
    for (int i = 0; i < KILN_SHA256_BYTES; i++)
        snprintf(cache->name + 2 * i, 3, "%02x", cache->key[i]);
    memcpy(cache->name + 2 * KILN_SHA256_BYTES, ".kiln", sizeof ".kiln");
    return cache;
}

/* Loading */

static void read_chunk(void *user, uint32_t number)
{
    stored_entry *entry = user;
    entry_chunk chunk = find_chunk(entry, number);
    unsigned char digest[KILN_SHA256_BYTES];
    if (read_all(entry->file, chunk.data, chunk.bytes, chunk.offset)) {
        kiln_sha256_of(chunk.data, chunk.bytes, digest);
        if (memcmp(digest, entry->digests[number], sizeof digest) == 0) return;
    }
    atomic_store(&entry->is_damaged, 1);
}

/* Header and table; their digest makes the sizes safe to allocate. */
static bool read_header(const kiln_cache *cache, kiln_scope *scope, stored_entry *entry)
{
    entry_header header;
    struct stat file;
    if (fstat(entry->file, &file) || !S_ISREG(file.st_mode)) return false;
    if (!read_all(entry->file, &header, sizeof header, 0)) return false;
    if (memcmp(header.magic, magic, sizeof magic) != 0) return false;
    if (memcmp(header.key, cache->key, sizeof header.key) != 0) return false;
    if (header.image_bytes > MAX_ENTRY_BYTES || header.constant_bytes > MAX_ENTRY_BYTES)
        return false;
    lay_out(entry, header.image_bytes, header.constant_bytes);
    uint64_t tables = (uint64_t)entry->n_chunks * KILN_SHA256_BYTES;
    if ((uint64_t)file.st_size !=
        sizeof header + tables + entry->image_bytes + entry->constant_bytes) {
        return false;
    }
    entry->digests = kiln_arena_alloc(&scope->arena, tables + 1);
    if (!read_all(entry->file, entry->digests, tables, sizeof header)) return false;
    unsigned char digest[KILN_SHA256_BYTES];
    digest_header(&header, entry, digest);
    return memcmp(digest, header.digest, sizeof digest) == 0;
}

static bool read_image(const stored_entry *entry, kiln_artifact *artifact)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_image_read(&scope, entry->image, entry->image_bytes, artifact);
        if ((uint64_t)artifact->program.constant_bytes != entry->constant_bytes)
            kiln_fail(&scope, KILN_CORRUPT, "image: its constants are of another size");
        artifact->program.constants = artifact->constants;
    }
    return kiln_scope_close(&scope) == KILN_OK;
}

/* Image and constants, or NULL. What is registered in the compilation's scope goes with it. */
static kiln_artifact *read_entry(kiln_cache *cache, kiln_compilation *compilation,
                                 stored_entry *entry)
{
    kiln_scope *scope = compilation->scope;
    if (!read_header(cache, scope, entry)) return NULL;
    kiln_artifact *artifact = kiln_artifact_open(scope);
    entry->image = kiln_arena_alloc(&scope->arena, entry->image_bytes + 1);
    if (entry->constant_bytes) {
        artifact->context = compilation->source->context;
        artifact->program.constant_bytes = (int64_t)entry->constant_bytes;
        entry->constants =
            kiln_context_allocate(artifact->context, artifact->program.constant_bytes);
        artifact->constants = entry->constants;
        artifact->constant_capacity = artifact->program.constant_bytes;
        if (!entry->constants) return NULL;
    }
    uint32_t n_threads = compilation->options->compile_threads;
    if (!n_threads) n_threads = compilation->pipeline.n_threads;
    kiln_run_jobs(n_threads, entry->n_chunks, read_chunk, entry);
    if (atomic_load(&entry->is_damaged)) return NULL;
    return read_image(entry, artifact) ? artifact : NULL;
}

kiln_artifact *kiln_cache_load(kiln_cache *cache, kiln_compilation *compilation)
{
    if (cache->folder < 0) return NULL;
    stored_entry entry = {
        .file = openat(cache->folder, cache->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)};
    if (entry.file < 0) {
        if (errno != ENOENT) cache->use = KILN_CACHE_DAMAGED;
        return NULL;
    }
    kiln_artifact *artifact = read_entry(cache, compilation, &entry);
    if (artifact) futimens(entry.file, NULL); /* used now */
    close(entry.file);
    cache->use = artifact ? KILN_CACHE_HIT : KILN_CACHE_DAMAGED;
    return artifact;
}

/* Storing */

static bool write_entry(const kiln_cache *cache, const stored_entry *entry)
{
    entry_header header = {
        .image_bytes = entry->image_bytes,
        .constant_bytes = entry->constant_bytes,
    };
    memcpy(header.magic, magic, sizeof magic);
    memcpy(header.key, cache->key, sizeof header.key);
    for (uint32_t i = 0; i < entry->n_chunks; i++) {
        entry_chunk chunk = find_chunk(entry, i);
        kiln_sha256_of(chunk.data, chunk.bytes, entry->digests[i]);
        if (!write_all(entry->file, chunk.data, chunk.bytes, chunk.offset)) return false;
    }
    digest_header(&header, entry, header.digest);
    return write_all(entry->file, entry->digests, (size_t)entry->n_chunks * KILN_SHA256_BYTES,
                     sizeof header) &&
           write_all(entry->file, &header, sizeof header, 0);
}

typedef struct found_entry {
    char name[KILN_CACHE_NAME_BYTES];
    int64_t bytes;
    struct timespec used;
} found_entry;

static int compare_used(const void *a, const void *b)
{
    const struct timespec *x = &((const found_entry *)a)->used,
                          *y = &((const found_entry *)b)->used;
    if (x->tv_sec != y->tv_sec) return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

typedef kiln_vec(found_entry) found_entries;

/* All entries; removes what dead writers left. */
static void list_entries(kiln_scope *scope, int folder, found_entries *out_entries)
{
    int own = dup(folder);
    DIR *dir = own >= 0 ? fdopendir(own) : NULL;
    if (!dir) return;
    rewinddir(dir);
    time_t now = time(NULL);
    for (struct dirent *item; (item = readdir(dir));) {
        struct stat file;
        size_t n = strlen(item->d_name);
        if (fstatat(folder, item->d_name, &file, AT_SYMLINK_NOFOLLOW) || !S_ISREG(file.st_mode))
            continue;
        if (strncmp(item->d_name, "part-", 5) == 0 && now - file.st_mtim.tv_sec > STALE_SECONDS)
            unlinkat(folder, item->d_name, 0);
        if (n != KILN_CACHE_NAME_BYTES - 1 || strcmp(item->d_name + n - 5, ".kiln") != 0) continue;
        found_entry found = {.bytes = file.st_size, .used = file.st_mtim};
        memcpy(found.name, item->d_name, n + 1);
        kiln_vec_push(out_entries, &scope->arena, found);
    }
    closedir(dir);
}

/* The least recently used go first; the one just written stays. */
static void make_room(const kiln_cache *cache, kiln_compilation *compilation)
{
    found_entries entries = {0};
    int64_t limit = compilation->options->cache_bytes, total = 0;
    if (limit <= 0) limit = DEFAULT_CACHE_BYTES;
    list_entries(compilation->scope, cache->folder, &entries);
    if (!entries.n) return;
    qsort(entries.at, entries.n, sizeof *entries.at, compare_used);
    for (uint32_t i = 0; i < entries.n; i++) total += entries.at[i].bytes;
    for (uint32_t i = 0; i < entries.n && total > limit; i++) {
        if (strcmp(entries.at[i].name, cache->name) == 0) continue;
        if (unlinkat(cache->folder, entries.at[i].name, 0) == 0) total -= entries.at[i].bytes;
    }
}

void kiln_cache_store(kiln_cache *cache, kiln_compilation *compilation,
                      const kiln_artifact *artifact)
{
    if (cache->folder < 0) return;
    kiln_scope *scope = compilation->scope;
    kiln_text image = {.arena = &scope->arena};
    kiln_image_write(artifact, &image);
    stored_entry entry = {.image = image.at, .constants = artifact->constants};
    lay_out(&entry, image.n, (uint64_t)artifact->program.constant_bytes);
    entry.digests = kiln_arena_alloc(&scope->arena, (size_t)entry.n_chunks * KILN_SHA256_BYTES + 1);
    char part[64];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(part, sizeof part, "part-%ld-%lld-%p", (long)getpid(),
             (long long)now.tv_sec * 1000000000 + now.tv_nsec, (void *)artifact);
    entry.file = openat(cache->folder, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (entry.file < 0) return;
    bool is_whole = write_entry(cache, &entry);
    if (close(entry.file)) is_whole = false;
    if (!is_whole || renameat(cache->folder, part, cache->folder, cache->name)) {
        unlinkat(cache->folder, part, 0);
        return;
    }
    make_room(cache, compilation);
}

kiln_status kiln_cache_inspect(const char *path, kiln_cache_info *out_info)
{
    if (!path || !out_info) return KILN_INVALID;
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0) return KILN_IO;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        found_entries entries = {0};
        list_entries(&scope, folder, &entries);
        *out_info = (kiln_cache_info){.n_entries = entries.n, .limit = DEFAULT_CACHE_BYTES};
        for (uint32_t i = 0; i < entries.n; i++) out_info->bytes += entries.at[i].bytes;
    }
    close(folder);
    return kiln_scope_close(&scope);
}
