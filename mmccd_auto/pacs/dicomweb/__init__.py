"""Archives that speak DICOMweb: QIDO-RS, WADO-RS, STOW-RS."""
