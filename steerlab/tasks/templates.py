"""From a record to a problem: one function per data set and form, with its prompt (HellaSwag, ARC, GSM8K, SVAMP, BLiMP, JSONL).

Each takes a record and the beginning of the problem's id, and returns the problem or raises ValueError with what is wrong.
`Unusable` marks records that a published data set is known to have and that no problem comes from.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from steerlab._checks import Choices, InputError
from steerlab.tasks.numbers import parse_number
from steerlab.tasks.problems import Problem, lettered, naming, readings
from steerlab.tasks.sources import Record, checked_texts, shown

QUESTION = "Question:"  # begins a prompt; an answer that goes on with it asks the next question, which is not part of the answer
SCORERS = ("choice", "continuation", "continuation_norm", "minimal_pair", "numeric", "text")


def before_next_question(generated: str) -> str:
    """What is generated as an answer, up to where the model begins to ask the next question as prompts here do."""
    return generated.split(QUESTION, 1)[0]


class Unusable(Exception):
    """A row to leave out and to count; the message is the reason."""


@dataclass(frozen=True)
class Template:
    """How rows become problems, and how the answers are scored. `scorer` None: it follows from the problems."""

    build: Callable[[Record, str], Problem]
    scorer: str | None


@dataclass(frozen=True)
class Source:
    """Where a task's problems come from.

    Attributes:
        forms: how a row becomes a problem, by form; the first is the default. None for problems that are generated.
        hub: data set and configuration on the Hugging Face Hub; None where there is none.
        own: options of `load_task` beside those that all data sets have; of a generated task, all.
        parts: the option that names a part of the task, which studies of several tasks take for a task each.
    """

    forms: Mapping[str, Template] = field(default_factory=dict)
    hub: tuple[str, str | None] | None = None
    own: tuple[str, ...] = ()
    parts: str | None = None


def _own_id(row: Record, *columns: str) -> str:
    for column in columns:
        value = row.columns.get(column)
        if value is not None and value != "":
            if not isinstance(value, (str, int)) or isinstance(value, bool):
                raise InputError(f"column {column!r} holds {shown(value)}; an id must be text or a whole number")
            return str(value)
    return str(row.number)


def _group(row: Record, column: str) -> str | None:
    """The group that a column names, as text; None where there is no such column or nothing in it."""
    value = row.columns.get(column)
    if value is None or value == "":
        return None
    number = None if isinstance(value, str) else parse_number(value)  # whole numbers beside gaps are floats in Parquet
    if not isinstance(value, str) and not isinstance(number, int):
        raise InputError(f"column {column!r} holds {shown(value)}; a group must be text or a whole number")
    return value if number is None else str(number)


def _apart(choices: Sequence[str]) -> tuple[str, ...]:
    if not all(c.strip() for c in choices):
        raise Unusable("an empty choice")
    if len({c.strip() for c in choices}) < len(choices):
        raise Unusable("repeated choices")
    return tuple(choices)


def _hellaswag(row: Record) -> tuple[str, list[str], int]:
    label = row.need("label")
    if label is None or label == "":
        raise Unusable("no label")
    ctx, endings, index = row.text("ctx"), row.texts("endings"), row.number_in("label")
    if index not in range(len(endings)):
        raise InputError(f"label {shown(label)} is out of range; {len(endings)} endings need 0 to {len(endings) - 1}")
    return ctx, endings, int(index)


def _meta(row: Record, *columns: str) -> dict[str, object]:
    return {column: row.columns[column] for column in columns if column in row.columns}


def hellaswag_choice(row: Record, prefix: str) -> Problem:
    """The prompt of the activation fine-tuning study: four lettered endings, answer with a letter; a group is the video or article of `source_id`."""
    ctx, endings, label = _hellaswag(row)
    lines, letters = lettered(endings)
    prompt = f"Complete the sentence:\n{ctx}\n\n{lines}\n\nThe best answer is:"
    meta = _meta(row, "ind", "activity_label", "split_type")
    return Problem(f"{prefix}-{_own_id(row, 'ind')}", prompt, label, letters, meta=meta, group=_group(row, "source_id"))


def wikihow_clean(text: str) -> str:
    """HellaSwag's text without its WikiHow marks, as lm-evaluation-harness cleans it: "[title]" ends a sentence,
    other bracketed marks go, and one pass makes double spaces single."""
    lines = text.strip().replace(" [title]", ". ").split("\n")
    return "\n".join(_without_brackets(line) for line in lines).replace("  ", " ")


def _without_brackets(line: str) -> str:
    # Only up to the last "]", so that a line of a million "[" is not searched to its end from each of them.
    marked, bracket, rest = line.rpartition("]")
    return re.sub(r"\[.*?\]", "", marked + bracket) + rest


def hellaswag_continuation(row: Record, prefix: str) -> Problem:
    """The cleaned context, continued by each cleaned ending. lm-evaluation-harness also writes the activity label
    before the context; this does not, so absolute accuracies differ from its tables. A group is
    the video or article of `source_id`."""
    ctx, endings, label = _hellaswag(row)
    choices = _apart([" " + wikihow_clean(ending) for ending in endings])
    meta = _meta(row, "ind", "activity_label", "split_type")
    return Problem(
        f"{prefix}-{_own_id(row, 'ind')}", wikihow_clean(ctx), naming(choices, label), choices, meta=meta, group=_group(row, "source_id")
    )


def _arc(row: Record) -> tuple[str, list[str], int]:
    question, options, key = row.text("question"), row.nested("choices"), row.need("answerKey")
    if not isinstance(options, Mapping) or not {"text", "label"} <= set(options):
        raise InputError(f"column 'choices' holds {shown(options)}; it must be an object with lists 'text' and 'label'")
    texts, labels = (checked_texts(options[part], f"choices.{part}") for part in ("text", "label"))
    if len(texts) != len(labels):
        raise InputError(f"column 'choices' has {len(texts)} texts and {len(labels)} labels; it needs as many of each")
    if labels.count(str(key)) != 1:
        raise InputError(f"answerKey {shown(key)} is out of range; the labels are {shown(labels)}")
    return question, texts, labels.index(str(key))


def arc_choice(row: Record, prefix: str) -> Problem:
    """The question with lettered options; sources that number theirs are lettered too."""
    question, texts, answer = _arc(row)
    lines, letters = lettered(texts)
    meta = {**_meta(row, "id"), "n_options": len(texts)}
    return Problem(f"{prefix}-{_own_id(row, 'id')}", f"{QUESTION} {question}\n{lines}\nAnswer:", answer, letters, meta=meta)


def arc_continuation(row: Record, prefix: str) -> Problem:
    """The question alone, continued by the text of each option."""
    question, texts, answer = _arc(row)
    choices = _apart([" " + text for text in texts])
    meta = {**_meta(row, "id"), "n_options": len(texts)}
    return Problem(f"{prefix}-{_own_id(row, 'id')}", f"{QUESTION} {question}\nAnswer:", naming(choices, answer), choices, meta=meta)


def gsm8k(row: Record, prefix: str) -> Problem:
    """The question; the answer is the number after "####"; steps are the worked solution's calculations."""
    question, answer = row.text("question"), row.text("answer")
    solution, mark, final = answer.rpartition("####")
    if not mark:
        raise InputError(f"column 'answer' ends in {shown(answer[-40:])}; it must end in '#### ' and a number")
    number = parse_number(final)
    if number is None:
        raise InputError(f"column 'answer' has {shown(final)} after '####'; it must be a number")
    meta = {"steps": solution.count("<<")}
    return Problem(f"{prefix}-{_own_id(row, 'id')}", f"{QUESTION} {question}\nAnswer:", number, meta=meta)


