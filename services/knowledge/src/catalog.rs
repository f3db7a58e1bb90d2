//! What one tenant has stored, in memory: documents, passages, vocabulary and vectors.
//!
//! It mirrors the database and is changed only after a commit, a document at a time, so a search
//! sees each document whole, in its old version or its new one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    document::{Document, NewPassage},
    index::Matrix,
    terms::Vocabulary,
};

/// A stored passage. Offsets are characters of the document's text.
pub(crate) struct Passage {
    pub(crate) document: Arc<Document>,
    /// Its row in the database.
    pub(crate) row: i64,
    pub(crate) id: String,
    pub(crate) headings: Vec<String>,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) text: String,
    /// Hash of all that was embedded and indexed for it.
    pub(crate) fingerprint: Vec<u8>,
    /// Numbers of the stems of title, headings and text, sorted.
    pub(crate) terms: Vec<u32>,
    pub(crate) sentences: Vec<Sentence>,
    /// Its row among the passages' vectors.
    pub(crate) vector: u32,
}

/// A sentence of a passage.
pub(crate) struct Sentence {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Bytes of the passage's text.
    pub(crate) bytes: std::ops::Range<usize>,
    /// Its row among the sentences' vectors.
    pub(crate) vector: u32,
}

impl Passage {
    /// The text of one of its sentences.
    pub(crate) fn sentence(&self, sentence: &Sentence) -> &str {
        &self.text[sentence.bytes.clone()]
    }

    fn indexed<'a>(
        document: &'a Document,
        headings: &'a [String],
        text: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        std::iter::once(document.title.as_str()).chain(headings.iter().map(String::as_str)).chain([text])
    }
}

/// Everything of one tenant. Passages are named by slots, which stay while the passage does.
pub(crate) struct Catalog {
    documents: BTreeMap<String, (Arc<Document>, Vec<u32>)>,
    slots: Vec<Option<Passage>>,
    free: Vec<u32>,
    by_row: HashMap<i64, u32>,
    by_id: HashMap<String, u32>,
    /// The terms of all passages.
    pub(crate) vocabulary: Vocabulary,
    /// Vectors of passages, owned by slots.
    pub(crate) passage_vectors: Matrix,
    /// Vectors of sentences, owned by their passages' slots.
    pub(crate) sentence_vectors: Matrix,
}

impl Catalog {
    /// An empty catalog for vectors of length `dimension`.
    pub(crate) fn new(dimension: usize, exact_limit: usize) -> Self {
        Self {
            documents: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_row: HashMap::new(),
            by_id: HashMap::new(),
            vocabulary: Vocabulary::default(),
            passage_vectors: Matrix::new(dimension, exact_limit),
            sentence_vectors: Matrix::new(dimension, exact_limit),
        }
    }

    /// Puts a document in place of the one with its id. Each passage comes with its database row.
    pub(crate) fn replace(&mut self, document: Document, passages: Vec<(i64, NewPassage)>) {
        self.remove(&document.id);
        let document = Arc::new(document);
        let slots = passages.into_iter().map(|(row, passage)| self.insert(&document, row, passage)).collect();
        self.documents.insert(document.id.clone(), (document, slots));
    }

    fn insert(&mut self, document: &Arc<Document>, row: i64, new: NewPassage) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        let mut clock = CharacterIndex { text: &new.text, byte: 0, character: 0 };
        let sentences = new
            .sentences
            .iter()
            .map(|sentence| Sentence {
                start: new.start + sentence.start,
                end: new.start + sentence.end,
                bytes: clock.byte_of(sentence.start)..clock.byte_of(sentence.end),
                vector: self.sentence_vectors.insert(slot, &sentence.vector),
            })
            .collect();
        self.by_row.insert(row, slot);
        self.by_id.insert(new.id.clone(), slot);
        self.slots[slot as usize] = Some(Passage {
            terms: self.vocabulary.add(Passage::indexed(document, &new.headings, &new.text)),
            vector: self.passage_vectors.insert(slot, &new.vector),
            document: document.clone(),
            row,
            id: new.id,
            headings: new.headings,
            start: new.start,
            end: new.end,
            text: new.text,
            fingerprint: new.fingerprint,
            sentences,
        });
        slot
    }

    /// Removes a document with all its passages and returns how many there were.
    pub(crate) fn remove(&mut self, document_id: &str) -> u32 {
        let Some((document, slots)) = self.documents.remove(document_id) else { return 0 };
        for &slot in &slots {
            let Some(passage) = self.slots[slot as usize].take() else { continue };
            self.by_row.remove(&passage.row);
            self.by_id.remove(&passage.id);
            let indexed = Passage::indexed(&document, &passage.headings, &passage.text);
            self.vocabulary.remove(&passage.terms, indexed);
            self.passage_vectors.remove(passage.vector);
            for sentence in &passage.sentences {
                self.sentence_vectors.remove(sentence.vector);
            }
            self.free.push(slot);
        }
        slots.len() as u32
    }

    /// The passage in a slot.
    pub(crate) fn passage(&self, slot: u32) -> Option<&Passage> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// All passages, in no order.
    pub(crate) fn passages(&self) -> impl Iterator<Item = &Passage> {
        self.slots.iter().flatten()
    }

    /// The slot of a database row.
    pub(crate) fn slot_of_row(&self, row: i64) -> Option<u32> {
        self.by_row.get(&row).copied()
    }

    /// The passage with an id.
    pub(crate) fn by_id(&self, id: &str) -> Option<&Passage> {
        self.passage(*self.by_id.get(id)?)
    }

    /// The document with an id.
    pub(crate) fn document(&self, id: &str) -> Option<&Arc<Document>> {
        self.documents.get(id).map(|(document, _)| document)
    }

    /// The passages of a document, in order.
    pub(crate) fn passages_of(&self, document_id: &str) -> impl Iterator<Item = &Passage> {
        let slots = self.documents.get(document_id).map_or(&[][..], |(_, slots)| slots);
        slots.iter().filter_map(|&slot| self.passage(slot))
    }

    /// At most `count` documents whose ids come after `after`, in order of id.
    pub(crate) fn documents_after(&self, after: Option<&str>, count: usize) -> Vec<Arc<Document>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let range = self.documents.range::<str, _>((from, Unbounded));
        range.take(count).map(|(_, (document, _))| document.clone()).collect()
    }

    /// Passages held.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether vectors are waiting for the approximate index.
    pub(crate) fn wants_index(&self) -> bool {
        self.passage_vectors.wants_index() || self.sentence_vectors.wants_index()
    }

    /// Lets some vectors into the approximate index; says whether more are waiting.
    pub(crate) fn index_some(&mut self, rows: usize) -> bool {
        self.passage_vectors.index_some(rows) | self.sentence_vectors.index_some(rows)
    }
}

/// Turns character offsets into byte offsets, in one pass while they go forward.
struct CharacterIndex<'a> {
    text: &'a str,
    byte: usize,
    character: u32,
}

impl CharacterIndex<'_> {
    /// The byte at which a character begins; the text's length beyond its end.
    fn byte_of(&mut self, character: u32) -> usize {
        if character < self.character {
            (self.byte, self.character) = (0, 0);
        }
        let rest = &self.text[self.byte..];
        let step = (character - self.character) as usize;
        self.byte += rest.char_indices().nth(step).map_or(rest.len(), |(at, _)| at);
        self.character = character;
        self.byte
    }
}
