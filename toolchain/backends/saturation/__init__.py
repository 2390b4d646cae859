"""Which int8 layers would saturate on a CPU without VNNI, computed; and weights narrowed so that none can.

The arithmetic is that of x86's pmaddubsw, computed here in numpy, so the answer does not depend on this machine's CPU.
arithmetic.py knows one layer; from_onnx.py and from_openvino.py read the layers and their activations from an artifact;
narrow.py requantizes weights that training left at 8 bits. Reference: Intel, oneDNN, "Nuances of int8 computations".
"""
