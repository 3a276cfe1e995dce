"""ImageNet weight files of ``keras.applications``: the names Keras gives them, and its hashes.

Of the files without their classifier, under ``models/`` in Keras' cache folder. The hash is MD5 or
SHA-256, as Keras states it; empty where Keras states none (it checks none then, nor can we).
MobileNet and MobileNetV2 have a file for each of several sizes; these are those of 224, which Keras
itself takes for every other size.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_KERNELS = "_weights_tf_dim_ordering_tf_kernels_notop.h5"

WEIGHT_FILES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "resnet50": ("resnet50" + _KERNELS, "4d473c1dd8becc155b73f8504c6f6626"),
        "resnet101": ("resnet101" + _KERNELS, "88cf7a10940856eca736dc7b7e228a21"),
        "resnet152": ("resnet152" + _KERNELS, "ee4c566cf9a93f14d82f913c2dc6dd0c"),
        "resnet50v2": ("resnet50v2" + _KERNELS, "fac2f116257151a9d068a22e544a4917"),
        "resnet101v2": ("resnet101v2" + _KERNELS, "c0ed64b8031c3730f411d2eb4eea35b5"),
        "resnet152v2": ("resnet152v2" + _KERNELS, "ed17cf2e0169df9d443503ef94b23b33"),
        "efficientnetb0": ("efficientnetb0_notop.h5", "50bc09e76180e00e4465e1a485ddc09d"),
        "efficientnetb1": ("efficientnetb1_notop.h5", "74c4e6b3e1f6a1eea24c589628592432"),
        "efficientnetb2": ("efficientnetb2_notop.h5", "111f8e2ac8aa800a7a99e3239f7bfb39"),
        "efficientnetb3": ("efficientnetb3_notop.h5", "af6d107764bb5b1abb91932881670226"),
        "efficientnetb4": ("efficientnetb4_notop.h5", "ebc24e6d6c33eaebbd558eafbeedf1ba"),
        "efficientnetb5": ("efficientnetb5_notop.h5", "38879255a25d3c92d5e44e04ae6cec6f"),
        "efficientnetb6": ("efficientnetb6_notop.h5", "9ecce42647a20130c1f39a5d4cb75743"),
        "efficientnetb7": ("efficientnetb7_notop.h5", "cbcfe4450ddf6f3ad90b1b398090fe4a"),
        "efficientnetv2b0": ("efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff"),
        "efficientnetv2b1": ("efficientnetv2-b1_notop.h5", "0e80663031ca32d657f9caa404b6ec37"),
        "efficientnetv2b2": ("efficientnetv2-b2_notop.h5", "1dfe2e7a5d45b6632553a8961ea609eb"),
        "efficientnetv2b3": ("efficientnetv2-b3_notop.h5", "f6abf7b5849ac99a89b50dd3fd532856"),
        "efficientnetv2s": ("efficientnetv2-s_notop.h5", "af0682fb74e8c54910f2d4393339c070"),
        "efficientnetv2m": ("efficientnetv2-m_notop.h5", "1b8dc055df72dde80d614482840fe342"),
        "efficientnetv2l": ("efficientnetv2-l_notop.h5", "b0b66b5c863aef5b46e8608fe1711615"),
        "mobilenet": ("mobilenet_1_0_224_tf_no_top.h5", ""),
        "mobilenetv2": ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", ""),
        "mobilenetv3small": (
            "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
            "d3e8ec802a04aa4fc771ee12a9a9b836",
        ),
        "mobilenetv3large": (
            "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
            "07fb09a5933dd0c8eaafa16978110389",
        ),
        "convnexttiny": (
            "convnext_tiny_notop.h5",
            "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        ),
        "convnextsmall": (
            "convnext_small_notop.h5",
            "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
        ),
        "convnextbase": (
            "convnext_base_notop.h5",
            "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
        ),
        "convnextlarge": (
            "convnext_large_notop.h5",
            "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
        ),
        "convnextxlarge": (
            "convnext_xlarge_notop.h5",
            "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
        ),
        "densenet121": ("densenet121" + _KERNELS, "30ee3e1110167f948a6b9946edeeb738"),
        "densenet169": ("densenet169" + _KERNELS, "b8c4d4c20dd625c148057b9ff1c1176b"),
        "densenet201": ("densenet201" + _KERNELS, "c13680b51ded0fb44dff2d8f86ac8bb1"),
        "inceptionv3": ("inception_v3" + _KERNELS, "bcbd6486424b2319ff4ef7d526e38f63"),
        "inceptionresnetv2": ("inception_resnet_v2" + _KERNELS, "d19885ff4a710c122648d3b5c3b684e4"),
        "xception": ("xception" + _KERNELS, "b0042744bf5b25fce3cb969f33bebb97"),
        "nasnetmobile": ("nasnet_mobile_no_top.h5", "1ed92395b5b598bdda52abe5c0dbfd63"),
        "nasnetlarge": ("nasnet_large_no_top.h5", "d81d89dc07e6e56530c4e77faddd61b5"),
        "vgg16": ("vgg16" + _KERNELS, "6d6bbae143d832006294945121d1f1fc"),
        "vgg19": ("vgg19" + _KERNELS, "253f8cb515780f3b799900260a226db6"),
    }
)
