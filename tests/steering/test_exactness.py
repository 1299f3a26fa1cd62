"""The fast path is the plain hooked run, whatever the model, the lengths, the place, the operator and the coefficient.

Oracle: every problem run alone and unpadded through the whole model, with an operator written out here on the hook point.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import pytest
import torch
from examples import examples
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import steerlab as sl
from steerlab.models.batches import Read, TokenRow
from steerlab.models.encoding import end_tokens
from steerlab.models.model import hook_name, hooks
from steerlab.models.passes import forward
from steerlab.tasks.scorers import Outcome, Scorer

SEQUENTIAL = ("gpt2", "llama-grouped", "mistral-sliding", "qwen2", "gpt_neox-sequential")  # these have a resid_mid
PARALLEL = ("gpt_neox", "phi-2")
ANYWHERE = ("stablelm", "gemma2", "qwen2-sliding")  # loaded as bridges, whatever was asked for
NEW_TOKENS = 5
quick = settings(
    max_examples=examples(40),
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


def rows(model, problem):
    """The token row that a problem carries, and what is read from it."""
    tokens, prompt_length, reads = problem.meta["row"]
    return [TokenRow(tokens, prompt_length, tuple(Read(at, columns, log_prob) for at, columns, log_prob in reads))]


def judge(model, problem, answers):
    """All numbers read, folded into one line: the place of the largest, and two sums that any change would move."""
    values = [value for read in answers[0].reads for value in read]
    best = max(range(len(values)), key=values.__getitem__)
    return Outcome(str(best), best % 2 == 0, math.fsum(values), math.fsum(v * (i + 1) for i, v in enumerate(values)) / len(values))


def to_continue(model, problem):
    """The prompt of a problem's row, to generate from."""
    tokens, prompt_length, _ = problem.meta["row"]
    return [TokenRow(tokens[:prompt_length], prompt_length, new_tokens=NEW_TOKENS)]


def generated(model, problem, answers):
    """The tokens, as a text."""
    return Outcome(" ".join(map(str, answers[0].generated)), True, 0.0, 0.0)


CONTINUED = Scorer("continued", to_continue, generated, generates=True)
TOKENS_AS_THEY_ARE = Scorer("tokens", rows, judge)


@dataclass(frozen=True)
class Case:
    """Plain data, so that a strategy may draw it; problems and direction are made of it inside the test."""

    family: str
    rows: list
    seed: int
    layer: int
    site: str
    at: tuple | None  # positions of a direction with one vector a position
    alphas: list
    operator: str
    positions: object
    max_tokens: int

    @cached_property
    def problems(self):
        return [sl.Problem(f"problem-{i}", f"prompt {i}", 0, meta={"row": row}) for i, row in enumerate(self.rows)]

    @cached_property
    def direction(self):
        generator = torch.Generator().manual_seed(self.seed)
        if self.at is None:
            return sl.Direction(torch.randn(32, generator=generator), self.layer, self.site)
        return sl.Direction(torch.randn(len(self.at), 32, generator=generator), self.layer, self.site, positions=self.at)


@st.composite
def token_rows(draw):
    """Tokens, how many of them are the prompt, and what is read where."""
    tokens = tuple(draw(st.lists(st.integers(0, 63), min_size=2, max_size=14)))
    columns = st.lists(st.integers(0, 63), min_size=1, max_size=4, unique=True).map(tuple)
    read = st.tuples(st.integers(0, len(tokens) - 1), columns, st.booleans())
    return tokens, draw(st.integers(1, len(tokens))), draw(st.lists(read, min_size=1, max_size=3))


@st.composite
def rows_with_common_beginnings(draw):
    """Few-shot headers, and prompts with several endings, which the fast path runs once."""
    header = draw(st.lists(st.integers(0, 63), max_size=9))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        prompt = header + draw(st.lists(st.integers(0, 63), min_size=1, max_size=7))
        for _ in range(draw(st.integers(1, 3))):
            tokens = tuple(prompt + draw(st.lists(st.integers(0, 63), max_size=4)))
            position = st.integers(0, len(tokens) - 1) | st.just(len(prompt) - 1)
            read = st.tuples(position, st.tuples(st.integers(0, 63)), st.booleans())
            found.append((tokens, len(prompt), draw(st.lists(read, min_size=1, max_size=3))))
    return found


