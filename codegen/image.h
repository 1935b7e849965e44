/* A compiled model as one run of bytes without addresses: its tables, names, objects and figures;
 * the constants stand apart. What the cache stores. Bytes are of this machine's order and of one
 * build of the library: the cache's key sees to that. */
#ifndef KILN_CODEGEN_IMAGE_H
#define KILN_CODEGEN_IMAGE_H

#include "codegen/compile.h"

/* Appends the image of an artifact for a CPU to `text`, which may then hold zero bytes. */
void kiln_image_write(const kiln_artifact *artifact, kiln_text *text);

/* Fills program, objects and report from an image; constants and code stay empty. CORRUPT when
 * the bytes are no image: nothing outside them is read. Everything lands in artifact->arena. */
void kiln_image_read(kiln_scope *scope, const void *image, size_t bytes, kiln_artifact *artifact);
#endif
