"""Whole recipes, of one model and of an ensemble: what a run does, as data. `load` reads and writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from inkfold.config.metric import metric_name
from inkfold.config.operations import parse_operations
from inkfold.config.renamed import renamed_recipe
from inkfold.config.sections import (
    TRAIN_PRIOR,
    TRAINED_HEADS,
    AutoSettings,
    BackboneSettings,
    DataSettings,
    FinetuneSettings,
    FoldSettings,
    HeadSettings,
    ImageSettings,
    LinearHeadSettings,
    MemberSettings,
    PredictSettings,
    Section,
    StageSettings,
    SubmissionSettings,
    TrainHeadSettings,
    TuneSettings,
    VoteSettings,
)

CLASS_WEIGHTED_METRICS = ("balanced_accuracy", "macro_f1")
SHORTHANDS = {"data": "root"}  # `data=DIR` means `data.root=DIR`


def _metric_name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a metric's name, such as macro_f1")
    return metric_name(value)


Metric = Annotated[str, BeforeValidator(_metric_name)]


class _WholeRecipe(Section):
    """A recipe as people write it: keys may have earlier names and short forms."""

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthands(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        raw = renamed_recipe(raw)
        return {
            key: _named_curriculum(raw) if key == "curriculum" else expand_shorthand(key, value) for key, value in raw.items()
        }


class Recipe(_WholeRecipe):
    """Everything that decides a run of one model."""

    data: DataSettings = DataSettings()
    """Where the drawings are, and how they are read."""
    image: ImageSettings = ImageSettings()
    """How drawings become pixels."""
    backbone: BackboneSettings = BackboneSettings()
    """How pixels become features."""
    head: Annotated[HeadSettings, Field(discriminator="kind")] = LinearHeadSettings()
    """How features become class scores."""
    folds: FoldSettings = FoldSettings()
    """Which drawings are held out."""
    train_head: TrainHeadSettings = TrainHeadSettings()
    """How the head is trained on the features."""
    finetune: FinetuneSettings = FinetuneSettings()
    """Which part of the backbone is trained too, and how."""
    curriculum: tuple[StageSettings, ...] = ()
    """Stages of augmentation; `winner`, or {name: winner, views: 4}, stands for those of 2024. Empty: drawings as they are."""
    tta: tuple[str, ...] = ()
    """Views whose predictions are averaged, such as [identity, hflip, "hflip + rotate(5,5)"]. Empty: drawings as they are."""
    predict: PredictSettings = PredictSettings()
    """What is known of the test drawings as a whole."""
    submission: SubmissionSettings = SubmissionSettings()
    """How `submission.csv` is written, where no sample submission says it."""
    tune: TuneSettings = TuneSettings()
    """What `inkfold tune` tries; `inkfold train` ignores it."""
    metric: Metric = "accuracy"
    """What decides: accuracy, balanced_accuracy, macro_f1, top_k, map_at_k (top_3, map_at_3), log_loss or quadratic_kappa.
    Every figure is given by it, with accuracy beside, and choices are made by it."""
    seed: int = Field(42, ge=0, le=2**32 - 1)
    """Seed of every random choice."""

    @model_validator(mode="before")
    @classmethod
    def _blocks_get_one_scale(cls, raw: Any) -> Any:
        """Bring features of several layers or backbones, whose scales differ, to one, unless the recipe says how."""
        if not isinstance(raw, Mapping) or not _takes_blocks(raw.get("backbone")):
            return raw
        section = raw.get("train_head") or {}
        if not isinstance(section, Mapping) or "scaling" in section:
            return raw
        return {**raw, "train_head": {**section, "scaling": "blocks"}}

    @field_validator("curriculum", mode="before")
    @classmethod
    def _name_is_known(cls, value: Any) -> Any:
        if isinstance(value, str | Mapping):  # what `_named_curriculum` left
            raise ValueError(f"expected stages, or a name ({', '.join(NAMED_CURRICULA)}), alone or with views and lr_factor")
        return value

    @field_validator("curriculum")
    @classmethod
    def _stages_fill_the_epochs(cls, stages: tuple[StageSettings, ...], info: ValidationInfo) -> tuple[StageSettings, ...]:
        if not {"train_head", "finetune"} <= {*info.data}:
            return stages
        section = "train_head" if info.data["finetune"].part == "none" else "finetune"
        epochs: int = info.data[section].epochs
        ends = [stage.until_epoch or epochs for stage in stages]
        if ends and (ends != sorted(set(ends)) or ends[-1] != epochs):
            raise ValueError(
                f"its stages end at epochs {ends}, expected rising ends and the last one at {section}.epochs, {epochs}. "
                f"Change until_epoch or {section}.epochs; a named curriculum is stretched to fit"
            )
        return stages

    @model_validator(mode="after")
    def _head_can_be_trained(self) -> "Recipe":
        if not self.is_finetuned:
            return self
        if self.head.kind not in TRAINED_HEADS:
            raise ValueError(f"head.kind: {self.head.kind} can't be trained with its backbone. Take linear, mlp or cosine")
        if self.backbone.beside:
            raise ValueError(
                "finetune.part: several backbones under one head can't be trained. Leave out backbone.beside and vote over "
                "fine-tuned runs of each (inkfold vote), or set finetune.part to none"
            )
        if self.train_head.starts > 1:
            raise ValueError(
                "train_head.starts: a fold's fine-tuned network has one head. Set it to 1, or vote over runs of other seeds"
            )
        return self

    @model_validator(mode="after")
    def _prior_suits_the_metric(self) -> "Recipe":
        if self.predict.prior != TRAIN_PRIOR and self.metric in CLASS_WEIGHTED_METRICS:
            raise ValueError(
                f"predict.prior: got {self.predict.prior!r} beside metric={self.metric}, for which answers are weighted by "
                "class already, as held-out drawings show. Leave predict.prior=train, or take another metric"
            )
        return self

    @property
    def is_finetuned(self) -> bool:
        """Whether a part of the backbone is trained together with the head."""
        return self.finetune.part != "none"

    @property
    def epochs(self) -> int:
        """Number of epochs that the curriculum is for: of the fine-tuning where there is one, else of the head's training."""
        return (self.finetune if self.is_finetuned else self.train_head).epochs

    @field_validator("tta")
    @classmethod
    def _views_are_readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        texts, problems = [], []
        for text in value:
            try:
                texts.append(" + ".join(str(operation) for operation in parse_operations(text)) or "identity")
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        return tuple(texts)


