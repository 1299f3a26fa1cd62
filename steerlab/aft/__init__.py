"""Activation fine-tuning (AFT): steering vectors learned in a frozen model.

- `aft`: `learn_vector`, `learn_vectors`; what all training runs share.
- `multilayer`: one vector at several layers, each with a learned scale.
- `context`: vectors that depend on the prompt.
- `learnables`: what is trained: parameters, and the vector that they give for each row.
- `objectives`, `training`: losses and validation; the training loop, its files and schedules.
- `differentiable`: runs from a kept residual stream, with gradients.
- `selection`: choice among many trained vectors, self-refinement.
- `evolution`: vectors found without gradients (CMA-ES).
"""
