"""Learned vectors: what they are, what is left behind, and what is refused."""

import pickle
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from results import speaks

import steerlab as sl
from steerlab._checks import InputMemoryError
from steerlab.aft import training
from steerlab.aft.selection import chosen_layers
from steerlab.directions.direction import Direction
from steerlab.models import memory, reading
from steerlab.models.model import n_outputs
from steerlab.steering import wavefront
from steerlab.tasks.scorers import SCORERS

TASK = sl.load_task("arithmetic", n_train=12, n_validation=10, n_test=10)
NUMERIC = sl.load_task("arithmetic", n_train=6, n_validation=6, n_test=1, form="numeric")
TRAIN, VALIDATION = TASK.train, TASK.validation
QUICK = {"epochs": 2, "lr": 0.05}


@pytest.fixture(scope="module")
def learned(toy_model, backends):
    """One vector, for tests that only look at it."""
    return sl.learn_vector(toy_model(backends[0]), TRAIN, layer=1, validation=VALIDATION, norm_cap=5.0, **QUICK)


def explosive(resid, vector, alpha):
    """Nothing at zero, and more than a float holds at one."""
    return resid + alpha * torch.expm1(1000 * vector)


def same(one, other):
    assert torch.equal(one.vector, other.vector)
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)


def test_training_lowers_the_loss_and_leaves_the_model_as_it_was(toy_model, backend):
    model = toy_model(backend)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    asked = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    some = next(iter(model.parameters()))
    some.requires_grad_(not some.requires_grad)
    try:
        learned = sl.learn_vector(model, TRAIN, layer=1, epochs=3, lr=0.05)
        assert {name for name, p in model.named_parameters() if p.requires_grad != asked[name]} == {next(iter(asked))}
    finally:
        some.requires_grad_(asked[next(iter(asked))])
    assert learned.history["loss"].is_monotonic_decreasing
    assert all(parameter.grad is None and torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    assert learned.history["validation_accuracy"].isna().all()


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_vector(toy_model, backend):
    model = toy_model(backend)
    one, again, other = (sl.learn_vector(model, TRAIN, layer=0, seed=seed, init="random", **QUICK) for seed in (3, 3, 4))
    same(one, again)
    assert not torch.equal(one.vector, other.vector)


@pytest.mark.parametrize("last_batch", ["step", "carry"])
def test_an_interrupted_training_goes_on_to_the_same_vector(toy_model, backends, tmp_path, monkeypatch, last_batch):
    model, options = toy_model(backends[0]), {"layer": 1, "epochs": 4, "batch_size": 5, "last_batch": last_batch, "validation": VALIDATION}
    whole = sl.learn_vector(model, TRAIN, **options)
    path, epochs, original = tmp_path / "training.safetensors", [], training._epoch

    def interrupted(*args):
        epochs.append(len(epochs))
        if len(epochs) == 3:
            raise KeyboardInterrupt
        original(*args)

    with monkeypatch.context() as patched:
        patched.setattr(training, "_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sl.learn_vector(model, TRAIN, path=path, **options)
    monkeypatch.setattr(training, "_epoch", lambda *args: (epochs.append(len(epochs)), original(*args)))
    same(sl.learn_vector(model, TRAIN, path=path, **options), whole)
    assert len(epochs) == 3 + 2  # two were kept, and two were left
    same(sl.learn_vector(model, TRAIN, path=path, **options), whole)
    assert len(epochs) == 3 + 2


def test_a_file_of_another_training_or_of_something_else_is_refused(toy_model, backends, tmp_path, learned):
    model, path = toy_model(backends[0]), tmp_path / "training.safetensors"
    sl.learn_vector(model, TRAIN, layer=1, epochs=1, path=path)
    with pytest.raises(ValueError, match="has a training with other candidates; give what it was begun with"):
        sl.learn_vector(model, TRAIN, layer=1, epochs=1, path=path, lr=0.5)
    with pytest.raises(ValueError, match="has a training with other problems;"):
        sl.learn_vector(model, TRAIN[1:], layer=1, epochs=1, path=path)
    with pytest.raises(ValueError, match="a safetensors file, but not a training"):
        sl.learn_vector(model, TRAIN, layer=1, path=sl.save_direction(tmp_path / "direction.safetensors", learned))
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="not a training that can be read"):
        sl.learn_vector(model, TRAIN, layer=1, epochs=1, path=path)


def pulled(strength):
    """An operator that closes over its strength."""
    return lambda resid, vector, alpha: resid + strength * alpha * vector


def test_a_file_of_another_function_or_of_other_weights_is_refused(toy_model, backends, tmp_path):
    model, path = toy_model(backends[0]), tmp_path / "training.safetensors"
    options = {"layer": 1, "epochs": 1, "path": path}
    first = sl.learn_vector(model, TRAIN, operator=pulled(1.0), **options)
    same(sl.learn_vector(model, TRAIN, operator=pulled(1.0), **options), first)
    with pytest.raises(ValueError, match="has a training with other functions"):
        sl.learn_vector(model, TRAIN, operator=pulled(-3.0), **options)
    with pytest.raises(ValueError, match="has a training with other functions"):
        sl.learn_vector(model, TRAIN, operator=lambda resid, vector, alpha: resid - alpha * vector, **options)
    weight = model.blocks[2].mlp.W_in if hasattr(model.blocks[2].mlp, "W_in") else next(model.blocks[2].parameters())
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[0] += 0.5
        with pytest.raises(ValueError, match="has a training with other weights"):
            sl.learn_vector(model, TRAIN, operator=pulled(1.0), **options)
    finally:
        with torch.no_grad():
            weight.copy_(before)
    same(sl.learn_vector(model, TRAIN, operator=pulled(1.0), **options), first)


def test_a_random_start_that_no_step_has_moved_is_no_learned_vector(toy_model, backends):
    def broken(resid, vector, alpha):
        return resid + alpha * vector * float("inf")

    options = {"layers": [1], "epochs": 1, "init": "random", "operator": broken, "validation": VALIDATION}
    with pytest.raises(ValueError, match="not finite at step 1"):
        sl.learn_vectors(toy_model(backends[0]), TRAIN, **options)


def test_arrays_of_seeds_and_rates_are_lists_of_them(toy_model, backends):
    options = {"layers": np.array([1, 2]), "lrs": np.logspace(-2, -1, 2), "epochs": 1}
    found = sl.learn_vectors(toy_model(backends[0]), TRAIN, seeds=np.int64(2), **options)
    assert sorted(found.frame["seed"].unique()) == [0, 1]
    assert len(found.frame) == 8
    several = sl.learn_multilayer(toy_model(backends[0]), TRAIN, layers=np.array([0, 2]), epochs=1)
    assert several.layers == (0, 2)


def test_a_learned_vector_is_a_direction_with_a_history(toy_model, backends, learned, tmp_path):
    model = toy_model(backends[0])
    assert isinstance(learned, Direction)
    assert learned.norm <= 5.0 + 1e-4
    assert list(learned.history.columns) == ["epoch", "step", "loss", "norm", "validation_accuracy", "validation_nll"]
    same(sl.load_direction(sl.save_direction(tmp_path / "v.safetensors", learned)), learned)
    same(pickle.loads(pickle.dumps(learned)), learned)  # noqa: S301 - our own
    assert type(learned.unit()) is Direction
    assert type(sl.random_directions(learned, 1, rng=np.random.default_rng(0))[0]) is Direction
    assert "epoch" in repr(learned)
    speaks(learned)
    assert len(sl.plots.training_curve(learned).data) == 3
    with sl.steer(model, learned):
        steered = sl.evaluate(model, VALIDATION)
    assert steered.frame["margin"].to_numpy() == pytest.approx(sl.sweep(model, VALIDATION, learned, alphas=1.0).frame["margin"], abs=1e-4)


@pytest.mark.parametrize("task", [TASK, NUMERIC], ids=["choice", "numeric"])
def test_validation_accuracy_is_that_of_a_sweep(toy_model, backend, task):
    model = toy_model(backend)
    learned = sl.learn_vector(model, task.train, layer=1, validation=task.validation, epochs=1, lr=0.5, positions="prompt")
    swept = sl.sweep(model, task.validation, learned, alphas=1.0, positions="prompt")
    line = learned.history.iloc[0]
    assert line["validation_accuracy"] == pytest.approx(swept.accuracy()["accuracy"].iloc[0])
    assert line["validation_nll"] == pytest.approx(swept.frame["nll"].mean(), rel=1e-4)
    assert learned.method["unsteered_validation_accuracy"] == pytest.approx(swept.baseline.accuracy)


def test_several_layers_are_one_intervention(toy_model, backend):
    model = toy_model(backend)
    learned = sl.learn_multilayer(model, TRAIN, layers=[0, 2], scales=[0.5, 2.0], learn_scales=False, validation=VALIDATION, **QUICK)
    assert learned.scales == (0.5, 2.0)
    assert [d.norm / learned.norm for d in learned] == pytest.approx([0.5, 2.0])
    assert (len(learned), learned.layers, learned[1].layer) == (2, (0, 2), 2)
    swept = sl.sweep(model, VALIDATION, learned, alphas=1.0, together=True)
    kept = learned.history.set_index("epoch").loc[learned.method["epoch"]]
    assert kept["validation_nll"] == pytest.approx(swept.frame["nll"].mean(), rel=1e-4)
    with sl.steer(model, learned):
        assert sl.evaluate(model, VALIDATION).frame["nll"].mean() == pytest.approx(kept["validation_nll"], rel=1e-4)
    assert "2 at layer 2" in repr(learned)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [0, 1], "scales": [1.0]}, "2 layers and 1 scales; give one scale a layer"),
        ({"layers": [1, 1]}, r"layers=\[1, 1\]; give at least one layer, each once"),
        ({"layers": []}, r"layers=\[\]; give at least one layer"),
        ({"layers": "deep"}, "layers='deep'; use 'sources'"),
        ({"layers": [0, 1], "scales": [1.0, 0.0]}, "use finite numbers other than 0"),
        ({"layers": [0, 3]}, "layer=3: this model has 3 layers"),
    ],
)
def test_layers_and_scales_that_cannot_be_are_named(toy_model, backends, options, message):
    with pytest.raises(ValueError, match=message):
        sl.learn_multilayer(toy_model(backends[0]), TRAIN, **options)


