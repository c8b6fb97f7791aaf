"""Several volumes at the same places, told apart by the facts in which they differ, whatever their slices are numbered."""

import numpy as np
import pytest
from dicom_files import AXIAL, dataset, write_series
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medgan_pl.data.files.records import Item
from medgan_pl.data.modalities import CT, MRI
from medgan_pl.data.readers.anatomy import Choice
from medgan_pl.data.readers.facts import facts_in
from medgan_pl.data.readers.gather import gather_volumes

VOLUMES = np.random.default_rng(8).integers(0, 900, (3, 3, 5, 6)).astype(np.uint16)
SHUFFLED = np.random.default_rng(2).permutation(9).reshape(3, 3)  # the number of each slice of each volume
FACTS = {
    "b-value": [{"DiffusionBValue": 500.0 * k} for k in range(3)],
    "trigger": [{"TriggerTime": 30 * k} for k in range(3)],
}


def write_volumes(folder, tags, number=lambda k, i: int(SHUFFLED[k, i]) + 1, depths=(3, 3, 3), modality="MR"):
    """Write VOLUMES, or the first slices of each, as one series; the names of the files tell nothing."""
    for k, (volume, depth) in enumerate(zip(VOLUMES, depths, strict=True)):

        def edit(i, ds, k=k):
            ds.InstanceNumber = number(k, i)
            for name, value in tags[k].items() if isinstance(tags, list) else tags(k, i).items():
                setattr(ds, name, value)

        rescale = {} if modality == "CT" else {"slope": None, "intercept": None}
        for i, path in enumerate(write_series(folder / str(k), volume[:depth], modality=modality, edit=edit, **rescale)):
            path.rename(folder / f"{(7 * (3 * k + i)) % 11:02d}")
    return [Item(path.name, (path,)) for path in sorted(folder.iterdir()) if path.is_file()]


def same(scans, volumes=VOLUMES):
    return sorted(scan.tobytes() for scan in scans) == sorted(volume.astype(np.float32).tobytes() for volume in volumes)


def read_all(items, modality="MR", volume="all"):
    found = gather_volumes(items, modality, Choice(volume=volume))
    return [(MRI() if modality == "MR" else CT()).read(item).pixels for item in found.items], found


@pytest.mark.parametrize("tags", FACTS.values(), ids=FACTS)
def test_a_fact_of_the_slices_tells_the_volumes_apart(tmp_path, tags):
    items = write_volumes(tmp_path, tags)
    scans, _ = read_all(items)
    assert same(scans)


def test_facts_are_read_by_their_names(tmp_path):
    numbers = dict.fromkeys(("EchoTime", "DiffusionBValue", "InversionTime", "FlipAngle", "KVP", "TriggerTime", "AcquisitionNumber"), 3)
    words = {"ConvolutionKernel": "B30f", "SequenceName": "ep_b50#2", "AcquisitionTime": "101010.5"}
    (path,) = write_series(
        tmp_path, VOLUMES[0, :1], modality="MR", edit=lambda i, ds: ds.add_new(0x0019100C, "IS", "700"), **numbers, **words
    )
    found = facts_in(path)
    assert {name: float(found[name]) for name in numbers} == numbers
    assert {name: found[name] for name in words} == words
    assert found["0019100c"] == "700"


def test_kernels_of_ct_and_times_that_differ_from_slice_to_slice(tmp_path):
    items = write_volumes(tmp_path / "ct", [{"ConvolutionKernel": name} for name in ("B70f", "B30f", "B31s")], modality="CT")
    scans, _ = read_all(items, "CT")
    assert same(scans)
    clock = write_volumes(tmp_path / "mr", lambda k, i: {"AcquisitionTime": f"1000{10 + 20 * k + (5 * i) % 4:02d}"})
    scans, _ = read_all(clock)
    assert same(scans)


@pytest.mark.parametrize("number", [lambda k, i: 3 * k + i, lambda k, i: 3 * i + k], ids=["volume by volume", "place by place"])
def test_numbers_tell_them_apart_only_where_they_run_on(tmp_path, number):
    scans, _ = read_all(write_volumes(tmp_path / "even", [{}, {}, {}], lambda k, i: number(k, i) + 1))
    assert same(scans)
    scans, found = read_all(write_volumes(tmp_path / "odd", [{}, {}, {}]))
    assert not scans
    assert "9 slices lie at 3 places, and nothing in their headers tells which ones are one volume" in next(iter(found.unusable.values()))


def test_a_volume_that_was_cut_short_leaves_the_others_whole(tmp_path):
    items = write_volumes(tmp_path, [{"AcquisitionNumber": k} for k in (1, 2, 3)], depths=(3, 3, 2))
    assert same(read_all(items)[0], [VOLUMES[0], VOLUMES[1], VOLUMES[2, :2]])
    assert np.array_equal(read_all(items, volume="first")[0][0], VOLUMES[0])


def group(**tags):
    one = Dataset()
    for name, value in tags.items():
        setattr(one, name, value)
    return Sequence([one])


def write_frames(path, content, places=None):
    """Write all VOLUMES as one enhanced MR whose frames come in the order of SHUFFLED; content(k, i): the groups of a frame."""
    order = [divmod(int(n), 3) for n in np.argsort(SHUFFLED.reshape(-1))]
    ds = dataset(np.array([VOLUMES[k, i] for k, i in order]), "P1", "MR")
    ds.SOPClassUID, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.NumberOfFrames = "1.2.840.10008.5.1.4.1.1.4.1", "1.2", "1.3", 9
    shared, frames = Dataset(), []
    shared.PixelMeasuresSequence = group(PixelSpacing=[0.8, 0.5], SliceThickness=2)
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=list(AXIAL))
    for k, i in order:
        frame = Dataset()
        frame.PlanePositionSequence = group(ImagePositionPatient=[0.0, 0.0, places(k, i) if places else 2.0 * i])
        for name, tags in content(k, i).items():
            setattr(frame, name, group(**tags))
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(frames)
    ds.save_as(path)
    return [Item("e", (path,))]


FRAMES = {
    "heart": lambda k, i: {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 30.0 * k}},
    "dimension": lambda k, i: {"FrameContentSequence": {"DimensionIndexValues": [1, i + 1, k + 1]}},
    "direction": lambda k, i: {
        "MRDiffusionSequence": {"DiffusionGradientDirectionSequence": group(DiffusionGradientOrientation=np.eye(3)[k].tolist())}
    },
}


@pytest.mark.parametrize("content", FRAMES.values(), ids=FRAMES)
def test_a_fact_of_the_frames_tells_the_volumes_apart(tmp_path, content):
    scans, _ = read_all(write_frames(tmp_path / "e", content))
    assert same(scans)


def test_frames_in_any_order_without_such_a_fact_are_refused(tmp_path):
    scans, found = read_all(write_frames(tmp_path / "e", lambda k, i: {}))
    assert not scans
    assert "nothing in their headers tells" in found.unusable["e"]


def test_stacks_apart_are_volumes_and_stacks_that_continue_one_another_are_one(tmp_path):
    def stacks(k, i):
        return {"FrameContentSequence": {"StackID": str(k + 1), "InStackPositionNumber": i + 1}}

    scans, _ = read_all(write_frames(tmp_path / "e", stacks, lambda k, i: 100.0 * k + 2 * i))
    assert same(scans)
    ((whole,), _) = read_all(write_frames(tmp_path / "f", stacks, lambda k, i: 6.0 * k + 2 * i), volume=None)
    assert np.array_equal(whole, VOLUMES.reshape(9, 5, 6))
