"""From text to tokens to scores: special tokens, where answers begin, which tokens end a generation, problems of token ids.

The oracle is plain transformers: one problem at a time, eager attention, no cache, the directory's own tokenizer.
"""

import copy
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

import steerlab as sl
from steerlab.cli import run
from steerlab.cli.options import Setup
from steerlab.directions.direction import check_direction
from steerlab.models.encoding import end_tokens, token_ids
from steerlab.models.model import describe, hook_name, hooks
from steerlab.reports.evidence import Significance
from steerlab.reports.sections import method
from steerlab.steering.interventions import patch
from steerlab.tasks.problems import Problem, in_both
from steerlab.tasks.scorers import encode_choices, first_token, whole_answer

WORDS = [f"w{i}" for i in range(12)] + ["happy", "two", "spaces", "Q", "answer", ":", "(", "A", "B", ")", "(A", " ", "  happy", "\n"]
ENDS = ("<bos>", "<eos>", "<eot>", "<unk>")


def tokenizer(*, bos: str | None = "<bos>", adds: bool = True, behind: str = "") -> PreTrainedTokenizerFast:
    """Words and signs, of which "(A" is one and white space a token of its own, so that texts merge and spaces count."""
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*ENDS, *WORDS])}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"\(A|  happy|\w+|[^\w\s]|\s"), behavior="removed", invert=True)
    raw.decoder = decoders.Fuse()
    if adds:
        raw.post_processor = processors.TemplateProcessing(single=f"<bos> $A {behind}".strip(), special_tokens=[("<bos>", 0), ("<eos>", 1)])
    special = {"eos_token": "<eos>", "unk_token": "<unk>", "add_eos_token": bool(behind)} | ({} if bos is None else {"bos_token": bos})
    return PreTrainedTokenizerFast(tokenizer_object=raw, add_bos_token=adds, **special)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Callable[..., Path]:
    """A directory with seeded random weights and one of the tokenizers above; `ends` are generation_config.json's."""

    @cache
    def write(kind: str = "bos", ends: tuple[int, ...] | None = None, context: int = 64, model_type: str = "llama") -> Path:
        folder = tmp_path_factory.mktemp("answers") / kind
        kinds = {
            "bos": tokenizer(),
            "no bos": tokenizer(bos=None, adds=False),
            "bos beyond the vocabulary": tokenizer(bos="<far>", adds=False),
            "bos that is not added": tokenizer(adds=False),
            "end behind": tokenizer(behind="<eos>"),
            "no tokenizer": None,
        }
        config = transformers.AutoConfig.for_model(
            model_type, vocab_size=len(ENDS) + len(WORDS), hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            max_position_embeddings=context, bos_token_id=0, eos_token_id=1, pad_token_id=None,
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = AutoModelForCausalLM.from_config(config)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))
        if ends is not None:
            model.generation_config = GenerationConfig(eos_token_id=list(ends) if len(ends) > 1 else ends[0])
        model.save_pretrained(folder)
        if kinds[kind] is not None:
            kinds[kind].save_pretrained(folder)
        return folder

    return write


@pytest.fixture(scope="module")
def loaded(written, backend) -> Callable[..., object]:
    return cache(lambda kind="bos", prepend_bos=None, **how: sl.load_model(written(kind, **how), backend=backend, prepend_bos=prepend_bos))


