"""A thin ctypes view of libkiln for benchmarks: import an ONNX file, compile, run on NumPy arrays."""
import ctypes as C
import os

import numpy as np

DTYPES = {1: np.bool_, 2: np.int8, 3: np.uint8, 4: np.int16, 5: np.uint16, 6: np.int32, 7: np.uint32,
          8: np.int64, 9: np.uint64, 10: np.uint16, 11: np.float16, 12: np.float32, 13: np.float64}


class Tensor(C.Structure):
    _fields_ = [("dtype", C.c_uint32), ("rank", C.c_uint32), ("dims", C.POINTER(C.c_int64)),
                ("data", C.c_void_p), ("bytes", C.c_size_t)]


class Port(C.Structure):
    _fields_ = [("name", C.c_char_p), ("dtype", C.c_uint32), ("rank", C.c_uint32),
                ("dims", C.POINTER(C.c_int64)), ("bytes", C.c_int64), ("donated_to", C.c_uint32),
                ("reserved", C.c_uint32)]


class Program(C.Structure):
    _fields_ = [("abi", C.c_uint32), ("struct_bytes", C.c_uint32), ("name", C.c_char_p),
                ("target", C.c_char_p), ("producer", C.c_char_p), ("cpu_features", C.c_uint64),
                ("inputs", C.POINTER(Port)), ("outputs", C.POINTER(Port)), ("buffers", C.c_void_p),
                ("operands", C.c_void_p), ("steps", C.c_void_p), ("kernels", C.c_void_p),
                ("kernel_names", C.c_void_p), ("strings", C.c_void_p), ("n_inputs", C.c_uint32),
                ("n_outputs", C.c_uint32)]


class ContextOptions(C.Structure):
    _fields_ = [("struct_bytes", C.c_size_t), ("threads", C.c_uint32), ("reserved", C.c_uint32),
                ("max_bytes", C.c_int64), ("allocator", C.c_void_p), ("parallel", C.c_void_p),
                ("parallel_user", C.c_void_p)]


class CompileOptions(C.Structure):
    _fields_ = [("struct_bytes", C.c_size_t), ("target", C.c_char_p), ("target_cpu", C.c_char_p),
                ("precision", C.c_int), ("is_strict", C.c_int), ("is_unfused", C.c_int),
                ("flush_denormals", C.c_int), ("compile_threads", C.c_uint32), ("max_bytes", C.c_int64),
                ("dump_dir", C.c_char_p), ("progress", C.c_void_p), ("progress_user", C.c_void_p)]


class Report(C.Structure):
    _fields_ = [("seconds", C.c_double), ("n_nodes", C.c_uint32), ("n_groups", C.c_uint32),
                ("n_kernels", C.c_uint32), ("flops", C.c_int64), ("bytes", C.c_int64)]


class Limits(C.Structure):
    _fields_ = [("copy_gb_per_s", C.c_double), ("f32_gflop_per_s", C.c_double)]


class ShapeBinding(C.Structure):
    _fields_ = [("input", C.c_char_p), ("rank", C.c_uint32), ("dims", C.POINTER(C.c_int64))]


class ImportOptions(C.Structure):
    _fields_ = [("struct_bytes", C.c_size_t), ("dims", C.c_void_p), ("n_dims", C.c_uint32),
                ("shapes", C.POINTER(ShapeBinding)), ("n_shapes", C.c_uint32)]


def import_options(shapes):
    """Options that bind the dims of inputs: {name: dims}."""
    bindings = (ShapeBinding * max(1, len(shapes)))()
    for i, (name, dims) in enumerate(shapes.items()):
        bindings[i] = ShapeBinding(name.encode(), len(dims), (C.c_int64 * len(dims))(*dims))
    return ImportOptions(C.sizeof(ImportOptions), None, 0, bindings, len(shapes))


PRECISIONS = {"fma": 0, "x6": 1, "bf16": 2}


