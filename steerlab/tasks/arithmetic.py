"""The embedded task: templated multi-step word problems from a seeded generator.

Variants differ in what has to be computed and how it is told: `story` (a running total in words), `additions` and
`subtractions` (stories in which things are only gained, or only lost), `equation` (the same sums in signs), `bare` (signs
alone, without a word) and `largest` (the largest of several numbers). Each comes in three forms: `choice` (four lettered
options, one right), `numeric` (the number itself, generated) and `continuation` (four numbers that could come next).
The embedded model was trained on `story`, `equation` and `largest` in the first two forms; the rest asks it for something new.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from steerlab._checks import InputError, one_of
from steerlab.tasks.problems import LETTERS, Problem, Task, lettered, naming

MAX_TOTAL = 30
MAX_START = 20
MAX_CHANGE = 10
NAMES = ("Tom", "Ann", "Ben", "Eva", "Sam", "Lea", "Max", "Ida")
THINGS = ("apples", "coins", "books", "cards", "shells", "stamps", "pens", "nuts")
GAINS = ("buys", "finds", "gets", "wins")
LOSSES = ("loses", "sells", "drops", "spends")
TRAINED = ("story", "equation", "largest")  # what the embedded model has seen
VARIANTS = (*TRAINED, "additions", "subtractions", "bare")
STORIES = ("story", "additions", "subtractions")  # told in words
FORMS = ("choice", "numeric", "continuation")
SPLITS = ("train", "validation", "test")
N_CHOICES = 4

Skeleton = tuple[int, ...]  # the first number, then the signed changes; for `largest`, the numbers themselves


def vocabulary() -> list[str]:
    """Every word that the generator can write, in a fixed order: the tokenizer of `tiny-arithmetic` is made of it."""
    signs = [".", "?", ":", "+", "-", "="]
    words = ["has", "How", "many", "now", "Answer", "Compute", "Which", "is", "the", "largest", "of", ","]
    numbers = [str(n) for n in range(MAX_TOTAL + MAX_CHANGE + 1)]
    return [*signs, *words, *LETTERS[:N_CHOICES], *NAMES, *THINGS, *GAINS, *LOSSES, *numbers]


def split_of(question: str) -> str:
    """The split that a question belongs to, whatever the seed: 80% train, 10% validation, 10% test.

    It depends on the question alone, so no seed can put into test what another seed trained on.
    """
    digest = hashlib.sha256(question.encode()).digest()
    return {0: "test", 1: "validation"}.get(digest[0] % 10, "train")


def _skeleton(rng: np.random.Generator, variant: str, steps: int) -> Skeleton:
    if variant == "largest":
        return tuple(int(n) for n in rng.choice(MAX_TOTAL + 1, size=steps + 1, replace=False))
    if variant in ("additions", "subtractions"):
        return _one_way(rng, steps, up=variant == "additions")
    total = int(rng.integers(1, MAX_START + 1))
    numbers = [total]
    for _ in range(steps):
        gain = total == 0 or (total < MAX_TOTAL and bool(rng.integers(2)))
        size = int(rng.integers(1, min(MAX_CHANGE, MAX_TOTAL - total if gain else total) + 1))
        numbers.append(size if gain else -size)
        total += numbers[-1]
    return tuple(numbers)


def _one_way(rng: np.random.Generator, steps: int, *, up: bool) -> Skeleton:
    """A total that only grows, or only shrinks; each step leaves at least 1 for every later one."""
    total = int(rng.integers(1, MAX_START + 1) if up else rng.integers(max(steps, MAX_CHANGE), MAX_TOTAL + 1))
    numbers = [total]
    for later in range(steps - 1, -1, -1):
        room = (MAX_TOTAL - total if up else total) - later
        size = int(rng.integers(1, min(MAX_CHANGE, room) + 1))
        numbers.append(size if up else -size)
        total += numbers[-1]
    return tuple(numbers)


def _signs(skeleton: Skeleton) -> str:
    return str(skeleton[0]) + "".join(f" {'+' if c > 0 else '-'} {abs(c)}" for c in skeleton[1:])


def _question(rng: np.random.Generator, variant: str, skeleton: Skeleton) -> str:
    first, changes = skeleton[0], skeleton[1:]
    if variant == "equation":
        return f"Compute {_signs(skeleton)} ?"
    if variant == "bare":
        return f"{_signs(skeleton)} = ?"
    if variant == "largest":
        return "Which is the largest of " + ", ".join(map(str, skeleton)) + "?"
    name, thing = NAMES[rng.integers(len(NAMES))], THINGS[rng.integers(len(THINGS))]
    told = [f"{name} has {first} {thing}."]
    for change in changes:
        verbs = GAINS if change > 0 else LOSSES
        told.append(f"{name} {verbs[rng.integers(len(verbs))]} {abs(change)}.")
    return " ".join(told) + f" How many {thing} now?"


def _options(rng: np.random.Generator, variant: str, skeleton: Skeleton, answer: int) -> list[int]:
    """The answer among three distractors: totals with a step left out or its sign turned, then near misses."""
    if variant == "largest":
        slips = [n for n in skeleton if n != answer]
    else:
        changes = skeleton[1:]
        slips = [answer - c for c in changes] + [answer - 2 * c for c in changes]
    near = [answer + d for d in (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)]
    rng.shuffle(slips)
    rng.shuffle(near)
    pool = [n for n in dict.fromkeys([*slips[:2], *near]) if n != answer and 0 <= n <= MAX_TOTAL + MAX_CHANGE]
    options = [answer, *pool[: N_CHOICES - 1]]
    rng.shuffle(options)
    return options


def generate(
    rng: np.random.Generator,
    *,
    split: str = "train",
    variant: str = "story",
    form: str = "choice",
    steps: Sequence[int] = (1, 2, 3, 4),
) -> Iterator[Problem]:
    """Yield problems of one split without end; the number of steps is drawn evenly from `steps`.

    Stories with the same name, thing and verbs in the same places are one group (`Problem.group`): they differ in their numbers alone. The other variants
    have one wording for all, so that each problem stands alone. A question's split follows from the question, numbers and all, as the embedded model was
    trained; short stories therefore share wordings across splits, which `steerlab.tasks.groups.shared_groups` counts.

    Args:
        rng: the only source of chance.
        split: "train", "validation" or "test"; see `split_of`.
        variant: one of `VARIANTS`.
        form: "choice", "numeric" or "continuation".
        steps: how many operations a problem may have; 0 asks for the first number itself.

    Raises:
        ValueError: an unknown split, variant or form, or a number of steps below 0 or above 8.
    """
    for name, value, known in (("split", split, SPLITS), ("variant", variant, VARIANTS), ("form", form, FORMS)):
        one_of(value, name, known)
    if not steps or any(not 0 <= s <= 8 for s in steps):
        raise InputError(f"steps={tuple(steps)}; use numbers from 0 to 8")
    serial = 0
    while True:
        n_steps = int(steps[int(rng.integers(len(steps)))])
        skeleton = _skeleton(rng, variant, n_steps)
        question = _question(rng, variant, skeleton)
        # Sums in signs stand in one split, whether told with a word or without: no variant tests what another trained on.
        if split_of(_question(rng, "equation", skeleton) if variant == "bare" else question) != split:
            continue
        answer = max(skeleton) if variant == "largest" else sum(skeleton)
        meta = {"steps": n_steps, "variant": variant, "answer": answer}
        problem_id = f"{variant}-{form}-{split}-{serial:05d}"
        group = re.sub(r"\d+", "_", question) if variant in STORIES else None
        if form == "numeric":
            yield Problem(problem_id, f"{question}\nAnswer:", answer, meta=meta, group=group)
        elif form == "continuation":
            options = _options(rng, variant, skeleton, answer)
            choices = tuple(f" {n}" for n in options)
            yield Problem(problem_id, f"{question}\nAnswer:", naming(choices, options.index(answer)), choices, meta=meta, group=group)
        else:
            options = _options(rng, variant, skeleton, answer)
            lines, letters = lettered(options)
            yield Problem(problem_id, f"{question}\n{lines}\nAnswer:", options.index(answer), letters, meta=meta, group=group)
        serial += 1


def arithmetic(
    *,
    n_train: int = 1000,
    n_validation: int = 300,
    n_test: int = 400,
    seed: int = 0,
    variant: str = "story",
    form: str = "choice",
    steps: Sequence[int] = (1, 2, 3, 4),
) -> Task:
    """The embedded task, with every prompt different from every other.

    Args:
        n_train, n_validation, n_test: problems per split.
        seed: of the generator; the same seed gives the same problems.
        variant, form, steps: see `generate`.

    Raises:
        ValueError: bad options, or more problems asked for than differ.
    """
    wanted = dict(zip(SPLITS, (n_train, n_validation, n_test), strict=True))
    for name, count in wanted.items():
        if count < 0:
            raise InputError(f"n_{name}={count}; use 0 or more")
    splits: dict[str, list[Problem]] = {}
    for index, (split, count) in enumerate(wanted.items()):
        source = generate(np.random.default_rng([seed, index]), split=split, variant=variant, form=form, steps=steps)
        unique: dict[str, Problem] = {}
        for _ in range(50 * count + 1000):
            if len(unique) == count:
                break
            problem = next(source)
            unique.setdefault(str(problem.prompt), problem)
        else:
            raise InputError(f"n_{split}={count}: only {len(unique)} different problems with steps={tuple(steps)}; ask for fewer")
        splits[split] = list(unique.values())
    about = {"source": "embedded generator", "seed": seed, "variant": variant, "form": form, "steps": list(steps)}
    title = "arithmetic" if variant == VARIANTS[0] else f"arithmetic ({variant})"
    return Task(title, **splits, scorer=form, about=about)  # each form is judged by the scorer of its name
