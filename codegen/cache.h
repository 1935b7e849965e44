/* Compiled models on disk, named by the SHA-256 of everything that decides what a compile makes:
 * this build of the library, the machine, the options and the graph with its weights (weights in
 * files by path, stretch, size, inode and time of change). An entry is one file: digests, image,
 * constants. Whatever is wrong with an entry or with the folder, the model is compiled instead.
 *
 * The folder belongs to the caller alone: it is made with mode 0700, and refused when it is a link,
 * another user's or writable by others. Writers work on a file of their own and publish it by
 * rename, so a reader sees whole entries; a torn one (a crash) fails its digests. */
#ifndef KILN_CODEGEN_CACHE_H
#define KILN_CODEGEN_CACHE_H

#include "codegen/compile.h"
#include "codegen/sha256.h"

#define KILN_CACHE_NAME_BYTES (2 * KILN_SHA256_BYTES + sizeof ".kiln")

/* An open folder and the name of one entry in it. */
typedef struct kiln_cache {
    int folder;           /* descriptor, or -1: there is none, or it is refused */
    kiln_cache_use use;   /* what to report so far */
    unsigned char key[KILN_SHA256_BYTES];
    char name[KILN_CACHE_NAME_BYTES];
} kiln_cache;

/* Opens options->cache_dir (nothing when it is NULL or the target is no CPU) and names the entry of
 * this compilation. Closed with the compilation's scope. */
kiln_cache *kiln_cache_open(kiln_compilation *compilation);

/* The entry, verified, as an artifact in the compilation's scope with its constants filled, without
 * code; NULL when there is none or it is damaged. */
kiln_artifact *kiln_cache_load(kiln_cache *cache, kiln_compilation *compilation);

/* Stores an artifact, and removes the entries used least recently while there are more than
 * options->cache_bytes. A failure leaves no entry and is no error. */
void kiln_cache_store(kiln_cache *cache, kiln_compilation *compilation,
                      const kiln_artifact *artifact);

/* The digest that names a compilation. */
void kiln_cache_key(const kiln_compilation *compilation,
                    unsigned char out_key[KILN_SHA256_BYTES]);
#endif
