"""Checks of a generator against real images: they must be of one kind, and the generator's training images must be known."""

from typing import TYPE_CHECKING

from medgan_pl.data.prepare.planes import plane_along
from medgan_pl.data.settings import numbers

if TYPE_CHECKING:
    from medgan_pl.data.datamodule import ImageDataModule
    from medgan_pl.models.module import AdversarialModule


def check_fits(module: "AdversarialModule", data: "ImageDataModule") -> None:
    """Raise ValueError unless the reals have the modality, size, channels, plane and (for a conditional one) classes of the generator."""
    data.check_model(module.config)
    own = module.config["data"]
    size = numbers("size", own["size"], module.config["image"]["spatial_dims"], 1, whole=True)
    pairs = {
        "modality": (module.inverse.modality, data.modality.name),
        "data.size": (list(size), list(data.size)),
        "data.channels": (own["channels"], data.channels),
    }
    if module.config["model"]["classes"]:
        pairs["classes"] = (list(module.classes), list(data.classes))
    planes = [each and plane_along(each.directions) for each in (module.inverse, data.inverse)]
    if all(planes):
        pairs["data.slices.axis"] = tuple(planes)
    for name, (drawn, real) in pairs.items():
        if drawn != real:
            raise ValueError(f"the reals must be like the generator's images: its {name} is {drawn}, that of the reals {real}")


def training_unknown_because(fingerprint: str | None, data: "ImageDataModule") -> str:
    """Return why the images of the training split may not be those that the generator was trained on; "" if they are.

    `fingerprint`: of the data, as the checkpoint records it.
    """
    if fingerprint is None:
        return "the weights do not record which images they were trained on"
    if fingerprint != data.fingerprint:
        return (
            f"these are not the images, or not the split, that the generator was trained on (fingerprint {data.fingerprint}, trained on "
            f"{fingerprint})"
        )
    return ""


def membership_unknown_because(fingerprint: str | None, data: "ImageDataModule") -> str:
    """Return why it is unknown which images the generator was trained on, as `training_unknown_because`; "" if it is known.

    Of patches it is unknown, though the patients who were held out are known.
    """
    if unknown := training_unknown_because(fingerprint, data):
        return unknown
    return "patches are cut at random in each epoch, so it is unknown which of them the generator was trained on" if data.patches else ""
