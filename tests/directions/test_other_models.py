"""A direction acts in the model that it was found in; in another one only on purpose, and then results say so."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

import steerlab as sl
from steerlab.aft.learnables import ModulatedVector
from steerlab.models.model import describe
from steerlab.steering.operators import projections

PROBLEMS = sl.load_task("arithmetic", n_train=12, n_validation=4, n_test=6)
REFUSED = r"was found in another model than this one \('toy' and 'tuned'\): .*direction\.for_model\(model\)"


@pytest.fixture(scope="module")
def tuned(toy_model, backends, tmp_path_factory):
    """``tuned(backend)``: a fine-tuned variant of the toy model, as large as it, with slightly other weights."""
    source = toy_model(backends[0]).steerlab_origin["path"]
    folder = Path(shutil.copytree(source, tmp_path_factory.mktemp("models") / "tuned"))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    loaded = {backend: sl.load_model(folder, backend=backend, device="cpu") for backend in backends}
    return loaded.__getitem__


@pytest.fixture
def pair(toy_model, tuned, backend):
    """A direction found in the toy model, the variant, and the activations it was found in."""
    acts = sl.cache_activations(toy_model(backend), PROBLEMS.train, layers=[1])
    groups = [acts.select([p.id for p in part]) for part in (PROBLEMS.train[:6], PROBLEMS.train[6:])]
    return SimpleNamespace(direction=sl.mean_difference(*groups, layer=1), model=tuned(backend), home=toy_model(backend), acts=acts)


def entries() -> dict:
    test, prompts = PROBLEMS.test[:2], [PROBLEMS.test[0].prompt, PROBLEMS.test[1].prompt]
    rng = np.random.default_rng(0)

    def steer(model, d):
        with sl.steer(model, d):
            model(torch.tensor([[1, 5, 6]]))

    return {
        "steer": steer,
        "steer, by layer": lambda model, d: steer(model, {2: d}),
        "sweep": lambda model, d: sl.sweep(model, test, d, alphas=[1]),
        "sweep, by layer": lambda model, d: sl.sweep(model, test, {2: d}, alphas=[1]),
        "sweep, together": lambda model, d: sl.sweep(
            model, test, [d, sl.Direction(d.vector, 0, name="by hand")], alphas=[1], together=True
        ),
        "random_control": lambda model, d: sl.random_control(model, test, d, alpha=1, n=2, rng=rng),
        "preview": lambda model, d: sl.preview(model, test, d, alphas=[1]),
        "side_effects": lambda model, d: sl.side_effects(model, d, prompts, alphas=[1]),
        "match_kl": lambda model, d: sl.match_kl(model, d, sl.random_directions(d, 1, rng=rng), prompts, alpha=1.0),
        "token_magnitudes": lambda model, d: sl.token_magnitudes(model, test, layers=[1], direction=d),
        "critical_tokens": lambda model, d: sl.critical_tokens(model, test, d, alpha=1.0),
        "coefficient_grid": lambda model, d: sl.coefficient_grid(model, test, PROBLEMS.validation, d, coefficients=[1.0]),
        "evaluate_routed": lambda model, d: sl.evaluate_routed(model, test, d),
        "recursive_vectors": lambda model, d: sl.recursive_vectors(model, test, d),
        "propagated_vectors": lambda model, d: sl.propagated_vectors(model, test, d),
    }


@pytest.mark.parametrize("entry", sorted(entries()))
def test_a_direction_of_one_model_acts_in_another_only_on_purpose(pair, entry):
    run = entries()[entry]
    with pytest.raises(sl.InputError, match=REFUSED):
        run(pair.model, pair.direction)
    run(pair.model, pair.direction.for_model(pair.model))  # a fine-tuned variant, on purpose
    run(pair.model, sl.Direction(pair.direction.vector, 1))  # by hand: it acts everywhere
    run(pair.home, pair.direction)


def test_on_purpose_it_is_the_same_vector_and_the_results_say_so(pair):
    """Oracle: the same numbers as a direction made by hand of the vector."""
    moved = pair.direction.for_model(pair.model)
    by_hand = sl.Direction(pair.direction.vector, 1, name=moved.name)
    found, expected = (sl.sweep(pair.model, PROBLEMS.test, d, alphas=[-1.0, 1.0]) for d in (moved, by_hand))
    pd.testing.assert_frame_equal(found.frame, expected.frame)
    said = "Direction 'mean difference' was found in another model ('toy') than the one that it acts in ('tuned')."
    control = sl.random_control(pair.model, PROBLEMS.test, moved, alpha=1.0, n=2, rng=np.random.default_rng(0))
    effects = sl.side_effects(pair.model, moved, [PROBLEMS.test[0].prompt], alphas=[1.0])
    assert said in found.warnings()
    assert said in control.warnings()
    assert said in effects.warnings()
    assert not any("another model" in line for line in expected.warnings())


def test_where_it_came_from_is_kept_in_its_file_and_forgotten_at_home(pair, tmp_path):
    moved = pair.direction.for_model(pair.model)
    again = sl.load_direction(sl.save_direction(tmp_path / "d.safetensors", moved))
    assert again.method["moved_from"] == json.loads(json.dumps(dict(pair.direction.model)))
    assert dict(again.model) == describe(pair.model)
    sl.sweep(pair.model, PROBLEMS.test[:2], again, alphas=[1])
    back = again.for_model(pair.home)
    assert "moved_from" not in back.method
    assert pair.direction.for_model(pair.home) is pair.direction
    with pytest.raises(sl.InputError, match=r"\('tuned' and 'toy'\)"):
        sl.sweep(pair.home, PROBLEMS.test[:2], again, alphas=[1])


def test_a_saved_direction_knows_its_model_on_every_backend_and_in_every_dtype(pair, tmp_path, backends):
    path = sl.save_direction(tmp_path / "d.safetensors", pair.direction)
    folder = pair.home.steerlab_origin["path"]
    for backend in backends:
        for dtype in ("float32", "bfloat16", "float64"):
            model = sl.load_model(folder, backend=backend, dtype=dtype, device="cpu")
            assert len(sl.sweep(model, PROBLEMS.test[:2], sl.load_direction(path), alphas=[1]).frame) == 2
    swept = sl.sweep(pair.home, PROBLEMS.test[:2], pair.direction, alphas=[1], precision="bfloat16")
    assert swept.precision.dtype == "bfloat16"


def test_what_is_made_of_it_and_its_activations_stay_with_the_model(pair):
    there = sl.cache_activations(pair.model, PROBLEMS.train[:4], layers=[1])
    other = sl.mean_difference(there.select([PROBLEMS.train[0].id]), there.select([PROBLEMS.train[1].id]), layer=1)
    with pytest.raises(sl.InputError, match=r"found in different models \('toy' and 'tuned'\).*for_model"):
        pair.direction + other
    assert sl.average_directions([pair.direction.for_model(pair.model), other]).model == other.model
    with pytest.raises(sl.InputError, match=r"is of another model than the activations \('toy' and 'tuned'\)"):
        projections(there, pair.direction)
    with pytest.raises(sl.InputError, match=r"is of another model than these \('toy' and 'tuned'\)"):
        sl.covariance_matched(there)(pair.direction, 1, rng=np.random.default_rng(0))


def test_a_context_vector_acts_in_another_model_only_on_purpose(pair):
    numbers = {"vector": torch.ones(32), "weight": torch.zeros(32), "offset": torch.tensor(0.5)}
    vector = sl.ContextVector(ModulatedVector(32), numbers, layer=1, model=describe(pair.home))
    with pytest.raises(sl.InputError, match=REFUSED):
        vector.evaluate(pair.model, PROBLEMS.test)
    with pytest.raises(sl.InputError, match=REFUSED):
        vector.on(pair.model, PROBLEMS.test)
    with pytest.raises(sl.InputError, match=REFUSED), vector.steer(pair.model):
        pass
    moved = vector.for_model(pair.model)
    assert moved.evaluate(pair.model, PROBLEMS.test).n == len(PROBLEMS.test)
    assert any("found in another model ('toy')" in line for line in moved.warnings())


def test_vectors_of_prompts_and_of_several_layers_move_too(pair):
    vectors = sl.propagated_vectors(pair.home, PROBLEMS.test[:2], pair.direction)
    with pytest.raises(sl.InputError, match=REFUSED):
        sl.sweep(pair.model, PROBLEMS.test[:2], vectors, alphas=[1])
    assert len(sl.sweep(pair.model, PROBLEMS.test[:2], vectors.for_model(pair.model), alphas=[1]).frame) == 2
    several = sl.learn_multilayer(pair.home, PROBLEMS.train[:4], layers=[0, 1], epochs=1)
    with pytest.raises(sl.InputError, match=REFUSED), sl.steer(pair.model, several):
        pass
    with sl.steer(pair.model, several.for_model(pair.model)) as points:
        pair.model(torch.tensor([[1, 5, 6]]))
        assert len(points) == 2


def test_operators_that_look_along_a_direction_look_in_its_model(pair):
    test, free = PROBLEMS.test[:2], sl.Direction(torch.ones(32), 1)
    for operator in (
        sl.conditional("add", above=0.0, along=pair.direction),
        sl.adaptive(torch.sigmoid, along=pair.direction),
        sl.norm_preserving(sl.conditional("add", above=0.0, along=pair.direction)),
    ):
        assert len(sl.sweep(pair.home, test, free, alphas=[1], operator=operator).frame) == 2
        with pytest.raises(sl.InputError, match=REFUSED):
            sl.sweep(pair.model, test, free, alphas=[1], operator=operator)
        with pytest.raises(sl.InputError, match=REFUSED), sl.steer(pair.model, free, operator=operator):
            pass
        with pytest.raises(sl.InputError, match=REFUSED):
            sl.preview(pair.model, test, [free], alphas=[1], operator=operator)
        with pytest.raises(sl.InputError, match=REFUSED):
            sl.learn_vector(pair.model, PROBLEMS.train[:4], layer=1, operator=operator, epochs=1)


def test_classes_of_one_model_route_no_problem_of_another(pair):
    ids = [p.id for p in PROBLEMS.train]
    router = sl.nearest_mean({"a": pair.acts.select(ids[:6]), "b": pair.acts.select(ids[6:])}, layer=1)
    assert len(router(pair.home, PROBLEMS.test)) == len(PROBLEMS.test)
    with pytest.raises(sl.InputError, match=r"are of another model than the class means \('toy' and 'tuned'\)"):
        router(pair.model, PROBLEMS.test)


def test_other_processing_is_not_overcome_by_moving(pair):
    processed = sl.Direction(pair.direction.vector, 1, model={**pair.direction.model, "processing": "processed", "weights_sha256": "x"})
    with pytest.raises(sl.InputError, match="processed weights, this one has raw weights"):
        processed.for_model(pair.model)


def test_a_model_that_was_edited_since_is_another_one(toy_model, backend, tmp_path):
    model = sl.load_model(toy_model(backend).steerlab_origin["path"], backend=backend, device="cpu")
    direction = sl.Direction(torch.ones(32), 1, model=describe(model))
    with torch.no_grad():
        next(iter(model.parameters())).mul_(1.01)
    with pytest.raises(sl.InputError, match=r"another model than this one \('toy' with other weights\)"):
        sl.sweep(model, PROBLEMS.test[:2], direction, alphas=[1])
