"""Methods compared: equal norms and KLs, equally many comparisons, and tables that follow from plain runs."""

import numpy as np
import pandas as pd
import pytest
import torch
from results import speaks

import steerlab as sl
from steerlab.models.encoding import token_ids
from steerlab.statistics.controls import rank_test
from steerlab.statistics.multiplicity import holm
from steerlab.statistics.paired import sign_test
from steerlab.studies.method_trials import Setting, cell_of, choose
from steerlab.studies.method_vectors import Wording, contrast_pairs, method_vectors, spread_layers, wordings

METHODS = ["mean_difference", "function_vector", "aft", "multilayer_aft", "prompt"]


@pytest.fixture(scope="module")
def toy(toy_model, backends):
    return toy_model(backends[0])


@pytest.fixture(scope="module")
def task():
    return sl.load_task("arithmetic", n_train=40, n_validation=20, n_test=30)


@pytest.fixture(scope="module")
def found(toy, task):
    options = {"layers": [1, 2], "norms": [1.0, 4.0], "kls": [0.001, 0.01], "n_controls": 5, "epochs": 1}
    return sl.compare_methods(toy, task, seed=0, methods=METHODS, **options)


def plain_kl(model, texts, directions):
    """Oracle: the whole model on each text alone, steered by hooks."""
    total, n = 0.0, 0
    for text in texts:
        tokens = torch.tensor([token_ids(model, text)])
        with torch.no_grad():
            before = model(tokens)[0].double().log_softmax(-1)
            with sl.steer(model, directions, alpha=1.0):
                after = model(tokens)[0].double().log_softmax(-1)
        total, n = total + float((before.exp() * (before - after)).sum()), n + tokens.shape[1]
    return total / n


@pytest.mark.parametrize("sites", [("resid_post", "resid_post"), ("resid_post", "resid_pre"), ("resid_mid", "resid_post")])
def test_the_kl_of_several_places_together_is_that_of_a_plain_hooked_run(toy_model, backend, task, sites):
    model, texts = toy_model(backend), [p.prompt for p in task.validation[:3]]
    g = torch.Generator().manual_seed(0)
    first, second = (sl.Direction(torch.randn(32, generator=g), layer, site) for layer, site in zip((0, 1), sites, strict=True))
    more = [cell_of([first, second], 1.0), cell_of([first], 1.0), cell_of([second, first], 1.0)]
    kl = Setting(model, texts).kl(more)
    assert kl[0] == pytest.approx(plain_kl(model, texts, [first, second]), rel=1e-3)
    assert kl[1] == pytest.approx(plain_kl(model, texts, [first]), rel=1e-3)
    assert kl[2] == pytest.approx(kl[0], rel=1e-5)


def test_every_method_that_adds_a_vector_is_compared_equally_often_and_only_on_validation(found):
    compared = found.validation_grid[found.validation_grid["matching"] != "none"]
    assert compared.groupby(["matching", "method"]).size().eq(2 * 2 * 2).all()
    assert found.frame.set_index("method").loc["AFT", "comparisons"].tolist() == [8, 8]
    n = found.settings["n_validation"]
    assert np.allclose(compared["accuracy"] * n, (compared["accuracy"] * n).round())


def test_within_a_matching_all_methods_are_at_one_level(found, toy, task):
    table = found.frame[found.frame["controls"] > 0].set_index(["matching", "method"])
    assert table.loc["norm", "norm"].nunique() == 1
    kl = table.loc["kl", "kl"]
    assert kl.max() / kl.min() < 1.041
    texts, _ = sl.side_texts(toy, task.validation, n=12)
    for method in ("mean difference", "multi-layer AFT"):
        for matching in ("norm", "kl"):
            added = [d for name, d in found.vectors.items() if name.startswith(f"{matching}-{method}-".replace(" ", "-"))]
            row = table.loc[(matching, method)]
            assert "+".join(str(d.layer) for d in added) == row["layers"]
            assert np.sqrt(sum(d.norm**2 for d in added)) == pytest.approx(row["norm"], rel=1e-5)
            assert plain_kl(toy, texts, added) == pytest.approx(row["kl"], rel=1e-2)


def test_controls_have_the_same_norm_or_the_same_kl(found):
    level = found.frame[found.frame["controls"] > 0].groupby("matching")[["norm", "kl"]].median()
    controls = found.controls[found.controls["reached"]]
    norms = controls.loc[controls["matching"] == "norm", "norm"]
    assert np.allclose(norms, level.loc["norm", "norm"])
    kls = controls.loc[controls["matching"] == "kl", "kl"]
    assert kls.between(0.96 * level.loc["kl", "kl"], 1.04 * level.loc["kl", "kl"]).all()
    assert found.controls.groupby(["matching", "method"]).size().eq(5).all()


