/* Convolutions by matrix tiles, shared by amx_conv.c (windows) and amx_band.c (bands of rows). */
#ifndef KILN_CODEGEN_AMX_CONV_H
#define KILN_CODEGEN_AMX_CONV_H

#include "codegen/amx.h"
#include "codegen/lower_conv.h"

#define KILN_AMX_SLACK 64 /* elements: stretches end in whole vectors, which hold 64 bytes */

typedef struct kiln_amx_conv {
    kiln_amx amx;
    kiln_conv conv;
    kiln_strided input;
    kiln_tile_source source;
    bool is_dense;                       /* neighbouring pixels lie together */
    bool is_joined;                      /* a stretch is a row of taps, not one tap */
    int64_t pitch;                       /* of a row of the local of windows, a pixel of a band */
    uint32_t lanes;                      /* elements of a step */
    int64_t padded_rows, padded_columns; /* bands: of a plane of a padded image */
    int64_t plane;                       /* elements from a plane to the next */
    kiln_kv first_padded;                /* row where the band at work begins */
} kiln_amx_conv;

/* Part of a window or band: input positions where it begins, which may lie in the padding. */
typedef struct kiln_amx_window {
    kiln_kv image, at[KILN_CONV_AXES];
    kiln_kv to;        /* element of the local */
    kiln_kv is_inside; /* i64: 1 when the outer positions are inside */
} kiln_amx_window;

/* Copies `taps` neighbouring pixels to the local, zeros where they lie in the padding. */
void kiln_amx_copy_stretch(kiln_amx_conv *c, const kiln_amx_window *w, int64_t taps);
/* Element of the input where the window begins. */
kiln_kv kiln_amx_place(const kiln_amx_conv *c, const kiln_amx_window *w);
/* i64: whether 0 <= a < n. */
kiln_kv kiln_amx_is_within(kiln_kernel *k, kiln_kv a, int64_t n);

/* Whether the tiles of A can be loaded from rows of the input; then says how. Needs the roles and
 * the format. */
bool kiln_amx_band_fits(const kiln_amx_conv *c);
void kiln_amx_band_open(kiln_amx_conv *c);
#endif
