"""Data sets: scenes (embedded), CamVid, Cityscapes, Pascal VOC, citation graphs."""
