"""The report of a judgement: one self-contained HTML page, the numbers as JSON and a model card."""

from medgan_pl.evaluate.report.pictures import SHOWN, SHOWN_PER_CLASS, Pairs, Pictures
from medgan_pl.evaluate.report.write import write_report

__all__ = ["SHOWN", "SHOWN_PER_CLASS", "Pairs", "Pictures", "write_report"]
