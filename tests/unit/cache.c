/* Compiled models on disk: a hit gives the same bits, whatever is wrong with an entry or a folder
 * is noticed and the model compiled, many writers and killed ones leave whole entries only. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "codegen/sha256.h"
#include "kiln/kiln.h"

static char folder[64];
static kiln_context *context; /* one for all: its kernels are compiled once */

static int make_folder(void **state)
{
    (void)state;
    /* thousands of small files: in memory where that can be, since a busy disk waits on each */
    bool has_memory = access("/dev/shm", W_OK) == 0;
    strcpy(folder, has_memory ? "/dev/shm/kiln-cache-XXXXXX" : "/tmp/kiln-cache-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* The one entry there is; returns how many there are. */
static int find_entry(char *out_path, size_t bytes)
{
    DIR *dir = opendir(folder);
    int n = 0;
    for (struct dirent *item; (item = readdir(dir));) {
        if (item->d_name[0] == '.') continue;
        snprintf(out_path, bytes, "%s/%s", folder, item->d_name);
        n++;
    }
    closedir(dir);
    return n;
}

typedef struct outcome {
    kiln_cache_use use;
    float result[4];
} outcome;

/* y = x * weight + weight[0], compiled with the cache and run. */
static outcome run_model(float weight, const char *dir, int is_strict)
{
    outcome out = {0};
    float weights[4] = {weight, 2, 3, 4}, x[4] = {1, -1, 0.5f, 2};
    int64_t dims[] = {4};
    kiln_graph *graph;
    kiln_executable *executable;
    kiln_workspace *workspace;
    assert_int_equal(kiln_graph_create(context, "line", &graph), KILN_OK);
    kiln_value w = kiln_constant(graph, KILN_f32, 1, dims, weights);
    kiln_value y = kiln_mul(graph, kiln_input(graph, "x", KILN_f32, 1, dims), w);
    kiln_output(graph, "y",
                kiln_tanh(graph, kiln_add(graph, y, kiln_scalar(graph, KILN_f32, weight))));
    kiln_compile_options options = {
        .struct_bytes = sizeof options, .cache_dir = dir, .is_strict = is_strict};
    assert_int_equal(kiln_compile(graph, &options, &executable), KILN_OK);
    kiln_compile_report report;
    kiln_executable_report(executable, &report);
    out.use = report.cache;
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    kiln_tensor input = {KILN_f32, 1, dims, x, sizeof x};
    kiln_tensor output = {KILN_f32, 1, dims, out.result, sizeof out.result};
    assert_int_equal(kiln_run(workspace, &input, 1, &output, 1), KILN_OK);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    return out;
}

static void expect(outcome found, kiln_cache_use use, const float *result)
{
    assert_int_equal(found.use, use);
    assert_memory_equal(found.result, result, sizeof found.result);
}

static void test_a_hit_gives_the_same_bits(void **state)
{
    (void)state;
    outcome plain = run_model(1.5f, NULL, 0);
    assert_int_equal(plain.use, KILN_CACHE_NONE);
    expect(run_model(1.5f, folder, 0), KILN_CACHE_MISS, plain.result);
    expect(run_model(1.5f, folder, 0), KILN_CACHE_HIT, plain.result);
    outcome other = run_model(2.5f, folder, 0);
    assert_int_equal(other.use, KILN_CACHE_MISS);
    assert_memory_not_equal(other.result, plain.result, sizeof plain.result);
    assert_int_equal(run_model(1.5f, folder, 1).use, KILN_CACHE_MISS);
    kiln_cache_info info;
    assert_int_equal(kiln_cache_inspect(folder, &info), KILN_OK);
    assert_int_equal(info.n_entries, 3);
    assert_true(info.bytes > 0);
}

static char *read_file(const char *path, size_t *out_bytes)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *out_bytes = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*out_bytes);
    assert_int_equal(fread(data, 1, *out_bytes, file), *out_bytes);
    fclose(file);
    return data;
}

