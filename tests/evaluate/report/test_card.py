import re

import example
import pytest

from medgan_pl.evaluate.report.card import card
from medgan_pl.evaluate.report.templating import markdown
from medgan_pl.metrics.catalogue import GROUPS

SECTIONS = [
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data", "Quantitative analyses",
    "Privacy and ethical considerations", "Limitations, caveats and recommendations", "How to reproduce",
]  # fmt: skip


def test_all_sections_in_order() -> None:
    assert re.findall(r"^## (.*)$", card(example.judgement()), re.MULTILINE) == SECTIONS


def test_every_row_and_every_verdict_stands_in_it() -> None:
    judgement = example.judgement()
    text = card(judgement)
    for row in judgement["results"]:
        assert f"| {row['name']} |" in text
    for group, question in GROUPS.items():
        assert f"- {question} **{judgement['verdicts'][group]['mark']}**: {judgement['verdicts'][group]['text']}" in text
    for note in judgement["notes"]:
        assert f"- {note}" in text
    assert "| fd_random | 0.243 | 0.222 to 0.266 | 0.120 (0.111 to 0.130) | ↓ lower is better | 1,000 / 586 |" in text
    assert "| dice_synthetic | not defined: the data hold no masks |  | — |" in text


def test_every_table_is_whole() -> None:
    lines = [line for line in card(example.judgement()).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {8}


def test_no_path_goes_out() -> None:
    judgement = example.judgement()
    assert "/home/user" in judgement["subject"]["path"]
    for model in ("resnet_gan", None):
        judgement["subject"] |= {"name": judgement["subject"]["path"], "model": model}
        assert "/home" not in card(judgement)
        assert "best.ckpt" in card(judgement)


def test_what_nobody_wrote_down_says_so() -> None:
    judgement = example.judgement()
    judgement["subject"] = {"kind": "folder", "name": "made", "path": "/data/made"}
    judgement["data"] = {"title": None, "phantom": False, "counts": {"fake": 9}, "patients": {}}
    text = card(judgement | {"verdicts": {}, "results": []})
    for line in (
        "SHA-256: not recorded",
        "Modality: not recorded",
        "Real images compared with: not recorded",
        "Images judged: 9",
        "**not judged**",
    ):
        assert line in text
    assert "Not recorded: no training images were given." in text
    assert "It was not measured whether the images reveal patients." in text
    assert "fake=… real=…" in text


def test_what_was_recorded_is_not_called_missing() -> None:
    """The rest that nobody records: purpose, author, license, contact, factors of the patients, consent."""
    assert card(example.judgement()).count("not recorded") == 6


def test_simulated_patients_are_said_to_be_simulated() -> None:
    judgement = example.judgement()
    assert "simulated" not in card(judgement)
    judgement["data"]["phantom"] = True
    assert card(judgement).count("The patients are simulated") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<script>", "&lt;script&gt;"),
        ("a|b", "a\\|b"),
        ("![x](http://y)", "!\\[x\\](http://y)"),
        ("one\n\n# two", "one # two"),
        ("`*bold*`", "\\`\\*bold\\*\\`"),
        ("fd_random", "fd_random"),
    ],
)
def test_text_from_data_cannot_mark_up(text: str, said: str) -> None:
    assert markdown(text) == said
    assert said in card(example.judgement((text, "OTHER")))
