/* The command as a user meets it: exit codes, one line on stderr, nothing half-written. The build
 * passes the command's path as the first argument; the test works in a folder of its own. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "unit/onnx_bytes.h"

static const char *command, *standard_output = "out.txt";

/* In f32 the one is lost beside the large numbers; the evaluator accumulates in f64. */
static const char sum[] = "kiln 1\n"
                          "graph sum(%x: f32[3]) {\n"
                          "  %0: f32[] = reduce_sum %x {axes = [0]}\n"
                          "  return %0\n"
                          "}\n";

static const char huge[] = "kiln 1\n"
                           "graph huge(%x: f32[1048576,1048576,1048576]) {\n"
                           "  return %x\n"
                           "}\n";

static const char relu[] = "kiln 1\n"
                           "graph relu(%x: f32[2,3]) {\n"
                           "  %0: f32[2,3] = relu %x\n"
                           "  return %0 as \"y/1\"\n"
                           "}\n";

static void write_file(const char *path, const void *data, size_t n_bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    if (n_bytes) assert_int_equal(fwrite(data, n_bytes, 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

static size_t read_file(const char *path, char *out, size_t n_bytes)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(out, 1, n_bytes - 1, file);
    out[n] = 0;
    fclose(file);
    return n;
}

/* Runs kiln with arguments split at blanks; returns its exit code, or -1 for a signal. */
static int run_kiln(const char *arguments)
{
    char *argv[32] = {(char *)command}, words[1024];
    int n = 1;
    snprintf(words, sizeof words, "%s", arguments);
    for (char *word = strtok(words, " "); word && n < 31; word = strtok(NULL, " "))
        argv[n++] = word;
    pid_t child = fork();
    if (child == 0) {
        if (!freopen(standard_output, "w", stdout) || !freopen("err.txt", "w", stderr)) _exit(99);
        execv(command, argv);
        _exit(98);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What the command printed, to stderr when it failed, has `part` in it. */
static void check_says(const char *arguments, int exit_code, const char *part)
{
    static char text[65536];
    assert_int_equal(run_kiln(arguments), exit_code);
    read_file(exit_code ? "err.txt" : "out.txt", text, sizeof text);
    assert_non_null(strstr(text, part));
}

typedef struct bad_call {
    const char *arguments;
    int exit_code;
    const char *message; /* part of the one line */
} bad_call;

static const bad_call bad_calls[] = {
    {"", 2, "a command is missing"},
    {"fly", 2, "command \"fly\" is unknown"},
    {"run", 2, "a model is missing"},
    {"run --thread 2 relu.kiln", 2, "the nearest is --threads"},
    {"run relu.kiln --threads 0", 2, "expected a whole number from 1 to 1024"},
    {"run relu.kiln --threads 99999999999999999999", 2, "expected a whole number"},
    {"run relu.kiln --threads", 2, "its value is missing"},
    {"run relu.kiln --seed 1 --seed 2", 2, "given twice"},
    {"run relu.kiln relu.kiln", 2, "two models"},
    {"run relu.kiln --input x", 2, "expected NAME=FILE.npy"},
    {"run relu.kiln --input x=six.npy --input x=six.npy", 2, "given twice"},
    {"run relu.kiln --dim n=3", 2, "no open dims"},
    {"run relu.kiln --dim n=3x", 2, "no open dims"},
    {"run relu.kiln --dim n=?", 2, "no open dims"},
    {"run open.onnx --dim batch=?", 2, "--rows is missing"},
    {"run open.onnx --dim rows=? --rows 3", 2, "no input has an open dim rows; expected batch"},
    {"run open.onnx --dim batch=? --rows 3,x", 2, "--rows: \"x\" was given"},
    {"run mixing.onnx --dim batch=? --rows 3", 3, "mixes the rows of the batch"},
    {"compile mixing.onnx --dim batch=? -o m.so", 3, "mixes the rows of the batch"},
    {"compile open.onnx --dim batch=? --rows 4,1 -o m.so", 2, "row size 1"},
    {"run relu.kiln --input z=two.npy", 2, "no input \"z\""},
    {"run relu.kiln --input x=two.npy", 2, "it holds f32[2]; input \"x\" is f32[2,3]"},
    {"run relu.kiln --input x=missing.npy", 4, "missing.npy"},
    {"run relu.kiln --input x=$(touch_hacked)", 4, "touch_hacked"},
    {"run relu.kiln --target-cpu z80", 2, "z80"},
    {"run relu.kiln --precision magic", 2, "expected fma, x6 or bf16"},
    {"run relu.kiln --output-dir out.txt/sub", 4, "out.txt/sub"},
    /* where nobody may create a file, the superuser included */
    {"run relu.kiln --output-dir /proc", 4, "/proc"},
    {"run relu.kiln --output-dir /proc/sub", 4, "/proc/sub"},
    {"compile relu.kiln -o /proc/relu.so", 4, "/proc/relu.so"},
    {"compile relu.kiln -o relu.so --header /proc/relu.h", 4, "/proc/relu.h"},
    {"run missing.kiln", 4, "missing.kiln"},
    {"run missing.onnx", 4, "missing.onnx"},
    {"run folder.onnx", 4, "folder.onnx"},
    {"run relu.txt", 2, "expected .onnx, .kiln, .kilnb or .so"},
    {"run relu.kilnb", 4, "relu.kilnb"},
    {"convert relu.kiln", 2, "the file to write is missing"},
    {"convert relu.kiln a.onnx b.onnx", 2, "expected no more"},
    {"convert relu.kiln relu.png", 2, "its ending names no kind of model"},
    {"convert relu.kiln nowhere/relu.onnx", 4, "nowhere/relu.onnx"},
    {"convert relu.kiln relu.onnx --weights ../w.safetensors", 2, "leaves the model's folder"},
    {"run bad.kiln", 2, "2:"},
    {"check one.onnx --dim n=2", 2, "dim 'n' is bound"},
    {"check one.onnx --dim x:0=2", 2, "input 'x': dim 0 is bound to 2; expected "},
    {"run empty.onnx", 2, "empty.onnx"},
    {"run random.onnx", 2, "random.onnx"},
    {"run random.so", 2, "random.so"},
    {"compile relu.kiln", 2, "-o OUT.so is missing"},
    {"compile relu.kiln -o folder.onnx/x/y.so", 4, "y.so"},
    {"compile relu.kiln -o model.so --name 9lives", 2, "9lives"},
    {"opt relu.kiln --run expand,shine", 2, "expected inline, expand, "},
    {"check sum.kiln --input x=big.npy", 1, "differs from the evaluator's"},
    {"run huge.kiln", 5, "2:"},
    {"opt relu.kiln", 2, "--run PASS"},
};

/* The end of line `n`, counted from 0. */
static const char *skip_lines(const char *at, int n)
{
    for (at = strchr(at, '\n'); at && n; n--) at = strchr(at + 1, '\n');
    return at;
}

static void test_bad_calls_end_with_one_line_and_the_right_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_calls / sizeof *bad_calls; i++) {
        char line[4096];
        int exit_code = run_kiln(bad_calls[i].arguments);
        size_t n = read_file("err.txt", line, sizeof line);
        if (exit_code != bad_calls[i].exit_code || !strstr(line, bad_calls[i].message)) {
            print_error("kiln %s: exit %d, \"%s\"; expected %d, \"%s\"\n", bad_calls[i].arguments,
                        exit_code, line, bad_calls[i].exit_code, bad_calls[i].message);
        }
        assert_int_equal(exit_code, bad_calls[i].exit_code);
        assert_non_null(strstr(line, bad_calls[i].message));
        assert_memory_equal(line, "kiln: ", 6);
        int has_caret = n > 2 && line[n - 2] == '^'; /* two lines more show a place in a text */
        assert_ptr_equal(skip_lines(line, 2 * has_caret), line + n - 1);
    }
    assert_int_equal(access("model.so", F_OK), -1);
}

/* A chain of nodes from x to y; the last is a Neg. */
static void write_chain(const char *path, const char *op, int n)
{
    bytes graph = {0}, output = {0};
    char from[16] = "x", to[16];
    for (int i = 0; i < n; i++) {
        snprintf(to, sizeof to, "t%d", i);
        put(&graph, 1, node(op, from, to));
        memcpy(from, to, sizeof from);
    }
    put(&graph, 1, node("Neg", from, "y"));
    put_text(&graph, 2, "g");
    put(&graph, 11, value("x", FLOAT, 1, (const int64_t[]){4}));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    bytes file = model(graph, 17);
    write_file(path, file.at, file.n);
}

static void write_open(const char *path, int64_t axis)
{
    bytes graph = {0}, output = {0}, only = node("Softmax", "x", "y");
    put(&only, 5, attribute_int("axis", axis));
    put(&graph, 1, only);
    put(&graph, 11, open_value("x", "batch", 4));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    bytes file = model(graph, 17);
    write_file(path, file.at, file.n);
}

static void test_an_open_batch_is_run_in_chunks(void **state)
{
    (void)state;
    char text[4096];
    assert_int_equal(run_kiln("run open.onnx --dim batch=? --rows 20,3,20"), 0);
    read_file("out.txt", text, sizeof text);
    assert_non_null(strstr(text, "y: f32[20,4] ="));
    assert_non_null(strstr(text, "y: f32[3,4] ="));
    assert_non_null(strstr(text, "function: 6 calls, 5 hits, 1 misses compiled in "));
    assert_non_null(strstr(text, "s, 15 chunks, 1 kept in "));
    check_says("bench open.onnx --dim batch=? --rows 8,9 --seconds 0.01", 0, "rows 9      median ");
}

static void test_a_shared_object_has_an_open_batch(void **state)
{
    (void)state;
    static char text[65536];
    assert_int_equal(
        run_kiln("compile open.onnx --dim batch=? --rows 1,4 -o open.so --header open.h"), 0);
    read_file("open.h", text, sizeof text);
    assert_non_null(strstr(text, "int model_run_rows(int64_t rows,"));
    check_says("run open.so --rows 37", 0, "y: f32[37,4] =");
    check_says("run open.so --rows 0", 0, "y: f32[0,4] =");
    check_says("run open.so", 0, "y: f32[1,4] =");
    check_says("info open.so", 0, "open batch: any number of rows, in chunks of 1, 4");
    assert_int_equal(run_kiln("run open.so --rows 3,4"), 2);
    check_says("run relu.kiln --rows 3", 2, "the batch of the model is not open");
}

static void test_every_unsupported_node_is_listed(void **state)
{
    (void)state;
    static char text[65536];
    assert_int_equal(run_kiln("check one.onnx"), 0);
    assert_int_equal(run_kiln("check many.onnx"), 3);
    read_file("err.txt", text, sizeof text);
    int n = 0;
    for (const char *at = text; (at = strstr(at, "('Frobnicate')")); at++) n++;
    assert_int_equal(n, 50);
    assert_non_null(strstr(text, "kiln: many.onnx: 50 nodes cannot be imported\n"));
}

static void test_what_stdout_does_not_take_is_a_failure(void **state)
{
    (void)state;
    char line[1024];
    if (access("/dev/full", W_OK)) skip();
    standard_output = "/dev/full";
    int exit_code = run_kiln("opt relu.kiln --run expand");
    standard_output = "out.txt";
    assert_int_equal(exit_code, 4);
    read_file("err.txt", line, sizeof line);
    assert_string_equal(line, "kiln: standard output was not written\n");
}

static int count_leftovers(void)
{
    int n = 0;
    DIR *folder = opendir(".");
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));)
        n += strncmp(entry->d_name, ".kiln-", 6) == 0;
    closedir(folder);
    return n;
}

