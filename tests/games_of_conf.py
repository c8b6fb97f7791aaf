"""The games of conf/game, each with networks and data that suit it."""

GAMES = {
    "synthesis": ("model=resnet_hybrid",),
    "auxiliary": ("model=acgan", "model.classes=2"),
    "style": ("model=stylegan2",),
    "hierarchical": ("model=hagan", "data=ct", "image.spatial_dims=3"),
    "reconstruction": ("model=fastgan",),
    "translation": ("model=unet_gan", "degrade@data.degrade=dehaze"),
    "segmentation": ("experiment=lung_segmentation",),
    "cycle": ("experiment=unpaired_ct_mr",),
    "contrastive": ("experiment=unpaired_ct_mr", "model=cut", "~game.gradient"),
    "star": ("experiment=star_mr",),
}
