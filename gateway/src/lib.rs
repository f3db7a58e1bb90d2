//! The edge: HTTP, SSE and gRPC for customers of the mesh.
