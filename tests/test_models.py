"""The networks: their shapes, their sizes, and that they compute what the paper says."""

import inspect
from argparse import Namespace

import matplotlib
import pytest
import torch
import warm
from shared import ROOT
from torch import nn

import model_cnn
import models
from bloodcells.cli.presets import PRESETS, load_preset
from bloodcells.errors import UserError


@pytest.mark.parametrize("cls", models.MODELS.values(), ids=models.MODELS)
@pytest.mark.parametrize(("channels", "classes", "size"), [(3, 8, 28), (1, 5, 9), (3, 8, 64)])
def test_maps_images_to_logits(cls, channels, classes, size):
    model = cls(in_channels=channels, num_classes=classes, image_size=size)
    assert model(torch.zeros(2, channels, size, size)).shape == (2, classes)


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.toml")))
def test_presets_of_cellnet_have_widths_whose_sums_the_threads_keep_apart(preset):
    settings = load_preset(PRESETS / f"{preset}.toml")
    if settings.get("model") == "CellNet":
        own = inspect.signature(models.CellNet).parameters["widths"].default
        tried = settings.get("space", {}).get("widths", [settings.get("widths", own)])
        assert all(width % 16 == 0 for widths in tried for width in widths)  # docs/speed.md


def test_parameter_counts_are_the_papers():
    assert models.count_parameters(models.Baseline()) == 2352 * 8 + 8
    assert models.count_parameters(models.ConvNet()) == 832 + 16448 + 9216 * 64 + 64 + 520


def test_resnet18_is_medmnists():
    model = models.ResNet18().network
    assert models.count_parameters(model) == 11_172_936
    assert model.layer1(model.conv1(torch.zeros(1, 3, 28, 28))).shape == (1, 64, 28, 28)


