"""Train and score a convolutional network.

    python model_cnn.py --overwrite                            # the paper's CNN, five folds: 0.888
    python model_cnn.py --protocol as-published --overwrite    # as the published code did: leaks
    python model_cnn.py --config cnn-best --overwrite          # the most accurate, five seeds
    python model_cnn.py --epochs 10 --lr 5e-4                  # an experiment, in its own folder

Each model is scored on its held-out images after every epoch, and on the official test split once,
at the end. Metrics, history, predictions and figures go to plots/<preset>/, over those that are
there only with --overwrite. The first takes two minutes on two cores.
"""

from functools import partial

from bloodcells.cli.arguments import make_parser, parse, run_script
from bloodcells.cli.flags import (
    add_model_flags,
    add_recipe_flags,
    add_training_flags,
    add_work_flags,
)


def main() -> None:
    parser = make_parser(__doc__, preset="cnn-paper")
    add_training_flags(parser)
    add_work_flags(parser)
    add_recipe_flags(parser)
    add_model_flags(parser)
    args = parse(parser)

    # torch takes seconds to load, so --help and mistakes are answered before it
    import models
    from bloodcells.training import session

    build = partial(models.build, args.model, args.size, args.widths, args.dropout)
    session.run(args, build)


if __name__ == "__main__":
    run_script(main)
