"""What is published about backbones: their size, their cost and their skill on sketches, in one dated table."""

from dataclasses import dataclass
from typing import Final

TABLE_DATE: Final = "2026-08-08"
TABLE_SOURCE: Final = (
    "results/results-sketch.csv of github.com/huggingface/pytorch-image-models at commit aa4b5850c154; GMACs counted with "
    "torch.utils.flop_counter, which agree with the file's benchmarks of the same commit to 3 %"
)


@dataclass(frozen=True, slots=True)
class PublishedBackbone:
    """What is published about one backbone and its weights.

    Attributes:
        name: Its full name in timm, with the tag of its weights.
        parameters_m: Number of parameters without a classifier, in millions.
        weights_m: Number of parameters in the file of its weights, which has a classifier, in millions.
        gmacs: Multiplications with an addition in one forward pass at `image_size`, in 10^9.
        image_size: Side of the square input that timm trained it with, in px.
        imagenet_sketch_top1: Accuracy of its own classifier on ImageNet-Sketch, percent.
    """

    name: str
    parameters_m: float
    weights_m: float
    gmacs: float
    image_size: int
    imagenet_sketch_top1: float

    @property
    def download_bytes(self) -> int:
        """Size of the file of weights on the hub, which holds float32 values."""
        return round(4e6 * self.weights_m)


