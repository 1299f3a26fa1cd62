"""Grids of models and datasets: counted by hand, resumed cell by cell, failures kept."""

import json
import pickle

import numpy as np
import pytest
from results import speaks
from scipy.stats import norm
from statsmodels.stats.meta_analysis import combine_effects

import steerlab as sl
from steerlab.statistics.multiplicity import benjamini_hochberg, holm
from steerlab.statistics.paired import sign_test
from steerlab.studies import grid
from steerlab.studies.grid import check_grid_folder


def record(right: int, wrong: int, n: int = 100, **more) -> dict:
    before = np.array([False] * right + [True] * wrong + [True] * (n - right - wrong))
    after = np.array([True] * right + [False] * wrong + [True] * (n - right - wrong))
    test = sign_test(before, after)
    low, high = test.interval()
    said = {"baseline": float(before.mean()), "steered": float(after.mean()), "improvement": test.change, "low": low, "high": high}
    said |= {"n": n, "p": test.pvalue, "became_right": right, "became_wrong": wrong, "validation_improvement": 0.1, "controls": 39}
    return said | {"p_controls": 0.025, "warnings": [], "weights": "abc", "source": "made up", "layer": 1} | more


@pytest.fixture
def cells():
    return sl.model_task_grid(models=["one", "two"], datasets=["arithmetic:bare", "blimp=some/where/agreement.jsonl"])


@pytest.fixture
def found(cells):
    return sl.Universality(tuple(cells), (record(30, 2), record(5, 4), record(3, 3), {"error": "OSError: no such model"}))


def test_cells_are_counted_by_estimate_by_interval_and_after_correction(found):
    counts = found.summary().set_index("judged by")
    assert counts.loc["point estimate"].tolist() == [2, 1, 0]
    assert counts.loc["95% interval"].tolist() == [1, 2, 0]
    assert counts.loc["sign test after Holm"].tolist() == [1, 2, 0]
    done = found.frame.dropna(subset="p")
    np.testing.assert_allclose(done["p_holm"].astype(float), holm(done["p"].astype(float)))
    np.testing.assert_allclose(done["p_bh"].astype(float), benjamini_hochberg(done["p"].astype(float)))


def test_the_sources_own_count_is_no_evidence_by_the_sign_test():
    """14 positive, 5 negative and 2 neutral of 21: 2 P(Bin(19, 1/2) >= 14) = 0.0636, by hand."""
    lines = [record(2, 0)] * 14 + [record(0, 2)] * 5 + [record(1, 1)] * 2
    cells = sl.model_task_grid(models=[f"m{i}" for i in range(7)], datasets=["arithmetic", "gsm8k", "svamp"])
    found = sl.Universality(tuple(cells), tuple(lines))
    assert found.sign_p() == pytest.approx(0.0636, abs=1e-4)
    assert found.summary_json()["positive_results"] == {"count": 14, "percentage": pytest.approx(66.67, abs=0.01)}


def test_the_summary_has_the_sources_shape_and_what_they_leave_out(found):
    summary = json.loads(json.dumps(found.summary_json(), allow_nan=False))
    assert set(summary["results"]["one"]["arithmetic:bare"]) == {"baseline", "steered", "improvement"}
    assert summary["results"]["two"]["blimp=agreement.jsonl"] == {"error": "OSError: no such model"}
    assert (summary["models_tested"], summary["datasets"], summary["total_experiments"], summary["failed"]) == (2, 2, 4, 1)
    assert summary["best_single_result"]["improvement"] == pytest.approx(0.28)
    assert summary["most_consistent_model"] == "one"
    assert summary["uncertainty"]["by_interval"] == {"positive": 1, "neutral": 2, "negative": 0}


def test_after_correction_a_cell_counts_by_holm_and_not_by_false_discoveries(cells):
    """8 right and 1 wrong: p = 2 * 10 / 2^9 = 0.039 in both cells; Holm's 0.078, Benjamini and Hochberg's 0.039."""
    found = sl.Universality(tuple(cells[:2]), (record(8, 1), record(8, 1)))
    assert found.frame["p_bh"].tolist() == pytest.approx([20 / 512] * 2)
    assert found.summary().set_index("judged by").loc["sign test after Holm"].tolist() == [0, 2, 0]


def test_the_most_consistent_model_is_the_one_whose_least_improvement_is_highest(cells):
    found = sl.Universality(tuple(cells), (record(30, 2), record(0, 1), record(3, 1), record(2, 0)))
    summary = found.summary_json()
    assert summary["most_consistent_model"] == "two"
    assert summary["average_improvement"] == {"one": pytest.approx(0.135), "two": pytest.approx(0.02)}


