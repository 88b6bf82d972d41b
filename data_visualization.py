"""Look at BloodMNIST: montages, class counts, examples, mean images, and an audit of duplicates.

    python data_visualization.py                        # writes to plots/data/
    python data_visualization.py --figure-format pdf    # for a paper

The audit lists images that occur twice, exactly or nearly, within and across the splits.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from bloodcells.cli.arguments import make_parser, parse, positive, run_script, warning, whole_number

if TYPE_CHECKING:
    from bloodcells.data.bloodmnist import Dataset


def main() -> None:
    parser = make_parser(__doc__, preset="data")
    group = parser.add_argument_group("figures and audit")
    group.add_argument(
        "--montage",
        type=whole_number(1, 100),
        nargs="+",
        default=[1, 20, 40],
        metavar="SIDE",
        help="draw a montage of SIDE x SIDE training images, for each SIDE",
    )
    group.add_argument(
        "--examples", type=whole_number(1, 50), default=10, help="examples drawn of each class"
    )
    group.add_argument(
        "--near-duplicate",
        type=positive,
        default=12.0,
        metavar="RMS",
        help="grey levels of difference, root mean square, up to which a pair counts as near",
    )
    args = parse(parser)

    # torch, which medmnist needs, takes seconds to load: --help and mistakes come first
    from bloodcells.data import bloodmnist
    from bloodcells.data.duplicates import audit
    from bloodcells.tracking import run_folder

    run_folder.prepare(args.output)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    print(f"data: {dataset.source}")
    table = dataset.count_table()
    for row in table:
        print("  {:20} {:>7} {:>7} {:>7} {:>7}".format(*row))
    print("searching duplicates among all images ...", flush=True)
    found = audit(dataset, args.near_duplicate)

    def fill(folder: Path) -> None:
        run_folder.write_csv(folder / "label_counts.csv", table)
        run_folder.write_json(folder / "audit.json", found)
        draw(folder, args, dataset, found)

    run_folder.write(args.output, fill, last="audit.json")
    for name, count in found["summary"].items():
        print(f"  {name.replace('_', ' '):40} {count:5}")
    print(f"wrote {args.output}")


def draw(folder: Path, args: Namespace, dataset: Dataset, found: dict) -> None:
    """Every figure of the data, into `folder`."""
    from bloodcells.data.bloodmnist import CLASS_NAMES
    from bloodcells.data.duplicates import captioned_pairs
    from bloodcells.reporting.figures import style

    def path(name: str) -> Path:
        return folder / f"{name}.{args.figure_format}"

    mark, train = warning(args), dataset.train
    images = {name: train.of_class(label) for label, name in enumerate(CLASS_NAMES)}
    shares = {name: s.class_counts() / len(s) for name, s in dataset.splits().items()}
    for side in args.montage:
        style.montage(path(f"montage_{side}x{side}"), train.images, side, mark)
    counts = {name: len(cells) for name, cells in images.items()}
    style.label_distribution(path("label_distribution"), counts, mark)
    style.split_distribution(path("split_distribution"), shares, CLASS_NAMES, mark)
    examples = {name: cells[: args.examples] for name, cells in images.items()}
    style.class_examples(path("class_examples"), examples, mark)
    means = {name: cells.mean(0) for name, cells in images.items()}
    style.mean_images(path("mean_images"), means, mark)
    style.duplicates(path("duplicates"), captioned_pairs(dataset, found), mark)


if __name__ == "__main__":
    run_script(main)