static void test_an_interrupt_leaves_nothing_half_written(void **state)
{
    (void)state;
    char path[4096];
    static const char script[] = "#!/bin/sh\nkill -INT $PPID\nexec /usr/bin/cc \"$@\"\n";
    snprintf(path, sizeof path, "%s", getenv("PATH"));
    assert_int_equal(mkdir("drivers", 0777), 0);
    write_file("drivers/cc", script, sizeof script - 1);
    assert_int_equal(chmod("drivers/cc", 0777), 0);
    setenv("PATH", "./drivers:/usr/bin:/bin", 1);
    int exit_code = run_kiln("compile relu.kiln -o stopped.so");
    setenv("PATH", "/nonexistent", 1);
    int without_driver = run_kiln("compile relu.kiln -o absent.so");
    char said[1024];
    read_file("err.txt", said, sizeof said);
    setenv("PATH", path, 1);
    assert_int_equal(exit_code, -1); /* by the signal, which a shell reports as 130 */
    assert_int_equal(count_leftovers(), 0);
    if (access("stopped.so", F_OK) == 0) assert_int_equal(run_kiln("run stopped.so"), 0);
    assert_int_equal(without_driver, 3);
    assert_non_null(strstr(said, "no C compiler driver"));
    assert_int_equal(access("absent.so", F_OK), -1);
}

