"""The sections of a recipe: names, types, limits and defaults of every key. `config` puts them together."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inkfold.augment.operations import parse_operations

MOST_VIEWS = 10_000


class Section(BaseModel):
    """Unknown keys are refused, and values stay."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DataRecipe(Section):
    """What is to be learnt."""

    root: str | None = None
    """The folder of drawings, or a CSV or Parquet table. Must be given, in the recipe or as data=DIR."""
    layout: Literal["auto", "competition", "folder", "table"] = "auto"
    """How the folder is laid out; `auto` looks."""
    table: str | None = None
    """CSV or Parquet table of the training drawings, relative to the root."""
    test_table: str | None = None
    """CSV or Parquet table of the test drawings, relative to the root."""
    path_column: str = "image_path"
    """Column with the drawings' paths."""
    label_column: str = "class_name"
    """Column with the class names."""
    target_column: str = "target"
    """Column with the class numbers, where there is one."""
    image_root: str | None = None
    """Folder that the table's paths are relative to; None means the table's own folder."""
    test_targets: str | None = None
    """CSV or Parquet with image_path and target of the test drawings, for measuring only."""
    on_broken: Literal["error", "skip"] = "error"
    """What a broken or missing drawing does: stop the run, or be left out and counted."""


class ImageRecipe(Section):
    """How drawings become square pixels."""

    size: int | None = Field(None, ge=16, le=2048)
    """Side in px; None takes the backbone's own."""
    stored_size: int | None = Field(None, ge=16, le=2048)
    """Side of the stored squares in px, from which views are rendered; None takes `size`."""
    fit: Literal["pad", "squash", "crop_to_ink"] = "pad"
    """Pad on the paper's colour, distort to the square, or crop to the ink and pad."""
    colour: Literal["auto", "grey", "rgb"] = "auto"
    """Keep colour where there is some, never, or always three channels."""
    invert: Literal["auto", "never"] = "auto"
    """Turn light-on-dark drawings into dark-on-light."""
    pixel_limit: int = Field(64_000_000, ge=1_000, le=178_000_000)
    """Drawings with more pixels are broken: a small file can unpack to gigabytes."""


class BackboneRecipe(Section):
    """The network whose features are learnt from."""

    name: str = Field("auto", min_length=1)
    """A timm model, with or without its pretrained tag, or `ink-small`, which comes with inkfold. `auto` takes
    EfficientNet-Lite0 where its weights can be had, else `ink-small`."""
    weights: str | None = None
    """A .safetensors or .pth file; `untrained` for seeded random weights; None: INKFOLD_WEIGHTS, then the hub."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean of the input in 0..1; None takes the model's own."""
    std: tuple[float, ...] | None = None
    """Per-channel standard deviation of the input in 0..1; None takes the model's own."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    """How drawings are resized; None takes the model's own."""
    model_args: dict[str, Any] = {}
    """Further arguments of timm's constructor, such as {pad_type: same}."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward pass; `auto` takes bfloat16 where the processor has instructions for it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the backbone runs."""
    batch_size: int | None = Field(None, ge=1, le=4096)
    """Images a forward when features are computed; None chooses for the device."""
    train: Literal["frozen", "last_blocks", "lora", "all"] = "frozen"
    """Which part of it is trained, by the section finetune: none, its last blocks, low-rank additions, or all."""
    train_blocks: int = Field(1, ge=1, le=1000)
    """How many of the last blocks `last_blocks` trains, with the norms behind them."""
    lora_rank: int = Field(8, ge=1, le=1024)
    """Rank of LoRA's additions."""
    lora_alpha: float = Field(16.0, gt=0, le=4096)
    """LoRA's additions are scaled by alpha / rank."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Share of residual branches that a training step leaves out."""

    @property
    def trained_by(self) -> Literal["fit", "finetune"]:
        """The section whose epochs the curriculum is for: the head's on a frozen backbone, else the fine-tuning's."""
        return "fit" if self.train == "frozen" else "finetune"

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


class LinearHeadRecipe(Section):
    """Multinomial logistic regression."""

    kind: Literal["linear"] = "linear"
    """This head."""


class MlpHeadRecipe(Section):
    """A multi-layer perceptron."""

    kind: Literal["mlp"]
    """This head."""
    hidden: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field((1024,), min_length=1)
    """Widths of the hidden layers."""
    activation: Literal["relu", "gelu"] = "relu"
    """What follows each hidden layer."""
    norm: Literal["none", "layer"] = "none"
    """`layer` normalises what goes into each activation."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each hidden layer's outputs that a step leaves out."""


