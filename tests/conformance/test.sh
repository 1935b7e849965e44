#!/usr/bin/env bash
# usage: test.sh ONNX-CASES SUITE [OPTION]...: runs the cases that setup.sh has made; skipped without them.
set -euo pipefail
cache=${KILN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kiln}
cases=$cache/onnx-cases
runner=$1 suite=$2
shift 2
[ -f "$cases/stamp" ] && [ -d "$cases/$suite" ] || { echo "skipped: no cases in $cases; tests/conformance/setup.sh makes them"; exit 77; }
exec "$runner" "$@" "$cases/$suite"