/* On a terminal the stages show and are wiped out again; elsewhere stderr stays empty. */
static void test_progress_is_for_terminals(void **state)
{
    (void)state;
    char shown[4096];
    int terminal;
    size_t n = 0;
    assert_int_equal(run_kiln("bench relu.kiln --seconds 0.01"), 0);
    assert_int_equal(read_file("err.txt", shown, sizeof shown), 0);
    pid_t child = forkpty(&terminal, NULL, NULL, NULL);
    if (child < 0) skip(); /* no pseudo-terminals here */
    if (child == 0) {
        execl(command, command, "bench", "relu.kiln", "--seconds", "0.01", (char *)NULL);
        _exit(98);
    }
    for (ssize_t got; n < sizeof shown - 1; n += (size_t)got) {
        got = read(terminal, shown + n, sizeof shown - 1 - n);
        if (got <= 0) break;
    }
    shown[n] = 0;
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    close(terminal);
    assert_int_equal(status, 0);
    assert_non_null(strstr(shown, "compile 1/1"));
    assert_non_null(strstr(shown, "measure "));
}

static void test_a_missing_device_is_said(void **state)
{
    (void)state;
    if (access("/dev/nvidia0", F_OK) == 0) skip();
    char line[1024];
    assert_int_equal(run_kiln("run relu.kiln --target cuda"), 4);
    read_file("err.txt", line, sizeof line);
    assert_non_null(strstr(line, "CUDA"));
}

