"""An experiment: which models are trained, where each is kept, and when it is the same."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from sfumato.cases.dataset import Dataset
from sfumato.config import load_config
from sfumato.errors import ConfigError, InputError
from sfumato.evaluation.runs import NO_NOISE, Condition
from sfumato.labels.noise import LabelNoise
from sfumato.workflow.manifest import file_state
from sfumato.workflow.run import split_cases
from sfumato.workflow.run_config import RunConfig
from sfumato.workflow.tracking import Track, silently

FORMAT_VERSION = 3
"""Part of the key of a run: raise it whenever what a run writes changes."""
RUNS = "runs"
SPOILT = "spoilt"
FINGERPRINTS = "fingerprints"


@dataclass(frozen=True, kw_only=True)
class ExperimentRequest:
    """What the user wants compared.

    Attributes:
        softeners: Kinds of soft labels: a method, perhaps with settings of its own, as in
            `superpixel:superpixels.size_mm=4`.
        n_seeds: Seeds 0 to n - 1 of every kind.
        folds: "N" for all of N folds, "K/N" for one of them.
        train_cases: Numbers of training cases; None for all.
        noises: How training labels are spoilt, such as "erode:1mm"; "none" for not at all.
        config_path: A settings file that all runs share.
        overrides: Single settings that all runs share, the length of training among them.
    """

    softeners: tuple[str, ...]
    n_seeds: int = 3
    folds: str = "5"
    train_cases: tuple[int | None, ...] = (None,)
    noises: tuple[str, ...] = (NO_NOISE,)
    config_path: Path | None = None
    overrides: tuple[str, ...] = ()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What models are trained on, labels as they were drawn first.

        Raises:
            ConfigError: If a noise is none, or stands there twice.
        """
        noises = sorted(map(_noise, self.noises), key=lambda noise: noise != NO_NOISE)
        if len(set(noises)) < len(noises):
            raise ConfigError(f"--noise takes each noise once, got {' '.join(self.noises)}")
        return tuple(
            Condition(train_cases=n, noise=noise) for noise, n in product(noises, self.train_cases)
        )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training of an experiment.

    Attributes:
        softener: The kind of soft label, as the user named it.
        condition: How many cases are trained on, and how their labels are spoilt.
        fold: Which fold is held out, "K/N".
        seed: The training's seed.
        config: All settings that are not left to the data.
        data_key: Identifies the content of the data.
    """

    softener: str
    condition: Condition
    fold: str
    seed: int
    config: RunConfig
    data_key: str

    @property
    def words(self) -> str:
        """The training, for people."""
        n = self.condition.train_cases
        cases = "all cases" if n is None else f"{n} cases"
        noise = "" if self.noise is None else f", labels spoilt by {self.noise}"
        return f"{self.softener}, {cases}{noise}, fold {self.fold}, seed {self.seed}"

    @property
    def noise(self) -> LabelNoise | None:
        """How the training labels are spoilt; None if they are not."""
        if self.condition.noise == NO_NOISE:
            return None
        return LabelNoise.parse(self.condition.noise)

    @cached_property
    def key(self) -> str:
        """What the outcome depends on: a hash of settings, fold, data and version."""
        return _hash(
            self.data_key, self.fold, self.condition.noise, self.config.model_dump(mode="json")
        )

    @property
    def folder_name(self) -> str:
        """The folder's name; the key alone decides whether a run is the same."""
        n = "all" if self.condition.train_cases is None else self.condition.train_cases
        noise = "" if self.noise is None else f"-{_file_words(self.noise)}"
        fold = self.fold.replace("/", "of")
        method = self.config.softening.method
        return f"{method}-{n}{noise}-fold{fold}-seed{self.seed}-{self.key}"

    def folder(self, out: Path) -> Path:
        """Return where the run is kept."""
        return out / RUNS / self.folder_name

    def fingerprint_path(self, out: Path) -> Path:
        """Return where trainings on the same cases note what these are like.

        It saves all but the first of them from reading all cases for it.
        """
        spoilt = self.spoilt_folder(out)
        content = (
            self.data_key,
            self.fold,
            self.condition.train_cases,
            self.config.calibration.cases,
            spoilt and spoilt.name,
        )
        return out / FINGERPRINTS / f"{_hash(*content)}.json"

    def spoilt_folder(self, out: Path) -> Path | None:
        """Return where spoilt labels are kept, for all trainings that learn from the same ones.

        None where labels are not spoilt.
        """
        if self.noise is None:
            return None
        seed = f"-seed{self.seed}" if self.noise.is_random else ""
        return out / SPOILT / f"{_file_words(self.noise)}{seed}-{_hash(self.data_key)}"

    def metrics(self, out: Path) -> dict[str, Any] | None:
        """Read what the trained model scored; None if the run is not done."""
        path = self.folder(out) / "evaluation" / "metrics.json"
        if not path.is_file():
            return None
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return document


