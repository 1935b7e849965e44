"""Checks exported models with onnx's checker and runs them with ONNX Runtime.

usage: check_export.py FOLDER [--least N]
FOLDER/<case>: model.onnx, inputs.txt, input_<i>.npy, output_<i>.npy. Exit 1 when the checker refuses one,
when results differ, or when fewer than N ran. Operators without a kernel for a dtype count apart.
"""
import collections
import os
import sys

import ml_dtypes
import numpy as np
import onnx
import onnxruntime

TOLERANCE = {"f16": 4e-3, "bf16": 4e-2, "f32": 2e-5, "f64": 1e-9}


def load(path, dtype):
    array = np.load(path)
    return array.view(ml_dtypes.bfloat16).reshape(array.shape) if dtype == "bf16" else array


def is_missing(error):
    text = str(error)
    return any(word in text for word in ("NOT_IMPLEMENTED", "Could not find an implementation",
                                         "is under development", "not support", "No Op registered"))


def widened(model):
    """bf16 outputs as f32: NumPy has no bf16."""
    for output in model.graph.output:
        kind = output.type.tensor_type
        if kind.elem_type == onnx.TensorProto.BFLOAT16:
            model.graph.node.append(onnx.helper.make_node("Cast", [output.name], [output.name + "_f32"],
                                                          to=onnx.TensorProto.FLOAT))
            output.name += "_f32"
            kind.elem_type = onnx.TensorProto.FLOAT
    return model.SerializeToString()


def differs(got, wanted, dtype):
    if dtype == "bf16":
        wanted = wanted.astype(np.float32)
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        return "is %s%s; expected %s%s" % (got.dtype, got.shape, wanted.dtype, wanted.shape)
    if dtype not in TOLERANCE:
        return None if np.array_equal(got, wanted) else "integers differ"
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    if np.array_equal(np.isnan(got), np.isnan(wanted)):
        finite = wanted[np.isfinite(wanted)]
        largest = np.abs(finite).max() if finite.size else 0
        with np.errstate(invalid="ignore"):
            near = np.abs(got - wanted) <= TOLERANCE[dtype] * (np.abs(wanted) + 0.2 * largest + 1e-3)
        good = near | (got == wanted) | np.isnan(wanted)
        if good.all():
            return None
        at = np.unravel_index(np.argmin(good), good.shape)
        return "element %s is %.9g; expected %.9g" % (at, got[at], wanted[at])
    return "NaNs differ"


def run(folder, counts):
    with open(os.path.join(folder, "inputs.txt")) as file:
        lines = file.read().splitlines()
    title, ports = lines[-1], [line.rsplit(" ", 1) for line in lines[:-1]]
    path = os.path.join(folder, "model.onnx")
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception as error:
        return "the checker refuses it: %s" % str(error).strip().splitlines()[0]
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    inputs = {name: load(os.path.join(folder, "input_%d.npy" % i), dtype)
              for i, (name, dtype) in enumerate(ports[:-1])}
    try:
        session = onnxruntime.InferenceSession(widened(onnx.load(path)), options, providers=["CPUExecutionProvider"])
        wanted_names = {value.name for value in session.get_inputs()}
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
            array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array,
            onnx.TensorProto.BFLOAT16) if array.dtype == ml_dtypes.bfloat16 else
            onnxruntime.OrtValue.ortvalue_from_numpy(array)
            for name, array in inputs.items() if name in wanted_names}
        got = session.run_with_ort_values(None, values)[0].numpy()
    except Exception as error:
        if is_missing(error):
            counts["missing"] += 1
            if "-v" in sys.argv:
                print("no kernel: %s: %s" % (title, str(error).splitlines()[0][-120:]))
            return None
        return "ONNX Runtime: %s" % str(error).strip().splitlines()[0]
    why = differs(got, load(os.path.join(folder, "output_0.npy"), ports[-1][1]), ports[-1][1])
    counts["passed"] += why is None
    return why and "%s: %s" % (title, why)


def main():
    folder, least = sys.argv[1], int(sys.argv[3]) if len(sys.argv) > 3 else 1
    counts, failures = collections.Counter(), []
    for name in sorted(os.listdir(folder), key=lambda name: (len(name), name)):
        if not os.path.exists(os.path.join(folder, name, "inputs.txt")):
            continue
        why = run(os.path.join(folder, name), counts)
        if why:
            failures.append("%s: %s" % (name, why))
    for why in failures[:200]:
        print(why)
    print("%d passed, %d without a kernel in ONNX Runtime %s, %d failed"
          % (counts["passed"], counts["missing"], onnxruntime.__version__, len(failures)))
    return bool(failures) or counts["passed"] < least


if __name__ == "__main__":
    sys.exit(main())
