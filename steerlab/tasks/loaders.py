"""`load_task`: a task with three disjoint splits, from a name and a local file or the Hub."""

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from steerlab._checks import InputError, is_whole
from steerlab.tasks.arithmetic import arithmetic
from steerlab.tasks.crossing import crossed
from steerlab.tasks.groups import groups_of, spread_groups, whole_parts
from steerlab.tasks.problems import Problem, Task
from steerlab.tasks.sources import EXTENSIONS, Pools, check_whole, read_hub, read_path, shown
from steerlab.tasks.templates import TASKS, Template, Unusable, jsonl, jsonl_scorer

SPLITS = ("train", "validation", "test")
SHARES = (0.5, 0.2, 0.3)


def load_task(
    name: str,
    *,
    path: str | Path | None = None,
    form: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    shares: Sequence[float] | None = None,
    revision: str | None = None,
    templates: Sequence[str] | None = None,
    **options: Any,
) -> Task:
    """A task by its name in `steerlab.TASKS`.

    Every split is shuffled by the seed. Official splits are kept; a source of one pool is split by `shares`; a split
    that the source lacks is carved from its largest one. `Task.about["splits"]` says in words what was done. Rows
    that occur twice are kept once (in test before validation before train), so the splits are disjoint.

    Problems that are not independent have a `Problem.group`: BLiMP's lexical pair (`steerlab.tasks.templates.lexical_pair`), HellaSwag's `source_id`, the
    wording of a generated story, the column `group` of a file of your own. A pool is split so that each group stands in one split, in sizes as near to
    `shares` as that allows. Splits that are given stay as they are: groups in more than one of them are a UserWarning with their number, and a line of
    `Task.warnings()`. See `steerlab.tasks.shared_groups`.

    Args:
        name: of the task. "arithmetic" is generated; "jsonl" is the user's own file.
        path: a .jsonl, .json, .parquet or .csv file with the official column names, or a folder with files for
            train, validation or test; None for the Hugging Face Hub.
        form: how a problem is asked, e.g. "choice" or "continuation"; None for the task's default.
        limit: the most problems to keep in each split.
        seed: of the shuffle and of what is carved; for "arithmetic", of the generator.
        shares: of train, validation and test where one pool is split; (0.5, 0.2, 0.3) by default.
        revision: branch, tag or commit on the Hub.
        templates: two or more texts with the place `{prompt}`; each problem is then asked with each of them. See `steerlab.tasks.crossed`.
        **options: for "arithmetic", those of `arithmetic`; for "blimp", `paradigm`, required for the Hub and for a
            folder of paradigms; for "jsonl", `scorer`.

    Raises:
        FileNotFoundError: no file or folder at `path`.
        OSError: the Hub cannot be reached or lacks the data set.
        ValueError: an unknown name, form or option, or rows that no task can be made of.

    Example:
        >>> task = load_task("arithmetic")
        >>> task
        Task('arithmetic', train=1000, validation=300, test=400, scorer='choice')
        >>> print(task.test[0].prompt)
        Max has 8 stamps. Max drops 4. Max drops 2. Max drops 1. Max sells 1. How many stamps now?
        A. 4
        B. 5
        C. 0
        D. 2
        Answer:
    """
    if name not in TASKS:
        raise InputError(f"name={shown(name)}: no such task; use one of {', '.join(TASKS)}")
    if limit is not None and not is_whole(limit, 1):
        raise InputError(f"limit={limit!r}; use a whole number from 1 up, or None for all")
    if not is_whole(seed, 0):
        raise InputError(f"seed={seed!r}; use a whole number from 0 up")
    if name == "arithmetic":
        given = {"path": path, "shares": shares, "revision": revision}
        made = _generated(limit, {**options, **({} if form is None else {"form": form}), "seed": seed}, given)
        return made if templates is None else crossed(made, templates)

    source = TASKS[name]
    for option, value in options.items():
        if option not in source.own:
            accepted = ("path", "form", "limit", "seed", "shares", "revision", "templates", *source.own)
            raise InputError(f"{option}={shown(value)}: {name} has no such option; use {', '.join(accepted)}")
    form = next(iter(source.forms)) if form is None else form
    if form not in source.forms:
        raise InputError(f"form={shown(form)}: {name} has the forms {', '.join(source.forms)}")
    template = source.forms[form]
    scorer = options.get("scorer")
    if name == "jsonl":
        template = Template(partial(jsonl, scorer=scorer), None)
    share_of = _shares(shares)

    pools = _read(name, path, revision, options.get("paradigm"))
    problems, dropped = _problems(name, pools, template)
    n_problems = {split: len(pool) for split, pool in problems.items()}
    everything = [p for pool in problems.values() for p in pool]
    scorer = template.scorer or jsonl_scorer(everything, scorer)
    splits, words = _split(problems, share_of, seed, whole=pools.whole)
    about = {
        "source": "local file" if path is not None else "Hugging Face Hub",
        "files": pools.files,
        "template": f"{name}/{form}",
        "form": form,
        "seed": seed,
        "splits": words,
        "rows": {split: len(rows) for split, rows in pools.rows.items()},
        "usable": n_problems,
        "dropped": dropped,
        "limit": limit,
        **({"revision": revision} if path is None else {}),
        **{option: value for option, value in options.items() if value is not None},
    }
    part = _part(name, pools, path, options.get("paradigm"))
    title = f"{name} ({part})" if part else name
    task = Task(title, **{split: splits[split][:limit] for split in SPLITS}, scorer=scorer, about=about)
    for said in spread_groups(**{split: getattr(task, split) for split in SPLITS}):  # only splits that were given can share groups
        warnings.warn(
            f"{title}: {said}; leave these out of one split, or give one pool, which is split by groups", UserWarning, stacklevel=2
        )
    return task if templates is None else crossed(task, templates)


