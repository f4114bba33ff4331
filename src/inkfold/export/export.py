"""Exports a finished run as one ONNX file with its preprocessing inside, checked against the run before it is written.

Read `export_onnx` first. Nothing is written unless the file predicts real drawings as its run does.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from inkfold.augment.views import IDENTITY
from inkfold.ensemble.model import Ensemble, load_run
from inkfold.errors import ExportError
from inkfold.evaluation.formatting import p_equation
from inkfold.export.backbone import quantise
from inkfold.export.description import describe
from inkfold.export.graph import helper, onnx
from inkfold.export.metadata import KEY, SET, About
from inkfold.export.model_graph import FEATURES, GraphOptions, Tracer, build_graph, image_of, runs_of, trace_backbone
from inkfold.export.own_digest import DIGEST_KEY, UNKNOWN, with_own_digest
from inkfold.export.safetensors import network_bytes
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
from inkfold.images.line_style import DRAWINGS, measure_line_style
from inkfold.images.preprocess import ImageOptions, flatten_photographed, preprocess, stack_squares
from inkfold.models.backbone import NetworkInput, choose_device
from inkfold.pipeline.run import Run, prediction_views
from inkfold.pipeline.samples import RunSamples, Samples, collect_samples
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.files import make_directory, write_bytes
from inkfold.storage.hashing import key_digest
from inkfold.storage.outputs import what_to_do, write_output
from inkfold.storage.sealed import read_sealed, write_sealed

log = logging.getLogger("inkfold.export")

DRAWINGS_CHECKED = 500
LARGEST_BYTES = 2**31 - 2**20  # protobuf's limit, and some room
PHOTOGRAPHS = (
    "photographs and scans of paper: the file takes drawings made on a screen, and doesn't flatten paper as the run does. "
    "Flatten such pages first (inkfold.images.preprocess.flatten_photographed), or export with --fitted"
)
POOLED_BY_WEIGHT = ("soft", "weighted", "greedy")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is exported, and how it is checked.

    Attributes:
        int8: Whether the backbones' weights and activations are quantised to 8-bit integers.
        views: Whether test-time views become part of the file.
        fitted: Whether the file takes only squares that `images.preprocess.preprocess` has made.
        data: The drawings' present directory; None takes the one that the run was trained on.
        drawings: How many drawings the file's and the run's predictions are compared on.
    """

    int8: bool = False
    views: bool = True
    fitted: bool = False
    data: Path | None = None
    drawings: int = DRAWINGS_CHECKED

    @property
    def graph(self) -> GraphOptions:
        """The options that decide which nodes the graph has."""
        return GraphOptions(self.views, self.fitted)


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written.

    Attributes:
        path: Where the ONNX file was written.
        size_bytes: Size of the file in bytes.
        about: The description that is stored in the file's metadata.
        parity: Agreement of the float32 file's predictions with the run's.
        quantisation: Loss through quantisation; None for a float32 file.
        notes: A sentence for each feature of the run that was left out, with its measured cost.
    """

    path: Path
    size_bytes: int
    about: About
    parity: Parity
    quantisation: QuantisationCheck | None
    notes: tuple[str, ...]


def export_onnx(run_dir: Path, out: Path, options: ExportOptions = ExportOptions(), progress: Progress = silent) -> Exported:
    """Write a run or an ensemble as one ONNX file.

    Args:
        run_dir: Directory of a finished run or ensemble.
        out: Path of the file; an existing one is replaced.
        options: What is exported, and how it is checked.
        progress: Called with the stage, the number of finished items and their total.

    Returns:
        The file that was written, with its description and measurements.

    Raises:
        ExportError: If the run has something that no file can hold (the message names the alternative), or if the file's
            predictions differ from the run's. Nothing is written then.
        PredictionError: If the run isn't finished, or its data has changed.
        WeightsError: If a backbone's weights are missing or have changed.
    """
    predictor = load_run(run_dir)
    samples = collect_samples(runs_of(predictor)[0], options.data, progress)
    data, exported = _Exporter(predictor, options, samples, image_of(runs_of(predictor)), progress).build(out)
    with _refused_in_words():
        write_output(out, data)
    return exported


def export_set(
    run_dir: Path, out: Path, options: ExportOptions = ExportOptions(), progress: Progress = silent
) -> list[Exported]:
    """Write an ensemble as a directory with one ONNX file per member and `set.json`, which holds their weights.

    Args:
        run_dir: Directory of a finished ensemble, all of whose members are runs.
        out: Path of the directory; files of an older set are replaced or removed.
        options: What is exported, and how it is checked.
        progress: Called with the stage, the number of finished items and their total.

    Returns:
        The files that were written, in the order of the members.

    Raises:
        ExportError: As by `export_onnx`, or if the ensemble's vote isn't a weighted mean.
    """
    ensemble = load_run(run_dir)
    weights = _weights_of(ensemble)
    assert isinstance(ensemble, Ensemble)
    runs = runs_of(ensemble)
    samples = collect_samples(runs[0], options.data, progress)
    names = [f"{number}-{run.path.name}.onnx" for number, run in enumerate(runs)]
    made = [
        _Exporter(run, options, samples, image_of([run]), progress, ensemble.classes_).build(out / name)
        for run, name in zip(runs, names, strict=True)
    ]
    with _refused_in_words():
        make_directory(out)
        stale = _retire(out) - {*names}
        for name, (data, _) in zip(names, made, strict=True):
            write_bytes(out / name, data)
    about = describe(ensemble, options.graph, made[0][1].about.look, made[0][1].about.num_features)
    precision = made[0][1].about.precision
    described = {**replace(about, precision=precision).values(), "files": names, "weights": weights}
    write_sealed(out / SET, described)
    for name in stale:
        (out / name).unlink(missing_ok=True)
    return [exported for _, exported in made]


def _retire(out: Path) -> set[str]:
    """Remove an older set's description before its files are replaced, and return the names of the files that it listed."""
    try:
        names = read_sealed(out / SET, must_be_sealed=False)["files"]
        (out / SET).unlink()
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in names if isinstance(name, str) and Path(name).name == name and name.endswith(".onnx")}


