import json
import shutil

import numpy as np
import onnx
import pytest
from safetensors import safe_open

from inkfold.augment.photographs import photograph
from inkfold.augment.rng import Draws
from inkfold.cli.main import main
from inkfold.ensemble.build import vote
from inkfold.ensemble.model import load_run
from inkfold.errors import ExportError, PredictionError
from inkfold.export import export, model_graph
from inkfold.export.export import SET, ExportOptions, export_onnx, export_safetensors, export_set
from inkfold.export.metadata import read_about
from inkfold.export.verify import QuantisationCheck, in_float32, open_session, predict_in_batches
from inkfold.images.preprocess import ImageOptions, flatten_photographed, preprocess
from inkfold.pipeline.train import train
from inkfold.storage.files import TEMP_MARK
from toy import CLASSES, RECIPE, inkfold, toy_data, toy_recipe

TUNED = RECIPE.replace("batch_size: 16}", "batch_size: 16, train: last_blocks}") + "finetune: {epochs: 1, batch_size: 9}\n"
TUNED = TUNED.replace("{k: 3}", "{k: 2}")  # each fold's own backbone is traced
CROPPED = RECIPE.replace("resize: pad, paper: keep", "resize: crop_to_ink, paper: auto")
CONVOLUTIONS = 15  # of test_resnet
VOTES = [{"method": "soft"}, {"method": "weighted", "calibrate": True}, {"method": "hard", "within": "hard"}]
HEADS = {
    "linear": RECIPE,
    "mlp": RECIPE + "head: {kind: mlp, hidden: [8], activation: gelu, norm: layer}\n",
    "two starts": RECIPE.replace("{epochs: 5", "{starts: 2, epochs: 5"),
    "cosine": RECIPE + "head: {kind: cosine}\n",
    "class_mean": RECIPE + "head: {kind: class_mean}\n",
    "knn": RECIPE + "head: {kind: knn, neighbours: 4}\n",
    "views": RECIPE + "tta: [hflip, identity, 'rotate(8,8)', 'hflip + rotate(-8,-8)']\n",
    "only flipped": RECIPE + "tta: [hflip]\n",
    "squash": RECIPE.replace("{size: 32}", "{size: 32, resize: squash, colour: rgb, invert: never}"),
    "one channel": RECIPE.replace("batch_size: 16}", "batch_size: 16, model_args: {in_chans: 1}, mean: [0.5], std: [0.25]}"),
    "holdout": RECIPE.replace("{k: 3}", "{split: holdout}"),
    "layers": RECIPE.replace("{name: test_resnet,", "{name: test_resnet, features: layers,"),
    "tuned": TUNED,
}
BESIDE = RECIPE.replace(
    "batch_size: 16}",
    "batch_size: 16, beside: [{name: ink-small, image_size: 48}, {name: test_resnet, weights: untrained, features: layers}]}",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs by name, each trained once and never changed."""
    root = tmp_path_factory.mktemp("runs")
    made = {}

    def build(name, text=None):
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("INKFOLD_HOME", str(root / "home"))
                data = root / "data" if made else toy_data(root / "data")
                made[name] = train(toy_recipe(root, text or HEADS[name]), data=data, out=root / name.replace(" ", "-")).path
        return made[name]

    return build


@pytest.fixture(scope="module")
def traced():
    return {}


@pytest.fixture(autouse=True)
def trace_once(traced, monkeypatch):
    """PyTorch's exporter takes seconds: each backbone is traced once for all tests."""
    real = model_graph.trace

    def known(info):
        key = str(sorted(info.key().items()))
        if key not in traced:
            traced[key] = real(info)
        return traced[key]

    monkeypatch.setattr(model_graph, "trace", known)


def drawings(seed=0):
    """Pictures of other sizes, colours and polarity than the toy's."""
    rng = np.random.default_rng(seed)
    pages = [np.full((rng.integers(20, 90), rng.integers(20, 90), 3), 250, np.uint8) for _ in range(8)]
    for number, page in enumerate(pages):
        top, left = rng.integers(2, 12, 2)
        page[top : top + 3] = page[:, left : left + 2] = (20, 30, 200) if number % 3 == 0 else 10
    pages[3:5] = [255 - page for page in pages[3:5]]
    return [*pages, pages[0][..., 0].copy()]


def assert_answers_alike(run_dir, model, **options):
    run = in_float32(load_run(run_dir), **options)
    np.testing.assert_allclose(predict_in_batches(open_session(model), drawings()), run.predict_proba(drawings()), atol=2e-3)


@pytest.mark.parametrize("name", [name for name in HEADS if name != "tuned"])
def test_a_file_answers_as_its_run_does(runs, tmp_path, name):
    exported = export_onnx(runs(name), tmp_path / "model.onnx")
    assert exported.parity.drawings == 24, "all that there are, training and test"
    assert exported.parity.agreement == 1
    assert exported.parity.largest_difference < 2e-3
    data = (tmp_path / "model.onnx").read_bytes()
    assert len(data) == exported.size_bytes
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    assert_answers_alike(runs(name), data)


def test_a_file_holds_all_backbones_that_stand_under_one_head(runs, tmp_path):
    run = runs("beside", BESIDE + "tta: [identity, hflip]\n")
    export_onnx(run, tmp_path / "model.onnx")
    assert_answers_alike(run, tmp_path / "model.onnx")
    about = read_about(tmp_path / "model.onnx")
    assert about.backbones == ("test_resnet.r160_in1k", "ink-small", "test_resnet.r160_in1k, all layers")
    with pytest.raises(ExportError, match=r"squares of 32 px .* and 48 px .* Leave out --fitted"):
        export_onnx(run, tmp_path / "other.onnx", ExportOptions(fitted=True))
    with pytest.raises(ExportError, match="several backbones under one head"):
        export_safetensors(run, tmp_path / "net.safetensors")


def test_each_fine_tuned_fold_sees_through_its_own_backbone(runs, tmp_path):
    exported = export_onnx(runs("tuned"), tmp_path / "model.onnx")
    assert exported.parity.agreement == 1
    assert_answers_alike(runs("tuned"), (tmp_path / "model.onnx").read_bytes())


def test_a_file_holds_its_description(runs, tmp_path):
    exported = export_onnx(runs("linear"), tmp_path / "model.onnx")
    about, run = read_about(tmp_path / "model.onnx"), load_run(runs("linear"))
    assert about == exported.about
    assert (about.name, about.class_names, about.folds, about.precision) == ("linear", CLASSES, 3, "float32")
    assert about.accuracy["value"] == run.metrics["out_of_fold"]["accuracy"]
    assert about.accuracy["of"] == "out_of_fold"
    assert sum(one["count"] for one in about.reliability) == run.metrics["out_of_fold"]["n"]
    assert ImageOptions.from_key(about.image).size_px == 32
    features = predict_in_batches(open_session((tmp_path / "model.onnx").read_bytes()), drawings()[:1], "features")
    assert features.shape == (1, about.num_features)


def test_folds_of_a_frozen_backbone_share_it(runs, tmp_path):
    export_onnx(runs("linear"), tmp_path / "model.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert kinds.count("Conv") == CONVOLUTIONS


def test_a_whole_batch_is_answered_as_one_by_one(runs, tmp_path):
    export_onnx(runs("linear"), tmp_path / "model.onnx")
    session = open_session((tmp_path / "model.onnx").read_bytes())
    batch = np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), np.uint8)
    together = session.run(["probs"], {"images": batch})[0]
    np.testing.assert_allclose(together, predict_in_batches(session, [*batch]), atol=1e-5)


