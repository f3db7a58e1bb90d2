//! Documents, passages, words and vectors in one SQLite database.
//!
//! A [`Store`] holds its folder alone. One thread owns the connection that writes and makes each
//! document one transaction; it answers after the commit has reached the disk and the tenant's
//! [`Catalog`] in memory shows it. Searches read through connections of their own.

mod database;

use std::{
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mesh::{Tenant, folder::claim};
use rusqlite::Connection;
use switchboard_mesh as mesh;
use tokio::sync::{mpsc, oneshot};

use crate::{
    catalog::Catalog,
    document::{Document, NewPassage},
    error::Error,
    metrics,
};

/// Writes that may wait for the thread.
const WAITING_WRITES: usize = 16;

/// Vectors that enter an approximate index at once, while searches wait.
const INDEX_STEP: usize = 8;

/// Time for searches between two steps of indexing, at least; as much as the step took if longer.
const INDEX_PAUSE: Duration = Duration::from_millis(2);

/// Connections for reading that are kept for later.
const IDLE_READERS: usize = 8;

/// A model's name and the length of its vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) dimension: usize,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// Whether the document was new.
    pub(crate) created: bool,
    /// Passages that were not there before.
    pub(crate) written: u32,
}

/// A document on its way to the disk.
pub(crate) struct Write {
    pub(crate) tenant: Tenant,
    pub(crate) document: Document,
    pub(crate) passages: Vec<NewPassage>,
    pub(crate) model: Model,
}

/// What is in memory of one tenant.
pub(crate) struct Space {
    /// The tenant's number in the database.
    pub(crate) number: i64,
    pub(crate) catalog: RwLock<Catalog>,
}

enum Command {
    Replace(Box<Write>, oneshot::Sender<Result<Replaced, Error>>),
    Delete(Tenant, String, oneshot::Sender<Result<u32, Error>>),
}

/// The open database.
pub(crate) struct Store {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    path: PathBuf,
    exact_limit: usize,
    spaces: RwLock<HashMap<Tenant, Arc<Space>>>,
    model: RwLock<Option<Model>>,
    readers: Mutex<Vec<Connection>>,
}

impl Store {
    /// Opens the database in `folder`, which is made where it is missing. Reads all passages and
    /// vectors: call it where blocking is allowed.
    ///
    /// # Errors
    /// `InUse`, `Folder`, `Corrupt` or `Newer`, each of which says what to do.
    pub(crate) fn open(folder: &Path, exact_limit: usize) -> Result<Self, Error> {
        let lock = claim(folder).map_err(|source| Error::Folder { folder: folder.to_owned(), source })?;
        let lock = lock.ok_or_else(|| Error::InUse { folder: folder.to_owned() })?;
        let path = folder.join("knowledge.db");
        let mut connection = database::open(&path)?;
        let loaded = database::load(&connection, exact_limit).map_err(|error| Error::sqlite(&path, error))?;
        let passages: usize = loaded.spaces.values().map(|space| read(&space.catalog).len()).sum();
        metrics::PASSAGES.add(passages as i64, &[]);
        let shared = Arc::new(Shared {
            path,
            exact_limit,
            spaces: RwLock::new(loaded.spaces),
            model: RwLock::new(loaded.model),
            readers: Mutex::default(),
        });
        let (commands, waiting) = mpsc::channel(WAITING_WRITES);
        let of_thread = shared.clone();
        let writer = std::thread::Builder::new()
            .name("knowledge-writer".into())
            .spawn(move || {
                write(&of_thread, &mut connection, waiting);
                // The folder is free once the connection is closed, not before.
                drop(connection);
                drop(lock);
            })
            .map_err(|source| Error::Folder { folder: folder.to_owned(), source })?;
        Ok(Self { shared, commands: Some(commands), writer: Some(writer) })
    }

    /// The model of the stored vectors, if there are any.
    pub(crate) fn model(&self) -> Option<Model> {
        read(&self.shared.model).clone()
    }

    /// What a tenant has stored; `None` for a tenant that never had anything.
    pub(crate) fn space(&self, tenant: &Tenant) -> Option<Arc<Space>> {
        read(&self.shared.spaces).get(tenant).cloned()
    }

