"""A finished run as one file for apps: ONNX with its preprocessing inside, checked against the run before it is kept.

Read `export_onnx` first. Nothing is written before the file has answered real drawings as its run does.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from inkfold.augment.views import IDENTITY
from inkfold.ensemble.model import Ensemble, load_run
from inkfold.errors import ExportError
from inkfold.export.backbone import quantise
from inkfold.export.description import describe
from inkfold.export.graph import helper, onnx
from inkfold.export.line_style import DRAWINGS, measure_line_style
from inkfold.export.metadata import KEY, SET, About
from inkfold.export.model_graph import FEATURES, GraphOptions, Tracer, build_graph, image_of, runs_of, trace_backbone
from inkfold.export.safetensors import network_bytes
from inkfold.export.samples import Collection, Samples, collect
from inkfold.export.verify import (
    Parity,
    QuantisationCheck,
    check_parity,
    check_quantisation,
    compare,
    in_float32,
    measure_quantisation,
    open_session,
    predict_in_batches,
)
from inkfold.features.extractor import Extractor
from inkfold.images.decode import Pixels
from inkfold.images.preprocess import ImageOptions, preprocess, stack_squares
from inkfold.models.backbone import NetworkInput, choose_device
from inkfold.pipeline.run import Run, prediction_views
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.files import write_bytes, write_json
from inkfold.storage.hashing import key_digest

CHECKED = 500
LARGEST_BYTES = 2**31 - 2**20  # protobuf's limit, and some room
POOLED_BY_WEIGHT = ("soft", "weighted", "greedy")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is exported, and how it is checked.

    Attributes:
        int8: Whether backbones are turned into 8-bit numbers.
        views: Whether test-time views are inside.
        fitted: Whether the file takes only squares that `fit.preprocess` has made.
        data: Where the drawings are, if they have moved.
        drawings: How many the file and the run are asked.
    """

    int8: bool = False
    views: bool = True
    fitted: bool = False
    data: Path | None = None
    drawings: int = CHECKED

    @property
    def graph(self) -> GraphOptions:
        """The part of it that decides the graph."""
        return GraphOptions(self.views, self.fitted)


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written.

    Attributes:
        path: Where.
        size_bytes: Its size.
        about: What it says of itself.
        parity: How it compares with the run, before 8-bit numbers.
        toll: What 8-bit numbers cost; None in float32.
        notes: What was left out, and what that costs.
    """

    path: Path
    size_bytes: int
    about: About
    parity: Parity
    toll: QuantisationCheck | None
    notes: tuple[str, ...]


def export_onnx(run_dir: Path, out: Path, options: ExportOptions = ExportOptions(), progress: Progress = silent) -> Exported:
    """Write a run or an ensemble as one ONNX file.

    Args:
        run_dir: A finished run's directory.
        out: The file, replaced when it exists.
        options: What is exported, and how it is checked.
        progress: Told of each stage.

    Returns:
        What was written.

    Raises:
        ExportError: With what no file can hold and the way out, or if the file answers differently. Then nothing is written.
        PredictionError: If the run isn't finished, or its data have changed.
        WeightsError: If a backbone's weights are gone or changed.
    """
    predictor = load_run(run_dir)
    collection = collect(runs_of(predictor)[0], options.data, progress)
    data, exported = _Making(predictor, options, collection, image_of(runs_of(predictor)), progress).made(out)
    _write(out, data)
    return exported


def export_set(
    run_dir: Path, out: Path, options: ExportOptions = ExportOptions(), progress: Progress = silent
) -> list[Exported]:
    """Write an ensemble as a directory: a file a member, and `set.json` with their weights.

    Args:
        run_dir: A finished ensemble's directory.
        out: The directory.
        options: What is exported, and how it is checked.
        progress: Told of each stage.

    Returns:
        What was written.

    Raises:
        ExportError: As `export_onnx` does, or if the vote is no weighted mean.
    """
    ensemble = load_run(run_dir)
    weights = _weights_of(ensemble)
    assert isinstance(ensemble, Ensemble)
    runs = runs_of(ensemble)
    collection = collect(runs[0], options.data, progress)
    names = [f"{number}-{run.path.name}.onnx" for number, run in enumerate(runs)]
    made = [
        _Making(run, options, collection, image_of([run]), progress, ensemble.classes_).made(out / name)
        for run, name in zip(runs, names, strict=True)
    ]
    stale = _retire(out) - {*names}
    for name, (data, _) in zip(names, made, strict=True):
        _write(out / name, data)
    about = describe(ensemble, options.graph, made[0][1].about.look, made[0][1].about.num_features)
    precision = made[0][1].about.precision
    described = {**asdict(replace(about, precision=precision)), "files": names, "weights": weights}
    write_json(out / SET, described)
    for name in stale:
        (out / name).unlink(missing_ok=True)
    return [exported for _, exported in made]


def _retire(out: Path) -> set[str]:
    """Take away an older set's description before its files are replaced, and name the files that it spoke of."""
    try:
        names = json.loads((out / SET).read_text(encoding="utf-8"))["files"]
        (out / SET).unlink()
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in names if isinstance(name, str) and Path(name).name == name and name.endswith(".onnx")}


