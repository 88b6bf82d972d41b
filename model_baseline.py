"""Train and score the paper's baseline, one linear layer on the pixels, by cross-validation.

    python model_baseline.py --overwrite                            # honest protocol
    python model_baseline.py --protocol as-published --overwrite    # the published code's: leaks

Each fold's model is scored on its held-out fold after every epoch, and on the official test split
once, at the end. Metrics, history, predictions and figures go to plots/baseline/ or
plots/baseline-as-published/, over those that are there only with --overwrite.
"""

from functools import partial

from bloodcells.cli.arguments import make_parser, parse, run_script
from bloodcells.cli.flags import add_training_flags, add_work_flags


def main() -> None:
    parser = make_parser(__doc__, preset="baseline")
    add_training_flags(parser)
    add_work_flags(parser)
    args = parse(parser)

    # torch takes seconds to load, so --help and mistakes are answered before it
    import models
    from bloodcells.training import session

    session.run(args, partial(models.Baseline, image_size=args.size))


if __name__ == "__main__":
    run_script(main)
