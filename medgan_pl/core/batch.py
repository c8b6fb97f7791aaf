"""The written contract of a batch: a dict of plain tensors, whose keys, shapes and ranges stand here and nowhere else.

| key          | shape         | type    | meaning                                                            |
|--------------|---------------|---------|--------------------------------------------------------------------|
| `image`      | (B, C, *S)    | float32 | the real image, in [-1, 1]                                         |
| `source`     | (B, C', *S')  | float32 | what the generator is given in a paired task, in [-1, 1]; S' = S,  |
|              |               |         | or S / factor in super-resolution                                  |
| `label`      | (B,)          | int64   | class, counted from 0 in the order of the data module's `classes`; |
|              |               |         | below 0 where it is not known; between domains, the image's domain |
| `covariates` | (B, K)        | float32 | patient features (age, sex, BMI, …), standardised; NaN: not known  |
| `mask`       | (B, K, *S)    | float32 | {0, 1}, a channel for each structure                               |
| `record`     | (B,)          | int64   | row of the data module's table of records                          |
| `z`          | (B, latent)   | float32 | the noise of this step, added by the game's `draw`                 |
| `z_mixed`    | (B, latent)   | float32 | the noise whose style some layers have from `crossover` on         |
| `crossover`  | (B,)          | float32 | at which share of the layers that begins; 1 or more: never         |
| `noise`      | (B, N)        | float32 | of each pixel of each layer of a style-based generator; likewise   |
| `t`          | (B,)          | float32 | in [0, 1): where between real and fake a penalty looks; likewise   |
| `place`      | (B, N)        | float32 | in [0, 1): where a part is cut from it, for N axes; likewise       |
| `augment`    | (B, K)        | float32 | in [0, 1): how the row is augmented in front of D; likewise        |
| `pool`       | (B,)          | int64   | which past fake D sees in a row's place (games/cycle.py); likewise |
| `patches`    | (B, P)        | float32 | in [0, 1): which places are compared (games/contrastive.py)        |
| `target`     | (B,)          | int64   | the domain an image is brought to (games/star.py); likewise        |
| `source_label` | (B,)        | int64   | that of the row's `source` there; `z_other`, `referred` likewise   |
| `reference`  | (B, C, *S)    | float32 | an image whose style is asked for there, in [-1, 1]                |
| `regularize_<name>` | (B, K) | float32 | in [0, 1): what the regulariser of that name draws; likewise       |

Never a MetaTensor past the pipeline (2-3x slower on small operations). Hounsfield units, uint16 and [0, 1] live only in `data/` and
`metrics/`.
"""

from torch import Tensor

Batch = dict[str, Tensor]


def size_of(batch: Batch) -> int:
    """Return the number of elements in a batch: the length of any of its tensors, whatever its key."""
    return len(next(iter(batch.values())))


def cut(batch: Batch, parts: int) -> list[Batch]:
    """Return the batch in `parts` of nearly equal size, in order. Raises ValueError for more parts than elements."""
    size = size_of(batch)
    if size < parts:
        raise ValueError(f"`accumulate` must be at most the batch size, got {parts} parts of a batch of {size}")
    return [{key: value.tensor_split(parts)[i] for key, value in batch.items()} for i in range(parts)]


def from_batch(batch: Batch, key: str, why: str) -> Tensor:
    """Return the tensor under `key`. Raises ValueError, which says `why` it is needed and what the batch holds instead."""
    if key not in batch:
        raise ValueError(f"the batch must hold '{key}': {why}; it holds {', '.join(sorted(batch))}")
    return batch[key]