def test_percentages_are_of_finished_cells_and_the_least_p_is_of_the_fewest_controls(cells):
    found = sl.Universality(tuple(cells), (record(30, 2), record(5, 4, controls=9), record(3, 3), {"error": "x"}))
    assert found.summary_json()["positive_results"] == {"count": 2, "percentage": pytest.approx(200 / 3)}
    assert "In 3 of 3 cells the learned vector's effect differs from those of random vectors" in str(found)
    assert "p cannot fall below 0.1)" in str(found)
    assert found.effects()["change"].tolist() == pytest.approx([0.28, 0.01, 0.0])


def test_improvements_are_pooled_over_cells_and_by_model(found):
    """Oracle: statsmodels' random-effects mean of the cells (Paule-Mandel), and the models' means as two effects."""
    done = found.frame.dropna(subset="p")
    change, error = done["improvement"].to_numpy(float), (done["high"] - done["low"]).to_numpy(float) / 2 / norm.isf(0.025)
    want, pooled = combine_effects(change, error**2, method_re="iterated"), found.pooled()
    assert (pooled.mean, pooled.n) == (pytest.approx(want.mean_effect_re, rel=1e-4), 3)
    assert f"Pooled over 3 cells, the improvement is {100 * pooled.mean:+.1f} points" in str(found)
    models = found.pooled("model")
    assert models.labels == ("one", "two")
    first = combine_effects(change[:2], error[:2] ** 2, method_re="iterated")
    assert models.estimates == pytest.approx((first.mean_effect_re, change[2]), rel=1e-4)
    assert models.errors == pytest.approx((first.sd_eff_w_re_hksj, error[2]), rel=1e-4)
    assert set(found.report_parts()["tables"]) == {"cells", "counts", "pooled_cells", "pooled_models", "pooled_datasets"}
    assert found.summary_json()["uncertainty"]["pooled"]["models"]["mean"] == models.mean
    assert sl.Universality(found.cells[:1], found.records[:1]).pooled() is None
    with pytest.raises(sl.InputError, match="by="):
        found.pooled("seed")


def test_words_name_failures_and_the_largest_cell(found):
    assert "Of 3 finished cells (1 failed)" in str(found)
    assert "one on arithmetic:bare: +28.0 points" in str(found)
    assert found.warnings() == ["two on blimp=agreement.jsonl failed: OSError: no such model"]
    assert found.effects()["name"].tolist()[0] == "one, arithmetic:bare"
    speaks(found)
    assert "2 positive" in repr(found)


def test_a_grid_in_which_all_failed_says_so(cells):
    found = sl.Universality(tuple(cells), ({"error": "x"},) * 4)
    assert "All 4 cells failed" in str(found)
    assert found.sign_p() == 1.0
    assert found.summary_json()["best_single_result"] is None
    assert found.effects().empty


def test_a_cell_is_a_small_description_that_can_be_sent_anywhere(cells):
    assert pickle.loads(pickle.dumps(cells[1])) == cells[1]  # noqa: S301 - our own bytes
    assert len(pickle.dumps(cells[1])) < 1000
    assert cells[1].key == ("one", "blimp=agreement.jsonl")


@pytest.fixture
def counted(monkeypatch):
    """A runner that notes what it ran, and a loader that loads nothing."""
    loaded, ran = [], []
    monkeypatch.setattr(grid, "load_model", lambda name, **_: loaded.append(name) or name)

    def runner(cell, model):
        assert model == cell.model
        ran.append(cell.key)
        if cell.key[1].startswith("blimp") and model == "two" and ran.count(cell.key) == 1:
            raise RuntimeError("out of\nmemory")
        return record(3, 1)

    return runner, ran, loaded


def test_finished_cells_are_kept_and_failed_ones_tried_again(cells, counted, tmp_path):
    runner, ran, loaded = counted
    first = sl.run_grid(cells, tmp_path / "grid", runner=runner)
    assert first.records[3] == {"error": "RuntimeError: out of memory"}
    assert "error" not in first.records[2]
    assert loaded == ["one", "two"]
    assert len(ran) == 4
    again = sl.run_grid(cells, tmp_path / "grid", runner=runner)
    assert ran[4:] == [cells[3].key]
    assert again.records[:3] == first.records[:3]
    assert "error" not in again.records[3]


def test_an_interrupted_grid_goes_on_where_it_was(cells, counted, tmp_path):
    runner, ran, _ = counted

    def stopped(cell, model):
        if len(ran) == 2:
            raise KeyboardInterrupt
        return runner(cell, model)

    with pytest.raises(KeyboardInterrupt):
        sl.run_grid(cells, tmp_path / "grid", runner=stopped)
    assert len(list((tmp_path / "grid" / "cells").iterdir())) == 2
    sl.run_grid(cells, tmp_path / "grid", runner=runner)
    assert ran == [cell.key for cell in cells]