@pytest.mark.parametrize(("size", "side"), [(28, 28), (64, 32), (128, 32), (224, 28)])
def test_cellnet_sees_larger_images_at_the_same_scale(size, side):
    shapes, model = [], models.CellNet(image_size=size).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *call: shapes.append(call[2].shape[1:]))
    model(torch.zeros(1, 3, size, size))
    assert next(shape for shape in shapes if shape[0] == 64) == (64, side, side)
    assert shapes[-1] == (128, side // 4, side // 4)


def test_build():
    assert models.count_parameters(models.build("CellNet", 28, [16, 32, 64])) == 116_760
    assert isinstance(models.build("ConvNet", 64), models.ConvNet)
    with pytest.raises(ValueError, match="has Baseline, ConvNet, CellNet, RobustNet, ResNet18"):
        models.build("ResNet", 28)
    with pytest.raises(ValueError, match="ConvNet has none to choose"):
        models.build("ConvNet", 28, [16, 32, 64])
    parts = models.build("ConvNet", 28, dropout=0.5).modules()
    assert {part.p for part in parts if isinstance(part, nn.Dropout)} == {0.5}
    with pytest.raises(ValueError, match="dropout: CellNet has none to choose"):
        models.build("CellNet", 28, dropout=0.1)


def test_a_mistake_in_a_network_is_no_mistake_of_the_command_line(monkeypatch):
    """So that a student sees where in models.py it is."""

    class Mine(nn.Module):
        def __init__(self, **options):
            raise ValueError("groups must be positive")

    monkeypatch.setitem(models.MODELS, "Mine", Mine)
    settings = {"labels": "classes", "size": 28, "widths": None, "dropout": None}
    with pytest.raises(ValueError, match="groups must be positive"):
        model_cnn.build(Namespace(model="Mine", **settings))
    with pytest.raises(UserError, match=r"--model Other: models\.py has"):
        model_cnn.build(Namespace(model="Other", **settings))


def test_convnet_in_the_papers_order_of_layers():
    torch.manual_seed(0)
    model = models.ConvNet().eval()
    x = torch.randn(4, 3, 28, 28)
    first, second = (m for m in model.modules() if isinstance(m, nn.Conv2d))
    hidden, last = (m for m in model.modules() if isinstance(m, nn.Linear))
    y = second(nn.functional.max_pool2d(first(x).relu(), 2)).relu()
    torch.testing.assert_close(model(x), last(hidden(y.flatten(1))))


def test_convnet_refuses_images_too_small():
    models.ConvNet(image_size=5)
    with pytest.raises(ValueError, match="at least 5 px"):
        models.ConvNet(image_size=4)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_dropout_drops_its_share_evenly_and_keeps_the_mean(memory_format):
    torch.manual_seed(0)
    dropout = models.Dropout(0.25)
    assert isinstance(dropout, nn.Dropout)  # for who looks for such layers
    x = torch.ones(64, 16, 31, 31).contiguous(memory_format=memory_format).requires_grad_()
    y = dropout(x)
    y.sum().backward()
    assert y.stride() == x.stride()
    torch.testing.assert_close(x.grad, y.detach())  # the same values pass back
    torch.testing.assert_close(y.detach().unique(), torch.tensor([0, 4 / 3]))
    flat = y.detach().permute(0, 2, 3, 1).flatten() if y.stride(1) == 1 else y.detach().flatten()
    for place in range(8):  # each byte of the 64 random bits is as good as the others
        assert (flat[place::8] == 0).float().mean().item() == pytest.approx(0.25, abs=0.005)
    assert dropout.eval()(x) is x


@pytest.mark.parametrize("p", [0.001, 0.999])
def test_dropout_of_none_or_all_is_refused(p):
    with pytest.raises(ValueError, match=f"dropout {p}: pass 0, or"):
        models.Dropout(p)


def test_imports_do_nothing_else(tmp_path):
    """None writes, prints or draws a random number, and models.py imports no file of ours."""
    home = tmp_path / "home"
    home.mkdir()
    names = sorted(path.stem for path in ROOT.glob("*.py"))
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import torch\n"
        "state, loaded = torch.get_rng_state(), set(sys.modules)\n"
        "import models\n"
        "ours = {name.partition('.')[0] for name in set(sys.modules) - loaded}\n"
        f"assert ours & {{'bloodcells', *{names!r}}} == {{'models'}}, ours\n"
        f"import {', '.join(names)}\n"
        "assert (torch.get_rng_state() == state).all()\n"
    )
    fonts = matplotlib.get_cachedir()  # else matplotlib would list the machine's anew
    (tmp_path / "imports.py").write_text(code)
    environment = {"HOME": str(home), "MPLCONFIGDIR": fonts}
    (done,) = warm.run_at_once((environment, tmp_path / "imports.py"), cwd=home)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.iterdir()) == []


def test_robust_net_judges_each_image_by_itself_whatever_its_light():
    torch.manual_seed(0)
    network = models.build("RobustNet", 28, (8, 16, 16))
    images = torch.rand(4, 3, 28, 28) * 2 - 1
    together = network(images)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)  # in training mode, too
    lit = images * 0.6 + torch.tensor([0.3, -0.1, 0.2])[:, None, None]
    torch.testing.assert_close(network(lit), together, rtol=0.1, atol=0.05)
    assert network(torch.full((1, 3, 28, 28), 0.7)).isfinite().all()
    assert models.count_parameters(models.build("RobustNet", 28)) < 2e6


def test_filters_begin_with_he_s_variance():
    """2 over the inputs of a filter; of ResNet-18's first, over its outputs."""
    torch.manual_seed(0)
    for name in ("CellNet", "RobustNet"):
        for module in models.build(name, 28, (24, 64, 128)).modules():
            if isinstance(module, nn.Conv2d):
                variance = 2 / module.weight[0].numel()
                assert float(module.weight.detach().var()) == pytest.approx(variance, rel=0.15)
    first = models.build("ResNet18", 28).network.conv1.weight.detach()
    assert float(first.var()) == pytest.approx(2 / (64 * 9), rel=0.15)


def test_the_paper_s_cnn_drops_out_three_times():
    kinds = [type(module) for module in models.ConvNet().modules()]
    assert kinds.count(models.Dropout) == 3
    linear = [n for n, kind in enumerate(kinds) if kind is nn.Linear]
    assert kinds[linear[0] : linear[1] + 1] == [nn.Linear, models.Dropout, nn.Linear]
