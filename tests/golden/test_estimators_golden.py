"""Estimators of directions against scikit-learn, NumPy and SciPy, and against the packages steering-vectors and repeng."""

import importlib
import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA, FastICA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from transformers import AutoModelForCausalLM, AutoTokenizer

import steerlab as sl
from steerlab.directions.contrasts import shrinkage_of

D = 6
SIZES = ((30, 30), (40, 25))  # alike, and not


def groups(n: int, m: int, d: int = D, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated Gaussian rows of two groups whose means differ, far from the origin; exact in float32."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d)) + np.diag(np.linspace(1, 4, d))
    rows = rng.standard_normal((n + m, d)) @ mixing + 5
    rows[:n] += rng.standard_normal(d)
    rows = rows.astype(np.float32).astype(float)
    return rows[:n], rows[n:]


def acts(rows: np.ndarray) -> sl.Activations:
    return sl.as_activations(rows, layer=3)


def vector(direction: sl.Direction) -> np.ndarray:
    return direction.vector.double().numpy()


def same_line(found: np.ndarray, expected: np.ndarray, atol: float = 1e-5) -> None:
    """One direction up to its length, sign included."""
    np.testing.assert_allclose(found / np.linalg.norm(found), expected / np.linalg.norm(expected), rtol=0, atol=atol)


def towards(expected: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return expected * np.sign(expected @ (ours.mean(0) - theirs.mean(0)))


def spread(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Pooled standard deviation over all dimensions, by NumPy."""
    return float(np.sqrt(np.concatenate([np.square(g - g.mean(0)) for g in (ours, theirs)]).mean()))


# scikit-learn


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("component", [0, 1, D - 1])
def test_principal_components_of_the_pool_are_scikit_learns(sizes, component):
    ours, theirs = groups(*sizes)
    direction = sl.pca_direction(acts(ours), acts(theirs), layer=3, component=component, scale="natural")
    peer = PCA().fit(np.concatenate([ours, theirs]))
    same_line(vector(direction), towards(peer.components_[component], ours, theirs))
    deviation = np.sqrt(peer.explained_variance_[component] * (sum(sizes) - 1) / sum(sizes))
    assert direction.norm == pytest.approx(deviation, rel=1e-6)


def test_principal_components_of_differences_are_scikit_learns_where_they_are_centred():
    ours, theirs = groups(30, 30)
    direction = sl.pca_direction(acts(ours), acts(theirs), layer=3, paired=True, centre=True)
    same_line(vector(direction), towards(PCA(1).fit(ours - theirs).components_[0], ours, theirs))


@pytest.mark.parametrize("component", [0, 2])
@pytest.mark.parametrize("centre", ["own", "negative", "none"])
def test_singular_directions_are_scikit_learns_and_numpys(component, centre):
    ours, theirs = groups(40, 25)
    direction = sl.singular_direction(acts(ours), acts(theirs), layer=3, component=component, centre=centre, scale="natural")
    rows = ours - {"own": ours.mean(0), "negative": theirs.mean(0), "none": 0.0}[centre]
    peer = TruncatedSVD(D - 1, algorithm="arpack", random_state=0).fit(rows)
    same_line(vector(direction), towards(peer.components_[component], ours, theirs))
    assert direction.norm == pytest.approx(np.linalg.svd(rows)[1][component] / np.sqrt(len(rows)), rel=1e-6)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_the_discriminant_is_scikit_learns(sizes, shrinkage):
    """Its coefficient is that of the log-odds, in length, too."""
    ours, theirs = groups(*sizes)
    direction = sl.lda_direction(acts(ours), acts(theirs), layer=3, shrinkage=shrinkage, scale="natural")
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    peer.fit(np.concatenate([ours, theirs]), np.repeat([1, 0], sizes))
    np.testing.assert_allclose(vector(direction), peer.coef_[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 40), (60, 8), (20, 20)])
def test_the_automatic_shrinkage_is_that_of_ledoit_and_wolf_in_scikit_learn(shape):
    rows = np.random.default_rng(1).standard_normal(shape) * np.linspace(0.1, 3, shape[1])
    rows -= rows.mean(0)
    assert shrinkage_of(rows) == pytest.approx(ledoit_wolf_shrinkage(rows, assume_centered=True), rel=1e-9)


@pytest.mark.parametrize(("estimator", "power"), [(sl.lda_direction, -1.0), (sl.whitened_mean_difference, -0.5)])
@pytest.mark.parametrize("d", [D, 90])
def test_powers_of_the_covariance_are_scipys(estimator, power, d):
    """Also with more dimensions than problems."""
    ours, theirs = groups(30, 20, d)
    direction = estimator(acts(ours), acts(theirs), layer=3, scale="natural")
    rows = np.concatenate([g - g.mean(0) for g in (ours, theirs)])
    weight = ledoit_wolf_shrinkage(rows, assume_centered=True)
    covariance = rows.T @ rows / len(rows)
    shrunk = (1 - weight) * covariance + weight * np.trace(covariance) / d * np.eye(d)
    np.testing.assert_allclose(
        vector(direction), fractional_matrix_power(shrunk, power) @ (ours.mean(0) - theirs.mean(0)), rtol=1e-4, atol=1e-5
    )
    assert direction.method["weights_of_identity"] == pytest.approx([weight])


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("l2", [0.1, 1.0, 30.0])
def test_the_probe_is_scikit_learns_logistic_regression_and_a_stationary_point(sizes, l2):
    """Oracles: another solver, on rows that were only scaled; and the gradient of the loss, by NumPy."""
    ours, theirs = groups(*sizes)
    direction = sl.probe_direction(acts(ours), acts(theirs), layer=3, l2=l2, scale="natural")
    rows, labels, size = np.concatenate([ours, theirs]), np.repeat([1, 0], sizes), spread(ours, theirs)
    peer = LogisticRegression(C=1 / l2, class_weight="balanced", solver="newton-cholesky", tol=1e-12).fit(rows / size, labels)
    np.testing.assert_allclose(vector(direction), peer.coef_[0] / size, rtol=1e-3, atol=1e-4)
    scaled, weights = rows / size, vector(direction) * size
    balance = np.where(labels == 1, 0.5 / sizes[0], 0.5 / sizes[1]) * sum(sizes)
    residual = balance * (1 / (1 + np.exp(-(scaled @ weights + peer.intercept_[0]))) - labels)
    np.testing.assert_allclose(residual @ scaled + l2 * weights, 0, atol=2e-3)


@pytest.mark.parametrize("paired", [False, True])
def test_the_contrastive_direction_is_scikit_learns_support_vector_machine_on_all_differences(paired):
    """A ranking machine is a classifier of differences and their negatives, without intercept."""
    ours, theirs = groups(20, 20)
    l2 = 0.1
    direction = sl.contrastive_direction(acts(ours), acts(theirs), layer=3, l2=l2, paired=paired, scale="natural")
    size = spread(ours, theirs)
    differences = (ours - theirs if paired else (ours[:, None] - theirs[None]).reshape(-1, D)) / size
    rows, labels = np.concatenate([differences, -differences]), np.repeat([1, -1], len(differences))
    machine = LinearSVC(
        C=1 / (2 * l2 * len(differences)), loss="squared_hinge", fit_intercept=False, dual=False, tol=1e-10, max_iter=100_000
    )
    # ours is l2/2 |w|^2 + mean(hinge^2); theirs 1/2 |w|^2 + C sum over both signs of hinge^2
    np.testing.assert_allclose(vector(direction), machine.fit(rows, labels).coef_[0] / size, rtol=1e-3, atol=1e-5)


def test_the_independent_component_is_the_one_that_scikit_learn_finds_from_its_own_start():
    """Three sources that are not Gaussian, mixed; the labels follow one of them."""
    rng = np.random.default_rng(0)
    sources = np.stack(
        [rng.uniform(-1, 1, 900), rng.laplace(size=900), np.sign(rng.standard_normal(900)) + 0.1 * rng.standard_normal(900)], 1
    )
    mixing = rng.standard_normal((3, D))
    rows = (sources @ mixing).astype(np.float32).astype(float)
    right = sources[:, 2] > 0
    direction = sl.ica_direction(acts(rows[right]), acts(rows[~right]), layer=3, components=3, scale="natural")
    peer = FastICA(3, random_state=1, tol=1e-6, max_iter=2000).fit(rows)
    columns = peer.mixing_.T
    nearest = max(columns, key=lambda column: abs(column @ mixing[2]) / np.linalg.norm(column))
    np.testing.assert_allclose(vector(direction), nearest * np.sign(nearest @ mixing[2]), rtol=0, atol=2e-3)
    assert vector(direction) @ mixing[2] / direction.norm / np.linalg.norm(mixing[2]) > 0.999  # and it is the truth


# steering-vectors and repeng


@pytest.fixture(scope="module")
def steering_vectors():
    return importlib.import_module("steering_vectors")


@pytest.fixture(scope="module")
def repeng_extract():
    """repeng names `numpy.float_`, which NumPy 2 took away; it stands in annotations alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "float_", np.float64, raising=False)
        return importlib.import_module("repeng.extract")


def test_mean_and_principal_component_are_those_of_steering_vectors_on_the_same_activations(steering_vectors):
    ours, theirs = groups(25, 25)
    tensors = [torch.from_numpy(rows) for rows in (ours, theirs)]
    mean = sl.mean_difference(acts(ours), acts(theirs), layer=3)
    np.testing.assert_allclose(vector(mean), steering_vectors.mean_aggregator()(*tensors).numpy(), rtol=0, atol=1e-6)
    component = sl.pca_direction(acts(ours), acts(theirs), layer=3, paired=True, scale="unit")
    np.testing.assert_allclose(vector(component), steering_vectors.pca_aggregator()(*tensors).numpy(), rtol=0, atol=1e-5)


def test_the_paired_probe_is_steering_vectors_logistic_aggregator(steering_vectors):
    """It works in the activations' own units, so they are brought to ours first."""
    ours, theirs = groups(25, 25)
    half = (ours - theirs) / 2
    size = spread(half, -half)
    probe = sl.probe_direction(acts(ours), acts(theirs), layer=3, paired=True, scale="unit")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Creating a tensor from a list of numpy.ndarrays", UserWarning)
        peer = steering_vectors.logistic_aggregator({"tol": 1e-8, "max_iter": 10_000})(
            *(torch.from_numpy(rows / size) for rows in (ours, theirs))
        )
    np.testing.assert_allclose(vector(probe), peer.numpy(), rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def hugging_face(toy_model, backends):
    """The toy model, as Hugging Face has it, and pairs of prompts that end with another number."""
    folder = toy_model(backends[0]).steerlab_origin["path"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    problems = sl.load_task("arithmetic").train[:12]
    pairs = [(f"{problem.prompt} A", f"{problem.prompt} B") for problem in problems]
    return model, tokenizer, pairs


LAYER = 1  # the last of three is another matter: Hugging Face gives its state behind the final norm


def test_prompts_to_vector_is_what_steering_vectors_makes_of_them(steering_vectors, hugging_face, toy_model, backend):
    """The whole way: tokens, the block's output, the last token, the mean or component."""
    model, tokenizer, pairs = hugging_face
    groups_of = sl.prompt_contrast(toy_model(backend), pairs, layers=LAYER)
    for aggregator, found in (
        (steering_vectors.mean_aggregator(), sl.mean_difference(*groups_of, layer=LAYER)),
        (steering_vectors.pca_aggregator(), sl.pca_direction(*groups_of, layer=LAYER, paired=True, scale="unit")),
    ):
        peer = steering_vectors.train_steering_vector(
            model, tokenizer, pairs, layers=[LAYER], read_token_index=-1, aggregator=aggregator, show_progress=False
        )
        np.testing.assert_allclose(vector(found), peer.layer_activations[LAYER].detach().numpy(), rtol=0, atol=2e-5)
    same = sl.function_vector(toy_model(backend), pairs, layer=LAYER)
    assert torch.equal(same.vector, sl.mean_difference(*groups_of, layer=LAYER).vector)


@pytest.mark.parametrize(("method", "centre"), [("pca_diff", True), ("pca_center", False)])
def test_prompts_to_component_is_what_repeng_makes_of_them(repeng_extract, hugging_face, toy_model, backend, method, centre):
    """repeng takes the sign of most pairs, ours is that of their mean: up to the sign they are to agree, and where both agree, with it."""
    model, tokenizer, pairs = hugging_face
    ours, theirs = sl.prompt_contrast(toy_model(backend), pairs, layers=LAYER)
    found = vector(sl.pca_direction(ours, theirs, layer=LAYER, paired=True, centre=centre, scale="unit"))
    entries = [repeng_extract.DatasetEntry(*pair) for pair in pairs]
    peer = repeng_extract.read_representations(model, tokenizer, entries, hidden_layers=[LAYER], method=method)[LAYER]
    projected = (ours.at(LAYER)[:, 0] - theirs.at(LAYER)[:, 0]).numpy() @ found
    sign = 1 if (projected > 0).sum() >= (projected < 0).sum() else -1
    np.testing.assert_allclose(found * sign, peer, rtol=0, atol=2e-4)


ORACLES = {
    "mean_difference": test_mean_and_principal_component_are_those_of_steering_vectors_on_the_same_activations,
    "whitened_mean_difference": test_powers_of_the_covariance_are_scipys,
    "lda": test_the_discriminant_is_scikit_learns,
    "probe": test_the_probe_is_scikit_learns_logistic_regression_and_a_stationary_point,
    "contrastive": test_the_contrastive_direction_is_scikit_learns_support_vector_machine_on_all_differences,
    "pca": test_principal_components_of_the_pool_are_scikit_learns,
    "ica": test_the_independent_component_is_the_one_that_scikit_learn_finds_from_its_own_start,
    "singular": test_singular_directions_are_scikit_learns_and_numpys,
}


def test_every_estimator_has_an_oracle():
    assert list(ORACLES) == list(sl.ESTIMATORS)