@cache
def plain(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


@torch.no_grad()
def log_likelihood(folder: Path, tokens: list[int], start: int) -> float:
    """Summed log-probability of tokens from `start` on, by transformers."""
    log_p = plain(folder)(torch.tensor([tokens[:-1]])).logits[0].double().log_softmax(-1)
    return sum(float(log_p[i - 1, tokens[i]]) for i in range(start, len(tokens)))


def ids(text: str) -> list[int]:
    return tokenizer()(text, add_special_tokens=False)["input_ids"]


# The end of a generation


@torch.no_grad()
def continued(folder: Path, tokens: list[int], n: int, ends: list[int] | None) -> list[int]:
    """What transformers generates greedily, up to the first end token."""
    made = plain(folder).generate(
        torch.tensor([tokens]), do_sample=False, max_new_tokens=n, eos_token_id=ends, pad_token_id=3, use_cache=False
    )
    new = made[0, len(tokens) :].tolist()
    return next((new[:i] for i, token in enumerate(new) if token in (ends or ())), new)


PROMPTS = ("w5 w6 w7", "w1", "w2 w3 w2 w9 w4", "w8 w8", "Q: answer", "w11 w10 w4 w1 w1 w1")


def shown_as_ids(new_tokens: int) -> sl.tasks.Scorer:
    from steerlab.tasks.scorers import Outcome, text

    scorer = text(new_tokens)
    return sl.tasks.Scorer(
        "ids", scorer.rows, lambda model, problem, got: Outcome(" ".join(map(str, got[0].generated)), True, 0.0, 0.0), generates=True
    )


@pytest.mark.parametrize("steered", [False, True])
def test_every_end_token_of_generation_config_ends_a_generation(written, backend, steered):
    """Oracle: transformers' own greedy generate with the same list of ends; steered ones with a hook on its block."""
    free = written("bos", ends=(1,))
    told = {prompt: continued(free, [0, *ids(prompt)], 12, None) for prompt in PROMPTS}
    stop = next(
        token for made in told.values() for token in made[2:5] if token not in (0, 1)
    )  # what a model says in the middle of an answer
    folder = written("bos", ends=(1, stop))
    model = sl.load_model(folder, backend=backend)
    assert end_tokens(model) == (1, stop)
    asked = [Problem(prompt, prompt, "w1") for prompt in PROMPTS]
    direction = sl.Direction(torch.randn(32, generator=torch.Generator().manual_seed(1)), 1)
    alphas = [0.0, 2.0] if steered else [0.0]
    found = sl.sweep(model, asked, direction, alphas=alphas, scorer=shown_as_ids(12)).frame
    for alpha in alphas:
        block = plain(folder).model.layers[1]
        hook = block.register_forward_hook(lambda module, inputs, out, alpha=alpha: out + alpha * direction.vector)
        try:
            wanted = [" ".join(map(str, continued(folder, [0, *ids(prompt)], 12, [1, stop]))) for prompt in PROMPTS]
        finally:
            hook.remove()
        assert found.loc[found["alpha"] == alpha, "prediction"].tolist() == wanted
        if not alpha:
            assert any(len(line.split()) < 12 for line in wanted)
    one_by_one = [sl.evaluate(model, [problem], scorer=shown_as_ids(12)).frame["prediction"][0] for problem in asked]
    assert one_by_one == found.loc[found["alpha"] == 0, "prediction"].tolist()


def test_a_model_from_the_hub_knows_the_ends_of_its_generation_config(hub, backend):
    commit = hub("someone/with-ends", "llama")
    cached = Path(transformers.utils.hub.constants.HF_HUB_CACHE) / "models--someone--with-ends" / "snapshots" / commit
    (cached / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 9, 500]}))
    if backend == "bridge":
        assert end_tokens(sl.load_model("someone/with-ends", backend=backend)) == (2, 9)  # 500 is beyond the vocabulary


def test_an_unknown_word_does_not_end_a_generation_of_a_tokenizer_without_an_end(written, backend, tmp_path):
    """TransformerLens names an end token that such a tokenizer reads as its unknown one."""
    folder = tmp_path / "m"
    plain(written("bos")).save_pretrained(folder)
    raw = tokenizer(bos=None, adds=False)
    PreTrainedTokenizerFast(tokenizer_object=raw.backend_tokenizer, unk_token="<unk>").save_pretrained(folder)
    assert end_tokens(sl.load_model(folder, backend=backend)) == (1,)


# Choices that merge with the prompt


