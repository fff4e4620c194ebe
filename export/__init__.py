"""Export: checkpoint -> ONNX, QDQ ONNX -> TFLite, TFLite -> firmware headers."""
