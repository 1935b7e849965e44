#!/usr/bin/env python3
"""Kiln beside its peers, in one process and one run.

Every engine computes the same workload on the same inputs; Kiln's results are compared with PyTorch's
before anything is timed; then rounds of all engines alternate, so that a noisy moment hits them alike.
The figure of an engine is the median over its rounds' medians. Run through `./run bench --peers`.
"""
import argparse
import copy
import json
import os
import platform
import re
import statistics
import sys
import time

import numpy as np
import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kiln  # noqa: E402
import workloads  # noqa: E402

TOLERANCES = {"fma": 1e-3, "x6": 1e-3, "bf16": 5e-2}
PEERS = ["torch", "inductor", "jax", "ort", "ov"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--library", default="build/codegen/libkiln.so")
    parser.add_argument("--only", default=".", help="regular expression of workload names")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="per engine and round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", default="all", choices=["all", "fma", "x6", "bf16"],
                        help="rows of one mode; x6 stands beside the peers' f32, bf16 beside their bf16")
    parser.add_argument("--models", default=os.path.expanduser("~/.cache/kiln/bench-models"))
    parser.add_argument("--model", action="append", default=[], metavar="PATH:INPUT=N,N",
                        help="an ONNX file of your own with the dims of its one input; repeatable")
    parser.add_argument("--out", help="JSON file")
    return parser.parse_args()


def to_numpy(x):
    """NumPy has no bf16: its patterns as uint16."""
    return x.view(torch.int16).numpy().view(np.uint16) if x.dtype == torch.bfloat16 else x.numpy()


def to_floats(array):
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array


def export(name, module, inputs, folder):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name + ".onnx")
    names = [f"x{i}" for i in range(len(inputs))]
    torch.onnx.export(module, tuple(inputs), path, dynamo=False, opset_version=17, input_names=names)
    return path, {n: to_numpy(x) for n, x in zip(names, inputs)}


def in_precision(module, inputs, args):
    """The module and inputs in bf16 for rows of that mode."""
    if args.precision != "bf16":
        return module, inputs
    return (copy.deepcopy(module).bfloat16(),
            [x.bfloat16() if x.is_floating_point() else x for x in inputs])


def make_torch(name, module, inputs, path, feed, args):
    module, inputs = in_precision(module, inputs, args)
    return lambda: module(*inputs)


def make_inductor(name, module, inputs, path, feed, args):
    torch._dynamo.reset()
    module, inputs = in_precision(module, inputs, args)
    compiled = torch.compile(module)
    return lambda: compiled(*inputs)


def make_jax(name, module, inputs, path, feed, args):
    if args.precision == "bf16":
        return None
    return workloads.jax_function(name, module, list(feed.values()))


def make_ort(name, module, inputs, path, feed, args):
    import onnxruntime
    if args.precision == "bf16":
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = {i.name: feed[i.name] for i in session.get_inputs()}
    return lambda: session.run(None, given)[0]


def make_ov(name, module, inputs, path, feed, args):
    import openvino
    core = openvino.Core()
    model = core.compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": args.threads,
                                             "INFERENCE_PRECISION_HINT":
                                                 "bf16" if args.precision == "bf16" else "f32",
                                             "PERFORMANCE_HINT": "LATENCY"})
    request = model.create_infer_request()
    for i, port in enumerate(model.inputs):
        request.set_input_tensor(i, openvino.Tensor(feed[port.any_name], shared_memory=True))
    return lambda: request.infer()


MAKERS = {"torch": make_torch, "inductor": make_inductor, "jax": make_jax, "ort": make_ort,
          "ov": make_ov}


def round_median(function, seconds):
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        function()
        times.append(time.perf_counter() - before)
    return statistics.median(times) * 1e3, min(times) * 1e3


def kiln_engine(name, label, path, feed, reference, args):
    start = time.perf_counter()
    model = kiln.Model(kiln.Library(args.library), path, args.threads, label == "kiln_unfused",
                       args.precision, {key: array.shape for key, array in feed.items()})
    function = model.bind(feed)
    result = to_floats(function()[0])
    first = time.perf_counter() - start
    error = float(np.abs(result - reference).max() / np.abs(reference).max())
    if not error < TOLERANCES[args.precision]:
        raise SystemExit(f"{name}: {label} differs from the reference by {error:.2e} of the largest value")
    report = model.report
    return function, first, {"compile_s": report.seconds, "peak_bytes": model.peak_bytes, "error": error,
                             "kernels": report.n_groups, "flops": report.flops, "bytes": report.bytes,
                             "model": model}


