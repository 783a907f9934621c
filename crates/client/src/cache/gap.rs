//! What is known to be missing in a conversation, and the one outstanding `sync` for it.

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gap {
    /// The highest rev seen but not applied.
    beyond: u64,
    /// `beyond` when the outstanding `sync` was asked for.
    asked: Option<u64>,
}

impl Gap {
    /// Whether a `sync` is outstanding.
    pub(super) fn asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Something at `rev` is missing; true if a `sync` is needed now: one at a time is enough.
    pub(super) fn missing(&mut self, rev: u64) -> bool {
        self.beyond = self.beyond.max(rev);
        let ask = self.asked.is_none();
        if ask {
            self.asked = Some(self.beyond);
        }
        ask
    }

    /// The answer is here; returns what was known when it was asked for.
    pub(super) fn take(&mut self) -> Option<u64> {
        self.asked.take()
    }

    /// The answer is applied; true if another `sync` is needed.
    ///
    /// Events that came meanwhile were not applied, and are not sent again: ask for them. But if the server says that
    /// there is nothing more, believe it.
    pub(super) fn answered(
        &mut self,
        asked: Option<u64>,
        more: bool,
        moved: bool,
        cursor: u64,
    ) -> bool {
        let unseen = self.beyond > cursor && (moved || asked.is_none_or(|it| self.beyond > it));
        if more || unseen {
            return self.missing(self.beyond);
        }
        self.beyond = 0;
        false
    }

    /// Another history: what was seen belongs to the old one.
    pub(super) fn forget_beyond(&mut self) {
        self.beyond = 0;
    }
}
