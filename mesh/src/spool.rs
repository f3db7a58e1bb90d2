//! What others are still to hear of, kept on disk in order until they have.
//!
//! [`Spool::append`] puts a frame of bytes at the end of a file, which takes some microseconds; whoever
//! brings the frames on calls [`Spool::drain`], which hands them over oldest first and forgets what was
//! taken. Frames outlive the process: what was appended when it was killed is there when it starts again.
//! They outlive the machine only once [`Spool::sync`] was called. A frame may be handed over twice, when
//! the process ends between the two; the receiver has to know it again.
//!
//! Files hold up to [`Limits::segment`] bytes of frames, each with its length and a CRC-32 before it: a frame
//! that was cut off by the end of a process is found, and what is before it stays.
//!
//! ```text
//! folder/0/lock  folder/0/00000000000000000001  folder/0/00000000000000000002 ...
//! ```
//!
//! Each process has a subfolder of its own, under a lock; what an earlier one left is taken over.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::folder::claim;

/// The length and the CRC before a frame, four bytes each, big-endian.
const HEAD: usize = 8;
/// Processes that may share a folder.
const MOST_PROCESSES: u32 = 64;
/// Frames that are handed over at once, and their bytes.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 1 << 20;

/// How much a spool may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all frames that wait.
    pub bytes: u64,
    /// Bytes of one frame.
    pub frame: usize,
    /// Bytes of one file, beyond which another one is begun.
    pub segment: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 << 20, frame: 4 << 20, segment: 8 << 20 }
    }
}

/// Why a frame could not be kept, or a folder not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The frame is empty, or longer than the spool takes.
    #[error("a frame of {bytes} bytes; the spool takes 1 to {most}")]
    TooLong {
        /// The frame's.
        bytes: usize,
        /// What is allowed.
        most: usize,
    },
    /// Too much waits already: try again when some of it was taken.
    #[error("the spool is full: {bytes} bytes wait, of {most} that may")]
    Full {
        /// What waits.
        bytes: u64,
        /// What may.
        most: u64,
    },
    /// Too many processes share the folder.
    #[error("{} is in use by {MOST_PROCESSES} processes", folder.display())]
    Crowded {
        /// The folder.
        folder: PathBuf,
    },
    /// The disk is full, or does not work.
    #[error("{}: {source}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    |source| Error::Disk { path: path.to_owned(), source }
}

/// Frames that wait. One process appends and drains; any number of its tasks may append.
pub struct Spool {
    folder: PathBuf,
    limits: Limits,
    state: Mutex<State>,
    appended: Notify,
    draining: tokio::sync::Mutex<()>,
    /// Held as long as the folder is in use.
    _lock: File,
}

struct State {
    waiting: VecDeque<Frame>,
    bytes: u64,
    /// The file that is appended to; the last of those that frames are in.
    last: Option<Arc<Segment>>,
    next: u64,
}

/// Where a frame stands.
#[derive(Clone)]
struct Frame {
    segment: Arc<Segment>,
    offset: u64,
    bytes: usize,
}

/// A file of frames; removed with the last of them.
struct Segment {
    path: PathBuf,
    file: File,
    written: Mutex<u64>,
}

impl Spool {
    /// Opens the spool of a process in `folder`, which is made if need be, with all that earlier processes
    /// left there. A frame that was cut off, and what follows it in its file, is let go and told.
    ///
    /// # Errors
    /// [`Error::Crowded`]; [`Error::Disk`].
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, Error> {
        let (folder, lock) = own(folder)?;
        let spool = Self {
            state: Mutex::new(State { waiting: VecDeque::new(), bytes: 0, last: None, next: 1 }),
            limits,
            appended: Notify::new(),
            draining: tokio::sync::Mutex::new(()),
            _lock: lock,
            folder,
        };
        spool.recover(&spool.folder)?;
        spool.take_over()?;
        Ok(spool)
    }

    /// Puts a frame at the end.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Full`], [`Error::Disk`]; nothing is kept then.
    pub fn append(&self, frame: &[u8]) -> Result<(), Error> {
        self.push(frame, self.limits.bytes)
    }

    /// Puts back at the end what was handed over and cannot be taken yet. It has its place, as long as
    /// [`Spool::drain`] has not forgotten what it hands over, so this goes beyond the limit by that much.
    ///
    /// # Errors
    /// As [`Spool::append`], but not that the spool is full.
    pub fn put_back(&self, frame: &[u8]) -> Result<(), Error> {
        self.push(frame, u64::MAX)
    }

