"""Files of other programs as specs with weights: `onnx_file` reads, `network` translates, `writing` writes YAML."""
