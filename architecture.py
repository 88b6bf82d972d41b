"""Draw the networks of models.py, layer by layer: shapes, parameters, operations.

    python architecture.py                    # writes plots/architecture/
    python architecture.py --model CellNet    # one network, in its own folder

Each network is run once on a blank image while its modules are traced, so that the drawing matches
the code; code outside modules, such as RobustNet's standardisation, is not drawn. A multiply-add
counts as two operations. No data is read.
Writes metrics.json and a drawing of each network.
"""

from bloodcells.cli.arguments import run_script
from bloodcells.cli.tools import parse_architecture

if __name__ == "__main__":
    run_script(parse_architecture, __file__)  # --help ends before torch loads; main parses again

import math
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import models
from bloodcells.errors import UserError
from bloodcells.reporting.figures.architecture import Layer, draw
from bloodcells.tracking import run_folder

KEEP_SHAPE = (
    "BatchNorm2d",
    "GroupNorm",
    "ReLU",
    "Dropout",
    "Identity",
)  # listed in the box before them
WHOLE = ("Residual", "BasicBlock", "MultiheadAttention")  # drawn as one box


def main() -> None:
    """Trace and draw the networks that the command line names."""
    args = parse_architecture(__file__)
    names = [args.model] if args.model else list(models.MODELS)
    try:
        networks = {name: models.build(name, args.size) for name in names}
    except models.OptionError as error:
        raise UserError(f"--{error}") from error
    traces = {name: trace(network, args.size) for name, network in networks.items()}
    titles = {name: f"{name}: {summary(networks[name], *traces[name])}" for name in names}
    run_folder.prepare(args.output, args.code, script=args.code.script)

    def fill(folder: Path) -> None:
        for name, (layers, _) in traces.items():
            draw(folder / f"{name}.{args.figure_format}", titles[name], layers)
        rows = {name: [vars(layer) for layer in layers] for name, (layers, _) in traces.items()}
        content = {"size": args.size, "code": args.code.describe(), "networks": rows}
        run_folder.write_json(folder / "metrics.json", content)

    run_folder.write(args.output, fill, last="metrics.json", stale=list(models.MODELS))
    for name, (layers, _) in traces.items():
        print(titles[name])
        for layer in layers:
            shape = " x ".join(map(str, layer.shape))
            print(f"  {', '.join(layer.words):45} {shape:14} {layer.parameters:>10,}")
    print(f"wrote {args.output}")


def summary(network: nn.Module, layers: list[Layer], operations: int) -> str:
    """A network's parameters and operations, as text; how many of them its layers do not have."""

    def noted(total: int, drawn: int, what: str) -> str:
        outside = f" ({total - drawn:,} outside the modules drawn)" if total != drawn else ""
        return f"{total:,} {what}{outside}"

    parameters = sum(weights.numel() for weights in network.parameters())
    return (
        f"{noted(parameters, sum(layer.parameters for layer in layers), 'parameters')}, "
        f"{noted(operations, sum(layer.operations for layer in layers), 'operations an image')}"
    )


def trace(network: nn.Module, size: int) -> tuple[list[Layer], int]:
    """The network's layers in the order in which they process an image, and all its operations."""
    layers = [Layer(["image"], (3, size, size), 0, 0)]
    counter = FlopCounterMode(display=False)
    before: dict[nn.Module, int] = {}
    counted: set[nn.Parameter] = set()  # a module may be used, or its weights shared, several times

    def enter(module: nn.Module, inputs: tuple, named: dict) -> None:
        before[module] = counter.get_total_flops()
        given = chain(*(x if isinstance(x, list | tuple) else [x] for x in inputs), named.values())
        first = next((x for x in given if isinstance(x, torch.Tensor)), None)
        if first is None:
            return
        shape = tuple(first.shape[1:])
        if shape != layers[-1].shape:  # changed by code between two modules
            layers.append(Layer([between(layers[-1].shape, shape)], shape, 0, 0))

    def leave(module: nn.Module, inputs: tuple, output: torch.Tensor | list | tuple) -> None:
        # an LSTM's states are not drawn, nor other parts of a list
        first = output[0] if isinstance(output, list | tuple) else output
        kind, shape = type(module).__name__, tuple(first.shape[1:])
        parameters = sum(p.numel() for p in set(module.parameters()) - counted)
        counted.update(module.parameters())
        operations = counter.get_total_flops() - before[module]
        if kind in KEEP_SHAPE and shape == layers[-1].shape:
            layers[-1].words += [describe(module)] if kind != "Identity" else []
            layers[-1].parameters += parameters
            layers[-1].operations += operations
            return
        inside = [describe(m) for m in module.modules() if not list(m.children())]
        layers.append(
            Layer(
                [describe(module)], shape, parameters, operations, inside if len(inside) > 1 else []
            )
        )

    hooks = []
    for module in steps(network):
        hooks.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        hooks.append(module.register_forward_hook(leave))
    image, fused = torch.zeros(1, 3, size, size), torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its operations are not counted
    try:
        with counter, torch.no_grad():
            network.eval()(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for hook in hooks:
            hook.remove()
    return layers, counter.get_total_flops()


def between(shape: tuple[int, ...], other: tuple[int, ...]) -> str:
    """A name for what happens between two modules, inferred from the shapes around it."""
    if math.prod(other) == math.prod(shape):
        return "flatten"
    return "one number a channel" if other == shape[:1] else "other shape"


def steps(network: nn.Module) -> list[nn.Module]:
    """The modules to draw: those without submodules, and those of `WHOLE`."""
    found = []
    for child in network.children():
        whole = not list(child.children()) or type(child).__name__ in WHOLE
        found += [child] if whole else steps(child)
    return found


def describe(module: Any) -> str:
    """A short description of a module."""
    kind = type(module).__name__
    if kind == "Conv2d":
        (height, width), strides = module.kernel_size, module.stride
        stride = strides[0] if len(set(strides)) == 1 else " x ".join(map(str, strides))
        return f"conv {height} x {width}" + (f" / {stride}" if stride != 1 else "")
    return {
        "BatchNorm2d": "batch norm",
        "GroupNorm": "group norm",
        "MaxPool2d": "max-pool",
        "AdaptiveAvgPool2d": "mean over the map",
        "Linear": "linear",
        "Flatten": "flatten",
        "Residual": "residual block",
        "BasicBlock": "residual block",
        "Dropout": "dropout",
    }.get(kind, kind)


if __name__ == "__main__":
    run_script(main)