@pytest.mark.parametrize("scorer", ["continuation", "minimal_pair"])
def test_choices_are_scored_from_the_earliest_place_at_which_one_of_them_parts_from_the_prompt(written, loaded, scorer):
    """Oracle: transformers, log-probabilities of all tokens behind the common start."""
    prompt, choices = "Q: answer (", ("A)", "B)")
    assert [len(ids(prompt + choice)) for choice in choices] == [7, 8]  # "(A" is one token
    start = 1 + ids(prompt + "A)").index(ids("(A")[0])
    a, b = (log_likelihood(written(), [0, *ids(prompt + choice)], start) for choice in choices)
    row = sl.evaluate(loaded(), [Problem("p", prompt, 0, choices)], scorer=scorer).frame.iloc[0]
    assert (row["margin"], row["nll"]) == (pytest.approx(a - b, abs=1e-4), pytest.approx(-a, abs=1e-4))
    assert row["prediction"] == choices[0 if a > b else 1]


def test_training_starts_where_the_score_does(loaded):
    problem = Problem("p", "Q: answer (", 1, ("A)", "B)"))
    model = loaded()
    whole, start = encode_choices(model, problem)
    assert whole_answer(model, problem).prompt_length == first_token(model, problem).prompt_length == start
    assert [read.tokens[0] for read in whole_answer(model, problem).reads] == whole[1][start:]
    found = sl.critical_tokens(model, [problem], sl.Direction(torch.ones(32), 1), alpha=1.0)
    assert (found.frame["part"] == "prompt").groupby(found.frame["run"]).sum().tolist() == [start, start]


def test_last_is_the_last_token_that_all_choices_share_with_the_prompt(written, loaded):
    """Oracle: transformers with a vector added at one token of one block."""
    prompt, choices, vector = "Q: answer (", ("A)", "B)"), 3 * torch.randn(32, generator=torch.Generator().manual_seed(2))
    start = 1 + ids(prompt + "A)").index(ids("(A")[0])

    def add(module, inputs, out):
        out = out.clone()
        out[:, start - 1] += vector
        return out

    hook = plain(written()).model.layers[1].register_forward_hook(add)
    try:
        a, b = (log_likelihood(written(), [0, *ids(prompt + choice)], start) for choice in choices)
    finally:
        hook.remove()
    problem = Problem("p", prompt, 0, choices)
    found = sl.sweep(loaded(), [problem], sl.Direction(vector, 1), alphas=[1.0], positions="last", scorer="continuation").frame
    assert found["margin"].tolist() == [pytest.approx(a - b, abs=1e-4)]


@pytest.mark.parametrize("scorer", ["choice", "continuation"])
def test_choices_that_become_the_same_tokens_are_an_error_that_shows_them(loaded, scorer):
    problem = Problem("p", "w5 w6 w7", 0, ("w1", "w2"))  # without a space: w7w1 and w7w2 are unknown words
    with pytest.raises(sl.InputError, match=r"'w1' and 'w2' are the same tokens .*\['<unk>' \(3\)\].*space"):
        sl.evaluate(loaded(), [problem], scorer=scorer)


def test_a_choice_that_merges_is_told_so_where_one_logit_is_read(loaded):
    problem = Problem("p", "Q: answer (", 0, ("A", "B"))
    with pytest.raises(
        ValueError,
        match=r"choice 'A' merges with the end of the prompt into \['\(A' \(\d+\)\] where the prompt alone has \['\('.*continuation",
    ):
        sl.evaluate(loaded(), [problem], scorer="choice")


# Answers that bring their own space


@pytest.mark.parametrize(
    ("target", "text"), [("happy", " happy"), (" happy", " happy"), ("  happy", "  happy"), ("\nhappy", "\nhappy"), (5, " 5")]
)
def test_a_target_with_white_space_of_its_own_is_taken_as_written(written, loaded, target, text):
    """Oracle: transformers on the text; the second space of "  happy" makes it another token."""
    prompt = "w5 w6"
    problem = Problem("p", prompt, target)
    assert problem.answer == text
    tokens = [0, *ids(prompt + text)]
    nll = -log_likelihood(written(), tokens, 1 + len(ids(prompt)))
    model = loaded()
    assert sl.evaluate(model, [problem], scorer="text").frame["nll"][0] == pytest.approx(nll, abs=1e-4)
    row = whole_answer(model, problem)
    assert [*row.tokens, row.reads[-1].tokens[0]] == tokens
    assert first_token(model, problem).reads[0].tokens[0] == tokens[1 + len(ids(prompt))]


