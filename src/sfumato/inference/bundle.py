"""A trained model as a MONAI bundle: a folder that MONAI's own runner segments with."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sfumato.image.preprocessing import ChannelSettings
from sfumato.inference.sliding_window import LARGEST_GROWTH
from sfumato.model.trained import TrainedModel
from sfumato.storage import atomic_path, write_text

CONFIG, WEIGHTS = Path("configs/inference.json"), Path("models/model.pt")
_METADATA, _README = Path("configs/metadata.json"), Path("docs/README.md")

# How a channel is measured: between which values it is kept, its mean and its deviation.
_BY_CASE = (
    "$lambda c: (lambda v: (lambda ends: (*ends, np.clip(v, *ends).mean(dtype=np.float64),"
    " np.clip(v, *ends).std(dtype=np.float64)))(np.percentile(v, [0.5, 99.5]) if v.size"
    " else np.zeros(2)))({kept})"
)
# A constant channel becomes 0; where 0 stands for nothing it stays.
_NORMALISE = (
    "$lambda c, low, high, mean, deviation, keeps_zero: np.where(keeps_zero & (c == 0), 0,"
    " (np.clip(c, low, high) - mean) / (deviation if deviation > max(1e-6 * max(abs(low),"
    " abs(high)), np.finfo(np.float32).tiny) else np.inf)).astype(np.float32)"
)
_TO_INTENSITIES = (
    "$lambda d, measures=@measures, keeps_zero=@keeps_zero, normalise=@normalise: {**d, 'image':"
    " monai.utils.convert_to_dst_type(np.stack([normalise(c, *m(c), k) for c, m, k in zip("
    "d['image'].numpy(), measures, keeps_zero)]), d['image'])[0]}"
)
# Splines swing beyond the values on both sides of an edge.
_NOTE_LIMITS = (
    "$lambda d: {**d, 'limits': (d['image'].amin(list(range(1, d['image'].ndim)), keepdim=True)"
    ".as_tensor(), d['image'].amax(list(range(1, d['image'].ndim)), keepdim=True).as_tensor())}"
)
_FITTED = (
    "$lambda shape, window=@window, divisors=@window_divides_by: [w if not w < -(-n // d) * d <="
    f" w * {LARGEST_GROWTH!r} else -(-n // d) * d for n, w, d in zip(shape, window, divisors)]"
)
# A window that may grow to hold a whole axis, which is the half of `fitted_window` that matters for
# images of one window.
_INFERER = (
    "$lambda inputs, network, *_, fitted=@fitted_window, **__: monai.inferers.SlidingWindowInferer("
    "fitted(inputs.shape[2:]), sw_batch_size=1, overlap=0.5, mode='gaussian',"
    " padding_mode='replicate')(inputs, network)"
)
# MONAI writes pictures with columns first.
_TURN = "$lambda d, ext=@output_ext: {**d, 'pred': d['pred'] if 'nii' in ext else d['pred'].mT}"
# MONAI 1.6 looks for space to resample in the wrong axes even where nothing is to be resampled, and
# takes the channels of a NIfTI file, which come last there, for space.
_WRITER = (
    "$type('Writer', (monai.data.NibabelWriter,), {'set_metadata': lambda self, meta_dict, **_:"
    " setattr(self, 'affine', np.asarray(meta_dict['affine']))})"
)
_NOTE_SHAPE = "$lambda d: d['pred'].meta.update(spatial_shape=tuple(d['pred'].shape[1:])) or d"
_LIMIT = "$lambda d: {**d, 'image': d['image'].clip(*d['limits'])}"


def write_bundle(
    model: TrainedModel, folder: Path, description: dict[str, Any]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Write a model as a MONAI bundle.

    Args:
        model: What was trained.
        folder: Where to; it becomes the bundle's root.
        description: What else a program may want to know; it goes to the bundle's metadata.

    Returns:
        The network as the bundle makes it.
    """
    with atomic_path(folder / WEIGHTS) as temporary:
        torch.save(model.network.state_dict(), temporary)
    write_text(folder / _METADATA, json.dumps(_metadata(model, description), indent=2))
    write_text(folder / _README, _readme(model))
    config = json.dumps(_config(model), indent=2)
    write_text(folder / CONFIG, config)
    return _network_of(folder, json.loads(config))


def _network_of(folder: Path, config: dict[str, Any]) -> Callable[[torch.Tensor], torch.Tensor]:
    from monai.bundle import ConfigParser

    network: torch.nn.Module = ConfigParser(config).get_parsed_content("network_def")
    network.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    return network.eval()


