"""Train and score a convolutional network.

    python model_cnn.py                             # the paper's CNN, five folds: accuracy 0.888
    python model_cnn.py --protocol as-published     # as the published code did: leaks
    python model_cnn.py --config cnn-best           # the most accurate recipe, five seeds
    python model_cnn.py --epochs 10 --lr 5e-4       # an experiment, in a folder of its own

Each model is scored on its held-out images after every epoch, and on the official test split once,
at the end. Metrics, history, predictions and figures go to plots/<preset>/. The first takes two
minutes on two cores.
"""

from functools import partial

from command_line import make_parser, parse, run_script
from flags import add_model_flags, add_recipe_flags, add_training_flags


def main() -> None:
    parser = make_parser(__doc__, preset="cnn-paper")
    add_training_flags(parser)
    add_recipe_flags(parser)
    add_model_flags(parser)
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
    args.precision = training.choose_precision(args.precision, device)
    recipe = Recipe.of(args)
    build = partial(models.build, args.model, args.size, args.widths, args.dropout)
    model = build()
    environment = run_folder.environment(device.type)  # of the code as it is now
    run_folder.prepare(args.output)
    dataset = bloodmnist.load(args.data_root, args.size, args.synthetic)
    print(f"{args.model} on {device}; data: {dataset.source}")

    plans = protocols.plan(args.protocol, dataset, args.folds, args.runs, args.seed)
    runs = protocols.train_all(build, dataset, plans, recipe, device)
    results.score_and_save(args, dataset, model, runs, environment)


if __name__ == "__main__":
    run_script(main)
