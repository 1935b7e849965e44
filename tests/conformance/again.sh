#!/usr/bin/env bash
# usage: again.sh KILN: the models of setup.sh, imported and exported again; skipped without them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${KILN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kiln}
[ -f "$cache/onnx-cases/stamp" ] ||
    { echo "skipped: no cases in $cache/onnx-cases; tests/conformance/setup.sh makes them"; exit 77; }
exec "$cache/venv/bin/python" "$here/check_models.py" "$1" "$cache/onnx-cases/models" "$cache/onnx-cases/torch"
