"""What happens at single tokens: magnitudes and critical tokens."""
