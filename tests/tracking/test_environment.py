"""What is recorded of the machine names no folder of it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bloodcells.errors import without_passwords
from bloodcells.search.database import Database
from bloodcells.tracking.environment import command, instructions, processor


def test_the_command_names_no_folder_of_the_machine():
    words = ["/home/me/model_cnn.py", "--output", "/home/me/my runs/a", "--data-root=/data/b"]
    assert command(words) == "python model_cnn.py --output a --data-root=b"
    words = ["model_cnn.py", "--data-root=/home/me/a=b", "--output", "/home/me/lr=0.1/run"]
    assert command(words) == "python model_cnn.py --data-root=a=b --output run"
    words = ["model_parameter_tuning.py", "--storage", "sqlite:////home/me/study.db"]
    assert command(words) == "python model_parameter_tuning.py --storage sqlite://study.db"
    words = ["robustness.py", "--runs", "plots/cnn-best", "--kinds", "colour shift"]
    assert command(words) == "python robustness.py --runs plots/cnn-best --kinds 'colour shift'"


def test_an_address_without_password_stays_whatever_follows():
    text = "get https://host/a.npz (MD5 7) by other means and put it at /home/me@university/a.npz"
    assert without_passwords(text) == text
    assert without_passwords("get https://me:secret@host/a.npz") == "get https://...@host/a.npz"


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgresql://me:secret@host/database", "postgresql://...@host/database"),
        ("postgresql://me:se/cret@host/database", "postgresql://...@host/database"),
        ("postgresql://me:se?c#ret@host/database", "postgresql://...@host/database"),
        ("postgresql://me:my secret@host/database", "postgresql://...@host/database"),
        ("postgresql://me:my@secret@host/database", "postgresql://...@host/database"),
        ("postgresql://me:secretpassword=1@host/database", "postgresql://...@host/database"),
        ("postgresql://host/a?user=me&password=se@cret", "'postgresql://host/a?user=me&pass"),
        ("postgresql://host/a?user=me&password=secret&x=1", "'postgresql://host/a?user=me&pass"),
    ],
)
def test_the_command_names_no_password(url, kept):
    for words in (["--storage", url], [f"--storage={url}"]):
        text = command(["model_parameter_tuning.py", *words])
        assert "cret" not in text
        assert kept.strip("'") in text or words[0] != "--storage"
    assert "cret" not in str(Database(url, Path("unused")))


def test_a_mac_tells_its_processor(monkeypatch):
    said = subprocess.CompletedProcess([], 0, "Apple M1\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert processor() == "Apple M1"


def test_the_widest_instructions_of_the_processor_are_told(monkeypatch):
    for amx, bfloat16, said in (
        (True, True, "AMX"),
        (False, True, "AVX-512 with bfloat16"),
        (False, False, torch.backends.cpu.get_cpu_capability()),
    ):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=bfloat16: has)
        assert instructions() == said
