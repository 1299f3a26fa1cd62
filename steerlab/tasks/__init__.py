"""Problems, tasks with their splits, and the scorers that judge them."""

from steerlab.tasks.evaluation import Balanced, Evaluation, balance, evaluate
from steerlab.tasks.lengths import fit_to_context
from steerlab.tasks.loaders import load_task
from steerlab.tasks.numbers import extract_number
from steerlab.tasks.problem import Problem, Task, in_both
from steerlab.tasks.scorers import SCORERS, Scorer

__all__ = [
    "SCORERS",
    "Balanced",
    "Evaluation",
    "Problem",
    "Scorer",
    "Task",
    "balance",
    "evaluate",
    "extract_number",
    "fit_to_context",
    "in_both",
    "load_task",
]
