CREATE TABLE ledger_heads (
  tenant TEXT NOT NULL PRIMARY KEY,
  sequence INTEGER NOT NULL,
  hash BLOB NOT NULL,
  frontier BLOB NOT NULL
) WITHOUT ROWID;
-- Records lie in the order of their chain; what they are found by is beside the content.
CREATE TABLE ledger_records (
  tenant TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  id BLOB NOT NULL,
  kind INTEGER NOT NULL,
  conversation TEXT NOT NULL,
  turn TEXT NOT NULL,
  subject TEXT NOT NULL,
  refers_to BLOB,
  ledger_time INTEGER NOT NULL,
  content BLOB NOT NULL,
  hash BLOB NOT NULL,
  PRIMARY KEY (tenant, sequence)
) WITHOUT ROWID;
CREATE UNIQUE INDEX ledger_records_id ON ledger_records (tenant, id);
CREATE INDEX ledger_records_kind ON ledger_records (tenant, kind, sequence);
CREATE INDEX ledger_records_time ON ledger_records (tenant, ledger_time);
CREATE INDEX ledger_records_conversation ON ledger_records (tenant, conversation, sequence) WHERE conversation <> '';
CREATE INDEX ledger_records_turn ON ledger_records (tenant, turn, sequence) WHERE turn <> '';
CREATE INDEX ledger_records_subject ON ledger_records (tenant, subject, sequence) WHERE subject <> '';
CREATE INDEX ledger_records_refers_to ON ledger_records (tenant, refers_to, sequence) WHERE refers_to IS NOT NULL;
CREATE TABLE ledger_sealed (
  tenant TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  key BLOB NOT NULL,
  bytes BLOB NOT NULL,
  PRIMARY KEY (tenant, sequence)
) WITHOUT ROWID;
CREATE INDEX ledger_sealed_key ON ledger_sealed (tenant, key);
CREATE TABLE ledger_keys (
  tenant TEXT NOT NULL,
  subject TEXT NOT NULL,
  id BLOB NOT NULL,
  master TEXT NOT NULL,
  wrapped BLOB NOT NULL,
  PRIMARY KEY (tenant, subject)
) WITHOUT ROWID;
CREATE UNIQUE INDEX ledger_keys_id ON ledger_keys (tenant, id);
CREATE TABLE ledger_checkpoints (
  tenant TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  line TEXT NOT NULL,
  PRIMARY KEY (tenant, sequence)
) WITHOUT ROWID;
