"""Datasets in the Brain Imaging Data Structure (BIDS): names, people, and which scan stands for which modality."""
