"""What is recorded of the machine names no folder of it."""

from bloodcells.tracking.environment import command


def test_the_command_names_no_folder_of_the_machine():
    words = ["/home/me/model_cnn.py", "--output", "/home/me/my runs/a", "--data-root=/data/b"]
    assert command(words) == "python model_cnn.py --output a --data-root=b"
    words = ["robustness.py", "--runs", "plots/cnn-best", "--kinds", "colour shift"]
    assert command(words) == "python robustness.py --runs plots/cnn-best --kinds 'colour shift'"


def test_the_command_names_no_password():
    words = ["model_parameter_tuning.py", "--storage", "postgresql://me:secret@host/database"]
    assert command(words).endswith("--storage postgresql://...@host/database")
    words[1:] = ["--storage=postgresql://me:secret@host/database"]
    assert "secret" not in command(words)
