"""The models of the int8 rows: products of bytes written node by node, and PyTorch modules that ONNX
Runtime's quantiser turns into QDQ form (u8 activations, i8 weights a scale per channel), calibrated on
random inputs. Every engine reads the same file."""
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


def save(name, nodes, inputs, output, constants, folder):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name + ".onnx")
    given = [helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
             for key, x in inputs.items()]
    tensors = [numpy_helper.from_array(x, key) for key, x in constants.items()]
    graph = helper.make_graph(nodes, name, given, [output], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8), path)
    return path, inputs


def operands(n):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (n, n)).astype(np.uint8), random.integers(-127, 128, (n, n)).astype(np.int8)


def matmul_i32(n, folder):
    """i8 by i8 weights, results in i32."""
    a, w = operands(n)
    a = (a.astype(np.int16) - 128).astype(np.int8)
    node = helper.make_node("MatMulInteger", ["a", "w"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.INT32, [n, n])
    return save(f"matmul_i8_{n}", [node], {"a": a}, output, {"w": w}, folder)


def matmul_qdq(n, folder):
    """The same between DequantizeLinear and QuantizeLinear: results in i8."""
    a, w = operands(n)
    constants = {"w": w, "sa": np.float32(0.02), "za": np.uint8(113), "zw": np.zeros(n, np.int8),
                 "sw": np.random.default_rng(1).uniform(0.005, 0.02, n).astype(np.float32),
                 "sy": np.float32(3.0), "zy": np.int8(-5)}
    nodes = [helper.make_node("DequantizeLinear", ["a", "sa", "za"], ["fa"]),
             helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["fw"], axis=1),
             helper.make_node("MatMul", ["fa", "fw"], ["fy"]),
             helper.make_node("QuantizeLinear", ["fy", "sy", "zy"], ["y"])]
    output = helper.make_tensor_value_info("y", TensorProto.INT8, [n, n])
    return save(f"matmul_i8_{n}_qdq", nodes, {"a": a}, output, constants, folder)


def static(name, module, inputs, folder):
    """A module in QDQ form; made once and kept."""
    import torch
    from onnxruntime import quantization
    path, plain = (os.path.join(folder, name + end) for end in ("_qdq.onnx", "_plain.onnx"))
    names = [f"x{i}" for i in range(len(inputs))]
    feed = {key: x.numpy() for key, x in zip(names, inputs)}
    if os.path.exists(path):
        return path, feed

    class Calibration(quantization.CalibrationDataReader):
        def __init__(self):
            generator = torch.Generator().manual_seed(1)
            self.left = iter([{key: torch.randn(x.shape, generator=generator).numpy()
                               for key, x in zip(names, inputs)} for _ in range(4)])

        def get_next(self):
            return next(self.left, None)

    os.makedirs(folder, exist_ok=True)
    torch.onnx.export(module, tuple(inputs), plain, dynamo=False, opset_version=OPSET, input_names=names)
    prepared = path + ".prepared"
    quantization.quant_pre_process(plain, prepared)
    quantization.quantize_static(prepared, path, Calibration(), per_channel=True,
                                 quant_format=quantization.QuantFormat.QDQ,
                                 activation_type=quantization.QuantType.QUInt8,
                                 weight_type=quantization.QuantType.QInt8)
    os.remove(prepared)
    os.remove(plain)
    return path, feed


def vision(name, dims, folder):
    import torch
    import torchvision
    torch.manual_seed(0)
    module = getattr(torchvision.models, name)(weights=None).eval()
    return static(f"{name}_b{dims[0]}", module, [torch.randn(*dims)], folder)


def bert(name, dims, folder):
    import torch
    import workloads
    torch.manual_seed(0)
    return dynamic(name, workloads.Bert().eval(), [workloads.tokens(*dims)()], folder)


def dynamic(name, module, inputs, folder):
    """Products in DynamicQuantizeLinear and MatMulInteger form."""
    import torch
    from onnxruntime import quantization
    path, plain = (os.path.join(folder, name + end) for end in ("_dynamic.onnx", "_plain.onnx"))
    names = [f"x{i}" for i in range(len(inputs))]
    feed = {key: x.numpy() for key, x in zip(names, inputs)}
    if os.path.exists(path):
        return path, feed
    os.makedirs(folder, exist_ok=True)
    torch.onnx.export(module, tuple(inputs), plain, dynamo=False, opset_version=OPSET, input_names=names)
    quantization.quantize_dynamic(plain, path, per_channel=True, weight_type=quantization.QuantType.QInt8,
                                  op_types_to_quantize=["MatMul", "Gemm"])
    os.remove(plain)
    return path, feed


def torch_product(name, feed):
    """The product in i32 as a function, where PyTorch has it."""
    import torch
    if name != "matmul_i8_2048":
        return None
    a, w = torch.from_numpy(feed["a"]), torch.from_numpy(operands(2048)[1])
    return lambda: torch._int_mm(a, w)


MODELS = {
    "matmul_i8_2048": lambda folder: matmul_i32(2048, folder),
    "matmul_i8_2048_qdq": lambda folder: matmul_qdq(2048, folder),
    "resnet50_b1": lambda folder: vision("resnet50", (1, 3, 224, 224), folder),
    "resnet50_b8": lambda folder: vision("resnet50", (8, 3, 224, 224), folder),
    "bert_base_b1_s128": lambda folder: bert("bert_b1", (1, 128), folder),
}
