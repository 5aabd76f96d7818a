use std::sync::atomic::{AtomicBool, Ordering};

use crate::{PrepareError, Result};

/// What happens during a preparation, in order. Libraries print nothing; whoever listens draws bars or collects.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Something that takes a while begins: a bar.
    Started {
        /// What, such as `UCF101.rar` or `decoding ucf101`.
        what: String,
        /// Its length, where it is known.
        of: Option<u64>,
        /// Whether it is counted in bytes; in files otherwise.
        bytes: bool,
        /// How much of it was there before.
        from: u64,
    },
    /// The bar stands here.
    Advanced(u64),
    /// The bar has ended.
    Finished,
    /// A sentence for the person who waits.
    Note(String),
    /// A video or image that could not be decoded is left out.
    LeftOut {
        /// Its id.
        id: String,
        /// Why.
        reason: String,
    },
}

/// Who listens to a preparation, and whether it should stop.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Called for each event, from the thread that prepares.
    pub events: &'a (dyn Fn(Event) + Sync),
    /// Set it, and the preparation ends with [`PrepareError::Interrupted`] soon.
    pub stop: &'a AtomicBool,
}

impl Run<'_> {
    pub(crate) fn send(&self, event: Event) {
        (self.events)(event);
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        self.send(Event::Note(text.into()));
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.stopped() { Err(PrepareError::Interrupted) } else { Ok(()) }
    }
}
