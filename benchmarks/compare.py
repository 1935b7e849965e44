#!/usr/bin/env python3
"""Kiln beside its peers, in one run: on all cores, then in a process of its own on one.

Every engine computes the same workload on the same inputs; Kiln's results are compared with PyTorch's (or
NumPy's) before anything is timed; then rounds of all engines alternate, so that a noisy moment hits them
alike. The figure of an engine is the median over its rounds' medians; the least time stands beside it. Run
through `./run bench --peers`.
"""
import argparse
import copy
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kiln  # noqa: E402
import memory  # noqa: E402
import ocean  # noqa: E402
import quantised  # noqa: E402
import workloads  # noqa: E402

TOLERANCES = {"fma": 1e-3, "x6": 1e-3, "bf16": 5e-2, "int8": 2e-2, "f64": 1e-8}
PEERS = ["torch", "inductor", "jax", "ort", "ov"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--library", default="build/codegen/libkiln.so")
    parser.add_argument("--only", default=".", help="regular expression of workload names")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="per engine and round")
    parser.add_argument("--threads", type=int, help="cores to run on; all and then one when not given")
    parser.add_argument("--precision", default="all", choices=["all", "fma", "x6", "bf16", "int8", "f64"],
                        help="rows of one mode; x6 stands beside the peers' f32, bf16 beside their bf16; int8\n"
                             "are quantised models, one file for all")
    parser.add_argument("--no-memory", action="store_true", help="do not measure peak memory")
    parser.add_argument("--models", default=os.path.expanduser("~/.cache/kiln/bench-models"))
    parser.add_argument("--model", action="append", default=[], metavar="PATH:INPUT=N,N",
                        help="an ONNX file of your own with the dims of its one input; repeatable")
    parser.add_argument("--out", help="JSON file")
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)  # of a larger run
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


def kiln_engine(name, label, make, feed, references, args):
    """`make` is the path of an ONNX file or builds the graph; `references` are the results."""
    start = time.perf_counter()
    precision = "fma" if args.precision in ("f64", "int8") else args.precision
    model = kiln.Model(kiln.Library(args.library), make, args.threads, label == "kiln_unfused", precision,
                       {key: array.shape for key, array in feed.items()})
    function = model.bind(feed)
    results = [to_floats(result) for result in function()]
    first = time.perf_counter() - start
    error = max(float(np.abs(a - b).max() / (np.abs(b).max() or 1)) for a, b in zip(results, references))
    if not error < TOLERANCES[args.precision]:
        raise SystemExit(f"{name}: {label} differs from the reference by {error:.2e} of the largest value")
    report = model.report
    return function, first, {"compile_s": report.seconds, "peak_bytes": model.peak_bytes, "error": error,
                             "kernels": report.n_groups, "flops": report.flops, "bytes": report.bytes,
                             "model": model}


def engines_of_ocean(name, args):
    """A kernel of ocean.py: the graph of the C builder beside the same over JAX and PyTorch."""
    kernel, size = ocean.ROWS[name]
    function, make_inputs = ocean.KERNELS[kernel]
    inputs = make_inputs(size, np.random.default_rng(0))
    references = ocean.results_of(function(ocean.NumpyOps(), **inputs))
    engines, notes = {}, {}
    library = kiln.Library(args.library)
    for label in ("kiln", "kiln_unfused"):
        engines[label] = kiln_engine(name, label, lambda context: library.build(context, kernel, size),
                                     inputs, references, args)
    for peer in ("inductor", "jax"):
        if peer in args.peers.split(","):
            start = time.perf_counter()
            call = ocean.PEERS[peer](function, inputs)
            results = [np.asarray(result) for result in ocean.results_of(call())]
            first = time.perf_counter() - start
            error = max(float(np.abs(a - b).max() / (np.abs(b).max() or 1))
                        for a, b in zip(results, references))
            engines[peer] = (call, first, {"error": error})
            if not error < TOLERANCES["f64"]:
                notes[peer] = f"differs by {error:.2e} of the largest value"
    return engines, notes


def feed_of(given):
    key, dims = given.split("=")
    return {key: np.random.default_rng(0).random([int(d) for d in dims.split(",")], np.float32) * 2 - 1}


def engines_of_model(name, path, feed, args):
    """The same for a model file: ONNX Runtime's result is the reference; peers that read ONNX take part."""
    args_of_peer = (name, None, None, path, feed, args)
    reference = make_ort(*args_of_peer)()
    engines = {label: kiln_engine(name, label, path, feed, [reference], args)
               for label in ("kiln", "kiln_unfused")}
    for peer in ("ort", "ov"):
        if peer in args.peers.split(","):
            start = time.perf_counter()
            function = MAKERS[peer](*args_of_peer)
            function()
            engines[peer] = (function, time.perf_counter() - start, {})
    product = quantised.torch_product(name, feed) if "torch" in args.peers.split(",") else None
    if product:
        engines["torch"] = (product, 0.0, {})
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
        engines[label] = kiln_engine(name, label, path, feed, [reference], args)
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