    /// Puts a document in place of the one with its id. When it returns, the document is durable
    /// and can be found. Dropping the future before the write began stops it.
    ///
    /// # Errors
    /// `Full`, `ReadOnly` or `OtherModel`; what was stored before still stands.
    pub(crate) async fn replace(&self, write: Write) -> Result<Replaced, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Replace(Box::new(write), reply)).await?;
        answer.await.map_err(|_| Error::Stopping)?
    }

    /// Removes a document and returns how many passages it had.
    ///
    /// # Errors
    /// `Full` or `ReadOnly`; the document still stands.
    pub(crate) async fn delete(&self, tenant: Tenant, document_id: String) -> Result<u32, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Delete(tenant, document_id, reply)).await?;
        answer.await.map_err(|_| Error::Stopping)?
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        let commands = self.commands.as_ref().ok_or(Error::Stopping)?;
        commands.send(command).await.map_err(|_| Error::Stopping)
    }

    /// Hands over the database row and the BM25 score of each of one tenant's passages that match a
    /// full-text expression, in no order. Blocks.
    pub(crate) fn words(
        &self,
        tenant: i64,
        expression: &str,
        take: impl FnMut(i64, f32),
    ) -> Result<(), Error> {
        let fail = |error| Error::sqlite(&self.shared.path, error);
        let idle = self.shared.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => database::reader(&self.shared.path).map_err(fail)?,
        };
        let done = database::words(&reader, tenant, expression, take).map_err(fail);
        let mut readers = self.shared.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < IDLE_READERS {
            readers.push(reader);
        }
        done
    }
}

