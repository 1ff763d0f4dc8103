"""What mmccd_bids and mmccd_predict --bids do: a BIDS dataset checked, predicted, and its maps written as a derivative."""
