import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.special import logsumexp
from scipy.stats import mode, rankdata

import inkfold
from inkfold.ensemble.build import vote
from inkfold.ensemble.methods import METHODS
from inkfold.ensemble.model import Ensemble, first_run, load_run, named, single_precision
from inkfold.errors import DataError, PredictionError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.predict import predict_folds
from inkfold.pipeline.run import Run, write_predictions
from toy import break_image, read_rows
from toy_votes import NAMES


@pytest.fixture
def own(voted, tmp_path):
    """A copy that may be broken."""
    shutil.copytree(voted(method="weighted").path, tmp_path / "own")
    return tmp_path / "own"


def drawings_of(toys):
    names = [path.name for path in (toys["data"] / "test").iterdir()]
    return [toys["data"] / "test" / name for name in sorted(names, key=lambda name: int(name.partition(".")[0]))]


def lowest_of_most(preds):
    """scipy's mode takes the lowest of equals."""
    return mode(preds, axis=0).mode


def by_hand(method, members, fitted):
    """Each vote by other means than inkfold's own."""
    logs = np.log(np.maximum(members, 1e-7))
    if method == "soft":
        return members.mean(0)
    if method == "geometric":
        powers = np.exp(logs).prod(0) ** (1 / len(members))
        return powers / powers.sum(1, keepdims=True)
    if method == "rank":
        ranks = np.stack([rankdata(one, axis=1) - 1 for one in members]).mean(0)
        return ranks / ranks.sum(1, keepdims=True)
    weights = np.array(fitted["weights"])
    if method in ("weighted", "greedy"):
        return np.average(members, axis=0, weights=weights)
    scores = np.tensordot(weights, logs, 1) + np.array(fitted["bias"])
    return np.exp(scores - logsumexp(scores, axis=1, keepdims=True))


def softened(members, temperatures):
    if temperatures is None:
        return members
    powers = [np.maximum(one, 1e-7) ** (1 / t) for one, t in zip(members, temperatures, strict=True)]
    return np.stack([one / one.sum(1, keepdims=True) for one in powers])


@pytest.mark.parametrize("calibrate", [False, True])
@pytest.mark.parametrize("method", [method for method in METHODS if method != "hard"])
def test_new_drawings_are_pooled_as_by_hand(voted, toys, method, calibrate):
    ensemble = load_run(voted(method=method, calibrate=calibrate).path)
    files = drawings_of(toys)
    members = np.stack([load_run(toys[name]).predict_proba(files) for name in ("linear", "mlp")]).astype(np.float64)
    fitted = json.loads((ensemble.path / "vote.json").read_text())["way"]
    expected = by_hand(method, softened(members, fitted["temperatures"]), fitted)
    np.testing.assert_allclose(ensemble.predict_proba(files), expected, atol=2e-6)


@pytest.mark.parametrize("calibrate", [False, True])
@pytest.mark.parametrize("within", ["soft", "hard"])
def test_new_drawings_answers_are_counted_as_by_hand(toys, tmp_path, within, calibrate):
    keys = {"method": "hard", "within": within, "ties": "lowest_id", "calibrate": calibrate}
    runs = [toys["linear"], toys["mlp"], toys["other-folds"]]
    ensemble, files = vote(runs, keys, out=tmp_path / "out"), drawings_of(toys)
    folds = [load_run(path).predict_fold_proba(files) for path in runs]
    models = [lowest_of_most(one.argmax(2)) if within == "hard" else one.mean(0).argmax(1) for one in folds]
    assert ensemble.predict_proba(files).argmax(1).tolist() == lowest_of_most(np.stack(models)).tolist()


def test_ties_go_to_the_higher_mean_probability_by_that_rule(voted, toys):
    ensemble, files = voted(method="hard", ties="mean_probability"), drawings_of(toys)
    members = np.stack([load_run(toys[name]).predict_proba(files) for name in ("linear", "mlp")])
    preds, mean = members.argmax(2), members.mean(0)
    expected = [max(set(pair), key=lambda k: row[k]) for pair, row in zip(preds.T.tolist(), mean, strict=True)]
    assert ensemble.predict_proba(files).argmax(1).tolist() == expected
    assert len({*map(tuple, preds.T.tolist())} - {(k, k) for k in range(3)}) > 0, "there were ties"


def test_it_answers_for_the_test_drawings_as_it_did_when_it_was_made(voted, toys):
    for method in METHODS:
        ensemble = voted(method=method)
        made = Predictions.load(ensemble.path / "predictions/test.parquet")
        np.testing.assert_allclose(ensemble.predict_proba(drawings_of(toys)), made.probs, atol=1e-6)
        submitted = [int(row[2]) for row in read_rows(ensemble.path / "submission.csv")[1:]]
        assert submitted == made.preds.tolist() == made.probs.argmax(1).tolist()


