/* kiln opt: runs named passes over a graph and prints the result. */
#include "codegen/cli/cli.h"

int cli_opt(const cli_options *options)
{
    if (!options->passes) return cli_fail(KILN_INVALID, "opt: --run PASS[,PASS] is missing");
    cli_model model;
    kiln_compile_options compile_options;
    int exit_code = cli_model_open(options, &model);
    if (!exit_code && !model.graph) {
        exit_code = cli_fail(KILN_INVALID,
                             "opt: a compiled .so was given; expected a .onnx or .kiln model");
    }
    if (!exit_code) exit_code = cli_compile_options(options, options->is_unfused, &compile_options);
    if (!exit_code) {
        char *text = NULL;
        kiln_status status =
            kiln_print_passes(model.graph, &compile_options, options->passes, &text);
        if (status != KILN_OK) exit_code = cli_fail(status, "%s", kiln_graph_message(model.graph));
        if (text) fputs(text, stdout);
        kiln_free(text);
    }
    cli_model_close(&model);
    return exit_code;
}