def test_outcomes_are_those_of_a_sweep_with_the_vectors_that_were_kept(found, toy, task):
    for matching, method in (("norm", "AFT"), ("kl", "multi-layer AFT")):
        added = [d for name, d in found.vectors.items() if name.startswith(f"{matching}-{method}-".replace(" ", "-"))]
        swept = sl.sweep(toy, task.test, added, alphas=1.0, together=True).frame
        mine = found.outcomes.query("matching == @matching and method == @method")
        assert mine["problem_id"].tolist() == swept["problem_id"].tolist()
        assert mine["correct"].tolist() == swept["correct"].tolist()
        np.testing.assert_allclose(mine["margin"], swept["margin"], atol=1e-4)


def test_the_tables_follow_from_outcomes(found):
    before = found.baseline.frame["correct"].to_numpy(bool)
    table = found.frame
    right = found.outcomes.set_index(["matching", "method"])["correct"].astype(bool)
    for row in table[table["method"] != "baseline"].to_dict("records"):
        test = sign_test(before, right.loc[(row["matching"], row["method"])].to_numpy())
        assert (row["change"], row["p"]) == (test.change, test.pvalue)
        assert (row["low"], row["high"]) == tuple(test.interval())[:2]
        if row["controls"]:
            mine = found.controls.query("matching == @row['matching'] and method == @row['method']")["accuracy"]
            assert row["p_controls"] == rank_test(test.change, mine.to_numpy() - before.mean()).pvalue
    known = table["p"].notna()
    np.testing.assert_allclose(table.loc[known, "p_holm"], holm(table.loc[known, "p"]))
    pairs = found.pairs
    assert len(pairs) == 2 * 10
    one = pairs.query("matching == 'kl' and method == 'AFT' and other == 'multi-layer AFT'").iloc[0]
    test = sign_test(right.loc[("kl", "multi-layer AFT")].to_numpy(), right.loc[("kl", "AFT")].to_numpy())
    assert (one["difference"], one["p"]) == (test.change, test.pvalue)
    np.testing.assert_allclose(pairs["p_holm"], holm(pairs["p"]))


def test_words_say_what_the_tables_say(found):
    assert f"{100 * found.baseline.accuracy:.1f}% of 30 test problems" in str(found)
    assert f"Of {len(found.pairs)} differences" in str(found)
    said = " ".join(found.warnings())
    assert "the corrected p of a rank test cannot fall below 0.67; use at least 79 controls" in said
    assert "cannot read" in said
    assert "8 (at equal norm) and 8 (at equal KL) times" in found.method()[1]
    speaks(found)
    assert len(found.effects()) == len(found.frame) - 1


def test_the_same_seed_gives_the_same_table(found, toy, task):
    options = {"layers": [1, 2], "norms": [1.0, 4.0], "n_controls": 5, "epochs": 1, "matchings": ["norm"]}
    again = sl.compare_methods(toy, task, seed=0, methods=METHODS[:2], **options)
    first = found.frame.query("matching == 'norm' and method in ('mean difference', 'function vector')")
    # Another set of methods may agree on another level; the comparisons themselves are the same.
    columns = ["method", "layer", "sign", "level", "alpha", "accuracy"]
    mine = found.validation_grid.query("matching == 'norm' and method in ('mean difference', 'function vector')")[columns]
    pd.testing.assert_frame_equal(again.validation_grid[columns].reset_index(drop=True), mine.reset_index(drop=True), check_dtype=False)
    assert len(first) == 2


def looked(*lines):
    table = pd.DataFrame(lines, columns=["method", "layer", "sign", "level", "accuracy", "margin"])
    return table.assign(reached=True)


def test_the_common_level_is_the_best_in_the_mean_over_methods():
    table = looked(("a", 1, 1, 1.0, 0.9, 0), ("a", 1, 1, 2.0, 0.8, 0), ("b", 1, 1, 1.0, 0.5, 0), ("b", 1, 1, 2.0, 0.7, 0))
    assert choose(table, "norm")["level"].tolist() == [2.0, 2.0]
    assert choose(table, "own")["level"].tolist() == [1.0, 2.0]


