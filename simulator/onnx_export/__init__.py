"""A calibrated network as an ONNX graph of int8 operators, and the same network in the simulator, site by site."""
