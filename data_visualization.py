"""Explore BloodMNIST: montages, class counts, examples, mean images, and a duplicate audit.

    python data_visualization.py                        # writes to plots/data/
    python data_visualization.py --figure-format pdf    # for a paper

The audit lists exact and near duplicates, within and across the splits.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.scripts import parse_data

if __name__ == "__main__":
    run_script(parse_data, __file__)  # answers --help and wrong flags before torch loads

from argparse import Namespace
from pathlib import Path

from bloodcells.cli.arguments import warning
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import CLASS_NAMES, Dataset
from bloodcells.data.duplicates import audit, captioned_pairs
from bloodcells.reporting.figures import data as figures
from bloodcells.tracking import run_folder


def main() -> None:
    """Count, draw and audit the images of the data set."""
    args = parse_data(__file__)
    run_folder.prepare(args.output, args.code)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    print(f"data: {dataset.source}")
    table = dataset.count_table()
    for row in table:
        print("  {:20} {:>7} {:>7} {:>7} {:>7}".format(*row))
    print("searching all images for duplicates ...", flush=True)
    found = audit(dataset, args.near_duplicate) | {"code": args.code.describe()}

    def fill(folder: Path) -> None:
        run_folder.write_csv(folder / "label_counts.csv", table)
        run_folder.write_json(folder / "audit.json", found)
        draw(folder, args, dataset, found)

    run_folder.write(args.output, fill, last="audit.json")
    for name, count in found["summary"].items():
        print(f"  {name.replace('_', ' '):40} {count:5}")
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


if __name__ == "__main__":
    run_script(main)
