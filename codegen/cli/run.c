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

void cli_print_output(const char *name, const kiln_tensor *tensor)
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

int cli_write_output(kiln_context *context, const char *dir, const char *name,
                     const kiln_tensor *tensor)
{
    if (mkdir(dir, 0777) && errno != EEXIST)
        return cli_fail(KILN_IO, "%s: the folder was not made: %s", dir, strerror(errno));
    char *path = output_path(dir, name);
    if (!path) return cli_fail(KILN_NO_MEMORY, "an output path was not allocated");
    cli_guard_begin();
    kiln_status status = kiln_write_npy(context, path, tensor);
    cli_guard_end();
    free(path);
    return status ? cli_fail(status, "%s", kiln_context_message(context)) : 0;
}

int cli_run(const cli_options *options)
{
    cli_model model;
    if (cli_has_open_dim(options)) return cli_run_open(options);
    int exit_code = cli_model_open(options, &model);
    model.is_cached = true;
    if (!exit_code) exit_code = cli_model_compile(&model, options, options->is_unfused);
    if (!exit_code) exit_code = cli_model_fill(&model, options);
    if (!exit_code) exit_code = cli_model_run(&model);
    for (uint32_t i = 0; i < model.n_outputs && !exit_code; i++) {
        int64_t dims[KILN_MAX_RANK];
        kiln_tensor tensor = output_trimmed(&model, i, dims);
        const char *name = kiln_executable_program(model.executable)->outputs[i].name;
        cli_print_output(name, &tensor);
        if (options->output_dir)
            exit_code = cli_write_output(model.context, options->output_dir, name, &tensor);
    }
    cli_model_close(&model);
    return exit_code;
}
