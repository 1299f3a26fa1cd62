"""The `steerlab` command and what the scripts share.

- `options`: the options that all scripts share.
- `run`: a config dataclass as command line, help and provenance.
"""
