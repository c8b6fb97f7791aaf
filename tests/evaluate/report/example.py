"""A judgement as `evaluate` writes it, with two classes, all groups, undefined and flagged metrics; and pictures for it."""

from typing import Any

import torch
from torch import Tensor

from medgan_pl.evaluate.report import Pairs, Pictures
from medgan_pl.metrics.estimate import Estimate
from medgan_pl.metrics.judgement import FORMAT
from medgan_pl.metrics.result import Result

CLASSES = ("NORMAL", "PNEUMONIA")
RUNGS = ("blur 0.5", "blur 1", "blur 2", "noise 0.05", "noise 0.1", "noise 0.2")
BLIND = "It does not follow blur (0.88, 2.4, 2.1, 1.9 from untouched reals to the worst) on these images: do not rely on it for that."


def about(value: float, reach: float) -> Estimate:
    return Estimate(value, value - reach, value + 1.1 * reach)


def _result(key: str, space: str, value: tuple, floor: tuple | None, ladder: tuple = (), noise: float | None = None, **rest: Any) -> Result:
    rungs = dict(zip(RUNGS, ladder, strict=False))
    return Result(key, space, "", about(*value), "", 1000, 586, about(*floor) if floor else None, rungs, noise, **rest)


def _fidelity() -> list[Result]:
    return [
        _result("fd", "random", (0.2431, 0.021), (0.1204, 0.009), (0.362, 2.41, 5.87, 0.301, 0.92, 3.4), 142.3),
        _result("fd", "inception", (34.18, 1.94), (12.71, 0.83), (18.9, 47.2, 96.0, 21.4, 58.0, 151.0), 388.2),
        _result("fd", "radiomics", (1.92, 0.31), (0.88, 0.12), (2.4, 2.1, 1.9, 3.9, 7.7, 14.8), 61.0, unordered=BLIND),
        _result("kid", "random", (0.0184, 0.0031), (-0.0007, 0.0011), (0.041, 0.434, 0.752, 0.03, 0.11, 0.41), 11.02),
        _result("precision", "random", (0.812, 0.022), (0.871, 0.018), (0.84, 0.41, 0.12, 0.79, 0.66, 0.31), 0.0),
        _result("density", "random", (0.934, 0.041), (1.003, 0.035), (0.97, 0.5, 0.1, 0.88, 0.7, 0.4), 0.0),
        _result("density", "inception", (0.871, 0.052), (0.994, 0.044), (0.93, 0.61, 0.22, 0.9, 0.74, 0.5), 0.0),
    ]


def _diversity() -> list[Result]:
    return [
        _result("recall", "random", (0.643, 0.031), (0.866, 0.019), (0.83, 0.52, 0.2, 0.81, 0.84, 0.87), 0.0, unordered=BLIND),
        _result("coverage", "random", (0.781, 0.024), (0.951, 0.011), (0.93, 0.55, 0.2, 0.91, 0.8, 0.6), 0.0),
        _result("ms_ssim", "", (0.571, 0.018), (0.545, 0.016), (0.56, 0.61, 0.68, 0.531, 0.5, 0.41), 0.02),
    ]


def _use() -> list[Result]:
    return [
        _result("auc_real", "", (0.971, 0.008), None),
        _result("auc_synthetic", "", (0.938, 0.014), None),
        _result("auc_both", "", (0.973, 0.007), None),
        _result("auc_gain", "", (0.002, 0.006), None),
        _result("auc_reverse", "", (0.956, 0.009), None),
        _result("agreement", "", (0.902, 0.017), (0.921, 0.015)),
        Result("dice_synthetic", undefined="the data hold no masks", n_fake=1000, n_real=586),
    ]


def _privacy() -> list[Result]:
    return [
        _result("nn_ratio", "pixels", (0.962, 0.011), (1.0, 0.012), (0.93, 0.82, 0.71, 0.99, 1.2, 1.6), 3.4),
        _result("nn_ratio", "random", (0.981, 0.014), (1.0, 0.013), (1.06, 2.1, 3.0, 1.04, 1.5, 2.6), 14.0),
        _result("copies", "pixels", (0.013, 0.006), (0.01, 0.005)),
        _result("duplicates", "pixels", (0.008, 0.004), (0.01, 0.005)),
        _result("mia_auc", "pixels", (0.517, 0.019), (0.506, 0.021)),
        _result("mia_advantage", "pixels", (0.011, 0.027), None),
        Result("mia_auc", "inception", undefined="needs 50 held-out images or more on either side, got 38", n_fake=1000, n_real=38),
    ]


def _paired() -> list[Result]:
    return [
        _result("mae", "", (41.2, 2.3), None),
        _result("psnr", "", (29.41, 0.22), None),
        _result("ssim", "", (0.871, 0.006), None),
        Result("hd95", undefined="the data hold no masks", n_fake=1000, n_real=586),
    ]


def _by_class() -> list[Result]:
    return [
        Result("fd", "random", "NORMAL", about(0.391, 0.05), "", 500, 234, about(0.22, 0.02)),
        Result("fd", "random", "PNEUMONIA", about(0.302, 0.03), "", 500, 352, about(0.17, 0.02)),
        Result("coverage", "random", "NORMAL", about(0.72, 0.04), "", 500, 234, about(0.95, 0.02)),
        Result("coverage", "random", "PNEUMONIA", None, "needs 100 images, got 38", 38, 352),
    ]


