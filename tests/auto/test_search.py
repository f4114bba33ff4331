import shutil

import pytest

from inkfold.auto import moves, search
from inkfold.auto.clock import Clock, OutOfTime
from inkfold.auto.record import AutoRecord
from inkfold.auto.train import train_any
from inkfold.ensemble.model import load_run
from inkfold.errors import PredictionError, RecipeError
from inkfold.runtime.progress import silent
from inkfold.storage.sealed import read_sealed, write_sealed
from toy import toy_data

FIXED = (
    "backbone={name: test_resnet, weights: untrained, device: cpu, precision: float32, batch_size: 16}",
    "image={size: 32, resize: pad, paper: keep}",
    "train_head.precision=float32",
    "folds.k=3",
)
SAME = ("recipe.yaml", "metrics.json", "predictions/out_of_fold.parquet", "predictions/test.parquet", "submission.csv")


def find(data, out, *more, budget="1h"):
    return train_any("auto", *FIXED, f"budget={budget}", *more, data=data, out=out)


@pytest.fixture(scope="module")
def found(shared_directories):
    """A search that tried a frozen backbone with two heads, on the toy drawings."""

    def make(directory):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search, "possible_moves", few_moves)
            find(toy_data(directory / "data"), directory / "run")

    return shared_directories.get("search", make)


def few_moves(known, left_s):
    return [move for move in moves.possible_moves(known, left_s) if move.kind in ("frozen", "head")]


def spend(out, seconds):
    """Let a search have spent so many seconds."""
    record = AutoRecord.load(out / "auto.json")
    record.spent_s = seconds
    record.save(out)


def contents(out):
    return {name: (out / name).read_bytes() for name in SAME}


def test_the_best_candidate_is_an_ordinary_run_at_the_top(found):
    record, run = AutoRecord.load(found / "run" / "auto.json"), load_run(found / "run")
    assert [(step.name, step.kind, step.state) for step in record.steps] == [
        ("reading", "reading", "skipped"),
        ("test_resnet", "frozen", "done"),
        ("test_resnet-mlp", "head", "done"),
    ]
    assert record.steps[2].gain is not None
    assert record.choice["members"] == [max(record.steps[1:], key=lambda step: step.accuracy).name]
    assert record.data["n_train"] == 18
    assert run.recipe.head.kind == ("mlp" if record.choice["step"] == "test_resnet-mlp" else "linear")
    assert len(run.predict_proba(sorted((found / "data" / "test").glob("*"))[:2])) == 2


def test_the_winner_s_recipe_repeats_it_without_the_search(found, tmp_path):
    train_any(found / "run" / "recipe.yaml", out=tmp_path / "again")
    again = contents(tmp_path / "again")
    assert again == contents(found / "run")


def test_a_replay_repeats_the_result_to_the_byte(found, tmp_path):
    replayed = find(found / "data", tmp_path / "again", f"auto.replay={found / 'run' / 'auto.json'}")
    assert contents(replayed.path) == contents(found / "run")
    assert AutoRecord.load(tmp_path / "again" / "auto.json").choice == AutoRecord.load(found / "run" / "auto.json").choice


def test_a_larger_budget_goes_on_from_what_was_done(found, tmp_path, monkeypatch):
    out = shutil.copytree(found / "run", tmp_path / "run")
    before = (out / "candidates/test_resnet-mlp/manifest.json").read_bytes()
    monkeypatch.setattr(search, "possible_moves", few_moves)
    find(found / "data", out, budget="2h")
    record = AutoRecord.load(out / "auto.json")
    assert [call["budget_s"] for call in record.calls] == [3600, 7200]
    assert record.spent_s == pytest.approx(sum(call["spent_s"] for call in record.calls), abs=0.2)
    assert (out / "candidates/test_resnet-mlp/manifest.json").read_bytes() == before
    assert contents(out) == contents(found / "run")


def test_a_damaged_candidate_is_set_aside_and_fitted_anew(found, tmp_path, monkeypatch, caplog):
    out = shutil.copytree(found / "run", tmp_path / "run")
    [chosen] = AutoRecord.load(out / "auto.json").choice["members"]
    heads = out / "candidates" / chosen / "heads.safetensors"
    whole = heads.read_bytes()
    heads.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    monkeypatch.setattr(search, "possible_moves", few_moves)
    find(found / "data", out, budget="2h")
    assert f"{heads}: is missing or not as it was written" in caplog.text
    assert f"{chosen}.damaged, and is fitted anew" in caplog.text
    assert (out / "candidates" / f"{chosen}.damaged" / "heads.safetensors").is_file()
    assert heads.read_bytes() == whole
    assert AutoRecord.load(out / "auto.json").choice["members"] == [chosen]
    assert contents(out) == contents(found / "run")