@st.composite
def cases(draw, one_vector=False):
    family = draw(st.sampled_from(SEQUENTIAL + PARALLEL + ANYWHERE))
    found = draw(st.lists(token_rows(), min_size=1, max_size=5) | rows_with_common_beginnings())
    shortest = min(prompt_length for _, prompt_length, _ in found)
    index = st.integers(-shortest, shortest - 1)
    at = None
    if not one_vector and draw(st.integers(0, 3)) == 0:
        from_one_end = st.sampled_from([range(shortest), range(-shortest, 0)])  # so that no row meets one place twice
        at = tuple(draw(from_one_end.flatmap(lambda ends: st.lists(st.sampled_from(ends), min_size=1, max_size=3, unique=True))))
    return Case(
        family,
        found,
        seed=draw(st.integers(0, 99)),
        layer=draw(st.integers(0, 2)),
        site=draw(st.sampled_from(("resid_pre", "resid_post") if family in PARALLEL else ("resid_pre", "resid_mid", "resid_post"))),
        at=at,
        alphas=draw(st.lists(st.sampled_from([-3.0, -0.5, 0.0, 1.0, 2.5]), min_size=1, max_size=4, unique=True)),
        operator=draw(st.sampled_from(list(sl.OPERATORS))),
        positions=draw(st.sampled_from(["all", "last", "prompt", "generated"]) | index | st.lists(index, min_size=1, max_size=3)),
        max_tokens=draw(st.sampled_from([1, 40, 8192])),
    )


def acted(operator, x, v, alpha):
    """The operators, written out for one position."""
    unit = v / v.norm()
    if operator == "add":
        return x + alpha * v
    if operator == "ablate":
        return x - alpha * (x @ unit) * unit
    if operator == "clamp":
        return x - (x @ unit) * unit + alpha * v
    assert operator == "rotate", f"write {operator} out here"
    return (x + alpha * v) / (x + alpha * v).norm() * x.norm()


def where(positions, prompt_length, length):
    """The columns of a row that an intervention acts on."""
    words = {"all": range(length), "last": [prompt_length - 1], "prompt": range(prompt_length), "generated": range(prompt_length, length)}
    if isinstance(positions, str):
        return list(words[positions])
    return [p if p >= 0 else prompt_length + p for p in ([positions] if isinstance(positions, int) else positions)]


def steered_logits(model, case, tokens, prompt_length, alpha):
    """Logits of one row alone, with a hook on the whole model."""
    per_position = case.direction.vector.ndim == 2
    columns = where(case.direction.positions if per_position else case.positions, prompt_length, len(tokens))
    vectors = case.direction.vector if per_position else [case.direction.vector] * len(columns)

    def act(resid):
        if alpha == 0:
            return None
        new = resid.clone()
        for column, vector in zip(columns, vectors, strict=True):
            new[0, column] = acted(case.operator, resid[0, column], vector, alpha)
        return new

    with hooks(model, [(hook_name(model, case.direction.layer, case.direction.site), act)]):
        return forward(model, torch.tensor([tokens]))[0]


def plainly(model, case, problem, alpha):
    """What the scorer would read from one problem alone."""
    tokens, prompt_length, reads = problem.meta["row"]
    logits = steered_logits(model, case, tokens, prompt_length, alpha)
    return [
        float((logits[at].log_softmax(-1) if log_prob else logits[at])[column]) for at, columns, log_prob in reads for column in columns
    ]


@pytest.fixture(scope="module")
def model_of(backend, tiny_model):
    return lambda family: tiny_model(family, "bridge" if family in ANYWHERE else backend)


