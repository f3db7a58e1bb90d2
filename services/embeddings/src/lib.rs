//! Texts to vectors, over the model-server nodes.
