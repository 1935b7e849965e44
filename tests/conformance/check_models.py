"""Models imported and exported again: onnx's checker accepts them, ONNX Runtime computes the same as before.

usage: check_models.py KILN FOLDER...: FOLDER holds cases (model.onnx, inputs.txt, input_<i>.npy, output_<i>.npy).
Exit 1 when one fails for another reason than an operation without a form in ONNX.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime


def check(kiln, folder, path):
    done = subprocess.run([kiln, "convert", os.path.join(folder, "model.onnx"), path], stderr=subprocess.PIPE,
                          text=True)
    if done.returncode:
        return "unsupported" if done.returncode == 3 else done.stderr.strip().splitlines()[0]
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = open(os.path.join(folder, "inputs.txt")).read().split("\n")[:-1]
    rtol, atol = map(float, open(os.path.join(folder, "tolerance")).read().split())
    arrays = {name: np.load(os.path.join(folder, "input_%d.npy" % i)) for i, name in enumerate(names)}
    outputs = session.run(None, arrays)
    for i, got in enumerate(outputs):
        path = os.path.join(folder, "output_%d.npy" % i)
        if got.dtype == np.int64 and got.shape == () and not os.path.exists(path):
            continue  # counts an output before it
        wanted = np.load(path)
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            return "output %d is %s%s; expected %s%s" % (i, got.dtype, got.shape, wanted.dtype, wanted.shape)
        if not np.allclose(got.astype(np.float64), wanted.astype(np.float64), rtol, atol, equal_nan=True):
            return "output %d differs" % i
    return None


def main():
    kiln, n, n_unsupported, failures = sys.argv[1], 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        for case in sorted(os.path.join(top, name) for top in sys.argv[2:] if os.path.isdir(top)
                           for name in os.listdir(top)):
            if not os.path.exists(os.path.join(case, "model.onnx")):
                continue
            try:
                why = check(kiln, case, os.path.join(folder, "model.onnx"))
            except Exception as error:
                why = str(error).strip().splitlines()[0]
            n += 1
            n_unsupported += why == "unsupported"
            if why and why != "unsupported":
                failures.append("%s: %s" % (os.path.basename(case), why))
    print("\n".join(failures))
    print("%d models exported again: %d agree, %d without a form in ONNX, %d failed"
          % (n, n - n_unsupported - len(failures), n_unsupported, len(failures)))
    return bool(failures) or n == n_unsupported


if __name__ == "__main__":
    sys.exit(main())