def list_cells(dataset: Dataset, request: ExperimentRequest, track: Track = silently) -> list[Cell]:
    """List the trainings of an experiment; those that are compared stand side by side.

    Raises:
        ConfigError: If a softener, setting, fold, noise or number of training cases is
            impossible, or there are not two kinds of soft label.
    """
    configs = [_config_of(softener, request) for softener in request.softeners]
    if len(configs) < 2 or len(set(request.softeners)) < len(configs):
        raise ConfigError(
            "--softeners takes two different kinds of soft label or more, such as"
            f" --softeners none superpixel; got {' '.join(request.softeners)!r}"
        )
    folds, conditions = _folds(request.folds), request.conditions
    for n, fold in product(request.train_cases, folds):
        split_cases(dataset, fold, _with(configs[0], {"train_cases": n}))
    data_key = hash_dataset(dataset, track)
    return [
        Cell(
            softener=softener,
            condition=condition,
            fold=fold,
            seed=seed,
            config=_with(config, {"seed": seed, "train_cases": condition.train_cases}),
            data_key=data_key,
        )
        for seed, fold, condition in product(range(request.n_seeds), folds, conditions)
        for softener, config in zip(request.softeners, configs, strict=True)
    ]


def put_baseline_first(softeners: Sequence[str]) -> tuple[str, ...]:
    """Order kinds of soft labels so that the one others are compared with is the first.

    Examples:
        >>> put_baseline_first(["superpixel", "none", "svls"])
        ('none', 'superpixel', 'svls')
    """
    return tuple(sorted(softeners, key=lambda name: name != "none"))


def hash_dataset(dataset: Dataset, track: Track = silently) -> str:
    """Identify the content of all files of a data set, wherever they lie.

    Raises:
        OSError: If a file cannot be read.
    """
    content: list[Any] = [dataset.classes.names, dataset.classes.values, dataset.is_photo]
    for record in track(dataset.records, "Reading the data", len(dataset)):
        files = [file_state(path).sha256 for path in (*record.image_paths, *record.label_paths)]
        content.append([record.id, record.group, files])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _config_of(softener: str, request: ExperimentRequest) -> RunConfig:
    method, *own = softener.split(":")
    overrides = [*request.overrides, f"softening.method={method}", *own]
    return load_config(RunConfig, request.config_path, overrides)


def _with(config: RunConfig, values: Mapping[str, object]) -> RunConfig:
    return config.model_copy(update={"training": config.training.model_copy(update=dict(values))})


def _hash(*content: object) -> str:
    text = json.dumps([FORMAT_VERSION, version("sfumato"), *content])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _file_words(noise: LabelNoise) -> str:
    return f"{noise.kind}{noise.size_mm:g}mm"


def _noise(wish: str) -> str:
    """Write a noise in one way, whichever the user chose."""
    if wish == NO_NOISE:
        return wish
    try:
        return str(LabelNoise.parse(wish))
    except InputError as error:
        raise ConfigError(f"--noise: {error}") from error


def _folds(wish: str) -> list[str]:
    if "/" in wish:
        return [wish]
    if not wish.isdigit() or int(wish) < 2:
        raise ConfigError(
            "--folds takes a number from 2, for all of so many folds, or K/N, for one of N;"
            f" got {wish!r}"
        )
    return [f"{k}/{wish}" for k in range(int(wish))]