def engines_of_model(name, path, given, args):
    """The same for a model file: ONNX Runtime's result is the reference; peers that read ONNX take part."""
    key, dims = given.split("=")
    feed = {key: np.random.default_rng(0).random([int(d) for d in dims.split(",")], np.float32) * 2 - 1}
    args_of_peer = (name, None, None, path, feed, args)
    reference = make_ort(*args_of_peer)()
    engines = {label: kiln_engine(name, label, path, feed, reference, args)
               for label in ("kiln", "kiln_unfused")}
    for peer in ("ort", "ov"):
        if peer in args.peers.split(","):
            start = time.perf_counter()
            function = MAKERS[peer](*args_of_peer)
            function()
            engines[peer] = (function, time.perf_counter() - start, {})
    return engines, {}


def engines_of(name, args):
    """The engines of a workload as name -> (function, first call in seconds, details), and the reasons of
    those that cannot run it."""
    make, inputs = workloads.WORKLOADS[name]
    torch.manual_seed(0)
    module = make().eval()
    inputs = [f() for f in inputs]
    path, feed = export(name, module, inputs, args.models)
    engines, notes = {}, {}
    reference = module(*inputs).float().numpy()
    for label in ("kiln", "kiln_unfused"):
        engines[label] = kiln_engine(name, label, path, feed, reference, args)
    for peer in filter(None, args.peers.split(",")):
        try:
            start = time.perf_counter()
            function = MAKERS[peer](name, module, inputs, path, feed, args)
            if function is None:
                continue
            function()
            engines[peer] = (function, time.perf_counter() - start, {})
        except Exception as problem:  # a peer that cannot run a workload is a line, not an end
            notes[peer] = repr(problem)[:160]
    return engines, notes


def compare(name, args, model=None):
    with torch.inference_mode():
        engines, notes = engines_of_model(name, *model, args) if model else engines_of(name, args)
        medians = {engine: [] for engine in engines}
        least = {engine: float("inf") for engine in engines}
        for _ in range(args.rounds):
            for engine, (function, _, _) in engines.items():
                function()
                median, best = round_median(function, args.seconds)
                medians[engine].append(median)
                least[engine] = min(least[engine], best)
    label = name if args.precision == "fma" or args.precision in name else f"{name} {args.precision}"
    row = {"workload": label, "threads": args.threads, "precision": args.precision, "notes": notes,
           "engines": {}}
    for engine, (_, first, details) in engines.items():
        model = details.pop("model", None)
        row["engines"][engine] = {"median_ms": statistics.median(medians[engine]),
                                  "min_ms": least[engine], "first_s": first, **details}
        if model:
            model.close()
    peers = {p: row["engines"][p]["median_ms"] for p in engines if not p.startswith("kiln")}
    ours = row["engines"]["kiln"]["median_ms"]
    if peers:
        row["best_peer"] = min(peers, key=peers.get)
        row["ratio"] = peers[row["best_peer"]] / ours
    row["fused_over_unfused"] = row["engines"]["kiln_unfused"]["median_ms"] / ours
    return row


def print_row(row):
    cells = "  ".join(f"{engine} {figures['median_ms']:.4g}" for engine, figures in row["engines"].items())
    figures = row["engines"]["kiln"]
    print(f"{row['workload']:26s} x{row.get('ratio', float('nan')):.2f} of {row.get('best_peer', '-'):8s}"
          f" x{row['fused_over_unfused']:.2f} of unfused  compile {figures['compile_s']:.2f} s"
          f"  error {figures['error']:.0e} | {cells}", flush=True)
    for peer, note in row["notes"].items():
        print(f"    {peer}: {note}", flush=True)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    rows = []
    modes = list(workloads.MODES) if args.precision == "all" else [args.precision]
    for args.precision in modes:
        for name in workloads.MODES[args.precision]:
            if re.search(args.only, name):
                rows.append(compare(name, args))
                print_row(rows[-1])
    args.precision = "fma"
    for model in args.model:
        path, given = model.rsplit(":", 1)
        rows.append(compare(os.path.basename(path), args, (path, given)))
        print_row(rows[-1])
    ratios = [row["ratio"] for row in rows if "ratio" in row and row["precision"] == "fma"]
    if ratios:
        print(f"geometric mean of {len(ratios)} f32 ratios to the best peer: "
              f"{statistics.geometric_mean(ratios):.2f}")
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump({"machine": platform.processor() or platform.machine(), "threads": args.threads,
                       "date": time.strftime("%Y-%m-%d"), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