@pytest.mark.parametrize(
    ("problems", "options", "message"),
    [
        ([], {}, "no problems given; there is nothing to train on"),
        (TRAIN, {"validation": []}, "no validation given; give None to train without validation"),
        (TRAIN[:3], {}, "takes 4 problems a step, and there are 3; give more problems or use a smaller batch_size"),
        (TRAIN, {"batch_size": 4, "accumulation": 4}, "takes 16 problems a step, and there are 12"),
        (TRAIN, {"validation": [*VALIDATION, TRAIN[2]]}, "1 of 11 validation problems are training problems"),
        (TRAIN, {"validation": [replace(TRAIN[0], id="new")]}, "1 of 1 validation problems are training problems"),
        ([*TRAIN, TRAIN[0]], {}, "appears 2 times; ids must be unique"),
        (TRAIN, {"layer": 3}, "layer=3: this model has 3 layers"),
        (TRAIN, {"epochs": 0}, "epochs=0; use a whole number of at least 1"),
        (TRAIN, {"lr": 0}, "lr=0 learns nothing"),
        (TRAIN, {"lr": float("nan")}, "lr=nan; use a finite number above 0"),
        (TRAIN, {"l2": -1.0}, "l2=-1.0; use a finite number of at least 0"),
        (TRAIN, {"seed": -1}, "seed=-1; use a whole number"),
        (TRAIN, {"norm_cap": 0.0}, "norm_cap=0.0; use a finite norm above 0"),
        (TRAIN, {"init": "ones"}, "init='ones'; use one of zero, random"),
        (TRAIN, {"last_batch": "drop"}, "last_batch='drop'; use one of step, carry"),
        (TRAIN, {"early_stopping": -1.0}, "early_stopping=-1.0; use a share"),
        (TRAIN, {"loss": "margin"}, "loss='margin'; use 'answer'"),
        (TRAIN, {"operator": "sub"}, "operator='sub'; use one of"),
        (TRAIN, {"positions": 400}, "position 400: a prompt has"),
        (TRAIN, {"positions": "generated"}, "the loss does not depend on the vector"),
        (TRAIN, {"operator": "ablate"}, "use other positions, or init='random'"),
        (
            TRAIN,
            {"lr": 1.0, "operator": explosive},
            "was not finite at step 2, before there was a vector to keep; use a smaller lr than 1,",
        ),
    ],
)
def test_bad_input_is_named_before_anything_is_learned(toy_model, backends, problems, options, message):
    with pytest.raises(ValueError, match=message):
        sl.learn_vector(toy_model(backends[0]), problems, **({"layer": 1} | options))


