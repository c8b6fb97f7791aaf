"""The checker behind the shapes in annotations; an int is a float here, as everywhere in Python's own typing (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
