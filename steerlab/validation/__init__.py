"""Validation of the library and of published results.

- `calibration`: false-positive rates and power of each test, simulated.
- `scenarios`: the true nulls and real effects that they are simulated on.
- `published`: do a document's claims follow from its tables?
"""
