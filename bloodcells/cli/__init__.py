"""The command line: arguments, presets, recipes. Light, so that `--help` answers at once."""
