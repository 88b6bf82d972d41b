"""Explore BloodMNIST: montages, class counts, examples, mean images, and a duplicate audit.

    python data_visualization.py                        # writes to plots/data/
    python data_visualization.py --figure-format pdf    # for a paper

The audit lists exact and near duplicates, within and across the splits. Of the official images it
also shows the photographs that they were made from: the stages of maturation, and the sizes. Writes
audit.json, the counts by class and by stage as CSV files, and figures.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.scripts import parse_data

if __name__ == "__main__":
    run_script(parse_data, __file__)  # --help ends before torch loads; main parses again

from argparse import Namespace
from collections import Counter
from pathlib import Path

import numpy as np

from bloodcells.cli.arguments import data_settings, warning
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import CLASS_NAMES, Dataset
from bloodcells.data.duplicates import audit, captioned_pairs
from bloodcells.data.photographs import CLASS_OF, Photograph, read_table
from bloodcells.evaluation.batch_effect import second_batch
from bloodcells.reporting.figures import data as figures
from bloodcells.tracking import run_folder


def main() -> None:
    """Count, draw and audit the images of the data set."""
    args = parse_data(__file__)
    run_folder.prepare(args.output, args.code, script=args.code.script)
    dataset = bloodmnist.load(**data_settings(args))
    print(f"data: {dataset.source}")
    table = dataset.count_table()
    for row in table:
        print("  {:20} {:>7} {:>7} {:>7} {:>7}".format(*row))
    print("searching all images for duplicates ...", flush=True)
    found = audit(dataset, args.near_duplicate) | {"code": args.code.describe()}
    sources = {} if args.synthetic else read_table()
    if sources:
        found["photograph_sizes"] = size_counts(sources)

    def fill(folder: Path) -> None:
        run_folder.write_csv(folder / "label_counts.csv", table)
        if sources:
            run_folder.write_csv(folder / "stage_counts.csv", stage_counts(sources))
            draw_stages(folder, args, dataset, sources)
            draw_batches(folder, args, dataset)
        run_folder.write_json(folder / "audit.json", found)
        draw(folder, args, dataset, found)

    optional = ["montage_[0-9]*", "stage_counts.csv", "stage_examples", "stage_distribution"]
    optional.append("batch_examples")
    run_folder.write(args.output, fill, last="audit.json", stale=optional)
    for name, count in found["summary"].items():
        print(f"  {name.replace('_', ' '):40} {count:5}")
    for size, count in found.get("photograph_sizes", {}).items():
        print(f"  photographs of {size + ' pixels':25} {count:5}")
    print(f"wrote {args.output}")


def draw(folder: Path, args: Namespace, dataset: Dataset, found: dict) -> None:
    """Draw every figure of the data set into `folder`."""

    def path(name: str) -> Path:
        return folder / f"{name}.{args.figure_format}"

    mark, train = warning(args), dataset.train
    images = {name: train.of_class(label) for label, name in enumerate(CLASS_NAMES)}
    shares = {name: s.class_counts() / len(s) for name, s in dataset.splits().items()}
    for side in args.montage:
        figures.montage(path(f"montage_{side}x{side}"), train.images, side, mark)
    counts = {name: len(cells) for name, cells in images.items()}
    figures.label_distribution(path("label_distribution"), counts, mark)
    figures.split_distribution(path("split_distribution"), shares, CLASS_NAMES, mark)
    examples = {name: cells[: args.examples] for name, cells in images.items()}
    figures.class_examples(path("class_examples"), examples, mark)
    means = {name: cells.mean(0) for name, cells in images.items()}
    figures.mean_images(path("mean_images"), means, mark)
    figures.duplicates(path("duplicates"), captioned_pairs(dataset, found), mark)


def size_counts(sources: dict[str, list[Photograph]]) -> dict[str, int]:
    """The number of photographs of each width x height, most frequent first."""
    sizes = Counter(one.size for of_split in sources.values() for one in of_split)
    return {f"{width} x {height}": count for (width, height), count in sizes.most_common()}


def stage_counts(sources: dict[str, list[Photograph]]) -> list[list]:
    """Image counts by stage and split, as table rows: a header, then the stages."""
    of_split = [Counter(one.stage for one in part) for part in sources.values()]
    counts = {stage: [count[stage] for count in of_split] for stage in CLASS_OF}
    rows = ([stage, *numbers, sum(numbers)] for stage, numbers in counts.items())
    return [["stage", *sources, "all"], *rows]


def draw_stages(
    folder: Path, args: Namespace, dataset: Dataset, sources: dict[str, list[Photograph]]
) -> None:
    """Draw examples of each stage, and the stages' shares of the splits, into `folder`."""
    suffix, stages = args.figure_format, np.array([one.stage for one in sources["train"]])
    examples = {
        stage: dataset.train.images[np.flatnonzero(stages == stage)[: args.examples]]
        for stage in CLASS_OF
    }
    figures.class_examples(folder / f"stage_examples.{suffix}", examples)
    columns = np.array([row[1:-1] for row in stage_counts(sources)[1:]]).T
    shares = {split: counts / counts.sum() for split, counts in zip(sources, columns, strict=True)}
    figures.split_distribution(folder / f"stage_distribution.{suffix}", shares, list(CLASS_OF))


def draw_batches(folder: Path, args: Namespace, dataset: Dataset) -> None:
    """Draw examples of the two batches side by side into `folder`."""
    train, second = dataset.train, second_batch(dataset)[: len(dataset.train)]
    batches: dict[str, dict[str, np.ndarray]] = {"first batch": {}, "second batch": {}}
    for label in np.unique(train.labels[second]):
        for name, rows in zip(batches, (~second, second), strict=True):
            cells = train.images[rows & (train.labels == label)]
            batches[name][CLASS_NAMES[label]] = cells[: (args.examples + 1) // 2]
    figures.batch_examples(folder / f"batch_examples.{args.figure_format}", batches)


if __name__ == "__main__":
    run_script(main)
