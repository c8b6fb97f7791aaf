"""Masks by their names: the words by which public sets and programs call label maps and maps, in names of files and folders."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath

from medgan_pl.data.files.names import bare

# Words of a name, at any place in it: KiTS, LiTS, VerSe, BIDS (dseg, probseg), FreeSurfer (aseg, aparc, wmparc, brainmask), ITK-SNAP.
MASK_WORD = re.compile(
    r".*masks?|msks?|(?!ms)[a-z]*segs?|segm|.*segmentations?|labels?|labelmaps?|dlabel|aparc|wmparc|parcellations?|annotations?"
    r"|groundtruths?|delineations?|contours?|scribbles?|instances"
    # Maps made of an image: probabilities (FSL pve), uncertainty, saliency, distances, transforms; and drawings on it
    r"|prob|probs|probability|probabilities|probmaps?|softmax|logits|pve|uncertaint(y|ies)|entropy|heatmaps?"
    r"|saliency|gradcam|cams?|sdf|sdm|xfms?|warpfield|overlays?|thumbnails?"
)
# Short words count only as the first or the last part of a name between - _ . and spaces: patient001_frame01_gt, GT.nii.gz
END_WORDS = ("gt", "gts", "lbl", "lbls", "roi", "rois", "truth", "truths", "consensus", "gm", "wm", "csf", "wmh")
# Tissue maps of SPM and CAT12: mwp1sub01, wc2T1, rc1T1
SPM_MAP = re.compile(r"^(mwr?|wr?|r)[cp][1-6](?![0-9])", re.IGNORECASE)
# BIDS: the last word tells the kind, whatever stands before it: sub-01_from-T1w_mode-image_xfm
BIDS_MASK = re.compile(r"^sub-[0-9A-Za-z]+_.*_(mask|dseg|probseg|xfm)$")
# A folder of both, such as Lung_Segmentation_Data, is a folder of images.
NO_MASK_WORDS = (
    "image",
    "images",
    "img",
    "imgs",
    "scan",
    "scans",
    "data",
    "dataset",
    "datasets",
    "database",
    "challenge",
    "set",
    "no",
    "without",
)


def is_mask_name(name: str) -> bool:
    """Return True if a word of the name is one for masks: T1_brainmask, segmentation-0, sub-01_desc-aseg_dseg, leftMask, case 1_mask_2."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    parts = [re.sub(r"\d+$", "", part) for part in re.split(r"[-_.\s]+", name.lower()) if not part.isdigit()]
    if any(word in NO_MASK_WORDS for word in words) and not BIDS_MASK.search(name):
        return False
    ends = {parts[0], parts[-1]} if parts else set()
    named = any(MASK_WORD.fullmatch(word) for word in words) or SPM_MAP.search(name) is not None
    return named or bool(ends & {*END_WORDS}) or "ground truth" in " ".join(words)


def masks_among(paths: Sequence[Path], chosen: Callable[[str], bool] | None = None) -> set[Path]:
    """Return those of the paths, relative to one root, that are masks by their own name or by a folder's.

    Folders that hold all the paths say nothing. If all paths would be masks, only the file names count; if they all are masks as well,
    none is left out. Nor are those that a user has `chosen` by their paths, if these are all masks.
    """
    if not paths:
        return set()
    shared = len(commonest(paths))
    by_file = {path for path in paths if is_mask_name(bare(path.name))}
    masks = by_file | {path for path in paths if any(map(is_mask_name, path.parts[shared:-1]))}
    masks = next((some for some in (masks, by_file) if len(some) < len({*paths})), set())
    picked = {path for path in paths if chosen and chosen(path.as_posix())}
    return masks - picked if picked <= masks else masks


def commonest(paths: Iterable[PurePath]) -> tuple[str, ...]:
    """Return the folders that hold all the paths."""
    folders = [path.parts[:-1] for path in paths]
    first, last = min(folders), max(folders)
    depth = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:depth]