def test_equals_go_to_the_larger_margin_then_the_lower_layer_then_the_positive_sign_and_the_lower_level():
    table = looked(("a", 2, -1, 1.0, 0.5, 0.1), ("a", 2, 1, 1.0, 0.5, 0.1), ("a", 1, -1, 1.0, 0.5, 0.1), ("a", 0, 1, 1.0, 0.5, 0.0))
    (chosen,) = choose(pd.concat([table, table.assign(level=3.0)]), "kl").to_dict("records")
    assert (chosen["layer"], chosen["sign"], chosen["level"]) == (1, -1, 1.0)


def test_what_missed_its_level_is_taken_only_where_nothing_else_is():
    table = looked(("a", 1, 1, 1.0, 0.9, 0), ("a", 2, 1, 1.0, 0.5, 0))
    table.loc[0, "reached"] = False
    assert choose(table, "kl")["layer"].tolist() == [2]
    assert choose(table.assign(reached=False), "kl")["layer"].tolist() == [1]


def test_layers_of_the_multi_layer_vector_follow_its_middle(toy):
    assert spread_layers(toy, 0) == ([0], [1.0])
    assert spread_layers(toy, 1) == ([0, 1], [0.5, 1.0])
    assert spread_layers(toy, 2) == ([0, 2], [0.5, 1.0])


def test_a_model_that_reads_words_is_asked_to_think_step_by_step(toy, task, monkeypatch):
    monkeypatch.setattr("steerlab.studies.method_vectors.readable", lambda model, texts: True)
    ways, about = wordings(toy, task.train, task.test)
    assert [way.name for way in ways] == ["prepended", "appended"]
    asked = [way.asked(task.test[0]).prompt for way in ways]
    assert asked[0] == f"Let's think step by step.\n{task.test[0].prompt}"
    assert asked[1].endswith("\nLet's think step by step.\nAnswer:")
    assert "think step by step" in about
    open_end = [sl.Problem("a", "The cat", " sat", (" sat", " sit"))]
    assert [way.name for way in wordings(toy, task.train, open_end)[0]] == ["prepended"]
    assert len(contrast_pairs(toy, task.train)[0]) == 10


def test_prompts_beyond_the_context_are_left_out_with_the_reason(toy, task):
    long = [sl.Problem("long", "1 + " * 60 + "1", " A", (" A", " B"))]
    ways, about = wordings(toy, long, long)
    assert ways == []
    assert "exceed this model's context of 128 tokens" in about
    found, missing = method_vectors(
        toy, [*long, sl.Problem("other", "2 + " * 60 + "1", " A", (" A", " B"))], methods=["function_vector"], layers=[1]
    )
    assert found == []
    assert "no pair of prompts fits" in missing["function vector"]


def test_a_wording_without_a_last_line_of_its_own_stands_in_front():
    assert Wording("x", cue="Now ").asked(sl.Problem("a", "2 + 2 =", 4)).prompt == "Now 2 + 2 ="


BAD = {
    "unknown method": ({"methods": ["magic"]}, "'magic'; use any of"),
    "a method twice": ({"methods": ["probe", "probe"]}, "each once"),
    "unknown matching": ({"matchings": ["length"]}, "use any of norm, kl, own"),
    "a level of zero": ({"kls": [0.0]}, "above 0"),
    "no controls": ({"n_controls": 0}, "n_controls=0"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_refused_before_anything_runs(toy, task, case):
    options, said = BAD[case]
    with pytest.raises(ValueError, match=said):
        sl.compare_methods(toy, task, seed=0, **options)


def test_prompts_alone_can_be_compared(toy, task):
    found = sl.compare_methods(toy, task, seed=0, methods=["prompt"])
    assert found.frame["method"].tolist() == ["baseline", "prompt"]
    assert found.pairs.empty
    assert "Of 0 differences" in str(found)
    with pytest.raises(ValueError, match="no method added a vector"):
        found.against_kl()


def test_the_figure_tells_every_method_from_every_other(found):
    _, doses, controls = found.against_kl()
    many = pd.concat([part.assign(method=f"{name} {k}") for k in range(2) for name, part in doses.groupby("method")])
    fig = sl.plots.effect_against_kl(many, controls)
    lines = [trace for trace in fig.data if trace.name != "random"]
    assert len({(t.line.color, t.line.dash) for t in lines}) == len(lines) == many["method"].nunique()
    with pytest.raises(ValueError, match="no KL above 0"):
        sl.plots.effect_against_kl(doses.assign(kl=0.0))
