/* A user's program on the installed runtime: loads the compiled model argv[1] and runs it once. */
#include <kiln/runtime.h>
#include <stdio.h>
#include <stdlib.h>

static kiln_tensor tensor_new(const kiln_port_row *port)
{
    void *data = calloc(1, (size_t)port->bytes + 1);
    return (kiln_tensor){(kiln_dtype)port->dtype, port->rank, port->dims, data,
                         (size_t)port->bytes};
}

int main(int n, char **arguments)
{
    kiln_context *context;
    kiln_executable *executable;
    kiln_workspace *workspace;
    if (n < 3 || kiln_context_create(NULL, &context)) return 2;
    if (kiln_executable_load(context, arguments[1], arguments[2], &executable) ||
        kiln_workspace_create(executable, &workspace)) {
        fprintf(stderr, "%s\n", kiln_context_message(context));
        return 1;
    }
    const kiln_program *program = kiln_executable_program(executable);
    kiln_tensor inputs[8], outputs[8];
    for (uint32_t i = 0; i < program->n_inputs; i++) inputs[i] = tensor_new(&program->inputs[i]);
    for (uint32_t i = 0; i < program->n_outputs; i++) outputs[i] = tensor_new(&program->outputs[i]);
    kiln_status status =
        kiln_run(workspace, inputs, program->n_inputs, outputs, program->n_outputs);
    if (status) fprintf(stderr, "%s\n", kiln_workspace_message(workspace));
    if (!status) printf("%s ran\n", program->name);
    for (uint32_t i = 0; i < program->n_inputs; i++) free(inputs[i].data);
    for (uint32_t i = 0; i < program->n_outputs; i++) free(outputs[i].data);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_context_destroy(context);
    return (int)status;
}
