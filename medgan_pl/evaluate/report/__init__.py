"""What a judgement looks like to a reader: one self-contained page, the numbers as JSON, a model card."""

from medgan_pl.evaluate.report.pictures import SHOWN, SHOWN_PER_CLASS, Pairs, Pictures
from medgan_pl.evaluate.report.write import write_report

__all__ = ["SHOWN", "SHOWN_PER_CLASS", "Pairs", "Pictures", "write_report"]
