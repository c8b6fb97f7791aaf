"""The contract of a batch: a dict of plain tensors. Their keys, shapes and ranges are defined only here.

| key          | shape         | type    | meaning                                                            |
|--------------|---------------|---------|--------------------------------------------------------------------|
| `image`      | (B, C, *S)    | float32 | the real image, in [-1, 1]                                         |
| `source`     | (B, C', *S')  | float32 | the generator's input in a paired task, in [-1, 1]; S' = S,        |
|              |               |         | or S / factor in super-resolution                                  |
| `label`      | (B,)          | int64   | class, counted from 0 in the order of the data module's `classes`; |
|              |               |         | below 0 if it is unknown; between domains, the image's domain      |
| `covariates` | (B, K)        | float32 | patient features (age, sex, BMI, …), standardized; NaN: unknown    |
| `mask`       | (B, K, *S)    | float32 | {0, 1}, a channel for each structure                               |
| `inside`     | (B, 1, *S)    | float32 | {0, 1}: 0 in padding, which is no image and counts in no loss or   |
|              |               |         | metric of voxels; absent if no image of the data has any           |
| `record`     | (B,)          | int64   | row of the data module's table of records                          |
| `z`          | (B, latent)   | float32 | the noise of this step, added by the game's `draw`                 |
| `z_mixed`    | (B, latent)   | float32 | the noise whose style some layers have from `crossover` on         |
| `crossover`  | (B,)          | float32 | the share of the layers at which that begins; 1 or more: never     |
| `noise`      | (B, N)        | float32 | of each pixel of each layer of a style-based generator; likewise   |
| `t`          | (B,)          | float32 | in [0, 1): a penalty's point between real and fake; likewise       |
| `place`      | (B, N)        | float32 | in [0, 1): the place of a part of the image, N axes; likewise      |
| `augment`    | (B, K)        | float32 | in [0, 1): the numbers of D's augmentation of the row; likewise    |
| `pool`       | (B,)          | int64   | the past fake that D sees for a row (games/cycle.py); likewise     |
| `patches`    | (B, P)        | float32 | in [0, 1): the compared places (games/contrastive.py)              |
| `target`     | (B,)          | int64   | the target domain of an image (games/star.py); likewise            |
| `source_label` | (B,)        | int64   | that of the row's `source` there; `z_other`, `referred` and        |
|              |               |         | `source_inside` likewise                                           |
| `reference`  | (B, C, *S)    | float32 | an image with the requested style there, in [-1, 1]                |
| `regularize_<name>` | (B, K) | float32 | in [0, 1): the numbers of the regularizer of that name; likewise   |

No MetaTensor leaves the pipeline (2-3x slower on small operations). Only `data/` and `metrics/` use Hounsfield units, uint16 and [0, 1].
"""

from torch import Tensor

Batch = dict[str, Tensor]


def size_of(batch: Batch) -> int:
    """Return the number of elements in a batch: the length of any of its tensors."""
    return len(next(iter(batch.values())))


def cut(batch: Batch, parts: int) -> list[Batch]:
    """Return the batch in `parts` of nearly equal size, in order. Raise ValueError for more parts than elements."""
    size = size_of(batch)
    if size < parts:
        raise ValueError(f"`accumulate` must be at most the batch size, got {parts} parts of a batch of {size}")
    return [{key: value.tensor_split(parts)[i] for key, value in batch.items()} for i in range(parts)]


def from_batch(batch: Batch, key: str, why: str) -> Tensor:
    """Return the tensor under `key`. Raise ValueError with the reason `why` it is needed and the keys of the batch."""
    if key not in batch:
        raise ValueError(f"the batch must hold '{key}': {why}; it holds {', '.join(sorted(batch))}")
    return batch[key]
