"""The multiverse: one specification by hand, the joint test under labels that mean nothing, what is kept and taken up again."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from results import speaks
from scipy.stats import norm

import steerlab as sl
from steerlab.directions.contrasts import balanced_activations
from steerlab.directions.random import separability
from steerlab.studies import multiverse as worlds
from steerlab.studies.multiverse import _relabelling

FEW = sl.specifications(estimators=["mean_difference"], layer_rules=["middle"], positions=["last"])


@pytest.fixture(scope="module")
def model(toy_model, backends):
    return toy_model(backends[0])


@pytest.fixture(scope="module")
def task():
    return sl.load_task("arithmetic", n_train=60, n_validation=1, n_test=40)


@pytest.fixture(scope="module")
def found(model, task):
    return sl.multiverse(model, task, seed=3, specs=sl.specifications(), n_permutations=3, layers=[0, 1, 2])


def labelled(model, task, layer: int):
    """Right and wrong train problems as they are balanced, and the share of the median activation that a dose of 0.5 is."""
    _, *sides = balanced_activations(
        model, sl.evaluate(model, task.train), rng=np.random.default_rng([3, worlds.BALANCE, 0]), layers=[0, 1, 2]
    )
    rows = torch.cat([one.at(layer)[:, 0] for one in sides]).norm(dim=1)
    return sides, float(np.median(rows.numpy()))


def line(found: sl.Multiverse, **choices: str) -> int:
    (number,) = found.frame[(found.frame[list(choices)] == pd.Series(choices)).all(axis=1)].index
    return int(number)


def studentised(sweep: sl.SweepResult, task: sl.Task) -> tuple[float, float]:
    """Change, and net / sqrt(sum of squares of the groups' sums), by hand."""
    after = sweep.frame.set_index("problem_id")["correct"]
    before, sums = sweep.baseline.frame.set_index("problem_id")["correct"], Counter()
    for problem in task.test:
        sums[problem.group or problem.id] += int(after[problem.id]) - int(before[problem.id])
    size = np.sqrt(sum(value**2 for value in sums.values()))
    return (after.mean() - before.mean()), sum(sums.values()) / size if size else 0.0


def test_one_specification_is_what_its_parts_give_one_by_one(model, task, found):
    """Oracle: the mean difference of the middle layer, subtracted in a plain sweep; then the same with a dose of half a median activation."""
    (right, wrong), median = labelled(model, task, 1)
    direction = sl.mean_difference(right, wrong, layer=1)
    for normalisation, alpha in (("contrast", -1.0), ("relative", -0.5 * median / direction.norm)):
        number = line(found, estimator="mean_difference", layer_rule="middle", positions="all", operator="add", normalisation=normalisation)
        row = found.frame.iloc[number]
        assert (row["layer"], row["alpha"]) == (1, pytest.approx(alpha))
        change, z = studentised(sl.sweep(model, task.test, direction, alphas=alpha), task)
        assert (row["change"], row["z"]) == (pytest.approx(change), pytest.approx(z))
        assert row["dose"] == pytest.approx(-alpha * direction.norm / median)
    ablated = found.frame.iloc[line(found, estimator="mean_difference", layer_rule="middle", positions="last", operator="ablate")]
    change, z = studentised(sl.sweep(model, task.test, direction, alphas=1.0, operator="ablate", positions="last"), task)
    assert (ablated["change"], ablated["z"], ablated["normalisation"]) == (pytest.approx(change), pytest.approx(z), "none")


def test_a_permutation_estimates_every_specification_again_at_its_own_layer(model, task, found):
    """Oracle: the labels of the second permutation, drawn anew; the separable layer and the direction by hand, scaled to the true contrast."""
    sides, _ = labelled(model, task, 1)
    both = sl.cache_activations(model, task.train, layers=[0, 1, 2])
    part = SimpleNamespace(
        right=sides[0].problem_ids, wrong=sides[1].problem_ids, groups={p.id: p.group or f"problem {p.id}" for p in task.train}
    )
    labels = _relabelling({"arithmetic": part})(np.random.default_rng([3, worlds.PERMUTE, 2]))["arithmetic"]
    assert sorted(labels[0] + labels[1]) == sorted(part.right + part.wrong)
    right, wrong = (both.select(ids) for ids in labels)
    worth = separability(right, wrong, [0, 1, 2], rng=np.random.default_rng([3, worlds.FOLDS, 2]))
    layer = max(worth, key=worth.get)
    number = line(found, estimator="mean_difference", layer_rule="separable", positions="last", operator="add", normalisation="contrast")
    drawn = found.draws.query(f"permutation == 2 and specification == {number}").iloc[0]
    vector = sl.mean_difference(right, wrong, layer=layer)
    true = sl.mean_difference(*(both.select(one.problem_ids) for one in sides), layer=layer)
    swept = sl.sweep(model, task.test, vector, alphas=-true.norm / vector.norm, positions="last")
    assert drawn["layer"] == layer
    assert (drawn["change"], drawn["z"]) == pytest.approx(studentised(swept, task))


def test_a_multiverse_speaks_and_its_page_has_what_it_found(found):
    speaks(found)
    assert len(found.frame) == 24
    assert found.choices == ("estimator", "layer_rule", "positions", "operator", "normalisation")
    assert set(found.report_parts()["tables"]) == {"specifications", "choices", "tests", "permutations"}
    assert any("3 permutations cannot give p at or below 0.05; use at least 19" in said for said in found.warnings())
    assert (found.frame["low"] <= found.frame["change"]).all()
    assert (found.frame["change"] <= found.frame["high"]).all()


def made(z: list[float], permuted: list[list[float]], goal: str = "lower") -> sl.Multiverse:
    frame = pd.DataFrame(
        {"template": "a", **dict.fromkeys(worlds.CHOICES, "same"), "change": np.array(z) / 100, "z": z, "layer": 1, "alpha": 1.0}
    )
    frame["estimator"] = [f"e{k}" for k in range(len(z))]
    lines = [(k, number, one / 100, one) for k, row in enumerate(permuted, 1) for number, one in enumerate(row)]
    return sl.Multiverse(frame, pd.DataFrame(lines, columns=["permutation", "specification", "change", "z"]), goal, "accuracy", ())


def test_joint_tests_are_counted_by_hand():
    """Medians -2 against -3, 1, -2 and 0: two of four are as low (a tie is one), p = 3/5; shares 2/3 against 3/3, 0, 2/3 and 1/3: p = 3/5."""
    found = made([-4, -2, 1], [[-3, -3, -1], [1, 2, 1], [-2, -5, 1], [0, 1, -1]])
    assert [found.test(one).pvalue for one in ("median", "share")] == [0.6, 0.6]
    assert (found.test().observed, found.test("share").observed) == (-2, pytest.approx(2 / 3))
    assert found.test("mean").pvalue == pytest.approx(3 / 5)  # -5/3 against -7/3, 4/3, -2 and 0
    raised = made([-4, -2, 1], [[-3, -3, -1], [1, 2, 1], [-2, -5, 1], [0, 1, -1]], "raise")
    assert raised.test().pvalue == pytest.approx(4 / 5)
    assert "No evidence that the labels matter over all 3 specifications taken together." in str(found)
    assert "2 of 3 specifications lower it" in str(found)


def test_what_would_have_been_significant_is_what_gives_a_p_of_the_level():
    rng = np.random.default_rng(0)
    permuted = rng.normal(size=(59, 1)).tolist()
    needed = made([0.0], permuted).needed()
    assert made([needed - 1e-6], permuted).test().pvalue == pytest.approx(3 / 60)
    assert made([needed], permuted).test().pvalue == pytest.approx(4 / 60)
    assert "The labels matter over all 1" in str(made([needed - 1e-6], permuted))
    assert made([0.0], permuted[:18]).needed() == -np.inf


class Simulated:
    """A model's place: activations that are noise, labels that mean nothing (or do), and answers that a direction changes by its part along a readout."""

    def __init__(self, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, effect: float = 0.0):
        self.readout, self.start = rng.normal(size=6), rng.normal(size=60)
        ids = [f"train {k}" for k in range(24)]
        values = rng.normal(size=(24, 2, 1, 6)) * np.array([4, 2, 1, 1, 1, 1])
        values[:12] -= effect * self.readout
        acts = sl.Activations(
            torch.tensor(values, dtype=torch.float32), torch.ones(24, 1, dtype=torch.bool), tuple(ids), (0, 1), "resid_post", "last", {}
        )
        for name, made in {
            "evaluate": lambda *_, **__: None,
            "balanced_activations": lambda *_, **__: (acts, acts.select(ids[:12]), acts.select(ids[12:])),
            "score_vectors": self.score,
            "describe": lambda _: {},
        }.items():
            monkeypatch.setattr(worlds, name, made)
        problem = [sl.Problem(one, f"{one} =", " A", (" A", " B")) for one in [*ids, *(f"test {k}" for k in range(60))]]
        self.task = sl.Task("made up", problem[:24], [], problem[24:], "choice")

    def score(self, _, problems, cells, **__):
        frames = [pd.DataFrame({"correct": self.start + 0.3 * alpha * float(d.vector.numpy() @ self.readout) > 0}) for d, alpha in cells]
        checks = pd.DataFrame({"layer": [], "direction": [], "alpha": []})
        return SimpleNamespace(frames=frames, checks=checks, baseline=SimpleNamespace(frame=pd.DataFrame({"correct": self.start > 0})))


def p_and_z(seed: int, model, monkeypatch: pytest.MonkeyPatch, **how) -> tuple[float, float]:
    made_up = Simulated(np.random.default_rng([99, seed]), monkeypatch, **how)
    specs = sl.specifications(layer_rules=["separable", "early"], positions=["all"], operators=["add"], normalisations=["relative"])
    found = sl.multiverse(model, made_up.task, seed=seed, specs=specs, n_permutations=9, layers=[0, 1])
    return found.test().pvalue, found.frame["z"].sum() / np.sqrt(len(found.frame))


@pytest.mark.slow
def test_under_labels_that_mean_nothing_p_is_no_smaller_than_it_says(model, monkeypatch):
    """Specifications share their labels, so that Stouffer's z, which takes them as independent, rejects far too often; the joint test does not."""
    ps, zs = np.array([p_and_z(seed, model, monkeypatch) for seed in range(200)]).T
    assert (ps <= 0.1).mean() <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 200)
    assert (ps <= 0.5).mean() == pytest.approx(0.5, abs=3 * np.sqrt(0.25 / 200))
    assert (zs <= norm.ppf(0.05)).mean() > 0.2


