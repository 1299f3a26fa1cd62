"""A seed is recorded as it was given and decides what it should, and no two uses of chance share a stream. No seed here is 0."""

import numpy as np
import pandas as pd
import pytest
import torch
from experiments import chosen

import steerlab as sl
from steerlab.cli import options as setup
from steerlab.reports.secondary import Questions
from steerlab.studies import grid
from steerlab.studies.method_trials import Setting, score_selected
from steerlab.studies.method_vectors import MethodVectors
from steerlab.validation.calibration import calibrate
from steerlab.validation.scenarios._common import Scenario

SEED = 7
TASK = sl.load_task("arithmetic", n_train=8, n_validation=6, n_test=6, seed=SEED)
QUICK = {"epochs": 1, "lr": 0.05, "init": "random"}


@pytest.fixture(scope="module")
def model(toy_model, backends):
    return toy_model(backends[0])


@pytest.fixture
def seeds(monkeypatch):
    """What every generator was seeded with since."""
    seen, original = [], np.random.default_rng

    def noted(seed=None):
        seen.append(tuple(seed) if isinstance(seed, list | tuple) else (seed,))
        return original(seed)

    monkeypatch.setattr(np.random, "default_rng", noted)
    return seen


def prompts(task):
    return [[p.prompt for p in getattr(task, split)] for split in ("train", "validation", "test")]


def test_the_embedded_generator_has_the_seed_it_says():
    other = sl.load_task("arithmetic", n_train=8, n_validation=6, n_test=6)
    assert (TASK.about["seed"], other.about["seed"]) == (SEED, 0)
    again = sl.load_task("arithmetic", n_train=8, n_validation=6, n_test=6, seed=SEED)
    assert prompts(again) == prompts(TASK)
    assert all(one != two for one, two in zip(prompts(TASK), prompts(other), strict=True))


