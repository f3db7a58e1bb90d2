CREATE TABLE IF NOT EXISTS ledger_schema (version BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS ledger_heads (
  tenant TEXT NOT NULL PRIMARY KEY,
  sequence BIGINT NOT NULL,
  hash BYTEA NOT NULL,
  frontier BYTEA NOT NULL
);
CREATE TABLE IF NOT EXISTS ledger_records (
  tenant TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  id BYTEA NOT NULL,
  kind BIGINT NOT NULL,
  conversation TEXT NOT NULL,
  turn TEXT NOT NULL,
  subject TEXT NOT NULL,
  refers_to BYTEA,
  ledger_time BIGINT NOT NULL,
  content BYTEA NOT NULL,
  hash BYTEA NOT NULL,
  PRIMARY KEY (tenant, sequence)
);
CREATE UNIQUE INDEX IF NOT EXISTS ledger_records_id ON ledger_records (tenant, id);
CREATE INDEX IF NOT EXISTS ledger_records_kind ON ledger_records (tenant, kind, sequence);
CREATE INDEX IF NOT EXISTS ledger_records_time ON ledger_records (tenant, ledger_time);
CREATE INDEX IF NOT EXISTS ledger_records_conversation ON ledger_records (tenant, conversation, sequence) WHERE conversation <> '';
CREATE INDEX IF NOT EXISTS ledger_records_turn ON ledger_records (tenant, turn, sequence) WHERE turn <> '';
CREATE INDEX IF NOT EXISTS ledger_records_subject ON ledger_records (tenant, subject, sequence) WHERE subject <> '';
CREATE INDEX IF NOT EXISTS ledger_records_refers_to ON ledger_records (tenant, refers_to, sequence) WHERE refers_to IS NOT NULL;
CREATE TABLE IF NOT EXISTS ledger_sealed (
  tenant TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  key BYTEA NOT NULL,
  bytes BYTEA NOT NULL,
  PRIMARY KEY (tenant, sequence)
);
CREATE INDEX IF NOT EXISTS ledger_sealed_key ON ledger_sealed (tenant, key);
CREATE TABLE IF NOT EXISTS ledger_keys (
  tenant TEXT NOT NULL,
  subject TEXT NOT NULL,
  id BYTEA NOT NULL,
  master TEXT NOT NULL,
  wrapped BYTEA NOT NULL,
  PRIMARY KEY (tenant, subject)
);
CREATE UNIQUE INDEX IF NOT EXISTS ledger_keys_id ON ledger_keys (tenant, id);
CREATE TABLE IF NOT EXISTS ledger_checkpoints (
  tenant TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  line TEXT NOT NULL,
  PRIMARY KEY (tenant, sequence)
);