static void write_file(const char *path, const char *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

/* Every byte damaged once, by another bit each, and every length; a stride keeps it short. */
static void test_damage_is_noticed(void **state)
{
    (void)state;
    char path[512];
    size_t bytes;
    outcome plain = run_model(1.5f, folder, 0);
    assert_int_equal(find_entry(path, sizeof path), 1);
    char *data = read_file(path, &bytes);
    for (size_t i = 0; i < bytes; i += i < 256 ? 1 : 37) {
        data[i] ^= (char)(1 << i % 8);
        write_file(path, data, bytes);
        data[i] ^= (char)(1 << i % 8);
        expect(run_model(1.5f, folder, 0), KILN_CACHE_DAMAGED, plain.result);
    }
    for (size_t i = 0; i < bytes; i += i < 256 ? 7 : 211) {
        write_file(path, data, i);
        expect(run_model(1.5f, folder, 0), KILN_CACHE_DAMAGED, plain.result);
    }
    expect(run_model(1.5f, folder, 0), KILN_CACHE_HIT, plain.result);
    free(data);
}

static void test_folders_of_others_are_refused(void **state)
{
    (void)state;
    char link[80], open_folder[80];
    outcome plain = run_model(1.5f, NULL, 0);
    snprintf(link, sizeof link, "%s/link", folder);
    snprintf(open_folder, sizeof open_folder, "%s/open", folder);
    assert_int_equal(symlink(folder, link), 0);
    assert_int_equal(mkdir(open_folder, 0777), 0);
    assert_int_equal(chmod(open_folder, 0777), 0);
    expect(run_model(1.5f, link, 0), KILN_CACHE_REFUSED, plain.result);
    expect(run_model(1.5f, open_folder, 0), KILN_CACHE_REFUSED, plain.result);
    expect(run_model(1.5f, "/proc/none", 0), KILN_CACHE_REFUSED, plain.result);
}

/* Writers side by side, one in four killed on the way. */
static void test_many_writers_leave_whole_entries(void **state)
{
    (void)state;
    outcome plain = run_model(1.5f, NULL, 0);
    pid_t writers[16];
    for (int i = 0; i < 16; i++) {
        writers[i] = fork();
        assert_true(writers[i] >= 0);
        if (writers[i] == 0) {
            for (int j = 0; j < 8; j++) {
                outcome found = run_model(1.5f, folder, 0);
                bool is_right = memcmp(found.result, plain.result, sizeof plain.result) == 0;
                if (!is_right || found.use == KILN_CACHE_DAMAGED) _exit(1);
            }
            _exit(0);
        }
        if (i % 4 == 3) kill(writers[i], SIGKILL);
    }
    for (int i = 0; i < 16; i++) {
        int status;
        assert_int_equal(waitpid(writers[i], &status, 0), writers[i]);
        if (!WIFSIGNALED(status)) assert_int_equal(WEXITSTATUS(status), 0);
    }
    expect(run_model(1.5f, folder, 0), KILN_CACHE_HIT, plain.result);
}

/* Compiles tanh of f32[n] in that context; the kernels that were not known. The least time of what
 * was known goes to *least. */
static uint32_t count_compiled(kiln_context *in, int64_t n, double *least)
{
    kiln_graph *graph;
    kiln_executable *executable;
    kiln_compile_report report;
    assert_int_equal(kiln_graph_create(in, "one", &graph), KILN_OK);
    kiln_output(graph, "y", kiln_tanh(graph, kiln_input(graph, "x", KILN_f32, 1, &n)));
    assert_int_equal(kiln_compile(graph, NULL, &executable), KILN_OK);
    kiln_executable_report(executable, &report);
    assert_int_equal(report.n_kernels, 1);
    if (report.n_compiled == 0 && report.seconds < *least) *least = report.seconds;
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    return report.n_compiled;
}

static void test_a_context_compiles_a_kernel_once(void **state)
{
    (void)state;
    kiln_context *other;
    double least = 1;
    assert_int_equal(kiln_context_create(NULL, &other), KILN_OK);
    assert_int_equal(count_compiled(context, 40, &least), 1);
    assert_int_equal(count_compiled(context, 40, &least), 0);
    assert_int_equal(count_compiled(context, 41, &least), 1);
    for (int i = 0; i < 5; i++) assert_int_equal(count_compiled(context, 40 + i % 2, &least), 0);
    assert_int_equal(count_compiled(other, 40, &least), 1);
    print_message("one op, its kernel known: %.2f ms\n", least * 1e3);
    assert_true(least < 5e-3); /* some 0.3 ms */
    kiln_context_destroy(other);
}

/* What a dead writer left goes once it is old. */
static void test_stale_parts_are_swept(void **state)
{
    (void)state;
    char part[80];
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    snprintf(part, sizeof part, "%s/part-1-2-3", folder);
    write_file(part, "half", 4);
    assert_int_equal(utimensat(AT_FDCWD, part, old, 0), 0);
    run_model(1.5f, folder, 0);
    assert_int_equal(access(part, F_OK), -1);
}

static void test_digests_are_the_standard_ones(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned char begin[4];
    } vectors[] = {
        {"", {0xe3, 0xb0, 0xc4, 0x42}},
        {"abc", {0xba, 0x78, 0x16, 0xbf}},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", {0x24, 0x8d, 0x6a, 0x61}},
    };
    unsigned char digest[KILN_SHA256_BYTES], data[1280];
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        kiln_sha256_of(vectors[i].text, strlen(vectors[i].text), digest);
        assert_memory_equal(digest, vectors[i].begin, 4);
    }
    uint32_t a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, b[8];
    memcpy(b, a, sizeof b);
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * i + 7 * i);
    kiln_sha256_blocks(a, data, sizeof data / 64);
    kiln_sha256_blocks_plain(b, data, sizeof data / 64);
    assert_memory_equal(a, b, sizeof a);
}

int main(void)
{
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 1};
    if (kiln_context_create(&options, &context)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_hit_gives_the_same_bits, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_damage_is_noticed, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_folders_of_others_are_refused, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(test_many_writers_leave_whole_entries, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(test_stale_parts_are_swept, make_folder, remove_folder),
        cmocka_unit_test(test_a_context_compiles_a_kernel_once),
        cmocka_unit_test(test_digests_are_the_standard_ones),
    };
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    kiln_context_destroy(context);
    return n_failed;
}