class EnsembleRecipe(_WholeRecipe):
    """Several models that are trained on the same folds and vote."""

    data: DataSettings = DataSettings()
    """Where the drawings are, and how they are read."""
    folds: FoldSettings = FoldSettings()
    """Which drawings are held out, the same for all members."""
    submission: SubmissionSettings = SubmissionSettings()
    """How `submission.csv` is written, where no sample submission says it."""
    members: tuple[MemberSettings, ...] = Field(min_length=2)
    """The models."""
    vote: VoteSettings = VoteSettings()
    """How they vote."""
    metric: Metric = "accuracy"
    """What decides, as in a recipe of one model: the vote is chosen by it, and all figures are given by it."""
    seed: int = Field(42, ge=0, le=2**32 - 1)
    """Seed of every random choice."""

    @model_validator(mode="after")
    def _names_differ(self) -> "EnsembleRecipe":
        if any(member.name is None and not isinstance(member.recipe, str) for member in self.members):
            raise ValueError("members: one that has its recipe's keys needs a name: name: other")
        names = self.names
        if len({*names}) < len(names):
            raise ValueError(f"members: got the names {', '.join(names)}, expected different ones. Name them: name: other")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, in their order."""
        return tuple(member.name or Path(str(member.recipe)).stem for member in self.members)


class AutoRecipe(_WholeRecipe):
    """A search for the best classifier within a budget of time, whose result is an ordinary run."""

    data: DataSettings = DataSettings()
    """Where the drawings are, and how they are read."""
    folds: FoldSettings = FoldSettings()
    """Which drawings are held out, the same for all that is tried."""
    submission: SubmissionSettings = SubmissionSettings()
    """How `submission.csv` is written, where no sample submission says it."""
    auto: AutoSettings
    """How long to search."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values by dotted key that everything that is tried has, such as `image.resize`; what they leave open is searched."""
    metric: Metric = "accuracy"
    """What decides, as in a recipe of one model."""
    seed: int = Field(42, ge=0, le=2**32 - 1)
    """Seed of every random choice."""


class VotedRecipe(Section):
    """What `inkfold vote` made an ensemble of: finished runs and files of predictions."""

    members: tuple[str, ...]
    """Absolute paths of the runs and files."""
    vote: VoteSettings
    """How they vote."""
    data: str | None = None
    """The data that names the classes; None where the runs do."""
    settings: tuple[str, ...] = ()
    """How the data is read: `data.key=value`."""
    metric: Metric = "accuracy"
    """What decides, as in a recipe of one model."""
    seed: int = Field(42, ge=0, le=2**32 - 1)
    """Seed of what is random in fitting a vote."""


NAMED_CURRICULA: dict[str, tuple[tuple[float, tuple[str, ...]], ...]] = {
    # The end of each stage as a share of all epochs, and what is done in it. The winner of 2024: epochs 5, 10 and 20 of 20.
    "winner": (
        (0.25, ()),
        (0.5, ("hflip@0.5", "vflip@0.5", "rotate(10)@0.5")),
        (1.0, ("hflip@0.5", "vflip@0.5", "rotate(15)@0.5", "elastic(30,4)@0.5", "grid(4,0.2)@0.5")),
    ),
}


def _takes_blocks(backbone: Any) -> bool:
    return isinstance(backbone, Mapping) and (backbone.get("features") == "layers" or bool(backbone.get("beside")))


def expand_shorthand(key: str, value: Any) -> Any:
    """Write `data: DIR` out as `data: {root: DIR}`."""
    return {SHORTHANDS[key]: str(value)} if key in SHORTHANDS and isinstance(value, str | int | float) else value


def _named_curriculum(raw: Mapping[str, Any]) -> Any:
    """Replace a curriculum's name by its stages, stretched to the epochs; anything else is left for the validation."""
    curriculum = raw["curriculum"]
    options = dict(curriculum) if isinstance(curriculum, Mapping) else {"name": curriculum}
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in NAMED_CURRICULA or not {*options} <= {"views", "lr_factor"}:
        return () if curriculum is None else curriculum
    try:
        finetune = FinetuneSettings.model_validate(raw.get("finetune") or {})
        head = TrainHeadSettings.model_validate(raw.get("train_head") or {})
    except ValidationError:
        return ()  # the section's own problems are reported
    epochs = (head if finetune.part == "none" else finetune).epochs
    stages = [(round(share * epochs), augment) for share, augment in NAMED_CURRICULA[name]]
    starts = [0, *(end for end, _ in stages)]
    return [
        {"until_epoch": end, **(options if augment else {}), "augment": augment}
        for start, (end, augment) in zip(starts, stages, strict=False)
        if end > start
    ]