def svamp(row: Record, prefix: str) -> Problem:
    """Body and question on one line; the answer is a number."""
    prompt = f"{QUESTION} {row.text('Body').strip()} {row.text('Question').strip()}\nAnswer:"
    meta = _meta(row, "ID", "Type", "Equation")
    return Problem(f"{prefix}-{_own_id(row, 'ID')}", prompt, row.number_in("Answer"), meta=meta)


def common_prefix(first: str, second: str) -> str:
    """The longest common beginning of two sentences that a space follows in both; "" when there is none."""
    end = 0
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            break
        if a == " ":
            end = i
    return first[:end]


_WORDS = """
a an the this that these those some any no all each every many most more few fewer less much several both either neither one
i you he she it we they me him her us them my your his its our their who whom whose which what where when how why there
myself yourself himself herself itself ourselves yourselves themselves
am is are was were be been being do does did has have had can could will would shall should may might must
isn't aren't wasn't weren't don't doesn't didn't hasn't haven't hadn't can't couldn't won't wouldn't shouldn't mustn't
not never ever even only also just so too very really certainly clearly probably fortunately often
and or but if whether because while at in on of by for from to with about as than least
"""
FUNCTION_WORDS = frozenset(_WORDS.split())
"""Words whose choice is what a paradigm of BLiMP is about (reflexives, quantifiers, wh-words, negation …), not the material that it is filled with."""


