"""experiments/modalities: what maps of grey values alone can do."""

import torch

from experiments.modalities.classical import HistogramMatch, mean_of_each, pools_matched


def test_a_histogram_matched_to_its_own_image_leaves_it_and_to_a_pool_gives_its_values_by_rank() -> None:
    image = torch.rand(1, 2, 12, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(HistogramMatch(image)(image), image)
    pool = torch.rand(3, 2, 12, 16, generator=torch.Generator().manual_seed(1)).square() * 2 - 1
    matched = HistogramMatch(pool)(image)
    for channel in range(2):
        ranks = image[0, channel].flatten().argsort().argsort()
        by_hand = pool[:, channel].flatten().quantile(torch.linspace(0, 1, 192))[ranks].reshape(12, 16)
        torch.testing.assert_close(matched[0, channel], by_hand, atol=1e-4, rtol=0)


def test_maps_of_grey_values_find_a_map_that_is_there() -> None:
    source = torch.rand(4, 2, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rising, falling = source.pow(3), 0.5 - source.abs()
    others = (torch.rand(4, 2, 40, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1).pow(3)  # of other images
    torch.testing.assert_close(pools_matched(source, rising)(source), rising, atol=1e-3, rtol=0)
    torch.testing.assert_close(pools_matched(source, others)(source), rising, atol=0.1, rtol=0)
    torch.testing.assert_close(mean_of_each(source, falling)(source), falling, atol=0.01, rtol=0)
