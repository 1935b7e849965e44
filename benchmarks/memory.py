#!/usr/bin/env python3
"""Peak memory of one run beside the weights, Kiln, ONNX Runtime and PyTorch: usage: memory.py ENGINE MODEL
LIBRARY MODELS in a process of its own, started by compare.py.

Two figures, on one thread. `resident` is how much the high-water mark of the resident set grows over a run;
/proc/self/clear_refs resets the mark. Peers have run before, so that their code and caches are there, and
have given free memory back (malloc_trim; ONNX Runtime without its arena, which keeps what loading left, but
with its plan); Kiln keeps its arena, so its first run counts, code and all. `counted` is the engine's own:
Kiln's planned arena, scratch and outputs that
are not written over an input, the most that PyTorch's CPU allocator held at once by its profiler;
ONNX Runtime tells none. The U-Net and the training steps are Kiln's graphs by the builder (benchmarks/models.c
and train.c) and modules of the same layers in PyTorch.
"""
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

MODELS = ["resnet50_b1", "mobilenetv2_b1", "bert_base_b1_s128", "unet", "train_mlp", "train_cnn"]
BUILT = {"unet", "train_mlp", "train_cnn"}
ENGINES = ["kiln", "ort", "torch"]


def status_bytes(key):
    with open("/proc/self/status", encoding="ascii") as file:
        return int(re.search(key + r":\s+(\d+) kB", file.read())[1]) << 10


def growth(run):
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    before = status_bytes("VmRSS")
    run()
    return status_bytes("VmHWM") - before


def open_kiln(library, name, path):
    import kiln
    library = kiln.Library(library)
    if name in BUILT:
        model = kiln.Model(library, lambda context: library.build(context, name, 0), 1)
    else:
        model = kiln.Model(library, path, 1, shapes={k: x.shape for k, x in feed_of(name).items()})
    run = model.bind(model.ones())
    return run, lambda: model.peak_bytes + model.output_bytes


def open_ort(path, feed):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed), None


def most_allocated(run):
    """The most bytes that PyTorch's CPU allocator held at once during a run, beyond what it held before."""
    import torch
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        run()
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        profile.export_chrome_trace(file.name)
        with open(file.name, encoding="utf-8") as trace:
            events = json.load(trace)["traceEvents"]
    held = most = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        most = max(most, held)
    return most


def open_training(make, inputs):
    """Forward, backward, gradient descent; gradients are dropped as they are used."""
    import torch
    module, labels = make(), torch.zeros(inputs[0].shape[0], dtype=torch.long)

    def run():
        torch.nn.functional.cross_entropy(module(*inputs), labels).backward()
        with torch.no_grad():
            for weights in module.parameters():
                weights -= 0.05 * weights.grad
                weights.grad = None
    return run, lambda: most_allocated(run)


def open_torch(name):
    import torch
    import workloads
    torch.set_num_threads(1)
    make, inputs = {**workloads.WORKLOADS, **workloads.BUILT}[name]
    if name.startswith("train"):
        return open_training(make, [f() for f in inputs])
    module, inputs = make().eval(), [f() for f in inputs]

    def run():
        with torch.inference_mode():
            return module(*inputs)
    return run, lambda: most_allocated(run)


def feed_of(name):
    if name.startswith("bert"):
        return {"x0": np.ones((1, 128), np.int64)}
    side = 128 if name == "unet" else 224
    return {"x0": np.ones((1, 3, side, side), np.float32)}


def export_missing(name, path):
    import torch
    import workloads
    make, inputs = {**workloads.WORKLOADS, **workloads.BUILT}[name]
    torch.onnx.export(make().eval(), tuple(f() for f in inputs), path, dynamo=False, opset_version=17,
                      input_names=[f"x{i}" for i in range(len(inputs))])


def measure_one(engine, name, library, models):
    path = os.path.join(models, name + ".onnx")
    openers = {"kiln": lambda: open_kiln(library, name, path), "ort": lambda: open_ort(path, feed_of(name)),
               "torch": lambda: open_torch(name)}
    run, count = openers[engine]()
    for _ in range(0 if engine == "kiln" else 3):
        run()
    result = {"model": name, "engine": engine, "resident_bytes": growth(run)}
    if count:
        result["counted_bytes"] = count()
    return result


def measure(library, models, only="."):
    """One row a model and engine, for the models that compare.py has exported."""
    rows = []
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # large blocks go back at once
    for name in MODELS:
        path = os.path.join(models, name + ".onnx")
        if not re.search(only, name):
            continue
        if not name.startswith("train") and not os.path.exists(path):
            export_missing(name, path)
        for engine in ENGINES:
            if engine == "ort" and name.startswith("train"):
                continue  # inference only
            command = [sys.executable, os.path.abspath(__file__), engine, name, library, models]
            done = subprocess.run(command, check=True, capture_output=True, env=environment)
            rows.append(json.loads(done.stdout))
            counted = rows[-1].get("counted_bytes")
            print(f"{name:20s} {engine:6s} resident {rows[-1]['resident_bytes'] / 1e6:7.1f} MB"
                  + (f"  counted {counted / 1e6:7.1f} MB" if counted is not None else ""), flush=True)
    return rows


if __name__ == "__main__":
    print(json.dumps(measure_one(*sys.argv[1:])))