class CosineHeadRecipe(Section):
    """The angle between features and a learnt direction a class, times a learnt factor."""

    kind: Literal["cosine"]
    """This head."""


class ClassMeanHeadRecipe(Section):
    """The nearest class mean: a baseline that nothing is fitted for."""

    kind: Literal["class_mean"]
    """This head."""


class KnnHeadRecipe(Section):
    """The classes of the nearest drawings by cosine: a baseline that nothing is fitted for; the run holds their features."""

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


Schedule = Annotated[StepSchedule | CosineSchedule | OneCycleSchedule | ConstantSchedule, Field(discriminator="kind")]


class FitRecipe(Section):
    """How the head is fitted."""

    epochs: int = Field(20, ge=1, le=10_000)
    """Passes over the training drawings."""
    batch_size: int = Field(64, ge=1)
    """Drawings a step."""
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    """SGD has momentum 0.9."""
    lr: float = Field(1e-3, gt=0, le=10)
    """Learning rate at the start."""
    weight_decay: float = Field(0.0, ge=0, le=10)
    """L2 for adam and sgd, decoupled for adamw."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    focal_gamma: float = Field(0.0, ge=0, le=10)
    """Exponent of the focal loss, which looks away from drawings that are right already; 0 is cross-entropy."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` lets each class weigh the same, however many drawings it has."""
    mixup: float = Field(0.0, ge=0, le=10)
    """Alpha of the beta distribution by which the features of two drawings are mixed; 0 mixes none."""
    schedule: Schedule = CosineSchedule()
    """How the rate changes."""
    warmup_epochs: float = Field(0.0, ge=0, le=1000)
    """During which the rate rises from zero, beside the schedule."""
    scaling: Literal["none", "standardise", "normalise"] = "none"
    """Each feature to mean 0 and deviation 1 over a member's own training drawings, or each drawing's features to length 1."""
    starts: int = Field(1, ge=1, le=100)
    """Heads a fold, which start from other weights and whose predictions are averaged."""
    keep: Literal["last", "best"] = "last"
    """Which epoch's head: the last, or the best on the fold's own held-out part, which flatters by what is told."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the inputs of matrix products; `auto` as for the backbone. Weights and sums stay in float32."""


class FinetuneRecipe(Section):
    """How a backbone that isn't frozen is trained, together with its head."""

    epochs: int = Field(10, ge=1, le=10_000)
    """Passes over the training drawings; the curriculum's stages end there."""
    batch_size: int = Field(64, ge=1)
    """Drawings a step, over all forwards and processes."""
    micro_batch: int | None = Field(None, ge=1)
    """Drawings a forward, whose gradients are added up; None takes the whole batch. Halved when memory runs out."""
    optimiser: Literal["adamw", "sgd"] = "adamw"
    """SGD has momentum 0.9."""
    lr: float = Field(1e-3, gt=0, le=10)
    """Learning rate of the backbone's last layers."""
    head_lr_factor: float = Field(1.0, gt=0, le=1000)
    """Of the rate, for the head."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor of the rate from each layer to the one before it; 1 trains all at one rate."""
    weight_decay: float = Field(0.05, ge=0, le=10)
    """Of matrices and kernels; norms and biases have none."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    mixup: float = Field(0.0, ge=0, le=10)
    """Alpha of the beta distribution by which two drawings are mixed; 0 mixes none."""
    cutmix: float = Field(0.0, ge=0, le=10)
    """The same, for pasting a part of one drawing into another."""
    schedule: Schedule = CosineSchedule()
    """How the rate changes."""
    warmup_epochs: float = Field(0.0, ge=0, le=1000)
    """During which the rate rises from zero, beside the schedule."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of weights, which then predicts; 0 takes the weights themselves."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest norm of the gradient; 0 leaves it alone."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the forward and backward pass; `auto` takes bfloat16 where it is fast, else float16 on a GPU, else float32."""
    checkpointing: bool = False
    """Compute activations a second time instead of keeping them: less memory, a third more time."""
    compiled: bool = False
    """Let PyTorch's compiler have the network: minutes first, then often faster."""
    shard: Literal["none", "full"] = "none"
    """`full`: of several processes each keeps its share of parameters, gradients and moments, for what doesn't fit a device."""
    start: Literal["head", "random"] = "head"
    """The head starts as it is fitted on the frozen features by `fit`, or with random weights."""
    teacher: str | None = None
    """A finished run whose backbone's relations between drawings are learnt beside the labels, so that a small network sees as
    a large one does; its classes may be others."""
    teacher_weight: float = Field(1.0, gt=0, le=1000)
    """Of the loss of relations, beside the labels' loss."""
    interpolate: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field((1.0,), min_length=1)
    """Shares of the way from the start's weights to the trained ones; the best out of fold is taken, for all folds alike."""
    keep: Literal["last", "best"] = "last"
    """Which epoch's weights: the last, or the best on the fold's own held-out part, which flatters by what is told."""

    @model_validator(mode="after")
    def _a_teacher_sees_whole_drawings(self) -> "FinetuneRecipe":
        if self.teacher is not None and (self.mixup or self.cutmix):
            raise ValueError("teacher: saw whole drawings, so mixup and cutmix must be 0 beside it")
        return self