def test_labels_that_matter_are_found(model, monkeypatch):
    ps = [p_and_z(seed, model, monkeypatch, effect=-1.0)[0] for seed in range(10)]
    assert np.mean(np.array(ps) <= 0.1) >= 0.8  # where labels mean nothing: 0.1


def part(labels: str, groups: str) -> SimpleNamespace:
    ids = [f"{group}{k}" for k, group in enumerate(groups)]
    right, wrong = ([one for one, label in zip(ids, labels, strict=True) if label == side] for side in "rw")
    return SimpleNamespace(right=tuple(right), wrong=tuple(wrong), groups={one: one[0] for one in ids})


def test_templates_of_the_same_problems_are_permuted_together_and_all_permutations_come_alike():
    """By enumeration: four problems, two of them right in both templates, have six labellings."""
    draw, rng = _relabelling({"one": part("rrww", "abcd"), "two": part("wwrr", "cdab")}), np.random.default_rng(0)
    seen = Counter()
    for _ in range(1200):
        labels = draw(rng)
        first, second = ("".join(sorted(one[0] for one in labels[name][0])) for name in ("one", "two"))
        assert first == second
        seen[first] += 1
    assert len(seen) == 6
    assert max(abs(count - 200) for count in seen.values()) < 4 * np.sqrt(200 * 5 / 6)


