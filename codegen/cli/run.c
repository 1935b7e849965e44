/* kiln run: one run; prints what came out and writes it as .npy files on request. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "codegen/cli/cli.h"

/* DIR/<name>.npy with every character outside [A-Za-z0-9._-] as _; a leading dot too, so that no
 * name leaves the folder or hides in it. */
static char *output_path(const char *dir, const char *name)
{
    size_t bytes = strlen(dir) + strlen(name) + 16;
    char *path = malloc(bytes);
    if (!path) return NULL;
    int prefix = snprintf(path, bytes, "%s/", dir);
    char *at = path + prefix;
    for (size_t i = 0; name[i]; i++) {
        bool is_kept =
            strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", name[i]);
        *at++ = is_kept && !(i == 0 && name[i] == '.') ? name[i] : '_';
    }
    memcpy(at, ".npy", 5);
    return path;
}

static void print_output(const char *name, const kiln_tensor *tensor)
{
    char type[512];
    size_t n = cli_count(tensor);
    cli_type_string(tensor, type, sizeof type);
    printf("%s: %s =", name, type);
    for (size_t i = 0; i < n && i < 8; i++) printf(" %.7g", cli_element(tensor, i));
    puts(n > 8 ? " ..." : "");
}

/* The output with the size that it has in this run; `dims` holds what it points to. */
static kiln_tensor output_trimmed(const cli_model *model, uint32_t number,
                                  int64_t dims[KILN_MAX_RANK])
{
    kiln_tensor tensor = model->outputs[number];
    size_t n = 1;
    if (kiln_executable_output_dims(model->executable, number, model->outputs, dims)) return tensor;
    for (uint32_t i = 0; i < tensor.rank; i++) n *= (size_t)dims[i];
    tensor.bytes = (n * kiln_dtype_bits(tensor.dtype) + 7) / 8;
    tensor.dims = dims;
    return tensor;
}

static int write_output(cli_model *model, const char *dir, uint32_t number,
                        const kiln_tensor *tensor)
{
    const kiln_program *program = kiln_executable_program(model->executable);
    char *path = output_path(dir, program->outputs[number].name);
    if (!path) return cli_fail(KILN_NO_MEMORY, "an output path was not allocated");
    cli_guard_begin();
    kiln_status status = kiln_write_npy(model->context, path, tensor);
    cli_guard_end();
    free(path);
    return status ? cli_fail(status, "%s", kiln_context_message(model->context)) : 0;
}

int cli_run(const cli_options *options)
{
    cli_model model;
    int exit_code = cli_model_open(options, &model);
    model.is_cached = true;
    if (!exit_code) exit_code = cli_model_compile(&model, options, options->is_unfused);
    if (!exit_code) exit_code = cli_model_fill(&model, options);
    if (!exit_code) exit_code = cli_model_run(&model);
    if (!exit_code && options->output_dir && mkdir(options->output_dir, 0777) && errno != EEXIST) {
        exit_code = cli_fail(KILN_IO, "%s: the folder was not made: %s", options->output_dir,
                             strerror(errno));
    }
    for (uint32_t i = 0; i < model.n_outputs && !exit_code; i++) {
        int64_t dims[KILN_MAX_RANK];
        kiln_tensor tensor = output_trimmed(&model, i, dims);
        print_output(kiln_executable_program(model.executable)->outputs[i].name, &tensor);
        if (options->output_dir) exit_code = write_output(&model, options->output_dir, i, &tensor);
    }
    cli_model_close(&model);
    return exit_code;
}