class FoldsRecipe(Section):
    """Which drawings are held out."""

    split: Literal["kfold", "holdout"] = "kfold"
    """`kfold`: each drawing is held out once. `holdout`: one part of k is held out, or val/ where the data have it."""
    k: int = Field(5, ge=2, le=100)
    """Number of parts."""
    group_column: str | None = None
    """Column whose equal values stay in one part: who drew it, after which photo."""
    group_duplicates: bool = True
    """Keep copies of a drawing in one part too: mirrored, turned by quarters and a little, resized, re-encoded."""


class StageRecipe(Section):
    """Some epochs that learn from one kind of view."""

    until_epoch: int | None = Field(None, ge=1)
    """Its end: the number of epochs that are over then; None is the end of the fit."""
    augment: tuple[str, ...] = ()
    """Operations such as `rotate(15)@0.5`: name, numbers, probability. None: drawings as they are."""
    views: Literal["per_epoch"] | int = "per_epoch"
    """A new view of each drawing in every epoch, or a pool of so many; a forward each, shared by all folds and trials."""
    lr_factor: float = Field(1.0, gt=0, le=100)
    """Of the learning rate in this stage, beside the schedule's."""

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


class SpaceRecipe(Section):
    """Where one key may go: a range, or choices."""

    low: float | None = None
    """The lowest value of a range."""
    high: float | None = None
    """The highest."""
    log: bool = False
    """Draw the range's logarithm evenly, as befits rates."""
    whole: bool = False
    """Whole numbers only."""
    choices: tuple[Any, ...] = ()
    """Values of any kind, also whole sections such as {kind: mlp, hidden: [512]}."""

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> "SpaceRecipe":
        ranged = self.low is not None and self.high is not None
        if ranged == bool(self.choices) or (self.low is None) != (self.high is None):
            raise ValueError("expected low and high, or choices")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low, {self.low:g}, must be below high, {self.high:g}")
        if self.log and (self.low is None or self.low <= 0):
            raise ValueError("a logarithm needs low above 0")
        return self


class TuneRecipe(Section):
    """What `inkfold tune` tries."""

    trials: int = Field(64, ge=2, le=100_000)
    """How many, the recipe as it is among them."""
    batch: int = Field(16, ge=1, le=1024)
    """Trials that are fitted at once."""
    prune: bool = True
    """Give a trial up after a quarter and after half of its epochs unless it is in the better half there."""
    judge_fraction: float = Field(0.2, gt=0, lt=0.6)
    """Of the training drawings: never seen while tuning, they say what the best trial is worth."""
    space: dict[str, SpaceRecipe] = {}
    """Where each dotted key may go; none: a space that suits the head."""


class VoteRecipe(Section):
    """How members become one."""

    method: Literal["auto", "soft", "hard", "geometric", "rank", "weighted", "greedy", "stack"] = "auto"
    """How models vote; `auto` takes the simplest that can't be told from the most accurate out of fold."""
    within: Literal["soft", "hard"] = "soft"
    """How the folds of one model vote on test drawings; out-of-fold data can't say which is better."""
    ties: Literal["lowest_id", "mean_probability"] = "mean_probability"
    """Of hard votes: the lowest class id (the reference's), or the class of the highest mean probability."""
    calibrate: bool = False
    """Fit each member's temperature out of fold first."""


class MemberRecipe(Section):
    """One model of an ensemble."""

    recipe: str
    """A YAML file or a shipped recipe's name."""
    set: dict[str, Any] = {}
    """Dotted keys that differ from it."""
    name: str | None = None
    """What to call it; None: after its recipe."""
