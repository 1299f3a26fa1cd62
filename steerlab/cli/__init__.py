"""The `steerlab` command and what the scripts share.

- `main`: the `steerlab` command.
- `options`: the options that all scripts share.
- `run`: a config dataclass as command line, help and provenance.
"""
