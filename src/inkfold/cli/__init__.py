"""The command line: `inkfold train`, `inkfold serve` and so on, each command a thin shell around a function of the library.

`app` holds what the commands share (registration, `-v`, `--debug`, errors, exit codes), `output` what they print, and
`training`, `results`, `deployment` and `data` the commands by theme. `main` is the entry point. Nothing heavy is imported
before a command runs, so that `--help` and completion answer at once.
"""