def test_a_task_from_a_file_has_the_seed_it_says(tmp_path):
    """Oracle: NumPy's permutation of the pool's rows by [seed, 0], as `load_task` describes its shuffle."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"prompt": "{i} + 1 =", "target": {i + 1}}}\n' for i in range(30)), encoding="utf-8")
    found = sl.load_task("jsonl", path=str(path), seed=SEED, shares=(0.8, 0.1, 0.1))
    assert found.about["seed"] == SEED
    assert f"seed {SEED}" in found.about["splits"]
    order = np.random.default_rng([SEED, 0]).permutation(30)
    assert [p for split in prompts(found) for p in split] == [f"{i} + 1 =" for i in order]


@pytest.mark.parametrize(
    "options", [setup.Setup(seed=SEED, limit=4), setup.SeveralTasks(seed=SEED, limit=4, tasks=("story",))], ids=["one", "several"]
)
def test_a_script_records_its_seed_and_loads_its_tasks_with_it(options, monkeypatch):
    monkeypatch.setattr(setup.Setup, "load_model", lambda *args, **how: None)
    tasks = [options.load()[1]] if type(options) is setup.Setup else list(options.load_all()[1].values())
    assert options.recorded()["seed"] == SEED
    assert [task.about["seed"] for task in tasks] == [SEED] * len(tasks)


def test_a_grid_cell_loads_its_task_with_its_seed():
    cell = grid.GridJob("tiny-arithmetic", "arithmetic", seed=SEED, train=3, validation=3, test=3)
    assert cell.load_task().about["seed"] == SEED
    assert grid.described(cell)["seed"] == SEED


LEARNED = {
    "learn_vector": lambda model, **how: sl.learn_vector(model, TASK.train, layer=1, **QUICK, **how),
    "learn_vectors": lambda model, seed: sl.learn_vectors(model, TASK.train, layers=[1], seeds=[seed], epochs=1, lrs=0.05, init="random")[
        0
    ],
    "learn_multilayer": lambda model, **how: sl.learn_multilayer(model, TASK.train, layers=[1], **QUICK, **how).directions[0],
    "learn_context_vector": lambda model, **how: sl.learn_context_vector(model, TASK.train, layer=1, kind="mlp", epochs=1, **how),
}


@pytest.mark.parametrize("name", LEARNED)
def test_a_learned_vector_records_the_seed_that_decides_it(name, model):
    mine, again, other = (LEARNED[name](model, seed=seed) for seed in (SEED, SEED, 8))
    assert (mine.method["seed"], other.method["seed"]) == (SEED, 8)
    mine, again, other = (
        (one.history["loss"].tolist() for one in (mine, again, other))
        if name == "learn_context_vector"
        else (one.vector.tolist() for one in (mine, again, other))
    )
    assert mine == again != other


def test_a_refined_vector_records_its_seed(model):
    found = sl.self_refine(model, TASK.train, layer=1, validation=TASK.validation, rounds=1, epochs=1, seed=SEED)
    assert found.vector.method["seed"] == SEED


def test_the_tables_of_candidates_name_their_seeds(model):
    found = sl.learn_vectors(model, TASK.train, layers=[0, 1], seeds=[SEED, 9], epochs=1, lrs=0.05)
    assert found.frame["seed"].tolist() == [vector.method["seed"] for vector in found] == [SEED, 9, SEED, 9]
    chosen = sl.adaptive_aft(model, TASK.train, validation=TASK.validation, layers=[1], seeds=[SEED, 9], epochs=1, extend=0)
    assert set(chosen.frame["seed"]) == {SEED, 9}


def test_a_calibration_records_the_seed_that_decides_it():
    made = [Scenario("a", "x", lambda rng: rng.random() <= np.array([0.01, 0.05]))]
    mine, again, other = (calibrate(made, simulations=100, seed=seed) for seed in (SEED, SEED, 8))
    assert (mine.seed, other.seed) == (SEED, 8)
    assert mine.frame["rate"].tolist() == again.frame["rate"].tolist() != other.frame["rate"].tolist()


# Streams


FAMILIES = ("orthogonal", "covariance_matched", "shuffled_labels", "equal_kl")


@pytest.fixture(scope="module")
def experiment(model):
    task = sl.load_task("arithmetic", n_train=40, n_validation=10, n_test=8, seed=SEED)
    seen, original = [], np.random.default_rng
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(np.random, "default_rng", lambda seed=None: (seen.append(tuple(np.atleast_1d(seed).tolist())), original(seed))[1])
        found = sl.run_experiment(
            model, task, seed=SEED, layers=[1], alphas=(-2.0, 0.0, 1.0), n_controls=3, n_same_cell=3, families=FAMILIES
        )
        Questions(chosen(found, 1, 1.0)).frame  # noqa: B018 - draws the chance of its answers
    return found, seen


def test_an_experiment_records_its_seed(experiment):
    assert experiment[0].settings["seed"] == SEED


def test_no_two_uses_of_chance_in_an_experiment_share_a_stream(experiment):
    """Balancing, separability, diagnostics, two kinds of pipelines, random directions at each cell, four families and the questions: each seeds its own generator."""
    mine = [seed for seed in experiment[1] if seed[0] == SEED]
    controls = [seed for seed in mine if seed[1] != 3]
    assert len(set(controls)) == len(controls) == 1 + 1 + 1 + 2 + len(experiment[0].controls) + len(FAMILIES)
    questions = {seed for seed in mine if seed[1] == 3}
    assert len(questions) == 3
    assert len({seed[1] for seed in mine}) == 6 + len(experiment[0].controls)


def test_controls_of_two_families_are_not_one_draw_in_two_guises(experiment):
    """One stream would give cosines near 1: an orthogonal direction is an isotropic one without its part along the direction."""
    found = experiment[0]
    parts = [control.controls for control in (*found.controls, *found.families)]
    assert len(parts) == len(found.controls) + 4
    units = [torch.stack([one.vector / one.vector.norm() for one in part]) for part in parts]
    for i in range(len(units)):
        for j in range(i):
            assert float((units[i] @ units[j].T).abs().max()) < 0.8, (i, j)


def test_folds_and_halves_of_a_contrast_draw_from_streams_of_their_own(seeds):
    rng = np.random.default_rng(SEED)
    groups = [sl.as_activations(rng.normal(size=(6, 4)), layer=1, ids=[f"{side}{i}" for i in range(6)]) for side in "ab"]
    seeds.clear()
    sl.contrast_diagnostics(*groups, rng=rng, folds=2, splits=4)
    assert len(seeds) == len(set(seeds)) == 2
    assert len({seed[0] for seed in seeds}) == 1


def test_controls_of_two_ways_to_match_and_of_two_layers_draw_from_streams_of_their_own(model, seeds):
    texts = [p.prompt for p in TASK.validation[:2]]
    vectors = [sl.Direction(torch.randn(32, generator=torch.Generator().manual_seed(k)), k, name=f"v{k}") for k in range(2)]
    made = [MethodVectors(f"m{k}", {k: (vector,)}, "made up") for k, vector in enumerate(vectors)]
    chosen = pd.DataFrame({"method": ["m0", "m1"], "layer": [0, 1], "sign": [1, 1], "level": [2.0, 2.0]})
    for k in range(2):
        score_selected(Setting(model, texts), TASK.test[:2], made, chosen, [2.0], "norm", n_controls=2, seed=[SEED, 1, k])
    mine = [seed for seed in seeds if seed[:2] == (SEED, 1)]
    assert len(mine) == len(set(mine)) == 4


def test_a_comparison_of_methods_records_its_seed_and_each_matching_has_its_stream(model, seeds):
    options = {"methods": ["mean_difference"], "layers": [1], "norms": [2.0], "matchings": ["norm", "own"], "n_controls": 2}
    task = sl.load_task("arithmetic", n_train=30, n_validation=4, n_test=4, seed=SEED)
    found = sl.compare_methods(model, task, seed=SEED, **options)
    assert found.settings["seed"] == SEED
    mine = [seed for seed in seeds if seed[0] == SEED and len(seed) > 2]
    assert len(mine) == len(set(mine)) == 2
