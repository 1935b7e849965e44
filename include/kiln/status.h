/* Status codes. Every fallible call returns one; the sentence that explains it stays on the object
 * at work (graph, workspace, else context) until that object's next failing call.
 *
 *     kiln_status status = kiln_compile(graph, &options, &executable);
 *     if (status != KILN_OK) fprintf(stderr, "%s\n", kiln_graph_message(graph));
 */
#ifndef KILN_STATUS_H
#define KILN_STATUS_H

#if defined(_WIN32)
#define KILN_API
#else
#define KILN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kiln_status {
#define KILN_STATUS(name, number, meaning) KILN_##name = number,
#include "kiln/status.def"
#undef KILN_STATUS
} kiln_status;

/* The code's name ("INVALID"); never NULL. */
KILN_API const char *kiln_status_name(kiln_status status);

/* One sentence on what the code means; never NULL. */
KILN_API const char *kiln_status_meaning(kiln_status status);

#ifdef __cplusplus
}
#endif
#endif