def test_a_task_instead_of_a_list_is_named(toy_model, backends):
    with pytest.raises(TypeError, match=r"problems is a Task; give a list of problems, e\.g\. task\.test"):
        sl.learn_vector(toy_model(backends[0]), TASK, layer=1)


def test_the_first_token_of_an_answer_can_stand_for_it(toy_model, backends):
    model = toy_model(backends[0])
    problems = [sl.Problem(f"p{i}", p.prompt, 0, choices=(" 3 books", " 4 pens")) for i, p in enumerate(TRAIN[:4])]
    whole, first = (sl.learn_vector(model, problems, layer=0, epochs=1, loss=loss).history["loss"].iloc[0] for loss in ("answer", "first"))
    assert whole == pytest.approx(sl.evaluate(model, problems).frame["nll"].mean(), rel=1e-4)
    assert first < whole


def test_candidates_of_one_run_are_what_they_would_be_alone(toy_model, backend):
    model = toy_model(backend)
    options = {"validation": VALIDATION, "epochs": 2, "batch_size": 5}
    found = sl.learn_vectors(model, TRAIN, layers=[2, 0], seeds=[7, 1], l2s=[0.0, 0.1], lrs=0.05, **options)
    assert len(found) == len(found.frame) == 8
    for vector in found:
        about = vector.method
        alone = sl.learn_vector(model, TRAIN, layer=vector.layer, seed=about["seed"], l2=about["l2"], lr=0.05, **options)
        assert torch.allclose(vector.vector, alone.vector, rtol=1e-3, atol=1e-5)
        assert about["epoch"] == alone.method["epoch"]
    best = found.best()
    assert best.method["validation_accuracy"] == found.frame["validation_accuracy"].max()
    assert found.frame["improvement"].to_numpy() == pytest.approx(found.frame["validation_accuracy"] - found.unsteered)
    assert len(found.history) == 16
    assert len(sl.sweep(model, VALIDATION, list(found), alphas=1.0).accuracy()) == 8


