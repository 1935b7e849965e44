/* kiln convert: a model as another kind of file, by the ending of its name. */
#include <string.h>

#include "codegen/cli/cli.h"

static kiln_status write_weights(const kiln_graph *graph, const char *path,
                                 const kiln_write_options *options)
{
    return kiln_write_weights(graph, path);
}

static const struct {
    const char *ending;
    kiln_status (*write)(const kiln_graph *graph, const char *path,
                         const kiln_write_options *options);
} kinds[] = {
    {".onnx", kiln_export_onnx},
    {".kiln", kiln_write_text},
    {".kilnb", kiln_write_binary},
    {".safetensors", write_weights},
};

int cli_convert(const cli_options *options)
{
    size_t kind = 0, n_kinds = sizeof kinds / sizeof *kinds;
    if (!options->second) {
        return cli_fail(KILN_INVALID, "convert: the file to write is missing; expected MODEL OUT");
    }
    while (kind < n_kinds && !cli_has_ending(options->second, kinds[kind].ending)) kind++;
    if (kind == n_kinds) {
        return cli_fail(KILN_INVALID,
                        "\"%s\": its ending names no kind of model; expected .onnx, .kiln, .kilnb "
                        "or .safetensors",
                        options->second);
    }
    cli_model model;
    int exit_code = cli_model_open(options, &model);
    if (!exit_code && !model.graph) {
        exit_code = cli_fail(KILN_INVALID,
                             "convert: a compiled .so was given; expected .onnx, .kiln or .kilnb");
    }
    if (!exit_code) {
        kiln_write_options write_options = {sizeof write_options, options->weights};
        cli_guard_begin();
        kiln_status status = kinds[kind].write(model.graph, options->second, &write_options);
        cli_guard_end();
        if (status != KILN_OK) exit_code = cli_fail(status, "%s", kiln_graph_message(model.graph));
    }
    cli_model_close(&model);
    return exit_code;
}
