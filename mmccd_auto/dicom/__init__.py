"""Reading of DICOM exports: which studies and series there are, which of them are wanted, and their volumes."""
