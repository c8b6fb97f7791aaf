import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import example
import pytest
import torch
from reading import Reader

from medgan_pl.evaluate.report import Pictures
from medgan_pl.evaluate.report.page import page
from medgan_pl.metrics.catalogue import CATALOGUE, GROUPS

DRAWN = ("path", "use", "text")  # by matplotlib, with their style as an attribute
EVIL = ("<script>alert(1)</script>", '"><img src=http://example.org/x onerror=y>')


def bare(judgement: dict[str, Any]) -> dict[str, Any]:
    """Without the charts of the ladder, which take a second a page."""
    for row in judgement["results"]:
        row |= {"ladder": {}, "noise": None, "unordered": "", "floor": None}
    return judgement


@pytest.fixture(scope="module")
def judgement() -> dict[str, Any]:
    return example.judgement()


@pytest.fixture(scope="module")
def whole(judgement: dict[str, Any]) -> str:
    return page(judgement, example.pictures(), example.curves())


@pytest.fixture(scope="module")
def read(whole: str) -> Reader:
    return Reader(whole)


def test_tags_balance_and_names_are_unique(read: Reader) -> None:
    assert read.open == []
    names = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(names) == len(set(names))
    assert {attributes["href"].removeprefix("#") for attributes in read.having("a")} <= set(names)
    assert {attributes["aria-labelledby"] for attributes in read.having("section")} <= set(names)


def reaches(read: Reader) -> list[str]:
    """Return everything that a page would load or run from elsewhere."""
    found = [tag for tag, _ in read.tags if tag in ("script", "link", "iframe", "object", "base", "form")]
    for tag, attributes in read.tags:
        found += [attributes[name] for name in ("src", "srcset", "action") if not attributes.get(name, "data:").startswith("data:")]
        found += [attributes[name] for name in ("href", "xlink:href") if not attributes.get(name, "#").startswith("#")]
        found += [name for name in attributes if name.startswith("on") or (name == "style" and tag not in DRAWN)]
    return found