def test_a_learned_vector_lowers_the_loss_that_transformers_gives_the_text(written, loaded):
    """Oracle: transformers; the whole way from text, without choices."""
    problems = [Problem(prompt, prompt, "  happy") for prompt in PROMPTS]
    learned = sl.learn_vector(loaded(), problems, layer=1, epochs=1, lr=1e-9, seed=0, scorer="text")
    nll = [-log_likelihood(written(), [0, *ids(prompt + "  happy")], 1 + len(ids(prompt))) for prompt in PROMPTS]
    assert learned.history["loss"].iloc[-1] == pytest.approx(np.mean(nll), abs=0.05)


# Special tokens


@pytest.mark.parametrize(
    ("kind", "rule", "text", "before"),
    [
        ("bos", None, "w1 w2", [0]),
        ("bos", True, "w1 w2", [0]),
        ("bos", False, "w1 w2", []),
        ("bos", None, "<bos>w1 w2", [0]),  # as chat templates write it
        ("bos", False, "<bos>w1 w2", [0]),
        ("bos that is not added", None, "w1 w2", [0]),
        ("bos that is not added", None, "<bos>w1 w2", [0]),
        ("bos that is not added", False, "w1 w2", []),
        ("no bos", None, "w1 w2", []),
        ("bos beyond the vocabulary", None, "w1 w2", []),
        ("end behind", None, "w1 w2", [0]),
    ],
)
def test_special_tokens_stand_before_a_text_once_or_not_at_all(written, loaded, kind, rule, text, before):
    """Oracle: the tokenizer's ids of the words, by hand, and transformers' likelihood of an answer behind them."""
    model = loaded(kind, prepend_bos=rule)
    wanted = [*before, *ids("w1 w2")]
    assert token_ids(model, text) == wanted
    assert describe(model)["prepend_bos"] is (
        rule if kind.startswith("bos") and rule is not None else kind in ("bos", "bos that is not added", "end behind")
    )
    row = sl.evaluate(model, [Problem("p", text, 0, (" w3", " w4 w5"))], scorer="continuation").frame.iloc[0]
    a, b = (log_likelihood(written(kind), [*wanted, *ids(choice)], len(wanted)) for choice in (" w3", " w4 w5"))
    assert row["margin"] == pytest.approx(a - b, abs=1e-4)


@pytest.mark.parametrize("kind", ["no bos", "bos beyond the vocabulary", "no tokenizer"])
def test_a_beginning_that_the_model_lacks_cannot_be_asked_for(written, backend, kind):
    with pytest.raises(ValueError, match="prepend_bos=True: this model has no"):
        sl.load_model(written(kind), backend=backend, prepend_bos=True)


def test_what_transformerlens_gives_a_text_it_gives_under_our_rule_too(loaded):
    for rule in (None, False):
        model = loaded("bos", prepend_bos=rule)
        assert model.to_tokens("w1 w2")[0].tolist() == token_ids(model, "w1 w2")


@pytest.mark.parametrize(
    ("kind", "rule", "said"),
    [
        ("bos", None, r"'<bos>' \(0\) stands before each prompt \(TransformerLens' default"),
        (
            "bos",
            False,
            r"No .* \(asked for; TransformerLens' default for this model is prepend_bos=True\)\. The model's own tokenizer would put \['<bos>' \(0\)\] before it",
        ),
        ("bos that is not added", None, r"stands before each prompt .* own tokenizer would put nothing before it"),
        ("end behind", None, r"would put \['<eos>' \(1\)\] behind it"),
        ("no bos", None, "this model has none.$"),
        ("no tokenizer", None, "has no tokenizer: prompts are token ids"),
    ],
)
def test_provenance_says_which_special_tokens_stand_before_a_prompt(loaded, kind, rule, said):
    import re

    assert re.search(said, describe(loaded(kind, prepend_bos=rule))["special_tokens"])