impl Drop for Store {
    /// Waits for the write that is under way, so that the folder is free afterwards.
    fn drop(&mut self) {
        self.commands = None;
        self.shared.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The writer's life: a command at a time, and between them a little work on the indexes.
fn write(shared: &Shared, connection: &mut Connection, mut commands: mpsc::Receiver<Command>) {
    let mut writer = Writer { shared, connection, stale: HashSet::new() };
    loop {
        let command = match commands.try_recv() {
            Ok(command) => Some(command),
            Err(mpsc::error::TryRecvError::Disconnected) => return,
            Err(mpsc::error::TryRecvError::Empty) => {
                let started = Instant::now();
                if writer.index_some() {
                    std::thread::park_timeout(started.elapsed().max(INDEX_PAUSE));
                    continue;
                }
                commands.blocking_recv()
            }
        };
        match command {
            None => return,
            // A caller who has gone is not worked for.
            Some(Command::Replace(_, reply)) if reply.is_closed() => {}
            Some(Command::Delete(_, _, reply)) if reply.is_closed() => {}
            Some(Command::Replace(write, reply)) => {
                let tenant = write.tenant.clone();
                let work = |shared: &Shared, connection: &mut Connection| replace(shared, connection, *write);
                let _ = reply.send(writer.guard(&tenant, work));
            }
            Some(Command::Delete(tenant, document, reply)) => {
                let work = |shared: &Shared, connection: &mut Connection| {
                    delete(shared, connection, &tenant, &document)
                };
                let _ = reply.send(writer.guard(&tenant, work));
            }
        }
    }
}

/// Keeps the thread alive, and memory like the database, whatever happens to one tenant.
struct Writer<'a> {
    shared: &'a Shared,
    connection: &'a mut Connection,
    /// Tenants whose catalogs may be half changed.
    stale: HashSet<Tenant>,
}

impl Writer<'_> {
    /// Does a tenant's work. After a panic the tenant's catalog is read again from the database,
    /// which holds all that was committed; until that works, its writes fail.
    fn guard<T>(
        &mut self,
        tenant: &Tenant,
        work: impl FnOnce(&Shared, &mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.stale.contains(tenant) {
            self.reload(tenant)?;
        }
        let done = catch_unwind(AssertUnwindSafe(|| work(self.shared, self.connection)));
        done.unwrap_or_else(|_| {
            tracing::error!("a write stopped with a panic; the tenant is read again from the database");
            self.stale.insert(tenant.clone());
            if let Err(error) = self.reload(tenant) {
                tracing::error!(error = mesh::error::chain(&error), "the tenant cannot be read again");
            }
            Err(Error::Lost)
        })
    }

    fn reload(&mut self, tenant: &Tenant) -> Result<(), Error> {
        let (shared, connection) = (self.shared, &*self.connection);
        let load = || database::load_one(connection, tenant, shared.exact_limit);
        let loaded = catch_unwind(AssertUnwindSafe(load)).map_err(|_| Error::Lost)?;
        if let Some((number, catalog)) = loaded.map_err(|error| Error::sqlite(&shared.path, error))? {
            let mut spaces = shared.spaces.write().unwrap_or_else(PoisonError::into_inner);
            let before = spaces.get(tenant).map_or(0, |space| read(&space.catalog).len());
            metrics::PASSAGES.add(catalog.len() as i64 - before as i64, &[]);
            spaces.insert(tenant.clone(), Arc::new(Space { number, catalog: RwLock::new(catalog) }));
        }
        self.stale.remove(tenant);
        Ok(())
    }

    /// Gives each tenant's indexes a short turn; says whether any has more to do.
    fn index_some(&mut self) -> bool {
        let spaces: Vec<_> =
            read(&self.shared.spaces).iter().map(|(name, space)| (name.clone(), space.clone())).collect();
        let mut any = false;
        for (tenant, space) in spaces.iter().filter(|(_, space)| read(&space.catalog).wants_index()) {
            let step = |_: &Shared, _: &mut Connection| {
                Ok(space.catalog.write().unwrap_or_else(PoisonError::into_inner).index_some(INDEX_STEP))
            };
            any |= self.guard(tenant, step).unwrap_or(false);
        }
        any
    }
}

fn replace(shared: &Shared, connection: &mut Connection, mut write: Write) -> Result<Replaced, Error> {
    write.document.passages = write.passages.len() as u32;
    let dimension = write.model.dimension;
    let whole = |passage: &NewPassage| {
        passage.vector.len() == dimension
            && passage.sentences.iter().all(|sentence| sentence.vector.len() == dimension)
    };
    if !write.passages.iter().all(whole) {
        return Err(Error::Incomplete { dimension });
    }
    let stored = database::replace(connection, &write)
        .map_err(|error| Error::sqlite(&shared.path, error))?
        .map_err(|stored| Error::OtherModel { stored, found: write.model.name.clone() })?;
    let mut spaces = shared.spaces.write().unwrap_or_else(PoisonError::into_inner);
    let mut model = shared.model.write().unwrap_or_else(PoisonError::into_inner);
    if model.as_ref() != Some(&write.model) {
        // Only a database without documents takes another model: what is in memory is empty.
        spaces.clear();
        *model = Some(write.model);
    }
    let space = spaces.entry(write.tenant).or_insert_with(|| {
        let catalog = RwLock::new(Catalog::new(dimension, shared.exact_limit));
        Arc::new(Space { number: stored.tenant, catalog })
    });
    let space = space.clone();
    drop((model, spaces));
    let mut catalog = space.catalog.write().unwrap_or_else(PoisonError::into_inner);
    let before = catalog.len();
    catalog.replace(write.document, stored.rows.into_iter().zip(write.passages).collect());
    metrics::PASSAGES.add(catalog.len() as i64 - before as i64, &[]);
    Ok(stored.replaced)
}

fn delete(
    shared: &Shared,
    connection: &mut Connection,
    tenant: &Tenant,
    document: &str,
) -> Result<u32, Error> {
    let Some(space) = read(&shared.spaces).get(tenant).cloned() else { return Ok(0) };
    database::delete(connection, space.number, document)
        .map_err(|error| Error::sqlite(&shared.path, error))?;
    let removed = space.catalog.write().unwrap_or_else(PoisonError::into_inner).remove(document);
    metrics::PASSAGES.add(-i64::from(removed), &[]);
    Ok(removed)
}

/// Reads what a lock guards. What a panic left half changed the writer puts right.
pub(crate) fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{NewSentence, hash};

    fn tenant(name: &str) -> Tenant {
        Tenant::try_new(name).unwrap()
    }

    fn passage(document: &str, text: &str) -> NewPassage {
        NewPassage {
            id: format!("{document}/{text}"),
            fingerprint: hash([text.as_bytes()]),
            headings: vec!["Heading".into()],
            start: 3,
            end: 3 + text.chars().count() as u32,
            text: text.into(),
            vector: vec![1.0, 0.0],
            sentences: vec![NewSentence {
                start: 0,
                end: text.chars().count() as u32,
                vector: vec![0.0, 1.0],
            }],
        }
    }

    fn document(of: &str, id: &str, texts: &[&str]) -> Write {
        Write {
            tenant: tenant(of),
            document: Document {
                id: id.into(),
                title: "Title".into(),
                locale: "en".into(),
                audiences: vec!["plus".into()],
                uri: String::new(),
                version: texts.join("|"),
                passages: 0,
                outdated: false,
                ingested_at: 7,
            },
            passages: texts.iter().map(|text| passage(id, text)).collect(),
            model: Model { name: "m".into(), dimension: 2 },
        }
    }