class Library:
    def __init__(self, path):
        self.path = os.path.abspath(path)
        self.lib = lib = C.CDLL(self.path)
        for name in ("kiln_context_message", "kiln_graph_message", "kiln_workspace_message"):
            getattr(lib, name).restype = C.c_char_p
        lib.kiln_executable_program.restype = C.POINTER(Program)
        lib.kiln_executable_peak_bytes.restype = C.c_int64

    def read_onnx(self, context, path, shapes):
        graph, given = C.c_void_p(), import_options(shapes or {})
        if self.lib.kiln_import_onnx(context, path.encode(), C.byref(given), C.byref(graph)):
            raise RuntimeError(self.lib.kiln_context_message(context).decode())
        return graph

    def build(self, context, name, size):
        """The graph that ocean.h or workloads.h declare as build_NAME; the latter have no size."""
        graph = C.c_void_p()
        self.lib.kiln_graph_create(context, name.encode(), C.byref(graph))
        getattr(self.workloads(), "build_" + name)(graph, C.c_int64(size))
        return graph

    def workloads(self):
        """The C side of the benchmarks."""
        return C.CDLL(self.path.replace("codegen/libkiln", "benchmarks/libkiln-workloads"))

    def measure_limits(self, threads):
        measure = self.workloads().measure_limits
        measure.restype = Limits
        return measure(C.c_uint32(threads))

    def call_ns(self, model):
        """Nanoseconds of one of many calls from C of the model of build_nothing."""
        call = self.workloads().call_ns
        call.restype = C.c_double
        return call(model.workspace)

    def context(self, threads=0):
        context = C.c_void_p()
        options = ContextOptions(C.sizeof(ContextOptions), threads)
        if self.lib.kiln_context_create(C.byref(options), C.byref(context)):
            raise RuntimeError("kiln_context_create failed")
        return context


class Model:
    """One model, compiled: `make` gives the graph, or is the path of an ONNX file with inputs of
    `shapes`. bind(feed) gives a function that runs it once."""

    def __init__(self, library, make, threads=0, unfused=False, precision="fma", shapes=None):
        self.lib = lib = library.lib
        self.context = library.context(threads)
        is_path = isinstance(make, str)
        graph = library.read_onnx(self.context, make, shapes) if is_path else make(self.context)
        options = CompileOptions(C.sizeof(CompileOptions), precision=PRECISIONS[precision],
                                 is_unfused=int(unfused))
        self.executable = C.c_void_p()
        if lib.kiln_compile(graph, C.byref(options), C.byref(self.executable)):
            raise RuntimeError(lib.kiln_graph_message(graph).decode())
        self.report = Report()
        lib.kiln_executable_report(self.executable, C.byref(self.report))
        lib.kiln_graph_destroy(graph)
        self.workspace = C.c_void_p()
        if lib.kiln_workspace_create(self.executable, C.byref(self.workspace)):
            raise RuntimeError(lib.kiln_context_message(self.context).decode())
        program = lib.kiln_executable_program(self.executable).contents
        self.inputs = [program.inputs[i] for i in range(program.n_inputs)]
        self.input_names = [port.name.decode() for port in self.inputs]
        ports = [program.outputs[i] for i in range(program.n_outputs)]
        self.outputs = [np.zeros(tuple(p.dims[:p.rank]), DTYPES[p.dtype]) for p in ports]
        self.output_views = self._tensors(self.outputs, ports)
        self.peak_bytes = lib.kiln_executable_peak_bytes(self.executable, threads or os.cpu_count())

    def _tensors(self, arrays, ports):
        views = (Tensor * max(1, len(arrays)))()
        for i, array in enumerate(arrays):
            port = ports[i]
            views[i] = Tensor(port.dtype, port.rank, port.dims, array.ctypes.data, array.nbytes)
        return views

    @property
    def output_bytes(self):
        """Of the outputs that have no donated input's memory."""
        donated = {port.donated_to for port in self.inputs}
        return sum(array.nbytes for i, array in enumerate(self.outputs) if i not in donated)

    def ones(self):
        """Inputs of the right types, all 1."""
        return {name: np.ones(tuple(port.dims[:port.rank]), DTYPES[port.dtype])
                for name, port in zip(self.input_names, self.inputs)}

    def bind(self, feed):
        """Fixes the inputs (kept alive here); each call runs once and returns the same output arrays."""
        arrays = [np.ascontiguousarray(feed[name]) for name in self.input_names]
        for array, port in zip(arrays, self.inputs):
            expected = (DTYPES[port.dtype], tuple(port.dims[:port.rank]))
            if (array.dtype.type, array.shape) != expected:
                raise ValueError(f"{port.name}: {array.dtype}{array.shape}; expected {expected}")
        self.bound = arrays
        for array, port in zip(arrays, self.inputs):
            if port.donated_to < len(self.outputs):  # with `array` spent, its memory is the output's
                self.outputs[port.donated_to] = array.reshape(self.outputs[port.donated_to].shape)
                self.output_views[port.donated_to].data = array.ctypes.data
        views = self._tensors(arrays, self.inputs)
        run, workspace, outputs = self.lib.kiln_run, self.workspace, self.output_views
        n_inputs, n_outputs = len(arrays), len(self.outputs)

        def once():
            status = run(workspace, views, n_inputs, outputs, n_outputs)
            if status:
                raise RuntimeError(self.lib.kiln_workspace_message(workspace).decode())
            return self.outputs
        return once

    def close(self):
        self.lib.kiln_workspace_destroy(self.workspace)
        self.lib.kiln_executable_destroy(self.executable)
        self.lib.kiln_context_destroy(self.context)
