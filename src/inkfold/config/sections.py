"""The sections of a recipe: every setting's name, meaning, unit, range and default, defined here and nowhere else.

`recipe` puts the sections together. Components take a section, or a subclass of one that adds what had to be resolved.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inkfold.config.operations import parse_operations

MOST_VIEWS = 10_000

Layout = Literal["auto", "competition", "folder", "table"]
OnBroken = Literal["error", "skip"]
OnBlank = Literal["error", "skip", "keep"]
Resize = Literal["pad", "squash", "crop_to_ink"]
ResizeChoice = Literal["auto", "pad", "squash", "crop_to_ink"]
Paper = Literal["auto", "flatten", "keep"]
Colour = Literal["auto", "grey", "rgb"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
HeadKind = Literal["linear", "mlp", "cosine", "class_mean", "knn"]
TRAINED_HEADS: tuple[HeadKind, ...] = ("linear", "mlp", "cosine")  # by gradient steps; the others are computed
Activation = Literal["relu", "gelu"]
Norm = Literal["none", "layer"]
Scaling = Literal["none", "standardise", "blocks", "normalise"]
SCALED_BY_FOLD: tuple[Scaling, ...] = ("standardise", "blocks")  # by the mean and deviations of a fold's own drawings
Keep = Literal["last", "best"]
Ballot = Literal["soft", "hard"]
TieRule = Literal["lowest_id", "mean_probability"]


PATTERN_GROUPS = ("label", "group", "id")
AUTO_GROUPS, NO_GROUPS = "auto", "none"  # values of `folds.group_pattern` that are no expressions


def pattern_fault(pattern: str) -> str | None:
    """Return what is wrong with a `data.label_pattern`; None if it is a regular expression with a group `label`."""
    expected = r"expected a regular expression with a group (?P<label>...), such as (?P<label>[a-z]+)_\d+\.png$"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = re.compile(pattern).groupindex
    except (re.error, RecursionError, OverflowError) as error:
        return f"it is no regular expression ({error}); {expected}"
    if "label" not in names:
        return f"it has no group named `label`; {expected}"
    if strange := sorted({*names} - {*PATTERN_GROUPS}):
        return f"it has a group named {strange[0]!r}; expected the names label, group and id, and (?:...) for other groups"
    return None


def group_pattern_fault(pattern: str) -> str | None:
    """Return what is wrong with a `folds.group_pattern`; None if it is a regular expression, `auto` or `none`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return (
            f"it is no regular expression ({error}); expected `auto`, `none`, or one that finds the group, such as "
            r"^[^/]+/(photo[0-9]+)-[0-9]+\.png$"
        )
    return None


class Section(BaseModel):
    """Settings that belong together: unknown keys are refused, and values can't be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DataSettings(Section):
    """Where the drawings and their labels are, and how they are read."""

    root: str | None = None
    """The folder of drawings, or a CSV or Parquet table. Must be given, in the recipe or as data=DIR."""
    layout: Layout = "auto"
    """How the folder is laid out; `auto` takes `competition` where `train.csv` is, `table` where a table is named, else
    `folder`."""
    table: str | None = None
    """CSV or Parquet table of the training drawings, relative to the root."""
    test_table: str | None = None
    """CSV or Parquet table of the test drawings, relative to the root."""
    path_column: str = "image_path"
    """Column with the drawings' paths, in the tables and in the submission."""
    label_column: str = "class_name"
    """Column with the class names."""
    target_column: str = "target"
    """Column with the class numbers, where there is one; also the submission's."""
    image_root: str | None = None
    """Folder that the tables' paths are relative to, itself relative to the root; None looks for it."""
    test_targets: str | None = None
    """CSV or Parquet with image_path and target of the test drawings, for measuring only."""
    corrections: str | None = None
    """CSV table of decisions on single drawings, which `inkfold audit RUN --fix FILE.csv` writes and you fill in: drawings that
    are dropped or get another class. Relative to the root, or else to where the command is run."""
    on_broken: OnBroken = "error"
    """What a broken or missing drawing does: stop the run (`error`), or be left out and counted (`skip`)."""
    on_blank: OnBlank = "skip"
    """What a drawing without ink does: stop the run (`error`), be left out of training (`skip`, but for classes most of whose
    drawings are blank), or be trained on (`keep`). It is always reported, and test drawings keep their rows."""
    class_level: int | None = Field(None, ge=-32, le=32)
    """Which folder names the class, in class folders: 1 is the first folder below the root or below a part such as train/, 2
    the next one; -1 is the folder that holds the drawing, -2 the one above. None decides by the names, or asks."""
    label_pattern: str | None = Field(None, max_length=1000)
    """Regular expression that finds the label in each drawing's path below the root: `(?P<label>...)` is the class,
    `(?P<group>...)` who drew it, `(?P<id>...)` its id in a submission. None takes the folders' names."""

    @field_validator("class_level")
    @classmethod
    def _counts_from_1(cls, value: int | None) -> int | None:
        if value == 0:
            raise ValueError("expected 1 for the first folder below the root, or -1 for the folder that holds the drawing")
        return value

    @field_validator("label_pattern")
    @classmethod
    def _names_a_label(cls, value: str | None) -> str | None:
        if value is not None and (fault := pattern_fault(value)):
            raise ValueError(fault)
        return value

    @model_validator(mode="after")
    def _labels_come_from_one_place(self) -> "DataSettings":
        if self.class_level is not None and self.label_pattern is not None:
            raise ValueError(
                "expected class_level or label_pattern, not both: a label is a folder's name or a piece of the path"
            )
        return self


