"""Data sets: scenes and documents (embedded), CamVid, Cityscapes, Pascal VOC, citation graphs."""
