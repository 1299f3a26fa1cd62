"""How many examples Hypothesis draws."""

from hypothesis import settings


def examples(n: int) -> int:
    """So many with the profile `thorough` (`make test-slow`), a quarter of them otherwise, and never fewer than three."""
    return max(3, n * settings.default.max_examples // 100)
