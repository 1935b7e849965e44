"""Writes ONNX cases as folders: model.onnx, inputs.txt (names), input_<i>.npy, output_<i>.npy, tolerance.

usage: make_reference.py FOLDER
FOLDER/models   small models made here, with the outputs of ONNX Runtime
FOLDER/node     the official node cases of the onnx package, with their own outputs
FOLDER/simple, pytorch-converted, pytorch-operator, light   the other suites of that package
"""
import glob
import os
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

warnings.filterwarnings("ignore")
FLOAT, INT64, INT32, BOOL, UINT8 = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32,
                                    TensorProto.BOOL, TensorProto.UINT8)


def save(folder, model, names, inputs, outputs, tolerance):
    os.makedirs(folder, exist_ok=True)
    onnx.save(model, os.path.join(folder, "model.onnx"))
    with open(os.path.join(folder, "inputs.txt"), "w") as file:
        file.write("".join(name + "\n" for name in names))
    with open(os.path.join(folder, "tolerance"), "w") as file:
        file.write("%g %g\n" % tolerance)
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    with open(os.path.join(folder, "dtypes.txt"), "w") as file:
        file.write("".join("%d\n" % types.get(name, 0) for name in names))
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for i, array in enumerate(arrays):
            array = np.asarray(array)
            np.save(os.path.join(folder, "%s_%d.npy" % (kind, i)),
                    np.ascontiguousarray(array).reshape(array.shape))


# Models: name -> (nodes, inputs as arrays, constants, operator set).

def random(*dims, seed=0, low=-2.0, high=2.0):
    return np.random.default_rng(seed).uniform(low, high, dims).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


N = helper.make_node


def convolutions():
    x = random(2, 6, 9, 8)
    for name, w, attributes in [
            ("conv_plain", random(5, 6, 3, 3, seed=1), {}),
            ("conv_stride_pad", random(5, 6, 3, 3, seed=1), dict(strides=[2, 1], pads=[1, 0, 2, 1])),
            ("conv_dilated", random(5, 6, 2, 3, seed=1), dict(dilations=[2, 2])),
            ("conv_groups", random(4, 3, 3, 3, seed=1), dict(group=2, pads=[1, 1, 1, 1])),
            ("conv_depthwise", random(6, 1, 3, 3, seed=1), dict(group=6, auto_pad="SAME_UPPER", strides=[2, 2])),
            ("conv_1x1", random(7, 6, 1, 1, seed=1), {})]:
        yield name, [N("Conv", ["x", "w", "b"], ["y"], **attributes)], {"x": x}, \
            {"w": w, "b": random(w.shape[0], seed=2)}, 17
    for name, w, attributes in [
            ("conv_transpose", random(6, 4, 3, 3, seed=1), dict(strides=[2, 2], pads=[1, 1, 0, 1])),
            ("conv_transpose_groups", random(6, 2, 2, 2, seed=1),
             dict(group=3, strides=[2, 3], output_padding=[1, 0]))]:
        yield name, [N("ConvTranspose", ["x", "w"], ["y"], **attributes)], {"x": x}, {"w": w}, 17
    yield "conv_1d_relu", [N("Conv", ["x", "w"], ["a"], pads=[2, 0]), N("Relu", ["a"], ["y"])], \
        {"x": random(1, 3, 17)}, {"w": random(4, 3, 5, seed=1)}, 13
    scale, offset, mean = random(6, seed=3), random(6, seed=4), random(6, seed=5)
    yield "conv_batch_norm", [N("Conv", ["x", "w"], ["a"]),
                              N("BatchNormalization", ["a", "s", "o", "m", "v"], ["y"])], {"x": x}, \
        {"w": random(6, 6, 3, 3, seed=1), "s": scale, "o": offset, "m": mean,
         "v": random(6, seed=6, low=0.5, high=2)}, 15