def test_random_test_time_views_are_refused_or_left_out_with_their_measured_gain(runs, tmp_path):
    run_dir = runs("drawn", RECIPE + "tta: [identity, 'rotate(15)']\n")
    with pytest.raises(ExportError, match=r"rotate\(15\).*--without-tta"):
        export_onnx(run_dir, tmp_path / "model.onnx")
    assert not list(tmp_path.glob("*.onnx"))
    exported = export_onnx(run_dir, tmp_path / "model.onnx", ExportOptions(views=False))
    assert exported.parity.agreement == 1
    assert "rotate(15)" in exported.notes[0]
    assert "p = " in exported.notes[0]
    assert exported.about.accuracy["value"] == pytest.approx(load_run(run_dir).metrics["tta"]["accuracy_without"])


def test_a_file_crops_to_the_ink_as_its_run_does(runs, tmp_path):
    exported = export_onnx(runs("crop", CROPPED), tmp_path / "model.onnx")
    assert (exported.about.fitted, exported.parity.agreement) == (False, 1.0)
    expected = in_float32(load_run(runs("crop"))).predict_proba(drawings())
    given = predict_in_batches(open_session((tmp_path / "model.onnx").read_bytes()), drawings())
    np.testing.assert_allclose(given, expected, atol=2e-3)


