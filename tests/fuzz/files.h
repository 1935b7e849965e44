/* A graph written in every file format and read again: text and binary give the same graph, ONNX
 * one that computes the same. */
#ifndef KILN_TESTS_FUZZ_FILES_H
#define KILN_TESTS_FUZZ_FILES_H

#include "fuzz/shrink.h"
#include "ops/compiled.h"

/* The files stand in `folder` while this runs. `result->outputs` are those of the evaluator for the
 * graph that came back from ONNX; its status is UNSUPPORTED where there is no form in ONNX, and
 * another one with a sentence where a graph was not read or came back different. */
void fuzz_files_run(kiln_scope *scope, const char *folder, const fuzz_case *c,
                    compiled_result *result);
#endif
