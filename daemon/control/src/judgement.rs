//! Judging a policy takes time when it is long; the last few verdicts are kept, by the text they are about.

use std::sync::{Arc, Mutex, PoisonError};

use policy::{Judged, Problems, Sources};
use sha2::{Digest, Sha256};

use crate::trouble::Trouble;

/// The candidate, what runs, and the one before.
const KEPT: usize = 4;

#[derive(Default)]
pub struct Judgements {
    kept: Mutex<Vec<([u8; 32], Verdict)>>,
}

/// May be applied, or why not.
pub type Verdict = Arc<Result<Judged, Problems>>;

impl Judgements {
    pub fn of(&self, sources: &Sources) -> Verdict {
        let key = fingerprint(sources);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(known, _)| *known == key) {
            let found = kept.remove(at);
            kept.push(found.clone());
            return found.1;
        }
        drop(kept);
        let verdict = Arc::new(policy::judge(sources));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((key, verdict.clone()));
        verdict
    }

    /// The judged policy, or its problems as trouble.
    pub fn passed(&self, sources: &Sources) -> Result<Arc<Judged>, Trouble> {
        match &*self.of(sources) {
            Ok(judged) => Ok(Arc::new(judged.clone())),
            Err(problems) => Err(Trouble::Policy(problems.clone())),
        }
    }
}

fn fingerprint(sources: &Sources) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in sources.0.iter().flat_map(|(name, text)| [name, text]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}