def _config(model: TrainedModel) -> dict[str, Any]:
    channels = model.preprocessing.channels
    assert channels is not None
    return {
        "imports": ["$import glob", "$import os", "$import numpy as np", "$import torch",
                    "$import monai"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/segmentations'",
        "output_ext": ".nii.gz",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "images": "$sorted(glob.glob(os.path.join(@dataset_dir, '*.*')))",
        "network_def": _network(model),
        # Windows are blended as probabilities.
        "network": "$torch.nn.Sequential(@network_def, torch.nn.Softmax(dim=1)).to(@device)",
        "measures": [_measure(channel) for channel in channels],
        "keeps_zero": [c.normalization == "case" and c.ignore_zero for c in channels],
        "normalise": _NORMALISE,
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(model)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @images]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0,
        },
        "window": model.window,
        "window_divides_by": model.divisors,
        "fitted_window": _FITTED,
        "inferer": _INFERER,
        "writer": _WRITER,
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(model)},
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": f"$@bundle_root + '/{WEIGHTS.as_posix()}'",
                "load_dict": {"model": "@network_def"},
                "map_location": "@device",
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "initialize": ["$monai.utils.set_determinism(seed=0)"],
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def _network(model: TrainedModel) -> dict[str, Any]:
    settings = model.network_settings
    assert settings.strides is not None
    return {
        "_target_": "DynUNet",
        "spatial_dims": len(model.window),
        "in_channels": model.n_channels,
        "out_channels": len(model.classes),
        "kernel_size": settings.kernels,
        "strides": settings.strides,
        "upsample_kernel_size": settings.strides[1:],
        "filters": settings.features,
        "norm_name": ["instance", {"affine": True}],
        "act_name": ["leakyrelu", {"inplace": True, "negative_slope": 0.01}],
    }


def _measure(channel: ChannelSettings) -> str:
    if channel.normalization == "dataset":
        numbers = (channel.low, channel.high, channel.mean, channel.deviation)
        return f"$lambda c: {numbers!r}"
    return _BY_CASE.replace("{kept}", "c[c != 0]" if channel.ignore_zero else "c.ravel()")


def _preprocessing(model: TrainedModel) -> list[Any]:
    is_flat = len(model.window) == 2
    orient = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None}
    return [
        {
            "_target_": "LoadImaged",
            "keys": "image",
            # Of pictures, rows come first.
            "reader": ["NibabelReader", "$monai.data.PILReader(reverse_indexing=False)"],
        },
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        *([] if is_flat else [orient]),
        _TO_INTENSITIES,
        _NOTE_LIMITS,
        {
            "_target_": "Spacingd",
            "keys": "image",
            "align_corners": True,
            "pixdim": model.preprocessing.spacing_mm,
            "mode": 3,
            "padding_mode": "nearest",
            "scale_extent": True,
        },
        _LIMIT,
    ]


def _postprocessing(model: TrainedModel) -> list[Any]:
    power = 1 / model.temperature
    scale = f"$lambda p: p ** {power!r} / (p ** {power!r}).sum(0, keepdim=True)"
    values = model.classes.values
    is_other = values != tuple(range(len(values)))
    return [
        *([{"_target_": "Lambdad", "keys": "pred", "func": scale}] if power != 1 else []),
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        },
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        *(
            [
                {
                    "_target_": "MapLabelValued",
                    "keys": "pred",
                    "orig_labels": list(range(len(values))),
                    "target_labels": values,
                }
            ]
            if is_other
            else []
        ),
        *([_TURN] if len(model.window) == 2 else []),
        _NOTE_SHAPE,
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_ext": "@output_ext",
            "writer": "$@writer if 'nii' in @output_ext else monai.data.PILWriter",
            "output_postfix": "",
            "output_dtype": "uint8" if max(values) < 256 else "int32",
            "resample": False,
            "separate_folder": False,
        },
    ]


def _metadata(model: TrainedModel, description: dict[str, Any]) -> dict[str, Any]:
    names = model.classes.names
    shape = list(model.window)
    return {
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported on {datetime.now(UTC):%Y-%m-%d}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {
            "nibabel": version("nibabel"), "scipy": version("scipy"), "pytorch-ignite": "0.5",
            "pillow": version("pillow"),
        },
        "name": "Segmentation of " + ", ".join(model.classes.foreground),
        "task": "segmentation",
        "description": "A U-Net that sfumato trained on softened labels.",
        "authors": "",
        "copyright": "",
        "intended_use": "Research; this is no medical device.",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "num_channels": model.n_channels,
                    "spatial_shape": shape,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": {str(i): f"channel {i + 1}" for i in range(model.n_channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": len(names),
                    "spatial_shape": shape,
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": True,
                    "channel_def": {str(i): name for i, name in enumerate(names)},
                }
            },
        },
        "sfumato": description,
    }  # fmt: skip


def _readme(model: TrainedModel) -> str:
    return f"""# Segmentation of {", ".join(model.classes.foreground)}

Trained and exported by sfumato {version("sfumato")}. With MONAI, pytorch-ignite and fire:

    python -m monai.bundle run --config_file {CONFIG.as_posix()} --bundle_root . \\
        --dataset_dir IMAGES --output_dir SEGMENTATIONS

`IMAGES` is a folder of NIfTI files or, for flat images, pictures; `--output_ext .png` writes
pictures. Post-processing is left out; this model asks for {"some" if _asks(model) else "none"}.
"""


def _asks(model: TrainedModel) -> bool:
    return bool(model.postprocessing.model_dump(exclude_defaults=True))
