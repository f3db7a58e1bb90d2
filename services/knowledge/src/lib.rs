//! The company's documents: ingest, hybrid search, citations.
