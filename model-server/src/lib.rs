//! Nodes that run ONNX models.