def lexical_pair(first: str, second: str) -> str | None:
    """The words in which two sentences differ, whichever is the good one; None where these are function words, the same all through a paradigm.

    What the sentences begin and end with, capitals and punctuation are left out.

    Example:
        >>> lexical_pair("Raymond is selling this sketch.", "Raymond is selling this sketches.")
        'sketch/sketches'
        >>> lexical_pair("Katherine can't help herself.", "Katherine can't help himself.")
    """
    ours, theirs = ([word.strip('.,;:?!"').lower() for word in sentence.split()] for sentence in (first, second))
    for end in (0, -1):
        while ours and theirs and ours[end] == theirs[end]:
            del ours[end], theirs[end]
    return None if FUNCTION_WORDS.issuperset(ours + theirs) else "/".join(sorted((" ".join(ours), " ".join(theirs))))


def blimp(row: Record, prefix: str) -> Problem:
    """A minimal pair: what both sentences begin with, continued by the rest of each.

    Which sentence comes first follows from a hash of the pair's id, so neither a tie nor a liking for the first
    choice favours the acceptable sentence. Its group is the lexical pair (see `lexical_pair`): 1,000 rows of a paradigm
    are made of far fewer nouns or verbs.
    """
    good, bad = row.text("sentence_good").strip(), row.text("sentence_bad").strip()
    if not good or not bad:
        raise InputError(f"sentences {shown(good)} and {shown(bad)}; a minimal pair needs two")
    if good == bad:
        raise Unusable("identical sentences")
    pair = f"{row.columns.get('UID', '')}-{_own_id(row, 'pairID', 'pair_id')}".lstrip("-")
    good_at = hashlib.sha256(pair.encode()).digest()[0] % 2
    prompt = common_prefix(good, bad)
    rests = (good[len(prompt) :], bad[len(prompt) :])
    choices = (rests[good_at], rests[1 - good_at])
    meta = _meta(row, "UID", "field", "linguistics_term", "pairID", "pair_id")
    return Problem(f"{prefix}-{pair}", prompt, naming(choices, good_at), choices, meta=meta, group=lexical_pair(good, bad))


def jsonl(row: Record, prefix: str, scorer: str | None = None) -> Problem:
    """The user's own problems: columns prompt and target, choices, id and group if any; other columns go to meta.

    Rows with the same text or whole number in the column group are a group: paraphrases of one source row, say. Rows without one stand alone.

    The id is kept as it is; rows without one are numbered. Beside choices, the target is as in `Problem`: text is the text of a choice, a whole number is
    an index. Where a cell could be both, of different choices (in CSV any cell that is a whole number, in other files a number), it is refused, and the
    column target_text or target_index takes the place of target.

    Args:
        row: the row.
        prefix: beginning of the id of a row without one.
        scorer: "text" keeps a generated target as the text it is; else what is a number becomes one, so that a
            number in CSV, which holds only text, is compared as a number.
    """
    own = row.columns.get("id") not in (None, "")
    problem_id = _own_id(row, "id") if own else f"{prefix}-{row.number}"
    prompt = row.text("prompt")
    given = [name for name in TARGET_COLUMNS if row.columns.get(name) not in (None, "")] or ["target"]
    if row.columns.get("choices") in (None, ""):
        column = given[0]
        target, meta = row.need(column), _others(row, column)
        if column == "target_index":
            raise InputError(f"column 'target_index' holds {shown(target)}, but there are no choices; use the column target")
        kept = isinstance(target, str) and (parse_number(target) is None or scorer == "text" or column == "target_text")
        return Problem(problem_id, prompt, row.text(column) if kept else row.number_in(column), meta=meta, group=_group(row, "group"))
    choices = tuple(row.texts("choices"))
    return Problem(problem_id, prompt, _right(row, given, choices), choices, meta=_others(row, *given), group=_group(row, "group"))


TARGET_COLUMNS = ("target", "target_text", "target_index")
_INDEX = re.compile(r"\s*([0-9]{1,9})(?:\.0*)?\s*")  # pandas writes a column of whole numbers with a gap as 1.0


def _others(row: Record, *used: str) -> dict[str, object]:
    return {name: value for name, value in row.columns.items() if name not in ("id", "prompt", "choices", "group", *used)}


def _right(row: Record, columns: Sequence[str], choices: Sequence[str]) -> str | int | float:
    """The target of a row with choices, as `Problem` takes it: the one choice that all of these columns can mean."""
    meant = {column: _meant(row, column, choices) for column in columns}
    left = set.intersection(*meant.values())
    said = " and ".join(f"column {column!r} holds {shown(row.columns[column])}" for column in columns)
    if not left:
        raise InputError(
            f"{said}, which {'is not one' if len(columns) == 1 else 'are not the same one'} of the choices {shown(list(choices))}"
        )
    if len(left) > 1:
        raise InputError(
            f"{said}, which is one choice by its text and another by its index, counted from 0 ({' and '.join(shown(choices[i]) for i in sorted(left))}); "
            "call the column target_text or target_index"
        )
    target = row.columns[columns[0]]
    by_text = readings(target, choices)[0] if isinstance(target, str) else None
    return target if columns[0] == "target" and by_text in left else naming(choices, left.pop())


