"""What the library shows of itself (calibration) and of papers (the published audit)."""