static void test_outputs_are_written_under_safe_names(void **state)
{
    (void)state;
    char file[256];
    assert_int_equal(run_kiln("run relu.kiln --input x=six.npy --output-dir made"), 0);
    assert_int_equal(read_file("made/y_1.npy", file, sizeof file), 128 + 24);
    const float expected[] = {0, 0, 0, 1, 2, 3};
    assert_memory_equal(file + 128, expected, sizeof expected);
}

static void test_the_same_seed_gives_the_same_outputs(void **state)
{
    (void)state;
    char first[256], second[256];
    assert_int_equal(run_kiln("run relu.kiln --seed 5 --output-dir a --threads 1"), 0);
    assert_int_equal(run_kiln("run relu.kiln --seed 5 --output-dir b --threads 2"), 0);
    assert_int_equal(read_file("a/y_1.npy", first, sizeof first), 152);
    read_file("b/y_1.npy", second, sizeof second);
    assert_memory_equal(first, second, 152);
}

static void test_runs_keep_compiled_models(void **state)
{
    (void)state;
    char shown[4096];
    setenv("KILN_CACHE", "models", 1);
    assert_int_equal(run_kiln("run relu.kiln --no-cache"), 0);
    assert_int_equal(access("models", F_OK), -1);
    assert_int_equal(run_kiln("run relu.kiln --seed 5 --output-dir a"), 0);
    assert_int_equal(run_kiln("run relu.kiln --seed 5 --output-dir a"), 0);
    assert_int_equal(run_kiln("info --cache"), 0);
    read_file("out.txt", shown, sizeof shown);
    assert_non_null(strstr(shown, "cache models: 1 models"));
    assert_int_equal(chmod("models", 0777), 0);
    assert_int_equal(run_kiln("run relu.kiln"), 0);
    read_file("err.txt", shown, sizeof shown);
    assert_non_null(strstr(shown, "cache models: not used"));
    setenv("KILN_CACHE", "", 1);
}

static void test_a_compiled_library_runs_as_the_graph_does(void **state)
{
    (void)state;
    char first[256], second[256];
    assert_int_equal(run_kiln("compile relu.kiln -o relu.so --header relu.h --name relu"), 0);
    assert_int_equal(run_kiln("run relu.so --name relu --seed 5 --output-dir c"), 0);
    assert_int_equal(run_kiln("run relu.kiln --seed 5 --output-dir d"), 0);
    assert_int_equal(read_file("c/y_1.npy", first, sizeof first), 152);
    read_file("d/y_1.npy", second, sizeof second);
    assert_memory_equal(first, second, 152);
}

/* ONNX, binary, text and back: the same text. */
static void test_conversions_come_back(void **state)
{
    (void)state;
    static char wanted[4096], found[4096];
    assert_int_equal(run_kiln("convert relu.kiln way.onnx"), 0);
    assert_int_equal(run_kiln("convert way.onnx way.kilnb"), 0);
    assert_int_equal(run_kiln("convert way.kilnb way.kiln"), 0);
    assert_int_equal(run_kiln("convert way.onnx again.kiln"), 0);
    read_file("again.kiln", wanted, sizeof wanted);
    read_file("way.kiln", found, sizeof found);
    assert_string_equal(found, wanted);
    assert_non_null(strstr(found, "relu %x"));
    assert_int_equal(run_kiln("convert way.kilnb way.safetensors"), 0);
    assert_int_equal(run_kiln("check way.kilnb --input x=six.npy"), 0);
}

