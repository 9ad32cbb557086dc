//! What is wrong with a journal, and what a person can do about it.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What is wrong, as a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trouble {
    /// Another batch uses the journal.
    InUse,
    /// It belongs to other rows, or to rows with other idempotency keys.
    OtherInput,
    /// It is no journal, or one that another version wrote.
    OtherFormat,
    /// It lies where locks and syncs cannot be trusted.
    NetworkFileSystem,
    /// It is shorter than it was, or holds what was never written.
    Damaged,
    /// The system could not read or write it.
    System,
}

/// Why a journal cannot be used, or cannot be used any longer.
#[derive(Clone)]
pub struct JournalError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    trouble: Trouble,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl JournalError {
    pub(crate) fn new(trouble: Trouble, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { trouble, message: message.into(), hint: None, source: None }))
    }

    pub(crate) fn damaged(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Trouble::Damaged, message)
            .with_hint("what can still be read is taken up with the option keep_good")
    }

    /// What the system refused.
    pub(crate) fn system(doing: &str, path: &Path, source: io::Error) -> Self {
        let message = format!("cannot {doing} {}: {source}", path.display());
        let hint = match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => {
                Some("make room, then run again with the same journal; what is recorded is kept")
            }
            Some(rustix::io::Errno::ROFS | rustix::io::Errno::ACCESS) => {
                Some("choose a place that can be written")
            }
            _ => None,
        };
        let error = Self::new(Trouble::System, message).caused_by(source);
        if let Some(hint) = hint { error.with_hint(hint) } else { error }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// What is wrong, as a word.
    pub fn trouble(&self) -> Trouble {
        self.0.trouble
    }

    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

impl fmt::Debug for JournalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JournalError")
            .field("trouble", &self.0.trouble)
            .field("message", &self.0.message)
            .finish()
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}