def _part(name: str, pools: Pools, path: str | Path | None, paradigm: str | None) -> str | None:
    """What reports say beside the data set's name: the paradigm, or the file of problems of one's own."""
    if name == "jsonl" and path is not None:
        return Path(path).stem
    if name != "blimp":
        return None
    found = {row.columns.get("UID") for rows in pools.rows.values() for row in rows}
    return paradigm or (str(found.pop()) if len(found) == 1 and None not in found else None)


def _generated(limit: int | None, options: dict[str, Any], given: Mapping[str, object]) -> Task:
    for option, value in given.items():
        if value is not None:
            raise InputError(f"{option}={shown(value)}: arithmetic is generated and has no such option; leave it out")
    accepted = TASKS["arithmetic"].own
    for option, value in options.items():
        if option not in accepted:
            raise InputError(f"{option}={shown(value)}: arithmetic has no such option; use {', '.join(accepted)}")
    task = arithmetic(**options)
    if limit is None:
        return task
    kept = {split: getattr(task, split)[:limit] for split in SPLITS}
    return Task(task.name, **kept, scorer=task.scorer, about={**task.about, "limit": limit})


def _shares(shares: Sequence[float] | None) -> dict[str, float]:
    values = tuple(SHARES if shares is None else shares)
    if len(values) != 3 or not all(isinstance(s, (int, float)) and 0 <= s <= 1 for s in values):
        raise InputError(f"shares={values}; use three numbers from 0 to 1, for train, validation and test")
    if not math.isclose(sum(values), 1, abs_tol=1e-6):
        raise InputError(f"shares={values} sum to {sum(values):g}; they must sum to 1")
    return dict(zip(SPLITS, values, strict=True))


def _read(name: str, path: str | Path | None, revision: str | None, paradigm: str | None) -> Pools:
    if path is None:
        hub = TASKS[name].hub
        if hub is None:
            raise InputError(f"path=None: {name} reads a file of yours; pass path=")
        dataset, config = hub
        if name == "blimp" and not paradigm:
            raise InputError("paradigm=None: BLiMP on the Hub has one data set per paradigm; pass paradigm=, "
                             'e.g. paradigm="anaphor_gender_agreement"')  # fmt: skip
        return read_hub(dataset, paradigm if name == "blimp" else config, revision=revision)
    if revision is not None:
        raise InputError(f"revision={revision!r}: a local file has no revision; leave it out")
    path = Path(path).expanduser()
    if paradigm is None:
        return read_path(path)
    if path.is_dir():
        # Names are compared, never joined to the folder: a paradigm cannot point outside it.
        named = [p for p in sorted(path.iterdir()) if p.stem == paradigm and p.suffix.lower() in EXTENSIONS]
        path = named[0] if named else path
    pools = read_path(path)
    for split, rows in pools.rows.items():
        kept = [row for row in rows if row.columns.get("UID", paradigm) == paradigm]
        if not kept:
            found = sorted({str(row.columns.get("UID")) for row in rows})
            raise InputError(f"paradigm={paradigm!r}: no such rows in {split}; the paradigms found are {shown(found, 300)}")
        pools.rows[split] = kept
    return pools


