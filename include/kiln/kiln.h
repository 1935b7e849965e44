/* Everything: the builder, models in files, compiling, running. */
#ifndef KILN_KILN_H
#define KILN_KILN_H

#include "kiln/compile.h"
#include "kiln/function.h"
#include "kiln/graph.h"
#include "kiln/images.h"
#include "kiln/layers.h"
#include "kiln/losses.h"
#include "kiln/model.h"
#include "kiln/program.h"
#include "kiln/recurrent.h"
#include "kiln/runtime.h"
#include "kiln/status.h"
#include "kiln/types.h"

#endif