    /// Puts a frame at the end, if no more than `limit` bytes wait then.
    fn push(&self, frame: &[u8], limit: u64) -> Result<(), Error> {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        if frame.is_empty() || frame.len() > self.limits.frame || length == u32::MAX {
            return Err(Error::TooLong { bytes: frame.len(), most: self.limits.frame });
        }
        let mut state = self.state();
        let size = (HEAD + frame.len()) as u64;
        if state.bytes + size > limit {
            return Err(Error::Full { bytes: state.bytes, most: limit });
        }
        let segment = self.segment(&mut state, size)?;
        let mut whole = Vec::with_capacity(HEAD + frame.len());
        whole.extend(length.to_be_bytes());
        whole.extend(crc32fast::hash(frame).to_be_bytes());
        whole.extend(frame);
        let mut written = segment.written.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = *written;
        if let Err(source) = segment.file.write_all_at(&whole, offset) {
            // What was written of it is overwritten by the next one; cut off, it is not taken for one.
            let _ = segment.file.set_len(offset);
            return Err(Error::Disk { path: segment.path.clone(), source });
        }
        *written += size;
        drop(written);
        state.bytes += size;
        state.waiting.push_back(Frame { segment, offset: offset + HEAD as u64, bytes: frame.len() });
        drop(state);
        self.appended.notify_one();
        Ok(())
    }

    /// Hands frames over, oldest first and some at a time: all that wait when it begins. What `take` returns
    /// `Ok` for is forgotten; at the first error it stops.
    ///
    /// # Errors
    /// What `take` says.
    pub async fn drain<E, F: Future<Output = Result<(), E>>>(
        &self,
        mut take: impl FnMut(Vec<Vec<u8>>) -> F,
    ) -> Result<(), E> {
        let _one = self.draining.lock().await;
        let mut left = self.len();
        while left > 0 {
            let batch = self.oldest(left);
            let frames = batch.iter().filter_map(|frame| {
                frame.read().inspect_err(|error| tracing::error!(%error, "a frame of the spool is lost")).ok()
            });
            let frames: Vec<Vec<u8>> = frames.collect();
            if !frames.is_empty() {
                take(frames).await?;
            }
            self.forget(batch.len());
            left = left.saturating_sub(batch.len());
        }
        Ok(())
    }

    /// Waits until something was appended since the last time.
    pub async fn appended(&self) {
        self.appended.notified().await;
    }

