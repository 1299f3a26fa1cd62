"""Random-direction controls, equal-KL matching, side effects."""