def test_a_direction_found_under_another_rule_is_refused(loaded):
    with_it, without = loaded("bos"), loaded("bos", prepend_bos=False)
    acts = sl.cache_activations(with_it, [Problem("a", "w1 w2", ""), Problem("b", "w3", "")], layers=[1])
    found = sl.mean_difference(acts.select(["a"]), acts.select(["b"]), layer=1)
    check_direction(with_it, found)
    with pytest.raises(
        ValueError, match=r"found with prepend_bos=True, and in this model prepend_bos=False .*load the model with prepend_bos=True"
    ):
        sl.sweep(without, [Problem("p", "w1", 0, (" w2", " w3"))], found, alphas=[1.0], scorer="continuation")


def test_a_rule_that_is_asked_for_and_is_the_default_is_the_same_rule(loaded):
    assert describe(loaded("bos")) == describe(loaded("bos", prepend_bos=True))


def test_a_copied_model_keeps_its_rule(loaded):
    model = copy.deepcopy(loaded("no bos"))
    assert token_ids(model, "w1") == ids("w1")


# Prompts of token ids


@pytest.fixture(scope="module")
def bare(loaded):
    return loaded("no tokenizer")


def test_problems_of_token_ids_are_scored_as_they_are(written, bare):
    """Oracle: transformers on the ids."""
    problems = [Problem(id="x", prompt=(5, 7, 1), choices=((3,), (4,)), target=0), Problem("y", (9, 9), (4, 6), ((3,), (4, 6)))]
    for scorer in (None, "continuation", "minimal_pair", "continuation_norm"):
        frame = sl.evaluate(bare, problems, scorer=scorer).frame
        for problem, row in zip(problems, frame.itertuples(), strict=True):
            sums = [log_likelihood(written("no tokenizer"), [*problem.prompt, *choice], len(problem.prompt)) for choice in problem.choices]
            scores = [s / len(c) if scorer == "continuation_norm" else s for s, c in zip(sums, problem.choices, strict=True)]
            right = problem.target_index
            assert row.margin == pytest.approx(scores[right] - scores[1 - right], abs=1e-4)
            assert row.prediction == " ".join(map(str, problem.choices[int(np.argmax(scores))]))
    one = sl.evaluate(bare, problems[:1], scorer="choice").frame
    assert one["margin"][0] == pytest.approx(sl.evaluate(bare, problems[:1]).frame["margin"][0], abs=1e-4)


def test_token_ids_are_generated_and_compared(written, bare):
    """Oracle: transformers' greedy generate."""
    made = tuple(continued(written("no tokenizer"), [5, 7, 9], 32, [1]))
    problems = [Problem("right", (5, 7, 9), made), Problem("wrong", (5, 7, 9), (*made, 3))]
    frame = sl.evaluate(bare, problems).frame
    assert frame["correct"].tolist() == [True, False]
    assert frame["prediction"].tolist() == [" ".join(map(str, made))] * 2
    with pytest.raises(ValueError, match="token ids, in which no number can be read; use scorer='text'"):
        sl.evaluate(bare, problems, scorer="numeric")


def test_a_model_with_a_tokenizer_takes_token_ids_as_they_are(loaded):
    text = sl.evaluate(loaded(), [Problem("p", "w5 w6", 0, (" w1", " w2"))], scorer="continuation").frame
    tokens = Problem("p", (0, *ids("w5 w6")), 0, tuple(tuple(ids(choice)) for choice in (" w1", " w2")))
    assert sl.evaluate(loaded(), [tokens]).frame["margin"][0] == text["margin"][0]


def many(n: int = 24) -> list[Problem]:
    rng = np.random.default_rng(0)
    return [
        Problem(
            f"p{i}", tuple(rng.integers(4, 30, size=rng.integers(2, 7)).tolist()), int(rng.integers(2)), ((3 + i % 5,), (9, 10 + i % 3))
        )
        for i in range(n)
    ]


