"""The layout: few scripts at the top, which show their experiment, and a package behind them."""

import ast

import pytest
from shared import ROOT, git

SCRIPTS = sorted(ROOT.glob("*.py"))
MODULES = [*SCRIPTS, *sorted((ROOT / "bloodcells").rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


DEFERRED = {  # imports inside a function or a try
    ("demo.py", "fastapi"),
    ("demo.py", "gradio"),  # optional, as the next one is
    ("tensorboard.py", "torch.utils.tensorboard"),
    ("locks.py", "fcntl"),  # of Unix alone, as the next one is
    ("memory.py", "resource"),
    *((name, "medmnist") for name in ("bloodmnist.py", "download.py")),  # makes ~/.medmnist
    ("onnx_export.py", "onnxruntime"),  # half a second, as each below, that most runs do not need
    ("models.py", "torchvision.models.resnet"),
    ("hubconf.py", "bloodcells.inference.classifier"),  # not another program's `models`, as next
    ("hubconf.py", "bloodcells.inference.loading"),
    ("hubconf.py", "bloodcells.reporting.hub_export"),  # needs more than `dependencies`
    ("predict.py", "bloodcells.evaluation"),
    ("predict.py", "bloodcells.reporting"),
}


def imports(tree):
    """The modules that a tree's import statements name, and whether they stand in a function."""
    at_the_top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            inside = id(node) not in at_the_top
            module = getattr(node, "module", None)
            yield from [(module or alias.name, inside) for alias in node.names]


def test_few_files_at_the_top():
    assert len(SCRIPTS) <= 17


@pytest.mark.parametrize("name", ["model_baseline.py", "model_cnn.py"])
def test_a_training_script_shows_its_experiment(name):
    text = (ROOT / name).read_text()
    assert len(text.splitlines()) <= 160
    for part in ("for epoch in", ".backward()", "optimizer.step()", "fold.scored", "save_results("):
        assert part in text


def test_models_need_torch_alone():
    tree = ast.parse((ROOT / "models.py").read_text())
    found = {module.partition(".")[0] for module, _ in imports(tree)}
    assert found <= {"torch", "torchvision", "math", "collections"}


def test_imports_stand_at_the_top():
    found = {
        (path.name, module)
        for path in MODULES
        for module, inside in imports(ast.parse(path.read_text()))
        if inside
    }
    assert found == DEFERRED


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=lambda path: path.name)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 < 70, node.name


def test_a_clone_stays_light():
    """No tracked file is over 2 MB; name here the one that has to be."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = filter(None, git(ROOT, "ls-files", "-z").split("\0"))
    sizes = {name: (ROOT / name).stat().st_size for name in tracked if (ROOT / name).is_file()}
    large = [name for name, size in sizes.items() if size > 2_000_000]
    assert large == ["weights/cnn-robust.safetensors"]  # 2.05 MB
