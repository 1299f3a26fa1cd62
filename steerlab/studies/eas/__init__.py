"""Emergent Activation Snapping (EAS): online steering of a stream of problems.

- `watcher`: the Watcher, which learns attractors from right answers; arrays only.
- `stream`: run problems one by one, steered by what the Watcher says.
- `comparison`: EAS against its baselines on one stream.
"""
