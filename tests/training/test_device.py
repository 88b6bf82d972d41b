"""Devices and precision by capability; the clock that compares work in turn."""

import pytest
import torch

from bloodcells.training import device

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_the_fastest_device_there(monkeypatch, cuda, mps, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert device.choose_device("auto").type == chosen


def test_float32_is_float32_in_a_gpu_s_convolutions_too(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    device.choose_device("cpu")
    assert not torch.backends.cudnn.allow_tf32


def test_precision_is_what_was_asked_for_or_what_the_processor_has(monkeypatch):
    assert device.choose_precision("bfloat16", CPU) == "bfloat16"
    for there, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda there=there: there)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert device.choose_precision("auto", CPU) == expected


def test_medians_of_work_in_turn(monkeypatch):
    now, order = [0.0], []
    monkeypatch.setattr("bloodcells.training.device.time.perf_counter", lambda: now[0])

    def work(name, *seconds):
        left = iter(seconds)

        def call():
            order.append(name)
            now[0] += next(left)

        return call

    def works():  # the first of each is the warm-up
        return work("slow", 9, 1, 7, 2), work("fast", 9, 0.1, 0.1, 0.4)

    assert device.seconds_in_turn(works(), CPU, 3, limit=1000) == pytest.approx([2, 0.1])
    assert order == ["slow", "fast"] * 4
    assert device.seconds_in_turn(works(), CPU, 3, limit=5) == pytest.approx([1, 0.1])  # one round


def test_measuring_the_machine_leaves_random_numbers_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert device.matrix_product_gflops("float32", CPU, repeats=1) > 0
    assert (torch.get_rng_state() == before).all()