def test_a_photograph_is_answered_as_by_the_run_once_it_is_flattened_and_the_export_says_so(runs, tmp_path):
    exported = export_onnx(runs("crop", CROPPED), tmp_path / "model.onnx")
    assert exported.about.image["paper"] == "auto"
    assert "flatten_photographed" in exported.notes[0]
    image = ImageOptions.from_key(exported.about.image)
    taken = [photograph(page, "photographed", Draws(b"%d" % i)) for i, page in enumerate(drawings()[:2])]
    flat = [flatten_photographed(page, image) for page in taken]
    assert all(after is not before for after, before in zip(flat, taken, strict=True))
    expected = in_float32(load_run(runs("crop"))).predict_proba(taken)
    given = predict_in_batches(open_session((tmp_path / "model.onnx").read_bytes()), flat)
    np.testing.assert_allclose(given, expected, atol=2e-3)


def test_flattened_paper_is_refused_unless_the_file_takes_squares(runs, tmp_path):
    run_dir = runs("paper", RECIPE.replace("paper: keep", "paper: flatten"))
    with pytest.raises(ExportError, match="--fitted"):
        export_onnx(run_dir, tmp_path / "model.onnx")
    exported = export_onnx(run_dir, tmp_path / "model.onnx", ExportOptions(fitted=True))
    assert (exported.about.fitted, exported.parity.agreement, exported.notes) == (True, 1.0, ())
    squares = [preprocess(one, ImageOptions.from_key(exported.about.image)) for one in drawings()]
    expected = in_float32(load_run(run_dir)).predict_proba(drawings())
    given = predict_in_batches(open_session((tmp_path / "model.onnx").read_bytes()), squares)
    np.testing.assert_allclose(given, expected, atol=2e-3)


def test_pixels_stored_larger_than_the_network_takes_them_are_refused(runs, tmp_path):
    run_dir = runs("stored", RECIPE.replace("size: 32", "size: 32, stored_size: 48"))
    with pytest.raises(ExportError, match="stored_size"):
        export_onnx(run_dir, tmp_path / "model.onnx")