@pytest.mark.slow
def test_halving_ends_the_worse_half_and_leaves_the_others_as_they_would_be(toy_model, backends):
    model = toy_model(backends[0])
    options = {
        "layers": [0, 1, 2],
        "seeds": [7, 1],
        "validation": VALIDATION,
        "epochs": 4,
        "batch_size": 5,
        "lrs": 0.05,
        "early_stopping": None,
    }
    whole, halved = sl.learn_vectors(model, TRAIN, **options), sl.learn_vectors(model, TRAIN, halve_every=1, **options)
    assert sorted(halved.frame["epochs"]) == [1, 1, 1, 2, 3, 4]
    first = whole.history[whole.history["epoch"] == 1].set_index("name")
    order = first.sort_values(["validation_accuracy", "validation_nll"], ascending=[False, True]).index
    ended = halved.frame.set_index("name")["stopped"]
    assert all(ended[name] == "in the worse half of 6 candidates on validation at epoch 1" for name in order[3:])
    assert not any("of 6 candidates" in ended[name] for name in order[:3])
    through = ended.index[ended == "all 4 epochs done"]
    assert len(through) == 1
    by_name = {vector.name: vector for vector in whole}
    for vector in halved:
        if vector.name in through:
            assert torch.allclose(vector.vector, by_name[vector.name].vector, rtol=1e-3, atol=1e-5)


def test_halving_needs_validation_and_whole_epochs(toy_model, backends):
    model = toy_model(backends[0])
    with pytest.raises(ValueError, match="halve_every=1: the worse half is told by validation"):
        sl.learn_vectors(model, TRAIN, halve_every=1)
    with pytest.raises(ValueError, match="halve_every=0; use a whole number of epochs of at least 1"):
        sl.learn_vectors(model, TRAIN, validation=VALIDATION, halve_every=0)