    /// Makes what waits outlive the machine's power.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn sync(&self) -> Result<(), Error> {
        let mut segments: Vec<Arc<Segment>> =
            self.state().waiting.iter().map(|frame| Arc::clone(&frame.segment)).collect();
        segments.dedup_by(|one, other| Arc::ptr_eq(one, other));
        for segment in segments {
            segment.file.sync_data().map_err(at(&segment.path))?;
        }
        // The names of the files as well.
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(at(&self.folder))
    }

    /// Frames that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file for `size` more bytes.
    fn segment(&self, state: &mut State, size: u64) -> Result<Arc<Segment>, Error> {
        if let Some(last) = &state.last {
            let written = *last.written.lock().unwrap_or_else(PoisonError::into_inner);
            if written == 0 || written + size <= self.limits.segment {
                return Ok(Arc::clone(last));
            }
        }
        let path = self.folder.join(format!("{:020}", state.next));
        let file = private().create_new(true).open(&path);
        let file = file.map_err(at(&path))?;
        state.next += 1;
        let segment = Arc::new(Segment { path, file, written: Mutex::new(0) });
        state.last = Some(Arc::clone(&segment));
        Ok(segment)
    }

    fn oldest(&self, most: usize) -> Vec<Frame> {
        let state = self.state();
        let mut bytes = 0;
        let fits = |frame: &&Frame| {
            bytes += frame.bytes;
            bytes <= BATCH_BYTES
        };
        let most = most.min(BATCH);
        let mut batch: Vec<Frame> = state.waiting.iter().take(most).take_while(fits).cloned().collect();
        if batch.is_empty() {
            batch.extend(state.waiting.front().cloned());
        }
        batch
    }

    /// Forgets the first `frames`, and removes the files that hold no more.
    fn forget(&self, frames: usize) {
        let mut state = self.state();
        for _ in 0..frames {
            let Some(frame) = state.waiting.pop_front() else { break };
            state.bytes -= (HEAD + frame.bytes) as u64;
            let next = state.waiting.front();
            if next.is_none_or(|next| !Arc::ptr_eq(&next.segment, &frame.segment)) {
                self.leave(&mut state, &frame.segment);
            }
        }
    }

    /// Empties or removes a file without frames.
    fn leave(&self, state: &mut State, segment: &Arc<Segment>) {
        let path = &segment.path;
        let is_last = state.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, segment));
        let left = if is_last {
            let emptied = segment.file.set_len(0);
            if emptied.is_ok() {
                *segment.written.lock().unwrap_or_else(PoisonError::into_inner) = 0;
            }
            emptied
        } else {
            fs::remove_file(path)
        };
        if let Err(error) = left {
            // Its frames come again when the process does.
            tracing::warn!(%error, path = %path.display(), "a file of the spool could not be removed");
        }
    }

    /// Takes up the frames in the files of `folder`.
    fn recover(&self, folder: &Path) -> Result<(), Error> {
        for (number, path) in segments(folder)? {
            let mut state = self.state();
            state.next = state.next.max(number + 1);
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
            let (frames, end) = frames(&file, self.limits.frame).map_err(at(&path))?;
            let length = file.metadata().map_err(at(&path))?.len();
            if end < length {
                let lost = length - end;
                tracing::warn!(path = %path.display(), lost, "a frame of the spool was cut off");
                file.set_len(end).map_err(at(&path))?;
            }
            if frames.is_empty() {
                drop(state);
                fs::remove_file(&path).map_err(at(&path))?;
                continue;
            }
            let segment = Arc::new(Segment { path, file, written: Mutex::new(end) });
            for (offset, bytes) in frames {
                state.bytes += (HEAD + bytes) as u64;
                state.waiting.push_back(Frame { segment: Arc::clone(&segment), offset, bytes });
            }
            state.last = Some(segment);
        }
        self.appended.notify_one();
        Ok(())
    }

    /// Takes over what processes that are gone left beside this one.
    fn take_over(&self) -> Result<(), Error> {
        let Some(shared) = self.folder.parent() else { return Ok(()) };
        for number in 0..MOST_PROCESSES {
            let folder = shared.join(number.to_string());
            if folder == self.folder || !folder.is_dir() {
                continue;
            }
            let Some(_lock) = claim(&folder).map_err(at(&folder))? else { continue };
            for (_, path) in segments(&folder)? {
                let file = File::open(&path).map_err(at(&path))?;
                let (frames, end) = frames(&file, self.limits.frame).map_err(at(&path))?;
                let length = file.metadata().map_err(at(&path))?.len();
                if end < length {
                    let lost = length - end;
                    tracing::warn!(path = %path.display(), lost, "a frame of the spool was cut off");
                }
                for (offset, bytes) in frames {
                    let mut frame = vec![0; bytes];
                    file.read_exact_at(&mut frame, offset).map_err(at(&path))?;
                    match self.append(&frame) {
                        // The rest waits until there is room, at a later start.
                        Err(Error::Full { .. }) => return Ok(()),
                        appended => appended?,
                    }
                }
                self.sync()?;
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }
}

impl Frame {
    fn read(&self) -> Result<Vec<u8>, Error> {
        let mut frame = vec![0; self.bytes];
        self.segment.file.read_exact_at(&mut frame, self.offset).map_err(at(&self.segment.path))?;
        Ok(frame)
    }
}

/// How files are opened: what waits in them is for nobody else to read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// A subfolder that no other process has, with its lock.
fn own(shared: &Path) -> Result<(PathBuf, File), Error> {
    for number in 0..MOST_PROCESSES {
        let folder = shared.join(number.to_string());
        if let Some(lock) = claim(&folder).map_err(at(&folder))? {
            return Ok((folder, lock));
        }
    }
    Err(Error::Crowded { folder: shared.to_owned() })
}

/// The files of frames in a folder, in order.
fn segments(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            segments.push((number, entry.path()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// The frames of a file, each with its offset and length, and where the last whole one ends.
fn frames(mut file: &File, longest: usize) -> io::Result<(Vec<(u64, usize)>, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = io::BufReader::new(file);
    let (mut frames, mut end) = (Vec::new(), 0);
    let mut head = [0; HEAD];
    let mut frame = Vec::new();
    while whole(reader.read_exact(&mut head))? {
        let [l0, l1, l2, l3, c0, c1, c2, c3] = head;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        // A file that was not written to its end may end in zeros.
        if length == 0 || length > longest {
            break;
        }
        frame.resize(length, 0);
        if !whole(reader.read_exact(&mut frame))?
            || crc32fast::hash(&frame) != u32::from_be_bytes([c0, c1, c2, c3])
        {
            break;
        }
        frames.push((end + HEAD as u64, length));
        end += (HEAD + length) as u64;
    }
    Ok((frames, end))
}

/// Whether a read came to its end before the file did.
fn whole(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
