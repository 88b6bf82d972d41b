"""The table of bench.py: how close training comes to peak speed, and what else was timed."""

from __future__ import annotations

from pathlib import Path

from bloodcells.reporting.tables.cells import processor, table
from bloodcells.reporting.tables.reading import older_code, read_run, read_study

ETHERNET = 10e9 / 8  # bytes a second between machines, as assumed for `many_processes`
LATENCY = 50e-6  # seconds of a message between machines, as assumed there
HEADS = (
    *("network", "batch size", "precision", "GFLOP per step", "ms per step", "share of peak"),
    *("training, images per second", "prediction, images per second"),
)


def speed(plots: Path) -> str:
    """What bench.py measured, as Markdown."""
    found = read_study(plots, "bench")
    lines = []
    for row in found["networks"]:
        step = row["step"]
        cells = [
            row["name"],
            str(row["batch"]),
            row["precision"],
            f"{step['gflop']:.2f}",
            f"{step['seconds'] * 1e3:.1f}",
            f"{step['share_of_peak']:.0%}",
            fastest(row["trained_images_per_second"]),
            fastest(row["predicted_images_per_second"]),
        ]
        lines.append(cells)
    parameters = read_run(plots, "cnn-best").metrics["model"]["parameters"]
    cellnet = next(row for row in found["networks"] if row["name"] == "CellNet")
    growing = many_processes(cellnet, parameters, found["averaging_seconds"])
    return "\n".join([table(HEADS, lines), "", *words(found), growing + older_code(found)])


def fastest(rates: dict[str, float]) -> str:
    """The highest rate, and the batch size that reaches it."""
    batch = max(rates, key=rates.__getitem__)
    return f"{rates[batch]:,.0f} (batches of {batch})"


def words(found: dict) -> list[str]:
    """The machine, pipeline, protocol, search, memory, mapped file and `--help`, one line each."""
    peak, machine = found["peak_gflops"], found["environment"]
    batch, protocol = found["dataloader"]["batch"], found["dataloader"]["protocol"]
    search = found["search_seconds_by_workers"]
    memory = ", ".join(
        f"{size} px {mib / 1024:.1f} GiB" if mib else f"{size} px unknown"
        for size, mib in found["training_memory_mib_by_pixels"].items()
    )
    slowest, mapped = max(found["help_seconds"].values()), found["mapped_epoch"]
    above, libraries = mapped["mib_above_the_array"], mapped["mib_of_libraries"]
    memory_of_it = f"{above:,} MiB above" if above else "an unknown amount of memory beyond"
    of_them = f", {libraries:,} of them for Python and its libraries" if above else ""
    return [
        f"- Machine: {processor(machine)}, {machine['threads']} threads; matrix products reach "
        f"{peak['float32']:,.0f} GFLOP/s in float32 and {peak['bfloat16']:,.0f} in bfloat16. "
        "Shares of the peak are of that measured beside the network, which varies by some percent.",
        f"- An augmented batch takes {batch['our_seconds'] * 1e3:.1f} ms, "
        f"{batch['share_of_step']:.1%} of CellNet's training step; PyTorch's DataLoader takes "
        f"{batch['ratio']:.0f} times as long, without augmentation.",
        f"- The paper's protocol runs {protocol['both']['ratio']:.1f} times as fast as with "
        f"PyTorch's DataLoader (the CNN {protocol['ConvNet']['ratio']:.1f} times, the baseline "
        f"{protocol['Baseline']['ratio']:.1f} times).",
        f"- What sharing a search costs: if its trials only sleep, it takes {search['1']:.1f} s "
        f"with one worker and {search['8']:.1f} s with eight.",
        f"- Peak memory when training CellNet with the whole data set loaded: {memory}.",
        f"- An epoch of the smallest CellNet over {mapped['images']:,} images of a mapped file "
        f"takes {mapped['seconds']:.0f} s, and {memory_of_it} the array's own pages{of_them}.",
        f"- `--help` of the {len(found['help_seconds'])} other scripts answers within "
        f"{slowest:.2f} s.",
    ]


def many_processes(row: dict, parameters: int, averaging: float) -> str:
    """What torchrun's processes would gain: a network's step with 2, 8 and 64 of them.

    Each computes its part of a batch, as fast as it was measured, and the gradients go once around
    a ring of machines, in 2 (n - 1) messages of an n-th each (Patarasuk and Yuan, 2009).
    """
    batch, rates = row["batch"], row["trained_images_per_second"]
    alone, size = batch / rates[str(batch)], 4 * parameters  # float32
    steps = []
    for processes in (2, 8, 64):
        images, messages = batch // processes, 2 * (processes - 1)
        compute = images / rates[str(images)]
        exchange = messages * (size / processes / ETHERNET + LATENCY)
        steps.append(
            f"{processes} machines {compute * 1e3:.1f} + {exchange * 1e3:.1f} ms, "
            f"{alone / (compute + exchange):.1f} times as fast"
        )
    return (
        f"- Under torchrun, two processes of this machine average {row['name']}'s gradients "
        f"({size / 1e6:.1f} MB) in {averaging * 1e3:.1f} ms. Estimate for machines like this one, "
        f"joined by 10 Gbit/s and {LATENCY * 1e6:.0f} µs a message, of a step of {batch} images "
        f"({alone * 1e3:.1f} ms alone, by the images per second), computing + exchange: "
        f"{'; '.join(steps)}."
    )