def test_candidates_given_twice_or_chosen_without_validation_are_refused(toy_model, backends):
    model = toy_model(backends[0])
    with pytest.raises(ValueError, match=r"l2s=\[0.1, 0.1\]; give at least one, each once"):
        sl.learn_vectors(model, TRAIN, l2s=[0.1, 0.1])
    with pytest.raises(ValueError, match="seeds=\\[\\]; give at least one"):
        sl.learn_vectors(model, TRAIN, seeds=0)
    with pytest.raises(ValueError, match="trained without validation; give validation="):
        sl.learn_vectors(model, TRAIN, layers=1, epochs=1).best()


def test_each_attempt_of_retrying_has_a_file_of_its_own(toy_model, backends, tmp_path):
    options = {"validation": VALIDATION, "outcome": TASK.test, "select": "retry", "seeds": 2, "layers": [1], "epochs": 1, "extend": 0}
    options |= {"lrs": 30.0, "early_stopping": None}  # so large a step that outcomes are worse
    model = toy_model(backends[0])
    first = sl.adaptive_aft(model, TRAIN, path=tmp_path / "tried.safetensors", **options)
    assert len(list(tmp_path.iterdir())) == first.n_attempts
    again = sl.adaptive_aft(model, TRAIN, path=tmp_path / "tried.safetensors", **options)
    assert torch.equal(first.vector.vector, again.vector.vector)
    assert ("best of its attempt" in first.warnings()[0]) == (first.n_attempts > 1)


def test_the_adaptive_protocol_says_what_was_tried(toy_model, backends):
    found = sl.adaptive_aft(toy_model(backends[0]), TRAIN, validation=VALIDATION, layers=[0, 1], seeds=2, epochs=1, extend=1)
    assert (found.n_attempts, len(found.frame), found.frame["chosen"].sum()) == (1, 4, 1)
    assert found.frame.loc[found.frame["chosen"], "name"].item() == found.vector.name
    assert found.unsteered + found.improvement == pytest.approx(found.frame["validation_accuracy"].max())
    assert "the best of so many and is biased upwards" in found.warnings()[0]
    speaks(found)


def test_retrying_stops_at_the_first_outcome_that_is_not_negative_and_says_so(toy_model, backends, monkeypatch):
    changes = iter([-0.1, -0.2, 0.0, 0.3])
    outcomes = []

    def scripted(model, problems, direction, **options):
        outcomes.append(direction.method["seed"])
        return type("Swept", (), {"accuracy": lambda self: pd.DataFrame({"change": [next(changes)]})})()

    monkeypatch.setattr(sys.modules["steerlab.aft.selection"], "sweep", scripted)  # the package has a function of the module's name
    found = sl.adaptive_aft(
        toy_model(backends[0]), TRAIN, validation=VALIDATION, layers=[1], seeds=4, epochs=1, select="retry", outcome=TASK.test
    )
    assert outcomes == [0, 1, 2]
    assert found.n_attempts == 3
    assert found.vector.method["seed"] == 2
    assert "the protocol was run 3 times, until the outcome was not negative" in found.warnings()[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"select": "test"}, "select='test'; use 'validation'"),
        ({"select": "retry"}, "give outcome=, the problems that decide it"),
        ({"outcome": TASK.test}, "outcome= is for select='retry'"),
        ({"select": "retry", "outcome": VALIDATION}, "10 of 10 outcome problems are trained or validated on"),
        ({"layers": "some"}, "layers='some'; use 'all', 'middle'"),
        ({"layers": [1], "step": 2}, "step=2 with a list of layers"),
        ({"step": 0}, "step=0; use 1 for every layer"),
        ({"validation": None}, "validation=None: the protocol stops and chooses on validation"),
    ],
)
def test_a_protocol_that_cannot_be_is_named(toy_model, backends, options, message):
    with pytest.raises(ValueError, match=message):
        sl.adaptive_aft(toy_model(backends[0]), TRAIN, **({"validation": VALIDATION} | options))


def test_layers_are_chosen_by_depth_and_step():
    assert chosen_layers(24, "middle", 2) == [6, 8, 10, 12, 14, 16, 18]
    assert chosen_layers(6, "all") == [0, 1, 2, 3, 4, 5]
    assert chosen_layers(6, [4]) == [4]


