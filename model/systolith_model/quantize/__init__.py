"""Post-training quantization: formats, calibration, its effect on quality."""
