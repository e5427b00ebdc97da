"""Data sets: scenes (embedded), CamVid, citation graphs."""