class ImageSettings(Section):
    """How a drawing becomes a square of pixels."""

    size: int | None = Field(None, ge=16, le=2048)
    """Side of the square that the backbone takes, in px; None takes the backbone's own."""
    stored_size: int | None = Field(None, ge=16, le=2048)
    """Side of the stored squares in px, from which views are rendered; None takes `size`."""
    resize: ResizeChoice = "auto"
    """How a page becomes a square: `pad` keeps its aspect and fills up with the paper's colour, `squash` stretches it,
    `crop_to_ink` cuts the empty page away and pads; `auto` takes `crop_to_ink` unless `pad` is better on the training
    drawings."""
    paper: Paper = "auto"
    """What is done about the paper: `flatten` divides out its light, straightens it, and removes grain and ruled lines; `auto`
    does so for photographed and scanned pages and leaves drawings made on a screen as they are; `keep` leaves all."""
    colour: Colour = "auto"
    """Channels: `auto` takes one where a drawing is grey and three where it is coloured, `grey` always one, `rgb` three."""
    invert: Literal["auto", "never"] = "auto"
    """Whether light strokes on a dark ground are turned into dark ones on a light ground: where they are found, or never."""
    pixel_limit: int = Field(64_000_000, ge=1_000, le=178_000_000)
    """Drawings of more pixels count as broken, since a small file can unpack to gigabytes."""


