-- Schema 1. Vectors are 32-bit floats, little-endian, one after the other.

-- `model` and `dimension` of the vectors, once there are any.
CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Each tenant has a full-text index of its own, `words_<id>`, so that neither hits nor the
-- statistics behind their scores cross tenants.
CREATE TABLE tenants (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE documents (
    id INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenants (id),
    document_id TEXT NOT NULL,
    title TEXT NOT NULL,
    locale TEXT NOT NULL,
    audiences TEXT NOT NULL,      -- JSON list; empty for everyone
    uri TEXT NOT NULL,
    version TEXT NOT NULL,
    ingested_at INTEGER NOT NULL, -- milliseconds since 1970
    outdated INTEGER NOT NULL,    -- 1: says of itself that it no longer holds
    UNIQUE (tenant, document_id)
) STRICT;

-- AUTOINCREMENT: a row's number is never used again, so that a hit of the full-text index can not
-- be taken for a later passage.
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant INTEGER NOT NULL REFERENCES tenants (id),
    document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    passage_id TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,    -- hash of all that is indexed and embedded
    headings TEXT NOT NULL,       -- JSON list
    first INTEGER NOT NULL,       -- offsets in characters of the document's text
    past INTEGER NOT NULL,
    text TEXT NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (tenant, passage_id)
) STRICT;

CREATE INDEX passages_of_document ON passages (document, ordinal);

CREATE TABLE sentences (
    passage INTEGER NOT NULL REFERENCES passages (id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    first INTEGER NOT NULL,       -- offsets in characters of the passage's text
    past INTEGER NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (passage, ordinal)
) STRICT, WITHOUT ROWID;