def _problems(name: str, pools: Pools, template: Template) -> tuple[dict[str, list[Problem]], dict[str, int]]:
    """Problems by split, without repeats, and how many rows were left out for which reason."""
    dropped: dict[str, int] = {"duplicate": 0}
    problems: dict[str, list[Problem]] = {}
    seen: set[tuple[object, ...]] = set()
    ids: dict[str, str] = {}
    for split in reversed(SPLITS):  # an official test split is the last to lose a row that occurs twice
        kept = problems.setdefault(split, [])
        for row in pools.rows.get(split, ()):
            try:
                check_whole(row.columns)
                problem = template.build(row, name if pools.whole else f"{name}-{split}")
            except Unusable as reason:
                dropped[str(reason)] = dropped.get(str(reason), 0) + 1
                continue
            except ValueError as error:
                message = str(error)
                raise InputError(f"{row.where}: {message if len(message) < 500 else message[:500] + '…'}") from error
            key = _content(problem)
            if key in seen:
                dropped["duplicate"] += 1
                continue
            if problem.id in ids:
                raise InputError(
                    f"{row.where}: the id {shown(problem.id)} is that of {ids[problem.id]} too; "
                    "give each row its own, or leave the column out to number them"
                )
            seen.add(key)
            ids[problem.id] = row.where
            kept.append(problem)
    if not any(problems.values()):
        total = sum(len(rows) for rows in pools.rows.values())
        raise InputError(f"{name}: none of {total} rows can be used; left out: {dropped}")
    return {split: problems[split] for split in SPLITS if problems[split]}, dropped


def _content(problem: Problem) -> tuple[object, ...]:
    """What makes two problems the same: prompt, choices in any order, and the right answer."""
    if problem.choices is None:
        return problem.prompt, problem.target
    return problem.prompt, frozenset(problem.choices), problem.choices[problem.target_index]


def _split(
    pools: Mapping[str, list[Problem]], share_of: Mapping[str, float], seed: int, *, whole: bool
) -> tuple[dict[str, list[Problem]], str]:
    """Shuffled splits, the missing ones carved from the largest, and a sentence on what was done."""
    splits: dict[str, list[Problem]] = {split: [] for split in SPLITS}
    for index, split in enumerate(SPLITS):
        pool = pools.get(split, [])
        order = np.random.default_rng([seed, index]).permutation(len(pool))
        splits[split] = [pool[i] for i in order]
    missing = [split for split in SPLITS if not splits[split]]
    donor = max(SPLITS, key=lambda split: len(splits[split]))
    weights = {split: share_of[split] for split in SPLITS if split == donor or split in missing}
    if not whole and not any(weights[split] for split in missing):
        return splits, f"official {_listed([s for s in SPLITS if splits[s]])}, shuffled with seed {seed}"

    pool, n = splits[donor], len(splits[donor])
    sizes = {split: size for split, size in _sizes(n, weights).items() if size}
    splits |= dict(zip(sizes, whole_parts(pool, list(sizes.values())), strict=True))
    kept = ", groups kept whole" if len(set(groups_of(pool))) < n else ""
    if whole:
        parts = ", ".join(f"{len(splits[s])} {s}" for s in SPLITS)
        return splits, f"one pool of {n} problems, split by a permutation with seed {seed}: {parts}{kept}"
    official = _listed([s for s in SPLITS if s not in missing])
    carved = _listed([f"{s} ({len(splits[s])} problems)" for s in missing])
    return splits, f"official {official}, shuffled with seed {seed}; {carved} carved from the {n} of {donor}{kept}"


def _sizes(n: int, weights: Mapping[str, float]) -> dict[str, int]:
    """How many of n problems each split gets: at least 1 where its weight is above 0, the rounding to the largest."""
    total = sum(weights.values())
    sizes = {split: max(1, round(n * weight / total)) if weight else 0 for split, weight in weights.items()}
    largest = max(weights, key=lambda split: weights[split])
    sizes[largest] += n - sum(sizes.values())
    if sizes[largest] < 1:
        needed = ", ".join(f"{split} {weight:g}" for split, weight in weights.items() if weight)
        raise InputError(f"{n} different problems are too few for the shares {needed}; each split needs at least 1")
    return sizes


def _listed(words: Sequence[str]) -> str:
    return " and ".join(words)