def pools():
    x = random(1, 3, 7, 9)
    for op in ("MaxPool", "AveragePool"):
        for name, attributes in [
                ("plain", dict(kernel_shape=[2, 3])),
                ("pad_stride", dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])),
                ("ceil", dict(kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)),
                ("same", dict(kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER"))]:
            yield op + "_" + name, [N(op, ["x"], ["y"], **attributes)], {"x": x}, {}, 17
    yield "AveragePool_count_pad", [N("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1],
                                      count_include_pad=1)], {"x": x}, {}, 17
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        yield op, [N(op, ["x"], ["y"])], {"x": x}, {}, 17


def resizes():
    x = random(1, 2, 5, 6)
    for mode in ("nearest", "linear", "cubic"):
        for place in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
            for scales in ((1, 1, 2, 2), (1, 1, 0.6, 1.7)):
                if place == "align_corners" and scales[2] != 2:
                    continue  # ONNX Runtime rounds the new length here, the specification does not
                yield "Resize_%s_%s_%g" % (mode, place, scales[2]), \
                    [N("Resize", ["x", "", "s"], ["y"], mode=mode, coordinate_transformation_mode=place)], \
                    {"x": x}, {"s": np.array(scales, np.float32)}, 13


def linears():
    a, b = random(2, 3, 4, 5), random(2, 1, 5, 6, seed=1)
    yield "MatMul_batch", [N("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b}, {}, 13
    yield "MatMul_weights", [N("MatMul", ["a", "w"], ["t"]), N("Add", ["t", "c"], ["y"])], {"a": a}, \
        {"w": random(5, 7, seed=1), "c": random(7, seed=2)}, 13
    yield "MatMul_vectors", [N("MatMul", ["v", "w"], ["y"])], {"v": random(5)}, {"w": random(5, 7, seed=1)}, 13
    for left in (0, 1):
        for right in (0, 1):
            yield "Gemm_%d%d" % (left, right), \
                [N("Gemm", ["a", "b", "c"], ["y"], transA=left, transB=right, alpha=0.5, beta=2.0)], \
                {"a": random(*((4, 3) if left else (3, 4)))}, \
                {"b": random(*((5, 4) if right else (4, 5)), seed=1), "c": random(1, 5, seed=2)}, 13
    yield "Einsum_attention", [N("Einsum", ["q", "k"], ["y"], equation="bthd,bshd->bhts")], \
        {"q": random(2, 3, 4, 5), "k": random(2, 6, 4, 5, seed=1)}, {}, 13


def sequences():
    x = random(5, 2, 3)
    for op, gates, states in (("LSTM", 4, 2), ("GRU", 3, 1), ("RNN", 1, 1)):
        for direction, n in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
            outputs = ["y", "h", "c"][:1 + states]
            yield op + "_" + direction, \
                [N(op, ["x", "w", "r", "b"], outputs, hidden_size=4, direction=direction)], {"x": x}, \
                {"w": random(n, gates * 4, 3, seed=1), "r": random(n, gates * 4, 4, seed=2),
                 "b": random(n, gates * 8, seed=3)}, 14


def quantised():
    x = random(3, 8)
    yield "quantise_back", [N("QuantizeLinear", ["x", "s", "z"], ["q"]),
                            N("DequantizeLinear", ["q", "s", "z"], ["y"])], {"x": x}, \
        {"s": np.float32(0.02), "z": np.uint8(120)}, 13
    yield "dynamic_quantised_matmul", \
        [N("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), N("MatMulInteger", ["q", "w", "z"], ["p"]),
         N("Cast", ["p"], ["f"], to=FLOAT), N("Mul", ["f", "s"], ["y"])], {"x": x}, \
        {"w": np.random.default_rng(1).integers(-128, 127, (8, 5)).astype(np.int8)}, 13
    codes = np.random.default_rng(2)
    for name, rows, bits, zeros in [("", 2, 4, False), ("_zero_points", 3, 4, True), ("_rows", 40, 4, True),
                                    ("_bytes", 1, 8, False)]:
        weights = {"w": codes.integers(0, 256, (70, 4, 4 * bits)).astype(np.uint8),
                   "s": codes.random(70 * 4).astype(np.float32)}
        if zeros:
            weights["z"] = codes.integers(0, 256, 70 * 4 * bits // 8).astype(np.uint8)
        yield "MatMulNBits" + name, [N("MatMulNBits", ["x"] + list(weights), ["y"], domain="com.microsoft", K=100,
                                       N=70, bits=bits, block_size=32)], {"x": random(rows, 100)}, weights, 17


def shapes():
    x = random(2, 3, 4)
    yield "shape_chain", \
        [N("Shape", ["x"], ["s"]), N("Gather", ["s", "i"], ["d"]), N("Unsqueeze", ["d", "zero"], ["u"]),
         N("Concat", ["u", "rest"], ["t"], axis=0), N("Reshape", ["x", "t"], ["y"])], {"x": x}, \
        {"i": np.array(0, np.int64), "zero": ints(0), "rest": ints(-1)}, 13
    yield "mask_from_lengths", \
        [N("Range", ["zero", "four", "one"], ["r"]), N("Less", ["r", "n"], ["m"]),
         N("Where", ["m", "x", "low"], ["a"]), N("Softmax", ["a"], ["y"], axis=-1)], \
        {"x": x, "n": ints([2], [4], [1])}, \
        {"zero": np.array(0, np.int64), "four": np.array(4, np.int64), "one": np.array(1, np.int64),
         "low": np.float32(-1e4)}, 13
    yield "gather_data_index", [N("Gather", ["x", "i"], ["y"], axis=1)], {"x": x, "i": ints([0, -1], [2, 1])}, {}, 13
    yield "slice_backwards", [N("Slice", ["x", "a", "b", "c", "d"], ["y"])], {"x": x}, \
        {"a": ints(-1, 0), "b": ints(-100, 100), "c": ints(2, 0), "d": ints(-2, 1)}, 13
    yield "pads", [N("Pad", ["x", "p"], ["a"], mode="reflect"), N("Pad", ["a", "p"], ["y"], mode="edge")], \
        {"x": x}, {"p": ints(0, 1, 2, 0, 2, 1)}, 13
    yield "split_concat", [N("Split", ["x", "s"], ["a", "b"], axis=2), N("Concat", ["b", "a"], ["y"], axis=-1)], \
        {"x": x}, {"s": ints(1, 3)}, 13


def sizes_from_data():
    """What NonZero, Compress, Unique, NonMaxSuppression and a loop that ends early give, and what reads it."""
    x = random(4, 5)
    positive = [N("Greater", ["x", "zero"], ["m"]), N("NonZero", ["m"], ["nz"])]
    zero = {"zero": np.float32(0)}
    yield "nonzero_gather_nd", positive + [N("Transpose", ["nz"], ["t"], perm=[1, 0]),
                                           N("GatherND", ["x", "t"], ["v"]), N("Exp", ["v"], ["y"])], {"x": x}, zero, 13
    yield "nonzero_row", positive + [N("Gather", ["nz", "i"], ["r"], axis=0), N("Gather", ["x", "r"], ["g"], axis=0),
                                     N("MatMul", ["g", "w"], ["p"]), N("Softmax", ["p"], ["y"])], \
        {"x": x}, dict(zero, i=np.array(0, np.int64), w=random(5, 3, seed=1)), 13
    yield "nonzero_sum", positive + [N("Transpose", ["nz"], ["t"], perm=[1, 0]), N("GatherND", ["x", "t"], ["v"]),
                                     N("ReduceMean", ["v"], ["a"]), N("ReduceMax", ["v"], ["b"]),
                                     N("ReduceMin", ["v"], ["c"]), N("Shape", ["nz"], ["s"]), N("Size", ["v"], ["k"]),
                                     N("Cast", ["s"], ["sf"], to=FLOAT), N("Cast", ["k"], ["kf"], to=FLOAT),
                                     N("Sum", ["a", "b", "c", "sf", "kf"], ["y"])], {"x": x}, zero, 12
    yield "nonzero_none", [N("Greater", ["x", "ten"], ["m"]), N("NonZero", ["m"], ["y"])], {"x": x}, \
        {"ten": np.float32(10)}, 13
    yield "compress_columns", [N("ReduceSum", ["x"], ["s"], axes=[0], keepdims=0), N("Greater", ["s", "zero"], ["m"]),
                               N("Compress", ["x", "m"], ["c"], axis=1), N("Mul", ["c", "w"], ["y"])], \
        {"x": x}, dict(zero, w=random(4, 1, seed=2)), 12
    yield "unique_counts", [N("Round", ["x"], ["r"]), N("Unique", ["r"], ["u", "i", "v", "n"]),
                            N("Cast", ["n"], ["f"], to=FLOAT), N("Mul", ["u", "f"], ["y"])], {"x": random(40)}, {}, 13
    yield "unique_rows", [N("Round", ["x"], ["r"]), N("Unique", ["r"], ["u", "i", "v", "n"], axis=0, sorted=0),
                          N("Add", ["u", "b"], ["y"])], {"x": random(30, 2)}, {"b": random(2, seed=3)}, 13
    corners = random(1, 60, 2, seed=4, low=0, high=20)
    boxes = np.concatenate([corners, corners + random(1, 60, 2, seed=5, low=2, high=8)], 2)
    yield "detections", [N("NonMaxSuppression", ["boxes", "scores", "k", "iou", "least"], ["sel"]),
                         N("Gather", ["sel", "two"], ["j"], axis=1), N("Gather", ["b2", "j"], ["y"], axis=0)], \
        {"boxes": boxes, "scores": random(1, 3, 60, seed=6, low=0, high=1), "b2": boxes[0]}, \
        {"k": np.array(20, np.int64), "iou": np.float32(0.3), "least": np.float32(0.4),
         "two": np.array(2, np.int64)}, 13
    body = helper.make_graph(
        [N("Mul", ["a", "half"], ["a1"]), N("ReduceSum", ["a1"], ["s"], keepdims=0), N("Greater", ["s", "one"], ["on1"]),
         N("Identity", ["a1"], ["row"])], "body",
        [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("on", BOOL, []),
         helper.make_tensor_value_info("a", FLOAT, [3])],
        [helper.make_tensor_value_info("on1", BOOL, []), helper.make_tensor_value_info("a1", FLOAT, [3]),
         helper.make_tensor_value_info("row", FLOAT, [3])],
        [numpy_helper.from_array(np.float32(0.5), "half"), numpy_helper.from_array(np.float32(1), "one")])
    yield "loop_ends_early", [N("Loop", ["n", "", "x"], ["last", "rows"], body=body), N("Neg", ["rows"], ["y"])], \
        {"x": random(3, low=4, high=9)}, {"n": np.array(12, np.int64)}, 13


def decoders():
    """Operators of com.microsoft."""
    heads, groups, width, positions = 4, 2, 16, 16
    angles = np.outer(np.arange(positions), 1.0 / 100 ** (np.arange(width // 2) / 4)).astype(np.float32)
    caches = {"cos": np.cos(angles), "sin": np.sin(angles)}
    yield "RotaryEmbedding_contrib", \
        [N("RotaryEmbedding", ["x", "at", "cos", "sin"], ["y"], domain="com.microsoft", num_heads=heads)], \
        {"x": random(2, 3, heads * width), "at": ints([3, 4, 5], [0, 1, 2])}, caches, 17
    yield "RotaryEmbedding_contrib_offset", \
        [N("RotaryEmbedding", ["x", "at", "cos", "sin"], ["y"], domain="com.microsoft", interleaved=1)], \
        {"x": random(2, heads, 3, width)}, dict(caches, at=ints(4)), 17
    for name, rows, past, lengths, rotary in [("prompt", 5, 0, [4, 4], 1), ("decode", 1, 6, [6, 6], 1),
                                              ("ragged", 1, 6, [6, 3], 0), ("window", 1, 6, [6, 5], 0)]:
        pasts = ["pk", "pv"] if past else ["", ""]
        inputs = {"q": random(2, rows, heads * width, seed=1), "k": random(2, rows, groups * width, seed=2),
                  "v": random(2, rows, groups * width, seed=3)}
        if past:
            inputs.update(pk=random(2, groups, past, width, seed=4), pv=random(2, groups, past, width, seed=5))
        attributes = dict(num_heads=heads, kv_num_heads=groups, do_rotary=rotary)
        if name == "window":
            attributes["local_window_size"] = 3
        # behind its length the present of a shorter sequence is nobody's
        nodes = [N("GroupQueryAttention", ["q", "k", "v"] + pasts + ["n", "total"] + (["cos", "sin"] if rotary else []),
                   ["y", "nk", "nv"], domain="com.microsoft", **attributes)]
        if name in ("ragged", "window"):
            nodes.append(N("Neg", ["y"], ["z"]))
        yield "GroupQueryAttention_" + name, nodes, inputs, \
            dict(caches if rotary else {}, n=np.array(lengths, np.int32), total=np.array(past + rows, np.int32)), 17


def norms():
    x = random(2, 4, 6)
    yield "LayerNormalization", [N("LayerNormalization", ["x", "s", "b"], ["y"], axis=-1)], {"x": x}, \
        {"s": random(6, seed=1), "b": random(6, seed=2)}, 17
    yield "layer_norm_by_hand", \
        [N("ReduceMean", ["x"], ["m"], axes=[-1]), N("Sub", ["x", "m"], ["d"]), N("Pow", ["d", "two"], ["q"]),
         N("ReduceMean", ["q"], ["v"], axes=[-1]), N("Add", ["v", "e"], ["w"]), N("Sqrt", ["w"], ["r"]),
         N("Div", ["d", "r"], ["y"])], {"x": x}, {"two": np.float32(2), "e": np.float32(1e-5)}, 13
    yield "InstanceNormalization", [N("InstanceNormalization", ["x", "s", "b"], ["y"])], {"x": x}, \
        {"s": random(4, seed=1), "b": random(4, seed=2)}, 17
    yield "LRN", [N("LRN", ["x"], ["y"], size=3)], {"x": random(1, 5, 2, 3)}, {}, 13
    yield "gelu_by_hand", \
        [N("Div", ["x", "root"], ["a"]), N("Erf", ["a"], ["b"]), N("Add", ["b", "one"], ["c"]),
         N("Mul", ["x", "c"], ["d"]), N("Mul", ["d", "half"], ["y"])], {"x": x}, \
        {"root": np.float32(2 ** 0.5), "one": np.float32(1), "half": np.float32(0.5)}, 13
    yield "softmax_flattened", [N("Softmax", ["x"], ["y"], axis=1)], {"x": x}, {}, 11


def model_make(nodes, inputs, constants, opset):
    outputs = [name for name in nodes[-1].output]
    of = {np.dtype(np.float32): FLOAT, np.dtype(np.int64): INT64}
    graph = helper.make_graph(
        nodes, "case",
        [helper.make_tensor_value_info(name, of[array.dtype], array.shape) for name, array in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)],
                             ir_version=8)


def models_write(folder):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    n = 0
    for family in (convolutions, pools, resizes, linears, sequences, quantised, shapes, sizes_from_data, decoders,
                   norms):
        for name, nodes, inputs, constants, opset in family():
            model = model_make(nodes, inputs, constants, opset)
            session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                                   providers=["CPUExecutionProvider"])
            outputs = session.run(None, inputs)
            save(os.path.join(folder, name), model, list(inputs), list(inputs.values()), outputs, (1e-3, 1e-4))
            n += 1
    print("%d models by ONNX Runtime %s" % (n, onnxruntime.__version__))


# Official node cases

def array_of(value):
    value = numpy_helper.to_array(value) if isinstance(value, TensorProto) else value
    is_tensor = isinstance(value, (np.ndarray, np.generic))
    return np.asarray(value) if is_tensor and np.asarray(value).dtype.kind not in "OUSc" else None


def node_write(folder, case):
    inputs, outputs = ([array_of(value) for value in values] for values in case.data_sets[0])
    if any(array is None for array in inputs + outputs):
        return 0
    # the narrow types are rounded after each step there: two units in the last place
    widths = {"float16": 2.0 ** -9, "bfloat16": 2.0 ** -6}
    rtol = max([case.rtol] + [widths.get(array.dtype.name, 0) for array in inputs + outputs])
    save(os.path.join(folder, case.name), case.model, [value.name for value in case.model.graph.input],
         inputs, outputs, (rtol, max(case.atol, 1e-6)))
    return 1


def nodes_write(folder):
    from onnx.backend.test.case.node import collect_testcases
    n = 0
    for case in collect_testcases(None):
        if case.model is not None and case.data_sets:
            n += node_write(folder, case)
    print("%d node cases of onnx %s" % (n, onnx.__version__))


# The suites that the onnx package has as files

def proto_read(path, declared):
    """The array of a .pb file, None for what is no tensor of numbers."""
    if declared.type.WhichOneof("value") != "tensor_type":
        return None
    with open(path, "rb") as file:
        return array_of(TensorProto.FromString(file.read()))


def port_dummy(value):
    """Inputs of the light suite: an even ramp, as the package's own runner makes them."""
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    n = int(np.prod(dims))
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return (np.arange(n).reshape(dims) / n).astype(dtype)


def suite_case(folder, path, data, outputs):
    model = onnx.load(path)
    ports = [value for value in model.graph.input
             if value.name not in {tensor.name for tensor in model.graph.initializer}]
    if data:
        inputs = [proto_read(os.path.join(data, "input_%d.pb" % i), port)
                  for i, port in enumerate(ports)]
    else:
        inputs = [port_dummy(port) for port in ports]
    results = [proto_read(name, port) for name, port in zip(outputs, model.graph.output)]
    if any(array is None for array in inputs + results):
        return 0
    save(folder, model, [port.name for port in ports], inputs, results, (1e-3, 1e-5))
    return 1


def suites_write(folder):
    root = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")
    for suite in ("simple", "pytorch-converted", "pytorch-operator"):
        n = 0
        for path in sorted(glob.glob(os.path.join(root, suite, "*", "model.onnx"))):
            data = os.path.join(os.path.dirname(path), "test_data_set_0")
            count = len(glob.glob(os.path.join(data, "output_*.pb")))
            outputs = [os.path.join(data, "output_%d.pb" % i) for i in range(count)]
            name = os.path.basename(os.path.dirname(path))
            n += suite_case(os.path.join(folder, suite, name), path, data, outputs)
        print("%d cases of %s" % (n, suite))
    n = 0
    for path in sorted(glob.glob(os.path.join(root, "light", "*.onnx"))):
        name = os.path.splitext(path)[0]
        n += suite_case(os.path.join(folder, "light", os.path.basename(name)), path, None,
                        [name + "_output_0.pb"])
    print("%d cases of light" % n)


if __name__ == "__main__":
    models_write(os.path.join(sys.argv[1], "models"))
    nodes_write(os.path.join(sys.argv[1], "node"))
    suites_write(sys.argv[1])
