#!/usr/bin/env bash
# usage: minilm.sh MINILM: embeddings of the MiniLM encoder against those of PyTorch; skipped without them.
set -euo pipefail
folder=${KILN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kiln}/minilm
[ -f "$folder/embeddings.npy" ] ||
    { echo "skipped: no embeddings in $folder; tests/conformance/setup.sh makes them"; exit 77; }
exec "$1" "$folder/model.safetensors" "$folder/ids.npy" "$folder/mask.npy" "$folder/embeddings.npy"