def find_engines(name, args, model):
    if args.precision == "int8":
        model = quantised.MODELS[name](args.models)
    if model:
        return engines_of_model(name, *model, args)
    return engines_of_ocean(name, args) if args.precision == "f64" else engines_of(name, args)


def roofline_share(details, milliseconds, limits):
    """The time that memory or arithmetic at full speed would take, as a share of what it took."""
    least = max(details["flops"] / limits.f32_gflop_per_s, details["bytes"] / limits.copy_gb_per_s) * 1e-6
    return least / milliseconds


def time_engines(engines, args):
    """By engine: the median over the rounds' medians, and the least time, in milliseconds."""
    medians = {engine: [] for engine in engines}
    least = {engine: float("inf") for engine in engines}
    for _ in range(args.rounds):
        time_round(engines, args, medians, least)
    return {engine: statistics.median(values) for engine, values in medians.items()}, least


def time_round(engines, args, medians, least):
    for engine, (function, _, _) in engines.items():
        function()
        median, best = round_median(function, args.seconds)
        medians[engine].append(median)
        least[engine] = min(least[engine], best)


def compare(name, args, model=None):
    with torch.inference_mode():
        engines, notes = find_engines(name, args, model)
        medians, least = time_engines(engines, args)
    is_plain = args.precision in ("fma", "f64") or args.precision in name or "i8" in name
    label = name if is_plain else f"{name} {args.precision}"
    row = {"workload": label, "threads": args.threads, "precision": args.precision, "notes": notes,
           "engines": {}}
    for engine, (_, first, details) in engines.items():
        loaded = details.pop("model", None)
        row["engines"][engine] = {"median_ms": medians[engine], "min_ms": least[engine],
                                  "first_s": first, **details}
        if loaded:
            loaded.close()
    if args.precision == "fma":
        figures = row["engines"]["kiln"]
        row["roofline_share"] = roofline_share(figures, figures["median_ms"], args.limits)
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


def geometric_means(rows):
    """Of the peers' times over Kiln's: the best peer's, and each peer's over the rows that it has."""
    means = {}
    for kind, precision in (("f32", "fma"), ("ocean", "f64")):
        chosen = [row for row in rows if row["precision"] == precision and "ratio" in row]
        ratios = {"best peer": [row["ratio"] for row in chosen]}
        for peer in PEERS:
            ratios[peer] = [row["engines"][peer]["median_ms"] / row["engines"]["kiln"]["median_ms"]
                            for row in chosen if peer in row["engines"]]
        means[kind] = {peer: {"mean": statistics.geometric_mean(values), "rows": len(values)}
                       for peer, values in ratios.items() if values}
    return means


def empty_call_us(args):
    """One call of a graph without nodes, from C."""
    library = kiln.Library(args.library)
    model = kiln.Model(library, lambda context: library.build(context, "nothing", 0), 1)
    result = min(library.call_ns(model) for _ in range(5)) * 1e-3
    model.close()
    return result


def run_here(args):
    """All rows on args.threads cores, in this process."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])
    torch.set_num_threads(args.threads)
    args.limits = kiln.Library(args.library).measure_limits(args.threads)
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
        rows.append(compare(os.path.basename(path), args, (path, feed_of(given))))
        print_row(rows[-1])
    return {"threads": args.threads, "rows": rows, "means": geometric_means(rows),
            "copy_gb_per_s": args.limits.copy_gb_per_s, "f32_gflop_per_s": args.limits.f32_gflop_per_s}


def run_apart(args, threads):
    """The same in a process of its own: peers settle on their threads when they start."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, sys.argv[0], *sys.argv[1:], "--threads", str(threads), "--part", "--out",
                   file.name]
        subprocess.run(command, check=True)
        with open(file.name, encoding="utf-8") as written:
            return json.load(written)["runs"][0]


def print_means(run):
    for kind, means in run["means"].items():
        for peer, mean in means.items():
            print(f"{run['threads']} threads, geometric mean of {mean['rows']} {kind} rows against {peer}: "
                  f"{mean['mean']:.2f}")


def main():
    args = arguments()
    n_cores = len(os.sched_getaffinity(0))
    if args.threads:
        runs = [run_here(args)]
    else:
        runs = [run_apart(args, threads) for threads in dict.fromkeys((n_cores, 1))]
    result = {"machine": platform.processor() or platform.machine(), "date": time.strftime("%Y-%m-%d"),
              "threads": runs[0]["threads"], "runs": runs}
    if not args.part:
        result["empty_call_us"] = empty_call_us(args)
        result["memory"] = [] if args.no_memory else memory.measure(args.library, args.models, args.only)
        for run in runs:
            print_means(run)
        print(f"call of an empty graph from C: {result['empty_call_us']:.3f} us")
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
