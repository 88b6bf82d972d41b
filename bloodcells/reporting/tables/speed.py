"""The table of bench.py: how close training comes to peak speed, and what else was timed."""

from __future__ import annotations

from pathlib import Path

from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.reporting.tables.common import mark, read_study


def speed(plots: Path) -> str:
    """What bench.py measured, as Markdown."""
    preset = load_preset(PRESETS / "bench.toml")
    found = read_study(plots / "bench" / "bench.json", preset, "python bench.py")
    lines = [
        "| network | batch size | precision | GFLOP per step | ms per step | share of peak | "
        "training, images per second | prediction, images per second |",
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
    """The highest rate, and the batch size that reaches it."""
    batch = max(rates, key=rates.__getitem__)
    return f"{rates[batch]:,.0f} (batches of {batch})"


def words(found: dict) -> list[str]:
    """The machine, the pipeline, the protocol, the search and the memory, one line each."""
    peak, machine = found["peak_gflops"], found["environment"]
    batch, protocol = found["dataloader"]["batch"], found["dataloader"]["protocol"]
    search = found["search_seconds_by_workers"]
    memory = ", ".join(
        f"{size} px {mib / 1024:.1f} GiB" if mib else f"{size} px unknown"
        for size, mib in found["training_memory_mib_by_pixels"].items()
    )
    slowest = max(found["help_seconds"].values())
    return [
        f"- Machine: {machine['processor']}, {machine['threads']} threads; matrix products reach "
        f"{peak['float32']:,.0f} GFLOP/s in float32 and {peak['bfloat16']:,.0f} in bfloat16.",
        f"- An augmented batch takes {batch['our_seconds'] * 1e3:.1f} ms, "
        f"{batch['share_of_step']:.1%} of CellNet's training step; PyTorch's DataLoader takes "
        f"{batch['ratio']:.0f} times as long, without augmentation.",
        f"- The paper's protocol runs {protocol['both']['ratio']:.1f} times as fast as with "
        f"PyTorch's DataLoader (the CNN {protocol['ConvNet']['ratio']:.1f} times, the baseline "
        f"{protocol['Baseline']['ratio']:.1f} times).",
        f"- A search whose trials only sleep takes {search['1']:.1f} s with one worker and "
        f"{search['8']:.1f} s with eight: what sharing the trials costs.",
        f"- Peak memory when training CellNet with the whole data set loaded: {memory}.",
        f"- `--help` of every script answers within {slowest:.2f} s.{mark(found)}",
    ]
