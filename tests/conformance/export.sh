#!/usr/bin/env bash
# usage: export.sh EXPORT-CASES [N]: exports every op case and has ONNX's checker and ONNX Runtime look at
# them; at least N must pass. Skipped without the Python environment of setup.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${KILN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kiln}/venv/bin/python
"$python" -c 'import onnx, onnxruntime' 2>/dev/null ||
    { echo "skipped: no onnx and onnxruntime; tests/conformance/setup.sh gets them"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$1" "$folder"
"$python" "$here/check_export.py" "$folder" --least "${2:-1}"