@torch.no_grad()
@quick
@given(cases())
def test_a_sweep_equals_plain_hooked_runs(model_of, case):
    model = model_of(case.family)
    probe = torch.arange(10)[None]
    hooks_before, logits_before = [len(p.fwd_hooks) for p in model.hook_dict.values()], forward(model, probe)

    swept = sl.sweep(
        model,
        case.problems,
        case.direction,
        alphas=case.alphas,
        operator=case.operator,
        positions=case.positions,
        scorer=TOKENS_AS_THEY_ARE,
        max_tokens=case.max_tokens,
    )

    for alpha in case.alphas:
        lines = swept.frame[swept.frame["alpha"] == alpha]
        assert list(lines["problem_id"]) == [problem.id for problem in case.problems]
        for problem, line in zip(case.problems, lines.itertuples(), strict=True):
            values = plainly(model, case, problem, alpha)
            assert values[int(line.prediction)] >= max(values) - 1e-4  # equals may be told apart by rounding
            assert line.margin == pytest.approx(math.fsum(values), abs=1e-4 * len(values), rel=0)
            weighted = math.fsum(v * (i + 1) for i, v in enumerate(values)) / len(values)
            assert line.nll == pytest.approx(weighted, abs=1e-4 * len(values), rel=0)
    assert [len(p.fwd_hooks) for p in model.hook_dict.values()] == hooks_before
    assert torch.equal(forward(model, probe), logits_before)


@torch.no_grad()
@quick
@given(cases())
def test_alpha_zero_is_the_baseline_to_the_bit(model_of, case):
    model = model_of(case.family)
    common = {"scorer": TOKENS_AS_THEY_ARE, "max_tokens": case.max_tokens}
    baseline = sl.evaluate(model, case.problems, **common).frame
    alphas = [0.0, *(alpha for alpha in case.alphas if alpha != 0)]
    swept = sl.sweep(model, case.problems, case.direction, alphas=alphas, operator=case.operator, positions=case.positions, **common)
    zero = swept.frame[swept.frame["alpha"] == 0].reset_index(drop=True)[list(baseline.columns)]
    pd.testing.assert_frame_equal(zero, baseline, check_exact=True)
    with sl.steer(model, case.direction, alpha=0.0, operator=case.operator, positions="all"):
        pd.testing.assert_frame_equal(sl.evaluate(model, case.problems, **common).frame, baseline, check_exact=True)


@torch.no_grad()
@pytest.mark.parametrize("scorer", [TOKENS_AS_THEY_ARE, CONTINUED], ids=lambda scorer: scorer.name)
@settings(quick, max_examples=examples(8))
@given(case=cases(one_vector=True))
def test_several_directions_in_one_sweep_are_each_of_them_alone(model_of, scorer, case):
    """Cells of several layers, sites and directions share a run; none may touch another."""
    model = model_of(case.family)
    others = [
        sl.Direction(torch.randn(32, generator=torch.Generator().manual_seed(seed)), layer, site, name=f"other-{seed}")
        for seed, (layer, site) in enumerate([(0, "resid_pre"), (case.direction.layer, case.direction.site), (2, "resid_post")])
    ]
    common = {
        "alphas": case.alphas,
        "operator": case.operator,
        "positions": case.positions,
        "scorer": scorer,
        "max_tokens": case.max_tokens,
    }
    together = sl.sweep(model, case.problems, [case.direction, *others], **common).frame
    for direction in (case.direction, *others):
        alone = sl.sweep(model, case.problems, direction, **common).frame
        mine = together[(together["direction"] == direction.name) & (together["layer"] == direction.layer)].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, alone, check_exact=False, atol=1e-3, rtol=0)
        assert list(mine["prediction"]) == list(alone["prediction"])


@torch.no_grad()
@quick
@given(cases())
def test_generation_equals_the_uncached_unbatched_run_token_for_token(model_of, case):
    """Prompts of all lengths and cells of all alphas generate together; here each text is alone, and runs whole, in one pass."""
    model = model_of(case.family)
    ends = list(end_tokens(model))
    how = {"alphas": case.alphas, "operator": case.operator, "positions": case.positions, "max_tokens": case.max_tokens}
    swept = sl.sweep(model, case.problems, case.direction, scorer=CONTINUED, **how).frame.set_index(["alpha", "problem_id"])["prediction"]
    for alpha in case.alphas:
        for problem in case.problems:
            tokens, prompt_length, _ = problem.meta["row"]
            made = list(map(int, swept[alpha, problem.id].split()))
            logits = steered_logits(model, case, [*tokens[:prompt_length], *made], prompt_length, alpha)[prompt_length - 1 :]
            for step in range(min(len(made) + 1, NEW_TOKENS)):
                wanted = made[step : step + 1] or ends  # a line that stops early has met an end
                assert logits[step][wanted].max() >= logits[step].max() - 1e-4  # equals may be told apart by rounding
