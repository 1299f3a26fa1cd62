"""Whole experiments.

- `protocol`: `run_experiment`, the main protocol.
- `plans`: the plan of a main job, written before its test problems are scored.
- `method_comparison`, `method_trials`, `method_vectors`: ways to find a vector, compared at equal norm and equal KL.
- `transfer`, `mixtures`: vectors on other tasks, and from mixtures of tasks.
- `repeats`: the main protocol over split seeds, pooled.
- `stability`, `protocols`: other seeds and problems; the selection bias of protocols.
- `grid`: many models and tasks, resumable.
- `multiverse`: one claim under all specifications, with a joint permutation test, resumable.
- `context_comparison`: static against prompt-dependent vectors.
- `eas`: online steering of a stream of problems.
"""

from steerlab.directions import ESTIMATORS

KNOWN_METHODS = (*ESTIMATORS, "function_vector", "aft", "multilayer_aft", "prompt")
"""What `compare_methods` can compare."""

METHODS = ("mean_difference", "function_vector", "pca", "probe", "aft", "multilayer_aft", "prompt")
"""What `compare_methods` compares by default."""

KL_LEVELS = (0.003, 0.01, 0.03)
"""At which KL from the plain run, in nats a token, `compare_methods` compares by default."""

TRANSFER_ALPHAS = (-2.0, -1.0, 1.0, 2.0)
"""The coefficients that `transfer` tries by default."""