def test_a_training_goes_on_with_nothing_that_merely_has_the_same_name(toy_model, backends, tmp_path):
    """Conditions along directions of one name and length, and scorers of one name, that are not the same."""
    model, path = toy_model(backends[0]), tmp_path / "training.safetensors"
    options = {"layer": 1, "epochs": 1, "path": path, "validation": VALIDATION}
    vector = torch.zeros(32)
    vector[0] = 1.0
    along, across = sl.Direction(vector, 1, name="d"), sl.Direction(vector.roll(1), 1, name="d")
    assert repr(along) == repr(across)
    scorer = SCORERS["choice"]
    first = sl.learn_vector(model, TRAIN, operator=sl.conditional("add", above=-9.0, along=along), scorer=scorer, **options)
    same(sl.learn_vector(model, TRAIN, operator=sl.conditional("add", above=-9.0, along=along), scorer=scorer, **options), first)
    with pytest.raises(sl.InputError, match="has a training with other functions"):
        sl.learn_vector(model, TRAIN, operator=sl.conditional("add", above=-9.0, along=across), scorer=scorer, **options)
    other = replace(scorer, judge=SCORERS["continuation"].judge)
    with pytest.raises(sl.InputError, match="has a training with other scorer"):
        sl.learn_vector(model, TRAIN, operator=sl.conditional("add", above=-9.0, along=along), scorer=other, **options)


@pytest.mark.parametrize("fails", [pytest.param("forward", marks=pytest.mark.slow), "backward"])
def test_training_shrinks_when_memory_runs_out_to_the_same_vector(toy_model, backends, monkeypatch, fails):
    """Oracle: the training that fits; a device that holds 100 positions at a time stands for one that is full."""
    model, options = toy_model(backends[0]), {"layer": 1, "validation": VALIDATION, "batch_size": 6, "last_batch": "carry", **QUICK}
    whole, run_from, backward = sl.learn_vector(model, TRAIN, **options), wavefront.run_from, torch.Tensor.backward
    sizes, refused = [], []

    def forward_on_a_full_device(model, stream, *args, **more):
        sizes.append(stream.shape[0] * stream.shape[1])
        if fails == "forward" and sizes[-1] > 100:
            refused.append(sizes.pop())
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run_from(model, stream, *args, **more)

    def backward_on_a_full_device(tensor, *args, **more):
        if fails == "backward" and sizes[-1] > 100:
            refused.append(sizes[-1])
            raise torch.OutOfMemoryError("CUDA out of memory")
        backward(tensor, *args, **more)

    monkeypatch.setattr(wavefront, "run_from", forward_on_a_full_device)
    monkeypatch.setattr(torch.Tensor, "backward", backward_on_a_full_device)
    shrunk = sl.learn_vector(model, TRAIN, **options)
    assert refused
    torch.testing.assert_close(shrunk.vector, whole.vector, rtol=1e-4, atol=1e-5)
    assert list(shrunk.history["validation_accuracy"]) == list(whole.history["validation_accuracy"])


def test_training_that_fits_in_no_way_says_so_and_leaves_the_model_as_it_was(toy_model, backends, monkeypatch):
    def full(*args, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(wavefront, "run_from", full)
    with pytest.raises(InputMemoryError, match=r"not even [0-9]+ positions at a time fit into memory"):
        sl.learn_vector(toy_model(backends[0]), TRAIN, layer=1, epochs=1)
    assert not any(point.fwd_hooks for point in toy_model(backends[0]).hook_dict.values())


def test_training_holds_no_more_logits_at_a_time_than_its_memory_allows(toy_model, backends, monkeypatch):
    """Oracle: the training without a limit. A logit that takes 4 kB stands for a large vocabulary."""
    model, read_out, sizes = toy_model(backends[0]), reading.read_out, []

    def noted(model, resid, tokens=None):
        found = read_out(model, resid, tokens)
        sizes.append(found.numel())
        return found

    whole = sl.learn_vector(model, NUMERIC.train, layer=1, **QUICK)
    monkeypatch.setattr(memory, "LOGIT_BYTES", 4096)
    monkeypatch.setattr(reading, "read_out", noted)
    budget = 60 * memory.token_bytes(model)
    limited = sl.learn_vector(model, NUMERIC.train, layer=1, memory=budget, **QUICK)
    assert max(sizes) <= max(memory.logit_values(budget), n_outputs(model)) < 4 * n_outputs(model)
    torch.testing.assert_close(limited.vector, whole.vector, rtol=1e-4, atol=1e-5)
