from .crossing import crossed as crossed
from .evaluation import Balanced as Balanced, Evaluation as Evaluation, balance as balance, evaluate as evaluate
from .groups import groups_of as groups_of, shared_groups as shared_groups
from .lengths import fit_to_context as fit_to_context
from .loaders import load_task as load_task
from .numbers import extract_number as extract_number
from .problems import Problem as Problem, Task as Task, Text as Text, in_both as in_both, written as written
from .scorers import SCORERS as SCORERS, Scorer as Scorer