def test_token_ids_go_through_every_part(bare, tmp_path):
    problems = many()
    acts = sl.cache_activations(bare, problems, layers=[1])
    ev = sl.evaluate(bare, problems)
    found = sl.mean_difference(acts.select([p.id for p in ev.correct()]), acts.select([p.id for p in ev.incorrect()]), layer=1)
    swept = sl.sweep(bare, problems, found, alphas=[0, 4.0], positions="last")
    assert len(swept.frame) == 48
    assert set(sl.changed_problems(swept)["prompt"]) <= {" ".join(map(str, p.prompt)) for p in problems}
    sl.random_control(bare, problems, found, alpha=4.0, n=3, rng=np.random.default_rng(0))
    learned = sl.learn_vector(bare, problems, layer=1, epochs=1, lr=0.1, seed=0)
    assert np.isfinite(learned.norm)
    assert len(sl.preview(bare, problems[:4], [found]).frame)
    sizes = sl.token_magnitudes(bare, problems[:2], layers=[1], direction=found)
    assert sizes.frame["token"].tolist()[: len(problems[0].prompt)] == [str(token) for token in problems[0].prompt]
    critical = sl.critical_tokens(bare, problems[:3], found, alpha=2.0)
    assert critical.frame["token"].str.fullmatch(r"\d+").all()
    texts, about = sl.side_texts(bare, problems)
    assert "the prompts of" in about
    sl.side_effects(bare, found, texts, alphas=[1.0])
    assert in_both(problems[:2], problems[1:3]) == [problems[1]]
    assert " ".join(map(str, problems[0].prompt)) in problems[0]._repr_html_()


def test_an_experiment_on_token_ids_is_kept_and_read_back(bare, tmp_path):
    from steerlab.reports.runs import provenance

    problems = many(90)
    task = sl.tasks.Task("tokens", problems[:40], problems[40:60], problems[60:], scorer="continuation")
    found = sl.run_experiment(bare, task, seed=0, layers=[1], alphas=[-2, 0, 2], n_controls=4)
    path = sl.save_experiment(tmp_path / "run", found, provenance(bare, {"seed": 0}, task.about))
    again, about = sl.load_experiment(path)
    assert list(again.train.problems) == [*found.train.problems]
    assert again.test.baseline.problems[0].choices == problems[60].choices
    assert "token ids, taken as they are" in about["model"]["special_tokens"]
    page = (path / "report.html").read_text()
    assert page.count("prompts are token ids, taken as they are") >= 2  # in provenance and under Methods


def test_the_report_says_where_the_tokenizer_would_do_otherwise(loaded):
    rng = np.random.default_rng(0)
    problems = [
        Problem(f"p{i}", " ".join(f"w{k}" for k in rng.integers(12, size=4)), int(rng.integers(2)), (" w1", " w2 w3")) for i in range(70)
    ]
    task = sl.tasks.Task("words", problems[:40], problems[40:55], problems[55:], scorer="continuation")
    found = sl.run_experiment(loaded("bos", prepend_bos=False), task, seed=0, layers=[1], alphas=[-2, 0, 2], n_controls=2)
    methods = " ".join(method(Significance(found)))
    assert "is prepend_bos=True). The model's own tokenizer would put ['<bos>' (0)] before it" in methods


@pytest.mark.parametrize(("words", "rule"), [([], True), (["--prepend-bos"], True), (["--no-prepend-bos"], False)])
def test_scripts_take_the_rule_as_an_option(written, backend, words, rule):
    config = run.parse(Setup, ["--model", str(written()), "--backend", backend, *words])
    assert describe(config.load_model())["prepend_bos"] is rule
    assert config.recorded()["prepend_bos"] is (rule if words else None)


