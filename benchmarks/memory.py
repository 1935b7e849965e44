#!/usr/bin/env python3
"""Peak memory of one inference beside the weights, Kiln, ONNX Runtime and PyTorch: usage: memory.py
ENGINE MODEL LIBRARY MODELS in a process of its own, started by compare.py.

Two figures, on one thread. `resident` is how much the high-water mark of the resident set grows over a run;
/proc/self/clear_refs resets the mark. Peers have run before, so that their code and caches are there, and
have given free memory back (malloc_trim; ONNX Runtime without its arena, which keeps what loading left, but
with its plan); Kiln keeps its arena, so its first run counts, code and all. `counted` is the engine's own:
Kiln's planned arena with its scratch, the most that PyTorch's CPU allocator held at once by its profiler;
ONNX Runtime tells none.
"""
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

MODELS = ["resnet50_b1", "mobilenetv2_b1", "bert_base_b1_s128"]
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


def open_kiln(library, path, feed):
    import kiln
    model = kiln.Model(kiln.Library(library), path, 1, shapes={k: x.shape for k, x in feed.items()})
    run = model.bind(feed)
    return run, lambda: model.peak_bytes


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


def open_torch(name, _):
    import torch
    import workloads
    torch.set_num_threads(1)
    make, inputs = workloads.WORKLOADS[name]
    module, inputs = make().eval(), [f() for f in inputs]

    def run():
        with torch.inference_mode():
            return module(*inputs)
    return run, lambda: most_allocated(run)


def feed_of(name):
    is_text = name.startswith("bert")
    return {"x0": np.ones((1, 128), np.int64) if is_text else np.ones((1, 3, 224, 224), np.float32)}


def measure_one(engine, name, library, models):
    path, feed = os.path.join(models, name + ".onnx"), feed_of(name)
    openers = {"kiln": lambda: open_kiln(library, path, feed), "ort": lambda: open_ort(path, feed),
               "torch": lambda: open_torch(name, feed)}
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
        if not re.search(only, name) or not os.path.exists(os.path.join(models, name + ".onnx")):
            continue
        for engine in ENGINES:
            command = [sys.executable, os.path.abspath(__file__), engine, name, library, models]
            done = subprocess.run(command, check=True, capture_output=True, env=environment)
            rows.append(json.loads(done.stdout))
            counted = rows[-1].get("counted_bytes")
            print(f"{name:20s} {engine:6s} resident {rows[-1]['resident_bytes'] / 1e6:7.1f} MB"
                  + (f"  counted {counted / 1e6:7.1f} MB" if counted is not None else ""), flush=True)
    return rows


if __name__ == "__main__":
    print(json.dumps(measure_one(*sys.argv[1:])))
