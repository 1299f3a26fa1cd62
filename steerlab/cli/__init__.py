"""The `steerlab` command and what the scripts share."""
