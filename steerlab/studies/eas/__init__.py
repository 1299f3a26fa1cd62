"""Evolved activation steering (EAS): a stream of problems, its watcher, its comparison with baselines."""
