#!/usr/bin/env bash
# Makes what the ONNX conformance tests need, in a cache outside of the tree: a Python environment with
# onnx and onnxruntime, and models with the outputs that ONNX Runtime computes. Does nothing twice.
# Exit 77 (skipped) where Python or the packages cannot be had.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${KILN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kiln}
python=$cache/venv/bin/python
cases=$cache/onnx-cases

skip() { echo "skipped: $*"; exit 77; }

if ! "$python" -c 'import onnx, onnxruntime' 2>/dev/null; then
    command -v python3 >/dev/null || skip "no python3"
    mkdir -p "$cache"
    python3 -m venv "$cache/venv" >/dev/null 2>&1 || skip "python3 has no venv module"
    "$cache/venv/bin/pip" install --quiet --timeout 20 --retries 1 numpy onnx onnxruntime ||
        skip "pip cannot install onnx and onnxruntime"
fi
stamp=$(sha256sum <"$here/make_reference.py")
if [ "$(cat "$cases/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$cases"
    "$python" "$here/make_reference.py" "$cases"
    echo "$stamp" >"$cases/stamp"
fi
