//! Chooses a model card and writes the reply.