def test_it_is_loaded_like_a_run(voted, toys):
    made = voted(method="soft")
    ensemble = inkfold.load_run(made.path)
    assert isinstance(ensemble, Ensemble)
    assert (ensemble.classes_, ensemble.class_targets.tolist()) == (NAMES, [0, 1, 2])
    assert ensemble.metrics == json.loads((made.path / "metrics.json").read_text())
    assert [run.recipe.head.kind for run in ensemble.members] == ["linear", "mlp"]
    assert isinstance(inkfold.load_run(toys["linear"]), Run)


def test_it_stands_by_itself(voted, toys, tmp_path):
    shutil.copytree(voted(method="soft").path, tmp_path / "moved")
    moved = load_run(tmp_path / "moved")
    assert all(run.path.is_relative_to(tmp_path / "moved") for run in moved.members)
    assert len(moved.predict(drawings_of(toys))) == 15


def test_directories_files_arrays_and_pictures_are_predicted(voted, toys):
    ensemble, files = voted(method="soft"), drawings_of(toys)
    expected = ensemble.predict_proba(files)
    arrays = [np.array(Image.open(file).convert("L")) for file in files[:2]]
    np.testing.assert_allclose(ensemble.predict_proba(arrays), expected[:2], atol=1e-5)
    np.testing.assert_allclose(ensemble.predict_proba([Image.open(files[0]).convert("L")]), expected[:1], atol=1e-5)
    np.testing.assert_allclose(ensemble.predict_proba(files[3]), expected[3:4], atol=1e-6)
    assert ensemble.predict_proba(toys["data"] / "test").shape == (15, 3)
    assert ensemble.predict(files) == [NAMES[k] for k in expected.argmax(1)]


def test_no_drawings_give_no_rows(voted):
    for method in METHODS:
        assert voted(method=method).predict_proba([]).shape == (0, 3)


def test_broken_drawings_are_reported_or_left_empty(voted, toys, tmp_path):
    shutil.copytree(toys["data"] / "test", tmp_path / "new")
    ensemble = voted(method="hard", ties="mean_probability")
    whole = ensemble.predict_proba(tmp_path / "new")
    break_image(tmp_path / "new/3.png")
    with pytest.raises(DataError, match=r"3\.png"):
        ensemble.predict_proba(tmp_path / "new")
    files = sorted(str(path) for path in (tmp_path / "new").iterdir())
    probs = ensemble.predict_proba(files, on_broken="skip")
    empty = [file.endswith("/3.png") for file in files]
    assert np.isnan(probs).all(1).tolist() == empty
    assert np.isfinite(probs[~np.array(empty)]).all()
    assert len(whole) == len(probs)
    write_predictions(tmp_path / "p.csv", files, probs, ensemble)
    assert [row[1:] == [""] * 4 for row in read_rows(tmp_path / "p.csv")[1:]] == empty
    assert np.isnan(ensemble.predict_proba([tmp_path / "new/3.png"], on_broken="skip")).all()


def test_a_drawing_that_one_member_can_not_read_is_left_empty(voted, toys, monkeypatch):
    """Members may differ in what is too large; no answer is made of some members only."""
    ensemble, real = load_run(voted(method="soft").path), predict_folds

    def blind(runs, *arguments, **options):
        every = real(runs, *arguments, **options)
        for run, probs in zip(runs, every, strict=True):
            if run.recipe.head.kind == "mlp":
                probs[:, 2] = np.nan
        return every

    monkeypatch.setattr("inkfold.ensemble.model.predict_folds", blind)
    assert np.flatnonzero(np.isnan(ensemble.predict_proba(drawings_of(toys))).any(1)).tolist() == [2]


def test_progress_says_whose_stage_it_is(voted, toys):
    reports = []
    voted(method="soft").predict_proba(drawings_of(toys), lambda *report: reports.append(report))
    assert {stage for stage, *_ in reports} == {"predicting"}, "one stage over all members"
    named(lambda *report: reports.append(report), "x")("y", 1, 2)
    assert reports[-1] == ("x: y", 1, 2)


def test_mere_files_can_not_answer(toys, tmp_path):
    ensemble = vote([toys["linear"], toys["mlp"] / "submission.csv"], out=tmp_path / "out")
    with pytest.raises(PredictionError, match=r"only files of predictions for submission\. Let runs vote"):
        ensemble.predict_proba(drawings_of(toys))


