"""The prose of README and docs: short lines, short sentences, and the words that a reader searches for."""

import re
from pathlib import Path
from statistics import mean

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "CHANGELOG.md", "SECURITY.md", "docs/**/*.md", "benchmarks/README.md", "experiments/*/README.md")
    for path in ROOT.glob(pattern)
)
MAX_LINE = 120  # characters, outside tables, code and addresses
MAX_MEAN = 18  # words a sentence, over a page
MAX_SENTENCE = 40  # words
MAX_CELL = 40  # words: a row of a table is not a paragraph

# A word that a reader searches for, and the page that explains it.
EXPLAINED = {
    "quick start": "README.md",
    "troubleshooting": "README.md",
    "citation": "README.md",
    "inference": "docs/applying.md",
    "data augmentation": "docs/data.md",
    "FID": "docs/evaluation.md",
    "not trusted": "docs/security.md",
    "EMA": "docs/training.md",
    "early stopping": "docs/training.md",
    "mixed precision": "docs/training.md",
    "gradient accumulation": "docs/training.md",
    "hyperparameter sweep": "docs/training.md",
    "n_critic": "docs/training.md",
}

# An abbreviation keeps its point inside the sentence; any other point, question mark or exclamation mark before a new beginning ends one.
ABBREVIATIONS = re.compile(r"\b(et al|e\.g|i\.e|eq|eqs|vs|cf|Fig)\.", re.IGNORECASE)
END = re.compile(r"""(?<=[.!?])["')*]*\s+(?=["'(*]*[A-Z0-9À-Þ`\[−])""")
ITEM = re.compile(r"^\s*([-*]|\d+\.)\s+")


def without_code(text: str) -> str:
    """Return the page without its fenced blocks of code."""
    return re.sub(r"^```.*?^```$", "\n", text, flags=re.MULTILINE | re.DOTALL)


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs and list items of a page as one line each, without code, tables, headings and pictures."""
    found, current = [], []

    def close() -> None:
        if current:
            found.append(" ".join(current))
            current.clear()

    for line in without_code(text).splitlines():
        if not line.strip() or line.startswith(("|", "#", "![")):
            close()
            continue
        if ITEM.match(line):
            close()
        current.append(ITEM.sub("", line).strip())
    close()
    return found


def sentences(text: str) -> list[str]:
    """Return the sentences of a page; a link counts by its words, and inline code as one word."""
    found = []
    for paragraph in paragraphs(text):
        plain = ABBREVIATIONS.sub(lambda match: match[0][:-1], re.sub(r"`[^`]*`", "`code`", paragraph))
        found += [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", sentence) for sentence in END.split(plain)]
    return [sentence for sentence in found if words(sentence)]


def words(sentence: str) -> int:
    """Return how many words a sentence has; a mark or a sign by itself is none."""
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


def cells(text: str) -> list[str]:
    """Return the cells of the tables of a page."""
    rows = [line for line in without_code(text).splitlines() if line.startswith("|")]
    return [cell for row in rows for cell in re.split(r"(?<!\\)\|", row)]


def headings(text: str) -> set[str]:
    """Return the addresses of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ +(.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def long_lines(text: str) -> list[str]:
    """Return the lines of prose above MAX_LINE characters, with addresses left out of the count."""
    prose = (line for line in without_code(text).splitlines() if not line.startswith("|"))
    return [line for line in prose if len(re.sub(r"\]\([^)]*\)|https?://\S+", "", line)) > MAX_LINE]


def test_sentences_are_told_apart():
    text = "# A title\n\nOne two (three et al. 2018). *Four `five six` [seven](x.md)!* Why 0.5?\n\n| a | table |\n\n- An\n  item.\n- One.\n"
    assert [words(sentence) for sentence in sentences(text)] == [6, 3, 2, 2, 1]


@pytest.mark.parametrize("page", PAGES)
def test_lines_are_short(page):
    assert long_lines((ROOT / page).read_text()) == [], f"wrap these lines of {page} at {MAX_LINE} characters"


@pytest.mark.parametrize("page", PAGES)
def test_sentences_are_short(page):
    found = sentences((ROOT / page).read_text())
    too_long = [sentence for sentence in found if words(sentence) > MAX_SENTENCE]
    assert too_long == [], f"split these sentences of {page}: none may have more than {MAX_SENTENCE} words"
    average = mean(words(sentence) for sentence in found)
    assert average <= MAX_MEAN, f"{page} has {average:.1f} words a sentence on average, more than {MAX_MEAN}"


@pytest.mark.parametrize("page", PAGES)
def test_cells_are_short(page):
    too_long = [cell for cell in cells((ROOT / page).read_text()) if words(cell) > MAX_CELL]
    assert too_long == [], f"take these cells out of the tables of {page}: none may have more than {MAX_CELL} words"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for address in re.findall(r"\]\(([^)]+)\)", without_code((ROOT / page).read_text())):
        if address.startswith(("http:", "https:")):
            continue
        path, _, anchor = address.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {address}, which does not exist"
        if anchor:
            assert anchor in headings(target.read_text()), f"{page} links to {address}, and {target.name} has no such heading"


@pytest.mark.parametrize("word", EXPLAINED)
def test_searched_words_are_explained(word):
    page = EXPLAINED[word]
    prose = re.sub(r"\s+", " ", without_code((ROOT / page).read_text()))
    assert re.search(rf"\b{word}\b", prose, re.IGNORECASE), f"{page} must explain {word!r}, and does not name it"


def test_glossary_begins_with_game():
    first = next(line for line in (ROOT / "docs/glossary.md").read_text().splitlines() if line and not line.startswith("#"))
    assert "**game**" in first.lower()
