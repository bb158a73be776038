"""Post-training quantization to the integer contract: calibration, int8 linear layers, effect on quality.

`decoder.quantize` makes a `QuantizedDecoder` of a model and calibration tokens; `layers.layer_runs` gives the
linear operations of a prompt with bytes in, parameters, bytes out, and the float reference.
"""