@pytest.mark.parametrize(
    "name",
    [
        "vote.json",
        "metrics.json",
        "recipe.yaml",
        "submission.csv",
        "predictions/test.parquet",
        "members/1-mlp/heads.safetensors",
    ],
)
def test_a_file_that_was_changed_is_reported(own, name):
    (own / name).write_bytes((own / name).read_bytes() + b" ")
    with pytest.raises(PredictionError) as caught:
        load_run(own)
    assert [problem.where for problem in caught.value.problems] == [str(own / name)]


def test_all_files_that_were_changed_or_are_gone_are_reported_together(own):
    changed = ["vote.json", "members/0-linear/heads.safetensors", "members/1-mlp/recipe.yaml", "members/1-mlp/metrics.json"]
    for name in changed:
        (own / name).write_text("other")
    (own / "cost.json").unlink()
    with pytest.raises(PredictionError) as caught:
        load_run(own)
    assert {problem.where for problem in caught.value.problems} == {str(own / name) for name in [*changed, "cost.json"]}


def test_a_member_that_is_gone_is_reported(own):
    shutil.rmtree(own / "members/0-linear")
    with pytest.raises(PredictionError, match="0-linear"):
        load_run(own)


def rewritten(own, change, file="vote.json"):
    """Change a file and sign it anew, as only somebody who means it does."""
    from inkfold.storage.hashing import digest_file
    from inkfold.storage.sealed import unsealed, write_sealed

    raw = unsealed(json.loads((own / file).read_text()), must_be_sealed=False)
    change(raw)
    write_sealed(own / file, raw)
    if file != "manifest.json":
        rewritten(own, lambda manifest: manifest["files"].update({file: digest_file(own / file)}), "manifest.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.pop("way"),
        lambda raw: raw.pop("vote"),
        lambda raw: raw.update(vote=None),
        lambda raw: raw["vote"].update(method="best"),
        lambda raw: raw["way"].update(weights="many"),
        lambda raw: raw["way"].pop("ties"),
    ],
)
def test_a_vote_that_is_none_is_reported(own, change):
    rewritten(own, change)
    with pytest.raises(PredictionError, match=r"vote\.json"):
        load_run(own)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.pop("members"),
        lambda raw: raw.update(members=[]),
        lambda raw: raw.update(members=[{"name": 1, "run": None}]),
        lambda raw: raw.update(members=[{"name": "a", "run": "../elsewhere"}, {"name": "b", "run": "members/1-mlp"}]),
        lambda raw: raw.update(members=[{"name": "a", "run": "/elsewhere"}, {"name": "b", "run": "members/1-mlp"}]),
        lambda raw: raw.update(class_targets=[1]),
        lambda raw: raw.pop("class_targets"),
    ],
)
def test_a_manifest_that_is_none_is_reported(own, change):
    rewritten(own, change, "manifest.json")
    with pytest.raises(PredictionError, match=r"manifest\.json: not an ensemble's manifest"):
        load_run(own)


def test_an_unfinished_ensemble_is_reported(own):
    (own / "manifest.json").unlink()
    with pytest.raises(PredictionError, match="no finished run"):
        load_run(own)
    (own / "manifest.json").write_text("{")
    with pytest.raises(PredictionError, match="not a manifest"):
        load_run(own)


def test_a_runs_own_changed_files_are_reported_too(toys, tmp_path):
    shutil.copytree(toys["linear"], tmp_path / "run")
    (tmp_path / "run/metrics.json").write_text("{}")
    with pytest.raises(PredictionError, match=r"metrics\.json"):
        load_run(tmp_path / "run")


def test_the_first_run_of_a_run_is_itself_and_of_an_ensemble_its_first_member_that_is_one(voted, toys):
    run, ensemble = load_run(toys["linear"]), voted(method="soft")
    assert first_run(run) is run
    assert first_run(ensemble) is ensemble.members[0]
    assert first_run(replace(ensemble, members=(None, run))) is run
    with pytest.raises(PredictionError, match=r"has only files of predictions as members, .* Name a run\."):
        first_run(replace(ensemble, members=(None, None)))


def test_single_precision_changes_no_answer():
    close = np.array([[1 / 3, 1 / 3 + 1e-12, 1 / 3 - 1e-12], [0.5, 0.25, 0.25], [0.2, 0.4 - 1e-10, 0.4]])
    rounded = single_precision(close)
    assert rounded.dtype == np.float32
    assert rounded.argmax(1).tolist() == [1, 0, 2]
    assert close.astype(np.float32).argmax(1).tolist() != [1, 0, 2], "rounding alone does"
    np.testing.assert_allclose(rounded, close, atol=1e-7)
    for order in itertools.permutations(range(3)):
        shuffled = close[:, order]
        assert (single_precision(shuffled).argmax(1) == shuffled.argmax(1)).all()
    assert single_precision(np.empty((0, 3))).shape == (0, 3)