def test_the_page_reaches_for_nothing_outside_itself(whole: str, read: Reader) -> None:
    assert reaches(read) == []
    assert not re.search(r"url\(|@import|@font-face", whole)
    policy = next(a["content"] for a in read.having("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"https?:", whole)


def test_what_reaches_out_would_be_found() -> None:
    assert reaches(Reader('<p><img src="http://x/y.png"></p><script></script><a href="https://x">z</a>')) == [
        "script",
        "http://x/y.png",
        "https://x",
    ]


def test_what_a_reader_and_a_screen_reader_need(read: Reader) -> None:
    assert read.having("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in read.having("meta")
    assert all(attributes.get("alt") for attributes in read.having("img"))
    assert all(attributes.get("aria-label") or attributes.get("aria-hidden") for attributes in read.having("svg"))
    assert sum(" over " in attributes.get("aria-label", "") for attributes in read.having("svg")) == 5 + 12  # curves, charts of the ladder
    assert len(read.having("table")) == len(read.having("caption"))
    assert all(attributes.get("scope") in ("col", "row", "rowgroup") for attributes in read.having("th"))
    headings = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))


def test_every_row_stands_there_with_its_reading_and_its_reason(judgement: dict[str, Any], read: Reader) -> None:
    for row in judgement["results"]:
        assert f" {row['name']} " in read.text
        assert CATALOGUE[row["key"]].reading in read.text
        if row["undefined"]:
            assert f"{row['name']} not defined: {row['undefined']}" in read.text
        if row["unordered"]:
            assert f"⚠ {row['unordered']}" in read.text


def test_numbers_stand_with_interval_and_floor(read: Reader) -> None:
    assert "fd_random 0.243 0.222 to 0.266 0.120 0.111 to 0.130" in read.text
    assert "kid_random 0.018 0.015 to 0.022 −0.0007 −0.0018 to 0.0005" in read.text
    assert "fd_random/PNEUMONIA 0.30 0.27 to 0.33 0.170 0.150 to 0.192" in read.text


def test_marks_are_words_and_signs_and_not_only_colours(judgement: dict[str, Any], read: Reader) -> None:
    signs = {"good": "✓ good", "doubtful": "! doubtful", "bad": "✕ bad", "unknown": "? unknown"}
    for group, question in GROUPS.items():
        verdict = judgement["verdicts"][group]
        assert f"{signs[verdict['mark']]} {question} {verdict['text']}" in read.text
    for note in judgement["notes"]:
        assert note in read.text


def test_a_question_without_a_verdict_is_not_asked() -> None:
    judgement = bare(example.judgement())
    verdict = judgement["verdicts"].pop("paired")
    words = "".join(Reader(page(judgement, example.pictures(), {})).words)
    assert verdict["text"] not in words
    assert judgement["verdicts"]["use"]["text"] in words


def test_images_of_a_paired_task_and_units() -> None:
    judgement, pictures = bare(example.judgement()), example.pictures()
    judgement["results"][0]["unit"] = "HU"
    columns = {"Given": pictures.real[:2], "Made": pictures.fake[:2], "Right": pictures.real[:2]}
    read = Reader(page(judgement, replace(pictures, paired=columns), {}))
    assert "Image by image" in read.text
    assert all(f"{name} · in the same order" in read.text for name in columns)
    assert "in HU" in read.text


def test_names_from_data_cannot_mark_up() -> None:
    judgement = example.judgement(EVIL)
    judgement["subject"] |= {"name": EVIL[0], "path": EVIL[1], "model": EVIL[0]}
    judgement["data"]["title"] = EVIL[1]
    judgement["notes"] = list(EVIL)
    judgement["verdicts"]["use"]["text"] = EVIL[0]
    judgement["settings"] = {EVIL[0]: {EVIL[1]: [EVIL[0]]}}
    judgement["spaces"] = {EVIL[0]: {EVIL[1]: EVIL[0]}}
    for row in judgement["results"]:
        row["undefined"], row["unordered"] = row["undefined"] and EVIL[0], row["unordered"] and EVIL[1]
        row["ladder"] = {EVIL[1] if rung == "blur 1" else rung: value for rung, value in row["ladder"].items()}
    read = Reader(page(judgement, example.pictures(EVIL), {EVIL[0]: ([0.0], [1.0]), f"val/{EVIL[1]}": ([0.0], [1.0])}))
    assert read.open == []
    assert reaches(read) == []
    assert EVIL[0] in read.text


def test_simulated_patients_are_said_to_be_simulated() -> None:
    judgement = bare(example.judgement())
    real = Reader(page(judgement, example.pictures(), {})).text
    judgement["data"]["phantom"] = True
    simulated = Reader(page(judgement, example.pictures(), {})).text
    assert "Share it only where those images may be shared" in real
    assert "come from simulated patients. The numbers show that the software works" not in real
    assert "Share it only where those images may be shared" not in simulated
    assert "come from simulated patients. The numbers show that the software works" in simulated


def test_baselines_are_not_called_generated() -> None:
    judgement = bare(example.judgement())
    judgement["subject"] = {"kind": "baseline", "name": "copier", "path": ""}
    read = Reader(page(judgement, example.pictures(), {}))
    assert "How good are the images of copier?" in read.text
    assert "Baseline · judged" in read.text
    assert "Generated · synthetic" not in read.text


def test_little_makes_a_short_page() -> None:
    judgement = bare(example.judgement())
    pictures = Pictures(example.films(1, 0), example.films(0, 0))
    read = Reader(page(judgement, pictures, {}))
    assert read.open == []
    assert "No image to show." in read.text
    sections = {attributes["id"] for attributes in read.having("section")}
    assert sections == {"glance", "images", "numbers", *GROUPS, "measured"}


def test_nothing_measured_makes_a_page_too() -> None:
    empty = {"results": [], "verdicts": {}, "notes": [], "spaces": {}, "settings": {}, "run": {}}
    judgement = example.judgement() | empty
    judgement["data"] |= {"classes": [], "per_class": {}, "counts": {}, "patients": {}}
    read = Reader(page(judgement, Pictures(example.films(0, 0), example.films(0, 0)), {}))
    assert read.open == []
    assert {attributes["id"] for attributes in read.having("section")} == {"glance", "images", "measured"}


def test_volumes_are_shown_by_their_middle_slice() -> None:
    flat = example.pictures()

    def deep(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([-images, images, -images], 2)  # (N, C, 3, H, W)

    volumes = replace(
        flat,
        fake=deep(flat.fake), real=deep(flat.real), per_class={}, paired={},
        pairs=[replace(pair, images=deep(pair.images), train=deep(pair.train)) for pair in flat.pairs], held_out_pairs=[],
        ladder={name: deep(image[None])[0] for name, image in flat.ladder.items()},
    )  # fmt: skip
    few = bare(example.judgement())
    told = [Reader(page(few, shown, {})) for shown in (replace(flat, per_class={}, paired={}, held_out_pairs=[]), volumes)]
    assert [a["src"] for a in told[0].having("img")] == [a["src"] for a in told[1].having("img")]
    assert "Each volume is shown by its middle slice." in told[1].text
    assert "Each volume" not in told[0].text


def test_a_pair_far_nearer_than_any_stranger_is_marked() -> None:
    pictures, judgement = example.pictures(), bare(example.judgement())
    said = "⚠ much closer than any held-out patient"
    assert Reader(page(judgement, pictures, {})).text.count(said) == 2  # 1.10, 1.28 < 2.60 / 2
    assert "closer than any held-out patient" not in page(judgement, replace(pictures, held_out_pairs=[]), {})
    assert "closer than any held-out patient" not in page(judgement, replace(pictures, pairs=pictures.held_out_pairs), {})


def test_the_rungs_bear_one_number_in_table_chart_and_picture(read: Reader) -> None:
    assert "untouched 1. blur 0.5 2. blur 1 3. blur 2 4. noise 0.05 5. noise 0.1 6. noise 0.2" in read.text
    assert "1 blur 0.5 2 blur 1 3 blur 2 4 noise 0.05 5 noise 0.1 6 noise 0.2 Noise" in read.text
    assert "1 2 3 4 5 6 noise" in read.text


def test_a_rung_that_only_a_class_has_is_numbered_too() -> None:
    judgement = bare(example.judgement())
    judgement["results"][-2]["ladder"] = {"blur 7": 0.5}
    assert "blur 7: 0.50" in Reader(page(judgement, example.pictures(), {})).text


def test_what_was_recorded_is_not_called_missing(read: Reader) -> None:
    """A misspelled key in a template would say "not recorded"."""
    assert "not recorded" not in read.text


def test_the_configuration_stands_there(read: Reader) -> None:
    for line in ("optimizer_g: lr: 0.0005 betas: [0.0, 0.99]", "monitor: null", "ladder: blur: [0.5, 1, 2]", "9f2c" * 16, "5c1e0a7b"):
        assert line in read.text


def test_a_large_page_stays_small() -> None:
    """Noise in color, 14 classes, pairs in three spaces: the worst that PNG can meet."""
    noise = torch.rand(24, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    names = tuple(f"class {n}" for n in range(14))
    pairs = example.Pairs("pixels", noise[:8], noise[:8], torch.arange(8.0))
    pictures = Pictures(noise, noise, {name: (noise[:6], noise[:6]) for name in names}, [pairs] * 3, [pairs] * 3)
    assert len(page(example.judgement(), pictures, {})) < 5_000_000
