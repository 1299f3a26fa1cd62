"""Tasks: problems, splits, scorers, evaluation.

- `problems`: `Problem`, `Task`, and mixtures of tasks.
- `groups`: problems that are not independent; splits that keep them together.
- `crossing`: problems asked with several prompt templates.
- `loaders`, `sources`, `templates`: `load_task`; records from files or the Hub; each data set's prompt.
- `arithmetic`: the embedded task.
- `scorers`, `numbers`: how an answer is read and judged; how numbers are read.
- `evaluation`: `evaluate` and `balance`.
- `lengths`: problems that are too long for a model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
