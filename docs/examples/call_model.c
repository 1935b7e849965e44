/* usage: call_model LINE.f32
 * Calls a classifier compiled ahead of time (kiln compile cls.onnx -o model.so --header model.h):
 * links model.so and libc, neither Kiln nor LLVM. */
#include <stdio.h>

#include "model.h"

int main(int argc, char **argv)
{
    static float picture[MODEL_INPUT_0_BYTES / sizeof(float)];
    static float scores[MODEL_OUTPUT_0_BYTES / sizeof(float)];
    FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (!file || fread(picture, sizeof picture, 1, file) != 1) {
        fprintf(stderr, "call_model: the picture was not read\n");
        return 1;
    }
    fclose(file);
    int status = model_run((const void *[]){picture}, (void *[]){scores}, NULL);
    if (status) {
        fprintf(stderr, "call_model: status %d\n", status);
        return 1;
    }
    printf("call_model: upright %.3f, turned %.3f\n", scores[0], scores[1]);
    return scores[0] > scores[1] ? 0 : 1;
}
