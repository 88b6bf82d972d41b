"""The command line: flags, presets, recipes. Quick to import, so `--help` answers at once."""