def test_methods_are_compared_on_token_ids(bare):
    from steerlab.studies.method_vectors import contrast_pairs, wordings

    problems = many()
    found, _about = wordings(bare, problems[:8], problems[8:])
    shortest = min(problems[:8], key=lambda p: (len(p.prompt), p.id))
    assert found[0].asked(problems[9]).prompt == (*shortest.prompt, *shortest.answer, *problems[9].prompt)
    pairs, _ = contrast_pairs(bare, problems[:8])
    assert sl.function_vector(bare, pairs, layer=1).norm > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": (5, 99), "choices": ((3,), (4,))}, r"'p': the problem has the token 99; this model has tokens 0 to 29"),
        ({"prompt": (5, 7), "choices": ((3,), (99,))}, r"'p': the problem has the token 99; this model has tokens 0 to 29"),
        ({"prompt": (), "choices": ((3,), (4,))}, "'p': the prompt is empty"),
        ({"prompt": "w1", "choices": (" w2", " w3")}, "'p' is text, and this model has no tokenizer; give token ids"),
    ],
)
def test_token_ids_that_a_model_lacks_are_refused(bare, given, message):
    with pytest.raises(ValueError, match=message):
        sl.evaluate(bare, [Problem(id="p", target=0, **given)], scorer="continuation")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"prompt": (5, 7), "choices": (" a", " b"), "target": 0},
            r"prompt \(5, 7\) and choices \(' a', ' b'\); give text for all, or token ids for all",
        ),
        ({"prompt": "a", "choices": ((3,), (4,)), "target": 0}, "give text for all, or token ids for all"),
        ({"prompt": (5, 7), "target": "a"}, r"target='a' beside the prompt \(5, 7\); give token ids, e.g. target=\(3,\)"),
        ({"prompt": "a", "target": (3,)}, "give text or a number"),
        ({"prompt": (5, 7), "choices": ((3,), (4,)), "target": (5,)}, r"target=\(5,\) is not one of the choices"),
        ({"prompt": (5, -7), "target": (3,)}, r"prompt \(5, -7\); give text, or a tuple of token ids"),
    ],
)
def test_text_and_token_ids_are_not_mixed(given, message):
    with pytest.raises(ValueError, match=message):
        Problem(id="p", **given)


@pytest.mark.parametrize("given", [{"prompt": "a\udc80"}, {"target": "\ud800b"}, {"choices": (" a", " \udfff"), "target": 0}])
def test_half_of_a_surrogate_pair_is_refused_by_the_name_of_its_problem(given):
    with pytest.raises(ValueError, match=r"problem 'p': the (prompt|target|choice) has half of a surrogate pair at character"):
        Problem(**({"id": "p", "prompt": "a", "target": "b"} | given))


def test_half_of_a_surrogate_pair_in_a_text_is_refused(loaded):
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        sl.side_effects(loaded(), sl.Direction(torch.ones(32), 1), ["w1 w2", "w1 \udc80"], alphas=[1.0])


# Answers that fill the context


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_critical_tokens_go_up_to_the_last_token_that_is_read(written, backend, over):
    """Oracle: transformers. Prompt and answer may be one token longer than the context, because the last is never fed."""
    folder = written("bos", context=16)
    model = sl.load_model(folder, backend=backend)
    prompt = "w0 w1 w2 w3 w4 w5" + "(" * (over + 1)  # 12 tokens and more, and 4 of the answer: 16, 17 or 18
    problem = Problem("p", prompt, 0, (" w1 w2", " w3 w4"))
    direction = sl.Direction(torch.randn(32, generator=torch.Generator().manual_seed(0)), 1)
    if over == 1:
        with pytest.raises(ValueError, match="'p': 17 tokens, but this model's context is 16"):
            sl.critical_tokens(model, [problem], direction, alpha=1.0)
        return
    found = sl.critical_tokens(model, [problem], direction, alpha=1.0)
    right = found.frame[found.frame["run"] == "right"]
    tokens = [0, *ids(prompt + " w1 w2")]
    assert len(right) == len(tokens)
    assert right["logprob"].iloc[-4:].sum() == pytest.approx(log_likelihood(folder, tokens, len(tokens) - 4), abs=1e-4)
    hook = plain(folder).model.layers[1].register_forward_hook(lambda module, inputs, out: out + direction.vector)
    try:
        steered = log_likelihood(folder, tokens, len(tokens) - 4)
    finally:
        hook.remove()
    assert right["logprob_steered"].iloc[-4:].sum() == pytest.approx(steered, abs=1e-4)
    assert right["kl"].isna().tolist() == [False] * (len(tokens) - 1) + [over == 0]
    assert found.concentration()["needed_share"].between(0, 1).all()
    assert found.summary()["share"].groupby([found.summary()["run"]]).sum().tolist() == pytest.approx([1, 1])


