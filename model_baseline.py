"""Train and score the paper's baseline, one linear layer on the pixels, by cross-validation.

    python model_baseline.py                             # honest protocol
    python model_baseline.py --protocol as-published     # as the published code did: leaks

Each fold's model is scored on its held-out fold after every epoch, and on the official test split
once, at the end. Metrics, history, predictions and figures go to plots/baseline/.
"""

from functools import partial

from command_line import make_parser, parse, run_script
from flags import add_training_flags


def main() -> None:
    parser = make_parser(__doc__, preset="baseline")
    add_training_flags(parser)
    args = parse(parser)

    # torch takes seconds to load, so --help and mistakes are answered before it
    import bloodmnist
    import models
    import protocols
    import results
    import run_folder
    import training
    from recipe import Recipe

    device = training.choose_device(args.device)
    environment = run_folder.environment(device.type)  # of the code as it is now
    run_folder.prepare(args.output)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    print(f"Baseline on {device}; data: {dataset.source}")

    build = partial(models.Baseline, image_size=args.size)
    args.precision = training.choose_precision(args.precision, device)
    recipe = Recipe.of(args)
    plans = protocols.plan(args.protocol, dataset, args.folds, args.runs, args.seed)
    runs = protocols.train_all(build, dataset, plans, recipe, device)
    results.score_and_save(args, dataset, build(), runs, environment)


if __name__ == "__main__":
    run_script(main)