def test_templates_of_other_problems_are_permuted_each_by_itself_with_as_many_of_each_side():
    draw, rng = _relabelling({"one": part("rrw", "abc"), "two": part("rwww", "defg")}), np.random.default_rng(0)
    pairs = Counter()
    for _ in range(300):
        labels = draw(rng)
        assert [len(side) for name in ("one", "two") for side in labels[name]] == [2, 1, 1, 3]
        pairs[labels["one"][1][0], labels["two"][0][0]] += 1
    assert len(pairs) == 12


def test_several_templates_stand_side_by_side(model):
    tasks = {name: sl.load_task("arithmetic", variant=name, n_train=40, n_validation=1, n_test=12) for name in ("story", "largest")}
    found = sl.multiverse(model, tasks, seed=0, specs=FEW[:1], n_permutations=2, layers=[1], measure="margin")
    assert found.frame["template"].tolist() == ["story", "largest"]
    assert found.choices == ("template",)
    for name, row in zip(tasks, found.frame.to_dict("records"), strict=True):
        assert row["baseline"] == pytest.approx(sl.evaluate(model, tasks[name].test).frame["margin"].mean())
    with pytest.raises(sl.InputError, match="is trained on in 'one' and tested in 'two'"):
        sl.multiverse(model, {"one": tasks["story"], "two": sl.Task("x", tasks["story"].test, [], tasks["story"].train, "choice")}, seed=0)


