"""Context-dependent vectors: how many numbers they learn, what they begin as, what is kept of them, and what is refused."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import steerlab as sl
from steerlab.aft import training
from steerlab.aft.learnables import DictionaryVector, MLPVector, ModulatedVector
from steerlab.directions.prompt_vectors import pool
from steerlab.models.model import hook_name, hooks
from steerlab.models.passes import forward
from steerlab.steering.operators import OPERATORS

TASK = sl.load_task("arithmetic", n_train=12, n_validation=10, n_test=10)
NUMERIC = sl.load_task("arithmetic", n_train=6, n_validation=4, n_test=4, form="numeric")
KINDS = ("modulated", "dictionary", "mlp")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", params=KINDS)
def learned(request, toy_model, backends):
    """A vector of each kind, for tests that only look at it."""
    return sl.learn_context_vector(
        toy_model(backends[0]), TASK.train, layer=1, kind=request.param, validation=TASK.validation, epochs=2, lr=0.05
    )


def same(one, other):
    assert all(torch.equal(value, other.parameters[key]) for key, value in one.parameters.items())
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)


# Oracle: the counts that are reported for DRAB at d = 1,024.
def test_the_reported_parameter_counts_fix_the_sizes():
    assert ModulatedVector(1024).n_parameters == 2049
    assert DictionaryVector(1024).n_parameters == 74_312
    assert MLPVector(1024).n_parameters == 263_296
    d = 1024
    sizes = [(k, h) for k in range(1, 80) for h in range(1, 80) if d * h + h + h * k + k + k * d == 74_312]
    assert sizes == [(8, 64), (64, 8)]
    assert [h for h in range(1, 400) if 2 * d * h + h + d == 263_296] == [128]


def test_a_modulated_vector_without_modulation_is_the_static_one(toy_model, backend):
    model, b = toy_model(backend), torch.from_numpy(RNG.standard_normal(32)).float()
    still = sl.ContextVector(ModulatedVector(32), {"vector": b, "weight": torch.zeros(32), "offset": torch.zeros(())}, layer=1)
    static = sl.sweep(model, TASK.test, sl.Direction(b, layer=1), alphas=[1.5]).frame
    pd.testing.assert_frame_equal(
        still.evaluate(model, TASK.test, alpha=1.5).frame, static[["problem_id", "prediction", "correct", "margin", "nll"]]
    )


@pytest.mark.parametrize("kind", [DictionaryVector, MLPVector])
def test_without_a_context_part_the_others_are_static_too(kind):
    learnable = kind(6)
    numbers = learnable.initial(np.random.default_rng(0))
    numbers |= {"dictionary": torch.ones(8, 6)} if kind is DictionaryVector else {"vector": torch.ones(6)}
    vector = sl.ContextVector(learnable, numbers, layer=0)
    stream = torch.from_numpy(RNG.standard_normal((3, 4, 6))).float()
    assert torch.allclose(vector.vectors(stream, torch.ones(3, 4, dtype=torch.bool)), torch.ones(3, 6))


def test_one_problem_step_of_a_modulated_vector_begins_as_that_of_a_static_one(toy_model, backends):
    model, options = toy_model(backends[0]), {"layer": 1, "epochs": 1, "batch_size": len(TASK.train), "lr": 0.05}
    static = sl.learn_vector(model, TASK.train, **options)
    modulated = sl.learn_context_vector(model, TASK.train, kind="modulated", **options)
    assert torch.equal(modulated.parameters["vector"], static.vector)
    assert not modulated.parameters["weight"].any()  # zero times what it would scale, at the first step


@pytest.mark.parametrize("how", ["mean", "last"])
def test_padding_and_answers_do_not_count(how):
    stream = torch.from_numpy(RNG.standard_normal((2, 5, 4))).float()
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    spoilt = torch.where(mask[:, :, None], stream, torch.inf)
    alone = pool(stream[:1, :3], mask[:1, :3], how)
    assert torch.allclose(pool(spoilt, mask, how)[0], alone[0])
    assert pool(spoilt, mask, how).square().mean(-1).tolist() == pytest.approx([1, 1])


def test_training_lowers_the_loss_and_says_what_it_was(learned, toy_model, backends):
    assert learned.history["loss"].iloc[1] < learned.history["loss"].iloc[0]
    assert learned.method["n_parameters"] == learned.n_parameters == sum(v.numel() for v in learned.parameters.values())
    epoch = learned.history.set_index("epoch").loc[learned.method["epoch"]]
    accuracy = learned.evaluate(toy_model(backends[0]), TASK.validation).accuracy
    assert accuracy == epoch["validation_accuracy"] == learned.method["validation_accuracy"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits_and_another_seed_other_ones(kind, toy_model, backends):
    model = toy_model(backends[0])
    one, again, other = (sl.learn_context_vector(model, TASK.train, layer=0, kind=kind, seed=s, epochs=1) for s in (3, 3, 4))
    same(one, again)
    assert any(not torch.equal(value, other.parameters[key]) for key, value in one.parameters.items())


def test_an_interrupted_training_goes_on_to_the_same_vector(toy_model, backends, tmp_path, monkeypatch):
    model, options = toy_model(backends[0]), {"layer": 1, "kind": "dictionary", "epochs": 3, "validation": TASK.validation}
    whole = sl.learn_context_vector(model, TASK.train, **options)
    path, original, epochs = tmp_path / "training.safetensors", training._epoch, []

    def interrupted(*args):
        epochs.append(len(epochs))
        if len(epochs) == 3:
            raise KeyboardInterrupt
        original(*args)

    with monkeypatch.context() as patched:
        patched.setattr(training, "_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sl.learn_context_vector(model, TASK.train, path=path, **options)
    same(sl.learn_context_vector(model, TASK.train, path=path, **options), whole)
    with pytest.raises(ValueError, match="other learnable"):
        sl.learn_context_vector(model, TASK.train, path=path, **(options | {"pooling": "last"}))


def test_a_norm_cap_holds_for_the_shared_part_and_scales_the_rest_with_it():
    learnable = MLPVector(4, hidden=3)
    numbers = {key: torch.full(value.shape, 2.0) for key, value in learnable.initial(np.random.default_rng(0)).items()}
    learnable.shrink(numbers, 1.0)
    assert learnable.norm(numbers) == pytest.approx(1.0)
    assert (numbers["weight_2"].unique().tolist(), numbers["weight_1"].unique().tolist()) == ([0.5], [2.0])
    learnable.shrink(numbers, 5.0)
    assert learnable.norm(numbers) == pytest.approx(1.0)


def test_validation_may_generate_its_answers(toy_model, backends):
    model = toy_model(backends[0])
    learned = sl.learn_context_vector(model, NUMERIC.train, layer=1, validation=NUMERIC.validation, epochs=1, lr=0.1)
    assert learned.evaluate(model, NUMERIC.validation).accuracy == learned.method["validation_accuracy"]


def test_steering_plain_runs_gives_what_evaluation_gives(learned, toy_model, backend):
    model = toy_model(backend)
    with learned.steer(model, alpha=2.0) as points:
        inside = sl.evaluate(model, TASK.test)
    assert points == [hook_name(model, 1, "resid_post")]
    outside = learned.evaluate(model, TASK.test, alpha=2.0)
    assert inside.frame["margin"].to_numpy() == pytest.approx(outside.frame["margin"].to_numpy(), abs=1e-4)
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    assert sl.evaluate(model, TASK.test).frame["margin"].to_numpy() != pytest.approx(outside.frame["margin"].to_numpy(), abs=1e-4)


def test_the_prompt_may_be_a_part_of_what_is_given_and_is_remembered_for_single_tokens(learned, toy_model, backend):
    model, tokens = toy_model(backend), torch.tensor([[1, 5, 9, 7, 6], [1, 8, 4, 9, 5]])
    point, found = hook_name(model, 1, "resid_post"), []
    with hooks(model, [(point, lambda resid: found.append(resid.detach().clone()))]), torch.no_grad():
        forward(model, tokens)
        forward(model, tokens[:, :1])
    mask = torch.tensor([[True, True, True, False, False], [True, True, False, False, False]])
    vectors = learned.vectors(found[0], mask)
    for span in ([3, 2], mask):
        seen = []
        look = [(point, lambda resid, seen=seen: seen.append(resid.detach().clone()))]
        with learned.steer(model, prompt=span), hooks(model, look), torch.no_grad():
            forward(model, tokens)
            forward(model, tokens[:, :1])
        assert torch.allclose(seen[0] - found[0], vectors[:, None].expand_as(found[0]), atol=1e-4)
        assert torch.allclose(seen[1] - found[1], vectors[:, None], atol=1e-4)


def test_a_steered_prompt_ends_where_it_is_said_to_and_before_what_goes_on_from_it(learned, toy_model, backend):
    model, tokens = toy_model(backend), torch.tensor([[1, 5, 9, 7, 6], [1, 8, 4, 9, 5]])
    point = hook_name(model, 1, "resid_post")
    mask = torch.tensor([[True, True, True, False, False], [True, True, False, False, False]])

    def streams(**how) -> list[torch.Tensor]:
        seen = []
        look = [(point, lambda resid: seen.append(resid.detach().clone()))]
        with learned.steer(model, **how), hooks(model, look), torch.no_grad():
            forward(model, tokens)
            forward(model, tokens[:, :1])
        return seen

    plain, everywhere = streams(alpha=0.0), streams(prompt=mask)
    for span in ([3, 2], mask):
        whole, following = streams(prompt=span, positions="prompt")
        assert torch.allclose(whole, torch.where(mask[:, :, None], everywhere[0], plain[0]), atol=1e-5)
        assert torch.equal(following, plain[1])
    first, following = streams(prompt=mask, positions=[0])
    assert torch.allclose(first[:, :1], everywhere[0][:, :1], atol=1e-5)
    assert torch.equal(first[:, 1:], plain[0][:, 1:])
    assert torch.equal(following, plain[1])


def test_a_file_gives_back_what_was_written_and_the_same_bytes_again(learned, toy_model, backends, tmp_path):
    path = sl.save_context_vector(tmp_path / "v.safetensors", learned)
    again = sl.load_context_vector(path)
    same(again, learned)
    assert (again.learnable, again.layer, again.site, again.name) == (learned.learnable, 1, "resid_post", learned.name)
    assert (dict(again.method), dict(again.model)) == (dict(learned.method), dict(learned.model))
    assert sl.save_context_vector(tmp_path / "w.safetensors", again).read_bytes() == path.read_bytes()
    same(pickle.loads(pickle.dumps(learned)), learned)  # noqa: S301 - our own bytes
    model = toy_model(backends[0])
    pd.testing.assert_frame_equal(again.evaluate(model, TASK.test).frame, learned.evaluate(model, TASK.test).frame)


def test_a_file_that_was_changed_or_is_another_kind_is_refused(learned, tmp_path):
    path = sl.save_context_vector(tmp_path / "v.safetensors", learned)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    (tmp_path / "changed.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="sha256"):
        sl.load_context_vector(tmp_path / "changed.safetensors")
    (tmp_path / "short.safetensors").write_bytes(content[:50])
    with pytest.raises(ValueError, match="not a readable"):
        sl.load_context_vector(tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match="load_direction"):
        sl.load_context_vector(sl.save_direction(tmp_path / "d.safetensors", sl.Direction(torch.ones(4), layer=0)))
    with pytest.raises(FileNotFoundError, match="no such file"):
        sl.load_context_vector(tmp_path / "none.safetensors")


def test_vectors_of_prompts_scale_travel_and_say_what_they_are(learned, toy_model, backends):
    model = toy_model(backends[0])
    on = learned.on(model, TASK.test)
    assert len(on.table) == len(TASK.test)
    assert on.norm == pytest.approx(float(torch.stack(list(on.table.values())).norm(dim=-1).square().mean().sqrt()))
    half, copy = 0.5 * on, pickle.loads(pickle.dumps(on))  # noqa: S301 - our own bytes
    assert half.norm == pytest.approx(on.norm / 2)
    one, other = (sl.sweep(model, TASK.test, d, alphas=[a]).frame["margin"].to_numpy() for d, a in ((on, -1.0), (-copy, 1.0)))
    assert one == pytest.approx(other, abs=1e-5)
    assert type(on.unit()) is sl.Direction


def test_vectors_of_prompts_are_refused_where_prompts_are_not_known(learned, toy_model, backends, tmp_path):
    model = toy_model(backends[0])
    on = learned.on(model, TASK.test)
    with pytest.raises(ValueError, match="does not know which tokens"), sl.steer(model, on):
        pass
    with pytest.raises(ValueError, match="make it for all the problems"):
        sl.sweep(model, TASK.train, on, alphas=[1.0])
    with pytest.raises(ValueError, match="cannot be added"):
        sl.average_directions([on, on])
    with pytest.raises(ValueError, match="save_context_vector"):
        sl.save_direction(tmp_path / "d.safetensors", on)
    with pytest.raises(ValueError, match="no prompts"):
        sl.PromptVectors()
    with pytest.raises(ValueError, match="zero for every prompt"):
        sl.PromptVectors(table={(1,): torch.zeros(3)})
    with pytest.raises(ValueError, match="one row a token"):
        sl.PromptVectors(table={(1, 2): torch.ones(3, 4)})


def test_bad_input_is_refused_with_the_fix(learned, toy_model, backends):
    model = toy_model(backends[0])
    for options, message in (
        ({"kind": "rnn"}, "use one of modulated, dictionary, mlp"),
        ({"kind": MLPVector(8)}, "this model's residual stream has 32"),
        ({"pooling": "max"}, "use one of mean, last"),
        ({"init": "ones"}, "use one of zero, random"),
    ):
        with pytest.raises(ValueError, match=message):
            sl.learn_context_vector(model, TASK.train, layer=1, **options)
    with pytest.raises(ValueError, match="entries=0"):
        DictionaryVector(8, entries=0)
    with pytest.raises(ValueError, match="parameters of shapes"):
        replace(learned, parameters={"vector": torch.ones(32)})
    with pytest.raises(ValueError, match="does not know where a prompt ends"), learned.steer(model, positions="generated"):
        pass
    with pytest.raises(ValueError, match="give 1 to 3"), learned.steer(model, prompt=[4]):
        forward(model, torch.tensor([[1, 2, 3]]))
    with pytest.warns(UserWarning, match="never acted"), learned.steer(model):
        pass


# An operator of one's own


def add(resid, vector, alpha):
    """Called as a built-in operator, and another one."""
    return resid - 0.5 * alpha * vector


def own(resid, vector, alpha):
    return resid - 0.5 * alpha * vector


@pytest.mark.parametrize("operator", [add, own])
def test_an_operator_of_ones_own_is_never_replaced_by_another_one(operator, toy_model, backend, tmp_path):
    """Oracle: the vector of every prompt, added by a hook times -0.5, through sweep and the built-in operator."""
    model = toy_model(backend)
    learned = sl.learn_context_vector(model, TASK.train, layer=1, kind="modulated", epochs=1, lr=0.5, operator=operator)
    added = {"alphas": [-0.5], "operator": OPERATORS["add"]}
    expected = sl.sweep(model, TASK.test, learned.on(model, TASK.test), **added).frame["margin"].to_numpy()
    for run in (sl.sweep, sl.side_effects):
        given = TASK.test if run is sl.sweep else learned.on(model, TASK.test)
        other = learned.on(model, TASK.test) if run is sl.sweep else [p.prompt for p in TASK.test]
        with pytest.raises(
            sl.InputError, match=r"learned under the operator '(add \(custom\)|own)', a function, and would act under 'add'"
        ):
            run(model, given, other, alphas=[1.0])
    assert learned.evaluate(model, TASK.test).frame["margin"].to_numpy() == pytest.approx(expected, abs=1e-5)
    again = pickle.loads(pickle.dumps(learned))  # noqa: S301 - our own bytes
    assert again.evaluate(model, TASK.test).frame["margin"].to_numpy() == pytest.approx(expected, abs=1e-5)
    loaded = sl.load_context_vector(sl.save_context_vector(tmp_path / "v.safetensors", learned))
    asked = r"learned with an operator of your own, '(add \(custom\)|own)', which its file does not keep; give operator="
    with pytest.raises(sl.InputError, match=asked):
        loaded.evaluate(model, TASK.test)
    with pytest.raises(sl.InputError, match=asked), loaded.steer(model):
        pass
    assert loaded.evaluate(model, TASK.test, operator=operator).frame["margin"].to_numpy() == pytest.approx(expected, abs=1e-5)
    builtin = loaded.evaluate(model, TASK.test, operator="add").frame["margin"].to_numpy()
    assert np.abs(builtin - expected).max() > 1e-3


def test_results_call_a_function_by_no_built_in_name(toy_model, backends):
    model, direction = toy_model(backends[0]), sl.Direction(torch.ones(32), 1)
    swept = [sl.sweep(model, TASK.test[:2], direction, alphas=[1], operator=how).settings["operator"] for how in ("add", add, own)]
    assert swept == ["add", "add (custom)", "own"]
    measured = sl.sweep(model, TASK.test[:2], direction, alphas=[1], operator=add)
    with pytest.raises(sl.InputError, match=r"its operator is 'add \(custom\)', and the preview's is 'add'"):
        sl.preview(model, TASK.test[:2], direction, alphas=[1], sweep=measured)


def test_a_learnable_that_files_do_not_keep_is_refused(tmp_path):
    class Mine(ModulatedVector):
        pass

    numbers = {"vector": torch.ones(4), "weight": torch.zeros(4), "offset": torch.tensor(0.5)}
    with pytest.raises(sl.InputError, match="files do not keep a Mine; save one of ModulatedVector"):
        sl.save_context_vector(tmp_path / "v.safetensors", sl.ContextVector(Mine(4), numbers, layer=1))