static void test_every_command_has_a_happy_path(void **state)
{
    (void)state;
    check_says("check relu.kiln --input x=six.npy", 0, "agrees");
    check_says("bench relu.kiln --seconds 0.02 --json", 0, "\"median_ms\"");
    assert_int_equal(run_kiln("explain relu.kiln"), 0);
    check_says("opt relu.kiln --run expand", 0, "max");
    assert_int_equal(run_kiln("opt relu.kiln --run expand,schedule"), 0);
    assert_int_equal(run_kiln("opt relu.kiln --run expand,kernels"), 0);
    assert_int_equal(run_kiln("info relu.kiln"), 0);
    assert_int_equal(run_kiln("--help"), 0);
    assert_int_equal(run_kiln("run relu.kiln --help"), 0);
}

static void write_npy(const char *path, const char *shape, const float *data, size_t n_bytes)
{
    char file[256] = "\x93NUMPY\x01\x00v\x00";
    memset(file + 10, ' ', 118);
    int n =
        snprintf(file + 10, 118, "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }", shape);
    file[10 + n] = ' ';
    file[127] = '\n';
    memcpy(file + 128, data, n_bytes);
    write_file(path, file, 128 + n_bytes);
}

static char folder[4096];

static int remove_one(const char *path, const struct stat *status, int flag, struct FTW *where)
{
    (void)status, (void)flag, (void)where;
    return remove(path);
}

static int remove_files(void **state)
{
    (void)state;
    return chdir("/") || nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int make_files(void **state)
{
    (void)state;
    char name[] = "kiln-cli-XXXXXX", random[4096];
    if (!mkdtemp(name) || chdir(name) || !getcwd(folder, sizeof folder)) return -1;
    uint32_t number = 12345;
    for (size_t i = 0; i < sizeof random; i++) {
        number = number * 1664525u + 1013904223u;
        random[i] = (char)(number >> 24);
    }
    const float six[] = {-1, -2, 0, 1, 2, 3};
    write_file("relu.kiln", relu, sizeof relu - 1);
    write_file("huge.kiln", huge, sizeof huge - 1);
    write_file("relu.txt", relu, sizeof relu - 1);
    write_file("bad.kiln", "kiln 1\ngraph bad(%x: f32[2] {\n", 30);
    write_file("empty.onnx", "", 0);
    write_chain("one.onnx", "Abs", 1);
    write_open("open.onnx", 1);
    write_open("mixing.onnx", 0);
    write_chain("many.onnx", "Frobnicate", 50);
    write_file("random.onnx", random, sizeof random);
    write_file("random.so", random, sizeof random);
    const float big[] = {1e8f, -1e8f, 1};
    write_file("sum.kiln", sum, sizeof sum - 1);
    write_npy("big.npy", "(3,)", big, sizeof big);
    write_npy("six.npy", "(2, 3)", six, sizeof six);
    write_npy("two.npy", "(2,)", six, 8);
    return mkdir("folder.onnx", 0777);
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    command = realpath(argv[1], NULL); /* the test changes its folder */
    if (!command) return 2;
    setenv("KILN_CACHE", "", 1); /* nothing goes to the user's own */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_calls_end_with_one_line_and_the_right_code),
        cmocka_unit_test(test_an_open_batch_is_run_in_chunks),
        cmocka_unit_test(test_a_shared_object_has_an_open_batch),
        cmocka_unit_test(test_every_unsupported_node_is_listed),
        cmocka_unit_test(test_what_stdout_does_not_take_is_a_failure),
        cmocka_unit_test(test_an_interrupt_leaves_nothing_half_written),
        cmocka_unit_test(test_progress_is_for_terminals),
        cmocka_unit_test(test_a_missing_device_is_said),
        cmocka_unit_test(test_outputs_are_written_under_safe_names),
        cmocka_unit_test(test_the_same_seed_gives_the_same_outputs),
        cmocka_unit_test(test_runs_keep_compiled_models),
        cmocka_unit_test(test_a_compiled_library_runs_as_the_graph_does),
        cmocka_unit_test(test_conversions_come_back),
        cmocka_unit_test(test_every_command_has_a_happy_path),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
