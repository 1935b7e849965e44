/* kiln COMMAND: picks the subcommand, prints help. */
#include <string.h>

#include "codegen/cli/cli.h"

static const struct {
    const char *name;
    int (*run)(const cli_options *options);
    bool needs_model;
    const char *meaning;
} commands[] = {
    {"run", cli_run, true, "run MODEL once; --output-dir DIR writes the outputs as .npy"},
    {"bench", cli_bench, true, "time MODEL, fused against unfused"},
    {"compile", cli_compile, true, "compile MODEL to a shared object: -o OUT.so [--header OUT.h]"},
    {"check", cli_check, true,
     "import and compile MODEL; with --input also compare with the evaluator"},
    {"explain", cli_explain, true,
     "print groups, bytes saved, roofline shares and refused fusions"},
    {"opt", cli_opt, true, "print FILE.kiln after --run PASS[,PASS]"},
    {"convert", cli_convert, true,
     "write MODEL as another kind: convert MODEL OUT.onnx|.kiln|.kilnb|.safetensors"},
    {"info", cli_info, false, "print version, machine and targets; of a MODEL its ports and sizes"},
};

static const char usage[] = "usage: kiln COMMAND MODEL [options]\n"
                            "MODEL is a .onnx, a .kiln, a .kilnb or a .so made by kiln compile.\n\n"
                            "commands:\n";

static const char option_help[] =
    "\noptions:\n"
    "  --input NAME=FILE.npy  a value for an input; others are random from the seed\n"
    "  --dim NAME=N           a size for a symbolic dimension\n"
    "  --dim NAME=?           run, bench, compile: leaves the batch open, for any number of rows\n"
    "  --rows N[,N...]        run, bench: the batches to call it with; compile: those to compile\n"
    "                         for together, default 1,8,64\n"
    "  --target cpu|cuda      what to compile for (cpu)\n"
    "  --target-cpu NAME      host, x86-64, or that with -v3, -v4, -vnni or -amx (host)\n"
    "  --threads N            workers of a run (all that this process may use)\n"
    "  --seed N               of the random inputs (1)\n"
    "  --strict               only rewrites that keep every bit\n"
    "  --precision MODE       fma, x6 or bf16 (fma)\n"
    "  --unfused              one kernel per node of the model\n"
    "  --tune                 time tiles and blockings of products while compiling\n"
    "  --output-dir DIR       run: where the outputs go\n"
    "  --cache-dir DIR        run: where compiled models are kept ($KILN_CACHE, else\n"
    "                         $XDG_CACHE_HOME/kiln or ~/.cache/kiln)\n"
    "  --no-cache             run: compile anew, keep nothing\n"
    "  --cache                info: what is kept there\n"
    "  --seconds S            bench: how long to measure (2)\n"
    "  --json                 bench: JSON lines\n"
    "  -o FILE, --header FILE, --name PREFIX   compile: what to write, and its symbols (model)\n"
    "  --weights FILE         convert: a SafeTensors file beside OUT that takes large constants\n"
    "  --run PASS[,PASS]      opt: graph passes (expand, fold, ...); the last may be schedule or "
    "kernels\n"
    "\nexit: 0 ok, 1 a check failed, 2 usage or invalid input, 3 unsupported, 4 I/O, device or "
    "memory,\n"
    "5 limit, deadline or cancelled, 70 internal\n";

static void print_help(FILE *file)
{
    fputs(usage, file);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        fprintf(file, "  %-8s %s\n", commands[i].name, commands[i].meaning);
    }
    fputs(option_help, file);
}

/* What a full disk or a closed pipe kept from being written is a failure too. */
static int finish(int exit_code)
{
    bool is_good = !ferror(stdout);
    is_good = fflush(stdout) == 0 && is_good;
    return is_good || exit_code ? exit_code : cli_fail(KILN_IO, "standard output was not written");
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    }
    return strcmp(argv[1], "help") == 0;
}

int main(int argc, char **argv)
{
    if (argc < 2) return cli_fail(KILN_INVALID, "a command is missing; kiln --help lists them");
    if (asks_for_help(argc, argv)) {
        print_help(stdout);
        return finish(0);
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("kiln " KILN_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        static cli_options options; /* large; zeroed */
        int exit_code = cli_parse(argc - 2, argv + 2, &options);
        if (exit_code) return exit_code;
        if (commands[i].needs_model && !options.model) {
            return cli_fail(KILN_INVALID,
                            "%s: a model is missing; expected a .onnx, .kiln, .kilnb or .so file",
                            argv[1]);
        }
        if (options.second && commands[i].run != cli_convert) {
            return cli_fail(KILN_INVALID, "two models are given, \"%s\" and \"%s\"; expected one",
                            options.model, options.second);
        }
        return finish(commands[i].run(&options));
    }
    return cli_fail(KILN_INVALID, "command \"%s\" is unknown; kiln --help lists the commands",
                    argv[1]);
}