def export_safetensors(run_dir: Path, out: Path) -> int:
    """Write a run's network for PyTorch users.

    Args:
        run_dir: A finished run's directory.
        out: The file, replaced when it exists.

    Returns:
        Its bytes.

    Raises:
        ExportError: If the run is an ensemble.
    """
    run = load_run(run_dir)
    if not isinstance(run, Run):
        members = ", ".join(str(member.path) for member in runs_of(run))
        raise ExportError(f"{run_dir}: is an ensemble, and a file of weights holds one network. Export its members: {members}.")
    about = describe(run, GraphOptions(), {}, _num_features(run))
    data = network_bytes(run, about.as_json())
    _write(out, data)
    return len(data)


@dataclass(frozen=True, slots=True)
class _Making:
    """A file in the making.

    How drawings become squares is asked once: whoever asks a run has all of its weights read for their digests.
    """

    predictor: Run | Ensemble
    options: ExportOptions
    collection: Collection
    image: ImageOptions
    progress: Progress
    classes: Sequence[str] | None = None
    traced: dict[str, onnx.ModelProto] = field(default_factory=dict)

    def made(self, out: Path) -> tuple[bytes, Exported]:
        """Build the file's bytes, checked."""
        model = self._graph(self._trace)
        data = self._bytes(model)
        parity, about = self._checked(data)
        toll = None
        if self.options.int8:
            calibration, judged = self.collection.apart(folds=isinstance(self.predictor, Run))
            tracer = self._quantiser(calibration)
            model, toll = self._graph(tracer), self._toll(tracer, judged)
            about = replace(about, precision="int8")
        helper.set_model_props(model, {KEY: about.as_json()})
        data = self._bytes(model)
        return data, Exported(out, len(data), about, parity, toll, tuple(_notes(self.predictor, self.options)))

    def _checked(self, data: bytes) -> tuple[Parity, About]:
        """Compare the file's answers with the run's; measure what the file says of itself."""
        checked, pixels = self.collection.all.some(self.options.drawings).decoded(self.image)
        if not len(checked):
            raise ExportError(f"{self.predictor.path}: none of its drawings can be read to check the file. Restore the data.")
        session, shown = open_session(data), self._shown(pixels)
        given = predict_in_batches(session, shown, progress=self.progress)
        self.progress("ask the run", 0, len(pixels))
        expected = in_float32(self.predictor, views=self.options.views).predict_proba(pixels)
        names = self.predictor.classes_
        if self.classes is not None:
            expected, names = expected[:, [names.index(name) for name in self.classes]], tuple(self.classes)
        parity = compare(given, expected)
        check_parity(parity, self.predictor)
        look = measure_line_style(self.collection.train.some(DRAWINGS).decoded(self.image)[1], self.image)
        about = describe(self.predictor, self.options.graph, look, predict_in_batches(session, shown[:1], FEATURES).shape[-1])
        targets = dict(zip(about.class_names, about.class_targets, strict=True))
        return parity, replace(about, class_names=names, class_targets=tuple(targets[name] for name in names))

    def _toll(self, tracer: Tracer, judged: Samples | None) -> QuantisationCheck:
        """Measure what 8-bit numbers cost."""
        specimens = self.collection.all.some(self.options.drawings) if judged is None else judged
        specimens, pixels = specimens.decoded(self.image)
        folds = specimens.folds is not None
        before, after = (self._bytes(self._graph(one, folds=folds)) for one in (self._trace, tracer))
        if self.classes is not None and specimens.targets is not None:
            places = np.array([self.classes.index(name) for name in self.predictor.classes_])
            specimens = replace(specimens, targets=places[specimens.targets])
        toll = measure_quantisation(before, after, specimens, self._shown(pixels), self.progress)
        check_quantisation(toll, str(self.predictor.path))
        return toll

    def _graph(self, tracer: Tracer, *, folds: bool = False) -> onnx.ModelProto:
        return build_graph(self.predictor, self.options.graph, tracer, classes=self.classes, folds=folds)

    def _trace(self, extractor: Extractor) -> onnx.ModelProto:
        """Write a backbone down once."""
        key = key_digest(extractor.backbone.key())
        if key not in self.traced:
            self.progress(f"write down {extractor.backbone.name}", 0, 1)
            self.traced[key] = trace_backbone(extractor)
        return self.traced[key]

    def _quantiser(self, calibration: Samples) -> Tracer:
        """Give what turns backbones into 8-bit numbers, each once."""
        known: dict[tuple[str, ImageOptions], onnx.ModelProto] = {}

        def quantised(extractor: Extractor) -> onnx.ModelProto:
            key = key_digest(extractor.backbone.key()), extractor.image
            if key not in known:
                self.progress(f"turn {extractor.backbone.name} into 8-bit numbers", 0, 1)
                squares = stack_squares([preprocess(one, extractor.image) for one in calibration.decoded(extractor.image)[1]])
                images = NetworkInput(extractor.backbone, choose_device("cpu")).of(squares).numpy()
                known[key] = quantise(self._trace(extractor), np.ascontiguousarray(images))
            return known[key]

        return quantised

    def _shown(self, pixels: Sequence[Pixels]) -> list[Pixels]:
        """Give drawings as the file takes them."""
        return [preprocess(one, self.image) for one in pixels] if self.options.fitted else list(pixels)

    def _bytes(self, model: onnx.ModelProto) -> bytes:
        size = model.ByteSize()
        if size > LARGEST_BYTES:
            raise ExportError(
                f"{self.predictor.path}: the file would have {size / 1e9:.1f} GB, and an ONNX file holds at most 2 GB. "
                "Export the network for PyTorch (--safetensors FILE), take a smaller backbone, or of an ensemble "
                "export a set (--set)."
            )
        data: bytes = model.SerializeToString()
        return data


