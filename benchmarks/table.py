#!/usr/bin/env python3
"""usage: table.py RUN.json [PICTURE.svg]
Prints the rows of a comparison (compare.py --out) as a Markdown table, and draws them as bars."""
import json
import sys

NAMES = {"torch": "PyTorch", "inductor": "Inductor", "jax": "JAX", "ort": "ONNX Runtime", "ov": "OpenVINO"}


def number(value):
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def print_table(run):
    peers = [p for p in NAMES if any(p in row["engines"] for row in run["rows"])]
    print("| workload | Kiln ms | unfused ms | " + " | ".join(NAMES[p] for p in peers)
          + " | best peer / Kiln | unfused / fused | compile s | peak MB |")
    print("| --- " * (len(peers) + 7) + "|")
    for row in run["rows"]:
        engines = row["engines"]
        kiln = engines["kiln"]
        cells = [row["workload"], number(kiln["median_ms"]), number(engines["kiln_unfused"]["median_ms"])]
        cells += [number(engines[p]["median_ms"]) if p in engines else "-" for p in peers]
        cells += [f"{row['ratio']:.2f}" if "ratio" in row else "-", f"{row['fused_over_unfused']:.2f}",
                  f"{kiln['compile_s']:.2f}", f"{kiln['peak_bytes'] / 1e6:.1f}"]
        print("| " + " | ".join(cells) + " |")


def draw(run, path):
    rows = [row for row in run["rows"] if "ratio" in row]
    scale, left, height = 150, 220, 24
    most = max(row["ratio"] for row in rows)
    width = left + int(most * scale) + 140
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{len(rows) * height + 50}" '
             'font-family="sans-serif" font-size="13">',
             '<rect width="100%" height="100%" fill="white"/>',
             f'<text x="{left}" y="20">speed of Kiln over the best peer, {run["threads"]} threads, '
             f'{run["date"]}</text>']
    for i, row in enumerate(rows):
        y = 34 + i * height
        color = "#2b7a3d" if row["ratio"] >= 1 else "#b05030"
        lines.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{row["workload"]}</text>')
        lines.append(f'<rect x="{left}" y="{y}" width="{row["ratio"] * scale:.0f}" height="18" fill="{color}"/>')
        lines.append(f'<text x="{left + row["ratio"] * scale + 6:.0f}" y="{y + 14}">'
                     f'{row["ratio"]:.2f} × {NAMES[row["best_peer"]]}</text>')
    lines.append(f'<line x1="{left + scale}" y1="28" x2="{left + scale}" y2="{34 + len(rows) * height}" '
                 'stroke="black" stroke-dasharray="4 3"/>')
    lines.append("</svg>")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        run = json.load(file)
    print_table(run)
    if len(sys.argv) > 2:
        draw(run, sys.argv[2])


if __name__ == "__main__":
    main()
