"""What the authors report for their checkpoints: Kodak, means over its 24 pictures.

Source: Li et al., ICLR 2024. For reference beside measured curves: other pictures, other numbers.
"""

LABEL = "FLIC base, published, on Kodak"

MSE = (
    (0.1294, 29.640),
    (0.2003, 31.132),
    (0.2993, 32.702),
    (0.4372, 34.420),
    (0.6158, 36.170),
    (0.8420, 37.918),
)
"""Trained for MSE: bits a pixel and PSNR in dB."""

MS_SSIM = (
    (0.1209, 13.859),
    (0.1719, 15.422),
    (0.2407, 16.909),
    (0.3262, 18.438),
    (0.4443, 20.041),
    (0.6089, 21.649),
)
"""Trained for MS-SSIM: bits a pixel and MS-SSIM in dB."""

TRAINED_FOR = {"psnr": "trained for MSE", "ms_ssim_db": "trained for MS-SSIM"}
CURVES = {"psnr": MSE, "ms_ssim_db": MS_SSIM}
"""Points (bits a pixel, quality) for each metric of a row."""