def test_other_data_under_the_same_name_is_another_grid(counted, tmp_path):
    for folder, text in (("one", "a"), ("two", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "f.jsonl").write_text(text)
    first, other = (sl.model_task_grid(models=["one"], datasets=[f"blimp={tmp_path / folder / 'f.jsonl'}"]) for folder in ("one", "two"))
    assert first[0].key == other[0].key
    sl.run_grid(first, tmp_path / "grid", runner=counted[0])
    with pytest.raises(ValueError, match="data_files was"):
        sl.run_grid(other, tmp_path / "grid", runner=counted[0])


def test_a_finished_cell_that_was_changed_is_refused(cells, counted, tmp_path):
    sl.run_grid(cells, tmp_path / "grid", runner=counted[0])
    for file in (sorted((tmp_path / "grid" / "cells").iterdir())[0], tmp_path / "grid" / "grid.json"):
        before = file.read_text()
        file.write_text(before.replace("1", "2", 1))
        with pytest.raises(sl.InputError, match=rf"{file.name}: does not match its own sha256|{file.name}: format"):
            sl.run_grid(cells, tmp_path / "grid", runner=counted[0])
        file.write_text(before)


def test_another_grid_in_the_folder_is_refused(cells, counted, tmp_path):
    sl.run_grid(cells, tmp_path / "grid", runner=counted[0])
    with pytest.raises(ValueError, match="epochs was 3 and is 4 now"):
        check_grid_folder(tmp_path / "grid", sl.model_task_grid(models=["one", "two"], datasets=[c.dataset for c in cells[:2]], epochs=4))
    with pytest.raises(ValueError, match="it had 4 cells, and 2 are asked for"):
        check_grid_folder(tmp_path / "grid", cells[:2])
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a grid of ours"):
        check_grid_folder(tmp_path / "diary", cells)


@pytest.mark.parametrize("dataset", ["", "=file", "blimp=", "arithmetic:"])
def test_a_dataset_that_names_nothing_is_refused(dataset):
    with pytest.raises(ValueError, match="use TASK, TASK:VARIANT or TASK=PATH"):
        sl.model_task_grid(datasets=[dataset])


def test_cells_that_tables_cannot_tell_apart_are_refused():
    with pytest.raises(ValueError, match=r"one on blimp=a\.jsonl occurs twice"):
        sl.model_task_grid(models=["one"], datasets=["blimp=x/a.jsonl", "blimp=y/a.jsonl"])


def test_a_cell_gives_what_its_vector_does_on_test(toy_model, backends):
    """Oracle: the same learning and a plain sweep, called one by one."""
    model = toy_model(backends[0])
    cell = sl.GridJob("toy", "arithmetic:bare", train=12, validation=8, test=20, layers=(1, 2), epochs=2, controls=4)
    found = sl.run_job(cell, model)
    task = cell.load_task()
    vector = sl.adaptive_aft(
        model, task.train, validation=task.validation, layers=[1, 2], seeds=[0], epochs=2, extend=0, lrs=0.01, batch_size=4
    ).vector
    swept = sl.sweep(model, task.test, vector, alphas=1.0)
    assert (found["layer"], found["norm"]) == (vector.layer, pytest.approx(vector.norm))
    assert found["baseline"] == pytest.approx(swept.baseline.accuracy)
    assert found["steered"] == pytest.approx(swept.frame["correct"].mean())
    assert found["p_controls"] in {k / 5 for k in range(1, 6)}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_is_too_long_for_a_model_is_left_out_or_cut_where_that_is_asked_for(toy_model, tmp_path):
    """The settings of a folder that was kept before there was a choice are those without one."""
    file = tmp_path / "mine.jsonl"
    asked = [
        {"id": str(k), "prompt": f"{k} + 1 = " * (99 if k % 4 == 0 else 1), "target": k % 2, "choices": [" A", " B"]} for k in range(80)
    ]
    file.write_text("\n".join(map(json.dumps, asked)))
    options = {"train": 16, "validation": 8, "test": 8, "layers": (1,), "epochs": 1, "controls": 0}
    model = toy_model("bridge")

    def ran(**more):
        (cell,) = sl.model_task_grid(models=["toy"], datasets=[f"jsonl={file}"], **options, **more)
        return cell, grid.run_job(cell, model)

    with pytest.raises(ValueError, match="context"):
        ran()
    cell, dropped = ran(too_long="drop")
    _, cut = ran(too_long="truncate")
    assert dropped["n"] < cut["n"] == 8
    assert any("left out" in warning for warning in dropped["warnings"])
    assert any("cut from the left" in warning for warning in cut["warnings"])
    assert grid.described(cell)["too_long"] == "drop"
    (plain,) = sl.model_task_grid(models=["toy"], datasets=[f"jsonl={file}"])
    assert "too_long" not in grid.described(plain)
