"""Directions from pairs of prompts: function vectors, and contrasts between two ways to ask."""

from collections.abc import Sequence
from typing import Unpack

from steerlab._checks import InputError, takes_options
from steerlab.activations.cache import Activations, cache_activations
from steerlab.activations.positions import Positions
from steerlab.directions.direction import Direction
from steerlab.directions.estimators import mean_difference
from steerlab.models.backends import Model
from steerlab.models.encoding import token_ids
from steerlab.models.memory import PassOptions
from steerlab.models.model import readable
from steerlab.tasks.problems import Problem, Text

# The queries and the two prompts of the experiment on Phi-2 (project sources, proof of concept 3).
QUERIES: tuple[str, ...] = (
    "What is the capital of France?",
    "Solve 24 * 12.",
    "Explain quantum entanglement.",
    "Write a poem about rust.",
    "Who wrote Hamlet?",
    "What is the derivative of x^2?",
    "Translate 'hello' to Spanish.",
    "Why is the sky blue?",
    "How do airplanes fly?",
    "What is the meaning of life?",
)
DIRECT = "Question: {query}\nAnswer:"
REASONING = "Question: {query}\nLet's think step by step to find the correct answer:\n"


def reasoning_pairs(queries: Sequence[str] = QUERIES, *, reasoning: str = REASONING, direct: str = DIRECT) -> list[tuple[str, str]]:
    """Each query as a prompt that asks to reason and as one that asks for the answer.

    Args:
        queries: default the ten of the sources.
        reasoning, direct: the prompts, with ``{query}`` where the query goes. (Other braces need no doubling.)

    Raises:
        ValueError: no queries, or a prompt without ``{query}``.

    Example:
        >>> reasoning_pairs(["2 + 2?"])
        [("Question: 2 + 2?\\nLet's think step by step to find the correct answer:\\n", 'Question: 2 + 2?\\nAnswer:')]
    """
    if isinstance(queries, str) or not queries:
        raise InputError(f"queries={queries!r}; give a list of at least one question")
    for what, prompt in (("reasoning", reasoning), ("direct", direct)):
        if "{query}" not in prompt:
            raise InputError(f"{what}={prompt!r} has no {{query}}; say where the query goes")
    return [(reasoning.replace("{query}", query), direct.replace("{query}", query)) for query in queries]


@takes_options
def prompt_contrast(
    model: Model,
    pairs: Sequence[tuple[Text, Text]],
    *,
    layers: int | Sequence[int],
    site: str = "resid_post",
    positions: Positions = "last",
    **options: Unpack[PassOptions],
) -> tuple[Activations, Activations]:
    """The activations of both prompts of each pair: two groups for any estimator, row i of both being one pair.

    Args:
        model: a TransformerLens model.
        pairs: of a prompt that does what the direction is to do, and one that does not; texts, or tuples of token ids.
        layers, site, positions: as in `steerlab.cache_activations`.

    Raises:
        ValueError: no pairs, something else than two prompts, or two that are the same.

    Example:
        >>> import steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> prompt = sl.load_task("arithmetic").train[0].prompt
        >>> harder, easier = prompt_contrast(model, [(prompt + " A", prompt)], layers=[1, 2])
        >>> harder.values.shape == easier.values.shape == (1, 2, 1, 128)
        True
    """
    if not pairs:
        raise InputError("no pairs of prompts given; give at least one")
    for i, pair in enumerate(pairs):
        if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(prompt, str | tuple) for prompt in pair):
            raise InputError(f"pair {i} is {pair!r}; give two prompts, the one to go towards first")
        if pair[0] == pair[1]:
            raise InputError(f"pair {i}: both prompts are {pair[0]!r}; a contrast needs two that differ")
        if all(isinstance(text, str) for text in pair) and token_ids(model, str(pair[0])) == token_ids(model, str(pair[1])):
            raise InputError(f"pair {i}: {pair[0]!r} and {pair[1]!r} are the same tokens to this model; a contrast needs two that differ")
    problems = [
        [Problem(f"{side}-{i}", pair[k], () if isinstance(pair[k], tuple) else "") for i, pair in enumerate(pairs)]
        for k, side in enumerate(("positive", "negative"))
    ]
    groups = [cache_activations(model, group, layers=layers, site=site, positions=positions, **options) for group in problems]
    return groups[0], groups[1]


def function_vector(
    model: Model,
    pairs: Sequence[tuple[Text, Text]] | None = None,
    *,
    layer: int,
    site: str = "resid_post",
    positions: Positions = "last",
    normalise: bool = False,
    name: str = "function vector",
) -> Direction:
    """Mean activation of prompts that ask for a function minus that of prompts that do not.

    Args:
        model: a TransformerLens model.
        pairs: of a prompt with it and one without; default `reasoning_pairs`, which ask to think step by step or for the answer.
        layer: 0-based block.
        site, positions: where it is measured; default the last prompt token, in the block's output.
        normalise: scale to norm 1, as the sources do.
        name: for tables and figures.

    Raises:
        ValueError: as `prompt_contrast` and `steerlab.mean_difference`.

    Source:
        Todd et al. (2024), Function vectors in large language models, for the name; the contrast of prompts is the sources'.

    Example:
        >>> import steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> prompts = [problem.prompt for problem in sl.load_task("arithmetic").train[:8]]
        >>> function_vector(model, [(prompt + " A", prompt) for prompt in prompts], layer=2, normalise=True)
        Direction('function vector', layer=2, site='resid_post', shape=[128], norm=1)
    """
    asked = [*reasoning_pairs()] if pairs is None else list(pairs)
    if pairs is None and not readable(model, [str(prompt) for pair in asked for prompt in pair]):
        raise InputError(
            "most words of the default pairs are unknown to this model's tokenizer, or too many for its context; give pairs that it can read"
        )
    with_it, without = prompt_contrast(model, asked, layers=[layer], site=site, positions=positions)
    found = mean_difference(with_it, without, layer=layer, normalise=normalise, name=name)
    method = {**found.method, "estimator": "function_vector", "pairs": [list(pair) for pair in asked]}
    return found.with_vector(found.vector, method=method)
