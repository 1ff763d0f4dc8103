"""Self-configuring unsupervised anomaly segmentation in brain MRI by masked modality cycles (MMCCD, arXiv 2308.16150)."""

__version__ = "0.1.0"