def export_safetensors(run_dir: Path, out: Path) -> int:
    """Write a run's network as a safetensors file, for PyTorch users.

    Args:
        run_dir: Directory of a finished run of one model.
        out: Path of the file; an existing one is replaced.

    Returns:
        The file's size in bytes.

    Raises:
        ExportError: If the run is an ensemble.
    """
    run = load_run(run_dir)
    if not isinstance(run, Run):
        members = ", ".join(str(member.path) for member in runs_of(run))
        raise ExportError(f"{run_dir}: is an ensemble, and a file of weights holds one network. Export its members: {members}.")
    if run.recipe.backbone.beside:
        raise ExportError(
            f"{run_dir}: has several backbones under one head, and a file of weights holds one network. Export it to ONNX: "
            "leave --safetensors out."
        )
    about = describe(run, GraphOptions(), {}, _num_features(run))
    data = network_bytes(run, about.as_json())
    with _refused_in_words():
        write_output(out, data)
    return len(data)


@dataclass(frozen=True, slots=True)
class _Exporter:
    """Builds and checks one file.

    `image` is passed in because a run reads all of its weights, for their digests, each time that its image options are needed.
    """

    predictor: Run | Ensemble
    options: ExportOptions
    samples: RunSamples
    image: ImageOptions
    progress: Progress
    classes: Sequence[str] | None = None
    traced: dict[str, onnx.ModelProto] = field(default_factory=dict)

    def build(self, out: Path) -> tuple[bytes, Exported]:
        """Build the file's bytes and check their predictions."""
        model = self._graph(self._trace)
        data = self._bytes(model)
        parity, about = self._check(data)
        quantisation = None
        if self.options.int8:
            calibration, held_out = self.samples.split_for_calibration(folds=isinstance(self.predictor, Run))
            tracer = self._quantiser(calibration)
            model, quantisation = self._graph(tracer), self._measure_quantisation(tracer, held_out)
            about = replace(about, precision="int8")
        helper.set_model_props(model, {KEY: about.as_json(), DIGEST_KEY: UNKNOWN})
        data = with_own_digest(self._bytes(model))
        return data, Exported(
            out, len(data), about, parity, quantisation, tuple(_notes(self.predictor, self.options, self.image))
        )

    def _check(self, data: bytes) -> tuple[Parity, About]:
        """Compare the file's predictions with the run's, and describe the file."""
        checked, pixels = self.samples.all.take_evenly(self.options.drawings).decode(self.image)
        if not len(checked):
            raise ExportError(f"{self.predictor.path}: none of its drawings can be read to check the file. Restore the data.")
        session, images = open_session(data), self._model_inputs(pixels)
        predicted = predict_in_batches(session, images, progress=self.progress)
        self.progress("predict by the run", 0, len(pixels))
        expected = in_float32(self.predictor, views=self.options.views).predict_proba(pixels)
        names = self.predictor.classes_
        if self.classes is not None:
            expected, names = expected[:, [names.index(name) for name in self.classes]], tuple(self.classes)
        parity = compare(predicted, expected)
        log.info(
            "%s: file and run give the same class to %.1f %% of %d drawings; probabilities differ by %.4f at most",
            self.predictor.path,
            100 * parity.agreement,
            parity.drawings,
            parity.largest_difference,
        )
        check_parity(parity, self.predictor)
        look = measure_line_style(self.samples.train.take_evenly(DRAWINGS).decode(self.image)[1], self.image)
        about = describe(self.predictor, self.options.graph, look, predict_in_batches(session, images[:1], FEATURES).shape[-1])
        targets = dict(zip(about.class_names, about.class_targets, strict=True))
        return parity, replace(about, class_names=names, class_targets=tuple(targets[name] for name in names))

    def _measure_quantisation(self, tracer: Tracer, held_out: Samples | None) -> QuantisationCheck:
        """Compare the quantised file with the float32 one on drawings that no range was calibrated on, where there are any."""
        samples = self.samples.all.take_evenly(self.options.drawings) if held_out is None else held_out
        samples, pixels = samples.decode(self.image)
        folds = samples.folds is not None
        before, after = (self._bytes(self._graph(one, folds=folds)) for one in (self._trace, tracer))
        if self.classes is not None and samples.targets is not None:
            columns = np.array([self.classes.index(name) for name in self.predictor.classes_])
            samples = replace(samples, targets=columns[samples.targets])
        check = measure_quantisation(before, after, samples, self._model_inputs(pixels), self.progress)
        check_quantisation(check, str(self.predictor.path))
        return check

    def _graph(self, tracer: Tracer, *, folds: bool = False) -> onnx.ModelProto:
        return build_graph(self.predictor, self.options.graph, tracer, classes=self.classes, folds=folds)

    def _trace(self, extractor: Extractor) -> onnx.ModelProto:
        """Trace a backbone, once however many runs share it."""
        key = key_digest(extractor.backbone.key())
        if key not in self.traced:
            self.progress(f"trace {extractor.backbone.name}", 0, 1)
            log.info("trace %s to ONNX", extractor.backbone.name)
            self.traced[key] = trace_backbone(extractor)
        return self.traced[key]

    def _quantiser(self, calibration: Samples) -> Tracer:
        """Return a tracer that quantises each backbone once."""
        known: dict[tuple[str, ImageOptions], onnx.ModelProto] = {}

        def quantised(extractor: Extractor) -> onnx.ModelProto:
            key = key_digest(extractor.backbone.key()), extractor.image
            if key not in known:
                self.progress(f"quantise {extractor.backbone.name}", 0, 1)
                log.info("quantise %s on %d training drawings", extractor.backbone.name, len(calibration))
                pixels = calibration.decode(extractor.image)[1]
                squares = stack_squares([preprocess(drawing, extractor.image) for drawing in pixels])
                images = NetworkInput(extractor.backbone, choose_device("cpu")).of(squares).numpy()
                known[key] = quantise(self._trace(extractor), np.ascontiguousarray(images))
            return known[key]

        return quantised

    def _model_inputs(self, pixels: Sequence[Pixels]) -> list[Pixels]:
        """Turn decoded drawings into what the file takes: squares, or whole pages, of which photographed ones are flattened."""
        prepare = preprocess if self.options.fitted else flatten_photographed
        return [prepare(drawing, self.image) for drawing in pixels]

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


