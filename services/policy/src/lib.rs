//! What may be read, said and done.