def test_a_search_whose_time_is_over_returns_what_it_found(found, tmp_path, monkeypatch):
    out = shutil.copytree(found / "run", tmp_path / "run")
    monkeypatch.setattr(search, "possible_moves", None)  # nothing is tried
    record = AutoRecord.load(out / "auto.json")
    record.spent_s = 3600.0
    record.save(out)
    assert contents(find(found / "data", out).path) == contents(found / "run")


def test_a_step_that_ends_with_the_time_leaves_the_best_before_it(found, tmp_path, monkeypatch):
    real = search.train

    def stopping(recipe, *, out, **options):
        if out.name.endswith("-mlp"):
            raise OutOfTime
        return real(recipe, out=out, **options)

    monkeypatch.setattr(search, "train", stopping)
    monkeypatch.setattr(search, "possible_moves", few_moves)
    run = find(found / "data", tmp_path / "run")
    record = AutoRecord.load(tmp_path / "run" / "auto.json")
    assert record.step("test_resnet-mlp").state == "stopped"
    assert (record.choice["members"], run.recipe.head.kind) == (["test_resnet"], "linear")

    monkeypatch.setattr(search, "train", real)
    find(found / "data", tmp_path / "run", budget="2h")
    assert contents(tmp_path / "run") == contents(found / "run"), "begun again, it ends as if it had not been stopped"


def test_a_failed_step_is_written_down_and_the_search_goes_on(found, tmp_path, monkeypatch):
    real = search.train

    def failing(recipe, *, out, **options):
        if out.name.endswith("-mlp"):
            raise RecipeError("train_head.lr: too high.\nMore.")
        return real(recipe, out=out, **options)

    monkeypatch.setattr(search, "train", failing)
    monkeypatch.setattr(search, "possible_moves", few_moves)
    find(found / "data", tmp_path / "run")
    step = AutoRecord.load(tmp_path / "run" / "auto.json").step("test_resnet-mlp")
    assert (step.state, step.why) == ("failed", "train_head.lr: too high.")


def test_other_drawings_are_refused(found, tmp_path):
    out = shutil.copytree(found / "run", tmp_path / "run")
    data = toy_data(tmp_path / "data", train_per_class=4)
    request = (out / "auto.yaml").read_text()
    (out / "auto.yaml").write_text(request.replace(str(found / "data"), str(data)))
    for budget in ("2h", "10s"):  # with time left, and over
        spend(out, 60.0)
        with pytest.raises(PredictionError, match="was searched with other drawings"):
            find(data, out, budget=budget)
    with pytest.raises(PredictionError, match="is of other drawings"):
        find(data, tmp_path / "new", f"auto.replay={found / 'run' / 'auto.json'}")


@pytest.mark.parametrize("budget", ["2h", "10s"])
def test_a_search_whose_backbone_has_other_weights_now_is_refused(found, tmp_path, budget):
    out = shutil.copytree(found / "run", tmp_path / "run")
    for path in (out / "candidates").glob("*/manifest.json"):
        manifest = read_sealed(path, must_be_sealed=True)
        write_sealed(path, {**manifest, "backbone": {**manifest["backbone"], "weights_digest": "before"}})
    spend(out, 60.0)
    before = (out / "metrics.json").read_bytes()
    with pytest.raises(PredictionError, match=r"test_resnet\.r160_in1k: weights_digest is 'before' there, "):
        find(found / "data", out, budget=budget)
    assert (out / "metrics.json").read_bytes() == before


def test_a_replay_of_a_search_that_found_nothing_is_refused(found, tmp_path):
    raw = read_sealed(found / "run" / "auto.json", must_be_sealed=True)
    write_sealed(tmp_path / "auto.json", {**raw, "choice": None})
    with pytest.raises(PredictionError, match="has no choice"):
        find(found / "data", tmp_path / "new", f"auto.replay={tmp_path / 'auto.json'}")


def test_a_watched_progress_ends_what_reports_after_its_time():
    seconds = iter([0.0, 3.0, 7.0])
    report = Clock(10.0, spent_s=2.0, now=lambda: next(seconds)).watched(silent, 6.0)
    report("features", 1, 2)
    with pytest.raises(OutOfTime):
        report("features", 2, 2)
