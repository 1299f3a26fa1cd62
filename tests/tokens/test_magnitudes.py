"""Per-token magnitudes: norms and projections, token by token."""

import numpy as np
import pytest
import torch
from results import speaks

import steerlab as sl


@pytest.fixture(scope="module")
def toy(toy_model, backend):
    return toy_model(backend)


@pytest.fixture(scope="module")
def problems():
    return sl.load_task("arithmetic", n_train=6, n_validation=0, n_test=0).train


def direction(*shape: int) -> sl.Direction:
    return sl.Direction(torch.randn(*shape, 32, generator=torch.Generator().manual_seed(0)), 1)


@pytest.fixture(scope="module")
def measured(toy, problems):
    return sl.token_magnitudes(toy, problems, layers=[2, 0], direction=direction(), max_tokens=120)


@pytest.mark.parametrize("layer", [0, 2])
def test_norms_and_projections_are_those_of_run_with_cache(toy, problems, measured, layer):
    """Oracle: model.run_with_cache on each prompt alone, norms and dot products in NumPy."""
    unit = direction().vector.numpy() / np.linalg.norm(direction().vector.numpy())
    for problem in problems:
        with torch.no_grad():
            _, cache = toy.run_with_cache(toy.to_tokens(problem.prompt))
        resid = cache[f"blocks.{layer}.hook_resid_post"][0].numpy()
        rows = measured.frame[(measured.frame["problem_id"] == problem.id) & (measured.frame["layer"] == layer)]
        np.testing.assert_allclose(rows["norm"], np.linalg.norm(resid, axis=-1), rtol=1e-4)
        np.testing.assert_allclose(rows["projection"], resid @ unit, atol=1e-3)


def test_every_token_of_every_prompt_has_one_line_a_layer(toy, problems, measured):
    frame = measured.frame
    assert list(frame.columns) == ["problem_id", "layer", "position", "from_end", "token", "norm", "projection"]
    assert frame["problem_id"].drop_duplicates().tolist() == [problem.id for problem in problems]
    for problem in problems:
        ids = toy.to_tokens(problem.prompt)[0].tolist()
        for layer in (0, 2):
            rows = frame[(frame["problem_id"] == problem.id) & (frame["layer"] == layer)]
            assert rows["position"].tolist() == list(range(len(ids)))
            assert rows["from_end"].tolist() == list(range(-len(ids), 0))
            assert rows["token"].tolist() == [toy.tokenizer.decode([token]) for token in ids]


def test_without_a_direction_there_is_no_projection(toy, problems):
    measured = sl.token_magnitudes(toy, problems, layers=[1])
    assert measured.frame["projection"].isna().all()
    assert measured.frame["norm"].gt(0).all()
    assert measured.by_position()["projection"].isna().all()


def test_a_site_is_measured_at_its_hook_point(toy, problems):
    pre, post = (sl.token_magnitudes(toy, problems, layers=[layer], site=site) for layer, site in ((2, "resid_pre"), (1, "resid_post")))
    np.testing.assert_array_equal(pre.frame["norm"], post.frame["norm"])
    assert (pre.site, post.site) == ("resid_pre", "resid_post")


@pytest.mark.parametrize(("aligned", "column"), [("start", "position"), ("end", "from_end")])
def test_means_by_position_are_over_the_prompts_that_have_it(measured, aligned, column):
    """Oracle: a mean over the frame's lines, one position at a time."""
    table = measured.by_position(aligned=aligned)
    assert table["n"].sum() == len(measured.frame)
    assert table["n"].nunique() > 1
    for row in table.itertuples():
        lines = measured.frame[(measured.frame["layer"] == row.layer) & (measured.frame[column] == row.position)]
        assert row.n == len(lines)
        assert row.norm == pytest.approx(lines["norm"].mean(), rel=1e-5)
        assert row.projection == pytest.approx(lines["projection"].mean(), rel=1e-4, abs=1e-5)


def test_means_by_token_are_over_every_occurrence_largest_first(measured):
    """Oracle: a mean over the frame's lines, one token at a time."""
    table = measured.by_token()
    assert table["n"].sum() == len(measured.frame)
    for _, rows in table.groupby("layer"):
        assert rows["norm"].is_monotonic_decreasing
    for row in table.head(5).itertuples():
        lines = measured.frame[(measured.frame["layer"] == row.layer) & (measured.frame["token"] == row.token)]
        assert (row.n, row.norm) == (len(lines), pytest.approx(lines["norm"].mean(), rel=1e-5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": []}, "6 problems and 0 layers given; give at least one of each"),
        ({"layers": [3]}, "layer=3: this model has 3 layers"),
        ({"layers": [1], "site": "mlp"}, "site='mlp'; use one of"),
        ({"layers": [1], "direction": direction(2)}, r"has one vector a position; give one of shape \[d_model\]"),
        ({"layers": [1], "direction": sl.Direction(torch.ones(8), 1)}, "has 8 dimensions"),
    ],
)
def test_bad_input_is_refused(toy, problems, options, message):
    with pytest.raises(ValueError, match=message):
        sl.token_magnitudes(toy, problems, **options)


def test_no_problems_and_an_unknown_alignment_are_refused(toy, measured):
    with pytest.raises(ValueError, match="0 problems and 1 layers given"):
        sl.token_magnitudes(toy, [], layers=[1])
    with pytest.raises(ValueError, match="aligned='middle'; use one of start, end"):
        measured.by_position(aligned="middle")


def test_a_result_shows_itself(measured):
    assert repr(measured) == "Magnitudes(6 problems, layers=[0, 2], site='resid_post')"
    speaks(measured)
