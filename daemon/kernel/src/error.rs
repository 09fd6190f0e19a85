use std::io;

/// Something the kernel refused or could not be asked. Each names what was tried and on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not {what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    /// The kernel refused one part of a request; nothing of the request was done.
    #[error("the kernel refused {what}: {reason}")]
    Refused { what: String, reason: String, errno: i32 },
    /// The kernel's answer does not have the form that its header files promise.
    #[error("the kernel's answer about {what} cannot be understood: {why}")]
    Garbled { what: String, why: String },
    /// The plan names interfaces that this machine does not have (any more).
    #[error("no such interface: {}; plug it in, or take it out of the policy", .0.join(", "))]
    NoInterface(Vec<String>),
    /// The ruleset cannot be expressed; a fault of the compiler, not of the administrator.
    #[error("{what} cannot be told to the kernel: {why}")]
    Inexpressible { what: String, why: String },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    /// The errno of a refusal, for callers that treat `EEXIST` or `ENOENT` as done.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused { errno, .. } => Some(*errno),
            Error::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
