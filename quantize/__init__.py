"""Post-training quantization: float ONNX -> int8 QDQ ONNX. Imports kws, never export."""
