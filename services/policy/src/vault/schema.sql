-- What is held of conversations, sealed. Names of tenants and conversations are no secrets; values are.
CREATE TABLE conversations (
    tenant TEXT NOT NULL,
    conversation TEXT NOT NULL,
    -- The highest number that a placeholder of it ever had. It outlives the values, so that a placeholder never
    -- stands for another value.
    highest INTEGER NOT NULL,
    -- Seconds since 1970.
    used_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, conversation)
) WITHOUT ROWID;

CREATE INDEX conversations_by_use ON conversations (used_at);

CREATE TABLE held (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    conversation TEXT NOT NULL,
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    -- Which key sealed it.
    key TEXT NOT NULL,
    -- By which it is found again without being opened.
    mark BLOB NOT NULL,
    sealed BLOB NOT NULL,
    UNIQUE (tenant, conversation, kind, number)
);

CREATE INDEX held_by_mark ON held (tenant, mark);