def _notes(predictor: Run | Ensemble, options: ExportOptions) -> list[str]:
    """Say what was left out, and what that costs."""
    notes = []
    for run in runs_of(predictor):
        views = prediction_views(run.recipe)
        if options.views or views == (IDENTITY,):
            continue
        gain = run.metrics.get("tta", {})
        cost = gain.get("accuracy_with", 0.0) - gain.get("accuracy_without", 0.0)
        measured = f"out of fold they gave {cost:+.4f} (p = {gain['p_value']:.2g})" if gain else "what they gave is not known"
        notes.append(f"{run.path.name}: left out test-time views {', '.join(map(str, views))}: {measured}")
    return notes


def _weights_of(ensemble: Run | Ensemble) -> list[float]:
    """Give the members' shares in a vote that is a weighted mean."""
    if isinstance(ensemble, Run):
        raise ExportError(f"{ensemble.path}: is one model, and --set is for ensembles. Leave it out.")
    way = ensemble.way
    if way.way.method not in POOLED_BY_WEIGHT or way.way.calibrated or ensemble.vote.within != "soft":
        raise ExportError(
            f"{ensemble.path}: votes by '{way.way.name}' (folds: {ensemble.vote.within}), and a set says no more than "
            "weights of a mean. Leave --set out: one file can hold this vote."
        )
    weights = np.ones(len(ensemble.members)) if way.weights is None else way.weights
    return [float(one) for one in weights / weights.sum()]


def _write(out: Path, data: bytes) -> None:
    try:
        write_bytes(out, data)
    except OSError as error:
        raise ExportError(f"{out}: {error.strerror}. Choose a place that you can write to and that has room.") from None


def _num_features(run: Run) -> int:
    name = "neighbours" if "neighbours" in run.heads else "layers.0.weight"
    return int(run.heads[name].shape[2 if name == "neighbours" else 1])