def judgement(classes: tuple[str, ...] = CLASSES) -> dict[str, Any]:
    rows = [row.plain() for row in (*_fidelity(), *_diversity(), *_use(), *_privacy(), *_paired(), *_by_class())]
    for row in rows:
        row["label"] = classes[CLASSES.index(row["label"])] if row["label"] else ""
        row["name"] = Result.from_plain(row).name
    random = {"weights": "random, seed 0, width 16", "resize": "none", "gray": "1 channel(s) as they are", "normalization": "none: [-1, 1]"}
    inception = {"weights": "pt_inception-2015-12-05, sha256 6726825d", "resize": "bilinear to 299 × 299", "gray": "repeated to RGB"}
    return {
        "format": FORMAT,
        "created": "2026-11-21T09:30:00+00:00",
        "version": "0.1.0",
        "subject": {
            "kind": "checkpoint", "name": "outputs/best.ckpt", "path": "/home/user/outputs/best.ckpt",
            "sha256": "9f2c" * 16, "model": "resnet_gan", "images_seen": 78000,
        },
        "data": {
            "title": "Kermany et al. 2018, chest films of children, 224² (CC BY 4.0)", "phantom": False, "modality": "X-ray",
            "unit": "gray levels", "classes": list(classes), "size": [64, 64], "channels": 1, "spatial_dims": 2, "split_hash": "5c1e0a7b",
            "counts": {"train": 4684, "reference": 586, "floor": 586, "fake": 1000},
            "patients": {"train": 2316, "reference": 289, "floor": 290}, "per_class": dict(zip(classes, (234, 352), strict=True)),
        },
        "spaces": {"random": random, "inception": inception, "pixels": {"resize": "averaged to 32 × 32", "features": "gray levels"}},
        "settings": {"n": 1000, "seed": 0, "draws": 200, "metrics": ["fidelity", "diversity", "use"], "ladder": {"blur": [0.5, 1, 2]}},
        "run": {"model": {"name": "resnet_gan", "width": 64}, "optimizer_g": {"lr": 0.0005, "betas": [0.0, 0.99]}, "monitor": None},
        "verdicts": {
            "fidelity": {"mark": "good", "text": "Twice as far from real films as those are from one another: nearer than mild blur."},
            "diversity": {"mark": "doubtful", "text": "About a fifth of the patients have no generated image near them."},
            "use": {"mark": "good", "text": "A classifier taught by generated films alone comes within 0.03 of one taught by real films."},
            "privacy": {"mark": "unknown", "text": "No copies were found in pixels; membership could not be tested in all spaces."},
            "paired": {"mark": "bad", "text": "The mean error of 41 HU is more than a reader accepts."},
        },
        "results": rows,
        "notes": [
            "Only 586 held-out images: numbers for PNEUMONIA alone rest on few patients.",
            "The data name patients by file name; two scans of one child under two numbers would count as strangers.",
        ],
    }  # fmt: skip


def films(n: int, seed: int, size: int = 32) -> Tensor:
    """Return (n, 1, size, size) in [-1, 1]: two dark lungs in a bright chest, each a little different."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    middle, width, height = (
        torch.rand(3, n, 1, 1, generator=generator) * 0.2 + torch.tensor([0.35, 0.25, 0.6])[:, None, None, None]
    ).unbind(0)
    lungs = ((x.abs() - middle) / width) ** 2 + ((y + 0.05) / height) ** 2
    image = 0.5 - 1.1 * torch.exp(-(lungs**2)) - (x**2 + 0.6 * y**2 > 0.95) * 1.2
    return (image[:, None] + 0.06 * torch.randn(n, 1, size, size, generator=generator)).clamp(-1, 1)


def pictures(classes: tuple[str, ...] = CLASSES) -> Pictures:
    real, fake, train = films(30, 0), films(30, 1), films(6, 2)
    pairs = Pairs("pixels", fake[:6], train, torch.tensor([1.1, 1.28, 1.4, 2.5, 3.3, 3.9]))
    strangers = Pairs("pixels", real[:6], train, torch.linspace(2.6, 3.4, 6))
    ladder = {rung: films(1, 3)[0] * (1 - 0.12 * n) for n, rung in enumerate(("untouched", *RUNGS))}
    per_class = {name: (fake[6 * n : 6 * n + 6], real[6 * n : 6 * n + 6]) for n, name in enumerate(classes)}
    return Pictures(fake, real, per_class, [pairs], [strangers], ladder, {"Given": real[:4] * 0.5, "Made": fake[:4], "Right": real[:4]})


def curves() -> dict[str, tuple[list[float], list[float]]]:
    images = [2000.0 * n for n in range(40)]
    falling = [31.3 * 0.85**n + 0.24 for n in range(40)]
    flat = [0.7 + 0.02 * (n % 5) for n in range(40)]
    return {
        "images": (images, images),
        "train/d/loss": (images, flat),
        "train/g/loss": (images, [1.3 - value for value in flat]),
        "train/d/real": (images, flat),
        "train/d/fake": (images, [-value for value in flat]),
        "val/fd_random": (images[::4], falling[::4]),
        "val/kid_random": (images[::4], [value / 20 - 0.012 for value in falling[::4]]),
        "val/ms_ssim_fake": (images[::4], flat[::4]),
        "val/ms_ssim_real": (images[::4], [0.7] * 10),
    }