def _meant(row: Record, column: str, choices: Sequence[str]) -> set[int]:
    """Which choices a cell can mean: in `target` its text or its index, and text alone where a file tells text from numbers and has that text."""
    target = row.need(column)
    if not isinstance(target, str) and parse_number(target) is None:
        raise InputError(f"column {column!r} holds {shown(target)}; it must be text or a number")
    whole = _INDEX.fullmatch(row.text(column) if isinstance(target, str) else str(target))
    index = None if whole is None or column == "target_text" else int(whole[1])
    if index is not None and index >= len(choices):
        index = None
    by_text = None if column == "target_index" else readings(str(target) if column == "target_text" else target, choices)[0]
    if by_text is None and index is not None and column == "target":
        by_text = readings(index, choices)[0]
    if isinstance(target, str) and row.typed and by_text is not None:
        index = None
    if index is None and by_text is None and whole is not None and column != "target_text":
        raise InputError(f"column {column!r} holds {shown(target)}; use an index from 0 to {len(choices) - 1}, or the text of a choice")
    return {place for place in (by_text, index) if place is not None}


def jsonl_scorer(problems: Sequence[Problem], scorer: str | None) -> str:
    """The scorer that a user's problems need, or the one asked for if it fits them.

    Raises:
        ValueError: an unknown scorer, one that does not fit, problems with and without choices, or text to generate
            and no scorer named.
    """
    if scorer is not None and scorer not in SCORERS:
        raise InputError(f"scorer={scorer!r}; use one of {', '.join(SCORERS)}")
    with_choices = [p for p in problems if p.choices is not None]
    generated = [p for p in problems if p.choices is None]
    if with_choices and generated:
        raise InputError(
            f"problem {shown(with_choices[0].id)} has choices and {shown(generated[0].id)} has none; "
            "one task has one scorer: give all of them choices, or none"
        )
    if with_choices:
        if scorer in ("numeric", "text"):
            raise InputError(f"scorer={scorer!r}: it scores what is generated, but the problems have choices")
        letters = all(isinstance(choice, str) and re.fullmatch(" [A-Za-z]", choice) for p in with_choices for choice in p.choices or ())
        return scorer or ("choice" if letters else "continuation")
    if scorer not in (None, "numeric", "text"):
        raise InputError(f"scorer={scorer!r}: it scores choices, but the problems have none; use numeric or text")
    words = [p for p in generated if isinstance(p.target, str)]
    if words and scorer != "text":
        raise InputError(
            f"problem {shown(words[0].id)} has the text {shown(words[0].target)} as target and no choices; "
            'add choices, or pass scorer="text" to compare what is generated with it'
        )
    return scorer or "numeric"


TASKS: Choices[Source] = Choices(
    {
        "arithmetic": (
            Source(own=("n_train", "n_validation", "n_test", "seed", "variant", "form", "steps"), parts="variant"),
            "generated word problems, the task that the embedded model was trained on",
        ),
        "hellaswag": (
            Source(
                {"choice": Template(hellaswag_choice, "choice"), "continuation": Template(hellaswag_continuation, "continuation_norm")},
                ("Rowan/hellaswag", None),
            ),
            "the likeliest end of a story",
        ),
        "arc_challenge": (
            Source(
                {"choice": Template(arc_choice, "choice"), "continuation": Template(arc_continuation, "continuation")},
                ("allenai/ai2_arc", "ARC-Challenge"),
            ),
            "science questions of grade schools with choices",
        ),
        "gsm8k": (
            Source({"numeric": Template(gsm8k, "numeric")}, ("openai/gsm8k", "main")),
            "word problems of several steps, answered by a number",
        ),
        "svamp": (
            Source({"numeric": Template(svamp, "numeric")}, ("ChilleD/SVAMP", None)),
            "word problems of one step, answered by a number",
        ),
        "blimp": (
            Source({"minimal_pair": Template(blimp, "minimal_pair")}, ("nyu-mll/blimp", None), own=("paradigm",), parts="paradigm"),
            "minimal pairs of a good and a bad sentence; one data set a paradigm",
        ),
        "jsonl": (Source({"rows": Template(jsonl, None)}, own=("scorer",)), "your own file, with `prompt`, `target` and perhaps `choices`"),
    }
)
"""Where problems come from, by the name that `load_task` takes."""
