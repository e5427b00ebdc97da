"""What localized smoothing is compared with, each as its authors published it."""
