"""The table of bench.py: how near to the machine's limit networks train, and what it means."""

from __future__ import annotations

from pathlib import Path

from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.reporting.tables.common import mark, read_study


def speed(plots: Path) -> str:
    """What bench.py measured, as Markdown."""
    preset = load_preset(PRESETS / "bench.toml")
    found = read_study(plots / "bench" / "bench.json", preset, "python bench.py")
    lines = [
        "| network | batch | precision | GFLOP a step | ms a step | share of the peak | images "
        "trained a second | predicted a second |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["networks"]:
        step, batch = row["step"], str(row["batch"])
        cells = [
            row["name"],
            batch,
            row["precision"],
            f"{step['gflop']:.2f}",
            f"{step['seconds'] * 1e3:.1f}",
            f"{step['share_of_peak']:.0%}",
            fastest(row["trained_images_per_second"]),
            fastest(row["predicted_images_per_second"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *words(found)])


def fastest(rates: dict[str, float]) -> str:
    """The highest rate, and the batch that reaches it."""
    batch = max(rates, key=rates.__getitem__)
    return f"{rates[batch]:,.0f} (batches of {batch})"


def words(found: dict) -> list[str]:
    """The machine, the pipeline, the protocol, the search and the memory, a line each."""
    peak, machine = found["peak_gflops"], found["environment"]
    batch, protocol = found["dataloader"]["batch"], found["dataloader"]["protocol"]
    search = found["search_seconds_by_workers"]
    memory = ", ".join(
        f"{size} px {mib / 1024:.1f} GiB" if mib else f"{size} px unknown"
        for size, mib in found["training_memory_mib_by_pixels"].items()
    )
    slowest = max(found["help_seconds"].values())
    return [
        f"- The machine: {machine['processor']}, {machine['threads']} threads; matrix products at "
        f"{peak['float32']:,.0f} GFLOP/s in float32 and {peak['bfloat16']:,.0f} in bfloat16.",
        f"- A batch, augmented, takes {batch['our_seconds'] * 1e3:.1f} ms, "
        f"{batch['share_of_step']:.1%} of CellNet's step: {batch['ratio']:.0f} times as fast as "
        "PyTorch's DataLoader without augmentation.",
        f"- The paper's protocol runs {protocol['both']['ratio']:.1f} times as fast as with "
        f"PyTorch's DataLoader (the CNN {protocol['ConvNet']['ratio']:.1f} times, the baseline "
        f"{protocol['Baseline']['ratio']:.1f} times).",
        f"- A search of trials that only sleep takes {search['1']:.1f} s with one worker and "
        f"{search['8']:.1f} s with eight.",
        f"- Memory of training CellNet, the whole data set loaded: {memory}.",
        f"- `--help` answers within {slowest:.2f} s, whatever the script.{mark(found)}",
    ]
