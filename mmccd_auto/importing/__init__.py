"""Hospital exports, DICOM or NIfTI, turned into raw datasets."""