def run(model, task, folder=None, **how):
    return sl.multiverse(model, task, **{"seed": 0, "specs": FEW, "n_permutations": 21, "layers": [1], "folder": folder} | how)


def test_an_interrupted_multiverse_goes_on_and_comes_to_the_same(model, task, tmp_path, monkeypatch):
    whole = run(model, task)
    score, calls = worlds.score_vectors, []

    def stopped(*given, **options):
        calls.append(len(given[2]))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return score(*given, **options)

    monkeypatch.setattr(worlds, "score_vectors", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(model, task, tmp_path / "kept")
    assert sorted(file.name for file in (tmp_path / "kept" / "permutations").iterdir()) == ["00000-00000.json", "00001-00010.json"]
    found = run(model, task, tmp_path / "kept")
    pd.testing.assert_frame_equal(found.frame, whole.frame)
    pd.testing.assert_frame_equal(found.draws, whole.draws)
    assert found.remarks == whole.remarks
    done = len(calls)
    run(model, task, tmp_path / "kept")
    assert len(calls) == done


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"seed": 1}, "seed was 0 and is 1 now"),
        ({"n_permutations": 3}, "n_permutations was 2 and is 3 now"),
        ({"goal": "raise"}, "goal was 'lower' and is 'raise' now"),
        ({"dose": 0.25}, "dose was 0.5"),
        ({"specs": FEW[1:]}, "specifications differ"),
        ({"layers": [0, 1]}, "layers differ"),
    ],
)
def test_a_folder_of_other_settings_is_refused(model, task, tmp_path, how, said):
    run(model, task, tmp_path / "kept", n_permutations=2)
    with pytest.raises(sl.InputError, match=f"is of another multiverse: {said}"):
        run(model, task, tmp_path / "kept", **{"n_permutations": 2} | how)


def test_a_folder_of_other_problems_or_of_something_else_or_damaged_is_refused(model, task, tmp_path):
    run(model, task, tmp_path / "kept", n_permutations=2)
    with pytest.raises(sl.InputError, match="templates differ"):
        run(model, sl.Task(task.name, task.train, [], task.test[1:], "choice"), tmp_path / "kept", n_permutations=2)
    file = tmp_path / "kept" / "permutations" / "00001-00002.json"
    kept = json.loads(file.read_text())
    kept["lines"][0]["z"] += 1
    file.write_text(json.dumps(kept))
    with pytest.raises(sl.InputError, match="does not match its own sha256"):
        run(model, task, tmp_path / "kept", n_permutations=2)
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a multiverse of ours"):
        run(model, task, tmp_path / "diary")


def test_a_specification_knows_its_choices():
    assert len(sl.specifications(operators=["ablate"])) == 8
    assert sl.Specification(operator="ablate") == sl.Specification(operator="ablate", normalisation="relative")
    with pytest.raises(sl.InputError, match="layer_rule='best'; use one of separable, early, middle, late"):
        sl.specifications(layer_rules=["best"])
    with pytest.raises(sl.InputError, match="under add length matters"):
        sl.Specification(normalisation="none")
    with pytest.raises(sl.InputError, match="operator: none given"):
        sl.specifications(operators=[])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"goal": "up"}, "goal="),
        ({"measure": "luck"}, "measure="),
        ({"dose": 0}, "dose=0"),
        ({"n_permutations": 0}, "n_permutations"),
        ({"specs": []}, "specs"),
    ],
)
def test_bad_input_is_told_before_anything_runs(model, task, how, said):
    with pytest.raises(sl.InputError, match=said):
        run(model, task, **how)