# By cost, the cheapest first. Accuracy is that at `image_size`.
_ROWS: Final = (
    PublishedBackbone("mobilenetv3_small_100.lamb_in1k", 1.52, 2.54, 0.055, 224, 16.85),
    PublishedBackbone("mobilenetv4_conv_small.e2400_r224_in1k", 2.49, 3.77, 0.185, 224, 23.925),
    PublishedBackbone("mobilenetv3_large_100.ra_in1k", 4.2, 5.48, 0.215, 224, 22.691),
    PublishedBackbone("edgenext_xx_small.in1k", 1.16, 1.33, 0.258, 256, 18.611),
    PublishedBackbone("mobilenetv2_100.ra_in1k", 2.22, 3.5, 0.299, 224, 20.765),
    PublishedBackbone("convnext_zepto_rms.ra4_e3600_r224_in1k", 1.9, 2.16, 0.302, 224, 24.18),
    PublishedBackbone("hgnetv2_b0.ssld_stage1_in22k_in1k", 3.95, 6, 0.319, 224, 31.905),
    PublishedBackbone("tf_efficientnet_lite0.in1k", 3.37, 4.65, 0.384, 224, 24.392),
    PublishedBackbone("efficientnet_lite0.ra_in1k", 3.37, 4.65, 0.384, 224, 23.907),
    PublishedBackbone("efficientnet_b0.ra_in1k", 4.01, 5.29, 0.385, 224, 25.017),
    PublishedBackbone("efficientnet_b0.ra4_e3600_r224_in1k", 4.01, 5.29, 0.385, 224, 29.804),
    PublishedBackbone("tf_efficientnet_b0.ns_jft_in1k", 4.01, 5.29, 0.385, 224, 28.908),
    PublishedBackbone("efficientformerv2_s0.snap_dist_in1k", 3.25, 3.6, 0.396, 224, 25.361),
    PublishedBackbone("hgnetv2_b1.ssld_stage1_in22k_in1k", 4.29, 6.34, 0.487, 224, 34.703),
    PublishedBackbone("convnext_atto.d2_in1k", 3.37, 3.7, 0.547, 224, 24.369),
    PublishedBackbone("convnextv2_atto.fcmae_ft_in1k", 3.39, 3.71, 0.547, 224, 26.444),
    PublishedBackbone("mobilenetv2_140.ra_in1k", 4.32, 6.11, 0.58, 224, 23.693),
    PublishedBackbone("mobilenetv2_120d.ra_in1k", 4.55, 5.83, 0.668, 224, 24.919),
    PublishedBackbone("resnet10t.c3_in1k", 4.92, 5.44, 0.698, 176, 17.65),
    PublishedBackbone("convnextv2_femto.fcmae_ft_in1k", 4.85, 5.23, 0.779, 224, 27.637),
    PublishedBackbone("hgnetv2_b2.ssld_stage1_in22k_in1k", 9.17, 11.22, 1.136, 224, 39.916),
    PublishedBackbone("edgenext_small.usi_in1k", 5.28, 5.59, 1.253, 256, 32.29),
    PublishedBackbone("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 5.52, 5.72, 1.253, 224, 20.46),
    PublishedBackbone("tiny_vit_5m_224.dist_in22k_ft_in1k", 5.07, 5.39, 1.255, 224, 33.343),
    PublishedBackbone("resnet18.a1_in1k", 11.18, 11.69, 1.814, 224, 24.072),
    PublishedBackbone("resnet18.tv_in1k", 11.18, 11.69, 1.814, 224, 20.238),
    PublishedBackbone("resnet18.fb_ssl_yfcc100m_ft_in1k", 11.18, 11.69, 1.814, 224, 21.29),
    PublishedBackbone("resnet18.fb_swsl_ig1b_ft_in1k", 11.18, 11.69, 1.814, 224, 35.862),
    PublishedBackbone("tiny_vit_11m_224.dist_in22k_ft_in1k", 10.55, 11, 2.016, 224, 39.12),
    PublishedBackbone("resnet50.a3_in1k", 23.51, 25.56, 2.085, 160, 26.572),
    PublishedBackbone("hgnetv2_b4.ssld_stage2_ft_in1k", 17.75, 19.8, 2.732, 224, 45.267),
    PublishedBackbone("resnet50.a1_in1k", 23.51, 25.56, 4.087, 224, 29.641),
    PublishedBackbone("resnet50.tv_in1k", 23.51, 25.56, 4.087, 224, 24.064),
    PublishedBackbone("resnet50.fb_swsl_ig1b_ft_in1k", 23.51, 25.56, 4.087, 224, 49.516),
    PublishedBackbone("resnext50_32x4d.fb_swsl_ig1b_ft_in1k", 22.98, 25.03, 4.228, 224, 50.532),
    PublishedBackbone("tiny_vit_21m_224.dist_in22k_ft_in1k", 20.62, 21.2, 4.25, 224, 44.823),
    PublishedBackbone("vit_base_patch32_clip_224.laion2b_ft_in1k", 87.46, 88.22, 4.408, 224, 49.074),
    PublishedBackbone("hgnetv2_b5.ssld_stage1_in22k_in1k", 37.52, 39.57, 6.536, 224, 50.779),
    PublishedBackbone("resnext101_32x4d.fb_swsl_ig1b_ft_in1k", 42.13, 44.18, 7.968, 224, 53.646),
    PublishedBackbone("caformer_s36.sail_in22k_ft_in1k", 36.19, 39.3, 7.969, 224, 46.708),
    PublishedBackbone("wide_resnet50_2.tv_in1k", 66.83, 68.88, 11.396, 224, 25.34),
    PublishedBackbone("tiny_vit_21m_384.dist_in22k_ft_in1k", 20.65, 21.23, 13.697, 384, 46.287),
    PublishedBackbone("resnext101_32x8d.fb_swsl_ig1b_ft_in1k", 86.74, 88.79, 16.412, 224, 56.448),
    PublishedBackbone("vit_base_patch16_clip_224.laion2b_ft_in1k", 85.8, 86.57, 17.563, 224, 55.426),
    PublishedBackbone("convnext_base.clip_laion2b_augreg_ft_in1k", 87.57, 88.59, 20.054, 256, 60.318),
    PublishedBackbone("convnext_small.in12k_ft_in1k_384", 49.45, 50.22, 25.517, 384, 45.717),
    PublishedBackbone("convnext_large_mlp.clip_laion2b_augreg_ft_in1k", 198.59, 200.13, 44.881, 256, 65.071),
    PublishedBackbone("convnext_base.fb_in22k_ft_in1k_384", 87.57, 88.59, 45.121, 384, 51.551),
    PublishedBackbone("convnextv2_base.fcmae_ft_in22k_in1k_384", 87.69, 88.72, 45.121, 384, 52.919),
    PublishedBackbone("convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384", 87.57, 88.59, 45.121, 384, 60.815),
    PublishedBackbone("vit_base_patch16_clip_384.laion2b_ft_in1k", 86.09, 86.86, 55.484, 384, 56.869),
    PublishedBackbone("caformer_b36.sail_in22k_ft_in1k_384", 93.31, 98.75, 72.145, 384, 54.442),
    PublishedBackbone("vit_large_patch14_clip_224.laion2b_ft_in1k", 303.18, 304.2, 81.012, 224, 64.827),
    PublishedBackbone("convnext_large_mlp.clip_laion2b_augreg_ft_in1k_384", 198.59, 200.13, 100.978, 384, 66.466),
    PublishedBackbone("eva02_base_patch14_448.mim_in22k_ft_in22k_in1k", 86.35, 87.12, 106.886, 448, 58.518),
    PublishedBackbone("vit_huge_patch14_clip_224.laion2b_ft_in1k", 630.77, 632.05, 167.294, 224, 67.425),
    PublishedBackbone("vit_large_patch14_clip_336.laion2b_ft_in1k", 303.51, 304.53, 190.959, 336, 65.747),
    PublishedBackbone("convnext_xxlarge.clip_laion2b_soup_ft_in1k", 843.4, 846.47, 197.965, 256, 70.062),
    PublishedBackbone("eva_giant_patch14_224.clip_ft_in1k", 1011.15, 1012.56, 267.03, 224, 70.076),
    PublishedBackbone("vit_so400m_patch14_siglip_gap_378.webli_ft_in1k", 412.99, 414.14, 333.224, 378, 71.717),
    PublishedBackbone("vit_so400m_patch14_siglip_378.webli_ft_in1k", 428.23, 429.38, 335.4, 378, 71.489),
    PublishedBackbone("eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", 304.06, 305.08, 361.746, 448, 70.668),
    PublishedBackbone("eva02_large_patch14_448.mim_m38m_ft_in1k", 304.06, 305.08, 361.746, 448, 70.532),
    PublishedBackbone("convnextv2_huge.fcmae_ft_in22k_in1k_512", 657.47, 660.29, 600.395, 512, 57.859),
    PublishedBackbone("eva_giant_patch14_336.clip_ft_in1k", 1011.6, 1013.01, 620.318, 336, 71.2),
)

PUBLISHED: Final[dict[str, PublishedBackbone]] = {row.name: row for row in _ROWS}