class NetworkSettings(Section):
    """A network and its weights, and what is taken of it."""

    name: str = Field(min_length=1)
    """A timm model, with or without its pretrained tag, or `ink-small`, which comes with inkfold."""
    weights: str | None = None
    """A .safetensors or .pth file; `untrained` for seeded random weights; None: INKFOLD_WEIGHTS, then the hub."""
    features: Literal["last", "layers"] = "last"
    """`last`: the vector that the network's own classifier would get. `layers`: beside it the pooled output of every stage; of
    a vision transformer the class token and the mean of the other tokens of its last four blocks. The forward pass is the same.
    """
    mean: tuple[float, ...] | None = None
    """Per-channel mean of the input in 0..1; None takes the model's own."""
    std: tuple[float, ...] | None = None
    """Per-channel standard deviation of the input in 0..1; None takes the model's own."""
    interpolation: Interpolation | None = None
    """How drawings are resized; None takes the model's own. All but `nearest` are antialiased, so that thin lines fade but
    don't break."""
    model_args: dict[str, Any] = {}
    """Further arguments of timm's constructor, such as {pad_type: same}."""

    @field_validator("mean", "std")
    @classmethod
    def _has_all_channels(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and len(value) not in (1, 3):
            raise ValueError(f"got {len(value)} values, expected 3, or 1 for a network of grey drawings")
        return value

    @field_validator("std")
    @classmethod
    def _std_is_positive(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and min(value) <= 0:
            raise ValueError("every channel's standard deviation must be above 0")
        return value


class BesideSettings(NetworkSettings):
    """Another backbone, whose features stand beside the first one's under one head."""

    image_size: int | None = Field(None, ge=16, le=2048)
    """Side of the square that this backbone takes, in px; None takes its own."""

    @field_validator("name")
    @classmethod
    def _is_a_model(cls, value: str) -> str:
        if value == "auto":
            raise ValueError("got 'auto', expected a model's name; only the first backbone is chosen by itself")
        return value


class BackboneSettings(NetworkSettings):
    """The network that turns drawings into features."""

    name: str = Field("auto", min_length=1)
    """A timm model, with or without its pretrained tag, or `ink-small`, which comes with inkfold. `auto` takes
    `ink-small`, or EfficientNet-Lite0 where its weights can be had and it is better out of fold by more than chance."""
    beside: tuple[BesideSettings, ...] = Field((), max_length=15)
    """Other backbones, whose features stand beside this one's under one head, such as [mobilenetv2_100, ink-small] or
    [{name: mobilenetv2_100, features: layers}]; all get one scale (`train_head.scaling: blocks`)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward pass; `auto` takes bfloat16 where the processor has instructions for it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the backbone runs."""
    batch_size: int | None = Field(None, ge=1, le=4096)
    """Drawings per forward pass when features are computed; None chooses for the device."""

    @field_validator("beside", mode="before")
    @classmethod
    def _names_stand_for_backbones(cls, value: Any) -> Any:
        if isinstance(value, str | Mapping):
            value = [value]
        if not isinstance(value, Sequence):
            return value
        return [{"name": each} if isinstance(each, str) else each for each in value]

    @model_validator(mode="after")
    def _backbones_differ(self) -> "BackboneSettings":
        first = {**self.model_dump(include={*NetworkSettings.model_fields}), "image_size": None}
        described = [first, *(one.model_dump() for one in self.beside)]
        if any(one in described[:place] for place, one in enumerate(described)):
            raise ValueError(
                "beside: a backbone stands there twice with equal settings. Remove one, or give it another image_size"
            )
        return self


class LinearHeadSettings(Section):
    """Multinomial logistic regression."""

    kind: Literal["linear"] = "linear"
    """This head."""


class MlpHeadSettings(Section):
    """A multi-layer perceptron."""

    kind: Literal["mlp"]
    """This head."""
    hidden: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field((1024,), min_length=1)
    """Widths of the hidden layers."""
    activation: Activation = "relu"
    """Activation function after each hidden layer."""
    norm: Norm = "none"
    """`layer` puts layer normalisation before each activation."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each hidden layer's outputs that a training step sets to zero."""


class CosineHeadSettings(Section):
    """The cosine between features and one trained direction per class, times a trained factor."""

    kind: Literal["cosine"]
    """This head."""


class ClassMeanHeadSettings(Section):
    """The nearest class mean: a baseline that is computed, not trained."""

    kind: Literal["class_mean"]
    """This head."""


class KnnHeadSettings(Section):
    """The classes of the nearest drawings by cosine: a baseline that is computed, not trained; the run holds their features.

    Source: weights of exp(cosine / 0.07) as in DINO, Caron et al., arXiv 2104.14294.
    """

    kind: Literal["knn"]
    """This head."""
    neighbours: int = Field(20, ge=1, le=10_000)
    """How many drawings vote."""


class StepSchedule(Section):
    """The rate is multiplied by `gamma` after every `every` epochs (PyTorch's StepLR)."""

    kind: Literal["step"]
    """This schedule."""
    every: int = Field(10, ge=1)
    """Epochs between two steps."""
    gamma: float = Field(0.1, gt=0, le=1)
    """Factor of each step."""


class CosineSchedule(Section):
    """The rate falls to zero along half a cosine, step by step."""

    kind: Literal["cosine"] = "cosine"
    """This schedule."""


class OneCycleSchedule(Section):
    """The rate rises for 30 % of all steps, from 1/25 of `lr`, then falls to next to nothing (PyTorch's OneCycleLR)."""

    kind: Literal["one_cycle"]
    """This schedule."""


class ConstantSchedule(Section):
    """The rate stays."""

    kind: Literal["constant"]
    """This schedule."""


HeadSettings = LinearHeadSettings | MlpHeadSettings | CosineHeadSettings | ClassMeanHeadSettings | KnnHeadSettings
Schedule = Annotated[StepSchedule | CosineSchedule | OneCycleSchedule | ConstantSchedule, Field(discriminator="kind")]


class TrainHeadSettings(Section):
    """How the head is trained on the features."""

    epochs: int = Field(20, ge=1, le=10_000)
    """Passes over the training drawings."""
    batch_size: int = Field(64, ge=1)
    """Drawings per step, shared by all heads that train side by side; each head uses those of its own training part."""
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimiser; `sgd` has momentum 0.9."""
    lr: float = Field(1e-3, gt=0, le=10)
    """Learning rate, which the schedule multiplies."""
    weight_decay: float = Field(0.0, ge=0, le=10)
    """Weight decay: L2 for adam and sgd, decoupled for adamw."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    focal_gamma: float = Field(0.0, ge=0, le=10)
    """Exponent of the focal loss, which weighs drawings down that are right already; 0 is cross-entropy."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs each drawing by n / (classes x drawings of its class), counted over the fold's own part."""
    mixup: float = Field(0.0, ge=0, le=10)
    """Alpha of the beta distribution by which the features of two drawings are mixed; 0 mixes none."""
    schedule: Schedule = CosineSchedule()
    """How the rate changes."""
    warmup_epochs: float = Field(0.0, ge=0, le=1000)
    """During which the rate rises from zero, beside the schedule."""
    scaling: Scaling = "none"
    """`standardise` brings each feature to mean 0 and deviation 1 over the fold's own training drawings, `blocks` to mean 0 and
    each backbone's and layer's features together to a mean square of 1; `normalise` brings each drawing's features to length 1.
    With `backbone.features: layers` or `backbone.beside`, `blocks` unless the recipe says otherwise."""
    starts: int = Field(1, ge=1, le=100)
    """Heads per fold, which start from different weights and whose predictions are averaged."""
    keep: Keep = "last"
    """Which epoch's head is kept: the last, or the best on the fold's own held-out part, whose optimism is reported."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the inputs of matrix products; `auto` as for the backbone. Weights and sums stay in float32."""


class FinetuneSettings(Section):
    """Which part of the backbone is trained together with its head, and how.

    Sources: LoRA: Hu et al., arXiv 2106.09685. Drop path: Huang et al., arXiv 1603.09382.
    """

    part: Literal["none", "last_blocks", "lora", "all"] = "none"
    """Which part of the backbone is trained: `none` keeps it frozen, `last_blocks`, low-rank additions to frozen weights
    (`lora`), or `all`."""
    blocks: int = Field(1, ge=1, le=1000)
    """How many of the last blocks `last_blocks` trains, with the norms behind them."""
    lora_rank: int = Field(8, ge=1, le=1024)
    """Rank of LoRA's additions."""
    lora_alpha: float = Field(16.0, gt=0, le=4096)
    """LoRA's additions are scaled by alpha / rank."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Share of residual branches that a training step leaves out."""
    epochs: int = Field(10, ge=1, le=10_000)
    """Passes over the training drawings; the curriculum's stages end there."""
    stop_epoch: int | None = Field(None, ge=1)
    """Number of epochs after which the training ends, on the schedule of `epochs`: the rate falls to zero over the last fifth
    before, at least one epoch. None trains all epochs."""
    batch_size: int = Field(64, ge=1)
    """Drawings per step, over all forward passes and processes."""
    micro_batch: int | None = Field(None, ge=1)
    """Drawings per forward pass, whose gradients are added up; None takes the whole batch. Halved when memory runs out."""
    optimiser: Literal["adamw", "sgd"] = "adamw"
    """Optimiser; `sgd` has momentum 0.9."""
    lr: float = Field(1e-3, gt=0, le=10)
    """Learning rate of the backbone's last layers, which the schedule multiplies."""
    head_lr_factor: float = Field(1.0, gt=0, le=1000)
    """Factor of the learning rate for the head."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor of the learning rate from each layer to the one before it; 1 trains all layers at one rate."""
    weight_decay: float = Field(0.05, ge=0, le=10)
    """Weight decay of matrices and kernels, decoupled for adamw and L2 for sgd; norms and biases have none."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    mixup: float = Field(0.0, ge=0, le=10)
    """Alpha of the beta distribution by which two drawings are mixed; 0 mixes none."""
    cutmix: float = Field(0.0, ge=0, le=10)
    """Alpha of the beta distribution by which a part of one drawing is pasted into another; 0 pastes none."""
    schedule: Schedule = CosineSchedule()
    """How the rate changes."""
    warmup_epochs: float = Field(0.0, ge=0, le=1000)
    """During which the rate rises from zero, beside the schedule."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay per step of the moving average of weights, which then predicts; 0 takes the weights themselves."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest norm of the gradient; 0 leaves it alone."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the forward and backward pass; weights and the optimiser's state stay in float32. `auto` takes bfloat16
    where it is fast, else float16 on a GPU, else float32."""
    checkpointing: bool = False
    """Compute activations a second time instead of keeping them: less memory, a third more time."""
    compiled: bool = False
    """Compile the network with PyTorch's compiler: minutes at first, then often faster."""
    shard: Literal["none", "full"] = "none"
    """`full`: each of several processes keeps its share of parameters, gradients and moments, for networks that don't fit a
    device; results differ by rounding alone."""
    start: Literal["head", "random"] = "head"
    """How the head starts: as the section train_head trains it on the frozen features, or with random weights."""
    teacher: str | None = None
    """A finished run whose backbone's relations between drawings are imitated beside the labels (distillation), so that a small
    network represents drawings as a large one does; its classes may be others."""
    teacher_weight: float = Field(1.0, gt=0, le=1000)
    """Weight of the loss of relations; the labels' loss weighs 1."""
    interpolate: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field((1.0,), min_length=1)
    """Shares of the way from the start's weights to the trained ones; the best out of fold is taken, for all folds alike."""
    keep: Keep = "last"
    """Which epoch's weights are kept: the last, or the best on the fold's own held-out part, whose optimism is reported."""

    @property
    def trained_epochs(self) -> int:
        """Number of epochs that are trained: all of the schedule's, unless `stop_epoch` ends the training before."""
        return self.epochs if self.stop_epoch is None else self.stop_epoch

    @model_validator(mode="after")
    def _it_stops_before_the_end(self) -> "FinetuneSettings":
        if self.stop_epoch is not None and self.stop_epoch > self.epochs:
            raise ValueError(f"stop_epoch: got {self.stop_epoch}, expected at most epochs, {self.epochs}")
        return self

    @model_validator(mode="after")
    def _a_teacher_sees_whole_drawings(self) -> "FinetuneSettings":
        if self.teacher is not None and (self.mixup or self.cutmix):
            raise ValueError("teacher: saw whole drawings, so mixup and cutmix must be 0 beside it")
        return self


class FoldSettings(Section):
    """Which drawings are held out."""

    split: Literal["kfold", "holdout"] = "kfold"
    """`kfold`: each drawing is held out once, or those of the first `parts`. `holdout`: one part of k is held out, or val/
    where the data have it."""
    k: int = Field(5, ge=2, le=100)
    """Number of parts."""
    parts: int | None = Field(None, ge=1, le=100)
    """How many of the k parts are held out, the first ones: each is a network's training less, and fewer drawings are measured.
    None holds out all of them."""
    group_column: str | None = None
    """Column whose equal values stay in one part: who drew it, after which photo. Class folders take it from a table beside
    them that names their files."""
    group_pattern: str = Field(AUTO_GROUPS, min_length=1, max_length=1000)
    """Regular expression that finds each drawing's group in its path below the root, or in `group_column`: what
    `(?P<group>...)` matches, else the first group, else the whole match. `auto` takes the groups that file names, folders or
    columns clearly suggest, if any; `none` takes none."""
    group_duplicates: bool = True
    """Keep copies of a drawing in one part, and train on none whose copy is held out: mirrored, turned by quarters and a
    little, resized, re-encoded."""
    copy_pairs: int | None = Field(None, ge=1, le=10**9)
    """Most comparisons of two drawings that the search for copies makes, the most similar drawings first; a comparison takes a
    core 2 to 3 ms. None makes all: where thousands of drawings look alike, such as symbols, about ten for each of them."""

    @model_validator(mode="after")
    def _parts_are_of_k(self) -> "FoldSettings":
        if self.parts is not None and self.split == "holdout" and self.parts > 1:
            raise ValueError(f"parts: got {self.parts}, but a holdout holds out one part. Take split=kfold, or leave parts out")
        if self.parts is not None and self.parts > self.k:
            raise ValueError(f"parts: got {self.parts}, expected at most k, {self.k}")
        return self

    @property
    def held_out_parts(self) -> int:
        """How many of the k parts are held out, each by one fold."""
        return 1 if self.split == "holdout" else self.parts or self.k

    @property
    def is_partial(self) -> bool:
        """Whether folds hold out only some of the k parts; a holdout is called by its own name."""
        return self.split == "kfold" and self.held_out_parts < self.k

    @field_validator("group_pattern")
    @classmethod
    def _is_an_expression(cls, value: str) -> str:
        if (fault := group_pattern_fault(value)) is not None:
            raise ValueError(fault)
        return value


class SubmissionSettings(Section):
    """How `submission.csv` is written, where no sample submission says it or the sample leaves a doubt.

    Without a sample and without these settings, the columns are ID,image_path,target.
    """

    sample: str | None = None
    """The sample submission, a CSV file relative to the root; `none` reads none. None looks for sample_submission.csv,
    SampleSubmission.csv, submission_format.csv and the like."""
    columns: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(None, min_length=1)
    """The header, where no sample says it: `id,label`, `key_id,word` or `id,image_path,label`. The first column is the id, one
    called as `data.path_column` has the image path, the last has the class. With `labels=probabilities` it is `id` alone, and a
    column for each class follows, or all columns are written out; with `labels=top3`, one last column or three."""
    labels: str | None = Field(None, pattern="^(name|number|probabilities|top[1-9][0-9]{0,2})$")
    """What stands for the answer: `name` (the class name: `cat`), `number` (the class number: `0`), `probabilities` (a column
    for each class) or `topK`, the K most probable classes as contests with MAP@K want them (`top3`: `cat dog ice_cream`). None
    takes the sample's; without one, numbers in a column called as `data.target_column` and names in any other."""
    id: str | None = Field(None, min_length=1)
    """What names a test drawing `test/set_7.png` in row 12: `row` (from 0: `11`), `row1` (from 1: `12`), `name` (`set_7.png`),
    `stem` (`set_7`), `number` (`7`), `path` (as the test table has it) or `root_path` (`test/set_7.png`); or the name of a
    column of the test table. None takes what the sample shows; without one, the test table's column of the id's name, else the
    row number from 0 beside a column of paths, else the file's name."""

    @field_validator("columns", mode="before")
    @classmethod
    def _is_a_header(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("columns")
    @classmethod
    def _headings_differ(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and len({*value}) < len(value):
            raise ValueError("expected columns of different names")
        return value


class StageSettings(Section):
    """Some epochs of the curriculum, which train on one kind of view."""

    until_epoch: int | None = Field(None, ge=1)
    """Number of epochs that are over when it ends; None is the end of the training."""
    augment: tuple[str, ...] = ()
    """Operations such as `rotate(15)@0.5`: name, numbers, probability. None: drawings as they are."""
    views: Literal["per_epoch"] | int = "per_epoch"
    """A new view of each drawing in every epoch, or a pool of so many; a forward each, shared by all folds and trials."""
    lr_factor: float = Field(1.0, gt=0, le=100)
    """Factor of the learning rate in this stage, beside the schedule's."""

    @field_validator("views", mode="before")
    @classmethod
    def _is_a_size(cls, value: Any) -> Any:
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if number != "per_epoch" and not (type(number) is int and 1 <= number <= MOST_VIEWS):
            raise ValueError(f"expected per_epoch or the number of views, 1 to {MOST_VIEWS}")
        return number

    @field_validator("augment")
    @classmethod
    def _is_readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(operation) for operation in parse_operations(value))


TRAIN_PRIOR, UNIFORM_PRIOR = "train", "uniform"  # values of `predict.prior` that are no files


class PredictSettings(Section):
    """What is known of the drawings to predict as a whole, beside each drawing by itself."""

    transductive: Literal["none", "propagate"] = "none"
    """`propagate`: the test drawings' predictions take their neighbours' into account, among the training drawings and among
    each other (label propagation). It is tried on held-out drawings first, and used only where it is better by more than
    chance; only for the test drawings of the data, never for drawings that are predicted later."""
    prior: str = Field(TRAIN_PRIOR, min_length=1)
    """How frequent the classes are among the drawings to predict: `train`, as in training; `uniform`, all alike; or a CSV file
    with the columns class_name and share, relative to the data's root or to where the command is run. Probabilities of test
    and new drawings are corrected by it; held-out drawings stay as they are."""


class SearchRange(Section):
    """The values that a search tries for one key: a range, or choices."""

    low: float | None = None
    """Lowest value of a range."""
    high: float | None = None
    """Highest value of a range."""
    log: bool = False
    """Draw the range's logarithm evenly, as befits rates."""
    whole: bool = False
    """Whole numbers only."""
    choices: tuple[Any, ...] = ()
    """Values of any kind, also whole sections such as {kind: mlp, hidden: [512]}."""

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> "SearchRange":
        ranged = self.low is not None and self.high is not None
        if ranged == bool(self.choices) or (self.low is None) != (self.high is None):
            raise ValueError("expected low and high, or choices")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low, {self.low:g}, must be below high, {self.high:g}")
        if self.log and (self.low is None or self.low <= 0):
            raise ValueError("a logarithm needs low above 0")
        return self


class TuneSettings(Section):
    """What `inkfold tune` tries."""

    trials: int = Field(64, ge=2, le=100_000)
    """Number of trials, the recipe as it is among them."""
    batch: int = Field(16, ge=1, le=1024)
    """Trials that are trained at once."""
    prune: bool = True
    """Whether a trial is given up after a quarter and after half of its epochs unless it is in the better half there."""
    judge_fraction: float = Field(0.2, gt=0, lt=0.6)
    """Share of the training drawings that tuning never sees: they show what the best trial is worth."""
    space: dict[str, SearchRange] = {}
    """The values to try, by dotted key; empty takes a space that suits the head."""


class VoteSettings(Section):
    """How the members of an ensemble vote."""

    method: Literal["auto", "soft", "hard", "geometric", "rank", "weighted", "greedy", "stack"] = "auto"
    """How models vote; `auto` takes the simplest method that is not distinguishable from the most accurate one out of fold."""
    within: Ballot = "soft"
    """How the folds of one model vote on test drawings; out-of-fold predictions can't show which is better."""
    ties: TieRule = "mean_probability"
    """What decides ties of hard votes: the lowest class id (the reference's rule), or the highest mean probability."""
    calibrate: bool = False
    """Whether each member's temperature is fitted on its out-of-fold predictions first."""
    compare: bool = True
    """Whether the other methods are scored beside the one that is named, which takes seconds to minutes; `auto` always does."""


DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d)?\s*")
SECONDS_OF_UNIT = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
SHORTEST_BUDGET_S, LONGEST_BUDGET_S = 10.0, 30 * 86400.0


def duration_s(text: str) -> float:
    """Read a duration such as `90s`, `10m`, `1.5h` or `2d`; a number without a unit is seconds.

    Args:
        text: A number with a unit: s, m (or min), h or d.

    Returns:
        The duration in seconds.

    Raises:
        ValueError: If it is none.
    """
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError("expected a duration such as 30s, 10m, 1h or 12h")
    return float(match[1]) * SECONDS_OF_UNIT[match[2] or "s"]


class AutoSettings(Section):
    """How long `inkfold train auto` may search for the best classifier, and by which decisions."""

    budget: str = "10m"
    """Wall-clock time on this machine for the whole search, such as 30s, 10m, 1h or 12h; time that earlier calls spent on the
    same `out` counts, so a larger budget continues."""
    replay: str | None = None
    """An `auto.json` whose decisions are repeated, whatever this machine's speed; the same data then give the same bytes."""

    @field_validator("budget", mode="before")
    @classmethod
    def _budget_is_a_duration(cls, value: Any) -> str:
        text = f"{value:g}s" if isinstance(value, int | float) and not isinstance(value, bool) else str(value).strip()
        if not SHORTEST_BUDGET_S <= duration_s(text) <= LONGEST_BUDGET_S:
            raise ValueError("expected 10s to 30d")
        return text

    @property
    def budget_s(self) -> float:
        """The budget in seconds."""
        return duration_s(self.budget)


class MemberSettings(Section):
    """One model of an ensemble."""

    recipe: str | dict[str, Any]
    """A YAML file, a shipped recipe's name, or a recipe's own keys, without those that all members share."""
    set: dict[str, Any] = {}
    """Values by dotted key that override the recipe's."""
    name: str | None = None
    """Name of the model; None takes its recipe's."""