def test_a_file_that_answers_differently_is_not_written(runs, tmp_path, monkeypatch):
    def wrong(session, drawings, output="probs", progress=None):
        return np.roll(predict_in_batches(session, drawings, output), 1, axis=-1)

    monkeypatch.setattr(export, "predict_in_batches", wrong)
    (tmp_path / "model.onnx").write_text("the old one")
    with pytest.raises(ExportError, match="predicts differently"):
        export_onnx(runs("linear"), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "the old one"
    assert not list(tmp_path.glob(f"*{TEMP_MARK}*"))


def test_a_file_too_large_for_onnx_is_refused(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LARGEST_BYTES", 1000)
    with pytest.raises(ExportError, match="at most 2 GB"):
        export_onnx(runs("linear"), tmp_path / "model.onnx")


def test_changed_data_is_refused(runs, tmp_path):
    shutil.copytree(load_run(runs("linear")).recipe.data.root, tmp_path / "moved")
    exported = export_onnx(runs("linear"), tmp_path / "model.onnx", ExportOptions(data=tmp_path / "moved", drawings=3))
    assert exported.parity.drawings == 3
    with next((tmp_path / "moved" / "train").rglob("*.png")).open("ab") as file:
        file.write(b"more")
    with pytest.raises(PredictionError, match="--data DIR"):
        export_onnx(runs("linear"), tmp_path / "other.onnx", ExportOptions(data=tmp_path / "moved"))


@pytest.fixture(scope="module")
def voted(runs, tmp_path_factory):
    """Ensembles of the linear run and the one with an mlp, by method."""

    def build(**how):
        out = tmp_path_factory.mktemp("votes") / "out"
        return vote([runs("linear"), runs("mlp")], how, out=out).path

    return build


@pytest.mark.parametrize("how", VOTES)
def test_an_ensemble_is_one_file_and_members_share_a_backbone(voted, tmp_path, how):
    run_dir = voted(**how)
    exported = export_onnx(run_dir, tmp_path / "model.onnx")
    assert exported.parity.agreement >= 0.95
    assert exported.about.folds == 6
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert kinds.count("Conv") == CONVOLUTIONS
    if how["method"] != "hard":
        assert_answers_alike(run_dir, (tmp_path / "model.onnx").read_bytes())


def test_an_ensemble_is_a_set_whose_weighted_mean_is_its_answer(voted, tmp_path):
    run_dir = voted(method="weighted")
    exported = export_set(run_dir, tmp_path / "set")
    described = json.loads((tmp_path / "set" / SET).read_text())
    assert described["files"] == [one.path.name for one in exported]
    assert sum(described["weights"]) == pytest.approx(1)
    sessions = [open_session((tmp_path / "set" / name).read_bytes()) for name in described["files"]]
    mean = sum(weight * predict_in_batches(one, drawings()) for weight, one in zip(described["weights"], sessions, strict=True))
    np.testing.assert_allclose(mean, in_float32(load_run(run_dir)).predict_proba(drawings()), atol=2e-3)


def test_an_older_set_leaves_no_files_behind_and_nothing_else_is_touched(voted, tmp_path):
    run_dir, out = voted(), tmp_path / "set"
    out.mkdir()
    for name in ("0-old.onnx", "7-old.onnx", "mine.onnx", "notes.txt"):
        (out / name).touch()
    outside = tmp_path / "outside.onnx"
    outside.touch()
    (out / SET).write_text(json.dumps({"files": ["0-old.onnx", "7-old.onnx", "../outside.onnx", "notes.txt", 3]}))
    export_set(run_dir, out)
    described = json.loads((out / SET).read_text())
    assert {path.name for path in out.iterdir()} == {*described["files"], SET, "mine.onnx", "notes.txt"}
    assert outside.exists()


def test_a_set_is_for_ensembles_whose_vote_is_a_mean(runs, voted, tmp_path):
    with pytest.raises(ExportError, match="is one model"):
        export_set(runs("linear"), tmp_path / "set")
    with pytest.raises(ExportError, match="a single file can hold this vote"):
        export_set(voted(method="hard"), tmp_path / "set")


def test_an_8_bit_file_is_smaller_and_its_loss_is_measured(runs, tmp_path):
    plain = export_onnx(runs("linear"), tmp_path / "plain.onnx")
    exported = export_onnx(runs("linear"), tmp_path / "model.onnx", ExportOptions(int8=True))
    assert exported.size_bytes < 0.6 * plain.size_bytes
    assert read_about(tmp_path / "model.onnx").precision == "int8"
    assert exported.quantisation.agreement > 0.5
    assert exported.quantisation.difference is None, "without test targets, all toy drawings were calibrated on"


def test_an_8_bit_file_that_loses_too_much_accuracy_is_refused(runs, tmp_path, monkeypatch):
    lost = {"difference": -0.2, "difference_ci95": [-0.3, -0.1], "p_value": 0.0, "distinguishable": True}
    monkeypatch.setattr(export, "measure_quantisation", lambda *_: QuantisationCheck(9, 0.5, "test", 0.9, lost))
    with pytest.raises(ExportError, match="Leave --quantise out"):
        export_onnx(runs("linear"), tmp_path / "model.onnx", ExportOptions(int8=True))
    assert not (tmp_path / "model.onnx").exists()


def test_an_ensembles_network_is_no_single_file(voted, tmp_path):
    with pytest.raises(ExportError, match="Export its members"):
        export_safetensors(voted(method="soft"), tmp_path / "network.safetensors")


def test_a_network_holds_its_description(runs, tmp_path):
    size = export_safetensors(runs("linear"), tmp_path / "network.safetensors")
    assert (tmp_path / "network.safetensors").stat().st_size == size
    with safe_open(tmp_path / "network.safetensors", "numpy") as file:
        assert json.loads(file.metadata()["inkfold"])["class_names"] == list(CLASSES)


def test_the_command_prints_how_file_and_run_compare(runs, tmp_path, capsys):
    given = ["export", runs("linear"), "--out", tmp_path / "model.onnx", "--safetensors", tmp_path / "network.safetensors"]
    assert main([*map(str, given)]) == 0
    told = capsys.readouterr().out
    assert "24 of 24 drawings get the same class, largest difference" in told
    assert f"model: {tmp_path / 'model.onnx'}" in told
    assert (tmp_path / "network.safetensors").is_file()


@pytest.mark.parametrize("given", [[], ["--set"], ["--quantise", "int8"], ["--quantise", "int8", "--safetensors", "x"]])
def test_the_command_needs_an_output_path(runs, given, capsys):
    assert main(["export", str(runs("linear")), *given]) == 2
    assert "Give --out" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_prints_no_warning(runs, tmp_path):
    done = inkfold("export", runs("linear"), "--out", tmp_path / "model.onnx", "--quantise", "int8", home=tmp_path / "home")
    assert done.returncode == 0
    assert "arning" not in done.stderr
    assert "8-bit numbers: " in done.stdout