    #[tokio::test]
    async fn a_passage_without_its_vector_is_not_stored() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        let mut write = document("a", "d", &["alpha"]);
        write.passages[0].sentences[0].vector.clear();
        assert!(matches!(store.replace(write).await, Err(Error::Incomplete { dimension: 2 })));
        assert!(store.space(&tenant("a")).is_none());
        store.replace(document("a", "d", &["alpha"])).await.unwrap();
    }

    #[test]
    fn a_panic_of_one_write_costs_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = database::open(&folder.path().join("knowledge.db")).unwrap();
        let shared = Shared {
            path: folder.path().join("knowledge.db"),
            exact_limit: 100,
            spaces: RwLock::default(),
            model: RwLock::default(),
            readers: Mutex::default(),
        };
        let mut writer = Writer { shared: &shared, connection: &mut connection, stale: HashSet::new() };
        let name = tenant("a");
        let put =
            |write| move |shared: &Shared, connection: &mut Connection| replace(shared, connection, write);
        writer.guard(&name, put(document("a", "d", &["alpha"]))).unwrap();
        let half = |shared: &Shared, _: &mut Connection| -> Result<(), Error> {
            let space = read(&shared.spaces).get(&tenant("a")).cloned().unwrap();
            let mut catalog = space.catalog.write().unwrap();
            catalog.remove("d");
            panic!("half way");
        };
        assert!(matches!(writer.guard(&name, half), Err(Error::Lost)));
        let passages = |shared: &Shared| read(&read(&shared.spaces)[&tenant("a")].catalog).len();
        assert_eq!(passages(&shared), 1, "what was committed is there again");
        writer.guard(&name, put(document("a", "e", &["beta"]))).unwrap();
        assert_eq!(passages(&shared), 2);
    }

    fn found(store: &Store, of: &str, expression: &str) -> Vec<String> {
        let space = store.space(&tenant(of)).expect("stored before");
        let catalog = read(&space.catalog);
        let mut texts = Vec::new();
        let take = |row, score: f32| {
            assert!(score.is_finite());
            texts.extend(
                catalog.slot_of_row(row).and_then(|slot| catalog.passage(slot)).map(|p| p.text.clone()),
            );
        };
        store.words(space.number, expression, take).unwrap();
        texts.sort();
        texts
    }

    #[tokio::test]
    async fn what_is_acknowledged_is_there_after_a_reopen() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        let done = store.replace(document("a", "d", &["red shoes é", "blue shirts"])).await.unwrap();
        assert_eq!(done, Replaced { created: true, written: 2 });
        drop(store);
        let store = Store::open(folder.path(), 100).unwrap();
        assert_eq!(found(&store, "a", "\"shoe\""), ["red shoes é"]);
        let space = store.space(&tenant("a")).unwrap();
        let catalog = read(&space.catalog);
        let passage = catalog.by_id("d/red shoes é").unwrap();
        assert_eq!((passage.start, passage.end, passage.headings.len()), (3, 14, 1));
        assert_eq!(passage.sentence(&passage.sentences[0]), "red shoes é");
        assert_eq!(catalog.passage_vectors.row(passage.vector), [1.0, 0.0]);
        assert_eq!(passage.document.audiences, ["plus"]);
        assert_eq!(passage.document.passages, 2);
        assert_eq!(store.model(), Some(Model { name: "m".into(), dimension: 2 }));
    }

    #[tokio::test]
    async fn a_database_that_was_never_closed_opens_with_all_it_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        store.replace(document("a", "d", &["red shoes"])).await.unwrap();
        // What a killed process leaves behind: the files as they are, the journal not folded in.
        let copy = tempfile::tempdir().unwrap();
        for file in ["knowledge.db", "knowledge.db-wal"] {
            std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
        }
        let opened = Store::open(copy.path(), 100).unwrap();
        assert_eq!(found(&opened, "a", "\"shoes\""), ["red shoes"]);
    }

    #[tokio::test]
    async fn a_changed_document_writes_only_what_changed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        store.replace(document("a", "d", &["alpha", "two", "three"])).await.unwrap();
        let done = store.replace(document("a", "d", &["alpha", "four", "three"])).await.unwrap();
        assert_eq!(done, Replaced { created: false, written: 1 });
        assert!(found(&store, "a", "\"two\"").is_empty());
        assert_eq!(found(&store, "a", "\"four\" OR \"three\""), ["four", "three"]);
        drop(store);
        let store = Store::open(folder.path(), 100).unwrap();
        assert_eq!(
            found(&store, "a", "\"alpha\" OR \"two\" OR \"three\" OR \"four\""),
            ["alpha", "four", "three"]
        );
    }

    #[tokio::test]
    async fn a_deleted_document_is_gone_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        store.replace(document("a", "d", &["alpha"])).await.unwrap();
        store.replace(document("b", "d", &["alpha"])).await.unwrap();
        assert_eq!(store.delete(tenant("a"), "d".into()).await.unwrap(), 1);
        assert_eq!(store.delete(tenant("a"), "d".into()).await.unwrap(), 0);
        assert_eq!(store.delete(tenant("c"), "d".into()).await.unwrap(), 0);
        assert!(found(&store, "a", "\"alpha\"").is_empty());
        assert_eq!(found(&store, "b", "\"alpha\""), ["alpha"]);
        drop(store);
        let store = Store::open(folder.path(), 100).unwrap();
        assert_eq!(found(&store, "b", "\"alpha\""), ["alpha"]);
        assert!(store.space(&tenant("a")).is_none_or(|space| read(&space.catalog).len() == 0));
    }

    #[tokio::test]
    async fn tenants_do_not_see_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        store.replace(document("a", "x", &["common alpha"])).await.unwrap();
        store.replace(document("b", "y", &["common beta"])).await.unwrap();
        assert_eq!(found(&store, "a", "\"common\""), ["common alpha"]);
        assert_eq!(found(&store, "b", "\"common\""), ["common beta"]);
        assert!(found(&store, "b", "\"alpha\"").is_empty());
    }

    #[tokio::test]
    async fn vectors_of_two_models_are_not_mixed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        store.replace(document("a", "d", &["alpha"])).await.unwrap();
        let mut other = document("a", "e", &["two"]);
        other.model.name = "n".into();
        assert!(matches!(store.replace(other).await, Err(Error::OtherModel { stored, .. }) if stored == "m"));
        store.delete(tenant("a"), "d".into()).await.unwrap();
        let mut other = document("a", "e", &["two"]);
        other.model.name = "n".into();
        store.replace(other).await.unwrap();
        assert_eq!(found(&store, "a", "\"two\""), ["two"]);
    }

    #[tokio::test]
    async fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        assert!(matches!(Store::open(folder.path(), 100), Err(Error::InUse { .. })));
        drop(store);
        Store::open(folder.path(), 100).unwrap();
    }

    #[tokio::test]
    async fn a_damaged_database_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("knowledge.db");
        std::fs::write(&path, [b'x'; 8192]).unwrap();
        let error = Store::open(folder.path(), 100).err().expect("not a database");
        assert!(error.to_string().contains("damaged"), "{error}");

        std::fs::remove_file(&path).unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        for n in 0..40 {
            store.replace(document("a", &format!("d{n}"), &["some words", "other words"])).await.unwrap();
        }
        drop(store);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[4096..middle].fill(0xA5);
        std::fs::write(&path, bytes).unwrap();
        let error = Store::open(folder.path(), 100).err().expect("a damaged database");
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_database_of_a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path(), 100).unwrap());
        let connection = Connection::open(folder.path().join("knowledge.db")).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        assert!(matches!(Store::open(folder.path(), 100), Err(Error::Newer { found: 99, .. })));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let error = Store::open(&file.join("knowledge"), 100).err().expect("a file is no folder");
        assert!(matches!(error, Error::Folder { .. }));
    }

    #[tokio::test]
    async fn a_full_disk_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        store.replace(document("a", "d", &["alpha"])).await.unwrap();
        drop(store);
        // A database at its page limit fails with the same code as a full disk.
        let path = folder.path().join("knowledge.db");
        let mut connection = database::open(&path).unwrap();
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
        let long = "word ".repeat(100_000);
        let error = database::replace(&mut connection, &document("a", "d", &[&long])).err().expect("full");
        assert!(matches!(Error::sqlite(&path, error), Error::Full));
        drop(connection);
        let store = Store::open(folder.path(), 100).unwrap();
        assert_eq!(found(&store, "a", "\"alpha\""), ["alpha"]);
    }
}