def _notes(predictor: Run | Ensemble, options: ExportOptions, image: ImageOptions) -> list[str]:
    """Report the test-time views that were left out, with the accuracy that they gave, and that paper isn't flattened."""
    notes = []
    if image.paper == "auto" and not options.fitted:
        notes.append(PHOTOGRAPHS)
    for run in runs_of(predictor):
        views = prediction_views(run.recipe)
        if options.views or views == (IDENTITY,):
            continue
        gain = run.metrics.get("tta", {})
        cost = gain.get("accuracy_with", 0.0) - gain.get("accuracy_without", 0.0)
        measured = (
            f"out of fold they gave {cost:+.4f} ({p_equation(gain['p_value'])})" if gain else "their gain was not measured"
        )
        notes.append(f"{run.path.name}: left out test-time views {', '.join(map(str, views))}: {measured}")
    return notes


def _weights_of(ensemble: Run | Ensemble) -> list[float]:
    """Return the members' shares, which sum to 1, of a vote that is a weighted mean."""
    if isinstance(ensemble, Run):
        raise ExportError(f"{ensemble.path}: is one model, and --set is for ensembles. Leave it out.")
    fitted = ensemble.fitted
    if fitted.method.kind not in POOLED_BY_WEIGHT or fitted.method.calibrated or ensemble.vote.within != "soft":
        raise ExportError(
            f"{ensemble.path}: votes by '{fitted.method.name}' (folds: {ensemble.vote.within}), and a set holds "
            "only the weights of a mean. Leave --set out: a single file can hold this vote."
        )
    weights = np.ones(len(ensemble.members)) if fitted.weights is None else fitted.weights
    return [float(share) for share in weights / weights.sum()]


@contextlib.contextmanager
def _refused_in_words() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ExportError(f"{error.filename}: {error.strerror}. {what_to_do(error)}") from None


def _num_features(run: Run) -> int:
    name = "neighbours" if "neighbours" in run.heads else "layers.0.weight"
    return int(run.heads[name].shape[2 if name == "neighbours" else 1])
