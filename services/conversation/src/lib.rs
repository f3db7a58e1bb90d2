//! A turn from the customer's words to a checked reply.