# Steering in generation


@pytest.mark.parametrize("positions", ["prompt", "all"])
def test_steer_at_the_prompt_leaves_generated_tokens_alone(loaded, positions):
    """Oracle: a loop that runs the whole sequence for each token, with a hook that acts on the prompt's columns."""
    model = loaded()
    tokens = torch.tensor([token_ids(model, "w5 w6 w7"), token_ids(model, "w1 w2 w9")])
    direction = sl.Direction(4 * torch.randn(32, generator=torch.Generator().manual_seed(4)), 1)
    generation = {"max_new_tokens": 6, "do_sample": False, "stop_at_eos": False, "verbose": False, "return_type": "tokens"}
    with torch.no_grad(), sl.steer(model, direction, alpha=1.0, positions=positions):
        found = model.generate(tokens, use_past_kv_cache=True, **generation)
    whole, n = tokens, tokens.shape[1]
    for _ in range(6):

        def add(resid):
            return patch(direction, [1.0], positions=positions, prompt_lengths=[n] * 2, length=resid.shape[1])(resid)

        with torch.no_grad(), hooks(model, [(hook_name(model, 1), add)]):
            whole = torch.cat([whole, model(whole)[:, -1:].argmax(-1)], 1)
    assert found.tolist() == whole.tolist()


def test_steer_at_the_prompt_refuses_to_guess_without_kept_keys_and_values(loaded):
    model = loaded()
    tokens = torch.tensor([token_ids(model, "w5 w6 w7")])
    generation = {"max_new_tokens": 3, "do_sample": False, "stop_at_eos": False, "verbose": False, "return_type": "tokens"}
    with torch.no_grad(), sl.steer(model, sl.Direction(torch.ones(32), 1), positions="prompt"):
        model(torch.tensor([token_ids(model, "w1 w2 w3 w4 w5")]))  # another prompt, longer or shorter, is one
        with pytest.raises(ValueError, match="a call of 7 tokens begins with the 6 of the call before"):
            model.generate(tokens, use_past_kv_cache=False, **generation)


def test_steer_at_the_prompt_refuses_to_guess_behind_a_prompt_of_one_token(loaded):
    """Before: every generated token was steered, without a word."""
    model = loaded()
    generation = {"max_new_tokens": 3, "do_sample": False, "stop_at_eos": False, "verbose": False, "return_type": "tokens"}
    with torch.no_grad(), sl.steer(model, sl.Direction(torch.ones(32), 1), positions="prompt"):
        model(torch.tensor([[5]]))
        with pytest.raises(ValueError, match="a call of one token follows another one"):
            model(torch.tensor([[6]]))
    with (
        torch.no_grad(),
        sl.steer(model, sl.Direction(torch.ones(32), 1), positions="prompt"),
        pytest.raises(ValueError, match="a call of one token follows another one"),
    ):
        model.generate(torch.tensor([[5]]), use_past_kv_cache=True, **generation)


def test_indices_in_a_generation_are_warned_of(loaded):
    model = loaded()
    tokens = torch.tensor([token_ids(model, "w5 w6 w7")])
    generation = {"max_new_tokens": 3, "do_sample": False, "stop_at_eos": False, "verbose": False, "return_type": "tokens"}
    steered = sl.steer(model, sl.Direction(torch.ones(32), 1), positions=[0])
    with pytest.warns(UserWarning, match="count the tokens of each call"), torch.no_grad(), steered:
        model.generate(tokens, use_past_kv_cache=True, **generation)


def test_a_damaged_generation_config_is_told_by_name(written, backend, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(written("bos"), folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": [1,')
    with pytest.raises(ValueError, match=r"generation_config.json cannot be read .*copy the file again"):
        sl.load_model(folder, backend=backend)
