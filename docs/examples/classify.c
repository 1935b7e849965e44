/* usage: classify MODEL.onnx [LINE.f32]
 * Runs a text-direction classifier (input f32[1,3,48,192] in [-1, 1], output two probabilities:
 * upright, turned by 180°) on a drawn line of text, upright and turned. Exit 0 when the class
 * flips. With LINE.f32 it also writes the upright picture as raw floats. */
#include <stdio.h>
#include <string.h>

#include "kiln/kiln.h"

enum { HEIGHT = 48, WIDTH = 192, SCALE = 3 };

typedef struct glyph {
    char letter;
    const char *rows[7];
} glyph;

static const glyph glyphs[] = {
    {'K', {"#...#", "#..#.", "#.#..", "##...", "#.#..", "#..#.", "#...#"}},
    {'I', {"###", ".#.", ".#.", ".#.", ".#.", ".#.", "###"}},
    {'L', {"#....", "#....", "#....", "#....", "#....", "#....", "#####"}},
    {'N', {"#...#", "##..#", "#.#.#", "#.#.#", "#..##", "#...#", "#...#"}},
    {'G', {".###.", "#...#", "#....", "#.###", "#...#", "#...#", ".###."}},
    {'R', {"####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"}},
    {'A', {".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"}},
    {'P', {"####.", "#...#", "#...#", "####.", "#....", "#....", "#...."}},
    {'H', {"#...#", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"}},
    {' ', {"...", "...", "...", "...", "...", "...", "..."}},
};

static const glyph *find_glyph(char letter)
{
    for (size_t i = 0; i < sizeof glyphs / sizeof *glyphs; i++) {
        if (glyphs[i].letter == letter) return &glyphs[i];
    }
    return &glyphs[sizeof glyphs / sizeof *glyphs - 1];
}

/* Black letters on white, each dot SCALE pixels wide. */
static void draw(const char *text, float picture[3][HEIGHT][WIDTH])
{
    for (int i = 0; i < 3 * HEIGHT * WIDTH; i++) ((float *)picture)[i] = 1;
    int left = 4, top = (HEIGHT - 7 * SCALE) / 2;
    for (; *text; text++) {
        const glyph *letter = find_glyph(*text);
        int columns = (int)strlen(letter->rows[0]);
        for (int y = 0; y < 7 * SCALE; y++) {
            for (int x = 0; x < columns * SCALE; x++) {
                if (letter->rows[y / SCALE][x / SCALE] != '#' || left + x >= WIDTH) continue;
                for (int c = 0; c < 3; c++) picture[c][top + y][left + x] = -1;
            }
        }
        left += (columns + 1) * SCALE;
    }
}

static void turn(float (*from)[HEIGHT][WIDTH], float (*to)[HEIGHT][WIDTH])
{
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < HEIGHT; y++) {
            for (int x = 0; x < WIDTH; x++) to[c][y][x] = from[c][HEIGHT - 1 - y][WIDTH - 1 - x];
        }
    }
}

static int fail(const char *message)
{
    fprintf(stderr, "classify: %s\n", message);
    return 1;
}

int main(int argc, char **argv)
{
    static float upright[3][HEIGHT][WIDTH], turned[3][HEIGHT][WIDTH];
    if (argc < 2) return fail("a model is missing");
    draw("KILN GRAPH", upright);
    turn(upright, turned);
    if (argc > 2) {
        FILE *file = fopen(argv[2], "wb");
        if (!file || fwrite(upright, sizeof upright, 1, file) != 1 || fclose(file)) {
            return fail("the picture was not written");
        }
    }
    int64_t dims[] = {1, 3, HEIGHT, WIDTH};
    kiln_shape_binding shape = {"x", 4, dims};
    kiln_import_options import = {.struct_bytes = sizeof import, .shapes = &shape, .n_shapes = 1};
    kiln_context *context;
    kiln_graph *graph;
    kiln_executable *executable;
    kiln_workspace *workspace;
    if (kiln_context_create(NULL, &context)) return fail("no context");
    if (kiln_import_onnx(context, argv[1], &import, &graph))
        return fail(kiln_context_message(context));
    if (kiln_compile(graph, NULL, &executable)) return fail(kiln_graph_message(graph));
    if (kiln_workspace_create(executable, &workspace)) return fail(kiln_context_message(context));

    float scores[2][2];
    for (int i = 0; i < 2; i++) {
        kiln_tensor input = {KILN_f32, 4, dims, i ? turned : upright, sizeof upright};
        kiln_tensor output = {KILN_f32, 2, (int64_t[]){1, 2}, scores[i], sizeof scores[i]};
        if (kiln_run(workspace, &input, 1, &output, 1))
            return fail(kiln_workspace_message(workspace));
        printf("classify: %s: upright %.3f, turned %.3f\n",
               i ? "turned by 180 degrees" : "upright line", scores[i][0], scores[i][1]);
    }
    kiln_compile_report report;
    kiln_executable_report(executable, &report);
    int is_flipped = scores[0][0] > scores[0][1] && scores[1][1] > scores[1][0];
    printf("classify: compiled in %.2f s to %u kernels; the class %s\n", report.seconds,
           report.n_groups, is_flipped ? "flips: ok" : "DOES NOT FLIP");
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
    return is_flipped ? 0 : 1;
}
