"""Tasks: problems, splits, scorers, evaluation.

- `problems`: `Problem`, `Task`, and mixtures of tasks.
- `loaders`, `sources`, `templates`: `load_task`; records from files or the Hub; each data set's prompt.
- `arithmetic`: the embedded task.
- `scorers`, `numbers`: how an answer is read and judged; how numbers are read.
- `evaluation`: `evaluate` and `balance`.
- `lengths`: problems that are too long for a model.
"""

from steerlab.tasks.evaluation import Balanced, Evaluation, balance, evaluate
from steerlab.tasks.lengths import fit_to_context
from steerlab.tasks.loaders import load_task
from steerlab.tasks.numbers import extract_number
from steerlab.tasks.problems import Problem, Task, Text, in_both, written
from steerlab.tasks.scorers import SCORERS, Scorer

__all__ = [
    "SCORERS",
    "Balanced",
    "Evaluation",
    "Problem",
    "Scorer",
    "Task",
    "Text",
    "balance",
    "evaluate",
    "extract_number",
    "fit_to_context",
    "in_both",
    "load_task",
    "written",
]
