#!/usr/bin/env python3
"""usage: table.py RUN.json [PICTURE.svg]
Prints the rows of a comparison (compare.py --out) as Markdown tables, with the geometric means and the peak
memory, and draws them as bars: all cores above, one core below."""
import json
import sys

NAMES = {"torch": "PyTorch", "inductor": "Inductor", "jax": "JAX", "ort": "ONNX Runtime", "ov": "OpenVINO"}
KINDS = {"f32": "the f32 rows", "ocean": "the three ocean kernels in f64"}


def number(value):
    if value < 0.01:
        return f"{value:.5f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def one_core_rows(run):
    """By workload and precision: the rows of the run on one core, if there is one."""
    return {(row["workload"], row["precision"]): row for row in run["runs"][-1]["rows"] if len(run["runs"]) > 1}


def print_table(run):
    rows, alone = run["runs"][0]["rows"], one_core_rows(run)
    peers = [p for p in NAMES if any(p in row["engines"] for row in rows)]
    titles = ["workload", "Kiln ms", "least", "unfused ms", *(NAMES[p] for p in peers), "best peer / Kiln",
              *(["on one core"] if alone else []), "unfused / fused", "roofline", "compile s", "peak MB"]
    print("| " + " | ".join(titles) + " |")
    print("| --- " * len(titles) + "|")
    for row in rows:
        engines = row["engines"]
        kiln = engines["kiln"]
        single = alone.get((row["workload"], row["precision"]), {})
        cells = [row["workload"], number(kiln["median_ms"]), number(kiln["min_ms"]),
                 number(engines["kiln_unfused"]["median_ms"])]
        cells += [number(engines[p]["median_ms"]) if p in engines else "-" for p in peers]
        ratios = (row, single) if alone else (row,)
        cells += [f"{r['ratio']:.2f}" if "ratio" in r else "-" for r in ratios]
        cells += [f"{row['fused_over_unfused']:.2f}",
                  f"{row['roofline_share']:.0%}" if "roofline_share" in row else "-",
                  f"{kiln['compile_s']:.2f}", f"{kiln['peak_bytes'] / 1e6:.1f}"]
        print("| " + " | ".join(cells) + " |")


def print_means(run):
    print("\n| geometric mean of the peer's time over Kiln's | cores | "
          + " | ".join(["best peer", *NAMES.values()]) + " |")
    print("| --- " * (len(NAMES) + 3) + "|")
    for one in run["runs"]:
        for kind, means in one["means"].items():
            cells = [f"{means[p]['mean']:.2f} ({means[p]['rows']})" if p in means else "-"
                     for p in ("best peer", *NAMES)]
            if means:
                print(f"| {KINDS[kind]} | {one['threads']} | " + " | ".join(cells) + " |")


def print_memory(run):
    """Megabytes of one run beside the weights; the engine's own count in brackets."""
    rows = {(row["model"], row["engine"]): row for row in run.get("memory", [])}
    if rows:
        print("\n| peak MB of a run, resident (counted) | Kiln | ONNX Runtime | PyTorch |")
        print("| --- | --- | --- | --- |")
    for model in dict.fromkeys(model for model, _ in rows):
        cells = []
        for engine in ("kiln", "ort", "torch"):
            row = rows[model, engine]
            counted = f" ({row['counted_bytes'] / 1e6:.1f})" if "counted_bytes" in row else ""
            cells.append(f"{row['resident_bytes'] / 1e6:.1f}{counted}")
        print(f"| {model} | " + " | ".join(cells) + " |")
    print(f"\nA call of an empty graph from C takes {run['empty_call_us']:.3f} us.")


def bar(row, place, label):
    left, scale, y, height = place
    color = ("#2b7a3d" if height > 10 else "#7fb58c") if row["ratio"] >= 1 else "#b05030"
    return [f'<rect x="{left}" y="{y}" width="{row["ratio"] * scale:.0f}" height="{height}" fill="{color}"/>',
            f'<text x="{left + row["ratio"] * scale + 6:.0f}" y="{y + height - 1}" '
            f'font-size="{13 if height > 10 else 10}">{row["ratio"]:.2f} × {NAMES[row["best_peer"]]}{label}</text>']


def draw(run, path):
    rows = [row for row in run["runs"][0]["rows"] if "ratio" in row]
    alone = one_core_rows(run)
    left, height = 240, 36 if alone else 24
    most = max([row["ratio"] for row in rows] + [row.get("ratio", 0) for row in alone.values()])
    scale = min(150, 900 / most)
    width = left + int(most * scale) + 190
    means = [(one["threads"], KINDS[kind], peer, one["means"][kind][peer]["mean"]) for one in run["runs"]
             for kind in one["means"] for peer in ("best peer", "jax", "inductor") if peer in one["means"][kind]]
    bottom = 34 + len(rows) * height
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
             f'height="{bottom + 30 + 18 * len(means)}" font-family="sans-serif" font-size="13">',
             '<rect width="100%" height="100%" fill="white"/>',
             f'<text x="{left}" y="20">speed of Kiln over the best peer, {run["threads"]} threads'
             f'{" and one" if alone else ""}, {run["date"]}</text>']
    for i, row in enumerate(rows):
        y = 34 + i * height
        lines.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{row["workload"]}</text>')
        lines += bar(row, (left, scale, y, 16), "")
        single = alone.get((row["workload"], row["precision"]), {})
        if "ratio" in single:
            lines += bar(single, (left, scale, y + 18, 10), ", one core")
    lines.append(f'<line x1="{left + scale:.0f}" y1="28" x2="{left + scale:.0f}" y2="{bottom}" '
                 'stroke="black" stroke-dasharray="4 3"/>')
    for i, (threads, kind, peer, mean) in enumerate(means):
        name = NAMES.get(peer, peer)
        cores = "one core" if threads == 1 else f"{threads} threads"
        lines.append(f'<text x="{left}" y="{bottom + 24 + 18 * i}">geometric mean over {name}, {kind}, '
                     f'{cores}: {mean:.2f}</text>')
    lines.append("</svg>")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        run = json.load(file)
    print_table(run)
    print_means(run)
    print_memory(run)
    if len(sys.argv) > 2:
        draw(run, sys.argv[2])


if __name__ == "__main__":
    main()
