/* The name of a compilation: one digest over a text of version, build, machine and options, the
 * graph's text, and the weights that the text abbreviates. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/stat.h>

#include "codegen/cache.h"

typedef unsigned long long ull;

/* A file as far as its name, place and time of change tell. */
static void print_file(kiln_text *text, const char *path)
{
    struct stat file;
    if (!path || stat(path, &file)) {
        kiln_text_append(text, "no file\n");
        return;
    }
    kiln_text_printf(text, "file %llu %llu %llu %llu.%09llu\n", (ull)file.st_dev, (ull)file.st_ino,
                     (ull)file.st_size, (ull)file.st_mtim.tv_sec, (ull)file.st_mtim.tv_nsec);
}

/* A version of the library is many builds while it is worked on: its files count too. */
static void print_build(kiln_text *text, kiln_scope *scope)
{
    Dl_info own;
    bool is_known = dladdr((void *)(uintptr_t)kiln_cache_key, &own) != 0;
    kiln_text_printf(text, "kiln-cache 1 " KILN_VERSION " abi %u\n", KILN_PROGRAM_ABI);
    print_file(text, is_known ? own.dli_fname : NULL);
    print_file(text, kiln_backend_path(&scope->arena, "llvm"));
}

static void print_options(kiln_text *text, const kiln_pipeline *pipeline)
{
    kiln_text_printf(text, "machine %s features %llx threads %u\n", pipeline->machine->name,
                     (ull)pipeline->machine->cpu_features, pipeline->n_threads);
    kiln_text_printf(text, "strict %d unfused %d flush %d tuned %d precision %d max %lld\n",
                     pipeline->is_strict, pipeline->is_unfused, pipeline->flush_denormals,
                     pipeline->is_tuned, pipeline->precision, (long long)pipeline->max_bytes);
}

static const kiln_literal *literal_of(const kiln_node *node)
{
    return node->op == KILN_OP_constant ? &node->attrs->literal.value : NULL;
}

/* The text shows small constants; memory counts by its content, a file by what it is. */
static void add_weights(kiln_sha256 *sha, kiln_scope *scope, const kiln_graph *graph)
{
    const char *file = NULL;
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_literal *literal = literal_of(graph->nodes.at[id]);
        if (!literal) continue;
        if (literal->kind == KILN_LITERAL_BLOB) {
            kiln_sha256_add(sha, literal->data, (size_t)literal->bytes);
        } else if (literal->kind == KILN_LITERAL_FILE && (!file || strcmp(file, literal->file))) {
            kiln_text text = {.arena = &scope->arena};
            print_file(&text, literal->file); /* once while weights of one file follow each other */
            kiln_sha256_add(sha, kiln_text_string(&text), text.n);
            file = literal->file;
        }
    }
}

/* The graph's text, and the weights of it and of its regions, which the text leaves out. */
static void add_graph(kiln_sha256 *sha, kiln_scope *scope, const kiln_graph *source)
{
    kiln_text text = {.arena = &scope->arena};
    kiln_graph_print_brief(source, &text);
    kiln_sha256_add(sha, kiln_text_string(&text), text.n);
    kiln_vec(const kiln_graph *) graphs = {0};
    kiln_vec_push(&graphs, text.arena, source);
    for (uint32_t i = 0; i < graphs.n; i++) {
        const kiln_graph *graph = graphs.at[i];
        add_weights(sha, scope, graph);
        for (uint32_t j = 0; j < graph->regions.n; j++)
            kiln_vec_push(&graphs, text.arena, graph->regions.at[j]);
    }
}

static void print_batch(kiln_text *text, const kiln_compilation *compilation)
{
    if (!compilation->rows) return;
    kiln_text_printf(text, "open batch, %u larger, inputs", compilation->n_larger);
    for (uint32_t i = 0; i < compilation->source->inputs.n; i++)
        kiln_text_printf(text, " %d", compilation->is_batched[i]);
    kiln_text_append(text, "\n");
}

void kiln_cache_key(const kiln_compilation *compilation, unsigned char out_key[KILN_SHA256_BYTES])
{
    kiln_text text = {.arena = &compilation->scope->arena};
    print_build(&text, compilation->scope);
    print_options(&text, &compilation->pipeline);
    print_batch(&text, compilation);
    kiln_sha256 sha;
    kiln_sha256_init(&sha);
    kiln_sha256_add(&sha, kiln_text_string(&text), text.n);
    add_graph(&sha, compilation->scope, compilation->source);
    for (uint32_t i = 0; i < compilation->n_larger; i++)
        add_graph(&sha, compilation->scope, compilation->larger[i]->source);
    kiln_sha256_finish(&sha, out_key);
}
