"""Brain extraction: the brain mask of a scan that still shows the whole head."""

from mmccd_auto.preprocessing.brain_extraction.extract import STRIPPED, backend_names, extract_brain
from mmccd_auto.preprocessing.brain_extraction.interface import Backend, BrainExtraction

__all__ = ["STRIPPED", "Backend", "BrainExtraction", "backend_names", "extract_brain"]
